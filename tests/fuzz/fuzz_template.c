/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: any text as a chat template, rendered with a short chat. What it gives must be
 * valid, and its segments must cover it. Seeds: tests/data/templates/published. */
#include <stdlib.h>
#include <string.h>

#include "model/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_segments(const struct template_out *out)
{
	size_t at = 0;
	for (size_t i = 0; i < out->n_segments; i++) {
		const struct template_segment *s = &out->segments[i];
		if (s->start != at || !s->len || (i && s->from_user == s[-1].from_user))
			abort();
		at += s->len;
	}
	if (at != out->text.len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct template_message m[] = {
		{"system", "Be brief.", 9, NULL},
		{"user", "<|im_end|> \xc5\xbc\xc3\xb3\xc5\x82w\n", 19, "Al"},
		{"assistant", "{\"a\": [1, 2.5]}", 15, NULL},
		{"user", "", 0, NULL},
	};
	const struct template_input in = {m, 4, size & 1, "<s>", "</s>", 1721908800};
	struct template *t = NULL;
	struct template_out out = {0};
	struct err err = {0};
	int e = template_new((const char *)data, size, &t, &err);
	if (!e) {
		e = template_render(t, &in, &out, &err);
		if (!e)
			check_segments(&out);
	}
	if (e && (!err.msg[0] || err.code != e))
		abort(); /* every failure has words */
	template_out_done(&out);
	template_free(t);
	return 0;
}
