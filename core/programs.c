/* SPDX-License-Identifier: Apache-2.0 */
/* What runs when is not derived from the launches but seen: steps of every size are gone through as the executor does,
 * without a device. */
#include "core/programs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blueprint.h"
#include "core/launch.h"

/* A kernel's row, while it is being gathered. */
struct seen {
	struct program_kernel row;
	char template_name[KGEN_NAME_MAX];
};

struct look {
	const struct blueprint *b;
	struct seen *kernels;  /* [gen.n_kernels] */
	uint32_t *pos, *table; /* [batch_tok] of a step */
};

static uint64_t groups(const uint32_t grid[2])
{
	return (uint64_t)grid[0] * grid[1];
}

static void add_run(struct program_kernel *k, unsigned stages, uint32_t n, const uint32_t grid[2])
{
	k->stages |= stages;
	if (!k->rows_max || n < k->rows_min)
		k->rows_min = n;
	if (n > k->rows_max)
		k->rows_max = n;
	if (!k->grid_max[0] || groups(grid) < groups(k->grid_min))
		memcpy(k->grid_min, grid, sizeof k->grid_min);
	if (groups(grid) > groups(k->grid_max))
		memcpy(k->grid_max, grid, sizeof k->grid_max);
}

/* One step: `n` rows, `n_out` of them with logits, none of which sees more than `keys` keys. */
static void look_step(struct look *l, unsigned stage, uint32_t n, uint32_t n_out, uint32_t keys)
{
	const struct lowered *low = &l->b->lowered;
	const struct step_rows s = {.n_rows = n, .n_out = n_out, .pos = l->pos, .table = l->table};
	struct attention_step a;

	for (uint32_t i = 0; i < n; i++) {
		l->pos[i] = keys - 1;
		l->table[i] = stage == PROGRAM_DECODE ? i : 0;
	}
	attention_step_cut(&l->b->attention, &s, &a);
	for (uint32_t i = 0; i < low->n_step; i++) {
		const struct klaunch *k = &low->launches[i];
		const uint32_t rows = k->rows == ROWS_OUT ? n_out : n;
		const struct launch_shape shape = launch_shape(low, k, rows, &a);
		if (shape.kernel != KERNEL_NONE)
			add_run(&l->kernels[shape.kernel].row, stage, rows, shape.grid);
	}
}

/* Few keys, the fewest that attention is split for, and a full context. */
static void look_steps(struct look *l)
{
	const struct engine_plan *p = &l->b->plan;
	const struct attention_step none = {.split = false};
	const uint32_t first = p->parallel < p->batch_tok ? p->parallel + 1 : p->batch_tok;
	const uint32_t keys[] = {1, ATTENTION_PART_TOK + 1, p->context_tok};
	const struct lowered *low = &l->b->lowered;

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		const uint32_t n_keys = keys[i] < p->context_tok ? keys[i] : p->context_tok;
		for (uint32_t n = 1; n <= p->parallel; n++)
			look_step(l, PROGRAM_DECODE, n, n < l->b->out_rows ? n : l->b->out_rows, n_keys);
		for (uint32_t n = first; n <= p->batch_tok; n++)
			look_step(l, PROGRAM_PREFILL, n, 1, n_keys);
	}
	for (uint32_t i = low->n_step; i < low->n_launches; i++) {
		const struct launch_shape shape = launch_shape(low, &low->launches[i], 1, &none);
		if (shape.kernel != KERNEL_NONE)
			add_run(&l->kernels[shape.kernel].row, 0, 1, shape.grid);
	}
}

/* What a launch says about a kernel of its. */
static void look_launch(struct look *l, const struct klaunch *k, uint32_t kernel, uint32_t group)
{
	const struct blueprint *b = l->b;

	if (kernel == KERNEL_NONE)
		return;
	struct program_kernel *row = &l->kernels[kernel].row;
	row->launches++;
	if (row->launches > 1)
		return;
	row->op = k->op == LAUNCH_NO_OP ? row->template_name : op_name(b->fused.ops[k->op].kind);
	row->group = group;
	if (k->args[0].type != KARG_WEIGHT || !b->lowered.weights[k->args[0].index].packed)
		return;
	const struct wpack *pack = &b->lowered.weights[k->args[0].index].pack;
	row->format = format_name(pack->format);
	if (k->grid != GRID_TILES)
		return;
	row->k = pack->k;
	for (uint32_t i = 0; i < pack->n_parts; i++)
		row->m += b->fused.tensors[pack->parts[i].tensor].n_rows;
}

