//! What the kernel's verifier says of a tool's programs, for `cargo xtask verify`.

use crate::exact::CutKind;
use crate::object::{Code, Failure, Settings, Terms, processed};
use crate::tool::{ObjectSet as _, Tool, open};
use plugin_api::{Options, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Prints a line `VERIFIED: KERNEL PLUGIN PROGRAM COUNT` for each program, `6.12 runqlat switch_btf 182`; with
/// `- REASON` in place of the count where the kernel does not take it.
///
/// The count is that of the options with which the program is largest.
///
/// # Panics
/// The default options do not work.
pub fn print<T: Tool>(plugin: &str) {
    let sets = option_sets::<T::Options>();
    let settings: Vec<_> = sets.iter().map(|json| settings_of::<T>(json)).collect();
    if let Some(Err(error)) = settings.first() {
        panic!("the default options: {error:#}");
    }
    // Values of two options may not go together.
    let settings: Vec<_> = settings.into_iter().flatten().collect();
    let kernel = series();
    let mut refused = Vec::new();
    let codes = T::Object::codes();
    for (object, code) in codes.iter().enumerate() {
        let mut different: Vec<&Settings> = Vec::new();
        for of_object in settings.iter().map(|objects| &objects[object]) {
            if !different.contains(&of_object) {
                different.push(of_object);
            }
        }
        let mut largest = largest(code, &different);
        for program in code.programs {
            let told = match largest.remove(program.name).unwrap_or(Ok(0)) {
                Ok(count) => count.to_string(),
                Err(failure) => {
                    let reason = failure.reason.replace('\n', "; ");
                    refused.push(reason.clone());
                    format!("- {reason}")
                }
            };
            println!("VERIFIED: {kernel} {plugin} {} {told}", program.name);
        }
    }
    let programs = T::Object::programs().len();
    if let Some(reason) = refused.first().filter(|_| refused.len() == programs) {
        println!("SKIPPED: this kernel takes no program of {plugin}: {reason}");
    }
}

fn settings_of<T: Tool>(json: &str) -> Result<Vec<Settings>> {
    Ok(open::<T>(T::Options::from_json(json)?)?.1)
}

type Counts = BTreeMap<&'static str, Result<u64, Failure>>;

/// The largest count of each program, or why the kernel does not take it with one of the settings.
fn largest(code: &'static Code, settings: &[&Settings]) -> Counts {
    let mut all: Counts = code.programs.iter().map(|program| (program.name, Ok(0))).collect();
    for settings in settings {
        // Those of one kind, as they are loaded for a tool.
        let mut kinds: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
        for (name, _) in all.iter().filter(|(_, count)| count.is_ok()) {
            kinds.entry(kind(name)).or_default().insert(name);
        }
        for (name, count) in kinds.into_values().flat_map(|wanted| counts(code, wanted, settings)) {
            let largest = all.entry(name).or_insert(Ok(0));
            if let (Ok(largest), Ok(count)) = (&mut *largest, &count) {
                *largest = (*largest).max(*count);
            } else {
                *largest = count;
            }
        }
    }
    all
}

/// `uprobe` of `malloc_uprobe`, and of `malloc_uprobe_2`.
fn kind(program: &str) -> &str {
    let mut words = program.rsplit('_');
    words.find(|word| word.parse::<u32>().is_err()).unwrap_or(program)
}

/// Loads them together, less those that the kernel refuses: to read the object and the kernel's types takes an emulated
/// machine most of a second.
fn counts(code: &'static Code, mut wanted: BTreeSet<&'static str>, settings: &Settings) -> Counts {
    let mut all = Counts::new();
    while !wanted.is_empty() {
        match load(code, &wanted, settings, false) {
            Ok(counts) => {
                let count = |name| counts.get(name).copied().unwrap_or(0);
                all.extend(
                    std::mem::take(&mut wanted).into_iter().map(|name| (name, Ok(count(name)))),
                );
            }
            Err(failure) => {
                let named =
                    wanted.iter().copied().find(|name| failure.program.as_deref() == Some(name));
                if let Some(refused) = named {
                    wanted.remove(refused);
                    all.insert(refused, count(code, refused, settings));
                    continue;
                }
                // Nobody knows whose fault it is.
                let one = |name| (name, count(code, name, settings));
                all.extend(std::mem::take(&mut wanted).into_iter().map(one));
            }
        }
    }
    all
}

fn count(code: &'static Code, program: &'static str, settings: &Settings) -> Result<u64, Failure> {
    let programs = BTreeSet::from([program]);
    let counts = match load(code, &programs, settings, false) {
        // As when it is attached: perhaps for want of the kernel's BTF.
        Err(Failure { program: None, .. }) => load(code, &programs, settings, true),
        result => result,
    };
    counts.map(|counts| counts.values().sum())
}

fn load(
    code: &'static Code,
    programs: &BTreeSet<&'static str>,
    settings: &Settings,
    without_btf: bool,
) -> Result<BTreeMap<String, u64>, Failure> {
    let cut = settings.cut.unwrap_or_else(CutKind::of_this_kernel);
    processed(code, &Terms { programs, settings, cut, cells: None, without_btf })
}

/// The running kernel's version without its patch level: `6.12`.
fn series() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.split(['.', '-']).take(2).map(str::trim).collect::<Vec<_>>().join(".")
}

