/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows cJSON. `struct json` is a cJSON node under another name. Whole numbers
 * of more digits than a double holds keep their text in the node's valuestring, which cJSON leaves
 * empty for numbers and frees with the node. */
#include "api/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/json_scan.h"
#include "base/map.h"

#define EXACT_DIGITS 15              /* that many decimal digits a double always holds */
#define SMALL_OBJECT 16              /* members up to which comparing all pairs is the quickest */
#define EXACT_MAX 9007199254740992.0 /* 2^53 */

static const cJSON *node(const struct json *v)
{
	return (const cJSON *)(const void *)v;
}

static const struct json *value(const cJSON *n)
{
	return (const struct json *)(const void *)n;
}

static int duplicate(const cJSON *m, struct api_error *e)
{
	return api_error_set(
		e, 400, "invalid_json", m->string,
		"the body is not acceptable JSON: the key \"%.80s\" appears twice in one object",
		m->string);
}

static int check_keys(const cJSON *obj, struct api_error *e)
{
	struct strmap seen = {0};
	const cJSON *m, *o;
	size_t n = 0;
	uint32_t v;
	int r = 0;

	cJSON_ArrayForEach(m, obj) n++;
	if (n <= SMALL_OBJECT) {
		cJSON_ArrayForEach(
			m, obj) for (o = obj->child; o != m;
				     o = o->next) if (!strcmp(o->string,
							      m->string)) return duplicate(m, e);
		return 0;
	}
	if (strmap_init(&seen, n) < 0)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	cJSON_ArrayForEach(m, obj)
	{
		size_t len = strlen(m->string);

		if (strmap_get(&seen, m->string, len, &v)) {
			r = duplicate(m, e);
			break;
		}
		if (strmap_put(&seen, m->string, len, 1) < 0) {
			r = api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
			break;
		}
	}
	strmap_done(&seen);
	return r;
}

/* Walks over the text to the next number, which the tree's next number is: both are in the order of
 * the document. The text has passed json_scan. */
static const char *next_number(const char *p)
{
	for (;; p++) {
		if (*p == '"') {
			for (p++; *p != '"'; p++)
				if (*p == '\\')
					p++;
		} else if (*p == '-' || (*p >= '0' && *p <= '9')) {
			return p;
		}
	}
}

static int keep_number(cJSON *n, const char **cursor)
{
	const char *at = next_number(*cursor);
	size_t len = strspn(at, "+-.0123456789eE");

	*cursor = at + len;
	if (len <= EXACT_DIGITS || memchr(at, '.', len) || memchr(at, 'e', len) ||
	    memchr(at, 'E', len))
		return 0;
	n->valuestring = cJSON_malloc(len + 1);
	if (!n->valuestring)
		return -1;
	memcpy(n->valuestring, at, len);
	n->valuestring[len] = 0;
	return 0;
}

/* Depth is bounded by json_scan. */
static int finish(cJSON *n, const char **cursor, struct api_error *e)
{
	cJSON *m;

	if (cJSON_IsNumber(n) && keep_number(n, cursor) < 0)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	if (cJSON_IsObject(n) && check_keys(n, e) < 0)
		return -1;
	cJSON_ArrayForEach(m, n) if (finish(m, cursor, e) < 0) return -1;
	return 0;
}

int json_parse(const char *text, size_t len, struct json **ret, struct api_error *e)
{
	const char *cursor = text;
	cJSON *doc;

	if (json_scan(text, len, e) < 0)
		return -1;
	doc = cJSON_ParseWithLength(text, len);
	if (!doc)
		return api_error_set(e, 503, "out_of_memory", NULL,
				     "out of memory while parsing the body");
	if (finish(doc, &cursor, e) < 0) {
		cJSON_Delete(doc);
		return -1;
	}
	*ret = (struct json *)(void *)doc;
	return 0;
}

void json_free(struct json *doc)
{
	cJSON_Delete((cJSON *)(void *)doc);
}

bool json_is_object(const struct json *v)
{
	return cJSON_IsObject(node(v));
}

bool json_is_array(const struct json *v)
{
	return cJSON_IsArray(node(v));
}

bool json_is_number(const struct json *v)
{
	return cJSON_IsNumber(node(v));
}

bool json_is_null(const struct json *v)
{
	return cJSON_IsNull(node(v));
}

bool json_is_bool(const struct json *v, bool *ret)
{
	if (!cJSON_IsBool(node(v)))
		return false;
	*ret = cJSON_IsTrue(node(v));
	return true;
}

