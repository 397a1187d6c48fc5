/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling. Nothing is sorted: every cut (top_k, top_p, min_p) is a beginning of the one list
 * "logit descending, id ascending", so it is described by its last member alone, which is selected
 * by sums in bins. The draw looks at a token's noise only where an upper bound of it could win. */
#include "core/sample.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/sample_priv.h"

#define BLOCK 1024 /* logits looked at together */
#define BINS SAMPLE_BINS
#define GROUP SAMPLE_GROUP
#define NO_TOKEN UINT32_MAX

typedef int32_t v4si __attribute__((vector_size(16)));
typedef float v4sf __attribute__((vector_size(16)));
typedef double v2df __attribute__((vector_size(16)));
typedef int64_t v2di __attribute__((vector_size(16)));

/* Tokens, ascending; ids NULL: 0..n-1. */
struct members {
	const uint32_t *ids;
	uint32_t n;
};

int sample_scratch_new(uint32_t n_vocab, struct sample_scratch **ret)
{
	struct sample_scratch *s;
	size_t bytes;

	if (n_vocab == 0 || n_vocab == NO_TOKEN)
		return -EINVAL;
	if (!ck_mul(n_vocab, sizeof(*s->row), &bytes))
		return -EOVERFLOW;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->n_vocab = n_vocab;
	s->row = malloc(bytes);
	s->count = calloc(n_vocab, sizeof(*s->count));
	s->touched = malloc(bytes);
	s->ids = malloc(bytes);
	s->band = malloc(bytes);
	if (!s->row || !s->count || !s->touched || !s->ids || !s->band) {
		sample_scratch_free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void sample_scratch_free(struct sample_scratch *s)
{
	if (!s)
		return;
	free(s->row);
	free(s->count);
	free(s->touched);
	free(s->ids);
	free(s->band);
	free(s);
}

/* --- order --- */

#define KEY_POS_INF INT32_C(0x7f800000)
#define KEY_NEG_INF (-INT32_C(0x7f800000) - 1)

static v4si select_max(v4si a, v4si b)
{
	v4si m = a > b;

	return (a & m) | (b & ~m);
}

static v4si select_min(v4si a, v4si b)
{
	v4si m = a < b;

	return (a & m) | (b & ~m);
}

static v4si keys_of(const float *x)
{
	v4sf v;
	v4si bits;

	memcpy(&v, x, sizeof(v));
	v += 0.0f;
	memcpy(&bits, &v, sizeof(bits));
	return bits ^ ((bits >> 31) & INT32_MAX);
}

/* The greatest and least key of a block. */
static void block_range(const float *x, uint32_t n, int32_t *ret_max, int32_t *ret_min)
{
	int32_t max = INT32_MIN, min = INT32_MAX;
	uint32_t i = 0;

	if (n >= 8) {
		v4si max0 = keys_of(x), max1 = keys_of(x + 4), min0 = max0, min1 = max1;

		for (i = 8; i + 8 <= n; i += 8) {
			v4si a = keys_of(x + i), b = keys_of(x + i + 4);

			max0 = select_max(max0, a);
			min0 = select_min(min0, a);
			max1 = select_max(max1, b);
			min1 = select_min(min1, b);
		}
		max0 = select_max(max0, max1);
		min0 = select_min(min0, min1);
		for (int k = 0; k < 4; k++) {
			max = max0[k] > max ? max0[k] : max;
			min = min0[k] < min ? min0[k] : min;
		}
	}
	for (; i < n; i++) {
		int32_t key = key_of(x[i]);

		max = key > max ? key : max;
		min = key < min ? key : min;
	}
	*ret_max = max;
	*ret_min = min;
}

/* One pass: -EDOM for NaN, +inf or nothing above -inf; else the greatest logit, lowest id first. */
static int find_max(const float *x, uint32_t n, struct row_max *ret)
{
	int32_t max = INT32_MIN, min = INT32_MAX;
	uint32_t at = 0, block = 0;

	for (uint32_t i = 0; i < n; i += BLOCK) {
		uint32_t part = n - i < BLOCK ? n - i : BLOCK;
		int32_t part_max, part_min;

		block_range(x + i, part, &part_max, &part_min);
		if (part_max > max) {
			max = part_max;
			block = i;
		}
		min = part_min < min ? part_min : min;
	}
	if (max >= KEY_POS_INF || min < KEY_NEG_INF || max == KEY_NEG_INF)
		return -EDOM;
	for (at = block; key_of(x[at]) != max;)
		at++;
	*ret = (struct row_max){x[at], at};
	return 0;
}

/* --- probabilities --- */

/* Two times exp(x) for x <= 0, to within a relative error of 1e-14; below -700 it is 0. No table,
 * no branch and no library, so that results don't change with the C library. */
static inline v2df exp_nonpositive(v2df x)
{
	static const double factor[] = {
		1.0 / 3628800.0,
		1.0 / 362880.0,
		1.0 / 40320.0,
		1.0 / 5040.0,
		1.0 / 720.0,
		1.0 / 120.0,
		1.0 / 24.0,
		1.0 / 6.0,
		0.5,
		1.0,
		1.0,
	};
	const double magic = 0x1.8p52; /* adding it rounds to an integer, in the low bits */
	v2di live = x >= -700.0, bits;
	v2df shifted, k, r, scale, p = {1.0 / 39916800.0, 1.0 / 39916800.0};

	memcpy(&bits, &x, sizeof(bits));
	bits &= live;
	memcpy(&x, &bits, sizeof(x));
	shifted = x * 0x1.71547652b82fep+0 + magic;
	k = shifted - magic;
	r = (x - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
	for (size_t i = 0; i < sizeof(factor) / sizeof(*factor); i++)
		p = p * r + factor[i];
	memcpy(&bits, &shifted, sizeof(bits));
	bits = (bits + 1023) << 52;
	memcpy(&scale, &bits, sizeof(scale));
	p *= scale;
	memcpy(&bits, &p, sizeof(bits));
	bits &= live;
	memcpy(&p, &bits, sizeof(p));
	return p;
}

static inline void exp_group(const float *x, double max, double inv_t, double *out)
{
	for (uint32_t i = 0; i < GROUP; i += 2) {
		v2df v = {(double)x[i], (double)x[i + 1]};

		v = exp_nonpositive((v - max) * inv_t);
		memcpy(out + i, &v, sizeof(v));
	}
}

static inline double exp_one(float x, double max, double inv_t)
{
	v2df v = {(double)x, (double)x};

	return exp_nonpositive((v - max) * inv_t)[0];
}

double sample_exp(float x, double max, double inv_t)
{
	return exp_one(x, max, inv_t);
}

void sample_exp_group(const float *x, double max, double inv_t, double *out)
{
	exp_group(x, max, inv_t, out);
}

/* log(sum(exp(x - max))), in GROUP sums that are added in a fixed order. */
static double log_sum(const float *x, uint32_t n, float max)
{
	double sum[GROUP] = {0}, e[GROUP];
	uint32_t i = 0;

	for (; i + GROUP <= n; i += GROUP) {
		exp_group(x + i, (double)max, 1.0, e);
		for (uint32_t k = 0; k < GROUP; k++)
			sum[k] += e[k];
	}
	for (; i < n; i++)
		sum[i % GROUP] += exp_one(x[i], (double)max, 1.0);
	return log(((sum[0] + sum[1]) + (sum[2] + sum[3])) +
		   ((sum[4] + sum[5]) + (sum[6] + sum[7])));
}

/* The n_top greatest, by insertion: after a while hardly any logit passes the first comparison. */
static uint32_t find_top(const float *x, uint32_t n, uint32_t n_top, uint32_t *tokens)
{
	uint32_t have = 0;

	if (n_top == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at;

		if (have == n_top && !(x[i] > x[tokens[have - 1]]))
			continue;
		at = have < n_top ? have++ : have - 1;
		for (; at > 0 && x[i] > x[tokens[at - 1]]; at--)
			tokens[at] = tokens[at - 1];
		tokens[at] = i;
	}
	return have;
}

/* Fills log-probabilities of `token` (or none) and of the best. */
static void fill_logprobs(const float *x, uint32_t n, float max, uint32_t token, uint32_t n_top,
			  struct position_out *out)
{
	double m = (double)max, sum = log_sum(x, n, max);
	uint32_t top[ENGINE_TOP_MAX];

	if (n_top > ENGINE_TOP_MAX)
		n_top = ENGINE_TOP_MAX;
	n_top = find_top(x, n, n_top, top);
	out->chosen.token = token;
	out->chosen.logprob = token == NO_TOKEN ? 0.0f : (float)((double)x[token] - m - sum);
	out->n_top = n_top;
	for (uint32_t i = 0; i < n_top; i++)
		out->top[i] = (struct token_prob){top[i], (float)((double)x[top[i]] - m - sum)};
}

int sample_logprobs(const float *logits, uint32_t n_vocab, uint32_t token, uint32_t n_top,
		    struct position_out *out)
{
	struct row_max max;
	int code;

	if (n_vocab == 0 || (token >= n_vocab && token != NO_TOKEN))
		return -EINVAL;
	code = find_max(logits, n_vocab, &max);
	if (code)
		return code;
	fill_logprobs(logits, n_vocab, max.value, token, n_top, out);
	return 0;
}

/* --- bias and penalties --- */

/* A penalty that is no positive number is off. */
static bool has_repetition(const struct sampling *s)
{
	return s->repetition_penalty > 0.0f && s->repetition_penalty != 1.0f;
}

bool sample_changes_logits(const struct sampling *s, uint32_t n_history, uint32_t n_prompt)
{
	return s->n_bias > 0 || (s->ignore_eos && s->n_eog > 0) ||
	       (has_repetition(s) && n_history > 0) ||
	       ((s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f) &&
		n_history > n_prompt);
}

/* Counts tokens into scratch; the distinct ones are in touched[0..n). */
static uint32_t count_tokens(struct sample_scratch *w, uint32_t n_vocab, const uint32_t *tokens,
			     uint32_t n_tokens)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_tokens; i++) {
		if (tokens[i] >= n_vocab)
			continue;
		if (w->count[tokens[i]]++ == 0)
			w->touched[n++] = tokens[i];
	}
	return n;
}

static void penalize_repetition(struct sample_scratch *w, uint32_t n_vocab, float penalty,
				const uint32_t *history, uint32_t n_history)
{
	uint32_t n = count_tokens(w, n_vocab, history, n_history);

	for (uint32_t i = 0; i < n; i++) {
		float *x = &w->row[w->touched[i]];

		*x = *x > 0.0f ? *x / penalty : *x * penalty;
		w->count[w->touched[i]] = 0;
	}
}

static void penalize_presence(struct sample_scratch *w, uint32_t n_vocab, const struct sampling *s,
			      const uint32_t *generated, uint32_t n_generated)
{
	uint32_t n = count_tokens(w, n_vocab, generated, n_generated);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t t = w->touched[i];

		w->row[t] -= s->presence_penalty + s->frequency_penalty * (float)w->count[t];
		w->count[t] = 0;
	}
}

