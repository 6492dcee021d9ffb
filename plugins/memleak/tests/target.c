// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A program that allocates, frees and forgets known numbers of blocks. It reads commands, each a word and
 * a number on a line, and answers each with a line when it is done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define BLOCKS	 65536

static void *kept[BLOCKS];
static void *volatile sink;
static volatile size_t huge = SIZE_MAX / 4;

/* Three places that forget blocks of different sizes; what follows the call keeps it from being a jump. */
NOINLINE void first_place(void)
{
	sink = malloc(100);
	asm volatile("");
}

NOINLINE void second_place(void)
{
	sink = calloc(10, 100);
	asm volatile("");
}

NOINLINE void third_place(void)
{
	sink = realloc(NULL, 10000);
	asm volatile("");
}

static void *forget(void *n)
{
	for (long i = (long)n; i > 0; i--) {
		void *freed = malloc(64);

		first_place();
		second_place();
		free(freed);
		third_place();
	}
	return NULL;
}

/* n blocks in each of the places, by four threads. */
static void threads(long n)
{
	pthread_t ids[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&ids[i], NULL, forget, (void *)(n / 4));
	for (int i = 0; i < 4; i++)
		pthread_join(ids[i], NULL);
}

NOINLINE void grow(long n)
{
	for (long i = 0; i < n; i++) {
		void *block = malloc(10);

		for (int size = 20; size <= 20480; size *= 2)
			block = realloc(block, size);
		/* Too much: it fails, and the old one is kept. */
		if (realloc(block, huge))
			abort();
		block = realloc(block, 300);
		kept[i] = block;
	}
}

NOINLINE void free_kept(long n)
{
	for (long i = 0; i < n; i++) {
		/* In glibc a free as well. */
		if (i % 2)
			free(kept[i]);
		else
			sink = realloc(kept[i], 0);
		kept[i] = NULL;
	}
	free(NULL);
}

NOINLINE void keep(long n)
{
	for (long i = 0; i < n; i++)
		kept[i] = malloc(500);
}

/* One block of each kind, of n bytes. */
NOINLINE void kinds(long n)
{
	void *block = NULL;

	if (posix_memalign(&block, 64, n) || posix_memalign(&block, 3, n) == 0)
		abort();
	sink = memalign(16, n);
	sink = memalign(64, n);
	sink = aligned_alloc(64, n);
	sink = valloc(n);
	sink = pvalloc(n);
	sink = reallocarray(NULL, 2, n / 2);
	sink = calloc(2, n / 2);
	sink = strdup("a string is the C library's to allocate");
	if (calloc(huge, 5) || malloc(2 * huge))
		abort();
}

/* Large blocks, which the allocator maps, and mappings of our own. */
NOINLINE void map(long n)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	for (long i = 0; i < n; i++) {
		void *page = mmap(NULL, 8192, PROT_READ, flags, -1, 0);

		free(malloc(1 << 20));
		page = mremap(page, 8192, 16384, MREMAP_MAYMOVE);
		if (i % 2)
			munmap(page, 16384);
		munmap(page, 0);
	}
	if (mmap(NULL, 0, PROT_READ, flags, -1, 0) != MAP_FAILED)
		abort();
}

