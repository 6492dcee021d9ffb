//! Test executables: found, sorted by where they run, run on this machine.

use super::stage::Stage;
use crate::{artifacts, charts, command, dist, root, servers, workspace};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The longest that a test executable may run, in seconds.
const LIMIT: u32 = 15 * 60;
/// Unit tests that run at once: they mostly wait for something.
const UNIT_THREADS: usize = 4;

/// Where a test executable runs, by its place and name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Once, here, with threads.
    Unit,
    /// On the live kernel and on each virtual one.
    Kernel,
    /// The whole system, here.
    System,
    /// The whole system, here and on each virtual kernel.
    SystemVm,
}

pub struct Executable {
    /// For people: `plugins/runqlat lib`, `tests system_output`.
    pub label: String,
    pub path: PathBuf,
    pub group: Group,
    /// The one test that is wanted; else all.
    pub only: Option<&'static str>,
    /// How many of its tests run at once.
    threads: usize,
    package: PathBuf,
}

impl Executable {
    /// Arguments for its test harness.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments =
            vec!["--show-output".to_owned(), format!("--test-threads={}", self.threads)];
        arguments
            .extend(self.only.into_iter().flat_map(|test| ["--exact", test]).map(str::to_owned));
        arguments
    }

    /// Files of this machine that its tests use on virtual kernels too: those of `tests/files` beside its sources
    /// that are here.
    pub fn files(&self) -> Vec<PathBuf> {
        let list = fs::read_to_string(self.package.join("tests/files")).unwrap_or_default();
        list.lines().map(PathBuf::from).filter(|path| path.exists()).collect()
    }
}

/// Compiles the tests of all packages (`--workspace`) or of one (`--package NAME`).
pub fn compile(packages: &[&str]) -> Result<Vec<Executable>> {
    let mut cargo = command::cargo();
    cargo.args(["test", "--no-run"]).args(packages);
    let mut found = Vec::new();
    for artifact in artifacts::of(&mut cargo)?.into_iter().filter(|artifact| artifact.test) {
        let Some(path) = artifact.executable else { continue };
        let package = artifact.package.strip_prefix(workspace::root()).unwrap_or(&artifact.package);
        let integration = artifact.kinds.iter().any(|kind| kind == "test");
        let target = if integration { artifact.target } else { artifact.kinds[0].clone() };
        let group = group(package, integration.then_some(&target));
        let list = fs::read_to_string(artifact.package.join("tests/threads")).unwrap_or_default();
        found.push(Executable {
            label: format!("{} {target}", package.display()),
            path,
            group,
            only: None,
            threads: threads(group, &list, &target),
            package: artifact.package,
        });
    }
    found.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(found)
}

/// `package` is relative to the workspace; `integration` the name of an integration test.
fn group(package: &Path, integration: Option<&String>) -> Group {
    let named = |prefix: &str| integration.is_some_and(|name| name.starts_with(prefix));
    if package.starts_with("plugins") || named("kernel") {
        Group::Kernel
    } else if named("system_vm") {
        Group::SystemVm
    } else if named("system") {
        Group::System
    } else {
        Group::Unit
    }
}

/// How many tests of a target run at once. `list` is the file `tests/threads` beside its sources: a target and a number in
/// each line, of whole-system tests that mostly wait and measure nothing.
fn threads(group: Group, list: &str, target: &str) -> usize {
    let listed = || list.lines().find_map(|line| line.strip_prefix(target)?.trim().parse().ok());
    match group {
        Group::Unit => UNIT_THREADS,
        Group::System => listed().unwrap_or(1),
        Group::Kernel | Group::SystemVm => 1,
    }
}

/// Runs the executables of some groups one after another.
pub fn live(name: &str, executables: &[Executable], groups: &[Group]) -> Stage {
    let mut stage = Stage::begin(name);
    let mut took = Vec::new();
    for executable in executables.iter().filter(|e| groups.contains(&e.group)) {
        let began = Instant::now();
        match run(executable, &executable.arguments()) {
            Ok((output, end)) => {
                let failed = stage.tests(&executable.label, &output, end.as_deref());
                failed.iter().for_each(|test| again(&mut stage, executable, test));
            }
            Err(why) => stage.fail(&executable.label, &format!("{why:#}")),
        }
        took.push((began.elapsed(), executable.label.clone()));
    }
    stage.tell_long(took);
    stage.end()
}

