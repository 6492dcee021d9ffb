//! Where a program attaches, when its section does not say it.

mod cpus;
mod perf;
mod user;

pub(super) use cpus::Cpus;
pub use perf::{PerfEvent, Rate};
pub(super) use user::has_cookies;

use super::held::Held;
use crate::elf::Site;
use crate::object::print::listening;
use crate::object::reason_of;
use libbpf_rs::{ErrorKind, Link, ProgramMut};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// Where the programs of a hook attach.
#[derive(Clone, Debug)]
pub enum Target {
    /// Where their sections say: `tp_btf/sched_switch`, `kprobe.session/vfs_*`, `lsm/socket_connect`.
    Declared,
    /// Nowhere yet: the tool attaches them by [`crate::Links`].
    Later,
    /// Every online CPU, by a clock or a counter; for `SEC("perf_event")`.
    Perf(PerfEvent),
    /// A function of a program or library; for `SEC("uprobe")`, and for `SEC("uretprobe")`, which runs at the
    /// function's return. `SEC("uprobe.session")` runs at the entry, and at the return where it gave 0 at the entry:
    /// a return that nobody asks for costs nothing. It needs Linux 6.13 (d920179b3d48 "bpf: Add support for uprobe
    /// multi session attach").
    Uprobe {
        /// The file. Its inode is what is probed, in every process that maps it: a package upgrade makes a new
        /// inode, and a container's file is reached through `/proc/PID/root`.
        path: PathBuf,
        /// The function.
        function: Function,
        /// Only this process; `None`: every process, those that start later too.
        pid: Option<i32>,
    },
    /// A static probe of a program or library (USDT, `.note.stapsdt`), at all its sites; for `SEC("usdt")`
    /// with `#include <bpf/usdt.bpf.h>`.
    Usdt {
        /// The file, as for [`Target::Uprobe`].
        path: PathBuf,
        /// Such as `hotspot`.
        provider: String,
        /// Such as `gc__begin`.
        name: String,
        /// Only this process. Before Linux 5.15 (82e6b1eee6a8 "bpf: Allow to specify user-provided bpf_cookie
        /// for BPF perf links") a library, and a program that is position-independent, needs it, and one
        /// process has no more than one link to a probe.
        pid: Option<i32>,
    },
    /// A cgroup v2 by its folder, and all below it; for `SEC("cgroup/..")`. Needs Linux 5.7 (af6eea57437a
    /// "bpf: Implement bpf_link-based cgroup BPF program attachment").
    Cgroup(PathBuf),
    /// Each of these.
    Several(Vec<Target>),
}

/// A function in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    /// By its name in `.symtab` or `.dynsym`.
    Named(String),
    /// By the offset of an instruction in the file, in bytes.
    At(u64),
    /// A site of a static probe, whose argument the program reads with `probe_argument()` (probe.bpf.h). Unlike
    /// [`Target::Usdt`] it serves every process on every kernel, and libelf does not map the file.
    Site(Site),
}

impl Target {
    /// A function by its name, in every process. For one process see [`Target::of_pid`].
    pub fn uprobe(path: impl Into<PathBuf>, function: impl Into<String>) -> Self {
        let function = Function::Named(function.into());
        Self::Uprobe { path: path.into(), function, pid: None }
    }

    /// An instruction by its offset in the file, in every process.
    pub fn uprobe_at(path: impl Into<PathBuf>, offset: u64) -> Self {
        Self::Uprobe { path: path.into(), function: Function::At(offset), pid: None }
    }

    /// A site of a static probe, in every process.
    pub fn site(path: impl Into<PathBuf>, site: Site) -> Self {
        Self::Uprobe { path: path.into(), function: Function::Site(site), pid: None }
    }

    /// A static probe, in every process.
    pub fn usdt(
        path: impl Into<PathBuf>,
        provider: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self::Usdt { path: path.into(), provider: provider.into(), name: name.into(), pid: None }
    }

    /// The same in one process only. Other targets are not of a process, and stay as they are.
    #[must_use]
    pub fn of_pid(mut self, process: i32) -> Self {
        match &mut self {
            Self::Uprobe { pid, .. } | Self::Usdt { pid, .. } => *pid = Some(process),
            Self::Several(targets) => {
                let all = std::mem::take(targets).into_iter();
                targets.extend(all.map(|target| target.of_pid(process)));
            }
            _ => {}
        }
        self
    }

