/* SPDX-License-Identifier: Apache-2.0 */
/* POST /tokenize, /detokenize and /apply-template: what the model sees, for debugging and clients
 * that count. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/openai.h"
#include "base/utf8.h"
#include "model/template.h"

/* {"id":..,"piece":..}: the piece is a string, or an array of bytes when it is not whole UTF-8. */
static void write_piece(const struct tokenizer *t, uint32_t id, struct jw *w)
{
	struct strbuf sb = {0};

	jw_obj(w);
	jw_kint(w, "id", id);
	jw_key(w, "piece");
	if (tokenizer_bytes(t, id, true, &sb) < 0 || sb.failed)
		w->sb->failed = true;
	if (utf8_valid(sb_text(&sb), sb.len)) {
		jw_strn(w, sb_text(&sb), sb.len);
	} else {
		jw_arr(w);
		for (size_t i = 0; i < sb.len; i++)
			jw_uint(w, (unsigned char)sb.data[i]);
		jw_arr_end(w);
	}
	jw_obj_end(w);
	sb_done(&sb);
}

static void reply_tokens(struct call *c, const struct token_list *t, bool pieces)
{
	const struct tokenizer *tk = c->served->m.model->tokenizer;
	struct strbuf sb = {0};
	struct jw w;

	jw_init(&w, &sb);
	jw_obj(&w);
	jw_key(&w, "tokens");
	jw_arr(&w);
	for (size_t i = 0; i < t->n; i++) {
		if (pieces)
			write_piece(tk, t->ids[i], &w);
		else
			jw_uint(&w, t->ids[i]);
	}
	jw_arr_end(&w);
	jw_obj_end(&w);
	call_reply(c, 200, &sb);
}

void route_tokenize(struct call *c, const struct json *body)
{
	const struct tokenizer *tk = c->served->m.model->tokenizer;
	struct token_list t = {0};
	struct api_error e = {0};
	struct err err = {0};
	const char *text = NULL;
	bool add_special = false, parse_special = false, pieces = false;
	int r;

	if (json_opt_text(body, "content", &text, &e) < 0 ||
	    json_opt_bool(body, "add_special", &add_special, &e) < 0 ||
	    json_opt_bool(body, "parse_special", &parse_special, &e) < 0 ||
	    json_opt_bool(body, "with_pieces", &pieces, &e) < 0)
		goto out;
	if (!text) {
		api_error_set(&e, 400, "missing_required_parameter", "content",
			      "content is required");
		goto out;
	}
	/* Counting is what this is for, so the context is no limit; the body's size is one. */
	r = tokenizer_encode(tk, text, strlen(text), parse_special, SIZE_MAX / 16, &t, &err);
	if (r == -ENOMEM)
		api_error_set(&e, 503, "out_of_memory", NULL, "out of memory");
	else if (r < 0)
		api_error_set(&e, 400, "invalid_value", "content", "%s", err.msg);
	else if (add_special && (t.n || tokenizer_add_bos(tk)))
		openai_finish_prompt(c, "content", &t, &e);
out:
	if (e.status)
		call_error(c, &e);
	else
		reply_tokens(c, &t, pieces);
	free(t.ids);
}

static int add_token(const struct tokenizer *tk, const struct json *v, struct strbuf *out,
		     struct api_error *e)
{
	int64_t id;

	if (!json_is_number(v))
		return api_error_set(e, 400, "invalid_type", "tokens",
				     "tokens must be an array of token ids; it has %s in it",
				     json_kind(v));
	if (!json_int64(v, &id) || id < 0 || id >= (int64_t)tokenizer_n_vocab(tk))
		return api_error_set(e, 400, "invalid_value", "tokens",
				     "tokens: %.17g is no token id between 0 and %" PRIu32,
				     json_double(v), tokenizer_n_vocab(tk) - 1);
	tokenizer_bytes(tk, (uint32_t)id, true, out);
	return 0;
}

void route_detokenize(struct call *c, const struct json *body)
{
	const struct tokenizer *tk = c->served->m.model->tokenizer;
	const struct json *list = json_get(body, "tokens"), *v;
	struct strbuf text = {0}, sb = {0};
	struct api_error e = {0};
	struct jw w;
	size_t n = 0;
	int64_t id = 0;

	if (!list)
		api_error_set(&e, 400, "missing_required_parameter", "tokens",
			      "tokens is required");
	else if (!json_is_array(list))
		api_error_set(&e, 400, "invalid_type", "tokens",
			      "tokens must be an array of token ids, not %s", json_kind(list));
	for (v = json_first(list); v && !e.status; v = json_next(v), n++)
		add_token(tk, v, &text, &e);
	if (!e.status && n == 1 && !utf8_valid(sb_text(&text), text.len)) {
		/* A part of a character: told so that it can be told from others. */
		json_int64(json_first(list), &id);
		sb_reset(&text);
		tokenizer_spell(tk, (uint32_t)id, &text);
	}
	if (!e.status && text.failed)
		api_error_set(&e, 503, "out_of_memory", NULL, "out of memory");
	if (e.status) {
		call_error(c, &e);
	} else {
		jw_init(&w, &sb);
		jw_obj(&w);
		jw_key(&w, "content");
		jw_strn(&w, sb_text(&text), text.len);
		jw_obj_end(&w);
		call_reply(c, 200, &sb);
	}
	sb_done(&text);
}

void route_apply_template(struct call *c, const struct json *body)
{
	struct template_out out = {0};
	struct strbuf sb = {0};
	struct api_error e = {0};
	bool add = true;
	struct jw w;

	if (json_opt_bool(body, "add_generation_prompt", &add, &e) < 0 ||
	    openai_check_unsupported(body, true, &e) < 0 ||
	    openai_render_chat(c, body, add, &out, &e) < 0) {
		call_error(c, &e);
	} else {
		jw_init(&w, &sb);
		jw_obj(&w);
		jw_key(&w, "prompt");
		jw_strn(&w, sb_text(&out.text), out.text.len);
		jw_obj_end(&w);
		call_reply(c, 200, &sb);
	}
	template_out_done(&out);
}
