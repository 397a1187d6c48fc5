/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for a GPU (tests/lib/cuda/emu.h) does what the PTX ISA says of a warp's instructions: products of
 * fragments, ldmatrix, cp.async, shuffles. Kernels spread matrices over lanes by the ISA's formulas, and what comes out
 * is compared with plain loops. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/cuda/rig.h"

#define BYTES 8192

static unsigned char in[BYTES], out[BYTES];

/* Runs a kernel `body` with one warp: p is the input, q the output, lane the thread's number. */
static void run(const char *body)
{
	static char text[4000];
	const struct be_ops *ops = rig_ops();
	const struct be_source src = {.name = "warp", .text = text, .options = "--gpu-architecture=sm_86 --fmad=false"};
	struct be_dev *dev = rig_open();
	struct be_mem *a = NULL, *b = NULL;
	struct be_prog *prog = NULL;
	struct err e = {0};
	int r;

	snprintf(text, sizeof(text),
		 "typedef unsigned uint;\ntypedef unsigned char uchar;\ntypedef unsigned short ushort;\n"
		 "extern \"C\" __global__ void warp(const uchar *p, unsigned long long p_off, uchar *q, "
		 "unsigned long long q_off)\n{\n	const int lane = (int)threadIdx.x;\n%s\n}\n", body);
	r = ops->build(dev, &src, &prog, &e);
	ck_assert_msg(r == 0, "%s", e.msg);
	ck_assert_int_eq(ops->buffer(dev, BYTES, BE_MEM_STEP, &a, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, BYTES, BE_MEM_STEP, &b, &e), 0);
	ck_assert_int_eq(ops->write(dev, a, 0, in, BYTES, &e), 0);
	const struct be_arg args[] = {rig_buffer(a, 0), rig_buffer(b, 0)};
	ck_assert_int_eq(rig_launch(dev, prog, "warp", 1, 32, args, 2, &e), 0);
	ck_assert_int_eq(ops->read(dev, b, 0, out, BYTES, &e), 0);
	r = rig_finish(dev, &e);
	ck_assert_msg(r == 0, "%s", e.msg);
	ops->close(dev);
	rig_clean("a warp");
}

static void fill(void)
{
	unsigned x = 12345;

	for (int i = 0; i < BYTES; i++) {
		x = x * 1664525 + 1013904223;
		in[i] = (unsigned char)(x >> 24);
	}
}

/* p: A [M][K], then at 2048 B [8][K] (a column after the other), at 4096 C [M][8] of ints. */
#define MMA_INT(m, k, types, regs_a, regs_b, regs_c, asm_text)                                                       \
	"	enum { M = " #m ", K = " #k " };\n"                                                                  \
	"	const uchar *B = p + 2048;\n	const int *C = (const int *)(p + 4096);\n"                           \
	"	uint a[" #regs_a "], b[" #regs_b "];\n	int d[" #regs_c "], g = lane / 4, t = lane % 4;\n"           \
	"	for (int i = 0; i < " #regs_a "; i++) {\n"                                                           \
	"		const int row = g + (M == 16 ? i % 2 * 8 : 0), col = t * 4 + (M == 16 ? i / 2 : 0) * 16;\n"  \
	"		a[i] = *(const uint *)(p + row * K + col);\n	}\n"                                         \
	"	for (int i = 0; i < " #regs_b "; i++)\n"                                                             \
	"		b[i] = *(const uint *)(B + g * K + t * 4 + i * 16);\n"                                       \
	"	for (int i = 0; i < " #regs_c "; i++)\n"                                                             \
	"		d[i] = C[(g + i / 2 * 8) * 8 + t * 2 + i % 2];\n"                                            \
	"	asm volatile(\"mma.sync.aligned.m" #m "n8k" #k ".row.col." types " \"" asm_text                      \
	"	for (int i = 0; i < " #regs_c "; i++)\n"                                                             \
	"		((int *)q)[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];\n"
#define ASM_4_4_2                                                                                                    \
	"\"{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\" : \"+r\"(d[0]), \"+r\"(d[1]), "          \
	"\"+r\"(d[2]), \"+r\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
#define ASM_4_2_1                                                                                                    \
	"\"{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\" : \"+r\"(d[0]), \"+r\"(d[1]), \"+r\"(d[2]), "        \
	"\"+r\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(b[0]));\n"
