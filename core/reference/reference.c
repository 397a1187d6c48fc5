/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation as its definition says, in the order of the graph. Each activation has memory of
 * its own, so that tests can look at all of them after a run; weights become floats a row at a
 * time. */
#include "core/reference/reference.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/engine.h"

struct reference {
	const struct graph *g;
	uint32_t n_slots, max_rows;
	float **data;      /* [n_tensors] activations: max_rows rows; KV: n_slots rows; else NULL */
	float *weight_row; /* one row of the widest weight, ... */
	double *weight_wide; /* ... the same as doubles */
	double *input;       /* max_rows rows of the widest product input, as doubles */
	double *scores;      /* [n_slots] of one row and head */
	uint64_t act_bytes, kv_bytes;
};

/* What an operation's function sees. */
struct run {
	const struct reference *r;
	const struct step_rows *s;
	const struct op *op;
};

static const struct tensor *tensor_of(const struct run *run, tensor_id id)
{
	return &run->r->g->tensors[id];
}

static uint32_t rows_of(const struct run *run, tensor_id id)
{
	return tensor_of(run, id)->rows == ROWS_OUT ? run->s->n_out : run->s->n_rows;
}

static float *row_of(const struct run *run, tensor_id id, size_t row)
{
	return run->r->data[id] + row * tensor_of(run, id)->channels;
}

static void load_weight_row(const struct run *run, tensor_id id, size_t row, float *dst)
{
	const struct tensor *t = tensor_of(run, id);
	const struct format_info *f = format_get(t->format);
	size_t blocks = t->channels / f->block;

	f->to_float(t->data + row * blocks * f->block_bytes, dst, blocks);
}

/* --- operations --- */

static void run_embed(const struct run *run)
{
	for (uint32_t i = 0; i < run->s->n_rows; i++)
		load_weight_row(run, run->op->w[0], run->s->token[i],
				row_of(run, run->op->out[0], i));
}

static void run_rmsnorm(const struct run *run)
{
	uint32_t n = tensor_of(run, run->op->in[0])->channels, rows = rows_of(run, run->op->in[0]);
	const float *w = run->r->weight_row;

	load_weight_row(run, run->op->w[0], 0, run->r->weight_row);
	for (uint32_t i = 0; i < rows; i++) {
		const float *x = row_of(run, run->op->in[0], i);
		float *y = row_of(run, run->op->out[0], i);
		double sum = 0;

		for (uint32_t c = 0; c < n; c++)
			sum += (double)x[c] * (double)x[c];
		double scale = 1 / sqrt(sum / n + (double)run->op->eps);
		for (uint32_t c = 0; c < n; c++)
			y[c] = (float)((double)x[c] * scale * (double)w[c]);
	}
}

/* Eight partial sums, so that additions need not wait for each other. */
static double dot(const double *a, const double *b, uint32_t n)
{
	double part[8] = {0};
	uint32_t i = 0;

	for (; i + 8 <= n; i += 8) {
		for (uint32_t k = 0; k < 8; k++)
			part[k] += a[i + k] * b[i + k];
	}
	for (; i < n; i++)
		part[0] += a[i] * b[i];
	return ((part[0] + part[1]) + (part[2] + part[3])) +
	       ((part[4] + part[5]) + (part[6] + part[7]));
}

static void run_linear(const struct run *run)
{
	const struct tensor *w = tensor_of(run, run->op->w[0]);
	uint32_t n = w->channels, rows = rows_of(run, run->op->in[0]);
	const float *x = run->r->data[run->op->in[0]];
	const float *wf = run->r->weight_row;
	double *xd = run->r->input, *wd = run->r->weight_wide;

	for (size_t i = 0; i < (size_t)rows * n; i++)
		xd[i] = (double)x[i];
	for (uint32_t o = 0; rows && o < w->n_rows; o++) {
		load_weight_row(run, run->op->w[0], o, run->r->weight_row);
		for (uint32_t c = 0; c < n; c++)
			wd[c] = (double)wf[c];
		for (uint32_t i = 0; i < rows; i++)
			row_of(run, run->op->out[0], i)[o] = (float)dot(xd + (size_t)i * n, wd, n);
	}
}