    /// Attaches one program; in no place when that is for later.
    ///
    /// # Errors
    /// The reason, in the kernel's and libbpf's words, with the target and what to do.
    pub(crate) fn attach(&self, program: &ProgramMut<'_>) -> Result<Vec<Held>, String> {
        let link = match self {
            Self::Later => return Ok(Vec::new()),
            Self::Several(targets) => {
                let held: Result<Vec<_>, _> = targets.iter().map(|it| it.attach(program)).collect();
                return Ok(held?.into_iter().flatten().collect());
            }
            Self::Perf(event) => {
                return Ok(vec![Held::of_cpus(program, Cpus::open(program, event)?)]);
            }
            Self::Declared => declared(program),
            Self::Uprobe { path, function, pid } => user::uprobe(program, path, function, *pid),
            Self::Usdt { path, provider, name, pid } => {
                user::usdt(program, path, provider, name, *pid)
            }
            Self::Cgroup(path) => cgroup(program, path),
        };
        Ok(vec![Held::of_link(program, link?, self)])
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => f.write_str("declared"),
            Self::Later => f.write_str("later"),
            Self::Perf(event) => write!(f, "{event}"),
            Self::Uprobe { path, function: Function::Named(name), .. } => {
                write!(f, "{}:{name}", path.display())
            }
            Self::Uprobe { path, function: Function::At(offset), .. }
            | Self::Uprobe { path, function: Function::Site(Site { offset, .. }), .. } => {
                write!(f, "{}+{offset:#x}", path.display())
            }
            Self::Usdt { path, provider, name, .. } => {
                write!(f, "{}:{provider}:{name}", path.display())
            }
            Self::Cgroup(path) => write!(f, "{}", path.display()),
            Self::Several(targets) => {
                let texts: Vec<_> = targets.iter().map(Self::to_string).collect();
                f.write_str(&texts.join(" and "))
            }
        }
    }
}

fn declared(program: &ProgramMut<'_>) -> Result<Link, String> {
    let (link, warnings) = listening(|| program.attach());
    link.map_err(|error| {
        // libbpf has nothing to say of a section that names no place.
        if error.kind() == ErrorKind::Unsupported && warnings.is_empty() {
            let section = program.section().to_string_lossy();
            return format!("its section `{section}` does not say where: give the hook a Target");
        }
        reason_of(&warnings, &error)
    })
}

fn cgroup(program: &ProgramMut<'_>, path: &Path) -> Result<Link, String> {
    let folder = File::open(path).map_err(|error| {
        format!("cgroup {}: {error}: name a folder of a cgroup v2 file system", path.display())
    })?;
    let (link, warnings) = listening(|| program.attach_cgroup(folder.as_raw_fd()));
    link.map_err(|error| format!("cgroup {}: {}", path.display(), reason_of(&warnings, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_like_the_place_that_it_is() {
        let table = [
            (Target::uprobe("/bin/bash", "readline"), "/bin/bash:readline"),
            (Target::uprobe_at("/bin/bash", 0x1f0).of_pid(7), "/bin/bash+0x1f0"),
            (
                Target::usdt("/l/libjvm.so", "hotspot", "gc__begin"),
                "/l/libjvm.so:hotspot:gc__begin",
            ),
            (Target::Cgroup("/sys/fs/cgroup/a".into()), "/sys/fs/cgroup/a"),
            (Target::Perf(PerfEvent::cpu_clock(Rate::Hertz(49))), "cpu-clock"),
            (
                Target::Perf(PerfEvent::cycles(Rate::Hertz(49)).or_cpu_clock()),
                "cycles or cpu-clock",
            ),
            (
                Target::Several(vec![
                    Target::uprobe("/l/c.so", "malloc"),
                    Target::uprobe_at("/l/c.so", 1),
                ]),
                "/l/c.so:malloc and /l/c.so+0x1",
            ),
        ];
        for (target, text) in table {
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn only_a_target_in_a_process_can_be_of_one() {
        let pid = |target: Target| match target {
            Target::Uprobe { pid, .. } | Target::Usdt { pid, .. } => pid,
            _ => None,
        };
        assert_eq!(pid(Target::uprobe("/bin/bash", "readline").of_pid(7)), Some(7));
        assert_eq!(pid(Target::usdt("/bin/bash", "a", "b")), None);
        assert_eq!(pid(Target::Declared.of_pid(7)), None);
        let several = Target::Several(vec![Target::uprobe("/bin/bash", "readline")]).of_pid(7);
        let Target::Several(targets) = several else { unreachable!("it was made several") };
        assert_eq!(targets.into_iter().map(pid).collect::<Vec<_>>(), [Some(7)]);
    }
}
