/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: every source hands (key, value) pairs to one function, with a rank that says which
 * source wins; the sources are gone through in the order of their rank. */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config_table.h"

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

#define FILE_BYTES_MAX (1 << 20)
#define ENV_PREFIX "DRIFTD_"
#define ENV_KEY_BYTES 64

extern char **environ;

/* The public struct comes first, so that one pointer serves for both. */
struct config_full {
	struct config c;
	struct arena mem;
};

enum rank { RANK_DEFAULT, RANK_FILE, RANK_ENV, RANK_ARGS };

struct loader {
	struct config_full *full;
	enum rank *rank; /* for each option: who set it last */
	unsigned *line;  /* for each option: the line of the file that set it */
	enum config_action action;
	const char *file;  /* asked for; NULL: the default file, if it is there */
	bool file_option;  /* --config named it */
	char *const *args; /* what is left of the command line after the options */
	int n_args;
};

static const struct option_row *find_row(const char *key, size_t len)
{
	for (size_t i = 0; i < option_rows_n; i++)
		if (strlen(option_rows[i].key) == len && !memcmp(option_rows[i].key, key, len))
			return &option_rows[i];
	return NULL;
}

static int set_value(struct loader *l, enum rank rank, const struct option_row *o,
		     const char *value, struct err *reterr)
{
	size_t i = (size_t)(o - option_rows);

	if (l->rank[i] != rank)
		option_reset(o, &l->full->c);
	l->rank[i] = rank;
	return option_parse(o, &l->full->c, value, &l->full->mem, reterr);
}

static int load_defaults(struct loader *l, struct err *reterr)
{
	for (size_t i = 0; i < option_rows_n; i++) {
		int r = set_value(l, RANK_DEFAULT, &option_rows[i], option_rows[i].preset, reterr);
		if (r)
			return r;
	}
	return 0;
}

/* --- file */

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r\n");
	n = strlen(s);
	while (n && strchr(" \t\r\n", s[n - 1]))
		n--;
	s[n] = 0;
	return s;
}

/* A comment begins with '#' at the beginning of a line or after a space. */
static void cut_comment(char *s)
{
	for (char *p = s; *p; p++) {
		if (*p == '#' && (p == s || isspace((unsigned char)p[-1]))) {
			*p = 0;
			return;
		}
	}
}

static int load_line(struct loader *l, char *line, unsigned number, struct err *reterr)
{
	const struct option_row *o;
	char *eq, *key;
	size_t i;

	cut_comment(line);
	line = trim(line);
	if (!*line)
		return 0;
	eq = strchr(line, '=');
	if (!eq)
		return err_set(reterr, -EINVAL, "'%.80s' is not `key = value`", line);
	*eq = 0;
	key = trim(line);
	o = find_row(key, strlen(key));
	if (!o)
		return err_set(reterr, -EINVAL, "unknown key '%.80s'", key);
	i = (size_t)(o - option_rows);
	if (l->line[i] && o->type != OPT_LIST && o->type != OPT_ADDRS)
		return err_set(reterr, -EINVAL, "%s is set in line %u already", key, l->line[i]);
	l->line[i] = number;
	return set_value(l, RANK_FILE, o, trim(eq + 1), reterr);
}

static int load_stream(struct loader *l, FILE *f, struct err *reterr)
{
	char *line = NULL;
	size_t cap = 0, total = 0;
	unsigned number = 0;
	ssize_t n;
	int r = 0;

	while (!r && (n = getline(&line, &cap, f)) >= 0) {
		number++;
		total += (size_t)n;
		if (total > FILE_BYTES_MAX)
			r = err_set(reterr, -EFBIG, "larger than a megabyte");
		else if (memchr(line, 0, (size_t)n))
			r = err_set(reterr, -EINVAL, "has a NUL byte");
		else
			r = load_line(l, line, number, reterr);
	}
	free(line);
	if (r) {
		err_prefix(reterr, "line %u", number);
		return r;
	}
	return ferror(f) ? err_set(reterr, -EIO, "cannot be read") : 0;
}

