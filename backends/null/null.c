/* SPDX-License-Identifier: Apache-2.0 */
/* A device that counts and checks and runs nothing. Objects are known by their address in a map,
 * so that a freed or foreign one is found without touching it. */
#include "backends/null/null.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "base/checked.h"
#include "base/map.h"

#define TEXEL_BYTES 16
#define NULL_MEMORY_BYTES ((size_t)1 << 40)
#define BINARY_MAGIC "DRFTNUL1"
#define MAGIC_BYTES 8

enum object { OBJECT_MEM = 1, OBJECT_PROG = 2 };

struct be_mem {
	struct be_mem *prev, *next;
	size_t bytes;
	enum be_mem_kind kind;
	bool image;
};

struct be_prog {
	struct be_prog *prev, *next;
	char *text;
	struct strmap entries; /* names found in the text */
};

struct be_dev {
	struct be_info info;
	struct be_stats stats;
	struct null_report report;
	struct be_mem *mems;
	struct be_prog *progs;
	struct u64map live; /* address -> enum object */
	uint64_t total_bytes, last_mark;
	struct fault {
		uint64_t skip;
		int code;
	} faults[NULL_OPS];
};

static void fill_info(struct be_info *ret)
{
	*ret = (struct be_info){
		.backend = "null",
		.name = "counts and checks, runs nothing",
		.vendor = "driftd",
		.driver = "null 1",
		.type = BE_OTHER,
		.dialect = BE_DIALECT_OPENCL, /* so that programs are generated as for a real one */
		.dot = BE_DOT_PORTABLE,
		.compute_units = 4,
		.group_max = 1024,
		.local_bytes = 32768,
		.memory_bytes = NULL_MEMORY_BYTES,
		.buffer_max_bytes = NULL_MEMORY_BYTES,
		.align_bytes = 256,
		.images = true,
		.image_w_max = 16384,
		.image_h_max = 16384,
	};
}

static int null_probe(struct be_info *ret, size_t cap)
{
	if (cap == 0)
		return 0;
	fill_info(ret);
	return 1;
}

static int null_open(const struct be_info *info, struct be_dev **ret, struct err *reterr)
{
	struct be_dev *dev;

	if (info->index != 0)
		return err_set(reterr, -ENODEV, "null:%u: there is one null device", info->index);
	dev = calloc(1, sizeof(*dev));
	if (!dev || u64map_init(&dev->live, 64)) {
		free(dev);
		return err_set(reterr, -ENOMEM, "null: out of memory");
	}
	/* As given, so that a test can try other limits. */
	dev->info = *info;
	*ret = dev;
	return 0;
}

static bool is_live(const struct be_dev *dev, const void *p, enum object what)
{
	uint64_t v;

	return p && u64map_get(&dev->live, (uint64_t)(uintptr_t)p, &v) && v == what;
}

/* An armed fault that is due: its code, else 0. */
static int take_fault(struct be_dev *dev, enum null_op op, struct err *reterr)
{
	struct fault *f = &dev->faults[op];
	int code = f->code;

	if (code == 0)
		return 0;
	if (f->skip > 0) {
		f->skip--;
		return 0;
	}
	f->code = 0;
	return err_set(reterr, code, "null: a fault that a test asked for");
}

#define violation(dev, reterr, ...) \
	((dev)->report.violations++, err_set(reterr, -EINVAL, "null: " __VA_ARGS__))

static int mem_new(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, bool image,
		   struct be_mem **ret, struct err *reterr)
{
	struct be_mem *m;

