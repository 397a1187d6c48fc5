/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options and the texts made from it: the help and the commented driftd.conf. */
#include "daemon/config_table.h"

#include <inttypes.h>
#include <string.h>

#define AT(field) offsetof(struct config, field)
#define TIB (UINT64_C(1) << 40)
#define DAY_S 86400
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static const char *const storage_names[] = {
	[STORAGE_BUFFER] = "buffer", [STORAGE_TEXTURE2D] = "texture2d", NULL};
static const char *const speculate_names[] = {[SPECULATE_OFF] = "off",
					      [SPECULATE_AUTO] = "auto",
					      [SPECULATE_ALWAYS] = "always",
					      NULL};
static const char *const prefill_type_names[] = {[PREFILL_EXACT] = "exact", [PREFILL_F16] = "f16", NULL};
static const char *const kv_type_names[] = {[KV_F16] = "f16", [KV_Q8] = "q8", NULL};
static const char *const margin_names[] = {"auto", NULL};
static const char *const plan_names[] = {[PLAN_GREEDY] = "greedy", [PLAN_NAIVE] = "naive", NULL};
static const char *const level_names[] = {[LOG_LEVEL_ERROR] = "error",
					  [LOG_LEVEL_WARNING] = "warning",
					  [LOG_LEVEL_INFO] = "info",
					  [LOG_LEVEL_DEBUG] = "debug",
					  NULL};

#define ORIGINS_DEFAULT                                                                      \
	"http://localhost:*, https://localhost:*, http://127.0.0.1:*, https://127.0.0.1:*, " \
	"http://[::1]:*, https://[::1]:*, app://*, tauri://*, vscode-webview://*"

