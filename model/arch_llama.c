/* SPDX-License-Identifier: Apache-2.0 */
/* The llama architecture (Touvron et al. 2023; also what Mistral, SmolLM2 and others are converted
 * to): hyperparameters and weights out of the file, every one of them checked, then the graph.
 * What the file has and the graph would not honour is refused by name. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/arch.h"

#define LAYERS_MAX 1024
#define EMBD_MAX (1u << 17)
#define HEADS_MAX 4096
#define FFN_MAX (1u << 20)
#define CONTEXT_MAX (1u << 24)
#define VOCAB_MAX (1u << 22)

struct llama {
	const struct gguf *g;
	struct graph *graph;
	struct err *err;
	bool *used; /* [n_tensors]: taken by the graph */
	uint32_t layers, embd, heads, kv_heads, head_dim, ffn, context, vocab;
	double eps;
};

/* --- hyperparameters --- */

/* A key that may be missing: *ret keeps its default then. */
static int maybe_u32(const struct llama *m, const char *key, uint32_t min, uint32_t max,
		     uint32_t *ret)
{
	return gguf_find(m->g, key) ? gguf_get_u32(m->g, key, min, max, ret, m->err) : 0;
}

static int maybe_f32(const struct llama *m, const char *key, double min, double max, double *ret)
{
	return gguf_find(m->g, key) ? gguf_get_f32(m->g, key, min, max, ret, m->err) : 0;
}

static int bad_key(const struct llama *m, int code, const char *key, const char *what)
{
	return err_set(m->err, code, "%s: key '%s': %s", m->g->path, key, what);
}

/* Keys that would change the result in a way that the graph does not know; 0 or false is no change.
 */
static int refuse_unknown(const struct llama *m)
{
	static const char *const keys[] = {
		"llama.expert_count",
		"llama.attention.sliding_window",
		"llama.use_parallel_residual",
		"llama.attention.clamp_kqv",
		"llama.attention.max_alibi_bias",
		"llama.attention.scale",
		"llama.logit_scale",
		"llama.residual_scale",
		"llama.embedding_scale",
		"llama.pooling_type",
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		const struct gguf_kv *kv = gguf_find(m->g, keys[i]);
		bool zero = kv && kv->type != GGUF_ARRAY && kv->type != GGUF_STRING;
		size_t bytes = zero ? gguf_type_bytes(kv->type) : 0;
		for (size_t b = 0; b < bytes; b++)
			zero = zero && !kv->data[b];
		if (kv && !zero)
			return bad_key(m, -ENOTSUP, keys[i], "is not supported by this build");
	}
	return 0;
}

static int read_head_dim(struct llama *m)
{
	uint32_t key_length, value_length;
	int r;

	if (m->embd % m->heads)
		return bad_key(m, -EBADMSG, "llama.embedding_length",
			       "is no multiple of attention.head_count");
	if (m->heads % m->kv_heads)
		return bad_key(m, -EBADMSG, "llama.attention.head_count",
			       "is no multiple of attention.head_count_kv");
	m->head_dim = key_length = value_length = m->embd / m->heads;
	if (m->head_dim % 2)
		return bad_key(m, -EBADMSG, "llama.embedding_length", "makes heads of an odd size");
	if ((r = maybe_u32(m, "llama.attention.key_length", 1, EMBD_MAX, &key_length)) < 0 ||
	    (r = maybe_u32(m, "llama.attention.value_length", 1, EMBD_MAX, &value_length)) < 0)
		return r;
	if (key_length != m->head_dim)
		return bad_key(m, -ENOTSUP, "llama.attention.key_length",
			       "only embedding_length / head_count is supported");
	if (value_length != m->head_dim)
		return bad_key(m, -ENOTSUP, "llama.attention.value_length",
			       "only embedding_length / head_count is supported");
	return 0;
}

