//! How many threads a map must have room for.

use crate::exact::banks::banks;
use std::fs;

/// More live threads than this are a map's overflow, and counted: 65,536 entries of a preallocated hash
/// are 4 to 6 MiB of kernel memory on any host.
const MOST: u32 = 65_536;
/// The same on a host of few CPUs, for each of them.
const MOST_PER_CPU: u32 = 8_192;

/// Room for every thread that this machine can have (`kernel.pid_max`, `kernel.threads-max`), within 8,192 for
/// each CPU and 65,536.
#[must_use]
pub fn max_threads() -> u32 {
    let limit = |name| -> Option<u32> {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    let limits = [limit("pid_max"), limit("threads-max")];
    let most = MOST.min(MOST_PER_CPU.saturating_mul(banks()));
    limits.into_iter().flatten().min().map_or(most, |n| n.clamp(1024, most))
}

/// Whether this process's namespace of process ids is the initial one, whose ids programs see.
pub(crate) fn sees_all_threads() -> bool {
    // PROC_PID_INIT_INO (include/linux/proc_ns.h).
    fs::read_link("/proc/self/ns/pid").is_ok_and(|space| space.as_os_str() == "pid:[4026531836]")
}

/// Whether there is no such thread; asks the kernel, since `/proc` may hide other users' threads.
pub(crate) fn is_gone(tid: u32) -> bool {
    // SAFETY: takes a number. A thread's id is taken like a process's.
    let found = unsafe { libc::getpgid(tid.cast_signed()) } >= 0;
    !found && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::is_gone;

    #[test]
    fn a_thread_is_gone_when_it_has_ended() {
        let (tell, wait) = std::sync::mpsc::channel::<()>();
        let (name, named) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: takes no arguments.
            name.send(unsafe { libc::gettid() }).expect("heard");
            let _ = wait.recv();
        });
        let tid = named.recv().expect("told").cast_unsigned();
        assert!(!is_gone(tid) && !is_gone(1) && is_gone(u32::MAX));
        drop(tell);
        thread.join().expect("no panic");
        // The kernel wakes who joins it before it lets go of the id.
        let since = std::time::Instant::now();
        while !is_gone(tid) {
            assert!(since.elapsed().as_secs() < 10);
            std::thread::yield_now();
        }
    }
}
