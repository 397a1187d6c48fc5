/* SPDX-License-Identifier: Apache-2.0 */
/* The GGUF reader: what a sound file gives, typed getters, and hand-made bad files, each of which
 * must be refused with a message that names the place. */
#include "model/gguf.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/tinygguf.h"

static const uint64_t shape[] = {64, 3};

/* A file with a key of every kind and two tensors. */
static void make_sound(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_u32(t, "a.u32", 7);
	tg_key(t, "a.u8", GGUF_U8);
	tg_u8(t, 200);
	tg_key(t, "a.i8", GGUF_I8);
	tg_u8(t, 0xff);
	tg_key(t, "a.u16", GGUF_U16);
	tg_u16(t, 65535);
	tg_key(t, "a.i16", GGUF_I16);
	tg_u16(t, 0x8000);
	tg_key(t, "a.i32", GGUF_I32);
	tg_u32(t, 0xfffffffe);
	tg_key(t, "a.u64", GGUF_U64);
	tg_u64(t, UINT64_MAX);
	tg_key(t, "a.i64", GGUF_I64);
	tg_u64(t, 5);
	tg_key(t, "a.f64", GGUF_F64);
	tg_u64(t, 0x3ff8000000000000); /* 1.5 */
	tg_kv_f32(t, "a.f32", 2.5f);
	tg_key(t, "a.nan", GGUF_F32);
	tg_u32(t, 0x7fc00000);
	tg_kv_bool(t, "a.bool", true);
	tg_kv_str(t, "a.str", "text");
	tg_kv_str(t, "a.empty", "");
	tg_kv_array(t, "a.strings", GGUF_STRING, 3);
	tg_str(t, "one");
	tg_str(t, "");
	tg_str(t, "three");
	tg_kv_array(t, "a.ints", GGUF_I32, 2);
	tg_u32(t, 11);
	tg_u32(t, 0xffffffff);
	tg_kv_array(t, "a.floats", GGUF_F32, 2);
	tg_f32(t, 0.5f);
	tg_f32(t, -1);
	tg_kv_array(t, "a.nothing", GGUF_U64, 0);
	tg_tensor(t, "w.one", FORMAT_Q4_0, 2, shape);
	tg_tensor(t, "w.two", 23 /* IQ4_XS: known, but not to this build */, 2, shape);
	tg_tensor(t, "w.three", FORMAT_F32, 1, shape);
	tg_data(t);
	ck_assert(!t->failed);
}

static int open_bytes(struct gguf *g, const void *data, size_t n, struct err *err)
{
	char path[32];
	int fd;

	ck_assert_int_eq(tg_memfd(data, n, &fd, path), 0);
	int r = gguf_open(g, path, err);
	close(fd);
	return r;
}

static struct tinygguf file;
static struct gguf g;

static void setup(void)
{
	struct err err = {0};

	make_sound(&file);
	ck_assert_msg(open_bytes(&g, file.data, file.n, &err) == 0, "%s", err.msg);
}

static void teardown(void)
{
	gguf_close(&g);
	gguf_close(&g); /* twice is fine */
	tg_done(&file);
}

/* --- a sound file --- */

START_TEST(test_contents)
{
	ck_assert_uint_eq(g.version, 3);
	ck_assert_uint_eq(g.n_kvs, 18);
	ck_assert_uint_eq(g.n_tensors, 3);
	const struct gguf_tensor *t = gguf_tensor(&g, "w.one");
	ck_assert_ptr_nonnull(t);
	ck_assert_uint_eq(t->n_dims, 2);
	ck_assert_uint_eq(t->dims[0], 64);
	ck_assert_uint_eq(t->dims[1], 3);
	ck_assert_uint_eq(t->dims[2], 1);
	ck_assert_uint_eq(t->bytes, 2 * 3 * 18);
	ck_assert_uint_eq(t->offset, file.data_start);
	ck_assert_ptr_eq(t->data, g.file.data + file.data_start);
	ck_assert_ptr_null(gguf_tensor(&g, "w.two")->data);
	ck_assert_uint_eq(gguf_tensor(&g, "w.two")->type, 23);
	ck_assert_uint_eq(gguf_tensor(&g, "w.three")->offset % 32, 0);
	ck_assert_ptr_null(gguf_tensor(&g, "w.four"));
	ck_assert_ptr_null(gguf_find(&g, "a"));
	ck_assert_ptr_null(gguf_find(&g, ""));
}
END_TEST

