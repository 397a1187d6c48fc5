/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates, the public side: parse once, render for each request. */
#include "model/template_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void template_free(struct template *t)
{
	if (!t)
		return;
	arena_done(&t->arena);
	free(t);
}

int template_new(const char *text, size_t len, struct template **ret, struct err *reterr)
{
	struct template *t = calloc(1, sizeof(*t));
	struct tparse p = {.t = t, .err = reterr};
	if (!t)
		return err_set(reterr, -ENOMEM, "template: out of memory");
	arena_init(&t->arena, TEMPLATE_TREE_MEMORY_MAX);
	int e = strmap_init(&p.name_map, 64);
	if (e) {
		err_set(reterr, e, "template: out of memory");
		goto out;
	}
	e = template_lex(&p, text, len);
	if (!e)
		e = template_parse(&p);
out:
	strmap_done(&p.name_map);
	if (e)
		template_free(t);
	else
		*ret = t;
	/* the code that belongs to the message: on the way up it may have become another one */
	return e && p.code ? p.code : e;
}

void template_out_done(struct template_out *o)
{
	sb_done(&o->text);
	free(o->segments);
	memset(o, 0, sizeof(*o));
}

/* The finished text, as segments of equal marks. */
static int give_out(const struct tbuf *b, struct template_out *out, struct err *reterr)
{
	size_t n = 2 * (size_t)b->n_runs + 1;
	struct tstr s = {(struct tbuf *)(uintptr_t)b, 0, b->used};
	struct template_segment *segs = malloc(n * sizeof(*segs));
	if (!segs)
		return err_set(reterr, -ENOMEM, "template: out of memory for %zu bytes", s.len + n);
	sb_reset(&out->text);
	sb_add(&out->text, tstr_data(s), s.len);
	if (out->text.failed) {
		free(segs);
		return err_set(reterr, -ENOMEM, "template: no room for %u bytes of text", s.len);
	}
	free(out->segments);
	out->segments = segs;
	out->cap_segments = n;
	out->n_segments = 0;
	for (uint32_t pos = 0; pos < s.len;) {
		bool user;
		uint32_t k = tstr_stretch(s, pos, &user);
		segs[out->n_segments++] = (struct template_segment){pos, k, user};
		pos += k;
	}
	return 0;
}

int template_render_with(const struct template *t,
			 int (*fill)(struct trender *r, struct tdict *context, void *ud), void *ud,
			 int64_t now_unix_s, struct template_out *out, struct err *reterr)
{
	struct trender r = {.tmpl = t, .err = reterr, .now_unix_s = now_unix_s};
	enum tflow flow = TFLOW_NEXT;
	struct tv context;
	arena_init(&r.arena, TEMPLATE_MEMORY_MAX);
	int e = tv_dict_new(&r, &context);
	if (e || (e = fill(&r, context.u.dict, ud)))
		goto out;
	r.context = context.u.dict;
	r.out = tbuf_new(&r, 4096);
	if (!r.out || !template_scope_push(&r)) {
		e = -E2BIG;
		goto out;
	}
	e = template_exec(&r, t->root, &flow);
	if (!e)
		e = give_out(r.out, out, reterr);
out:
	arena_done(&r.arena);
	return e && r.code ? r.code : e;
}

/* A role that the API does not know is the client's text as much as the content is. */
static bool role_is_known(const char *role)
{
	static const char *const known[] = {"system", "user", "assistant", "tool", "developer"};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(role, known[i]))
			return true;
	return false;
}

static int set_text(struct trender *r, struct tdict *d, const char *key, const char *s, size_t n,
		    bool user)
{
	struct tv v = tv_str((struct tstr){0});
	int e = tstr_wrap(r, s, n, user, &v.u.s);
	return e ? e : tdict_set_text(r, d, key, &v);
}

static int fill_message(struct trender *r, const struct template_message *m, struct tv *ret)
{
	int e = tv_dict_new(r, ret);
	if (e)
		return e;
	struct tdict *d = ret->u.dict;
	const char *role = m->role ? m->role : "";
	if ((e = set_text(r, d, "role", role, strlen(role), !role_is_known(role))) ||
	    (e = set_text(r, d, "content", m->content ? m->content : "",
			  m->content ? m->content_len : 0, true)))
		return e;
	return m->name ? set_text(r, d, "name", m->name, strlen(m->name), true) : 0;
}

static int fill_input(struct trender *r, struct tdict *context, void *ud)
{
	const struct template_input *in = ud;
	const struct {
		const char *name, *text;
	} tokens[] = {{"bos_token", in->bos_token}, {"eos_token", in->eos_token}};
	struct tv list, v;
	int e = tv_list_new(r, TV_LIST, 0, &list);
	for (size_t i = 0; i < in->n_messages && !e; i++) {
		e = fill_message(r, &in->messages[i], &v);
		if (!e)
			e = tlist_add(r, list.u.list, &v);
	}
	if (e || (e = tdict_set_text(r, context, "messages", &list)))
		return e;
	/* transformers passes these two as None when there are none */
	v = tv_none();
	if ((e = tdict_set_text(r, context, "tools", &v)) ||
	    (e = tdict_set_text(r, context, "documents", &v)))
		return e;
	v = tv_bool(in->add_generation_prompt);
	if ((e = tdict_set_text(r, context, "add_generation_prompt", &v)))
		return e;
	for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens) && !e; i++) {
		const char *s = tokens[i].text ? tokens[i].text : "";
		e = set_text(r, context, tokens[i].name, s, strlen(s), false);
	}
	return e;
}

int template_render(const struct template *t, const struct template_input *in,
		    struct template_out *out, struct err *reterr)
{
	struct template_input copy = *in;
	return template_render_with(t, fill_input, &copy, in->now_unix_s, out, reterr);
}
