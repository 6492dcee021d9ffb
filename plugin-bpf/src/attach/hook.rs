//! What a tool observes, and the ways to observe it.

use crate::attach::target::Target;
use crate::object::ProgramDef;
use plugin_api::{Result, bail, ensure};
use std::cell::Cell;

/// One thing that a tool observes: a hook, with its ways, best first.
///
/// The programs of a hook are found by their names, `HOOK_KIND`, in the order of the source: `switch_btf`,
/// `switch_raw`, `switch_tp` are three ways of the hook `switch`. `KIND` is one of btf, raw, tp, fentry,
/// fexit, kprobe, kretprobe, uprobe, uretprobe, session, usdt, perf, lsm, cgroup, iter. Entry and return of one
/// mechanism (fentry and fexit, kprobe and kretprobe, uprobe and uretprobe) are one way, taken together. A
/// word behind the kind makes a way of its own: `exit_btf_group`.
#[derive(Clone, Debug)]
pub struct Hook {
    name: &'static str,
    before: Vec<Vec<&'static str>>,
    only: Option<&'static str>,
    optional: bool,
    wanted: bool,
    target: Target,
}

impl Hook {
    /// A hook by its name.
    #[must_use]
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            before: Vec::new(),
            only: None,
            optional: false,
            wanted: true,
            target: Target::Declared,
        }
    }

    /// Ways of one program each, by their functions' names, in this order and before those that are found by
    /// the hook's name.
    #[must_use]
    pub fn ways(mut self, programs: &[&'static str]) -> Self {
        self.before.extend(programs.iter().map(|program| vec![*program]));
        self
    }

    /// Only the ways of this kind, such as `kprobe`.
    #[must_use]
    pub fn only(mut self, kind: &'static str) -> Self {
        self.only = Some(kind);
        self
    }

    /// The tool can do without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Leaves the hook out, with all its programs, where the tool's options have no use for it.
    #[must_use]
    pub fn only_if(mut self, wanted: bool) -> Self {
        self.wanted = wanted;
        self
    }

    /// Where its programs attach, when their sections do not say it.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    fn is_late(&self) -> bool {
        matches!(self.target, Target::Later)
    }
}

/// All that a tool observes.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Mechanisms, best first, of which one is taken as a whole.
    sets: Vec<Vec<Hook>>,
    /// Programs that the tool attaches by itself, or leaves alone.
    others: Vec<&'static str>,
    /// It leaves every program alone that no hook names.
    partial: bool,
    /// The hooks that no set names are in each of them, optional; and whether they are wanted.
    rest: Option<bool>,
}

impl Hooks {
    /// These hooks. Each falls by itself from way to way.
    #[must_use]
    pub fn all(hooks: impl IntoIterator<Item = Hook>) -> Self {
        Self { sets: vec![hooks.into_iter().collect()], ..Self::default() }
    }

    /// When one of the hooks so far cannot be attached: these in their place, all of them.
    #[must_use]
    pub fn or(mut self, hooks: impl IntoIterator<Item = Hook>) -> Self {
        let late = self.sets.iter().take(1).flatten().filter(|hook| hook.is_late()).cloned();
        let set = hooks.into_iter().chain(late.collect::<Vec<_>>()).collect();
        self.sets.push(set);
        self
    }

