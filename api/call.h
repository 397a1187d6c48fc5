/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the API: what the head said, and the ways to answer. Internal to the room. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "api/error.h"
#include "api/http.h"
#include "api/json.h"
#include "api/prep.h"
#include "api/server.h"

#define ID_MAX 48
#define ROUTES_MAX 32
#define STATUS_CLASSES 6

struct route;
struct call;
struct gen;

/* The model being served; never changes once published. */
struct served {
	struct api_model m;
	char id[65];
	char fingerprint[24];
	int64_t created_unix_s;
	uint32_t context_tok;
	size_t token_bytes_max; /* of the longest token: bounds texts before they are tokenized */
};

struct api_lists {
	char **hosts, **origins;
	size_t n_hosts, n_origins;
	struct gate_keys *keys; /* NULL: none asked for */
	struct gate_policy policy;
};

struct api {
	struct http_server *http;
	struct prep *prep;
	_Atomic int64_t request_timeout_ns;
	char version[32];
	int64_t start_unix_s;
	pthread_rwlock_t lists_lock;
	struct api_lists lists;
	_Atomic(struct served *) served;
	atomic_bool failed, draining;
	pthread_mutex_t mu; /* failed_why, n_calls */
	pthread_cond_t idle;
	char failed_why[200];
	size_t n_calls;                                          /* calls that are not released */
	atomic_uint_fast64_t counts[ROUTES_MAX][STATUS_CLASSES]; /* answers by route and class */
};

struct call {
	struct api *api;
	struct http_exchange *x;
	const struct route *route;
	const struct served *served; /* NULL while loading */
	struct prep_job job;
	int64_t start_ns;
	char request_id[ID_MAX];
	char *origin; /* allowed, or NULL */
	char client[REQUEST_CLIENT_MAX];
	char *tail; /* of the path, for routes that end in '*' */
	bool close;
	_Atomic(struct gen *) gen; /* told when the client leaves */
};

/* A route: a row of the table in server.c. A path that ends in '*' matches any rest. */
struct route {
	const char *method, *path;
	const char *name; /* in metrics */
	bool open;        /* without API key */
	bool needs_model;
	bool prepare;                /* on a preparation thread, with a JSON body */
	void (*run)(struct call *c); /* when !prepare */
	void (*run_json)(struct call *c, const struct json *body); /* when prepare */
};
extern const struct route api_routes[];
extern const size_t api_n_routes;

/* Answers with JSON, of which the text is taken. */
void call_reply(struct call *c, int status, struct strbuf *body);
void call_reply_type(struct call *c, int status, const char *type, struct strbuf *body);
void call_error(struct call *c, const struct api_error *e);
/* The head of a stream of events. */
void call_stream(struct call *c);

/* "prefix" and 24 random characters. */
void call_make_id(const char *prefix, char ret[ID_MAX]);

/* Handlers. */
void route_health(struct call *c);
void route_models(struct call *c);
void route_model(struct call *c);
void route_metrics(struct call *c);
void route_completions(struct call *c, const struct json *body);
void route_chat(struct call *c, const struct json *body);
void route_tokenize(struct call *c, const struct json *body);
void route_detokenize(struct call *c, const struct json *body);
void route_apply_template(struct call *c, const struct json *body);

/* 0, or -1 and 404 model_not_found, when the body names another model. */
int call_check_model(const struct call *c, const struct json *body, struct api_error *e);
