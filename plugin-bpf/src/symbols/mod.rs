//! Addresses to names, for the few stacks that get a line.
//!
//! A tool hands the stacks of its top list to [`Symbols`] once per tick, and gets them folded. A thread of its
//! own (`symbols`) reads maps and files, so that neither a slow disk nor a hostile file holds up a tick for
//! longer than the tool says. What it learns is kept in bounded memory.
//!
//! ```no_run
//! use plugin_bpf::symbols::{Limits, Owner, Stack, Symbols};
//! use std::time::Duration;
//!
//! # fn main() -> plugin_api::Result<()> {
//! // Once. `None` where the thread cannot be started.
//! let mut symbols = Symbols::new(Limits::default())?;
//! // At every tick: addresses as `Stacks::frames` has them, innermost first.
//! let (user, kernel) = ([0x5581_0000_1234, 0x5581_0000_2345], []);
//! let owner = Owner::now(1234);
//! let stack = Stack { owner: Some(owner), root: "bash", user: &user, kernel: &kernel };
//! for folded in symbols.resolve(&[stack], Duration::from_millis(5)) {
//!     println!("{} {:016x}", folded.text, folded.hash); // bash;main;reader_loop
//! }
//! let lost = symbols.take_counts();
//! # Ok(())
//! # }
//! ```

mod elf;
mod file;
mod kernel;
mod least;
mod module;
mod name;
mod perf_map;
mod process;
mod resolver;
#[cfg(test)]
mod tests;

use plugin_api::{Context as _, Result, log};
use resolver::{Asked, FRAMES, Job, Resolver, boot_time, knows_processes};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// What the names of a tool may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for names that are kept from tick to tick, the kernel's apart (some 2 MiB).
    pub cache_bytes: usize,
    /// Time for the names of one tick, after which what is left gets none; three fifths of the patience of
    /// [`Symbols::resolve`] when that is less.
    pub time: Duration,
}

impl Default for Limits {
    /// 4 MiB, 300 ms.
    fn default() -> Self {
        Self { cache_bytes: 4 << 20, time: Duration::from_millis(300) }
    }
}

/// The process that a stack's user addresses belong to.
///
/// An id of a process alone would lie after it was given to another one: a process that began after the stack
/// was taken is not the one that it was taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pid: u32,
    /// When it was there, by CLOCK_MONOTONIC, and that by CLOCK_BOOTTIME.
    seen_ns: u64,
    began_before_ns: u64,
    exec_ns: u64,
}

impl Owner {
    /// The process that has this id now, in the initial namespace.
    #[must_use]
    pub fn now(pid: u32) -> Self {
        Self::at(pid, process::clock(libc::CLOCK_MONOTONIC))
    }

    /// The process that had this id at a time of `bpf_ktime_get_ns()`.
    #[must_use]
    pub fn at(pid: u32, ktime_ns: u64) -> Self {
        Self { pid, seen_ns: ktime_ns, began_before_ns: boot_time(ktime_ns), exec_ns: 0 }
    }

    /// Its last known exec, by `bpf_ktime_get_ns()`: a stack from before it has addresses of another program.
    #[must_use]
    pub fn executed(mut self, ktime_ns: u64) -> Self {
        self.exec_ns = ktime_ns;
        self
    }
}

/// A stack to be named: of a process, of the kernel, or both.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// Whose user addresses they are; `None` when there are none.
    pub owner: Option<Owner>,
    /// The outermost frame, such as the thread's name; empty: none.
    pub root: &'a str,
    /// Addresses in the process, innermost first.
    pub user: &'a [u64],
    /// Addresses in the kernel, innermost first.
    pub kernel: &'a [u64],
}

/// A stack with names: `root;main;work;read;ksys_read_[k]`.
///
/// A frame is a function's name, demangled, with `_[k]` behind those of the kernel; else
/// `module[build id]+0xaddress`, where the build id is its first 16 hexadecimal digits, and left out where there
/// is none, and the address is that of the file's symbols; else `[unknown]`, once for several in a row. `;` in a name becomes `:`, a control
/// character `_`, and a name has at most 256 bytes. A text has at most 4 KiB: of a longer one, `[truncated]`
/// stands for frames in front of the innermost; in front of all frames it stands for those that the kernel cut
/// off (127 are the most).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The frames, outermost first.
    pub text: Arc<str>,
    /// A hash of the whole text. It holds names and offsets, not addresses, so it is the same after the program
    /// or the host started again.
    pub hash: u64,
    /// Whether the names came in time. Otherwise the text is `root;[unresolved]`, and the next tick may know more.
    pub resolved: bool,
}

