//! How many instructions the verifiers process: measured, and as the text that is kept in the repository.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A kernel's version without its patch level: `6.12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series(u32, u32);

/// A BPF program and its plugin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub plugin: String,
    pub name: String,
}

/// What one kernel's verifier said of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Refused,
    /// The number of instructions that it processed.
    Processed(u64),
}

/// A row for each program, a column for each kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(BTreeMap<Program, BTreeMap<Series, Verdict>>);

const HEADING: &str = "\
# How many instructions the kernel's verifier processes for each BPF program, by kernel.
# Made by `cargo xtask verify --write`; `cargo xtask test` fails where a program grew by more than a tenth.
# -: the kernel does not take the program. ?: not measured.
";

impl Table {
    /// Adds what one kernel said. Of two kernels of a series the larger number stays.
    pub fn add(&mut self, program: Program, series: Series, verdict: Verdict) {
        let known = self.0.entry(program).or_default().entry(series).or_insert(verdict);
        *known = verdict.max(*known);
    }

    pub fn get(&self, program: &Program, series: Series) -> Option<Verdict> {
        self.0.get(program)?.get(&series).copied()
    }

    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.0.keys()
    }

    /// The kernels, the oldest first.
    pub fn series(&self) -> BTreeSet<Series> {
        self.0.values().flat_map(BTreeMap::keys).copied().collect()
    }

    /// This table, and from `old` the columns of kernels that this one does not have.
    #[must_use]
    pub fn with_columns_of(mut self, old: &Table) -> Table {
        let measured = self.series();
        for (program, row) in &mut self.0 {
            let before = old.0.get(program).into_iter().flatten();
            let others = before.filter(|(series, _)| !measured.contains(series));
            row.extend(others.map(|(series, verdict)| (*series, *verdict)));
        }
        self
    }

    /// Reads what `to_string` made.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub fn parse(text: &str) -> Result<Table> {
        let mut table = Table::default();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let mut rows = lines.map(|line| (line, line.split_whitespace().collect::<Vec<_>>()));
        let Some((_, heads)) = rows.next() else { return Ok(table) };
        let kernels: Vec<Series> =
            heads.iter().skip(2).map(|head| head.parse()).collect::<Result<_>>()?;
        for (line, words) in rows {
            let [plugin, name, cells @ ..] = &words[..] else { bail!("`{line}` has no program") };
            if cells.len() != kernels.len() {
                bail!("`{line}` has {} columns for {} kernels", cells.len(), kernels.len());
            }
            let program = Program { plugin: (*plugin).to_owned(), name: (*name).to_owned() };
            let row = table.0.entry(program).or_default();
            for (series, cell) in kernels.iter().zip(cells).filter(|(_, cell)| **cell != "?") {
                row.insert(*series, cell.parse().with_context(|| format!("in `{line}`"))?);
            }
        }
        Ok(table)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels = self.series();
        let mut rows = vec![vec!["plugin".to_owned(), "program".to_owned()]];
        rows[0].extend(kernels.iter().map(ToString::to_string));
        for (program, row) in &self.0 {
            let cell = |series| row.get(series).map_or("?".to_owned(), ToString::to_string);
            let names = [program.plugin.clone(), program.name.clone()];
            rows.push(names.into_iter().chain(kernels.iter().map(cell)).collect());
        }
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
        f.write_str(HEADING)?;
        for row in &rows {
            write!(f, "{:<2$}  {:<3$}", row[0], row[1], widths[0], widths[1])?;
            for (cell, width) in row.iter().zip(&widths).skip(2) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for Series {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let numbers =
            text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (major, minor) = numbers.with_context(|| format!("`{text}` is no kernel series"))?;
        Ok(Series(major, minor))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.plugin, self.name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("-"),
            Self::Processed(n) => write!(f, "{n}"),
        }
    }
}

impl std::str::FromStr for Verdict {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Refused);
        }
        let n = text.parse().with_context(|| format!("`{text}` is neither a number nor -"))?;
        Ok(Self::Processed(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
plugin     program     5.10  6.12
bootstrap  exec_btf       ?    12
runqlat    switch_btf     -  1034
";

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = Table::parse(TEXT).unwrap();
        assert_eq!(table.to_string(), format!("{HEADING}{TEXT}"));
        assert_eq!(Table::parse(&table.to_string()).unwrap(), table);
        assert_eq!(Table::parse("").unwrap(), Table::default());
        assert!(Table::parse("plugin program 6.1\na b").is_err());
        assert!(Table::parse("plugin program 6.1\na b x").is_err());
    }

    #[test]
    fn kernels_that_were_not_measured_keep_their_columns() {
        let new =
            Table::parse("plugin program 6.12 7.2\nrunqlat switch_btf 9 -\nrunqlat new_btf 5 5");
        let table = new.unwrap().with_columns_of(&Table::parse(TEXT).unwrap());
        let expected =
            "plugin program 5.10 6.12 7.2\nrunqlat new_btf ? 5 5\nrunqlat switch_btf - 9 -";
        assert_eq!(table, Table::parse(expected).unwrap());
    }

    #[test]
    fn of_two_kernels_of_a_series_the_larger_number_stays() {
        let mut table = Table::default();
        let program = Program { plugin: "a".into(), name: "b".into() };
        for verdict in [Verdict::Processed(7), Verdict::Refused, Verdict::Processed(5)] {
            table.add(program.clone(), Series(6, 1), verdict);
        }
        assert_eq!(table.get(&program, Series(6, 1)), Some(Verdict::Processed(7)));
    }
}
