//! Real tools in processes of their own: they attach with no more than they need, and nothing of them is left in the kernel
//! when their process is killed, or the collector.

use plugin_testing::cpu::is_guest;
use plugin_testing::held;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use rustix::thread::CapabilitySet;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use system_tests::family;
use system_tests::running::Home;
use system_tests::user::become_user;

/// Not root, and nobody who has a process here.
const SOMEBODY: u32 = 12345;
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
const TOOLS: [&str; 2] = ["bootstrap", "runqlat"];

/// The processes of the tools, by the tool's name.
fn processes(collector: Pid) -> BTreeMap<&'static str, Pid> {
    let children = family::children(collector.as_raw_nonzero().get().unsigned_abs());
    let named = children.into_iter().filter_map(|pid| {
        let tool = TOOLS.into_iter().find(|tool| family::comm(pid) == collector_name(tool))?;
        Some((tool, Pid::from_raw(pid.cast_signed())?))
    });
    named.collect()
}

fn collector_name(tool: &str) -> String {
    collector::process::thread_name(tool)
}

/// How often a table has a line in a file.
fn count(lines: &Path, table: &str) -> usize {
    let text = fs::read_to_string(lines).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(&format!("{table},"))).count()
}

/// Ids of programs and of maps that a process holds.
fn objects(pid: Pid) -> [Vec<u64>; 2] {
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    ["prog_id:", "map_id:"].map(|key| held(pid, key).into_keys().collect())
}

/// Whether the kernel has none of them any more.
fn are_gone([programs, maps]: &[Vec<u64>; 2]) -> bool {
    let exists = |fd: i32| {
        // SAFETY: a new descriptor, which nobody else has.
        (fd >= 0).then(|| drop(unsafe { OwnedFd::from_raw_fd(fd) })).is_some()
    };
    // SAFETY: these take a number.
    let program = |id: &u64| exists(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(*id as u32) });
    // SAFETY: as above.
    let map = |id: &u64| exists(unsafe { libbpf_sys::bpf_map_get_fd_by_id(*id as u32) });
    !programs.iter().any(program) && !maps.iter().any(map)
}

