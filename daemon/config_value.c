/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options: text to typed field, by the option's type. */
#include "daemon/config_table.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

static void *field(const struct option_row *o, struct config *c)
{
	return (char *)c + o->offset;
}

static const void *field_const(const struct option_row *o, const struct config *c)
{
	return (const char *)c + o->offset;
}

/* Digits and at most one unit. False for anything else, and when it does not fit. */
static bool parse_number(const char *text, const char *units, const uint64_t *factors,
			 uint64_t *ret)
{
	uint64_t v = 0;
	const char *unit;

	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return false;
	if (*text) {
		unit = strchr(units, *text);
		if (!unit || __builtin_mul_overflow(v, factors[unit - units], &v))
			return false;
		text++;
	}
	if (*text)
		return false;
	*ret = v;
	return true;
}

static int bad_value(const struct option_row *o, const char *text, struct err *reterr)
{
	char range[120];

	option_range(o, range, sizeof(range));
	return err_set(reterr, -EINVAL, "%s: '%.80s' is not allowed (%s)", o->key, text, range);
}

static int parse_numeric(const struct option_row *o, struct config *c, const char *text,
			 struct err *reterr)
{
	static const uint64_t seconds[] = {1, 60, 3600};
	static const uint64_t bytes[] = {UINT64_C(1) << 10, UINT64_C(1) << 20, UINT64_C(1) << 30};
	const char *units = "";
	const uint64_t *factors = NULL;
	uint64_t v = 0;

	if (o->type == OPT_SECONDS) {
		units = "smh";
		factors = seconds;
	} else if (o->type == OPT_BYTES) {
		units = "KMG";
		factors = bytes;
	}
	if (o->names && !strcmp(o->names[0], text))
		v = UINT64_MAX;
	else if (!parse_number(text, units, factors, &v) || v < o->min || v > o->max)
		return bad_value(o, text, reterr);
	if (o->type == OPT_BYTES)
		*(uint64_t *)field(o, c) = v;
	else
		*(uint32_t *)field(o, c) = (uint32_t)v;
	return 0;
}

static int parse_enum(const struct option_row *o, struct config *c, const char *text,
		      struct err *reterr)
{
	for (unsigned i = 0; o->names[i]; i++) {
		if (!strcmp(o->names[i], text)) {
			/* Enumerations without negative values are unsigned int here. */
			memcpy(field(o, c), &i, sizeof(i));
			return 0;
		}
	}
	return bad_value(o, text, reterr);
}

static bool good_model_id(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			return false;
	return true;
}

static int parse_text(const struct option_row *o, struct config *c, const char *text,
		      struct arena *a, struct err *reterr)
{
	size_t len = strlen(text);
	char *copy = NULL;

	if (len < o->min)
		return err_set(reterr, -EINVAL, "%s: must not be empty", o->key);
	if (len > o->max)
		return err_set(reterr, -EINVAL, "%s: longer than %u characters", o->key,
			       (unsigned)o->max);
	if (!strcmp(o->key, "model-id") && !good_model_id(text))
		return err_set(reterr, -EINVAL,
			       "model-id: '%.80s' has other characters than A-Z a-z 0-9 . _ -",
			       text);
	if (len) {
		copy = arena_strndup(a, text, len);
		if (!copy)
			return err_set(reterr, -ENOMEM, "out of memory");
	}
	*(const char **)field(o, c) = copy;
	return 0;
}

/* HOST:PORT or [V6]:PORT. */
static int parse_addr(const struct option_row *o, const char *text, size_t len, struct arena *a,
		      struct config_addr *ret, struct err *reterr)
{
	const char *end = text + len, *host = text, *host_end = end, *p;
	uint32_t port = 0;

	p = memrchr(text, ':', len);
	if (!p)
		goto bad;
	host_end = p;
	for (p++; p < end && isdigit((unsigned char)*p) && port <= UINT16_MAX; p++)
		port = port * 10 + (uint32_t)(*p - '0');
	if (p < end || end[-1] == ':' || port > UINT16_MAX)
		goto bad;
	if (*host == '[') {
		if (host_end - host < 3 || host_end[-1] != ']')
			goto bad;
		host++;
		host_end--;
	} else if (memchr(host, ':', (size_t)(host_end - host))) {
		goto bad; /* an IPv6 address without brackets */
	}
	if (host == host_end || host_end - host > 253)
		goto bad;
	for (p = host; p < host_end; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".:-_%", *p))
			goto bad;
	ret->port = (uint16_t)port;
	ret->host = arena_strndup(a, host, (size_t)(host_end - host));
	return ret->host ? 0 : err_set(reterr, -ENOMEM, "out of memory");
bad:
	return err_set(reterr, -EINVAL,
		       "%s: '%.*s' is not HOST:PORT or [ADDRESS]:PORT (port 0 to 65535)", o->key,
		       (int)min_size(len, 80), text);
}

