/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl tokenize: a text as token ids and their spellings. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

#define TEXT_BYTES_MAX ((size_t)64 << 20)
#define TOKENS_MAX ((size_t)64 << 20)

static const char help[] =
	"Usage: driftctl tokenize -m FILE [OPTION]... [TEXT|-]\n"
	"Prints the token ids of a text (or of standard input) and how they are spelled.\n\n"
	"  -m, --model FILE   the GGUF file\n"
	"  -s, --special      spellings of control tokens in the text are those tokens\n"
	"  -i, --ids          only the ids, in one line\n"
	"  -h, --help         print this help\n";

static int read_stdin(struct strbuf *sb, struct err *reterr)
{
	char chunk[16384];
	size_t n;

	while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
		sb_add(sb, chunk, n);
	if (ferror(stdin))
		return err_set(reterr, -EIO, "standard input: %s", strerror(errno));
	if (sb->failed)
		return err_set(reterr, -E2BIG, "standard input: more than %zu bytes",
			       TEXT_BYTES_MAX);
	return 0;
}

static int print_tokens(const struct tokenizer *t, const struct token_list *list, bool ids_only)
{
	struct strbuf out = {0};

	for (size_t i = 0; i < list->n; i++) {
		if (ids_only) {
			sb_printf(&out, "%s%" PRIu32, i ? " " : "", list->ids[i]);
			continue;
		}
		sb_printf(&out, "%7" PRIu32 "  ", list->ids[i]);
		struct strbuf spell = {0};

		if (tokenizer_spell(t, list->ids[i], &spell))
			spell.failed = true;
		/* One line a token: control characters are written out. */
		for (size_t k = 0; k < spell.len; k++) {
			unsigned char c = (unsigned char)spell.data[k];

			if (c == '\n')
				sb_str(&out, "\\n");
			else if (c == '\\')
				sb_str(&out, "\\\\");
			else if (c < 32 || c == 127)
				sb_printf(&out, "\\x%02x", c);
			else
				sb_char(&out, (char)c);
		}
		out.failed |= spell.failed;
		sb_done(&spell);
		sb_char(&out, '\n');
	}
	if (ids_only)
		sb_char(&out, '\n');
	return ctl_print(&out);
}

static int run(const char *path, const char *text, bool special, bool ids_only)
{
	struct model m = {0};
	struct token_list list = {0};
	struct strbuf input;
	struct err e = {0};
	int r, status;

	sb_init(&input, TEXT_BYTES_MAX);
	r = model_open_vocab(&m, path, &e);
	if (!r && (!text || strcmp(text, "-") == 0)) {
		r = read_stdin(&input, &e);
		text = sb_text(&input);
	} else if (!r) {
		sb_str(&input, text);
	}
	if (!r)
		r = tokenizer_encode(m.tokenizer, text, input.len, special, TOKENS_MAX, &list, &e);
	status = r ? ctl_fail(&e) : print_tokens(m.tokenizer, &list, ids_only);
	free(list.ids);
	sb_done(&input);
	model_close(&m);
	return status;
}

int ctl_tokenize(int argc, char **argv)
{
	static const struct option longs[] = {{"model", required_argument, NULL, 'm'},
					      {"special", no_argument, NULL, 's'},
					      {"ids", no_argument, NULL, 'i'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	const char *path = NULL;
	bool special = false, ids_only = false;
	int o;

	while ((o = getopt_long(argc, argv, "m:sih", longs, NULL)) != -1) {
		switch (o) {
		case 'm':
			path = optarg;
			break;
		case 's':
			special = true;
			break;
		case 'i':
			ids_only = true;
			break;
		case 'h':
			fputs(help, stdout);
			return CTL_OK;
		default:
			return ctl_usage_hint("tokenize");
		}
	}
	if (!path)
		return ctl_usage("tokenize", "a model is needed (-m FILE)");
	if (argc - optind > 1)
		return ctl_usage("tokenize", "one text only: quote it");
	return run(path, optind < argc ? argv[optind] : NULL, special, ids_only);
}
