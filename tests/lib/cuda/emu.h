/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA C for a host's C++ compiler: what the generated kernels use of it, put before their text by nvrtc.c. Each thread
 * of a block runs by itself (grid.c), so that built-in variables are those of the thread that runs.
 *
 * Inline PTX: translate.c makes each instruction a call of a function here, whose name is "ptx_" and the instruction
 * with '_' for all but letters and digits, and whose arguments are the operands in their order. To add an instruction
 * is to add such a function; one that is missing is an error of the kernel's compilation that names it. An instruction
 * of a whole warp (.sync.aligned) hands what each lane gives to emu_meet() and computes the lane's own result from what
 * all 32 have given: see mma and ldmatrix. No header may be included: kernels declare what those do. */
#pragma once
#include "emu_abi.h"

static struct emu_host *emu;
static int emu_site; /* of the text: who meets has to come from one place */

#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define __shared__ static __attribute__((section("emu_shared")))
#define threadIdx (emu->thread)
#define blockIdx (emu->block)
#define blockDim (emu->block_dim)
#define gridDim (emu->grid_dim)
#define warpSize EMU_WARP
#define __syncthreads() emu->barrier(__COUNTER__)
#define __syncwarp(...) ((void)emu_meet((emu_site = __COUNTER__), 0))

typedef unsigned long emu_size;
extern "C" char __start_emu_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_emu_shared[] __attribute__((weak, visibility("hidden")));

static inline unsigned emu_lane()
{
	return emu->thread.x % EMU_WARP;
}

/* What all lanes of the warp have given, by lane; see emu_abi.h. */
template <class T> struct emu_given {
	const char *all;
	const T &operator[](unsigned lane) const
	{
		return *(const T *)(all + lane * EMU_EXCHANGE_MAX);
	}
};
template <class T> static inline emu_given<T> emu_meet(int site, const T &mine)
{
	return {(const char *)emu->exchange(site, &mine, sizeof(T))};
}

/* --- vectors and functions of CUDA C --- */

#define EMU_VECTOR(T, V)                                                     \
	struct alignas(sizeof(T) * 2) V##2 {                                 \
		T x, y;                                                      \
	};                                                                   \
	struct alignas(sizeof(T) * 4) V##4 {                                 \
		T x, y, z, w;                                                \
	};                                                                   \
	static inline V##2 make_##V##2(T x, T y)                             \
	{                                                                    \
		return {x, y};                                               \
	}                                                                    \
	static inline V##4 make_##V##4(T x, T y, T z, T w)                   \
	{                                                                    \
		return {x, y, z, w};                                         \
	}
EMU_VECTOR(float, float)
EMU_VECTOR(int, int)
EMU_VECTOR(unsigned, uint)
EMU_VECTOR(signed char, char)
EMU_VECTOR(unsigned char, uchar)
EMU_VECTOR(unsigned short, ushort)