static int read_shape(struct llama *m)
{
	const struct gguf *g = m->g;
	int r;

	if ((r = gguf_get_u32(g, "llama.block_count", 1, LAYERS_MAX, &m->layers, m->err)) < 0 ||
	    (r = gguf_get_u32(g, "llama.context_length", 1, CONTEXT_MAX, &m->context, m->err)) <
		    0 ||
	    (r = gguf_get_u32(g, "llama.embedding_length", 2, EMBD_MAX, &m->embd, m->err)) < 0 ||
	    (r = gguf_get_u32(g, "llama.feed_forward_length", 1, FFN_MAX, &m->ffn, m->err)) < 0 ||
	    (r = gguf_get_u32(g, "llama.attention.head_count", 1, HEADS_MAX, &m->heads, m->err)) <
		    0)
		return r;
	m->kv_heads = m->heads;
	if ((r = maybe_u32(m, "llama.attention.head_count_kv", 1, HEADS_MAX, &m->kv_heads)) < 0 ||
	    (r = gguf_get_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-12, 1, &m->eps,
			      m->err)) < 0)
		return r;
	return read_head_dim(m);
}

/* rope.scaling.*: positions divided by a factor, or nothing. */
static int read_rope_scaling(struct llama *m)
{
	static const char type_key[] = "llama.rope.scaling.type";
	double factor = 1, attn_factor = 1;
	struct gguf_str type = {"linear", 6};
	int r;

	if (gguf_find(m->g, type_key) && (r = gguf_get_str(m->g, type_key, &type, m->err)) < 0)
		return r;
	if ((r = maybe_f32(m, "llama.rope.scale_linear", 0, 1e6, &factor)) < 0 ||
	    (r = maybe_f32(m, "llama.rope.scaling.factor", 0, 1e6, &factor)) < 0 ||
	    (r = maybe_f32(m, "llama.rope.scaling.attn_factor", 0, 1e6, &attn_factor)) < 0)
		return r;
	if (attn_factor != 1)
		return bad_key(m, -ENOTSUP, "llama.rope.scaling.attn_factor",
			       "only 1 is supported");
	if (type.len == 4 && !memcmp(type.s, "none", 4))
		return 0;
	if (type.len != 6 || memcmp(type.s, "linear", 6))
		return err_set(
			m->err, -ENOTSUP,
			"%s: key '%s': rope scaling '%.*s' is not supported, only none and linear",
			m->g->path, type_key, (int)(type.len < 40 ? type.len : 40), type.s);
	if (factor != 0 && factor < 1e-3)
		return bad_key(m, -EBADMSG, "llama.rope.scaling.factor", "is too small");
	m->graph->rope.scale_linear = factor != 0 ? factor : 1; /* 0 has been written for "none" */
	return 0;
}

/* Divisors of the angles (Llama 3.1 and later), a tensor of dims/2 floats. */
static int read_rope_factors(struct llama *m)
{
	static const char name[] = "rope_freqs.weight";
	const struct gguf_tensor *t = gguf_tensor(m->g, name);
	uint32_t half = m->graph->rope.dims / 2;

	if (!t)
		return 0;
	m->used[t - m->g->tensors] = true;
	if (t->type != FORMAT_F32 || t->n_dims != 1 || t->dims[0] != half)
		return err_set(m->err, -EBADMSG, "%s: tensor '%s' is not %u elements of F32",
			       m->g->path, name, half);
	/* The data section is aligned to 8 bytes or more: gguf.c checks it. */
	const float *factors = (const float *)(const void *)t->data;
	for (uint32_t i = 0; i < half; i++) {
		if (!(factors[i] > 0) || !isfinite(factors[i]))
			return err_set(m->err, -EBADMSG,
				       "%s: tensor '%s': element %u is %g, must be above 0",
				       m->g->path, name, i, (double)factors[i]);
	}
	m->graph->rope.factors = factors;
	return 0;
}

static int read_rope(struct llama *m)
{
	struct rope_params *p = &m->graph->rope;
	int r;

	p->dims = m->head_dim;
	if ((r = maybe_u32(m, "llama.rope.dimension_count", 2, m->head_dim, &p->dims)) < 0 ||
	    (r = maybe_f32(m, "llama.rope.freq_base", 1, 1e15, &p->base)) < 0)
		return r;
	if (p->dims % 2)
		return bad_key(m, -EBADMSG, "llama.rope.dimension_count", "is odd");
	if ((r = read_rope_scaling(m)) < 0)
		return r;
	return read_rope_factors(m);
}

