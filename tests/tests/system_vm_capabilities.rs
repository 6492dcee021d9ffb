//! The real plugins in a process that gave up all that they do not need: they attach, late and again too, and
//! each thread holds what is promised, in the collector's process and in those of plugins that have one of their own.

use collector::process::thread_name;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, setrlimit};
use rustix::thread::{self as own, CapabilitySet};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use system_tests::family;
use system_tests::running::Home;
use system_tests::user::become_user;
use system_tests::written::Written;

/// Not root, and nobody who has a process here.
const SOMEBODY: u32 = 12345;
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
const PLUGINS: [&str; 20] = [
    "bashreadline",
    "bootstrap",
    "execsnoop",
    "exitsnoop",
    "hardirqs",
    "javagc",
    "lathist",
    "lsmconnect",
    "memleak",
    "opensnoop",
    "profile",
    "runqlat",
    "sigsnoop",
    "softirqs",
    "syswrite",
    "tcpconnlat",
    "tcprtt",
    "tcpstates",
    "unlink",
    "bpfsample",
];
/// Those with hooks for which some kernels want CAP_SYS_ADMIN: of system calls where there are no trampolines, and
/// perf events themselves.
const BY_PERF_EVENTS: [&str; 3] = ["execsnoop", "profile", "syswrite"];
/// To probe programs, and to see which there are.
const PROBES: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE);
/// What plugins ask for beside [`NEEDED`].
const ASKED: [(&str, CapabilitySet); 3] = [
    ("bashreadline", PROBES),
    ("javagc", PROBES),
    ("profile", CapabilitySet::SYS_PTRACE.union(CapabilitySet::SYSLOG)),
];
/// Those that have a process of their own. Their threads in the collector hold the same, to start them again.
const ISOLATED: [&str; 4] = ["bashreadline", "javagc", "memleak", "profile"];
/// Enough to start with, a plugin's own file for each among them. With the few that are left at most a small tool
/// or two can load their programs.
const FEW_FILES: u64 = 15 + PLUGINS.len() as u64;

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
        // It may have ended since the folder was read.
        let status = fs::read_to_string(task.expect("a thread").path().join("status")).ok()?;
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
        };
        assert_eq!(value("NoNewPrivs:"), "1", "{status}");
        let sets = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"];
        let hexadecimal = |key| u64::from_str_radix(&value(key), 16).expect("hexadecimal");
        Some((value("Name:"), sets.map(hexadecimal)))
    };
    tasks.filter_map(thread).collect()
}

/// Whether perf events want more than CAP_PERFMON, as on Debian's kernels.
fn is_paranoid() -> bool {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a sysctl");
    paranoid.trim().parse::<i32>().expect("a number") > 2
}

/// What a user's process may take there.
fn spare(user: User) -> CapabilitySet {
    let more = user == User::Root && is_paranoid();
    if more { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() }
}

/// What a plugin asks for, as far as the user has it.
fn asked(user: User, plugin: &str) -> CapabilitySet {
    let asked = ASKED.into_iter().filter(|(name, _)| user == User::Root && *name == plugin);
    asked.fold(CapabilitySet::empty(), |all, (_, more)| all | more)
}

/// What a plugin's thread may hold once it has started: in effect, and permitted.
fn held(user: User, plugin: &str) -> Vec<[u64; 2]> {
    let own = NEEDED | asked(user, plugin);
    let mut sets = vec![[own.bits(); 2]];
    if BY_PERF_EVENTS.contains(&plugin) {
        sets.push([(own | spare(user)).bits(); 2]);
    }
    sets
}

/// What nobody in the collector's process, or in one that it starts, can have more than.
fn bounding(user: User) -> u64 {
    let most = NEEDED | spare(user);
    ASKED.iter().fold(most, |all, (plugin, _)| all | asked(user, plugin)).bits()
}

