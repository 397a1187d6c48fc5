/* SPDX-License-Identifier: Apache-2.0 */
/* Text in, text out. Names stay short because they stand in compilers' messages; #line gives those the
 * template's own line numbers. */
#include "core/kgen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/features.h"

#define MMA_GROUP_ROWS 256
#define MMA_GROUP_ROWS_MAX 1024
#define MMA_HEAD_MAX 256 /* of attention_mma.k: what registers hold */
#define MMA_LOCAL_BYTES ((size_t)48 << 10)
#define DRAW_LOCAL_BYTES ((size_t)16 << 10) /* enough for three words of each element of a chunk */

static const char *find_text(const char *name)
{
	for (const struct kernel_text *t = kernel_texts; t->name; t++)
		if (strcmp(t->name, name) == 0)
			return t->text;
	return NULL;
}

const struct kgen_tile kgen_tiles[KGEN_TILES] = {{8, 1}, {8, 2}, {4, 1}, {4, 2}};

int kgen_target(const struct be_info *dev, uint32_t head_dim, uint32_t disable, struct kgen_target *ret,
		struct err *reterr)
{
	struct kgen_target t = {.dialect = dev->dialect, .dot = dev->dot, .images = dev->images};
	const bool cpu = dev->type == BE_CPU;
	/* decided by the device's own dot product, so that packing is the same without it */
	const uint32_t wide = dev->dot == BE_DOT_AVX_VNNI ? 8 : 16;

	t.lanes = cpu ? wide : 4;
	if (disable & FEATURE_DOT)
		t.dot = BE_DOT_PORTABLE;
	while (t.lanes > 4 && head_dim % (2 * t.lanes))
		t.lanes /= 2;
	if (head_dim == 0 || head_dim % (2 * t.lanes))
		return err_set(reterr, -ENOTSUP, "a head of %u channels is no multiple of 8", head_dim);
	t.group = cpu ? 1 : 64;
	t.group_wide = cpu ? 1 : 64;
	while (t.group > 1 && t.group > dev->group_max)
		t.group /= 2;
	t.group_wide = t.group;
	t.group_rows = t.group;
	t.split_cols = !cpu;
	/* a GPU has registers for both halves, and loads an activation once for both */
	t.tile = kgen_tiles[cpu ? 0 : 1];
	t.columns = !(disable & FEATURE_COLUMNS);
	t.prefetch = !(disable & FEATURE_PREFETCH);
	t.best = !(disable & FEATURE_CANDIDATES);
	t.draw = t.best && t.group > 1 && dev->local_bytes >= DRAW_LOCAL_BYTES && !(disable & FEATURE_DRAW);
	t.rows_in_memory = dev->lists && !(disable & FEATURE_REPLAY);
	t.multi = t.best && !(disable & FEATURE_MULTI_STEP);
	/* its largest work-group, and what that keeps in local memory, are needed; a head has whole tiles */
	if (dev->group_max >= MMA_GROUP_MAX && dev->local_bytes >= MMA_LOCAL_BYTES && head_dim % (2 * MMA_LANES) == 0 &&
	    head_dim <= MMA_HEAD_MAX)
		t.mma = dev->mma;
	t.mma_float = t.mma == BE_MMA_SM80 || t.mma == BE_MMA_PORTABLE; /* SM 7.5 has no bfloat16 */
	t.mma_plain = disable & FEATURE_MMA;
	t.w_lanes = t.mma ? MMA_LANES : t.lanes;
	if (t.mma)
		t.group_rows = MMA_GROUP_ROWS;
	t.group_rows_max = t.group_rows;
	while (t.mma && t.group_rows_max * 2 <= dev->group_max && t.group_rows_max < MMA_GROUP_ROWS_MAX)
		t.group_rows_max *= 2;
	if (t.dialect == BE_DIALECT_CUDA)
		snprintf(t.options, sizeof t.options, "--gpu-architecture=%s --fmad=false --std=c++17 -default-device",
			 dev->arch);
	else /* 1.2 is what every driver compiles alike; the packed dot product is declared from 3.0 on */
		snprintf(t.options, sizeof t.options, "-cl-std=%s -w", t.dot == BE_DOT_KHR ? "CL3.0" : "CL1.2");
	t.one_kernel = cpu && t.dialect == BE_DIALECT_OPENCL && !(disable & FEATURE_ONE_KERNEL);
	*ret = t;
	return 0;
}

