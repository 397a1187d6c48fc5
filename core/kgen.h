/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel generator: puts a program's text together from the templates in kernels/. One program
 * holds all kernels of a model. Before each template stand its constants, its epilogue and, for each
 * tensor it reads or writes, accessors that translate logical coordinates (row, slice) to where the
 * layout pass has bound the tensor (ML Drift, section 3.2: translation at generation time, at no cost
 * at run time). Two kernels that come out the same are one. Pure text: no device, any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "base/err.h"
#include "base/strbuf.h"
#include "core/layout.h"

#define KGEN_KERNELS_MAX 256
#define KGEN_NAME_MAX 48

/* The templates, from kernels/NAME.k, put into the binary at build time; ends with a NULL name. */
struct kernel_text {
	const char *name, *text;
};
extern const struct kernel_text kernel_texts[];

/* The shape of what a work-item of a product for many tokens holds in registers: so many tokens, and one half of
 * its tile (2 x lanes rows of the weight) after the other, or both. Which is fastest depends on how many registers
 * there are; results do not. */
struct kgen_tile {
	uint32_t cols, halves; /* up to 8, a power of two; 1 or 2 */
};
#define KGEN_TILES 4
extern const struct kgen_tile kgen_tiles[KGEN_TILES]; /* those that tune.c measures */

/* What the generator decides from a device's facts. */
struct kgen_target {
	enum be_dialect dialect;
	enum be_dot dot;
	uint32_t lanes;       /* rows a vector: 16 and 8 where a CPU's registers hold them, 4 on GPUs */
	enum be_mma mma;      /* products of quantized weights by matrix units: linear_mma.k; int8 are in buffers then */
	bool mma_float;       /* and of float weights, as pairs of bfloat16: linear_mma_float.k */
	bool half;            /* products of many tokens in half precision: linear_mma_half.k */
	bool mma_plain;       /* the int8 tiles by plain code all the same: what is exact has the same bits */
	uint32_t w_lanes;     /* rows a half tile of a quantized weight: lanes, or what matrix units want */
	uint32_t group;       /* work-items that share a row: 1 on a CPU */
	uint32_t group_rows;  /* of norms and quantization, a row each: as many as leave an item few vectors */
	uint32_t group_rows_max; /* with matrix units, where a row is so long */
	uint32_t group_wide;  /* work-items a group where each has a tile of its own */
	bool split_cols;      /* groups of tokens go to different work-groups (GPU), or one after another */
	bool images;
	bool inner_rows;      /* the layout has int8 of INNER_ROWS rows side by side: see common.k */
	bool columns;         /* variants of products for several tokens a work-item, so that one of COLS == 1 runs for
			       * one row only, whose int8 then stand without gaps */
	bool prefetch;
	struct kgen_tile tile;
	bool multi;           /* several steps in one go: a step's tokens may be the best of the one before */
	bool best;            /* the device finds the most probable token of each row: best.k */
	bool draw;            /* and those that may be drawn: draw.k */
	bool rows_in_memory;  /* kernels read the number of rows from the step's parameters: they can be recorded, for
			       * more rows than a step has */
	bool kv_q8;           /* K and V in the pool are int8 (kernels/kv.k) */
	char options[96];     /* of the compiler, for this device */
	bool one_kernel;      /* templates become functions of one kernel, step.k, which walks a list of stages */
};

/* How many work-groups a launch has; the order matters to step.k. */
enum grid {
	GRID_TILES,            /* x: tiles over those of a work-group; y: groups of columns, where the target splits them */
	GRID_ROWS,             /* x: rows over `size` */
	GRID_HEADS_ROWS,       /* x: `size` heads, y: rows */
	GRID_SIZE_ROW_GROUPS,  /* x: `size`, y: rows over INNER_ROWS or 1 */
	GRID_ATTENTION,        /* x: `size` items, y: what attention_step_cut says */
};

#define MMA_HALF_ROWS 32  /* steps of more rows have products in half precision, where that is wanted */
#define MMA_LANES 8       /* rows of a half tile: 16 in all, as matrix units have them */
#define MMA_PARTS_MAX 16  /* of K, a warp each: linear_mma.k */
#define MMA_GROUP_MAX (32 * MMA_PARTS_MAX)

