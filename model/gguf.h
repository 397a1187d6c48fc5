/* SPDX-License-Identifier: Apache-2.0 */
/* Reader for GGUF files, versions 2 and 3, little endian (the GGUF specification of the ggml
 * project). Everything in the file is hostile until checked here: counts, lengths, offsets, types,
 * alignment; after gguf_open has returned 0 every pointer and size that the getters give lies inside
 * the mapping. Read-only afterwards: any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mapfile.h"

enum gguf_type {
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
	GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPES
};

struct gguf_str {
	const char *s; /* in the mapping, not NUL-terminated */
	size_t len;
};

struct gguf_kv {
	struct gguf_str key;
	enum gguf_type type, elem; /* elem: of an array */
	uint64_t count;            /* elements of an array, else 1 */
	const uint8_t *data;       /* the value (strings: their length first), or the first element */
	uint64_t offset;           /* in the file, for messages */
};

struct gguf_tensor {
	struct gguf_str name;
	uint32_t n_dims;
	uint64_t dims[4];  /* dims[0]: elements a row; unused ones are 1 */
	uint32_t type;     /* a number of core/format.h, known but perhaps not supported */
	const uint8_t *data; /* NULL for types that this build can't size */
	uint64_t bytes, offset; /* offset: in the file */
};

struct gguf {
	struct mapfile file;
	char *path;
	uint32_t version;
	struct gguf_kv *kvs;
	uint64_t n_kvs;
	struct gguf_tensor *tensors;
	uint64_t n_tensors;
	struct strmap kv_index, tensor_index;
};

/* Maps and checks a file. 0 or -errno; messages name file, key or tensor and offset. */
int gguf_open(struct gguf *g, const char *path, struct err *reterr);
void gguf_close(struct gguf *g); /* zeroed and half-opened are fine */

/* Bytes of one value of the type; 0 for strings and arrays. */
size_t gguf_type_bytes(enum gguf_type type);

/* NULL when there is none of that name. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Typed getters: 0; -ENOENT when the key is missing; -EBADMSG (message names key, type and range)
 * when it has another type or is out of [min, max]. Integers of any width are taken where they fit. */
int gguf_get_u32(const struct gguf *g, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
                 struct err *reterr);
int gguf_get_f32(const struct gguf *g, const char *key, double min, double max, double *ret,
                 struct err *reterr);
int gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *reterr);
int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *reterr);
/* An array of exactly this element type; elements are unaligned: use the readers below. */
int gguf_get_array(const struct gguf *g, const char *key, enum gguf_type elem,
                   const struct gguf_kv **ret, struct err *reterr);

/* Walks an array of strings: start with *cursor = NULL; false at the end. */
bool gguf_next_str(const struct gguf_kv *kv, const uint8_t **cursor, uint64_t *index,
                   struct gguf_str *ret);
uint32_t gguf_elem_u32(const struct gguf_kv *kv, uint64_t i); /* U32 or I32 arrays */
float gguf_elem_f32(const struct gguf_kv *kv, uint64_t i);    /* F32 arrays */