static void change_logits(struct sample_scratch *w, const float *logits, uint32_t n_vocab,
			  const struct sampling *s, const uint32_t *history, uint32_t n_history,
			  uint32_t n_prompt)
{
	memcpy(w->row, logits, n_vocab * sizeof(*logits));
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (s->bias[i].token < n_vocab)
			w->row[s->bias[i].token] += s->bias[i].value;
	for (uint32_t i = 0; s->ignore_eos && i < s->n_eog; i++)
		if (s->eog[i] < n_vocab)
			w->row[s->eog[i]] = -INFINITY;
	if (has_repetition(s))
		penalize_repetition(w, n_vocab, s->repetition_penalty, history, n_history);
	if (n_history > n_prompt)
		penalize_presence(w, n_vocab, s, history + n_prompt, n_history - n_prompt);
}

/* --- cuts --- */

static uint32_t member_id(const struct members *m, uint32_t i)
{
	return m->ids ? m->ids[i] : i;
}

/* What is cut, and what a member weighs. */
struct selection {
	const float *x;
	double max, inv_t;
	bool by_probability; /* weight exp((x - max) * inv_t), else 1 */
	double *bins;
};

static double weight_of(const struct selection *s, float x)
{
	return s->by_probability ? exp_one(x, s->max, s->inv_t) : 1.0;
}

