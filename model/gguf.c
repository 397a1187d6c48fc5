/* SPDX-License-Identifier: Apache-2.0 */
/* Opening GGUF files: one pass over header, keys and tensor descriptions that checks every count,
 * length, type and offset against the file's size and against fixed limits, before it is used. */
#include "model/gguf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/format.h"

#define KEY_MAX_BYTES 65535
#define STRING_MAX_BYTES (UINT64_C(16) << 20)
#define ARRAY_MAX (UINT64_C(4) << 20)
#define KVS_MAX 65536
#define TENSORS_MAX 262144
#define NAME_MAX_BYTES 64 /* of a tensor; so the specification */
#define DIMS_MAX 4
#define ALIGN_MIN 8
#define ALIGN_MAX 65536
#define ALIGN_DEFAULT 32

/* The least that a key or a tensor takes, so that a count can be held against what is left. */
#define KV_MIN_BYTES (8 + 1 + 4 + 1)
#define TENSOR_MIN_BYTES (8 + 1 + 4 + 8 + 4 + 8)

/* Where the reader is, and what for: `what` begins each message. */
struct reader {
	const uint8_t *data;
	size_t size, pos;
	const char *path;
	char what[120];
	struct err *err;
};

static int bad(const struct reader *rd, size_t at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(const struct reader *rd, size_t at, const char *fmt, ...)
{
	char msg[240];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return err_set(rd->err, -EBADMSG, "%s: %s: %s (at byte %zu)", rd->path, rd->what, msg, at);
}

/* A name out of the file made fit for a message: printable and not too long. */
static void name_what(struct reader *rd, const char *kind, struct gguf_str name)
{
	char text[81];
	size_t n = min_size(name.len, sizeof(text) - 1);

	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)name.s[i];
		text[i] = ch >= 0x20 && ch < 0x7f ? (char)ch : '?';
	}
	text[n] = '\0';
	snprintf(rd->what, sizeof(rd->what), "%s '%s'%s", kind, text, n < name.len ? "..." : "");
}

/* `bytes` bytes at the position, which moves on; NULL (and an error) when the file ends before. */
static const uint8_t *take(struct reader *rd, uint64_t bytes)
{
	if (bytes > rd->size - rd->pos) {
		bad(rd, rd->pos, "the file ends here, %llu more bytes are needed",
		    (unsigned long long)(bytes - (rd->size - rd->pos)));
		return NULL;
	}
	const uint8_t *p = rd->data + rd->pos;
	rd->pos += (size_t)bytes;
	return p;
}

