/* SPDX-License-Identifier: Apache-2.0 */
/* What all backends share, on a device of host memory that is written here: the contract's slots, copies through
 * staging memory, and each of the device's calls failing in turn, after which nothing may be left over. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/common.h"

#define HALF_BYTES 64 /* of staging memory */
#define N_EVENTS COMMON_MARKS_MAX

struct be_mem {
	struct common_mem base;
	char *bytes;
};

struct be_prog {
	struct common_prog base;
	char *text;
};

struct be_list {
	struct common_list base;
	int adds;
	char *dst;
};

struct be_dev {
	struct common_dev base;
	char staging[2 * HALF_BYTES];
	uint64_t events[N_EVENTS];
	struct pending {
		char *dst;
		const void *from;
		size_t bytes;
		uint64_t mark; /* the first one after it */
	} writes[HALF_BYTES]; /* made as late as the contract allows */
	unsigned n_writes;
	struct be_list *now; /* recording */
};

/* Calls of one name are counted down; the last of them fails. */
static const char *fail_name;
static int fail_after, fail_code, live, kernels_made;

static int call(const char *name, struct err *reterr)
{
	if (!fail_name || strcmp(fail_name, name) != 0 || fail_after-- != 0)
		return 0;
	return err_set(reterr, fail_code, "%s fails", name);
}

static void arm(const char *name, int after, int code)
{
	fail_name = name;
	fail_after = after;
	fail_code = code;
}

static int enter(struct be_dev *dev, struct err *reterr)
{
	(void)dev;
	return call("enter", reterr);
}

static void stop(struct be_dev *dev)
{
	(void)dev;
	live--;
}

static int buffer(struct be_dev *dev, struct be_mem *mem, struct err *reterr)
{
	int r = call("buffer", reterr);

	(void)dev;
	if (r)
		return r;
	mem->bytes = calloc(1, mem->base.bytes);
	live++;
	return mem->bytes ? 0 : -ENOMEM;
}

static int image(struct be_dev *dev, struct be_mem *mem, size_t w, size_t h, enum be_texel texel, struct err *reterr)
{
	ck_assert_uint_eq(w * h * 16, mem->base.bytes);
	ck_assert_int_eq(texel, BE_TEXEL_INT4);
	return buffer(dev, mem, reterr);
}

static void mem_release(struct be_dev *dev, struct be_mem *mem)
{
	(void)dev;
	free(mem->bytes);
	live--;
}

/* Those before a mark. */
static void make_writes(struct be_dev *dev, uint64_t m)
{
	unsigned n = 0;

	for (; n < dev->n_writes && dev->writes[n].mark <= m; n++)
		memcpy(dev->writes[n].dst, dev->writes[n].from, dev->writes[n].bytes);
	dev->n_writes -= n;
	memmove(dev->writes, dev->writes + n, dev->n_writes * sizeof(*dev->writes));
}

static int write_to(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		    struct err *reterr)
{
	const void *from = NULL;
	int r = call("write", reterr);

	for (size_t n, done = 0; done < bytes && r == 0; done += n) {
		n = copies_write(&dev->base.copies, (const char *)src + done, bytes - done, dev->base.last_mark + 1,
				 &from);
		if (n == 0)
			r = common_finish(dev, reterr);
		else
			dev->writes[dev->n_writes++] = (struct pending){dst->bytes + offset + done, from, n,
									dev->base.last_mark + 1};
	}
	return r;
}

static int read_from(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		     struct err *reterr)
{
	void *room = copies_read_room(&dev->base.copies, bytes);
	int r = call("read", reterr);

	if (r)
		return r;
	make_writes(dev, UINT64_MAX);
	memcpy(room ? room : dst, src->bytes + offset, bytes);
	if (room)
		copies_put_off(&dev->base.copies, dst, room, bytes, dev->base.last_mark + 1);
	return 0;
}

static int from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr)
{
	int r = call("from_text", reterr);

	(void)dev;
	ck_assert_ptr_nonnull(src->options);
	prog->text = strdup(src->text);
	live++;
	return r; /* half-made where it fails */
}

static int from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr)
{
	int r = call("from_binary", reterr);

	(void)dev;
	prog->text = strndup(src->binary, src->binary_bytes);
	live++;
	return r;
}

