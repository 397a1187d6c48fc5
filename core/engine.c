/* SPDX-License-Identifier: Apache-2.0 */
/* Opening an engine, and its sequences: a thin layer over blueprint, device and KV pool. */
#include "core/engine.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/engine_priv.h"
#include "core/features.h"
#include "core/tune.h"

static bool wants_reference(const struct engine_options *o)
{
	return o->device && strcmp(o->device, "reference") == 0;
}

/* The reference executor has no layout to plan: the file's weights as they are, K and V as floats, an
 * activation each. */
static int plan_reference(const struct graph *g, const struct engine_options *o, struct blueprint *b,
			  struct err *reterr)
{
	struct engine_plan *p = &b->plan;
	int r = blueprint_defaults(g, o, false, p, reterr);
	if (r < 0)
		return r;
	if (o->prefill_type == PREFILL_F16)
		return err_set(reterr, -ENOTSUP, "reference: prefill in f16 needs matrix units");
	snprintf(p->device, sizeof p->device, "reference (scalar C, one thread)");
	if (!p->kv_tok)
		p->kv_tok = p->context_tok;
	if (p->kv_tok < p->context_tok)
		return err_set(reterr, -EINVAL, "kv-tokens %u: less than the context of %u tokens", p->kv_tok,
			       p->context_tok);
	b->table_stride = (p->context_tok + KV_PAGE_TOK - 1) / KV_PAGE_TOK;
	b->n_pages = (p->kv_tok + KV_PAGE_TOK - 1) / KV_PAGE_TOK;
	b->out_rows = p->parallel < p->batch_tok ? p->parallel : p->batch_tok;
	p->kv_tok = b->n_pages * KV_PAGE_TOK;
	p->kv_bytes_per_tok = (uint64_t)g->n_layers * 2 * g->n_kv_heads * g->head_dim * sizeof(float);
	p->kv_bytes = p->kv_bytes_per_tok * p->kv_tok;
	for (uint32_t t = 0; t < g->n_tensors; t++) {
		const struct tensor *x = &g->tensors[t];
		if (x->role == ROLE_ACTIVATION || x->role == ROLE_LOGITS) {
			p->act_naive_bytes += (uint64_t)x->channels * sizeof(float) * p->batch_tok;
			p->n_tensors++;
		}
	}
	p->act_planned_bytes = p->act_bound_bytes = p->act_bytes = p->act_naive_bytes;
	p->total_bytes = p->kv_bytes + p->act_bytes;
	p->n_ops = g->n_ops;
	p->fits = true;
	p->fit_context_tok = p->context_tok;
	p->fit_parallel = p->parallel;
	return 0;
}

/* The tile that is fastest on the device. Without a cache it would be measured at each start: then, or when
 * anything fails, it is the device's usual one. */
static void choose_tile(const struct be_ops *ops, const struct be_info *dev, const struct graph *g,
			struct engine_options *o)
{
	struct tune_result best;
	tensor_id w;

	if (o->tile || !o->cache_dir || dev->type == BE_OTHER || o->disable & (FEATURE_TUNE | FEATURE_COLUMNS))
		return;
	w = tune_weight(g);
	if (w == TENSOR_NONE)
		return;
	if (o->progress)
		o->progress(o->progress_ud, "measuring products", 0);
	if (tune_tile(ops, dev, g, w, o, &best, NULL) == 0)
		o->tile = best.tile;
}

/* The blueprint for whatever `o` names; *ret_ops stays NULL for the reference executor. `run`: for an engine that will
 * run, so that the device must be there, and products are tuned for it. */
static int make_blueprint(const struct graph *g, const struct engine_options *o, bool run,
			  struct blueprint *b, const struct be_ops **ret_ops, struct err *reterr)
{
	struct engine_options chosen = *o;
	struct be_info info;
	*ret_ops = NULL;
	memset(b, 0, sizeof *b);
	if (wants_reference(o))
		return plan_reference(g, o, b, reterr);
	const char *name = o->device ? o->device : "auto";
	int r = run ? be_find(name, ret_ops, &info, reterr) : be_facts(name, ret_ops, &info, reterr);
	if (r == 0 && run)
		choose_tile(*ret_ops, &info, g, &chosen);
	return r < 0 ? r : blueprint_init(b, g, &chosen, &info, reterr);
}

int engine_plan(const struct graph *g, const struct engine_options *o, struct engine_plan *ret,
		struct err *reterr)
{
	struct blueprint b;
	const struct be_ops *ops;
	int r = make_blueprint(g, o, false, &b, &ops, reterr);
	if (r < 0)
		return r;
	*ret = b.plan;
	blueprint_done(&b);
	return 0;
}

