/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: any bytes as a model file. What opens is read, opened as a model and, when it
 * is small enough to be quick, run for two tokens. Seeds: tests/mkmodel's files. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/reference/reference.h"
#include "model/model.h"
#include "tests/lib/tinygguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_model(const struct graph *graph)
{
	uint32_t token[2] = {0, graph->n_vocab - 1}, pos[2] = {0, 1}, table[2] = {0}, page = 0,
		 out = 1;
	float *rope = calloc(graph->rope.dims, 2 * sizeof(float));
	struct step_rows s = {.n_rows = 2,
			      .token = token,
			      .pos = pos,
			      .slot = pos,
			      .table = table,
			      .tables = &page,
			      .n_tables = 1,
			      .table_stride = 1,
			      .n_out = 1,
			      .out_row = &out,
			      .rope = rope};
	struct reference *r = NULL;
	struct err err = {0};

	if (rope && reference_new(graph, KV_PAGE_TOK, 2, &r, &err) == 0 &&
	    reference_run(r, &s, &err) < 0)
		abort(); /* a sound graph and a sound step must run */
	reference_free(r);
	free(rope);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model m;
	struct err err = {0};
	char path[32];
	int fd;

	if (!size || tg_memfd(data, size, &fd, path) < 0)
		return 0;
	int r = model_open(&m, path, &err);
	if (r == 0) {
		run_model(&m.graph);
		model_close(&m);
	} else if (err.code != r || !err.msg[0]) {
		abort(); /* every refusal says why */
	}
	if (model_open_vocab(&m, path, NULL) == 0)
		model_close(&m);
	close(fd);
	return 0;
}
