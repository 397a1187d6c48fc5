/* SPDX-License-Identifier: Apache-2.0 */
/* The paged KV pool. A full page has an identity: a number that stands for its tokens and all
 * before them. Two pages with the same content share the identity, of which at most one is in the
 * index; a page names its parent by identity, never by page number, so that a page which was
 * evicted and used again can't be taken for the parent that it once was. */
#include "core/kvpool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/checked.h"
#include "base/clock.h"
#include "core/hash.h"

#define NONE UINT32_MAX
#define ID_NONE 0 /* not full */
#define ID_ROOT 1 /* the parent of first pages */

struct page {
	uint64_t id, parent; /* parent is valid where id is */
	uint32_t refs;
	uint32_t next, prev;           /* free list (next only) or list of cached pages */
	uint32_t hash_next, hash_prev; /* the index's bucket */
	bool indexed;
	bool kept; /* a sequence that ended wanted it to stay */
};

struct seq {
	bool used;
	uint32_t len;
	uint32_t n_table;
	uint32_t next_free;
};

struct kvpool {
	uint32_t n_pages, max_seqs, context_tok, table_max;
	uint32_t n_buckets; /* a power of two */
	uint64_t hash_seed, next_id;
	struct page *pages;
	uint32_t *tokens;  /* [n_pages][KV_PAGE_TOK] */
	uint32_t *buckets; /* [n_buckets] first page */
	struct seq *seqs;
	uint32_t *tables; /* [max_seqs][table_max] */
	uint32_t free_page, free_seq;
	uint32_t oldest, newest; /* cached pages, by when they were released */
	uint32_t n_free, n_cached, n_seqs;
	uint64_t query_tok, hit_tok, evictions;
};

/* --- small access --- */

static uint32_t *page_tokens(const struct kvpool *p, uint32_t page)
{
	return p->tokens + (size_t)page * KV_PAGE_TOK;
}

static uint32_t *table_of(const struct kvpool *p, uint32_t seq)
{
	return p->tables + (size_t)seq * p->table_max;
}

static struct seq *seq_get(const struct kvpool *p, uint32_t seq)
{
	return p && seq < p->max_seqs && p->seqs[seq].used ? &p->seqs[seq] : NULL;
}

/* --- the list of cached pages --- */

static void cached_add(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];

	g->next = NONE;
	g->prev = p->newest;
	if (p->newest != NONE)
		p->pages[p->newest].next = page;
	else
		p->oldest = page;
	p->newest = page;
	p->n_cached++;
}

static void cached_remove(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];

	if (g->prev != NONE)
		p->pages[g->prev].next = g->next;
	else
		p->oldest = g->next;
	if (g->next != NONE)
		p->pages[g->next].prev = g->prev;
	else
		p->newest = g->prev;
	p->n_cached--;
}

/* --- the prefix index --- */

static uint32_t *bucket_of(const struct kvpool *p, uint64_t parent, const uint32_t *tokens)
{
	uint64_t h = hash_add64(p->hash_seed, parent);

	for (uint32_t i = 0; i < KV_PAGE_TOK; i += 2)
		h = hash_add64(h, (uint64_t)tokens[i] << 32 | tokens[i + 1]);
	return &p->buckets[h & (p->n_buckets - 1)];
}

static uint32_t index_find(const struct kvpool *p, uint64_t parent, const uint32_t *tokens)
{
	for (uint32_t i = *bucket_of(p, parent, tokens); i != NONE; i = p->pages[i].hash_next)
		if (p->pages[i].parent == parent &&
		    memcmp(page_tokens(p, i), tokens, KV_PAGE_TOK * sizeof(*tokens)) == 0)
			return i;
	return NONE;
}

static void index_add(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];
	uint32_t *bucket = bucket_of(p, g->parent, page_tokens(p, page));

	g->hash_prev = NONE;
	g->hash_next = *bucket;
	if (*bucket != NONE)
		p->pages[*bucket].hash_prev = page;
	*bucket = page;
	g->indexed = true;
}

static void index_remove(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];

	if (g->hash_prev != NONE)
		p->pages[g->hash_prev].hash_next = g->hash_next;
	else
		*bucket_of(p, g->parent, page_tokens(p, page)) = g->hash_next;
	if (g->hash_next != NONE)
		p->pages[g->hash_next].hash_prev = g->hash_prev;
	g->indexed = false;
}

