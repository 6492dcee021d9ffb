//! Each tool on each kernel: how it attaches as root, and as a user with CAP_BPF and CAP_PERFMON alone.

use super::matrix::kernel_of;
use super::stage::Stage;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Who runs the collector, as tests/tests/system_vm_capabilities.rs calls them, and what they are called here.
const USERS: [(&str, &str); 3] = [
    ("Root", "root, with all capabilities"),
    ("Bounded", "root, with CAP_BPF and CAP_PERFMON alone"),
    ("Ambient", "another user, with CAP_BPF and CAP_PERFMON alone"),
];

/// Ways by tool and kernel.
type Ways<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// A table for each user: a row for each tool, a column for each kernel. Empty when no test said anything.
pub fn of(stages: &[Stage]) -> String {
    let mut kernels: Vec<&str> = Vec::new();
    let mut users: BTreeMap<&str, Ways<'_>> = BTreeMap::new();
    for stage in stages {
        let kernel = kernel_of(stage.name());
        for rights in stage.rights() {
            let mut words = rights.splitn(3, ' ');
            let (Some(user), Some(tool), Some(way)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
            users.entry(user).or_default().entry(tool).or_default().insert(kernel, way);
        }
    }
    let mut text = String::new();
    for (user, what) in USERS {
        let Some(tools) = users.get(user) else { continue };
        // To a text nothing fails.
        let _ = writeln!(text, "\nhow tools attach as {what}:");
        let mut row = |tool: &str, cell: &dyn Fn(&str) -> String| {
            let _ = write!(text, "    {tool:<14}");
            for kernel in &kernels {
                let _ = write!(text, " {:<18}", cell(kernel));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        };
        row("", &|kernel| kernel.to_owned());
        for (tool, ways) in tools {
            row(tool, &|kernel| ways.get(kernel).copied().unwrap_or_default().to_owned());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_table_of_tools_and_kernels() {
        let run = |name: &str, rights: &str| {
            let mut stage = Stage::begin(name);
            let output = "\nrunning 1 test\ntest a ... ok\n\ntest result: ok. 1 passed\n";
            stage.tests("tests system_vm_capabilities", &format!("{rights}{output}"), None);
            stage
        };
        let old =
            run("virtual kernel 5.10", "RIGHTS: Root unlink kprobe\nRIGHTS: Ambient unlink -\n");
        let live = run("whole system", "RIGHTS: Root unlink tp\n");
        let text = of(&[old, live, Stage::begin("lints")]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "how tools attach as root, with all capabilities:");
        assert_eq!(lines[2], ["5.10", "live"]);
        assert_eq!(lines[3], ["unlink", "kprobe", "tp"]);
        assert_eq!(lines[7], ["unlink", "-"]);
        assert_eq!(of(&[Stage::begin("lints")]), "");
    }
}