/// Options as JSON: the defaults; each other value that an option's description names; of each such option
/// the last other value, all together.
fn option_sets<O: Options>() -> Vec<String> {
    let mut sets = vec!["{}".to_owned()];
    let mut together = Vec::new();
    for option in O::describe() {
        let default = option.default.to_string();
        let others = values(&option.kind).into_iter().filter(|value| *value != default);
        let entries = others.map(|value| format!("{:?}:{value}", option.name));
        let allowed: Vec<_> =
            entries.filter(|entry| O::from_json(&format!("{{{entry}}}")).is_ok()).collect();
        sets.extend(allowed.iter().map(|entry| format!("{{{entry}}}")));
        together.extend(allowed.last().cloned());
    }
    if together.len() > 1 {
        sets.push(format!("{{{}}}", together.join(",")));
    }
    sets
}

/// The values that an option's type names, as JSON: those of a switch or a choice, an example of a duration.
fn values(kind: &str) -> Vec<String> {
    if kind.ends_with("true or false") {
        return vec!["false".to_owned(), "true".to_owned()];
    }
    kind.split('"').skip(1).step_by(2).map(|text| format!("{text:?}")).collect()
}

#[cfg(test)]
mod tests {
    use super::option_sets;
    use plugin_api::{Options as _, choice, options};
    use std::time::Duration;

    choice! {
        /// A choice.
        pub enum By {
            /// Nothing.
            Nothing = "",
            /// The name.
            Comm = "comm",
            /// The cgroup.
            Cgroup = "cgroup",
        }
    }
    options! {
        /// What the plugin takes.
        pub struct Several {
            /// A switch.
            events: bool = false,
            /// A number has too many values.
            rate: u64 [1..=9] = 3,
            /// Its example is tried.
            min: Duration = Duration::ZERO,
            /// The example is not allowed.
            max: Duration [Duration::ZERO..=Duration::from_millis(1)] = Duration::ZERO,
            /// A choice.
            by: By = By::Nothing,
        }
    }

    #[test]
    fn each_named_value_is_tried_alone_and_with_the_others() {
        let sets = option_sets::<Several>();
        let expected = [
            "{}",
            r#"{"events":true}"#,
            r#"{"min":"10ms"}"#,
            r#"{"by":"comm"}"#,
            r#"{"by":"cgroup"}"#,
            r#"{"events":true,"min":"10ms","by":"cgroup"}"#,
        ];
        assert_eq!(sets, expected);
        assert!(sets.iter().all(|json| Several::from_json(json).is_ok()));
    }
}