/* --- pages --- */

static void page_to_free(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];

	*g = (struct page){.next = p->free_page, .prev = NONE};
	p->free_page = page;
	p->n_free++;
}

/* Forgets a cached page. */
static void page_uncache(struct kvpool *p, uint32_t page)
{
	cached_remove(p, page);
	index_remove(p, page);
	page_to_free(p, page);
}

/* A page for one holder; the caller has made sure that one is available. */
static uint32_t page_take(struct kvpool *p)
{
	uint32_t page;

	if (p->free_page == NONE) {
		page_uncache(p, p->oldest);
		p->evictions++;
	}
	page = p->free_page;
	p->free_page = p->pages[page].next;
	p->n_free--;
	p->pages[page].refs = 1;
	return page;
}

static void page_share(struct kvpool *p, uint32_t page)
{
	if (p->pages[page].refs++ == 0)
		cached_remove(p, page);
}

/* A page has become full: it gets its identity, and its place in the index unless an identical page
 * in use has it. One that is only cached gives up its place, so that it isn't there twice. */
static void page_complete(struct kvpool *p, uint32_t page, uint64_t parent)
{
	struct page *g = &p->pages[page];
	uint32_t same = index_find(p, parent, page_tokens(p, page));

	g->parent = parent;
	if (same == NONE) {
		g->id = p->next_id++;
		index_add(p, page);
		return;
	}
	g->id = p->pages[same].id;
	if (p->pages[same].refs == 0) {
		g->kept = p->pages[same].kept;
		page_uncache(p, same);
		index_add(p, page);
	}
}

/* The last act of a holder that wants the page to stay findable, when it is not the one in the
 * index. */
static void page_keep_copy(struct kvpool *p, uint32_t page)
{
	struct page *g = &p->pages[page];
	uint32_t same = index_find(p, g->parent, page_tokens(p, page));

	if (same == NONE) {
		index_add(p, page);
		return;
	}
	p->pages[same].kept = true;
	if (p->pages[same].refs == 0) {
		cached_remove(p, same);
		cached_add(p, same);
	}
}

static void page_release(struct kvpool *p, uint32_t page, bool keep)
{
	struct page *g = &p->pages[page];

	if (keep && g->id != ID_NONE) {
		g->kept = true;
		if (!g->indexed)
			page_keep_copy(p, page);
	}
	if (--g->refs > 0)
		return;
	if (g->indexed && g->kept) {
		cached_add(p, page);
		return;
	}
	if (g->indexed)
		index_remove(p, page);
	page_to_free(p, page);
}

/* --- the pool --- */

static int pool_alloc(struct kvpool *p)
{
	size_t n_tokens, n_tables;

	if (!ck_mul(p->n_pages, KV_PAGE_TOK, &n_tokens) ||
	    !ck_mul(p->max_seqs, p->table_max, &n_tables))
		return -EOVERFLOW;
	p->pages = calloc(p->n_pages, sizeof(*p->pages));
	p->tokens = calloc(n_tokens, sizeof(*p->tokens));
	p->buckets = calloc(p->n_buckets, sizeof(*p->buckets));
	p->seqs = calloc(p->max_seqs, sizeof(*p->seqs));
	p->tables = calloc(n_tables, sizeof(*p->tables));
	return p->pages && p->tokens && p->buckets && p->seqs && p->tables ? 0 : -ENOMEM;
}

