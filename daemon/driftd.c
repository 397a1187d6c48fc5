/* SPDX-License-Identifier: Apache-2.0 */
/* driftd, the daemon. The main thread starts everything and then waits: for signals, for the model
 * to be loaded, for the end of draining, and, where the service manager wants it, for the time of
 * the next watchdog ping. The model is loaded by a thread of its own while the API already listens
 * and says so. A main: the only other files that see all rooms are driftctl's. */
#ifdef HAVE_CONFIG_H
#include <config.h> /* not daemon/config.h */
#endif

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <fcntl.h>
#include <unistd.h>

#include "api/server.h"
#include "backends/backend.h"
#include "base/clock.h"
#include "base/log.h"
#include "core/engine.h"
#include "core/features.h"
#include "daemon/config.h"
#include "daemon/notify.h"
#include "daemon/scheduler.h"
#include "model/model.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif
#ifndef CONFIGURE_SUMMARY
#define CONFIGURE_SUMMARY "built by hand"
#endif

#define EXIT_CONFIG 2
#define LISTEN_FD_FIRST 3 /* where a service manager passes sockets: sd_listen_fds(3) */
#define LISTEN_FD_MAX 16
#define FDS_BESIDE_CONNECTIONS 128
#define SEND_REST_NS (5 * NS_PER_S) /* for what answers are still to be sent at the end */

enum load_state { LOAD_RUNNING, LOAD_DONE, LOAD_FAILED };

struct daemon {
	int argc;
	char **argv;
	struct config *first;   /* as of the start: others borrow its texts */
	struct config *current; /* as of the last SIGHUP; may be `first` */
	int signal_fd, event_fd;
	struct api *api;
	int listen_fds[LISTEN_FD_MAX];
	size_t n_listen_fds;
	int64_t start_ns;

	/* The loader's, until load_state says that it has ended. */
	pthread_t loader;
	atomic_int load_state;
	struct model model;
	struct engine *engine;
	struct scheduler *sched;
	char load_what[64];
	int64_t load_said_ns;

	pthread_t drainer, hurrier;
	bool draining, hurrying;
	atomic_bool drained;
	atomic_bool lost; /* the device failed */
	unsigned n_stops; /* signals to stop */
	int64_t ping_ns;  /* between watchdog pings; 0: none wanted */
};

/* Wakes the main thread; any thread. */
static void poke(struct daemon *d)
{
	uint64_t one = 1;
	ssize_t r;

	do
		r = write(d->event_fd, &one, sizeof(one));
	while (r < 0 && errno == EINTR);
}

/* --- loading: the loader thread --- */

/* Why this device, in words. */
static void say_device(const struct daemon *d, const char *chosen)
{
	const char *asked = d->first->device;
	const struct be_ops *ops;
	struct be_info info;

	if (strcmp(asked, "auto") != 0)
		log_info("device: %s, as configured", chosen);
	else if (be_find(asked, &ops, &info, NULL) == 0 && info.type == BE_GPU)
		log_info("device: %s, the first GPU that can be used", chosen);
	else
		log_info("device: %s, because no GPU can be used (driftctl devices tells why)",
			 chosen);
}

static void say_plan(const struct engine_plan *p)
{
	const double mb = 1e6;

	log_info("memory: %.1f MB = weights %.1f + KV %.1f (%u tokens) + activations %.1f + step "
		 "%.1f; context %u, %u sequences, %u tokens a step",
		 (double)p->total_bytes / mb, (double)p->weights_bytes / mb,
		 (double)p->kv_bytes / mb, p->kv_tok, (double)p->act_bytes / mb,
		 (double)p->step_bytes / mb, p->context_tok, p->parallel, p->batch_tok);
}

/* One line for each stage and then one a second at most. */
static void on_progress(void *ud, const char *what, double fraction)
{
	struct daemon *d = ud;
	int64_t now = clock_ns();
	bool same = strcmp(what, d->load_what) == 0;

	if (same && now - d->load_said_ns < NS_PER_S)
		return;
	snprintf(d->load_what, sizeof(d->load_what), "%s", what);
	d->load_said_ns = now;
	(void)notify_status("Loading: %s, %.0f %%", what, fraction * 100);
	(void)notify_extend_timeout(60 * 1000000);
	if (same)
		log_info("loading: %s, %.0f %%", what, fraction * 100);
	else
		log_debug("loading: %s", what);
}

static void on_lost(void *ud, const struct err *e)
{
	struct daemon *d = ud;

	(void)e; /* the scheduler has logged it */
	atomic_store(&d->lost, true);
	poke(d);
}

