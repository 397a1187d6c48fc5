/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a model with what makes text of tokens: tokenizer and chat template, checked against the graph. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"

/* Tokenizer and template know no file: it is named here where they have not said it. */
static int name_file(const struct model *m, int r, struct err *reterr)
{
	if (r < 0 && reterr && strncmp(reterr->msg, m->file.path, strlen(m->file.path)) != 0)
		err_prefix(reterr, "%s", m->file.path);
	return r;
}

/* The spelling of a token; "" for none. */
static char *token_text(const struct tokenizer *t, uint32_t id)
{
	struct strbuf sb = {0};

	if (id != UINT32_MAX && tokenizer_bytes(t, id, true, &sb) < 0) {
		sb_done(&sb);
		return NULL;
	}
	return sb_take(&sb, NULL);
}

/* The chat template, when there is one; why it can't be used goes to m->chat_error. */
static int read_template(struct model *m)
{
	static const char key[] = "tokenizer.chat_template";
	struct gguf_str text;
	int r;

	if (!gguf_find(&m->file, key))
		return 0;
	r = gguf_get_str(&m->file, key, &text, &m->chat_error);
	if (r < 0)
		return r;
	r = template_new(text.s, text.len, &m->chat, &m->chat_error);
	if (r < 0) {
		m->chat = NULL;
		err_prefix(&m->chat_error, "key '%s'", key);
		name_file(m, r, &m->chat_error);
	}
	return r;
}

static void text_done(struct model *m)
{
	template_free(m->chat);
	tokenizer_free(m->tokenizer);
	free(m->bos_text);
	free(m->eos_text);
}

static int read_text(struct model *m, struct err *reterr)
{
	int r;

	m->text_done = text_done;
	r = tokenizer_new(&m->file, &m->tokenizer, reterr);
	if (r < 0) {
		m->tokenizer = NULL;
		return name_file(m, r, reterr);
	}
	m->bos_text = token_text(m->tokenizer, tokenizer_bos(m->tokenizer));
	m->eos_text = token_text(m->tokenizer, tokenizer_eos(m->tokenizer));
	if (!m->bos_text || !m->eos_text)
		return err_set(reterr, -ENOMEM, "%s: out of memory", m->file.path);
	r = read_template(m);
	return r == -ENOMEM ? err_set(reterr, r, "%s", m->chat_error.msg) : 0;
}

/* The tokenizer and template of a model whose graph is there. */
static int add_text(struct model *m, struct err *reterr)
{
	int r = read_text(m, reterr);

	if (r < 0)
		return r;
	if (m->chat_error.code)
		return err_set(reterr, m->chat_error.code, "%s", m->chat_error.msg);
	if (tokenizer_n_vocab(m->tokenizer) != m->graph.n_vocab)
		return err_set(reterr, -EBADMSG,
			       "%s: tensor 'token_embd.weight' has %u rows, but key "
			       "'tokenizer.ggml.tokens' %u tokens",
			       m->file.path, m->graph.n_vocab, tokenizer_n_vocab(m->tokenizer));
	return 0;
}

int model_open(struct model *m, const char *path, struct err *reterr)
{
	int r = model_open_graph(m, path, reterr);

	return r < 0 ? r : model_finish(m, add_text(m, reterr), reterr);
}

int model_open_vocab(struct model *m, const char *path, struct err *reterr)
{
	int r = model_open_file(m, path, reterr);

	return model_finish(m, r < 0 ? r : read_text(m, reterr), reterr);
}