static int code(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes)
{
	(void)dev;
	*ret_bytes = strlen(prog->text);
	if (room)
		memcpy(room, prog->text, *ret_bytes);
	return call(room ? "code" : "code size", NULL);
}

static void prog_release(struct be_dev *dev, struct be_prog *prog)
{
	(void)dev;
	free(prog->text);
	live--;
}

static int kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr)
{
	int r = call("kernel", reterr);

	(void)dev;
	if (r)
		return r;
	*ret = strstr(prog->text, name);
	if (!*ret)
		return err_set(reterr, -ENOENT, "no kernel '%s'", name);
	kernels_made++;
	live++;
	return 0;
}

static void kernel_release(void *k)
{
	ck_assert_ptr_nonnull(k);
	live--;
}

/* The one kernel there is: adds a value to a byte. */
static int launch(struct be_dev *dev, void *k, const struct be_launch *l, struct err *reterr)
{
	char *dst = l->args[0].mem->bytes + l->args[0].offset;
	int r = call("launch", reterr);

	ck_assert_int_eq(strncmp(k, "add", 3), 0);
	if (r)
		return r;
	if (dev->now) {
		dev->now->adds += (int)l->args[1].offset;
		dev->now->dst = dst;
	} else {
		*dst = (char)(*dst + (int)l->args[1].offset);
	}
	return 0;
}

static int record(struct be_dev *dev, struct err *reterr)
{
	int r = call("record", reterr);

	if (r == 0)
		dev->now = dev->base.recording;
	return r;
}

static int record_end(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	int r = call("record_end", reterr);

	ck_assert_ptr_eq(list, dev->now);
	dev->now = NULL;
	live += r == 0;
	return r;
}

static int replay(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	int r = call("replay", reterr);

	(void)dev;
	if (r == 0)
		*list->dst = (char)(*list->dst + list->adds);
	return r;
}

static void list_release(struct be_dev *dev, struct be_list *list)
{
	(void)dev;
	(void)list;
	live--;
}

static int mark(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	int r = call("mark", reterr);

	if (r == 0) {
		ck_assert_uint_eq(dev->events[m % N_EVENTS], 0); /* none is used before its old mark has passed */
		dev->events[m % N_EVENTS] = m;
	}
	return r;
}

static int wait_for(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	int r = call("wait", reterr);

	if (r)
		return r;
	ck_assert_uint_eq(dev->events[m % N_EVENTS], m);
	make_writes(dev, m);
	for (uint64_t i = dev->base.passed_mark + 1; i <= m; i++)
		dev->events[i % N_EVENTS] = 0;
	return 0;
}

COMMON_LAYOUT;
static const struct common_api api = {
	.dev_bytes = sizeof(struct be_dev),
	.mem_bytes = sizeof(struct be_mem),
	.prog_bytes = sizeof(struct be_prog),
	.list_bytes = sizeof(struct be_list),
	.enter = enter,
	.stop = stop,
	.buffer = buffer,
	.image = image,
	.mem_release = mem_release,
	.write = write_to,
	.read = read_from,
	.from_text = from_text,
	.from_binary = from_binary,
	.code = code,
	.prog_release = prog_release,
	.kernel = kernel,
	.kernel_release = kernel_release,
	.launch = launch,
	.record = record,
	.record_end = record_end,
	.replay = replay,
	.list_release = list_release,
	.mark = mark,
	.wait = wait_for,
};

static const struct be_ops ops = {
	.name = "host",
	.abi = BE_ABI,
	COMMON_SLOTS,
	.image = common_image,
	.record = common_record,
	.record_end = common_record_end,
	.replay = common_replay,
	.list_free = common_list_free,
};

static const struct be_info info = {.backend = "host", .name = "memory", .driver = "1", .group_max = 8,
				    .buffer_max_bytes = 4096, .images = true, .image_w_max = 8, .image_h_max = 8};
static const struct be_source source = {.name = "p", .text = "add() {}", .options = ""};
static struct be_dev *dev;
static struct err e;

static void setup(void)
{
	arm(NULL, 0, 0);
	live = kernels_made = 0;
	err_clear(&e);
	ck_assert_int_eq(common_open(&api, &info, &info, &dev, &e), 0);
	live++;
	dev->base.copies.staging = dev->staging;
	dev->base.copies.half_bytes = HALF_BYTES;
}

