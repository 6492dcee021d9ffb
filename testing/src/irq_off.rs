//! A CPU whose interrupts are off for a known time.

use crate::cpu::is_guest;
use crate::program::{TestRun, bpf};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const RAW_TRACEPOINT: u32 = 17;
const TEST_RUN_ON_CPU: u32 = 1;

/// The start of `union bpf_attr` for BPF_PROG_LOAD.
#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
}

/// A BPF program that turns round until a time. Run on another CPU, the kernel runs it in an interrupt there, with
/// interrupts off (Linux 5.10).
#[derive(Debug)]
pub struct IrqsOff(OwnedFd);

impl IrqsOff {
    /// Loads it.
    ///
    /// # Panics
    /// The kernel refuses.
    #[must_use]
    pub fn load() -> Self {
        // An emulator's turns are slow, and so is its verifier.
        let turns = if is_guest() { 10_000 } else { 20_000 };
        let instruction = |code: u64, dst: u64, src: u64, off: i16, imm: u32| -> u64 {
            code | dst << 8 | src << 12 | u64::from(off as u16) << 16 | u64::from(imm) << 32
        };
        let now = instruction(0x85, 0, 0, 0, 5); // r0 = bpf_ktime_get_ns()
        let code = [
            instruction(0x79, 6, 1, 0, 0), // r6 = the end, from the context
            now,
            instruction(0xbf, 9, 0, 0, 0),      // r9 = r0
            instruction(0xb7, 8, 0, 0, 0),      // r8 = 0
            instruction(0x07, 8, 0, 0, 1),      // r8 += 1
            instruction(0x25, 8, 0, 13, turns), // if r8 > turns: out
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            now,
            instruction(0xad, 0, 6, -15, 0), // if r0 < r6: again
            instruction(0xbf, 0, 9, 0, 0),   // r0 = r9
            instruction(0x95, 0, 0, 0, 0),   // return
        ];
        let license = c"GPL";
        let mut load = Load {
            kind: RAW_TRACEPOINT,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            ..Load::default()
        };
        let fd = bpf(BPF_PROG_LOAD, &mut load);
        assert!(fd >= 0, "loading a program: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and ours alone.
        Self(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Keeps another CPU from its interrupts from now until `end`, by CLOCK_MONOTONIC in nanoseconds. Gives when
    /// that began; `None` when the program had made all of its turns before: after some 3 ms.
    ///
    /// # Panics
    /// The kernel does not run the program.
    #[must_use]
    pub fn hold(&self, cpu: usize, end: u64) -> Option<u64> {
        let mut run = TestRun {
            fd: self.0.as_raw_fd() as u32,
            ctx_size: [size_of_val(&end) as u32, 0],
            ctx: [std::ptr::from_ref(&end) as u64, 0],
            flags: TEST_RUN_ON_CPU,
            cpu: cpu as u32,
            ..TestRun::default()
        };
        let done = bpf(BPF_PROG_TEST_RUN, &mut run) >= 0;
        assert!(done, "running a program: {}", std::io::Error::last_os_error());
        let now = monotonic();
        // The program returns the low half of its first time.
        let begun = now - u64::from((now as u32).wrapping_sub(run.retval));
        (now >= end).then_some(begun)
    }
}

/// CLOCK_MONOTONIC in nanoseconds, as BPF programs have it.
#[must_use]
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time that it is given.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    assert_eq!(read, 0, "the clock");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32).as_nanos() as u64
}
