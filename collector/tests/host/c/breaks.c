/*
 * Breaks its process in the way that FAULT names, in the function that AT names, from call number AFTER on; each call
 * gives a line before. Any thread of it may do so: in a call, AT=thread starts one for it. With FAILS each call fails, so
 * that the plugin is ended and started again and again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "unity.h"

#ifndef AFTER
#define AFTER 1
#endif
#define TEXT_OF(name) #name
#define TEXT(name)    TEXT_OF(name)

static int calls;
static volatile int sink;

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int is(const char *fault)
{
	return !strcmp(TEXT(FAULT), fault);
}

/* The way to the collector: the only pipe to write to, beside standard output and error. */
static int wire(void)
{
	struct stat stat;

	for (int fd = 3; fd < 1024; fd++)
		if (!fstat(fd, &stat) && S_ISFIFO(stat.st_mode) &&
		    (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
			return fd;
	return -1;
}

static int deeper(int depth)
{
	volatile char room[4096];

	room[0] = (char)depth;
	return depth < 0 ? 0 : deeper(depth + 1) + room[0];
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void say(const char *bytes, size_t length)
{
	if (write(wire(), bytes, length) < 0)
		abort();
}

static int fault(void)
{
	pthread_t thread;
	int made = 0;

	fprintf(stderr, "about to break by %s\n", TEXT(FAULT));
	if (is("segv"))
		*(volatile int *)8 = 1;
	else if (is("abort"))
		abort();
	else if (is("exit"))
		exit(3);
	else if (is("stack"))
		sink = deeper(0);
	else if (is("fpe"))
		raise(SIGFPE);
	else if (is("thread_exit"))
		pthread_exit(NULL);
	else if (is("spin"))
		for (;;)
			sink++;
	else if (is("sleep"))
		wait_for_ever(NULL);
	else if (is("stop"))
		raise(SIGSTOP);
	else if (is("prints"))
		for (;;)
			fprintf(stderr, "line %d of too many\n", made++);
	else if (is("memory"))
		for (;; made++) {
			void *room = malloc(1 << 20);

			if (!room) {
				fprintf(stderr, "no memory after %d MiB\n", made);
				abort();
			}
			memset(room, 1, 1 << 20);
		}
	else if (is("descriptors"))
		while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
			made++;
	else if (is("threads"))
		while (!pthread_create(&thread, NULL, wait_for_ever, NULL))
			made++;
	else if (is("fork")) {
		pid_t pid = fork();

		if (!pid) {
			setenv("x", "y", 1);
			wait_for_ever(NULL);
		}
		made = pid > 0;
	} else if (is("signals")) {
		kill(getpid(), SIGTERM);
		kill(getpid(), SIGINT);
		kill(0, SIGHUP);
		pthread_kill(pthread_self(), SIGUSR2);
	} else if (is("sigpipe")) {
		signal(SIGPIPE, SIG_DFL);
	} else if (is("closes")) {
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
		wait_for_ever(NULL);
	} else if (is("garbage"))
		say("not a message", 13);
	else if (is("half")) {
		say("\x84\1\0", 3);
		wait_for_ever(NULL);
	} else if (is("huge"))
		say("\x84\1\0\0\0\xff\xff\xff\xff", 9);
	else if (is("twice"))
		say("\x81\0\0\0\0\6\0\0\0other!", 15);
	return made;
}

static void *fault_of_thread(void *arg)
{
	fault();
	return arg;
}

static void here(const char *place)
{
	if (!strcmp(TEXT(AT), place))
		calls += 1000000 * fault();
}

int init(void *arg)
{
	(void)arg;
	here("init");
	return 0;
}

int call(int t, struct unity_lines *lines)
{
	struct unity_line *line;
	pthread_t thread;

	(void)t;
	unity_alloc_lines(lines, 1);
	line = unity_get_line(lines, 0);
	unity_set_table(line, "breaks");
	unity_set_index(line, 0, "fault", TEXT(FAULT));
	unity_set_value(line, 0, "calls", ++calls);
	unity_set_value(line, 1, "now_us", now_us());
	if (calls % 1000000 > AFTER) {
		here("call");
		if (!strcmp(TEXT(AT), "thread"))
			pthread_create(&thread, NULL, fault_of_thread, NULL);
	}
#ifdef FAILS
	return -EIO;
#else
	return 0;
#endif
}

void deinit(void)
{
	here("deinit");
}
