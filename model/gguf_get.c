/* SPDX-License-Identifier: Apache-2.0 */
/* Typed access to the keys and tensors of an open GGUF file. */
#include "model/gguf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static uint64_t load_uint(const uint8_t *p, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

size_t gguf_type_bytes(enum gguf_type type)
{
	static const uint8_t bytes[GGUF_TYPES] = {
		[GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
		[GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
		[GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
	};

	return (unsigned)type < GGUF_TYPES ? bytes[type] : 0;
}

static const char *type_name(enum gguf_type type)
{
	static const char *const names[GGUF_TYPES] = {
		"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
		"bool", "string", "array", "u64", "i64", "f64",
	};

	return (unsigned)type < GGUF_TYPES ? names[type] : "unknown";
}

static int wrong_type(const struct gguf *g, const char *key, const struct gguf_kv *kv,
		      const char *want, struct err *reterr)
{
	if (kv->type == GGUF_ARRAY)
		return err_set(reterr, -EBADMSG,
			       "%s: key '%s' is an array of %s, must be %s (at byte %llu)", g->path,
			       key, type_name(kv->elem), want, (unsigned long long)kv->offset);
	return err_set(reterr, -EBADMSG, "%s: key '%s' is a %s, must be %s (at byte %llu)", g->path,
		       key, type_name(kv->type), want, (unsigned long long)kv->offset);
}

static int find(const struct gguf *g, const char *key, const struct gguf_kv **ret,
		struct err *reterr)
{
	*ret = gguf_find(g, key);
	if (!*ret)
		return err_set(reterr, -ENOENT, "%s: key '%s' is missing", g->path, key);
	return 0;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	uint32_t i;

	if (!g->n_kvs || !strmap_get(&g->kv_index, key, strlen(key), &i))
		return NULL;
	return &g->kvs[i];
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	uint32_t i;

	if (!g->n_tensors || !strmap_get(&g->tensor_index, name, strlen(name), &i))
		return NULL;
	return &g->tensors[i];
}

/* An integer of any width. Values above INT64_MAX become INT64_MAX: out of every range asked for.
 */
static bool load_integer(const struct gguf_kv *kv, int64_t *ret)
{
	uint64_t v;

	switch (kv->type) {
	case GGUF_U8:
		*ret = kv->data[0];
		return true;
	case GGUF_I8:
		*ret = (int8_t)kv->data[0];
		return true;
	case GGUF_U16:
		*ret = (int64_t)load_uint(kv->data, 2);
		return true;
	case GGUF_I16:
		*ret = (int16_t)load_uint(kv->data, 2);
		return true;
	case GGUF_U32:
		*ret = (int64_t)load_uint(kv->data, 4);
		return true;
	case GGUF_I32:
		*ret = (int32_t)load_uint(kv->data, 4);
		return true;
	case GGUF_U64:
		v = load_uint(kv->data, 8);
		*ret = v > INT64_MAX ? INT64_MAX : (int64_t)v;
		return true;
	case GGUF_I64:
		*ret = (int64_t)load_uint(kv->data, 8);
		return true;
	default:
		return false;
	}
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
		 struct err *reterr)
{
	const struct gguf_kv *kv;
	int64_t v;
	int r = find(g, key, &kv, reterr);

	if (r < 0)
		return r;
	if (!load_integer(kv, &v))
		return wrong_type(g, key, kv, "an integer", reterr);
	if (v < (int64_t)min || v > (int64_t)max)
		return err_set(reterr, -EBADMSG,
			       "%s: key '%s' is %lld, must be %u to %u (at byte %llu)", g->path,
			       key, (long long)v, min, max, (unsigned long long)kv->offset);
	*ret = (uint32_t)v;
	return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, double min, double max, double *ret,
		 struct err *reterr)
{
	const struct gguf_kv *kv;
	double v;
	int r = find(g, key, &kv, reterr);

	if (r < 0)
		return r;
	if (kv->type == GGUF_F32) {
		uint32_t bits = (uint32_t)load_uint(kv->data, 4);
		float f;
		memcpy(&f, &bits, sizeof(f));
		v = (double)f;
	} else if (kv->type == GGUF_F64) {
		uint64_t bits = load_uint(kv->data, 8);
		memcpy(&v, &bits, sizeof(v));
	} else {
		return wrong_type(g, key, kv, "a float", reterr);
	}
	if (!(v >= min && v <= max)) /* so that NaN fails too */
		return err_set(reterr, -EBADMSG,
			       "%s: key '%s' is %g, must be %g to %g (at byte %llu)", g->path, key,
			       v, min, max, (unsigned long long)kv->offset);
	*ret = v;
	return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *reterr)
{
	const struct gguf_kv *kv;
	int r = find(g, key, &kv, reterr);

	if (r < 0)
		return r;
	if (kv->type != GGUF_BOOL)
		return wrong_type(g, key, kv, "a bool", reterr);
	*ret = kv->data[0] != 0;
	return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *reterr)
{
	const struct gguf_kv *kv;
	int r = find(g, key, &kv, reterr);

	if (r < 0)
		return r;
	if (kv->type != GGUF_STRING)
		return wrong_type(g, key, kv, "a string", reterr);
	ret->len = (size_t)load_uint(kv->data, 8);
	ret->s = (const char *)kv->data + 8;
	return 0;
}

int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type elem,
		   const struct gguf_kv **ret, struct err *reterr)
{
	const struct gguf_kv *kv;
	char want[32];
	int r = find(g, key, &kv, reterr);

	if (r < 0)
		return r;
	if (kv->type != GGUF_ARRAY || kv->elem != elem) {
		snprintf(want, sizeof(want), "an array of %s", type_name(elem));
		return wrong_type(g, key, kv, want, reterr);
	}
	*ret = kv;
	return 0;
}

bool gguf_next_str(const struct gguf_kv *kv, const uint8_t **cursor, uint64_t *index,
		   struct gguf_str *ret)
{
	if (kv->elem != GGUF_STRING)
		return false;
	if (!*cursor) {
		*cursor = kv->data;
		*index = 0;
	} else {
		++*index;
	}
	if (*index >= kv->count)
		return false;
	ret->len = (size_t)load_uint(*cursor, 8);
	ret->s = (const char *)*cursor + 8;
	*cursor += 8 + ret->len;
	return true;
}

uint32_t gguf_elem_u32(const struct gguf_kv *kv, uint64_t i)
{
	if (i >= kv->count || (kv->elem != GGUF_U32 && kv->elem != GGUF_I32))
		return 0;
	return (uint32_t)load_uint(kv->data + 4 * i, 4);
}

float gguf_elem_f32(const struct gguf_kv *kv, uint64_t i)
{
	uint32_t bits;
	float f;

	if (i >= kv->count || kv->elem != GGUF_F32)
		return 0;
	bits = (uint32_t)load_uint(kv->data + 4 * i, 4);
	memcpy(&f, &bits, sizeof(f));
	return f;
}
