/* SPDX-License-Identifier: Apache-2.0 */
#include "core/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_priv.h"
#include "core/launch.h"

static const char *launch_name(const struct blueprint *b, const struct klaunch *k)
{
	if (k->op == LAUNCH_NO_OP)
		return k->draws ? "draw" : "best";
	return op_name(b->fused.ops[k->op].kind);
}

/* Everything but the sums. */
static struct profile_row describe(const struct blueprint *b, const struct klaunch *k, uint32_t n_rows,
				   uint32_t n_out)
{
	struct profile_row r = {.op = launch_name(b, k), .format = "", .n = 1};

	r.rows = k->rows == ROWS_OUT ? n_out : n_rows;
	const uint32_t v = launch_variant(k, r.rows);
	r.kernel = b->lowered.gen.names[k->kernel[v] != KERNEL_NONE ? k->kernel[v] : k->split_kernel];
	if (k->grid != GRID_TILES || k->args[0].type != KARG_WEIGHT)
		return r;
	const struct wload *w = &b->lowered.weights[k->args[0].index];
	if (!w->packed)
		return r;
	r.format = format_name(w->pack.format);
	r.cols = k->cols[v];
	r.k = w->pack.k;
	for (uint32_t i = 0; i < w->pack.n_parts; i++)
		r.m += b->fused.tensors[w->pack.parts[i].tensor].n_rows;
	r.ops = UINT64_C(2) * r.k * r.m * r.rows;
	r.weight_bytes = w->bytes;
	return r;
}

static bool same(const struct profile_row *a, const struct profile_row *b)
{
	return a->kernel == b->kernel && a->k == b->k && a->m == b->m && strcmp(a->op, b->op) == 0;
}

static void add(struct profile_row *sums, uint32_t *n, const struct profile_row *r)
{
	uint32_t i = 0;

	while (i < *n && !same(&sums[i], r))
		i++;
	if (i == *n) {
		sums[(*n)++] = *r;
		return;
	}
	sums[i].n++;
	sums[i].ns += r->ns;
	sums[i].ops += r->ops;
	sums[i].weight_bytes += r->weight_bytes;
}

int engine_profile(struct engine *e, uint32_t n_rows, bool decode,
		   void (*row)(void *ud, const struct profile_row *r), void *ud, struct err *reterr)
{
	const struct blueprint *b = &e->blueprint;
	const uint32_t n_out = decode ? n_rows : 1, n = b->lowered.n_step;
	struct step_rows s = e->run;
	struct attention_step attention = {.split = false};
	uint32_t n_sums = 0;

	if (!e->device)
		return err_set(reterr, -ENOTSUP, "the reference executor has no launches");
	if (n_rows == 0 || n_rows > b->plan.batch_tok || n_out > b->out_rows || n_rows > b->plan.context_tok)
		return err_set(reterr, -EINVAL, "a profile of %u rows: a step has %u, %u with logits", n_rows,
			       b->plan.batch_tok, b->out_rows);
	int64_t *ns = calloc(n ? n : 1, sizeof *ns);
	struct profile_row *sums = calloc(n ? n : 1, sizeof *sums);
	int r = ns && sums ? 0 : err_set(reterr, -ENOMEM, "out of memory");
	if (r == 0) {
		/* one sequence of n_rows tokens 0 in the first pages */
		s.n_rows = n_rows;
		s.n_out = n_out;
		s.n_tables = 1;
		for (uint32_t i = 0; i < b->table_stride; i++)
			e->tables[i] = i;
		for (uint32_t i = 0; i < n_rows; i++) {
			e->token[i] = e->table[i] = 0;
			e->pos[i] = e->slot[i] = i;
		}
		for (uint32_t i = 0; i < n_out; i++) {
			e->out_row[i] = decode ? i : n_rows - 1;
			e->wants_logits[i] = false;
			e->ask[i] = (struct sample_ask){.mode = b->found_bytes ? SAMPLE_NOISE : SAMPLE_ROW, .inv_t = 1.0f};
		}
		s.draws = b->found_bytes > 0;
		memset(e->rope, 0, (size_t)n_rows * e->graph->rope.dims * sizeof *e->rope);
		attention_step_cut(&b->attention, &s, &attention);
		r = device_profile(e->device, &s, ns, reterr);
	}
	for (uint32_t i = 0; i < n && r == 0; i++) {
		const struct klaunch *k = &b->lowered.launches[i];
		if (k->kernel[0] == KERNEL_NONE && !attention.split)
			continue; /* it was left out */
		struct profile_row p = describe(b, k, n_rows, n_out);
		p.ns = (uint64_t)ns[i];
		add(sums, &n_sums, &p);
	}
	for (uint32_t i = 0; i < n_sums && r == 0; i++)
		row(ud, &sums[i]);
	free(ns);
	free(sums);
	return r;
}
