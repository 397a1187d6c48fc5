/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl devices: what every backend finds, and why what can't be used can't. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/backend.h"
#include "base/json.h"

#define DEVICES_MAX 64

static const char help[] = "Usage: driftctl devices [OPTION]... [NAME]\n"
				   "Lists the devices of all backends with what is known about "
				   "them, and for those that can't\n"
				   "be used the reason. '*' is the one that --device auto takes. "
				   "Not in the list: 'reference',\n"
				   "which is plain C and there for checks. With NAME only that "
				   "device, which may be one that is\n"
				   "not there but in a table of facts, such as cuda:sm_90.\n\n"
				   "  -j, --json   print JSON\n"
				   "  -h, --help   print this help\n";

static const char *const type_names[] = {[BE_CPU] = "cpu", [BE_GPU] = "gpu", [BE_OTHER] = "other"};
static const char *const dot_names[] = {[BE_DOT_PORTABLE] = "portable",
					[BE_DOT_AVX512_VNNI] = "avx512-vnni",
					[BE_DOT_AVX_VNNI] = "avx-vnni",
					[BE_DOT_KHR] = "khr",
					[BE_DOT_DP4A] = "dp4a"};

static const char *const mma_names[] = {
	[BE_MMA_NONE] = "none", [BE_MMA_PORTABLE] = "portable", [BE_MMA_SM75] = "8x8x16", [BE_MMA_SM80] = "16x8x32"};

#define NAME_BYTES 48

/* What --device takes for it. */
static const char *device_name(const struct be_info *d, char *ret)
{
	if (d->absent)
		snprintf(ret, NAME_BYTES, "%s:%s", d->backend, d->arch);
	else
		snprintf(ret, NAME_BYTES, "%s:%u", d->backend, d->index);
	return ret;
}

/* Facts that only some devices have. */
static void chip_json(struct jw *w, const struct be_info *d)
{
	if (d->sm)
		jw_kint(w, "sm", d->sm);
	if (d->arch[0])
		jw_kstr(w, "arch", d->arch);
	if (d->mma != BE_MMA_NONE)
		jw_kstr(w, "mma", mma_names[d->mma]);
	if (d->clock_mhz)
		jw_kint(w, "clock_mhz", d->clock_mhz);
	if (d->l2_bytes) {
		jw_key(w, "l2_bytes");
		jw_uint(w, d->l2_bytes);
	}
}

static void chip_text(struct strbuf *out, const struct be_info *d)
{
	const char *comma = "";
	char l2[CTL_BYTES_TEXT];

	if (!d->sm && !d->clock_mhz && !d->l2_bytes)
		return;
	sb_str(out, "      chip      ");
	if (d->sm) {
		sb_printf(out, "SM %u.%u", d->sm / 10, d->sm % 10);
		if (d->arch[0])
			sb_printf(out, ", code for %s", d->arch);
		if (d->mma != BE_MMA_NONE)
			sb_printf(out, ", int8 matrices of %s", mma_names[d->mma]);
		comma = ", ";
	}
	if (d->clock_mhz) {
		sb_printf(out, "%s%u MHz", comma, d->clock_mhz);
		comma = ", ";
	}
	if (d->l2_bytes)
		sb_printf(out, "%sL2 %s", comma, ctl_bytes(d->l2_bytes, l2));
	sb_char(out, '\n');
}

static void device_json(struct jw *w, const struct be_info *d, bool is_auto)
{
	char name[NAME_BYTES];
	const struct {
		const char *key;
		uint64_t v;
	} numbers[] = {
		{"compute_units", d->compute_units}, {"group_max", d->group_max},
		{"local_bytes", d->local_bytes},     {"memory_bytes", d->memory_bytes},
		{"free_bytes", d->free_bytes},       {"buffer_max_bytes", d->buffer_max_bytes},
		{"align_bytes", d->align_bytes},     {"image_w_max", d->image_w_max},
		{"image_h_max", d->image_h_max},
	};

	jw_obj(w);
	jw_kstr(w, "device", device_name(d, name));
	jw_kstr(w, "backend", d->backend);
	jw_kint(w, "index", d->index);
	jw_kstr(w, "name", d->name);
	jw_kstr(w, "vendor", d->vendor);
	jw_kstr(w, "driver", d->driver);
	jw_kstr(w, "type", type_names[d->type]);
	jw_kbool(w, "present", !d->absent && d->compute_units > 0);
	jw_kbool(w, "usable", !d->absent && d->why_not[0] == '\0');
	if (d->why_not[0])
		jw_kstr(w, "why_not", d->why_not);
	jw_kbool(w, "auto", is_auto);
	jw_kstr(w, "dot", dot_names[d->dot]);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		jw_key(w, numbers[i].key);
		jw_uint(w, numbers[i].v);
	}
	chip_json(w, d);
	jw_kbool(w, "host_memory", d->host_memory);
	jw_kbool(w, "images", d->images);
	jw_kbool(w, "fp16", d->fp16);
	jw_obj_end(w);
}