static void pool_start(struct kvpool *p)
{
	/* A random seed, so that no client can choose prompts that fall into one bucket. Results do
	 * not depend on it. */
	if (getrandom(&p->hash_seed, sizeof(p->hash_seed), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(p->hash_seed))
		p->hash_seed = hash_mix64((uint64_t)clock_ns() ^ (uint64_t)(uintptr_t)p);
	p->next_id = ID_ROOT + 1;
	p->oldest = p->newest = p->free_page = p->free_seq = NONE;
	memset(p->buckets, 0xff, p->n_buckets * sizeof(*p->buckets));
	for (uint32_t i = p->n_pages; i-- > 0;)
		page_to_free(p, i);
	for (uint32_t i = p->max_seqs; i-- > 0;) {
		p->seqs[i].next_free = p->free_seq;
		p->free_seq = i;
	}
}

int kvpool_new(uint32_t n_pages, uint32_t max_seqs, uint32_t context_tok, struct kvpool **ret)
{
	struct kvpool *p;
	int code;

	if (n_pages == 0 || max_seqs == 0 || context_tok == 0 || max_seqs == NONE)
		return -EINVAL;
	/* Slot numbers are 32 bits, and NONE is none. */
	if (n_pages > (UINT32_MAX - 1) / KV_PAGE_TOK)
		return -EOVERFLOW;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->n_pages = n_pages;
	p->max_seqs = max_seqs;
	p->context_tok = context_tok;
	p->table_max = context_tok / KV_PAGE_TOK + (context_tok % KV_PAGE_TOK > 0);
	if (p->table_max > n_pages)
		p->table_max = n_pages;
	p->n_buckets = 1;
	while (p->n_buckets < n_pages)
		p->n_buckets *= 2;
	code = pool_alloc(p);
	if (code) {
		kvpool_free(p);
		return code;
	}
	pool_start(p);
	*ret = p;
	return 0;
}

void kvpool_free(struct kvpool *p)
{
	if (!p)
		return;
	free(p->pages);
	free(p->tokens);
	free(p->buckets);
	free(p->seqs);
	free(p->tables);
	free(p);
}

void kvpool_drop_cache(struct kvpool *p)
{
	while (p->oldest != NONE)
		page_uncache(p, p->oldest);
}

uint32_t kvpool_available(const struct kvpool *p)
{
	return p->n_free + p->n_cached;
}

void kvpool_get_stats(const struct kvpool *p, struct kvpool_stats *ret)
{
	*ret = (struct kvpool_stats){
		.pages_total = p->n_pages,
		.pages_used = p->n_pages - p->n_free - p->n_cached,
		.pages_cached = p->n_cached,
		.pages_available = kvpool_available(p),
		.seqs = p->n_seqs,
		.query_tok = p->query_tok,
		.hit_tok = p->hit_tok,
		.evictions = p->evictions,
	};
}

/* --- sequences --- */

static uint32_t seq_take(struct kvpool *p)
{
	uint32_t seq = p->free_seq;

	p->free_seq = p->seqs[seq].next_free;
	p->seqs[seq] = (struct seq){.used = true};
	p->n_seqs++;
	return seq;
}

/* The identity of what comes before page `index` of a sequence. */
static uint64_t parent_id(const struct kvpool *p, const uint32_t *table, uint32_t index)
{
	return index ? p->pages[table[index - 1]].id : ID_ROOT;
}

/* Walks down the index from the root and takes over what is there. */
static void take_prefix(struct kvpool *p, uint32_t seq, const uint32_t *tokens, uint32_t n_tok)
{
	struct seq *s = &p->seqs[seq];
	uint32_t *table = table_of(p, seq);
	/* One token at least stays to be computed: its logits are wanted. */
	uint32_t most = n_tok ? (n_tok - 1) / KV_PAGE_TOK : 0;

	if (most > p->context_tok / KV_PAGE_TOK)
		most = p->context_tok / KV_PAGE_TOK;
	if (most > p->table_max)
		most = p->table_max;
	while (s->n_table < most) {
		uint32_t page = index_find(p, parent_id(p, table, s->n_table), tokens + s->len);

		if (page == NONE)
			break;
		page_share(p, page);
		table[s->n_table++] = page;
		s->len += KV_PAGE_TOK;
	}
}

int kvpool_seq_new(struct kvpool *p, const uint32_t *tokens, uint32_t n_tok, bool no_cache,
		   uint32_t *ret_seq, uint32_t *ret_cached_tok)
{
	uint32_t seq;

	if (p->free_seq == NONE)
		return -EAGAIN;
	seq = seq_take(p);
	if (!no_cache) {
		take_prefix(p, seq, tokens, n_tok);
		p->query_tok += n_tok;
		p->hit_tok += p->seqs[seq].len;
	}
	*ret_seq = seq;
	*ret_cached_tok = p->seqs[seq].len;
	return 0;
}

int kvpool_seq_fork(struct kvpool *p, uint32_t seq, uint32_t *ret_seq, struct kvpool_copy *ret_copy)
{
	const struct seq *from = seq_get(p, seq);
	struct kvpool_copy copy = {NONE, NONE, 0};
	uint32_t full, to, *from_table, *to_table;

	if (!from)
		return -EINVAL;
	if (p->free_seq == NONE)
		return -EAGAIN;
	full = from->len / KV_PAGE_TOK;
	copy.n_tok = from->len % KV_PAGE_TOK;
	if (copy.n_tok && kvpool_available(p) == 0)
		return -ENOSPC;
	to = seq_take(p);
	from_table = table_of(p, seq);
	to_table = table_of(p, to);
	for (uint32_t i = 0; i < full; i++) {
		page_share(p, from_table[i]);
		to_table[i] = from_table[i];
	}
	if (copy.n_tok) {
		copy.src = from_table[full];
		copy.dst = to_table[full] = page_take(p);
		memcpy(page_tokens(p, copy.dst), page_tokens(p, copy.src),
		       copy.n_tok * sizeof(*p->tokens));
	}
	p->seqs[to].len = from->len;
	p->seqs[to].n_table = full + (copy.n_tok > 0);
	*ret_seq = to;
	*ret_copy = copy;
	return 0;
}

int kvpool_seq_reserve(struct kvpool *p, uint32_t seq, uint32_t n_tok)
{
	struct seq *s = seq_get(p, seq);
	uint64_t end, pages;

	if (!s)
		return -EINVAL;
	end = (uint64_t)s->len + n_tok;
	if (end > p->context_tok)
		return -E2BIG;
	pages = (end + KV_PAGE_TOK - 1) / KV_PAGE_TOK;
	if (pages <= s->n_table)
		return 0;
	if (pages > p->table_max || pages - s->n_table > kvpool_available(p))
		return -ENOSPC;
	while (s->n_table < pages)
		table_of(p, seq)[s->n_table++] = page_take(p);
	return 0;
}

int kvpool_seq_append(struct kvpool *p, uint32_t seq, const uint32_t *tokens, uint32_t n_tok)
{
	struct seq *s = seq_get(p, seq);
	uint32_t *table;

	if (!s)
		return -EINVAL;
	table = table_of(p, seq);
	if (n_tok > (uint64_t)s->n_table * KV_PAGE_TOK - s->len)
		return -ENOSPC;
	while (n_tok > 0) {
		uint32_t index = s->len / KV_PAGE_TOK, at = s->len % KV_PAGE_TOK;
		uint32_t part = KV_PAGE_TOK - at < n_tok ? KV_PAGE_TOK - at : n_tok;

		memcpy(page_tokens(p, table[index]) + at, tokens, part * sizeof(*tokens));
		s->len += part;
		tokens += part;
		n_tok -= part;
		if (at + part == KV_PAGE_TOK)
			page_complete(p, table[index], parent_id(p, table, index));
	}
	return 0;
}

void kvpool_seq_free(struct kvpool *p, uint32_t seq, bool keep)
{
	struct seq *s = seq_get(p, seq);
	uint32_t *table;

	if (!s)
		return;
	table = table_of(p, seq);
	/* The last page first, so that a page is always older in the list than its parent: evicting
	 * a parent first would make its children unreachable. */
	for (uint32_t i = s->n_table; i-- > 0;)
		page_release(p, table[i], keep);
	*s = (struct seq){.next_free = p->free_seq};
	p->free_seq = seq;
	p->n_seqs--;
}

uint32_t kvpool_seq_len(const struct kvpool *p, uint32_t seq)
{
	const struct seq *s = seq_get(p, seq);

	return s ? s->len : 0;
}

uint32_t kvpool_seq_capacity(const struct kvpool *p, uint32_t seq)
{
	const struct seq *s = seq_get(p, seq);

	return s ? s->n_table * KV_PAGE_TOK : 0;
}

const uint32_t *kvpool_table(const struct kvpool *p, uint32_t seq, uint32_t *ret_n)
{
	const struct seq *s = seq_get(p, seq);

	*ret_n = s ? s->n_table : 0;
	return s ? table_of(p, seq) : NULL;
}

uint32_t kvpool_slot(const struct kvpool *p, uint32_t seq, uint32_t pos)
{
	if (pos >= kvpool_seq_capacity(p, seq))
		return UINT32_MAX;
	return table_of(p, seq)[pos / KV_PAGE_TOK] * KV_PAGE_TOK + pos % KV_PAGE_TOK;
}

uint32_t kvpool_seq_token(const struct kvpool *p, uint32_t seq, uint32_t pos)
{
	if (pos >= kvpool_seq_len(p, seq))
		return UINT32_MAX;
	return p->tokens[kvpool_slot(p, seq, pos)];
}

uint32_t kvpool_table_max(const struct kvpool *p)
{
	return p->table_max;
}

/* --- the checker --- */

static const char *check_seqs(const struct kvpool *p, uint32_t *refs)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < p->max_seqs; i++) {
		const struct seq *s = &p->seqs[i];
		const uint32_t *table = table_of(p, i);

		used += s->used;
		if (!s->used)
			continue;
		if (s->len > p->context_tok || s->n_table > p->table_max ||
		    s->len > s->n_table * KV_PAGE_TOK)
			return "a sequence is longer than its pages";
		for (uint32_t k = 0; k < s->n_table; k++) {
			const struct page *g = &p->pages[table[k]];
			bool full = k < s->len / KV_PAGE_TOK;

			if (++refs[table[k]] > 1 && !full)
				return "a page that is not full is shared";
			if (full != (g->id != ID_NONE))
				return "full pages and identities differ";
			if (full && g->parent != parent_id(p, table, k))
				return "a page's parent is not the page before it";
		}
	}
	return used == p->n_seqs ? NULL : "sequences are miscounted";
}

