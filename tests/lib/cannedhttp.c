/* SPDX-License-Identifier: Apache-2.0 */
/* cannedhttp: an HTTP server for tests that are scripts. It prints its port (of 127.0.0.1), serves
 * one connection for each file named, in order, and leaves. A connection's request goes to
 * FILE.request, the file's content is the reply; after a file that ends in ".hold" the connection
 * is held until the client closes it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 1000000

static char request[REQUEST_BYTES_MAX];

/* All of a request: headers, and the body where there is a length. */
static size_t read_request(int fd)
{
	size_t n = 0, want = sizeof(request) - 1;

	while (n < want) {
		ssize_t got = recv(fd, request + n, want - n, 0);
		const char *end, *length;

		if (got <= 0)
			break;
		n += (size_t)got;
		request[n] = '\0';
		end = strstr(request, "\r\n\r\n");
		if (!end)
			continue;
		length = strstr(request, "Content-Length: ");
		want = (size_t)(end - request) + 4;
		if (length && length < end)
			want += strtoul(length + 16, NULL, 10);
		if (want > sizeof(request) - 1)
			want = sizeof(request) - 1;
	}
	return n;
}

static int serve(int fd, const char *path)
{
	char name[4096], chunk[4096];
	size_t n = read_request(fd), len = strlen(path);
	FILE *f;

	snprintf(name, sizeof(name), "%s.request", path);
	f = fopen(name, "w");
	if (!f || fwrite(request, 1, n, f) != n || fclose(f) != 0)
		return -1;
	f = fopen(path, "r");
	if (!f)
		return -1;
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		if (send(fd, chunk, n, MSG_NOSIGNAL) < 0)
			break;
	fclose(f);
	while (len > 5 && strcmp(path + len - 5, ".hold") == 0 &&
	       recv(fd, chunk, sizeof(chunk), 0) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t size = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 8) || getsockname(listener, (struct sockaddr *)&a, &size)) {
		perror("cannedhttp");
		return 1;
	}
	printf("%u\n", ntohs(a.sin_port));
	fflush(stdout);
	alarm(60); /* no test takes that long */
	for (int i = 1; i < argc; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || serve(fd, argv[i])) {
			perror(argv[i]);
			return 1;
		}
		close(fd);
	}
	return 0;
}
