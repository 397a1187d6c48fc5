/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/nvidia.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GIB ((size_t)1 << 30)
#define GROUP_MAX 1024

static const struct {
	unsigned sm;
	const char *name;
	unsigned units, clock_mhz;
	size_t shared_bytes, l2_bytes, memory_bytes;
} table[] = {
	{75, "GeForce RTX 2080 Ti", 68, 1545, 65536, 5632 << 10, 11 * GIB},
	{80, "A100 40GB", 108, 1410, 166912, 40 << 20, 40 * GIB},
	{86, "GeForce RTX 3090", 82, 1695, 101376, 6 << 20, 24 * GIB},
	{89, "GeForce RTX 4090", 128, 2520, 101376, 72 << 20, 24 * GIB},
	{90, "H100 SXM", 132, 1980, 232448, 50 << 20, 80 * GIB},
	{100, "B200", 148, 1965, 232448, 126 << 20, 180 * GIB},
	{120, "GeForce RTX 5090", 170, 2407, 101376, 96 << 20, 32 * GIB},
};

const char nvidia_dot_program[] =
	"__kernel void k(__global int *p) { int d = p[0]; __asm__(\"dp4a.u32.s32 %0, %1, %2, %0;\""
	" : \"+r\"(d) : \"r\"(p[1]), \"r\"(p[2])); p[0] = d; }";
const char *const nvidia_mma_programs[] = {
	[BE_MMA_SM75] = "__kernel void k(__global int *p) { int d = p[0], e = p[1], a = p[2]; __asm__ volatile("
			"\"mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\""
			" : \"+r\"(d), \"+r\"(e) : \"r\"(a), \"r\"(a)); p[0] = d; p[1] = e; }",
	[BE_MMA_SM80] = "__kernel void k(__global int *p) { int d = p[0], e = p[1], f = p[2], g = p[3], a = p[4];"
			" __asm__ volatile(\"mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3},"
			" {%4, %4, %4, %4}, {%4, %4}, {%0, %1, %2, %3};\" : \"+r\"(d), \"+r\"(e), \"+r\"(f), \"+r\"(g)"
			" : \"r\"(a)); p[0] = d; p[1] = e; p[2] = f; p[3] = g; }",
};

void nvidia_from_sm(struct be_info *ret, unsigned sm)
{
	snprintf(ret->vendor, sizeof(ret->vendor), "NVIDIA");
	ret->sm = sm;
	ret->type = BE_GPU;
	ret->dot = BE_DOT_DP4A;
	ret->mma = sm >= 80 ? BE_MMA_SM80 : BE_MMA_SM75;
}

int nvidia_facts(const char *name, struct be_info *ret)
{
	char own[16];

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		snprintf(own, sizeof(own), "sm_%u", table[i].sm);
		if (strcmp(own, name) != 0)
			continue;
		*ret = (struct be_info){.absent = true,
					.driver = "by the table",
					.compute_units = table[i].units,
					.clock_mhz = table[i].clock_mhz,
					.group_max = GROUP_MAX,
					.local_bytes = table[i].shared_bytes,
					.l2_bytes = table[i].l2_bytes,
					.memory_bytes = table[i].memory_bytes};
		snprintf(ret->name, sizeof(ret->name), "%s", table[i].name);
		snprintf(ret->arch, sizeof(ret->arch), "%s", own);
		nvidia_from_sm(ret, table[i].sm);
		return 0;
	}
	return -ENOENT;
}