/* Walks the free pages and the cached ones; marks what it has seen. */
static const char *check_lists(const struct kvpool *p, uint32_t *seen)
{
	uint32_t n = 0, prev = NONE;

	for (uint32_t i = p->free_page; i != NONE; i = p->pages[i].next) {
		const struct page *g = &p->pages[i];

		if (seen[i]++ || n++ >= p->n_pages || g->refs || g->indexed || g->kept || g->id)
			return "a page in the free list is not free";
	}
	if (n != p->n_free)
		return "free pages are miscounted";
	n = 0;
	for (uint32_t i = p->oldest; i != NONE; prev = i, i = p->pages[i].next) {
		const struct page *g = &p->pages[i];

		if (seen[i]++ || n++ >= p->n_pages || g->refs || !g->indexed || !g->kept ||
		    g->prev != prev)
			return "the list of cached pages is broken";
	}
	return n == p->n_cached && prev == p->newest ? NULL : "cached pages are miscounted";
}

static const char *check_index(const struct kvpool *p)
{
	uint32_t indexed = 0, found = 0;

	for (uint32_t i = 0; i < p->n_pages; i++) {
		const struct page *g = &p->pages[i];

		indexed += g->indexed;
		if (!g->indexed)
			continue;
		if (g->id == ID_NONE || g->id >= p->next_id || g->parent >= g->id)
			return "an index entry has no valid identity";
		if (index_find(p, g->parent, page_tokens(p, i)) != i)
			return "an index entry is hidden by its equal, or lost";
	}
	for (uint32_t b = 0; b < p->n_buckets; b++) {
		uint32_t prev = NONE;

		for (uint32_t i = p->buckets[b]; i != NONE; prev = i, i = p->pages[i].hash_next)
			if (!p->pages[i].indexed || p->pages[i].hash_prev != prev ||
			    found++ >= p->n_pages)
				return "a bucket of the index is broken";
	}
	return found == indexed ? NULL : "index entries are miscounted";
}

const char *kvpool_check(const struct kvpool *p)
{
	uint32_t *refs = calloc(p->n_pages, sizeof(*refs));
	uint32_t *seen = calloc(p->n_pages, sizeof(*seen));
	const char *wrong = "out of memory";

	if (refs && seen) {
		wrong = check_seqs(p, refs);
		if (!wrong)
			wrong = check_lists(p, seen);
		if (!wrong)
			wrong = check_index(p);
		for (uint32_t i = 0; !wrong && i < p->n_pages; i++)
			if (refs[i] != p->pages[i].refs || (refs[i] > 0) == (seen[i] > 0))
				wrong = "a reference count is wrong, or a page is lost";
	}
	free(refs);
	free(seen);
	return wrong;
}
