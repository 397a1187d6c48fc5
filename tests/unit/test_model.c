/* SPDX-License-Identifier: Apache-2.0 */
/* Models: what a good file gives; every hyperparameter, tensor shape and format that is wrong, or
 * that the graph would not honour, is refused by name. */
#include "model/model.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/tinygguf.h"

static char dir[] = "/tmp/test_model_XXXXXX";
static char path[128];

static void make_dir(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/Some Model_1.5B!.gguf", dir);
}

static void remove_dir(void)
{
	unlink(path);
	rmdir(dir);
	memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
}

static int open_tiny(struct model *m, const struct tinygguf *t, struct err *err)
{
	ck_assert_int_eq(tg_write(t, path), 0);
	return model_open(m, path, err);
}

/* --- good ones --- */

START_TEST(test_good)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct model m;
	struct err err = {0};

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_msg(open_tiny(&m, &t, &err) == 0, "%s", err.msg);
	ck_assert_str_eq(m.id, "some-model_1.5b");
	ck_assert_str_eq(m.architecture, "llama");
	ck_assert_str_eq(m.bos_text, "<|im_start|>");
	ck_assert_str_eq(m.eos_text, "<|im_end|>");
	ck_assert_uint_eq(m.file_bytes, t.n);
	/* embeddings, 2 x (norms, q, o, k, v, ffn), output norm */
	ck_assert_uint_eq(m.n_params,
			  512 * 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96) + 64);
	ck_assert_ptr_nonnull(m.chat);
	ck_assert_uint_eq(tokenizer_n_vocab(m.tokenizer), 512);
	ck_assert_uint_eq(m.graph.n_vocab, 512);
	ck_assert_uint_eq(m.graph.n_layers, 2);
	ck_assert_uint_eq(m.graph.n_embd, 64);
	ck_assert_uint_eq(m.graph.n_kv_heads, 2);
	ck_assert_uint_eq(m.graph.head_dim, 16);
	ck_assert_uint_eq(m.graph.context_train, 256);
	ck_assert_uint_eq(m.graph.rope.dims, 16);
	ck_assert(m.graph.rope.scale_linear == 1);
	ck_assert_ptr_null(m.graph.rope.factors);
	ck_assert_uint_eq(m.graph.n_ops, 1 + 2 * 17 + 3);
	ck_assert_int_eq(graph_check(&m.graph, NULL), 0);
	model_close(&m);
	model_close(&m);
	tg_done(&t);
}
END_TEST

