//! What holds a program at its hook.

use super::target::{Cpus, Target};
use libbpf_rs::{Link, ProgramMut};

/// A program's attachment; dropping it detaches. It must not outlive the object: a link of a static probe
/// points into it.
pub(crate) struct Held {
    program: String,
    target: Option<String>,
    by: By,
}

enum By {
    /// Held for its drop.
    Link {
        _link: Link,
    },
    Cpus(Cpus),
}

impl Held {
    pub(super) fn of_link(program: &ProgramMut<'_>, link: Link, target: &Target) -> Self {
        let target = (!matches!(target, Target::Declared)).then(|| target.to_string());
        Self { program: name(program), target, by: By::Link { _link: link } }
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

    /// In how many places.
    pub(crate) fn links(&self) -> usize {
        match &self.by {
            By::Link { .. } => 1,
            By::Cpus(cpus) => cpus.len(),
        }
    }

    /// Follows CPUs that come and go. Returns what is wrong since the last time.
    pub(crate) fn refresh(&mut self) -> Option<String> {
        match &mut self.by {
            By::Link { .. } => None,
            By::Cpus(cpus) => cpus.refresh(),
        }
    }
}

fn name(program: &ProgramMut<'_>) -> String {
    program.name().to_string_lossy().into_owned()
}