const struct option_row option_rows[] = {
	{.key = "model",
	 .section = "Model and device",
	 .type = OPT_TEXT,
	 .offset = AT(model),
	 .max = 4095,
	 .preset = "",
	 .metavar = "FILE",
	 .help = "The model: a GGUF file. Nothing is downloaded."},
	{.key = "model-id",
	 .type = OPT_TEXT,
	 .offset = AT(model_id),
	 .max = 64,
	 .preset = "",
	 .metavar = "NAME",
	 .help = "The model's name in the API: letters, digits, '.', '_' and '-'. Default: the "
		 "file's name without .gguf and weight format."},
	{.key = "device",
	 .type = OPT_TEXT,
	 .offset = AT(device),
	 .min = 1,
	 .max = 63,
	 .preset = "auto",
	 .metavar = "NAME",
	 .help = "Where the model runs: auto, or a name that 'driftctl devices' lists, such as "
		 "opencl:0; reference is plain C, slow and exact."},
	{.key = "context",
	 .type = OPT_COUNT,
	 .offset = AT(context_tok),
	 .max = 16777216,
	 .preset = "0",
	 .metavar = "TOKENS",
	 .help = "Longest sequence, prompt and answer together. 0: the model's own limit."},
	{.key = "kv-tokens",
	 .type = OPT_COUNT,
	 .offset = AT(kv_tok),
	 .max = 1073741824,
	 .preset = "0",
	 .metavar = "TOKENS",
	 .help = "Size of the pool of keys and values that all sequences share. 0: the larger of "
		 "the context and 16384, bounded by what fits."},
	{.key = "parallel",
	 .type = OPT_COUNT,
	 .offset = AT(parallel),
	 .min = 1,
	 .max = ENGINE_SEQ_MAX,
	 .preset = "32",
	 .metavar = "N",
	 .help = "Sequences that are computed at once; others wait."},
	{.key = "batch-tokens",
	 .type = OPT_COUNT,
	 .offset = AT(batch_tok),
	 .max = 8192,
	 .preset = "0",
	 .metavar = "TOKENS",
	 .help = "Tokens in one step, at most; at least 'parallel'. 0: 128, or 512 on a GPU."},
	{.key = "memory-margin",
	 .type = OPT_BYTES,
	 .offset = AT(memory_margin_bytes),
	 .max = TIB,
	 .preset = "auto",
	 .metavar = "BYTES",
	 .names = margin_names,
	 .help = "Memory of the device that is left free. auto: 256M on a GPU with a memory of its own, "
		 "for what the plan does not count; else 0."},
	{.key = "prefill-tokens",
	 .type = OPT_COUNT,
	 .offset = AT(prefill_tok),
	 .max = 8192,
	 .preset = "0",
	 .metavar = "TOKENS",
	 .help = "Tokens of waiting prompts in one step while answers are being made: bounds the "
		 "pause that a long prompt puts into others' answers. 0: half of 'batch-tokens'."},
	{.key = "prefill-type",
	 .type = OPT_ENUM,
	 .offset = AT(prefill_type),
	 .preset = "exact",
	 .metavar = "TYPE",
	 .names = prefill_type_names,
	 .help = "Arithmetic of products with more than 32 tokens: exact, the same as of all others; "
		 "or f16, half precision on a GPU's matrix units, where that is faster. Answers "
		 "then depend on how a prompt was cut into steps, and on the prefix cache."},
	{.key = "speculate",
	 .type = OPT_ENUM,
	 .offset = AT(speculate),
	 .preset = "auto",
	 .metavar = "WHEN",
	 .names = speculate_names,
	 .help = "Guess an answer's next tokens from what was said before, and check several in "
		 "one step: auto, when measured times say that it pays; always, as if more rows "
		 "took no longer. The answers are the same."},
	{.key = "kv-type",
	 .type = OPT_ENUM,
	 .offset = AT(kv_type),
	 .preset = "f16",
	 .metavar = "TYPE",
	 .names = kv_type_names,
	 .help = "How keys and values are kept: as halves, or as int8 with scales (q8), which takes "
		 "little more than half the memory, is faster over long contexts, and rounds."},
	{.key = "storage",
	 .type = OPT_ENUM,
	 .offset = AT(storage),
	 .preset = "buffer",
	 .metavar = "KIND",
	 .names = storage_names,
	 .help = "Memory objects for weights and activations. The answers are the same."},
	{.key = "plan",
	 .type = OPT_ENUM,
	 .offset = AT(plan),
	 .preset = "greedy",
	 .metavar = "KIND",
	 .names = plan_names,
	 .help = "How activations share memory; naive shares nothing. The answers are the same."},
	{.key = "disable",
	 .type = OPT_TEXT,
	 .offset = AT(disable),
	 .max = 400,
	 .preset = "",
	 .metavar = "NAMES",
	 .help = "Optimisations to leave out, with commas between their names ('driftctl bench "
		 "--disable help' lists them): to measure what each is worth, or to find which "
		 "one is at fault. The answers are the same."},
	{.key = "cache-dir",
	 .type = OPT_TEXT,
	 .offset = AT(cache_dir),
	 .max = 4095,
	 .preset = "",
	 .metavar = "DIR",
	 .help = "Folder for built programs. Default: $CACHE_DIRECTORY (set by systemd), else "
		 "$XDG_CACHE_HOME/driftd, else ~/.cache/driftd."},

	{.key = "listen",
	 .section = "Network",
	 .type = OPT_ADDRS,
	 .offset = AT(listen),
	 .min = 1,
	 .max = 16,
	 .preset = "127.0.0.1:8080",
	 .metavar = "HOST:PORT",
	 .help = "Address to listen on; may be repeated. An IPv6 address stands in brackets. "
		 "Beyond "
		 "this machine only with an api-key-file."},
	{.key = "api-key-file",
	 .type = OPT_TEXT,
	 .offset = AT(api_key_file),
	 .max = 4095,
	 .preset = "",
	 .metavar = "FILE",
	 .live = true,
	 .help = "File with API keys, one a line, which others must not be able to read. Default: "
		 "apikeys in $CREDENTIALS_DIRECTORY where systemd put one, else no key is asked "
		 "for."},
	{.key = "allowed-hosts",
	 .type = OPT_LIST,
	 .offset = AT(allowed_hosts),
	 .max = 64,
	 .preset = "",
	 .metavar = "NAME,...",
	 .live = true,
	 .help = "Names in the Host header that are answered beside localhost and loopback "
		 "addresses."},
	{.key = "allowed-origins",
	 .type = OPT_LIST,
	 .offset = AT(allowed_origins),
	 .max = 64,
	 .preset = ORIGINS_DEFAULT,
	 .metavar = "ORIGIN,...",
	 .live = true,
	 .help = "Web origins whose requests are answered; others get 403. ':*' at the end stands "
		 "for any port or none, '://*' for any host."},
	{.key = "max-body-bytes",
	 .type = OPT_BYTES,
	 .offset = AT(max_body_bytes),
	 .min = 1024,
	 .max = UINT64_C(1) << 30,
	 .preset = "8M",
	 .metavar = "BYTES",
	 .live = true,
	 .help = "Largest body of a request; beyond it 413."},
	{.key = "max-connections",
	 .type = OPT_COUNT,
	 .offset = AT(max_connections),
	 .min = 8,
	 .max = 100000,
	 .preset = "4000",
	 .metavar = "N",
	 .help = "Connections at once. Each takes one file descriptor."},
	{.key = "header-timeout",
	 .type = OPT_SECONDS,
	 .offset = AT(header_timeout_s),
	 .min = 1,
	 .max = 3600,
	 .preset = "10",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "Time for all headers of a request to arrive."},
	{.key = "body-timeout",
	 .type = OPT_SECONDS,
	 .offset = AT(body_timeout_s),
	 .min = 1,
	 .max = 3600,
	 .preset = "30",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "Time for the whole body of a request to arrive."},
	{.key = "write-timeout",
	 .type = OPT_SECONDS,
	 .offset = AT(write_timeout_s),
	 .min = 1,
	 .max = 3600,
	 .preset = "60",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "A client that reads nothing for so long is disconnected."},
	{.key = "ping-interval",
	 .type = OPT_SECONDS,
	 .offset = AT(ping_interval_s),
	 .min = 1,
	 .max = 3600,
	 .preset = "10",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "A stream that has nothing to say sends a comment so often."},
	{.key = "stream-interval",
	 .type = OPT_COUNT,
	 .offset = AT(stream_interval_ms),
	 .max = 1000,
	 .preset = TEXT(STREAM_INTERVAL_MS),
	 .metavar = "MS",
	 .help = "Tokens of a stream that come quicker than this, in milliseconds, go out together, and "
		 "at temperature 0 several are computed in one go. 0: each by itself."},

	{.key = "queue-requests",
	 .section = "Queue and limits",
	 .type = OPT_COUNT,
	 .offset = AT(queue_requests),
	 .min = 1,
	 .max = 1000000,
	 .preset = "256",
	 .metavar = "N",
	 .help = "Requests that may wait; beyond it 503."},
	{.key = "queue-tokens",
	 .type = OPT_COUNT,
	 .offset = AT(queue_tok),
	 .min = 1,
	 .max = 1073741824,
	 .preset = "1000000",
	 .metavar = "TOKENS",
	 .help = "Prompt tokens that may wait; beyond it 503."},
	{.key = "client-requests",
	 .type = OPT_COUNT,
	 .offset = AT(client_requests),
	 .max = 1000000,
	 .preset = "0",
	 .metavar = "N",
	 .help = "Requests of one client, running and waiting; beyond it 429. 0: no limit."},
	{.key = "request-timeout",
	 .type = OPT_SECONDS,
	 .offset = AT(request_timeout_s),
	 .min = 1,
	 .max = DAY_S,
	 .preset = "600",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "Time for a request, waiting included."},
	{.key = "drain-timeout",
	 .type = OPT_SECONDS,
	 .offset = AT(drain_timeout_s),
	 .max = 3600,
	 .preset = "30",
	 .metavar = "SECONDS",
	 .live = true,
	 .help = "When told to stop: time for the running requests to end."},

	{.key = "log-level",
	 .section = "Log",
	 .type = OPT_ENUM,
	 .offset = AT(log_level),
	 .preset = "info",
	 .metavar = "LEVEL",
	 .names = level_names,
	 .live = true,
	 .help = "What is logged to standard error. Prompts and answers never are."},
};
const size_t option_rows_n = sizeof(option_rows) / sizeof(option_rows[0]);

