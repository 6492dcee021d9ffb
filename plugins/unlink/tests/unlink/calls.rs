//! The ways to delete a file, past the C library.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// The result, or the error.
fn result(returned: libc::c_long) -> i32 {
    if returned < 0 {
        -std::io::Error::last_os_error().raw_os_error().expect("an error of the kernel")
    } else {
        returned as i32
    }
}

pub fn unlink_at(fd: i32, path: *const libc::c_char, flags: i32) -> i32 {
    // SAFETY: the kernel checks the path, which it only reads.
    result(unsafe { libc::syscall(libc::SYS_unlinkat, fd, path, flags) })
}

/// unlink() where the machine has it.
pub fn unlink(path: *const libc::c_char) -> i32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel checks the path, which it only reads.
    return result(unsafe { libc::syscall(libc::SYS_unlink, path) });
    #[cfg(not(target_arch = "x86_64"))]
    unlink_at(libc::AT_FDCWD, path, 0)
}

/// Deletes by io_uring; the result of each.
pub fn uring(paths: &[CString]) -> Result<Vec<i32>, String> {
    const UNLINKAT: u8 = 36;
    // Where `struct io_uring_params` has offsets of the rings.
    const SQ_TAIL: usize = 11;
    const SQ_ARRAY: usize = 16;
    const CQ_HEAD: usize = 20;
    const CQ_ENTRIES: usize = 25;
    let mut parameters = [0_u32; 30];
    // SAFETY: the kernel writes within the parameters, and the rings are as long as they say; nobody else has
    // them. Every call waits for the end of the one entry that it hands over.
    unsafe {
        let fd = libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr());
        if fd < 0 {
            return Err(format!("io_uring: {}", std::io::Error::last_os_error()));
        }
        let fd = OwnedFd::from_raw_fd(fd as i32);
        let map = |offset: i64| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
            let at = libc::mmap(ptr::null_mut(), 4096, access, shared, fd.as_raw_fd(), offset);
            assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            at.cast::<u8>()
        };
        let (ring, entries) = (map(0), map(0x1000_0000));
        let number = |at: usize| ring.add(parameters[at] as usize).cast::<u32>();
        let mut results = Vec::new();
        for path in paths {
            entries.write_bytes(0, 64);
            entries.write(UNLINKAT);
            entries.add(4).cast::<i32>().write(libc::AT_FDCWD);
            entries.add(16).cast::<u64>().write(path.as_ptr() as u64);
            let tail = number(SQ_TAIL);
            number(SQ_ARRAY).add((tail.read() & 3) as usize).write(0);
            tail.write_volatile(tail.read() + 1);
            let done = libc::syscall(libc::SYS_io_uring_enter, fd.as_raw_fd(), 1, 1, 1, 0, 0);
            assert_eq!(done, 1, "{}", std::io::Error::last_os_error());
            let head = number(CQ_HEAD);
            let entry = ring.add(parameters[CQ_ENTRIES] as usize + 16 * (head.read() as usize & 7));
            results.push(entry.add(8).cast::<i32>().read_volatile());
            head.write_volatile(head.read() + 1);
        }
        Ok(results)
    }
}

/// Deletes two files by calls of the table of 32 bits, and makes the two others that have the numbers of ours there: the
/// status of the process that does it, 3 when both files are deleted.
#[cfg(target_arch = "x86_64")]
pub fn unlink_by_32_bit_calls(files: &[CString]) -> libc::c_int {
    // SAFETY: a new mapping below 4 GiB, with room for both paths.
    let low = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let at = libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0).cast::<u8>();
        for (i, file) in files.iter().enumerate() {
            let file = file.as_bytes_with_nul();
            ptr::copy_nonoverlapping(file.as_ptr(), at.add(2048 * i), file.len());
        }
        at as u64
    };
    // SAFETY: the child of a process with threads only makes system calls; `rbx`, which the compiler keeps
    // for itself, is put back.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let call = |number: u64, first: u64, second: u64| {
                let returned: u64;
                std::arch::asm!(
                    "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
                    first = inout(reg) first => _, inout("rax") number => returned,
                    in("rcx") second, in("rdx") 0_u64,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
                returned as i32
            };
            let deleted =
                call(10, low, 0) == 0 && call(301, libc::AT_FDCWD as u32 as u64, low + 2048) == 0;
            call(87, 0, 0); // swapon
            call(263, 0, 0); // a clock's
            libc::_exit(if deleted { 3 } else { 4 });
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        status
    }
}
