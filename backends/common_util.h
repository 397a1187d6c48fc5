/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common*.c. */
#pragma once

#include "backends/common.h"

static inline struct common_dev *common_dev(struct be_dev *dev)
{
	return (struct common_dev *)dev;
}

static inline int common_enter(struct be_dev *dev, struct err *reterr)
{
	const struct common_api *api = common_dev(dev)->api;

	return api->enter ? api->enter(dev, reterr) : 0;
}

static inline void common_link_add(struct common_link **head, struct common_link *e)
{
	e->prev = NULL;
	e->next = *head;
	if (*head)
		(*head)->prev = e;
	*head = e;
}

static inline void common_link_remove(struct common_link **head, struct common_link *e)
{
	if (e->prev)
		e->prev->next = e->next;
	else
		*head = e->next;
	if (e->next)
		e->next->prev = e->prev;
}