/* A vocabulary alone is enough for tokenizing, and not for running. */
START_TEST(test_vocab_only)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct model m;
	struct err err = {0};

	tg_init(&t);
	tiny_keys(&t, &p);
	ck_assert_int_eq(tg_write(&t, path), 0);
	ck_assert_msg(model_open_vocab(&m, path, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(tokenizer_n_vocab(m.tokenizer), 512);
	ck_assert_ptr_nonnull(m.chat);
	ck_assert_uint_eq(m.graph.n_ops, 0);
	model_close(&m);
	ck_assert_int_eq(open_tiny(&m, &t, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.msg, "tensor 'token_embd.weight' is missing"));
	tg_done(&t);
}
END_TEST

START_TEST(test_rope)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct model m;
	struct err err = {0};

	p.rope_factors = true;
	p.rope_scale = 2.5f;
	p.rope_dims = 8;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_msg(open_tiny(&m, &t, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(m.graph.rope.dims, 8);
	ck_assert(m.graph.rope.scale_linear == 2.5);
	ck_assert(m.graph.rope.base == 10000);
	ck_assert_ptr_nonnull(m.graph.rope.factors);
	ck_assert(m.graph.rope.factors[0] == 1 && m.graph.rope.factors[3] == 2.5f);
	model_close(&m);
	tg_done(&t);
}
END_TEST

/* The name of the model, for the API. */
START_TEST(test_id)
{
	static const struct {
		const char *file, *id; /* the tiny model's general.name is "Tiny Test" */
	} cases[] = {
		{"SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct"},
		{"Llama-3.2-1B-Instruct-Q4_K_M.gguf", "llama-3.2-1b-instruct"},
		{"a-IQ4_NL.gguf", "a"},
		{"a-bf16.gguf", "a"},
		{"A b  C.gguf", "a-b-c"},
		{"--X--.gguf", "x"},
		{"...a", "_..a"},
		{"qwen-Q4.gguf", "qwen-q4"},
		{"Q4_0.gguf", "q4_0"},
		{"\xc3\xa4\xc3\xb6.gguf", "tiny-test"},
	};
	struct tinygguf t;
	struct model m;
	struct tiny_params p = tiny_params_default();

	tg_init(&t);
	tiny_keys(&t, &p);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct err err = {0};
		char file[128];
		snprintf(file, sizeof(file), "%s/%s", dir, cases[i].file);
		ck_assert_int_eq(tg_write(&t, file), 0);
		ck_assert_msg(model_open_vocab(&m, file, &err) == 0, "%s", err.msg);
		ck_assert_str_eq(m.id, cases[i].id);
		model_close(&m);
		unlink(file);
	}
	tg_done(&t);
}
END_TEST

/* --- bad ones --- */

/* A number written over the value of a key. */
static const struct bad_key {
	const char *key;
	uint64_t value;
	int code;
	const char *message;
} bad_keys[] = {
	{"llama.block_count", 0, -EBADMSG, "key 'llama.block_count' is 0"},
	{"llama.block_count", UINT32_MAX, -EBADMSG, "key 'llama.block_count' is 4294967295"},
	{"llama.block_count", 1, -ENOTSUP, "has no place in the llama architecture"},
	{"llama.block_count", 3, -EBADMSG, "tensor 'blk.2.attn_norm.weight' is missing"},
	{"llama.context_length", 0, -EBADMSG, "key 'llama.context_length' is 0"},
	{"llama.context_length", UINT32_MAX, -EBADMSG, "key 'llama.context_length'"},
	{"llama.embedding_length", 0, -EBADMSG, "key 'llama.embedding_length' is 0"},
	{"llama.embedding_length", UINT32_MAX, -EBADMSG, "key 'llama.embedding_length'"},
	{"llama.embedding_length", 63, -EBADMSG, "key 'llama.embedding_length': is no multiple"},
	{"llama.embedding_length", 60, -EBADMSG, "makes heads of an odd size"},
	{"llama.embedding_length", 128, -EBADMSG,
	 "tensor 'token_embd.weight' has the shape 64 x 512"},
	{"llama.feed_forward_length", 0, -EBADMSG, "key 'llama.feed_forward_length' is 0"},
	{"llama.feed_forward_length", 64, -EBADMSG,
	 "tensor 'blk.0.ffn_gate.weight' has the shape 64 x 96 x 1 x 1, must be 64 x 64"},
	{"llama.attention.head_count", 0, -EBADMSG, "key 'llama.attention.head_count' is 0"},
	{"llama.attention.head_count", 3, -EBADMSG, "is no multiple of attention.head_count"},
	{"llama.attention.head_count", UINT32_MAX, -EBADMSG, "key 'llama.attention.head_count'"},
	{"llama.attention.head_count", 8, -EBADMSG,
	 "llama.rope.dimension_count' is 16, must be 2 to 8"},
	{"llama.attention.head_count_kv", 0, -EBADMSG, "key 'llama.attention.head_count_kv' is 0"},
	{"llama.attention.head_count_kv", 3, -EBADMSG, "is no multiple of attention.head_count_kv"},
	{"llama.attention.head_count_kv", 8, -EBADMSG, "is no multiple of attention.head_count_kv"},
	{"llama.attention.head_count_kv", 1, -EBADMSG,
	 "tensor 'blk.0.attn_k.weight' has the shape"},
	{"llama.attention.layer_norm_rms_epsilon", 0, -EBADMSG, "layer_norm_rms_epsilon' is 0"},
	{"llama.attention.layer_norm_rms_epsilon", 0x7fc00000, -EBADMSG,
	 "layer_norm_rms_epsilon' is nan"},
	{"llama.attention.layer_norm_rms_epsilon", 0xbf800000, -EBADMSG,
	 "layer_norm_rms_epsilon' is -1"},
	{"llama.rope.freq_base", 0, -EBADMSG, "key 'llama.rope.freq_base' is 0"},
	{"llama.rope.freq_base", 0x7f800000, -EBADMSG, "key 'llama.rope.freq_base' is inf"},
	{"llama.rope.dimension_count", 0, -EBADMSG, "key 'llama.rope.dimension_count' is 0"},
	{"llama.rope.dimension_count", 18, -EBADMSG, "key 'llama.rope.dimension_count' is 18"},
	{"llama.rope.dimension_count", 7, -EBADMSG, "key 'llama.rope.dimension_count': is odd"},
	{"llama.vocab_size", 511, -EBADMSG, "key 'llama.vocab_size': is not the number of rows"},
};

static void expect(struct tinygguf *t, int code, const char *message)
{
	struct model m;
	struct err err = {0};
	int r = open_tiny(&m, t, &err);

	ck_assert_msg(strstr(err.msg, message) != NULL, "\"%s\" is not in \"%s\"", message,
		      err.msg);
	ck_assert_int_eq(r, code);
	ck_assert_int_eq(err.code, code);
	ck_assert_ptr_nonnull(strstr(err.msg, path));
	ck_assert_ptr_null(m.tokenizer);
	tg_done(t);
}

START_TEST(test_bad_key)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_value(&t, bad_keys[_i].key), bad_keys[_i].value, 4);
	expect(&t, bad_keys[_i].code, bad_keys[_i].message);
}
END_TEST

