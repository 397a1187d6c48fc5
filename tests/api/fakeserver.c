/* SPDX-License-Identifier: Apache-2.0 */
/* The API over the fake scheduler, for the scripts of tests/api: fakeserver MODEL [key=value ...].
 * It writes the port to standard output and runs until standard input ends. Keys: host, port,
 * context, step-us, keys, loading (milliseconds until the model is there), and those of the
 * configuration that the API takes (allowed-hosts and so on, with commas). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/log.h"
#include "tests/lib/fake_sched.h"

#define LIST_MAX 32

struct setup {
	struct api_options o;
	struct api_address address;
	struct fake_sched_options fake;
	uint32_t context_tok, loading_ms;
	const char *hosts[LIST_MAX], *origins[LIST_MAX];
};

static size_t split(char *v, const char **list)
{
	size_t n = 0;

	for (char *save, *s = strtok_r(v, ",", &save); s && n < LIST_MAX;
	     s = strtok_r(NULL, ",", &save))
		list[n++] = s;
	return n;
}

static int set(struct setup *s, char *arg)
{
	char *v = strchr(arg, '=');
	uint32_t n;
	const struct {
		const char *key;
		uint32_t *to;
	} numbers[] = {{"context", &s->context_tok},
		       {"loading", &s->loading_ms},
		       {"step-us", &s->fake.step_us},
		       {"cached", &s->fake.cached_tok},
		       {"client-requests", &s->fake.client_requests},
		       {"max-connections", &s->o.max_connections},
		       {"header-timeout", &s->o.header_timeout_s},
		       {"body-timeout", &s->o.body_timeout_s},
		       {"write-timeout", &s->o.write_timeout_s},
		       {"ping-interval", &s->o.ping_interval_s}};

	if (!v)
		return -1;
	*v++ = 0;
	n = (uint32_t)strtoul(v, NULL, 10);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (!strcmp(arg, numbers[i].key)) {
			*numbers[i].to = n;
			return 0;
		}
	if (!strcmp(arg, "host"))
		s->address.host = v;
	else if (!strcmp(arg, "port"))
		s->address.port = (uint16_t)n;
	else if (!strcmp(arg, "keys"))
		s->o.key_file = v;
	else if (!strcmp(arg, "max-body-bytes"))
		s->o.max_body_bytes = n;
	else if (!strcmp(arg, "allowed-hosts"))
		s->o.n_allowed_hosts = split(v, s->hosts);
	else if (!strcmp(arg, "allowed-origins"))
		s->o.n_allowed_origins = split(v, s->origins);
	else
		return -1;
	return 0;
}

static int serve(struct setup *s, const struct model *m)
{
	struct scheduler *sched = NULL;
	struct api *api = NULL;
	struct err e = {0};
	struct api_model am = {.model = m, .queue_requests = 256};
	char buf[64];

	if (fake_sched_new(m->tokenizer, &s->fake, &sched) < 0)
		return 1;
	if (api_start(&s->o, &api, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		sched_free(sched);
		return 1;
	}
	printf("%u\n", api_port(api, 0));
	fflush(stdout);
	if (s->loading_ms)
		usleep(s->loading_ms * 1000);
	am.sched = sched;
	am.plan.context_tok = s->context_tok;
	snprintf(am.plan.device, sizeof am.plan.device, "fake:0");
	if (api_set_model(api, &am, &e) < 0)
		fprintf(stderr, "%s\n", e.msg);
	while (read(STDIN_FILENO, buf, sizeof buf) > 0)
		;
	api_drain(api);
	sched_drain(sched, 0);
	api_stop(api, NS_PER_S);
	sched_free(sched);
	return 0;
}

int main(int argc, char **argv)
{
	struct setup s = {.address = {"127.0.0.1", 0}, .context_tok = 2048};
	struct model m = {0};
	struct err e = {0};
	int r;

	log_init(getenv("FAKESERVER_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING);
	api_options_default(&s.o);
	s.o.version = "0-test";
	s.o.listen = &s.address;
	s.o.n_listen = 1;
	s.o.allowed_hosts = s.hosts;
	for (int i = 2; i < argc; i++)
		if (set(&s, argv[i]) < 0) {
			fprintf(stderr, "fakeserver: bad argument %s\n", argv[i]);
			return 2;
		}
	if (s.o.n_allowed_origins)
		s.o.allowed_origins = s.origins;
	if (argc < 2 || model_open_vocab(&m, argv[1], &e) < 0) {
		fprintf(stderr, "fakeserver: %s\n",
			argc < 2 ? "fakeserver MODEL [key=value ...]" : e.msg);
		return 2;
	}
	r = serve(&s, &m);
	model_close(&m);
	return r;
}
