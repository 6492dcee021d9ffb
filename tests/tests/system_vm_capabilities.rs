//! The real plugins in a process that gave up all that they do not need: they attach, late and again too, and
//! each thread holds what is promised.

use collector::process::thread_name;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, setrlimit};
use rustix::thread::{self as own, CapabilitySet};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use system_tests::running::Home;
use system_tests::user::become_user;

/// Not root, and nobody who has a process here.
const SOMEBODY: u32 = 12345;
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
const PLUGINS: [&str; 12] = [
    "bootstrap",
    "execsnoop",
    "exitsnoop",
    "hardirqs",
    "lathist",
    "opensnoop",
    "runqlat",
    "sigsnoop",
    "softirqs",
    "syswrite",
    "unlink",
    "bpfsample",
];
/// Enough to start with, a plugin's own file for each among them. With the few that are left at most a small tool
/// or two can load their programs.
const FEW_FILES: u64 = 12 + PLUGINS.len() as u64;

/// Who runs the collector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum User {
    /// Root, with everything.
    Root,
    /// Root, with what systemd's `CapabilityBoundingSet=CAP_BPF CAP_PERFMON` leaves.
    Bounded,
    /// Another user, with systemd's `AmbientCapabilities=CAP_BPF CAP_PERFMON`.
    Ambient,
}

fn run_as(command: &mut Command, user: User) {
    let prepare = move || {
        // As systemd's `LimitMEMLOCK=infinity`: up to 5.10 maps count against it. Where we may not do
        // that the kernel is newer.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        setrlimit(Resource::Nofile, Rlimit { current: Some(FEW_FILES), maximum: Some(1024) })?;
        if user == User::Root {
            return Ok(());
        }
        for bit in (0..u64::BITS).map(|at| CapabilitySet::from_bits_retain(1 << at)) {
            if !NEEDED.contains(bit) && own::remove_capability_from_bounding_set(bit).is_err() {
                break;
            }
        }
        if user == User::Bounded {
            return Ok(());
        }
        become_user(SOMEBODY, NEEDED)
    };
    // SAFETY: only system calls between fork and exec, in the child's only thread.
    unsafe { command.pre_exec(prepare) };
}

/// Lets a user's process open files, as that user: not every root may do that to others.
fn allow_files(pid: Pid, user: User) {
    let allow = move || {
        if user == User::Ambient {
            become_user(SOMEBODY, CapabilitySet::empty()).expect("this runs as root");
        }
        let enough = Rlimit { current: Some(1024), maximum: Some(1024) };
        prlimit(Some(pid), Resource::Nofile, enough)
    };
    std::thread::spawn(allow).join().expect("no panic").expect("more files");
}

/// Effective, permitted, inheritable, ambient and bounding capabilities of each thread of a process.
fn threads(pid: Pid) -> BTreeMap<String, [u64; 5]> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("a process");
    let thread = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.expect("a thread").path().join("status"));
        let status = status.expect("its status");
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
        };
        assert_eq!(value("NoNewPrivs:"), "1", "{status}");
        let sets = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"];
        (value("Name:"), sets.map(|key| u64::from_str_radix(&value(key), 16).expect("hexadecimal")))
    };
    tasks.map(thread).collect()
}

/// What a user's process may take where perf events want more than CAP_PERFMON, as on Debian's kernels.
fn spare(user: User) -> CapabilitySet {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a sysctl");
    let paranoid: i32 = paranoid.trim().parse().expect("a number");
    let more = user == User::Root && paranoid > 2;
    if more { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() }
}