/// Before plugins have started they may still turn out to need what is spare; then no longer.
fn check_threads(pid: Pid, user: User, started: bool) {
    let threads = threads(pid);
    for (name, [effective, permitted, inheritable, ambient, bound]) in &threads {
        let plugin = PLUGINS.iter().find(|plugin| *name == thread_name(plugin));
        let mut allowed = plugin.map_or(vec![[0, 0]], |plugin| held(user, plugin));
        if let (Some(plugin), false) = (plugin, started) {
            // Before its start, in the middle of its second one, or it has started all the same.
            let own = NEEDED | asked(user, plugin);
            let most = (own | spare(user)).bits();
            allowed.extend([[own.bits(), most], [most, most]]);
        }
        if *name == thread_name("start") {
            // It starts plugins that come later.
            allowed = vec![[0, bounding(user)]];
        }
        assert!(allowed.contains(&[*effective, *permitted]), "{name}: {threads:x?}");
        // While it starts a process, which is to have what it has in effect: first inheritable, then ambient one by
        // one.
        let starts = plugin.is_some_and(|plugin| ISOLATED.contains(plugin))
            && *inheritable == *effective
            && *ambient & !*effective == 0;
        assert!(starts || [*inheritable, *ambient] == [0, 0], "{name}: {threads:x?}");
        // These began before it was known what the plugins need, and gave up all they could.
        let early = ["log", "watch"].map(thread_name).contains(name);
        let is_bound = *bound == bounding(user) || early && *bound == 0;
        assert!(is_bound, "{name}: {threads:x?}");
    }
    assert!(threads.contains_key("collector"), "{threads:x?}");
    for part in PLUGINS.into_iter().chain(["log", "out", "sig", "spool", "start", "watch"]) {
        let name = thread_name(part);
        assert!(threads.contains_key(&name), "{name} is not among {threads:x?}");
    }
}

/// The plugins with a process of their own: no thread of it has more than the plugin's thread here.
fn check_processes(collector: Pid, user: User, plugins: &[&str]) {
    let children = family::children(collector.as_raw_nonzero().get().unsigned_abs());
    for plugin in plugins {
        let mut its = children.iter().filter(|pid| family::comm(**pid) == thread_name(plugin));
        let pid = *its.next().unwrap_or_else(|| panic!("{plugin} has no process of its own"));
        assert_eq!(its.next(), None, "{plugin} has a second process");
        let threads = threads(Pid::from_raw(pid.cast_signed()).expect("its number"));
        for (name, [effective, permitted, inheritable, ambient, bound]) in &threads {
            let mut allowed = held(user, plugin);
            if name == "symbols" {
                // It reads, and opens no perf event.
                allowed.truncate(1);
            }
            assert!(allowed.contains(&[*effective, *permitted]), "{plugin}, {name}: {threads:x?}");
            assert_eq!([*inheritable, *ambient], [0, 0], "{plugin}, {name}: {threads:x?}");
            assert_eq!(*bound, bounding(user), "{plugin}, {name}: {threads:x?}");
        }
        assert_eq!(threads.contains_key("symbols"), *plugin == "profile", "{threads:x?}");
        let more = threads.keys().filter(|name| *name != "symbols").count();
        assert_eq!(more, 1, "{plugin}: {threads:x?}");
    }
    let mut others = children.iter().map(|pid| family::comm(*pid));
    let others = others.find(|comm| !ISOLATED.iter().any(|plugin| *comm == thread_name(plugin)));
    assert!(others.is_none_or(|comm| comm == "exe"), "somebody else has a process");
}

/// By what each plugin's programs are attached.
fn hooks(lines: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(lines).unwrap_or_default();
    let between = |line: &str, from: &str, to: char| {
        let rest = line.split_once(from)?.1;
        Some(rest.split(to).next()?.to_owned())
    };
    let programs = text.lines().filter(|line| line.starts_with("collector_program,"));
    let entry = |line: &str| Some((between(line, "plugin=", ',')?, between(line, "hook=\"", '"')?));
    let mut hooks = BTreeMap::<_, BTreeSet<_>>::new();
    for (plugin, hook) in programs.filter_map(entry) {
        hooks.entry(plugin).or_default().insert(hook);
    }
    hooks
}

