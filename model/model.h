/* SPDX-License-Identifier: Apache-2.0 */
/* A model: a GGUF file with its graph, tokenizer and chat template. Read-only after model_open. */
#pragma once

#include "base/err.h"
#include "core/graph.h"
#include "model/gguf.h"
#include "model/template.h"
#include "model/tokenizer.h"

struct model {
	struct gguf file;
	char id[65];            /* [a-z0-9._-]: from the file's name, else general.name */
	char architecture[32];
	uint64_t n_params, file_bytes;
	struct graph graph;
	struct tokenizer *tokenizer;
	struct template *chat;  /* NULL: the file has none */
	struct err chat_error;  /* why `chat` is NULL although the file has one */
	char *bos_text, *eos_text;
	void (*text_done)(struct model *m); /* frees tokenizer, template and texts; NULL: there are none */
};

/* Opens, checks and builds everything; nothing is read that is not needed (weights stay in the
 * file). A chat template that can't be parsed is an error. 0 or -errno. */
int model_open(struct model *m, const char *path, struct err *reterr);
/* Only the file, tokenizer and chat template (`driftctl tokenize`, vocabulary-only files). */
int model_open_vocab(struct model *m, const char *path, struct err *reterr);
/* Only the file and the graph (`driftctl plan` and `bench`): links neither tokenizers nor templates. */
int model_open_graph(struct model *m, const char *path, struct err *reterr);
void model_close(struct model *m); /* zeroed is fine */

/* Architectures known to this build, for errors: "llama". One row in model/model.c each. */
struct arch {
	const char *name;
	/* Reads hyperparameters and weights and builds the unfused graph. */
	int (*build)(const struct gguf *g, struct graph *ret, struct err *reterr);
};
extern const struct arch model_archs[]; /* ends with a NULL name */
