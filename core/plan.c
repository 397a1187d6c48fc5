/* SPDX-License-Identifier: Apache-2.0 */
/* The memory planner. Every sum formed here is at most the naive total, which prepare() has
 * checked, so later additions need no check of their own. */
#include "core/plan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define NONE UINT32_MAX

/* The input, checked: rounded sizes and the order that most strategies want. */
struct input {
	const struct plan_record *r;
	size_t *bytes;    /* [n] rounded up to align */
	uint32_t *order;  /* [n] records by size descending, then by index */
	uint32_t *starts; /* [n_starts] operations at which a record begins, ascending, distinct */
	size_t sum;
	uint32_t n, n_starts;
};

struct sort_key {
	size_t bytes;
	uint32_t index;
};

static int by_bytes_desc(const void *va, const void *vb)
{
	const struct sort_key *a = va, *b = vb;

	if (a->bytes != b->bytes)
		return a->bytes > b->bytes ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int by_value_asc(const void *va, const void *vb)
{
	uint32_t a = *(const uint32_t *)va, b = *(const uint32_t *)vb;

	return a < b ? -1 : a > b;
}

/* calloc that gives something to free for a count of 0, so that NULL always means failure. */
static void *array_new(uint32_t count, size_t bytes)
{
	return calloc(count ? count : 1, bytes);
}

static void input_done(struct input *in)
{
	free(in->bytes);
	free(in->order);
	free(in->starts);
}

/* Fills `order` from any sizes; 0 or -ENOMEM. */
static int sort_desc(const size_t *bytes, uint32_t n, uint32_t *order)
{
	struct sort_key *keys = array_new(n, sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		keys[i] = (struct sort_key){bytes[i], i};
	qsort(keys, n, sizeof(*keys), by_bytes_desc);
	for (uint32_t i = 0; i < n; i++)
		order[i] = keys[i].index;
	free(keys);
	return 0;
}

static int check_records(struct input *in, size_t align)
{
	if (align == 0 || (align & (align - 1)) || in->n == NONE)
		return -EINVAL;
	for (uint32_t i = 0; i < in->n; i++)
		if (in->r[i].first > in->r[i].last)
			return -EINVAL;
	return 0;
}

static int prepare(const struct plan_record *r, uint32_t n, size_t align, struct input *ret)
{
	struct input in = {.r = r, .n = n};
	int code = check_records(&in, align);

	if (code)
		return code;
	in.bytes = array_new(n, sizeof(*in.bytes));
	in.order = array_new(n, sizeof(*in.order));
	in.starts = array_new(n, sizeof(*in.starts));
	if (!in.bytes || !in.order || !in.starts) {
		code = -ENOMEM;
		goto fail;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (!ck_align(r[i].bytes, align, &in.bytes[i]) ||
		    !ck_add(in.sum, in.bytes[i], &in.sum)) {
			code = -EOVERFLOW;
			goto fail;
		}
		in.starts[i] = r[i].first;
	}
	code = sort_desc(in.bytes, n, in.order);
	if (code)
		goto fail;
	qsort(in.starts, n, sizeof(*in.starts), by_value_asc);
	for (uint32_t i = 0; i < n; i++)
		if (i == 0 || in.starts[i] != in.starts[i - 1])
			in.starts[in.n_starts++] = in.starts[i];
	*ret = in;
	return 0;
fail:
	input_done(&in);
	return code;
}

static bool live_at(const struct plan_record *r, uint32_t op)
{
	return r->first <= op && op <= r->last;
}

static bool live_together(const struct plan_record *a, const struct plan_record *b)
{
	return a->first <= b->last && b->first <= a->last;
}

/* Operations between the ends of two records that are not live together, at least 1. */
static uint32_t distance(const struct plan_record *a, const struct plan_record *b)
{
	return a->first > b->last ? a->first - b->last : b->first - a->last;
}

/* The bytes live at an operation. What is live anywhere is also live at some start, so looking at
 * `starts` is enough for every maximum. */
static size_t breadth(const struct input *in, uint32_t op)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < in->n; i++)
		if (live_at(&in->r[i], op))
			sum += in->bytes[i];
	return sum;
}

void plan_done(struct plan *p)
{
	if (!p)
		return;
	free(p->offsets);
	memset(p, 0, sizeof(*p));
}

void plan_objects_done(struct plan_objects *p)
{
	if (!p)
		return;
	free(p->objects);
	free(p->object_bytes);
	memset(p, 0, sizeof(*p));
}