extern "C" float fabsf(float), fmaxf(float, float), fminf(float, float), sqrtf(float), rintf(float), floorf(float);
static inline float __fmaf_rn(float a, float b, float c)
{
	return __builtin_fmaf(a, b, c);
}
static inline float fmaf(float a, float b, float c)
{
	return __builtin_fmaf(a, b, c);
}
template <class To, class From> static inline To emu_bits(From v)
{
	static_assert(sizeof(To) == sizeof(From), "as many bits");
	To to;
	__builtin_memcpy(&to, &v, sizeof(to));
	return to;
}
static inline float __int_as_float(int v)
{
	return emu_bits<float>(v);
}
static inline int __float_as_int(float v)
{
	return emu_bits<int>(v);
}
static inline float __uint_as_float(unsigned v)
{
	return emu_bits<float>(v);
}
static inline unsigned __float_as_uint(float v)
{
	return emu_bits<unsigned>(v);
}
static inline int __popc(unsigned v)
{
	return __builtin_popcount(v);
}
static inline int __clz(int v)
{
	return v ? __builtin_clz((unsigned)v) : 32;
}
template <class T> static inline T __ldg(const T *p)
{
	return *p;
}
/* Four bytes of eight; what a selector's highest bit does is not documented. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
	const unsigned long long all = x | (unsigned long long)y << 32;
	unsigned r = 0;

	if (s & 0x8888)
		emu->fail("__byte_perm with a selector past 7");
	for (int i = 0; i < 4; i++)
		r |= (unsigned)(all >> (s >> 4 * i & 7) * 8 & 255) << 8 * i;
	return r;
}
/* The same by PTX, where a selector's highest bit takes a byte's sign. */
template <class D> static inline void ptx_prmt_b32(D &d, unsigned x, unsigned y, unsigned s)
{
	const unsigned long long all = x | (unsigned long long)y << 32;
	unsigned r = 0;

	for (int i = 0; i < 4; i++) {
		const unsigned byte = (unsigned)(all >> (s >> 4 * i & 7) * 8 & 255);
		r |= (s >> 4 * i & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
	}
	d = (D)r;
}
template <class A, class B> static inline int emu_dot4(unsigned a, unsigned b, int c)
{
	for (int i = 0; i < 4; i++)
		c += (A)(a >> 8 * i) * (B)(b >> 8 * i);
	return c;
}
static inline int __dp4a(int a, int b, int c)
{
	return emu_dot4<signed char, signed char>((unsigned)a, (unsigned)b, c);
}

/* Lanes that read another's value; all 32 take part. */
template <class T> static inline T emu_shuffle(int site, unsigned mask, T v, unsigned from)
{
	if (mask != ~0u)
		emu->fail("a shuffle of a part of a warp");
	return emu_meet(site, v)[from % EMU_WARP];
}
#define __shfl_sync(mask, v, lane) emu_shuffle(__COUNTER__, mask, v, (unsigned)(lane))
#define __shfl_xor_sync(mask, v, other) emu_shuffle(__COUNTER__, mask, v, emu_lane() ^ (unsigned)(other))
#define __shfl_down_sync(mask, v, by) \
	emu_shuffle(__COUNTER__, mask, v, emu_lane() + (by) < EMU_WARP ? emu_lane() + (by) : emu_lane())
#define __shfl_up_sync(mask, v, by) \
	emu_shuffle(__COUNTER__, mask, v, emu_lane() >= (unsigned)(by) ? emu_lane() - (by) : emu_lane())

/* An address in shared memory is a number from 0 on, as on a GPU. The compiler has to know that what it stands for is
 * read and written by it. (Not "asm": that is PTX here.) */
static inline emu_size __cvta_generic_to_shared(const void *p)
{
	__asm volatile("" : "+r"(p) : : "memory");
	return (emu_size)((const char *)p - __start_emu_shared);
}
static inline char *emu_shared(emu_size at, unsigned bytes, unsigned align)
{
	if (at + bytes > (emu_size)(__stop_emu_shared - __start_emu_shared) || at % align)
		emu->fail("an address that is not in shared memory, or not aligned");
	char *p = __start_emu_shared + at;
	__asm volatile("" : "+r"(p) : : "memory");
	return p;
}

/* --- PTX: numbers --- */

static inline float emu_half_to_float(unsigned h)
{
	const unsigned sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 1023;

	if (e == 31)
		return __uint_as_float(sign | 0x7f800000u | m << 13);
	if (e == 0)
		return (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
	return __uint_as_float(sign | (e + 112) << 23 | m << 13);
}
static inline unsigned short emu_float_to_half(float v)
{
	const unsigned bits = __float_as_uint(v), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;

	if (size > 0x7f800000u)
		return 0x7fff;
	if (size >= 0x47800000u)
		return (unsigned short)(sign | 0x7c00u);
	if (size < 0x38800000u) /* in steps of 2^-24, halves to even, as the addition rounds */
		return (unsigned short)(sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u));
	return (unsigned short)(sign | (((size + 0xfffu + (size >> 13 & 1)) >> 13) - (112u << 10)));
}
template <class D> static inline void ptx_cvt_f32_f16(D &d, unsigned short h)
{
	d = emu_half_to_float(h);
}
template <class D> static inline void ptx_cvt_rn_f16_f32(D &d, float v)
{
	d = (D)emu_float_to_half(v);
}
/* The first operand is the upper half. */
template <class D> static inline void ptx_cvt_rn_f16x2_f32(D &d, float high, float low)
{
	d = (D)((unsigned)emu_float_to_half(high) << 16 | emu_float_to_half(low));
}
static inline unsigned emu_float_to_bf16(float v)
{
	const unsigned bits = __float_as_uint(v);

	return v != v ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
template <class D> static inline void ptx_cvt_rn_bf16x2_f32(D &d, float high, float low)
{
	d = (D)(emu_float_to_bf16(high) << 16 | emu_float_to_bf16(low));
}
static inline unsigned emu_half2(double low, double high)
{
	return (unsigned)emu_float_to_half((float)high) << 16 | emu_float_to_half((float)low);
}
template <class D> static inline void ptx_add_rn_f16x2(D &d, unsigned a, unsigned b)
{
	d = (D)emu_half2((double)emu_half_to_float(a & 0xffffu) + (double)emu_half_to_float(b & 0xffffu),
			 (double)emu_half_to_float(a >> 16) + (double)emu_half_to_float(b >> 16));
}
template <class D> static inline void ptx_fma_rn_f16x2(D &d, unsigned a, unsigned b, unsigned c)
{
	d = (D)emu_half2((double)emu_half_to_float(a & 0xffffu) * (double)emu_half_to_float(b & 0xffffu) +
				 (double)emu_half_to_float(c & 0xffffu),
			 (double)emu_half_to_float(a >> 16) * (double)emu_half_to_float(b >> 16) +
				 (double)emu_half_to_float(c >> 16));
}
#define EMU_DP4A(name, A, B)                                                                   \
	template <class D> static inline void ptx_dp4a_##name(D &d, unsigned a, unsigned b, int c) \
	{                                                                                      \
		d = (D)emu_dot4<A, B>(a, b, c);                                                \
	}
EMU_DP4A(u32_u32, unsigned char, unsigned char)
EMU_DP4A(u32_s32, unsigned char, signed char)
EMU_DP4A(s32_u32, signed char, unsigned char)
EMU_DP4A(s32_s32, signed char, signed char)
template <class D, class S> static inline void ptx_mov_b32(D &d, S s)
{
	d = emu_bits<D>(s);
}
#define EMU_SETP(name, op)                                                             \
	static inline void ptx_setp_##name##_s32(bool &d, int a, int b)                \
	{                                                                              \
		d = a op b;                                                            \
	}
EMU_SETP(eq, ==)
EMU_SETP(ne, !=)
EMU_SETP(lt, <)
EMU_SETP(le, <=)
EMU_SETP(gt, >)
EMU_SETP(ge, >=)
template <class D> static inline void ptx_cvta_to_shared_u64(D &d, unsigned long long p)
{
	d = (D)__cvta_generic_to_shared((const void *)p);
}
template <class D, class S> static inline void ptx_cvt_u32_u64(D &d, S s)
{
	d = (D)s;
}

/* --- PTX: mma.sync (PTX ISA, "Matrix Fragments for mma") --- */

/* What a lane gives: its registers of A and of B. */
struct emu_fragments {
	unsigned a[4], b[2];
};
/* Element (row, k) of A and (k, col) of B, where registers have E elements: lanes of a row lie side by side, each
 * with E of them; then come rows from 8 on, then columns from 4 E on. */
template <int M, int E> static inline unsigned emu_a(const emu_given<emu_fragments> &all, int row, int k)
{
	const int i = (row >= 8) + k / (4 * E) * (M / 8);

	return all[(unsigned)(row % 8 * 4 + k % (4 * E) / E)].a[i] >> k % E * (32 / E);
}
template <int E> static inline unsigned emu_b(const emu_given<emu_fragments> &all, int k, int col)
{
	return all[(unsigned)(col * 4 + k % (4 * E) / E)].b[k / (4 * E)] >> k % E * (32 / E);
}
/* Registers i of C and D: row lane / 4, from 2 on 8 further; column lane % 4 * 2 + i % 2. */
static inline int emu_row(int i)
{
	return (int)emu_lane() / 4 + i / 2 * 8;
}
static inline int emu_col(int i)
{
	return (int)emu_lane() % 4 * 2 + i % 2;
}
template <int M, int K, class A, class B>
static inline void emu_mma_int(const emu_fragments &mine, const int *c, int *d)
{
	const emu_given<emu_fragments> all = emu_meet(emu_site, mine);

	for (int i = 0; i < M / 4; i++) {
		d[i] = c[i];
		for (int k = 0; k < K; k++)
			d[i] += (A)emu_a<M, 4>(all, emu_row(i), k) * (B)emu_b<4>(all, k, emu_col(i));
	}
}
/* The order of a GPU's additions is not documented: here they are exact, and rounded once. */
template <int K, float (*TO_FLOAT)(unsigned)>
static inline void emu_mma_float(const emu_fragments &mine, const float *c, float *d)
{
	const emu_given<emu_fragments> all = emu_meet(emu_site, mine);

	for (int i = 0; i < 4; i++) {
		double sum = (double)c[i];
		for (int k = 0; k < K; k++)
			sum += (double)TO_FLOAT(emu_a<16, 2>(all, emu_row(i), k) & 0xffffu) *
			       (double)TO_FLOAT(emu_b<2>(all, k, emu_col(i)) & 0xffffu);
		d[i] = (float)sum;
	}
}
static inline float emu_bf16_to_float(unsigned h)
{
	return __uint_as_float(h << 16);
}
#define EMU_MMA_INT(types, A, B)                                                                                       \
	template <class D>                                                                                             \
	static inline void ptx_mma_sync_aligned_m8n8k16_row_col_##types(D &d0, D &d1, unsigned a0, unsigned b0,       \
									int c0, int c1)                                \
	{                                                                                                              \
		int d[2], c[2] = {c0, c1};                                                                             \
		emu_mma_int<8, 16, A, B>({{a0}, {b0}}, c, d);                                                          \
		d0 = (D)d[0], d1 = (D)d[1];                                                                            \
	}                                                                                                              \
	template <class D>                                                                                             \
	static inline void ptx_mma_sync_aligned_m16n8k16_row_col_##types(D &d0, D &d1, D &d2, D &d3, unsigned a0,      \
									 unsigned a1, unsigned b0, int c0, int c1,     \
									 int c2, int c3)                               \
	{                                                                                                              \
		int d[4], c[4] = {c0, c1, c2, c3};                                                                     \
		emu_mma_int<16, 16, A, B>({{a0, a1}, {b0}}, c, d);                                                     \
		d0 = (D)d[0], d1 = (D)d[1], d2 = (D)d[2], d3 = (D)d[3];                                                \
	}                                                                                                              \
	template <class D>                                                                                             \
	static inline void ptx_mma_sync_aligned_m16n8k32_row_col_##types(D &d0, D &d1, D &d2, D &d3, unsigned a0,      \
									 unsigned a1, unsigned a2, unsigned a3,        \
									 unsigned b0, unsigned b1, int c0, int c1,     \
									 int c2, int c3)                               \
	{                                                                                                              \
		int d[4], c[4] = {c0, c1, c2, c3};                                                                     \
		emu_mma_int<16, 32, A, B>({{a0, a1, a2, a3}, {b0, b1}}, c, d);                                         \
		d0 = (D)d[0], d1 = (D)d[1], d2 = (D)d[2], d3 = (D)d[3];                                                \
	}
