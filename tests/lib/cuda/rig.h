/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the CUDA backend on the fake libraries share. All of it fails the test by ck_assert. */
#pragma once

#include "backends/backend.h"
#include "tests/lib/cuda/fakecuda.h"

extern struct fake_cuda fake;

/* Kernels: scale(float *p, float by), add(const float *a, const float *b, float *c, int n), and sum(const float *a,
 * float *c), which adds a group's elements (a power of two of them) in shared memory. */
extern const char rig_text[];

/* Is there a C++ compiler? Says so where not. Looks in a process of its own, so that nothing is loaded here. */
bool rig_can_compile(void);
/* Loads both fakes, once a process. */
void rig_load(void);
/* A new "process" of the driver's, whose facts are as at first. */
void rig_reset(void);
/* Nothing is left of handles and memory, and nothing was misused. */
void rig_clean(const char *what);

const struct be_ops *rig_ops(void);
/* What the backend tells of the first device. */
struct be_info rig_info(void);
struct be_dev *rig_open(void);
struct be_prog *rig_build(struct be_dev *dev);

struct be_arg rig_buffer(struct be_mem *m, uint64_t offset);
struct be_arg rig_int(int v);
struct be_arg rig_float(float v);
int rig_launch(struct be_dev *dev, struct be_prog *p, const char *entry, uint32_t groups, uint32_t group,
	       const struct be_arg *args, uint32_t n_args, struct err *reterr);
/* Marks and waits; 0 or the first error. */
int rig_finish(struct be_dev *dev, struct err *reterr);