static int load(struct daemon *d, struct err *reterr)
{
	const struct config *c = d->first;
	struct engine_options eo = {
		.device = c->device,
		.context_tok = c->context_tok,
		.kv_tok = c->kv_tok,
		.parallel = c->parallel,
		.batch_tok = c->batch_tok,
		.margin_bytes = c->memory_margin_bytes,
		.plan = c->plan,
		.storage = c->storage,
		.kv_type = c->kv_type,
		.prefill_type = c->prefill_type,
		.cache_dir = c->cache_dir,
		.progress = on_progress,
		.progress_ud = d,
	};
	struct sched_options so = {
		.queue_requests = c->queue_requests,
		.queue_tok = c->queue_tok,
		.client_requests = c->client_requests,
		.prefill_tok = c->prefill_tok,
		.speculate = c->speculate,
		.stream_ns = (int64_t)c->stream_interval_ms * NS_PER_MS,
		.lost = on_lost,
		.lost_ud = d,
	};
	struct api_model am = {.queue_requests = c->queue_requests};
	int r = c->disable ? features_parse(c->disable, &eo.disable, reterr) : 0;

	if (r)
		return r;

	on_progress(d, "reading the model file", 0);
	r = model_open(&d->model, c->model, reterr);
	if (r == 0 && d->model.chat_error.code != 0)
		log_warning("chat template: %s", d->model.chat_error.msg);
	if (r == 0)
		r = engine_open(&d->model.graph, &eo, &d->engine, reterr);
	if (r < 0)
		return r;
	am.plan = *engine_get_plan(d->engine);
	say_device(d, am.plan.device);
	say_plan(&am.plan);
	r = sched_new(d->engine, d->model.tokenizer, &so, &d->sched, reterr);
	if (r < 0)
		return r;
	d->engine = NULL; /* the scheduler's now */
	am.model = &d->model;
	am.sched = d->sched;
	am.id = c->model_id != NULL ? c->model_id : d->model.id;
	r = api_set_model(d->api, &am, reterr);
	if (r < 0)
		return r;
	log_info("model %s (%s, %.1f M parameters) is ready after %.2f s", am.id,
		 d->model.architecture, (double)d->model.n_params / 1e6,
		 (double)(clock_ns() - d->start_ns) / 1e9);
	(void)notify_status("Serving %s on %s", am.id, am.plan.device);
	return 0;
}

static void *loader_main(void *arg)
{
	struct daemon *d = arg;
	struct err err = {0};
	int r;

	r = load(d, &err);
	if (r < 0) {
		log_error("%s", err.msg[0] != '\0' ? err.msg : strerror(-r));
		(void)notify_status("Failed: %s", err.msg);
		api_set_failed(d->api, "the model could not be loaded");
	}
	atomic_store(&d->load_state, r < 0 ? LOAD_FAILED : LOAD_DONE);
	poke(d);
	return NULL;
}

/* --- the API --- */

static int start_api(struct daemon *d, const struct config *c, bool reload, struct err *reterr)
{
	struct api_address *listen = calloc(c->n_listen > 0 ? c->n_listen : 1, sizeof(*listen));
	struct api_options o;
	int r;

	if (listen == NULL)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (size_t i = 0; i < c->n_listen; i++)
		listen[i] = (struct api_address){c->listen[i].host, c->listen[i].port};
	api_options_default(&o);
	o.listen = listen;
	o.n_listen = c->n_listen;
	o.listen_fds = d->listen_fds;
	o.n_listen_fds = d->n_listen_fds;
	o.allowed_hosts = c->allowed_hosts.items;
	o.n_allowed_hosts = c->allowed_hosts.n;
	o.allowed_origins = c->allowed_origins.items;
	o.n_allowed_origins = c->allowed_origins.n;
	o.key_file = c->api_key_file;
	o.max_body_bytes = c->max_body_bytes;
	o.max_connections = c->max_connections;
	o.header_timeout_s = c->header_timeout_s;
	o.body_timeout_s = c->body_timeout_s;
	o.write_timeout_s = c->write_timeout_s;
	o.request_timeout_s = c->request_timeout_s;
	o.ping_interval_s = c->ping_interval_s;
	o.version = PACKAGE_VERSION;
	r = reload ? api_reload(d->api, &o, reterr) : api_start(&o, &d->api, reterr);
	free(listen);
	return r;
}

static void say_listening(const struct daemon *d)
{
	const struct config *c = d->first;

	for (size_t i = 0; i < d->n_listen_fds; i++)
		log_info("listening on socket %d from the service manager", d->listen_fds[i]);
	for (size_t i = 0; d->n_listen_fds == 0 && i < c->n_listen; i++) {
		const char *host = c->listen[i].host;

		if (host[0] == '/' || strncmp(host, "unix:", 5) == 0)
			log_info("listening on %s", host);
		else
			log_info(strchr(host, ':') ? "listening on http://[%s]:%u"
						   : "listening on http://%s:%u",
				 host, api_port(d->api, i));
	}
}

