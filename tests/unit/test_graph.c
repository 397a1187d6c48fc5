/* SPDX-License-Identifier: Apache-2.0 */
/* Building, copying and checking graphs: what is sound passes, each broken rule is named. */
#include "core/graph.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fuse.h"

static const uint8_t bytes[4096];

/* A small model of one layer, with the ids that the tests break. */
struct small {
	struct graph g;
	tensor_id embd, norm, q, k, v, qr, kr, kv_k, kv_v, att, sum, rows, normed, logits;
	tensor_id w_embd, w_norm, w_q, w_k;
	uint32_t op_embed, op_norm, op_q, op_rope, op_write, op_att, op_add, op_gather, op_out;
};

static struct op *add(struct small *s, enum op_kind kind, tensor_id a, tensor_id b, tensor_id w,
		      tensor_id out)
{
	struct op *op = graph_op(&s->g, kind);

	ck_assert_ptr_nonnull(op);
	op->in[0] = a;
	op->in[1] = b;
	op->w[0] = w;
	op->out[0] = out;
	op->heads = 4;
	op->kv_heads = 2;
	op->head_dim = 8;
	return op;
}

#define NONE TENSOR_NONE

static void build(struct small *s)
{
	struct graph *g = &s->g;

	memset(s, 0, sizeof(*s));
	graph_init(g);
	g->rope.dims = 8;
	s->w_embd = graph_weight(g, "embd.weight", FORMAT_F16, 10, 32, bytes);
	s->w_norm = graph_weight(g, "norm.weight", FORMAT_F32, 1, 32, bytes);
	s->w_q = graph_weight(g, "q.weight", FORMAT_Q4_0, 32, 32, bytes);
	s->w_k = graph_weight(g, "k.weight", FORMAT_Q4_0, 16, 32, bytes);
	s->embd = graph_act(g, ROWS_STEP, 32, "embd");
	s->norm = graph_act(g, ROWS_STEP, 32, "norm");
	s->q = graph_act(g, ROWS_STEP, 32, "q");
	s->k = graph_act(g, ROWS_STEP, 16, "k");
	s->v = graph_act(g, ROWS_STEP, 16, "v");
	s->qr = graph_act(g, ROWS_STEP, 32, "qr");
	s->kr = graph_act(g, ROWS_STEP, 16, "kr");
	s->kv_k = graph_kv(g, 0, 'k', 16);
	s->kv_v = graph_kv(g, 0, 'v', 16);
	s->att = graph_act(g, ROWS_STEP, 32, "att");
	s->sum = graph_act(g, ROWS_STEP, 32, "sum");
	s->rows = graph_act(g, ROWS_OUT, 32, "rows");
	s->normed = graph_act(g, ROWS_OUT, 32, "normed");
	s->logits = graph_act(g, ROWS_OUT, 10, "logits");
	g->tensors[s->logits].role = ROLE_LOGITS;
	g->logits = s->logits;

	s->op_embed = g->n_ops;
	add(s, OP_EMBED, NONE, NONE, s->w_embd, s->embd);
	s->op_norm = g->n_ops;
	add(s, OP_RMSNORM, s->embd, NONE, s->w_norm, s->norm);
	s->op_q = g->n_ops;
	add(s, OP_LINEAR, s->norm, NONE, s->w_q, s->q);
	add(s, OP_LINEAR, s->norm, NONE, s->w_k, s->k);
	add(s, OP_LINEAR, s->norm, NONE, s->w_k, s->v);
	s->op_rope = g->n_ops;
	add(s, OP_ROPE, s->q, NONE, NONE, s->qr);
	add(s, OP_ROPE, s->k, NONE, NONE, s->kr)->heads = 2;
	s->op_write = g->n_ops;
	add(s, OP_KV_WRITE, s->kr, s->kv_k, NONE, NONE)->heads = 2;
	add(s, OP_KV_WRITE, s->v, s->kv_v, NONE, NONE)->heads = 2;
	s->op_att = g->n_ops;
	add(s, OP_ATTENTION, s->qr, s->kv_k, NONE, s->att)->in[2] = s->kv_v;
	s->op_add = g->n_ops;
	add(s, OP_ADD, s->embd, s->att, NONE, s->sum);
	s->op_gather = g->n_ops;
	add(s, OP_GATHER, s->sum, NONE, NONE, s->rows);
	s->op_out = g->n_ops;
	add(s, OP_RMSNORM, s->rows, NONE, s->w_norm, s->normed);
	add(s, OP_LINEAR, s->normed, NONE, s->w_embd, s->logits);
}

