//! Why an object was not loaded, or a program not attached.

use super::print;
use std::fmt;

/// What went wrong with a load or an attachment, and with which program, where that is known.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) program: Option<String>,
    pub(crate) reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "{program}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl Failure {
    pub(crate) fn of_program(program: &str, reason: impl fmt::Display) -> Self {
        Self { program: Some(program.to_owned()), reason: format!("{reason:#}") }
    }

    pub(crate) fn of_object(error: impl fmt::Display) -> Self {
        Self { program: None, reason: format!("{error:#}") }
    }

    pub(super) fn of_libbpf(warnings: &[String], error: &libbpf_rs::Error) -> Self {
        let program = print::program(warnings).map(str::to_owned);
        Self { program, reason: reason_of(warnings, error) }
    }
}

/// libbpf's warnings say more than its errno, which stands in when there are none.
pub(crate) fn reason_of(warnings: &[String], error: &libbpf_rs::Error) -> String {
    let reason = print::reason(warnings);
    if reason.is_empty() { format!("{error:#}") } else { reason }
}