/* Sockets that the service manager has opened for us; see sd_listen_fds(3). */
static void take_listen_fds(struct daemon *d)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	long n;

	if (pid != NULL && fds != NULL && strtol(pid, NULL, 10) == (long)getpid()) {
		n = strtol(fds, NULL, 10);
		for (int i = 0; i < n && i < LISTEN_FD_MAX; i++) {
			(void)fcntl(LISTEN_FD_FIRST + i, F_SETFD, FD_CLOEXEC);
			d->listen_fds[d->n_listen_fds++] = LISTEN_FD_FIRST + i;
		}
	}
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
}

/* --- signals --- */

static void on_changed(void *ud, const char *key, bool live)
{
	(void)ud;
	if (live)
		log_info("configuration: %s has changed", key);
	else
		log_warning("configuration: %s has changed; that needs a restart", key);
}

static void reload(struct daemon *d)
{
	enum config_action action;
	struct config *fresh;
	struct err err = {0};

	(void)notify_reloading();
	if (config_load(d->argc, d->argv, &fresh, &action, &err) < 0) {
		log_error("configuration not reloaded: %s", err.msg);
	} else if (start_api(d, fresh, true, &err) < 0) {
		log_error("configuration not reloaded: %s", err.msg);
		config_free(fresh);
	} else {
		log_set_level(fresh->log_level);
		config_compare(d->current, fresh, on_changed, d);
		if (d->current != d->first)
			config_free(d->current);
		d->current = fresh;
		log_info("configuration reloaded");
	}
	if (atomic_load(&d->load_state) == LOAD_DONE)
		(void)notify_ready();
}

static void *drainer_main(void *arg)
{
	struct daemon *d = arg;
	bool all;

	(void)pthread_setname_np(pthread_self(), "drainer");
	all = sched_drain(d->sched, (int64_t)d->current->drain_timeout_s * NS_PER_S);
	log_info(all ? "all requests have ended" : "requests that were left have been cancelled");
	atomic_store(&d->drained, true);
	poke(d);
	return NULL;
}

/* Ends what runs at once; the drainer sees it. */
static void *hurry_main(void *arg)
{
	struct daemon *d = arg;

	(void)sched_drain(d->sched, 0);
	return NULL;
}

static void start_drain(struct daemon *d)
{
	int r;

	d->draining = true;
	(void)notify_stopping();
	(void)notify_status("Stopping: waiting for running requests");
	api_drain(d->api);
	r = pthread_create(&d->drainer, NULL, drainer_main, d);
	if (r != 0) {
		log_error("cannot start a thread: %s", strerror(r));
		_exit(EXIT_FAILURE);
	}
}

/* The first asks for an orderly end, the second cancels what runs, the third does not wait for
 * anything: a device that hangs cannot be waited for. */
static void on_stop(struct daemon *d, const char *why)
{
	d->n_stops++;
	log_info("%s: stopping%s", why, d->n_stops == 1 ? "" : " now");
	if (atomic_load(&d->load_state) == LOAD_RUNNING) {
		(void)notify_stopping();
		_exit(EXIT_SUCCESS); /* nothing has been served, and loading cannot be broken off */
	}
	if (!d->draining) {
		start_drain(d);
		return;
	}
	if (d->hurrying || pthread_create(&d->hurrier, NULL, hurry_main, d) != 0)
		_exit(EXIT_FAILURE);
	d->hurrying = true;
}

static void on_signals(struct daemon *d)
{
	struct signalfd_siginfo si;

	while (read(d->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGHUP)
			reload(d);
		else
			on_stop(d, si.ssi_signo == SIGINT ? "interrupted" : "SIGTERM");
	}
}

/* --- the main loop --- */