START_TEST(test_get_u32)
{
	static const struct {
		const char *key;
		uint32_t min, max, value;
		int code;
		const char *message;
	} cases[] = {
		{"a.u32", 0, 10, 7, 0, NULL},
		{"a.u32", 7, 7, 7, 0, NULL},
		{"a.u32", 8, 10, 0, -EBADMSG, "key 'a.u32' is 7, must be 8 to 10"},
		{"a.u32", 0, 6, 0, -EBADMSG, "key 'a.u32' is 7, must be 0 to 6"},
		{"a.u8", 0, 255, 200, 0, NULL},
		{"a.u16", 0, 65535, 65535, 0, NULL},
		{"a.i64", 0, 9, 5, 0, NULL},
		{"a.i8", 0, UINT32_MAX, 0, -EBADMSG, "key 'a.i8' is -1"},
		{"a.i16", 0, UINT32_MAX, 0, -EBADMSG, "key 'a.i16' is -32768"},
		{"a.i32", 0, UINT32_MAX, 0, -EBADMSG, "key 'a.i32' is -2"},
		{"a.u64", 0, UINT32_MAX, 0, -EBADMSG, "key 'a.u64'"},
		{"a.f32", 0, 10, 0, -EBADMSG, "key 'a.f32' is a f32, must be an integer"},
		{"a.bool", 0, 10, 0, -EBADMSG, "key 'a.bool' is a bool, must be an integer"},
		{"a.str", 0, 10, 0, -EBADMSG, "key 'a.str' is a string, must be an integer"},
		{"a.ints", 0, 10, 0, -EBADMSG,
		 "key 'a.ints' is an array of i32, must be an integer"},
		{"missing", 0, 10, 0, -ENOENT, "key 'missing' is missing"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct err err = {0};
		uint32_t v = 12345;
		int r = gguf_get_u32(&g, cases[i].key, cases[i].min, cases[i].max, &v, &err);
		ck_assert_int_eq(r, cases[i].code);
		ck_assert_uint_eq(v, r ? 12345 : cases[i].value);
		if (r) {
			ck_assert_int_eq(err.code, r);
			ck_assert_ptr_nonnull(strstr(err.msg, cases[i].message));
			ck_assert_ptr_nonnull(strstr(err.msg, g.path));
		}
	}
}
END_TEST

START_TEST(test_get_others)
{
	struct err err = {0};
	struct gguf_str s;
	const struct gguf_kv *kv;
	double d = 9;
	bool b = false;

	ck_assert_int_eq(gguf_get_f32(&g, "a.f32", 0, 3, &d, &err), 0);
	ck_assert(d == 2.5);
	ck_assert_int_eq(gguf_get_f32(&g, "a.f64", 0, 3, &d, &err), 0);
	ck_assert(d == 1.5);
	ck_assert_int_eq(gguf_get_f32(&g, "a.f32", 0, 2, &d, &err), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(err.msg, "key 'a.f32' is 2.5, must be 0 to 2"));
	ck_assert_int_eq(gguf_get_f32(&g, "a.nan", -1e30, 1e30, &d, NULL), -EBADMSG);
	ck_assert_int_eq(gguf_get_f32(&g, "a.u32", 0, 10, &d, NULL), -EBADMSG);
	ck_assert_int_eq(gguf_get_f32(&g, "none", 0, 10, &d, NULL), -ENOENT);

	ck_assert_int_eq(gguf_get_bool(&g, "a.bool", &b, NULL), 0);
	ck_assert(b);
	ck_assert_int_eq(gguf_get_bool(&g, "a.u8", &b, NULL), -EBADMSG);

	ck_assert_int_eq(gguf_get_str(&g, "a.str", &s, NULL), 0);
	ck_assert_uint_eq(s.len, 4);
	ck_assert_int_eq(memcmp(s.s, "text", 4), 0);
	ck_assert_int_eq(gguf_get_str(&g, "a.empty", &s, NULL), 0);
	ck_assert_uint_eq(s.len, 0);
	ck_assert_int_eq(gguf_get_str(&g, "a.strings", &s, NULL), -EBADMSG);

	ck_assert_int_eq(gguf_get_array(&g, "a.ints", GGUF_I32, &kv, NULL), 0);
	ck_assert_uint_eq(kv->count, 2);
	ck_assert_uint_eq(gguf_elem_u32(kv, 0), 11);
	ck_assert_uint_eq(gguf_elem_u32(kv, 1), UINT32_MAX);
	ck_assert_uint_eq(gguf_elem_u32(kv, 2), 0);
	ck_assert(gguf_elem_f32(kv, 0) == 0); /* of another type */
	err_clear(&err);
	ck_assert_int_eq(gguf_get_array(&g, "a.ints", GGUF_U32, &kv, &err), -EBADMSG);
	ck_assert_ptr_nonnull(
		strstr(err.msg, "key 'a.ints' is an array of i32, must be an array of u32"));
	ck_assert_int_eq(gguf_get_array(&g, "a.u32", GGUF_U32, &kv, NULL), -EBADMSG);
	ck_assert_int_eq(gguf_get_array(&g, "a.floats", GGUF_F32, &kv, NULL), 0);
	ck_assert(gguf_elem_f32(kv, 0) == 0.5f && gguf_elem_f32(kv, 1) == -1);
	ck_assert_int_eq(gguf_get_array(&g, "a.nothing", GGUF_U64, &kv, NULL), 0);
	ck_assert_uint_eq(kv->count, 0);
}
END_TEST

START_TEST(test_next_str)
{
	static const char *const want[] = {"one", "", "three"};
	const struct gguf_kv *kv;
	const uint8_t *cursor = NULL;
	struct gguf_str s;
	uint64_t i = 99, n = 0;

	ck_assert_int_eq(gguf_get_array(&g, "a.strings", GGUF_STRING, &kv, NULL), 0);
	while (gguf_next_str(kv, &cursor, &i, &s)) {
		ck_assert_uint_eq(i, n);
		ck_assert_uint_eq(s.len, strlen(want[n]));
		ck_assert_int_eq(memcmp(s.s, want[n], s.len), 0);
		n++;
	}
	ck_assert_uint_eq(n, 3);
	cursor = NULL;
	ck_assert(!gguf_next_str(gguf_find(&g, "a.ints"), &cursor, &i, &s));
}
END_TEST

/* --- bad files --- */

struct bad_file {
	const char *message;
	int code;
	void (*make)(struct tinygguf *t);
};

static void one_tensor(struct tinygguf *t, const char *name, uint32_t type, uint32_t n_dims,
		       const uint64_t *dims)
{
	tg_init(t);
	tg_tensor(t, name, type, n_dims, dims);
	tg_data(t);
}

/* The same with one number of the description overwritten: 0 is n_dims, then 4 + 8 each dimension,
 * type, offset. */
static void patched_tensor(struct tinygguf *t, size_t at, uint64_t v, size_t bytes)
{
	one_tensor(t, "w", FORMAT_Q8_0, 2, shape);
	tg_patch(t, tg_find_tensor(t, "w") + at, v, bytes);
}

static void wrong_magic(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 0 + 3, 'X', 1);
}

