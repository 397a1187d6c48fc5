/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: read once from a file, compared in constant time over all of them. */
#include "api/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strbuf.h"

#define FILE_MAX_BYTES (1024 * 1024)
#define SLOT (GATE_KEY_MAX + 1)

struct gate_keys {
	size_t n;
	unsigned char (*keys)[SLOT]; /* zero-padded */
};

static int read_file(const char *path, struct strbuf *out, struct err *reterr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char buf[4096];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return err_set(reterr, -errno, "API key file %s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0)
		r = err_set(reterr, -errno, "API key file %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		r = err_set(reterr, -EINVAL, "API key file %s is not a regular file", path);
	else if (st.st_mode & (S_IROTH | S_IWOTH))
		r = err_set(reterr, -EPERM,
			    "API key file %s can be read or written by others (mode %04o): chmod "
			    "o-rw it",
			    path, (unsigned)(st.st_mode & 07777));
	else if (st.st_size > FILE_MAX_BYTES)
		r = err_set(reterr, -EFBIG, "API key file %s is larger than 1 MiB", path);
	while (!r && (n = read(fd, buf, sizeof buf)) != 0) {
		if (n < 0)
			r = err_set(reterr, -errno, "API key file %s: %s", path, strerror(errno));
		else
			sb_add(out, buf, (size_t)n);
		if (!r && (out->failed || out->len > FILE_MAX_BYTES))
			r = err_set(reterr, -EFBIG, "API key file %s is too large", path);
	}
	explicit_bzero(buf, sizeof buf);
	close(fd);
	return r;
}

static int add_key(struct gate_keys *k, const char *s, size_t n, const char *path, unsigned line,
		   struct err *reterr)
{
	void *grown;

	if (n < GATE_KEY_MIN || n > GATE_KEY_MAX)
		return err_set(
			reterr, -EINVAL,
			"API key file %s, line %u: a key has %d to %d characters, this one %zu",
			path, line, GATE_KEY_MIN, GATE_KEY_MAX, n);
	for (size_t i = 0; i < n; i++)
		if (s[i] <= 0x20 || s[i] >= 0x7f)
			return err_set(
				reterr, -EINVAL,
				"API key file %s, line %u: a key is printable ASCII without spaces",
				path, line);
	if (k->n >= GATE_KEYS_MAX)
		return err_set(reterr, -E2BIG, "API key file %s: more than %d keys", path,
			       GATE_KEYS_MAX);
	grown = realloc(k->keys, (k->n + 1) * sizeof *k->keys);
	if (!grown)
		return err_set(reterr, -ENOMEM, "API key file %s: out of memory", path);
	k->keys = grown;
	memset(k->keys[k->n], 0, SLOT);
	memcpy(k->keys[k->n++], s, n);
	return 0;
}

static int parse_keys(struct gate_keys *k, const char *text, const char *path, struct err *reterr)
{
	for (unsigned line = 1; *text; line++) {
		size_t n = strcspn(text, "\n"), len = n;
		const char *s = text;
		int r;

		while (len && (s[len - 1] == '\r' || s[len - 1] == ' ' || s[len - 1] == '\t'))
			len--;
		while (len && (*s == ' ' || *s == '\t'))
			s++, len--;
		if (len && *s != '#') {
			r = add_key(k, s, len, path, line, reterr);
			if (r < 0)
				return r;
		}
		text += n + (text[n] == '\n');
	}
	if (!k->n)
		return err_set(reterr, -EINVAL, "API key file %s holds no key", path);
	return 0;
}

int gate_keys_load(const char *path, struct gate_keys **ret, struct err *reterr)
{
	struct gate_keys *k = calloc(1, sizeof *k);
	struct strbuf text = {0};
	int r;

	if (!k)
		return err_set(reterr, -ENOMEM, "API key file %s: out of memory", path);
	r = read_file(path, &text, reterr);
	if (!r && text.len && memchr(text.data, 0, text.len))
		r = err_set(reterr, -EINVAL, "API key file %s holds NUL bytes", path);
	if (!r)
		r = parse_keys(k, sb_text(&text), path, reterr);
	if (text.data)
		explicit_bzero(text.data, text.cap);
	sb_done(&text);
	if (r < 0) {
		gate_keys_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void gate_keys_free(struct gate_keys *k)
{
	if (!k)
		return;
	if (k->keys)
		explicit_bzero(k->keys, k->n * sizeof *k->keys);
	free(k->keys);
	free(k);
}

size_t gate_keys_count(const struct gate_keys *k)
{
	return k ? k->n : 0;
}

int gate_keys_find(const struct gate_keys *k, const char *presented)
{
	unsigned char padded[SLOT] = {0};
	size_t n = strnlen(presented, SLOT);
	int found = -1;

	if (n >= SLOT)
		return -1;
	memcpy(padded, presented, n);
	for (size_t i = 0; i < k->n; i++) {
		unsigned diff = 0;
		int hit;

		for (size_t j = 0; j < SLOT; j++)
			diff |= (unsigned)(k->keys[i][j] ^ padded[j]);
		/* All ones when diff is 0, without a branch on it. */
		hit = (int)((diff - 1) >> 31) * -1;
		found = (found & ~hit) | ((int)i & hit);
	}
	explicit_bzero(padded, sizeof padded);
	return found;
}

int gate_check_key(const struct gate_keys *k, const struct gate_head *h, int *ret_key,
		   struct api_error *e)
{
	size_t n, n_x;
	const char *v = gate_field(h, "Authorization", &n);
	const char *x = gate_field(h, "X-Api-Key", &n_x);

	if (n > 1 || n_x > 1)
		return api_error_set(e, 401, "invalid_api_key", NULL,
				     "more than one API key was sent");
	if (!n && !n_x)
		return api_error_set(e, 401, "invalid_api_key", NULL,
				     "no API key: send it as \"Authorization: Bearer KEY\"");
	if (n) {
		if (strncasecmp(v, "Bearer ", 7) != 0)
			return api_error_set(e, 401, "invalid_api_key", NULL,
					     "Authorization must be \"Bearer KEY\"");
		for (v += 7; *v == ' '; v++)
			;
	} else {
		v = x;
	}
	*ret_key = gate_keys_find(k, v);
	if (*ret_key < 0)
		return api_error_set(e, 401, "invalid_api_key", NULL, "the API key is not known");
	return 0;
}