const char *kgen_options(const struct kgen_target *t)
{
	return t->options;
}

void kdefs_init(struct kdefs *d)
{
	memset(d, 0, sizeof *d);
}

void kdefs_done(struct kdefs *d)
{
	sb_done(&d->text);
	sb_done(&d->undefs);
	sb_done(&d->params_in);
	sb_done(&d->params_out);
}

static void define(struct kdefs *d, const char *name, const char *args, const char *fmt, va_list ap)
{
	sb_printf(&d->text, "#define %s%s ", name, args);
	sb_vprintf(&d->text, fmt, ap);
	sb_char(&d->text, '\n');
	sb_printf(&d->undefs, "#undef %s\n", name);
}

void kdefs_set(struct kdefs *d, const char *name, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	define(d, name, "", fmt, ap);
	va_end(ap);
}

/* #define PREFIX_tensor(args) ... */
__attribute__((format(printf, 5, 6))) static void accessor(struct kdefs *d, const char *prefix,
							   const char *tensor, const char *args,
							   const char *fmt, ...)
{
	char name[64];
	va_list ap;
	snprintf(name, sizeof name, "%s_%s", prefix, tensor);
	va_start(ap, fmt);
	define(d, name, args, fmt, ap);
	va_end(ap);
}

static void buffer_accessors(struct kdefs *d, const char *n, const struct binding *b, bool write)
{
	const char *type = b->ints ? "int" : "float", *vec = b->ints ? "I4" : "F4";

	if (write) {
		sb_printf(&d->params_out, "BUF_OUT(%s, %s), ", type, n);
		if (b->ints)
			accessor(d, "ROW", n, "(r)", "(PTR_OUT(int, %s) + (ulong)(r) * %u)", n, b->slices * 4);
		if (b->inner) {
			accessor(d, "INNER", n, "(r, i)", "(PTR_OUT(int, %s) + (ulong)(r) * %u + (i) * 8)", n,
				 b->slices * 4);
			return;
		}
		accessor(d, b->ints ? "WRITEI" : "WRITE", n, "(r, s, v)",
			 "STORE_%s(v, PTR_OUT(%s, %s) + ((ulong)(r) * %u + (s)) * 4)", vec, type, n,
			 b->slices);
		if (!b->ints)
			accessor(d, "WRITEV", n, "(r, i, v)",
				 "VSTORE_F(v, PTR_OUT(float, %s) + (ulong)(r) * %u + (i) * LANES)", n,
				 b->slices * 4);
		return;
	}
	sb_printf(&d->params_in, "BUF_IN(%s, %s), ", type, n);
	if (b->inner) {
		accessor(d, "GROUP", n, "(r, i)", "(PTR_IN(int, %s) + ((ulong)((r) / 8) * %u + (i)) * 8)", n,
			 b->slices * 4);
		accessor(d, "READI", n, "(r, c, i)",
			 "(*(ROW_ALONE && COLS == 1 ? PTR_IN(int, %s) + (i) : GROUP_%s(r, i) + (r) %% 8 + (c)))", n, n);
		accessor(d, "DOTI", n, "(acc, u, r, c, i)", "DOT4_AT(acc, u, &READI_%s(r, c, i))", n);
	} else if (b->ints) {
		accessor(d, "READI", n, "(r, c, i)", "(PTR_IN(int, %s)[(ulong)((r) + (c)) * %u + (i)])", n,
			 b->slices * 4);
		accessor(d, "DOTI", n, "(acc, u, r, c, i)", "DOT4_AT(acc, u, &READI_%s(r, c, i))", n);
	} else {
		accessor(d, "READ", n, "(r, s)",
			 "LOAD_F4(PTR_IN(float, %s) + ((ulong)(r) * %u + (s)) * 4)", n, b->slices);
		accessor(d, "READV", n, "(r, i)", "VLOAD_F(PTR_IN(float, %s) + (ulong)(r) * %u + (i) * LANES)", n,
			 b->slices * 4);
	}
}