static void version_1(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 4, 1, 4);
}

static void version_4(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 4, 4, 4);
}

static void big_endian(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 4, 0x03000000, 4);
}

static void many_tensors(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 8, UINT64_MAX, 8);
}

static void some_tensors(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 8, 1000, 8);
}

static void many_keys(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 16, UINT64_C(1) << 60, 8);
}

static void some_keys(struct tinygguf *t)
{
	tg_init(t);
	tg_patch(t, 16, 50, 8);
}

static void empty_key(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_u32(t, "", 1);
}

static void long_key(struct tinygguf *t)
{
	char key[65537];

	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	tg_init(t);
	tg_kv_u32(t, key, 1);
}

static void key_beyond(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_u32(t, "abc", 1);
	tg_patch(t, 24, 60000, 8);
}

static void same_key(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_u32(t, "twice", 1);
	tg_kv_str(t, "twice", "b");
}

static void key_type(struct tinygguf *t)
{
	tg_init(t);
	tg_key(t, "odd", (enum gguf_type)13);
	tg_u64(t, 0);
}

static void string_1tb(struct tinygguf *t)
{
	tg_init(t);
	tg_key(t, "s", GGUF_STRING);
	tg_u64(t, UINT64_C(1) << 40);
}

static void string_beyond(struct tinygguf *t)
{
	tg_init(t);
	tg_key(t, "s", GGUF_STRING);
	tg_u64(t, 100);
	tg_u64(t, 0);
}