/* The bin of a logit by its distance from the greatest one: 1/32 wide in the exponent, so that few
 * tokens share one in any real distribution. It never decreases as the logit does. */
static uint32_t distance_bin(const struct selection *s, float x)
{
	double d = (s->max - (double)x) * s->inv_t * 32.0;

	return d < BINS - 1 ? (uint32_t)d : BINS - 1;
}

static void fill_distance_bins(const struct selection *s, const struct members *m)
{
	memset(s->bins, 0, BINS * sizeof(*s->bins));
	for (uint32_t i = 0; i < m->n; i += GROUP) {
		uint32_t part = m->n - i < GROUP ? m->n - i : GROUP;
		double weight[GROUP] = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
		float x[GROUP];

		for (uint32_t k = 0; k < GROUP; k++)
			x[k] = k < part ? s->x[member_id(m, i + k)] : -INFINITY;
		if (s->by_probability)
			exp_group(x, s->max, s->inv_t, weight);
		for (uint32_t k = 0; k < part; k++)
			s->bins[distance_bin(s, x[k])] += weight[k];
	}
}

/* By `bits` bits of the order from `shift`, the members whose higher bits are `prefix`. */
static void fill_radix_bins(const struct selection *s, const struct members *m, uint64_t prefix,
			    unsigned shift, unsigned bits)
{
	memset(s->bins, 0, BINS * sizeof(*s->bins));
	for (uint32_t i = 0; i < m->n; i++) {
		float x = s->x[member_id(m, i)];
		uint32_t order = order_of(x);

		if ((uint64_t)order >> (shift + bits) == prefix)
			s->bins[order >> shift & ((1u << bits) - 1)] += weight_of(s, x);
	}
}