const char *json_text(const struct json *v)
{
	return cJSON_IsString(node(v)) ? node(v)->valuestring : NULL;
}

double json_double(const struct json *v)
{
	return cJSON_IsNumber(node(v)) ? node(v)->valuedouble : 0;
}

bool json_int64(const struct json *v, int64_t *ret)
{
	const cJSON *n = node(v);
	int64_t i;
	char *end;

	if (!cJSON_IsNumber(n))
		return false;
	if (n->valuestring) {
		errno = 0;
		i = strtoll(n->valuestring, &end, 10);
		if (errno || *end)
			return false;
		*ret = i;
		return true;
	}
	if (fabs(n->valuedouble) > EXACT_MAX || n->valuedouble != floor(n->valuedouble))
		return false;
	*ret = (int64_t)n->valuedouble;
	return true;
}

const char *json_kind(const struct json *v)
{
	const cJSON *n = node(v);

	if (!n || cJSON_IsNull(n))
		return "null";
	if (cJSON_IsBool(n))
		return "a boolean";
	if (cJSON_IsNumber(n))
		return "a number";
	if (cJSON_IsString(n))
		return "a string";
	return cJSON_IsArray(n) ? "an array" : "an object";
}

const struct json *json_get(const struct json *obj, const char *key)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(node(obj), key);

	return m && !cJSON_IsNull(m) ? value(m) : NULL;
}

const struct json *json_first(const struct json *v)
{
	return v ? value(node(v)->child) : NULL;
}

const struct json *json_next(const struct json *v)
{
	return value(node(v)->next);
}

const char *json_name(const struct json *v)
{
	return node(v)->string;
}

size_t json_count(const struct json *v)
{
	const cJSON *m;
	size_t n = 0;

	cJSON_ArrayForEach(m, node(v)) n++;
	return n;
}

static int wrong_kind(struct api_error *e, const char *key, const char *want, const struct json *v)
{
	return api_error_set(e, 400, "invalid_type", key, "%s must be %s, not %s", key, want,
			     json_kind(v));
}

int json_opt_bool(const struct json *obj, const char *key, bool *ret, struct api_error *e)
{
	const struct json *v = json_get(obj, key);

	if (!v)
		return 0;
	if (!json_is_bool(v, ret))
		return wrong_kind(e, key, "true or false", v);
	return 1;
}

int json_opt_double(const struct json *obj, const char *key, double min, double max, double *ret,
		    struct api_error *e)
{
	const struct json *v = json_get(obj, key);
	double d;

	if (!v)
		return 0;
	if (!json_is_number(v))
		return wrong_kind(e, key, "a number", v);
	d = json_double(v);
	if (!(d >= min && d <= max))
		return api_error_set(e, 400, "invalid_value", key,
				     "%s must be between %g and %g, not %g", key, min, max, d);
	*ret = d;
	return 1;
}

int json_opt_float(const struct json *obj, const char *key, double min, double max, float *ret,
		   struct api_error *e)
{
	double d;
	int r = json_opt_double(obj, key, min, max, &d, e);

	if (r > 0)
		*ret = (float)d;
	return r;
}

int json_opt_u32(const struct json *obj, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
		 struct api_error *e)
{
	const struct json *v = json_get(obj, key);
	int64_t i;

	if (!v)
		return 0;
	if (!json_is_number(v))
		return wrong_kind(e, key, "a whole number", v);
	if (!json_int64(v, &i) || i < (int64_t)min || i > (int64_t)max)
		return api_error_set(e, 400, "invalid_value", key,
				     "%s must be a whole number between %" PRIu32 " and %" PRIu32
				     ", not %.17g",
				     key, min, max, json_double(v));
	*ret = (uint32_t)i;
	return 1;
}

int json_opt_int64(const struct json *obj, const char *key, int64_t *ret, struct api_error *e)
{
	const struct json *v = json_get(obj, key);

	if (!v)
		return 0;
	if (!json_is_number(v))
		return wrong_kind(e, key, "a whole number", v);
	if (!json_int64(v, ret))
		return api_error_set(
			e, 400, "invalid_value", key,
			"%s must be a whole number between -2^63 and 2^63-1, not %.17g", key,
			json_double(v));
	return 1;
}

int json_opt_text(const struct json *obj, const char *key, const char **ret, struct api_error *e)
{
	const struct json *v = json_get(obj, key);

	if (!v)
		return 0;
	if (!json_text(v))
		return wrong_kind(e, key, "a string", v);
	*ret = json_text(v);
	return 1;
}