int engine_plan_rows(const struct graph *g, const struct engine_options *o,
		     void (*row)(void *ud, const struct engine_plan_row *r), void *ud, struct err *reterr)
{
	struct blueprint b;
	const struct be_ops *ops;
	int r = make_blueprint(g, o, false, &b, &ops, reterr);
	if (r < 0)
		return r;
	for (uint32_t t = 0; t < b.layout.n_tensors; t++) {
		const struct binding *x = &b.layout.bindings[t];
		if (!x->bound || b.fused.tensors[t].role != ROLE_ACTIVATION)
			continue;
		size_t base = 0;
		for (uint32_t i = 0; i < x->object; i++)
			base += b.layout.objects[i].bytes;
		const struct engine_plan_row out = {.name = b.fused.tensors[t].name,
						    .offset_bytes = base + x->offset,
						    .bytes = x->bytes,
						    .first_op = x->first_op,
						    .last_op = x->last_op};
		row(ud, &out);
	}
	blueprint_done(&b);
	return 0;
}

static int does_not_fit(const struct engine_plan *p, struct err *reterr)
{
	const double mb = 1e6;
	return err_set(reterr, -ENOMEM,
		       "the model does not fit on %s: it needs %.1f MB (weights %.1f, KV %.1f for %u tokens, activations %.1f, step %.1f) and %.1f MB are available, of which %.1f are left free; the largest context that fits is %u tokens with %u sequences, or %u sequences with %u tokens",
		       p->device, (double)p->total_bytes / mb, (double)p->weights_bytes / mb,
		       (double)p->kv_bytes / mb, p->kv_tok, (double)p->act_bytes / mb,
		       (double)p->step_bytes / mb, (double)p->available_bytes / mb,
		       (double)p->margin_bytes / mb, p->fit_context_tok, p->parallel, p->fit_parallel, p->context_tok);
}

static int allocate_step(struct engine *e, struct err *reterr)
{
	const struct engine_plan *p = &e->blueprint.plan;
	const struct graph *g = e->graph;
	const size_t rows = p->batch_tok, out = e->blueprint.out_rows;

	e->token = calloc(rows, sizeof *e->token);
	e->pos = calloc(rows, sizeof *e->pos);
	e->slot = calloc(rows, sizeof *e->slot);
	e->table = calloc(rows, sizeof *e->table);
	e->out_row = calloc(out, sizeof *e->out_row);
	e->out_item = calloc(out, sizeof *e->out_item);
	e->out_pos = calloc(out, sizeof *e->out_pos);
	e->item_done = calloc(p->parallel, sizeof *e->item_done);
	e->item_end = calloc(p->parallel, sizeof *e->item_end);
	e->item_rows = calloc(p->parallel, sizeof *e->item_rows);
	e->tables = calloc((size_t)p->parallel * e->blueprint.table_stride, sizeof *e->tables);
	e->rope = calloc(max_size(rows * g->rope.dims, 1), sizeof *e->rope);
	e->best = calloc(out * (1 + STEP_MORE_MAX), sizeof *e->best);
	e->wants_logits = calloc(out, sizeof *e->wants_logits);
	e->ask = calloc(out, sizeof *e->ask);
	e->logits = calloc(out * g->n_vocab, sizeof *e->logits);
	e->theta = calloc(max_size(g->rope.dims / 2, 1), sizeof *e->theta);
	if (!e->token || !e->pos || !e->slot || !e->table || !e->out_row || !e->out_item || !e->out_pos ||
	    !e->item_done || !e->item_end || !e->item_rows || !e->tables || !e->rope || !e->logits || !e->best || !e->wants_logits || !e->ask || !e->theta)
		return err_set(reterr, -ENOMEM, "out of memory opening an engine");
	e->run = (struct step_rows){.token = e->token,
				    .pos = e->pos,
				    .slot = e->slot,
				    .table = e->table,
				    .tables = e->tables,
				    .table_stride = e->blueprint.table_stride,
				    .out_row = e->out_row,
				    .rope = e->rope,
				    .logits = e->logits,
				    .best = e->best,
				    .wants_logits = e->wants_logits,
				    .ask = e->ask};
	for (uint32_t i = 0; i < g->rope.dims / 2; i++) {
		e->theta[i] = pow(g->rope.base, -2.0 * i / g->rope.dims) / g->rope.scale_linear;
		if (g->rope.factors)
			e->theta[i] /= (double)g->rope.factors[i];
	}
	return 0;
}