/// On a machine that may stand still.
fn gone_at_once(objects: &[Vec<u64>; 2]) -> bool {
    let began = Instant::now();
    while !are_gone(objects) {
        if began.elapsed() > Duration::from_secs(10) {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn they_attach_with_what_they_need_and_leave_nothing_behind() {
    for user in [None, Some(SOMEBODY)] {
        let home = Home::with_tools();
        let lines = home.path("lines");
        if user.is_some() {
            chown(home.path(""), user, user).expect("a folder of its own");
        }
        let toml = format!(
            "interval = \"500ms\"\n[plugin.bootstrap]\nisolation = \"process\"\n\
             [plugin.runqlat]\nisolation = \"process\"\n\
             [[output]]\nkind = \"file\"\npath = \"{}\"\n",
            lines.display()
        );
        let mut running = home.start_with(&toml, |command| {
            command.args(["--only", &TOOLS.join(",")]);
            if let Some(user) = user {
                let prepare = move || {
                    // As systemd's `LimitMEMLOCK=infinity`: up to 5.10 maps count against it.
                    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
                    become_user(user, NEEDED)
                };
                // SAFETY: only system calls between fork and exec, in the child's only thread.
                unsafe { command.pre_exec(prepare) };
            }
        });
        let both = |more: usize| TOOLS.iter().all(|tool| count(&lines, tool) > more);
        running.wait_until("lines of both", |_| both(1));
        let before = processes(running.pid());
        assert_eq!(before.len(), 2, "{before:?}");
        assert_eq!(
            objects(running.pid()),
            [[], []].map(Vec::<u64>::from),
            "the collector has none"
        );
        for (tool, pid) in &before {
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
            let status = status.expect("it runs");
            let set = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
                CapabilitySet::from_bits_retain(u64::from_str_radix(line.trim(), 16).expect("hex"))
            };
            let (effective, permitted) = (set("CapEff:"), set("CapPrm:"));
            // Debian's kernels open perf events for CAP_SYS_ADMIN only.
            let spare = CapabilitySet::SYS_ADMIN;
            assert!(effective == permitted && effective - spare == NEEDED, "{tool}: {effective:?}");
            assert_eq!([set("CapInh:"), set("CapAmb:")], [CapabilitySet::empty(); 2], "{tool}");
        }
        let killed = before["runqlat"];
        let its = objects(killed);
        assert!(its.iter().all(|ids| !ids.is_empty()), "{its:?}");
        kill_process(killed, Signal::KILL).expect("it runs");
        assert!(gone_at_once(&its), "{its:?}");
        running.wait_for("runqlat: call failed: its process was killed by SIGKILL");
        let (had, others) = (count(&lines, "runqlat"), count(&lines, "bootstrap"));
        running.wait_until("lines of both again", |_| {
            count(&lines, "runqlat") > had + 1 && count(&lines, "bootstrap") > others + 1
        });
        let after = processes(running.pid());
        assert_eq!(after["bootstrap"], before["bootstrap"]);
        assert_ne!(after["runqlat"], killed);
        let all: Vec<_> = after.values().map(|pid| objects(*pid)).collect();
        let ended = running.kill9();
        assert_eq!(ended.code, None);
        for its in all {
            assert!(gone_at_once(&its), "{its:?}");
        }
    }
}

/// Numbers of all programs, maps and links that the machine has.
fn whole_machine() -> [BTreeSet<u32>; 3] {
    // SAFETY: each takes a number, and a place for one.
    let next: [unsafe extern "C" fn(u32, *mut u32) -> i32; 3] = [
        libbpf_sys::bpf_prog_get_next_id,
        libbpf_sys::bpf_map_get_next_id,
        libbpf_sys::bpf_link_get_next_id,
    ];
    next.map(|next| {
        let (mut ids, mut id) = (BTreeSet::new(), 0);
        // SAFETY: `id` is ours.
        while unsafe { next(id, &raw mut id) } == 0 {
            ids.insert(id);
        }
        ids
    })
}

/// What a process holds of these, by what its descriptors say.
fn holds(pid: Pid) -> [BTreeSet<u32>; 3] {
    let folder = format!("/proc/{}/fdinfo", pid.as_raw_nonzero());
    let infos: Vec<String> = fs::read_dir(folder)
        .expect("it runs")
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .collect();
    ["prog_id:", "map_id:", "link_id:"].map(|key| {
        let id = |info: &String| {
            info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok())
        };
        infos.iter().filter_map(id).collect()
    })
}

#[test]
fn killed_at_once_it_leaves_nothing_in_the_kernel() {
    let before = whole_machine();
    let home = Home::with_tools();
    let lines = home.path("lines");
    let toml = format!(
        "interval = \"500ms\"\n[plugin.bootstrap]\nisolation = \"none\"\n[plugin.runqlat]\nisolation = \"process\"\n\
         [[output]]\nkind = \"file\"\npath = \"{}\"\n",
        lines.display()
    );
    let mut running = home.start_with(&toml, |command| {
        command.args(["--only", &TOOLS.join(",")]);
    });
    running.wait_until("lines of both", |_| TOOLS.iter().all(|tool| count(&lines, tool) > 1));
    let children = processes(running.pid());
    assert_eq!(children.keys().copied().collect::<Vec<_>>(), ["runqlat"]);
    let (own, its) = (holds(running.pid()), holds(children["runqlat"]));
    assert!(!own[0].is_empty() && !its[0].is_empty(), "{own:?} {its:?}");
    let child = children["runqlat"].as_raw_nonzero();
    let killed = Instant::now();
    kill_process(running.pid(), Signal::KILL).expect("it runs");
    // A process that nobody waits for any more is a zombie until init has looked.
    let child_is_gone = || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat"));
        stat.is_err() || stat.is_ok_and(|text| text.contains(") Z "))
    };
    let left = || {
        let now = whole_machine();
        [0, 1, 2].map(|kind| {
            let of_ours =
                now[kind].iter().filter(|id| own[kind].contains(id) || its[kind].contains(id));
            // Others load programs too, but not in a machine of ours.
            let new = now[kind].difference(&before[kind]).filter(|_| is_guest());
            of_ours.chain(new).copied().collect::<BTreeSet<u32>>()
        })
    };
    let nothing = || child_is_gone() && left().iter().all(BTreeSet::is_empty);
    // A machine that is emulated, or stands still, takes its time.
    let limit = Duration::from_secs(10);
    while !nothing() {
        let late = killed.elapsed() > limit;
        assert!(!late, "programs, maps, links: {:?}; its child: {}", left(), !child_is_gone());
        thread::sleep(Duration::from_millis(5));
    }
    let [programs, maps, links] = [0, 1, 2].map(|kind| own[kind].union(&its[kind]).count());
    println!(
        "TABLE: kill -9: {programs} programs, {maps} maps, {links} links and a child are gone {} ms later",
        killed.elapsed().as_millis()
    );
    let _ = running.end();
}