static void bad_bool(struct tinygguf *t)
{
	tg_init(t);
	tg_key(t, "b", GGUF_BOOL);
	tg_u8(t, 2);
}

static void bad_bools(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "b", GGUF_BOOL, 2);
	tg_u8(t, 1);
	tg_u8(t, 255);
}

static void array_of_arrays(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_ARRAY, 1);
	tg_u64(t, 0);
	tg_u64(t, 0);
}

static void array_type(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", (enum gguf_type)77, 1);
	tg_u64(t, 0);
}

static void array_count(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_U8, UINT64_C(1) << 30);
	tg_u64(t, 0);
}

static void array_wraps(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_U64, (UINT64_C(1) << 61) + 1); /* x 8 is 8 */
	tg_u64(t, 0);
}

static void array_beyond(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_U64, 100);
	tg_u64(t, 0);
}

static void strings_beyond(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_STRING, 100);
	tg_u64(t, 0);
}

static void string_in_array(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_array(t, "n", GGUF_STRING, 2);
	tg_str(t, "a");
	tg_u64(t, UINT64_MAX);
}

static void alignment(struct tinygguf *t, uint32_t v)
{
	tg_init(t);
	tg_kv_u32(t, "general.alignment", v);
	tg_tensor(t, "w", FORMAT_F32, 1, shape);
	tg_data(t);
}

static void alignment_0(struct tinygguf *t)
{
	alignment(t, 0);
}

static void alignment_24(struct tinygguf *t)
{
	alignment(t, 24);
}

static void alignment_2g(struct tinygguf *t)
{
	alignment(t, 0x80000000);
}

static void alignment_string(struct tinygguf *t)
{
	tg_init(t);
	tg_kv_str(t, "general.alignment", "32");
}

static void unnamed(struct tinygguf *t)
{
	one_tensor(t, "", FORMAT_F32, 1, shape);
}

static void long_name(struct tinygguf *t)
{
	one_tensor(t, "12345678901234567890123456789012345678901234567890123456789012345",
		   FORMAT_F32, 1, shape);
}

static void same_tensor(struct tinygguf *t)
{
	tg_init(t);
	tg_tensor(t, "w", FORMAT_F32, 1, shape);
	tg_tensor(t, "w", FORMAT_F32, 1, shape);
	tg_data(t);
}

static void dims_0(struct tinygguf *t)
{
	patched_tensor(t, 0, 0, 4);
}

static void dims_5(struct tinygguf *t)
{
	patched_tensor(t, 0, 5, 4);
}

static void zero_dim(struct tinygguf *t)
{
	patched_tensor(t, 4, 0, 8);
}

static void zero_dim_1(struct tinygguf *t)
{
	patched_tensor(t, 12, 0, 8);
}

static void negative_dim(struct tinygguf *t)
{
	patched_tensor(t, 12, UINT64_MAX, 8);
}

static void part_block(struct tinygguf *t)
{
	patched_tensor(t, 4, 63, 8);
}

static void product_wraps(struct tinygguf *t)
{
	static const uint64_t dims[] = {1 << 30, 1 << 30, 1 << 30, 64};
	tg_init(t);
	tg_tensor(t, "w", FORMAT_F32, 4, dims);
	t->data_bytes = 64;
	tg_data(t);
}

static void tensor_type(struct tinygguf *t)
{
	patched_tensor(t, 20, 4000, 4);
}

