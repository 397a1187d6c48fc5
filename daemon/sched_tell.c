/* SPDX-License-Identifier: Apache-2.0 */
/* What the sinks are to be told, kept in order until there is time for it: where the device works
 * beside the host's cores, that is while the next step runs, so that writing to clients costs no
 * step. Nothing is decided here: answers have grown and ended by then.
 * Events point to the results of their step, so they must be told before those of another are
 * written. */
#include <string.h>

#include "daemon/sched_internal.h"

static void call_sink(const struct sched_event *e, const char *text)
{
	struct job *j = e->job;

	switch (e->kind) {
	case EVENT_TOKEN: {
		struct token_event ev = e->token;

		ev.text = text;
		j->sink.token(j->ud, &ev);
		break;
	}
	case EVENT_END: {
		struct finish_event ev = e->end;

		ev.text = text;
		j->sink.done(j->ud, &ev);
		break;
	}
	case EVENT_FLUSH:
		j->sink.flush(j->ud);
		break;
	}
}

void sched_tell_all(struct scheduler *s)
{
	for (uint32_t i = 0; i < s->n_events; i++)
		call_sink(&s->events[i], s->event_text + s->events[i].text_at);
	s->n_events = 0;
	s->n_event_text = 0;
}

static void keep(struct scheduler *s, struct sched_event *e, const char *text, size_t len)
{
	if (s->n_events == SCHED_EVENTS_MAX || len > SCHED_EVENT_TEXT_BYTES - s->n_event_text)
		sched_tell_all(s);
	if (len > SCHED_EVENT_TEXT_BYTES) {
		call_sink(e, text);
		return;
	}
	if (len > 0)
		memcpy(s->event_text + s->n_event_text, text, len);
	e->text_at = s->n_event_text;
	s->n_event_text += len;
	s->events[s->n_events++] = *e;
}

void sched_tell_token(struct scheduler *s, struct job *j, const struct token_event *ev)
{
	struct sched_event e = {.job = j, .token = *ev};

	keep(s, &e, ev->text, ev->text_len);
}

void sched_tell_end(struct scheduler *s, struct job *j, const struct finish_event *ev)
{
	struct sched_event e = {.job = j, .kind = EVENT_END, .end = *ev};

	keep(s, &e, ev->text, ev->text_len);
	if (ev->error != NULL)
		sched_tell_all(s); /* the error is the caller's */
}

void sched_tell_flush(struct scheduler *s, struct job *j)
{
	struct sched_event e = {.job = j, .kind = EVENT_FLUSH};

	if (!j->soon)
		return;
	j->soon = false;
	if (j->sink.flush != NULL)
		keep(s, &e, "", 0);
}