static int load_file(struct loader *l, struct err *reterr)
{
	const char *path = l->file ? l->file : SYSCONFDIR "/driftd.conf";
	struct stat st;
	FILE *f = NULL;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == ENOENT && !l->file)
		return 0;
	if (fd < 0)
		return err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
		r = err_set(reterr, -EISDIR, "is a directory");
	else if (!(f = fdopen(fd, "r")))
		r = err_set(reterr, -errno, "%s", strerror(errno));
	else
		r = load_stream(l, f, reterr);
	if (f)
		fclose(f);
	else
		close(fd);
	if (r) {
		err_prefix(reterr, "%s", path);
		return r;
	}
	l->full->c.file = arena_strndup(&l->full->mem, path, strlen(path));
	return l->full->c.file ? 0 : err_set(reterr, -ENOMEM, "out of memory");
}

/* --- environment */

/* DRIFTD_MAX_BODY_BYTES=... to max-body-bytes; the length of the name, 0 when it is too long. */
static size_t env_key(const char *var, size_t len, char out[ENV_KEY_BYTES])
{
	size_t skip = strlen(ENV_PREFIX);

	if (len - skip >= ENV_KEY_BYTES)
		return 0;
	for (size_t i = skip; i < len; i++)
		out[i - skip] = var[i] == '_' ? '-' : (char)tolower((unsigned char)var[i]);
	out[len - skip] = 0;
	return len - skip;
}

/* A variable that looks like ours and isn't known is an error like an unknown key: a misspelled one
 * would otherwise be ignored in silence. DRIFTD_TEST_* is left to the tests. */
static int load_env(struct loader *l, struct err *reterr)
{
	for (char **e = environ; e && *e; e++) {
		const char *eq = strchr(*e, '=');
		const struct option_row *o = NULL;
		char key[ENV_KEY_BYTES];
		size_t len, n;
		int r;

		if (!eq || strncmp(*e, ENV_PREFIX, strlen(ENV_PREFIX)) ||
		    !strncmp(*e, ENV_PREFIX "TEST_", strlen(ENV_PREFIX "TEST_")))
			continue;
		n = (size_t)(eq - *e);
		len = env_key(*e, n, key);
		/* The file's name, seen to already, and driftctl's key. */
		if (len && (!strcmp(key, "config") || !strcmp(key, "api-key")))
			continue;
		if (len)
			o = find_row(key, len);
		if (!o)
			return err_set(reterr, -EINVAL,
				       "environment variable %.*s: there is no such option",
				       n < 80 ? (int)n : 80, *e);
		r = set_value(l, RANK_ENV, o, eq + 1, reterr);
		if (r) {
			err_prefix(reterr, "environment variable %.*s", (int)n, *e);
			return r;
		}
	}
	return 0;
}

/* --- command line */

enum { ARG_OPTION, ARG_CHECK = 256, ARG_DUMP };

static const struct option extra_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"config", required_argument, NULL, 'c'},
	{"check-config", no_argument, NULL, ARG_CHECK},
	{"dump-config", no_argument, NULL, ARG_DUMP},
};
#define N_EXTRA (sizeof(extra_options) / sizeof(extra_options[0]))

/* getopt_long takes abbreviations, which the next key added to the table could make ambiguous. */
static bool exact_option(char **argv, const char *key)
{
	const char *arg = optarg == argv[optind - 1] ? argv[optind - 2] : argv[optind - 1];
	size_t len = strlen(key);

	return !strncmp(arg, "--", 2) && !strncmp(arg + 2, key, len) &&
	       (!arg[2 + len] || arg[2 + len] == '=');
}

