/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl bench --peak: what the device can do at best, measured between the tests. */
#include "daemon/ctl_bench.h"

#include <stdio.h>

#include "backends/backend.h"
#include "daemon/ctl.h"

int bench_peak_open(struct bench_peak *p, const char *device, struct err *reterr)
{
	const struct be_ops *ops = NULL;
	struct be_info info;
	int r;

	if (!p->wanted)
		return 0;
	r = be_find(device, &ops, &info, reterr);
	if (r == 0)
		r = peak_open(ops, &info, &p->peak, reterr);
	if (r < 0)
		return err_prefix(reterr, "--peak");
	snprintf(p->device, sizeof(p->device), "%s:%u (%s)", info.backend, info.index, info.name);
	return 0;
}

int bench_peak_measure(struct bench_peak *p, struct err *reterr)
{
	struct peak_rates *all = &p->all;
	int r = p->wanted ? peak_measure(p->peak, &p->now, reterr) : 0;

	if (r < 0 || !p->wanted)
		return r;
	all->read_bytes = p->now.read_bytes;
	all->read_bytes_per_s = (all->read_bytes_per_s * p->n + p->now.read_bytes_per_s) / (p->n + 1);
	if (p->now.dot_ops_per_s > all->dot_ops_per_s)
		all->dot_ops_per_s = p->now.dot_ops_per_s;
	if (p->now.read_best_bytes_per_s > all->read_best_bytes_per_s)
		all->read_best_bytes_per_s = p->now.read_best_bytes_per_s;
	p->n++;
	return 0;
}

void bench_peak_close(struct bench_peak *p)
{
	peak_close(p->peak);
	p->peak = NULL;
}

void bench_peak_text(const struct bench_peak *p, struct strbuf *out)
{
	char rate[CTL_BYTES_TEXT], best[CTL_BYTES_TEXT], size[CTL_BYTES_TEXT];

	sb_printf(out, "peak of %s: int8 dot products %.1f GOPS, memory %s/s (%s read; at best %s/s)\n",
		  p->device, p->all.dot_ops_per_s / 1e9,
		  ctl_bytes((uint64_t)p->all.read_bytes_per_s, rate),
		  ctl_bytes(p->all.read_bytes, size),
		  ctl_bytes((uint64_t)p->all.read_best_bytes_per_s, best));
}

void bench_peak_json(const struct bench_peak *p, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "test", "peak");
	jw_kdouble(w, "dot_ops_per_second", p->all.dot_ops_per_s);
	jw_kdouble(w, "read_bytes_per_second", p->all.read_bytes_per_s);
	jw_kdouble(w, "read_best_bytes_per_second", p->all.read_best_bytes_per_s);
	jw_key(w, "read_bytes");
	jw_uint(w, p->all.read_bytes);
	jw_kstr(w, "device", p->device);
	jw_obj_end(w);
}

void bench_share_text(const struct bench_peak *p, double read_bytes_per_s, double ops_per_s,
		      double bytes_per_s, struct strbuf *out)
{
	if (p->wanted)
		sb_printf(out, "   %5.1f %% %5.1f %%", 100 * ops_per_s / p->all.dot_ops_per_s,
			  100 * bytes_per_s / read_bytes_per_s);
}

void bench_share_json(const struct bench_peak *p, double read_bytes_per_s, double ops_per_s,
		      double bytes_per_s, struct jw *w)
{
	if (!p->wanted)
		return;
	jw_kdouble(w, "of_dot_peak", ops_per_s / p->all.dot_ops_per_s);
	jw_kdouble(w, "read_bytes_per_second", read_bytes_per_s);
	jw_kdouble(w, "of_read_peak", bytes_per_s / read_bytes_per_s);
}
