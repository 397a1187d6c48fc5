/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of a backend, on every usable OpenCL device. Devices are opened inside each test,
 * in Check's child process: OpenCL's threads do not survive a fork. Exits 77 without a device. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/backend.h"

#define DEVICES_MAX 16
#define N 1000

static const char source[] =
	"__kernel void add(__global const uchar *a, ulong a_off, __global const uchar *b,\n"
	"                  ulong b_off, __global uchar *c, ulong c_off, int n)\n"
	"{\n"
	"	int i = (int)get_global_id(0);\n"
	"	if (i < n)\n"
	"		((__global float *)(c + c_off))[i] = ((__global const float *)(a + "
	"a_off))[i]\n"
	"			+ ((__global const float *)(b + b_off))[i];\n"
	"}\n"
	"__kernel void where(__global uchar *o, ulong off, uint width)\n"
	"{\n"
	"	((__global uint *)(o + off))[get_group_id(1) * width + get_global_id(0)] =\n"
	"		(uint)(get_group_id(1) * 65536 + get_group_id(0) * 256 + "
	"get_local_id(0));\n"
	"}\n"
	"__kernel void scale(__global uchar *o, ulong off, float f)\n"
	"{\n"
	"	((__global float *)(o + off))[get_global_id(0)] *= f;\n"
	"}\n"
	"__kernel void values(__global uchar *o, ulong off, char a, short b, int c, long d)\n"
	"{\n"
	"	__global long *p = (__global long *)(o + off);\n"
	"	p[0] = a; p[1] = b; p[2] = c; p[3] = d;\n"
	"}\n";

static const char image_source[] =
	"__kernel void to_image(__global uchar *in, ulong off, __write_only image2d_t img, int w)\n"
	"{\n"
	"	int x = (int)get_global_id(0), y = (int)get_group_id(1);\n"
	"	write_imagef(img, (int2)(x, y), vload4((size_t)(y * w + x),\n"
	"		(__global const float *)(in + off)));\n"
	"}\n"
	"__kernel void from_image(__read_only image2d_t img, __global uchar *out, ulong off, int "
	"w)\n"
	"{\n"
	"	const sampler_t s = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP |\n"
	"		CLK_FILTER_NEAREST;\n"
	"	int x = (int)get_global_id(0), y = (int)get_group_id(1);\n"
	"	vstore4(read_imagef(img, s, (int2)(x, y)), (size_t)(y * w + x),\n"
	"		(__global float *)(out + off));\n"
	"}\n"
	"__kernel void to_image_i(__global uchar *in, ulong off, __write_only image2d_t img, int "
	"w)\n"
	"{\n"
	"	int x = (int)get_global_id(0), y = (int)get_group_id(1);\n"
	"	write_imagei(img, (int2)(x, y), vload4((size_t)(y * w + x),\n"
	"		(__global const int *)(in + off)));\n"
	"}\n"
	"__kernel void from_image_i(__read_only image2d_t img, __global uchar *out, ulong off, int "
	"w)\n"
	"{\n"
	"	const sampler_t s = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP |\n"
	"		CLK_FILTER_NEAREST;\n"
	"	int x = (int)get_global_id(0), y = (int)get_group_id(1);\n"
	"	vstore4(read_imagei(img, s, (int2)(x, y)), (size_t)(y * w + x),\n"
	"		(__global int *)(out + off));\n"
	"}\n";

struct fixture {
	const struct be_ops *ops;
	struct be_info info;
	struct be_dev *dev;
	struct err e;
};

static const struct be_ops *opencl_ops(void)
{
	for (size_t i = 0; be_all[i]; i++)
		if (strcmp(be_all[i]->name, "opencl") == 0)
			return be_all[i];
	return NULL;
}

/* Runs a test body on each usable device, freshly opened. */
static void on_each(void (*body)(struct fixture *f))
{
	const struct be_ops *ops = opencl_ops();
	struct be_info infos[DEVICES_MAX];
	int n = ops->probe(infos, DEVICES_MAX), done = 0;

	ck_assert_int_gt(n, 0);
	for (int i = 0; i < n; i++) {
		struct fixture f = {.ops = ops, .info = infos[i]};

		if (infos[i].why_not[0])
			continue;
		ck_assert_msg(ops->open(&infos[i], &f.dev, &f.e) == 0, "%s", f.e.msg);
		body(&f);
		ops->close(f.dev);
		done++;
	}
	ck_assert_int_gt(done, 0);
}

