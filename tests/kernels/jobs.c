/* SPDX-License-Identifier: Apache-2.0 */
/* Compiling takes minutes, so as many processes do it as there are CPUs: each takes the next job that nobody has,
 * and of its kernels those that nobody has had. What is known of a kernel, and the jobs, are in memory that all
 * share. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/host.h"
#include "core/hash.h"
#include "tests/kernels/kernels.h"

#define PROCESSES_MAX 32
#define PLACES (1u << 15) /* more than there are kernels: some 5,000 */
#define KERNEL_BEGIN "\n#define KNAME "

enum kernel_class { CLASS_PRODUCT, CLASS_ATTENTION, CLASS_REST, CLASSES };
struct usage {
	unsigned kernels, registers, stack, spill, shared; /* the most of any kernel; bytes. spill: the sum */
};

/* A kernel of an architecture, at a place by its hash. */
struct kernel {
	_Atomic uint64_t hash; /* of all of its text; 0: nobody's */
	enum kernel_class class;
	bool compiled;
	struct usage usage;
};

struct shared {
	atomic_size_t next;
	size_t n;
	struct kernel kernels[PLACES];
	struct job jobs[];
};

static enum kernel_class class_of(const char *name)
{
	if (strncmp(name, "linear", 6) == 0)
		return CLASS_PRODUCT;
	return strncmp(name, "attention", 9) == 0 ? CLASS_ATTENTION : CLASS_REST;
}

static void at_least(unsigned *most, unsigned n)
{
	if (n > *most)
		*most = n;
}

const char *job_name(const struct job *j)
{
	static char name[80];
	snprintf(name, sizeof name, "%s sm_%d", j->c ? j->c->name : "peak", j->sm);
	return name;
}

/* Of the line's "N what", N. */
static unsigned number_before(const char *line, const char *what)
{
	const char *s = strstr(line, what);
	if (!s)
		return 0;
	while (s > line && s[-1] == ' ')
		s--;
	while (s > line && s[-1] >= '0' && s[-1] <= '9')
		s--;
	return (unsigned)strtoul(s, NULL, 10);
}

/* What the log says about a kernel, where it stands in it alone or with functions that it calls. */
static void read_usage(const char *log, const char *name, struct kernel *k)
{
	char line[512], entry[KGEN_NAME_MAX + 40];
	bool own = false;
	snprintf(entry, sizeof entry, "Compiling entry function '%.*s'", KGEN_NAME_MAX - 1, name);
	for (const char *s = log; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		snprintf(line, sizeof line, "%.*s", (int)strcspn(s, "\n"), s);
		if (strstr(line, "Compiling entry function"))
			own = strstr(line, entry) != NULL;
		if (!own)
			continue;
		struct usage *u = &k->usage;
		k->compiled |= strstr(line, " registers") != NULL;
		at_least(&u->registers, number_before(line, "registers"));
		at_least(&u->stack, number_before(line, "bytes stack frame"));
		at_least(&u->shared, number_before(line, "bytes smem"));
		u->spill += number_before(line, "bytes spill stores") + number_before(line, "bytes spill loads");
	}
}

/* The place of a kernel, given what stands before all kernels and its own text without its name. *ret_mine: nobody
 * has had it before. */
static uint32_t find_place(struct shared *s, const struct job *j, const char *options, const char *head,
			   size_t n_head, const char *text, size_t n_text, bool *ret_mine)
{
	struct hash128 h;
	uint64_t words[2];
	hash128_init(&h, (uint64_t)j->sm);
	hash128_add(&h, options, strlen(options));
	hash128_add(&h, head, n_head);
	hash128_add(&h, text, n_text);
	hash128_get(&h, words);
	const uint64_t own = words[0] ? words[0] : 1;
	for (uint32_t i = (uint32_t)words[1] % PLACES;; i = (i + 1) % PLACES) {
		uint64_t was = 0;
		*ret_mine = atomic_compare_exchange_strong(&s->kernels[i].hash, &was, own);
		if (*ret_mine || was == own)
			return i;
	}
}

/* The job's text without the kernels that others have; "" when that is all of them. malloc'd. Names of those that
 * are left go to `names`, "" for the others. */
static char *new_kernels(struct shared *s, struct job *j, const struct program *p,
			 char (*names)[KGEN_NAME_MAX])
{
	const char *k = strstr(p->text, KERNEL_BEGIN);
	const size_t n_head = k ? (size_t)(k - p->text) : 0;
	struct strbuf sb = {0};
	sb_add(&sb, p->text, n_head);
	const size_t nothing = sb.len;
	for (const char *next; k && j->n_kernels < KGEN_KERNELS_MAX; k = next) {
		const char *name = k + strlen(KERNEL_BEGIN);
		const size_t n_name = strcspn(name, "\n");
		bool mine;
		next = strstr(name, KERNEL_BEGIN);
		const size_t n = next ? (size_t)(next - k) : strlen(k);
		const uint32_t at = find_place(s, j, p->options, p->text, n_head, name + n_name,
					       n - strlen(KERNEL_BEGIN) - n_name, &mine);
		snprintf(names[j->n_kernels], KGEN_NAME_MAX, "%.*s", mine ? (int)n_name : 0, name);
		if (mine) {
			s->kernels[at].class = class_of(name);
			sb_add(&sb, k, n);
		}
		j->kernels[j->n_kernels++] = at;
	}
	if (sb.len == nothing)
		sb_reset(&sb);
	return sb_take(&sb, NULL);
}

