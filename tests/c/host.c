// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * host PLUGIN.so [--calls N] [--every MS] [--reads N] [--threads N] [--syscalls N] [--again]
 *
 * What a C plugin sees of the collector: loads it, calls init(), then N times call() with a pause in between,
 * then deinit(), and prints the lines as line protocol without escaping. Before the second call it does
 * what is to be counted: reads /proc/net/netstat, or makes system calls (getppid) from threads, while it
 * calls the plugin on. At last it prints how many runs of BPF programs the kernel skipped. With --again
 * everything is done twice in one process.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <linux/bpf.h>
#include <unistd.h>
#include "unity.h"

struct beeQ {
	pthread_mutex_t lock;
};

static struct beeQ queue = {PTHREAD_MUTEX_INITIALIZER};
static atomic_int working;
static long reads, threads = 2, syscalls;

/* In one piece: plugins and their threads print too. */
static void print_line(const struct unity_line *line)
{
	const char *comma = "";
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	fprintf(to, "%.32s", line->table);
	for (int i = 0; i < UNITY_INDEXS && line->indexs[i].name[0]; i++)
		fprintf(to, ",%.16s=%.16s", line->indexs[i].name, line->indexs[i].index);
	fprintf(to, " ");
	for (int i = 0; i < UNITY_VALUES && line->values[i].name[0]; i++, comma = ",")
		fprintf(to, "%s%.16s=%.17g", comma, line->values[i].name, line->values[i].value);
	if (line->logs[0].name[0])
		fprintf(to, "%s%.16s=\"%s\"", comma, line->logs[0].name, line->logs[0].log);
	fprintf(to, "\n");
	fclose(to);
	fputs(text, stdout);
	free(text);
}

static void take(struct unity_lines *lines)
{
	for (int i = 0; i < lines->num; i++) {
		print_line(&lines->line[i]);
		if (lines->line[i].logs[0].name[0])
			free(lines->line[i].logs[0].log);
	}
	free(lines->line);
}

int beeQ_send(struct beeQ *q, void *lines)
{
	if (q != &queue || !lines)
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	take(lines);
	pthread_mutex_unlock(&q->lock);
	free(lines);
	return 0;
}

struct start {
	int (*run)(struct beeQ *q, void *arg);
	void *arg;
};

static void *thread(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	start.run(&queue, start.arg);
	return NULL;
}

pthread_t beeQ_send_thread(struct beeQ *q, void *arg, int (*cb)(struct beeQ *q, void *arg))
{
	struct start *start = malloc(sizeof(*start));
	pthread_t id;

	if (q != &queue || !start)
		return 0;
	*start = (struct start){cb, arg};
	if (pthread_create(&id, NULL, thread, start)) {
		free(start);
		return 0;
	}
	return id;
}

int plugin_is_working(void)
{
	return working;
}

void plugin_thread_stop(pthread_t tid)
{
	if (!tid)
		return;
	working = 0;
	pthread_kill(tid, SIGUSR2);
	pthread_join(tid, NULL);
}

static char root[] = "/";

char *get_unity_proc(void)
{
	return root;
}

char *get_unity_sys(void)
{
	return root;
}

struct ksym_cell *ksym_search(addr_t key)
{
	static struct ksym_cell cell = {.func = "function"};

	return key ? &cell : NULL;
}

static void interrupt(int signal)
{
	(void)signal;
}

/* ---- what is counted ---- */

static void *make_syscalls(void *arg)
{
	(void)arg;
	for (long i = 0; i < syscalls; i++)
		syscall(SYS_getppid);
	return NULL;
}

/* Calls of netstat_seq_show: one, and one more each time that the text outgrew the buffer of a page. */
static long read_netstat(void)
{
	static char text[1 << 20];
	long shows = 1, room = 4096;

	for (long i = 0; i < reads; i++) {
		FILE *file = fopen("/proc/net/netstat", "r");
		long len;

		if (!file)
			return 0;
		setvbuf(file, NULL, _IONBF, 0);
		len = (long)fread(text, 1, sizeof(text), file);
		fclose(file);
		for (shows = 1, room = 4096; len >= room; room *= 2)
			shows++;
	}
	return reads * shows;
}

/*
 * Runs that the kernel skipped since programs were loaded: preemptible kernels do not run a program on a CPU
 * where it is running already.
 */
static unsigned long long missed(void)
{
	unsigned long long sum = 0;
	union bpf_attr attr = {0};

	while (!syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attr, sizeof(attr))) {
		struct bpf_prog_info info = {0};
		union bpf_attr of_fd = {0};
		unsigned int id = attr.next_id;
		int fd;

		memset(&attr, 0, sizeof(attr));
		attr.prog_id = id;
		fd = (int)syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));
		of_fd.info.bpf_fd = (unsigned int)fd;
		of_fd.info.info_len = sizeof(info);
		of_fd.info.info = (unsigned long)&info;
		if (fd >= 0 && !syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &of_fd, sizeof(of_fd)))
			sum += info.recursion_misses;
		close(fd);
		memset(&attr, 0, sizeof(attr));
		attr.start_id = id;
	}
	return sum;
}

static void pause_ms(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

static long option(int argc, char **argv, const char *name, long otherwise)
{
	for (int i = 2; i + 1 < argc; i++)
		if (!strcmp(argv[i], name))
			return atol(argv[i + 1]);
	return otherwise;
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);

	if (!found) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	return found;
}

static int once(void *library, int argc, char **argv)
{
	int (*init)(void *) = (int (*)(void *))symbol(library, "init");
	int (*call)(int, struct unity_lines *) =
		(int (*)(int, struct unity_lines *))symbol(library, "call");
	void (*deinit)(void) = (void (*)(void))symbol(library, "deinit");
	long calls = option(argc, argv, "--calls", 2), every = option(argc, argv, "--every", 100);
	pthread_t ids[64];
	int err;

	working = 1;
	err = init(&queue);
	if (err) {
		fprintf(stderr, "init: %d\n", err);
		return 1;
	}
	for (long n = 0; n < calls; n++) {
		struct unity_lines lines = {0, NULL};

		if (n == 1) {
			printf("expected shows=%ld,syscalls=%ld\n", read_netstat(),
			       threads * syscalls);
			for (long i = 0; syscalls && i < threads; i++)
				pthread_create(&ids[i], NULL, make_syscalls, NULL);
		}
		if (syscalls && n == calls - 1 && calls > 1)
			for (long i = 0; i < threads; i++)
				pthread_join(ids[i], NULL);
		err = call(1, &lines);
		if (err)
			fprintf(stderr, "call: %d\n", err);
		pthread_mutex_lock(&queue.lock);
		take(&lines);
		pthread_mutex_unlock(&queue.lock);
		pause_ms(every);
	}
	printf("missed runs=%llu\n", missed());
	deinit();
	return err != 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = interrupt};
	bool again = false;
	void *library;
	int err;

	if (argc < 2)
		return 2;
	for (int i = 2; i < argc; i++)
		again = again || !strcmp(argv[i], "--again");
	reads = option(argc, argv, "--reads", 0);
	threads = option(argc, argv, "--threads", 2);
	syscalls = option(argc, argv, "--syscalls", 0);
	sigaction(SIGUSR2, &action, NULL);
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 3;
	}
	err = once(library, argc, argv);
	if (!err && again)
		err = once(library, argc, argv);
	fflush(stdout);
	return err;
}
