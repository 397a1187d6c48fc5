/* SPDX-License-Identifier: Apache-2.0 */
/* What driftctl's verbs share: messages, numbers, units, output. */
#include "daemon/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/features.h"

int ctl_fail(const struct err *e)
{
	fprintf(stderr, "driftctl: %s\n", e->msg[0] ? e->msg : strerror(-e->code));
	return CTL_FAILED;
}

int ctl_usage_hint(const char *verb)
{
	fprintf(stderr, "Try 'driftctl %s --help'.\n", verb);
	return CTL_USAGE;
}

int ctl_usage(const char *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "driftctl %s: ", verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return ctl_usage_hint(verb);
}

bool ctl_parse_u32(const char *verb, const char *option, const char *text, uint32_t min,
		   uint32_t max, uint32_t *ret)
{
	char *end = NULL;
	unsigned long long v = 0;
	bool ok = text[0] >= '0' && text[0] <= '9';

	errno = 0;
	if (ok)
		v = strtoull(text, &end, 10);
	if (!ok || errno || *end || v < min || v > max) {
		ctl_usage(verb, "%s: '%s' is not a number from %" PRIu32 " to %" PRIu32, option,
			  text, min, max);
		return false;
	}
	*ret = (uint32_t)v;
	return true;
}

const char *ctl_bytes(uint64_t bytes, char *ret)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 999.5 && u + 1 < sizeof(units) / sizeof(units[0])) {
		v /= 1000;
		u++;
	}
	snprintf(ret, CTL_BYTES_TEXT,
		 u == 0 || v >= 99.95 ? "%.0f %s"
		 : v >= 9.995         ? "%.1f %s"
				      : "%.2f %s",
		 v, units[u]);
	return ret;
}

int ctl_print(struct strbuf *sb)
{
	bool failed = sb->failed;

	if (failed)
		fprintf(stderr, "driftctl: out of memory\n");
	else
		failed = fwrite(sb_text(sb), 1, sb->len, stdout) != sb->len;
	sb_done(sb);
	if (fflush(stdout) != 0)
		failed = true;
	return failed ? CTL_FAILED : CTL_OK;
}

const char *ctl_cache_dir(char *ret)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (cache && cache[0] == '/')
		n = snprintf(ret, CTL_PATH_BYTES, "%s/driftd", cache);
	else if (home && home[0] == '/')
		n = snprintf(ret, CTL_PATH_BYTES, "%s/.cache/driftd", home);
	else
		return NULL;
	return n > 0 && n < CTL_PATH_BYTES ? ret : NULL;
}

/* As in driftd.conf: digits, and at most one of K, M and G. What is 2^63 or more is refused. */
static bool parse_bytes(const char *text, uint64_t *ret)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end = NULL;
	unsigned long long v;
	unsigned shift = 0;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (errno || v > (unsigned long long)INT64_MAX >> shift)
		return false;
	*ret = v << shift;
	return true;
}

static int bad_word(const char *verb, const char *option, const char *arg, const char *want)
{
	return ctl_usage(verb, "%s: '%s' is not %s", option, arg, want);
}

/* "help" gets the list, with a line on each. */
static int disable(const char *verb, const char *arg, uint32_t *ret)
{
	struct err e = {0};

	if (strcmp(arg, "help") == 0) {
		for (const struct feature_info *f = features; f->name; f++)
			fprintf(stderr, "  %-14s %s\n", f->name, f->what);
		return CTL_USAGE;
	}
	if (features_parse(arg, ret, &e) == 0)
		return CTL_OK;
	fprintf(stderr, "driftctl %s: %s\n", verb, e.msg);
	return CTL_USAGE;
}

bool ctl_engine_option(struct ctl_engine_args *a, const char *verb, int option, const char *arg,
		       int *ret_status)
{
	bool ok = true;

	*ret_status = CTL_OK;
	switch (option) {
	case 'm':
		a->model = arg;
		break;
	case 'd':
		a->o.device = arg;
		break;
	case CTL_OPT_CONTEXT:
		ok = ctl_parse_u32(verb, "--context", arg, 1, 1u << 30, &a->o.context_tok);
		break;
	case CTL_OPT_PARALLEL:
		ok = ctl_parse_u32(verb, "--parallel", arg, 1, ENGINE_SEQ_MAX, &a->o.parallel);
		break;
	case CTL_OPT_KV_TOKENS:
		ok = ctl_parse_u32(verb, "--kv-tokens", arg, 1, 1u << 30, &a->o.kv_tok);
		break;
	case CTL_OPT_BATCH_TOKENS:
		ok = ctl_parse_u32(verb, "--batch-tokens", arg, 1, 65536, &a->o.batch_tok);
		break;
	case CTL_OPT_MEMORY_MARGIN:
		a->o.margin_bytes = ENGINE_MARGIN_AUTO;
		if (strcmp(arg, "auto") != 0 && !parse_bytes(arg, &a->o.margin_bytes))
			*ret_status = bad_word(verb, "--memory-margin", arg, "auto or a number of bytes (K, M, G)");
		break;
	case CTL_OPT_PLAN:
		a->o.plan = strcmp(arg, "naive") == 0 ? PLAN_NAIVE : PLAN_GREEDY;
		if (strcmp(arg, "naive") != 0 && strcmp(arg, "greedy") != 0)
			*ret_status = bad_word(verb, "--plan", arg, "greedy or naive");
		break;
	case CTL_OPT_STORAGE:
		a->o.storage = strcmp(arg, "texture2d") == 0 ? STORAGE_TEXTURE2D : STORAGE_BUFFER;
		if (strcmp(arg, "texture2d") != 0 && strcmp(arg, "buffer") != 0)
			*ret_status = bad_word(verb, "--storage", arg, "buffer or texture2d");
		break;
	case CTL_OPT_KV_TYPE:
		a->o.kv_type = strcmp(arg, "q8") == 0 ? KV_Q8 : KV_F16;
		if (strcmp(arg, "q8") != 0 && strcmp(arg, "f16") != 0)
			*ret_status = bad_word(verb, "--kv-type", arg, "f16 or q8");
		break;
	case CTL_OPT_PREFILL_TYPE:
		a->o.prefill_type = strcmp(arg, "f16") == 0 ? PREFILL_F16 : PREFILL_EXACT;
		if (strcmp(arg, "f16") != 0 && strcmp(arg, "exact") != 0)
			*ret_status = bad_word(verb, "--prefill-type", arg, "exact or f16");
		break;
	case CTL_OPT_DISABLE:
		*ret_status = disable(verb, arg, &a->o.disable);
		break;
	case CTL_OPT_JSON:
		a->json = true;
		break;
	default:
		return false;
	}
	if (!ok)
		*ret_status = CTL_USAGE;
	return true;
}