int plan_naive(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret)
{
	struct input in;
	struct plan p = {.n = n};
	int code = prepare(r, n, align, &in);

	if (code)
		return code;
	p.offsets = array_new(n, sizeof(*p.offsets));
	if (!p.offsets) {
		code = -ENOMEM;
	} else {
		for (uint32_t i = 0; i < n; i++) {
			p.offsets[i] = p.total;
			p.total += in.bytes[i];
		}
		*ret = p;
	}
	input_done(&in);
	return code;
}

/* Where record `rec` goes among the placed ones, which are in the order of their offsets. */
static size_t best_gap(const struct input *in, const size_t *offsets, const uint32_t *placed,
		       uint32_t n_placed, uint32_t rec)
{
	size_t end = 0, best = 0, best_gap_bytes = SIZE_MAX;
	bool found = false;

	for (uint32_t i = 0; i < n_placed; i++) {
		uint32_t p = placed[i];

		if (!live_together(&in->r[p], &in->r[rec]))
			continue;
		if (offsets[p] > end) {
			size_t gap = offsets[p] - end;

			if (gap >= in->bytes[rec] && gap < best_gap_bytes) {
				best_gap_bytes = gap;
				best = end;
				found = true;
			}
		}
		end = max_size(end, offsets[p] + in->bytes[p]);
	}
	return found ? best : end;
}

int plan_greedy_by_size(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret)
{
	struct input in;
	struct plan p = {.n = n};
	uint32_t *placed;
	int code = prepare(r, n, align, &in);

	if (code)
		return code;
	placed = array_new(n, sizeof(*placed));
	p.offsets = array_new(n, sizeof(*p.offsets));
	if (!placed || !p.offsets) {
		free(p.offsets);
		code = -ENOMEM;
		goto out;
	}
	for (uint32_t k = 0; k < n; k++) {
		uint32_t rec = in.order[k], at = k;
		size_t offset = best_gap(&in, p.offsets, placed, k, rec);

		p.offsets[rec] = offset;
		p.total = max_size(p.total, offset + in.bytes[rec]);
		for (; at > 0 && p.offsets[placed[at - 1]] > offset; at--)
			placed[at] = placed[at - 1];
		placed[at] = rec;
	}
	*ret = p;
out:
	free(placed);
	input_done(&in);
	return code;
}

int plan_bound(const struct plan_record *r, uint32_t n, size_t align, size_t *ret)
{
	struct input in;
	size_t bound = 0;
	int code = prepare(r, n, align, &in);

	if (code)
		return code;
	for (uint32_t s = 0; s < in.n_starts; s++)
		bound = max_size(bound, breadth(&in, in.starts[s]));
	*ret = bound;
	input_done(&in);
	return 0;
}

/* --- shared objects --- */

