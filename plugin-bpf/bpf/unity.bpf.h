/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel side of plugin-bpf. A tool includes this one header.
 *
 *   COUNTERS(name, A, B, ..)          named counters          counters_add(&name, A, delta)
 *   COUNTER_ARRAY(name, n)            counters by number      counters_add(&name, i, delta)
 *   HISTOGRAM(name, n, div)           n histograms            histogram_add(cut, &name, i, value)
 *   HISTOGRAMS(name, K, n, div)       a histogram per key     histograms_add(cut, &name, &key, value)
 *   TABLE(name, K, V, n)              values of unknown keys  table_at(cut, &name, &key), table_add(..)
 *   STACKS(name, n)                   call stacks             stacks_add(cut, ctx, &name, flags)
 *   STACK_STORE(name, n)              call stacks that stay   stack_store_add(ctx, &name, flags)
 *   PAIRS(name, K, V, n)              begin and end           pairs_begin(&name, &key, &value), ..
 *   CPU_PAIRS(name, n)                the same on a CPU       cpu_pairs_begin(&name, i, now), ..
 *   EVENTS(name, T, bytes)            single events           events_emit(ctx, &name, &event), ..
 *
 * Each has its Rust side, which the build script writes into `skel::Maps` from the declaration. What
 * a map cannot store is counted by piece and cause, and leaves in the table `collector_map`.
 *
 * HISTOGRAM, HISTOGRAMS, TABLE and STACKS have two halves. A program enters the cut once, CUT(cut),
 * and hands it to each of them: all that one run adds lies in the same half (unity/cut.h).
 *
 * Programs for the usual hooks are written once for all of their mechanisms: ON_TRACEPOINT,
 * ON_ARGUMENTS, ON_RECORD, ON_TASK, ON_FUNCTION, ON_SYSCALL_ENTER and ON_SYSCALL_EXIT (unity/hooks.h).
 */
#ifndef __UNITY_BPF_H
#define __UNITY_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "unity/license.h"
#include "unity/base.h"
#include "unity/cut.h"
#include "unity/counters.h"
#include "unity/histogram.h"
#include "unity/table.h"
#include "unity/stacks.h"
#include "unity/pairs.h"
#include "unity/cpu_pairs.h"
#include "unity/events.h"
#include "unity/hooks.h"
#include "unity/task.h"

#endif