/* Whatever a test leaves, close frees. */
static void teardown(void)
{
	arm(NULL, 0, 0);
	ops.close(dev);
	ck_assert_int_eq(live, 0);
}

#define ck_ok(call_) ck_assert_msg((call_) == 0, "%s", e.msg)
#define ck_fails(call_, code_, word)                                            \
	do {                                                                    \
		err_clear(&e);                                                  \
		ck_assert_int_eq(call_, code_);                                 \
		ck_assert_msg(strstr(e.msg, word) != NULL, "'%s'", e.msg);      \
		err_clear(&e);                                                  \
	} while (0)

static void finish(void)
{
	ck_ok(common_finish(dev, &e));
}

START_TEST(test_open)
{
	struct be_info there = info;
	struct be_dev *d = NULL;

	snprintf(there.name, sizeof(there.name), "memory of others");
	ck_fails(common_open(&api, &info, &there, &d, &e), -ENODEV, "host:0: another device has its number now");
	snprintf(there.why_not, sizeof(there.why_not), "it is asleep");
	ck_fails(common_open(&api, &info, &there, &d, &e), -ENODEV, "host:0: it is asleep");
	ck_assert_ptr_null(d);
	ops.close(NULL);
}
END_TEST

START_TEST(test_memory)
{
	struct be_mem *a = NULL, *b = NULL, *img = NULL, *x = NULL;
	struct be_stats st;

	ck_ok(ops.buffer(dev, 100, BE_MEM_KV, &a, &e));
	ck_ok(ops.buffer(dev, 4096, BE_MEM_STEP, &b, &e));
	ck_ok(ops.image(dev, 8, 3, BE_TEXEL_INT4, BE_MEM_KV, &img, &e));
	ck_fails(ops.buffer(dev, 0, BE_MEM_KV, &x, &e), -EINVAL, "host:0: a buffer of 0 bytes");
	ck_fails(ops.buffer(dev, 1, BE_MEM_KINDS, &x, &e), -EINVAL, "kind 4");
	ck_fails(ops.buffer(dev, 4097, BE_MEM_KV, &x, &e), -ENOMEM, "4097 bytes, the largest here is 4096");
	ck_fails(ops.image(dev, 9, 1, BE_TEXEL_INT4, BE_MEM_KV, &x, &e), -EINVAL, "9 x 1");
	ck_fails(ops.image(dev, 1, 9, BE_TEXEL_INT4, BE_MEM_KV, &x, &e), -EINVAL, "1 x 9");
	ck_fails(ops.image(dev, 0, 1, BE_TEXEL_INT4, BE_MEM_KV, &x, &e), -EINVAL, "0 x 1");
	arm("buffer", 0, -ENOMEM);
	ck_fails(ops.buffer(dev, 1, BE_MEM_KV, &x, &e), -ENOMEM, "buffer fails");
	ck_assert_ptr_null(x);
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.allocs, 3);
	ck_assert_uint_eq(st.bytes[BE_MEM_KV], 100 + 8 * 3 * 16);
	ck_assert_uint_eq(st.bytes[BE_MEM_STEP], 4096);
	ops.mem_free(dev, b); /* from the middle of the list */
	ops.mem_free(dev, a);
	ops.mem_free(dev, NULL);
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.bytes[BE_MEM_KV], 8 * 3 * 16);
	ck_assert_uint_eq(st.bytes[BE_MEM_STEP], 0);
	dev->base.info.images = false;
	ck_fails(ops.image(dev, 1, 1, BE_TEXEL_INT4, BE_MEM_KV, &x, &e), -ENOTSUP, "no images");
}
END_TEST