static int add_addr(const struct option_row *o, struct config *c, const char *text, size_t len,
		    struct arena *a, struct err *reterr)
{
	struct config_addr addr, *items;
	int r;

	if (c->n_listen >= o->max)
		return err_set(reterr, -EINVAL, "%s: more than %u addresses", o->key,
			       (unsigned)o->max);
	r = parse_addr(o, text, len, a, &addr, reterr);
	if (r)
		return r;
	items = arena_array(a, c->n_listen + 1, sizeof(*items));
	if (!items)
		return err_set(reterr, -ENOMEM, "out of memory");
	if (c->n_listen)
		memcpy(items, c->listen, c->n_listen * sizeof(*items));
	items[c->n_listen++] = addr;
	c->listen = items;
	return 0;
}

static int add_item(const struct option_row *o, struct config *c, const char *text, size_t len,
		    struct arena *a, struct err *reterr)
{
	struct config_list *list = field(o, c);
	const char **items;

	if (list->n >= o->max)
		return err_set(reterr, -EINVAL, "%s: more than %u elements", o->key,
			       (unsigned)o->max);
	if (len > 255)
		return err_set(reterr, -EINVAL, "%s: an element is longer than 255 characters",
			       o->key);
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return err_set(reterr, -EINVAL,
				       "%s: '%.*s' has a space or a character beyond ASCII", o->key,
				       (int)min_size(len, 80), text);
	items = arena_array(a, list->n + 1, sizeof(*items));
	if (!items)
		return err_set(reterr, -ENOMEM, "out of memory");
	if (list->n)
		memcpy(items, list->items, list->n * sizeof(*items));
	items[list->n] = arena_strndup(a, text, len);
	if (!items[list->n])
		return err_set(reterr, -ENOMEM, "out of memory");
	list->items = items;
	list->n++;
	return 0;
}

static int parse_list(const struct option_row *o, struct config *c, const char *text,
		      struct arena *a, struct err *reterr)
{
	if (!text[strspn(text, " \t")]) {
		if (o->min)
			return err_set(reterr, -EINVAL, "%s: must not be empty", o->key);
		option_reset(o, c);
		return 0;
	}
	for (;;) {
		size_t len, used;
		int r;

		text += strspn(text, " \t");
		used = len = strcspn(text, ",");
		while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
			len--;
		if (!len)
			return err_set(reterr, -EINVAL, "%s: an element is empty", o->key);
		r = o->type == OPT_ADDRS ? add_addr(o, c, text, len, a, reterr)
					 : add_item(o, c, text, len, a, reterr);
		if (r || !text[used])
			return r;
		text += used + 1;
	}
}

int option_parse(const struct option_row *o, struct config *c, const char *text, struct arena *a,
		 struct err *reterr)
{
	if (!utf8_valid(text, strlen(text)))
		return err_set(reterr, -EINVAL, "%s: the value is not UTF-8", o->key);
	switch (o->type) {
	case OPT_TEXT:
		return parse_text(o, c, text, a, reterr);
	case OPT_ENUM:
		return parse_enum(o, c, text, reterr);
	case OPT_LIST:
	case OPT_ADDRS:
		return parse_list(o, c, text, a, reterr);
	case OPT_COUNT:
	case OPT_SECONDS:
	case OPT_BYTES:
		break;
	}
	return parse_numeric(o, c, text, reterr);
}

void option_reset(const struct option_row *o, struct config *c)
{
	if (o->type == OPT_LIST) {
		*(struct config_list *)field(o, c) = (struct config_list){0};
	} else if (o->type == OPT_ADDRS) {
		c->listen = NULL;
		c->n_listen = 0;
	}
}

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool option_equal(const struct option_row *o, const struct config *a, const struct config *b)
{
	const void *x = field_const(o, a), *y = field_const(o, b);

	switch (o->type) {
	case OPT_TEXT:
		return text_equal(*(const char *const *)x, *(const char *const *)y);
	case OPT_BYTES:
		return !memcmp(x, y, sizeof(uint64_t));
	case OPT_LIST: {
		const struct config_list *l = x, *m = y;
		bool same = l->n == m->n;
		for (size_t i = 0; same && i < l->n; i++)
			same = !strcmp(l->items[i], m->items[i]);
		return same;
	}
	case OPT_ADDRS: {
		bool same = a->n_listen == b->n_listen;
		for (size_t i = 0; same && i < a->n_listen; i++)
			same = a->listen[i].port == b->listen[i].port &&
			       !strcmp(a->listen[i].host, b->listen[i].host);
		return same;
	}
	case OPT_COUNT:
	case OPT_SECONDS:
	case OPT_ENUM:
		break;
	}
	return !memcmp(x, y, sizeof(uint32_t));
}
