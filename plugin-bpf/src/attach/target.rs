//! Where a program attaches, when its section does not say it.

use crate::object::print::listening;
use crate::object::reason_of;
use libbpf_rs::{Link, ProgramMut};

/// Where the programs of a hook attach.
#[derive(Clone, Debug)]
pub enum Target {
    /// Where their sections say: `tp_btf/sched_switch`.
    Declared,
    /// Nowhere yet: the tool attaches them by links.
    Later,
}

impl Target {
    /// Attaches one program.
    ///
    /// # Errors
    /// The reason, in the kernel's words.
    pub(crate) fn attach(&self, program: &ProgramMut<'_>) -> Result<Vec<Link>, String> {
        match self {
            Self::Later => Ok(Vec::new()),
            Self::Declared => {
                let (link, warnings) = listening(|| program.attach());
                link.map(|link| vec![link]).map_err(|error| reason_of(&warnings, &error))
            }
        }
    }
}
