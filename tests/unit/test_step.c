/* SPDX-License-Identifier: Apache-2.0 */
/* How a step gets onto a device: as one kernel that spins, stage by stage, or kernel by kernel. The same
 * bits each time, and the guards of the spinning one. And what the list of stages is made of. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/device_priv.h"
#include "core/features.h"
#include "core/shards.h"
#include "core/stages.h"
#include "core/step.h"
#include "model/model.h"
#include "tests/lib/opgraph.h"
#include "tests/lib/tinygguf.h"

#define ROWS_MAX 64

static struct model model;
static const struct be_ops *ops;
static struct be_info info;
static char cache_dir[] = "/tmp/driftd-test-XXXXXX";
static struct test_step steps[3];

static void setup(void)
{
	static const uint32_t pages[] = {3, 1, 2};
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd = -1;

	ck_assert_uint_gt(test_devices(&ops, &info, 1), 0);
	p.format = FORMAT_Q4_1;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	ck_assert_msg(model_open_graph(&model, path, &err) == 0, "%s", err.msg);
	close(fd);
	tg_done(&t);
	memset(steps, 0, sizeof steps);
	/* a chunk of a prompt, a few more, one: every variant of a product */
	test_step_sequence(&steps[0], 0, 20, pages, 3, 1, 200);
	test_step_sequence(&steps[1], 20, 3, pages, 3, 2, 200);
	test_step_sequence(&steps[2], 23, 1, pages, 3, 3, 200);
}

static void teardown(void)
{
	model_close(&model);
}

struct open {
	struct blueprint b;
	struct device *d;
	uint32_t tables[8 * TEST_PAGES];
	float rope[ROWS_MAX * 256];
};

static uint32_t tile; /* of engine_options */

static void open_with(struct open *o, const struct be_info *dev, uint32_t disable)
{
	const struct engine_options eo = {.context_tok = 128,
					  .kv_tok = TEST_PAGES * KV_PAGE_TOK,
					  .parallel = 32,
					  .batch_tok = 32,
					  .disable = disable,
					  .tile = tile,
					  .cache_dir = cache_dir};
	struct err err = {0};

	ck_assert_msg(blueprint_init(&o->b, &model.graph, &eo, dev, &err) == 0, "%s", err.msg);
	ck_assert_msg(device_open(&o->b, ops, &eo, &o->d, &err) == 0, "%s", err.msg);
	/* the warm-up's steps compile, and teach a wrong expectation */
	memset(o->d->expected_ns, 0, sizeof o->d->expected_ns);
	o->d->plain_until_ns = 0;
	o->d->n_slow = 0;
	/* a file of our own: other tests may run, and spin */
	claim_done(&o->d->claim);
	ck_assert(claim_init(&o->d->claim, cache_dir));
}

static void close_all(struct open *o)
{
	device_close(o->d);
	blueprint_done(&o->b);
}

/* Logits of the step, malloc'd; *ret_launches is how many launches it took. */
static float *run(struct open *o, const struct test_step *t, uint64_t *ret_launches)
{
	float *logits = calloc((size_t)t->n_out * model.graph.n_vocab, sizeof *logits);
	struct step_rows s;
	struct be_stats before, after;
	struct err err = {0};

	ck_assert_ptr_nonnull(logits);
	test_step_rows(&model.graph, t, o->b.table_stride, o->tables, o->rope, logits, &s);
	device_stats(o->d, &before);
	ck_assert_msg(device_run(o->d, &s, &err) == 0, "%s", err.msg);
	device_stats(o->d, &after);
	*ret_launches = after.launches - before.launches;
	return logits;
}

/* The three steps on an engine of its own; the last step's logits, malloc'd. */
static float *run_all(uint32_t disable)
{
	static struct open o;
	uint64_t n;
	float *last = NULL;

	open_with(&o, &info, disable);
	for (int i = 0; i < 3; i++) {
		free(last);
		last = run(&o, &steps[i], &n);
	}
	close_all(&o);
	return last;
}

static bool has_steps(void)
{
	/* a device that promises no work-groups side by side has nothing of what follows */
	return info.together > 1;
}


START_TEST(test_same_bits)
{
	const struct feature_info *f = &features[_i];
	const size_t bytes = model.graph.n_vocab * sizeof(float);
	float *all = run_all(0), *less = run_all(f->bit);

	ck_assert_msg(memcmp(all, less, bytes) == 0, "without '%s' the logits are others", f->name);
	free(all);
	free(less);
}
END_TEST