static int objects_new(uint32_t n, struct plan_objects *ret)
{
	*ret = (struct plan_objects){.n = n};
	ret->objects = array_new(n, sizeof(*ret->objects));
	ret->object_bytes = array_new(n, sizeof(*ret->object_bytes));
	if (!ret->objects || !ret->object_bytes) {
		plan_objects_done(ret);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		ret->objects[i] = NONE;
	return 0;
}

/* Puts a record into an object, a new one for NONE; the object grows as needed. */
static uint32_t objects_assign(struct plan_objects *p, const struct input *in, uint32_t rec,
			       uint32_t object)
{
	if (object == NONE)
		object = p->n_objects++;
	p->objects[rec] = object;
	p->object_bytes[object] = max_size(p->object_bytes[object], in->bytes[rec]);
	return object;
}

static void objects_finish(struct plan_objects *p)
{
	p->total = 0;
	for (uint32_t i = 0; i < p->n_objects; i++)
		p->total += p->object_bytes[i];
}

/* True when an object of `have` bytes suits a record of `want` better than one of `best`: the
 * smallest that holds it, else the one that must grow least. */
static bool suits_better(size_t have, size_t best, size_t want)
{
	if (have >= want)
		return best < want || have < best;
	return best < want && have > best;
}

/* The free object that suits the record best, or NONE. With `exact` only an equal size will do.
 * `busy` is work space of n bytes. */
static uint32_t find_object(const struct plan_objects *p, const struct input *in, uint32_t rec,
			    bool exact, unsigned char *busy)
{
	uint32_t best = NONE;

	memset(busy, 0, p->n_objects);
	for (uint32_t i = 0; i < in->n; i++)
		if (p->objects[i] != NONE && live_together(&in->r[i], &in->r[rec]))
			busy[p->objects[i]] = 1;
	for (uint32_t o = 0; o < p->n_objects; o++) {
		if (busy[o] || (exact && p->object_bytes[o] != in->bytes[rec]))
			continue;
		if (best == NONE ||
		    suits_better(p->object_bytes[o], p->object_bytes[best], in->bytes[rec]))
			best = o;
	}
	return best;
}

/* In the order of first use, as equal sizes allow. */
static int assign_equal(const struct input *in, struct plan_objects *p)
{
	unsigned char *busy = array_new(in->n, 1);

	if (!busy)
		return -ENOMEM;
	for (uint32_t s = 0; s < in->n_starts; s++)
		for (uint32_t i = 0; i < in->n; i++)
			if (in->r[i].first == in->starts[s])
				objects_assign(p, in, i, find_object(p, in, i, true, busy));
	free(busy);
	return 0;
}

static int assign_by_breadth(const struct input *in, struct plan_objects *p)
{
	unsigned char *busy = array_new(in->n, 1);
	size_t *breadths = array_new(in->n_starts, sizeof(*breadths));
	uint32_t *ops = array_new(in->n_starts, sizeof(*ops));
	int code = -ENOMEM;

	if (!busy || !breadths || !ops)
		goto out;
	for (uint32_t s = 0; s < in->n_starts; s++)
		breadths[s] = breadth(in, in->starts[s]);
	code = sort_desc(breadths, in->n_starts, ops);
	if (code)
		goto out;
	for (uint32_t s = 0; s < in->n_starts; s++) {
		for (uint32_t k = 0; k < in->n; k++) {
			uint32_t rec = in->order[k];

			if (p->objects[rec] == NONE && live_at(&in->r[rec], in->starts[ops[s]]))
				objects_assign(p, in, rec, find_object(p, in, rec, false, busy));
		}
	}
out:
	free(ops);
	free(breadths);
	free(busy);
	return code;
}

/* Work space of PLAN_BY_SIZE. `columns[o][u]` is the distance of record u to the nearest record of
 * object o, or NONE when the object is not free for it. */
struct by_size {
	const struct input *in;
	struct plan_objects *p;
	uint32_t **columns;   /* [n_objects] */
	uint32_t *class_of;   /* [n] positional maxima that are not below the record's size */
	uint32_t *near, *obj; /* [n] the nearest free object of each record not yet placed */
};

/* The k-th positional maximum is the largest k-th largest size among the operations. A record's
 * class is the number of maxima at or above its size: records of a class compete for the same
 * objects. */
static int find_classes(const struct input *in, uint32_t *class_of)
{
	size_t *maxima = array_new(in->n, sizeof(*maxima));
	uint32_t n_maxima = 0;

	if (!maxima)
		return -ENOMEM;
	for (uint32_t s = 0; s < in->n_starts; s++) {
		uint32_t pos = 0;

		for (uint32_t k = 0; k < in->n; k++) {
			uint32_t rec = in->order[k];

			if (!live_at(&in->r[rec], in->starts[s]))
				continue;
			maxima[pos] = max_size(maxima[pos], in->bytes[rec]);
			pos++;
		}
		if (pos > n_maxima)
			n_maxima = pos;
	}
	for (uint32_t i = 0; i < in->n; i++) {
		class_of[i] = 0;
		while (class_of[i] < n_maxima && maxima[class_of[i]] >= in->bytes[i])
			class_of[i]++;
	}
	free(maxima);
	return 0;
}

/* The next record: lowest class, then nearest to a free object, then largest, then first. */
static uint32_t next_record(const struct by_size *b)
{
	uint32_t best = NONE;

	for (uint32_t k = 0; k < b->in->n; k++) {
		uint32_t u = b->in->order[k];

		if (b->p->objects[u] != NONE)
			continue;
		if (best == NONE || b->class_of[u] < b->class_of[best] ||
		    (b->class_of[u] == b->class_of[best] && b->near[u] < b->near[best]))
			best = u;
	}
	return best;
}

/* Tells every record not yet placed that `rec` now lives in `object`. */
static void update_near(struct by_size *b, uint32_t rec, uint32_t object)
{
	uint32_t *column = b->columns[object];

	for (uint32_t u = 0; u < b->in->n; u++) {
		if (b->p->objects[u] != NONE)
			continue;
		if (!live_together(&b->in->r[u], &b->in->r[rec])) {
			uint32_t d = distance(&b->in->r[u], &b->in->r[rec]);

			if (column[u] != NONE && d < column[u])
				column[u] = d;
			if (column[u] < b->near[u]) {
				b->near[u] = column[u];
				b->obj[u] = object;
			}
			continue;
		}
		column[u] = NONE;
		if (b->obj[u] != object)
			continue;
		b->near[u] = b->obj[u] = NONE;
		for (uint32_t o = 0; o < b->p->n_objects; o++) {
			if (b->columns[o][u] < b->near[u]) {
				b->near[u] = b->columns[o][u];
				b->obj[u] = o;
			}
		}
	}
}

static int assign_by_size_run(struct by_size *b)
{
	uint32_t n = b->in->n;
	int code = find_classes(b->in, b->class_of);

	if (code)
		return code;
	for (uint32_t i = 0; i < n; i++)
		b->near[i] = b->obj[i] = NONE;
	for (uint32_t k = 0; k < n; k++) {
		uint32_t rec = next_record(b);
		uint32_t object = objects_assign(b->p, b->in, rec, b->obj[rec]);

		if (!b->columns[object]) {
			b->columns[object] = array_new(n, sizeof(uint32_t));
			if (!b->columns[object])
				return -ENOMEM;
			/* Free for all, as far away as can be: NONE - 1 is no real distance. */
			for (uint32_t u = 0; u < n; u++)
				b->columns[object][u] = NONE - 1;
		}
		update_near(b, rec, object);
	}
	return 0;
}

static int assign_by_size(const struct input *in, struct plan_objects *p)
{
	struct by_size b = {.in = in, .p = p};
	int code = -ENOMEM;

	b.columns = array_new(in->n, sizeof(*b.columns));
	b.class_of = array_new(in->n, sizeof(*b.class_of));
	b.near = array_new(in->n, sizeof(*b.near));
	b.obj = array_new(in->n, sizeof(*b.obj));
	if (b.columns && b.class_of && b.near && b.obj)
		code = assign_by_size_run(&b);
	for (uint32_t o = 0; b.columns && o < in->n; o++)
		free(b.columns[o]);
	free(b.columns);
	free(b.class_of);
	free(b.near);
	free(b.obj);
	return code;
}

static int plan_shared(const struct plan_record *r, uint32_t n, size_t align,
		       int (*assign)(const struct input *in, struct plan_objects *p),
		       struct plan_objects *ret)
{
	struct input in;
	struct plan_objects p;
	int code = prepare(r, n, align, &in);

	if (code)
		return code;
	code = objects_new(n, &p);
	if (!code) {
		code = assign(&in, &p);
		if (code) {
			plan_objects_done(&p);
		} else {
			objects_finish(&p);
			*ret = p;
		}
	}
	input_done(&in);
	return code;
}

int plan_equality(const struct plan_record *r, uint32_t n, size_t align, struct plan_objects *ret)
{
	return plan_shared(r, n, align, assign_equal, ret);
}

int plan_greedy_objects(const struct plan_record *r, uint32_t n, size_t align,
			enum plan_order order, struct plan_objects *ret)
{
	return plan_shared(r, n, align,
			   order == PLAN_BY_BREADTH ? assign_by_breadth : assign_by_size, ret);
}

/* Lays the objects one behind another and gives every record its object's offset. */
static int objects_to_offsets(const struct plan_objects *o, struct plan *ret)
{
	struct plan p = {.n = o->n};
	size_t *starts = array_new(o->n_objects, sizeof(*starts));

	p.offsets = array_new(o->n, sizeof(*p.offsets));
	if (!starts || !p.offsets) {
		free(starts);
		free(p.offsets);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < o->n_objects; i++) {
		starts[i] = p.total;
		p.total += o->object_bytes[i];
	}
	for (uint32_t i = 0; i < o->n; i++)
		p.offsets[i] = starts[o->objects[i]];
	free(starts);
	*ret = p;
	return 0;
}

int plan_best(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret)
{
	static const enum plan_order orders[] = {PLAN_BY_SIZE, PLAN_BY_BREADTH};
	struct plan best;
	size_t bound;
	int code = plan_greedy_by_size(r, n, align, &best);

	if (code)
		return code;
	if (plan_bound(r, n, align, &bound))
		bound = 0;
	/* The object plans are only an improvement: without memory for them the plan stands. */
	for (size_t i = 0; i < 2 && best.total > bound; i++) {
		struct plan_objects objects;
		struct plan p;

		if (plan_greedy_objects(r, n, align, orders[i], &objects))
			continue;
		if (objects.total < best.total && !objects_to_offsets(&objects, &p)) {
			plan_done(&best);
			best = p;
		}
		plan_objects_done(&objects);
	}
	*ret = best;
	return 0;
}