static uint64_t load_uint(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static int take_u32(struct reader *rd, uint32_t *ret)
{
	const uint8_t *p = take(rd, 4);

	if (!p)
		return -EBADMSG;
	*ret = (uint32_t)load_uint(p, 4);
	return 0;
}

static int take_u64(struct reader *rd, uint64_t *ret)
{
	const uint8_t *p = take(rd, 8);

	if (!p)
		return -EBADMSG;
	*ret = load_uint(p, 8);
	return 0;
}

static int take_str(struct reader *rd, uint64_t min, uint64_t max, struct gguf_str *ret)
{
	size_t at = rd->pos;
	uint64_t len;
	int r = take_u64(rd, &len);

	if (r < 0)
		return r;
	if (len < min || len > max)
		return bad(rd, at, "a string of %llu bytes, allowed are %llu to %llu",
			   (unsigned long long)len, (unsigned long long)min,
			   (unsigned long long)max);
	const uint8_t *p = take(rd, len);
	if (!p)
		return -EBADMSG;
	ret->s = (const char *)p;
	ret->len = (size_t)len;
	return 0;
}

static int check_bools(const struct reader *rd, const struct gguf_kv *kv)
{
	for (uint64_t i = 0; i < kv->count; i++) {
		if (kv->data[i] > 1)
			return bad(rd, (size_t)(kv->data + i - rd->data), "a bool of value %u",
				   kv->data[i]);
	}
	return 0;
}

/* `kv->count` elements of type `type`. */
static int read_values(struct reader *rd, struct gguf_kv *kv, enum gguf_type type)
{
	struct gguf_str s;
	uint64_t bytes;

	kv->data = rd->data + rd->pos;
	if (type == GGUF_STRING) {
		if (kv->count > (rd->size - rd->pos) / 8)
			return bad(rd, rd->pos,
				   "an array of %llu strings, more than the file has room for",
				   (unsigned long long)kv->count);
		for (uint64_t i = 0; i < kv->count; i++) {
			int r = take_str(rd, 0, STRING_MAX_BYTES, &s);
			if (r < 0)
				return r;
		}
		return 0;
	}
	bytes = kv->count * gguf_type_bytes(type); /* at most ARRAY_MAX * 8 */
	if (!take(rd, bytes))
		return -EBADMSG;
	return type == GGUF_BOOL ? check_bools(rd, kv) : 0;
}

static int read_array(struct reader *rd, struct gguf_kv *kv)
{
	size_t at = rd->pos;
	uint32_t elem;
	int r;

	if ((r = take_u32(rd, &elem)) < 0)
		return r;
	if (elem >= GGUF_TYPES)
		return bad(rd, at, "an array of the unknown type %u", elem);
	if (elem == GGUF_ARRAY)
		return bad(rd, at, "an array of arrays is not supported");
	kv->elem = (enum gguf_type)elem;
	at = rd->pos;
	if ((r = take_u64(rd, &kv->count)) < 0)
		return r;
	if (kv->count > ARRAY_MAX)
		return bad(rd, at, "an array of %llu elements, at most %llu are allowed",
			   (unsigned long long)kv->count, (unsigned long long)ARRAY_MAX);
	return read_values(rd, kv, kv->elem);
}

static int read_kv(struct reader *rd, uint64_t index, struct gguf_kv *kv)
{
	uint32_t type;
	int r;

	snprintf(rd->what, sizeof(rd->what), "key number %llu", (unsigned long long)index);
	kv->offset = rd->pos;
	if ((r = take_str(rd, 1, KEY_MAX_BYTES, &kv->key)) < 0)
		return r;
	name_what(rd, "key", kv->key);
	size_t at = rd->pos;
	if ((r = take_u32(rd, &type)) < 0)
		return r;
	if (type >= GGUF_TYPES)
		return bad(rd, at, "a value of the unknown type %u", type);
	kv->type = kv->elem = (enum gguf_type)type;
	kv->count = 1;
	if (kv->type == GGUF_ARRAY)
		return read_array(rd, kv);
	return read_values(rd, kv, kv->type);
}

static int index_put(struct reader *rd, struct strmap *m, struct gguf_str name, uint64_t i,
		     size_t at)
{
	uint32_t before;

	if (strmap_get(m, name.s, name.len, &before))
		return bad(rd, at, "it is there twice");
	if (strmap_put(m, name.s, name.len, (uint32_t)i) < 0)
		return err_set(rd->err, -ENOMEM, "%s: out of memory", rd->path);
	return 0;
}

static int read_kvs(struct reader *rd, struct gguf *g)
{
	int r;

	g->kvs = calloc(g->n_kvs ? g->n_kvs : 1, sizeof(*g->kvs));
	if (!g->kvs || strmap_init(&g->kv_index, g->n_kvs) < 0)
		return err_set(rd->err, -ENOMEM, "%s: out of memory for %llu keys", rd->path,
			       (unsigned long long)g->n_kvs);
	for (uint64_t i = 0; i < g->n_kvs; i++) {
		struct gguf_kv *kv = &g->kvs[i];
		if ((r = read_kv(rd, i, kv)) < 0 ||
		    (r = index_put(rd, &g->kv_index, kv->key, i, (size_t)kv->offset)) < 0)
			return r;
	}
	return 0;
}

/* Shape and type: all but the place of the data. */
static int read_tensor(struct reader *rd, uint64_t index, struct gguf_tensor *t)
{
	size_t at;
	int r;

	snprintf(rd->what, sizeof(rd->what), "tensor number %llu", (unsigned long long)index);
	if ((r = take_str(rd, 1, NAME_MAX_BYTES, &t->name)) < 0)
		return r;
	name_what(rd, "tensor", t->name);
	at = rd->pos;
	if ((r = take_u32(rd, &t->n_dims)) < 0)
		return r;
	if (t->n_dims < 1 || t->n_dims > DIMS_MAX)
		return bad(rd, at, "%u dimensions, allowed are 1 to %u", t->n_dims, DIMS_MAX);
	for (uint32_t i = 0; i < DIMS_MAX; i++) {
		t->dims[i] = 1;
		at = rd->pos;
		if (i < t->n_dims && (r = take_u64(rd, &t->dims[i])) < 0)
			return r;
		if (!t->dims[i] || t->dims[i] > INT32_MAX)
			return bad(rd, at, "dimension %u is %llu, allowed are 1 to %d", i,
				   (unsigned long long)t->dims[i], INT32_MAX);
	}
	at = rd->pos;
	if ((r = take_u32(rd, &t->type)) < 0)
		return r;
	if (!strcmp(format_name(t->type), "unknown"))
		return bad(rd, at, "the unknown element type %u", t->type);
	return take_u64(rd, &t->offset);
}

/* Bytes of the data; 0 for formats whose blocks are not known here. */
static int tensor_bytes(const struct reader *rd, struct gguf_tensor *t)
{
	const struct format_info *f = format_get(t->type);
	size_t n = (size_t)t->dims[0];

	t->bytes = 0;
	if (!f)
		return 0;
	if (n % f->block)
		return bad(rd, rd->pos,
			   "rows of %zu elements are no multiple of the block of %s (%u)", n,
			   f->name, f->block);
	if (!ck_mul(n / f->block, f->block_bytes, &n) || !ck_mul(n, (size_t)t->dims[1], &n) ||
	    !ck_mul(n, (size_t)t->dims[2], &n) || !ck_mul(n, (size_t)t->dims[3], &n))
		return bad(rd, rd->pos, "its size is beyond all memory");
	t->bytes = n;
	return 0;
}

/* Where the data lies: the one place where offset and size meet the file's size. */
static int place_tensor(const struct reader *rd, struct gguf_tensor *t, size_t data_start,
			uint32_t align)
{
	size_t start, end;

	if (t->offset % align)
		return bad(rd, rd->pos, "offset %llu is no multiple of the alignment %u",
			   (unsigned long long)t->offset, align);
	if (!ck_add(data_start, (size_t)t->offset, &start) ||
	    !ck_add(start, (size_t)t->bytes, &end) || end > rd->size)
		return bad(rd, rd->pos,
			   "data of %llu bytes at offset %llu of the data section do not lie in "
			   "the file of %zu bytes",
			   (unsigned long long)t->bytes, (unsigned long long)t->offset, rd->size);
	t->offset = start;
	t->data = format_get(t->type) ? rd->data + start : NULL;
	return 0;
}

static int read_alignment(const struct gguf *g, struct err *err, uint32_t *ret)
{
	static const char key[] = "general.alignment";
	int r;

	*ret = ALIGN_DEFAULT;
	if (!gguf_find(g, key))
		return 0;
	r = gguf_get_u32(g, key, ALIGN_MIN, ALIGN_MAX, ret, err);
	if (r == 0 && *ret & (*ret - 1))
		return err_set(err, -EBADMSG, "%s: key '%s': %u is no power of two", g->path, key,
			       *ret);
	return r;
}

static int read_tensors(struct reader *rd, struct gguf *g)
{
	uint32_t align;
	size_t data_start, at;
	int r = read_alignment(g, rd->err, &align);

	if (r < 0)
		return r;
	g->tensors = calloc(g->n_tensors ? g->n_tensors : 1, sizeof(*g->tensors));
	if (!g->tensors || strmap_init(&g->tensor_index, g->n_tensors) < 0)
		return err_set(rd->err, -ENOMEM, "%s: out of memory for %llu tensors", rd->path,
			       (unsigned long long)g->n_tensors);
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		at = rd->pos;
		if ((r = read_tensor(rd, i, &g->tensors[i])) < 0 ||
		    (r = index_put(rd, &g->tensor_index, g->tensors[i].name, i, at)) < 0 ||
		    (r = tensor_bytes(rd, &g->tensors[i])) < 0)
			return r;
	}
	if (!ck_align(rd->pos, align, &data_start))
		return bad(rd, rd->pos, "the data section can't be placed");
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		name_what(rd, "tensor", g->tensors[i].name);
		if ((r = place_tensor(rd, &g->tensors[i], data_start, align)) < 0)
			return r;
	}
	return 0;
}

