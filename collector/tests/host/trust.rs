//! The process runs, reads and writes only what nobody else can change, and may do no more than it needs.

use crate::process::{Running, collector, command, example, folder, run};
use collector::load;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Not root, and nobody who has a process here.
const SOMEBODY: u32 = 12345;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: only root can give files away");
    }
    root
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Swaps a plugin for one that somebody else owns, and back, as fast as it can.
#[test]
fn what_runs_is_what_was_checked_although_somebody_swaps_the_file() {
    if !is_root() {
        return;
    }
    let dir = folder(&["good", "fails"]);
    let at = |name: &str| dir.path().join(name);
    let (good, bad) = (at("libgood.so"), at("libfails.so"));
    chown(&bad, Some(SOMEBODY), None).unwrap();
    let turn = AtomicUsize::new(0);
    let swaps = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    // A name for each turn: the dynamic linker takes one that it knows for the library that it has.
    let place = |turn: usize| at(&format!("{turn}.so"));
    fs::hard_link(&good, place(0)).unwrap();
    let (mut loaded, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let next = at("next");
            while !ended.load(Ordering::Relaxed) {
                for file in [&bad, &good] {
                    fs::hard_link(file, &next).unwrap();
                    fs::rename(&next, place(turn.load(Ordering::Relaxed))).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                    let _ = fs::remove_file(&next); // to rename one name of a file to another does nothing
                }
            }
        });
        for this in 1..=1000 {
            let path = place(this - 1);
            let begun = swaps.load(Ordering::Relaxed);
            while swaps.load(Ordering::Relaxed) < begun + 2 + this % 2 {
                thread::yield_now();
            }
            match load::load_here(&path) {
                Ok(plugin) => {
                    loaded += 1;
                    if !plugin.json.contains("\"name\":\"good\"") {
                        ended.store(true, Ordering::Relaxed);
                        panic!("turn {this}: {} was loaded", plugin.json);
                    }
                }
                Err(reason) => {
                    refused += 1;
                    if !reason.contains("is owned by user 12345") {
                        ended.store(true, Ordering::Relaxed);
                        panic!("turn {this}: {reason}");
                    }
                }
            }
            fs::hard_link(&good, place(this)).unwrap();
            turn.store(this, Ordering::Relaxed);
        }
        ended.store(true, Ordering::Relaxed);
    });
    let swaps = swaps.into_inner();
    println!("{swaps} swaps, {loaded} loaded, {refused} refused");
    assert!(loaded > 10 && refused > 10, "{loaded} loaded, {refused} refused");
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(descriptors < 100, "{descriptors} open files: one of each loaded library is enough");
}

#[test]
fn a_folder_that_others_may_change_is_no_plugins_folder() {
    if !is_root() {
        return;
    }
    let dir = folder(&["good"]);
    let below = dir.path().join("below");
    let plugins = below.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::copy(example("good"), plugins.join("libgood.so")).unwrap();
    let link = dir.path().join("link");
    symlink("below", &link).unwrap();
    let list = |args: &[&str]| command(&link.join("plugins"), &[args, &["list"]].concat());
    assert!(list(&[]).stdout.contains("good"), "a link of root's is followed");
    for (path, owner, mode, words) in [
        (&plugins, 0, 0o777, "`chmod go-w "),
        (&plugins, 0, 0o1777, "`chmod go-w "),
        (&below, 0, 0o775, "`chmod go-w "),
        (&below, SOMEBODY, 0o755, "`chown root "),
    ] {
        chown(path, Some(owner), None).unwrap();
        set(path, mode);
        let ended = list(&[]);
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        let named = format!("{words}{}`", path.display());
        assert!(ended.stderr.contains(&named), "{}", ended.stderr);
        let ended = list(&["--allow-insecure"]);
        assert!(ended.stdout.contains("good"), "{}", ended.stderr);
        let warnings = ended.stderr.lines().filter(|line| line.contains(&named));
        assert_eq!(warnings.count(), 1, "{}", ended.stderr);
        chown(path, Some(0), None).unwrap();
        set(path, 0o755);
    }
    std::os::unix::fs::lchown(&link, Some(SOMEBODY), None).unwrap();
    assert!(list(&[]).stderr.contains("link is owned by user 12345"), "{}", list(&[]).stderr);
}

