/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stages.h"

#include <string.h>

_Static_assert(LAUNCH_VARIANTS == STAGE_VARIANTS - 1, "a stage has one kernel more: that of split keys");
_Static_assert(LAUNCH_ARGS_MAX <= STAGE_ARGS_MAX, "a launch's buffers don't fit into a stage");

void stage_write(const struct klaunch *k, struct stage_place (*place)(const void *ud, const struct karg *a),
		 const void *ud, uint64_t *dst)
{
	memset(dst, 0, STAGE_WORDS * sizeof *dst);
	for (uint32_t v = 0; v < LAUNCH_VARIANTS; v++) {
		const uint32_t last = k->n_variants - 1;
		const uint32_t fn = k->kernel[v < last ? v : last];
		dst[v] = fn == KERNEL_NONE ? UINT64_MAX : fn;
		/* rows beyond the last variant's are that variant's, too */
		if (v < LAUNCH_VARIANTS - 1)
			dst[STAGE_COLS + v] = v < last ? k->cols[v] : INT32_MAX;
	}
	dst[STAGE_VARIANTS - 1] = k->split_kernel == KERNEL_NONE ? UINT64_MAX : k->split_kernel;
	dst[STAGE_SIZE] = k->size;
	dst[STAGE_GRID] = k->grid;
	dst[STAGE_ROWS] = k->rows == ROWS_OUT;
	dst[STAGE_SPLIT] = k->by_split;
	/* the last argument is the number of rows: a parameter */
	for (uint32_t i = 0; i + 1 < k->n_args; i++) {
		const struct stage_place p = place(ud, &k->args[i]);
		dst[STAGE_ARGS + 2 * i] = p.object;
		dst[STAGE_ARGS + 2 * i + 1] = p.offset_bytes;
	}
}

void stages_look_ahead(const struct lowered *l, uint64_t *list)
{
	uint64_t next[4] = {0}; /* object, offset, bytes of a tile, tiles */

	/* twice, for a step's last stages look ahead to the first of the step that follows */
	for (uint32_t n = 2 * l->n_step; n-- > 0;) {
		const uint32_t i = n % l->n_step;
		const struct klaunch *k = &l->launches[i];
		uint64_t *stage = list + (size_t)i * STAGE_WORDS;
		memcpy(stage + STAGE_NEXT, next, sizeof next);
		if (k->grid != GRID_TILES || k->args[0].type != KARG_WEIGHT)
			continue;
		next[0] = stage[STAGE_ARGS];
		next[1] = stage[STAGE_ARGS + 1];
		next[2] = l->weights[k->args[0].index].pack.tile_bytes;
		next[3] = k->size;
	}
}