/// What [`Symbols::resolve`] could not name since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stacks that were asked for.
    pub stacks: u64,
    /// Of these: not named in time.
    pub unresolved: u64,
    /// Of these: longer than 4 KiB.
    pub truncated: u64,
    /// Frames of the named ones.
    pub frames: u64,
    /// Of these: by module and address alone.
    pub unnamed: u64,
    /// Of these: `[unknown]`, the process gone, its maps not to be read, or code that no file has.
    pub unknown: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.stacks += other.stacks;
        self.unresolved += other.unresolved;
        self.truncated += other.truncated;
        self.frames += other.frames;
        self.unnamed += other.unnamed;
        self.unknown += other.unknown;
    }
}

/// Names of addresses. See the [module](self).
pub struct Symbols {
    limits: Limits,
    jobs: SyncSender<Job>,
    /// Whether the process ids that programs see are those of /proc.
    knows_processes: bool,
    counts: Counts,
}

/// Jobs that wait for the thread, at most: what a tool asks before its first stacks, and those of one tick.
const JOBS: usize = 4;

impl Symbols {
    /// Starts the thread that looks up names. Of the calling thread's capabilities it keeps those that it can use.
    ///
    /// What it needs: `CAP_SYS_PTRACE` for `/proc/PID/maps` of processes of other users or with capabilities,
    /// `CAP_SYSLOG` for the addresses in `/proc/kallsyms` (where kernel.kptr_restrict is 0 or 1). Without them
    /// frames are `[unknown]`; the log says it once.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn new(limits: Limits) -> Result<Self> {
        let (knows_processes, jobs) = (knows_processes(), start(limits)?);
        Ok(Self { limits, jobs, knows_processes, counts: Counts::default() })
    }

    /// Reads the kernel's list of functions now, in the thread, instead of at the first stack.
    pub fn prepare_kernel(&mut self) {
        self.ask(Job::Kernel);
    }

    /// Reads the maps of processes while they live, instead of at the tick: 20 times a second the thread calls
    /// `next` until it knows no more processes, each by its id in the initial namespace and an address where it
    /// ran. Those whose maps are not known, or not there, are read.
    pub fn watch(&mut self, next: impl FnMut() -> Option<(u32, u64)> + Send + 'static) {
        if self.knows_processes {
            self.ask(Job::Watch(Box::new(next)));
        }
    }

    /// The stacks with names, in their order. Waits for at most `patience`; what is not known then is answered
    /// as `resolved: false` and looked up all the same, for the next tick.
    pub fn resolve(&mut self, stacks: &[Stack<'_>], patience: Duration) -> Vec<Folded> {
        if stacks.is_empty() {
            return Vec::new();
        }
        let asked = stacks.iter().map(|stack| Asked {
            owner: stack.owner.filter(|_| self.knows_processes),
            root: stack.root.to_owned(),
            user: stack.user.iter().take(FRAMES).copied().collect(),
            kernel: stack.kernel.iter().take(FRAMES).copied().collect(),
        });
        let (reply, replied) = channel();
        // What it has by then it has to say within the patience, too.
        let time = self.limits.time.min(patience * 3 / 5);
        let is_asked = self.ask(Job::Name(asked.collect(), time, reply));
        let named = is_asked.then(|| replied.recv_timeout(patience).ok()).flatten();
        let (folded, counts) = named.unwrap_or_else(|| {
            let unresolved = stacks.len() as u64;
            let text = |stack: &Stack<'_>| {
                let root = (!stack.root.is_empty()).then(|| name::clean(stack.root.as_bytes()));
                let frames: Vec<_> = root.into_iter().chain(["[unresolved]".to_owned()]).collect();
                Folded { resolved: false, ..name::fold(&frames).0 }
            };
            let counts = Counts { stacks: unresolved, unresolved, ..Counts::default() };
            (stacks.iter().map(text).collect(), counts)
        });
        self.counts.add(counts);
        folded
    }

    /// What had no name since this was called last.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Hands a job to the thread, unless it is busy with those before.
    fn ask(&mut self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            // It panicked, and what it knew is lost.
            Err(TrySendError::Disconnected(job)) => {
                log::error!("the thread that looks up names ended; starting it again");
                match start(self.limits) {
                    Ok(jobs) => self.jobs = jobs,
                    Err(error) => log::error!("{error:#}"),
                }
                self.jobs.try_send(job).is_ok()
            }
        }
    }
}

fn start(limits: Limits) -> Result<SyncSender<Job>> {
    let (jobs, taken) = sync_channel(JOBS);
    let work = move || {
        least::keep_least();
        Resolver::new(limits).run(&taken);
    };
    let thread = thread::Builder::new().name("symbols".to_owned()).spawn(work);
    // It ends with its sender; one that hangs in a file system is not waited for.
    thread.context("starting the thread that looks up names")?;
    Ok(jobs)
}