/* Texel i of a texture is at (i mod W, i / W). */
static void texture_accessors(struct kdefs *d, const char *n, const struct binding *b, bool write)
{
	if (write) {
		sb_printf(&d->params_out, "__write_only image2d_t %s_image, ", n);
		accessor(d, b->ints ? "WRITEI" : "WRITE", n, "(r, s, v)",
			 "write_image%s(%s_image, TEXEL_XY((r) * %u + (s)), v)", b->ints ? "i" : "f", n,
			 b->slices);
		if (!b->ints)
			accessor(d, "WRITEV", n, "(r, i, v)", "texels_write(%s_image, (r) * %u + (i) * (LANES / 4), v)",
				 n, b->slices);
		return;
	}
	sb_printf(&d->params_in, "__read_only image2d_t %s_image, ", n);
	if (b->ints) {
		accessor(d, "READI", n, "(r, c, i)",
			 "texel_i(read_imagei(%s_image, TEXEL_SAMPLER, TEXEL_XY(((r) + (c)) * %u + ((i) >> 2))), i)",
			 n, b->slices);
		accessor(d, "DOTI", n, "(acc, u, r, c, i)", "dot4(acc, u, READI_%s(r, c, i))", n);
	} else {
		accessor(d, "READ", n, "(r, s)",
			 "read_imagef(%s_image, TEXEL_SAMPLER, TEXEL_XY((r) * %u + (s)))", n, b->slices);
		accessor(d, "READV", n, "(r, i)", "texels_read(%s_image, (r) * %u + (i) * (LANES / 4))", n,
			 b->slices);
	}
}

void kdefs_tensor(struct kdefs *d, const char *name, const struct binding *b, bool write)
{
	if (b->storage == STORAGE_TEXTURE2D)
		texture_accessors(d, name, b, write);
	else
		buffer_accessors(d, name, b, write);
}

static const char *dot_name(enum be_dot dot)
{
	switch (dot) {
	case BE_DOT_AVX512_VNNI:
		return "DOT_AVX512_VNNI";
	case BE_DOT_AVX_VNNI:
		return "DOT_AVX_VNNI";
	case BE_DOT_KHR:
		return "DOT_KHR";
	case BE_DOT_DP4A:
		return "DOT_DP4A";
	case BE_DOT_PORTABLE:
		break;
	}
	return "DOT_PORTABLE";
}

static const char *mma_name(enum be_mma mma)
{
	return mma == BE_MMA_SM80 ? "MMA_SM80" : mma == BE_MMA_SM75 ? "MMA_SM75" : "MMA_PORTABLE";
}

