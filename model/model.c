/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a model: file and architecture's graph. Tokenizer and chat template are model_text.c's. */
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "model/arch.h"
#include "model/internal.h"

const struct arch model_archs[] = {
	{"llama", arch_llama_build},
	{NULL, NULL},
};

/* --- names --- */

/* Lower case, digits, '.', '_' and single '-'; everything else is a '-'. Empty when nothing is
 * left. */
static void make_id(const char *s, size_t len, char *id, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < room; i++) {
		char c = s[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		bool plain =
			(c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
		if (plain)
			id[n++] = c;
		else if (n && id[n - 1] != '-')
			id[n++] = '-';
	}
	while (n && (id[n - 1] == '-' || id[n - 1] == '.'))
		n--;
	id[n] = '\0';
	/* No name may look like a path or a hidden file. */
	if (id[0] == '.')
		id[0] = '_';
}

/* Length of `s` without a last part that names a weight format, as files are called by custom:
 * "name.Q4_1", "name-Q4_K_M", "name-f16". */
static size_t without_format(const char *s, size_t len)
{
	size_t at = len;

	while (at && s[at - 1] != '.' && s[at - 1] != '-')
		at--;
	if (at < 2)
		return len;
	const char *tag = s + at;
	const size_t n = len - at;
	static const char *const floats[] = {"f16", "f32", "bf16", "mxfp4"};
	for (size_t i = 0; i < sizeof(floats) / sizeof(*floats); i++)
		if (n == strlen(floats[i]) && !strncasecmp(tag, floats[i], n))
			return at - 1;
	if (n >= 4 && (tag[0] == 'I' || tag[0] == 'i'))
		tag++;
	bool quant = n >= 4 && (tag[0] == 'Q' || tag[0] == 'q') && tag[1] >= '1' && tag[1] <= '8' && tag[2] == '_';
	return quant ? at - 1 : len;
}

static void id_of_file(const char *path, char *id, size_t room)
{
	const char *base = strrchr(path, '/');
	size_t len;

	base = base ? base + 1 : path;
	len = strlen(base);
	if (len > 5 && !strcmp(base + len - 5, ".gguf"))
		len -= 5;
	make_id(base, without_format(base, len), id, room);
}

/* The file's name is what its user sees and chose; names inside files are often those of a training
 * run. */
static int read_id(struct model *m, struct err *reterr)
{
	struct gguf_str name;
	int r;

	id_of_file(m->file.path, m->id, sizeof(m->id));
	if (!m->id[0] && gguf_find(&m->file, "general.name")) {
		if ((r = gguf_get_str(&m->file, "general.name", &name, reterr)) < 0)
			return r;
		make_id(name.s, name.len, m->id, sizeof(m->id));
	}
	if (!m->id[0])
		snprintf(m->id, sizeof(m->id), "model");
	return 0;
}

/* --- architecture --- */

static int unknown_arch(const struct model *m, struct gguf_str name, struct err *reterr)
{
	char known[200] = "";
	size_t n = 0;

	for (const struct arch *a = model_archs; a->name && n < sizeof(known) - 1; a++)
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", a->name);
	return err_set(reterr, -ENOTSUP, "%s: architecture '%.*s' is not supported (supported: %s)",
		       m->file.path, (int)(name.len < 60 ? name.len : 60), name.s, known);
}

static int read_arch(struct model *m, const struct arch **ret, struct err *reterr)
{
	struct gguf_str name;
	int r = gguf_get_str(&m->file, "general.architecture", &name, reterr);

	if (r < 0)
		return r;
	for (const struct arch *a = model_archs; a->name; a++) {
		if (strlen(a->name) == name.len && !memcmp(a->name, name.s, name.len)) {
			snprintf(m->architecture, sizeof(m->architecture), "%s", a->name);
			*ret = a;
			return 0;
		}
	}
	return unknown_arch(m, name, reterr);
}

static uint64_t count_params(const struct gguf *g)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < g->n_tensors; i++) {
		uint64_t n = 1;
		/* Sizes of supported formats are bounded by the file; others may saturate. */
		for (uint32_t d = 0; d < 4; d++) {
			if (__builtin_mul_overflow(n, g->tensors[i].dims[d], &n))
				n = UINT64_MAX;
		}
		if (__builtin_add_overflow(sum, n, &sum))
			sum = UINT64_MAX;
	}
	return sum;
}

int model_open_file(struct model *m, const char *path, struct err *reterr)
{
	int r;

	memset(m, 0, sizeof(*m));
	graph_init(&m->graph);
	if ((r = gguf_open(&m->file, path, reterr)) < 0)
		return r;
	m->file_bytes = m->file.file.bytes;
	m->n_params = count_params(&m->file);
	return read_id(m, reterr);
}

static int read_graph(struct model *m, struct err *reterr)
{
	const struct arch *arch = NULL;
	int r = read_arch(m, &arch, reterr);

	return r < 0 ? r : arch->build(&m->file, &m->graph, reterr);
}

/* A missing key is a bad file: only a missing file is -ENOENT. */
int model_finish(struct model *m, int r, struct err *reterr)
{
	if (r == -ENOENT && m->file.file.data) {
		r = -EBADMSG;
		if (reterr)
			reterr->code = r;
	}
	if (r < 0)
		model_close(m);
	return r;
}

int model_open_graph(struct model *m, const char *path, struct err *reterr)
{
	int r = model_open_file(m, path, reterr);

	return model_finish(m, r < 0 ? r : read_graph(m, reterr), reterr);
}

void model_close(struct model *m)
{
	if (!m)
		return;
	if (m->text_done)
		m->text_done(m);
	graph_done(&m->graph);
	gguf_close(&m->file);
	memset(m, 0, sizeof(*m));
}
