/* SPDX-License-Identifier: Apache-2.0 */
/* Several steps in one go. Where every sequence takes the most probable token, the device knows the next step's
 * tokens before the host does (kernels/embed.k looks them up), and everything else about it is known before:
 * positions, pages, angles. So the host asks once for several tokens, and neither its thread nor the device's
 * have to be woken in between. What a sequence does not want of it (its answer ended) was computed for nothing;
 * nobody sees it. */
#include "core/engine_priv.h"

_Static_assert(ENGINE_MORE_MAX == STEP_MORE_MAX, "the engine's door says what a device can do");

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* How many steps may follow. */
static uint32_t count(const struct engine *e, const struct step_item *items, uint32_t n_items,
		      const struct step_out *out)
{
	uint32_t n = STEP_MORE_MAX;

	if (e->blueprint.n_sets == 1 || e->run.n_rows != n_items || e->run.n_out != n_items)
		return 0;
	n = least(n, e->blueprint.plan.batch_tok / n_items - 1);
	for (uint32_t i = 0; i < n_items; i++) {
		const struct step_item *it = &items[i];
		if (it->n_tok != 1 || it->n_draft || e->wants_logits[i] || e->ask[i].mode != SAMPLE_ROW || !out[i].accepted)
			return 0;
		/* with the one token there are pages for what follows */
		n = least(n, least(it->n_more, kvpool_seq_capacity(e->pool, it->seq) -
						       kvpool_seq_len(e->pool, it->seq) - 1));
	}
	return n;
}

void engine_multi_fill(struct engine *e, const struct step_item *items, uint32_t n_items,
		       const struct step_out *out)
{
	e->run.n_more = count(e, items, n_items, out);
	for (uint32_t r = n_items; r < n_items * (1 + e->run.n_more); r++) {
		const uint32_t i = r % n_items;
		e->token[r] = STEP_DRAWN(i);
		e->pos[r] = e->pos[i] + r / n_items;
		e->slot[r] = kvpool_slot(e->pool, items[i].seq, e->pos[r]);
		e->table[r] = e->table[i];
		engine_angles(e, e->pos[r], e->rope + (size_t)r * e->graph->rope.dims);
	}
}

/* Puts the tokens of `n` steps into the pool: the item's own and those drawn but for the last. */
static int commit(struct engine *e, const struct step_item *it, const struct step_out *out, uint32_t n)
{
	int r = kvpool_seq_append(e->pool, it->seq, it->tokens, 1);

	for (uint32_t k = 0; k + 1 < n && r == 0; k++)
		r = kvpool_seq_append(e->pool, it->seq, &out->accepted[k].chosen.token, 1);
	return r;
}

int engine_multi_read(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		      struct err *reterr)
{
	for (uint32_t i = 0; i < n_items; i++) {
		struct step_out *o = &out[i];
		struct position_out at;
		uint32_t n = 0;

		for (; n <= e->run.n_more; n++) {
			if (!engine_take_best(e, &items[i], e->best[n * n_items + i].token, &at))
				break;
			if (n)
				o->accepted[n - 1] = o->sampled;
			o->sampled.chosen = at.chosen;
			o->sampled.n_top = 0;
		}
		if (n == 0)
			continue;
		int r = commit(e, &items[i], o, n);
		if (r < 0)
			return err_set(reterr, r, "item %u: its tokens could not be committed", i);
		o->n_accepted = n - 1;
		e->item_done[i] = 1;
	}
	return 0;
}
