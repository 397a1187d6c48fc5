/* SPDX-License-Identifier: Apache-2.0 */
/* Private to model.c and model_text.c: the halves of opening a model. */
#pragma once

#include "model/model.h"

/* Empties `m` and opens the file: its name, its sizes. 0 or -errno; model_finish in any case. */
int model_open_file(struct model *m, const char *path, struct err *reterr);
/* What an open function returns that got `r`: on an error all is closed. */
int model_finish(struct model *m, int r, struct err *reterr);
