// Does what probes are known to disturb, when it is told to: threads and children read lines by functions with the
// names of readline's, jump out of them, throw exceptions, get signals. Forgets blocks, spins. Says "right" when all of
// that went well, and ends at the end of its input.
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

static thread_local jmp_buf out;
static std::atomic<int> signals{0};
static void *volatile kept;

extern "C" __attribute__((noinline)) char *readline_internal_teardown(int eof)
{
	asm volatile("");
	return eof ? nullptr : strdup("line");
}

extern "C" __attribute__((noinline)) char *readline(const char *prompt)
{
	if (prompt && *prompt == '!')
		longjmp(out, 1);
	char *line = readline_internal_teardown(0);
	asm volatile("" : "+r"(line));
	return line;
}

extern "C" __attribute__((noinline)) void forget()
{
	kept = malloc(123456);
	asm volatile("");
}

extern "C" __attribute__((noinline)) void spin()
{
	for (clock_t end = clock() + CLOCKS_PER_SEC / 5; clock() < end;)
		for (int i = 0; i < 1000000; i++)
			asm volatile("");
}

static int depth(int n)
{
	if (n == 0)
		throw std::runtime_error("deep");
	return depth(n - 1) + 1;
}

static bool work(int rounds)
{
	for (volatile int i = 0; i < rounds; i = i + 1) {
		char *line = readline("");
		bool right = !strcmp(line, "line");
		free(line);
		if (!right)
			return false;
		if (!setjmp(out))
			readline("!");
		try {
			depth(20);
			return false;
		} catch (const std::exception &e) {
			if (std::string(e.what()) != "deep")
				return false;
		}
	}
	return true;
}

static bool all()
{
	ualarm(1000, 1000);
	std::atomic<bool> right{true};
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&] {
			if (!work(50))
				right = false;
			for (int n = 0; n < 10; n++)
				forget();
		});
	for (auto &thread : threads)
		thread.join();
	ualarm(0, 0);
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();
		if (child == 0)
			_exit(work(10) ? 0 : 1);
		int status = 0;
		while (waitpid(child, &status, 0) < 0)
			;
		if (status)
			right = false;
	}
	spin();
	return right && signals > 0;
}

int main()
{
	struct sigaction action = {};
	action.sa_handler = [](int) { signals++; };
	action.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &action, nullptr);
	sigaction(SIGUSR2, &action, nullptr);
	setvbuf(stdout, nullptr, _IONBF, 0);
	puts("ready");
	char byte;
	if (read(0, &byte, 1) != 1)
		return 9;
	puts(all() ? "right" : "wrong");
	while (read(0, &byte, 1) == 1)
		;
}