static int read_vocab_size(struct llama *m)
{
	const struct gguf_tensor *t = gguf_tensor(m->g, "token_embd.weight");
	uint32_t declared;
	int r;

	if (!t)
		return err_set(m->err, -EBADMSG, "%s: tensor 'token_embd.weight' is missing",
			       m->g->path);
	if (t->dims[1] > VOCAB_MAX)
		return err_set(
			m->err, -EBADMSG,
			"%s: tensor 'token_embd.weight' has %llu rows, at most %u are allowed",
			m->g->path, (unsigned long long)t->dims[1], VOCAB_MAX);
	m->vocab = declared = (uint32_t)t->dims[1];
	r = maybe_u32(m, "llama.vocab_size", 1, VOCAB_MAX, &declared);
	if (r == 0 && declared != m->vocab)
		return bad_key(m, -EBADMSG, "llama.vocab_size",
			       "is not the number of rows of token_embd.weight");
	return r;
}

/* --- weights --- */

static int bad_format(const struct llama *m, const char *name, uint32_t type, bool norm)
{
	return err_set(m->err, -ENOTSUP, "%s: tensor '%s' has the format %s, supported %s",
		       m->g->path, name, format_name(type),
		       norm ? "for norms is F32" : "are " MODEL_FORMATS);
}

/* The tensor of that name and shape (`n_rows` 0: one dimension) as a weight of the graph. */
static int take_weight(struct llama *m, const char *name, uint32_t n_rows, uint32_t channels,
		       tensor_id *ret)
{
	const struct gguf_tensor *t = gguf_tensor(m->g, name);
	uint32_t n_dims = n_rows ? 2 : 1;

	*ret = TENSOR_NONE;
	if (!t)
		return err_set(m->err, -EBADMSG, "%s: tensor '%s' is missing", m->g->path, name);
	if (t->n_dims != n_dims || t->dims[0] != channels || t->dims[1] != (n_rows ? n_rows : 1))
		return err_set(
			m->err, -EBADMSG,
			"%s: tensor '%s' has the shape %llu x %llu x %llu x %llu, must be %u x %u",
			m->g->path, name, (unsigned long long)t->dims[0],
			(unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
			(unsigned long long)t->dims[3], channels, n_rows ? n_rows : 1);
	if (!t->data || (!n_rows && t->type != FORMAT_F32))
		return bad_format(m, name, t->type, !n_rows);
	m->used[t - m->g->tensors] = true;
	*ret = graph_weight(m->graph, name, (enum format)t->type, n_rows ? n_rows : 1, channels,
			    t->data);
	return 0;
}

/* "blk.<layer>.<part>.weight" */
static int take_block_weight(struct llama *m, uint32_t layer, const char *part, uint32_t n_rows,
			     uint32_t channels, tensor_id *ret)
{
	char name[GRAPH_NAME_MAX];

	snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, part);
	return take_weight(m, name, n_rows, channels, ret);
}

static int refuse_unused(const struct llama *m)
{
	for (uint64_t i = 0; i < m->g->n_tensors; i++) {
		const struct gguf_str *s = &m->g->tensors[i].name;
		if (m->used[i])
			continue;
		bool bias = s->len > 5 && !memcmp(s->s + s->len - 5, ".bias", 5);
		return err_set(
			m->err, -ENOTSUP, "%s: tensor '%.*s' %s", m->g->path, (int)s->len, s->s,
			bias ? "is a bias: biases are not supported by the llama architecture"
			     : "has no place in the llama architecture");
	}
	return 0;
}

/* --- graph --- */

static tensor_id add_rmsnorm(struct llama *m, tensor_id x, tensor_id w, enum rows rows,
			     const char *name)
{
	tensor_id y = graph_act(m->graph, rows, m->embd, "%s", name);
	struct op *op = graph_op(m->graph, OP_RMSNORM);

	if (op) {
		op->in[0] = x;
		op->w[0] = w;
		op->out[0] = y;
		op->eps = (float)m->eps;
	}
	return y;
}

static tensor_id add_linear(struct llama *m, tensor_id x, tensor_id w, uint32_t channels,
			    uint32_t layer, const char *name)
{
	tensor_id y = graph_act(m->graph, ROWS_STEP, channels, "blk.%u.%s", layer, name);
	struct op *op = graph_op(m->graph, OP_LINEAR);

	if (op) {
		op->in[0] = x;
		op->w[0] = w;
		op->out[0] = y;
	}
	return y;
}