/* More than staging memory holds, in both directions, and more reads than can be put off. */
START_TEST(test_copies)
{
	enum { N = 1000, READS = 2 * COPIES_READS_MAX };
	unsigned char in[N], out[N] = {0}, bytes[READS];
	struct be_mem *m = NULL, *img = NULL;
	struct be_stats st;
	uint64_t early = 0;

	for (int i = 0; i < N; i++)
		in[i] = (unsigned char)(i * 7 + i / 256);
	ck_ok(ops.buffer(dev, N, BE_MEM_STEP, &m, &e));
	ck_ok(ops.image(dev, 1, 1, BE_TEXEL_INT4, BE_MEM_KV, &img, &e));
	ck_ok(ops.write(dev, m, 0, in, N, &e));
	ck_ok(ops.read(dev, m, 0, out, HALF_BYTES, &e));
	ck_assert_uint_eq(out[1], 0); /* not before a mark was waited for */
	ck_ok(ops.mark(dev, &early, &e));
	ck_ok(ops.read(dev, m, HALF_BYTES, out + HALF_BYTES, N - HALF_BYTES, &e));
	ck_ok(ops.wait(dev, early, &e));
	ck_assert_mem_eq(in, out, HALF_BYTES);
	finish();
	ck_assert_mem_eq(in, out, N);
	memset(bytes, 0, sizeof(bytes));
	for (int i = 0; i < READS; i++)
		ck_ok(ops.read(dev, m, (size_t)i, &bytes[i], 1, &e));
	ck_assert_uint_eq(bytes[1], 0);
	finish();
	ck_assert_mem_eq(in, bytes, READS);
	/* staging memory is not used again before what is in it has passed */
	ck_ok(ops.mark(dev, &early, &e));
	ck_ok(ops.write(dev, m, 0, "ab", 2, &e));
	ck_ok(ops.wait(dev, early, &e));
	ck_ok(ops.write(dev, m, 2, "cd", 2, &e));
	ck_ok(ops.read(dev, m, 0, out, 1, &e));
	ck_ok(ops.mark(dev, &early, &e));
	ck_ok(ops.read(dev, m, 1, out + 1, 1, &e));
	ck_ok(ops.wait(dev, early, &e));
	ck_ok(ops.read(dev, m, 2, out + 2, 2, &e));
	ck_assert_uint_eq(out[0], 'a');
	finish();
	ck_assert_mem_eq(out, "abcd", 4);
	ck_ok(ops.write(dev, m, N, in, 0, &e));
	ck_fails(ops.write(dev, m, 1, in, N, &e), -EINVAL, "write of 1000 bytes at 1, the buffer has 1000");
	ck_fails(ops.read(dev, m, SIZE_MAX, out, 2, &e), -EINVAL, "read of 2 bytes");
	ck_fails(ops.read(dev, img, 0, out, 2, &e), -EINVAL, "read needs a buffer");
	ck_fails(ops.write(dev, NULL, 0, in, 2, &e), -EINVAL, "write needs a buffer");
	ck_fails(ops.write(dev, m, 0, NULL, 2, &e), -EINVAL, "write needs a buffer");
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.writes, 3);
	ck_assert_uint_eq(st.reads, 5 + READS);
}
END_TEST

START_TEST(test_marks)
{
	uint64_t m = 0;

	for (uint64_t i = 1; i <= 3 * N_EVENTS; i++) {
		ck_ok(ops.mark(dev, &m, &e));
		ck_assert_uint_eq(m, i);
	}
	ck_ok(ops.wait(dev, m - 5, &e));
	ck_ok(ops.wait(dev, 1, &e));
	ck_ok(ops.wait(dev, m, &e));
	ck_fails(ops.wait(dev, m + 1, &e), -EINVAL, "never set");
	ck_fails(ops.wait(dev, 0, &e), -EINVAL, "never set");
	arm("mark", 0, -EIO);
	ck_fails(ops.mark(dev, &m, &e), -EIO, "mark fails");
	ck_ok(ops.mark(dev, &m, &e)); /* one that failed takes no number */
	ck_assert_uint_eq(m, 3 * N_EVENTS + 1);
	arm("wait", 0, -EIO);
	ck_fails(ops.wait(dev, m, &e), -EIO, "wait fails");
}
END_TEST

