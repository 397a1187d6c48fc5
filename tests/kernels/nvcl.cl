/* SPDX-License-Identifier: Apache-2.0 */
/* Stands before generated OpenCL C when nvcl.c compiles it by clang for PTX: the functions of the language that
 * kernels use, which clang leaves to a driver's library, by its builtins for PTX. Macros, for clang declares the
 * functions' own names. Vectors are read and written element by element, as their pointers' alignment allows. */
#define LIB static __attribute__((overloadable, always_inline))

#define get_global_id(d) ((size_t)(__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + \
				   __nvvm_read_ptx_sreg_tid_x()))
#define get_local_id(d) ((size_t)__nvvm_read_ptx_sreg_tid_x())
#define get_group_id(d) ((size_t)((d) == 0 ? __nvvm_read_ptx_sreg_ctaid_x() : __nvvm_read_ptx_sreg_ctaid_y()))
#define get_num_groups(d) ((size_t)((d) == 0 ? __nvvm_read_ptx_sreg_nctaid_x() : __nvvm_read_ptx_sreg_nctaid_y()))
#define barrier(flags) __syncthreads()

#define VECTOR_MEMORY(T, V, SPACE)                                                                 \
	LIB V lib_load(size_t i, SPACE const T *p)                                                 \
	{                                                                                          \
		return (V)(p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]);                    \
	}                                                                                          \
	LIB void lib_store(V v, size_t i, SPACE T *p)                                              \
	{                                                                                          \
		p[4 * i] = v.x;                                                                    \
		p[4 * i + 1] = v.y;                                                                \
		p[4 * i + 2] = v.z;                                                                \
		p[4 * i + 3] = v.w;                                                                \
	}
#define VECTOR_SPACES(T, V)                                                                        \
	VECTOR_MEMORY(T, V, __global) VECTOR_MEMORY(T, V, __local) VECTOR_MEMORY(T, V, __private)
VECTOR_SPACES(float, float4)
VECTOR_SPACES(int, int4)
VECTOR_SPACES(uint, uint4)
VECTOR_SPACES(ushort, ushort4)
VECTOR_SPACES(uchar, uchar4)
VECTOR_SPACES(char, char4)
#define vload4(i, p) lib_load(i, p)
#define vstore4(v, i, p) lib_store(v, i, p)

LIB float lib_to_float(ushort h)
{
	float f;
	__asm__("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
	return f;
}
LIB ushort lib_to_half(float f)
{
	ushort h;
	__asm__("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
}
#define HALVES_MEMORY(SPACE)                                                                       \
	LIB float lib_load_half(size_t i, SPACE const half *p)                                     \
	{                                                                                          \
		return lib_to_float(((SPACE const ushort *)p)[i]);                                 \
	}                                                                                          \
	LIB float4 lib_load_half4(size_t i, SPACE const half *p)                                   \
	{                                                                                          \
		return (float4)(lib_load_half(4 * i, p), lib_load_half(4 * i + 1, p),              \
				lib_load_half(4 * i + 2, p), lib_load_half(4 * i + 3, p));         \
	}                                                                                          \
	LIB void lib_store_half(float v, size_t i, SPACE half *p)                                  \
	{                                                                                          \
		((SPACE ushort *)p)[i] = lib_to_half(v);                                           \
	}                                                                                          \
	LIB void lib_store_half4(float4 v, size_t i, SPACE half *p)                                \
	{                                                                                          \
		lib_store_half(v.x, 4 * i, p);                                                     \
		lib_store_half(v.y, 4 * i + 1, p);                                                 \
		lib_store_half(v.z, 4 * i + 2, p);                                                 \
		lib_store_half(v.w, 4 * i + 3, p);                                                 \
	}
HALVES_MEMORY(__global)
HALVES_MEMORY(__local)
HALVES_MEMORY(__private)
#define vload_half(i, p) lib_load_half(i, p)
#define vload_half4(i, p) lib_load_half4(i, p)
#define vstore_half_rte(v, i, p) lib_store_half(v, i, p)
#define vstore_half4_rte(v, i, p) lib_store_half4(v, i, p)

#define convert_float4(v) __builtin_convertvector(v, float4)
#define convert_int4(v) __builtin_convertvector(v, int4)
#define convert_uint4(v) __builtin_convertvector(v, uint4)
#define convert_char4(v) __builtin_convertvector(v, char4)
#define convert_uchar4(v) __builtin_convertvector(v, uchar4)

LIB float lib_fma(float a, float b, float c)
{
	return __nvvm_fma_rn_f(a, b, c);
}
LIB float4 lib_fma(float4 a, float4 b, float4 c)
{
	return (float4)(lib_fma(a.x, b.x, c.x), lib_fma(a.y, b.y, c.y), lib_fma(a.z, b.z, c.z),
			lib_fma(a.w, b.w, c.w));
}
#define fma(a, b, c) lib_fma(a, b, c)
#define sqrt(x) __nvvm_sqrt_rn_f(x)
#define fabs(x) __nvvm_fabs_f(x)
#define fmax(a, b) __nvvm_fmax_f(a, b)
#define fmin(a, b) __nvvm_fmin_f(a, b)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define select(a, b, c) ((c) ? (b) : (a))
#define bitselect(a, b, c) (((a) & ~(c)) | ((b) & (c)))
