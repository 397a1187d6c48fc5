/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes, and the handlers that only look: health and models. */
#include <stdlib.h>
#include <string.h>

#include "api/call.h"

const struct route api_routes[] = {
	{.method = "GET", .path = "/health", .name = "health", .open = true, .run = route_health},
	{.method = "GET",
	 .path = "/v1/health",
	 .name = "health",
	 .open = true,
	 .run = route_health},
	{.method = "GET", .path = "/metrics", .name = "metrics", .run = route_metrics},
	{.method = "GET",
	 .path = "/v1/models",
	 .name = "models",
	 .needs_model = true,
	 .run = route_models},
	{.method = "GET",
	 .path = "/models",
	 .name = "models",
	 .needs_model = true,
	 .run = route_models},
	{.method = "GET",
	 .path = "/v1/models/*",
	 .name = "models",
	 .needs_model = true,
	 .run = route_model},
	{.method = "GET",
	 .path = "/models/*",
	 .name = "models",
	 .needs_model = true,
	 .run = route_model},
	{.method = "POST",
	 .path = "/v1/completions",
	 .name = "completions",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_completions},
	{.method = "POST",
	 .path = "/completions",
	 .name = "completions",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_completions},
	{.method = "POST",
	 .path = "/v1/chat/completions",
	 .name = "chat",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_chat},
	{.method = "POST",
	 .path = "/chat/completions",
	 .name = "chat",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_chat},
	{.method = "POST",
	 .path = "/tokenize",
	 .name = "tokenize",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_tokenize},
	{.method = "POST",
	 .path = "/detokenize",
	 .name = "detokenize",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_detokenize},
	{.method = "POST",
	 .path = "/apply-template",
	 .name = "apply-template",
	 .needs_model = true,
	 .prepare = true,
	 .run_json = route_apply_template},
};
const size_t api_n_routes = sizeof api_routes / sizeof *api_routes;

void route_health(struct call *c)
{
	struct api *a = c->api;
	struct served *s = atomic_load(&a->served);
	const char *word = "ok", *code = NULL, *msg = NULL;
	struct strbuf sb = {0};
	struct api_error e = {0};
	struct jw w;

	if (atomic_load(&a->draining)) {
		word = "draining", code = "shutting_down", msg = "the server is shutting down";
	} else if (atomic_load(&a->failed) || (s && !sched_healthy(s->m.sched))) {
		word = "failed", code = "model_failed", msg = "the model can't be used";
	} else if (!s) {
		word = "loading", code = "model_loading", msg = "the model is still loading";
	}
	jw_init(&w, &sb);
	jw_obj(&w);
	jw_kstr(&w, "status", word);
	if (code) {
		api_error_set(&e, 503, code, NULL, "%s", msg);
		jw_key(&w, "error");
		api_error_write(&e, &w);
	}
	jw_obj_end(&w);
	call_reply(c, code ? 503 : 200, &sb);
}

static void write_model(const struct served *s, struct jw *w)
{
	const struct model *m = s->m.model;

	jw_obj(w);
	jw_kstr(w, "id", s->id);
	jw_kstr(w, "object", "model");
	jw_kint(w, "created", s->created_unix_s);
	jw_kstr(w, "owned_by", "driftd");
	jw_kint(w, "context_length", s->context_tok);
	jw_kint(w, "max_model_len", s->context_tok);
	jw_key(w, "meta");
	jw_obj(w);
	jw_kint(w, "n_ctx", s->context_tok);
	jw_kint(w, "n_ctx_train", m->graph.context_train);
	jw_kint(w, "n_vocab", tokenizer_n_vocab(m->tokenizer));
	jw_kint(w, "n_params", (int64_t)m->n_params);
	jw_kint(w, "size", (int64_t)m->file_bytes);
	jw_kstr(w, "architecture", m->architecture);
	jw_obj_end(w);
	jw_obj_end(w);
}

void route_models(struct call *c)
{
	struct strbuf sb = {0};
	struct jw w;

	jw_init(&w, &sb);
	jw_obj(&w);
	jw_kstr(&w, "object", "list");
	jw_key(&w, "data");
	jw_arr(&w);
	write_model(c->served, &w);
	jw_arr_end(&w);
	jw_obj_end(&w);
	call_reply(c, 200, &sb);
}

void route_model(struct call *c)
{
	struct strbuf sb = {0};
	struct api_error e = {0};
	struct jw w;

	if (!c->tail || strcmp(c->tail, c->served->id) != 0) {
		api_error_set(&e, 404, "model_not_found", "model",
			      "the model \"%.100s\" does not exist; the one served is \"%s\"",
			      c->tail ? c->tail : "", c->served->id);
		call_error(c, &e);
		return;
	}
	jw_init(&w, &sb);
	write_model(c->served, &w);
	call_reply(c, 200, &sb);
}
