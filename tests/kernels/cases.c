/* SPDX-License-Identifier: Apache-2.0 */
/* Every weight format and type of K and V, several head sizes, and models as they are. In those that are for a
 * format all widths are the same: products that differ by their epilogue only come once. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backends/backend.h"
#include "core/blueprint.h"
#include "core/peak.h"
#include "tests/kernels/kernels.h"

#define ALL(f) f, f, f, f, f, f
#define Q4_K_M FORMAT_Q4_K, FORMAT_Q4_K, FORMAT_Q6_K, FORMAT_Q4_K, FORMAT_Q4_K, FORMAT_Q6_K
const struct model_case kernel_cases[] = {
	{"f32", ALL(FORMAT_F32), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"f16", ALL(FORMAT_F16), 32, 8, 64, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"bf16", ALL(FORMAT_BF16), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q8_0", ALL(FORMAT_Q8_0), 16, 4, 128, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"q4_0", ALL(FORMAT_Q4_0), 16, 4, 128, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q4_1", ALL(FORMAT_Q4_1), 16, 4, 128, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"q5_0", ALL(FORMAT_Q5_0), 16, 16, 128, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q5_1", ALL(FORMAT_Q5_1), 16, 16, 128, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"q2_k", ALL(FORMAT_Q2_K), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q3_k", ALL(FORMAT_Q3_K), 32, 8, 64, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"q4_k", ALL(FORMAT_Q4_K), 32, 4, 64, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q5_k", ALL(FORMAT_Q5_K), 32, 4, 64, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"q6_k", ALL(FORMAT_Q6_K), 64, 8, 32, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"iq4_nl", ALL(FORMAT_IQ4_NL), 64, 8, 32, 2048, 2048, KV_Q8, false, PREFILL_EXACT},
	{"mxfp4", ALL(FORMAT_MXFP4), 64, 8, 32, 2048, 2048, KV_F16, false, PREFILL_EXACT},
	{"q8_0 f16", ALL(FORMAT_Q8_0), 16, 4, 128, 2048, 2048, KV_F16, false, PREFILL_F16},
	{"q4_0 f16", ALL(FORMAT_Q4_0), 16, 4, 128, 2048, 2048, KV_Q8, false, PREFILL_F16},
	{"q5_1 f16", ALL(FORMAT_Q5_1), 16, 4, 128, 2048, 2048, KV_F16, false, PREFILL_F16},
	{"q2_k f16", ALL(FORMAT_Q2_K), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_F16},
	{"q4_k f16", ALL(FORMAT_Q4_K), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_F16},
	{"q6_k f16", ALL(FORMAT_Q6_K), 32, 8, 64, 2048, 2048, KV_Q8, false, PREFILL_F16},
	{"mxfp4 f16", ALL(FORMAT_MXFP4), 32, 8, 64, 2048, 2048, KV_F16, false, PREFILL_F16},
	{"mixed", FORMAT_Q4_0, FORMAT_Q4_0, FORMAT_Q8_0, FORMAT_Q4_1, FORMAT_Q8_0, FORMAT_Q8_0, 16, 4, 128, 2048, 2048,
	 KV_Q8, false, PREFILL_EXACT},
	{"135M q4_1", ALL(FORMAT_Q4_1), 9, 3, 64, 1536, 49152, KV_F16, true, PREFILL_EXACT},
	{"1B q4_k_m", Q4_K_M, 32, 8, 64, 8192, 128256, KV_F16, true, PREFILL_EXACT},
	{"8B q4_0", ALL(FORMAT_Q4_0), 32, 8, 128, 14336, 128256, KV_F16, true, PREFILL_EXACT},
	{"8B q8_0", ALL(FORMAT_Q8_0), 32, 8, 128, 14336, 128256, KV_F16, true, PREFILL_EXACT},
};
const size_t n_kernel_cases = sizeof kernel_cases / sizeof *kernel_cases;

static tensor_id weight(struct graph *g, const char *name, enum format f, uint32_t rows, uint32_t channels)
{
	static const uint8_t nothing[1]; /* text only: no weight is read */
	return graph_weight(g, name, f, rows, channels, nothing);
}

static struct op *op(struct graph *g, enum op_kind kind, tensor_id a, tensor_id b, tensor_id w, tensor_id out)
{
	struct op *o = graph_op(g, kind);
	o->in[0] = a;
	o->in[1] = b;
	o->w[0] = w;
	o->out[0] = out;
	o->eps = 1e-5f;
	return o;
}