static struct op *op_at(struct small *s, uint32_t i)
{
	return &s->g.ops[i];
}

START_TEST(test_sound)
{
	struct small s;
	struct err err = {0};
	struct graph copy;

	build(&s);
	ck_assert_msg(graph_check(&s.g, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(graph_copy(&copy, &s.g), 0);
	ck_assert_ptr_ne(copy.ops, s.g.ops);
	ck_assert_uint_eq(copy.n_tensors, s.g.n_tensors);
	ck_assert_int_eq(memcmp(copy.ops, s.g.ops, s.g.n_ops * sizeof(*s.g.ops)), 0);
	/* A copy grows without touching its source. */
	ck_assert_uint_eq(graph_act(&copy, ROWS_STEP, 3, "new.%d", 7), s.g.n_tensors);
	ck_assert_str_eq(copy.tensors[copy.n_tensors - 1].name, "new.7");
	ck_assert_ptr_nonnull(graph_op(&copy, OP_ADD));
	ck_assert_uint_eq(copy.n_ops, s.g.n_ops + 1);
	graph_done(&copy);
	graph_done(&s.g);
	graph_done(NULL);
}
END_TEST

/* Each case breaks the sound graph in one place; the message must name the op and the tensor. */
struct broken {
	const char *names; /* part of the message */
	void (*how)(struct small *s);
};

static void no_input(struct small *s)
{
	op_at(s, s->op_norm)->in[0] = NONE;
}

static void id_beyond(struct small *s)
{
	op_at(s, s->op_norm)->in[0] = s->g.n_tensors;
}

static void not_yet_produced(struct small *s)
{
	op_at(s, s->op_norm)->in[0] = s->att;
}

static void produced_twice(struct small *s)
{
	op_at(s, s->op_rope)->out[0] = s->q;
}

static void weight_as_input(struct small *s)
{
	op_at(s, s->op_norm)->in[0] = s->w_q;
}

static void weight_as_output(struct small *s)
{
	op_at(s, s->op_norm)->out[0] = s->w_norm;
}

static void activation_as_weight(struct small *s)
{
	op_at(s, s->op_q)->w[0] = s->embd;
}

static void weight_without_data(struct small *s)
{
	s->g.tensors[s->w_q].data = NULL;
}

static void weight_unsupported(struct small *s)
{
	s->g.tensors[s->w_q].format = FORMAT_I8;
}

static void weight_part_block(struct small *s)
{
	s->g.tensors[s->w_q].channels = 40;
}

static void product_in_channels(struct small *s)
{
	s->g.tensors[s->w_q].channels = 64;
}

static void product_out_channels(struct small *s)
{
	s->g.tensors[s->w_q].n_rows = 31;
}

static void product_rows(struct small *s)
{
	s->g.tensors[s->q].rows = ROWS_OUT;
}

static void norm_weight_width(struct small *s)
{
	s->g.tensors[s->w_norm].channels = 31;
}

static void norm_weight_rows(struct small *s)
{
	s->g.tensors[s->w_norm].n_rows = 2;
}

static void embed_channels(struct small *s)
{
	s->g.tensors[s->embd].channels = 16;
}

static void rope_heads(struct small *s)
{
	op_at(s, s->op_rope)->heads = 3;
}

static void rope_no_heads(struct small *s)
{
	op_at(s, s->op_rope)->heads = 0;
}

static void rope_dims(struct small *s)
{
	s->g.rope.dims = 10;
}

static void rope_dims_odd(struct small *s)
{
	s->g.rope.dims = 3;
}

static void write_not_kv(struct small *s)
{
	op_at(s, s->op_write)->in[1] = s->k;
}

static void attend_unwritten(struct small *s)
{
	op_at(s, s->op_att)->in[1] = graph_kv(&s->g, 1, 'k', 16);
}

static void attend_heads(struct small *s)
{
	op_at(s, s->op_att)->kv_heads = 3;
}

static void attend_no_kv_heads(struct small *s)
{
	op_at(s, s->op_att)->kv_heads = 0;
}

static void add_channels(struct small *s)
{
	op_at(s, s->op_add)->in[1] = s->v;
}

static void add_rows(struct small *s)
{
	s->g.tensors[s->sum].rows = ROWS_OUT;
}

static void add_third_input(struct small *s)
{
	op_at(s, s->op_add)->in[2] = s->q;
}

static void add_second_output(struct small *s)
{
	op_at(s, s->op_add)->out[1] = graph_act(&s->g, ROWS_STEP, 32, "extra");
}

static void add_weight(struct small *s)
{
	op_at(s, s->op_add)->w[0] = s->w_q;
}

static void gather_rows(struct small *s)
{
	s->g.tensors[s->rows].rows = ROWS_STEP;
}

static void output_fixed(struct small *s)
{
	s->g.tensors[s->sum].rows = ROWS_FIXED;
}

static void logits_role(struct small *s)
{
	s->g.tensors[s->logits].role = ROLE_ACTIVATION;
}

static void logits_id(struct small *s)
{
	s->g.logits = s->g.n_tensors + 5;
}

static void no_output(struct small *s)
{
	op_at(s, s->op_add)->out[0] = NONE;
}

static void no_weight(struct small *s)
{
	op_at(s, s->op_q)->w[0] = NONE;
}

static void input_role(struct small *s)
{
	s->g.tensors[s->embd].role = (enum role)77;
}

static void write_rows(struct small *s)
{
	op_at(s, s->op_write)->in[0] = s->rows;
	s->g.tensors[s->rows].role = ROLE_INPUT;
}

static void no_such_op(struct small *s)
{
	op_at(s, s->op_add)->kind = OP_KINDS;
}

static const struct broken broken[] = {
	{"op 1 (rmsnorm)", no_input},
	{"op 1 (rmsnorm)", id_beyond},
	{"op 1 (rmsnorm), tensor att: it is used before it is produced", not_yet_produced},
	{"(rope), tensor q: it is produced twice", produced_twice},
	{"(rmsnorm), tensor q.weight: a weight can't be an input", weight_as_input},
	{"(rmsnorm), tensor norm.weight: only activations", weight_as_output},
	{"(linear), tensor embd: it is no weight", activation_as_weight},
	{"(linear), tensor q.weight: it is no weight with data", weight_without_data},
	{"tensor q.weight: its format is not supported", weight_unsupported},
	{"tensor q.weight: its shape", weight_part_block},
	{"tensor q.weight: its channels are not those of the input", product_in_channels},
	{"tensor q: its channels are not the weight's rows", product_out_channels},
	{"tensor q: its rows", product_rows},
	{"tensor norm.weight", norm_weight_width},
	{"tensor norm.weight", norm_weight_rows},
	{"(embed), tensor embd", embed_channels},
	{"(rope), tensor q: its channels are not heads", rope_heads},
	{"(rope), tensor q: its channels are not heads", rope_no_heads},
	{"(rope)", rope_dims},
	{"(rope)", rope_dims_odd},
	{"(kv_write), tensor k: it is no KV tensor", write_not_kv},
	{"(attention), tensor kv.1.k: it is read before it is written", attend_unwritten},
	{"(attention), tensor qr: heads is no multiple", attend_heads},
	{"(attention), tensor qr: heads is no multiple", attend_no_kv_heads},
	{"(add), tensor v: its channels", add_channels},
	{"(add), tensor sum: its rows", add_rows},
	{"(add), tensor q: the op has no such input", add_third_input},
	{"(add), tensor extra: the op has no such output", add_second_output},
	{"(add), tensor q.weight: the op takes fewer weights", add_weight},
	{"(gather), tensor rows", gather_rows},
	{"(add), tensor sum: an output can't have a fixed number", output_fixed},
	{"the logits", logits_role},
	{"the logits", logits_id},
	{"(add), tensor (none): an output is missing", no_output},
	{"(linear), tensor (none): a weight is missing", no_weight},
	{"tensor embd", input_role},
	{"(kv_write), tensor rows: rows for the KV pool", write_rows},
	{"no such operation", no_such_op},
};

START_TEST(test_broken)
{
	struct small s;
	struct err err = {0};

	build(&s);
	broken[_i].how(&s);
	ck_assert_int_eq(graph_check(&s.g, &err), -EINVAL);
	ck_assert_msg(strstr(err.msg, broken[_i].names) != NULL, "\"%s\" is not in \"%s\"",
		      broken[_i].names, err.msg);
	graph_done(&s.g);
}
END_TEST

/* Int8 activations, as the fusion pass makes them. */
START_TEST(test_quantized)
{
	struct small s;
	struct err err = {0};

	build(&s);
	tensor_id q = graph_act(&s.g, ROWS_STEP, 64, "norm.q");
	tensor_id qs = graph_act(&s.g, ROWS_STEP, 16, "norm.s");
	s.g.tensors[q].format = s.g.tensors[qs].format = FORMAT_I8;
	struct op *norm = op_at(&s, s.op_norm), *product = op_at(&s, s.op_q);
	norm->out[2] = q;
	norm->out[3] = qs;
	product->in[0] = NONE;
	product->in[3] = q;
	product->in[4] = qs;
	ck_assert_msg(graph_check(&s.g, &err) == 0, "%s", err.msg);

	product->in[0] = s.norm; /* both at once */
	ck_assert_int_eq(graph_check(&s.g, &err), -EINVAL);
	product->in[0] = NONE;
	product->in[4] = NONE; /* no scales */
	ck_assert_int_eq(graph_check(&s.g, NULL), -EINVAL);
	product->in[4] = qs;
	s.g.tensors[qs].channels = 3;
	ck_assert_int_eq(graph_check(&s.g, NULL), -EINVAL);
	s.g.tensors[qs].channels = 32;
	s.g.tensors[s.w_q].format = FORMAT_F16; /* takes floats only */
	ck_assert_int_eq(graph_check(&s.g, NULL), -EINVAL);
	graph_done(&s.g);
}
END_TEST

/* What the fusion pass makes is sound too, and its ops are checked like a model's. */
struct broken_fused {
	const char *names;
	enum op_kind kind;
	void (*how)(struct graph *g, struct op *op);
};

static void qkv_no_kv(struct graph *g, struct op *op)
{
	(void)g;
	op->in[1] = op->out[0];
}

static void qkv_heads(struct graph *g, struct op *op)
{
	(void)g;
	op->kv_heads = 3;
}

static void qkv_rope(struct graph *g, struct op *op)
{
	(void)op;
	g->rope.dims = 0;
}

static void qkv_k_rows(struct graph *g, struct op *op)
{
	g->tensors[op->in[1]].channels = 32;
}

static void qkv_w_channels(struct graph *g, struct op *op)
{
	g->tensors[op->w[2]].channels = 96;
}

static void qkv_third_weight(struct graph *g, struct op *op)
{
	(void)g;
	op->w[2] = TENSOR_NONE;
}

static void norm_nothing(struct graph *g, struct op *op)
{
	(void)g;
	op->out[0] = op->out[2] = op->out[3] = TENSOR_NONE;
}

static void norm_gather(struct graph *g, struct op *op)
{
	(void)g;
	op->gather = true;
}

static void norm_gather_out(struct graph *g, struct op *op)
{
	op->in[0] = graph_act(g, ROWS_OUT, 32, "late");
	g->tensors[op->in[0]].role = ROLE_INPUT;
	op->gather = true;
}

static void norm_q_format(struct graph *g, struct op *op)
{
	g->tensors[op->out[2]].format = FORMAT_F32;
}

static void norm_q_channels(struct graph *g, struct op *op)
{
	g->tensors[op->out[2]].channels = 128;
	g->tensors[op->out[3]].channels = 32;
}

static void quantize_rows(struct graph *g, struct op *op)
{
	g->tensors[op->out[2]].rows = g->tensors[op->out[3]].rows = ROWS_OUT;
}

static const struct broken_fused broken_fused[] = {
	{"(qkv_rope_kv)", OP_QKV_ROPE_KV, qkv_no_kv},
	{"heads is no multiple", OP_QKV_ROPE_KV, qkv_heads},
	{"rope dimensions", OP_QKV_ROPE_KV, qkv_rope},
	{"tensor kv.0.k: its channels", OP_QKV_ROPE_KV, qkv_k_rows},
	{"tensor k.weight: its channels", OP_QKV_ROPE_KV, qkv_w_channels},
	{"a weight is missing", OP_QKV_ROPE_KV, qkv_third_weight},
	{"nothing comes out", OP_RMSNORM, norm_nothing},
	{"(rmsnorm), tensor norm.q: its rows", OP_RMSNORM, norm_gather},
	{"rows can be picked of the step's only", OP_RMSNORM, norm_gather_out},
	{"tensor norm.q: it is not int8", OP_RMSNORM, norm_q_format},
	{"tensor norm.q: its channels", OP_RMSNORM, norm_q_channels},
	{"tensor sum.q: its rows", OP_QUANTIZE, quantize_rows},
};

START_TEST(test_fused)
{
	const struct broken_fused *b = _i ? &broken_fused[_i - 1] : NULL;
	struct small s;
	struct graph fused;
	struct err err = {0};
	tensor_id more;

	build(&s);
	/* A product of quantized weights whose input no norm makes. */
	more = graph_act(&s.g, ROWS_STEP, 32, "more");
	add(&s, OP_LINEAR, s.sum, NONE, s.w_q, more);
	ck_assert_msg(fuse_graph(&s.g, 0, false, &fused, &err) == 0, "%s", err.msg);
	ck_assert_msg(graph_check(&fused, &err) == 0, "%s", err.msg);
	ck_assert_uint_lt(fused.n_ops, s.g.n_ops);
	if (b) {
		struct op *op = NULL;
		for (uint32_t i = 0; i < fused.n_ops && !op; i++)
			op = fused.ops[i].kind == b->kind ? &fused.ops[i] : NULL;
		ck_assert_msg(op != NULL, "no %s in the fused graph", op_name(b->kind));
		b->how(&fused, op);
		ck_assert_int_eq(graph_check(&fused, &err), -EINVAL);
		ck_assert_msg(strstr(err.msg, b->names) != NULL, "\"%s\" is not in \"%s\"",
			      b->names, err.msg);
	}
	graph_done(&fused);
	graph_done(&s.g);
}
END_TEST

START_TEST(test_names)
{
	struct graph g;

	graph_init(&g);
	tensor_id id = graph_act(&g, ROWS_STEP, 1, "%0100d", 5);
	ck_assert_uint_eq(strlen(g.tensors[id].name), GRAPH_NAME_MAX - 1);
	for (enum op_kind k = 0; k < OP_KINDS; k++)
		ck_assert_str_ne(op_name(k), "unknown");
	ck_assert_str_eq(op_name(OP_KINDS), "unknown");
	g.failed = true;
	ck_assert_int_eq(graph_check(&g, NULL), -ENOMEM);
	graph_done(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("graph");
	TCase *t = tcase_create("graph");

	tcase_add_test(t, test_sound);
	tcase_add_loop_test(t, test_broken, 0, (int)(sizeof(broken) / sizeof(*broken)));
	tcase_add_test(t, test_quantized);
	tcase_add_loop_test(t, test_fused, 0,
			    1 + (int)(sizeof(broken_fused) / sizeof(*broken_fused)));
	tcase_add_test(t, test_names);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
