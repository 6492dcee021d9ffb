//! A load of which the number is known: threads that rename themselves, to a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads that call as fast as they can.
pub struct Calls {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<u64>>>,
}

impl Calls {
    /// Starts threads that go round the keys 0 .. `keys`, each from another one on.
    #[must_use]
    pub fn start(threads: usize, keys: usize) -> Self {
        Self::with_pauses(threads, keys, Duration::ZERO)
    }

    /// The same, with a pause after every 64 calls.
    #[must_use]
    pub fn with_pauses(threads: usize, keys: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |thread: usize| {
            let stop = Arc::clone(&stop);
            move || {
                // They leave the reader little of two CPUs, and under emulation there is little to leave.
                // Not the other way round: a kernel thread of low priority that is preempted inside an
                // RCU reader must still get to run, or no grace period ends.
                // SAFETY: takes numbers; 0 is this thread.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
                let mut made = vec![0; keys];
                let mut key = thread * keys / threads;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..64 {
                        let name = [64 | key as u8 & 63, 64 | (key >> 6) as u8 & 63, 0];
                        // SAFETY: a name is a C string, copied before the call returns.
                        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
                        made[key] += 1;
                        key = (key + 1) % keys;
                    }
                    if !pause.is_zero() {
                        std::thread::sleep(pause);
                    }
                }
                made
            }
        };
        let threads = (0..threads).map(|n| std::thread::spawn(call(n))).collect();
        Self { stop, threads }
    }

    /// Stops, and says how often each key was called.
    #[must_use]
    pub fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let made = self.threads.into_iter().map(|t| t.join().expect("a caller does not panic"));
        made.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect()).unwrap_or_default()
    }
}
