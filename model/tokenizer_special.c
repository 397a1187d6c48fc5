/* SPDX-License-Identifier: Apache-2.0 */
/* The trie of special spellings. Its edges are in one hash map, so that neither many tokens nor
 * long common beginnings make a step dear. */
#include "model/tokenizer_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"

static int node_new(struct special *s, uint32_t *ret)
{
	if (s->n_nodes == s->cap_nodes) {
		size_t cap = s->cap_nodes ? s->cap_nodes * 2 : 256, bytes;
		uint32_t *ids;
		if (s->n_nodes >= SPECIAL_NODES_MAX)
			return -E2BIG;
		if (!ck_mul(cap, sizeof(*ids), &bytes))
			return -ENOMEM;
		ids = realloc(s->ids, bytes);
		if (!ids)
			return -ENOMEM;
		s->ids = ids;
		s->cap_nodes = cap;
	}
	*ret = (uint32_t)s->n_nodes++;
	s->ids[*ret] = SPECIAL_NONE;
	return 0;
}

int special_init(struct special *s)
{
	uint32_t root;

	*s = (struct special){0};
	if (u64map_init(&s->edges, 256) < 0)
		return -ENOMEM;
	return node_new(s, &root);
}

void special_done(struct special *s)
{
	u64map_done(&s->edges);
	free(s->ids);
	*s = (struct special){0};
}

int special_add(struct special *s, const char *spelling, size_t len, uint32_t id, bool control)
{
	uint32_t node = 0;

	for (size_t i = 0; i < len; i++) {
		uint64_t edge = (uint64_t)node << 8 | (uint8_t)spelling[i], next;
		int r;
		if (u64map_get(&s->edges, edge, &next)) {
			node = (uint32_t)next;
			continue;
		}
		if ((r = node_new(s, &node)) < 0 || (r = u64map_put(&s->edges, edge, node)) < 0)
			return r;
	}
	s->ids[node] = id | (control ? SPECIAL_CONTROL : 0);
	s->first[(uint8_t)spelling[0]] = true;
	return 0;
}

size_t special_match(const struct special *s, const char *text, size_t len, size_t control_len,
		     uint32_t *ret_id)
{
	size_t found = 0;
	uint64_t node = 0;

	if (!len || !s->first[(uint8_t)text[0]])
		return 0;
	for (size_t i = 0; i < len; i++) {
		uint32_t id;
		if (!u64map_get(&s->edges, node << 8 | (uint8_t)text[i], &node))
			break;
		id = s->ids[node];
		if (id == SPECIAL_NONE || ((id & SPECIAL_CONTROL) && i >= control_len))
			continue;
		*ret_id = id & ~SPECIAL_CONTROL;
		found = i + 1;
	}
	return found;
}