#define must(f, call) ck_assert_msg((call) == 0, "%s: %s", (f)->info.name, (f)->e.msg)

static struct be_prog *build(struct fixture *f, const char *text)
{
	struct be_source src = {.name = "test", .text = text, .options = "-cl-std=CL1.2"};
	struct be_prog *p = NULL;

	must(f, f->ops->build(f->dev, &src, &p, &f->e));
	return p;
}

static struct be_mem *buffer(struct fixture *f, size_t bytes)
{
	struct be_mem *m = NULL;

	must(f, f->ops->buffer(f->dev, bytes, BE_MEM_ACTIVATIONS, &m, &f->e));
	return m;
}

static void finish(struct fixture *f)
{
	uint64_t mark = 0;

	must(f, f->ops->mark(f->dev, &mark, &f->e));
	must(f, f->ops->wait(f->dev, mark, &f->e));
}

static struct be_arg arg_buffer(struct be_mem *m, uint64_t offset)
{
	return (struct be_arg){.type = BE_ARG_BUFFER, .mem = m, .offset = offset};
}

static struct be_arg arg_image(struct be_mem *m)
{
	return (struct be_arg){.type = BE_ARG_IMAGE, .mem = m};
}

static struct be_arg arg_value(uint64_t v, uint32_t bytes)
{
	return (struct be_arg){.type = BE_ARG_VALUE, .bytes = bytes, .offset = v};
}

static void launch(struct fixture *f, struct be_prog *p, const char *entry, const uint32_t grid[2],
		   uint32_t group, const struct be_arg *args, uint32_t n_args)
{
	struct be_launch l = {.prog = p,
			      .entry = entry,
			      .grid = {grid[0], grid[1]},
			      .group = group,
			      .n_args = n_args,
			      .args = args};

	must(f, f->ops->launch(f->dev, &l, &f->e));
}

