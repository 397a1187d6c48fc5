/* SPDX-License-Identifier: Apache-2.0 */
/* A whole engine on the fake CUDA device while the driver fails, call by call: opening and stepping give a clean error
 * and leave nothing behind; after an error that CUDA gets over, the same engine answers as if nothing had been. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/features.h"
#include "model/model.h"
#include "tests/lib/cuda/rig.h"
#include "tests/lib/tinygguf.h"

#define N_PROMPT 37
#define N_GEN 3

static struct model model;
static char cache_dir[] = "/tmp/driftd-test-XXXXXX";
static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1, .n_top = 2};

struct answer {
	struct position_out at[N_GEN];
};

static void setup(void)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd = -1;

	p.format = FORMAT_Q4_0;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	int r = model_open(&model, path, &err);
	ck_assert_msg(r == 0, "%s", err.msg);
	close(fd);
	tg_done(&t);
	rig_load();
}

static void teardown(void)
{
	model_close(&model);
}

static int open_engine(struct engine **ret, struct err *e)
{
	const struct engine_options o = {.device = "cuda:0", .kv_tok = 512, .parallel = 2, .batch_tok = 16,
					 .cache_dir = cache_dir, .disable = FEATURE_TUNE};

	return engine_open(&model.graph, &o, ret, e);
}

/* A prompt in chunks, then N_GEN tokens. */
static int ask(struct engine *engine, struct answer *ret, struct err *e)
{
	uint32_t text[N_PROMPT + N_GEN], seq, cached, n = N_PROMPT;
	int r = 0;

	for (uint32_t i = 0; i < N_PROMPT; i++)
		text[i] = 3 + i * 37 % 200;
	ck_assert_int_eq(engine_seq_new(engine, text, n, true, &seq, &cached), 0);
	for (uint32_t have = 0, k = 0; k < N_GEN && r == 0;) {
		const uint32_t n_tok = n - have < 16 ? n - have : 16;
		struct step_item it = {.seq = seq, .tokens = text + have, .n_tok = n_tok, .sample = have + n_tok == n,
				       .sampling = &greedy, .history = text, .n_history = n, .n_prompt = N_PROMPT,
				       .draw = k, .next_token = UINT32_MAX};
		struct step_out out = {0};

		ck_assert_int_eq(engine_seq_reserve(engine, seq, n_tok), 0);
		r = engine_step(engine, &it, 1, &out, e);
		if (r == 0)
			ck_assert_int_eq(out.code, 0);
		have += n_tok;
		if (r == 0 && it.sample) {
			ret->at[k++] = out.sampled;
			text[n++] = out.sampled.chosen.token;
		}
	}
	engine_seq_free(engine, seq, false);
	return r;
}

static void same(const struct answer *a, const struct answer *b, const char *what)
{
	for (int k = 0; k < N_GEN; k++) {
		ck_assert_msg(a->at[k].chosen.token == b->at[k].chosen.token, "%s: token %d is another", what, k);
		ck_assert_msg(a->at[k].chosen.logprob == b->at[k].chosen.logprob, "%s: token %d differs", what, k);
		ck_assert_mem_eq(a->at[k].top, b->at[k].top, a->at[k].n_top * sizeof(*a->at[k].top));
	}
}

/* false: there was no such call. */
static bool one(const char *name, unsigned long nth, int code, const struct answer *want)
{
	struct engine *engine = NULL;
	struct answer got;
	struct err e = {0};
	char what[120];
	bool failed;
	int r;

	rig_reset();
	snprintf(what, sizeof(what), "call %lu of %s gives %d", nth, name, code);
	fake.driver.inject(name, nth, code);
	r = open_engine(&engine, &e);
	if (r == 0)
		r = ask(engine, &got, &e);
	failed = fake.driver.failed();
	fake.driver.inject(name, 0, 0);
	ck_assert_msg(failed || r == 0, "%s: %s", what, e.msg);
	if (r) {
		ck_assert_msg(e.code == r && e.msg[0], "%s: no words", what);
		if (engine)
			ck_assert_msg(r == (code == 2 ? -ENOMEM : -EIO), "%s: %d: %s", what, r, e.msg);
	} else {
		same(want, &got, what);
	}
	err_clear(&e);
	if (engine && failed) {
		r = ask(engine, &got, &e);
		if (code == 2) {
			ck_assert_msg(r == 0, "%s, and the engine is of no use any more: %s", what, e.msg);
			same(want, &got, what);
		} else {
			ck_assert_msg(r == -EIO, "%s, and the engine goes on: %d", what, r);
		}
	}
	engine_close(engine);
	rig_clean(what);
	return failed;
}

