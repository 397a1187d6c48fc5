/* SPDX-License-Identifier: Apache-2.0 */
/* Requests' JSON: a strict check first, then cJSON, which appears in json.c only. What passes is
 * RFC 8259 JSON in valid UTF-8 without NUL, lone surrogates, duplicate keys or numbers that a
 * double can't hold, at most JSON_DEPTH_MAX deep and JSON_TOKENS_MAX values and keys long. The
 * getters take null for absent. Documents are read-only after parsing: any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/error.h"

#define JSON_DEPTH_MAX 64
#define JSON_TOKENS_MAX 200000
#define JSON_NUMBER_MAX 63 /* characters of a number */

struct json; /* a value; the whole document is one too */

/* Parses `len` bytes. 0, or -1 with status 400 (503 when memory is short) and one of the codes
 * invalid_json, invalid_utf8, json_too_large. The caller frees the document with json_free. */
int json_parse(const char *text, size_t len, struct json **ret, struct api_error *e);
void json_free(struct json *doc); /* NULL is fine */

/* --- looking at values; NULL in gives "no" out --- */
bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_number(const struct json *v);
bool json_is_null(const struct json *v);
bool json_is_bool(const struct json *v, bool *ret);
/* The text of a string (NUL-terminated, no NUL inside, lives as long as the document), or NULL. */
const char *json_text(const struct json *v);
double json_double(const struct json *v); /* 0 when it is no number */
/* Exact: true when the value is a whole number that int64_t holds. */
bool json_int64(const struct json *v, int64_t *ret);
/* "null", "a number", "an object", ... for messages. */
const char *json_kind(const struct json *v);

/* Members of objects by exact name: NULL when absent or null. */
const struct json *json_get(const struct json *obj, const char *key);
/* Elements of arrays and objects, in order: for (v = json_first(a); v; v = json_next(v)). */
const struct json *json_first(const struct json *v);
const struct json *json_next(const struct json *v);
const char *json_name(const struct json *v); /* the key of an object's member */
size_t json_count(const struct json *v);

/* --- typed members: 1 when there and good, 0 when absent (*ret is left alone), -1 when wrong, with
 * an error that names the member and what it may be --- */
int json_opt_bool(const struct json *obj, const char *key, bool *ret, struct api_error *e);
int json_opt_double(const struct json *obj, const char *key, double min, double max, double *ret,
		    struct api_error *e);
int json_opt_float(const struct json *obj, const char *key, double min, double max, float *ret,
		   struct api_error *e);
int json_opt_u32(const struct json *obj, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
		 struct api_error *e);
int json_opt_int64(const struct json *obj, const char *key, int64_t *ret, struct api_error *e);
int json_opt_text(const struct json *obj, const char *key, const char **ret, struct api_error *e);
