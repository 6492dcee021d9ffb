/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel's allocators, by their tracepoints. Frees are never seen by tp programs: the kernel skips
 * those that interrupt another one (bpf_prog_active), and what was freed would be held for ever.
 */

/*
 * Arguments of kmalloc and kmem_cache_alloc: (site, pointer, requested, allocated, ..) before 5.19; with
 * the cache behind the pointer until 6.1 (b347aa7b5747); then kmalloc as before, and of kmem_cache_alloc
 * the cache alone (2c1d697fb8ba).
 */
enum { BEFORE_5_19, BEFORE_6_1, SINCE_6_1 };
const volatile __u32 layout = SINCE_6_1;
const volatile __u64 page_size = 4096;

struct kmem_cache {
	unsigned int size;
} __attribute__((preserve_access_index));

static __always_inline int allocated_by_kernel(void *ctx, __u64 address, __u64 size)
{
	return address && is_chosen(size) ? allocated(ctx, address, size, 0) : 0;
}

static __always_inline int freed_by_kernel(__u64 address)
{
	struct place place = {.address = address};

	if (address)
		end_block(&place);
	return 0;
}

ON_ARGUMENTS(kfree, kfree, __u64, site, __u64, address)
{
	return freed_by_kernel(address);
}

ON_ARGUMENTS(slab_free, kmem_cache_free, __u64, site, __u64, address)
{
	return freed_by_kernel(address);
}

ON_ARGUMENTS(page_free, mm_page_free, __u64, page)
{
	return freed_by_kernel(page);
}

ON_ARGUMENTS(kmalloc, kmalloc, __u64, site, __u64, address, __u64, c, __u64, d, __u64, e)
{
	return allocated_by_kernel(ctx, address, layout == BEFORE_6_1 ? e : d);
}

ON_ARGUMENTS(knode, kmalloc_node, __u64, site, __u64, address, __u64, c, __u64, d, __u64, e)
{
	return allocated_by_kernel(ctx, address, layout == BEFORE_6_1 ? e : d);
}

ON_ARGUMENTS(slab, kmem_cache_alloc, __u64, site, __u64, address, __u64, c, __u64, d, __u64, e)
{
	if (layout == SINCE_6_1)
		return allocated_by_kernel(ctx, address, READ((struct kmem_cache *)c, size));
	return allocated_by_kernel(ctx, address, layout == BEFORE_6_1 ? e : d);
}

/* Without BTF the size of a cache is in the record alone. What it misses is not tracked. */
ON_RECORD(slab, kmem, kmem_cache_alloc, __u64, ptr, __u64, bytes_alloc)
{
	return allocated_by_kernel(ctx, ptr, bytes_alloc);
}

ON_ARGUMENTS(slab_node, kmem_cache_alloc_node, __u64, site, __u64, address, __u64, c, __u64, d,
	     __u64, e)
{
	return allocated_by_kernel(ctx, address, layout == BEFORE_6_1 ? e : d);
}

ON_ARGUMENTS(page, mm_page_alloc, __u64, page, __u32, order)
{
	return allocated_by_kernel(ctx, page, page_size << order);
}
