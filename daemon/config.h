/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: one table of options, from which the parsing of file, environment and command
 * line, the help text and the commented driftd.conf are made. What is later in this list wins:
 * built-in default, configuration file, environment (DRIFTD_<KEY>), command line (--<key>).
 * A list set by a later source replaces that of the earlier one.
 * (The header that configure writes is included as <config.h>; this one as "daemon/config.h".) */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "core/engine.h"
#include "daemon/scheduler.h"

struct config_list {
	const char *const *items;
	size_t n;
};

/* An address to listen on: host is a name or a literal without brackets. */
struct config_addr {
	const char *host;
	uint16_t port; /* 0: the kernel chooses */
};

#define STREAM_INTERVAL_MS 20 /* the preset of stream-interval */

/* All that can be configured; const after config_load. Texts that are not set are NULL. */
struct config {
	/* model and device */
	const char *model;    /* path of a GGUF file */
	const char *model_id; /* NULL: from the file's name */
	const char *device;
	enum storage_kind storage;
	enum kv_type kv_type;
	enum prefill_type prefill_type;
	enum plan_mode plan;
	const char *disable; /* names of core/features.h with commas, or NULL */
	uint32_t context_tok, kv_tok; /* 0: chosen by model and memory */
	uint32_t parallel, batch_tok, prefill_tok;
	uint64_t memory_margin_bytes; /* UINT64_MAX: auto */
	enum speculate speculate;
	const char *cache_dir; /* NULL: no folder could be found, so nothing is cached */
	/* the scheduler's queue */
	uint32_t queue_requests, queue_tok;
	uint32_t client_requests; /* 0: no limit */
	/* HTTP */
	const struct config_addr *listen;
	size_t n_listen;
	struct config_list allowed_hosts, allowed_origins;
	const char *api_key_file;
	uint64_t max_body_bytes;
	uint32_t max_connections;
	uint32_t header_timeout_s, body_timeout_s, request_timeout_s, write_timeout_s;
	uint32_t ping_interval_s;
	uint32_t stream_interval_ms;
	/* the process */
	uint32_t drain_timeout_s;
	enum log_level log_level;
	/* where it came from */
	const char *file; /* the configuration file that was read, or NULL */
};

/* What the command line asks for. */
enum config_action {
	CONFIG_RUN,
	CONFIG_HELP,    /* --help, -h */
	CONFIG_VERSION, /* --version, -V */
	CONFIG_CHECK,   /* --check-config [FILE]: only say whether the configuration is good */
	CONFIG_DUMP,    /* --dump-config: write the commented file with all defaults */
};

/* All defaults and nothing else. The caller frees it by config_free. 0 or -errno. */
int config_defaults(struct config **ret, struct err *reterr);

/* Reads the file (--config FILE, else DRIFTD_CONFIG, else SYSCONFDIR/driftd.conf where that is
 * there), the environment and the command line. With an action other than CONFIG_RUN and
 * CONFIG_CHECK *ret is NULL. The error names file and line, variable or option, the key and what is
 * allowed. May be called again with the same arguments to read a changed file. Owner frees by
 * config_free. Main thread only (getopt and the environment). 0; -EINVAL; -ENOENT and the like for
 * the file. */
int config_load(int argc, char *const *argv, struct config **ret, enum config_action *ret_action,
		struct err *reterr);

/* NULL is fine. */
void config_free(struct config *c);

/* Calls `changed` for each key whose value differs; `live` tells whether a running daemon can take
 * the new one over. Both configurations stay the caller's. */
void config_compare(const struct config *a, const struct config *b,
		    void (*changed)(void *ud, const char *key, bool live), void *ud);

/* What --help prints. */
void config_print_help(FILE *f);

/* The commented driftd.conf, which is etc/driftd.conf. */
void config_dump_template(FILE *f);

/* Keys of the table by index; NULL behind the last. */
const char *config_key(size_t i);