/* The rows, but for what steps tell. */
static void look_kernels(struct look *l)
{
	const struct lowered *low = &l->b->lowered;

	for (uint32_t i = 0; i < low->gen.n_kernels; i++) {
		struct seen *s = &l->kernels[i];
		snprintf(s->template_name, sizeof s->template_name, "%.*s", (int)strcspn(low->gen.keys[i], "\n"),
			 low->gen.keys[i]);
		s->row = (struct program_kernel){.name = low->gen.names[i],
						 .template_name = s->template_name,
						 .op = "",
						 .format = "",
						 .bytes = low->gen.bytes[i]};
	}
	if (low->advance != KERNEL_NONE) { /* between the steps of a go, as large as these are */
		struct program_kernel *row = &l->kernels[low->advance].row;
		row->op = row->template_name;
		row->group = ADVANCE_GROUP;
		row->launches = 1;
	}
	for (uint32_t i = 0; i < low->n_launches; i++) {
		const struct klaunch *k = &low->launches[i];
		for (uint32_t v = 0; v < k->n_variants; v++)
			look_launch(l, k, k->kernel[v], k->groups[v]);
		if (k->by_split)
			look_launch(l, k, k->split_kernel, k->groups[0]);
	}
}

static int tell(const struct blueprint *b, void (*program)(void *ud, const struct program_info *p),
		void (*kernel)(void *ud, const struct program_kernel *k), void *ud, struct err *reterr)
{
	const struct kgen *gen = &b->lowered.gen;
	const struct program_info p = {.device = b->plan.device,
				       .absent = b->dev.absent,
				       .name = "model",
				       .suffix = gen->target.dialect == BE_DIALECT_CUDA ? "cu" : "cl",
				       .options = kgen_options(&gen->target),
				       .text = sb_text(&gen->text),
				       .bytes = gen->text.len,
				       .n_kernels = gen->n_kernels,
				       .entry = gen->target.one_kernel ? STEP_ENTRY : NULL,
				       .parallel = b->plan.parallel,
				       .batch_tok = b->plan.batch_tok,
				       .tile_cols = b->plan.tile_cols,
				       .tile_halves = b->plan.tile_halves};
	struct look l = {.b = b,
			 .kernels = calloc(gen->n_kernels + 1, sizeof *l.kernels),
			 .pos = calloc(b->plan.batch_tok, sizeof *l.pos),
			 .table = calloc(b->plan.batch_tok, sizeof *l.table)};
	int r = 0;

	if (!l.kernels || !l.pos || !l.table) {
		r = err_set(reterr, -ENOMEM, "out of memory listing kernels");
	} else {
		look_kernels(&l);
		look_steps(&l);
		program(ud, &p);
		for (uint32_t i = 0; i < gen->n_kernels; i++)
			kernel(ud, &l.kernels[i].row);
	}
	free(l.kernels);
	free(l.pos);
	free(l.table);
	return r;
}

int engine_programs(const struct graph *g, const struct engine_options *o,
		    void (*program)(void *ud, const struct program_info *p),
		    void (*kernel)(void *ud, const struct program_kernel *k), void *ud, struct err *reterr)
{
	const char *name = o->device ? o->device : "auto";
	const struct be_ops *ops;
	struct be_info info;
	struct blueprint b;
	int r;

	if (strcmp(name, "reference") == 0)
		return err_set(reterr, -ENOTSUP, "device 'reference' is plain C and has no kernels");
	r = be_facts(name, &ops, &info, reterr);
	if (r < 0)
		return r;
	r = blueprint_init(&b, g, o, &info, reterr);
	if (r < 0)
		return r;
	r = tell(&b, program, kernel, ud, reterr);
	blueprint_done(&b);
	return r;
}
