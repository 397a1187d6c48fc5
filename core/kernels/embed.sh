#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the kernel templates named as arguments as one C table of strings (core/kgen.h).
set -eu
echo '/* Made from core/kernels/ by embed.sh. */'
echo '#include "core/kgen.h"'
echo 'const struct kernel_text kernel_texts[] = {'
for k in "$@"; do
	printf '{ "%s",\n' "$(basename "$k" .k)"
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/\\n"/' "$k"
	echo '},'
done
echo '{ 0, 0 } };'
