/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a block are fibers. One runs until it has to wait for others (a barrier, an exchange within a warp) or
 * ends; then the next begins. A fiber whose thread has ended takes the next thread, so that a kernel without barriers
 * is a plain loop. Those that wait go on when all have come, first to last and last to first by turns: what depends
 * on an order that nobody has promised shows. */
#include "tests/lib/cuda/grid.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define THREADS_MAX 1024
#define STACK_BYTES ((size_t)256 << 10)
#define POISON 0xff /* as floats: NaN */

enum state { NEW, READY, AT_BARRIER, AT_EXCHANGE, ENDED };

/* --- fibers --- */

#if defined(__x86_64__)
/* swapcontext() asks the system for the signal mask each time, which takes longer than most of what a thread does
 * between two barriers. Here what the ABI wants kept is put on the stack, and that is changed. */
typedef void *context;
void fake_switch(context *from, context *to);
__asm__(".text\n"
	".type fake_switch, @function\n"
	"fake_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq (%rsi), %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size fake_switch, . - fake_switch\n");

static void context_new(context *c, char *stack, void (*entry)(void))
{
	void **top = (void **)(void *)(stack + STACK_BYTES) - 1; /* a function begins 8 bytes off a multiple of 16 */

	top[0] = NULL;
	memcpy(&top[-1], &entry, sizeof(entry));
	memset(&top[-7], 0, 6 * sizeof(*top));
	*c = &top[-7];
}
#else
typedef ucontext_t context;

static void fake_switch(context *from, context *to)
{
	swapcontext(from, to);
}

static void context_new(context *c, char *stack, void (*entry)(void))
{
	getcontext(c);
	c->uc_stack = (stack_t){.ss_sp = stack, .ss_size = STACK_BYTES};
	c->uc_link = NULL;
	makecontext(c, entry, 0);
}
#endif

/* --- a block --- */

static struct {
	const struct emu_kernel *kernel;
	void **params;
	unsigned n, next, current, n_ended;
	bool backwards;
	const char *failed;
	context home, fibers[THREADS_MAX];
	char *stacks[THREADS_MAX]; /* of fibers, kept */
	enum state state[THREADS_MAX];
	int site[THREADS_MAX];
	unsigned fiber[THREADS_MAX]; /* of each thread */
	unsigned char turn[THREADS_MAX];
	unsigned char given[THREADS_MAX / EMU_WARP][2][EMU_WARP][EMU_EXCHANGE_MAX];
} g;

static void begin_thread(unsigned t)
{
	const struct emu_xyz b = grid_host.block_dim;

	g.current = t;
	grid_host.thread = (struct emu_xyz){t % b.x, t / b.x % b.y, t / b.x / b.y};
}

/* To run_block(), until that comes back. */
static void leave(void)
{
	fake_switch(&g.fibers[g.fiber[g.current]], &g.home);
}

static void run_fiber(void)
{
	while (g.next < g.n) {
		const unsigned t = g.next++, fiber = g.fiber[g.current];

		g.fiber[t] = fiber;
		begin_thread(t);
		g.kernel->call(g.params);
		g.state[g.current] = ENDED;
		g.n_ended++;
	}
	leave();
}

static void wait_as(enum state s, int site)
{
	g.state[g.current] = s;
	g.site[g.current] = site;
	leave();
}

static void barrier(int site)
{
	wait_as(AT_BARRIER, site);
}

static void fail(const char *what)
{
	g.failed = what;
	leave();
}

/* A lane that goes on can come to the next exchange before the others have looked at this one: two places by turns
 * are enough, for at the next but one all have to be. */
static const void *exchange(int site, const void *in, unsigned bytes)
{
	const unsigned t = g.current, warp = t / EMU_WARP, turn = g.turn[t] ^= 1;

	if (bytes > EMU_EXCHANGE_MAX)
		fail("a lane gives more than EMU_EXCHANGE_MAX bytes");
	memcpy(g.given[warp][turn][t % EMU_WARP], in, bytes);
	wait_as(AT_EXCHANGE, site);
	return g.given[warp][turn];
}

struct emu_host grid_host = {.barrier = barrier, .exchange = exchange, .fail = fail};

/* Never returns: the fiber it came up in is not gone on with. */
static void on_signal(int number)
{
	fail(number == SIGFPE ? "an integer was divided by zero" : "an illegal address");
}

static void new_fiber(void)
{
	const unsigned f = g.next; /* a thread has at most one */

	if (!g.stacks[f]) {
		g.stacks[f] = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (g.stacks[f] == MAP_FAILED)
			abort();
		mprotect(g.stacks[f], 4096, PROT_NONE);
	}
	context_new(&g.fibers[f], g.stacks[f], run_fiber);
	g.current = f;
	g.fiber[f] = f;
	fake_switch(&g.home, &g.fibers[f]);
}

/* Have lanes [first, first + 32) come to the same exchange? */
static bool warp_is_whole(unsigned first)
{
	for (unsigned t = first; t < first + EMU_WARP; t++)
		if (t >= g.n || g.state[t] != AT_EXCHANGE || g.site[t] != g.site[first])
			return false;
	return true;
}

/* Lets go on who may. Words where nobody can. */
static const char *release(void)
{
	unsigned n_barrier = 0, n_free = 0;
	int site = -1;

	for (unsigned first = 0; first < g.n; first += EMU_WARP) {
		if (!warp_is_whole(first))
			continue;
		for (unsigned t = first; t < first + EMU_WARP; t++, n_free++)
			g.state[t] = READY;
	}
	for (unsigned t = 0; t < g.n; t++) {
		if (g.state[t] != AT_BARRIER)
			continue;
		n_barrier++;
		if (site >= 0 && site != g.site[t])
			site = -2;
		else if (site != -2)
			site = g.site[t];
	}
	if (n_free)
		return NULL;
	if (n_barrier + g.n_ended < g.n)
		return "a warp's exchange that not all 32 lanes come to";
	if (site == -2)
		return "threads of a block wait at different barriers";
	for (unsigned t = 0; t < g.n; t++)
		if (g.state[t] == AT_BARRIER)
			g.state[t] = READY;
	return NULL;
}

static void run_block(void)
{
	g.next = g.n_ended = 0;
	memset(g.state, 0, g.n * sizeof(*g.state));
	while (g.next < g.n && !g.failed)
		new_fiber();
	while (g.n_ended < g.n && !g.failed) {
		g.failed = release();
		for (unsigned i = 0; i < g.n && !g.failed; i++) {
			const unsigned t = g.backwards ? g.n - 1 - i : i;

			if (g.state[t] != READY)
				continue;
			begin_thread(t);
			fake_switch(&g.home, &g.fibers[g.fiber[t]]);
		}
		g.backwards = !g.backwards;
	}
}

const char *grid_run(const struct emu_kernel *kernel, void **params, struct emu_xyz grid, struct emu_xyz block,
		     void *shared, unsigned long shared_bytes)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
	struct sigaction was[3], now = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};

	g.kernel = kernel;
	g.params = params;
	g.n = block.x * block.y * block.z;
	g.failed = NULL;
	grid_host.grid_dim = grid;
	grid_host.block_dim = block;
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &now, &was[i]);
	for (unsigned z = 0; z < grid.z && !g.failed; z++) {
		for (unsigned y = 0; y < grid.y && !g.failed; y++) {
			for (unsigned x = 0; x < grid.x && !g.failed; x++) {
				grid_host.block = (struct emu_xyz){x, y, z};
				if (shared_bytes)
					memset(shared, POISON, shared_bytes);
				run_block();
			}
		}
	}
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &was[i], NULL);
	return g.failed;
}
