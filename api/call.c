/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: the headers that every one carries, error objects, and which model was asked for. */
#include "api/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

#define FIELDS_MAX 16

struct field_list {
	struct gate_field f[FIELDS_MAX];
	size_t n;
};

static void add(struct field_list *l, const char *name, const char *value)
{
	if (l->n < FIELDS_MAX)
		l->f[l->n++] = (struct gate_field){name, value};
}

void call_make_id(const char *prefix, char ret[ID_MAX])
{
	static const char digits[] =
		"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZab";
	unsigned char r[24];
	size_t n = strnlen(prefix, ID_MAX - sizeof r - 1);
	ssize_t got = getrandom(r, sizeof r, 0);

	if (got != (ssize_t)sizeof r) {
		uint64_t t = (uint64_t)clock_ns();

		for (size_t i = 0; i < sizeof r; i++)
			r[i] = (unsigned char)(t >> (i % 8 * 8));
	}
	memcpy(ret, prefix, n);
	for (size_t i = 0; i < sizeof r; i++)
		ret[n + i] = digits[r[i] % 64];
	ret[n + sizeof r] = 0;
}

static void count(struct call *c, int status)
{
	size_t route = c->route ? (size_t)(c->route - api_routes) : ROUTES_MAX - 1;
	int class = status / 100;

	if (route<ROUTES_MAX &&class> 0 && class < STATUS_CLASSES)
		atomic_fetch_add(&c->api->counts[route][class], 1);
}

static void common_fields(struct call *c, struct field_list *l, char ms[24])
{
	snprintf(ms, 24, "%" PRId64, (clock_ns() - c->start_ns) / NS_PER_MS);
	add(l, "X-Request-Id", c->request_id);
	add(l, "OpenAI-Processing-Ms", ms);
	add(l, "X-Content-Type-Options", "nosniff");
	add(l, "Vary", "Origin");
	if (c->origin) {
		add(l, "Access-Control-Allow-Origin", c->origin);
		add(l, "Access-Control-Expose-Headers",
		    "x-request-id, openai-processing-ms, retry-after");
	}
}

static void reply(struct call *c, int status, struct field_list *l, struct strbuf *body)
{
	struct http_reply r = {
		.status = status, .fields = l->f, .n_fields = l->n, .close = c->close};

	count(c, status);
	http_reply(c->x, &r, body);
}

void call_reply_type(struct call *c, int status, const char *type, struct strbuf *body)
{
	struct field_list l = {0};
	char ms[24];

	common_fields(c, &l, ms);
	if (type)
		add(&l, "Content-Type", type);
	add(&l, "Cache-Control", "no-store");
	if (status == 405 && c->tail)
		add(&l, "Allow", c->tail);
	reply(c, status, &l, body);
}

void call_reply(struct call *c, int status, struct strbuf *body)
{
	call_reply_type(c, status, "application/json", body);
}

void call_error(struct call *c, const struct api_error *e)
{
	struct field_list l = {0};
	struct strbuf sb = {0};
	struct jw w;
	char ms[24], retry[16];

	jw_init(&w, &sb);
	jw_obj(&w);
	jw_key(&w, "error");
	api_error_write(e, &w);
	jw_obj_end(&w);
	common_fields(c, &l, ms);
	add(&l, "Content-Type", "application/json");
	add(&l, "Cache-Control", "no-store");
	if (e->retry_s) {
		snprintf(retry, sizeof retry, "%" PRIu32, e->retry_s);
		add(&l, "Retry-After", retry);
	}
	if (e->status == 401)
		add(&l, "WWW-Authenticate", "Bearer");
	if (e->status == 405 && c->tail)
		add(&l, "Allow", c->tail);
	if (e->status >= 500)
		log_debug("%s: %d %s", c->request_id, e->status, e->msg);
	reply(c, e->status, &l, &sb);
}

void call_stream(struct call *c)
{
	struct field_list l = {0};
	struct http_reply r = {.status = 200, .close = c->close};
	char ms[24];

	common_fields(c, &l, ms);
	add(&l, "Content-Type", "text/event-stream; charset=utf-8");
	add(&l, "Cache-Control", "no-cache");
	add(&l, "X-Accel-Buffering", "no");
	r.fields = l.f;
	r.n_fields = l.n;
	count(c, 200);
	http_stream_begin(c->x, &r);
}

int call_check_model(const struct call *c, const struct json *body, struct api_error *e)
{
	const char *name = NULL;

	if (json_opt_text(body, "model", &name, e) < 0)
		return -1;
	if (!name || !c->served || !strcmp(name, c->served->id))
		return 0;
	return api_error_set(e, 404, "model_not_found", "model",
			     "the model \"%.100s\" does not exist; the one served is \"%s\"", name,
			     c->served->id);
}
