//! Clocks and counters that interrupt a CPU.

use libbpf_sys::{
    PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_SW_CPU_CLOCK, PERF_FLAG_FD_CLOEXEC,
    PERF_FORMAT_TOTAL_TIME_ENABLED, PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, perf_event_attr,
};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _};

/// `_IO('$', 0)` and `_IOW('$', 8, __u32)` of linux/perf_event.h, where `_IOW` is 1: x86, arm64, riscv.
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// What interrupts every online CPU so that a program runs there: the kinds to try, best first, and how often.
///
/// One kind serves all CPUs; `collector_program` says which one (`target`) and on how many CPUs (`links`).
#[derive(Clone, Debug)]
pub struct PerfEvent {
    pub(super) sources: Vec<Source>,
    pub(super) rate: Rate,
}

/// How often a perf event interrupts a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many times a second, from 1 to the sysctl kernel.perf_event_max_sample_rate. Take an odd number such
    /// as 49 or 99: it does not run in step with timers of the kernel and of programs.
    Hertz(u64),
    /// Once every so many events, from 1: cycles, and nanoseconds of the cpu-clock.
    Every(u64),
}

impl PerfEvent {
    /// The CPU's cycle counter, which stands still while the CPU is idle. Its interrupts reach code that runs
    /// with interrupts disabled. Many virtual machines have none.
    #[must_use]
    pub fn cycles(rate: Rate) -> Self {
        Self { sources: vec![Source::Cycles], rate }
    }

    /// A timer of the kernel, which every machine has. Code that runs with interrupts disabled is seen where it
    /// enables them.
    #[must_use]
    pub fn cpu_clock(rate: Rate) -> Self {
        Self { sources: vec![Source::CpuClock], rate }
    }

    /// The cpu-clock where a CPU has no cycle counter to give.
    #[must_use]
    pub fn or_cpu_clock(mut self) -> Self {
        self.sources.push(Source::CpuClock);
        self
    }
}

impl fmt::Display for PerfEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.write_str(&names.join(" or "))
    }
}

/// A kind of perf event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Cycles,
    CpuClock,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::CpuClock => "cpu-clock",
        }
    }

    /// What to do when the kernel refuses it.
    pub(super) fn refusal(self, rate: Rate, error: &io::Error) -> String {
        let advice = match (error.raw_os_error(), rate) {
            (Some(libc::ENOENT | libc::EOPNOTSUPP), _) => ": this machine has none",
            (Some(libc::EINVAL), Rate::Hertz(_)) => {
                ": is the frequency above the sysctl kernel.perf_event_max_sample_rate?"
            }
            (Some(libc::EACCES | libc::EPERM), _) => {
                ": needs CAP_PERFMON, or root before Linux 5.8"
            }
            (Some(libc::EMFILE), _) => ": raise the limit of open files: there is one for each CPU",
            _ => "",
        };
        format!("{}: {error}{advice}", self.name())
    }
}

/// A perf event of one CPU with its program; dropping it detaches.
pub(super) struct CpuEvent {
    file: File,
}

impl CpuEvent {
    /// Opens it for all threads on that CPU and hands it the program.
    ///
    /// # Errors
    /// `ENODEV` when the CPU is offline.
    pub(super) fn open(
        cpu: u32,
        source: Source,
        rate: Rate,
        program: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (type_, config) = match source {
            Source::Cycles => (PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES),
            Source::CpuClock => (PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK),
        };
        let size = size_of::<perf_event_attr>() as u32;
        let read_format = PERF_FORMAT_TOTAL_TIME_ENABLED.into();
        let mut attr = perf_event_attr {
            type_,
            config: config.into(),
            size,
            read_format,
            ..perf_event_attr::default()
        };
        attr.set_disabled(1);
        match rate {
            Rate::Hertz(hertz) => {
                attr.set_freq(1);
                attr.__bindgen_anon_1.sample_freq = hertz;
            }
            Rate::Every(events) => attr.__bindgen_anon_1.sample_period = events,
        }
        let (all_threads, no_group) = (-1, -1);
        // SAFETY: the attributes are ours and say their size; the kernel only reads them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                all_threads,
                i32::try_from(cpu).unwrap_or(i32::MAX),
                no_group,
                PERF_FLAG_FD_CLOEXEC as libc::c_ulong,
            )
        };
        let fd =
            i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the descriptor is new and ours alone.
        let file = unsafe { File::from_raw_fd(fd) };
        control(&file, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
        control(&file, PERF_EVENT_IOC_ENABLE, 0)?;
        Ok(Self { file })
    }

    /// Whether it counts: whether its clock runs. When a CPU goes offline the kernel stops its events for ever
    /// (perf_event_exit_cpu), and nothing else says so once the CPU is back. The two readings interrupt the CPU.
    pub(super) fn counts(&self) -> bool {
        matches!((self.enabled_ns(), self.enabled_ns()), (Some(before), Some(now)) if now > before)
    }

    /// Nanoseconds that it was enabled for.
    fn enabled_ns(&self) -> Option<u64> {
        let mut count_and_time = [0; 16];
        let read = (&self.file).read(&mut count_and_time).ok()?;
        (read == 16).then(|| u64::from_ne_bytes(std::array::from_fn(|i| count_and_time[8 + i])))
    }
}

fn control(event: &File, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: a perf event of ours; both requests take a number.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