static tensor_id add_rope(struct llama *m, tensor_id x, uint32_t heads, uint32_t layer,
			  const char *name)
{
	tensor_id y = graph_act(m->graph, ROWS_STEP, heads * m->head_dim, "blk.%u.%s", layer, name);
	struct op *op = graph_op(m->graph, OP_ROPE);

	if (op) {
		op->in[0] = x;
		op->out[0] = y;
		op->heads = heads;
		op->head_dim = m->head_dim;
		op->neox = false; /* GGUF's llama weights are permuted for pairs (2i, 2i+1) */
	}
	return y;
}

static void add_kv_write(struct llama *m, tensor_id x, tensor_id kv)
{
	struct op *op = graph_op(m->graph, OP_KV_WRITE);

	if (op) {
		op->in[0] = x;
		op->in[1] = kv;
		op->heads = op->kv_heads = m->kv_heads;
		op->head_dim = m->head_dim;
	}
}

/* ADD or SILU_MUL */
static tensor_id add_pair(struct llama *m, enum op_kind kind, tensor_id a, tensor_id b,
			  uint32_t channels, uint32_t layer, const char *name)
{
	tensor_id y = graph_act(m->graph, ROWS_STEP, channels, "blk.%u.%s", layer, name);
	struct op *op = graph_op(m->graph, kind);

	if (op) {
		op->in[0] = a;
		op->in[1] = b;
		op->out[0] = y;
	}
	return y;
}

/* x + attention(norm(x)) */
static int add_attention(struct llama *m, uint32_t l, tensor_id x, tensor_id *ret)
{
	uint32_t kv_width = m->kv_heads * m->head_dim;
	tensor_id w_norm, wq, wk, wv, wo;
	char name[GRAPH_NAME_MAX];
	int r;

	if ((r = take_block_weight(m, l, "attn_norm", 0, m->embd, &w_norm)) < 0 ||
	    (r = take_block_weight(m, l, "attn_q", m->embd, m->embd, &wq)) < 0 ||
	    (r = take_block_weight(m, l, "attn_k", kv_width, m->embd, &wk)) < 0 ||
	    (r = take_block_weight(m, l, "attn_v", kv_width, m->embd, &wv)) < 0 ||
	    (r = take_block_weight(m, l, "attn_output", m->embd, m->embd, &wo)) < 0)
		return r;
	snprintf(name, sizeof(name), "blk.%u.attn_norm", l);
	tensor_id h = add_rmsnorm(m, x, w_norm, ROWS_STEP, name);
	tensor_id q = add_linear(m, h, wq, m->embd, l, "q");
	tensor_id k = add_linear(m, h, wk, kv_width, l, "k");
	tensor_id v = add_linear(m, h, wv, kv_width, l, "v");
	tensor_id q_rot = add_rope(m, q, m->heads, l, "q_rope");
	tensor_id k_rot = add_rope(m, k, m->kv_heads, l, "k_rope");
	tensor_id kv_k = graph_kv(m->graph, l, 'k', kv_width);
	tensor_id kv_v = graph_kv(m->graph, l, 'v', kv_width);
	add_kv_write(m, k_rot, kv_k);
	add_kv_write(m, v, kv_v);
	tensor_id att = graph_act(m->graph, ROWS_STEP, m->embd, "blk.%u.attn", l);
	struct op *op = graph_op(m->graph, OP_ATTENTION);
	if (op) {
		op->in[0] = q_rot;
		op->in[1] = kv_k;
		op->in[2] = kv_v;
		op->out[0] = att;
		op->heads = m->heads;
		op->kv_heads = m->kv_heads;
		op->head_dim = m->head_dim;
		op->scale = (float)(1 / sqrt((double)m->head_dim));
	}
	tensor_id o = add_linear(m, att, wo, m->embd, l, "attn_out");
	*ret = add_pair(m, OP_ADD, x, o, m->embd, l, "attn_sum");
	return 0;
}

