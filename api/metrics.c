/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics in Prometheus' text format 0.0.4. Label values come from fixed sets, except for the
 * model's and the device's name, of which there is one each. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/call.h"
#include "base/clock.h"

#define HIST_N 24

static void family(struct strbuf *sb, const char *name, const char *type, const char *help)
{
	sb_printf(sb, "# HELP driftd_%s %s\n# TYPE driftd_%s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped. */
static void label_text(struct strbuf *sb, const char *s)
{
	for (; *s; s++) {
		if (*s == '\\' || *s == '"')
			sb_char(sb, '\\');
		if (*s == '\n')
			sb_str(sb, "\\n");
		else
			sb_char(sb, *s);
	}
}

struct writer {
	struct strbuf sb;
	const char *model;
};

/* driftd_NAME{model="..",EXTRA} VALUE; `extra` has its own quotes, or is NULL. */
static void sample(struct writer *w, const char *name, const char *extra, double v)
{
	sb_printf(&w->sb, "driftd_%s{model=\"", name);
	label_text(&w->sb, w->model);
	sb_printf(&w->sb, "\"%s%s} ", extra ? "," : "", extra ? extra : "");
	if (v >= 0 && v < 1e15 && v == floor(v))
		sb_printf(&w->sb, "%.0f\n", v);
	else
		sb_printf(&w->sb, "%.9g\n", isfinite(v) && v > 0 ? v : 0.0);
}

static void gauge(struct writer *w, const char *name, const char *help, double v)
{
	family(&w->sb, name, "gauge", help);
	sample(w, name, NULL, v);
}

static void counter(struct writer *w, const char *name, const char *help, double v)
{
	family(&w->sb, name, "counter", help);
	sample(w, name, NULL, v);
}

static void histogram(struct writer *w, const char *name, const char *help,
		      const uint64_t hist[HIST_N], double sum, uint64_t n)
{
	char full[64], le[40];
	uint64_t total = 0;

	(void)n;
	family(&w->sb, name, "histogram", help);
	snprintf(full, sizeof full, "%s_bucket", name);
	for (int i = 0; i < HIST_N; i++) {
		total += hist[i];
		if (i == HIST_N - 1)
			snprintf(le, sizeof le, "le=\"+Inf\"");
		else
			snprintf(le, sizeof le, "le=\"%g\"", sched_bounds_s[i]);
		sample(w, full, le, (double)total);
	}
	snprintf(full, sizeof full, "%s_sum", name);
	sample(w, full, NULL, sum);
	snprintf(full, sizeof full, "%s_count", name);
	sample(w, full, NULL, (double)total);
}

static void requests(struct writer *w, const struct sched_stats *s, const struct served *sv)
{
	gauge(w, "num_requests_running", "Sequences being computed.", s->running);
	gauge(w, "num_requests_waiting", "Requests in the queue.", s->waiting);
	gauge(w, "waiting_prompt_tokens", "Prompt tokens in the queue.", s->waiting_tok);
	gauge(w, "queue_capacity", "Requests that the queue holds.", sv->m.queue_requests);
	counter(w, "requests_total", "Requests taken.", (double)s->requests);
	family(&w->sb, "request_success_total", "counter", "Answers finished, by reason.");
	sample(w, "request_success_total", "finished_reason=\"stop\"", (double)s->finished_stop);
	sample(w, "request_success_total", "finished_reason=\"length\"",
	       (double)s->finished_length);
	counter(w, "request_errors_total", "Requests that failed.", (double)s->finished_error);
	family(&w->sb, "requests_cancelled_total", "counter",
	       "Requests whose client left, by what they were in.");
	sample(w, "requests_cancelled_total", "phase=\"queue\"", (double)s->cancelled_queue);
	sample(w, "requests_cancelled_total", "phase=\"prefill\"", (double)s->cancelled_prefill);
	sample(w, "requests_cancelled_total", "phase=\"decode\"", (double)s->cancelled_decode);
	family(&w->sb, "requests_rejected_total", "counter", "Requests refused, by reason.");
	sample(w, "requests_rejected_total", "reason=\"queue_full\"", (double)s->rejected_queue);
	sample(w, "requests_rejected_total", "reason=\"quota\"", (double)s->rejected_quota);
	counter(w, "num_preemptions_total", "Sequences put back for lack of KV pages.",
		(double)s->preemptions);
}

static void tokens(struct writer *w, const struct sched_stats *s)
{
	const struct engine_stats *e = &s->engine;

	counter(w, "prompt_tokens_total", "Prompt tokens taken in, cached ones included.",
		(double)s->prompt_tok);
	counter(w, "prompt_tokens_cached_total", "Prompt tokens found in the prefix cache.",
		(double)s->cached_tok);
	counter(w, "generation_tokens_total", "Tokens generated.", (double)s->generated_tok);
	counter(w, "spec_decode_num_draft_tokens_total", "Tokens guessed by speculation.",
		(double)s->draft_tok);
	counter(w, "spec_decode_num_accepted_tokens_total", "Of these, tokens that were right.",
		(double)s->draft_accepted_tok);
	counter(w, "prefix_cache_queries_total", "Tokens looked for in the prefix cache.",
		(double)e->prefix_query_tok);
	counter(w, "prefix_cache_hits_total", "Tokens found there.", (double)e->prefix_hit_tok);
	gauge(w, "kv_cache_usage_perc", "KV pages held by sequences, 0 to 1.",
	      e->pages_total ? (double)e->pages_used / e->pages_total : 0);
	family(&w->sb, "kv_pages", "gauge", "KV pages by state.");
	sample(w, "kv_pages", "state=\"used\"", e->pages_used);
	sample(w, "kv_pages", "state=\"cached\"", e->pages_cached);
	sample(w, "kv_pages", "state=\"free\"",
	       e->pages_total > e->pages_used + e->pages_cached
		       ? e->pages_total - e->pages_used - e->pages_cached
		       : 0);
	counter(w, "steps_total", "Steps of the engine.", (double)s->steps);
	counter(w, "launches_total", "Kernel launches.", (double)e->launches);
	counter(w, "rows_total", "Token rows computed.", (double)e->rows);
	family(&w->sb, "kernel_builds_total", "counter", "Programs built, by origin.");
	sample(w, "kernel_builds_total", "from=\"source\"", (double)e->builds_source);
	sample(w, "kernel_builds_total", "from=\"binary\"", (double)e->builds_binary);
	counter(w, "request_queue_time_seconds_total", "Time spent in the queue.", s->queue_s);
	counter(w, "request_prefill_time_seconds_total", "Time spent in prefill.", s->prefill_s);
	counter(w, "request_decode_time_seconds_total", "Time spent in decode.", s->decode_s);
	histogram(w, "time_to_first_token_seconds", "From request to first token.", s->hist_ttft,
		  s->ttft_sum_s, s->ttft_n);
	histogram(w, "inter_token_latency_seconds", "Between tokens of one answer.", s->hist_itl,
		  s->itl_sum_s, s->itl_n);
}

static void memory(struct writer *w, const struct engine_plan *p, const struct sched_stats *s)
{
	static const char *const kinds[] = {"weights", "kv", "activations", "step"};
	struct strbuf extra = {0};

	family(&w->sb, "model_loaded", "gauge", "1 while a model is served.");
	sb_str(&extra, "device=\"");
	label_text(&extra, p->device);
	sb_str(&extra, "\"");
	sample(w, "model_loaded", sb_text(&extra), 1);
	family(&w->sb, "device_memory_bytes", "gauge",
	       "Device memory allocated, by kind, as the backend counts it.");
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		char kind[40];

		snprintf(kind, sizeof kind, "kind=\"%s\"", kinds[i]);
		sample(w, "device_memory_bytes", kind, (double)s->device_bytes[i]);
	}
	sb_done(&extra);
}

/* Answers by route and class of status; routes of one name are one series. */
static void http_requests(struct api *a, struct strbuf *sb)
{
	family(sb, "http_requests_total", "counter", "Answers, by handler and class of status.");
	for (size_t i = 0; i <= api_n_routes; i++) {
		const char *name = i < api_n_routes ? api_routes[i].name : "other";
		bool first = true;

		for (size_t j = 0; j < i && i < api_n_routes; j++)
			first &= strcmp(api_routes[j].name, name) != 0;
		for (int class = 2; first && class < STATUS_CLASSES; class ++) {
			uint64_t n = 0;

			for (size_t j = 0; j < api_n_routes; j++)
				if (!strcmp(api_routes[j].name, name))
					n += atomic_load(&a->counts[j][class]);
			if (i == api_n_routes)
				n = atomic_load(&a->counts[ROUTES_MAX - 1][class]);
			sb_printf(sb,
				  "driftd_http_requests_total{handler=\"%s\",status=\"%dxx\"} "
				  "%" PRIu64 "\n",
				  name, class, n);
		}
	}
}

void route_metrics(struct call *c)
{
	struct api *a = c->api;
	struct served *s = atomic_load(&a->served);
	struct writer w = {.model = s ? s->id : ""};
	struct sched_stats st;

	family(&w.sb, "build_info", "gauge", "The program's version.");
	sb_printf(&w.sb, "driftd_build_info{version=\"");
	label_text(&w.sb, a->version);
	sb_str(&w.sb, "\"} 1\n");
	family(&w.sb, "start_time_seconds", "gauge", "When the server started, since the epoch.");
	sb_printf(&w.sb, "driftd_start_time_seconds %" PRId64 "\n", a->start_unix_s);
	family(&w.sb, "http_connections", "gauge", "Connections now.");
	sb_printf(&w.sb, "driftd_http_connections %" PRIu32 "\n", http_connections(a->http));
	http_requests(a, &w.sb);
	if (s) {
		sched_get_stats(s->m.sched, &st);
		requests(&w, &st, s);
		tokens(&w, &st);
		memory(&w, &s->m.plan, &st);
	}
	call_reply_type(c, 200, "text/plain; version=0.0.4; charset=utf-8", &w.sb);
}