/* A llama model of one layer, as model/arch_llama.c builds it: every operation there is. */
static struct graph llama(const struct model_case *c)
{
	const uint32_t e = c->heads * c->d, kv = c->kv_heads * c->d, ffn = c->ffn, vocab = c->vocab;
	const tensor_id none = TENSOR_NONE;
	struct graph g;
	graph_init(&g);
	g.n_vocab = vocab;
	g.n_layers = 1;
	g.n_embd = e;
	g.n_kv_heads = c->kv_heads;
	g.head_dim = g.rope.dims = c->d;
	g.context_train = 2048;
#define ACT(ch) graph_act(&g, ROWS_STEP, ch, "t%u", g.n_tensors)
	tensor_id table = weight(&g, "token_embd", c->embd, vocab, e), nw = weight(&g, "norm", FORMAT_F32, 1, e);
	tensor_id x = ACT(e), h = ACT(e), q = ACT(e), k = ACT(kv), v = ACT(kv), qr = ACT(e), kr = ACT(kv), a = ACT(e),
		  o = ACT(e), x2 = ACT(e), h2 = ACT(e), gate = ACT(ffn), up = ACT(ffn), act = ACT(ffn), down = ACT(e),
		  x3 = ACT(e);
	tensor_id pk = graph_kv(&g, 0, 'k', kv), pv = graph_kv(&g, 0, 'v', kv);
	op(&g, OP_EMBED, none, none, table, x);
	op(&g, OP_RMSNORM, x, none, nw, h);
	op(&g, OP_LINEAR, h, none, weight(&g, "q", c->q, e, e), q);
	op(&g, OP_LINEAR, h, none, weight(&g, "k", c->k, kv, e), k);
	op(&g, OP_LINEAR, h, none, weight(&g, "v", c->v, kv, e), v);
	struct op *r = op(&g, OP_ROPE, q, none, none, qr);
	r->heads = c->heads;
	r->head_dim = c->d;
	r = op(&g, OP_ROPE, k, none, none, kr);
	r->heads = c->kv_heads;
	r->head_dim = c->d;
	op(&g, OP_KV_WRITE, kr, pk, none, none)->heads = c->kv_heads;
	op(&g, OP_KV_WRITE, v, pv, none, none)->heads = c->kv_heads;
	r = op(&g, OP_ATTENTION, qr, pk, none, a);
	r->in[2] = pv;
	r->heads = c->heads;
	r->kv_heads = c->kv_heads;
	r->head_dim = c->d;
	r->scale = 0.125f;
	op(&g, OP_LINEAR, a, none, weight(&g, "o", c->q, e, e), o);
	op(&g, OP_ADD, x, o, none, x2);
	op(&g, OP_RMSNORM, x2, none, nw, h2);
	op(&g, OP_LINEAR, h2, none, weight(&g, "gate", c->gate, ffn, e), gate);
	op(&g, OP_LINEAR, h2, none, weight(&g, "up", c->up, ffn, e), up);
	op(&g, OP_SILU_MUL, gate, up, none, act);
	op(&g, OP_LINEAR, act, none, weight(&g, "down", c->gate, e, ffn), down);
	op(&g, OP_ADD, x2, down, none, x3);
	tensor_id last = graph_act(&g, ROWS_OUT, e, "last"), h3 = graph_act(&g, ROWS_OUT, e, "h3"),
		  logits = graph_act(&g, ROWS_OUT, vocab, "logits");
	op(&g, OP_GATHER, x3, none, none, last);
	op(&g, OP_RMSNORM, last, none, nw, h3);
	op(&g, OP_LINEAR, h3, none, table, logits);
	g.tensors[logits].role = ROLE_LOGITS;
	g.logits = logits;
	return g;
}

static bool take(struct program *ret, const struct kgen *k, const struct kgen_target *t, struct err *err)
{
	*ret = (struct program){.text = strdup(sb_text(&k->text))};
	snprintf(ret->options, sizeof ret->options, "%s", kgen_options(t));
	if (!ret->text)
		err_set(err, -ENOMEM, "out of memory");
	return ret->text;
}

bool kernels_program(const struct model_case *c, const char *device, struct program *ret, struct err *err)
{
	const struct be_ops *ops;
	struct be_info dev;
	if (be_facts(device, &ops, &dev, err))
		return false;
	if (!c) {
		struct kgen_target t;
		struct kgen k = {0};
		const bool ok = kgen_target(&dev, 64, 0, &t, err) == 0 && peak_generate(&t, &k, err) == 0 &&
				take(ret, &k, &t, err);
		kgen_done(&k);
		return ok;
	}
	const struct engine_options o = {.parallel = 8, .kv_type = c->kv, .prefill_type = c->prefill};
	struct graph g = llama(c);
	struct blueprint b;
	bool ok = !g.failed && blueprint_init(&b, &g, &o, &dev, err) == 0;
	if (ok) {
		ok = take(ret, &b.lowered.gen, &b.lowered.gen.target, err);
		blueprint_done(&b);
	}
	graph_done(&g);
	return ok;
}