EMU_MMA_INT(s32_s8_s8_s32, signed char, signed char)
EMU_MMA_INT(s32_u8_s8_s32, unsigned char, signed char)
EMU_MMA_INT(s32_s8_u8_s32, signed char, unsigned char)
EMU_MMA_INT(s32_u8_u8_s32, unsigned char, unsigned char)
#define EMU_MMA_FLOAT(types, TO_FLOAT)                                                                                 \
	static inline void ptx_mma_sync_aligned_m16n8k16_row_col_##types(                                              \
		float &d0, float &d1, float &d2, float &d3, unsigned a0, unsigned a1, unsigned a2, unsigned a3,        \
		unsigned b0, unsigned b1, float c0, float c1, float c2, float c3)                                      \
	{                                                                                                              \
		float d[4], c[4] = {c0, c1, c2, c3};                                                                   \
		emu_mma_float<16, TO_FLOAT>({{a0, a1, a2, a3}, {b0, b1}}, c, d);                                       \
		d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                                            \
	}                                                                                                              \
	static inline void ptx_mma_sync_aligned_m16n8k8_row_col_##types(float &d0, float &d1, float &d2, float &d3,    \
									unsigned a0, unsigned a1, unsigned b0,         \
									float c0, float c1, float c2, float c3)        \
	{                                                                                                              \
		float d[4], c[4] = {c0, c1, c2, c3};                                                                   \
		emu_mma_float<8, TO_FLOAT>({{a0, a1}, {b0}}, c, d);                                                    \
		d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                                            \
	}