/* A model that lacks a key: another name for it. */
START_TEST(test_missing_key)
{
	static const char *const keys[] = {
		"general.architecture",
		"llama.block_count",
		"llama.context_length",
		"llama.embedding_length",
		"llama.feed_forward_length",
		"llama.attention.head_count",
		"llama.attention.layer_norm_rms_epsilon",
		"tokenizer.ggml.model",
		"tokenizer.ggml.tokens",
	};
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	char message[100];

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct model m;
		struct err err = {0};
		ck_assert_int_eq(tiny_model(&t, &p), 0);
		t.data[tg_find_value(&t, keys[i]) - 5] = '~'; /* the key's last character */
		snprintf(message, sizeof(message), "'%s'", keys[i]);
		ck_assert_int_lt(open_tiny(&m, &t, &err), 0);
		ck_assert_msg(strstr(err.msg, keys[i]) != NULL, "%s is not in \"%s\"", keys[i],
			      err.msg);
		ck_assert_int_ne(err.code, -ENOENT); /* the file is there */
		tg_done(&t);
	}
}
END_TEST

/* Keys put in front of a sound model's. */
static void more_key(struct tinygguf *t, const char *key, enum gguf_type type, uint32_t v)
{
	tg_init(t);
	tg_key(t, key, type);
	if (type == GGUF_BOOL)
		tg_u8(t, (uint8_t)v);
	else
		tg_u32(t, v);
}

/* The header and keys of `t`, then keys and tensors of a tiny model. */
static void add_model(struct tinygguf *t, const struct tiny_params *p)
{
	struct tinygguf model;

	ck_assert_int_eq(tiny_model(&model, p), 0);
	tg_patch(t, 8, model.n_tensors, 8);
	tg_patch(t, 16, t->n_kvs + model.n_kvs, 8);
	/* Keys have no alignment; what they move is made up for by a key of padding. */
	size_t more = t->n - 24, pad = 64 - (more + 8 + 3 + 4 + 8) % 32;
	tg_bytes(t, "\3\0\0\0\0\0\0\0pad\10\0\0\0", 15);
	tg_u64(t, pad);
	for (size_t i = 0; i < pad; i++)
		tg_bytes(t, "x", 1);
	tg_patch(t, 16, t->n_kvs + model.n_kvs + 1, 8);
	ck_assert_uint_eq((t->n - 24) % 32, 0);
	tg_bytes(t, model.data + 24, model.n - 24);
	tg_done(&model);
}

