/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl: looks at devices and kernels, plans memory, measures, tokenizes and chats. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <stdio.h>
#include <string.h>

#include "backends/backend.h"
#include "daemon/ctl.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif
#ifndef CONFIGURE_SUMMARY
#define CONFIGURE_SUMMARY "built by hand"
#endif

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} verbs[] = {
	{"devices", ctl_devices, "the devices that a model can run on"},
	{"plan", ctl_plan, "the memory that a model takes, before it is allocated"},
	{"kernels", ctl_kernels, "the kernels that a model gets on a device"},
	{"bench", ctl_bench, "tokens a second of prefill and decode"},
#ifndef CTL_BARE /* what tests/gpu.sh builds has neither tokenizers nor a server's parser */
	{"chat", ctl_chat, "talk with a model through a server"},
	{"tokenize", ctl_tokenize, "a text as token ids"},
#endif
	{NULL, NULL, NULL},
};

static void help(FILE *to)
{
	fputs("Usage: driftctl VERB [OPTION]...\n\n", to);
	for (const struct verb *v = verbs; v->name; v++)
		fprintf(to, "  %-10s %s\n", v->name, v->what);
	fputs("\n  -h, --help     print this help; 'driftctl VERB --help' tells more\n"
	      "  -V, --version  print the version\n",
	      to);
}

int main(int argc, char **argv)
{
	char cache[CTL_PATH_BYTES];

	if (argc < 2) {
		help(stderr);
		return CTL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		help(stdout);
		return CTL_OK;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("driftctl %s (%s)\n", PACKAGE_VERSION, CONFIGURE_SUMMARY);
		return CTL_OK;
	}
	be_environment(ctl_cache_dir(cache));
	for (const struct verb *v = verbs; v->name; v++)
		if (strcmp(argv[1], v->name) == 0)
			return v->run(argc - 1, argv + 1);
	fprintf(stderr, "driftctl: unknown verb '%s'\n", argv[1]);
	help(stderr);
	return CTL_USAGE;
}
