//! What changed between the table in the repository and a measurement.

use super::table::{Program, Series, Table, Verdict};

/// A difference that fails the test, or one that is only shown.
#[derive(Debug, PartialEq)]
pub enum Difference {
    Failure(String),
    Note(String),
}

use Difference::{Failure, Note};

/// Compares the programs on one kernel, which the table knows. `plugins` are those of the workspace.
pub fn compare(
    table: &Table,
    measured: &Table,
    series: Series,
    plugins: &[String],
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for program in measured.programs() {
        let Some(now) = measured.get(program, series) else { continue };
        let place = format!("{program} on {series}");
        differences.extend(change(&place, table.get(program, series), now));
    }
    let is_measured = |plugin: &str| {
        measured.programs().any(|p| p.plugin == plugin && measured.get(p, series).is_some())
    };
    let gone = |program: &&Program| {
        table.get(program, series).is_some() && measured.get(program, series).is_none()
    };
    let mut silent = Vec::new();
    for program in table.programs().filter(gone) {
        let Program { plugin, name } = program;
        if is_measured(plugin) || !plugins.contains(plugin) {
            differences.push(Failure(format!(
                "{plugin} has no program {name} any more: run cargo xtask verify --write"
            )));
        } else if !silent.contains(&plugin) {
            silent.push(plugin);
            differences.push(Failure(format!("{plugin} was not measured on {series}")));
        }
    }
    differences
}

fn change(place: &str, before: Option<Verdict>, now: Verdict) -> Option<Difference> {
    use Verdict::{Processed, Refused};
    Some(match (before, now) {
        (None, _) => Failure(format!("{place} is new: run cargo xtask verify --write")),
        (Some(Processed(old)), Refused) => {
            Failure(format!("{place} is refused, and was taken with {old} instructions"))
        }
        (Some(Refused), Processed(new)) => Note(format!("{place}: {new}, refused before")),
        (Some(Processed(old)), Processed(new)) if new * 10 > old * 11 => Failure(format!(
            "{place} grew by more than a tenth, from {old} to {new}: make it smaller, or accept it with \
             cargo xtask verify --write"
        )),
        (Some(Processed(old)), Processed(new)) if new != old => {
            Note(format!("{place}: {new}, {old} before"))
        }
        (Some(Refused), Refused) | (Some(Processed(_)), Processed(_)) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of tables with one kernel.
    fn differences(table: &str, measured: &str) -> Vec<String> {
        let table = Table::parse(&format!("plugin program 6.1\n{table}")).unwrap();
        let measured = Table::parse(&format!("plugin program 6.1\n{measured}")).unwrap();
        let plugins = ["a", "b"].map(str::to_owned);
        let found = compare(&table, &measured, "6.1".parse().unwrap(), &plugins);
        found.iter().map(|difference| format!("{difference:?}")).collect()
    }

    #[test]
    fn more_than_a_tenth_fails_and_less_is_shown() {
        let cases = [
            (
                "a p 100",
                "a p 111",
                "Failure(\"a p on 6.1 grew by more than a tenth, from 100 to 111",
            ),
            ("a p 100", "a p 110", "Note(\"a p on 6.1: 110, 100 before"),
            ("a p 100", "a p 60", "Note(\"a p on 6.1: 60, 100 before"),
            ("a p 100", "a p -", "Failure(\"a p on 6.1 is refused, and was taken with 100"),
            ("a p -", "a p 9", "Note(\"a p on 6.1: 9, refused before"),
            ("a p ?", "a p 9", "Failure(\"a p on 6.1 is new: run cargo xtask verify --write"),
            ("a p 9", "a p 9\na q -", "Failure(\"a q on 6.1 is new: run"),
            ("a p 9\na q 9", "a p 9", "Failure(\"a has no program q any more: run"),
            ("a p 9\nc q 9", "a p 9", "Failure(\"c has no program q any more: run"),
            (
                "a p 9",
                "a p 9\nnew q 9",
                "Failure(\"new q on 6.1 is new: run cargo xtask verify --write",
            ),
            ("a p 9\nb p 9\nb q 9", "a p 9", "Failure(\"b was not measured on 6.1"),
        ];
        for (table, measured, expected) in cases {
            let found = differences(table, measured);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn what_did_not_change_is_not_shown() {
        assert_eq!(differences("a p 9\na q -", "a p 9\na q -"), [""; 0]);
    }
}