#define ASM_2_1_1                                                                                                    \
	"\"{%0, %1}, {%2}, {%3}, {%0, %1};\" : \"+r\"(d[0]), \"+r\"(d[1]) : \"r\"(a[0]), \"r\"(b[0]));\n"

static int byte_of(unsigned char v, bool sign)
{
	return sign ? (int)(signed char)v : (int)v;
}

static void check_int(const char *body, int m, int k, bool sign_a, bool sign_b)
{
	int c[16 * 8], got[16 * 8];

	fill();
	run(body);
	memcpy(c, in + 4096, sizeof(c));
	memcpy(got, out, sizeof(got));
	for (int row = 0; row < m; row++) {
		for (int col = 0; col < 8; col++) {
			unsigned sum = (unsigned)c[row * 8 + col];

			for (int i = 0; i < k; i++)
				sum += (unsigned)(byte_of(in[row * k + i], sign_a) * byte_of(in[2048 + col * k + i], sign_b));
			ck_assert_msg((unsigned)got[row * 8 + col] == sum, "m%d k%d: row %d, column %d", m, k, row, col);
		}
	}
}

START_TEST(test_mma_int)
{
	check_int(MMA_INT(16, 32, "s32.s8.s8.s32", 4, 2, 4, ASM_4_4_2), 16, 32, true, true);
	check_int(MMA_INT(16, 32, "s32.u8.s8.s32", 4, 2, 4, ASM_4_4_2), 16, 32, false, true);
	check_int(MMA_INT(16, 16, "s32.s8.u8.s32", 2, 1, 4, ASM_4_2_1), 16, 16, true, false);
	check_int(MMA_INT(8, 16, "s32.s8.s8.s32", 1, 1, 2, ASM_2_1_1), 8, 16, true, true);
	check_int(MMA_INT(8, 16, "s32.u8.u8.s32", 1, 1, 2, ASM_2_1_1), 8, 16, false, false);
}
END_TEST

/* A half or bfloat16 of a small whole number. */
static unsigned short number(int v, bool bf16)
{
	const unsigned sign = v < 0 ? 0x8000u : 0;
	const int size = v < 0 ? -v : v;
	int e = 0;

	if (size == 0)
		return 0;
	while (size >> (e + 1))
		e++;
	const unsigned fraction = (unsigned)size << (10 - e) & 1023;
	return (unsigned short)(sign | (bf16 ? (unsigned)(e + 127) << 7 | fraction >> 3
					      : (unsigned)(e + 15) << 10 | fraction));
}

static void check_float(const char *body, bool bf16)
{
	unsigned short *a = (unsigned short *)(void *)in, *b = (unsigned short *)(void *)(in + 2048);
	float *c = (float *)(void *)(in + 4096), got[16 * 8];
	int va[16 * 16], vb[8 * 16];

	for (int i = 0; i < 16 * 16; i++)
		a[i] = number(va[i] = i * 7 % 61 - 30, bf16);
	for (int i = 0; i < 8 * 16; i++)
		b[i] = number(vb[i] = i * 5 % 37 - 18, bf16);
	for (int i = 0; i < 16 * 8; i++)
		c[i] = (float)i;
	run(body);
	memcpy(got, out, sizeof(got));
	for (int row = 0; row < 16; row++) {
		for (int col = 0; col < 8; col++) {
			int sum = row * 8 + col;

			for (int i = 0; i < 16; i++)
				sum += va[row * 16 + i] * vb[col * 16 + i];
			ck_assert_msg(got[row * 8 + col] == (float)sum, "row %d, column %d: %g", row, col,
				      (double)got[row * 8 + col]);
		}
	}
}

#define MMA_FLOAT(types)                                                                                               \
	"	const ushort *A = (const ushort *)p, *B = (const ushort *)(p + 2048);\n"                               \
	"	const float *C = (const float *)(p + 4096);\n"                                                         \
	"	uint a[4], b[2];\n	float d[4];\n	const int g = lane / 4, t = lane % 4;\n"                       \
	"	for (int i = 0; i < 4; i++)\n"                                                                         \
	"		a[i] = *(const uint *)(A + (g + i % 2 * 8) * 16 + t * 2 + i / 2 * 8);\n"                       \
	"	for (int i = 0; i < 2; i++)\n		b[i] = *(const uint *)(B + g * 16 + t * 2 + i * 8);\n"         \
	"	for (int i = 0; i < 4; i++)\n		d[i] = C[(g + i / 2 * 8) * 8 + t * 2 + i % 2];\n"             \
	"	asm(\"mma.sync.aligned.m16n8k16.row.col." types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, \"\n"   \
	"	    \"{%10, %11, %12, %13};\" : \"=f\"(d[0]), \"=f\"(d[1]), \"=f\"(d[2]), \"=f\"(d[3]) : \"r\"(a[0]), "  \
	"\"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]), \"f\"(d[0]), \"f\"(d[1]), \"f\"(d[2]), "      \
	"\"f\"(d[3]));\n"                                                                                              \
	"	for (int i = 0; i < 4; i++)\n		((float *)q)[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];\n"

