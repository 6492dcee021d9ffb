//! What a plugin's process may take, and what it is spared.
//!
//! - Memory: RLIMIT_DATA, which counts private memory that can be written to. RLIMIT_AS would count mapped files and BPF
//!   maps too, which are large and cost nothing here.
//! - Descriptors: RLIMIT_NOFILE, enough for a perf event per CPU and hook.
//! - Other processes: none, by a seccomp filter. RLIMIT_NPROC counts those of the user, all of them together, and not
//!   those of root.

use super::protocol::Opening;
use crate::capabilities::{self, CapabilitySet};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Descriptors beside those for each CPU.
const DESCRIPTORS: u64 = 1024;
const DESCRIPTORS_PER_CPU: u64 = 64;

/// From here on this process, and nothing in it, can have more.
///
/// # Errors
/// The kernel refuses a limit.
pub fn apply(opening: &Opening) -> io::Result<()> {
    lower(Resource::Data, opening.bounds.memory)?;
    // SAFETY: takes no pointer.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    let cpus = u64::try_from(cpus).unwrap_or(1);
    lower(Resource::Nofile, DESCRIPTORS + DESCRIPTORS_PER_CPU * cpus)?;
    capabilities::hold_only(CapabilitySet::from_bits_retain(opening.capabilities));
    if opening.bounds.processes == Some(false) {
        // A kernel without seccomp, or a sandbox, may not let us.
        if let Err(error) = no_processes() {
            log::debug!("it may start other processes: {error}");
        }
    }
    Ok(())
}

