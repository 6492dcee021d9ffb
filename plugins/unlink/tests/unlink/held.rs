//! Calls that wait for as long as a test wants.

use crate::folder::Folder;
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use std::thread::{self, JoinHandle};

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

/// A folder that somebody reads into memory that is not there yet, so that who deletes in it must wait.
pub struct Held {
    faults: OwnedFd,
    at: u64,
    reader: JoinHandle<()>,
}

impl Held {
    const API: libc::c_ulong = 0xc018_aa3f;
    const REGISTER: libc::c_ulong = 0xc020_aa00;
    const ZEROPAGE: libc::c_ulong = 0xc020_aa04;

    /// Why it does not work here.
    pub fn new(folder: &Folder) -> Result<Self, String> {
        let error = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel reads and writes the structs, which are as long as the commands' numbers say; the
        // memory is a new mapping of one page.
        let (faults, at) = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK);
            if fd < 0 {
                return Err(error("userfaultfd"));
            }
            let faults = OwnedFd::from_raw_fd(fd as i32);
            let mut api = [0xaa_u64, 0, 0];
            if libc::ioctl(faults.as_raw_fd(), Self::API, &mut api) != 0 {
                return Err(error("UFFDIO_API"));
            }
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(ptr::null_mut(), 4096, access, private, -1, 0) as u64;
            let mut register = (Range { start: at, len: 4096 }, 1_u64, 0_u64);
            if libc::ioctl(faults.as_raw_fd(), Self::REGISTER, &mut register) != 0 {
                return Err(error("UFFDIO_REGISTER"));
            }
            (faults, at)
        };
        let open = File::open(&folder.0).expect("the folder");
        let reader = thread::spawn(move || {
            // SAFETY: the kernel writes within the page.
            let read =
                unsafe { libc::syscall(libc::SYS_getdents64, open.as_raw_fd(), at, 4096_usize) };
            assert!(read > 0, "{}", std::io::Error::last_os_error());
        });
        let mut poll = libc::pollfd { fd: faults.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor.
        assert_eq!(unsafe { libc::poll(&mut poll, 1, 20_000) }, 1, "the reader waits for its page");
        Ok(Self { faults, at, reader })
    }

    pub fn release(self) {
        let mut zeros = (Range { start: self.at, len: 4096 }, 0_u64, 0_i64);
        // SAFETY: as above.
        let done = unsafe { libc::ioctl(self.faults.as_raw_fd(), Self::ZEROPAGE, &mut zeros) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        self.reader.join().expect("no panic");
    }
}