/* Milliseconds until the next ping is due, which is sent when it is; -1: no pings. */
static int watchdog(struct daemon *d, int64_t *next_ns)
{
	int64_t now = clock_ns();

	if (d->ping_ns == 0)
		return -1;
	if (now >= *next_ns) {
		if (atomic_load(&d->load_state) != LOAD_DONE || sched_alive(d->sched))
			(void)notify_watchdog();
		else
			log_error("no step has ended for %.0f s", (double)d->ping_ns / 1e9);
		*next_ns = now + d->ping_ns;
	}
	return (int)((*next_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* Until the end; returns the exit status. */
static int run(struct daemon *d)
{
	struct pollfd fds[] = {{.fd = d->signal_fd, .events = POLLIN},
			       {.fd = d->event_fd, .events = POLLIN}};
	bool told_ready = false, told_lost = false;
	int64_t next_ns = 0;

	for (;;) {
		uint64_t count;
		int state;

		if (poll(fds, 2, watchdog(d, &next_ns)) < 0 && errno != EINTR) {
			log_error("poll: %s", strerror(errno));
			return EXIT_FAILURE;
		}
		if (read(d->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_debug("eventfd: %s", strerror(errno));
		on_signals(d);
		state = atomic_load(&d->load_state);
		if (state == LOAD_FAILED)
			return EXIT_FAILURE;
		if (state == LOAD_DONE && !told_ready) {
			told_ready = true;
			(void)notify_ready();
		}
		if (atomic_load(&d->lost) && !told_lost) {
			told_lost = true;
			(void)notify_status("Failed: the device was lost");
			/* A service manager starts us again; a person wants to see what happened.
			 */
			if (notify_wanted() && !d->draining)
				on_stop(d, "device lost");
			else
				log_error("the device was lost: restart driftd");
		}
		if (atomic_load(&d->drained))
			return atomic_load(&d->lost) ? EXIT_FAILURE : EXIT_SUCCESS;
	}
}

static void limit_files(const struct config *c)
{
	struct rlimit l;
	rlim_t want = (rlim_t)c->max_connections + FDS_BESIDE_CONNECTIONS;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= want)
		return;
	l.rlim_cur = l.rlim_max < want ? l.rlim_max : want;
	(void)setrlimit(RLIMIT_NOFILE, &l);
	if (l.rlim_cur < want)
		log_warning("only %llu files may be open: less than max-connections %u needs",
			    (unsigned long long)l.rlim_cur, c->max_connections);
}

/* What has to be set before the first thread is there. */
static int prepare(struct daemon *d, struct err *reterr)
{
	const struct config *c = d->first;
	sigset_t set;

	/* Prompts are in memory: no core dumps, no debugger of another process of this user. */
	if (c->log_level != LOG_LEVEL_DEBUG)
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)mallopt(M_ARENA_MAX, 2);
	limit_files(c);
	be_environment(c->cache_dir);
	take_listen_fds(d);
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	d->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (d->signal_fd < 0 || d->event_fd < 0)
		return err_set(reterr, -errno, "signalfd or eventfd: %s", strerror(errno));
	d->ping_ns = (int64_t)(notify_watchdog_usec() * 1000 / 2);
	return 0;
}

static void finish(struct daemon *d)
{
	if (d->draining)
		(void)pthread_join(d->drainer, NULL);
	if (d->hurrying)
		(void)pthread_join(d->hurrier, NULL);
	api_stop(d->api, SEND_REST_NS);
	sched_free(d->sched);
	engine_close(d->engine);
	model_close(&d->model);
	if (d->signal_fd >= 0)
		(void)close(d->signal_fd);
	if (d->event_fd >= 0)
		(void)close(d->event_fd);
	if (d->current != d->first)
		config_free(d->current);
	config_free(d->first);
}

/* Starts, serves, stops. */
static int serve(struct daemon *d)
{
	struct err err = {0};
	int status = EXIT_FAILURE, r;

	d->start_ns = clock_ns();
	r = prepare(d, &err);
	if (r == 0)
		r = start_api(d, d->first, false, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		finish(d);
		return r == -EPERM || r == -EINVAL ? EXIT_CONFIG : EXIT_FAILURE;
	}
	log_info("driftd %s", PACKAGE_VERSION);
	say_listening(d);
	r = pthread_create(&d->loader, NULL, loader_main, d);
	if (r != 0) {
		log_error("cannot start a thread: %s", strerror(r));
	} else {
		status = run(d);
		(void)pthread_join(d->loader, NULL);
	}
	finish(d);
	log_info("stopped");
	return status;
}

int main(int argc, char **argv)
{
	struct daemon d = {.signal_fd = -1, .event_fd = -1};
	enum config_action action = CONFIG_RUN;
	struct err err = {0};

	d.argc = argc;
	d.argv = argv;
	if (config_load(argc, argv, &d.first, &action, &err) < 0) {
		fprintf(stderr, "driftd: %s\n", err.msg);
		return EXIT_CONFIG;
	}
	d.current = d.first;
	switch (action) {
	case CONFIG_HELP:
		config_print_help(stdout);
		return EXIT_SUCCESS;
	case CONFIG_VERSION:
		printf("driftd %s\n%s\n", PACKAGE_VERSION, CONFIGURE_SUMMARY);
		return EXIT_SUCCESS;
	case CONFIG_DUMP:
		config_dump_template(stdout);
		return EXIT_SUCCESS;
	case CONFIG_CHECK:
		printf("%s: good\n", d.first->file != NULL ? d.first->file : "configuration");
		config_free(d.first);
		return EXIT_SUCCESS;
	case CONFIG_RUN:
		break;
	}
	log_init(d.first->log_level);
	if (d.first->model == NULL) {
		log_error("no model: give one with --model FILE, or as 'model' in driftd.conf");
		config_free(d.first);
		return EXIT_CONFIG;
	}
	return serve(&d);
}