START_TEST(test_mma_float)
{
	check_float(MMA_FLOAT("f32.f16.f16.f32"), false);
	check_float(MMA_FLOAT("f32.bf16.bf16.f32"), true);
}
END_TEST

/* Four matrices of 8 x 8 halves, rows 32 bytes apart: as they are, then turned. */
START_TEST(test_ldmatrix)
{
	unsigned short m[4][8][8], got[2][4][32][2];

	fill();
	run("	__shared__ uint s[256];\n"
	    "	for (int i = lane; i < 256; i += 32)\n		s[i] = ((const uint *)p)[i];\n"
	    "	__syncthreads();\n"
	    "	const uchar *row = (const uchar *)s + lane % 8 * 32 + lane / 8 % 2 * 16 + lane / 16 * 512;\n"
	    "	uint at, d[4];\n"
	    "	asm(\"{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }\" : \"=r\"(at) : "
	    "\"l\"((unsigned long long)row));\n"
	    "	asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\" : \"=r\"(d[0]), "
	    "\"=r\"(d[1]), \"=r\"(d[2]), \"=r\"(d[3]) : \"r\"(at) : \"memory\");\n"
	    "	for (int i = 0; i < 4; i++)\n		((uint *)q)[i * 32 + lane] = d[i];\n"
	    "	asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%0, %1, %2, %3}, [%4 + 0];\" : "
	    "\"=r\"(d[0]), \"=r\"(d[1]), \"=r\"(d[2]), \"=r\"(d[3]) : \"r\"(at));\n"
	    "	for (int i = 0; i < 4; i++)\n		((uint *)q)[128 + i * 32 + lane] = d[i];\n");
	for (int j = 0; j < 4; j++)
		for (int r = 0; r < 8; r++)
			memcpy(m[j][r], in + j / 2 * 512 + r * 32 + j % 2 * 16, 16);
	memcpy(got, out, sizeof(got));
	for (int j = 0; j < 4; j++) {
		for (int lane = 0; lane < 32; lane++) {
			for (int e = 0; e < 2; e++) {
				ck_assert_uint_eq(got[0][j][lane][e], m[j][lane / 4][lane % 4 * 2 + e]);
				ck_assert_uint_eq(got[1][j][lane][e], m[j][lane % 4 * 2 + e][lane / 4]);
			}
		}
	}
}
END_TEST

/* Nothing arrives before it is waited for, and then only the groups that are. */
START_TEST(test_cp_async)
{
	unsigned got[4][32];

	fill();
	run("	__shared__ uint s[256];\n"
	    "	const uint at = (uint)__cvta_generic_to_shared(s + lane * 8);\n"
	    "	const unsigned long long from = (unsigned long long)(p + lane * 32);\n"
	    "	asm volatile(\"cp.async.cg.shared.global.L2::128B [%0], [%1], 16;\" : : \"r\"(at), \"l\"(from));\n"
	    "	asm volatile(\"cp.async.commit_group;\");\n"
	    "	asm volatile(\"cp.async.ca.shared.global [%0], [%1], 8, %2;\" : : \"r\"(at + 16), \"l\"(from + 16), "
	    "\"r\"(4));\n"
	    "	asm volatile(\"cp.async.commit_group;\" ::: \"memory\");\n"
	    "	((uint *)q)[lane] = s[lane * 8];\n"
	    "	asm volatile(\"cp.async.wait_group %0;\" : : \"n\"(1));\n"
	    "	((uint *)q)[32 + lane] = s[lane * 8 + 1];\n"
	    "	((uint *)q)[64 + lane] = s[lane * 8 + 4];\n"
	    "	asm volatile(\"cp.async.wait_group 0;\");\n"
	    "	((uint *)q)[96 + lane] = s[lane * 8 + 4] + s[lane * 8 + 5];\n");
	memcpy(got, out, sizeof(got));
	for (int lane = 0; lane < 32; lane++) {
		unsigned x[8];

		memcpy(x, in + lane * 32, sizeof(x));
		ck_assert_uint_eq(got[0][lane], ~0u);
		ck_assert_uint_eq(got[1][lane], x[1]);
		ck_assert_uint_eq(got[2][lane], ~0u);
		ck_assert_uint_eq(got[3][lane], x[4]); /* four of the eight bytes, zeros behind them */
	}
}
END_TEST

