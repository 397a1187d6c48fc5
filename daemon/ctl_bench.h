/* SPDX-License-Identifier: Apache-2.0 */
/* Private to driftctl bench: the peaks of the device, beside which results are set. One thread. */
#pragma once

#include <stdbool.h>

#include "base/json.h"
#include "base/strbuf.h"
#include "core/engine.h"
#include "core/peak.h"

struct bench_peak {
	bool wanted;
	struct peak *peak; /* NULL: not open */
	struct peak_rates now, all; /* measured last; best dot products and mean of the reading so far */
	unsigned n;                 /* times measured */
	char device[160];
};

/* Finds the device of that name and opens it for measuring; nothing where it is not wanted. 0, or
 * -errno with a message ('reference' is no device that has a peak). */
int bench_peak_open(struct bench_peak *p, const char *device, struct err *reterr);
/* Measures: before, between and after a test's runs, so that all are of the same seconds. Nothing where it is
 * not wanted. */
int bench_peak_measure(struct bench_peak *p, struct err *reterr);
void bench_peak_close(struct bench_peak *p);

/* Profiles a step (core/profile.h): lines into `out`, or an object into `json` where that is not NULL. The
 * engine has no sequences. 0, or -errno with a message. */
int bench_explain(struct engine *e, const struct bench_peak *p, uint32_t n_rows, bool decode,
		  struct strbuf *out, struct jw *json, struct err *reterr);

/* A line for people; an object (without a key) for programs. */
void bench_peak_text(const struct bench_peak *p, struct strbuf *out);
void bench_peak_json(const struct bench_peak *p, struct jw *w);
/* The shares that a test reached with so many a second, of the best dot products and of reading at
 * `read_bytes_per_s`, as the end of its line, and as two keys of its object. Nothing where it is not wanted. */
void bench_share_text(const struct bench_peak *p, double read_bytes_per_s, double ops_per_s,
		      double bytes_per_s, struct strbuf *out);
void bench_share_json(const struct bench_peak *p, double read_bytes_per_s, double ops_per_s,
		      double bytes_per_s, struct jw *w);
