/* SPDX-License-Identifier: Apache-2.0 */
/* Preprocessed text, in which only two things are of interest: kernels' names, and inline PTX, whose instructions
 * become calls: "mma.sync.aligned... {%0, %1}, {%2}, %3;" is ptx_mma_sync_aligned_...(d0, d1, a, b). So operands, their
 * order and their number are those of the text that a GPU gets. */
#include "tests/lib/cuda/translate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPERANDS_MAX 32

struct operand {
	const char *text;
	int n;
};

static const char *space(const char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

static bool word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* Behind the word, if `s` begins with it. */
static const char *word(const char *s, const char *w)
{
	const size_t n = strlen(w);

	return strncmp(s, w, n) == 0 && !word_char(s[n]) ? s + n : NULL;
}

/* Behind a string or character constant that begins at `s`; its contents into `out`, which may be NULL. */
static const char *constant(const char *s, struct strbuf *out)
{
	const char quote = *s++;

	for (; *s && *s != quote; s++) {
		if (*s == '\\' && s[1])
			s++;
		if (out)
			sb_char(out, s[-1] != '\\' ? *s : *s == 'n' || *s == 't' ? ' ' : *s);
	}
	return *s ? s + 1 : s;
}

/* Behind the parenthesis that closes the one at `s`. */
static const char *group(const char *s)
{
	int depth = 0;

	do {
		if (*s == '"' || *s == '\'') {
			s = constant(s, NULL);
			continue;
		}
		depth += (*s == '(') - (*s == ')');
		s++;
	} while (*s && depth);
	return s;
}

/* --- one instruction --- */

static const char *number_of(const char *type)
{
	static const struct {
		const char *type, *is;
	} types[] = {{"b32", "unsigned"},      {"u32", "unsigned"}, {"s32", "int"},  {"f32", "float"},
		     {"b64", "unsigned long long"}, {"u64", "unsigned long long"}, {"b16", "unsigned short"},
		     {"u16", "unsigned short"}, {"pred", "bool"}};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (word(type, types[i].type))
			return types[i].is;
	return "ptx_type_that_the_fake_does_not_know";
}

/* "ptx_" and the instruction; what only hints at caches or says the usual is left out. Behind it. */
static const char *mnemonic(const char *s, struct strbuf *out)
{
	sb_str(out, "ptx_");
	while (*s && !isspace((unsigned char)*s) && *s != ';') {
		if (strncmp(s, "::cta", 5) == 0) {
			s += 5;
		} else if (strncmp(s, ".L2::", 5) == 0) {
			for (s++; *s && *s != '.' && !isspace((unsigned char)*s); s++)
				;
		} else {
			sb_char(out, word_char(*s) ? *s : '_');
			s++;
		}
	}
	return s;
}

static void arguments(const char *s, const char *end, const struct operand *ops, int n_ops, struct strbuf *out)
{
	sb_char(out, '(');
	for (s = space(s); s < end; s++) {
		if (*s == '%' && isdigit((unsigned char)s[1])) {
			char *behind;
			const long i = strtol(s + 1, &behind, 10);

			if (i < n_ops)
				sb_printf(out, "(%.*s)", ops[i].n, ops[i].text);
			s = behind - 1;
		} else if (*s == '|') {
			sb_char(out, ',');
		} else if (!strchr("{}[]", *s)) {
			sb_char(out, *s);
		}
	}
	sb_str(out, ");");
}

static void instructions(const char *s, const struct operand *ops, int n_ops, struct strbuf *out)
{
	for (s = space(s); *s; s = space(s)) {
		const size_t n = strcspn(s, ";");
		const char *end = s + n;

		if (*s == '{' || *s == '}' || *s == ';') {
			sb_char(out, *s++);
			continue;
		}
		if (*s == '@') {
			const bool not = s[1] == '!';
			const size_t name = strcspn(s, " \t");

			sb_str(out, not ? "if (!" : "if (");
			arguments(s + (not ? 2 : 1), s + name, ops, n_ops, out);
			out->data[--out->len] = '\0'; /* the semicolon */
			sb_char(out, ')');
			s = space(s + name);
		}
		if (word(s, ".reg")) {
			s = space(s + 4) + 1;
			sb_printf(out, "%s", number_of(s));
			s += strcspn(s, " \t");
			sb_printf(out, "%.*s;", (int)(end - s), s);
		} else {
			s = mnemonic(s, out);
			arguments(s, end, ops, n_ops, out);
		}
		s = *end ? end + 1 : end;
	}
}

/* --- asm("instructions" : outputs : inputs : clobbered) --- */

static const char *operands(const char *s, struct operand *ops, int *n_ops)
{
	for (s = space(s); *s == '"'; s = space(s)) {
		const char *close;

		s = space(constant(s, NULL));
		if (*s != '(' || *n_ops == OPERANDS_MAX)
			return NULL;
		close = group(s);
		ops[(*n_ops)++] = (struct operand){s + 1, (int)(close - s - 2)};
		s = space(close);
		if (*s == ',')
			s = space(s + 1);
	}
	return s;
}

/* `s` is behind "asm". NULL when it is nothing that is understood. */
static const char *inline_ptx(const char *s, int site, struct strbuf *out)
{
	struct operand ops[OPERANDS_MAX];
	struct strbuf ptx = {0};
	int n_ops = 0;
	const char *v;

	s = space(s);
	v = word(s, "volatile");
	if (!v)
		v = word(s, "__volatile__");
	s = space(v ? v : s);
	if (*s != '(')
		return NULL;
	const char *close = group(s);
	for (s = space(s + 1); *s == '"'; s = space(s))
		s = constant(s, &ptx);
	for (int i = 0; i < 2 && s && *s == ':'; i++)
		s = operands(s + 1, ops, &n_ops);
	if (s && (*s == ')' || *s == ':')) {
		sb_printf(out, "do { emu_site = 1000000 + %d; ", site);
		instructions(sb_text(&ptx), ops, n_ops, out);
		sb_str(out, " } while (0)");
	}
	sb_done(&ptx);
	return s ? close : NULL;
}

/* `s` is behind "__global__". */
static void kernel(const char *s, struct strbuf *kernels)
{
	size_t n = 0;

	s = space(s);
	s = word(s, "void");
	if (!s)
		return;
	for (s = space(s); word_char(s[n]); n++)
		;
	sb_printf(kernels,
		  "extern \"C\" __attribute__((visibility(\"default\"))) const emu_kernel emu_%.*s = "
		  "emu_entry<%.*s>::make();\n",
		  (int)n, s, (int)n, s);
}

int translate(const char *text, struct strbuf *out, struct strbuf *log)
{
	struct strbuf kernels = {0};
	int site = 0;

	for (const char *s = text; *s;) {
		const char *begin = s, *behind;

		if (*s == '"' || *s == '\'') {
			s = constant(s, NULL);
		} else if (!word_char(*s)) {
			s++;
		} else {
			while (word_char(*s))
				s++;
			if (word(begin, "__global__")) {
				kernel(s, &kernels);
				continue;
			}
			if (word(begin, "asm") || word(begin, "__asm__")) {
				behind = inline_ptx(s, site++, out);
				if (!behind) {
					sb_printf(log, "error: asm that the fake does not understand: %.60s\n", begin);
					sb_done(&kernels);
					return -1;
				}
				s = behind;
				continue;
			}
		}
		sb_add(out, begin, (size_t)(s - begin));
	}
	sb_add(out, sb_text(&kernels), kernels.len);
	sb_done(&kernels);
	return 0;
}
