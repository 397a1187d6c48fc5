/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of log-probabilities. Each token is given its place in the text by a detokenizer of the
 * list's own, so that tokens whose text a stop string removed can be left out. */
#include <math.h>
#include <stdlib.h>

#include "api/gen.h"

#define LEAST_LOGPROB (-9999.0F) /* JSON has no infinity; this is OpenAI's number */

static bool grow(void **v, size_t *cap, size_t need, size_t bytes)
{
	size_t want = *cap ? *cap : 16;
	void *r;

	while (want < need)
		want *= 2;
	if (want == *cap)
		return true;
	r = realloc(*v, want * bytes);
	if (!r)
		return false;
	*v = r;
	*cap = want;
	return true;
}

static float bounded(float lp)
{
	return isfinite(lp) && lp > LEAST_LOGPROB ? lp : LEAST_LOGPROB;
}

static uint64_t count_chars(const char *s, size_t n)
{
	uint64_t chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)s[i] & 0xc0) != 0x80;
	return chars;
}

bool lp_add(struct lp_list *l, const struct tokenizer *t, uint32_t token,
	    const struct position_out *p)
{
	struct strbuf piece = {0};
	struct lp_entry *en;

	if (!grow((void **)&l->v, &l->cap, l->n + 1, sizeof *l->v))
		return false;
	en = &l->v[l->n];
	*en = (struct lp_entry){.token = token,
				.none = p == NULL,
				.logprob = p ? bounded(p->chosen.logprob) : 0,
				.start = l->bytes,
				.start_cp = l->chars};
	if (p && p->n_top) {
		if (!grow((void **)&l->tops, &l->cap_tops, l->n_tops + p->n_top, sizeof *l->tops))
			return false;
		en->top_at = l->n_tops;
		en->n_top = p->n_top;
		for (uint32_t i = 0; i < p->n_top; i++)
			l->tops[l->n_tops++] =
				(struct token_prob){p->top[i].token, bounded(p->top[i].logprob)};
	}
	if (detok_push(t, &l->detok, token, &piece) < 0 || piece.failed) {
		sb_done(&piece);
		return false;
	}
	l->bytes += piece.len;
	l->chars += count_chars(sb_text(&piece), piece.len);
	en->end = l->bytes;
	sb_done(&piece);
	l->n++;
	return true;
}

void lp_done(struct lp_list *l)
{
	free(l->v);
	free(l->tops);
	*l = (struct lp_list){0};
}
