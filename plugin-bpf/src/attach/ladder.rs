//! The attach ladder: how far each hook has fallen. Pure: it decides what to try next.

use super::hook::Resolved;
use crate::object::Failure;
use std::collections::BTreeSet;

/// Why a program is not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The program.
    pub program: String,
    /// In the kernel's words.
    pub reason: String,
    /// The hook was left out, rather than observed in another way.
    pub left_out: bool,
}

/// Where each hook of a set stands.
pub(crate) struct Ladder<'a> {
    hooks: &'a [Resolved],
    /// The way that is tried; past the end: the hook is left out.
    steps: Vec<usize>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// A failure that ends the climb: a hook that is needed has no way left, or nobody knows which one failed.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) String);

impl<'a> Ladder<'a> {
    pub(crate) fn new(hooks: &'a [Resolved]) -> Self {
        Self { hooks, steps: vec![0; hooks.len()], verdicts: Vec::new() }
    }

    /// The ways to try now, with their hooks.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&'a Resolved, &'a [&'static str])> {
        let steps = self.hooks.iter().zip(&self.steps);
        steps.filter_map(|(hook, step)| Some((hook, hook.ways.get(*step)?.as_slice())))
    }

    /// Their programs.
    pub(crate) fn programs(&self) -> BTreeSet<&'static str> {
        self.ways().flat_map(|(_, way)| way.iter().copied()).collect()
    }

    /// Lets the hooks of the program that failed fall one step.
    pub(crate) fn fall(&mut self, failure: &Failure) -> Result<(), Ended> {
        let Some(program) = &failure.program else {
            return Err(Ended(failure.reason.clone()));
        };
        if self.fall_where(|name| name == program, &failure.reason)? {
            Ok(())
        } else {
            Err(Ended(format!("{program}: {}", failure.reason)))
        }
    }

    /// Lets every hook whose present way has a program of a kind fall one step; whether one did.
    pub(crate) fn fall_where(
        &mut self,
        failed: impl Fn(&str) -> bool,
        reason: &str,
    ) -> Result<bool, Ended> {
        let mut fallen = false;
        for (hook, step) in self.hooks.iter().zip(&mut self.steps) {
            let way = hook.ways.get(*step);
            let Some(program) = way.and_then(|way| way.iter().find(|program| failed(program)))
            else {
                continue;
            };
            fallen = true;
            *step += 1;
            let exhausted = *step == hook.ways.len();
            self.verdicts.push(Verdict {
                program: (*program).to_owned(),
                reason: reason.to_owned(),
                left_out: exhausted && hook.optional,
            });
            if exhausted && !hook.optional {
                let of_hook = |v: &&Verdict| hook.ways.iter().flatten().any(|p| *p == v.program);
                let verdicts = self.verdicts.iter().filter(of_hook);
                let reasons: Vec<_> =
                    verdicts.map(|v| format!("{}: {}", v.program, v.reason)).collect();
                let reasons = reasons.join(" | ");
                return Err(Ended(format!(
                    "no way to observe `{}` works here: {reasons}",
                    hook.name
                )));
            }
        }
        Ok(fallen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::*;

    fn hook(name: &'static str, ways: &[&'static str], optional: bool) -> Resolved {
        let ways = ways.iter().map(|way| vec![*way]).collect();
        Resolved { name, ways, optional, wanted: true, target: Target::Declared }
    }

    fn fail(program: &str) -> Failure {
        Failure::of_program(program, "no")
    }

    fn programs(ladder: &Ladder<'_>) -> Vec<&'static str> {
        ladder.programs().into_iter().collect()
    }

    #[test]
    fn each_hook_falls_by_itself() {
        let hooks = [hook("a", &["a_btf", "a_tp"], false), hook("b", &["b_btf", "b_tp"], false)];
        let mut ladder = Ladder::new(&hooks);
        assert_eq!(programs(&ladder), ["a_btf", "b_btf"]);
        ladder.fall(&fail("b_btf")).unwrap();
        assert_eq!(programs(&ladder), ["a_btf", "b_tp"]);
        ladder.fall(&fail("a_btf")).unwrap();
        assert_eq!(programs(&ladder), ["a_tp", "b_tp"]);
        assert_eq!(ladder.verdicts.len(), 2);
    }

    #[test]
    fn loads_grow_with_failures_and_not_with_combinations() {
        let hooks: Vec<_> =
            ["a", "b", "c", "d"].map(|name| hook(name, &["x1", "x2", "x3"], false)).into();
        // Four hooks of three ways each, all but the last of which fail: three loads.
        let mut ladder = Ladder::new(&hooks);
        let mut loads = 1;
        for program in ["x1", "x2"] {
            ladder.fall(&fail(program)).unwrap();
            loads += 1;
        }
        assert_eq!((loads, programs(&ladder)), (3, vec!["x3"]));
    }

    #[test]
    fn all_ways_of_a_kind_fall_at_once() {
        let hooks = [hook("a", &["a_btf", "a_tp"], false), hook("b", &["b_tp"], false)];
        let mut ladder = Ladder::new(&hooks);
        assert!(ladder.fall_where(|program| program.ends_with("_btf"), "no BTF").unwrap());
        assert_eq!(programs(&ladder), ["a_tp", "b_tp"]);
        assert!(!ladder.fall_where(|program| program.ends_with("_btf"), "no BTF").unwrap());
        assert_eq!(ladder.verdicts.len(), 1);
    }

    #[test]
    fn an_optional_hook_is_left_out_and_a_needed_one_ends_the_climb() {
        let hooks = [hook("a", &["a_btf"], true), hook("b", &["b_btf", "b_tp"], false)];
        let mut ladder = Ladder::new(&hooks);
        ladder.fall(&fail("a_btf")).unwrap();
        assert_eq!(programs(&ladder), ["b_btf"]);
        assert!(ladder.verdicts[0].left_out);
        ladder.fall(&fail("b_btf")).unwrap();
        assert!(!ladder.verdicts[1].left_out);
        let ended = ladder.fall(&fail("b_tp")).unwrap_err();
        assert_eq!(ended.0, "no way to observe `b` works here: b_btf: no | b_tp: no");
    }

    #[test]
    fn a_failure_that_names_no_program_of_ours_ends_the_climb() {
        let hooks = [hook("a", &["a_btf"], true)];
        let mut ladder = Ladder::new(&hooks);
        assert_eq!(ladder.fall(&fail("z")).unwrap_err().0, "z: no");
        let whole = Failure { program: None, reason: "no memory".into() };
        assert_eq!(ladder.fall(&whole).unwrap_err().0, "no memory");
    }
}