/* What tune.c chooses from. */
START_TEST(test_tiles)
{
	const size_t bytes = model.graph.n_vocab * sizeof(float);
	float *usual = run_all(0);

	tile = (uint32_t)_i + 1;
	float *other = run_all(0);
	tile = 0;
	ck_assert_msg(memcmp(usual, other, bytes) == 0, "with tile %u x %u the logits are others",
		      kgen_tiles[_i].cols, kgen_tiles[_i].halves);
	free(usual);
	free(other);
}
END_TEST

START_TEST(test_launches)
{
	static struct open o;
	struct claim other;
	uint64_t n;

	if (!has_steps())
		return;
	open_with(&o, &info, 0);
	float *once = run(&o, &steps[0], &n);
	ck_assert_uint_eq(n, 1);
	/* while somebody else spins: a launch a stage */
	ck_assert(claim_init(&other, cache_dir));
	ck_assert(claim_take(&other));
	float *plain = run(&o, &steps[0], &n);
	ck_assert_uint_gt(n, 10);
	ck_assert_uint_le(n, o.b.lowered.n_step);
	claim_give(&other);
	ck_assert_int_eq(memcmp(once, plain, steps[0].n_out * model.graph.n_vocab * sizeof *once), 0);
	free(once);
	free(plain);
	free(run(&o, &steps[0], &n));
	ck_assert_uint_eq(n, 1);
	claim_done(&other);
	close_all(&o);
}
END_TEST

START_TEST(test_slow)
{
	static struct open o;
	uint64_t n;

	if (!has_steps())
		return;
	open_with(&o, &info, 0);
	for (int i = 0; i < STEP_BUCKETS; i++)
		o.d->expected_ns[i] = 1; /* whatever it takes is too long */
	free(run(&o, &steps[1], &n));
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(o.d->n_slow, 1);
	free(run(&o, &steps[1], &n));
	ck_assert_uint_gt(n, 10);
	o.d->plain_until_ns = 0; /* a second later */
	free(run(&o, &steps[1], &n));
	ck_assert_uint_eq(n, 1);
	close_all(&o);
}
END_TEST

/* Opens a device that says it runs `together` work-groups side by side; what the first step gives on one that
 * tells the truth, malloc'd. */
static float *open_lying(struct open *o, unsigned together)
{
	struct be_info lying = info;
	uint64_t n;

	open_with(o, &info, 0);
	float *want = run(o, &steps[0], &n);
	close_all(o);
	lying.together = together;
	open_with(o, &lying, 0);
	return want;
}

/* Runs the first step, which must give `want`; how many launches it took. */
static uint64_t run_same(struct open *o, const float *want)
{
	uint64_t n;
	float *got = run(o, &steps[0], &n);

	ck_assert_int_eq(memcmp(want, got, steps[0].n_out * model.graph.n_vocab * sizeof *got), 0);
	free(got);
	return n;
}

/* Some workers come only when the others have left: their neighbours have done their parts. */
START_TEST(test_late)
{
	static struct open o;

	if (!has_steps())
		return;
	float *want = open_lying(&o, STEP_NEIGHBOURS);
	for (int again = 0; again < 3; again++) {
		ck_assert_uint_eq(run_same(&o, want), 1);
		ck_assert_uint_eq(o.d->n_gave_up, 0);
	}
	free(want);
	close_all(&o);
}
END_TEST

/* Far more workers than the device runs side by side: the first ones wait in vain, everybody leaves, and the
 * step is run stage by stage. */
START_TEST(test_gives_up)
{
	static struct open o;

	if (!has_steps())
		return;
	float *want = open_lying(&o, 4 * (info.compute_units + STEP_NEIGHBOURS));
	const uint64_t before = o.d->n_gave_up;
	run_same(&o, want);
	ck_assert_uint_eq(o.d->n_gave_up, before + 1);
	run_same(&o, want); /* not tried again at once */
	ck_assert_uint_eq(o.d->n_gave_up, before + 1);
	free(want);
	close_all(&o);
}
END_TEST

/* Three steps in one go, of one row each, from token 5 at position 0 on; what the device found
 * best. */
