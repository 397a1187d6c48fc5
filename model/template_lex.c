/* SPDX-License-Identifier: Apache-2.0 */
/* Template text to tokens, with Jinja's whitespace rules: `trim_blocks` (the newline after a block
 * goes), `lstrip_blocks` (blanks before a block that begins its line go), and the marks - and +. */
#include "model/template_ast.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

struct lexer {
	struct tparse *p;
	const char *s;
	size_t n, pos;
	uint32_t line;
	bool line_starting; /* the last thing that was read ended a line */
};

static struct ttok *push(struct lexer *l, uint8_t kind)
{
	struct tparse *p = l->p;
	if (p->n_toks == p->cap_toks) {
		size_t cap = p->cap_toks ? p->cap_toks * 2 : 256;
		struct ttok *toks = tparse_alloc(p, cap, sizeof(*toks));
		if (!toks)
			return NULL;
		if (p->n_toks)
			memcpy(toks, p->toks, p->n_toks * sizeof(*toks));
		p->toks = toks;
		p->cap_toks = cap;
	}
	struct ttok *t = &p->toks[p->n_toks++];
	t->kind = kind;
	t->line = l->line;
	return t;
}

/* Length of the white space at `pos`, 0 when there is none. */
static size_t space_at(const struct lexer *l, size_t pos)
{
	if (pos >= l->n)
		return 0;
	uint32_t cp = (unsigned char)l->s[pos];
	int k = cp < 0x80 ? 1 : utf8_decode(l->s + pos, l->n - pos, &cp);
	return k > 0 && tchar_is_space(cp) ? (size_t)k : 0;
}

static void advance(struct lexer *l, size_t to)
{
	for (; l->pos < to; l->pos++)
		l->line += l->s[l->pos] == '\n';
}

static size_t skip_space(const struct lexer *l, size_t pos)
{
	for (size_t k; (k = space_at(l, pos));)
		pos += k;
	return pos;
}

static size_t rstrip_to(const struct lexer *l, size_t from, size_t end)
{
	size_t keep = from;
	for (size_t i = from; i < end;) {
		size_t k = space_at(l, i);
		if (!k) {
			i++;
			keep = i;
		} else {
			i += k;
		}
	}
	return min_size(keep, end);
}

/* Ends data at `end`, before a tag with this sign; what the rules take away is left out. */
static int push_data(struct lexer *l, size_t end, char sign, bool is_var)
{
	size_t from = l->pos, stop = end;
	if (sign == '-') {
		stop = rstrip_to(l, from, end);
	} else if (sign != '+' && !is_var) {
		size_t bol = end;
		while (bol > from && l->s[bol - 1] != '\n')
			bol--;
		if ((bol > from || l->line_starting) && skip_space(l, bol) >= end)
			stop = bol;
	}
	if (stop > from) {
		struct ttok *t = push(l, TT_DATA);
		if (!t)
			return -E2BIG;
		t->text = l->s + from;
		t->len = (uint32_t)(stop - from);
	}
	advance(l, end);
	return 0;
}

static bool looking_at(const struct lexer *l, size_t pos, const char *what)
{
	size_t n = strlen(what);
	return pos + n <= l->n && !memcmp(l->s + pos, what, n);
}

/* The end of a block tag (or comment) at `pos`: its length, with what goes away after it; 0: none.
 */
static size_t tag_end(const struct lexer *l, size_t pos, const char *end, bool plus, bool trim)
{
	if (plus && looking_at(l, pos, "+") && looking_at(l, pos + 1, end))
		return 3;
	if (looking_at(l, pos, "-") && looking_at(l, pos + 1, end))
		return skip_space(l, pos + 3) - pos;
	if (!looking_at(l, pos, end))
		return 0;
	return trim && looking_at(l, pos + 2, "\n") ? 3 : 2;
}

static void finish_tag(struct lexer *l, size_t pos, size_t k)
{
	advance(l, pos + k);
	l->line_starting = k && l->s[l->pos - 1] == '\n';
}

static int lex_comment(struct lexer *l)
{
	uint32_t line = l->line;
	for (size_t i = l->pos + 2; i < l->n; i++) {
		/* the text is as short as can be: a sign belongs to the end where it can */
		size_t k = tag_end(l, i, "#}", true, true);
		if (k) {
			finish_tag(l, i, k);
			return 0;
		}
	}
	return tparse_err(l->p, -EBADMSG, line, "comment '{#' is not closed");
}