static void body_facts(struct fixture *f)
{
	const struct be_info *i = &f->info;

	ck_assert_str_eq(i->backend, "opencl");
	ck_assert_uint_gt(strlen(i->name), 0);
	ck_assert_uint_gt(strlen(i->driver), 0);
	ck_assert_int_eq(i->dialect, BE_DIALECT_OPENCL);
	ck_assert_uint_ge(i->compute_units, 1);
	ck_assert_uint_ge(i->group_max, 1);
	ck_assert_uint_ge(i->align_bytes, 64);
	ck_assert_uint_eq(i->align_bytes & (i->align_bytes - 1), 0);
	ck_assert_uint_ge(i->buffer_max_bytes, 1 << 20);
	ck_assert_uint_ge(i->memory_bytes, 1 << 20);
	if (i->type == BE_CPU) {
		ck_assert(i->host_memory);
		ck_assert_uint_gt(i->free_bytes, 0);
		ck_assert_uint_le(i->compute_units, (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
	}
	if (i->images)
		ck_assert_uint_ge(i->image_w_max, 2048);
}

START_TEST(test_facts)
{
	on_each(body_facts);
}
END_TEST

static void body_add(struct fixture *f)
{
	static float a[N], b[N], c[N];
	size_t off = f->info.align_bytes, bytes = sizeof(a);
	struct be_mem *in = buffer(f, 2 * (bytes + off) + off), *out = buffer(f, bytes + off);
	size_t second = (bytes + 2 * off - 1) / off * off;
	struct be_prog *p = build(f, source);
	struct be_arg args[] = {arg_buffer(in, off), arg_buffer(in, second + off - off),
				arg_buffer(out, off), arg_value(N, 4)};

	for (int i = 0; i < N; i++) {
		a[i] = (float)i;
		b[i] = 0.5f * (float)i;
	}
	must(f, f->ops->write(f->dev, in, off, a, bytes, &f->e));
	must(f, f->ops->write(f->dev, in, second, b, bytes, &f->e));
	launch(f, p, "add", (uint32_t[]){(N + 15) / 16, 1}, 16, args, 4);
	must(f, f->ops->read(f->dev, out, off, c, bytes, &f->e));
	finish(f);
	for (int i = 0; i < N; i++)
		ck_assert_float_eq(c[i], 1.5f * (float)i);
	/* Again with one argument changed and the others as they were. */
	args[1] = arg_buffer(in, off);
	launch(f, p, "add", (uint32_t[]){(N + 15) / 16, 1}, 16, args, 4);
	must(f, f->ops->read(f->dev, out, off, c, bytes, &f->e));
	finish(f);
	for (int i = 0; i < N; i++)
		ck_assert_float_eq(c[i], 2.0f * (float)i);
	f->ops->prog_free(f->dev, p);
	f->ops->mem_free(f->dev, in);
	f->ops->mem_free(f->dev, out);
}

START_TEST(test_add)
{
	on_each(body_add);
}
END_TEST

static void body_grid(struct fixture *f)
{
	enum { GX = 3, GY = 5, GROUP = 4 };
	uint32_t got[GX * GY * GROUP];
	struct be_mem *out = buffer(f, sizeof(got));
	struct be_prog *p = build(f, source);
	struct be_arg args[] = {arg_buffer(out, 0), arg_value(GX * GROUP, 4)};

	launch(f, p, "where", (uint32_t[]){GX, GY}, GROUP, args, 2);
	must(f, f->ops->read(f->dev, out, 0, got, sizeof(got), &f->e));
	finish(f);
	for (uint32_t y = 0; y < GY; y++)
		for (uint32_t x = 0; x < GX * GROUP; x++)
			ck_assert_uint_eq(got[y * GX * GROUP + x],
					  y * 65536 + x / GROUP * 256 + x % GROUP);
}

START_TEST(test_grid)
{
	on_each(body_grid);
}
END_TEST

static void body_values(struct fixture *f)
{
	int64_t got[4], d = -5000000000;
	struct be_mem *out = buffer(f, sizeof(got));
	struct be_prog *p = build(f, source);
	struct be_arg args[] = {arg_buffer(out, 0), arg_value((uint8_t)-3, 1),
				arg_value((uint16_t)-300, 2), arg_value((uint32_t)-70000, 4),
				arg_value((uint64_t)d, 8)};

	launch(f, p, "values", (uint32_t[]){1, 1}, 1, args, 5);
	must(f, f->ops->read(f->dev, out, 0, got, sizeof(got), &f->e));
	finish(f);
	ck_assert_int_eq(got[0], -3);
	ck_assert_int_eq(got[1], -300);
	ck_assert_int_eq(got[2], -70000);
	ck_assert_int_eq(got[3], d);
}

START_TEST(test_values)
{
	on_each(body_values);
}
END_TEST

/* Many launches on one buffer: the order of the queue is the order of the calls. Memory may be
 * freed while commands that use it are queued. */
static void body_order(struct fixture *f)
{
	enum { STEPS = 40 };
	float x[8], want = 1;
	struct be_mem *out = buffer(f, sizeof(x));
	struct be_prog *p = build(f, source);
	uint64_t marks[STEPS];

	for (int i = 0; i < 8; i++)
		x[i] = 1;
	must(f, f->ops->write(f->dev, out, 0, x, sizeof(x), &f->e));
	for (int i = 0; i < STEPS; i++) {
		float factor = i % 2 ? 0.5f : 3.0f;
		uint32_t bits;
		struct be_arg args[2];

		memcpy(&bits, &factor, 4);
		args[0] = arg_buffer(out, 0);
		args[1] = arg_value(bits, 4);
		launch(f, p, "scale", (uint32_t[]){8, 1}, 1, args, 2);
		must(f, f->ops->mark(f->dev, &marks[i], &f->e));
		if (i)
			ck_assert_uint_gt(marks[i], marks[i - 1]);
		want *= factor;
	}
	must(f, f->ops->read(f->dev, out, 0, x, sizeof(x), &f->e));
	f->ops->mem_free(f->dev, out);
	/* In any order, and more than once. */
	must(f, f->ops->wait(f->dev, marks[20], &f->e));
	must(f, f->ops->wait(f->dev, marks[3], &f->e));
	must(f, f->ops->wait(f->dev, marks[STEPS - 1], &f->e));
	must(f, f->ops->wait(f->dev, marks[20], &f->e));
	finish(f);
	for (int i = 0; i < 8; i++)
		ck_assert_float_eq(x[i], want);
}

START_TEST(test_order)
{
	on_each(body_order);
}
END_TEST

/* Each read sees what was queued before it, and nothing that comes after, whoever copies: memory of steps may
 * be shared with the host. */
static void read_in_between(struct fixture *f, enum be_mem_kind kind)
{
	enum { STEPS = 9 };
	float x[8] = {1, 1, 1, 1, 1, 1, 1, 1}, got[STEPS] = {0}, again[2] = {0}, two = 2, want = 1;
	struct be_mem *out = NULL;
	struct be_prog *p = build(f, source);
	struct be_stats before, after;
	uint64_t marks[3];
	uint32_t bits;

	memcpy(&bits, &two, 4);
	must(f, f->ops->buffer(f->dev, sizeof(x), kind, &out, &f->e));
	const struct be_arg args[2] = {arg_buffer(out, 0), arg_value(bits, 4)};
	f->ops->stats(f->dev, &before);
	must(f, f->ops->write(f->dev, out, 0, x, sizeof(x), &f->e));
	for (int i = 0; i < STEPS; i++) {
		launch(f, p, "scale", (uint32_t[]){8, 1}, 1, args, 2);
		must(f, f->ops->read(f->dev, out, 4, &got[i], sizeof(float), &f->e));
	}
	must(f, f->ops->mark(f->dev, &marks[0], &f->e));
	must(f, f->ops->mark(f->dev, &marks[1], &f->e));
	must(f, f->ops->read(f->dev, out, 4, &again[0], sizeof(float), &f->e));
	must(f, f->ops->mark(f->dev, &marks[2], &f->e));
	must(f, f->ops->wait(f->dev, marks[0], &f->e));
	for (int i = 0; i < STEPS; i++)
		ck_assert_float_eq(got[i], want *= 2);
	must(f, f->ops->wait(f->dev, marks[2], &f->e));
	ck_assert_float_eq(again[0], want);
	/* written at rest, and behind a launch; more reads than can be put off */
	must(f, f->ops->write(f->dev, out, 0, x, sizeof(x), &f->e));
	launch(f, p, "scale", (uint32_t[]){8, 1}, 1, args, 2);
	for (int i = 0; i < STEPS; i++)
		must(f, f->ops->read(f->dev, out, 4, &got[i], sizeof(float), &f->e));
	must(f, f->ops->write(f->dev, out, 0, x, sizeof(x), &f->e));
	must(f, f->ops->read(f->dev, out, 8, &again[1], sizeof(float), &f->e));
	f->ops->mem_free(f->dev, out);
	finish(f);
	for (int i = 0; i < STEPS; i++)
		ck_assert_float_eq(got[i], 2);
	ck_assert_float_eq(again[1], 1);
	f->ops->stats(f->dev, &after);
	ck_assert_uint_eq(after.writes - before.writes, 3);
	ck_assert_uint_eq(after.reads - before.reads, STEPS + 1 + STEPS + 1);
	/* closed with a write and a read under way, which borrow until then */
	static float late[8];
	must(f, f->ops->buffer(f->dev, sizeof(late), kind, &out, &f->e));
	must(f, f->ops->write(f->dev, out, 0, late, sizeof(late), &f->e));
	must(f, f->ops->read(f->dev, out, 0, late, sizeof(late), &f->e));
}

static void body_reads(struct fixture *f)
{
	read_in_between(f, BE_MEM_STEP);
}

static void body_reads_private(struct fixture *f)
{
	read_in_between(f, BE_MEM_ACTIVATIONS);
}

START_TEST(test_reads)
{
	on_each(body_reads);
	on_each(body_reads_private);
}
END_TEST

/* More marks than can be pending at once. */
static void body_many_marks(struct fixture *f)
{
	uint64_t mark = 0, first = 0;

	for (int i = 0; i < 1000; i++) {
		must(f, f->ops->mark(f->dev, &mark, &f->e));
		if (i == 0)
			first = mark;
	}
	ck_assert_uint_eq(mark - first, 999);
	must(f, f->ops->wait(f->dev, first, &f->e));
	must(f, f->ops->wait(f->dev, mark, &f->e));
	ck_assert_int_eq(f->ops->wait(f->dev, mark + 1, &f->e), -EINVAL);
	err_clear(&f->e);
	ck_assert_int_eq(f->ops->wait(f->dev, 0, &f->e), -EINVAL);
}

START_TEST(test_many_marks)
{
	on_each(body_many_marks);
}
END_TEST

static void image_trip(struct fixture *f, struct be_prog *p, enum be_texel texel)
{
	enum { W = 37, H = 11 };
	static uint32_t in[W * H * 4], out[W * H * 4];
	bool ints = texel == BE_TEXEL_INT4;
	struct be_mem *img = NULL, *src = buffer(f, sizeof(in)), *dst = buffer(f, sizeof(out));
	struct be_arg to[] = {arg_buffer(src, 0), arg_image(NULL), arg_value(W, 4)};
	struct be_arg from[] = {arg_image(NULL), arg_buffer(dst, 0), arg_value(W, 4)};

	for (uint32_t i = 0; i < W * H * 4; i++) {
		float v = (float)i * 0.25f - 100;

		in[i] = i * 2654435761u;
		if (!ints)
			memcpy(&in[i], &v, 4);
	}
	memset(out, 0, sizeof(out));
	must(f, f->ops->image(f->dev, W, H, texel, BE_MEM_WEIGHTS, &img, &f->e));
	to[1].mem = from[0].mem = img;
	must(f, f->ops->write(f->dev, src, 0, in, sizeof(in), &f->e));
	launch(f, p, ints ? "to_image_i" : "to_image", (uint32_t[]){W, H}, 1, to, 3);
	launch(f, p, ints ? "from_image_i" : "from_image", (uint32_t[]){W, H}, 1, from, 3);
	must(f, f->ops->read(f->dev, dst, 0, out, sizeof(out), &f->e));
	finish(f);
	ck_assert_mem_eq(in, out, sizeof(in));
	f->ops->mem_free(f->dev, img);
	f->ops->mem_free(f->dev, src);
	f->ops->mem_free(f->dev, dst);
}

static void body_images(struct fixture *f)
{
	struct be_mem *m = NULL;
	struct be_stats st;
	float x[4] = {0};

	if (!f->info.images) {
		ck_assert_int_eq(f->ops->image(f->dev, 1, 1, BE_TEXEL_FLOAT4, BE_MEM_KV, &m, &f->e),
				 -ENOTSUP);
		return;
	}
	struct be_prog *p = build(f, image_source);

	image_trip(f, p, BE_TEXEL_FLOAT4);
	image_trip(f, p, BE_TEXEL_INT4);
	must(f, f->ops->image(f->dev, 3, 5, BE_TEXEL_INT4, BE_MEM_KV, &m, &f->e));
	f->ops->stats(f->dev, &st);
	ck_assert_uint_eq(st.bytes[BE_MEM_KV], 3 * 5 * 16);
	ck_assert_uint_eq(st.bytes[BE_MEM_WEIGHTS], 0);
	/* Copies are for buffers. */
	ck_assert_int_eq(f->ops->write(f->dev, m, 0, x, sizeof(x), &f->e), -EINVAL);
	err_clear(&f->e);
	ck_assert_int_eq(f->ops->image(f->dev, f->info.image_w_max + 1, 1, BE_TEXEL_INT4, BE_MEM_KV,
				       &m, &f->e),
			 -EINVAL);
}

START_TEST(test_images)
{
	on_each(body_images);
}
END_TEST

static void body_binary(struct fixture *f)
{
	struct be_prog *p = build(f, source), *q = NULL;
	struct be_source src = {.name = "again", .options = "-cl-std=CL1.2"};
	struct be_stats st;
	size_t bytes = 0;
	void *data = NULL;
	float x[4] = {1, 2, 3, 4}, two = 2;
	uint32_t bits;
	struct be_mem *m = buffer(f, sizeof(x));
	struct be_arg args[2] = {arg_buffer(m, 0)};

	memcpy(&bits, &two, 4);
	args[1] = arg_value(bits, 4);
	if (f->ops->binary(f->dev, p, &data, &bytes) == -ENOTSUP)
		return;
	ck_assert_uint_gt(bytes, 0);
	f->ops->prog_free(f->dev, p);
	src.binary = data;
	src.binary_bytes = bytes;
	must(f, f->ops->build(f->dev, &src, &q, &f->e));
	must(f, f->ops->write(f->dev, m, 0, x, sizeof(x), &f->e));
	launch(f, q, "scale", (uint32_t[]){4, 1}, 1, args, 2);
	must(f, f->ops->read(f->dev, m, 0, x, sizeof(x), &f->e));
	finish(f);
	for (int i = 0; i < 4; i++)
		ck_assert_float_eq(x[i], 2.0f * (float)(i + 1));
	f->ops->stats(f->dev, &st);
	ck_assert_uint_eq(st.builds_source, 1);
	ck_assert_uint_eq(st.builds_binary, 1);

	/* Damaged in any way: stale, and nothing worse. */
	q = NULL;
	for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 7) {
		src.binary_bytes = cut;
		ck_assert_int_eq(f->ops->build(f->dev, &src, &q, &f->e), -ESTALE);
		err_clear(&f->e);
	}
	src.binary_bytes = bytes;
	for (size_t at = 0; at < bytes; at += 1 + bytes / 50) {
		((unsigned char *)data)[at] ^= 0x55;
		ck_assert_int_eq(f->ops->build(f->dev, &src, &q, &f->e), -ESTALE);
		err_clear(&f->e);
		((unsigned char *)data)[at] ^= 0x55;
	}
	ck_assert_ptr_null(q);
	free(data);
}

START_TEST(test_binary)
{
	on_each(body_binary);
}
END_TEST

static void body_bad_source(struct fixture *f)
{
	struct be_source src = {.name = "broken",
				.text = "__kernel void k(__global int *p)\n"
					"{\n\tp[0] = undeclared_thing;\n}\n",
				.options = ""};
	struct be_prog *p = NULL;
	int r = f->ops->build(f->dev, &src, &p, &f->e);

	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(f->e.code, r);
	ck_assert_ptr_null(p);
	ck_assert_ptr_nonnull(strstr(f->e.msg, "broken"));
	ck_assert_msg(strstr(f->e.msg, "undeclared_thing") != NULL, "%s", f->e.msg);
	ck_assert_ptr_null(strchr(f->e.msg, '\n'));
	err_clear(&f->e);
	src.text = NULL;
	ck_assert_int_eq(f->ops->build(f->dev, &src, &p, &f->e), -EINVAL);
}

START_TEST(test_bad_source)
{
	on_each(body_bad_source);
}
END_TEST

static void bad_launch(struct fixture *f, const struct be_launch *l, int want)
{
	struct be_stats before, after;

	f->ops->stats(f->dev, &before);
	ck_assert_int_eq(f->ops->launch(f->dev, l, &f->e), want);
	ck_assert_uint_gt(strlen(f->e.msg), 0);
	err_clear(&f->e);
	f->ops->stats(f->dev, &after);
	ck_assert_uint_eq(before.launches, after.launches);
}

static void body_errors(struct fixture *f)
{
	struct be_prog *p = build(f, source);
	struct be_mem *m = buffer(f, 64), *x = NULL;
	struct be_arg args[3] = {arg_buffer(m, 0), arg_value(0, 4), arg_value(0, 4)};
	struct be_launch ok = {.prog = p,
			       .entry = "scale",
			       .grid = {4, 1},
			       .group = 1,
			       .n_args = 2,
			       .args = args},
			 l;
	char host[64] = {0};

	l = ok;
	l.entry = "no_such_kernel";
	bad_launch(f, &l, -ENOENT);
	l = ok;
	l.grid[1] = 0;
	bad_launch(f, &l, -EINVAL);
	l = ok;
	l.group = f->info.group_max + 1;
	bad_launch(f, &l, -EINVAL);
	l = ok;
	l.n_args = 1; /* too few */
	bad_launch(f, &l, -EINVAL);
	l.n_args = 3; /* too many */
	bad_launch(f, &l, -EINVAL);
	l.n_args = BE_ARG_MAX + 1;
	bad_launch(f, &l, -EINVAL);
	args[0].offset = 64; /* at the end */
	bad_launch(f, &ok, -EINVAL);
	args[0].offset = 0;
	args[1].bytes = 9;
	bad_launch(f, &ok, -EINVAL);
	args[1].bytes = 8; /* the kernel wants a float */
	bad_launch(f, &ok, -EINVAL);
	args[1].bytes = 4;
	args[0].mem = NULL;
	bad_launch(f, &ok, -EINVAL);
	args[0].mem = m;
	must(f, f->ops->launch(f->dev, &ok, &f->e));

	ck_assert_int_eq(f->ops->write(f->dev, m, 1, host, 64, &f->e), -EINVAL);
	err_clear(&f->e);
	ck_assert_int_eq(f->ops->read(f->dev, m, SIZE_MAX, host, 2, &f->e), -EINVAL);
	err_clear(&f->e);
	ck_assert_int_eq(f->ops->buffer(f->dev, 0, BE_MEM_KV, &x, &f->e), -EINVAL);
	err_clear(&f->e);
	ck_assert_int_eq(f->ops->buffer(f->dev, f->info.buffer_max_bytes + 1, BE_MEM_KV, &x, &f->e),
			 -ENOMEM);
	ck_assert_ptr_nonnull(strstr(f->e.msg, "bytes"));
	ck_assert_ptr_null(x);
	f->ops->mem_free(f->dev, NULL);
	f->ops->prog_free(f->dev, NULL);
	f->ops->close(NULL);
	finish(f);
}

START_TEST(test_errors)
{
	on_each(body_errors);
}
END_TEST

static void body_stats(struct fixture *f)
{
	struct be_mem *a = NULL, *b = NULL;
	struct be_stats st;
	char host[16] = {0};

	must(f, f->ops->buffer(f->dev, 1000, BE_MEM_WEIGHTS, &a, &f->e));
	must(f, f->ops->buffer(f->dev, 77, BE_MEM_STEP, &b, &f->e));
	must(f, f->ops->write(f->dev, a, 0, host, 16, &f->e));
	must(f, f->ops->read(f->dev, a, 0, host, 16, &f->e));
	finish(f);
	f->ops->stats(f->dev, &st);
	ck_assert_uint_eq(st.bytes[BE_MEM_WEIGHTS], 1000);
	ck_assert_uint_eq(st.bytes[BE_MEM_STEP], 77);
	ck_assert_uint_eq(st.bytes[BE_MEM_KV] + st.bytes[BE_MEM_ACTIVATIONS], 0);
	ck_assert_uint_eq(st.allocs, 2);
	ck_assert_uint_eq(st.writes, 1);
	ck_assert_uint_eq(st.reads, 1);
	f->ops->mem_free(f->dev, a);
	f->ops->stats(f->dev, &st);
	ck_assert_uint_eq(st.bytes[BE_MEM_WEIGHTS], 0);
	ck_assert_uint_eq(st.bytes[BE_MEM_STEP], 77);
}

START_TEST(test_stats)
{
	on_each(body_stats);
}
END_TEST

START_TEST(test_stale_info)
{
	const struct be_ops *ops = opencl_ops();
	struct be_info info;
	struct be_dev *dev = NULL;
	struct err e = {0};

	ck_assert_int_ge(ops->probe(&info, 1), 1);
	info.index = 999;
	ck_assert_int_eq(ops->open(&info, &dev, &e), -ENODEV);
	err_clear(&e);
	info.index = 0;
	snprintf(info.name, sizeof(info.name), "another device");
	ck_assert_int_eq(ops->open(&info, &dev, &e), -ENODEV);
	ck_assert_ptr_null(dev);
}
END_TEST

START_TEST(test_find)
{
	const struct be_ops *ops = NULL;
	struct be_info info;
	struct err e = {0};

	ck_assert_msg(be_find("opencl", &ops, &info, &e) == 0, "%s", e.msg);
	ck_assert_ptr_eq(ops, opencl_ops());
	ck_assert_int_eq(be_find("opencl:999", &ops, &info, &e), -ENODEV);
}
END_TEST

/* True when a child process finds a usable device. */
static bool have_device(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		const struct be_ops *ops = opencl_ops();
		struct be_info infos[DEVICES_MAX];
		int n = ops ? ops->probe(infos, DEVICES_MAX) : 0;

		for (int i = 0; i < n; i++)
			if (!infos[i].why_not[0])
				_exit(0);
		_exit(1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

int main(void)
{
	Suite *s = suite_create("backend_opencl");
	TCase *tc = tcase_create("contract");
	SRunner *sr;
	int failures;

	be_environment(NULL);
	if (!have_device()) {
		fprintf(stderr, "no usable OpenCL device: skipped\n");
		return 77;
	}
	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_facts);
	tcase_add_test(tc, test_add);
	tcase_add_test(tc, test_grid);
	tcase_add_test(tc, test_values);
	tcase_add_test(tc, test_order);
	tcase_add_test(tc, test_reads);
	tcase_add_test(tc, test_many_marks);
	tcase_add_test(tc, test_images);
	tcase_add_test(tc, test_binary);
	tcase_add_test(tc, test_bad_source);
	tcase_add_test(tc, test_errors);
	tcase_add_test(tc, test_stats);
	tcase_add_test(tc, test_stale_info);
	tcase_add_test(tc, test_find);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
