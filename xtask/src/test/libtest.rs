//! What the test harness of Rust prints, read back.

/// What came out of one run of a test executable.
#[derive(Default, Debug, PartialEq)]
pub struct Outcome {
    pub passed: usize,
    /// The failed tests, each with its output.
    pub failed: Vec<(String, String)>,
    /// The tests that could not run here, each with its reason.
    pub skipped: Vec<(String, String)>,
    /// Rows that tests want shown in the summary.
    pub table: Vec<String>,
    /// How each hook of a tool was attached: `TOOL HOOK MECHANISM`, or `TOOL HOOK - REASON`.
    pub ways: Vec<String>,
    /// How a tool attached as a user: `USER TOOL MECHANISM`.
    pub rights: Vec<String>,
    /// What the verifier said of BPF programs (plugin_bpf::verify).
    pub verified: Vec<String>,
}

/// One `running N tests` ... `test result:`; a doc test run has several.
#[derive(Default)]
struct Block {
    tests: Vec<Test>,
    /// The test whose `---- NAME stdout ----` we are in.
    section: Option<usize>,
    in_failures: bool,
}

struct Test {
    name: String,
    verdict: Option<Verdict>,
    output: String,
}

enum Verdict {
    Passed,
    Failed,
    Ignored(String),
}

/// Reads the output of `--show-output`; `end` is how the process ended when it did not end well.
///
/// With one thread a test's verdict may stand lines below its name: what C code and child processes
/// print comes in between. When it is glued to such text, the list of failures at the end decides.
pub fn parse(text: &str, end: Option<&str>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut block: Option<Block> = None;
    let mut blocks = 0;
    for line in text.lines() {
        if let Some(row) = line.strip_prefix("TABLE: ") {
            outcome.table.push(row.to_owned());
        }
        if let Some(way) = line.strip_prefix("WAY: ") {
            outcome.ways.push(way.to_owned());
        }
        if let Some(rights) = line.strip_prefix("RIGHTS: ") {
            outcome.rights.push(rights.to_owned());
        }
        if let Some(program) = line.strip_prefix("VERIFIED: ") {
            outcome.verified.push(program.to_owned());
        }
        // What a test has printed is shown in a section of its own, whatever it looks like.
        let printed = block.as_ref().is_some_and(|block| block.section.is_some());
        if !printed && is_start(line) {
            blocks += 1;
            if let Some(dead) = block.replace(Block::default()) {
                outcome.add(dead, Some(text));
            }
        } else if !printed && line.starts_with("test result: ") {
            if let Some(done) = block.take() {
                outcome.add(done, None);
            }
        } else if let Some(block) = &mut block {
            block.line(line);
        }
    }
    if let Some(dead) = block {
        outcome.add(dead, Some(text));
    }
    if outcome.failed.is_empty() && (end.is_some() || blocks == 0) {
        let name = format!("(the executable: {})", end.unwrap_or("no test harness in it"));
        outcome.failed.push((name, last_lines(text)));
    }
    outcome
}

/// After the name of a test that ended the executable.
const DIED: &str = " (died)";

/// Whether this failure is an executable's end, and not a test's verdict.
pub fn is_dead(failed: &str) -> bool {
    failed.ends_with(DIED) || failed.starts_with('(')
}

fn is_start(line: &str) -> bool {
    let count = line.strip_prefix("running ").and_then(|rest| rest.split_once(' '));
    count.is_some_and(|(n, what)| n.parse::<usize>().is_ok() && matches!(what, "test" | "tests"))
}

impl Block {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----"))
        {
            self.section = self.tests.iter().position(|test| test.name == name);
        } else if line == "successes:" || line == "failures:" {
            self.in_failures = line == "failures:";
            self.section = None;
        } else if let Some(test) = self.section.and_then(|index| self.tests.get_mut(index)) {
            test.output += line;
            test.output += "\n";
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.in_failures) {
            if let Some(test) = self.tests.iter_mut().find(|test| test.name == name) {
                test.verdict = Some(Verdict::Failed);
            }
        } else if let Some((name, rest)) = test_line(line) {
            self.tests.push(Test { name, verdict: verdict(rest), output: String::new() });
        } else if let Some(test) = self.tests.last_mut().filter(|test| test.verdict.is_none()) {
            test.verdict = verdict(line);
        }
    }
}

/// `test NAME ... REST`. Some kinds of tests carry a word that their output's heading does not.
fn test_line(line: &str) -> Option<(String, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let kinds = [" - should panic", " - compile fail", " - compile"];
    let bare = kinds.iter().find_map(|kind| name.strip_suffix(kind));
    Some((bare.unwrap_or(name).to_owned(), rest))
}

fn verdict(text: &str) -> Option<Verdict> {
    match text {
        "ok" => Some(Verdict::Passed),
        "FAILED" => Some(Verdict::Failed),
        "ignored" => Some(Verdict::Ignored("ignored".to_owned())),
        _ => text.strip_prefix("ignored, ").map(|why| Verdict::Ignored(why.to_owned())),
    }
}

