//! What holds a program at its hook.

use super::target::{Cpus, Target};
use libbpf_rs::{Iter, Link, ProgramMut};
use plugin_api::{Context as _, Result, bail};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::Read as _;

/// A program's attachment; dropping it detaches. It must not outlive the object: a link of a static probe
/// points into it.
pub(crate) struct Held {
    program: String,
    target: Option<String>,
    by: By,
}

enum By {
    Link(Link),
    Cpus(Cpus),
}

impl Held {
    pub(super) fn of_link(program: &ProgramMut<'_>, link: Link, target: &Target) -> Self {
        let target = (!matches!(target, Target::Declared)).then(|| target.to_string());
        Self { program: name(program), target, by: By::Link(link) }
    }

    pub(super) fn of_cpus(program: &ProgramMut<'_>, cpus: Cpus) -> Self {
        Self { program: name(program), target: Some(cpus.name().to_owned()), by: By::Cpus(cpus) }
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