	if (bytes > dev->info.buffer_max_bytes || dev->total_bytes + bytes > dev->info.memory_bytes)
		return err_set(reterr, -ENOMEM,
			       "null: %zu bytes can't be allocated, %" PRIu64 " of %zu are in use",
			       bytes, dev->total_bytes, dev->info.memory_bytes);
	m = calloc(1, sizeof(*m));
	if (!m || u64map_put(&dev->live, (uint64_t)(uintptr_t)m, OBJECT_MEM)) {
		free(m);
		return err_set(reterr, -ENOMEM, "null: out of host memory");
	}
	m->bytes = bytes;
	m->kind = kind;
	m->image = image;
	m->next = dev->mems;
	if (dev->mems)
		dev->mems->prev = m;
	dev->mems = m;
	dev->stats.bytes[kind] += bytes;
	dev->stats.allocs++;
	dev->report.live_mems++;
	dev->total_bytes += bytes;
	if (dev->total_bytes > dev->report.peak_bytes)
		dev->report.peak_bytes = dev->total_bytes;
	*ret = m;
	return 0;
}

static int null_buffer(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret,
		       struct err *reterr)
{
	int r = take_fault(dev, NULL_BUFFER, reterr);

	if (r)
		return r;
	if (bytes == 0 || kind >= BE_MEM_KINDS)
		return violation(dev, reterr, "a buffer of %zu bytes, kind %d", bytes, (int)kind);
	return mem_new(dev, bytes, kind, false, ret, reterr);
}

static int null_image(struct be_dev *dev, size_t w, size_t h, enum be_texel texel,
		      enum be_mem_kind kind, struct be_mem **ret, struct err *reterr)
{
	size_t bytes = 0;
	int r = take_fault(dev, NULL_IMAGE, reterr);

	if (r)
		return r;
	if (w == 0 || h == 0 || kind >= BE_MEM_KINDS || texel > BE_TEXEL_INT4 ||
	    w > dev->info.image_w_max || h > dev->info.image_h_max || !ck_mul(w, h, &bytes) ||
	    !ck_mul(bytes, TEXEL_BYTES, &bytes))
		return violation(dev, reterr, "an image of %zu x %zu texels", w, h);
	return mem_new(dev, bytes, kind, true, ret, reterr);
}

static void mem_unlink(struct be_dev *dev, struct be_mem *m)
{
	u64map_del(&dev->live, (uint64_t)(uintptr_t)m);
	if (m->prev)
		m->prev->next = m->next;
	else
		dev->mems = m->next;
	if (m->next)
		m->next->prev = m->prev;
	dev->stats.bytes[m->kind] -= m->bytes;
	dev->total_bytes -= m->bytes;
	dev->report.live_mems--;
	free(m);
}

static void null_mem_free(struct be_dev *dev, struct be_mem *mem)
{
	if (!mem)
		return;
	if (is_live(dev, mem, OBJECT_MEM))
		mem_unlink(dev, mem);
	else
		dev->report.violations++;
}

static int check_copy(struct be_dev *dev, const struct be_mem *mem, size_t offset, const void *host,
		      size_t bytes, const char *what, struct err *reterr)
{
	if (!is_live(dev, mem, OBJECT_MEM))
		return violation(dev, reterr, "%s with a buffer that is not there", what);
	if (mem->image || !host)
		return violation(dev, reterr, "%s needs a buffer and host memory", what);
	if (offset > mem->bytes || bytes > mem->bytes - offset)
		return violation(dev, reterr, "%s of %zu bytes at %zu, the buffer has %zu", what,
				 bytes, offset, mem->bytes);
	return 0;
}

static int null_write(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src,
		      size_t bytes, struct err *reterr)
{
	int r = take_fault(dev, NULL_WRITE, reterr);

	if (!r)
		r = check_copy(dev, dst, offset, src, bytes, "write", reterr);
	if (!r && bytes)
		dev->stats.writes++;
	return r;
}

static int null_read(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		     struct err *reterr)
{
	int r = take_fault(dev, NULL_READ, reterr);

	if (!r)
		r = check_copy(dev, src, offset, dst, bytes, "read", reterr);
	if (!r && bytes) {
		memset(dst, 0, bytes);
		dev->stats.reads++;
	}
	return r;
}

