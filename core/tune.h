/* SPDX-License-Identifier: Apache-2.0 */
/* Which tile of a product (kgen_tiles) is fastest on a device: measured once, at the first start
 * with a model, on the weight that the model has most of, and kept in the program cache. It decides
 * about speed only: a row's additions are in one order in any tile. Thread: any, one at a time. */
#pragma once

#include <stdbool.h>

#include "backends/backend.h"
#include "core/engine.h"
#include "core/kgen.h"

struct tune_result {
	uint32_t tile;        /* for engine_options.tile */
	bool measured;        /* else it was in the cache */
	double s[KGEN_TILES]; /* where measured: seconds a launch, the fastest run of each */
};

/* The largest weight of the format and length that most of the model's quantized elements have, or
 * TENSOR_NONE where so little is quantized that measuring would take longer than it could ever
 * save. */
tensor_id tune_weight(const struct graph *g);

/* The best tile for weight `w`, from the cache in o->cache_dir or measured on the device, which is
 * opened for it (and takes a second or so: it compiles). 0; -errno when the device can't; a cache
 * that can't be used is none. */
int tune_tile(const struct be_ops *ops, const struct be_info *dev, const struct graph *g,
	      tensor_id w, const struct engine_options *o, struct tune_result *ret,
	      struct err *reterr);