/// Before plugins have started they may still turn out to need what is spare; then no longer.
fn check_threads(pid: Pid, user: User, started: bool) {
    let bpf = NEEDED.bits();
    let most = (NEEDED | spare(user)).bits();
    let threads = threads(pid);
    for (name, [effective, permitted, inheritable, ambient, bounding]) in &threads {
        let of_a_plugin = PLUGINS.iter().any(|plugin| *name == thread_name(plugin));
        let allowed: &[_] = match of_a_plugin {
            true if started => &[[bpf, bpf]],
            true => &[[bpf, most], [bpf, bpf]], // it has started all the same
            false => &[[0, 0]],
        };
        assert!(allowed.contains(&[*effective, *permitted]), "{name}: {threads:x?}");
        assert_eq!([*inheritable, *ambient], [0, 0], "{name}: {threads:x?}");
        // The thread of the messages began before it was known what the plugins need, and gave up all it could.
        let bound = *bounding == most || name == "collector/log" && *bounding == 0;
        assert!(bound, "{name}: {threads:x?}");
    }
    assert!(threads.contains_key("collector"), "{threads:x?}");
    for part in PLUGINS.into_iter().chain(["log", "out", "sig", "spool"]) {
        let name = thread_name(part);
        assert!(threads.contains_key(&name), "{name} is not among {threads:x?}");
    }
}

/// How often a table has a line in a file.
fn count(lines: &Path, table: &str) -> usize {
    let text = fs::read_to_string(lines).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(&format!("{table},"))).count()
}

/// The hook of each plugin's first program that is attached.
fn hooks(lines: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(lines).unwrap_or_default();
    let between = |line: &str, from: &str, to: char| {
        let rest = line.split_once(from)?.1;
        Some(rest.split(to).next()?.to_owned())
    };
    let programs = text.lines().filter(|line| line.starts_with("collector_program,"));
    let entry = |line: &str| Some((between(line, "plugin=", ',')?, between(line, "hook=\"", '"')?));
    programs.filter_map(entry).collect()
}

#[test]
fn plugins_attach_late_and_again_with_no_more_than_they_need() {
    for user in [User::Root, User::Bounded, User::Ambient] {
        let home = Home::with_tools();
        let lines = home.path("lines");
        if user == User::Ambient {
            chown(home.path(""), Some(SOMEBODY), Some(SOMEBODY)).expect("a folder of its own");
        }
        let toml = format!(
            "interval = \"200ms\"\n[[output]]\nkind = \"file\"\npath = \"{}\"\nspool = \"{}\"\n",
            lines.display(),
            home.path("spool").display()
        );
        let mut running = home.start_with(&toml, |command| run_as(command, user));
        // With so few files they fail, and are in quarantine; but for one or two that were quick.
        let failed = |said: &str, plugin: &str| said.contains(&format!("{plugin}: init failed"));
        running.wait_until("init to fail", |said| {
            PLUGINS.iter().all(|plugin| failed(said, plugin) || count(&lines, plugin) > 0)
        });
        let said = running.said();
        let late = PLUGINS.iter().filter(|plugin| failed(&said, plugin)).count();
        assert!(late >= PLUGINS.len() - 3, "only {late} failed\n{said}");
        running.wait_for("capabilities: plugins hold CAP_PERFMON, CAP_BPF, other threads none");
        check_threads(running.pid(), user, false);
        // From here on the next start of each is a late one, long after everything was given up.
        allow_files(running.pid(), user);
        // Elsewhere there may be no way at all for bpfsample, which another test says, and none for opensnoop
        // but by tracefs, which is root's.
        let guest = std::env::var("COLLECTOR_DIST").is_ok_and(|dist| dist == "/opt/collector");
        let works = |plugin: &&str| match *plugin {
            "bpfsample" => guest,
            "opensnoop" => guest || user != User::Ambient,
            _ => true,
        };
        for plugin in PLUGINS.iter().filter(|plugin| works(plugin)) {
            running.wait_until(&format!("lines of {plugin} as {user:?}"), |_| {
                // There may be no signal within two ticks.
                count(&lines, plugin) + count(&lines, &format!("{plugin}_lost")) >= 2
            });
        }
        running.wait_until("who is attached", |_| hooks(&lines).len() >= 2);
        check_threads(running.pid(), user, true);
        // What is opened again later is opened without any capability.
        fs::rename(&lines, home.path("lines.1")).expect("it is rotated");
        kill_process(running.pid(), Signal::HUP).expect("it runs");
        running.wait_until("a new file", |_| count(&lines, "runqlat") >= 2);
        for (plugin, hook) in hooks(&home.path("lines.1")) {
            println!("TABLE: {user:?}: {plugin:10} {hook}");
        }
        running.terminate();
        assert_eq!(running.end().code, Some(0));
    }
}
