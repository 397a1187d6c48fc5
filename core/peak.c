/* SPDX-License-Identifier: Apache-2.0 */
/* The two peaks of a device. Work is split into several groups a compute unit, so that a unit that
 * starts late or is taken away for a while holds up little. Of dot products the fastest of several
 * short runs counts, of reading all of them. */
#include "core/peak.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/clock.h"
#include "core/kgen.h"
#include "core/measure.h"

#define DATA_BYTES ((size_t)256 << 20)
#define HEAD_DIM 64 /* any: products of real models choose a device's widest vectors with it */
#define DOT_CHAINS 16
#define READ_CHAINS 8
#define STREAMS_MAX 4
#define RUN_NS (4 * NS_PER_MS)
#define RUNS 6
#define REPEAT_MAX 64
#define STEPS_MAX (1 << 28)

/* Ways to read: which is fastest depends on the size of pages and on who else uses the memory, so
 * the best is chosen at the start. A GPU needs the first only. */
static const struct read_way {
	unsigned streams, ahead_bytes;
} ways[] = {{1, 0}, {STREAMS_MAX, 0}, {1, 2048}, {STREAMS_MAX, 1024}};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

struct peak {
	const struct be_ops *ops;
	struct be_dev *dev;
	struct be_prog *prog;
	struct be_mem *data, *out;
	struct kgen gen; /* kernel 0 is dot products, those after it are ways */
	uint32_t group, dot_groups, read_groups, n_ways, way;
	uint32_t dot_steps;    /* of a work-item, CHAINS dot products each */
	uint32_t read_vectors; /* of a work-group's piece, a multiple of what any way takes */
	uint32_t read_repeat;  /* launches a run: a GPU reads the buffer in microseconds */
};

static int add_kernel(struct kgen *k, const struct read_way *way, struct err *reterr)
{
	struct kdefs d;
	int r;

	kdefs_init(&d);
	kdefs_set(&d, way ? "PEAK_READ" : "PEAK_DOT", "1");
	kdefs_set(&d, "CHAINS", "%d", way ? READ_CHAINS : DOT_CHAINS);
	if (way) {
		kdefs_set(&d, "GROUP", "%u", k->target.group_wide);
		kdefs_set(&d, "STREAMS", "%u", way->streams);
		kdefs_set(&d, "PEAK_AHEAD", "%u", way->ahead_bytes);
	}
	r = kgen_add(k, "peak", &d, 1, reterr);
	kdefs_done(&d);
	return r;
}

int peak_generate(const struct kgen_target *t, struct kgen *ret, struct err *reterr)
{
	const unsigned n_ways = t->group_wide > 1 ? 1 : WAYS;
	struct kgen_target target = *t;
	int r;

	target.one_kernel = false;
	kgen_init(ret, &target);
	r = add_kernel(ret, NULL, reterr);
	for (unsigned i = 0; i < n_ways && r >= 0; i++)
		r = add_kernel(ret, &ways[i], reterr);
	return r < 0 ? r : 0;
}

static int build(struct peak *p, const struct be_info *info, struct err *reterr)
{
	struct kgen_target target;
	struct be_source src = {.name = "peak kernels"};
	int r = kgen_target(info, HEAD_DIM, 0, &target, reterr);

	if (r < 0)
		return r;
	p->group = target.group_wide;
	r = peak_generate(&target, &p->gen, reterr);
	if (r < 0)
		return r;
	p->n_ways = p->gen.n_kernels - 1;
	src.text = sb_text(&p->gen.text);
	src.options = kgen_options(&target);
	return p->ops->build(p->dev, &src, &p->prog, reterr);
}

/* As much as there is room for, in equal pieces a group. */
static int allocate(struct peak *p, const struct be_info *info, struct err *reterr)
{
	const size_t unit = (size_t)p->group * READ_CHAINS * STREAMS_MAX * p->gen.target.lanes * 4;
	const size_t units = info->compute_units ? info->compute_units : 1;
	size_t bytes = DATA_BYTES, out_bytes, pieces;
	int r;

	if (bytes > info->buffer_max_bytes)
		bytes = info->buffer_max_bytes;
	if (info->free_bytes && bytes > info->free_bytes / 4)
		bytes = info->free_bytes / 4;
	p->dot_groups = (uint32_t)(units * 8);
	p->read_groups = (uint32_t)(units * (p->group > 1 ? 32 : 8));
	pieces = bytes / p->read_groups / unit;
	if (pieces == 0 || pieces * unit > INT32_MAX)
		return err_set(reterr, -ENOTSUP, "no room to measure memory in %zu bytes", bytes);
	p->read_vectors = (uint32_t)(pieces * p->group * READ_CHAINS * STREAMS_MAX);
	bytes = pieces * unit * p->read_groups;
	if (!ck_mul((size_t)(p->read_groups > p->dot_groups ? p->read_groups : p->dot_groups) *
			    p->group,
		    (size_t)p->gen.target.lanes * 4, &out_bytes))
		return err_set(reterr, -EOVERFLOW, "too many compute units to measure");
	r = p->ops->buffer(p->dev, bytes, BE_MEM_WEIGHTS, &p->data, reterr);
	if (r == 0)
		r = p->ops->buffer(p->dev, out_bytes, BE_MEM_STEP, &p->out, reterr);
	return r < 0 ? r : measure_zero(p->ops, p->dev, p->data, bytes, reterr);
}

