/* SPDX-License-Identifier: Apache-2.0 */
#include "core/launch.h"

uint32_t launch_variant(const struct klaunch *k, uint32_t n)
{
	uint32_t v = 0;

	while (v + 1 < k->n_variants && n > k->cols[v])
		v++;
	return v;
}

struct launch_shape launch_shape(const struct lowered *l, const struct klaunch *k, uint32_t n,
				 const struct attention_step *a)
{
	const struct kgen_target *t = &l->gen.target;
	struct launch_shape s = {.kernel = KERNEL_NONE};
	const uint32_t v = launch_variant(k, n);
	const uint32_t kernel = k->by_split && a->split ? k->split_kernel : k->kernel[v];
	if (n == 0 || kernel == KERNEL_NONE)
		return s;
	s = (struct launch_shape){.kernel = kernel, .group = k->groups[v], .grid = {1, 1}};
	switch (k->grid) {
	case GRID_TILES:
		s.grid[0] = (k->size + k->tiles[v] - 1) / k->tiles[v];
		s.grid[1] = t->split_cols ? (n + k->cols[v] - 1) / k->cols[v] : 1;
		break;
	case GRID_ROWS:
		s.grid[0] = (n + k->size - 1) / k->size;
		break;
	case GRID_SIZE_ROW_GROUPS: /* what step.k calls Q_ROWS */
		s.grid[0] = k->size;
		s.grid[1] = t->inner_rows ? (n + INNER_ROWS - 1) / INNER_ROWS : n;
		break;
	case GRID_HEADS_ROWS:
		s.grid[0] = k->size;
		s.grid[1] = n;
		break;
	case GRID_ATTENTION:
		s.grid[0] = k->size;
		s.grid[1] = a->groups;
		break;
	}
	return s;
}
