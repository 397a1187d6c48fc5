/* SPDX-License-Identifier: Apache-2.0 */
/* What a server's JSON says, by the API's parser. */
#include "daemon/ctl.h"

#include <stdlib.h>
#include <string.h>

#include "api/json.h"

static char *copy_text(const struct json *v)
{
	const char *s = json_text(v);

	return s ? strdup(s) : NULL;
}

bool ctl_reply_parse(const char *json, size_t len, struct ctl_reply *ret)
{
	struct json *doc = NULL;
	struct api_error e = {0};
	const struct json *choice, *part;

	if (json_parse(json, len, &doc, &e))
		return false;
	choice = json_first(json_get(doc, "choices"));
	part = json_get(choice, "delta");
	if (!part)
		part = json_get(choice, "message");
	ret->text = copy_text(json_get(part, "content"));
	ret->finish = copy_text(json_get(choice, "finish_reason"));
	ret->error = copy_text(json_get(json_get(doc, "error"), "message"));
	ret->model = copy_text(json_get(json_first(json_get(doc, "data")), "id"));
	json_free(doc);
	return true;
}

void ctl_reply_done(struct ctl_reply *r)
{
	free(r->text);
	free(r->finish);
	free(r->error);
	free(r->model);
	*r = (struct ctl_reply){0};
}
