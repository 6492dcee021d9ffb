//! What holds a program at its hook.

use super::target::{Cpus, Target};
use libbpf_rs::{Iter, Link, ProgramMut, ProgramType};
use plugin_api::{Context as _, Result, bail};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// A program's attachment; dropping it detaches. It must not outlive the object: a link of a static probe
/// points into it.
pub(crate) struct Held {
    program: String,
    target: Option<String>,
    by: By,
    /// Probes of the kernel count what they miss.
    is_probe: bool,
}

enum By {
    Link(Link),
    Cpus(Cpus),
}

impl Held {
    pub(super) fn of_link(program: &ProgramMut<'_>, link: Link, target: &Target) -> Self {
        let target = (!matches!(target, Target::Declared)).then(|| target.to_string());
        let is_probe = program.prog_type() == ProgramType::Kprobe;
        Self { program: name(program), target, by: By::Link(link), is_probe }
    }

    pub(super) fn of_cpus(program: &ProgramMut<'_>, cpus: Cpus) -> Self {
        let target = Some(cpus.name().to_owned());
        Self { program: name(program), target, by: By::Cpus(cpus), is_probe: false }
    }

    /// The program's function.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Where, when the program's section does not say it.
    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// All that an iterator writes (BPF_PROG_TYPE_TRACING with `iter/`, Linux 5.8).
    pub(super) fn iterate(&self) -> Result<Vec<u8>> {
        let By::Link(link) = &self.by else { bail!("{} is no iterator", self.program) };
        let mut iterator = Iter::new(link).with_context(|| format!("iterator {}", self.program))?;
        let (mut text, mut part) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            match iterator.read(&mut part) {
                Ok(0) => return Ok(text),
                Ok(len) => text.extend_from_slice(&part[..len]),
                // After a million objects that wrote nothing the kernel asks to go on.
                Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => {}
                Err(error) => bail!("iterator {}: {error}", self.program),
            }
        }
    }

    /// In how many places.
    pub(crate) fn links(&self) -> usize {
        match &self.by {
            By::Link(_) => 1,
            By::Cpus(cpus) => cpus.len(),
        }
    }

    /// Events that the kernel's probe had no room for (the returns that a kretprobe follows) or came upon in the
    /// middle of itself, so that no program was asked. Since Linux 6.7 (3acf8ace6823 "bpf: Add missed value to
    /// kprobe perf link info"); 0 where the kernel does not say it.
    pub(super) fn missed(&self) -> u64 {
        let By::Link(link) = &self.by else { return 0 };
        if !self.is_probe {
            return 0; // to ask is a system call
        }
        let mut info = libbpf_sys::bpf_link_info::default();
        let mut len = size_of_val(&info) as u32;
        let fd = link.as_fd().as_raw_fd();
        // SAFETY: `info` and `len` are ours, `len` says how large `info` is; without room for names the kernel
        // writes none.
        if unsafe { libbpf_sys::bpf_link_get_info_by_fd(fd, &mut info, &mut len) } != 0 {
            return 0; // a perf event before there were links of it (5.15)
        }
        // SAFETY: the kernel fills the part that the types name; what it does not know is zeros.
        unsafe {
            let of = info.__bindgen_anon_1;
            match info.type_ {
                libbpf_sys::BPF_LINK_TYPE_KPROBE_MULTI => of.kprobe_multi.missed,
                libbpf_sys::BPF_LINK_TYPE_PERF_EVENT => match of.perf_event.type_ {
                    libbpf_sys::BPF_PERF_EVENT_KPROBE | libbpf_sys::BPF_PERF_EVENT_KRETPROBE => {
                        of.perf_event.__bindgen_anon_1.kprobe.missed
                    }
                    _ => 0,
                },
                _ => 0,
            }
        }
    }

    /// Follows CPUs that come and go. Returns what is wrong since the last time.
    pub(crate) fn refresh(&mut self) -> Option<String> {
        match &mut self.by {
            By::Link(_) => None,
            By::Cpus(cpus) => cpus.refresh(),
        }
    }
}

fn name(program: &ProgramMut<'_>) -> String {
    program.name().to_string_lossy().into_owned()
}