static int read_version(struct reader *rd, struct gguf *g)
{
	const uint8_t *magic = take(rd, 4);
	int r;

	if (!magic)
		return -EBADMSG;
	if (memcmp(magic, "GGUF", 4))
		return bad(rd, 0, "it does not begin with \"GGUF\": no GGUF file");
	if ((r = take_u32(rd, &g->version)) < 0)
		return r;
	if (g->version == 2 || g->version == 3)
		return 0;
	if (__builtin_bswap32(g->version) >= 1 && __builtin_bswap32(g->version) <= 3)
		return err_set(rd->err, -ENOTSUP,
			       "%s: a big-endian GGUF file: only little-endian ones are supported",
			       rd->path);
	return err_set(rd->err, -ENOTSUP, "%s: GGUF version %u is not supported, only 2 and 3",
		       rd->path, g->version);
}

static int read_count(struct reader *rd, const char *of, uint64_t max, size_t min_bytes,
		      uint64_t *ret)
{
	size_t at = rd->pos;
	int r = take_u64(rd, ret);

	if (r < 0)
		return r;
	if (*ret > max)
		return bad(rd, at, "%llu %s, at most %llu are allowed", (unsigned long long)*ret,
			   of, (unsigned long long)max);
	if (*ret > (rd->size - rd->pos) / min_bytes)
		return bad(rd, at, "%llu %s, more than the file has room for",
			   (unsigned long long)*ret, of);
	return 0;
}