static int run_dot(struct peak *p, double *ret_s, struct err *reterr)
{
	const struct be_arg args[] = {
		{.type = BE_ARG_BUFFER, .mem = p->out},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = p->dot_steps},
	};
	const struct be_launch l = {.prog = p->prog,
				    .entry = p->gen.names[0],
				    .grid = {p->dot_groups, 1},
				    .group = p->group,
				    .n_args = 2,
				    .args = args};

	return measure_launch(p->ops, p->dev, &l, 1, ret_s, reterr);
}

static int run_read(struct peak *p, unsigned way, double *ret_s, struct err *reterr)
{
	const struct be_arg args[] = {
		{.type = BE_ARG_BUFFER, .mem = p->data},
		{.type = BE_ARG_BUFFER, .mem = p->out},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = p->read_vectors / ways[way].streams},
	};
	const struct be_launch l = {.prog = p->prog,
				    .entry = p->gen.names[1 + way],
				    .grid = {p->read_groups, 1},
				    .group = p->group,
				    .n_args = 3,
				    .args = args};

	return measure_launch(p->ops, p->dev, &l, p->read_repeat, ret_s, reterr);
}

/* Doubles the work until a run takes a few milliseconds. The first runs also compile. */
static int calibrate(struct peak *p, struct err *reterr)
{
	double s = 0;
	int r;

	p->dot_steps = 1;
	r = run_dot(p, &s, reterr);
	for (p->dot_steps = 1024; r == 0 && p->dot_steps < STEPS_MAX; p->dot_steps *= 2) {
		r = run_dot(p, &s, reterr);
		if (s * NS_PER_S >= RUN_NS)
			break;
	}
	p->read_repeat = 1;
	for (unsigned i = 0; i < 2 * p->n_ways && r == 0; i++)
		r = run_read(p, i % p->n_ways, &s, reterr);
	while (r == 0 && p->read_repeat < REPEAT_MAX && s * p->read_repeat * NS_PER_S < RUN_NS)
		p->read_repeat *= 2;
	return r;
}

/* The way to read that is fastest on average. Once: the fastest of each measurement's means would be that of the
 * way that luck had favoured, which is more than there is. */
static int choose_way(struct peak *p, struct err *reterr)
{
	double sum_s[WAYS] = {0}, most_s[WAYS] = {0}, s = 0;
	int r = 0;

	for (unsigned i = 0; i < RUNS * p->n_ways && r == 0; i++) {
		const unsigned way = i % p->n_ways;

		r = run_read(p, way, &s, reterr);
		sum_s[way] += s;
		most_s[way] = s > most_s[way] ? s : most_s[way];
	}
	/* without its slowest run, which may say only that something else ran then */
	for (unsigned i = 0; i < p->n_ways; i++)
		sum_s[i] -= most_s[i];
	for (unsigned i = 1; i < p->n_ways; i++)
		p->way = sum_s[i] < sum_s[p->way] ? i : p->way;
	return r;
}

int peak_open(const struct be_ops *ops, const struct be_info *info, struct peak **ret,
	      struct err *reterr)
{
	struct peak *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(reterr, -ENOMEM, "out of memory measuring the device");
	p->ops = ops;
	r = ops->open(info, &p->dev, reterr);
	if (r == 0)
		r = build(p, info, reterr);
	if (r == 0)
		r = allocate(p, info, reterr);
	if (r == 0)
		r = calibrate(p, reterr);
	if (r == 0)
		r = choose_way(p, reterr);
	if (r < 0) {
		peak_close(p);
		return r;
	}
	*ret = p;
	return 0;
}

int peak_measure(struct peak *p, struct peak_rates *ret, struct err *reterr)
{
	const double items = (double)p->dot_groups * p->group;
	const double ops = items * p->dot_steps * DOT_CHAINS * p->gen.target.lanes * 4 * 2;
	const uint64_t bytes = (uint64_t)p->read_groups * p->read_vectors * p->gen.target.lanes * 4;
	const unsigned runs = RUNS * p->n_ways;
	double sum_s = 0, least_s = 0, dot_s = 0;

	for (unsigned i = 0; i < runs; i++) {
		double s = 0;
		int r = run_read(p, p->way, &s, reterr);

		sum_s += s;
		least_s = i == 0 || s < least_s ? s : least_s;
		if (r == 0 && i % p->n_ways == 0) {
			r = run_dot(p, &s, reterr);
			dot_s = i == 0 || s < dot_s ? s : dot_s;
		}
		if (r < 0)
			return r;
	}
	*ret = (struct peak_rates){.dot_ops_per_s = ops / dot_s,
				   .read_bytes_per_s = (double)bytes * runs / sum_s,
				   .read_best_bytes_per_s = (double)bytes / least_s,
				   .read_bytes = bytes};
	return 0;
}

void peak_close(struct peak *p)
{
	if (!p)
		return;
	if (p->dev) {
		p->ops->prog_free(p->dev, p->prog);
		p->ops->mem_free(p->dev, p->data);
		p->ops->mem_free(p->dev, p->out);
		p->ops->close(p->dev);
	}
	kgen_done(&p->gen);
	free(p);
}