EMU_MMA_FLOAT(f32_f16_f16_f32, emu_half_to_float)
EMU_MMA_FLOAT(f32_bf16_bf16_f32, emu_bf16_to_float)

/* --- PTX: ldmatrix --- */

/* Matrix j of eight rows of eight halves: lane 8 j + r gives the address of row r. */
template <int N, bool TRANS> static inline void emu_ldmatrix(unsigned *d, emu_size at)
{
	const emu_given<emu_size> all = emu_meet(emu_site, at);
	const unsigned row = emu_lane() / 4, col = emu_lane() % 4 * 2;

	for (unsigned j = 0; j < N; j++) {
		d[j] = 0;
		for (unsigned e = 0; e < 2; e++) {
			const unsigned r = TRANS ? col + e : row, c = TRANS ? row : col + e;
			const char *p = emu_shared(all[j * 8 + r], 16, 16);
			d[j] |= (unsigned)((const unsigned short *)p)[c] << 16 * e;
		}
	}
}
#define EMU_LDMATRIX(trans, TRANS)                                                                                  \
	template <class D> static inline void ptx_ldmatrix_sync_aligned_m8n8_x1##trans##_shared_b16(D &d0, emu_size at) \
	{                                                                                                           \
		unsigned d[1];                                                                                      \
		emu_ldmatrix<1, TRANS>(d, at);                                                                      \
		d0 = (D)d[0];                                                                                       \
	}                                                                                                           \
	template <class D>                                                                                          \
	static inline void ptx_ldmatrix_sync_aligned_m8n8_x2##trans##_shared_b16(D &d0, D &d1, emu_size at)         \
	{                                                                                                           \
		unsigned d[2];                                                                                      \
		emu_ldmatrix<2, TRANS>(d, at);                                                                      \
		d0 = (D)d[0], d1 = (D)d[1];                                                                         \
	}                                                                                                           \
	template <class D>                                                                                          \
	static inline void ptx_ldmatrix_sync_aligned_m8n8_x4##trans##_shared_b16(D &d0, D &d1, D &d2, D &d3,        \
										 emu_size at)                       \
	{                                                                                                           \
		unsigned d[4];                                                                                      \
		emu_ldmatrix<4, TRANS>(d, at);                                                                      \
		d0 = (D)d[0], d1 = (D)d[1], d2 = (D)d[2], d3 = (D)d[3];                                             \
	}
