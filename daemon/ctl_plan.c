/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl plan: what a model would take of a device's memory, before anything is allocated. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "model/model.h"

static const char help[] =
	"Usage: driftctl plan -m FILE [OPTION]...\n"
	"Prints the memory that serving a model takes, part by part, and whether it fits. Nothing\n"
	"is allocated on the device. The exit status is 1 when it does not fit.\n\n"
	"      --context N        tokens of one sequence at most [the model's]\n"
	"      --kv-tokens N      tokens in the pool of all sequences\n"
	"                         [the larger of context and 16384, bounded by what fits]\n"
	"      --picture          draw the activation arena: tensors over "
	"operations\n" CTL_ENGINE_HELP;

struct arena_rows {
	struct row {
		char name[GRAPH_NAME_MAX];
		uint64_t offset_bytes, bytes;
		uint32_t first_op, last_op;
	} * list;
	size_t n, cap;
	bool failed;
};

static void add_row(void *ud, const struct engine_plan_row *r)
{
	struct arena_rows *rows = ud;
	struct row *row;

	if (rows->n == rows->cap && !rows->failed) {
		size_t cap = rows->cap ? 2 * rows->cap : 64;
		struct row *list = reallocarray(rows->list, cap, sizeof(*list));

		rows->failed = !list;
		if (list) {
			rows->list = list;
			rows->cap = cap;
		}
	}
	if (rows->failed)
		return;
	row = &rows->list[rows->n++];
	snprintf(row->name, sizeof(row->name), "%s", r->name);
	row->offset_bytes = r->offset_bytes;
	row->bytes = r->bytes;
	row->first_op = r->first_op;
	row->last_op = r->last_op;
}

static int by_first_use(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->first_op != y->first_op)
		return x->first_op < y->first_op ? -1 : 1;
	if (x->offset_bytes != y->offset_bytes)
		return x->offset_bytes < y->offset_bytes ? -1 : 1;
	return 0;
}

static unsigned screen_columns(void)
{
	struct winsize w = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 60)
		return w.ws_col;
	return 100;
}

/* A line a tensor; a column is one operation, or several where the screen is too narrow. */
static void draw(const struct arena_rows *rows, uint32_t n_ops, struct strbuf *out)
{
	const unsigned left = 50;
	unsigned room = screen_columns() - left - 1;
	uint32_t each = n_ops <= room ? 1 : (n_ops + room - 1) / room;
	uint32_t columns = (n_ops + each - 1) / each;

	if (columns > room)
		columns = room;
	sb_printf(out, "\n%-28s %9s %9s   operations 0 to %" PRIu32 ", a column is %" PRIu32 "\n",
		  "activation", "offset", "bytes", n_ops ? n_ops - 1 : 0, each);
	for (size_t i = 0; i < rows->n; i++) {
		const struct row *r = &rows->list[i];

		sb_printf(out, "%-28.28s %9" PRIu64 " %9" PRIu64 "  ", r->name, r->offset_bytes,
			  r->bytes);
		for (uint32_t c = 0; c < columns; c++)
			sb_char(out, c >= r->first_op / each && c <= r->last_op / each ? '#' : '.');
		sb_char(out, '\n');
	}
}

static void line(struct strbuf *out, const char *what, uint64_t bytes, const char *more)
{
	char text[CTL_BYTES_TEXT];

	sb_printf(out, "%-12s %10s  %15" PRIu64 "%s%s\n", what, ctl_bytes(bytes, text), bytes,
		  more[0] ? "  " : "", more);
}

/* What would fit in place of what was asked for. */
static void print_fit(const struct engine_plan *p, struct strbuf *out)
{
	const uint64_t need = p->total_bytes + p->margin_bytes;
	char missing[CTL_BYTES_TEXT];

	if (need > p->available_bytes)
		sb_printf(out, "\nIt does not fit: %s are missing.\n", ctl_bytes(need - p->available_bytes, missing));
	else
		sb_str(out, "\nIt does not fit: a layer's pool would be more than the largest buffer.\n");
	if (!p->fit_context_tok && !p->fit_parallel) {
		sb_str(out, "No context and no number of sequences would fit.\n");
		return;
	}
	sb_str(out, "Would fit: ");
	if (p->fit_context_tok)
		sb_printf(out, "a context of %" PRIu32 " with %" PRIu32 " sequences",
			  p->fit_context_tok, p->parallel);
	if (p->fit_parallel)
		sb_printf(out, "%s%" PRIu32 " sequences with a context of %" PRIu32,
			  p->fit_context_tok ? "; " : "", p->fit_parallel, p->context_tok);
	sb_str(out, p->fit_context_tok == p->context_tok ? ", in a smaller pool.\n" : ".\n");
}