START_TEST(test_programs)
{
	struct be_prog *p = NULL, *q = NULL, *x = NULL;
	struct be_source src = {.name = "q"};
	struct be_stats st;
	unsigned char *bytes;
	void *data = NULL;
	size_t n = 0;

	ck_ok(ops.build(dev, &source, &p, &e));
	ck_ok(ops.binary(dev, p, &data, &n));
	bytes = data;
	src.binary = data;
	src.binary_bytes = n;
	ck_ok(ops.build(dev, &src, &q, &e));
	ck_assert_str_eq(q->text, source.text);
	for (size_t i = 0; i < n; i++) {
		bytes[i] ^= 1;
		ck_fails(ops.build(dev, &src, &x, &e), -ESTALE, "'q'");
		bytes[i] ^= 1;
		src.binary_bytes = i;
		ck_fails(ops.build(dev, &src, &x, &e), -ESTALE, "'q'");
		src.binary_bytes = n;
	}
	arm("from_binary", 0, -ESTALE);
	ck_fails(ops.build(dev, &src, &x, &e), -ESTALE, "from_binary fails");
	arm("from_text", 0, -EBADMSG);
	ck_fails(ops.build(dev, &source, &x, &e), -EBADMSG, "from_text fails");
	snprintf(dev->base.info.driver, sizeof(dev->base.info.driver), "2");
	ck_fails(ops.build(dev, &src, &x, &e), -ESTALE, "another device");
	free(data);
	src.binary = NULL;
	ck_fails(ops.build(dev, &src, &x, &e), -EINVAL, "neither text nor binary");
	arm("code size", 0, -ENOTSUP);
	ck_assert_int_eq(ops.binary(dev, p, &data, &n), -ENOTSUP);
	arm("code", 0, -EIO);
	ck_assert_int_eq(ops.binary(dev, p, &data, &n), -EIO);
	ck_assert_ptr_null(x);
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.builds_source, 1);
	ck_assert_uint_eq(st.builds_binary, 1);
	ops.prog_free(dev, p);
	ops.prog_free(dev, NULL);
}
END_TEST

START_TEST(test_launches)
{
	struct be_mem *m = NULL, *img = NULL;
	struct be_prog *p = NULL;
	struct be_arg args[2];
	struct be_launch ok = {.entry = "add", .grid = {1, 1}, .group = 8, .n_args = 2, .args = args}, l;
	struct be_stats st;

	ck_ok(ops.build(dev, &source, &p, &e));
	ck_ok(ops.buffer(dev, 10, BE_MEM_STEP, &m, &e));
	ck_ok(ops.image(dev, 1, 1, BE_TEXEL_INT4, BE_MEM_KV, &img, &e));
	ok.prog = p;
	args[0] = (struct be_arg){.type = BE_ARG_BUFFER, .mem = m, .offset = 9};
	args[1] = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = 5};
	for (int i = 0; i < 3; i++)
		ck_ok(ops.launch(dev, &ok, &e));
	ck_assert_int_eq(m->bytes[9], 15);
	ck_assert_int_eq(kernels_made, 1);
	l = ok;
	l.entry = "sub";
	ck_fails(ops.launch(dev, &l, &e), -ENOENT, "'sub'");
	l.entry = NULL;
	ck_fails(ops.launch(dev, &l, &e), -EINVAL, "host:0: a launch of '?'");
	l = ok;
	l.grid[1] = 0;
	ck_fails(ops.launch(dev, &l, &e), -EINVAL, "grid 1 x 0");
	l = ok;
	l.group = 9;
	ck_fails(ops.launch(dev, &l, &e), -EINVAL, "groups of 9 (at most 8)");
	l = ok;
	l.n_args = BE_ARG_MAX + 1;
	ck_fails(ops.launch(dev, &l, &e), -EINVAL, "49 arguments");
	args[0].offset = 10;
	ck_fails(ops.launch(dev, &ok, &e), -EINVAL, "argument 0: offset 10 is past the buffer's 10 bytes");
	args[0].type = BE_ARG_IMAGE;
	ck_fails(ops.launch(dev, &ok, &e), -EINVAL, "argument 0 is not valid");
	args[0] = (struct be_arg){.type = BE_ARG_BUFFER, .mem = img};
	ck_fails(ops.launch(dev, &ok, &e), -EINVAL, "argument 0 is not valid");
	args[0].mem = m;
	args[1].bytes = 9;
	ck_fails(ops.launch(dev, &ok, &e), -EINVAL, "argument 1 is not valid");
	args[1].bytes = 4;
	arm("launch", 0, -EIO);
	ck_fails(ops.launch(dev, &ok, &e), -EIO, "launch fails");
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.launches, 3);
}
END_TEST

