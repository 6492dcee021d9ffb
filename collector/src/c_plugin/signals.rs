//! Signals that wake plugins' threads, and nothing else.
//!
//! Unity stops a thread by SIGUSR2, coolbpf by SIGQUIT. Neither may end the process, and both must interrupt what the
//! thread waits in.

use std::ffi::{c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the host wakes threads by.
pub const WAKE: c_int = libc::SIGUSR2;

/// Whoever started the process had SIGQUIT ignored.
static QUIT_IGNORED: AtomicBool = AtomicBool::new(false);

/// Installs the handlers, once.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the handlers do only what a handler may do. All zero is a `sigaction` without flags: without
        // SA_RESTART, and with no further signal blocked.
        unsafe {
            let mut wake: libc::sigaction = std::mem::zeroed();
            wake.sa_sigaction = (nothing as extern "C" fn(c_int)) as usize;
            libc::sigaction(WAKE, &raw const wake, std::ptr::null_mut());
            let mut before: libc::sigaction = std::mem::zeroed();
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = (quit as unsafe extern "C" fn(_, _, _)) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGQUIT, &raw const action, &raw mut before);
            QUIT_IGNORED.store(before.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
        }
    });
}

extern "C" fn nothing(_: c_int) {}

/// SIGQUIT from this process wakes the thread that it was sent to; from anybody else it does what it did before.
unsafe extern "C" fn quit(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands over who sent it (SA_SIGINFO). All functions may be called by a handler.
    unsafe {
        let own = (*info).si_code == libc::SI_TKILL && (*info).si_pid() == libc::getpid();
        if !own && !QUIT_IGNORED.load(Ordering::Relaxed) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}