#define STEP_OBJECTS 16 /* memory objects that a step kernel is given, in this order: */
enum {
	OBJECT_STEP,    /* parameters of steps */
	OBJECT_BEST,    /* best tokens */
	OBJECT_WEIGHTS, /* the first of these, behind them K and V, then the layout's */
};
/* A stage of step.k: unsigned longs, and where in them what is. */
enum {
	STAGE_VARIANTS = 4, /* [0, 4): the kernel for few to many rows, and (the last) where a step's
	                     * attention is split */
	STAGE_COLS = 4,     /* [4, 6): most rows of the first and the second variant */
	STAGE_SIZE = 6,     /* tiles or heads */
	STAGE_GRID = 7,     /* enum grid */
	STAGE_ROWS = 8,     /* 0: rows of the step, 1: rows with logits */
	STAGE_SPLIT = 9,    /* 1: the last variant where a step's attention is split */
	STAGE_NEXT = 10,    /* (object, byte offset) of the weights that a later stage is the next to read */
	STAGE_NEXT_TILE_BYTES = 12,
	STAGE_NEXT_TILES = 13, /* 0: there are none */
	STAGE_ARGS = 14,       /* then (object, byte offset) for each buffer */
	STAGE_WORDS = 48,
	STAGE_ARGS_MAX = (STAGE_WORDS - STAGE_ARGS) / 2,
};
#define STEP_ENTRY "driftd_step"
#define STEP_WORKERS_MAX 256
#define STEP_NEIGHBOURS 8     /* of so many workers' parts does one look for work, its own included */
#define STEP_AHEAD_LINES 4096 /* most lines of 64 bytes that a worker asks for early: a quarter of a MiB */
#define STEP_OWN_ROWS 32      /* with so many rows a worker or more, products are cut by rows, not by tiles */
#define SYNC_GAVE_UP 32       /* in a step kernel's barrier, in ints: see step.k */
#define SYNC_DRAWN 48
#define SYNC_BYTES ((SYNC_DRAWN + 16 * STEP_WORKERS_MAX) * 4)

/* Chooses for a device; `head_dim` limits the lanes: 2 * lanes must divide it. 0, or -ENOTSUP when no
 * width divides it. `disable`: bits of enum feature. */
int kgen_target(const struct be_info *dev, uint32_t head_dim, uint32_t disable, struct kgen_target *ret,
                struct err *reterr);

/* The definitions of one kernel, gathered before it is added. */
struct kdefs {
	struct strbuf text;      /* #define lines */
	struct strbuf undefs;
	struct strbuf params_in, params_out;
};

void kdefs_init(struct kdefs *d);
void kdefs_done(struct kdefs *d);
void kdefs_set(struct kdefs *d, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Accessors and a parameter for a tensor called `name` in the template: READ_name, READV_name,
 * READI_name or WRITE_name, WRITEV_name, WRITEI_name (or INNER_name(r, i) to write to and
 * GROUP_name(r, i) to read from: where dword i of the INNER_ROWS rows that r is the first of is); READV and
 * WRITEV go by vectors of LANES channels. READI_name(r, c, i) is dword i of row r + c, where r is a multiple of
 * a power of two up to 8 and c less than it (with COLS == 1 and ROW_ALONE of row 0, the only one that the launch
 * may have then); DOTI_name(acc, u, r, c, i) is dot4 of acc, u and that dword.
 * Parameters come in the order of these calls, inputs first. */
void kdefs_tensor(struct kdefs *d, const char *name, const struct binding *b, bool write);

struct kgen {
	struct strbuf text;
	struct kgen_target target;
	uint32_t n_kernels;
	char names[KGEN_KERNELS_MAX][KGEN_NAME_MAX];
	char *keys[KGEN_KERNELS_MAX]; /* the template's name in the first line, then what is defined */
	uint32_t n_bufs[KGEN_KERNELS_MAX]; /* buffer parameters */
	size_t bytes[KGEN_KERNELS_MAX];    /* of the text that is a kernel's own */
};

void kgen_init(struct kgen *k, const struct kgen_target *t);
void kgen_done(struct kgen *k);
/* Adds a kernel from a template (or finds the same one); its index into names, or -errno. It has `n_bufs`
 * buffers or images as parameters, then the number of rows. */
int kgen_add(struct kgen *k, const char *template_name, struct kdefs *d, uint32_t n_bufs,
             struct err *reterr);
/* After the last kernel: adds the step kernel where the target has one. 0 or -ENOMEM. */
int kgen_finish(struct kgen *k, struct err *reterr);
/* Compiler options for the program. */
const char *kgen_options(const struct kgen_target *t);