/* The text of a program, from a source of either form; malloc'd. */
static int source_text(struct be_dev *dev, const struct be_source *src, char **ret,
		       struct err *reterr)
{
	const char *binary = src->binary;
	char *text;

	if (!src->name || !src->options || (!src->text && !binary))
		return violation(dev, reterr, "a program without name, options or text");
	if (binary &&
	    (src->binary_bytes <= MAGIC_BYTES || memcmp(binary, BINARY_MAGIC, MAGIC_BYTES) != 0 ||
	     binary[src->binary_bytes - 1] != '\0'))
		return err_set(reterr, -ESTALE, "null: program '%s': not our binary", src->name);
	text = strdup(binary ? binary + MAGIC_BYTES : src->text);
	if (!text)
		return err_set(reterr, -ENOMEM, "null: out of host memory");
	*ret = text;
	return 0;
}

static int null_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret,
		      struct err *reterr)
{
	struct be_prog *prog;
	char *text = NULL;
	int r = take_fault(dev, NULL_BUILD, reterr);

	if (!r)
		r = source_text(dev, src, &text, reterr);
	if (r)
		return r;
	prog = calloc(1, sizeof(*prog));
	if (!prog || strmap_init(&prog->entries, 16) ||
	    u64map_put(&dev->live, (uint64_t)(uintptr_t)prog, OBJECT_PROG)) {
		if (prog)
			strmap_done(&prog->entries);
		free(prog);
		free(text);
		return err_set(reterr, -ENOMEM, "null: out of host memory");
	}
	prog->text = text;
	prog->next = dev->progs;
	if (dev->progs)
		dev->progs->prev = prog;
	dev->progs = prog;
	if (src->binary)
		dev->stats.builds_binary++;
	else
		dev->stats.builds_source++;
	dev->report.live_progs++;
	*ret = prog;
	return 0;
}

static int null_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes)
{
	size_t n;
	char *out;

	if (!is_live(dev, prog, OBJECT_PROG)) {
		dev->report.violations++;
		return -EINVAL;
	}
	n = strlen(prog->text) + 1;
	out = malloc(MAGIC_BYTES + n);
	if (!out)
		return -ENOMEM;
	memcpy(out, BINARY_MAGIC, MAGIC_BYTES);
	memcpy(out + MAGIC_BYTES, prog->text, n);
	*ret = out;
	*ret_bytes = MAGIC_BYTES + n;
	return 0;
}

static void prog_unlink(struct be_dev *dev, struct be_prog *p)
{
	u64map_del(&dev->live, (uint64_t)(uintptr_t)p);
	if (p->prev)
		p->prev->next = p->next;
	else
		dev->progs = p->next;
	if (p->next)
		p->next->prev = p->prev;
	dev->report.live_progs--;
	strmap_done(&p->entries);
	free(p->text);
	free(p);
}

static void null_prog_free(struct be_dev *dev, struct be_prog *prog)
{
	if (!prog)
		return;
	if (is_live(dev, prog, OBJECT_PROG))
		prog_unlink(dev, prog);
	else
		dev->report.violations++;
}

static bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* A kernel's name must be a word of the text. Found ones are kept, under the text's own bytes. */
static bool has_entry(struct be_prog *prog, const char *entry)
{
	size_t n = strlen(entry);
	uint32_t v;

	if (n == 0)
		return false;
	if (strmap_get(&prog->entries, entry, n, &v))
		return true;
	for (const char *s = prog->text; (s = strstr(s, entry)); s++) {
		if ((s > prog->text && is_word_char(s[-1])) || is_word_char(s[n]))
			continue;
		return strmap_put(&prog->entries, s, n, 1) == 0;
	}
	return false;
}

static int check_arg(struct be_dev *dev, const struct be_launch *l, uint32_t i, size_t *bytes,
		     struct err *reterr)
{
	const struct be_arg *a = &l->args[i];