START_TEST(test_each_call)
{
	static const char *const names[] = {"cuMemAlloc_v2",	    "cuMemHostAlloc",	     "cuStreamCreate",
					    "cuEventRecord",	    "cuEventSynchronize",    "cuModuleLoadData",
					    "cuModuleGetFunction",  "cuMemcpyHtoDAsync_v2",  "cuMemcpyDtoHAsync_v2",
					    "cuDevicePrimaryCtxRetain", "cuStreamBeginCapture_v2", "cuStreamEndCapture",
					    "cuGraphInstantiateWithFlags", "cuGraphLaunch"};
	struct engine *engine = NULL;
	struct answer want;
	struct err e = {0};
	unsigned long n = 0;
	int r = open_engine(&engine, &e);

	ck_assert_msg(r == 0, "%s", e.msg);
	ck_assert_int_eq(ask(engine, &want, &e), 0);
	engine_close(engine);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		for (unsigned long nth = 1; one(names[i], nth, _i ? 719 : 2, &want); nth++)
			n++;
	/* there are many: some of each step */
	for (unsigned long nth = 1; one("cuLaunchKernel", nth, _i ? 719 : 2, &want); nth += 7)
		n++;
	printf("error %d: %lu calls failed in turn\n", _i ? 719 : 2, n);
	ck_assert_uint_gt(n, 40);
}
END_TEST

/* The nth kernel that runs fails: whoever waits hears of it, and the engine is lost. */
START_TEST(test_each_kernel)
{
	for (unsigned long nth = 1; nth < 60; nth += 4) {
		struct engine *engine = NULL;
		struct answer got;
		struct err e = {0};

		rig_reset();
		ck_assert_int_eq(open_engine(&engine, &e), 0);
		fake.fail_kernel(nth, 700);
		ck_assert_int_eq(ask(engine, &got, &e), -EIO);
		ck_assert_msg(strstr(e.msg, "CUDA_ERROR_ILLEGAL_ADDRESS") != NULL, "%s", e.msg);
		err_clear(&e);
		ck_assert_int_eq(ask(engine, &got, &e), -EIO);
		engine_close(engine);
		rig_clean("a kernel fails");
	}
}
END_TEST

/* A device on which there is less memory than the plan wants, or on which it goes while the engine opens. */
START_TEST(test_little_memory)
{
	struct engine *engine = NULL;
	struct err e = {0};

	rig_reset();
	fake.facts->memory_bytes = 200000;
	ck_assert_int_eq(open_engine(&engine, &e), -ENOMEM);
	ck_assert_msg(strstr(e.msg, "does not fit") != NULL, "%s", e.msg);
	ck_assert_ptr_null(engine);
	rig_clean("too little memory");
}
END_TEST

int main(void)
{
	char rm[64];
	Suite *s = suite_create("cuda_engine");
	TCase *tc = tcase_create("engine");
	SRunner *sr;
	int failures;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!rig_can_compile())
		return 77;
	if (!mkdtemp(cache_dir))
		return 1;
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, test_each_call, 0, 2);
	tcase_add_test(tc, test_each_kernel);
	tcase_add_test(tc, test_little_memory);
	tcase_set_timeout(tc, 300);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	snprintf(rm, sizeof(rm), "rm -rf %s", cache_dir);
	if (system(rm) != 0)
		return 1;
	return failures ? 1 : 0;
}