/* A child frees what its parent holds, allocates, and ends. */
static void forks(long n)
{
	for (long i = 0; i < n; i++) {
		pid_t child = fork();

		if (!child) {
			free_kept(100);
			keep(100);
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
}

static volatile long alarms;
static sigset_t alarm_set;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

/* Signals at any instruction of malloc and free, and of the probes' own. */
static void signals(long n)
{
	struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};

	sigemptyset(&alarm_set);
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	for (long i = 0; i < n; i++)
		free(malloc(700));
	setitimer(ITIMER_REAL, &never, NULL);
}

/* ---- an allocator of our own, which a longjmp leaves ---- */

static jmp_buf out;
static int leaves;

NOINLINE void *hook_malloc(size_t size)
{
	if (leaves)
		longjmp(out, 1);
	return malloc(size);
}

NOINLINE void hook_free(void *block)
{
	free(block);
	asm volatile("");
}

NOINLINE void *hook_realloc(void *block, size_t size)
{
	if (leaves)
		longjmp(out, 1);
	/* As the C library's. */
	if (!block)
		return hook_malloc(size);
	return realloc(block, size);
}

NOINLINE void deeper(int depth)
{
	char frame[256];

	asm volatile("" : : "r"(frame) : "memory");
	if (depth)
		deeper(depth - 1);
	else
		sink = hook_malloc(44);
	asm volatile("" : : "r"(frame) : "memory");
}

static void jumps(long n)
{
	for (volatile long i = 0; i < n; i++) {
		leaves = 1;
		if (!setjmp(out)) {
			if (i % 2)
				sink = hook_malloc(33);
			else
				sink = hook_realloc(NULL, 33);
		}
		leaves = 0;
		hook_free(hook_malloc(33));
		deeper(0);
	}
}

/* ---- an allocator in a library, with a prefix in front of its names (prefixed.c) ---- */

#ifndef STATIC
static void prefixed(long n)
{
	void *(*je_malloc)(size_t) = dlsym(RTLD_DEFAULT, "je_malloc");
	void *(*je_calloc)(size_t, size_t) = dlsym(RTLD_DEFAULT, "je_calloc");
	void *(*je_realloc)(void *, size_t) = dlsym(RTLD_DEFAULT, "je_realloc");
	void (*je_free)(void *) = dlsym(RTLD_DEFAULT, "je_free");
	int (*je_posix_memalign)(void **, size_t, size_t) =
		dlsym(RTLD_DEFAULT, "je_posix_memalign");
	void *(*je_aligned_alloc)(size_t, size_t) = dlsym(RTLD_DEFAULT, "je_aligned_alloc");
	void *(*je_memalign)(size_t, size_t) = dlsym(RTLD_DEFAULT, "je_memalign");
	void *(*je_mallocx)(size_t, int) = dlsym(RTLD_DEFAULT, "je_mallocx");
	void *(*je_rallocx)(void *, size_t, int) = dlsym(RTLD_DEFAULT, "je_rallocx");
	void (*je_dallocx)(void *, int) = dlsym(RTLD_DEFAULT, "je_dallocx");
	void (*je_sdallocx)(void *, size_t, int) = dlsym(RTLD_DEFAULT, "je_sdallocx");

	for (long i = 0; i < n; i++) {
		void *block;

		/* Two are kept, of 100 and 640 bytes; the C library's own is nobody's. */
		sink = je_malloc(100);
		sink = je_aligned_alloc(64, 640);
		sink = malloc(77);
		je_free(je_realloc(je_calloc(2, 50), 400));
		je_sdallocx(je_rallocx(je_mallocx(64, 0), 128, 0), 128, 0);
		je_dallocx(je_mallocx(32, 0), 0);
		je_free(je_memalign(64, 64));
		if (je_posix_memalign(&block, 64, 64))
			abort();
		je_free(block);
	}
}
#endif

static void loop(long n)
{
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < n; i++) {
		void *block = malloc(100);

		asm volatile("" : : "r"(block) : "memory");
		free(block);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%ld ", (to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec);
}

static const struct {
	const char *name;
	void (*run)(long n);
} COMMANDS[] = {
	{"threads", threads},	{"grow", grow}, {"free", free_kept}, {"keep", keep},
	{"kinds", kinds},	{"map", map},	{"fork", forks},     {"signals", signals},
	{"jump", jumps},	{"loop", loop},
#ifndef STATIC
	{"prefixed", prefixed},
#endif
};

int main(int argc, char **argv)
{
	static char output[256];
	char line[64], name[64];
	long n;

	(void)argc;
	/* No buffers but ours: the C library's would be blocks of its own. */
	setvbuf(stdout, output, _IOLBF, sizeof(output));
	for (;;) {
		size_t len = 0;

		while (read(0, line + len, 1) == 1 && line[len] != '\n' && len < sizeof(line) - 2)
			len++;
		if (!len)
			return 0;
		line[len] = 0;
		if (sscanf(line, "%63s %ld", name, &n) != 2)
			return 2;
		if (!strcmp(name, "exec"))
			execv("/proc/self/exe", argv);
		for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(*COMMANDS); i++)
			if (!strcmp(name, COMMANDS[i].name))
				COMMANDS[i].run(n);
		printf("%s\n", name);
	}
}