static void run_go(struct open *o, uint32_t ret[3])
{
	enum { N = 3 };
	const struct graph *g = &model.graph;
	const uint32_t token[N] = {5, STEP_DRAWN(0), STEP_DRAWN(0)}, pos[N] = {0, 1, 2}, table[N] = {0}, out_row = 0;
	struct step_best best[N] = {{0}};
	const bool wants = false;
	struct err err = {0};
	float *rope = calloc((size_t)N * g->rope.dims, sizeof *rope);
	struct step_rows s = {.n_rows = 1, .n_more = N - 1, .token = token, .pos = pos, .slot = pos, .table = table,
			      .tables = o->tables, .n_tables = 1, .table_stride = o->b.table_stride, .n_out = 1,
			      .out_row = &out_row, .rope = rope, .best = best, .wants_logits = &wants};

	ck_assert_ptr_nonnull(rope);
	memset(o->tables, 0, o->b.table_stride * sizeof *o->tables);
	ck_assert_msg(device_run(o->d, &s, &err) == 0, "%s", err.msg);
	for (int i = 0; i < N; i++)
		ret[i] = best[i].token;
	free(rope);
}

/* A go of steps that somebody gives up in is run again from its first step. */
START_TEST(test_gives_up_go)
{
	static struct open o;
	uint32_t want[3], got[3];

	if (!has_steps())
		return;
	open_with(&o, &info, FEATURE_PERSISTENT);
	run_go(&o, want);
	ck_assert(want[0] < model.graph.n_vocab && want[2] < model.graph.n_vocab);
	close_all(&o);
	open_with(&o, &info, 0);
	run_go(&o, got);
	ck_assert_mem_eq(want, got, sizeof want);
	close_all(&o);
	free(open_lying(&o, 4 * (info.compute_units + STEP_NEIGHBOURS)));
	o.d->plain_until_ns = 0;
	const uint64_t before = o.d->n_gave_up;
	run_go(&o, got);
	ck_assert_uint_eq(o.d->n_gave_up, before + 1);
	ck_assert_mem_eq(want, got, sizeof want);
	close_all(&o);
}
END_TEST

/* A tile that there is not is an error, not another tile. */
START_TEST(test_no_tile)
{
	const struct engine_options eo = {.context_tok = 128, .tile = KGEN_TILES + 1};
	struct blueprint b;
	struct err err = {0};

	ck_assert_int_eq(blueprint_init(&b, &model.graph, &eo, &info, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "tile 5"));
}
END_TEST

START_TEST(test_claims)
{
	struct claim a, b, none = {.fd = -1};

	ck_assert(claim_init(&a, cache_dir));
	ck_assert(claim_init(&b, cache_dir));
	ck_assert(!claim_init(&none, "/nowhere"));
	ck_assert(claim_take(&a));
	ck_assert(!claim_take(&b));
	claim_give(&a);
	ck_assert(claim_take(&b));
	claim_done(&b); /* closing gives, too */
	ck_assert(claim_take(&a));
	claim_done(&a);
	ck_assert(!claim_take(&none));
}
END_TEST

START_TEST(test_shards)
{
	static const size_t pieces[] = {100, 1, 64, 0, 300, 1000, 5};
	struct shards s;
	struct err err = {0};

	ck_assert_int_eq(shards_init(&s, pieces, 7, 64, 512, &err), 0);
	/* 128 + 64 + 64 + 0 | 320 | 1024, too large for any | 64 */
	ck_assert_uint_eq(s.n_shards, 4);
	ck_assert_uint_eq(s.total_bytes, 256 + 320 + 1024 + 64);
	ck_assert_uint_eq(s.shard_bytes[0], 256);
	ck_assert_uint_eq(s.shard_bytes[2], 1024);
	ck_assert_uint_eq(s.places[1].offset_bytes, 128);
	ck_assert_uint_eq(s.places[3].shard, 0);
	ck_assert_uint_eq(s.places[4].shard, 1);
	ck_assert_uint_eq(s.places[4].offset_bytes, 0);
	ck_assert_uint_eq(s.places[6].shard, 3);
	shards_done(&s);
	const size_t huge[] = {SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1};
	ck_assert_int_eq(shards_init(&s, huge, 2, 64, SIZE_MAX, &err), -EINVAL);
	const size_t most[] = {SIZE_MAX};
	ck_assert_int_eq(shards_init(&s, most, 1, 64, SIZE_MAX, &err), -EINVAL);
	ck_assert_int_eq(shards_init(&s, NULL, 0, 64, 512, &err), 0);
	ck_assert_uint_eq(s.n_shards, 0);
	shards_done(&s);
}
END_TEST

static struct stage_place place(const void *ud, const struct karg *a)
{
	(void)ud;
	return (struct stage_place){.object = a->index + 1, .offset_bytes = a->index * 100};
}

