/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel types that most tools read, written by hand: no more than their fields that are read. What
 * fewer tools need is in a header of its own, by what it speaks of: kernel/sock.h, irq.h, mm.h, cgroup.h.
 *
 * Every struct has preserve_access_index: libbpf relocates each access by the field's name against
 * the running kernel's BTF (CO-RE), so order, size and what lies between do not matter. A field
 * that a kernel lacks is a load error, unless bpf_core_field_exists() guards it. A field that has another
 * name or type in some kernels has a struct of its own for these, whose name ends in ___ and the version.
 * The records of tracepoints (trace_event_raw_*) are relocated in the same way.
 *
 * A tool that needs more than a few fields of its own can have the whole of it:
 * `cargo xtask new NAME --full-vmlinux`. It includes that one first.
 */
#include "kernel/types.h"
#include "kernel/task.h"
#include "kernel/file.h"
#include "kernel/trace.h"