static const struct more {
	const char *key;
	enum gguf_type type;
	uint32_t value;
	int code; /* 0: fine */
} more_keys[] = {
	{"llama.expert_count", GGUF_U32, 8, -ENOTSUP},
	{"llama.expert_count", GGUF_U32, 0, 0},
	{"llama.attention.sliding_window", GGUF_U32, 128, -ENOTSUP},
	{"llama.use_parallel_residual", GGUF_BOOL, 1, -ENOTSUP},
	{"llama.use_parallel_residual", GGUF_BOOL, 0, 0},
	{"llama.attention.clamp_kqv", GGUF_F32, 0x3f800000, -ENOTSUP},
	{"llama.logit_scale", GGUF_F32, 0x3f800000, -ENOTSUP},
	{"llama.attention.key_length", GGUF_U32, 16, 0},
	{"llama.attention.key_length", GGUF_U32, 32, -ENOTSUP},
	{"llama.attention.value_length", GGUF_U32, 8, -ENOTSUP},
	{"llama.attention.value_length", GGUF_U32, 0, -EBADMSG},
	{"llama.rope.scaling.attn_factor", GGUF_F32, 0x40000000, -ENOTSUP},
	{"llama.rope.scaling.factor", GGUF_F32, 0x40000000, 0},
	{"llama.rope.scaling.factor", GGUF_F32, 0xc0000000, -EBADMSG},
	{"llama.rope.scaling.factor", GGUF_F32, 0x00000001, -EBADMSG},
	{"llama.rope.scaling.factor", GGUF_F32, 0, 0},
	{"llama.rope.scaling.factor", GGUF_U32, 2, -EBADMSG},
};

START_TEST(test_more_keys)
{
	const struct more *k = &more_keys[_i];
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct model m;
	struct err err = {0};

	more_key(&t, k->key, k->type, k->value);
	add_model(&t, &p);
	if (k->code) {
		expect(&t, k->code, k->key);
		return;
	}
	ck_assert_msg(open_tiny(&m, &t, &err) == 0, "%s", err.msg);
	model_close(&m);
	tg_done(&t);
}
END_TEST

START_TEST(test_rope_type)
{
	static const struct {
		const char *type;
		int code;
	} cases[] = {{"none", 0},
		     {"linear", 0},
		     {"yarn", -ENOTSUP},
		     {"longrope", -ENOTSUP},
		     {"", -ENOTSUP}};
	struct tiny_params p = tiny_params_default();

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tinygguf t;
		struct model m;
		struct err err = {0};
		tg_init(&t);
		tg_kv_str(&t, "llama.rope.scaling.type", cases[i].type);
		tg_kv_f32(&t, "llama.rope.scaling.factor", 4);
		add_model(&t, &p);
		int r = open_tiny(&m, &t, &err);
		ck_assert_int_eq(r, cases[i].code);
		if (r == 0)
			ck_assert(m.graph.rope.scale_linear == (i ? 4 : 1));
		else
			ck_assert_ptr_nonnull(strstr(err.msg, "only none and linear"));
		if (r == 0)
			model_close(&m);
		tg_done(&t);
	}
}
END_TEST

/* --- tensors --- */