static void keep(const struct compiler *c, const struct job *j, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", c->folder, job_name(j));
	FILE *f = fopen(path, "w");
	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static void do_job(struct shared *s, struct job *j, const struct compiler *c)
{
	static char names[KGEN_KERNELS_MAX][KGEN_NAME_MAX];
	struct program p;
	struct err err = {0};
	char device[48];
	snprintf(device, sizeof device, "%s:sm_%d", c->backend, j->sm);
	if (!kernels_program(j->c, device, &p, &err)) {
		printf("%s: %s\n", job_name(j), err.msg);
		return;
	}
	char *text = new_kernels(s, j, &p, names);
	char *log = text && text[0] ? c->compile(c, j, text, p.options) : NULL;
	for (uint32_t i = 0; log && i < j->n_kernels; i++) {
		struct kernel *k = &s->kernels[j->kernels[i]];
		if (!names[i][0])
			continue;
		read_usage(log, names[i], k);
		if (!k->compiled)
			printf("%s: nothing is said about %s\n", job_name(j), names[i]);
		if (k->usage.spill && k->class != CLASS_REST)
			printf("%s: %u bytes of %s are spilled\n", job_name(j), k->usage.spill, names[i]);
	}
	if (text && text[0] && !log && c->folder)
		keep(c, j, text);
	free(log);
	free(text);
	free(p.text);
}

static void work(struct shared *s, const struct compiler *c)
{
	static char out[1 << 16]; /* what a job prints: out in one piece */
	setvbuf(stdout, out, _IOFBF, sizeof out);
	for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < s->n;) {
		do_job(s, &s->jobs[i], c);
		fflush(stdout);
	}
}

/* A job's row of the table. */
static void add_up(const struct shared *s, struct job *j)
{
	struct usage usage[CLASSES] = {0};
	j->ok = j->n_kernels > 0;
	for (uint32_t i = 0; i < j->n_kernels; i++) {
		const struct kernel *k = &s->kernels[j->kernels[i]];
		struct usage *u = &usage[k->class];
		u->kernels++;
		u->spill += k->usage.spill;
		at_least(&u->registers, k->usage.registers);
		at_least(&u->stack, k->usage.stack);
		at_least(&u->shared, k->usage.shared);
		j->ok &= k->compiled && (k->class == CLASS_REST || k->usage.spill == 0);
	}
	printf("%-16s", job_name(j));
	for (int c = 0; c < CLASSES; c++)
		printf(" | %2u  %4u %6u %6u %8u", usage[c].kernels, usage[c].registers, usage[c].stack, usage[c].spill,
		       usage[c].shared);
	printf("%s\n", j->ok ? "" : "  FAILED");
}

static size_t table(struct shared *s)
{
	static const char *const classes[CLASSES] = {"products", "attention", "the rest"};
	size_t passed = 0, n = 0;
	for (uint32_t i = 0; i < PLACES; i++)
		n += s->kernels[i].hash != 0;
	printf("%zu different kernels; the most of each, and all bytes spilled:\n%-16s", n, "");
	for (int c = 0; c < CLASSES; c++)
		printf(" | %-32s", classes[c]);
	printf("\n%-16s", "program");
	for (int c = 0; c < CLASSES; c++)
		printf(" |  n  regs  stack  spill   shared");
	printf("\n");
	for (size_t i = 0; i < s->n; i++) {
		add_up(s, &s->jobs[i]);
		passed += s->jobs[i].ok;
	}
	return passed;
}

/* Formats for all architectures, shapes for some. */
static void list_jobs(struct shared *s, const int *sms, size_t n_sms)
{
	const bool all = getenv("ALL") != NULL;
	for (size_t i = 0; i <= n_kernel_cases; i++)
		for (size_t a = 0; a < n_sms; a++) {
			const struct model_case *c = i < n_kernel_cases ? &kernel_cases[i] : NULL;
			if (all || !c || !c->shape || a == 0 || a == n_sms - 1 || sms[a] == 90)
				s->jobs[s->n++] = (struct job){.c = c, .sm = sms[a]};
		}
}

int jobs_run(const int *sms, size_t n_sms, const struct compiler *c)
{
	const size_t bytes = sizeof(struct shared) + (n_kernel_cases + 1) * n_sms * sizeof(struct job);
	struct shared *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	list_jobs(s, sms, n_sms);
	fflush(stdout);
	for (unsigned i = 0; i < host_cpus() && i < PROCESSES_MAX; i++) {
		const pid_t pid = fork();
		if (pid == 0) {
			work(s, c);
			_exit(0);
		}
		if (pid < 0)
			perror("fork");
	}
	for (int status; wait(&status) > 0;)
		if (status)
			printf("a process ended with status %#x\n", (unsigned)status);
	const size_t n = s->n, passed = table(s);
	printf("%zu passed, %zu failed\n", passed, n - passed);
	munmap(s, bytes);
	return passed < n || n == 0 ? 1 : 0;
}