static void print_text(const struct model *m, const struct engine_plan *p, struct strbuf *out)
{
	char a[CTL_BYTES_TEXT], b[CTL_BYTES_TEXT], c[CTL_BYTES_TEXT], more[160];

	sb_printf(out, "model        %s (%s, %.1f M parameters, file of %s)\n", m->id,
		  m->architecture, (double)m->n_params / 1e6, ctl_bytes(m->file_bytes, a));
	sb_printf(out, "device       %s\n", p->device);
	sb_printf(out,
		  "limits       context %" PRIu32 ", pool of %" PRIu32 " tokens, %" PRIu32
		  " sequences and %" PRIu32 " rows a step\n",
		  p->context_tok, p->kv_tok, p->parallel, p->batch_tok);
	sb_printf(out,
		  "graph        %" PRIu32 " operations, %" PRIu32 " activations, %" PRIu32
		  " launches a step\n\n",
		  p->n_ops, p->n_tensors, p->n_launches);
	line(out, "weights", p->weights_bytes, "");
	snprintf(more, sizeof(more), "%" PRIu64 " a token, %s", p->kv_bytes_per_tok,
		 p->kv_type == KV_Q8 ? "q8" : "f16");
	line(out, "KV pages", p->kv_bytes, more);
	snprintf(more, sizeof(more), "naive %s, planned %s, lower bound %s",
		 ctl_bytes(p->act_naive_bytes, a), ctl_bytes(p->act_planned_bytes, b),
		 ctl_bytes(p->act_bound_bytes, c));
	line(out, "activations", p->act_bytes, more);
	line(out, "step", p->step_bytes, "parameters, logits, staging");
	line(out, "total", p->total_bytes, "");
	if (p->margin_bytes)
		line(out, "margin", p->margin_bytes, "left free");
	if (p->available_bytes)
		line(out, "available", p->available_bytes, "");
	else
		sb_printf(out, "%-12s %10s\n", "available", "not known");
	if (p->fits)
		sb_str(out, "\nIt fits.\n");
	else
		print_fit(p, out);
}

static void print_json(const struct model *m, const struct engine_plan *p,
		       const struct arena_rows *rows, struct strbuf *out)
{
	const struct {
		const char *key;
		uint64_t v;
	} numbers[] = {
		{"weights_bytes", p->weights_bytes},
		{"kv_bytes", p->kv_bytes},
		{"kv_bytes_per_token", p->kv_bytes_per_tok},
		{"activations_naive_bytes", p->act_naive_bytes},
		{"activations_planned_bytes", p->act_planned_bytes},
		{"activations_bound_bytes", p->act_bound_bytes},
		{"activations_bytes", p->act_bytes},
		{"step_bytes", p->step_bytes},
		{"total_bytes", p->total_bytes},
		{"available_bytes", p->available_bytes},
		{"margin_bytes", p->margin_bytes},
		{"context", p->context_tok},
		{"kv_tokens", p->kv_tok},
		{"parallel", p->parallel},
		{"batch_tokens", p->batch_tok},
		{"fit_context", p->fit_context_tok},
		{"fit_parallel", p->fit_parallel},
		{"operations", p->n_ops},
		{"launches", p->n_launches},
		{"activations", p->n_tensors},
	};
	struct jw w;

	jw_init(&w, out);
	jw_obj(&w);
	jw_kstr(&w, "model", m->id);
	jw_kstr(&w, "device", p->device);
	jw_kbool(&w, "fits", p->fits);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		jw_key(&w, numbers[i].key);
		jw_uint(&w, numbers[i].v);
	}
	if (rows->n) {
		jw_key(&w, "arena");
		jw_arr(&w);
		for (size_t i = 0; i < rows->n; i++) {
			jw_obj(&w);
			jw_kstr(&w, "name", rows->list[i].name);
			jw_key(&w, "offset_bytes");
			jw_uint(&w, rows->list[i].offset_bytes);
			jw_key(&w, "bytes");
			jw_uint(&w, rows->list[i].bytes);
			jw_kint(&w, "first_operation", rows->list[i].first_op);
			jw_kint(&w, "last_operation", rows->list[i].last_op);
			jw_obj_end(&w);
		}
		jw_arr_end(&w);
	}
	jw_obj_end(&w);
	sb_char(out, '\n');
}

static int run(const struct ctl_engine_args *a, bool picture)
{
	struct model m = {0};
	struct engine_plan p;
	struct arena_rows rows = {0};
	struct strbuf out = {0};
	struct err e = {0};
	int status = CTL_FAILED;
	int r = model_open_graph(&m, a->model, &e);

	if (!r)
		r = engine_plan(&m.graph, &a->o, &p, &e);
	if (!r && picture)
		r = engine_plan_rows(&m.graph, &a->o, add_row, &rows, &e);
	if (!r && rows.failed)
		r = err_set(&e, -ENOMEM, "out of memory");
	if (r) {
		ctl_fail(&e);
	} else {
		if (rows.n)
			qsort(rows.list, rows.n, sizeof(*rows.list), by_first_use);
		if (a->json)
			print_json(&m, &p, &rows, &out);
		else
			print_text(&m, &p, &out);
		if (picture && !a->json)
			draw(&rows, p.n_ops, &out);
		status = ctl_print(&out);
		if (!p.fits)
			status = CTL_FAILED;
	}
	free(rows.list);
	model_close(&m);
	return status;
}

int ctl_plan(int argc, char **argv)
{
	static const struct option longs[] = {
		CTL_ENGINE_LONG, {"picture", no_argument, NULL, CTL_OPT_OWN}, {0}};
	struct ctl_engine_args a = {.o = CTL_ENGINE_DEFAULTS};
	bool picture = false;
	int o, status;

	while ((o = getopt_long(argc, argv, CTL_ENGINE_SHORT, longs, NULL)) != -1) {
		if (o == 'h') {
			fputs(help, stdout);
			return CTL_OK;
		}
		if (o == CTL_OPT_OWN)
			picture = true;
		else if (!ctl_engine_option(&a, "plan", o, optarg, &status))
			return ctl_usage_hint("plan");
		else if (status)
			return status;
	}
	if (!a.model)
		return ctl_usage("plan", "a model is needed (-m FILE)");
	if (optind < argc)
		return ctl_usage("plan", "'%s' is too much", argv[optind]);
	return run(&a, picture);
}
