/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the tokenizer's tests. */
#include "tests/unit/test_tokenizer_util.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void data_path(char *path, size_t size, const char *name, const char *extension)
{
	const char *srcdir = getenv("srcdir");

	snprintf(path, size, "%s/tests/data/tokenizer/%s%s", srcdir ? srcdir : ".", name,
		 extension);
}

void vocab_open_path(struct vocab *v, const char *path)
{
	struct err err = {0};

	*v = (struct vocab){0};
	if (gguf_open(&v->file, path, &err) < 0 || tokenizer_new(&v->file, &v->t, &err) < 0)
		ck_abort_msg("%s", err.msg);
}

void vocab_open(struct vocab *v, const char *name)
{
	char path[4096];

	data_path(path, sizeof(path), name, ".gguf");
	vocab_open_path(v, path);
}

void vocab_close(struct vocab *v)
{
	tokenizer_free(v->t);
	gguf_close(&v->file);
}

struct token_list must_encode(const struct tokenizer *t, const char *text, size_t len,
			      bool parse_special)
{
	struct token_list ids = {0};
	struct err err = {0};

	if (tokenizer_encode(t, text, len, parse_special, SIZE_MAX, &ids, &err) < 0)
		ck_abort_msg("%s", err.msg);
	return ids;
}

struct strbuf must_bytes(const struct tokenizer *t, const struct token_list *ids)
{
	struct strbuf sb = {0};
	size_t failed = 0;

	/* Counted, since each of Check's assertions is a system call. */
	for (size_t i = 0; i < ids->n; i++)
		failed += tokenizer_bytes(t, ids->ids[i], true, &sb) != 0;
	ck_assert_uint_eq(failed, 0);
	return sb;
}

void put_strs(struct tinygguf *w, const char *key, const char *const *values, size_t n)
{
	tg_kv_array(w, key, GGUF_STRING, n);
	for (size_t i = 0; i < n; i++)
		tg_str(w, values[i]);
}

void put_i32s(struct tinygguf *w, const char *key, const int32_t *values, size_t n)
{
	tg_kv_array(w, key, GGUF_I32, n);
	for (size_t i = 0; i < n; i++)
		tg_u32(w, (uint32_t)values[i]);
}

void writer_open(struct tinygguf *w, struct gguf *ret)
{
	struct err err = {0};
	char path[32];
	int fd, r;

	tg_data(w);
	ck_assert(!w->failed);
	ck_assert_int_eq(tg_memfd(w->data, w->n, &fd, path), 0);
	tg_done(w);
	r = gguf_open(ret, path, &err);
	close(fd);
	if (r < 0)
		ck_abort_msg("%s", err.msg);
}
