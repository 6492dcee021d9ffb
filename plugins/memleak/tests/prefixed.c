// SPDX-License-Identifier: MIT OR Apache-2.0
/* A library that has jemalloc's functions as `--with-jemalloc-prefix=je_` names them, on top of the C library's. */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>

void *je_malloc(size_t size)
{
	return malloc(size);
}

void *je_calloc(size_t n, size_t size)
{
	return calloc(n, size);
}

void *je_realloc(void *block, size_t size)
{
	return realloc(block, size);
}

void je_free(void *block)
{
	free(block);
}

int je_posix_memalign(void **block, size_t align, size_t size)
{
	return posix_memalign(block, align, size);
}

void *je_aligned_alloc(size_t align, size_t size)
{
	return aligned_alloc(align, size);
}

void *je_memalign(size_t align, size_t size)
{
	return memalign(align, size);
}

void *je_mallocx(size_t size, int flags)
{
	(void)flags;
	return malloc(size);
}

void *je_rallocx(void *block, size_t size, int flags)
{
	(void)flags;
	return realloc(block, size);
}

void je_dallocx(void *block, int flags)
{
	(void)flags;
	free(block);
}

void je_sdallocx(void *block, size_t size, int flags)
{
	(void)size;
	(void)flags;
	free(block);
}
