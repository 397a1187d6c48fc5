/* SPDX-License-Identifier: Apache-2.0 */
#include "core/measure.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define ZERO_BYTES ((size_t)4 << 20)

static int wait_all(const struct be_ops *ops, struct be_dev *dev, struct err *reterr)
{
	uint64_t mark;
	int r = ops->mark(dev, &mark, reterr);

	return r < 0 ? r : ops->wait(dev, mark, reterr);
}

int measure_zero(const struct be_ops *ops, struct be_dev *dev, struct be_mem *mem, size_t bytes,
		 struct err *reterr)
{
	const size_t piece = bytes < ZERO_BYTES ? bytes : ZERO_BYTES;
	uint8_t *zeros = calloc(1, piece ? piece : 1);
	int r = 0;

	if (!zeros)
		return err_set(reterr, -ENOMEM, "out of memory measuring the device");
	for (size_t at = 0; at < bytes && r == 0; at += piece) {
		size_t n = bytes - at < piece ? bytes - at : piece;

		r = ops->write(dev, mem, at, zeros, n, reterr);
	}
	/* the zeros are borrowed until here */
	int w = wait_all(ops, dev, r == 0 ? reterr : NULL);
	free(zeros);
	return r < 0 ? r : w;
}

int measure_launch(const struct be_ops *ops, struct be_dev *dev, const struct be_launch *l,
		   uint32_t repeat, double *ret_s, struct err *reterr)
{
	int64_t start = clock_ns(), ns;
	int r = 0;

	for (uint32_t i = 0; i < repeat && r == 0; i++)
		r = ops->launch(dev, l, reterr);
	if (r == 0)
		r = wait_all(ops, dev, reterr);
	ns = clock_ns() - start;
	*ret_s = (double)(ns > 0 ? ns : 1) / (double)NS_PER_S / repeat;
	return r;
}
