/* SPDX-License-Identifier: Apache-2.0 */
/* The strict check that stands before cJSON: it keeps out what cJSON would let through, cut short
 * or blow up. Pure: no allocation, one pass, depth bounded. */
#pragma once

#include <stddef.h>

#include "api/json.h"

/* 0 when `text` (which has a NUL after its `len` bytes) is one JSON value as json.h promises,
 * except for duplicate keys; else -1 and the error, with the byte offset. */
int json_scan(const char *text, size_t len, struct api_error *e);
