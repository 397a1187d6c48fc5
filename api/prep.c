/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of jobs and a few threads. The queue's length is bounded by the number of connections. */
#include "api/prep.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 8

struct prep {
	pthread_mutex_t mu;
	pthread_cond_t work;
	struct prep_job *head, **tail;
	pthread_t threads[THREADS_MAX];
	unsigned n_threads;
	bool stop;
};

static void *prep_main(void *arg)
{
	struct prep *p = arg;

	pthread_mutex_lock(&p->mu);
	for (;;) {
		struct prep_job *job = p->head;

		if (!job) {
			if (p->stop)
				break;
			pthread_cond_wait(&p->work, &p->mu);
			continue;
		}
		p->head = job->next;
		if (!p->head)
			p->tail = &p->head;
		pthread_mutex_unlock(&p->mu);
		job->run(job);
		pthread_mutex_lock(&p->mu);
	}
	pthread_mutex_unlock(&p->mu);
	return NULL;
}

int prep_new(unsigned n_threads, struct prep **ret, struct err *reterr)
{
	struct prep *p = calloc(1, sizeof *p);

	if (!p)
		return err_set(reterr, -ENOMEM, "preparation threads: out of memory");
	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->work, NULL);
	p->tail = &p->head;
	for (; p->n_threads < n_threads && p->n_threads < THREADS_MAX; p->n_threads++) {
		int r = pthread_create(&p->threads[p->n_threads], NULL, prep_main, p);

		if (r) {
			prep_free(p);
			return err_set(reterr, -r, "preparation threads: %s", strerror(r));
		}
	}
	*ret = p;
	return 0;
}

void prep_free(struct prep *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->mu);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mu);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

void prep_push(struct prep *p, struct prep_job *job, bool first)
{
	pthread_mutex_lock(&p->mu);
	if (first) {
		job->next = p->head;
		p->head = job;
		if (!job->next)
			p->tail = &job->next;
	} else {
		job->next = NULL;
		*p->tail = job;
		p->tail = &job->next;
	}
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->mu);
}
