/* SPDX-License-Identifier: Apache-2.0 */
/* mkmodel: writes a llama model with random weights, for tests that are scripts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/lib/tinygguf.h"

static const char usage[] =
	"usage: mkmodel OUT.gguf FORMAT LAYERS EMBD HEADS KV_HEADS FFN VOCAB CONTEXT [OPTION...]\n"
	"FORMAT: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4, Q2_K to Q6_K\n"
	"  separate         output.weight of its own (default: token_embd is used for both)\n"
	"  embd=FORMAT      format of token_embd and output (default: FORMAT)\n"
	"  mixed=FORMAT     format of attn_v and ffn_down (default: FORMAT)\n"
	"  seed=N           of the random weights (default: 1)\n"
	"  rope-dims=N      rotated channels of a head (default: all)\n"
	"  rope-scale=N     linear scaling of positions\n"
	"  rope-factors     a rope_freqs.weight tensor\n";

static int parse_format(const char *name, enum format *ret)
{
	for (uint32_t i = 0; i < 64; i++) {
		const struct format_info *f = format_get(i);
		if (f && !strcasecmp(f->name, name)) {
			*ret = f->id;
			return 0;
		}
	}
	fprintf(stderr, "mkmodel: unknown format %s\n", name);
	return -1;
}

static int parse_number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (!*s || *end || v > UINT32_MAX) {
		fprintf(stderr, "mkmodel: no number: %s\n", s);
		return -1;
	}
	*ret = (uint32_t)v;
	return 0;
}

static int parse_option(const char *s, struct tiny_params *p)
{
	uint32_t number;

	if (!strcmp(s, "separate")) {
		p->separate_output = true;
		return 0;
	}
	if (!strncmp(s, "embd=", 5))
		return parse_format(s + 5, &p->embd_format);
	if (!strncmp(s, "mixed=", 6)) {
		p->mixed = true;
		return parse_format(s + 6, &p->mixed_format);
	}
	if (!strcmp(s, "rope-factors")) {
		p->rope_factors = true;
		return 0;
	}
	if (!strncmp(s, "rope-dims=", 10))
		return parse_number(s + 10, &p->rope_dims);
	if (!strncmp(s, "rope-scale=", 11) && parse_number(s + 11, &number) == 0) {
		p->rope_scale = (float)number;
		return 0;
	}
	if (!strncmp(s, "seed=", 5) && parse_number(s + 5, &number) == 0) {
		p->seed = number;
		return 0;
	}
	fprintf(stderr, "mkmodel: unknown option %s\n", s);
	return -1;
}

int main(int argc, char **argv)
{
	struct tiny_params p = {.seed = 1};
	uint32_t *const numbers[] = {&p.layers, &p.embd,  &p.heads,  &p.kv_heads,
				     &p.ffn,    &p.vocab, &p.context};

	if (argc < 10) {
		fputs(usage, stderr);
		return 2;
	}
	if (parse_format(argv[2], &p.format) < 0)
		return 2;
	p.embd_format = p.format;
	for (int i = 0; i < 7; i++) {
		if (parse_number(argv[3 + i], numbers[i]) < 0)
			return 2;
	}
	for (int i = 10; i < argc; i++) {
		if (parse_option(argv[i], &p) < 0)
			return 2;
	}
	int r = tiny_model_write(argv[1], &p);
	if (r < 0) {
		fprintf(stderr, "mkmodel: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	return 0;
}
