//! What the stages of a test run found, and the summary of it.

use super::libtest::{self, Outcome};
use super::{matrix, rights};
use anyhow::Result;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What takes longer is named at the end.
const LONG: Duration = Duration::from_secs(15);
/// A run of thousands of tests, most of them with real clocks on a shared machine, may have so many that pass only
/// the second time. With one more it has failed: that is no chance any longer.
const MOST_UNSTEADY: usize = 5;

/// One stage: a name, what came out, how long it took.
pub struct Stage {
    name: String,
    outcome: Outcome,
    /// Tests that failed, and passed the second time.
    unsteady: Vec<String>,
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
            unsteady: Vec::new(),
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
        eprintln!("FAILED {}: {what}\n{}", self.name, cut(output));
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

    /// How tools attached as users, as tests said.
    pub fn rights(&self) -> &[String] {
        &self.outcome.rights
    }

    /// What tests said of BPF programs.
    pub fn verified(&self) -> &[String] {
        &self.outcome.verified
    }

    /// Adds what a test executable printed; `end` is how it ended when it did not end well. Gives the tests that failed
    /// of themselves, each of which may have a second run.
    pub fn tests(&mut self, executable: &str, output: &str, end: Option<&str>) -> Vec<String> {
        let outcome = libtest::parse(output, end);
        let counts = outcome.counts();
        if counts != [0; 3] {
            let [passed, failed, skipped] = counts;
            let name = &self.name;
            eprintln!("{name}: {executable}: {passed} passed, {failed} failed, {skipped} skipped");
        }
        if let Some(plugin) = plugin(executable) {
            let sums = self.plugins.entry(plugin.to_owned()).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.outcome.passed += outcome.passed;
        let failed = outcome.failed.iter().map(|(test, _)| test.clone());
        let failed = failed.filter(|test| !libtest::is_dead(test)).collect();
        for (test, output) in outcome.failed {
            self.fail(&format!("{executable}: {test}"), &output);
        }
        let named = |(test, why)| (format!("{executable}: {test}"), why);
        self.outcome.skipped.extend(outcome.skipped.into_iter().map(named));
        self.outcome.table.extend(outcome.table);
        self.outcome.ways.extend(outcome.ways);
        self.outcome.rights.extend(outcome.rights);
        self.outcome.verified.extend(outcome.verified);
        failed
    }

    /// What a test that had failed printed when it ran a second time, alone.
    pub fn again(&mut self, executable: &str, test: &str, output: &str, end: Option<&str>) {
        let outcome = libtest::parse(output, end);
        let test = format!("{executable}: {test}");
        if outcome.counts() != [1, 0, 0] {
            return eprintln!("{}: {test}: fails the second time too", self.name);
        }
        eprintln!("{}: {test}: passes the second time", self.name);
        self.outcome.failed.retain(|(failed, _)| *failed != test);
        self.outcome.passed += 1;
        if let Some([passed, failed, _]) =
            plugin(executable).and_then(|it| self.plugins.get_mut(it))
        {
            (*passed, *failed) = (*passed + 1, failed.saturating_sub(1));
        }
        self.unsteady.push(test);
    }

    /// Prints what took long, for those who want to make it faster.
    pub fn tell_long(&self, mut took: Vec<(Duration, String)>) {
        took.retain(|(took, _)| *took > LONG);
        took.sort_by_key(|(took, _)| Reverse(*took));
        let long = took.iter().map(|(took, what)| format!("{:.0} s {what}", took.as_secs_f64()));
        let long: Vec<_> = long.collect();
        if !long.is_empty() {
            eprintln!("{}: took long: {}", self.name, long.join(", "));
        }
    }

    pub fn end(mut self) -> Stage {
        self.seconds = self.begun.elapsed().as_secs_f64();
        self
    }
}

/// The ends of a long text: a failed property prints its whole case.
fn cut(text: &str) -> String {
    const HEAD: usize = 8 << 10;
    const TAIL: usize = 32 << 10;
    if text.len() <= HEAD + TAIL {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(HEAD)];
    let tail = &text[text.ceil_char_boundary(text.len() - TAIL)..];
    format!("{head}\n[... {} bytes ...]\n{tail}", text.len() - head.len() - tail.len())
}

/// The plugin of which it is a test executable.
fn plugin(executable: &str) -> Option<&str> {
    executable.strip_prefix("plugins/")?.split(' ').next()
}

/// Prints the closing summary; its last line is the one that machines read.
pub fn summary(stages: &[Stage]) -> ExitCode {
    for stage in stages.iter().filter(|stage| !stage.outcome.table.is_empty()) {
        println!("\n{}:", stage.name);
        stage.outcome.table.iter().for_each(|row| println!("    {row}"));
    }
    print!("{}{}", matrix::of(stages), rights::of(stages));
    let skipped = stages.iter().flat_map(|s| s.outcome.skipped.iter().map(move |skip| (s, skip)));
    for (index, (stage, (test, why))) in skipped.enumerate() {
        println!(
            "{}    {}: {test}: {why}",
            if index == 0 { "\nskipped:\n" } else { "" },
            stage.name
        );
    }
    let unsteady: Vec<_> =
        stages.iter().flat_map(|s| s.unsteady.iter().map(move |test| (s, test))).collect();
    for (index, (stage, test)) in unsteady.iter().enumerate() {
        let heading = "\npassed only the second time, alone (what failed is above):\n";
        println!("{}    {}: {test}", if index == 0 { heading } else { "" }, stage.name);
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
    let is_steady = unsteady.len() <= MOST_UNSTEADY;
    if !is_steady {
        println!(
            "\n{} tests passed only the second time, more than {MOST_UNSTEADY}",
            unsteady.len()
        );
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 && is_steady { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "
running 3 tests
test a ... ok
test b ... FAILED
test c ... FAILED

failures:

failures:
    b
    c

test result: FAILED. 1 passed; 2 failed
";

    #[test]
    fn who_passes_the_second_time_is_counted_and_named() {
        let once = |verdict: &str| {
            format!("running 1 test\ntest b ... {verdict}\ntest result: {verdict}.\n")
        };
        let mut stage = Stage::begin("live");
        let end = Some("exit status: 101");
        assert_eq!(stage.tests("plugins/unlink unlink", FAILED, end), ["b", "c"]);
        stage.again("plugins/unlink unlink", "b", &once("ok"), None);
        stage.again("plugins/unlink unlink", "c", &once("FAILED"), end);
        assert_eq!(stage.outcome.counts(), [2, 1, 0]);
        assert_eq!(stage.plugins["unlink"], [2, 1, 0]);
        assert_eq!(stage.unsteady, ["plugins/unlink unlink: b"]);
        assert_eq!(summary(&[stage]), ExitCode::FAILURE);
    }

    #[test]
    fn nothing_has_a_second_run_that_ended_the_executable() {
        let mut stage = Stage::begin("live");
        let died = "running 2 tests\ntest a ... ok\ntest b ... libbpf: loading\n";
        assert!(stage.tests("tests x", died, Some("signal: 11")).is_empty());
        assert!(stage.tests("tests x", "", Some("exit status: 127")).is_empty());
        assert_eq!(stage.outcome.counts(), [1, 2, 0]);
    }

    #[test]
    fn of_a_long_text_both_ends_are_shown() {
        assert_eq!(cut("short"), "short");
        let long = format!("begin{}end", "\u{e4}".repeat(1 << 20));
        let shown = cut(&long);
        assert!(shown.len() < 41 << 10 && shown.starts_with("begin") && shown.ends_with("end"));
    }

    #[test]
    fn a_run_with_many_of_them_has_failed() {
        let unsteady = |count: usize| {
            let mut stage = Stage::begin("live");
            stage.unsteady = vec!["tests x: y".to_owned(); count];
            summary(&[stage])
        };
        assert_eq!(unsteady(MOST_UNSTEADY), ExitCode::SUCCESS);
        assert_eq!(unsteady(MOST_UNSTEADY + 1), ExitCode::FAILURE);
    }
}
