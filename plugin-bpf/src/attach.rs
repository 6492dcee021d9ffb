//! The attach ladder: which of several ways to hook an event works here.

use crate::print;
use std::fmt;

/// One way to hook what a tool observes: programs that are attached together.
///
/// A tool lists its rungs best first (fentry, tp_btf, raw_tp, tp, kprobe); what works is found by loading
/// and attaching, never by the kernel's version or a file's presence.
#[derive(Clone, Debug)]
pub struct Rung {
    required: Vec<&'static str>,
    optional: Vec<&'static str>,
}

impl Rung {
    /// A rung that needs this program, by its function's name.
    #[must_use]
    pub fn of(program: &'static str) -> Self {
        Self::all(&[program])
    }

    /// A rung that needs all of these.
    #[must_use]
    pub fn all(programs: &[&'static str]) -> Self {
        Self { required: programs.to_vec(), optional: Vec::new() }
    }

    /// And has this one as well, where it works.
    #[must_use]
    pub fn maybe(mut self, program: &'static str) -> Self {
        self.optional.push(program);
        self
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.required.iter().chain(&self.optional).copied()
    }

    pub(crate) fn needs(&self, program: &str) -> bool {
        self.required.contains(&program)
    }
}

/// Why a program is not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The program.
    pub program: String,
    /// In the kernel's words.
    pub reason: String,
    /// An optional program of the rung that won, rather than one that made a rung fail.
    pub optional: bool,
}

/// What went wrong with a rung, and with which of its programs, where that is known.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) program: Option<String>,
    reason: String,
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
    pub(crate) fn of_program(program: &str, reason: String) -> Self {
        Self { program: Some(program.to_owned()), reason }
    }

    pub(crate) fn of_object(error: impl fmt::Display) -> Self {
        Self { program: None, reason: format!("{error:#}") }
    }

    pub(crate) fn of_load(warnings: &[String], error: &libbpf_rs::Error) -> Self {
        let program = print::program(warnings).map(str::to_owned);
        Self { program, reason: reason_of(warnings, error) }
    }
}

/// libbpf's warnings say more than its errno, which stands in when there are none.
pub(crate) fn reason_of(warnings: &[String], error: &libbpf_rs::Error) -> String {
    let reason = print::reason(warnings);
    if reason.is_empty() { format!("{error:#}") } else { reason }
}

/// The climb so far.
#[derive(Default)]
pub(crate) struct Ladder {
    pub(crate) verdicts: Vec<Verdict>,
}

impl Ladder {
    /// Tries a rung, again without an optional program each time that one of them fails to load.
    pub(crate) fn climb<A>(
        &mut self,
        rung: &Rung,
        mut attempt: impl FnMut(&mut Vec<Failure>) -> Result<A, Failure>,
    ) -> Option<A> {
        let mut left_out = Vec::new();
        loop {
            match attempt(&mut left_out) {
                Ok(attached) => {
                    left_out.into_iter().for_each(|f| self.enter(verdict(f, rung, true)));
                    return Some(attached);
                }
                Err(failure) => {
                    let spared = failure.program.as_deref().is_some_and(|program| {
                        rung.optional.contains(&program)
                            && !left_out.iter().any(|f| f.program.as_deref() == Some(program))
                    });
                    if spared {
                        left_out.push(failure);
                        continue;
                    }
                    self.enter(verdict(failure, rung, false));
                    return None;
                }
            }
        }
    }

    /// One verdict per program, also of one that several rungs need: a line of collector_program each.
    fn enter(&mut self, verdict: Verdict) {
        plugin_api::log::info!("{} is not attached: {}", verdict.program, verdict.reason);
        if !self.verdicts.iter().any(|v| v.program == verdict.program) {
            self.verdicts.push(verdict);
        }
    }

    /// All reasons in one sentence.
    pub(crate) fn refusal(&self) -> String {
        let reasons: Vec<_> =
            self.verdicts.iter().map(|v| format!("{}: {}", v.program, v.reason)).collect();
        format!("no way to attach works here: {}", reasons.join(" | "))
    }
}

fn verdict(failure: Failure, rung: &Rung, optional: bool) -> Verdict {
    let program = failure.program.unwrap_or_else(|| rung.required[0].to_owned());
    Verdict { program, reason: failure.reason, optional }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(program: &str) -> Failure {
        Failure::of_program(program, "no".into())
    }

    #[test]
    fn an_optional_program_that_fails_is_left_out_and_its_rung_still_wins() {
        let rung = Rung::of("a").maybe("b").maybe("c");
        let mut ladder = Ladder::default();
        let won = ladder.climb(&rung, |left_out| {
            match left_out.iter().find(|f| f.program.as_deref() == Some("b")) {
                None => Err(fail("b")),
                Some(_) => Ok("won"),
            }
        });
        assert_eq!(won, Some("won"));
        assert_eq!(ladder.verdicts.len(), 1);
        assert!(ladder.verdicts[0].optional && ladder.verdicts[0].program == "b");
    }

    #[test]
    fn a_required_program_that_fails_costs_its_rung_and_is_named() {
        let mut ladder = Ladder::default();
        assert!(ladder.climb(&Rung::of("x"), |_| Err::<(), _>(fail("x"))).is_none());
        let whole = Failure { program: None, reason: "no BTF".into() };
        assert!(ladder.climb(&Rung::of("y"), |_| Err::<(), _>(whole.clone())).is_none());
        assert_eq!(ladder.refusal(), "no way to attach works here: x: no | y: no BTF");
    }

    #[test]
    fn a_program_of_two_rungs_is_refused_once() {
        let mut ladder = Ladder::default();
        for rung in [Rung::all(&["exec", "exit_new"]), Rung::all(&["exec", "exit"])] {
            assert!(ladder.climb(&rung, |_| Err::<(), _>(fail("exec"))).is_none());
        }
        assert_eq!(ladder.refusal(), "no way to attach works here: exec: no");
    }

    #[test]
    fn an_optional_program_that_keeps_failing_ends_the_climb() {
        let mut ladder = Ladder::default();
        let rung = Rung::of("a").maybe("b");
        assert!(ladder.climb(&rung, |_| Err::<(), _>(fail("b"))).is_none());
    }
}