START_TEST(test_stage)
{
	uint64_t w[STAGE_WORDS];
	struct klaunch k = {.n_variants = 3,
			    .kernel = {7, 8, 9},
			    .cols = {1, 4, 8},
			    .grid = GRID_TILES,
			    .size = 30,
			    .rows = ROWS_OUT,
			    .n_args = 3,
			    .args = {{KARG_WEIGHT, 4}, {KARG_TENSOR, 5}, {KARG_ROWS, 0}}};

	stage_write(&k, place, NULL, w);
	ck_assert_uint_eq(w[0], 7);
	ck_assert_uint_eq(w[2], 9);
	ck_assert_uint_eq(w[STAGE_COLS], 1);
	ck_assert_uint_eq(w[STAGE_COLS + 1], 4);
	ck_assert_uint_eq(w[STAGE_SIZE], 30);
	ck_assert_uint_eq(w[STAGE_ROWS], 1);
	ck_assert_uint_eq(w[STAGE_ARGS], 5);
	ck_assert_uint_eq(w[STAGE_ARGS + 3], 500);
	/* one variant serves any number of rows */
	k.n_variants = 1;
	stage_write(&k, place, NULL, w);
	ck_assert_uint_eq(w[2], 7);
	ck_assert_uint_ge(w[STAGE_COLS], INT32_MAX);
}
END_TEST

/* Each stage of a step knows the weights of the next product after it, the last ones those of the next step's
 * first. */
START_TEST(test_look_ahead)
{
	static struct open o;
	uint32_t products = 0;

	open_with(&o, &info, 0);
	if (!o.b.stage_bytes) { /* no list of stages, and products by matrix units have another grid */
		close_all(&o);
		return;
	}
	const struct lowered *l = &o.b.lowered;
	uint64_t *list = calloc(l->n_launches, STAGE_WORDS * sizeof *list);
	ck_assert_ptr_nonnull(list);
	for (uint32_t i = 0; i < l->n_launches; i++)
		stage_write(&l->launches[i], place, NULL, list + i * STAGE_WORDS);
	stages_look_ahead(l, list);
	for (uint32_t i = 0; i < l->n_step; i++) {
		uint32_t j = (i + 1) % l->n_step;
		const uint64_t *w = list + i * STAGE_WORDS + STAGE_NEXT;
		while (l->launches[j].grid != GRID_TILES || l->launches[j].args[0].type != KARG_WEIGHT)
			j = (j + 1) % l->n_step;
		const struct klaunch *k = &l->launches[j];
		products += j == i + 1;
		ck_assert_uint_eq(w[0], k->args[0].index + 1);
		ck_assert_uint_eq(w[1], k->args[0].index * 100);
		ck_assert_uint_eq(w[2] * w[3], l->weights[k->args[0].index].bytes);
	}
	ck_assert_uint_ge(products, 5); /* four of a layer, and the logits */
	free(list);
	close_all(&o);
}
END_TEST

START_TEST(test_features)
{
	struct err err = {0};
	uint32_t bits = 99;

	ck_assert_int_eq(features_parse("", &bits, &err), 0);
	ck_assert_uint_eq(bits, 0);
	ck_assert_int_eq(features_parse("dot,persistent", &bits, &err), 0);
	ck_assert_uint_eq(bits, FEATURE_DOT | FEATURE_PERSISTENT);
	ck_assert_int_eq(features_parse("dot,dots", &bits, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "'dots'"));
	ck_assert_ptr_nonnull(strstr(err.msg, "persistent"));
	uint32_t all = 0;
	for (const struct feature_info *f = features; f->name; f++) {
		ck_assert_uint_eq(all & f->bit, 0);
		all |= f->bit;
	}
}
END_TEST

int main(void)
{
	int n = 0;
	Suite *s = suite_create("step");
	TCase *t = tcase_create("device"), *pure = tcase_create("pure");

	if (!mkdtemp(cache_dir))
		return 99;
	while (features[n].name)
		n++;
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 600);
	tcase_add_loop_test(t, test_same_bits, 0, n);
	tcase_add_loop_test(t, test_tiles, 0, KGEN_TILES);
	tcase_add_test(t, test_launches);
	tcase_add_test(t, test_slow);
	tcase_add_test(t, test_late);
	tcase_add_test(t, test_gives_up);
	tcase_add_test(t, test_gives_up_go);
	tcase_add_test(t, test_no_tile);
	tcase_add_test(t, test_look_ahead);
	tcase_add_test(pure, test_claims);
	tcase_add_test(pure, test_shards);
	tcase_add_test(pure, test_stage);
	tcase_add_test(pure, test_features);
	suite_add_tcase(s, t);
	suite_add_tcase(s, pure);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	char rm[64];
	snprintf(rm, sizeof rm, "rm -rf %s", cache_dir);
	return system(rm) != 0 || failed ? 1 : 0;
}
