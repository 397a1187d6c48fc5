/* SPDX-License-Identifier: Apache-2.0 */
/* Tests (`is ...`). */
#include "model/template_strings.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define TEST(name) \
	static int t_##name(struct trender *r, const struct tv *in, const struct tv *arg, bool *ret)

#define TEST_KIND(name, cond)       \
	TEST(name)                  \
	{                           \
		(void)r, (void)arg; \
		*ret = (cond);      \
		return 0;           \
	}

TEST_KIND(defined, in->kind != TV_UNDEFINED)
TEST_KIND(undefined, in->kind == TV_UNDEFINED)
TEST_KIND(none, in->kind == TV_NONE)
TEST_KIND(boolean, in->kind == TV_BOOL)
TEST_KIND(yes, in->kind == TV_BOOL && in->u.b)
TEST_KIND(no, in->kind == TV_BOOL && !in->u.b)
TEST_KIND(integer, in->kind == TV_INT)
TEST_KIND(float, in->kind == TV_FLOAT)
TEST_KIND(number, tv_is_number(in))
TEST_KIND(string, in->kind == TV_STR)
TEST_KIND(mapping, in->kind == TV_DICT)
TEST_KIND(escaped, in->kind == TV_STR && in->markup)
TEST_KIND(callable, in->kind == TV_MACRO || in->kind == TV_FUNC || in->kind == TV_METHOD ||
			    in->kind == TV_UNDEFINED)
TEST_KIND(iterable, tv_is_row(in) || in->kind == TV_STR || in->kind == TV_DICT ||
			    in->kind == TV_UNDEFINED || in->kind == TV_LOOP)
TEST_KIND(sequence, in->kind == TV_STR || in->kind == TV_LIST || in->kind == TV_TUPLE ||
			    in->kind == TV_RANGE || in->kind == TV_DICT || in->kind == TV_UNDEFINED)
TEST_KIND(filter, in->kind == TV_STR && template_filter_find(in->u.s))
TEST_KIND(test, in->kind == TV_STR && template_test_find(in->u.s))

/* in % by */
static int remainder_of(struct trender *r, const struct tv *in, const struct tv *by, struct tv *ret)
{
	if (in->kind == TV_STR)
		return trender_err(r, -EBADMSG, "a str is neither odd nor even");
	return tv_arith(r, '%', in, by, ret);
}

TEST(odd)
{
	struct tv two = tv_int(2), rest;
	(void)arg;
	int e = remainder_of(r, in, &two, &rest);
	*ret = !e && tv_to_double(&rest) == 1;
	return e;
}

TEST(even)
{
	struct tv two = tv_int(2), rest;
	(void)arg;
	int e = remainder_of(r, in, &two, &rest);
	*ret = !e && tv_to_double(&rest) == 0;
	return e;
}

TEST(divisibleby)
{
	struct tv rest;
	int e = remainder_of(r, in, arg, &rest);
	*ret = !e && tv_to_double(&rest) == 0;
	return e;
}

/* All cased characters are of one case, and there is one. */
static int cased(struct trender *r, const struct tv *in, bool upper, bool *ret)
{
	struct tstr s;
	bool any = false;
	int e = tv_to_str(r, in, &s);
	*ret = false;
	for (size_t at = 0; at < s.len && !e;) {
		uint32_t cp;
		at += tstr_char(s, at, &cp);
		if (upper ? tchar_is_lower(cp) : tchar_is_upper(cp))
			return 0;
		any = any || (upper ? tchar_is_upper(cp) : tchar_is_lower(cp));
	}
	*ret = any;
	return e ? e : trender_spend_bytes(r, s.len);
}

TEST(upper)
{
	(void)arg;
	return cased(r, in, true, ret);
}

TEST(lower)
{
	(void)arg;
	return cased(r, in, false, ret);
}

TEST(eq)
{
	return tv_equal(r, in, arg, ret);
}

TEST(ne)
{
	int e = tv_equal(r, in, arg, ret);
	*ret = !*ret;
	return e;
}

TEST(lt)
{
	int c = 0, e = tv_compare(r, in, arg, &c);
	*ret = c == -1;
	return e;
}

TEST(le)
{
	int c = 0, e = tv_compare(r, in, arg, &c);
	*ret = c == -1 || c == 0;
	return e;
}

TEST(gt)
{
	int c = 0, e = tv_compare(r, in, arg, &c);
	*ret = c == 1;
	return e;
}

TEST(ge)
{
	int c = 0, e = tv_compare(r, in, arg, &c);
	*ret = c == 1 || c == 0;
	return e;
}

TEST(in)
{
	return tv_contains(r, arg, in, ret);
}

TEST(sameas)
{
	*ret = false;
	if (in->kind != arg->kind)
		return 0;
	if (tv_is_row(in) || in->kind == TV_DICT)
		*ret = in->u.list == arg->u.list;
	else
		return tv_equal(r, in, arg, ret);
	return 0;
}

static const struct ttest tests[] = {
	{"!=", {"other", 1, 1}, t_ne},
	{"<", {"other", 1, 1}, t_lt},
	{"<=", {"other", 1, 1}, t_le},
	{"==", {"other", 1, 1}, t_eq},
	{">", {"other", 1, 1}, t_gt},
	{">=", {"other", 1, 1}, t_ge},
	{"boolean", {"", 0, 0}, t_boolean},
	{"callable", {"", 0, 0}, t_callable},
	{"defined", {"", 0, 0}, t_defined},
	{"divisibleby", {"num", 1, 1}, t_divisibleby},
	{"eq", {"other", 1, 1}, t_eq},
	{"equalto", {"other", 1, 1}, t_eq},
	{"escaped", {"", 0, 0}, t_escaped},
	{"even", {"", 0, 0}, t_even},
	{"false", {"", 0, 0}, t_no},
	{"filter", {"", 0, 0}, t_filter},
	{"float", {"", 0, 0}, t_float},
	{"ge", {"other", 1, 1}, t_ge},
	{"greaterthan", {"other", 1, 1}, t_gt},
	{"gt", {"other", 1, 1}, t_gt},
	{"in", {"seq", 1, 1}, t_in},
	{"integer", {"", 0, 0}, t_integer},
	{"iterable", {"", 0, 0}, t_iterable},
	{"le", {"other", 1, 1}, t_le},
	{"lessthan", {"other", 1, 1}, t_lt},
	{"lower", {"", 0, 0}, t_lower},
	{"lt", {"other", 1, 1}, t_lt},
	{"mapping", {"", 0, 0}, t_mapping},
	{"ne", {"other", 1, 1}, t_ne},
	{"none", {"", 0, 0}, t_none},
	{"number", {"", 0, 0}, t_number},
	{"odd", {"", 0, 0}, t_odd},
	{"sameas", {"other", 1, 1}, t_sameas},
	{"sequence", {"", 0, 0}, t_sequence},
	{"string", {"", 0, 0}, t_string},
	{"test", {"", 0, 0}, t_test},
	{"true", {"", 0, 0}, t_yes},
	{"undefined", {"", 0, 0}, t_undefined},
	{"upper", {"", 0, 0}, t_upper},
};

const struct ttest *template_test_find(struct tstr name)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		if (tstr_is(name, tests[i].name))
			return &tests[i];
	return NULL;
}

int template_test_run(struct trender *r, const struct ttest *t, const struct tv *in,
		      const struct tcall *call, bool *ret)
{
	struct tv args[TSIG_ARGS_MAX];
	int e = tsig_bind(r, "test", t->name, &t->sig, call, args);
	return e ? e : t->fn(r, in, &args[0], ret);
}
