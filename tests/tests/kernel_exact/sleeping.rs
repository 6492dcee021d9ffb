//! A program that sleeps: it reads memory that somebody brings 30 ms later.

use super::books::Books;
use plugin_testing::Harness;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use system_tests::exact::{BySleeps, Plugin};

const PAGE: usize = 4096;
const CALLERS: usize = 4;
const CALLS: usize = 10;

/// What the program counts, and reads `memory` of.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exact_sleeps(memory: *const u8, key: u32) {
    std::hint::black_box((memory, key));
}

/// Pages whose first touch takes 30 ms (userfaultfd(2)).
struct SlowPages {
    fd: OwnedFd,
    memory: usize,
}

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct ZeroPage {
    start: u64,
    len: u64,
    mode: u64,
    zeroed: i64,
}

const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;

impl SlowPages {
    fn new(pages: usize) -> Option<Self> {
        // SAFETY: takes flags, gives a descriptor.
        let fd =
            unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if fd < 0 {
            return None;
        }
        // SAFETY: new, and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut api = Api { api: 0xaa, features: 0, ioctls: 0 };
        // SAFETY: a fresh mapping of our own; the ioctls get the structs that they are defined with.
        let memory = unsafe {
            assert_eq!(libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api), 0);
            let memory = libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            ) as usize;
            let mut register =
                Register { start: memory as u64, len: (pages * PAGE) as u64, mode: 1, ioctls: 0 };
            assert_eq!(libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, &raw mut register), 0);
            memory
        };
        Some(Self { fd, memory })
    }

    fn page(&self, n: usize) -> *const u8 {
        (self.memory + n * PAGE) as *const u8
    }

    /// Brings pages, each 30 ms after it was first touched, until `stop`.
    fn bring(&self, stop: &AtomicBool) {
        std::thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                let mut message = [0u64; 4];
                // SAFETY: a message has 32 bytes.
                let read = unsafe {
                    libc::read(
                        self.fd.as_raw_fd(),
                        message.as_mut_ptr().cast(),
                        size_of_val(&message),
                    )
                };
                if read <= 0 {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let start = message[2] & !(PAGE as u64 - 1); // struct uffd_msg: arg.pagefault.address
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    let mut page = ZeroPage { start, len: PAGE as u64, mode: 0, zeroed: 0 };
                    // SAFETY: a page of the registered mapping.
                    unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_ZEROPAGE, &raw mut page) };
                });
            }
        });
    }
}

fn calls_balance(options: &str) -> Result<u64, String> {
    let mut tool =
        Harness::<Plugin<BySleeps>>::init(options).map_err(|error| format!("{error:#}"))?;
    let pages = SlowPages::new(CALLERS * CALLS).ok_or("no userfaultfd")?;
    let (done, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut books = Books::new();
    std::thread::scope(|scope| {
        let (pages, done, stop) = (&pages, &done, &stop);
        scope.spawn(|| pages.bring(stop));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                scope.spawn(move || {
                    for call in 0..CALLS {
                        exact_sleeps(pages.page(caller * CALLS + call), caller as u32);
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            books.tick(&mut tool);
        }
        stop.store(true, Ordering::Relaxed);
    });
    books.end(&mut tool);
    let (made, counted) = ((CALLERS * CALLS) as u64, books.counted());
    println!("{options}: {made} calls, {counted} counted, {} ticks put off", books.postponed);
    assert_eq!(counted, made);
    Ok(books.postponed)
}

/// 800 of 800 events were lost behind page faults of 30 ms when nobody waited for sleepers.
#[test]
fn a_program_that_sleeps_loses_nothing() {
    match calls_balance("{}") {
        Ok(_) => {}
        Err(why) if why.contains("userfaultfd") => panic!("{why}"),
        Err(why) => return println!("SKIPPED: sleepable uprobes came with Linux 6.0: {why}"),
    }
    // Newcomers keep this cut's word above 0, so ticks are put off; nothing is drained early.
    calls_balance(r#"{"cut":"count"}"#).expect("the tool attaches");
}
