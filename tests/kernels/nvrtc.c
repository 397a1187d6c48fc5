/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles every generated kernel as CUDA C with NVRTC, which needs no GPU: whole models of each weight
 * format, with tied and separate output, several head sizes and mixed formats, for each architecture.
 * usage: nvrtc LIBNVRTC [DUMP_FOLDER]. Ends with "N passed, N failed". NVRTC's few functions are
 * declared here: the toolkit's headers are not needed. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blueprint.h"
#include "core/peak.h"
#include "tests/lib/opgraph.h"

struct nvrtc {
	int (*create)(void **prog, const char *src, const char *name, int n, const char *const *headers,
		      const char *const *names);
	int (*compile)(void *prog, int n, const char *const *options);
	int (*destroy)(void **prog);
	int (*log_size)(void *prog, size_t *ret);
	int (*log)(void *prog, char *ret);
	int (*ptx_size)(void *prog, size_t *ret);
	int (*version)(int *major, int *minor);
	int (*n_archs)(int *ret);
	int (*archs)(int *ret);
};

static int load(struct nvrtc *n, const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return -1;
	}
	const struct {
		const char *name;
		void *slot;
	} symbols[] = {
		{"nvrtcCreateProgram", &n->create},   {"nvrtcCompileProgram", &n->compile},
		{"nvrtcDestroyProgram", &n->destroy}, {"nvrtcGetProgramLogSize", &n->log_size},
		{"nvrtcGetProgramLog", &n->log},      {"nvrtcGetPTXSize", &n->ptx_size},
		{"nvrtcVersion", &n->version},        {"nvrtcGetNumSupportedArchs", &n->n_archs},
		{"nvrtcGetSupportedArchs", &n->archs},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *p = dlsym(lib, symbols[i].name);
		if (!p) {
			fprintf(stderr, "%s has no %s\n", path, symbols[i].name);
			return -1;
		}
		memcpy(symbols[i].slot, &p, sizeof p);
	}
	return 0;
}

struct model_case {
	const char *name;
	enum format q, k, v, gate, up, embd;
	uint32_t heads, kv_heads, d;
	bool all_archs; /* else the oldest and the newest: what a format needs does not depend on them */
};

#define ALL(f) f, f, f, f, f, f
static const struct model_case cases[] = {
	{"f32", ALL(FORMAT_F32), 4, 2, 32, false},
	{"f16", ALL(FORMAT_F16), 4, 2, 32, false},
	{"bf16", ALL(FORMAT_BF16), 4, 2, 32, false},
	{"q8_0", ALL(FORMAT_Q8_0), 4, 2, 32, false},
	{"q4_0", ALL(FORMAT_Q4_0), 4, 2, 32, false},
	{"q4_1", ALL(FORMAT_Q4_1), 9, 3, 64, true},
	{"q5_0", ALL(FORMAT_Q5_0), 4, 2, 32, false},
	{"q5_1", ALL(FORMAT_Q5_1), 4, 2, 32, false},
	{"q2_k", ALL(FORMAT_Q2_K), 4, 2, 64, false},
	{"q3_k", ALL(FORMAT_Q3_K), 4, 2, 64, false},
	{"q5_k", ALL(FORMAT_Q5_K), 4, 2, 64, false},
	{"q4_k_m", FORMAT_Q4_K, FORMAT_Q4_K, FORMAT_Q6_K, FORMAT_Q4_K, FORMAT_Q4_K, FORMAT_Q6_K, 4, 2, 64, false},
	{"iq4_nl", ALL(FORMAT_IQ4_NL), 4, 2, 32, false},
	{"mxfp4", ALL(FORMAT_MXFP4), 4, 2, 32, false},
	{"mixed", FORMAT_Q4_0, FORMAT_Q4_0, FORMAT_Q8_0, FORMAT_Q4_1, FORMAT_Q8_0, FORMAT_Q8_0, 2, 1, 128, true},
};

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
	const uint32_t e = c->heads * c->d, kv = c->kv_heads * c->d, ffn = 3 * e, vocab = 1000;
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