START_TEST(test_shuffles)
{
	int got[5][32];

	run("	int sum = lane * lane;\n"
	    "	for (int by = 16; by; by /= 2)\n		sum += __shfl_xor_sync(~0u, sum, by);\n"
	    "	((int *)q)[lane] = sum;\n"
	    "	((int *)q)[32 + lane] = __shfl_sync(~0u, lane * 3, (lane + 5) % 32);\n"
	    "	((int *)q)[64 + lane] = __shfl_down_sync(~0u, lane, 3);\n"
	    "	((int *)q)[96 + lane] = __shfl_up_sync(~0u, lane, 3);\n"
	    "	int half;\n"
	    "	asm(\"{ .reg .pred low; setp.lt.s32 low, %1, 16; @low mov.b32 %0, %1; @!low mov.b32 %0, %2; }\" : "
	    "\"=r\"(half) : \"r\"(lane), \"r\"(-1));\n"
	    "	((int *)q)[128 + lane] = half;\n");
	memcpy(got, out, sizeof(got));
	for (int lane = 0; lane < 32; lane++) {
		ck_assert_int_eq(got[0][lane], 31 * 32 * 63 / 6);
		ck_assert_int_eq(got[1][lane], (lane + 5) % 32 * 3);
		ck_assert_int_eq(got[2][lane], lane + 3 < 32 ? lane + 3 : lane);
		ck_assert_int_eq(got[3][lane], lane >= 3 ? lane - 3 : lane);
		ck_assert_int_eq(got[4][lane], lane < 16 ? lane : -1);
	}
}
END_TEST

/* All halves, and floats around the places where they round. */
START_TEST(test_halves)
{
	float x[2048], back[2048];
	unsigned short h[2048];

	for (int i = 0; i < 2048; i++) {
		const unsigned bits = (unsigned)(i * 32 + i % 32) << 16 | (i % 3 == 0 ? 0x1000u : i % 3 == 1 ? 0xfffu : 0x1001u);
		memcpy(&x[i], &bits, 4);
	}
	memcpy(in, x, BYTES);
	run("	for (int i = lane; i < 2048; i += 32) {\n		ushort h;\n"
	    "		asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(((const float *)p)[i]));\n"
	    "		((ushort *)q)[i] = h;\n		}\n");
	memcpy(h, out, sizeof(h));
	memcpy(in, h, sizeof(h));
	run("	for (int i = lane; i < 2048; i += 32)\n"
	    "		asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(((float *)q)[i]) : \"h\"(((const ushort *)p)[i]));\n");
	memcpy(back, out, sizeof(back));
	for (int i = 0; i < 2048; i++) {
		const float v = x[i], size = v < 0 ? -v : v;

		if (!(size <= 65519.9f)) {
			ck_assert_msg(v != v ? h[i] == 0x7fff : (h[i] & 0x7fff) == 0x7c00, "%g is %x", (double)v, h[i]);
			continue;
		}
		/* half a step at most, and an even number where it is exactly that */
		int e = -14;
		while (e < 15 && size >= (float)(1 << (e + 15)) / 16384.0f)
			e++;
		const double step = e == -14 ? 1.0 / 16777216 : (double)(1 << (e + 14)) / 16777216.0;
		const double off = (double)back[i] - (double)v, away = off < 0 ? -off : off;
		ck_assert_msg(away <= step / 2, "%.9g became %.9g, steps are %g", (double)v, (double)back[i], step);
		if (away == step / 2)
			ck_assert_uint_eq(h[i] & 1, 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda_emu");
	TCase *tc = tcase_create("warp");
	SRunner *sr;
	int failures;

	if (!rig_can_compile())
		return 77;
	suite_add_tcase(s, tc);
	tcase_add_test(tc, test_mma_int);
	tcase_add_test(tc, test_mma_float);
	tcase_add_test(tc, test_ldmatrix);
	tcase_add_test(tc, test_cp_async);
	tcase_add_test(tc, test_shuffles);
	tcase_add_test(tc, test_halves);
	tcase_set_timeout(tc, 120);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
