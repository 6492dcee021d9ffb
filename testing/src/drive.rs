//! Loads of a known number of events.

use crate::cpu;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Packets over the loopback interface, one after another: each raises net_rx once.
///
/// # Panics
/// The interface is down.
pub fn packets(n: usize) {
    let socket = || UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback interface");
    let (sender, receiver) = (socket(), socket());
    let to = receiver.local_addr().expect("its address");
    let mut byte = [0];
    for _ in 0..n {
        sender.send_to(&byte, to).expect("sent");
        receiver.recv(&mut byte).expect("received");
    }
}

/// Calls of a function on every other CPU, an interrupt each, made while a thread of ours runs there. Less arrive
/// when somebody else takes the CPU from that thread at that moment.
///
/// # Panics
/// The kernel has no `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)` (Linux 4.14).
pub fn calls(n: usize) {
    const EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER: libc::c_int = 1 << 4;
    let membarrier = |command: libc::c_int| {
        // SAFETY: membarrier takes three numbers and touches no memory of ours.
        let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
        assert_eq!(done, 0, "membarrier: {}", std::io::Error::last_os_error());
    };
    membarrier(REGISTER);
    let (cpus, done) = (cpu::online(), &AtomicBool::new(false));
    let turns: Vec<_> = cpus[1..].iter().map(|cpu| (*cpu, AtomicUsize::new(0))).collect();
    let turn = |turns: &AtomicUsize| {
        while !done.load(Ordering::Relaxed) {
            turns.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for (cpu, turns) in &turns {
            scope.spawn(move || cpu::on_cpu(*cpu, || turn(turns)));
        }
        cpu::on_cpu(cpus[0], || {
            for _ in 0..n {
                for (_, turns) in &turns {
                    let before = turns.load(Ordering::Relaxed);
                    while turns.load(Ordering::Relaxed) == before {
                        thread::yield_now();
                    }
                }
                membarrier(EXPEDITED);
            }
        });
        done.store(true, Ordering::Relaxed);
    });
}

/// Short sleeps on every CPU, so many on each: a timer each, which may come together with another one.
pub fn timers(n: usize) {
    let sleeps = || (0..n).for_each(|_| thread::sleep(Duration::from_micros(500)));
    thread::scope(|scope| {
        for cpu in cpu::online() {
            scope.spawn(move || cpu::on_cpu(cpu, sleeps));
        }
    });
}

/// Pages read from a disk, past the kernel's cache, one after another: an interrupt and a soft interrupt `block`
/// each, or less where the disk is no local one. False where /var/tmp lies on no disk.
///
/// # Panics
/// The disk is full, or fails.
pub fn disk(n: usize) -> bool {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let path = format!("/var/tmp/disk-{}", std::process::id());
    let written = fs::write(&path, [1; 4096]).and_then(|()| File::open(&path)?.sync_all());
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path);
    fs::remove_file(&path).expect("removed");
    // A file system in memory refuses O_DIRECT, or has no device (whose major number then is 0).
    let (Ok(()), Ok(file)) = (written, file) else { return false };
    if libc::major(file.metadata().expect("a file").dev()) == 0 {
        return false;
    }
    let mut page = Page([0; 4096]);
    (0..n).for_each(|_| file.read_exact_at(&mut page.0, 0).expect("a page of the disk"));
    true
}

/// Lines on the machine's serial console: interrupts of `ttyS0`, some bytes each. False where there is none.
///
/// # Panics
/// The console fails.
pub fn console(n: usize) -> bool {
    let Ok(mut console) = File::options().write(true).open("/dev/ttyS0") else { return false };
    (0..n).for_each(|_| console.write_all(b"interrupts of a serial line\n").expect("written"));
    true
}