static bool compile(const struct nvrtc *n, const char *text, const char *options, int arch, const char *what)
{
	void *prog = NULL;
	char copy[200];
	const char *list[16];
	int n_options = 0, r = n->create(&prog, text, "driftd kernels", 0, NULL, NULL);
	snprintf(copy, sizeof copy, "%s", options);
	for (char *save = NULL, *o = strtok_r(copy, " ", &save); o && n_options < 16; o = strtok_r(NULL, " ", &save))
		list[n_options++] = o;
	size_t ptx_bytes = 0;
	if (r == 0)
		r = n->compile(prog, n_options, list);
	if (r == 0)
		r = n->ptx_size(prog, &ptx_bytes);
	if (r != 0) {
		size_t size = 0;
		n->log_size(prog, &size);
		char *log = calloc(size + 1, 1);
		if (log)
			n->log(prog, log);
		printf("%s, compute_%d: error %d\n%.6000s\n", what, arch, r, log ? log : "");
		free(log);
	} else {
		printf("%-8s compute_%-4d ok, %7zu bytes of PTX\n", what, arch, ptx_bytes);
	}
	n->destroy(&prog);
	return r == 0;
}

static void dump(const char *folder, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s.cu", folder, name);
	FILE *f = fopen(path, "w");
	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static bool facts(int arch, struct be_info *ret, struct err *err)
{
	const struct be_ops *ops;
	char name[32];
	snprintf(name, sizeof name, "cuda:sm_%d", arch);
	return be_facts(name, &ops, ret, err) == 0;
}

/* The kernels of `driftctl bench --peak`, which are a program of their own. */
static bool compile_peak(const struct nvrtc *n, int arch)
{
	struct kgen_target t;
	struct kgen k = {0};
	struct be_info dev;
	struct err err = {0};
	bool ok = facts(arch, &dev, &err) && kgen_target(&dev, 64, 0, &t, &err) == 0 &&
		  peak_generate(&t, &k, &err) == 0;
	if (!ok)
		printf("peak: %s\n", err.msg);
	ok = ok && compile(n, sb_text(&k.text), kgen_options(&t), arch, "peak");
	kgen_done(&k);
	return ok;
}

static bool compile_model(const struct nvrtc *n, const struct model_case *c, enum kv_type kv, int arch,
			  const char *folder)
{
	const struct engine_options o = {.parallel = 8, .kv_type = kv};
	struct graph g = llama(c);
	struct blueprint b;
	struct be_info dev;
	struct err err = {0};
	bool ok = !g.failed && facts(arch, &dev, &err) && blueprint_init(&b, &g, &o, &dev, &err) == 0;
	if (!ok) {
		printf("%s: %s\n", c->name, err.msg);
	} else {
		const char *text = sb_text(&b.lowered.gen.text);
		if (folder)
			dump(folder, c->name, text);
		ok = compile(n, text, kgen_options(&b.lowered.gen.target), arch, c->name);
		blueprint_done(&b);
	}
	graph_done(&g);
	return ok;
}

int main(int argc, char **argv)
{
	static const int wanted[] = {75, 80, 86, 89, 90, 100, 120};
	struct nvrtc n;
	int passed = 0, failed = 0, major = 0, minor = 0, n_archs = 0, archs[64] = {0};
	if (argc < 2 || load(&n, argv[1]) < 0)
		return 1;
	n.version(&major, &minor);
	n.n_archs(&n_archs);
	if (n_archs > 0 && n_archs <= 64)
		n.archs(archs);
	printf("NVRTC %d.%d\n", major, minor);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const size_t n_wanted = sizeof wanted / sizeof *wanted;
		for (size_t a = 0; a < n_wanted; a += cases[i].all_archs ? 1 : n_wanted - 1)
			for (int k = 0; k < n_archs; k++)
				if (archs[k] == wanted[a])
					*(compile_model(&n, &cases[i], i % 2 ? KV_Q8 : KV_F16, wanted[a],
							argc > 2 ? argv[2] : NULL)
						  ? &passed
						  : &failed) += 1;
	}
	*(compile_peak(&n, 90) ? &passed : &failed) += 1;
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? 1 : 0;
}
