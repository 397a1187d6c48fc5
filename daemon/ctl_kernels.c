/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl kernels: the programs that a model gets on a device, which need not be there, and their sources. */
#include "daemon/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "core/programs.h"
#include "model/model.h"

/* How the first line of a dumped source begins: what begins otherwise is not ours to overwrite. */
#define MARK "// driftctl kernels, compiler options:"

static const char help[] =
	"Usage: driftctl kernels -m FILE -d DEVICE [OPTION]...\n"
	"Lists the programs that a model gets on a device, and for each kernel the operation, the\n"
	"steps that run it (decode: a row a sequence; prefill: more rows; -: copies of pages, and\n"
	"prompts with log-probabilities), for how many rows, the weight's format, how many launches\n"
	"of a step may run it, work-items a group, work-groups, and bytes of source. DEVICE may be\n"
	"one that is not there, such as cuda:sm_90: then facts are taken from a table.\n\n"
	"      --stage NAME       only kernels that prefill, or decode, runs\n"
	"      --dump FOLDER      write each program there, as NAME.cl or NAME.cu\n"
	"      --context N        tokens of one sequence at most [the model's]\n"
	"      --kv-tokens N      tokens in the pool of all sequences\n" CTL_ENGINE_HELP;

struct listing {
	const struct ctl_engine_args *args;
	const char *model;
	const char *dump; /* folder, or NULL */
	unsigned stages;  /* shown: bits of enum program_stage; 0: all */
	struct strbuf out;
	struct jw w;
	bool begun;     /* a program has been shown */
	struct err err; /* the first error of a callback */
};

static bool starts_with(int fd, const char *mark)
{
	char head[sizeof(MARK)];
	const size_t n = strlen(mark);

	return pread(fd, head, n, 0) == (ssize_t)n && memcmp(head, mark, n) == 0;
}

static int write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t w = write(fd, data, n);

		if (w < 0 && errno != EINTR)
			return -errno;
		if (w > 0) {
			data += w;
			n -= (size_t)w;
		}
	}
	return 0;
}

/* The source, after a comment with what it was made for. A file of another origin stays. */
static int write_file(const char *path, const struct program_info *p, struct err *reterr)
{
	struct strbuf head = {0};
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct stat st = {0};
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	} else if (st.st_size > 0 && !starts_with(fd, MARK)) {
		r = err_set(reterr, -EEXIST, "%s: is there, and not by 'driftctl kernels': it is left alone", path);
	} else {
		sb_printf(&head, MARK " %s\n// device: %s\n", p->options, p->device);
		r = st.st_size > 0 && ftruncate(fd, 0) < 0 ? -errno : head.failed ? -ENOMEM : 0;
		if (r == 0)
			r = write_all(fd, sb_text(&head), head.len);
		if (r == 0)
			r = write_all(fd, p->text, p->bytes);
		if (r < 0)
			err_set(reterr, r, "%s: %s", path, strerror(-r));
	}
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	sb_done(&head);
	return r;
}

static int dump(const char *folder, const struct program_info *p, struct err *reterr)
{
	struct strbuf path = {0};
	int r = 0;

	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		return err_set(reterr, -errno, "%s: %s", folder, strerror(errno));
	sb_printf(&path, "%s/%s.%s", folder, p->name, p->suffix);
	if (path.failed)
		r = err_set(reterr, -ENOMEM, "out of memory");
	else
		r = write_file(sb_text(&path), p, reterr);
	sb_done(&path);
	return r;
}

/* --- a program --- */