	if (a->type == BE_ARG_VALUE) {
		if (a->bytes < 1 || a->bytes > 8)
			return violation(dev, reterr, "kernel '%s': argument %u has %u bytes",
					 l->entry, i, a->bytes);
		*bytes += a->bytes;
		return 0;
	}
	if (!is_live(dev, a->mem, OBJECT_MEM))
		return violation(dev, reterr, "kernel '%s': argument %u is freed memory or none",
				 l->entry, i);
	if (a->mem->image != (a->type == BE_ARG_IMAGE))
		return violation(dev, reterr,
				 "kernel '%s': argument %u: buffer and image are mixed up",
				 l->entry, i);
	if (a->type == BE_ARG_BUFFER && a->offset >= a->mem->bytes)
		return violation(dev, reterr,
				 "kernel '%s': argument %u: offset %" PRIu64
				 " is past the buffer's %zu bytes",
				 l->entry, i, a->offset, a->mem->bytes);
	*bytes += a->type == BE_ARG_BUFFER ? 16 : 8;
	return 0;
}

static int null_launch(struct be_dev *dev, const struct be_launch *l, struct err *reterr)
{
	size_t bytes = 0;
	int r = take_fault(dev, NULL_LAUNCH, reterr);

	if (r)
		return r;
	if (!is_live(dev, l->prog, OBJECT_PROG) || !l->entry)
		return violation(dev, reterr, "launch of a program that is not there");
	if (!has_entry(l->prog, l->entry))
		return violation(dev, reterr, "the program has no kernel '%s'", l->entry);
	if (l->grid[0] == 0 || l->grid[1] == 0 || l->group == 0 || l->group > dev->info.group_max)
		return violation(dev, reterr, "kernel '%s': grid %u x %u of groups of %u", l->entry,
				 l->grid[0], l->grid[1], l->group);
	if (l->n_args > BE_ARG_MAX || (l->n_args && !l->args))
		return violation(dev, reterr, "kernel '%s': %u arguments", l->entry, l->n_args);
	for (uint32_t i = 0; i < l->n_args && !r; i++)
		r = check_arg(dev, l, i, &bytes, reterr);
	if (r)
		return r;
	if (bytes > BE_ARG_BYTES_MAX)
		return violation(dev, reterr, "kernel '%s': %zu bytes of arguments", l->entry,
				 bytes);
	dev->stats.launches++;
	return 0;
}

static int null_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr)
{
	(void)reterr;
	*ret_mark = ++dev->last_mark;
	return 0;
}

static int null_wait(struct be_dev *dev, uint64_t mark, struct err *reterr)
{
	int r = take_fault(dev, NULL_WAIT, reterr);

	if (r)
		return r;
	if (mark == 0 || mark > dev->last_mark)
		return violation(dev, reterr, "mark %" PRIu64 " was never set", mark);
	return 0;
}

static void null_stats(struct be_dev *dev, struct be_stats *ret)
{
	*ret = dev->stats;
}

static void null_close(struct be_dev *dev)
{
	if (!dev)
		return;
	while (dev->mems)
		mem_unlink(dev, dev->mems);
	while (dev->progs)
		prog_unlink(dev, dev->progs);
	u64map_done(&dev->live);
	free(dev);
}

void null_fault(struct be_dev *dev, enum null_op op, uint64_t skip, int code)
{
	dev->faults[op] = (struct fault){skip, code};
}

void null_get_report(const struct be_dev *dev, struct null_report *ret)
{
	*ret = dev->report;
}

const struct be_ops be_null = {
	.name = "null",
	.abi = BE_ABI,
	.probe = null_probe,
	.open = null_open,
	.close = null_close,
	.buffer = null_buffer,
	.image = null_image,
	.mem_free = null_mem_free,
	.write = null_write,
	.read = null_read,
	.build = null_build,
	.binary = null_binary,
	.prog_free = null_prog_free,
	.launch = null_launch,
	.mark = null_mark,
	.wait = null_wait,
	.stats = null_stats,
};
