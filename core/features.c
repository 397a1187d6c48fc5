/* SPDX-License-Identifier: Apache-2.0 */
#include "core/features.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct feature_info features[] = {
	{FEATURE_PERSISTENT, "persistent", "a step is one launch, with barriers between its stages (CPU devices)"},
	{FEATURE_ONE_KERNEL, "one-kernel", "all templates are functions of one kernel that walks a list (CPU devices)"},
	{FEATURE_FUSE_GATE_UP, "fuse-gate-up", "gate, up, SiLU and multiplication in one product"},
	{FEATURE_FUSE_NORM, "fuse-norm", "residual addition and quantization inside the norm"},
	{FEATURE_COLUMNS, "columns", "several tokens a work-item, so that weights are read once for all"},
	{FEATURE_INNER_ROWS, "inner-rows", "the int8 of eight tokens dword by dword side by side (CPU devices)"},
	{FEATURE_PREFETCH, "prefetch", "weights are asked for before they are needed (x86)"},
	{FEATURE_DOT, "dot", "the device's dot product of four bytes"},
	{FEATURE_CANDIDATES, "candidates", "the device finds the best tokens; else the host reads all logits for greedy sampling, too"},
	{FEATURE_SPLIT, "split", "attention over many keys is cut into parts that run side by side"},
	{FEATURE_OVERLAP, "overlap", "clients are told of a step while the next one runs (not on CPU devices)"},
	{FEATURE_TUNE, "tune", "the tile of products that is fastest for the model on the device, measured at its first start"},
	{FEATURE_MULTI_STEP, "multi-step", "where steps are short and sampling is greedy, several go to the device at once"},
	{FEATURE_MMA, "mma", "the device's matrix units for int8; else the same by plain code (GPUs that have them)"},
	{FEATURE_REPLAY, "replay", "the launches of a step of few rows are recorded at the start and replayed (CUDA)"},
	{FEATURE_DRAW, "draw", "the device finds the tokens that may be drawn; else the host reads all logits for them (GPUs)"},
	{0, NULL, NULL},
};

int features_parse(const char *list, uint32_t *ret, struct err *reterr)
{
	uint32_t bits = 0;

	for (const char *p = list; *p;) {
		const size_t n = strcspn(p, ",");
		const struct feature_info *f = features;
		while (f->name && (strlen(f->name) != n || strncmp(f->name, p, n) != 0))
			f++;
		if (!f->name) {
			char names[300] = "";
			for (f = features; f->name; f++)
				snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
					 names[0] ? ", " : "", f->name);
			return err_set(reterr, -EINVAL, "disable: no optimisation is called '%.*s'; there are: %s",
				       (int)(n < 40 ? n : 40), p, names);
		}
		bits |= f->bit;
		p += n;
		if (*p == ',')
			p++;
	}
	*ret = bits;
	return 0;
}