/* At "{% raw %}": its length up to the text within, 0 when it is another tag. */
static size_t raw_begin(const struct lexer *l)
{
	size_t i = l->pos + 2;
	if (i < l->n && (l->s[i] == '-' || l->s[i] == '+'))
		i++;
	i = skip_space(l, i);
	if (!looking_at(l, i, "raw"))
		return 0;
	i = skip_space(l, i + 3);
	size_t k = tag_end(l, i, "%}", false, false);
	return k ? i + k - l->pos : 0;
}

static int lex_raw(struct lexer *l, size_t begin)
{
	uint32_t line = l->line;
	advance(l, l->pos + begin);
	l->line_starting = l->s[l->pos - 1] == '\n';
	for (size_t i = l->pos; i + 1 < l->n; i++) {
		if (l->s[i] != '{' || l->s[i + 1] != '%')
			continue;
		size_t j = i + 2;
		char sign = j < l->n && (l->s[j] == '-' || l->s[j] == '+') ? l->s[j++] : 0;
		j = skip_space(l, j);
		if (!looking_at(l, j, "endraw"))
			continue;
		j = skip_space(l, j + 6);
		size_t k = tag_end(l, j, "%}", true, true);
		if (!k)
			continue;
		int r = push_data(l, i, sign, false);
		if (r)
			return r;
		finish_tag(l, j, k);
		return 0;
	}
	return tparse_err(l->p, -EBADMSG, line, "'raw' is not closed");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

/* Digits with single underscores between; the end. */
static size_t digits(const struct lexer *l, size_t i)
{
	while (i < l->n &&
	       (is_digit(l->s[i]) || (l->s[i] == '_' && i + 1 < l->n && is_digit(l->s[i + 1]))))
		i++;
	return i;
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int lex_int(struct lexer *l, size_t i, int base, size_t end)
{
	int64_t v = 0;
	for (; i < end; i++) {
		if (l->s[i] == '_')
			continue;
		if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
		    __builtin_add_overflow(v, (int64_t)hex_value(l->s[i]), &v))
			return tparse_err(l->p, -ENOTSUP, l->line, "integer of more than 64 bits");
	}
	struct ttok *t = push(l, TT_INT);
	if (!t)
		return -E2BIG;
	t->u.i = v;
	advance(l, end);
	return 0;
}

static int lex_float(struct lexer *l, size_t end)
{
	char text[400];
	size_t n = 0;
	for (size_t i = l->pos; i < end; i++) {
		if (n + 1 >= sizeof(text))
			return tparse_err(l->p, -ENOTSUP, l->line, "number is too long");
		if (l->s[i] != '_')
			text[n++] = l->s[i];
	}
	text[n] = 0;
	struct ttok *t = push(l, TT_FLOAT);
	if (!t)
		return -E2BIG;
	struct tbuf b = {.data = text, .used = (uint32_t)n, .cap = (uint32_t)n};
	if (!tstr_parse_double(tstr_all(&b), &t->u.f))
		return tparse_err(l->p, -EBADMSG, l->line, "number '%s' cannot be read", text);
	advance(l, end);
	return 0;
}

static int lex_number(struct lexer *l)
{
	size_t i = l->pos, end = digits(l, i);
	size_t e = end;
	bool after_dot = i > 0 && l->s[i - 1] == '.';
	if (!after_dot) {
		if (e + 1 < l->n && l->s[e] == '.' && is_digit(l->s[e + 1]))
			e = digits(l, e + 1);
		size_t x = e;
		if (x < l->n && (l->s[x] == 'e' || l->s[x] == 'E')) {
			x++;
			if (x < l->n && (l->s[x] == '+' || l->s[x] == '-'))
				x++;
			if (x < l->n && is_digit(l->s[x]))
				e = digits(l, x);
		}
		if (e > end)
			return lex_float(l, e);
	}
	if (l->s[i] == '0' && i + 2 < l->n) {
		char c = (char)(l->s[i + 1] | 0x20);
		int base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
		size_t j = i + 2;
		while (base && j < l->n &&
		       ((hex_value(l->s[j]) >= 0 && hex_value(l->s[j]) < base) || l->s[j] == '_'))
			j++;
		if (base && j > i + 2 && hex_value(l->s[j - 1]) >= 0)
			return lex_int(l, i + 2, base, j);
	}
	if (l->s[i] == '0') /* 007 is three tokens, as in Jinja: nothing that parses */
		for (end = i + 1;
		     end < l->n && (l->s[end] == '0' ||
				    (l->s[end] == '_' && end + 1 < l->n && l->s[end + 1] == '0'));)
			end++;
	return lex_int(l, i, 10, end);
}

/* \xHH, \uHHHH, \UHHHHHHHH; `i` is after the letter. */
static int escape_hex(struct lexer *l, size_t *i, int n, char *out, size_t *o)
{
	uint32_t cp = 0;
	for (int k = 0; k < n; k++, (*i)++) {
		int v = *i < l->n ? hex_value(l->s[*i]) : -1;
		if (v < 0)
			return tparse_err(l->p, -EBADMSG, l->line, "string has a broken escape");
		cp = cp << 4 | (uint32_t)v;
	}
	size_t k = utf8_encode(cp, out + *o);
	if (!k)
		return tparse_err(l->p, -EBADMSG, l->line, "string has an escape of no character");
	*o += k;
	return 0;
}

static int escape(struct lexer *l, size_t *i, char *out, size_t *o)
{
	static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
	char c = l->s[(*i)++];
	const char *f = c ? strchr(from, c) : NULL;
	if (f) {
		out[(*o)++] = to[f - from];
	} else if (c >= '0' && c <= '7') {
		uint32_t v = (uint32_t)(c - '0');
		for (int k = 0; k < 2 && l->s[*i] >= '0' && l->s[*i] <= '7'; k++)
			v = v * 8 + (uint32_t)(l->s[(*i)++] - '0');
		*o += utf8_encode(v, out + *o);
	} else if (c == 'x' || c == 'u' || c == 'U') {
		return escape_hex(l, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, out, o);
	} else if (c == 'N') {
		return tparse_err(l->p, -ENOTSUP, l->line, "escape '\\N' in a string is not known");
	} else if (c != '\n') {
		out[(*o)++] = '\\';
		out[(*o)++] = c;
	}
	return 0;
}

static int lex_string(struct lexer *l)
{
	char quote = l->s[l->pos];
	size_t end = l->pos + 1;
	while (end < l->n && l->s[end] != quote)
		end += l->s[end] == '\\' ? 2 : 1;
	if (end >= l->n)
		return tparse_err(l->p, -EBADMSG, l->line, "string is not closed");
	/* "\0" of two bytes may become a character of two; nothing grows */
	char *out = tparse_alloc(l->p, end - l->pos + 4, 1);
	struct ttok *t = out ? push(l, TT_STRING) : NULL;
	if (!t)
		return -E2BIG;
	size_t o = 0;
	for (size_t i = l->pos + 1; i < end;) {
		if (l->s[i] != '\\') {
			out[o++] = l->s[i++];
			continue;
		}
		i++;
		int r = escape(l, &i, out, &o);
		if (r)
			return r;
	}
	t->text = out;
	t->len = (uint32_t)o;
	advance(l, end + 1);
	return 0;
}

static int lex_op(struct lexer *l, char *stack, size_t *depth)
{
	static const char two[][3] = {"//", "**", "==", "!=", ">=", "<="};
	char c = l->s[l->pos];
	uint16_t op = 0;
	for (size_t i = 0; i < sizeof(two) / sizeof(*two); i++)
		if (looking_at(l, l->pos, two[i]))
			op = TOP2(two[i][0], two[i][1]);
	if (!op && c && strchr("+-/*%~[](){}><=.:|,;", c))
		op = TOP1(c);
	if (!op && (unsigned char)c >= 0x20 && (unsigned char)c < 0x7f)
		return tparse_err(l->p, -EBADMSG, l->line, "unexpected character '%c'", c);
	if (!op)
		return tparse_err(l->p, -EBADMSG, l->line, "unexpected byte 0x%02x",
				  (unsigned)(unsigned char)c);
	if (op == '(' || op == '[' || op == '{') {
		if (*depth == TEMPLATE_PARSE_DEPTH)
			return tparse_err(l->p, -E2BIG, l->line,
					  "more than %u brackets within each other",
					  TEMPLATE_PARSE_DEPTH);
		stack[(*depth)++] = op == '(' ? ')' : op == '[' ? ']' : '}';
	} else if (op == ')' || op == ']' || op == '}') {
		if (!*depth || stack[--*depth] != c)
			return tparse_err(l->p, -EBADMSG, l->line, "unexpected '%c'", c);
	}
	struct ttok *t = push(l, TT_OP);
	if (!t)
		return -E2BIG;
	t->op = op;
	advance(l, l->pos + (op > 0xff ? 2 : 1));
	return 0;
}

static int lex_name(struct lexer *l)
{
	size_t end = l->pos;
	while (end < l->n && (is_name_start(l->s[end]) || is_digit(l->s[end])))
		end++;
	struct ttok *t = push(l, TT_NAME);
	if (!t)
		return -E2BIG;
	t->text = l->s + l->pos;
	t->len = (uint32_t)(end - l->pos);
	advance(l, end);
	return 0;
}

/* What stands between the marks of a block or variable. */
static int lex_inside(struct lexer *l, bool is_var)
{
	char stack[TEMPLATE_PARSE_DEPTH];
	size_t depth = 0;
	uint32_t line = l->line;
	while (l->pos < l->n) {
		size_t k = 0;
		if (!depth)
			k = is_var ? tag_end(l, l->pos, "}}", false, false)
				   : tag_end(l, l->pos, "%}", true, true);
		if (k) {
			if (!push(l, is_var ? TT_VAR_END : TT_BLOCK_END))
				return -E2BIG;
			finish_tag(l, l->pos, k);
			return 0;
		}
		char c = l->s[l->pos];
		int r = 0;
		if (space_at(l, l->pos))
			advance(l, skip_space(l, l->pos));
		else if (is_digit(c))
			r = lex_number(l);
		else if (is_name_start(c))
			r = lex_name(l);
		else if (c == '\'' || c == '"')
			r = lex_string(l);
		else
			r = lex_op(l, stack, &depth);
		if (r)
			return r;
	}
	return tparse_err(l->p, -EBADMSG, line, "'%s' is not closed", is_var ? "{{" : "{%");
}

/* A tag begins at `pos` ('{' and one of '{', '%', '#'). */
static int lex_tag(struct lexer *l, size_t pos)
{
	char kind = l->s[pos + 1];
	char c = pos + 2 < l->n ? l->s[pos + 2] : 0;
	char sign = c == '-' || c == '+' ? c : 0;
	int r = push_data(l, pos, sign, kind == '{');
	if (r)
		return r;
	if (kind == '#') {
		/* the sign of the beginning cannot be that of the end too: {#-#} is a whole comment
		 */
		l->pos += sign ? 1 : 0;
		return lex_comment(l);
	}
	size_t raw = kind == '%' ? raw_begin(l) : 0;
	if (raw)
		return lex_raw(l, raw);
	if (!push(l, kind == '{' ? TT_VAR_BEGIN : TT_BLOCK_BEGIN))
		return -E2BIG;
	advance(l, pos + 2 + (sign ? 1 : 0));
	return lex_inside(l, kind == '{');
}

/* Line ends as "\n"; one at the very end goes. */
static char *normalize(struct tparse *p, const char *text, size_t *len)
{
	char *s = tparse_alloc(p, *len + 1, 1);
	if (!s)
		return NULL;
	size_t n = 0;
	for (size_t i = 0; i < *len; i++) {
		bool crlf = text[i] == '\r' && i + 1 < *len && text[i + 1] == '\n';
		s[n++] = text[i] == '\r' ? '\n' : text[i];
		i += crlf;
	}
	if (n && s[n - 1] == '\n')
		n--;
	s[n] = 0;
	*len = n;
	return s;
}

int template_lex(struct tparse *p, const char *text, size_t len)
{
	if (len > TEMPLATE_TEXT_MAX)
		return tparse_err(p, -E2BIG, 0, "text of %zu bytes, more than %zu", len,
				  TEMPLATE_TEXT_MAX);
	struct lexer l = {.p = p, .n = len, .line = 1, .line_starting = true};
	l.s = normalize(p, text, &l.n);
	if (!l.s)
		return -E2BIG;
	while (l.pos < l.n) {
		size_t i = l.pos;
		while (i + 1 < l.n && !(l.s[i] == '{' && (l.s[i + 1] == '{' || l.s[i + 1] == '%' ||
							  l.s[i + 1] == '#')))
			i++;
		int r;
		if (i + 1 < l.n)
			r = lex_tag(&l, i);
		else
			r = push_data(&l, l.n, '+', false);
		if (r)
			return r;
	}
	return push(&l, TT_END) ? 0 : -E2BIG;
}