/// Runs a test that has failed once more, by itself.
fn again(stage: &mut Stage, executable: &Executable, test: &str) {
    if let Ok((output, end)) = run(executable, &["--show-output", "--exact", test]) {
        stage.again(&executable.label, test, &output, end.as_deref());
    }
}

/// The documentation's examples.
pub fn doc() -> Stage {
    let mut stage = Stage::begin("doc tests");
    match merged(command::cargo().args(["test", "--doc", "--workspace", "--no-fail-fast"])) {
        Ok((output, end)) => drop(stage.tests("examples", &output, end.as_deref())),
        Err(why) => stage.fail("examples", &format!("{why:#}")),
    }
    stage.end()
}

fn run(
    executable: &Executable,
    arguments: &[impl AsRef<OsStr>],
) -> Result<(String, Option<String>)> {
    let mut timeout = Command::new("timeout");
    timeout.args(["--foreground", "--signal=KILL", &LIMIT.to_string()]);
    timeout.arg(&executable.path).args(arguments);
    timeout.env("COLLECTOR_DIST", workspace::dist()).env("COLLECTOR_SERVERS", servers::folder());
    timeout.env("COLLECTOR_PACKAGES", dist::folder()).env("COLLECTOR_ROOT", root::archive());
    timeout.env("COLLECTOR_CHARTS", charts::folder());
    timeout.env("COLLECTOR_PICTURES", workspace::root().join("target/pictures"));
    merged(timeout.current_dir(&executable.package))
}

/// What a program prints on both streams, in order, and how it ended unless it ended well.
/// By way of a file: a pipe would stay open as long as a process that a test left behind.
fn merged(command: &mut Command) -> Result<(String, Option<String>)> {
    let folder = workspace::root().join("target"); // not there when CARGO_TARGET_DIR is elsewhere
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(format!("test-output-{}", std::process::id()));
    let file = || File::options().create(true).append(true).open(&path);
    let mut start = || command.stdin(Stdio::null()).stdout(file()?).stderr(file()?).status();
    let status = start().context("running a test executable")?;
    let output = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    let end = if status.success() { None } else { Some(status.to_string()) };
    Ok((String::from_utf8_lossy(&output).into_owned(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_run_one_by_one_unless_they_are_units_or_listed() {
        let list = "system_outage 5\nsystem_outage_long 2\nkernel_exact 3\n";
        for (group, target, expected) in [
            (Group::Unit, "host", UNIT_THREADS),
            (Group::System, "system_outage", 5),
            (Group::System, "system_outage_long", 2),
            (Group::System, "system_out", 1),
            (Group::Kernel, "kernel_exact", 1),
        ] {
            assert_eq!(threads(group, list, target), expected, "{target}");
        }
    }

    #[test]
    fn place_and_name_tell_where_a_test_runs() {
        let table = [
            ("collector", None, Group::Unit),
            ("lines", None, Group::Unit),
            ("testing", None, Group::Unit),
            ("plugin-bpf/build", None, Group::Unit),
            ("plugin-bpf", Some("headers"), Group::Unit),
            ("plugin-bpf", Some("kernel_counters"), Group::Kernel),
            ("plugins/runqlat", None, Group::Kernel),
            ("plugins/runqlat", Some("waits"), Group::Kernel),
            ("plugins/runqlat", Some("system_like"), Group::Kernel),
            ("tests", Some("kernel_rungs"), Group::Kernel),
            ("tests", Some("system_output"), Group::System),
            ("tests", Some("system_vm_ticks"), Group::SystemVm),
            ("tests", None, Group::Unit),
        ];
        for (package, integration, expected) in table {
            let name = integration.map(str::to_owned);
            assert_eq!(
                group(Path::new(package), name.as_ref()),
                expected,
                "{package} {integration:?}"
            );
        }
    }
}
