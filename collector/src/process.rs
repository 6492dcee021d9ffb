//! This process and the machine: what the host asks the C library and /proc about itself.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Resident memory.
    pub rss_bytes: i64,
    /// Processor time since the start.
    pub cpu_ns: u64,
    /// Threads.
    pub threads: i64,
}

/// Reads it; what /proc does not tell is 0.
pub fn usage() -> Used {
    // Opened once: to open it costs as much as to read it.
    static STATUS: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/status").ok());
    let mut text = [0; 4096];
    let read = STATUS.as_ref().and_then(|status| status.read_at(&mut text, 0).ok());
    let status = String::from_utf8_lossy(&text[..read.unwrap_or_default()]);
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0i64)
    };
    Used {
        rss_bytes: number("VmRSS:") * 1024,
        cpu_ns: nanoseconds(ClockId::ProcessCPUTime),
        threads: number("Threads:"),
    }
}

/// Processor time of this thread since its start.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Asks for short turns on the CPU for this thread and what it starts. Who wants less at a time is chosen sooner, and
/// has no more of the CPU: so neither a busy machine nor the calls of other plugins, which all begin at one moment, keep a
/// call waiting for whole turns. Since Linux 6.12 (`sched_attr::sched_runtime` under SCHED_OTHER, "Use
/// sched_attr::sched_runtime to set request/slice suggestion"); before, and where it is refused, nothing changes.
pub fn take_short_turns() {
    const TURN_NS: u64 = 200_000;
    let size = size_of::<libc::sched_attr>() as u32;
    let mut now = MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: of the calling thread; the kernel writes at most `size` bytes, to where there are as many.
    let asked = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, now.as_mut_ptr(), size, 0) };
    // SAFETY: all of its bytes are zero or the kernel's, and each of its fields is a number.
    let mut turns = unsafe { now.assume_init() };
    if asked != 0 || turns.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        return;
    }
    (turns.size, turns.sched_runtime) = (size, TURN_NS);
    // SAFETY: of the calling thread; the kernel reads `size` bytes.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const turns, 0) };
}

/// The machine's name.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Gives memory that is free but still ours back to the kernel.
pub fn trim_memory() {
    // glibc only; elsewhere the allocator has its own ways.
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A standard stream, by its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard input.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
}

/// One bit for each standard stream that was closed when the process began.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Whether whoever started us closed a standard stream, as a shell does by `>&-`. The standard library
/// puts /dev/null in its place before `main`, so that no other descriptor gets its number; what is
/// written there is lost.
#[must_use]
pub fn closed_at_start(stream: StandardStream) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << stream as u8) != 0
}

/// Looks before the standard library does. It is called by the C library as such functions are: once, with
/// no other thread about.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        for descriptor in 0..2 {
            // SAFETY: asks for a flag of a descriptor, and says so if it is none.
            if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
                CLOSED.fetch_or(1 << descriptor, Ordering::Relaxed);
            }
        }
    }
    look
};

/// Nobody but root sees this process's memory, in which there are secrets: neither a core file nor another
/// process of the same user.
///
/// # Errors
/// The kernel refuses it.
pub fn keep_memory_private() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// What a thread is called, so that tables by thread name show whose it is: `collector/out`.
#[must_use]
pub fn thread_name(part: &str) -> String {
    const KEPT: usize = 15; // of a name, by the kernel (TASK_COMM_LEN)
    format!("collector/{part}").chars().take(KEPT).collect()
}

/// While SIGPIPE is blocked, a write to a pipe that nobody reads is an error to this thread, whatever a plugin in this
/// process makes of the signal. What the thread starts has it blocked too.
pub fn block_sigpipe(block: bool) {
    let how = if block { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: the set is ours, and plain bits; the kernel reads it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// Ends the process at once: no destructor and no atexit handler runs beside a thread that hangs in a
/// plugin.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: ends the process; nothing is running after it.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_name_begins_with_the_collectors_and_fits() {
        assert_eq!(thread_name("out"), "collector/out");
        assert_eq!(thread_name("bootstrap"), "collector/boots");
    }

    #[test]
    fn a_process_uses_memory_time_and_a_thread() {
        let usage = usage();
        assert!(usage.rss_bytes > 100_000, "{usage:?}");
        assert!(usage.cpu_ns > 1_000, "{usage:?}");
        assert!(usage.threads >= 1, "{usage:?}");
    }
}
