/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts from JSON for the tests of templates. */
#include "tests/unit/template_golden.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int value_of(struct trender *r, const cJSON *j, bool user, struct tv *ret)
{
	int e = 0;
	struct tv v;
	if (cJSON_IsString(j)) {
		*ret = tv_str((struct tstr){0});
		return tstr_wrap(r, j->valuestring, strlen(j->valuestring), user, &ret->u.s);
	}
	if (cJSON_IsNumber(j)) {
		bool whole = j->valuedouble == floor(j->valuedouble) && fabs(j->valuedouble) < 1e15;
		*ret = whole ? tv_int((int64_t)j->valuedouble) : tv_float(j->valuedouble);
		return 0;
	}
	if (cJSON_IsBool(j) || cJSON_IsNull(j)) {
		*ret = cJSON_IsNull(j) ? tv_none() : tv_bool(cJSON_IsTrue(j));
		return 0;
	}
	e = cJSON_IsArray(j) ? tv_list_new(r, TV_LIST, 0, ret) : tv_dict_new(r, ret);
	for (const cJSON *c = j->child; c && !e; c = c->next) {
		bool content = user || (c->string && !strcmp(c->string, "content"));
		if ((e = value_of(r, c, content, &v)))
			break;
		e = cJSON_IsArray(j) ? tlist_add(r, ret->u.list, &v)
				     : tdict_set_text(r, ret->u.dict, c->string, &v);
	}
	return e;
}

static int fill(struct trender *r, struct tdict *context, void *ud)
{
	const cJSON *j = ud;
	int e = 0;
	for (const cJSON *c = j ? j->child : NULL; c && !e; c = c->next) {
		struct tv v;
		e = value_of(r, c, false, &v);
		if (!e)
			e = tdict_set_text(r, context, c->string, &v);
	}
	return e;
}

int golden_render(const struct template *t, const cJSON *context, struct template_out *out,
		  struct err *err)
{
	return template_render_with(t, fill, (void *)(uintptr_t)context, GOLDEN_NOW_S, out, err);
}

char *golden_read(const char *name, size_t *ret_len)
{
	const char *src = getenv("srcdir");
	char path[1000];
	if (name[0] == '/')
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "%s/tests/data/templates/%s", src ? src : ".", name);
	FILE *f = fopen(path, "rb");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return NULL;
	}
	size_t cap = 1 << 16, n = 0, got;
	char *s = malloc(cap);
	while (s && (got = fread(s + n, 1, cap - n - 1, f)) > 0) {
		n += got;
		if (cap - n < 4096)
			s = realloc(s, cap *= 2);
	}
	fclose(f);
	if (s)
		s[n] = 0;
	*ret_len = n;
	return s;
}

cJSON *golden_load(const char *name)
{
	size_t n;
	char *s = golden_read(name, &n);
	cJSON *j = s ? cJSON_ParseWithLength(s, n) : NULL;
	free(s);
	return j;
}

static void show(const char *what, const char *s)
{
	fprintf(stderr, "  %s: %s\n", what, s);
}

bool golden_check(const char *name, const char *text, size_t len, const cJSON *context,
		  const cJSON *want)
{
	const cJSON *output = cJSON_GetObjectItemCaseSensitive(want, "output");
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(want, "error");
	const cJSON *message = cJSON_GetObjectItemCaseSensitive(want, "message");
	struct template *t = NULL;
	struct template_out out = {0};
	struct err err = {0};
	bool ok = false;
	int e = template_new(text, len, &t, &err);
	bool parse_failed = e != 0;
	if (!e)
		e = golden_render(t, context, &out, &err);
	if (output) {
		ok = !e && !strcmp(sb_text(&out.text), output->valuestring);
	} else if (message) {
		ok = e == -EINVAL && !strncmp(err.msg, message->valuestring, 480);
	} else {
		ok = e && err.msg[0] && strstr(err.msg, "template") == err.msg &&
		     (parse_failed || strcmp(error->valuestring, "parse") != 0);
	}
	if (!ok) {
		fprintf(stderr, "%s:\n", name);
		show("want", output    ? output->valuestring
			     : message ? message->valuestring
				       : error->valuestring);
		show("got ", e ? err.msg : sb_text(&out.text));
	}
	template_out_done(&out);
	template_free(t);
	return ok;
}