/* The bin in which the running sum `*sum` reaches `goal`: the last one that holds anything when
 * rounding keeps it from being reached. *sum is then what lies before that bin. */
static uint32_t find_bin(const double *bins, double goal, double *sum)
{
	double at = *sum, before = *sum;
	uint32_t found = 0;

	for (uint32_t b = 0; b < BINS; b++) {
		if (bins[b] <= 0.0)
			continue;
		found = b;
		before = at;
		at += bins[b];
		if (at >= goal)
			break;
	}
	*sum = before;
	return found;
}

/* The shortest beginning of the members that weighs at least `goal`, or `goal` times the whole
 * where `relative`. First the bin by distance, then only its members, exactly. */
static struct cut select_prefix(const struct selection *s, const struct members *m, uint32_t *band,
				double goal, bool relative)
{
	struct members near = {.ids = band};
	double sum = 0.0, whole = 0.0, one, ties;
	uint32_t bin;
	struct cut cut;

	fill_distance_bins(s, m);
	for (uint32_t b = 0; relative && b < BINS; b++)
		whole += s->bins[b];
	if (relative)
		goal *= whole;
	bin = find_bin(s->bins, goal, &sum);
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t id = member_id(m, i);

		band[near.n] = id;
		near.n += distance_bin(s, s->x[id]) == bin;
	}
	fill_radix_bins(s, &near, 0, 21, 11);
	cut.order = find_bin(s->bins, goal, &sum);
	fill_radix_bins(s, &near, cut.order, 10, 11);
	cut.order = cut.order << 11 | find_bin(s->bins, goal, &sum);
	fill_radix_bins(s, &near, cut.order, 0, 10);
	cut.order = cut.order << 10 | find_bin(s->bins, goal, &sum);
	one = weight_of(s, order_value(cut.order)); /* of each member at the cut */
	ties = one > 0.0 ? ceil((goal - sum) / one) : 1.0;
	cut.ties = !(ties >= 1.0) ? 1 : ties < (double)m->n ? (uint32_t)ties : m->n;
	return cut;
}

