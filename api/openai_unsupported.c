/* SPDX-License-Identifier: Apache-2.0 */
/* Known fields that would change the answer and are not built: accepted only with the value that
 * changes nothing, else refused by name. docs/api.md lists them. */
#include <string.h>

#include "api/openai.h"

enum neutral {
	NEUTRAL_EMPTY,   /* null, "", [] or {} */
	NEUTRAL_FALSE,   /* null or false */
	NEUTRAL_TRUE,    /* null or true */
	NEUTRAL_NONE,    /* null or "none" */
	NEUTRAL_MEDIUM,  /* null or "medium" */
	NEUTRAL_NUMBER,  /* null or that number */
	NEUTRAL_AT_MOST, /* null or a number up to that one */
	NEUTRAL_FORMAT,  /* null or {"type":"text"} */
	NEUTRAL_TEXT,    /* null or ["text"] */
};

enum where { BOTH, CHAT, COMPLETIONS };

static const struct unsupported {
	const char *name;
	enum neutral neutral;
	double number;
	enum where where;
} unsupported[] = {
	{"tools", NEUTRAL_EMPTY, 0, BOTH},
	{"tool_choice", NEUTRAL_NONE, 0, BOTH},
	{"functions", NEUTRAL_EMPTY, 0, BOTH},
	{"function_call", NEUTRAL_NONE, 0, BOTH},
	{"response_format", NEUTRAL_FORMAT, 0, BOTH},
	{"modalities", NEUTRAL_TEXT, 0, BOTH},
	{"audio", NEUTRAL_EMPTY, 0, BOTH},
	{"web_search_options", NEUTRAL_EMPTY, 0, BOTH},
	{"reasoning_effort", NEUTRAL_NONE, 0, BOTH},
	{"verbosity", NEUTRAL_MEDIUM, 0, BOTH},
	{"moderation", NEUTRAL_EMPTY, 0, BOTH},
	{"suffix", NEUTRAL_EMPTY, 0, BOTH},
	{"best_of", NEUTRAL_AT_MOST, 1, BOTH},
	{"echo", NEUTRAL_FALSE, 0, CHAT},
	{"continue_final_message", NEUTRAL_FALSE, 0, BOTH},
	{"chat_template", NEUTRAL_EMPTY, 0, BOTH},
	{"chat_template_kwargs", NEUTRAL_EMPTY, 0, BOTH},
	{"enable_thinking", NEUTRAL_EMPTY, 0, BOTH},
	{"documents", NEUTRAL_EMPTY, 0, BOTH},
	{"grammar", NEUTRAL_EMPTY, 0, BOTH},
	{"json_schema", NEUTRAL_EMPTY, 0, BOTH},
	{"structured_outputs", NEUTRAL_EMPTY, 0, BOTH},
	{"guided_json", NEUTRAL_EMPTY, 0, BOTH},
	{"guided_regex", NEUTRAL_EMPTY, 0, BOTH},
	{"guided_choice", NEUTRAL_EMPTY, 0, BOTH},
	{"guided_grammar", NEUTRAL_EMPTY, 0, BOTH},
	{"typical_p", NEUTRAL_NUMBER, 1, BOTH},
	{"tfs_z", NEUTRAL_NUMBER, 1, BOTH},
	{"top_a", NEUTRAL_NUMBER, 0, BOTH},
	{"top_n_sigma", NEUTRAL_AT_MOST, 0, BOTH},
	{"mirostat", NEUTRAL_NUMBER, 0, BOTH},
	{"mirostat_mode", NEUTRAL_NUMBER, 0, BOTH},
	{"dry_multiplier", NEUTRAL_NUMBER, 0, BOTH},
	{"xtc_probability", NEUTRAL_NUMBER, 0, BOTH},
	{"dynatemp_range", NEUTRAL_NUMBER, 0, BOTH},
	{"repeat_last_n", NEUTRAL_NUMBER, -1, BOTH},
	{"samplers", NEUTRAL_EMPTY, 0, BOTH},
	{"logits_processors", NEUTRAL_EMPTY, 0, BOTH},
	{"allowed_token_ids", NEUTRAL_EMPTY, 0, BOTH},
	{"bad_words", NEUTRAL_EMPTY, 0, BOTH},
	{"stop_token_ids", NEUTRAL_EMPTY, 0, BOTH},
	{"min_tokens", NEUTRAL_NUMBER, 0, BOTH},
	{"n_predict", NEUTRAL_EMPTY, 0, BOTH},
	{"use_beam_search", NEUTRAL_FALSE, 0, BOTH},
	{"length_penalty", NEUTRAL_NUMBER, 1, BOTH},
	{"include_stop_str_in_output", NEUTRAL_FALSE, 0, BOTH},
	{"skip_special_tokens", NEUTRAL_TRUE, 0, BOTH},
	{"truncate_prompt_tokens", NEUTRAL_EMPTY, 0, BOTH},
	{"prompt_logprobs", NEUTRAL_EMPTY, 0, BOTH},
	{"n_probs", NEUTRAL_NUMBER, 0, BOTH},
	{"lora", NEUTRAL_EMPTY, 0, BOTH},
	{"prompt_embeds", NEUTRAL_EMPTY, 0, BOTH},
};

static bool is_neutral(const struct unsupported *u, const struct json *v)
{
	const char *s = json_text(v);
	const struct json *type;
	bool b;

	switch (u->neutral) {
	case NEUTRAL_EMPTY:
		if (s)
			return !*s;
		return (json_is_array(v) || json_is_object(v)) && !json_first(v);
	case NEUTRAL_FALSE:
		return json_is_bool(v, &b) && !b;
	case NEUTRAL_TRUE:
		return json_is_bool(v, &b) && b;
	case NEUTRAL_NONE:
		return s && !strcmp(s, "none");
	case NEUTRAL_MEDIUM:
		return s && !strcmp(s, "medium");
	case NEUTRAL_NUMBER:
		return json_is_number(v) && json_double(v) == u->number;
	case NEUTRAL_AT_MOST:
		return json_is_number(v) && json_double(v) <= u->number;
	case NEUTRAL_FORMAT:
		type = json_is_object(v) ? json_get(v, "type") : NULL;
		return json_text(type) && !strcmp(json_text(type), "text");
	case NEUTRAL_TEXT:
		if (!json_is_array(v))
			return false;
		for (v = json_first(v); v; v = json_next(v))
			if (!json_text(v) || strcmp(json_text(v), "text") != 0)
				return false;
		return true;
	}
	return false;
}

int openai_check_unsupported(const struct json *body, bool chat, struct api_error *e)
{
	for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
		const struct unsupported *u = &unsupported[i];
		const struct json *v;

		if (u->where == (chat ? COMPLETIONS : CHAT))
			continue;
		v = json_get(body, u->name);
		if (v && !is_neutral(u, v))
			return api_error_set(
				e, 400, "unsupported_parameter", u->name,
				"%s is not supported with this value, and would change the "
				"answer",
				u->name);
	}
	return 0;
}
