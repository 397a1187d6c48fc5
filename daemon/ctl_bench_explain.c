/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl bench --explain: what every launch of a step takes and which variant runs. */
#include <inttypes.h>

#include "core/profile.h"
#include "daemon/ctl.h"
#include "daemon/ctl_bench.h"

struct explain {
	const struct bench_peak *peak;
	struct strbuf *out; /* text, or NULL */
	struct jw *json;    /* or NULL */
	uint64_t total_ns;
};

static void text_row(const struct explain *x, const struct profile_row *r)
{
	const double s = (double)r->ns / 1e9, us = (double)r->ns / 1e3;

	sb_printf(x->out, "  %-12s %-5s %3" PRIu32, r->op, r->format, r->n);
	if (r->ops)
		sb_printf(x->out, " %6" PRIu32 " x %-6" PRIu32 " by %" PRIu32, r->k, r->m, r->cols);
	else
		sb_printf(x->out, "%20s", "");
	sb_printf(x->out, " %9.1f us", us);
	if (r->ops)
		sb_printf(x->out, " %6.1f GOPS (%4.1f %%) %5.1f GB/s (%4.1f %%)", (double)r->ops / s / 1e9,
			  100 * (double)r->ops / s / x->peak->all.dot_ops_per_s,
			  (double)r->weight_bytes / s / 1e9,
			  100 * (double)r->weight_bytes / s / x->peak->all.read_bytes_per_s);
	sb_printf(x->out, "  %s\n", r->kernel);
}

static void json_row(const struct explain *x, const struct profile_row *r)
{
	struct jw *w = x->json;

	jw_obj(w);
	jw_kstr(w, "op", r->op);
	jw_kstr(w, "kernel", r->kernel);
	jw_kstr(w, "format", r->format);
	jw_kint(w, "launches", r->n);
	jw_kint(w, "rows", r->rows);
	jw_kint(w, "columns", r->cols);
	jw_kint(w, "k", r->k);
	jw_kint(w, "m", r->m);
	jw_kdouble(w, "seconds", (double)r->ns / 1e9);
	jw_key(w, "ops");
	jw_uint(w, r->ops);
	jw_key(w, "weight_bytes");
	jw_uint(w, r->weight_bytes);
	jw_obj_end(w);
}

static void on_row(void *ud, const struct profile_row *r)
{
	struct explain *x = ud;

	x->total_ns += r->ns;
	if (x->json)
		json_row(x, r);
	else
		text_row(x, r);
}

int bench_explain(struct engine *e, const struct bench_peak *p, uint32_t n_rows, bool decode,
		  struct strbuf *out, struct jw *json, struct err *reterr)
{
	const struct engine_plan *plan = engine_get_plan(e);
	struct explain x = {.peak = p, .out = out, .json = json};
	int r;

	if (json) {
		jw_obj(json);
		jw_kstr(json, "test", "explain");
		jw_kstr(json, "stage", decode ? "decode" : "prefill");
		jw_kint(json, "rows", n_rows);
		jw_kint(json, "tile_cols", plan->tile_cols);
		jw_kint(json, "tile_halves", plan->tile_halves);
		jw_key(json, "launches");
		jw_arr(json);
	} else {
		sb_printf(out, "\n%s of %" PRIu32 " rows, each launch by itself: operation, format, launches, channels x rows of the weight by rows at once, share of the peaks, kernel\n",
			  decode ? "decode" : "prefill", n_rows);
		if (plan->tile_cols)
			sb_printf(out, "  (products take up to %" PRIu32 " rows at once, %s)\n", plan->tile_cols,
				  plan->tile_halves == 1 ? "one half of a tile after the other" : "both halves of a tile");
	}
	r = engine_profile(e, n_rows, decode, on_row, &x, reterr);
	if (json) {
		jw_arr_end(json);
		jw_obj_end(json);
	} else if (r == 0) {
		sb_printf(out, "  sum %.3f ms\n", (double)x.total_ns / 1e6);
	}
	return r;
}