/* Goes through the command line; `apply` false: only what must be known before the file is read. */
static int walk_args(struct loader *l, int argc, char **argv, const struct option *options,
		     bool apply, struct err *reterr)
{
	int index = 0, c;

	optind = 0; /* GNU's way to start over, permutation included */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":hVc:", options, &index)) != -1) {
		int r;

		switch (c) {
		case ARG_OPTION:
			if (!exact_option(argv, option_rows[index].key))
				return err_set(reterr, -EINVAL,
					       "an abbreviation of --%s: write it out",
					       option_rows[index].key);
			if (!apply)
				break;
			r = set_value(l, RANK_ARGS, &option_rows[index], optarg, reterr);
			if (r) {
				err_prefix(reterr, "command line");
				return r;
			}
			break;
		case 'h':
			l->action = CONFIG_HELP;
			return 0;
		case 'V':
			l->action = CONFIG_VERSION;
			return 0;
		case ARG_DUMP:
			l->action = CONFIG_DUMP;
			return 0;
		case ARG_CHECK:
			l->action = CONFIG_CHECK;
			break;
		case 'c':
			l->file = optarg;
			l->file_option = true;
			break;
		case ':':
			return err_set(reterr, -EINVAL, "option %.80s: a value is missing",
				       argv[optind - 1]);
		default:
			return err_set(reterr, -EINVAL, "unknown option %.80s; see driftd --help",
				       argv[optind - 1]);
		}
	}
	l->args = argv + optind;
	l->n_args = argc - optind;
	return 0;
}

static int load_args(struct loader *l, int argc, char **argv, bool apply, struct err *reterr)
{
	struct option *options = calloc(option_rows_n + N_EXTRA + 1, sizeof(*options));
	int r;

	if (!options)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (size_t i = 0; i < option_rows_n; i++)
		options[i] =
			(struct option){option_rows[i].key, required_argument, NULL, ARG_OPTION};
	memcpy(options + option_rows_n, extra_options, sizeof(extra_options));
	r = walk_args(l, argc, argv, options, apply, reterr);
	free(options);
	if (r || l->action == CONFIG_HELP || l->action == CONFIG_VERSION ||
	    l->action == CONFIG_DUMP)
		return r;
	if (l->n_args == 1 && l->action == CONFIG_CHECK && !l->file_option)
		l->file = l->args[0];
	else if (l->n_args)
		return err_set(reterr, -EINVAL, "unexpected argument '%.80s'; see driftd --help",
			       l->args[0]);
	return 0;
}

/* --- what follows from several options */

static int find_cache_dir(struct config *c, struct arena *a, struct err *reterr)
{
	static const struct {
		const char *var, *below;
	} places[] = {
		{"CACHE_DIRECTORY", ""}, {"XDG_CACHE_HOME", "/driftd"}, {"HOME", "/.cache/driftd"}};

	for (size_t i = 0; !c->cache_dir && i < sizeof(places) / sizeof(places[0]); i++) {
		const char *base = getenv(places[i].var);
		size_t len, bytes;
		char *path;

		if (!base || base[0] != '/')
			continue;
		/* systemd gives a list, of which the first is ours. */
		len = i ? strlen(base) : strcspn(base, ":");
		bytes = len + strlen(places[i].below) + 1;
		path = arena_alloc(a, bytes);
		if (!path)
			return err_set(reterr, -ENOMEM, "out of memory");
		snprintf(path, bytes, "%.*s%s", (int)len, base, places[i].below);
		c->cache_dir = path;
	}
	return 0;
}

static int find_api_keys(struct config *c, struct arena *a, struct err *reterr)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	size_t bytes;
	char *path;

	if (c->api_key_file || !dir || dir[0] != '/')
		return 0;
	bytes = strlen(dir) + sizeof("/apikeys");
	path = arena_alloc(a, bytes);
	if (!path)
		return err_set(reterr, -ENOMEM, "out of memory");
	snprintf(path, bytes, "%s/apikeys", dir);
	if (!access(path, F_OK))
		c->api_key_file = path;
	return 0;
}

