/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory of processes, and the records of kmem events.
 *
 * The records of two events are one struct until they differ: a program picks with
 * bpf_core_type_exists(). Sizes are in bytes, `order` is the logarithm of a number of pages.
 *
 * Checked against the BTF of Linux 5.10, 6.1, 6.12, 6.18 and 7.2 (tests/tests/kernel_headers.rs).
 */
#ifndef __UNITY_KERNEL_MM_H
#define __UNITY_KERNEL_MM_H

#include "types.h"
#include "trace.h"

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef UNITY_FULL_VMLINUX

struct file;

struct mm_struct {
	unsigned long arg_start; /* of the command line, in the process */
	unsigned long arg_end;
	unsigned long total_vm; /* pages */
	struct file *exe_file;
};

/* Since 6.1 (2c1d697fb8ba "mm/slab_common: drop kmem_alloc & avoid dereferencing fields when not using"). */
struct trace_event_raw_kmalloc {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	size_t bytes_req;
	size_t bytes_alloc;
};

struct trace_event_raw_kmem_cache_alloc {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	size_t bytes_req;
	size_t bytes_alloc;
};

/* Since 5.12 (3544de8ee6e4 "mm, tracing: record slab name for kmem_cache_free()"). */
struct trace_event_raw_kfree {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
};

struct trace_event_raw_kmem_cache_free {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
};

struct trace_event_raw_mm_page_alloc {
	struct trace_entry ent;
	unsigned long pfn; /* all ones when there was no page */
	unsigned int order;
};

struct trace_event_raw_mm_page_free {
	struct trace_entry ent;
	unsigned long pfn;
	unsigned int order;
};

struct trace_event_raw_percpu_alloc_percpu {
	struct trace_entry ent;
	size_t size;
	void *ptr;
};

struct trace_event_raw_percpu_free_percpu {
	struct trace_entry ent;
	void *ptr;
};

#endif /* UNITY_FULL_VMLINUX */

/* kmalloc and kmem_cache_alloc before 6.1; the suffix keeps bpftool's own declaration apart. */
struct trace_event_raw_kmem_alloc___pre_6_1 {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	size_t bytes_req;
	size_t bytes_alloc;
};

/* Their *_node events before 6.1. */
struct trace_event_raw_kmem_alloc_node___pre_6_1 {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
	size_t bytes_req;
	size_t bytes_alloc;
};

/* kfree and kmem_cache_free before 5.12. */
struct trace_event_raw_kmem_free___pre_5_12 {
	struct trace_entry ent;
	unsigned long call_site;
	const void *ptr;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