START_TEST(test_tensors)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;

	/* a format that is known and not supported */
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_tensor(&t, "blk.1.ffn_up.weight") + 20, 23, 4);
	expect(&t, -ENOTSUP,
	       "tensor 'blk.1.ffn_up.weight' has the format IQ4_XS, supported are F32, F16, BF16, "
	       "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4 and Q2_K to Q6_K");
	/* a norm that is not F32 */
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_tensor(&t, "blk.1.ffn_norm.weight") + 12, FORMAT_F16, 4);
	expect(&t, -ENOTSUP,
	       "tensor 'blk.1.ffn_norm.weight' has the format F16, supported for norms is F32");
	/* shapes */
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_tensor(&t, "blk.0.attn_q.weight") + 12, 63, 8);
	expect(&t, -EBADMSG,
	       "tensor 'blk.0.attn_q.weight' has the shape 64 x 63 x 1 x 1, must be 64 x 64");
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_tensor(&t, "output_norm.weight") + 4, 63, 8);
	expect(&t, -EBADMSG, "tensor 'output_norm.weight' has the shape 63");
	/* a name that the architecture does not have */
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	t.data[tg_find_tensor(&t, "blk.0.attn_q.weight") - 1] = '~';
	expect(&t, -EBADMSG, "tensor 'blk.0.attn_q.weight' is missing");
	/* fewer rows than tokens */
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	tg_patch(&t, tg_find_tensor(&t, "token_embd.weight") + 12, 500, 8);
	tg_patch(&t, tg_find_value(&t, "llama.vocab_size"), 500, 4);
	expect(&t, -EBADMSG,
	       "tensor 'token_embd.weight' has 500 rows, but key 'tokenizer.ggml.tokens' 512");
	/* rope factors that divide by zero */
	p.rope_factors = true;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	uint64_t offset = 0;
	memcpy(&offset, t.data + tg_find_tensor(&t, "rope_freqs.weight") + 16, 8);
	tg_patch(&t, t.data_start + offset + 4, 0, 4);
	expect(&t, -EBADMSG, "tensor 'rope_freqs.weight': element 1 is 0, must be above 0");
}
END_TEST

/* Biases are refused, not left out. */
START_TEST(test_bias)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;

	p.rope_factors = true;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	memcpy(t.data + tg_find_tensor(&t, "rope_freqs.weight") - 17, "blk.0.attn_q.bias", 17);
	expect(&t, -ENOTSUP, "tensor 'blk.0.attn_q.bias' is a bias");
}
END_TEST

START_TEST(test_architecture)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	t.data[tg_find_value(&t, "general.architecture") + 8] = 'L';
	expect(&t, -ENOTSUP, "architecture 'Llama' is not supported (supported: llama)");
}
END_TEST

/* A template that can't be parsed: no model, but a vocabulary with the reason. */
START_TEST(test_template)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct model m;
	struct err err = {0};

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	t.data[tg_find_value(&t, "tokenizer.chat_template") + 8 + 3] = '!';
	ck_assert_int_eq(tg_write(&t, path), 0);
	ck_assert_msg(model_open_vocab(&m, path, &err) == 0, "%s", err.msg);
	ck_assert_ptr_null(m.chat);
	ck_assert_int_lt(m.chat_error.code, 0);
	ck_assert_ptr_nonnull(strstr(m.chat_error.msg, "tokenizer.chat_template"));
	model_close(&m);
	ck_assert_int_lt(model_open(&m, path, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "tokenizer.chat_template"));
	tg_done(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model");
	TCase *good = tcase_create("good"), *bad = tcase_create("bad");

	tcase_add_checked_fixture(good, make_dir, remove_dir);
	tcase_add_test(good, test_good);
	tcase_add_test(good, test_vocab_only);
	tcase_add_test(good, test_rope);
	tcase_add_test(good, test_id);
	suite_add_tcase(s, good);
	tcase_set_timeout(bad, 60);
	tcase_add_checked_fixture(bad, make_dir, remove_dir);
	tcase_add_loop_test(bad, test_bad_key, 0, (int)(sizeof(bad_keys) / sizeof(*bad_keys)));
	tcase_add_test(bad, test_missing_key);
	tcase_add_loop_test(bad, test_more_keys, 0, (int)(sizeof(more_keys) / sizeof(*more_keys)));
	tcase_add_test(bad, test_rope_type);
	tcase_add_test(bad, test_tensors);
	tcase_add_test(bad, test_bias);
	tcase_add_test(bad, test_architecture);
	tcase_add_test(bad, test_template);
	suite_add_tcase(s, bad);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