static void rope_head(const struct run *run, const float *x, float *y, const float *cos_sin)
{
	uint32_t half = run->r->g->rope.dims / 2, step = run->op->neox ? 1 : 2;
	uint32_t other = run->op->neox ? half : 1;

	for (uint32_t i = 0; i < half; i++) {
		uint32_t a = i * step, b = a + other;
		double c = (double)cos_sin[2 * i], s = (double)cos_sin[2 * i + 1];
		double xa = (double)x[a], xb = (double)x[b];

		y[a] = (float)(xa * c - xb * s);
		y[b] = (float)(xa * s + xb * c);
	}
	for (uint32_t i = 2 * half; i < run->op->head_dim; i++)
		y[i] = x[i];
}

static void run_rope(const struct run *run)
{
	uint32_t d = run->op->head_dim, dims = run->r->g->rope.dims;

	for (uint32_t i = 0; i < run->s->n_rows; i++) {
		const float *x = row_of(run, run->op->in[0], i);
		float *y = row_of(run, run->op->out[0], i);

		for (uint32_t h = 0; h < run->op->heads; h++)
			rope_head(run, x + (size_t)h * d, y + (size_t)h * d,
				  run->s->rope + (size_t)i * dims);
	}
}

static void run_kv_write(const struct run *run)
{
	uint32_t n = tensor_of(run, run->op->in[0])->channels;

	for (uint32_t i = 0; i < run->s->n_rows; i++) {
		const float *x = row_of(run, run->op->in[0], i);
		float *kv = row_of(run, run->op->in[1], run->s->slot[i]);

		for (uint32_t c = 0; c < n; c++)
			kv[c] = half_to_float(float_to_half(x[c]));
	}
}

static uint32_t slot_at(const struct step_rows *s, uint32_t row, uint32_t pos)
{
	const uint32_t *table = s->tables + (size_t)s->table[row] * s->table_stride;

	return table[pos / KV_PAGE_TOK] * KV_PAGE_TOK + pos % KV_PAGE_TOK;
}

/* One row and one head: scores over positions 0..pos, softmax, weighted sum of V. */
static void attend(const struct run *run, uint32_t row, uint32_t head)
{
	const struct op *op = run->op;
	uint32_t d = op->head_dim, pos = run->s->pos[row];
	size_t kv_at = (size_t)(head / (op->heads / op->kv_heads)) * d;
	const float *q = row_of(run, op->in[0], row) + (size_t)head * d;
	float *out = row_of(run, op->out[0], row) + (size_t)head * d;
	double *p = run->r->scores, max = -INFINITY, sum = 0;

	for (uint32_t t = 0; t <= pos; t++) {
		const float *k = row_of(run, op->in[1], slot_at(run->s, row, t)) + kv_at;
		p[t] = 0;
		for (uint32_t c = 0; c < d; c++)
			p[t] += (double)q[c] * (double)k[c];
		p[t] *= (double)op->scale;
		max = p[t] > max ? p[t] : max;
	}
	for (uint32_t t = 0; t <= pos; t++) {
		p[t] = exp(p[t] - max);
		sum += p[t];
	}
	double *acc = run->r->input; /* any width of a row has room there */
	for (uint32_t c = 0; c < d; c++)
		acc[c] = 0;
	for (uint32_t t = 0; t <= pos; t++) {
		const float *v = row_of(run, op->in[2], slot_at(run->s, row, t)) + kv_at;
		for (uint32_t c = 0; c < d; c++)
			acc[c] += p[t] * (double)v[c];
	}
	for (uint32_t c = 0; c < d; c++)
		out[c] = (float)(acc[c] / sum);
}

static void run_attention(const struct run *run)
{
	for (uint32_t i = 0; i < run->s->n_rows; i++) {
		for (uint32_t h = 0; h < run->op->heads; h++)
			attend(run, i, h);
	}
}

