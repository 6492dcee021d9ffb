//! Each tool on each kernel: its tests, and how its hooks were attached.

use super::stage::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What is known of a tool on a kernel.
#[derive(Default)]
struct Cell {
    tests: [usize; 3],
    /// How each hook was attached; `-` when it was not.
    hooks: BTreeMap<String, String>,
}

/// A table with a row for each tool and, below it, one for each of its hooks; then why hooks are missing. Empty when
/// no tool ran.
pub fn of(stages: &[Stage]) -> String {
    let mut kernels: Vec<&str> = Vec::new();
    let mut tools: BTreeMap<&str, BTreeMap<&str, Cell>> = BTreeMap::new();
    let mut lacks = BTreeSet::new();
    for stage in
        stages.iter().filter(|stage| !stage.plugins().is_empty() || !stage.ways().is_empty())
    {
        let kernel = kernel_of(stage.name());
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
        for (tool, tests) in stage.plugins() {
            tools.entry(tool).or_default().entry(kernel).or_default().tests = *tests;
        }
        for way in stage.ways() {
            let mut words = way.splitn(4, ' ');
            let (Some(tool), Some(hook), Some(way)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let cell = tools.entry(tool).or_default().entry(kernel).or_default();
            cell.hooks.insert(hook.to_owned(), way.to_owned());
            if let Some(why) = words.next() {
                lacks.insert(format!("    {tool} {hook} on {kernel}: {why}\n"));
            }
        }
    }
    if tools.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<34}", "tool, and how its hooks attach");
    let row = |text: &mut String, cell: &dyn Fn(&str) -> String| {
        for kernel in &kernels {
            let _ = write!(text, " {:<14}", cell(kernel));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    row(&mut text, &|kernel| kernel.to_owned());
    for (tool, cells) in tools {
        let _ = write!(text, "{tool:<34}");
        row(&mut text, &|kernel| verdict(cells.get(kernel).map_or([0; 3], |cell| cell.tests)));
        let hooks: BTreeSet<&String> = cells.values().flat_map(|cell| cell.hooks.keys()).collect();
        for hook in hooks {
            let _ = write!(text, "    {hook:<30}");
            let way = |kernel: &str| cells.get(kernel)?.hooks.get(hook).cloned();
            row(&mut text, &|kernel| way(kernel).unwrap_or_default());
        }
    }
    if !lacks.is_empty() {
        text.push_str("not attached:\n");
        text.extend(lacks);
    }
    text
}

/// The column of a stage.
pub(super) fn kernel_of(stage: &str) -> &str {
    stage.strip_prefix("virtual kernel ").unwrap_or("live")
}

fn verdict([passed, failed, skipped]: [usize; 3]) -> String {
    match (passed, failed, skipped) {
        (_, 1.., _) => format!("{failed} FAILED"),
        (0, 0, 0) => "no tests".to_owned(),
        (0, 0, _) => "skipped".to_owned(),
        (_, 0, 0) => "passed".to_owned(),
        (_, 0, _) => format!("passed, {skipped} not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_a_row_and_what_did_not_attach_says_why() {
        let mut live = Stage::begin("live kernel 6.18.44");
        let output = "\nrunning 1 test\ntest a ... ok\n\ntest result: ok. 1 passed\n";
        live.tests("plugins/unlink unlink", output, None);
        let mut system = Stage::begin("whole system");
        system.tests("tests system_vm_rungs", &format!("WAY: unlink begin tp\n{output}"), None);
        let mut old = Stage::begin("virtual kernel 5.10");
        let way = "WAY: unlink begin - no kprobes\n";
        old.tests("tests system_vm_rungs", &format!("{way}{output}"), None);
        old.tests("plugins/unlink unlink", "", Some("exit code 1"));
        let text = of(&[live, system, old, Stage::begin("lints")]);
        let lines: Vec<Vec<&str>> =
            text.trim().lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][6..], ["live", "5.10"]);
        assert_eq!(lines[1], ["unlink", "passed", "1", "FAILED"]);
        assert_eq!(lines[2], ["begin", "tp", "-"]);
        assert_eq!(lines[4].join(" "), "unlink begin on 5.10: no kprobes");
        assert_eq!(of(&[Stage::begin("lints")]), "");
    }
}