static void offset_odd(struct tinygguf *t)
{
	patched_tensor(t, 24, 16, 8);
}

static void offset_far(struct tinygguf *t)
{
	patched_tensor(t, 24, UINT64_C(1) << 40, 8);
}

static void offset_wraps(struct tinygguf *t)
{
	patched_tensor(t, 24, UINT64_MAX - 31, 8);
}

static void one_row_more(struct tinygguf *t)
{
	patched_tensor(t, 12, 4, 8);
}

static void one_byte_less(struct tinygguf *t)
{
	one_tensor(t, "w", FORMAT_Q8_0, 2, shape);
	t->n--;
}

static void unsized_far(struct tinygguf *t)
{
	one_tensor(t, "w", 23, 2, shape);
	tg_patch(t, tg_find_tensor(t, "w") + 24, UINT64_C(1) << 32, 8);
}

static void name_with_newline(struct tinygguf *t)
{
	one_tensor(t, "a\nb\x1b[31m", 4000, 1, shape);
}

static const struct bad_file bad_files[] = {
	{"header: it does not begin with \"GGUF\"", -EBADMSG, wrong_magic},
	{"GGUF version 1 is not supported", -ENOTSUP, version_1},
	{"GGUF version 4 is not supported", -ENOTSUP, version_4},
	{"big-endian", -ENOTSUP, big_endian},
	{"header: 18446744073709551615 tensors, at most", -EBADMSG, many_tensors},
	{"header: 1000 tensors, more than the file has room for", -EBADMSG, some_tensors},
	{"header: 1152921504606846976 keys, at most", -EBADMSG, many_keys},
	{"header: 50 keys, more than the file has room for", -EBADMSG, some_keys},
	{"key number 0: a string of 0 bytes", -EBADMSG, empty_key},
	{"key number 0: a string of 65536 bytes", -EBADMSG, long_key},
	{"key number 0: the file ends here", -EBADMSG, key_beyond},
	{"key 'twice': it is there twice (at byte 45)", -EBADMSG, same_key},
	{"key 'odd': a value of the unknown type 13 (at byte 35)", -EBADMSG, key_type},
	{"key 's': a string of 1099511627776 bytes", -EBADMSG, string_1tb},
	{"key 's': the file ends here, 92 more bytes", -EBADMSG, string_beyond},
	{"key 'b': a bool of value 2", -EBADMSG, bad_bool},
	{"key 'b': a bool of value 255", -EBADMSG, bad_bools},
	{"key 'n': an array of arrays", -EBADMSG, array_of_arrays},
	{"key 'n': an array of the unknown type 77", -EBADMSG, array_type},
	{"key 'n': an array of 1073741824 elements", -EBADMSG, array_count},
	{"key 'n': an array of 2305843009213693953 elements", -EBADMSG, array_wraps},
	{"key 'n': the file ends here, 792 more bytes", -EBADMSG, array_beyond},
	{"key 'n': an array of 100 strings, more than", -EBADMSG, strings_beyond},
	{"key 'n': a string of 18446744073709551615 bytes", -EBADMSG, string_in_array},
	{"key 'general.alignment' is 0, must be 8 to 65536", -EBADMSG, alignment_0},
	{"key 'general.alignment': 24 is no power of two", -EBADMSG, alignment_24},
	{"key 'general.alignment' is 2147483648, must be", -EBADMSG, alignment_2g},
	{"key 'general.alignment' is a string", -EBADMSG, alignment_string},
	{"tensor number 0: a string of 0 bytes", -EBADMSG, unnamed},
	{"tensor number 0: a string of 65 bytes", -EBADMSG, long_name},
	{"tensor 'w': it is there twice", -EBADMSG, same_tensor},
	{"tensor 'w': 0 dimensions", -EBADMSG, dims_0},
	{"tensor 'w': 5 dimensions", -EBADMSG, dims_5},
	{"tensor 'w': dimension 0 is 0", -EBADMSG, zero_dim},
	{"tensor 'w': dimension 1 is 0", -EBADMSG, zero_dim_1},
	{"tensor 'w': dimension 1 is 18446744073709551615", -EBADMSG, negative_dim},
	{"tensor 'w': rows of 63 elements are no multiple of the block of Q8_0 (32)", -EBADMSG,
	 part_block},
	{"tensor 'w': its size is beyond all memory", -EBADMSG, product_wraps},
	{"tensor 'w': the unknown element type 4000", -EBADMSG, tensor_type},
	{"tensor 'w': offset 16 is no multiple of the alignment 32", -EBADMSG, offset_odd},
	{"tensor 'w': data of 204 bytes at offset 1099511627776", -EBADMSG, offset_far},
	{"tensor 'w': data of 204 bytes at offset 18446744073709551584", -EBADMSG, offset_wraps},
	{"tensor 'w': data of 272 bytes", -EBADMSG, one_row_more},
	{"tensor 'w': data of 204 bytes", -EBADMSG, one_byte_less},
	{"tensor 'w': data of 0 bytes at offset 4294967296", -EBADMSG, unsized_far},
	{"tensor 'a?b?[31m': the unknown element type", -EBADMSG, name_with_newline},
};