static int read_all(struct reader *rd, struct gguf *g)
{
	int r;

	snprintf(rd->what, sizeof(rd->what), "header");
	if ((r = read_version(rd, g)) < 0 ||
	    (r = read_count(rd, "tensors", TENSORS_MAX, TENSOR_MIN_BYTES, &g->n_tensors)) < 0 ||
	    (r = read_count(rd, "keys", KVS_MAX, KV_MIN_BYTES, &g->n_kvs)) < 0 ||
	    (r = read_kvs(rd, g)) < 0)
		return r;
	return read_tensors(rd, g);
}

int gguf_open(struct gguf *g, const char *path, struct err *reterr)
{
	int r;

	memset(g, 0, sizeof(*g));
	r = mapfile_open(&g->file, path, reterr);
	if (r < 0) {
		memset(g, 0, sizeof(*g));
		return r;
	}
	g->path = strdup(path);
	if (!g->path) {
		gguf_close(g);
		return err_set(reterr, -ENOMEM, "%s: out of memory", path);
	}
	struct reader rd = {
		.data = g->file.data, .size = g->file.bytes, .path = g->path, .err = reterr};
	r = read_all(&rd, g);
	if (r < 0)
		gguf_close(g);
	return r;
}

void gguf_close(struct gguf *g)
{
	if (!g)
		return;
	strmap_done(&g->kv_index);
	strmap_done(&g->tensor_index);
	free(g->kvs);
	free(g->tensors);
	free(g->path);
	if (g->file.data)
		mapfile_close(&g->file);
	memset(g, 0, sizeof(*g));
}
