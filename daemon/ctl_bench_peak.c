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
	return p->wanted ? peak_measure(p->peak, &p->best, reterr) : 0;
}

void bench_peak_close(struct bench_peak *p)
{
	peak_close(p->peak);
	p->peak = NULL;
}

void bench_peak_text(const struct bench_peak *p, struct strbuf *out)
{
	char rate[CTL_BYTES_TEXT], size[CTL_BYTES_TEXT];

	sb_printf(out, "peak of %s: int8 dot products %.1f GOPS, memory %s/s (%s read)\n",
		  p->device, p->best.dot_ops_per_s / 1e9,
		  ctl_bytes((uint64_t)p->best.read_bytes_per_s, rate),
		  ctl_bytes(p->best.read_bytes, size));
}

void bench_peak_json(const struct bench_peak *p, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "test", "peak");
	jw_kdouble(w, "dot_ops_per_second", p->best.dot_ops_per_s);
	jw_kdouble(w, "read_bytes_per_second", p->best.read_bytes_per_s);
	jw_key(w, "read_bytes");
	jw_uint(w, p->best.read_bytes);
	jw_kstr(w, "device", p->device);
	jw_obj_end(w);
}

void bench_share_text(const struct bench_peak *p, double ops_per_s, double bytes_per_s,
		      struct strbuf *out)
{
	if (p->wanted)
		sb_printf(out, "   %5.1f %% %5.1f %%", 100 * ops_per_s / p->best.dot_ops_per_s,
			  100 * bytes_per_s / p->best.read_bytes_per_s);
}

void bench_share_json(const struct bench_peak *p, double ops_per_s, double bytes_per_s,
		      struct jw *w)
{
	if (!p->wanted)
		return;
	jw_kdouble(w, "of_dot_peak", ops_per_s / p->best.dot_ops_per_s);
	jw_kdouble(w, "of_read_peak", bytes_per_s / p->best.read_bytes_per_s);
}