/* What step.k and core/stages.c agree on. */
static void stage_names(struct kgen *k)
{
	const struct {
		const char *name;
		int value;
	} names[] = {
		{"STEP_KERNEL", 1},
		{"STEP_OBJECTS", STEP_OBJECTS},
		{"OBJECT_STEP", OBJECT_STEP},
		{"OBJECT_BEST", OBJECT_BEST},
		{"STAGE_VARIANTS", STAGE_VARIANTS},
		{"STAGE_COLS", STAGE_COLS},
		{"STAGE_SIZE", STAGE_SIZE},
		{"STAGE_GRID", STAGE_GRID},
		{"STAGE_ROWS", STAGE_ROWS},
		{"STAGE_SPLIT", STAGE_SPLIT},
		{"STAGE_NEXT", STAGE_NEXT},
		{"STAGE_NEXT_TILE_BYTES", STAGE_NEXT_TILE_BYTES},
		{"STAGE_NEXT_TILES", STAGE_NEXT_TILES},
		{"STAGE_ARGS", STAGE_ARGS},
		{"STAGE_WORDS", STAGE_WORDS},
		{"STEP_NEIGHBOURS", STEP_NEIGHBOURS},
		{"STEP_AHEAD_LINES", STEP_AHEAD_LINES},
		{"STEP_OWN_ROWS", STEP_OWN_ROWS},
		{"STAGE_GRID_TILES", GRID_TILES},
		{"SYNC_DRAWN", SYNC_DRAWN},
		{"STAGE_GRID_ROWS", GRID_ROWS},
		{"STAGE_GRID_HEADS", GRID_HEADS_ROWS},
		{"STAGE_GRID_ROW_GROUPS", GRID_SIZE_ROW_GROUPS},
		{"STAGE_GRID_ATTENTION", GRID_ATTENTION},
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		sb_printf(&k->text, "#define %s %d\n", names[i].name, names[i].value);
}

void kgen_init(struct kgen *k, const struct kgen_target *t)
{
	memset(k, 0, sizeof *k);
	k->target = *t;
	sb_printf(&k->text, "#define LANES %u\n#define %s 1\n", t->lanes, dot_name(t->dot));
	if (t->mma)
		sb_printf(&k->text, "#define ROW_LIST 1\n#define KV_MMA 1\n#define %s 1\n%s", mma_name(t->mma),
			  t->mma_plain ? "#define MMA_PLAIN 1\n" : "");
	if (t->half)
		sb_printf(&k->text, "#define HALF_ROWS %d\n", MMA_HALF_ROWS);
	if (t->rows_in_memory)
		sb_str(&k->text, "#define ROWS_IN_MEMORY 1\n");
	if (t->kv_q8)
		sb_str(&k->text, "#define KV_Q8 1\n");
	if (!t->prefetch)
		sb_str(&k->text, "#define NO_PREFETCH 1\n");
	if (t->one_kernel)
		stage_names(k);
	const char *prelude = t->dialect == BE_DIALECT_CUDA ? "prelude_cuda" : "prelude_opencl";
	sb_printf(&k->text, "#line 1 \"%s.k\"\n", prelude);
	sb_str(&k->text, find_text(prelude));
	if (t->dialect == BE_DIALECT_CUDA || t->dot == BE_DOT_DP4A || t->mma >= BE_MMA_SM75) {
		sb_str(&k->text, "#line 1 \"ptx.k\"\n");
		sb_str(&k->text, find_text("ptx"));
	}
	if (t->inner_rows)
		sb_printf(&k->text, "#define INNER_ROWS %d\n#define ROW_ALONE %d\n", INNER_ROWS, t->columns);
	sb_str(&k->text, "#line 1 \"common.k\"\n");
	sb_str(&k->text, find_text("common"));
	if (t->mma) {
		sb_str(&k->text, "#line 1 \"mma.k\"\n");
		sb_str(&k->text, find_text("mma"));
	}
	if (t->images && t->dialect == BE_DIALECT_OPENCL) {
		sb_printf(&k->text, "#define TEXTURE_W_LOG2 %d\n#line 1 \"texture.k\"\n", TEXTURE_W_LOG2);
		sb_str(&k->text, find_text("texture"));
	}
	sb_str(&k->text, "#line 1 \"kv.k\"\n");
	sb_str(&k->text, find_text("kv"));
	sb_str(&k->text, "#line 1 \"epilogue.k\"\n");
	sb_str(&k->text, find_text("epilogue"));
}

void kgen_done(struct kgen *k)
{
	sb_done(&k->text);
	for (uint32_t i = 0; i < k->n_kernels; i++)
		free(k->keys[i]);
	memset(k, 0, sizeof *k);
}

/* The key of a kernel: its template and everything that is defined for it. */
static char *make_key(const char *template_name, const struct kdefs *d)
{
	struct strbuf sb = {0};
	sb_printf(&sb, "%s\n%s%s|%s", template_name, sb_text(&d->text), sb_text(&d->params_in),
		  sb_text(&d->params_out));
	return sb_take(&sb, NULL);
}

int kgen_add(struct kgen *k, const char *template_name, struct kdefs *d, uint32_t n_bufs,
	     struct err *reterr)
{
	const char *text = find_text(template_name);
	if (!text)
		return err_set(reterr, -ENOENT, "no kernel template '%s'", template_name);
	char *key = make_key(template_name, d);
	if (!key)
		return err_set(reterr, -ENOMEM, "out of memory generating kernels");
	for (uint32_t i = 0; i < k->n_kernels; i++) {
		if (strcmp(k->keys[i], key) == 0) {
			free(key);
			return (int)i;
		}
	}
	if (k->n_kernels == KGEN_KERNELS_MAX) {
		free(key);
		return err_set(reterr, -E2BIG, "more than %d different kernels", KGEN_KERNELS_MAX);
	}
	const uint32_t n = k->n_kernels++;
	k->keys[n] = key;
	k->n_bufs[n] = n_bufs;
	snprintf(k->names[n], KGEN_NAME_MAX, "%.30s_%u", template_name, n);

	const bool format = strstr(sb_text(&d->text), "#define FORMAT ") != NULL;
	const size_t before = k->text.len;
	sb_printf(&k->text, "\n#define KNAME %s\n%s", k->names[n], sb_text(&d->text));
	sb_printf(&k->text, "#define PARAM_IN %s\n#define PARAM_OUT %s\n", sb_text(&d->params_in),
		  sb_text(&d->params_out));
	if (format)
		sb_printf(&k->text, "#line 1 \"formats.k\"\n%s", find_text("formats"));
	sb_printf(&k->text, "#line 1 \"%s.k\"\n%s\n", template_name, text);
	if (format)
		sb_str(&k->text, find_text("formats_end"));
	sb_printf(&k->text, "#undef KNAME\n#undef PARAM_IN\n#undef PARAM_OUT\n%s", sb_text(&d->undefs));
	k->bytes[n] = k->text.len - before;
	if (k->text.failed || d->text.failed || d->undefs.failed)
		return err_set(reterr, -ENOMEM, "out of memory generating kernels");
	return (int)n;
}

/* Which function a stage calls, and with which of its buffers. */
static void step_cases(struct kgen *k)
{
	sb_str(&k->text, "#define STEP_CASES");
	for (uint32_t i = 0; i < k->n_kernels; i++) {
		sb_printf(&k->text, " STEP_CASE(%u, %s(", i, k->names[i]);
		for (uint32_t b = 0; b < k->n_bufs[i]; b++)
			sb_printf(&k->text, "STEP_BUF(%u), ", b);
		sb_str(&k->text, "n_rows, x, y, ny))");
	}
	sb_str(&k->text, "\n#define STEP_OBJECTS_PARAM");
	for (int i = 0; i < STEP_OBJECTS; i++)
		sb_printf(&k->text, " BUF_OUT(char, m%d),", i);
	sb_str(&k->text, "\n#define STEP_OBJECTS_LIST");
	for (int i = 0; i < STEP_OBJECTS; i++)
		sb_printf(&k->text, " PTR_OUT(char, m%d),", i);
	sb_char(&k->text, '\n');
}

int kgen_finish(struct kgen *k, struct err *reterr)
{
	if (k->target.one_kernel) {
		step_cases(k);
		sb_printf(&k->text, "#line 1 \"step.k\"\n%s", find_text("step"));
	}
	return k->text.failed ? err_set(reterr, -ENOMEM, "out of memory generating kernels") : 0;
}