EMU_LDMATRIX(, false)
EMU_LDMATRIX(_trans, true)

/* --- PTX: cp.async --- */

/* Copies of a thread that are under way: none arrives before it is waited for. */
#define EMU_COPIES_MAX 256
struct emu_copies {
	struct {
		emu_size to;
		const void *from;
		unsigned bytes, of, group;
	} all[EMU_COPIES_MAX];
	unsigned n, group; /* that copies belong to */
};
static emu_copies emu_threads[1024];

static inline emu_copies &emu_own()
{
	return emu_threads[(emu->thread.z * emu->block_dim.y + emu->thread.y) * emu->block_dim.x + emu->thread.x];
}
static inline void emu_copy(emu_size to, unsigned long long from, unsigned bytes, unsigned of)
{
	emu_copies &c = emu_own();

	(void)emu_shared(to, bytes, bytes);
	if (c.n == EMU_COPIES_MAX || from % bytes || of > bytes)
		emu->fail("cp.async: not aligned, or more copies than EMU_COPIES_MAX");
	c.all[c.n++] = {to, (const void *)from, bytes, of, c.group};
}
#define EMU_CP_ASYNC(name)                                                                                        \
	static inline void ptx_cp_async_##name##_shared_global(emu_size to, unsigned long long from, unsigned bytes, \
							       unsigned of)                                       \
	{                                                                                                         \
		emu_copy(to, from, bytes, of);                                                                    \
	}                                                                                                         \
	static inline void ptx_cp_async_##name##_shared_global(emu_size to, unsigned long long from, unsigned bytes) \
	{                                                                                                         \
		emu_copy(to, from, bytes, bytes);                                                                 \
	}
