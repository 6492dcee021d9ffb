//! Processes that do what a test says, under names of their own.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A child of this process. Who drops it without [`Child::wait`] leaves a zombie.
#[derive(Debug)]
pub struct Child {
    /// Its id.
    pub pid: i32,
}

impl Child {
    /// Makes a process of one thread with this name, at most 15 bytes, which ends with the status that `act`
    /// returns, or 101 when it panics.
    ///
    /// It has a copy of the test's memory without the test's other threads: `act` must wait for none of them.
    /// It may start threads.
    ///
    /// # Panics
    /// There is no room for another process.
    pub fn fork(name: &CStr, act: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child does what `act` does, which is warned above, and never returns.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            rename(name);
            let code = catch_unwind(AssertUnwindSafe(act)).unwrap_or(101);
            // SAFETY: ends the process without what the test would do at its end.
            unsafe { libc::_exit(code) };
        }
        Self { pid }
    }

    /// Waits for its end and gives the status as wait(2) has it.
    ///
    /// # Panics
    /// Somebody else waited for it.
    #[must_use]
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: writes to an integer of ours.
        let waited = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        assert_eq!(waited, self.pid, "{}", std::io::Error::last_os_error());
        status
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has been waited for, or there is no such signal.
    pub fn kill(&self, signal: i32) {
        // SAFETY: a call with numbers, to a child of ours.
        let sent = unsafe { libc::kill(self.pid, signal) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Gives the calling thread another name.
pub fn rename(name: &CStr) {
    // SAFETY: the kernel reads a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Ends the calling thread alone, with a status that only the kernel sees.
pub fn end_thread(code: i32) -> ! {
    // SAFETY: nothing of the thread's is used any more; what it owns is never dropped.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("the thread has ended")
}

/// Writes a program that ends with a status at once: as quick as a program can be.
///
/// # Panics
/// It cannot be written, or this architecture is unknown here.
pub fn program(path: &Path, code: u8) {
    let (machine, text): (u16, Vec<u8>) = if cfg!(target_arch = "x86_64") {
        // mov edi, code; mov eax, SYS_exit; syscall
        (62, vec![0xbf, code, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
    } else if cfg!(target_arch = "aarch64") {
        // mov x0, code; mov x8, SYS_exit; svc 0
        let words = [0xd280_0000 | u32::from(code) << 5, 0xd280_0ba8, 0xd400_0001];
        (183, words.iter().flat_map(|word| word.to_le_bytes()).collect())
    } else {
        panic!("no program for this architecture");
    };
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let size = HEADERS + text.len() as u64;
    [2, machine, 1, 0].iter().for_each(|half| elf.extend(half.to_le_bytes())); // executable, version
    [BASE + HEADERS, 64, 0].iter().for_each(|word| elf.extend(word.to_le_bytes())); // entry, headers
    elf.extend([0; 4]);
    [64u16, 56, 1, 0, 0, 0].iter().for_each(|half| elf.extend(half.to_le_bytes()));
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // one segment, readable and executable
    [0, BASE, BASE, size, size, 4096].iter().for_each(|word| elf.extend(word.to_le_bytes()));
    elf.extend(text);
    executable(path, &elf);
}

/// Writes a file that may be executed.
///
/// # Panics
/// It cannot be written.
pub fn executable(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}