#[test]
fn plugins_attach_late_and_again_with_no_more_than_they_need() {
    for user in [User::Root, User::Bounded, User::Ambient] {
        let home = Home::with_tools();
        let lines = home.path("lines");
        if user == User::Ambient {
            chown(home.path(""), Some(SOMEBODY), Some(SOMEBODY)).expect("a folder of its own");
        }
        // What failed is started again an interval later, and twenty tools' ticks are much in an emulator.
        // csample needs kprobes, and as a plugin in C it may ask for more capabilities than these.
        let toml = format!(
            "interval = \"500ms\"\n[plugin.csample]\nenabled = false\n\
             [[output]]\nkind = \"file\"\npath = \"{}\"\nspool = \"{}\"\n",
            lines.display(),
            home.path("spool").display()
        );
        let mut running = home.start_with(&toml, |command| run_as(command, user));
        let mut written = Written::at(lines.clone());
        // A process of its own may open more.
        let in_here = || PLUGINS.iter().filter(|plugin| !ISOLATED.contains(plugin));
        // With so few files they fail, and are in quarantine; but for one or two that were quick.
        let failed = |said: &str, plugin: &str| said.contains(&format!("{plugin}: init failed"));
        running.wait_until("init to fail", |said| {
            in_here().all(|plugin| failed(said, plugin) || written.count(plugin) > 0)
        });
        let said = running.said();
        let late = in_here().filter(|plugin| failed(&said, plugin)).count();
        assert!(late >= in_here().count() - 3, "only {late} failed\n{said}");
        running.wait_for("capabilities: plugins hold CAP_PERFMON, CAP_BPF, other threads none");
        check_threads(running.pid(), user, false);
        // From here on the next start of each is a late one, long after everything was given up.
        allow_files(running.pid(), user);
        // Elsewhere there may be no way at all for bpfsample, which another test says, and none for lsmconnect
        // and opensnoop but by tracefs, which is root's.
        let guest = std::env::var("COLLECTOR_DIST").is_ok_and(|dist| dist == "/opt/collector");
        let works = |plugin: &&str| match *plugin {
            "bpfsample" => guest,
            "profile" => user == User::Root || !is_paranoid(),
            "lsmconnect" | "opensnoop" => guest || user != User::Ambient,
            "bashreadline" | "javagc" => user == User::Root,
            _ => true,
        };
        for plugin in PLUGINS.iter().filter(|plugin| works(plugin)) {
            running.wait_until(&format!("lines of {plugin} as {user:?}"), |_| {
                // There may be no signal within two ticks.
                written.count(plugin) + written.count(&format!("{plugin}_lost")) >= 2
            });
        }
        running.wait_until("who is attached", |_| hooks(&lines).len() >= 2);
        check_threads(running.pid(), user, true);
        let isolated: Vec<_> = ISOLATED.into_iter().filter(|plugin| works(plugin)).collect();
        check_processes(running.pid(), user, &isolated);
        // What is opened again later is opened without any capability.
        fs::rename(&lines, home.path("lines.1")).expect("it is rotated");
        kill_process(running.pid(), Signal::HUP).expect("it runs");
        let mut written = Written::at(lines);
        running.wait_until("a new file", |_| written.count("runqlat") >= 2);
        let hooks = hooks(&home.path("lines.1"));
        for plugin in PLUGINS {
            // One that works and has no hook waits for a program to attach to.
            let none = if works(&plugin) { "waits" } else { "-" };
            let ways = hooks.get(plugin).map(|ways| Vec::from_iter(ways.iter().cloned()).join("+"));
            println!("RIGHTS: {user:?} {plugin} {}", ways.as_deref().unwrap_or(none));
        }
        running.terminate();
        assert_eq!(running.end().code, Some(0));
    }
}