    /// Programs that are loaded, and attached later by [`crate::Links`]; in each set, whichever is taken.
    #[must_use]
    pub fn later(mut self, programs: &[&'static str]) -> Self {
        self.others.extend(programs);
        if self.sets.is_empty() {
            self.sets.push(Vec::new());
        }
        self.sets.iter_mut().for_each(|set| {
            set.extend(programs.iter().map(|program| Hook {
                before: vec![vec![program]],
                target: Target::Later,
                ..Hook::of(program)
            }));
        });
        self
    }

    /// Leaves out programs of the object that no hook names.
    #[must_use]
    pub fn without(mut self, programs: &[&'static str]) -> Self {
        self.others.extend(programs);
        self
    }

    /// Leaves out every program that no hook names, for an object that serves several tools.
    #[must_use]
    pub fn without_others(mut self) -> Self {
        self.partial = true;
        self
    }

    /// In each set also the hooks that none of them names, each optional and by any of its ways; with all their
    /// programs left out where the tool's options have no use for them.
    #[must_use]
    pub fn rest_optional(mut self, wanted: bool) -> Self {
        self.rest = Some(wanted);
        self
    }

    /// One hook for each name in front of a known kind, which is what a tool has when it says nothing.
    #[must_use]
    pub(crate) fn by_name(programs: &[&'static ProgramDef]) -> Self {
        Self::all(names(programs).into_iter().map(Hook::of))
    }

    /// The sets with their ways resolved.
    ///
    /// # Errors
    /// A hook has no program, or a program has no hook: the author's mistake, seen at the first start.
    pub(crate) fn resolve(&self, programs: &[&'static ProgramDef]) -> Result<Vec<Vec<Resolved>>> {
        let mut named = self.sets.clone();
        if let Some(wanted) = self.rest {
            let of_a_set = |name: &&str| self.sets.iter().flatten().any(|hook| hook.name == *name);
            let rest = names(programs).into_iter().filter(|name| !of_a_set(name));
            let rest = rest.map(|name| Hook::of(name).optional().only_if(wanted));
            let rest: Vec<Hook> = rest.collect();
            named.iter_mut().for_each(|set| set.extend(rest.clone()));
        }
        let mut sets: Vec<Vec<Resolved>> = named
            .iter()
            .map(|set| set.iter().map(|hook| resolve(hook, programs)).collect())
            .collect::<Result<_>>()?;
        // Resolved all the same: a hook without a program is a mistake whatever the options are.
        let unwanted = |set: &mut Vec<Resolved>| set.extract_if(.., |hook| !hook.wanted).collect();
        let left_out: Vec<Vec<Resolved>> = sets.iter_mut().map(unwanted).collect();
        for program in programs {
            let named = sets
                .iter()
                .flatten()
                .chain(left_out.iter().flatten())
                .any(|hook| hook.names(program.name));
            ensure!(
                named
                    || self.partial
                    || self.others.contains(&program.name)
                    || self.leaves_out(program.name),
                "program `{}` belongs to no hook and would never run: name it HOOK_KIND, or name it \
                 in Hooks::without",
                program.name
            );
        }
        if let Some(kind) = ONLY.take() {
            let of_kind = |p: &&'static str| split(p).is_none_or(|(_, way)| way.0 == kind);
            // What is attached later has one way.
            let hooks = sets.iter_mut().flatten().filter(|hook| !hook.is_late());
            hooks.for_each(|hook| hook.ways.retain(|way| way.iter().all(&of_kind)));
            let without = |set: &Vec<Resolved>| set.iter().any(|hook| hook.ways.is_empty());
            if let Some(hook) = sets[0].iter().find(|hook| hook.ways.is_empty())
                && sets.iter().all(without)
            {
                bail!("hook `{}` has no way by {kind}", hook.name);
            }
            sets.retain(|set| !without(set));
        }
        if BY_HAND.take() {
            sets.iter_mut().flatten().for_each(|hook| hook.target = Target::Later);
        }
        Ok(sets)
    }

    /// A way that `only` excludes.
    fn leaves_out(&self, program: &'static str) -> bool {
        let hooks = self.sets.iter().flatten().filter(|hook| hook.only.is_some());
        split(program).is_some_and(|(name, _)| hooks.into_iter().any(|hook| hook.name == name))
    }
}

thread_local! {
    static ONLY: Cell<Option<&'static str>> = const { Cell::new(None) };
    static BY_HAND: Cell<bool> = const { Cell::new(false) };
}

/// Lets the next tool that this thread starts use ways of this kind only (`btf`, `raw`, `tp`..), for tests
/// that try each of them.
#[doc(hidden)]
pub fn only_kind(kind: &'static str) {
    ONLY.set(Some(kind));
}

/// Loads the programs of the next tool that this thread starts and attaches none, for tests that run them by
/// hand, also those of hooks that no kernel at hand has.
#[doc(hidden)]
pub fn by_hand() {
    BY_HAND.set(true);
}

/// A hook whose programs are known.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) name: &'static str,
    /// Best first; each is a set of programs.
    pub(crate) ways: Vec<Vec<&'static str>>,
    pub(crate) optional: bool,
    pub(crate) wanted: bool,
    pub(crate) target: Target,
}

impl Resolved {
    fn is_late(&self) -> bool {
        matches!(self.target, Target::Later)
    }

    fn names(&self, program: &str) -> bool {
        self.ways.iter().flatten().any(|name| *name == program)
    }
}

/// Kinds with the mechanism that they are part of.
const KINDS: [(&str, &str); 15] = [
    ("btf", "btf"),
    ("raw", "raw"),
    ("tp", "tp"),
    ("fentry", "fentry"),
    ("fexit", "fentry"),
    ("kprobe", "kprobe"),
    ("kretprobe", "kprobe"),
    ("uprobe", "uprobe"),
    ("uretprobe", "uprobe"),
    ("session", "session"),
    ("usdt", "usdt"),
    ("perf", "perf"),
    ("lsm", "lsm"),
    ("cgroup", "cgroup"),
    ("iter", "iter"),
];

/// The hook of a program, and its way: the mechanism and the variant of it.
fn split(program: &'static str) -> Option<(&'static str, (&'static str, &'static str))> {
    let ends = program.match_indices('_').map(|(at, _)| at).chain([program.len()]);
    let starts: Vec<usize> = program.match_indices('_').map(|(at, _)| at + 1).collect();
    let mut kinds = starts.into_iter().rev().map(|start| {
        let end = ends.clone().find(|end| *end > start)?;
        let (_, mechanism) = KINDS.iter().find(|(kind, _)| *kind == &program[start..end])?;
        Some((&program[..start - 1], (*mechanism, program[end..].trim_start_matches('_'))))
    });
    // The last word that is a kind; what follows is a variant, as in `call_kprobe_session`.
    let last = kinds.find_map(|kind| kind)?;
    Some(kinds.map_while(|kind| kind).last().unwrap_or(last))
}

/// The names in front of a known kind, each once.
fn names(programs: &[&'static ProgramDef]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for program in programs {
        let name = split(program.name).map_or(program.name, |(hook, _)| hook);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn resolve(hook: &Hook, programs: &[&'static ProgramDef]) -> Result<Resolved> {
    let mut ways = hook.before.clone();
    for name in hook.before.iter().flatten() {
        ensure!(
            programs.iter().any(|program| program.name == *name),
            "hook `{}` names a program `{name}`, which the object does not have",
            hook.name
        );
    }
    let mut found: Vec<((&str, &str), Vec<&'static str>)> = Vec::new();
    for program in programs {
        let (name, way) = match split(program.name) {
            Some(found) => found,
            None if program.name == hook.name && hook.before.is_empty() => (program.name, ("", "")),
            None => continue,
        };
        if name != hook.name
            || hook.only.is_some_and(|only| only != way.0)
            || ways.iter().flatten().any(|way| *way == program.name)
        {
            continue;
        }
        match found.iter_mut().find(|(known, _)| *known == way) {
            Some((_, programs)) => programs.push(program.name),
            None => found.push((way, vec![program.name])),
        }
    }
    ways.extend(found.into_iter().map(|(_, programs)| programs));
    if ways.is_empty() {
        let known: Vec<_> = programs.iter().map(|program| program.name).collect();
        bail!(
            "hook `{}` has no program {}_KIND; the object has {}",
            hook.name,
            hook.name,
            known.join(", ")
        );
    }
    let Hook { name, optional, wanted, .. } = *hook;
    Ok(Resolved { name, ways, optional, wanted, target: hook.target.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! programs {
        ($($name:literal),+) => {
            [$(&ProgramDef { name: $name, section: "", maps: &[] }),+]
        };
    }

    #[test]
    fn programs_are_ways_of_the_hook_that_their_names_begin_with() {
        let programs =
            programs!["exit_btf", "exit_raw", "unlink_fentry", "unlink_fexit", "exit_tp"];
        let sets = Hooks::by_name(&programs).resolve(&programs).unwrap();
        let ways: Vec<_> = sets[0].iter().map(|hook| (hook.name, hook.ways.clone())).collect();
        assert_eq!(
            ways,
            [
                ("exit", vec![vec!["exit_btf"], vec!["exit_raw"], vec!["exit_tp"]]),
                ("unlink", vec![vec!["unlink_fentry", "unlink_fexit"]]),
            ]
        );
    }

    #[test]
    fn a_word_behind_the_kind_is_a_way_of_its_own() {
        let programs = programs!["exit_btf_group", "exit_btf", "wakeup_new_btf", "exit_tp_group"];
        let sets = Hooks::by_name(&programs).resolve(&programs).unwrap();
        assert_eq!(sets[0][0].ways, [["exit_btf_group"], ["exit_btf"], ["exit_tp_group"]]);
        assert_eq!(sets[0][1].name, "wakeup_new");
    }

    #[test]
    fn a_better_way_comes_first() {
        let programs = programs!["exit_btf", "exit_group_btf"];
        let hooks = Hooks::all([Hook::of("exit").ways(&["exit_group_btf"])]);
        let sets = hooks.resolve(&programs).unwrap();
        assert_eq!(sets[0][0].ways, [["exit_group_btf"], ["exit_btf"]]);
    }

    #[test]
    fn a_program_without_a_hook_is_an_error_that_names_it() {
        let programs = programs!["exit_btf", "enter_btf"];
        let error = Hooks::all([Hook::of("exit")]).resolve(&programs).unwrap_err().to_string();
        assert!(error.contains("`enter_btf` belongs to no hook"), "{error}");
        let error = Hooks::all([Hook::of("exi")]).resolve(&programs).unwrap_err().to_string();
        assert!(error.contains("no program exi_KIND") && error.contains("exit_btf"), "{error}");
        let without = Hooks::all([Hook::of("exit")]).without(&["enter_btf"]);
        assert!(without.resolve(&programs).is_ok());
    }

    #[test]
    fn programs_for_later_are_in_each_set_once() {
        let programs = programs!["exit_btf", "exit_tp", "gc_usdt"];
        let way = |kind| Hook::of("exit").only(kind);
        let table = [
            Hooks::all([way("btf")]).later(&["gc_usdt"]).or([way("tp")]),
            Hooks::all([way("btf")]).or([way("tp")]).later(&["gc_usdt"]),
        ];
        for hooks in table {
            let sets = hooks.resolve(&programs).unwrap();
            let names: Vec<Vec<_>> =
                sets.iter().map(|set| set.iter().map(|hook| hook.name).collect()).collect();
            assert_eq!(names, [["exit", "gc_usdt"], ["exit", "gc_usdt"]]);
        }
        let only_late = Hooks::default().later(&["gc_usdt"]).without(&["exit_btf", "exit_tp"]);
        assert_eq!(only_late.resolve(&programs).unwrap()[0][0].ways, [["gc_usdt"]]);
    }

    #[test]
    fn a_hook_that_no_option_wants_is_left_out_with_its_programs() {
        let programs = programs!["exit_btf", "raise_btf", "raise_tp"];
        let hooks = |wanted| Hooks::all([Hook::of("exit"), Hook::of("raise").only_if(wanted)]);
        assert_eq!(hooks(true).resolve(&programs).unwrap()[0].len(), 2);
        let sets = hooks(false).resolve(&programs).unwrap();
        assert_eq!(sets[0].iter().map(|hook| hook.name).collect::<Vec<_>>(), ["exit"]);
        let misnamed = Hooks::all([Hook::of("exit"), Hook::of("rise").only_if(false)]);
        assert!(misnamed.resolve(&programs).is_err());
    }

    #[test]
    fn the_rest_is_optional_in_each_set() {
        let programs = programs!["exit_btf", "exit_tp", "timer_btf", "timer_tp", "irq_btf"];
        let way = |kind| [Hook::of("exit").only(kind)];
        let sets = Hooks::all(way("btf")).or(way("tp")).rest_optional(true).resolve(&programs);
        for set in sets.unwrap() {
            let hooks: Vec<_> = set.iter().map(|hook| (hook.name, hook.optional)).collect();
            assert_eq!(hooks, [("exit", false), ("timer", true), ("irq", true)]);
            assert_eq!(set[1].ways, [["timer_btf"], ["timer_tp"]]);
        }
        let sets = Hooks::all([Hook::of("exit")]).rest_optional(false).resolve(&programs);
        assert_eq!(sets.unwrap()[0].len(), 1);
    }

    #[test]
    fn a_test_of_one_kind_takes_the_sets_that_have_it() {
        let programs = programs!["exit_btf", "exit_tp"];
        let hooks = || Hooks::all([Hook::of("exit").only("btf")]).or([Hook::of("exit").only("tp")]);
        only_kind("tp");
        let sets = hooks().resolve(&programs).unwrap();
        assert_eq!((sets.len(), &sets[0][0].ways), (1, &vec![vec!["exit_tp"]]));
        only_kind("raw");
        assert!(hooks().resolve(&programs).unwrap_err().to_string().contains("no way by raw"));
    }

    #[test]
    fn programs_for_a_test_s_hands_are_not_attached_once() {
        let programs = programs!["exit_raw"];
        by_hand();
        for late in [true, false] {
            let sets = Hooks::by_name(&programs).resolve(&programs).unwrap();
            assert_eq!(sets[0][0].is_late(), late);
        }
    }

    #[test]
    fn only_one_kind_leaves_the_others_out() {
        let programs = programs!["unlink_fentry", "unlink_fexit", "unlink_kprobe"];
        let hooks = Hooks::all([Hook::of("unlink").only("kprobe")]);
        let sets = hooks.resolve(&programs).unwrap();
        assert_eq!(sets[0][0].ways, [["unlink_kprobe"]]);
    }
}
