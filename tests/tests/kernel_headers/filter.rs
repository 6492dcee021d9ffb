//! What `filter.bpf.h` says of a thread of this process, in each kind of program.

use crate::{OBJECT, skel};
use libbpf_rs::{MapCore as _, ObjectBuilder, ProgramMut, set_print};
use plugin_bpf::group::{Cgroups, Filter};
use plugin_bpf::maps::RawMap;
use plugin_bpf::{Consts as _, from_bytes, kernel_at_least};
use plugin_testing::Moved;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The name of the thread that the programs look at.
const NAME: &str = "watched";
/// The inode number of the initial pid namespace, PROC_PID_INIT_INO.
const INITIAL_PIDNS: u64 = 0xeffffffc;

const PROGRAMS: [&str; 3] = ["switch_raw", "switch_btf", "enter_raw"];

/// What a program said while the thread slept and woke some times.
#[derive(Debug)]
struct Observed {
    wanted: u32,
    unwanted: u32,
    cgroup: u64,
    pidns: u32,
    comm: [u8; 16],
    /// Bytes of the program as the kernel runs it, before it is made machine code.
    code: u32,
}

/// Loads one program with a filter; `None` when this kernel refuses that kind of program.
fn ask(program: &str, filter: &Filter) -> Option<Observed> {
    set_print(None); // a refusal is no failure: its text would stand in the middle of a result
    let filter = *filter;
    let asked = move |program: &str| {
        let mut builder = ObjectBuilder::default();
        let mut open =
            builder.name("headers").expect("a name").open_memory(OBJECT).expect("it opens");
        for mut other in open.progs_mut() {
            let wanted = other.name() == program;
            other.set_autoload(wanted);
        }
        // SAFETY: takes and touches nothing.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.starts_with("unity_") {
                map.set_autocreate(false).expect("not loaded yet"); // no piece is used here
            } else if name.ends_with(".rodata") {
                let memory = map.initial_value_mut().expect("mapped");
                let mut constants = skel::Constants::read(memory);
                constants.watched = thread as u32;
                constants.write(memory);
            } else if name == ".rodata.unity_filter" {
                map.set_initial_value(filter.as_bytes()).expect("the same size");
            }
        }
        let object = match open.load() {
            Ok(object) => object,
            Err(error) => {
                println!("{program}: refused: {error}");
                return None;
            }
        };
        let loaded = object.progs_mut().find(|p| p.name() == program).expect("it is there");
        let code = code(&loaded);
        let _link = match loaded.attach() {
            Ok(link) => link,
            Err(error) => {
                println!("{program}: not attached: {error}");
                return None;
            }
        };
        (0..20).for_each(|_| thread::sleep(Duration::from_millis(1)));
        let bss = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
        let bss = RawMap::of(&bss.expect("its answer")).expect("a descriptor");
        let mut answer = vec![0; bss.value_len()];
        assert!(bss.lookup(&0u32.to_ne_bytes(), &mut answer).expect("a reading"));
        let number = |at: usize| from_bytes::<u32>(&answer[at..]);
        Some(Observed {
            cgroup: from_bytes(&answer),
            pidns: number(8),
            wanted: number(12) + number(20),
            unwanted: number(16) + number(24),
            comm: from_bytes(&answer[28..]),
            code,
        })
    };
    thread::scope(|scope| {
        let watched = thread::Builder::new().name(NAME.into());
        let watched = watched.spawn_scoped(scope, || asked(program)).expect("a thread");
        watched.join().expect("no panic")
    })
}

fn code(program: &ProgramMut<'_>) -> u32 {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    let fd = program.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes to `info`, which asks for no arrays.
    let error = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut len) };
    assert_eq!(error, 0, "the program is ours");
    info.xlated_prog_len
}

fn initial_namespace() -> bool {
    let initial = fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL_PIDNS);
    if !initial {
        println!("SKIPPED: programs see other ids than this process, which is in a pid namespace");
    }
    initial
}

