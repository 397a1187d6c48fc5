/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: any bytes as a request. The first byte chooses: the body of a completion, of a
 * chat completion, or a head for the gate (lines of method, target, version and fields). Seeds: the
 * bodies in tests/api. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/json.h"
#include "api/openai.h"
#include "tests/lib/tinygguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct served *served(void)
{
	static struct served s;
	static struct model m;
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd;

	if (s.m.model)
		return &s;
	if (tiny_model(&t, &p) < 0 || tg_memfd(t.data, t.n, &fd, path) < 0 ||
	    model_open_vocab(&m, path, &err) < 0)
		abort();
	tg_done(&t);
	close(fd);
	s.m.model = &m;
	s.context_tok = 256;
	s.token_bytes_max = 16;
	memcpy(s.id, "tiny", 5);
	return &s;
}

/* What was accepted keeps its promises. */
static void check_request(const struct gen_request *r)
{
	uint32_t n_vocab = tokenizer_n_vocab(served()->m.model->tokenizer);

	if (!r->n_prompts || r->n < 1 || r->n > N_MAX || r->n_prompts * r->n > CHOICES_MAX ||
	    r->top > TOP_MAX || r->n_stop > REQUEST_STOP_MAX)
		abort();
	if (!(r->sampling.temperature >= 0 && r->sampling.temperature <= 2) ||
	    !(r->sampling.top_p > 0 && r->sampling.top_p <= 1))
		abort();
	for (uint32_t i = 0; i < r->sampling.n_bias; i++)
		if (r->bias[i].token >= n_vocab)
			abort();
	for (uint32_t i = 0; i < r->n_prompts; i++) {
		if (!r->prompts[i].tokens.n)
			abort();
		for (size_t k = 0; k < r->prompts[i].tokens.n; k++)
			if (r->prompts[i].tokens.ids[k] >= n_vocab)
				abort();
	}
}

static void fuzz_body(const char *text, size_t len, bool chat)
{
	struct call c = {.served = served()};
	struct gen_request r = {0};
	struct api_error e = {0};
	struct json *doc = NULL;
	int got;

	if (json_parse(text, len, &doc, &e) < 0) {
		if (e.status != 400)
			abort();
		return;
	}
	if (json_is_object(doc)) {
		got = call_check_model(&c, doc, &e);
		if (!got)
			got = chat ? openai_read_chat(&c, doc, &r, &e)
				   : openai_read_completion(&c, doc, &r, &e);
		if (!got)
			check_request(&r);
		else if (e.status != 400 && e.status != 404)
			abort();
		gen_request_done(&r);
	}
	json_free(doc);
}

static void fuzz_head(char *text)
{
	struct gate_field fields[GATE_HEADERS_MAX + 1];
	const char *first[3] = {"", "", ""};
	struct gate_policy p = {.body_limit_bytes = 1000};
	struct gate_head h = {.fields = fields};
	struct gate_result r;
	struct api_error e = {0};
	size_t n = 0;

	for (char *save, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), n++) {
		char *value = strchr(line, ':');

		if (n < 3) {
			first[n] = line;
		} else if (value && h.n_fields <= GATE_HEADERS_MAX) {
			*value++ = 0;
			fields[h.n_fields++] = (struct gate_field){line, value};
		}
	}
	h.method = first[0];
	h.target = first[1];
	h.version = first[2];
	if (!gate_check(&p, &h, &r, &e)) {
		if (e.status || r.body_bytes > p.body_limit_bytes)
			abort();
		gate_check_content(&h, r.origin != NULL, &e);
	} else if (e.status < 400 || e.status > 505) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size)
		return 0;
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	if (data[0] % 3 == 2)
		fuzz_head(text);
	else
		fuzz_body(text, size - 1, data[0] % 3 == 1);
	free(text);
	return 0;
}