int engine_open(const struct graph *g, const struct engine_options *o, struct engine **ret,
		struct err *reterr)
{
	const struct be_ops *ops;
	struct engine *e = calloc(1, sizeof *e);
	if (!e)
		return err_set(reterr, -ENOMEM, "out of memory opening an engine");
	e->graph = g;
	e->disable = o->disable;
	int r = make_blueprint(g, o, true, &e->blueprint, &ops, reterr);
	const struct engine_plan *p = &e->blueprint.plan;
	if (r == 0 && !p->fits)
		r = does_not_fit(p, reterr);
	if (r == 0)
		r = allocate_step(e, reterr);
	if (r == 0) {
		r = kvpool_new(e->blueprint.n_pages, p->parallel, p->context_tok, &e->pool);
		if (r == 0)
			r = sample_scratch_new(g->n_vocab, &e->scratch);
		if (r < 0)
			err_set(reterr, r, "out of memory opening an engine");
	}
	if (r == 0)
		r = ops ? device_open(&e->blueprint, ops, o, &e->device, reterr)
			: reference_new(g, e->blueprint.n_pages * KV_PAGE_TOK, p->batch_tok, &e->reference,
					reterr);
	if (r < 0) {
		engine_close(e);
		return r;
	}
	*ret = e;
	return 0;
}

void engine_close(struct engine *e)
{
	if (!e)
		return;
	device_close(e->device);
	reference_free(e->reference);
	kvpool_free(e->pool);
	sample_scratch_free(e->scratch);
	blueprint_done(&e->blueprint);
	free(e->token);
	free(e->pos);
	free(e->slot);
	free(e->table);
	free(e->out_row);
	free(e->out_item);
	free(e->out_pos);
	free(e->item_done);
	free(e->item_end);
	free(e->item_rows);
	free(e->tables);
	free(e->rope);
	free(e->best);
	free(e->wants_logits);
	free(e->ask);
	free(e->logits);
	free(e->theta);
	free(e);
}

const struct engine_plan *engine_get_plan(const struct engine *e)
{
	return &e->blueprint.plan;
}

void engine_device_bytes(const struct engine *e, uint64_t ret[4])
{
	struct be_stats s = {0};
	if (e->device)
		device_stats(e->device, &s);
	ret[0] = s.bytes[BE_MEM_WEIGHTS];
	ret[1] = s.bytes[BE_MEM_KV];
	ret[2] = s.bytes[BE_MEM_ACTIVATIONS];
	ret[3] = s.bytes[BE_MEM_STEP];
}

void engine_get_stats(const struct engine *e, struct engine_stats *ret)
{
	struct kvpool_stats p;
	struct be_stats s = {0};
	kvpool_get_stats(e->pool, &p);
	if (e->device)
		device_stats(e->device, &s);
	*ret = (struct engine_stats){.pages_total = p.pages_total,
				     .pages_used = p.pages_used,
				     .pages_cached = p.pages_cached,
				     .steps = e->steps,
				     .rows = e->rows,
				     .launches = s.launches,
				     .prefix_hit_tok = p.hit_tok,
				     .prefix_query_tok = p.query_tok,
				     .builds_source = s.builds_source,
				     .builds_binary = s.builds_binary,
				     .allocs = s.allocs,
				     .replays = s.replays,
				     .drawn_found = e->drawn_found,
				     .drawn_unsure = e->drawn_unsure};
}

int engine_seq_new(struct engine *e, const uint32_t *tokens, uint32_t n_tok, bool no_cache,
		   uint32_t *ret_seq, uint32_t *ret_cached_tok)
{
	return kvpool_seq_new(e->pool, tokens, n_tok, no_cache, ret_seq, ret_cached_tok);
}

int engine_seq_fork(struct engine *e, uint32_t seq, uint32_t *ret_seq, struct err *reterr)
{
	struct kvpool_copy c;
	int r = kvpool_seq_fork(e->pool, seq, ret_seq, &c);
	if (r < 0)
		return err_set(reterr, r, "sequence %u can't be forked now", seq);
	if (!c.n_tok)
		return 0;
	if (e->device)
		r = device_copy_page(e->device, c.src, c.dst, reterr);
	else
		r = reference_copy_slots(e->reference, c.src * KV_PAGE_TOK, c.dst * KV_PAGE_TOK, c.n_tok);
	if (r < 0)
		kvpool_seq_free(e->pool, *ret_seq, false);
	return r;
}

int engine_seq_reserve(struct engine *e, uint32_t seq, uint32_t n_tok)
{
	return kvpool_seq_reserve(e->pool, seq, n_tok);
}

void engine_seq_free(struct engine *e, uint32_t seq, bool keep)
{
	kvpool_seq_free(e->pool, seq, keep);
}

uint32_t engine_seq_len(const struct engine *e, uint32_t seq)
{
	return kvpool_seq_len(e->pool, seq);
}

uint32_t engine_pages_available(const struct engine *e)
{
	return kvpool_available(e->pool);
}