/* x + down(silu(gate(norm(x))) * up(norm(x))) */
static int add_ffn(struct llama *m, uint32_t l, tensor_id x, tensor_id *ret)
{
	tensor_id w_norm, w_gate, w_up, w_down;
	char name[GRAPH_NAME_MAX];
	int r;

	if ((r = take_block_weight(m, l, "ffn_norm", 0, m->embd, &w_norm)) < 0 ||
	    (r = take_block_weight(m, l, "ffn_gate", m->ffn, m->embd, &w_gate)) < 0 ||
	    (r = take_block_weight(m, l, "ffn_up", m->ffn, m->embd, &w_up)) < 0 ||
	    (r = take_block_weight(m, l, "ffn_down", m->embd, m->ffn, &w_down)) < 0)
		return r;
	snprintf(name, sizeof(name), "blk.%u.ffn_norm", l);
	tensor_id h = add_rmsnorm(m, x, w_norm, ROWS_STEP, name);
	tensor_id gate = add_linear(m, h, w_gate, m->ffn, l, "ffn_gate");
	tensor_id up = add_linear(m, h, w_up, m->ffn, l, "ffn_up");
	tensor_id act = add_pair(m, OP_SILU_MUL, gate, up, m->ffn, l, "ffn_act");
	tensor_id down = add_linear(m, act, w_down, m->embd, l, "ffn_down");
	*ret = add_pair(m, OP_ADD, x, down, m->embd, l, "ffn_sum");
	return 0;
}

/* The rows that want logits, their norm, and the product with the output table. */
static int add_output(struct llama *m, tensor_id x, tensor_id w_embd)
{
	tensor_id w_norm, w_out = w_embd;
	int r;

	if ((r = take_weight(m, "output_norm.weight", 0, m->embd, &w_norm)) < 0)
		return r;
	if (gguf_tensor(m->g, "output.weight") &&
	    (r = take_weight(m, "output.weight", m->vocab, m->embd, &w_out)) < 0)
		return r;
	tensor_id rows = graph_act(m->graph, ROWS_OUT, m->embd, "out_rows");
	struct op *op = graph_op(m->graph, OP_GATHER);
	if (op) {
		op->in[0] = x;
		op->out[0] = rows;
	}
	tensor_id normed = add_rmsnorm(m, rows, w_norm, ROWS_OUT, "output_norm");
	tensor_id logits = graph_act(m->graph, ROWS_OUT, m->vocab, "logits");
	op = graph_op(m->graph, OP_LINEAR);
	if (op) {
		op->in[0] = normed;
		op->w[0] = w_out;
		op->out[0] = logits;
	}
	if (logits != TENSOR_NONE)
		m->graph->tensors[logits].role = ROLE_LOGITS;
	m->graph->logits = logits;
	return 0;
}

static int build_graph(struct llama *m)
{
	tensor_id w_embd, x;
	int r;

	if ((r = take_weight(m, "token_embd.weight", m->vocab, m->embd, &w_embd)) < 0)
		return r;
	x = graph_act(m->graph, ROWS_STEP, m->embd, "embd");
	struct op *op = graph_op(m->graph, OP_EMBED);
	if (op) {
		op->w[0] = w_embd;
		op->out[0] = x;
	}
	for (uint32_t l = 0; l < m->layers; l++) {
		if ((r = add_attention(m, l, x, &x)) < 0 || (r = add_ffn(m, l, x, &x)) < 0)
			return r;
	}
	if ((r = add_output(m, x, w_embd)) < 0 || (r = refuse_unused(m)) < 0)
		return r;
	m->graph->n_vocab = m->vocab;
	m->graph->n_layers = m->layers;
	m->graph->n_embd = m->embd;
	m->graph->n_kv_heads = m->kv_heads;
	m->graph->head_dim = m->head_dim;
	m->graph->context_train = m->context;
	return graph_check(m->graph, m->err);
}

int arch_llama_build(const struct gguf *g, struct graph *ret, struct err *reterr)
{
	struct llama m = {.g = g, .graph = ret, .err = reterr};
	int r;

	graph_init(ret);
	m.used = calloc(g->n_tensors ? g->n_tensors : 1, sizeof(*m.used));
	if (!m.used)
		return err_set(reterr, -ENOMEM, "%s: out of memory", g->path);
	if ((r = refuse_unknown(&m)) == 0 && (r = read_shape(&m)) == 0 &&
	    (r = read_rope(&m)) == 0 && (r = read_vocab_size(&m)) == 0)
		r = build_graph(&m);
	free(m.used);
	if (r < 0)
		graph_done(ret);
	return r;
}