static void program_json(struct listing *l, const struct program_info *p)
{
	struct jw *w = &l->w;

	if (l->begun) {
		jw_arr_end(w);
		jw_obj_end(w);
	} else {
		jw_obj(w);
		jw_kstr(w, "model", l->model);
		jw_kstr(w, "device", p->device);
		jw_kbool(w, "device_present", !p->absent);
		jw_kint(w, "parallel", p->parallel);
		jw_kint(w, "batch_tokens", p->batch_tok);
		jw_kint(w, "tile_columns", p->tile_cols);
		jw_kint(w, "tile_halves", p->tile_halves);
		jw_key(w, "programs");
		jw_arr(w);
	}
	jw_obj(w);
	jw_kstr(w, "name", p->name);
	jw_kstr(w, "suffix", p->suffix);
	jw_kstr(w, "options", p->options);
	jw_key(w, "source_bytes");
	jw_uint(w, p->bytes);
	jw_key(w, "entry");
	if (p->entry)
		jw_str(w, p->entry);
	else
		jw_null(w);
	jw_key(w, "kernels");
	jw_arr(w);
}

static void program_text(struct listing *l, const struct program_info *p)
{
	struct strbuf *out = &l->out;
	char size[CTL_BYTES_TEXT];

	if (!l->begun) {
		sb_printf(out, "model        %s\n", l->model);
		sb_printf(out, "device       %s\n", p->device);
		sb_printf(out, "steps        decode with 1 to %" PRIu32 " rows, prefill with up to %" PRIu32 "\n",
			  p->parallel, p->batch_tok);
		if (p->tile_cols)
			sb_printf(out, "tile         %" PRIu32 " columns, %s of a product for many rows\n", p->tile_cols,
				  p->tile_halves == 1 ? "one half after the other" : "both halves");
	}
	sb_printf(out, "\nprogram      %s.%s: %" PRIu32 " %s%s, %s\n", p->name, p->suffix, p->n_kernels,
		  p->entry ? "functions of " : "kernels", p->entry ? p->entry : "", ctl_bytes(p->bytes, size));
	sb_printf(out, "options      %s\n\n", p->options);
	sb_printf(out, "%-19s %-11s %-7s %7s %-6s %8s %5s %19s %6s\n", "kernel", "operation", "stage", "rows",
		  "format", "launches", "group", "work-groups", "bytes");
}

static void add_program(void *ud, const struct program_info *p)
{
	struct listing *l = ud;

	if (l->args->json)
		program_json(l, p);
	else
		program_text(l, p);
	l->begun = true;
	if (l->dump && !l->err.code)
		dump(l->dump, p, &l->err);
}

/* --- a kernel --- */

static const char *stage_name(unsigned stages)
{
	return stages == PROGRAM_DECODE    ? "decode"
	       : stages == PROGRAM_PREFILL ? "prefill"
	       : stages                    ? "both"
					   : "-";
}

static void grid_json(struct jw *w, const char *key, const uint32_t grid[2])
{
	jw_key(w, key);
	jw_arr(w);
	jw_uint(w, grid[0]);
	jw_uint(w, grid[1]);
	jw_arr_end(w);
}

static void kernel_json(struct jw *w, const struct program_kernel *k)
{
	jw_obj(w);
	jw_kstr(w, "name", k->name);
	jw_kstr(w, "template", k->template_name);
	jw_kstr(w, "operation", k->op);
	jw_kstr(w, "stage", stage_name(k->stages));
	jw_kint(w, "rows_min", k->rows_min);
	jw_kint(w, "rows_max", k->rows_max);
	jw_kstr(w, "format", k->format);
	jw_kint(w, "k", k->k);
	jw_kint(w, "m", k->m);
	jw_kint(w, "launches", k->launches);
	jw_kint(w, "group", k->group);
	grid_json(w, "grid_min", k->grid_min);
	grid_json(w, "grid_max", k->grid_max);
	jw_key(w, "source_bytes");
	jw_uint(w, k->bytes);
	jw_obj_end(w);
}

/* "1", "5-32", "-" */
static void rows_text(const struct program_kernel *k, char *ret, size_t cap)
{
	if (!k->rows_max)
		snprintf(ret, cap, "-");
	else if (k->rows_min == k->rows_max)
		snprintf(ret, cap, "%" PRIu32, k->rows_min);
	else
		snprintf(ret, cap, "%" PRIu32 "-%" PRIu32, k->rows_min, k->rows_max);
}

