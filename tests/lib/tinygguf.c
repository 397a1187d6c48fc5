/* SPDX-License-Identifier: Apache-2.0 */
/* The low-level part: a growing buffer with the fields of a GGUF file. */
#include "tests/lib/tinygguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AT_N_TENSORS 8
#define AT_N_KVS 16

static void add_zeros(struct tinygguf *t, size_t n)
{
	if (t->failed)
		return;
	if (n > t->cap - t->n) {
		size_t cap = t->cap + t->cap / 2 + n + 1024;
		uint8_t *p = realloc(t->data, cap);
		if (!p) {
			t->failed = true;
			return;
		}
		t->data = p;
		t->cap = cap;
	}
	memset(t->data + t->n, 0, n);
	t->n += n;
}

void tg_bytes(struct tinygguf *t, const void *data, size_t n)
{
	add_zeros(t, n);
	if (!t->failed && n)
		memcpy(t->data + t->n - n, data, n);
}

static void store(uint8_t *p, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void record(struct tinygguf *t, size_t bytes)
{
	if (t->n_fields == t->cap_fields) {
		size_t cap = t->cap_fields * 2 + 256;
		struct tg_field *p = realloc(t->fields, cap * sizeof(*p));
		if (!p) {
			t->failed = true;
			return;
		}
		t->fields = p;
		t->cap_fields = cap;
	}
	t->fields[t->n_fields++] = (struct tg_field){.at = t->n, .bytes = (uint8_t)bytes};
}

static void add_uint(struct tinygguf *t, uint64_t v, size_t bytes)
{
	uint8_t b[8];

	record(t, bytes);
	store(b, v, bytes);
	tg_bytes(t, b, bytes);
}

static void patch_u64(struct tinygguf *t, size_t at, uint64_t v)
{
	if (!t->failed)
		store(t->data + at, v, 8);
}

void tg_init(struct tinygguf *t)
{
	memset(t, 0, sizeof(*t));
	t->alignment = 32;
	tg_bytes(t, "GGUF", 4);
	tg_u32(t, 3);
	tg_u64(t, 0);
	tg_u64(t, 0);
}

void tg_done(struct tinygguf *t)
{
	free(t->data);
	free(t->fields);
	memset(t, 0, sizeof(*t));
}

void tg_u8(struct tinygguf *t, uint8_t v)
{
	add_uint(t, v, 1);
}

void tg_u16(struct tinygguf *t, uint16_t v)
{
	add_uint(t, v, 2);
}

void tg_u32(struct tinygguf *t, uint32_t v)
{
	add_uint(t, v, 4);
}

void tg_u64(struct tinygguf *t, uint64_t v)
{
	add_uint(t, v, 8);
}

void tg_f32(struct tinygguf *t, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	tg_u32(t, bits);
}

void tg_str(struct tinygguf *t, const char *s)
{
	size_t n = strlen(s);

	tg_u64(t, n);
	tg_bytes(t, s, n);
}

static void add_tag(struct tinygguf *t, uint32_t type)
{
	tg_u32(t, type);
	if (!t->failed)
		t->fields[t->n_fields - 1].is_tag = true;
}

void tg_key(struct tinygguf *t, const char *key, enum gguf_type type)
{
	tg_str(t, key);
	add_tag(t, type);
	patch_u64(t, AT_N_KVS, ++t->n_kvs);
}

void tg_kv_u32(struct tinygguf *t, const char *key, uint32_t v)
{
	tg_key(t, key, GGUF_U32);
	tg_u32(t, v);
}

void tg_kv_f32(struct tinygguf *t, const char *key, float v)
{
	tg_key(t, key, GGUF_F32);
	tg_f32(t, v);
}

void tg_kv_bool(struct tinygguf *t, const char *key, bool v)
{
	tg_key(t, key, GGUF_BOOL);
	tg_u8(t, v);
}

void tg_kv_str(struct tinygguf *t, const char *key, const char *v)
{
	tg_key(t, key, GGUF_STRING);
	tg_str(t, v);
}

void tg_kv_array(struct tinygguf *t, const char *key, enum gguf_type elem, uint64_t count)
{
	tg_key(t, key, GGUF_ARRAY);
	add_tag(t, elem);
	tg_u64(t, count);
}

/* Where what follows the length-prefixed text `s` begins. */
static size_t find_after(const struct tinygguf *t, const char *s)
{
	struct tinygguf want = {0};
	const uint8_t *at = NULL;
	size_t n;

	tg_str(&want, s);
	n = want.n;
	if (!want.failed && !t->failed)
		at = memmem(t->data, t->n, want.data, n);
	tg_done(&want);
	return at ? (size_t)(at - t->data) + n : 0;
}

size_t tg_find_value(const struct tinygguf *t, const char *key)
{
	size_t at = find_after(t, key);

	return at ? at + 4 : 0;
}

size_t tg_find_tensor(const struct tinygguf *t, const char *name)
{
	return find_after(t, name);
}

void tg_patch(struct tinygguf *t, size_t at, uint64_t v, size_t bytes)
{
	if (!t->failed && at && at + bytes <= t->n)
		store(t->data + at, v, bytes);
}

static uint64_t align_up(uint64_t v, uint32_t align)
{
	return (v + align - 1) / align * align;
}

uint64_t tg_tensor(struct tinygguf *t, const char *name, uint32_t type, uint32_t n_dims,
		   const uint64_t *dims)
{
	const struct format_info *f = format_get(type);
	uint64_t offset = align_up(t->data_bytes, t->alignment), elements = 1;

	tg_str(t, name);
	tg_u32(t, n_dims);
	for (uint32_t i = 0; i < n_dims; i++) {
		tg_u64(t, dims[i]);
		elements *= dims[i];
	}
	add_tag(t, type);
	tg_u64(t, offset);
	t->data_bytes = offset + (f ? elements / f->block * f->block_bytes : 0);
	patch_u64(t, AT_N_TENSORS, ++t->n_tensors);
	return offset;
}

void tg_data(struct tinygguf *t)
{
	t->data_start = align_up(t->n, t->alignment);
	add_zeros(t, t->data_start - t->n);
	add_zeros(t, t->data_bytes);
}

static int write_all(int fd, const uint8_t *data, size_t n)
{
	while (n) {
		ssize_t w = write(fd, data, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		data += w;
		n -= (size_t)w;
	}
	return 0;
}

int tg_write(const struct tinygguf *t, const char *path)
{
	int fd, r;

	if (t->failed)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = write_all(fd, t->data, t->n);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

int tg_memfd(const void *data, size_t n, int *ret_fd, char path[32])
{
	int fd = memfd_create("tiny.gguf", MFD_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, data, n);
	if (r < 0) {
		close(fd);
		return r;
	}
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	*ret_fd = fd;
	return 0;
}