static void device_text(struct strbuf *out, const struct be_info *d, bool is_auto)
{
	char a[CTL_BYTES_TEXT], b[CTL_BYTES_TEXT], c[CTL_BYTES_TEXT], l[CTL_BYTES_TEXT];
	char name[NAME_BYTES];

	if (d->compute_units == 0) {
		sb_printf(out, "  %s: %s\n", d->backend, d->why_not);
		return;
	}
	sb_printf(out, "%c %s  %s%s\n", is_auto ? '*' : ' ', device_name(d, name), d->name,
		  d->absent ? " (not there: facts by a table)" : "");
	sb_printf(out, "      driver    %s (%s)\n", d->driver, d->vendor);
	if (d->why_not[0])
		sb_printf(out, "      can't be used: %s\n", d->why_not);
	sb_printf(out, "      compute   %s, %u units, groups up to %u, local memory %s, dot %s%s\n",
		  type_names[d->type], d->compute_units, d->group_max, ctl_bytes(d->local_bytes, l),
		  dot_names[d->dot], d->fp16 ? ", fp16" : "");
	chip_text(out, d);
	sb_printf(out, "      memory    %s%s, free %s, largest buffer %s, offsets by %zu\n",
		  ctl_bytes(d->memory_bytes, a), d->host_memory ? " (the host's)" : "",
		  d->free_bytes ? ctl_bytes(d->free_bytes, b) : "not known",
		  ctl_bytes(d->buffer_max_bytes, c), d->align_bytes);
	if (d->images)
		sb_printf(out, "      images    up to %zu x %zu\n", d->image_w_max, d->image_h_max);
	else
		sb_str(out, "      images    none\n");
}

static int list_devices(bool json)
{
	struct be_info *infos = calloc(DEVICES_MAX, sizeof(*infos));
	struct be_info best = {0};
	const struct be_ops *best_ops = NULL;
	struct err why = {0};
	struct strbuf out = {0};
	struct jw w;

	if (!infos) {
		err_set(&why, -ENOMEM, "out of memory");
		return ctl_fail(&why);
	}
	be_find("auto", &best_ops, &best, &why);
	jw_init(&w, &out);
	if (json)
		jw_arr(&w);
	for (size_t b = 0; be_all[b]; b++) {
		int n = be_all[b]->probe(infos, DEVICES_MAX);

		for (int i = 0; i < n; i++) {
			bool is_auto = best_ops == be_all[b] && best.index == infos[i].index;

			if (json)
				device_json(&w, &infos[i], is_auto);
			else
				device_text(&out, &infos[i], is_auto);
		}
		if (n <= 0 && !json)
			sb_printf(&out, "  %s: no devices\n", be_all[b]->name);
	}
	if (json) {
		jw_arr_end(&w);
		sb_char(&out, '\n');
	} else if (!best_ops) {
		sb_printf(&out, "\n%s\n", why.msg);
	}
	free(infos);
	return ctl_print(&out);
}

static int show_device(const char *name, bool json)
{
	const struct be_ops *ops, *auto_ops = NULL;
	struct be_info d, best = {0};
	struct strbuf out = {0};
	struct err why = {0};
	struct jw w;
	bool is_auto;

	if (be_facts(name, &ops, &d, &why) < 0)
		return ctl_fail(&why);
	be_find("auto", &auto_ops, &best, NULL);
	is_auto = !d.absent && auto_ops == ops && best.index == d.index;
	jw_init(&w, &out);
	if (json) {
		jw_arr(&w);
		device_json(&w, &d, is_auto);
		jw_arr_end(&w);
		sb_char(&out, '\n');
	} else {
		device_text(&out, &d, is_auto);
	}
	return ctl_print(&out);
}

int ctl_devices(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	bool json = false;
	int o;

	while ((o = getopt_long(argc, argv, "jh", longs, NULL)) != -1) {
		if (o == 'h') {
			fputs(help, stdout);
			return CTL_OK;
		}
		if (o != 'j')
			return ctl_usage_hint("devices");
		json = true;
	}
	if (optind + 1 < argc)
		return ctl_usage("devices", "'%s' is too much", argv[optind + 1]);
	return optind < argc ? show_device(argv[optind], json) : list_devices(json);
}
