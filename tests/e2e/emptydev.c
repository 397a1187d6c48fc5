/* SPDX-License-Identifier: Apache-2.0 */
/* A program that opens the device and builds a model's kernels and does nothing else: what its
 * memory is, the driver takes and not driftd. For tests/e2e/memory.py.
 *
 *   emptydev MODEL.gguf CACHE_DIR [texture2d]
 *
 * The model is only read for its graph and closed again. Prints "RssAnon BYTES". */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blueprint.h"
#include "core/progcache.h"
#include "model/model.h"

static int plan(const char *path, enum storage_kind storage, struct blueprint *b,
		const struct be_ops **ops, struct err *e)
{
	/* Of the options only the storage changes the kernels, and the context, which is in them as
	 * the length of a page table: that of memory.py. */
	const struct engine_options o = {.context_tok = 2048, .storage = storage};
	struct model m = {0};
	struct be_info info;
	int r = model_open(&m, path, e);
	if (r == 0)
		r = be_find("auto", ops, &info, e);
	if (r == 0)
		r = blueprint_init(b, &m.graph, &o, &info, e);
	model_close(&m);
	return r;
}

static int build(const struct blueprint *b, const struct be_ops *ops, struct be_dev *dev,
		 const char *cache_dir, struct err *e)
{
	struct be_source src = {.name = "kernels",
				.text = sb_text(&b->lowered.gen.text),
				.options = kgen_options(&b->lowered.gen.target)};
	struct progcache cache;
	struct progcache_key key;
	struct be_prog *prog;
	void *binary = NULL;

	(void)progcache_init(&cache, cache_dir, 0, NULL);
	progcache_key_init(&key, b->dev.backend, b->dev.name, b->dev.driver, src.options, src.text);
	if (progcache_load(&cache, &key, &binary, &src.binary_bytes) == 0)
		src.binary = binary;
	fprintf(stderr, "emptydev: kernels from %s\n", binary ? "the cache" : "source");
	int r = ops->build(dev, &src, &prog, e);
	free(binary);
	progcache_done(&cache);
	return r;
}

static int print_memory(void)
{
	char line[200];
	unsigned long kb;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kb) == 1)
			printf("RssAnon %lu\n", kb * 1024);
	if (f)
		(void)fclose(f);
	return f ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct blueprint b;
	const struct be_ops *ops = NULL;
	struct be_dev *dev = NULL;
	struct err e = {0};

	if (argc < 3) {
		fprintf(stderr, "usage: emptydev MODEL.gguf CACHE_DIR [texture2d]\n");
		return 2;
	}
	be_environment(argv[2]);
	int r = plan(argv[1],
		     argc > 3 && strcmp(argv[3], "texture2d") == 0 ? STORAGE_TEXTURE2D
								   : STORAGE_BUFFER,
		     &b, &ops, &e);
	if (r == 0)
		r = ops->open(&b.dev, &dev, &e);
	if (r == 0)
		r = build(&b, ops, dev, argv[2], &e);
	if (r < 0) {
		fprintf(stderr, "emptydev: %s\n", e.msg);
		return 1;
	}
	blueprint_done(&b);
	(void)malloc_trim(0);
	r = print_memory();
	ops->close(dev);
	return r;
}