static void run_add(const struct run *run)
{
	size_t n = (size_t)rows_of(run, run->op->in[0]) * tensor_of(run, run->op->in[0])->channels;
	const float *a = run->r->data[run->op->in[0]], *b = run->r->data[run->op->in[1]];
	float *y = run->r->data[run->op->out[0]];

	for (size_t i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}

static void run_silu_mul(const struct run *run)
{
	size_t n = (size_t)rows_of(run, run->op->in[0]) * tensor_of(run, run->op->in[0])->channels;
	const float *a = run->r->data[run->op->in[0]], *b = run->r->data[run->op->in[1]];
	float *y = run->r->data[run->op->out[0]];

	for (size_t i = 0; i < n; i++) {
		double x = (double)a[i];
		y[i] = (float)(x / (1 + exp(-x)) * (double)b[i]);
	}
}

static void run_gather(const struct run *run)
{
	uint32_t n = tensor_of(run, run->op->in[0])->channels;

	for (uint32_t i = 0; i < run->s->n_out; i++)
		memcpy(row_of(run, run->op->out[0], i),
		       row_of(run, run->op->in[0], run->s->out_row[i]), n * sizeof(float));
}

static void (*const ops[OP_KINDS])(const struct run *run) = {
	[OP_EMBED] = run_embed, [OP_RMSNORM] = run_rmsnorm,   [OP_LINEAR] = run_linear,
	[OP_ROPE] = run_rope,   [OP_KV_WRITE] = run_kv_write, [OP_ATTENTION] = run_attention,
	[OP_ADD] = run_add,     [OP_SILU_MUL] = run_silu_mul, [OP_GATHER] = run_gather,
};

/* --- a step --- */

static bool uses(const struct graph *g, enum op_kind kind)
{
	for (uint32_t i = 0; i < g->n_ops; i++) {
		if (g->ops[i].kind == kind)
			return true;
	}
	return false;
}

static int check_tokens(const struct reference *r, const struct step_rows *s, struct err *reterr)
{
	for (uint32_t k = 0; k < r->g->n_ops; k++) {
		if (r->g->ops[k].kind != OP_EMBED)
			continue;
		uint32_t n = r->g->tensors[r->g->ops[k].w[0]].n_rows;
		for (uint32_t i = 0; i < s->n_rows; i++) {
			if (s->token[i] >= n)
				return err_set(reterr, -EINVAL, "reference: token[%u] is %u of %u",
					       i, s->token[i], n);
		}
	}
	return 0;
}

/* The row's slot, and every slot that it looks back at. */
static int check_slots(const struct reference *r, const struct step_rows *s, uint32_t i,
		       struct err *reterr)
{
	uint32_t pages = s->pos[i] / KV_PAGE_TOK + 1;

	if (s->table[i] >= s->n_tables || pages > s->table_stride)
		return err_set(reterr, -EINVAL,
			       "reference: row %u: position %u is not in page table %u", i,
			       s->pos[i], s->table[i]);
	for (uint32_t p = 0; p < pages; p++) {
		uint64_t page = s->tables[(size_t)s->table[i] * s->table_stride + p];
		uint32_t last = p + 1 < pages ? KV_PAGE_TOK - 1 : s->pos[i] % KV_PAGE_TOK;
		if (page * KV_PAGE_TOK + last >= r->n_slots)
			return err_set(reterr, -EINVAL,
				       "reference: row %u: page %llu is beyond the pool", i,
				       (unsigned long long)page);
	}
	/* More positions than slots means that a page is in the table twice. */
	if (s->pos[i] >= r->n_slots)
		return err_set(reterr, -EINVAL, "reference: row %u: position %u is beyond the pool",
			       i, s->pos[i]);
	return 0;
}

static int check_step(const struct reference *r, const struct step_rows *s, struct err *reterr)
{
	bool writes = uses(r->g, OP_KV_WRITE), attends = uses(r->g, OP_ATTENTION);
	int rc;

	if (s->n_rows > r->max_rows || s->n_out > r->max_rows)
		return err_set(reterr, -EINVAL,
			       "reference: %u rows and %u outputs, at most %u are possible",
			       s->n_rows, s->n_out, r->max_rows);
	if ((rc = check_tokens(r, s, reterr)) < 0)
		return rc;
	for (uint32_t i = 0; i < s->n_rows; i++) {
		if (writes && s->slot[i] >= r->n_slots)
			return err_set(reterr, -EINVAL,
				       "reference: row %u: slot %u is beyond the pool", i,
				       s->slot[i]);
		if (attends && (rc = check_slots(r, s, i, reterr)) < 0)
			return rc;
	}
	for (uint32_t i = 0; i < s->n_out; i++) {
		if (s->out_row[i] >= s->n_rows)
			return err_set(reterr, -EINVAL, "reference: out_row[%u] is %u of %u", i,
				       s->out_row[i], s->n_rows);
	}
	return 0;
}

int reference_run(struct reference *r, const struct step_rows *s, struct err *reterr)
{
	struct run run = {.r = r, .s = s};
	int rc = check_step(r, s, reterr);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < r->g->n_ops; i++) {
		run.op = &r->g->ops[i];
		ops[run.op->kind](&run);
	}
	tensor_id logits = r->g->logits;
	if (logits != TENSOR_NONE && s->logits)
		memcpy(s->logits, r->data[logits],
		       (size_t)s->n_out * r->g->tensors[logits].channels * sizeof(float));
	return 0;
}

