/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the BPF program and the user side share. */
#ifndef CSAMPLE_H
#define CSAMPLE_H

#define CSAMPLE_SHOWS 0 /* the only key in use */

#ifndef __bpf__

#include "../plugin_head.h"

int init(void *arg);
int call(int t, struct unity_lines *lines);
void deinit(void);

#endif

#endif