struct cut sample_min_p(double max, double temperature, double min_p, uint32_t n)
{
	double least = max + log(min_p) * temperature;
	float x = least < -(double)FLT_MAX ? -FLT_MAX : least < max ? (float)least : (float)max;

	if ((double)x < least && (double)x < max)
		x = nextafterf(x, INFINITY);
	return (struct cut){order_of(x), n};
}

/* Leaves the members before the cut; `ids` may be where they are now. */
static void apply_cut(struct members *m, const float *x, const struct cut *cut, uint32_t *ids)
{
	uint32_t n = 0, ties = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t id = member_id(m, i), order = order_of(x[id]);

		if (order < cut->order || (order == cut->order && ties++ < cut->ties))
			ids[n++] = id;
	}
	*m = (struct members){ids, n};
}

/* --- the draw --- */

uint64_t sample_random(uint64_t seed, uint64_t draw, uint32_t token)
{
	return random_token(random_base(seed, draw), token);
}

/* The member with the greatest (x - max) / temperature + noise. */
static uint32_t draw_token(const float *x, const struct members *m, const struct row_max *max,
			   double inv_t, uint64_t base)
{
	struct draw d = draw_begin(max, inv_t, base);

	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t id = member_id(m, i);

		draw_offer(&d, x[id], id);
	}
	return d.token;
}

static uint32_t choose(const float *x, uint32_t n, const struct sampling *s,
		       const struct row_max *max, uint64_t draw, struct sample_scratch *w)
{
	struct members m = {NULL, n};
	struct selection sel = {.x = x, .max = (double)max->value, .inv_t = 1.0, .bins = w->bins};
	struct cut cut;

	if (!(s->temperature > 0.0f))
		return max->token;
	if (s->top_k > 0 && s->top_k < n) {
		cut = select_prefix(&sel, &m, w->band, (double)s->top_k, false);
		apply_cut(&m, x, &cut, w->ids);
	}
	sel.inv_t = 1.0 / (double)s->temperature;
	sel.by_probability = true;
	if (s->top_p < 1.0f) {
		cut = select_prefix(&sel, &m, w->band, (double)s->top_p, true);
		apply_cut(&m, x, &cut, w->ids);
	}
	if (s->min_p > 0.0f) {
		cut = sample_min_p(sel.max, (double)s->temperature, (double)s->min_p, n);
		apply_cut(&m, x, &cut, w->ids);
	}
	return draw_token(x, &m, max, sel.inv_t, random_base(s->seed, draw));
}

bool sample_is_best(const struct sampling *s)
{
	return !(s->temperature > 0.0f) && s->n_bias == 0 && s->presence_penalty == 0.0f &&
	       s->frequency_penalty == 0.0f && s->repetition_penalty == 1.0f && !s->logprob && s->n_top == 0;
}

int sample_row(const float *logits, uint32_t n_vocab, const struct sampling *s,
	       const uint32_t *history, uint32_t n_history, uint32_t n_prompt, uint64_t draw,
	       struct sample_scratch *scratch, struct position_out *out)
{
	struct row_max raw, max;
	const float *x = logits;
	uint32_t token;
	int code;

	if (n_vocab == 0 || n_vocab > scratch->n_vocab)
		return -EINVAL;
	code = find_max(logits, n_vocab, &raw);
	if (code)
		return code;
	max = raw;
	if (sample_changes_logits(s, n_history, n_prompt)) {
		change_logits(scratch, logits, n_vocab, s, history, n_history, n_prompt);
		x = scratch->row;
		code = find_max(x, n_vocab, &max);
		if (code)
			return code;
	}
	token = choose(x, n_vocab, s, &max, draw, scratch);
	if (s->logprob || s->n_top > 0) {
		fill_logprobs(logits, n_vocab, raw.value, token, s->n_top, out);
	} else {
		out->chosen = (struct token_prob){token, 0.0f};
		out->n_top = 0;
	}
	return 0;
}