impl Outcome {
    /// Passed, failed, skipped.
    pub fn counts(&self) -> [usize; 3] {
        [self.passed, self.failed.len(), self.skipped.len()]
    }

    /// Adds the tests of a block; `dead` is the whole output when its end is missing.
    fn add(&mut self, block: Block, dead: Option<&str>) {
        let mut blamed = false;
        for test in block.tests {
            let skip = test.output.lines().find_map(|line| line.strip_prefix("SKIPPED:"));
            match (test.verdict, skip) {
                (Some(Verdict::Ignored(why)), _) => self.skipped.push((test.name, why)),
                (Some(Verdict::Failed), _) => self.failed.push((test.name, test.output)),
                (None, _) if dead.is_some() => {
                    blamed = true;
                    self.failed.push((test.name + DIED, last_lines(dead.unwrap_or_default())));
                }
                (_, Some(why)) => self.skipped.push((test.name, why.trim().to_owned())),
                (_, None) => self.passed += 1,
            }
        }
        if let Some(text) = dead.filter(|_| !blamed) {
            self.failed.push(("(the executable: died between tests)".to_owned(), last_lines(text)));
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[(String, String)]) -> Vec<&str> {
        list.iter().map(|(name, _)| name.as_str()).collect()
    }

    const MIXED: &str = "
running 6 tests
test a ... ok
test b ... FAILED
test c ... ignored
test d ... ignored, no such machine
test e ... ok
test f - should panic ... ok

successes:

---- a stdout ----
TABLE: runqlat  tp_btf
VERIFIED: 6.12 runqlat switch_btf 182
an ordinary line

---- e stdout ----
SKIPPED: no kprobes on this kernel


successes:
    a
    e
    f

failures:

---- b stdout ----

thread 'b' panicked at src/lib.rs:3:9:
assertion failed: 1 == 2


failures:
    b

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_complete_run_is_counted() {
        let outcome = parse(MIXED, Some("exit status: 101"));
        assert_eq!(outcome.passed, 2);
        assert_eq!(names(&outcome.failed), ["b"]);
        assert!(outcome.failed[0].1.contains("assertion failed: 1 == 2"));
        assert!(!outcome.failed[0].1.contains("an ordinary line"));
        let skipped =
            [("c", "ignored"), ("d", "no such machine"), ("e", "no kprobes on this kernel")];
        assert_eq!(outcome.skipped, skipped.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(outcome.table, ["runqlat  tp_btf"]);
        assert_eq!(outcome.verified, ["6.12 runqlat switch_btf 182"]);
    }

    #[test]
    fn what_a_test_prints_is_no_run_of_its_own() {
        let text = "
running 2 tests
test a ... ok
test b ... ok

successes:

---- a stdout ----
running 3 tests
test x ... FAILED
test result: FAILED. 1 passed

successes:
    a
    b

test result: ok. 2 passed
";
        let outcome = parse(text, None);
        assert_eq!((outcome.passed, outcome.failed.len()), (2, 0));
    }

    #[test]
    fn a_crash_blames_the_test_that_ran() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... libbpf: loading\n";
        let outcome = parse(text, Some("signal: 11 (SIGSEGV)"));
        assert_eq!(outcome.passed, 1);
        assert_eq!(names(&outcome.failed), ["b (died)"]);
        assert!(outcome.failed[0].1.contains("libbpf: loading"));
    }

    #[test]
    fn a_crash_between_tests_or_after_them_is_a_failure() {
        let outcome = parse("running 2 tests\ntest a ... ok\n", Some("signal: 6 (SIGABRT)"));
        assert_eq!((outcome.passed, outcome.failed.len()), (1, 1));
        let whole = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed\n";
        assert_eq!(parse(whole, None).failed.len(), 0);
        assert_eq!(names(&parse(whole, Some("signal: 6")).failed), ["(the executable: signal: 6)"]);
        assert_eq!(parse("", Some("exit status: 127")).failed.len(), 1);
        assert_eq!(parse("", None).failed.len(), 1);
    }

    #[test]
    fn foreign_output_between_a_name_and_its_verdict_does_not_hide_it() {
        let text = "
running 4 tests
test a ... libbpf: x
libbpf: y
ok
test b ... noise
FAILED
test c ... glued noise ok
test d ... glued noise FAILED

failures:

failures:
    b
    d

test result: FAILED. 2 passed; 2 failed
";
        let outcome = parse(text, Some("exit status: 101"));
        assert_eq!(outcome.passed, 2);
        assert_eq!(names(&outcome.failed), ["b", "d"]);
    }

    #[test]
    fn several_runs_in_one_output_add_up() {
        let text = "
running 1 test
test src/lib.rs - A (line 5) - compile ... ok

test result: ok. 1 passed

running 0 tests

test result: ok. 0 passed

running 1 test
test x ... ok
";
        let outcome = parse(text, None);
        assert_eq!((outcome.passed, outcome.failed.len()), (2, 1));
    }
}
