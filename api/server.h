/* SPDX-License-Identifier: Apache-2.0 */
/* The API server as the main sees it. api_start listens and answers at once (/health: 503 while the
 * model loads); api_set_model makes the rest work. The order of an end: api_drain, sched_drain,
 * api_stop, sched_free, model_close. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/scheduler.h"
#include "model/model.h"

struct api;

struct api_address {
	const char *host; /* address, name, "" for all, or a Unix socket's path */
	uint16_t port;    /* 0: any */
};

/* Everything is copied by api_start. */
struct api_options {
	const struct api_address *listen;
	size_t n_listen;
	const int *listen_fds; /* listening sockets from the service manager; taken */
	size_t n_listen_fds;   /* when there are some, `listen` is not used */
	const char *const *allowed_hosts;
	size_t n_allowed_hosts;
	const char *const *allowed_origins; /* NULL: pages and apps of this machine (api/gate.h); to
					     * allow none, a list of length 0 that is not NULL */
	size_t n_allowed_origins;
	const char *key_file; /* NULL: no keys, and then only loopback addresses */
	uint64_t max_body_bytes;
	uint32_t max_connections;
	uint32_t header_timeout_s, body_timeout_s, write_timeout_s;
	uint32_t request_timeout_s; /* of a whole answer; 0: none */
	uint32_t ping_interval_s;   /* 0: no pings */
	const char *version;        /* of the program, for /metrics and the fingerprint */
};

/* What the API tells about the model that runs. */
struct api_model {
	const struct model *model;
	struct scheduler *sched;
	const char *id;          /* the name in the API; copied */
	struct engine_plan plan; /* of the open engine */
	uint32_t queue_requests; /* for /metrics */
};

/* Options as the configuration's defaults have them, without addresses. */
void api_options_default(struct api_options *o);

/* Starts listening. Refuses addresses that other machines can reach when there is no key file. 0 or
 * -errno. */
int api_start(const struct api_options *o, struct api **ret, struct err *reterr);

/* From now on requests are served; model and scheduler are borrowed until api_stop. Once. 0 or
 * -errno. */
int api_set_model(struct api *a, const struct api_model *m, struct err *reterr);

/* The model can't be loaded, or is gone: /health and all requests say so (503). */
void api_set_failed(struct api *a, const char *why);

/* Takes over what may change while running: hosts, origins, keys, the limit of bodies, all
 * time-outs. On an error the old ones stay. */
int api_reload(struct api *a, const struct api_options *o, struct err *reterr);

/* New requests get 503 and answers close their connections. */
void api_drain(struct api *a);

/* Waits up to `wait_ns` for answers to be sent, then closes everything. The scheduler must still be
 * there, with its requests done or cancelled. NULL is fine. */
void api_stop(struct api *a, int64_t wait_ns);

uint16_t api_port(const struct api *a, size_t i); /* the port of listener i */
