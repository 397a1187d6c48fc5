/* SPDX-License-Identifier: Apache-2.0 */
/* The layout pass: binds each activation of a fused graph to a physical object of the device, a range
 * of one arena buffer or a 2D texture. Logical tensors say nothing of memory (ML Drift, section 3.1);
 * after this pass a tensor is (object, offset, texels a row), and the generator turns that into
 * accessors. A pure function: it allocates nothing on a device.
 *
 * Texels are four 32-bit components: four floats, or sixteen int8. Row r, slice s of a tensor is texel
 * i = r * slices + s; in a buffer at offset + 16 i, in a texture at (i mod W, i / W) for one W. In a CPU's
 * buffer the int8 of INNER_ROWS rows stand dword by dword side by side: a product takes so many rows at
 * once, and finds their dwords in one place; those of an operation's only row stand without gaps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "base/err.h"
#include "core/engine.h"
#include "core/graph.h"

#define TEXEL_BYTES 16
#define INNER_ROWS 8
#define TEXTURE_W_LOG2 10 /* W = 1,024 texels: every OpenCL device can do that */

struct binding {
	bool bound; /* false: nobody produces it */
	enum storage_kind storage;
	bool ints;         /* int8 in texels of int4 */
	bool inner;        /* INNER_ROWS rows, dword by dword */
	uint32_t slices;   /* texels a row */
	uint32_t object;   /* index into layout.objects */
	size_t offset, bytes;
	uint32_t first_op, last_op;
};

struct layout_object {
	enum be_mem_kind kind;
	size_t bytes;
	size_t image_h; /* 0: a buffer; else a texture of W x image_h texels */
	enum be_texel texel;
};

struct layout {
	struct binding *bindings; /* [n_tensors] */
	struct layout_object *objects;
	uint32_t n_tensors, n_objects;
	size_t naive_bytes, planned_bytes, bound_bytes; /* activations */
	size_t act_bytes;                               /* what the objects take, by mode */
};

/* Binds all activations of `g` (fused) for steps of at most `rows` rows, `out_rows` of them with
 * logits. `inner_rows`: in buffers the int8 of INNER_ROWS rows stand side by side. `int_buffers`: int8
 * are in buffers whatever `storage` says. The logits are a buffer of
 * their own, of kind BE_MEM_STEP. 0; -EINVAL; -ENOTSUP where the
 * device has no images; -ENOMEM. Any thread. */
int layout_init(struct layout *l, const struct graph *g, const struct be_info *dev,
                enum storage_kind storage, enum plan_mode mode, uint32_t rows, uint32_t out_rows,
                bool inner_rows, bool int_buffers, struct err *reterr);
void layout_done(struct layout *l); /* zeroed is fine */
