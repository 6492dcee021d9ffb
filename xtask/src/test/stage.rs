//! What the stages of a test run found, and the summary of it.

use super::libtest::{self, Outcome};
use super::matrix;
use anyhow::Result;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

/// One stage: a name, what came out, how long it took.
pub struct Stage {
    name: String,
    outcome: Outcome,
    /// Tests of each plugin: passed, failed, skipped.
    plugins: BTreeMap<String, [usize; 3]>,
    begun: Instant,
    seconds: f64,
}

impl Stage {
    pub fn begin(name: &str) -> Stage {
        eprintln!("== {name}");
        Stage {
            name: name.to_owned(),
            outcome: Outcome::default(),
            plugins: BTreeMap::new(),
            begun: Instant::now(),
            seconds: 0.0,
        }
    }

    /// Adds a check that passes or fails as a whole; what it made when it passed.
    pub fn check<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(made) => {
                self.outcome.passed += 1;
                Some(made)
            }
            Err(why) => {
                self.fail(what, &format!("{why:#}"));
                None
            }
        }
    }

    pub fn fail(&mut self, what: &str, output: &str) {
        eprintln!("FAILED {}: {what}\n{output}", self.name);
        self.outcome.failed.push((what.to_owned(), String::new()));
    }

    /// Adds a check that could not be made.
    pub fn skip(&mut self, what: &str, why: &str) {
        self.outcome.skipped.push((what.to_owned(), why.to_owned()));
    }

    /// Adds a row for the summary.
    pub fn show(&mut self, row: &str) {
        self.outcome.table.push(row.to_owned());
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.outcome.failed.is_empty()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tests of each plugin: passed, failed, skipped.
    pub fn plugins(&self) -> &BTreeMap<String, [usize; 3]> {
        &self.plugins
    }

    /// How hooks were attached, as tests said.
    pub fn ways(&self) -> &[String] {
        &self.outcome.ways
    }

    /// What tests said of BPF programs.
    pub fn verified(&self) -> &[String] {
        &self.outcome.verified
    }

    /// Adds what a test executable printed; `end` is how it ended when it did not end well.
    pub fn tests(&mut self, executable: &str, output: &str, end: Option<&str>) {
        let outcome = libtest::parse(output, end);
        let counts = outcome.counts();
        if counts != [0; 3] {
            let [passed, failed, skipped] = counts;
            let name = &self.name;
            eprintln!("{name}: {executable}: {passed} passed, {failed} failed, {skipped} skipped");
        }
        if let Some(label) = executable.strip_prefix("plugins/") {
            let plugin = label.split(' ').next().unwrap_or_default().to_owned();
            let sums = self.plugins.entry(plugin).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.outcome.passed += outcome.passed;
        for (test, output) in outcome.failed {
            self.fail(&format!("{executable}: {test}"), &output);
        }
        let named = |(test, why)| (format!("{executable}: {test}"), why);
        self.outcome.skipped.extend(outcome.skipped.into_iter().map(named));
        self.outcome.table.extend(outcome.table);
        self.outcome.ways.extend(outcome.ways);
        self.outcome.verified.extend(outcome.verified);
    }

    pub fn end(mut self) -> Stage {
        self.seconds = self.begun.elapsed().as_secs_f64();
        self
    }
}

/// Prints the closing summary; its last line is the one that machines read.
pub fn summary(stages: &[Stage]) -> ExitCode {
    for stage in stages.iter().filter(|stage| !stage.outcome.table.is_empty()) {
        println!("\n{}:", stage.name);
        stage.outcome.table.iter().for_each(|row| println!("    {row}"));
    }
    print!("{}", matrix::of(stages));
    let skipped = stages.iter().flat_map(|s| s.outcome.skipped.iter().map(move |skip| (s, skip)));
    for (index, (stage, (test, why))) in skipped.enumerate() {
        println!(
            "{}    {}: {test}: {why}",
            if index == 0 { "\nskipped:\n" } else { "" },
            stage.name
        );
    }
    let failed = stages.iter().flat_map(|s| s.outcome.failed.iter().map(move |fail| (s, fail)));
    for (index, (stage, (test, _))) in failed.enumerate() {
        println!("{}    {}: {test}", if index == 0 { "\nfailed:\n" } else { "" }, stage.name);
    }

    println!("\n{:<28} {:>7} {:>7} {:>7} {:>8}", "stage", "passed", "failed", "skipped", "seconds");
    let mut total = [0; 3];
    for Stage { name, outcome, seconds, .. } in stages {
        let counts = outcome.counts();
        println!("{name:<28} {:>7} {:>7} {:>7} {seconds:>8.1}", counts[0], counts[1], counts[2]);
        total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [passed, failed, skipped] = total;
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