START_TEST(test_lists)
{
	struct be_list *a = NULL, *b = NULL;
	struct be_mem *m = NULL;
	struct be_prog *p = NULL;
	struct be_arg args[2];
	struct be_launch l = {.entry = "add", .grid = {1, 1}, .group = 1, .n_args = 2, .args = args};
	struct be_stats st;

	ck_ok(ops.build(dev, &source, &p, &e));
	ck_ok(ops.buffer(dev, 10, BE_MEM_STEP, &m, &e));
	l.prog = p;
	args[0] = (struct be_arg){.type = BE_ARG_BUFFER, .mem = m};
	args[1] = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = 2};
	ck_ok(ops.record(dev, &e));
	ck_ok(ops.launch(dev, &l, &e));
	ck_ok(ops.launch(dev, &l, &e));
	ck_ok(ops.record_end(dev, &a, &e));
	ck_assert_int_eq(m->bytes[0], 0);
	ck_ok(ops.replay(dev, a, &e));
	ck_ok(ops.replay(dev, a, &e));
	ck_ok(ops.launch(dev, &l, &e));
	ck_assert_int_eq(m->bytes[0], 10);
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.launches, 5);
	ck_assert_uint_eq(st.replays, 2);
	arm("record", 0, -EIO);
	ck_fails(ops.record(dev, &e), -EIO, "record fails");
	ck_ok(ops.launch(dev, &l, &e)); /* which counts: nothing is being recorded */
	ck_ok(ops.record(dev, &e));
	arm("record_end", 0, -ENOTSUP);
	ck_fails(ops.record_end(dev, &b, &e), -ENOTSUP, "record_end fails");
	ck_assert_ptr_null(b);
	arm("replay", 0, -EIO);
	ck_fails(ops.replay(dev, a, &e), -EIO, "replay fails");
	ops.stats(dev, &st);
	ck_assert_uint_eq(st.launches, 6);
	ck_assert_uint_eq(st.replays, 2);
	ck_ok(ops.record(dev, &e));
	ck_ok(ops.record_end(dev, &b, &e));
	ops.list_free(dev, a);
	ops.list_free(dev, NULL);
	ck_ok(ops.record(dev, &e)); /* closed while recording */
}
END_TEST

/* A device that is lost: every call says so, and close still frees all. */
START_TEST(test_lost)
{
	struct be_mem *m = NULL, *x = NULL;
	struct be_prog *p = NULL, *y = NULL;
	struct be_arg args[2];
	struct be_launch l = {.entry = "add", .grid = {1, 1}, .group = 1, .n_args = 2, .args = args};
	uint64_t a = 0;
	char c = 1;

	ck_ok(ops.build(dev, &source, &p, &e));
	ck_ok(ops.buffer(dev, 10, BE_MEM_STEP, &m, &e));
	l.prog = p;
	args[0] = (struct be_arg){.type = BE_ARG_BUFFER, .mem = m};
	args[1] = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = 2};
	ck_ok(ops.mark(dev, &a, &e));
#define ck_lost(call_)                                      \
	do {                                                \
		arm("enter", 0, -EIO);                      \
		ck_fails(call_, -EIO, "enter fails");       \
	} while (0)
	ck_lost(ops.buffer(dev, 1, BE_MEM_KV, &x, &e));
	ck_lost(ops.image(dev, 1, 1, BE_TEXEL_INT4, BE_MEM_KV, &x, &e));
	ck_lost(ops.build(dev, &source, &y, &e));
	ck_lost(ops.write(dev, m, 0, &c, 1, &e));
	ck_lost(ops.read(dev, m, 0, &c, 1, &e));
	ck_lost(ops.launch(dev, &l, &e));
	ck_lost(ops.record(dev, &e));
	ck_lost(ops.mark(dev, &a, &e));
	ck_lost(ops.wait(dev, a, &e));
	ck_assert(!x && !y);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backend_common");
	TCase *tc = tcase_create("contract");
	SRunner *sr;
	int failures;

	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_open);
	tcase_add_test(tc, test_memory);
	tcase_add_test(tc, test_copies);
	tcase_add_test(tc, test_marks);
	tcase_add_test(tc, test_programs);
	tcase_add_test(tc, test_launches);
	tcase_add_test(tc, test_lists);
	tcase_add_test(tc, test_lost);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