static bool is_loopback(const char *host)
{
	unsigned a, b, c, d;
	char rest;

	return !strcmp(host, "localhost") || !strcmp(host, "::1") ||
	       (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4 && a == 127);
}

static int finish(struct config *c, struct arena *a, struct err *reterr)
{
	int r = find_cache_dir(c, a, reterr);

	if (!r)
		r = find_api_keys(c, a, reterr);
	if (r)
		return r;
	if (c->batch_tok && c->batch_tok < c->parallel)
		return err_set(reterr, -EINVAL,
			       "batch-tokens (%u) must be at least parallel (%u): each sequence "
			       "takes a token of a step",
			       c->batch_tok, c->parallel);
	for (size_t i = 0; i < c->n_listen; i++)
		if (!is_loopback(c->listen[i].host) && !c->api_key_file)
			return err_set(reterr, -EINVAL,
				       "listen: %s is not a loopback address, which needs an "
				       "api-key-file",
				       c->listen[i].host);
	return 0;
}

/* --- public */

static int loader_init(struct loader *l, struct err *reterr)
{
	*l = (struct loader){.action = CONFIG_RUN};
	l->full = calloc(1, sizeof(*l->full));
	l->rank = calloc(option_rows_n, sizeof(*l->rank));
	l->line = calloc(option_rows_n, sizeof(*l->line));
	if (!l->full || !l->rank || !l->line)
		return err_set(reterr, -ENOMEM, "out of memory");
	return load_defaults(l, reterr);
}

/* Frees what is the loader's; hands the configuration out when all went well. */
static void loader_done(struct loader *l, bool keep, struct config **ret)
{
	free(l->rank);
	free(l->line);
	if (keep)
		*ret = &l->full->c;
	else if (l->full)
		config_free(&l->full->c);
}

int config_defaults(struct config **ret, struct err *reterr)
{
	struct loader l;
	int r = loader_init(&l, reterr);

	loader_done(&l, !r, ret);
	return r;
}

int config_load(int argc, char *const *argv, struct config **ret, enum config_action *ret_action,
		struct err *reterr)
{
	struct loader l;
	char **args = NULL; /* getopt_long sorts its arguments: not the caller's */
	const char *env_file = getenv(ENV_PREFIX "CONFIG");
	bool keep = false;
	int r;

	r = loader_init(&l, reterr);
	if (r)
		goto out;
	args = calloc((size_t)argc + 1, sizeof(*args));
	if (!args) {
		r = err_set(reterr, -ENOMEM, "out of memory");
		goto out;
	}
	memcpy(args, argv, (size_t)argc * sizeof(*args));
	if (env_file && *env_file)
		l.file = env_file;
	r = load_args(&l, argc, args, false, reterr);
	if (r)
		goto out;
	keep = l.action == CONFIG_RUN || l.action == CONFIG_CHECK;
	if (keep)
		r = load_file(&l, reterr);
	if (keep && !r)
		r = load_env(&l, reterr);
	if (keep && !r)
		r = load_args(&l, argc, args, true, reterr);
	if (keep && !r)
		r = finish(&l.full->c, &l.full->mem, reterr);
	if (!r) {
		*ret_action = l.action;
		*ret = NULL;
	}
out:
	loader_done(&l, keep && !r, ret);
	free(args);
	return r;
}

void config_free(struct config *c)
{
	struct config_full *full = (struct config_full *)c;

	if (!full)
		return;
	arena_done(&full->mem);
	free(full);
}

void config_compare(const struct config *a, const struct config *b,
		    void (*changed)(void *ud, const char *key, bool live), void *ud)
{
	for (size_t i = 0; i < option_rows_n; i++)
		if (!option_equal(&option_rows[i], a, b))
			changed(ud, option_rows[i].key, option_rows[i].live);
}