/// To no more than this; the kernel takes less from nobody.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let now = getrlimit(resource);
    let most = now.maximum.map_or(most, |maximum| maximum.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// What the filter has to know of a processor: how the kernel calls it, and numbers of its system calls.
#[derive(Debug)]
struct Processor {
    /// AUDIT_ARCH_*: the numbers mean these calls there alone.
    architecture: u32,
    /// From here on numbers are of a second table (x32).
    second_table: Option<u32>,
    /// fork and vfork, where there are such calls, execve and execveat.
    refused: &'static [u32],
    clone: u32,
    clone3: u32,
}

const X86_64: Processor = Processor {
    architecture: 0xc000_003e,
    second_table: Some(0x4000_0000),
    refused: &[57, 58, 59, 322],
    clone: 56,
    clone3: 435,
};
/// The numbers of include/uapi/asm-generic/unistd.h.
const AARCH64: Processor = Processor {
    architecture: 0xc000_00b7,
    second_table: None,
    refused: &[221, 281],
    clone: 220,
    clone3: 435,
};
const RISCV64: Processor = Processor { architecture: 0xc000_00f3, ..AARCH64 };

const HERE: Processor = if cfg!(target_arch = "x86_64") {
    X86_64
} else if cfg!(target_arch = "aarch64") {
    AARCH64
} else {
    RISCV64
};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Of `struct seccomp_data`: number, architecture, address, arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16 + if cfg!(target_endian = "big") { 4 } else { 0 };

fn refusal(errno: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.raw_os_error().cast_unsigned()
}

/// Threads can be started, processes and programs cannot: EPERM. The arguments of clone3(2) lie in memory, where no
/// filter sees them; ENOSYS makes the C library use clone(2).
fn filter(processor: &Processor) -> Vec<libc::sock_filter> {
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let answer = |answer| step(ANSWER, answer, 0, 0);
    let error = |errno| answer(refusal(errno));
    let mut filter = vec![
        step(LOAD, ARCHITECTURE, 0, 0),
        step(EQUAL, processor.architecture, 1, 0),
        error(Errno::PERM),
        step(LOAD, NUMBER, 0, 0),
    ];
    if let Some(first) = processor.second_table {
        filter.extend([step(AT_LEAST, first, 0, 1), error(Errno::PERM)]);
    }
    let by_number = processor.refused.iter().map(|number| (*number, Errno::PERM));
    for (number, errno) in by_number.chain([(processor.clone3, Errno::NOSYS)]) {
        filter.extend([step(EQUAL, number, 0, 1), error(errno)]);
    }
    filter.extend([
        step(EQUAL, processor.clone, 0, 3),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(HAS, libc::CLONE_THREAD.cast_unsigned(), 1, 0),
        error(Errno::PERM),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    filter
}

fn no_processes() -> io::Result<()> {
    let mut filter = filter(&HERE);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to a filter that lives as long as the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // Else kernels before 5.16 slow the process down against a weakness of the processor.
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter answers, as the kernel runs it.
    fn run(filter: &[libc::sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = filter[at];
            at += 1;
            let holds = match code {
                ANSWER => return k,
                LOAD => {
                    value = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => argument,
                        _ => panic!("loads from {k}"),
                    };
                    continue;
                }
                EQUAL => value == k,
                AT_LEAST => value >= k,
                HAS => value & k != 0,
                _ => panic!("code {code:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn threads_can_be_started_and_nothing_else_on_each_processor() {
        const THREAD: u32 = 0x003d_0f00; // what glibc asks of clone for a thread
        const PROCESS: u32 = 0x0120_0011; // and for fork()
        let refused = refusal(Errno::PERM);
        let (x86, arm) = (0xc000_003e, 0xc000_00b7);
        for (processor, architecture, number, argument, answer) in [
            (&X86_64, x86, 56, THREAD, libc::SECCOMP_RET_ALLOW),
            (&X86_64, x86, 56, PROCESS, refused),
            (&X86_64, x86, 57, THREAD, refused),
            (&X86_64, x86, 58, THREAD, refused),
            (&X86_64, x86, 59, THREAD, refused),
            (&X86_64, x86, 322, 0, refused),
            (&X86_64, x86, 435, 0, refusal(Errno::NOSYS)),
            (&X86_64, x86, 1, 0, libc::SECCOMP_RET_ALLOW),
            (&X86_64, x86, 220, PROCESS, libc::SECCOMP_RET_ALLOW), // semtimedop
            (&X86_64, x86, 0x4000_0001, 0, refused),
            (&X86_64, 0x4000_0003, 1, 0, refused), // of 32 bits
            (&AARCH64, arm, 220, THREAD, libc::SECCOMP_RET_ALLOW),
            (&AARCH64, arm, 220, PROCESS, refused),
            (&AARCH64, arm, 221, 0, refused),
            (&AARCH64, arm, 281, 0, refused),
            (&AARCH64, arm, 435, 0, refusal(Errno::NOSYS)),
            (&AARCH64, arm, 64, 0, libc::SECCOMP_RET_ALLOW),
            (&AARCH64, arm, 57, 0, libc::SECCOMP_RET_ALLOW), // close
            (&AARCH64, 0x4000_0028, 64, 0, refused),         // of 32 bits
            (&AARCH64, x86, 64, 0, refused),
            (&RISCV64, 0xc000_00f3, 221, 0, refused),
        ] {
            let answered = run(&filter(processor), architecture, number, argument);
            assert_eq!(answered, answer, "{processor:?} {architecture:#x} {number}");
        }
    }

    /// The numbers are data, so that they can be tested here; those of this processor are the C library's.
    #[test]
    fn the_numbers_of_this_processor_are_those_of_the_c_library() {
        let numbers = |numbers: &[i64]| Vec::from_iter(numbers.iter().map(|n| *n as u32));
        #[cfg(target_arch = "x86_64")]
        let first = numbers(&[libc::SYS_fork, libc::SYS_vfork]);
        #[cfg(not(target_arch = "x86_64"))]
        let first = Vec::new();
        let others = numbers(&[libc::SYS_execve, libc::SYS_execveat]);
        assert_eq!(HERE.refused, [first, others].concat());
        assert_eq!([HERE.clone, HERE.clone3], *numbers(&[libc::SYS_clone, libc::SYS_clone3]));
    }
}