const char *config_key(size_t i)
{
	return i < option_rows_n ? option_rows[i].key : NULL;
}

void option_range(const struct option_row *o, char *out, size_t out_bytes)
{
	size_t len = 0;

	out[0] = 0;
	switch (o->type) {
	case OPT_COUNT:
		snprintf(out, out_bytes, "%" PRIu64 " to %" PRIu64, o->min, o->max);
		break;
	case OPT_SECONDS:
		snprintf(out, out_bytes, "%" PRIu64 " to %" PRIu64 " seconds", o->min, o->max);
		break;
	case OPT_BYTES:
		snprintf(out, out_bytes, "%s%s%" PRIu64 " to %" PRIu64 " bytes", o->names ? o->names[0] : "",
			 o->names ? ", or " : "", o->min, o->max);
		break;
	case OPT_ENUM:
		for (size_t i = 0; o->names[i] && len < out_bytes; i++) {
			int n = snprintf(out + len, out_bytes - len, "%s%s", i ? ", " : "",
					 o->names[i]);
			len += n > 0 ? (size_t)n : 0;
		}
		break;
	case OPT_TEXT:
	case OPT_LIST:
	case OPT_ADDRS:
		break;
	}
}

/* Writes words in lines of at most `width` columns, each line after `prefix`. */
static void print_wrapped(FILE *f, const char *prefix, const char *text, size_t width)
{
	size_t col = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (col && col + 1 + n > width) {
			fputc('\n', f);
			col = 0;
		}
		if (col)
			fputc(' ', f);
		else
			fputs(prefix, f);
		fwrite(text, 1, n, f);
		col += n + (col ? 1 : 0);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', f);
}