int reference_copy_slots(struct reference *r, uint32_t src_slot, uint32_t dst_slot, uint32_t n)
{
	if (n > r->n_slots || src_slot > r->n_slots - n || dst_slot > r->n_slots - n)
		return -EINVAL;
	for (uint32_t i = 0; i < r->g->n_tensors; i++) {
		const struct tensor *t = &r->g->tensors[i];
		if (t->role == ROLE_KV && r->data[i])
			memmove(r->data[i] + (size_t)dst_slot * t->channels,
				r->data[i] + (size_t)src_slot * t->channels,
				(size_t)n * t->channels * sizeof(float));
	}
	return 0;
}

const float *reference_tensor(const struct reference *r, tensor_id id)
{
	return id < r->g->n_tensors ? r->data[id] : NULL;
}

uint64_t reference_act_bytes(const struct reference *r)
{
	return r->act_bytes;
}

uint64_t reference_kv_bytes(const struct reference *r)
{
	return r->kv_bytes;
}

/* --- memory --- */

/* Zeroed rows; NULL when out of memory or of the range of sizes. */
static void *alloc_rows(size_t n_rows, size_t channels, size_t element, uint64_t *ret_bytes)
{
	size_t bytes;

	if (!ck_mul(n_rows, channels, &bytes) || !ck_mul(bytes, element, &bytes))
		return NULL;
	*ret_bytes += bytes;
	return calloc(bytes ? bytes : 1, 1);
}

static bool alloc_tensors(struct reference *r)
{
	r->data = calloc(r->g->n_tensors ? r->g->n_tensors : 1, sizeof(*r->data));
	if (!r->data)
		return false;
	for (uint32_t i = 0; i < r->g->n_tensors; i++) {
		const struct tensor *t = &r->g->tensors[i];
		if (t->role == ROLE_KV)
			r->data[i] =
				alloc_rows(r->n_slots, t->channels, sizeof(float), &r->kv_bytes);
		else if (t->role == ROLE_ACTIVATION || t->role == ROLE_LOGITS)
			r->data[i] =
				alloc_rows(r->max_rows, t->channels, sizeof(float), &r->act_bytes);
		else
			continue;
		if (!r->data[i])
			return false;
	}
	return true;
}

static bool alloc_scratch(struct reference *r)
{
	size_t widest = 1;

	for (uint32_t i = 0; i < r->g->n_tensors; i++)
		widest = max_size(widest, r->g->tensors[i].channels);
	r->weight_row = alloc_rows(1, widest, sizeof(float), &r->act_bytes);
	r->weight_wide = alloc_rows(1, widest, sizeof(double), &r->act_bytes);
	r->input = alloc_rows(r->max_rows, widest, sizeof(double), &r->act_bytes);
	r->scores = alloc_rows(1, r->n_slots, sizeof(double), &r->act_bytes);
	return r->weight_row && r->weight_wide && r->input && r->scores;
}

int reference_new(const struct graph *g, uint32_t n_slots, uint32_t max_rows,
		  struct reference **ret, struct err *reterr)
{
	int rc = graph_check(g, reterr);

	*ret = NULL;
	if (rc < 0)
		return rc;
	if (!max_rows)
		return err_set(reterr, -EINVAL, "reference: steps of no rows");
	for (uint32_t i = 0; i < g->n_ops; i++) {
		if (!ops[g->ops[i].kind])
			return err_set(reterr, -ENOTSUP, "reference: op %u (%s) is a fused one", i,
				       op_name(g->ops[i].kind));
	}
	struct reference *r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(reterr, -ENOMEM, "reference: out of memory");
	r->g = g;
	r->n_slots = n_slots;
	r->max_rows = max_rows;
	if (!alloc_tensors(r) || !alloc_scratch(r)) {
		rc = err_set(reterr, -ENOMEM,
			     "reference: out of memory for %u slots and %u rows (%llu bytes)",
			     n_slots, max_rows, (unsigned long long)(r->act_bytes + r->kv_bytes));
		reference_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void reference_free(struct reference *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; r->data && i < r->g->n_tensors; i++)
		free(r->data[i]);
	free(r->data);
	free(r->weight_row);
	free(r->weight_wide);
	free(r->input);
	free(r->scores);
	free(r);
}
