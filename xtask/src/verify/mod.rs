//! `verify`: how many instructions the kernels' verifiers process, beside the table in the repository.

mod compare;
mod table;

use crate::test::{self, Stage};
use crate::workspace;
use anyhow::{Context, Result};
use compare::{Difference, compare};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use table::{Program, Series, Table, Verdict};

/// The test that `plugin_bpf::export_tool!` adds to each plugin.
const TEST: &str = "the_verifier_counts_each_program";

pub fn verb(write: bool) -> Result<ExitCode> {
    let stages = test::of_plugins(TEST)?;
    if !stages.iter().all(Stage::is_good) {
        return Ok(test::summary(&stages));
    }
    let measured = Measured::of(&stages)?;
    let old = read()?;
    print!("{}", measured.table);
    measured.refused.iter().for_each(|(reason, places)| {
        eprintln!("refused: {}: {reason}", places.join(", "));
    });
    if write {
        let text = measured.table.with_columns_of(&old).to_string();
        fs::write(path(), text).with_context(|| format!("writing {}", path().display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(test::summary(&[measured.compare(&old)?]))
}

/// Compares what the stages before measured with the table.
pub fn stage(stages: &[Stage]) -> Stage {
    let compared = Measured::of(stages).and_then(|measured| measured.compare(&read()?));
    compared.unwrap_or_else(|why| {
        let mut stage = Stage::begin(NAME);
        stage.fail("the table", &format!("{why:#}"));
        stage.end()
    })
}

const NAME: &str = "verifier";

fn path() -> PathBuf {
    workspace::root().join("xtask/verifier.txt")
}

/// The table in the repository; an empty one when there is none yet.
fn read() -> Result<Table> {
    let path = path();
    if !path.exists() {
        return Ok(Table::default());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Table::parse(&text).with_context(|| format!("{}", path.display()))
}

/// What plugins' tests said.
#[derive(Default)]
struct Measured {
    table: Table,
    /// Programs and kernels by the reason of a refusal.
    refused: BTreeMap<String, Vec<String>>,
}

impl Measured {
    fn of(stages: &[Stage]) -> Result<Measured> {
        let mut measured = Measured::default();
        for line in stages.iter().flat_map(Stage::verified) {
            measured.add(line).with_context(|| format!("in the test's line `{line}`"))?;
        }
        Ok(measured)
    }

    /// `6.12 runqlat switch_btf 182`, or `6.12 bpfsample shows_fentry - REASON`.
    fn add(&mut self, line: &str) -> Result<()> {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().context("a word is missing");
        let series: Series = word()?.parse()?;
        let program = Program { plugin: word()?.to_owned(), name: word()?.to_owned() };
        let verdict: Verdict = word()?.parse()?;
        if verdict == Verdict::Refused {
            let reason = words.next().unwrap_or("no reason was given").to_owned();
            self.refused.entry(reason).or_default().push(format!("{program} on {series}"));
        }
        self.table.add(program, series, verdict);
        Ok(())
    }

    /// A check for each kernel.
    fn compare(&self, old: &Table) -> Result<Stage> {
        let plugins = workspace::plugins()?;
        let mut stage = Stage::begin(NAME);
        let known = old.series();
        if self.table.series().is_empty() {
            stage.fail("the table", "no plugin's test said what the verifier processed");
        }
        for series in self.table.series() {
            let check = format!("programs on {series}");
            if !known.is_empty() && !known.contains(&series) {
                stage.skip(
                    &check,
                    "kernel is not in xtask/verifier.txt: cargo xtask verify --write",
                );
                continue;
            }
            let mut failures = 0;
            for difference in compare(old, &self.table, series, &plugins) {
                match difference {
                    Difference::Failure(what) => {
                        failures += 1;
                        stage.fail(&what, &self.reasons(&what));
                    }
                    Difference::Note(what) => stage.show(&what),
                }
            }
            if failures == 0 {
                stage.check(&check, Ok(()));
            }
        }
        Ok(stage.end())
    }

    /// Why the program that a failure begins with is refused.
    fn reasons(&self, failure: &str) -> String {
        let is_of = |place: &String| {
            failure.strip_prefix(place.as_str()).is_some_and(|rest| rest.starts_with(' '))
        };
        let reasons = self.refused.iter().filter(|(_, places)| places.iter().any(is_of));
        reasons.map(|(reason, _)| reason.as_str()).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_test_is_a_cell_of_the_table() {
        let mut measured = Measured::default();
        measured.add("6.12 runqlat switch_btf 182").unwrap();
        measured.add("6.12 bpfsample shows_fentry - BPF program load failed: -EPERM").unwrap();
        let cells = "plugin program 6.12\nrunqlat switch_btf 182\nbpfsample shows_fentry -";
        assert_eq!(measured.table, Table::parse(cells).unwrap());
        let refused = measured.refused.iter().next().unwrap();
        assert_eq!(refused.0, "BPF program load failed: -EPERM");
        assert_eq!(refused.1[..], ["bpfsample shows_fentry on 6.12"]);
        assert!(measured.add("6.12 runqlat switch_btf").is_err());
    }

    #[test]
    fn a_refusal_has_the_reason_of_its_own_kernel() {
        let mut measured = Measured::default();
        measured.add("6.1 runqlat switch_btf - no BTF").unwrap();
        measured.add("6.12 runqlat switch_btf - too large").unwrap();
        assert_eq!(measured.reasons("runqlat switch_btf on 6.1 is refused"), "no BTF");
        assert_eq!(measured.reasons("runqlat switch_btf on 6.12 is refused"), "too large");
    }
}