#[test]
fn a_filter_lets_through_what_it_names_and_nothing_else() {
    if !initial_namespace() {
        return;
    }
    let any = Filter::default();
    let (me, others) = (std::process::id(), [1, 2, 3].as_slice());
    let tgids = |tgids: &[u32]| any.tgids(tgids).expect("few");
    let comms = |comms: &[&str]| any.comms(comms).expect("few");
    let last = [[9; 15].as_slice(), &[me]].concat();
    let both = |tgid| tgids(&[tgid]).comms(&[NAME]).expect("few");
    let table = [
        (any, true),
        (tgids(&[me]), true),
        (tgids(&last), true),
        (tgids(others), false),
        (comms(&[NAME]), true),
        (comms(&["a", "b", "c", "d", "e", "f", "g", NAME]), true),
        (comms(&["watche"]), false),
        (comms(&["watched1"]), false),
        (both(me), true),
        (both(1), false),
    ];
    // Each question patches the kernel's code twice, and the emulator may stand still over that on 5.10.
    let table = if kernel_at_least(5, 15) { &table[..] } else { &table[7..] };
    let mut asked = 0;
    for program in PROGRAMS {
        for (filter, wanted) in table {
            let Some(answer) = ask(program, filter) else { break };
            let right = if *wanted { answer.unwanted == 0 } else { answer.wanted == 0 };
            assert!(
                right && answer.wanted + answer.unwanted >= 10,
                "{program}: {answer:?} {filter:?}"
            );
            asked += 1;
        }
    }
    assert!(asked >= 2 * table.len(), "raw_tp works on every kernel with BTF");
}

#[test]
fn a_filter_that_is_not_set_costs_next_to_nothing() {
    if !initial_namespace() {
        return;
    }
    let set = Filter::default().tgids(&[1]).and_then(|f| f.comms(&["a"])).expect("right");
    let code = |filter| ask("enter_raw", filter).expect("raw_tp works everywhere").code;
    let (unset, set) = (code(&Filter::default()), code(&set));
    println!(
        "filter_current(): {unset} bytes of code in a program without a filter, {set} with one"
    );
    assert!(2 * unset < set);
}

#[test]
fn a_task_has_its_name_its_namespace_and_its_cgroup() {
    if !initial_namespace() {
        return;
    }
    let mut comm = [0; 16];
    comm[..NAME.len()].copy_from_slice(NAME.as_bytes());
    for program in &PROGRAMS[..2] {
        let Some(answer) = ask(program, &Filter::default()) else { continue };
        assert_eq!((answer.comm, u64::from(answer.pidns)), (comm, INITIAL_PIDNS), "{program}");
        let own = fs::read_to_string("/proc/self/cgroup").expect("its cgroups");
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        match (Cgroups::find(), own) {
            (Ok(mut cgroups), Some(own)) => {
                assert_eq!(cgroups.text(answer.cgroup), own, "{program}")
            }
            _ => println!("SKIPPED: no cgroup2 file system is mounted"),
        }
    }
}

#[test]
fn a_cgroup_stands_for_all_below_it() {
    if !initial_namespace() {
        return;
    }
    let moved = match Moved::new() {
        Ok(moved) => moved,
        Err(error) => {
            println!("SKIPPED: cannot move this process to another cgroup: {error}");
            return;
        }
    };
    let (home, parent, child) = (moved.home(), moved.parent(), moved.child());
    let path = |folder: &Path| folder.to_str().expect("UTF-8").to_owned();
    let answer = ask("switch_raw", &Filter::default()).expect("raw_tp works with BTF");
    let below = child.strip_prefix(home).expect("it is below");
    let found = Cgroups::at(home).text(answer.cgroup);
    assert_eq!(found, format!("/{}", path(below)), "the inode number is the id");
    let table = [
        (path(home), true),
        (path(parent), true),
        (path(&child), true),
        (path(&moved.sibling()), false),
    ];
    for program in PROGRAMS {
        for (path, wanted) in &table {
            let filter = Filter::default().cgroup(path).expect("it is there");
            let Some(answer) = ask(program, &filter) else {
                // BTF of the kernel is refused on some machines, the helper of the last one before 5.14.
                assert!(program != "switch_raw", "raw_tp works on every kernel with BTF");
                assert!(program != "enter_raw" || !kernel_at_least(5, 14));
                break;
            };
            let right = if *wanted { answer.unwanted == 0 } else { answer.wanted == 0 };
            assert!(right && answer.wanted + answer.unwanted >= 10, "{program}: {answer:?} {path}");
        }
    }
}