START_TEST(test_bad_file)
{
	const struct bad_file *b = &bad_files[_i];
	struct tinygguf t;
	struct gguf bad;
	struct err err = {0};

	b->make(&t);
	int r = open_bytes(&bad, t.data, t.n, &err);
	ck_assert_msg(strstr(err.msg, b->message) != NULL, "\"%s\" is not in \"%s\"", b->message,
		      err.msg);
	ck_assert_int_eq(r, b->code);
	ck_assert_int_eq(err.code, b->code);
	ck_assert_int_eq(strncmp(err.msg, "/proc/self/fd/", 14), 0); /* the file's name */
	ck_assert_ptr_null(strchr(err.msg, '\n'));
	ck_assert_ptr_null(bad.kvs);
	gguf_close(&bad);
	tg_done(&t);
}
END_TEST

/* What is no regular file is refused at once, by name. */
START_TEST(test_no_file)
{
	struct gguf bad;
	char fifo[] = "/tmp/test_gguf_XXXXXX";
	const char *const paths[] = {"/", "/dev/zero", "/nonexistent/x.gguf", fifo};

	ck_assert_ptr_nonnull(mkdtemp(fifo));
	char path[64];
	snprintf(path, sizeof(path), "%s/fifo", fifo);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	for (size_t i = 0; i < 5; i++) {
		const char *p = i < 4 ? paths[i] : path;
		struct err err = {0};
		ck_assert_int_lt(gguf_open(&bad, p, &err), 0);
		ck_assert_ptr_nonnull(strstr(err.msg, p));
		ck_assert_ptr_null(bad.file.data);
	}
	unlink(path);
	rmdir(fifo);
}
END_TEST

/* Version 2 is the same format; a file of keys only has no data section. */
START_TEST(test_small_files)
{
	struct tinygguf t;
	struct gguf small;
	struct err err = {0};

	tg_init(&t);
	tg_patch(&t, 4, 2, 4);
	ck_assert_msg(open_bytes(&small, t.data, t.n, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(small.version, 2);
	ck_assert_ptr_null(gguf_find(&small, "x"));
	ck_assert_ptr_null(gguf_tensor(&small, "x"));
	gguf_close(&small);
	tg_kv_u32(&t, "x", 3);
	ck_assert_msg(open_bytes(&small, t.data, t.n, &err) == 0, "%s", err.msg);
	ck_assert_ptr_nonnull(gguf_find(&small, "x"));
	gguf_close(&small);
	tg_done(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gguf");
	TCase *t = tcase_create("sound"), *b = tcase_create("bad");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_contents);
	tcase_add_test(t, test_get_u32);
	tcase_add_test(t, test_get_others);
	tcase_add_test(t, test_next_str);
	suite_add_tcase(s, t);
	tcase_add_loop_test(b, test_bad_file, 0, (int)(sizeof(bad_files) / sizeof(*bad_files)));
	tcase_add_test(b, test_no_file);
	tcase_add_test(b, test_small_files);
	suite_add_tcase(s, b);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