EMU_CP_ASYNC(ca)
EMU_CP_ASYNC(cg)
static inline void ptx_cp_async_commit_group()
{
	emu_own().group++;
}
/* All but the last `n` groups that are committed. */
static inline void ptx_cp_async_wait_group(unsigned n)
{
	emu_copies &c = emu_own();
	unsigned kept = 0;

	for (unsigned i = 0; i < c.n; i++) {
		if (c.all[i].group + n >= c.group) {
			c.all[kept++] = c.all[i];
			continue;
		}
		char *to = emu_shared(c.all[i].to, c.all[i].bytes, 1);
		__builtin_memcpy(to, c.all[i].from, c.all[i].of);
		__builtin_memset(to + c.all[i].of, 0, c.all[i].bytes - c.all[i].of);
	}
	c.n = kept;
	__asm volatile("" : : : "memory");
}
static inline void ptx_cp_async_wait_all()
{
	emu_own().group++;
	ptx_cp_async_wait_group(0);
}

/* --- kernels --- */

template <unsigned... I> struct emu_list {};
#ifdef __clang__
template <class T, T... I> struct emu_seq : emu_list<I...> {};
#define EMU_SEQ(n) __make_integer_seq<emu_seq, unsigned, n>
#else
#define EMU_SEQ(n) emu_list<__integer_pack(n)...>
#endif
template <auto F> struct emu_entry;
template <class... A, void (*F)(A...)> struct emu_entry<F> {
	template <unsigned... I> static void spread(void **p, emu_list<I...>)
	{
		F(*(A *)p[I]...);
	}
	static void call(void **p)
	{
		emu_own().n = emu_own().group = 0;
		spread(p, EMU_SEQ(sizeof...(A))());
	}
	static constexpr emu_kernel make()
	{
		static_assert(((sizeof(A) <= 8) && ...), "parameters are numbers and pointers");
		return {sizeof...(A), {sizeof(A)...}, call};
	}
};

extern "C" __attribute__((visibility("default"))) void emu_module(struct emu_host *host, void **ret_shared,
								   unsigned long *ret_bytes)
{
	emu = host;
	*ret_shared = __start_emu_shared;
	*ret_bytes = (unsigned long)(__stop_emu_shared - __start_emu_shared);
}