void config_print_help(FILE *f)
{
	char range[120];

	fputs("Usage: driftd [OPTION]...\n"
	      "Serves a large language model over an OpenAI-compatible HTTP interface.\n\n"
	      "  -h, --help              show this text\n"
	      "  -V, --version           show version and build options\n"
	      "  -c, --config FILE       read FILE instead of the default configuration file\n"
	      "      --check-config [FILE]\n"
	      "                          say whether the configuration is good, and exit\n"
	      "      --dump-config       write a commented configuration file with all defaults\n"
	      "\nEvery key of the configuration file is an option too, and DRIFTD_<KEY> an\n"
	      "environment variable. The command line wins over the environment, that over the\n"
	      "file.\n",
	      f);
	for (size_t i = 0; i < option_rows_n; i++) {
		const struct option_row *o = &option_rows[i];

		if (o->section)
			fprintf(f, "\n%s\n", o->section);
		fprintf(f, "  --%s %s\n", o->key, o->metavar);
		print_wrapped(f, "      ", o->help, 74);
		option_range(o, range, sizeof(range));
		if (range[0] || o->preset[0]) {
			char line[512];
			snprintf(line, sizeof(line), "[%s%s%s%s]", range,
				 range[0] && o->preset[0] ? "; " : "",
				 o->preset[0] ? "default " : "", o->preset);
			print_wrapped(f, "      ", line, 74);
		}
	}
}

void config_dump_template(FILE *f)
{
	char range[120];

	fputs("# driftd.conf: configuration of driftd(8). See driftd.conf(5).\n"
	      "# Lines are `key = value`; what is commented out shows the default. Lists take\n"
	      "# commas or a line for each element. DRIFTD_<KEY> in the environment and --<key> "
	      "on\n"
	      "# the command line win over this file.\n",
	      f);
	for (size_t i = 0; i < option_rows_n; i++) {
		const struct option_row *o = &option_rows[i];

		if (o->section)
			fprintf(f, "\n# --- %s ---\n", o->section);
		fputc('\n', f);
		print_wrapped(f, "# ", o->help, 86);
		option_range(o, range, sizeof(range));
		if (range[0])
			fprintf(f, "# Allowed: %s.\n", range);
		if (o->live)
			fputs("# Taken over by a reload (SIGHUP).\n", f);
		fprintf(f, "#%s =%s%s\n", o->key, o->preset[0] ? " " : "", o->preset);
	}
}