/* "36x1", "36x1-36x16", "-" */
static void grid_text(const struct program_kernel *k, char *ret, size_t cap)
{
	const uint32_t *a = k->grid_min, *b = k->grid_max;

	if (!b[0])
		snprintf(ret, cap, "-");
	else if (a[0] == b[0] && a[1] == b[1])
		snprintf(ret, cap, "%" PRIu32 "x%" PRIu32, b[0], b[1]);
	else
		snprintf(ret, cap, "%" PRIu32 "x%" PRIu32 "-%" PRIu32 "x%" PRIu32, a[0], a[1], b[0], b[1]);
}

static void kernel_text(struct strbuf *out, const struct program_kernel *k)
{
	char rows[32], grid[64];

	rows_text(k, rows, sizeof(rows));
	grid_text(k, grid, sizeof(grid));
	sb_printf(out, "%-19s %-11s %-7s %7s %-6s %8" PRIu32 " %5" PRIu32 " %19s %6zu\n", k->name, k->op,
		  stage_name(k->stages), rows, k->format[0] ? k->format : "-", k->launches, k->group, grid, k->bytes);
}

static void add_kernel(void *ud, const struct program_kernel *k)
{
	struct listing *l = ud;

	if (l->stages && !(l->stages & k->stages))
		return;
	if (l->args->json)
		kernel_json(&l->w, k);
	else
		kernel_text(&l->out, k);
}

static int run(struct listing *l)
{
	const struct ctl_engine_args *a = l->args;
	struct model m = {0};
	int r = model_open_graph(&m, a->model, &l->err);

	jw_init(&l->w, &l->out);
	l->model = m.id;
	if (r == 0)
		r = engine_programs(&m.graph, &a->o, add_program, add_kernel, l, &l->err);
	model_close(&m);
	if (r < 0 || l->err.code) {
		sb_done(&l->out);
		return ctl_fail(&l->err);
	}
	if (a->json) {
		jw_arr_end(&l->w);
		jw_obj_end(&l->w);
		jw_arr_end(&l->w);
		jw_obj_end(&l->w);
		sb_char(&l->out, '\n');
	}
	return ctl_print(&l->out);
}

int ctl_kernels(int argc, char **argv)
{
	enum { OPT_STAGE = CTL_OPT_OWN, OPT_DUMP };
	static const struct option longs[] = {CTL_ENGINE_LONG,
					      {"stage", required_argument, NULL, OPT_STAGE},
					      {"dump", required_argument, NULL, OPT_DUMP},
					      {0}};
	struct ctl_engine_args a = {.o = CTL_ENGINE_DEFAULTS};
	struct listing l = {.args = &a};
	int o, status;

	while ((o = getopt_long(argc, argv, CTL_ENGINE_SHORT, longs, NULL)) != -1) {
		if (o == 'h') {
			fputs(help, stdout);
			return CTL_OK;
		}
		if (o == OPT_DUMP) {
			l.dump = optarg;
		} else if (o == OPT_STAGE) {
			l.stages = strcmp(optarg, "decode") == 0    ? PROGRAM_DECODE
				   : strcmp(optarg, "prefill") == 0 ? PROGRAM_PREFILL
								    : 0;
			if (!l.stages)
				return ctl_usage("kernels", "--stage: '%s' is not prefill or decode", optarg);
		} else if (!ctl_engine_option(&a, "kernels", o, optarg, &status)) {
			return ctl_usage_hint("kernels");
		} else if (status) {
			return status;
		}
	}
	if (!a.model)
		return ctl_usage("kernels", "a model is needed (-m FILE)");
	if (optind < argc)
		return ctl_usage("kernels", "'%s' is too much", argv[optind]);
	if (l.dump && !l.dump[0])
		return ctl_usage("kernels", "--dump: the folder's name is empty");
	return run(&l);
}
