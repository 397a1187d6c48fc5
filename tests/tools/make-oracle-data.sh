#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes tests/data/oracle/*.json anew.
# usage: make-oracle-data.sh MKMODEL [DEFAULT_MODEL.gguf]
# MKMODEL: the built tests/mkmodel. PYTHON: one with numpy, gguf and tokenizers (default: python3).
# The tiny models are those of the table in tests/unit/test_reference.c.
set -e
mkmodel=$1
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../data/oracle
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python=${PYTHON:-python3}

cat > "$tmp/ids.json" <<END
{"mixed": [1, 70, 304, 5, 258, 511, 33, 33, 33, 400, 259, 2, 13, 1, 280, 287, 17, 101, 102, 103, 104, 450,
 222, 377, 18, 19, 301, 302, 303, 304, 305, 306, 307, 41, 42, 43, 44, 45, 46, 47],
 "short": [350]}
END

tiny() { # name, mkmodel's arguments
	name=$1
	shift
	"$mkmodel" "$tmp/$name.gguf" "$@"
	"$python" "$here/oracle.py" "$tmp/$name.gguf" "$tmp/ids.json" "$data/$name.json"
}

#    name      format layers embd heads kv ffn vocab context
tiny tiny-f32  F32    2      48   4     2  80  512   256 separate rope-dims=8 rope-scale=4
tiny tiny-f16  F16    2      64   4     1  96  512   256 embd=F32 rope-factors seed=2
tiny tiny-bf16 BF16   1      64   2     2  64  512   256 embd=F16 separate seed=3
tiny tiny-q8_0 Q8_0   3      64   4     4  96  512   256 embd=BF16 seed=4
tiny tiny-q4_0 Q4_0   2      64   4     2  96  512   256 embd=Q8_0 seed=5
tiny tiny-q4_1 Q4_1   2      96   3     1  128 512   256 separate seed=6

if [ -n "$2" ]; then
	cat > "$tmp/texts.json" <<'END'
{"chat": "A daemon is a program that runs in the background. On Unix systems, its name often ends with the letter d, and it waits quietly until some other program asks it to do a piece of work.",
 "code": "static int add(int a, int b)\n{\n\treturn a + b;\n}\n\nint main(void)\n{\n\tprintf(\"%d\\n\", add(19, 23));\n\treturn 0;\n}\n",
 "lists": "Größe: 3.14159 km\n- première étape\n- zweiter Schritt\n- 第三步 🙂\n\n1, 2, 3, 5, 8, 13, 21, 34, 55, 89,"}
END
	"$python" "$here/oracle.py" "$2" "$tmp/texts.json" "$data/default-model.json"
fi