#[test]
fn a_configuration_that_others_may_change_is_refused() {
    if !is_root() {
        return;
    }
    let dir = folder(&["good"]);
    let config = dir.path().join("c.toml");
    fs::write(&config, "interval = \"100ms\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap(), "--ticks", "1"];
    assert_eq!(run(dir.path(), &args).code, Some(0));
    for (owner, mode, words) in [
        (0, 0o666, "others than its owner may change "),
        (SOMEBODY, 0o600, "is owned by user 12345"),
    ] {
        set(&config, mode);
        chown(&config, Some(owner), None).unwrap();
        let ended = run(dir.path(), &args);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        let ended = run(dir.path(), &[&args[..], &["--allow-insecure"]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

/// Lets a command run as a user that has these capabilities, as systemd's `AmbientCapabilities` does.
fn as_somebody(command: &mut Command, ambient: CapabilitySet) {
    let become_somebody = move || {
        use rustix::thread as own;
        own::set_keep_capabilities(true)?;
        own::set_thread_groups(&[])?;
        own::set_thread_gid(rustix::process::Gid::from_raw(SOMEBODY))?;
        own::set_thread_uid(rustix::process::Uid::from_raw(SOMEBODY))?;
        let sets = CapabilitySets { effective: ambient, permitted: ambient, inheritable: ambient };
        own::set_capabilities(None, sets)?;
        for capability in ambient.iter() {
            own::configure_capability_in_ambient_set(capability, true)?;
        }
        Ok(())
    };
    // SAFETY: only system calls between fork and exec, in the child's only thread.
    unsafe { command.pre_exec(become_somebody) };
}

#[test]
fn a_process_with_capabilities_checks_as_root_does_and_one_without_trusts_its_user() {
    if !is_root() {
        return;
    }
    let dir = folder(&["good"]);
    let plugin = dir.path().join("libgood.so");
    let list = |ambient| {
        let mut command = collector(dir.path(), &["list"]);
        as_somebody(&mut command, ambient);
        Running::start(command).end_of_command()
    };
    // The test's program itself has to be reachable for somebody.
    let none = CapabilitySet::empty();
    let probe = list(none);
    if probe.code != Some(0) {
        return println!("SKIPPED: somebody cannot run this: {}", probe.stderr);
    }
    chown(&plugin, Some(SOMEBODY + 1), None).unwrap();
    assert!(list(none).stdout.contains("loads"), "{}", list(none).stdout);
    let refused = list(CapabilitySet::NET_RAW).stdout;
    assert!(refused.contains("is owned by user 12346"), "{refused}");
    chown(&plugin, Some(SOMEBODY), None).unwrap();
    assert!(list(CapabilitySet::NET_RAW).stdout.contains("loads"), "its own");
    set(&plugin, 0o775);
    assert!(list(CapabilitySet::NET_RAW).stdout.contains("may change"));
}

/// Effective and permitted capabilities, by thread.
fn threads(pid: u32) -> Vec<(String, [u64; 5], bool)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut threads: Vec<_> = tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let value = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap().trim().to_owned()
            };
            let sets = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"];
            let sets = sets.map(|key| u64::from_str_radix(&value(key), 16).unwrap());
            (value("Name:"), sets, value("NoNewPrivs:") == "1")
        })
        .collect();
    threads.sort();
    threads
}

#[test]
fn every_thread_holds_what_it_needs_and_no_more() {
    let ptrace = CapabilitySet::SYS_PTRACE;
    hold("", "CAP_SYS_PTRACE", ptrace);
    let both = ptrace | CapabilitySet::NET_ADMIN;
    hold("[plugin.sleeps]\nstart = \"1ms\"\n", "CAP_NET_ADMIN, CAP_SYS_PTRACE", both);
}

/// With a plugin that asks for these, more of them where an option is set.
fn hold(options: &str, names: &str, asked: CapabilitySet) {
    if !is_root() {
        return;
    }
    let bpf = (CapabilitySet::BPF | CapabilitySet::PERFMON).bits();
    let (asked, asks) =
        (asked.bits(), format!("capabilities: sleeps asks for {names}, and holds it"));
    let dir = folder(&["good", "sleeps"]);
    let spool = dir.path().join("spool");
    let config = dir.path().join("c.toml");
    let text = format!(
        "interval = \"100ms\"\n[[output]]\nkind = \"unix\"\npath = \"/none\"\nspool = \"{}\"\n{options}",
        spool.display()
    );
    fs::write(&config, text).unwrap();
    let mut command =
        collector(dir.path(), &["--config", config.to_str().unwrap(), "--stop-on-stdin-close"]);
    let running = Running::start({
        command.stdin(std::process::Stdio::piped());
        command
    });
    running.wait_for("capabilities: plugins hold CAP_PERFMON, CAP_BPF, other threads none");
    running.wait_for(&asks);
    running.wait_for("its lines wait");
    let threads = threads(running.pid());
    for (name, [effective, permitted, inherited, ambient, bounding], no_new) in &threads {
        let expected = match name.as_str() {
            "collector/good" => [bpf; 2],
            "collector/sleep" => [bpf | asked; 2],
            // It starts those that come later.
            "collector/start" => [0, bpf | asked],
            _ => [0, 0],
        };
        assert_eq!([*effective, *permitted], expected, "{name}");
        // These began before it was known what the plugins need.
        let early = ["collector/log", "collector/watch"].contains(&name.as_str());
        let bound = if early { 0 } else { bpf | asked };
        assert_eq!([*inherited, *ambient, *bounding], [0, 0, bound], "{name}");
        assert!(no_new, "{name}");
    }
    let names: Vec<&str> = threads.iter().map(|thread| &*thread.0).collect();
    for part in ["", "/good", "/sleep", "/log", "/out", "/sig", "/spool", "/stdin"] {
        let name = format!("collector{part}");
        assert!(names.contains(&&*name), "{name} is not among {names:?}");
    }
}

#[test]
fn no_process_of_the_same_user_reads_the_collectors_memory() {
    if !is_root() {
        return;
    }
    let dir = folder(&["good"]);
    let somebodys = |args: &[&str]| {
        let mut command = collector(dir.path(), args);
        as_somebody(&mut command, CapabilitySet::empty());
        Running::start(command)
    };
    let probe = somebodys(&["list"]).end_of_command();
    if probe.code != Some(0) {
        return println!("SKIPPED: somebody cannot run this: {}", probe.stderr);
    }
    let running = somebodys(&["--interval", "100ms"]);
    let read = |pid: u32, file: &str| {
        let mut head = Command::new("head");
        head.args(["-c", "1", &format!("/proc/{pid}/{file}")]).env("LC_ALL", "C");
        as_somebody(&mut head, CapabilitySet::empty());
        let output = head.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    running.wait_for_lines("good", 1);
    let mut sleep = Command::new("sleep");
    as_somebody(sleep.arg("60"), CapabilitySet::empty());
    let mut other = sleep.spawn().unwrap();
    for file in ["environ", "maps", "auxv"] {
        assert!(read(other.id(), file).0, "of another process of the user {file} can be read");
        let (was_read, why) = read(running.pid(), file);
        assert!(!was_read && why.contains("Permission denied"), "{file}: {why}");
    }
    let (was_read, why) = read(running.pid(), "mem");
    assert!(!was_read && why.contains("Permission denied"), "{why}");
    other.kill().unwrap();
    other.wait().unwrap();
    running.signal("TERM");
    running.end();
}
