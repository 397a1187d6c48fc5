/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TESTS_MAX 1024
#define JOBS_MAX 64
#define FAILED 1 /* exit status of a test's process */

struct bare_case {
	struct bare_case *next;
	void (*setup)(void), (*teardown)(void);
	unsigned timeout_s;
	struct bare_run {
		const struct bare_test *test;
		int i;
	} runs[TESTS_MAX];
	int n_runs;
};

struct bare_suite {
	const char *name;
	struct bare_case *cases, **last;
};

struct job {
	pid_t pid;
	const struct bare_run *run;
	double start_s;
};

struct bare_runner {
	struct bare_suite *suite;
	int n, failures, errors;
	int at, part, parts; /* of all tests; which of them are run */
	struct job jobs[JOBS_MAX];
	int n_jobs, jobs_max;
};

static bool in_child;
static jmp_buf out_of_test;

static void *make(size_t bytes)
{
	void *p = calloc(1, bytes);

	if (p)
		return p;
	fprintf(stderr, "out of memory\n");
	exit(99);
}

Suite *suite_create(const char *name)
{
	Suite *s = make(sizeof(*s));

	s->name = name;
	s->last = &s->cases;
	return s;
}

TCase *tcase_create(const char *name)
{
	TCase *t = make(sizeof(*t));

	(void)name;
	t->timeout_s = 4; /* Check's */
	return t;
}

void tcase_set_timeout(TCase *t, double seconds)
{
	t->timeout_s = (unsigned)seconds;
}

void tcase_add_checked_fixture(TCase *t, void (*setup)(void), void (*teardown)(void))
{
	t->setup = setup;
	t->teardown = teardown;
}

void bare_add(TCase *t, const struct bare_test *test, int from, int to)
{
	for (int i = from; i < to; i++) {
		if (t->n_runs == TESTS_MAX) {
			fprintf(stderr, "more than %d tests in a case\n", TESTS_MAX);
			exit(99);
		}
		t->runs[t->n_runs++] = (struct bare_run){test, i};
	}
}

void suite_add_tcase(Suite *s, TCase *t)
{
	*s->last = t;
	s->last = &t->next;
}

static int number(const char *name, int fallback)
{
	const char *text = getenv(name);

	return text ? (int)strtol(text, NULL, 10) : fallback;
}

SRunner *srunner_create(Suite *s)
{
	SRunner *r = make(sizeof(*r));
	const char *part = getenv("BARECHECK_PART"), *of = part ? strchr(part, '/') : NULL;

	r->suite = s;
	r->parts = of ? (int)strtol(of + 1, NULL, 10) : 1;
	r->part = of ? (int)strtol(part, NULL, 10) : 0;
	r->jobs_max = number("BARECHECK_JOBS", 1);
	if (r->jobs_max < 1 || r->jobs_max > JOBS_MAX)
		r->jobs_max = JOBS_MAX;
	return r;
}

void bare_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("%s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	if (in_child)
		_exit(FAILED);
	longjmp(out_of_test, 1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_body(const struct bare_case *c, const struct bare_run *run)
{
	if (c->setup)
		c->setup();
	run->test->run(run->i);
	if (c->teardown)
		c->teardown();
}

/* A line for each test, so that a run that is cut short still tells how far it came. */
static void tell(SRunner *r, const struct bare_run *run, double start_s, int failures, const char *error)
{
	r->n++;
	r->failures += failures;
	r->errors += error != NULL;
	printf("%s %s[%d] %.1f s%s%s\n", failures || error ? "FAIL" : "ok  ", run->test->name, run->i,
	       now_s() - start_s, error ? ": " : "", error ? error : "");
	fflush(stdout);
}

/* Waits for one of the processes. */
static void reap(SRunner *r)
{
	char error[64];
	int status = 0, k = 0;
	pid_t pid = waitpid(-1, &status, 0);

	while (k < r->n_jobs && r->jobs[k].pid != pid)
		k++;
	if (k == r->n_jobs)
		return;
	if (WIFSIGNALED(status))
		snprintf(error, sizeof(error), "%s", WTERMSIG(status) == SIGALRM ? "over its time"
									  : strsignal(WTERMSIG(status)));
	else
		snprintf(error, sizeof(error), "exit status %d", WEXITSTATUS(status));
	tell(r, r->jobs[k].run, r->jobs[k].start_s, WIFEXITED(status) && WEXITSTATUS(status) == FAILED,
	     WIFEXITED(status) && WEXITSTATUS(status) <= FAILED ? NULL : error);
	r->jobs[k] = r->jobs[--r->n_jobs];
}

static void run_forked(SRunner *r, const struct bare_case *c, const struct bare_run *run)
{
	struct job *job = &r->jobs[r->n_jobs];

	fflush(NULL);
	*job = (struct job){.run = run, .start_s = now_s()};
	job->pid = fork();
	if (job->pid == 0) {
		in_child = true;
		alarm(c->timeout_s);
		run_body(c, run);
		fflush(NULL);
		_exit(0);
	}
	if (job->pid < 0) {
		tell(r, run, job->start_s, 0, strerror(errno));
		return;
	}
	if (++r->n_jobs == r->jobs_max)
		reap(r);
}

static void run_here(SRunner *r, const struct bare_case *c, const struct bare_run *run)
{
	const double start_s = now_s();

	if (setjmp(out_of_test) == 0) {
		run_body(c, run);
		tell(r, run, start_s, 0, NULL);
	} else {
		tell(r, run, start_s, 1, NULL);
	}
}

void srunner_run_all(SRunner *r, enum print_output how)
{
	const char *fork_it = getenv("CK_FORK"), *only = getenv("BARECHECK_ONLY");

	(void)how;
	printf("Running suite(s): %s\n", r->suite->name);
	for (const struct bare_case *c = r->suite->cases; c; c = c->next) {
		for (int i = 0; i < c->n_runs; i++) {
			if (only && *only && strcmp(only, c->runs[i].test->name) != 0)
				continue;
			if (r->at++ % r->parts != r->part)
				continue;
			if (fork_it && strcmp(fork_it, "no") == 0)
				run_here(r, c, &c->runs[i]);
			else
				run_forked(r, c, &c->runs[i]);
		}
	}
	while (r->n_jobs)
		reap(r);
	printf("%d%%: Checks: %d, Failures: %d, Errors: %d\n",
	       r->n ? 100 * (r->n - r->failures - r->errors) / r->n : 100, r->n, r->failures, r->errors);
}

int srunner_ntests_failed(const SRunner *r)
{
	return r->failures + r->errors;
}

void srunner_free(SRunner *r)
{
	struct bare_case *c = r->suite->cases;

	while (c) {
		struct bare_case *next = c->next;

		free(c);
		c = next;
	}
	free(r->suite);
	free(r);
}
