/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's counters. The engine thread counts in its own copy, without a lock, and publishes
 * it once a round. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/sched_internal.h"

const double sched_bounds_s[24] = {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03,  0.04,
				   0.06,  0.08,   0.1,   0.15,   0.25, 0.5,  0.75,  1.0,
				   2.5,   5.0,    7.5,   10.0,   20.0, 60.0, 240.0, INFINITY};

void sched_stats_add(uint64_t hist[24], double seconds)
{
	uint32_t i = 0;

	while (i < 23 && seconds > sched_bounds_s[i])
		i++;
	hist[i]++;
}

void sched_stats_publish(struct scheduler *s)
{
	uint32_t taken = s->n_run;
	const struct choice *c;

	TAILQ_FOREACH(c, &s->parked, link)
		taken++;
	s->free_slots = taken < s->slots ? s->slots - taken : 0;
	s->shared = s->now;
	s->shared.running = s->n_run;
	engine_get_stats(s->engine, &s->shared.engine);
	engine_device_bytes(s->engine, s->shared.device_bytes);
}

void sched_stats_finished(struct scheduler *s, int64_t now_ns)
{
	double gap = (double)(now_ns - s->last_finish_ns) / (double)NS_PER_S;

	/* last_finish_ns is moved up when work begins after idling, so that idling does not count.
	 */
	if (s->last_finish_ns != 0)
		s->finish_gap_s = s->finish_gap_s > 0 ? 0.9 * s->finish_gap_s + 0.1 * gap : gap;
	s->last_finish_ns = now_ns;
}

uint32_t sched_stats_retry_s(const struct scheduler *s)
{
	double wait = ceil(s->finish_gap_s * (double)(s->n_waiting + 1));

	if (!(wait >= 1))
		return 1;
	return wait > SCHED_RETRY_MAX_S ? SCHED_RETRY_MAX_S : (uint32_t)wait;
}
