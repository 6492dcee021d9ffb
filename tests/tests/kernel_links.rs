//! Programs that attach where their sections do not say it, and links that come and go, on a real kernel.

#[path = "kernel_links/cpus.rs"]
mod cpus;
#[path = "kernel_links/probes.rs"]
mod probes;

use plugin_bpf::{Running, Target};
use plugin_testing::{Harness, Line};
use probes::{call, call_too};
use std::ffi::CString;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use system_tests::links::{LinksTool, want};

const EXE: &str = "/proc/self/exe";

/// A running tool. One at a time in this process: they attach to the same functions.
struct Tool {
    harness: Harness<Running<LinksTool>>,
    _one: MutexGuard<'static, ()>,
}

impl Tool {
    fn start(options: &str) -> Result<Self, String> {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        want(Vec::new());
        let harness = Harness::init(options).map_err(|error| format!("{error:#}"))?;
        Ok(Self { harness, _one: one })
    }

    fn call(&mut self) -> Lines {
        Lines(self.harness.call().expect("a tick"))
    }

    /// Ticks, runs `work`, and gives the tick after it.
    fn during(&mut self, work: impl FnOnce()) -> Lines {
        self.call();
        work();
        self.call()
    }
}

struct Lines(Vec<Line>);

impl Lines {
    fn count(&self, field: &str) -> u64 {
        self.0.iter().find(|line| line.table == "links").expect("its line").u64(field)
    }

    fn program(&self, name: &str) -> &Line {
        let of = |line: &&Line| line.table == "collector_program" && line.tag("program") == name;
        self.0.iter().find(of).expect("a line of the program")
    }

    fn state(&self, name: &str) -> (&str, u64) {
        (self.program(name).text("state"), self.program(name).u64("links"))
    }

    fn reason(&self, name: &str) -> Option<&str> {
        let line = self.program(name);
        line.get("reason").map(|_| line.text("reason"))
    }
}

fn both(function: &str) -> Vec<(&'static str, Target)> {
    ["called_uprobe", "called_uretprobe"].map(|name| (name, Target::uprobe(EXE, function))).into()
}

#[test]
fn links_come_and_go_and_every_call_in_between_is_counted_once() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    let quiet = tool.during(|| call(5));
    assert_eq!((quiet.count("calls"), quiet.count("returns")), (0, 0));
    assert_eq!(quiet.state("called_uprobe"), ("waiting", 0));

    want(vec![(1, both("links_test_called"))]);
    let lines = tool.during(|| call(100));
    assert_eq!((lines.count("calls"), lines.count("returns")), (100, 100));
    assert_eq!(lines.count("returned"), (0..100).map(|n| 2 * n).sum::<u64>());
    assert_eq!(lines.state("called_uprobe"), ("attached", 1));

    want(vec![(1, both("links_test_called")), (2, both("links_test_called_too"))]);
    let lines = tool.during(|| {
        call(7);
        call_too(3);
    });
    assert_eq!((lines.count("calls"), lines.count("returns")), (10, 10));
    assert_eq!(lines.state("called_uretprobe"), ("attached", 2));

    want(vec![(2, both("links_test_called_too"))]);
    let lines = tool.during(|| {
        call(50);
        call_too(2);
    });
    assert_eq!((lines.count("calls"), lines.count("returns")), (2, 2));
    assert_eq!(lines.state("called_uretprobe"), ("attached", 1));

    want(Vec::new());
    let lines = tool.during(|| call_too(10));
    assert_eq!((lines.count("calls"), lines.count("returns")), (0, 0));
    assert_eq!(lines.state("called_uprobe"), ("waiting", 0));
}

#[test]
fn a_key_is_attached_as_a_whole_or_refused_once_with_a_reason() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    let absent = Target::uprobe(EXE, "links_test_absent");
    let half = vec![
        ("called_uprobe", both("links_test_called").remove(0).1),
        ("called_uretprobe", absent),
    ];
    let gone = vec![("called_uprobe", Target::uprobe("/nowhere/bash", "readline"))];
    want(vec![(1, half), (2, gone)]);
    let lines = tool.call();
    assert_eq!(lines.count("missing"), 2);
    assert_eq!(lines.state("called_uprobe"), ("waiting", 0));
    let reason = lines.reason("called_uretprobe").expect("a reason");
    println!("refused: {reason}");
    for word in ["/proc/self/exe has no function `links_test_absent`", "`nm -D FILE`"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    let reason = lines.reason("called_uprobe").expect("a reason");
    println!("refused: {reason}");
    assert_eq!(reason, "/nowhere/bash: function `readline`: there is no such file");

    let lines = tool.during(|| call(9));
    assert_eq!(lines.count("calls"), 0, "half of a key stayed attached");
    assert_eq!(lines.reason("called_uretprobe"), None, "reported a second time");
}

/// A uretprobe changes an address on the stack, which Go's runtime reads when it moves the stack. This very program, with
/// a section's name that Go's linker gives.
#[test]
fn a_uretprobe_of_a_program_in_go_is_refused_and_a_uprobe_is_not() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    let mut program = fs::read(EXE).expect("this program");
    let (name, of_go) = (b".note.ABI-tag\0", b".gopclntab\0\0\0\0");
    for at in 0..program.len() - name.len() {
        if program[at..].starts_with(name) {
            program[at..at + name.len()].copy_from_slice(of_go);
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("go");
    fs::write(&path, program).expect("a copy");
    let target = Target::uprobe(&path, "links_test_called");
    want(vec![(1, vec![("called_uprobe", target.clone()), ("called_uretprobe", target.clone())])]);
    let lines = tool.call();
    assert_eq!((lines.count("missing"), lines.state("called_uprobe")), (1, ("waiting", 0)));
    let reason = lines.reason("called_uretprobe").expect("a reason");
    println!("refused: {reason}");
    assert!(reason.contains("a program of Go moves its stacks"), "{reason}");
    want(vec![(2, vec![("called_uprobe", target)])]);
    let lines = tool.call();
    assert_eq!((lines.count("missing"), lines.state("called_uprobe")), (0, ("attached", 1)));
}

#[test]
fn a_target_of_one_process_is_quiet_about_the_others() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    let own = i32::try_from(std::process::id()).expect("a pid");
    for (pid, calls) in [(own, 20), (1, 0)] {
        let target = Target::uprobe(EXE, "links_test_called").of_pid(pid);
        want(vec![(u32::try_from(pid).expect("a pid"), vec![("called_uprobe", target)])]);
        let lines = tool.during(|| call(20));
        assert_eq!((pid, lines.count("calls")), (pid, calls));
        assert_eq!(lines.state("called_uprobe"), ("attached", 1));
    }
}

#[test]
fn a_program_without_a_place_says_what_it_lacks() {
    let error = Tool::start(r#"{"what":"nowhere"}"#).err().expect("no place");
    println!("refused: {error}");
    assert!(error.contains("`perf_event` does not say where: give the hook a Target"), "{error}");
}

/// A cgroup v2 of our own, below the root.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let kinds = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = kinds.filter(|line| line.get(2) == Some(&"cgroup2")).map(|line| line[1]).next();
        let root = root.ok_or("no cgroup v2 is mounted")?;
        let folder = PathBuf::from(format!("{root}/kernel-links-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty by now, and small if not.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Connects from a process in the cgroup.
fn connect_in(cgroup: &Cgroup, connections: usize) {
    let members = cgroup.0.join("cgroup.procs").into_os_string().into_encoded_bytes();
    let members = CString::new(members).expect("no NUL in a path");
    // SAFETY: a number as the kernel reads it; zeros are an address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = 9u16.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    // SAFETY: the child makes system calls only, on memory that was made before, and ends without running
    // anybody's destructors.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            let file = libc::open(members.as_ptr(), libc::O_WRONLY);
            let moved = libc::write(file, c"0".as_ptr().cast(), 1) == 1;
            for _ in 0..connections {
                let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
                libc::connect(socket, (&raw const address).cast(), size_of_val(&address) as u32);
            }
            libc::_exit(i32::from(!moved));
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    assert_eq!(status, 0, "the child did not get into the cgroup");
}

#[test]
fn connections_in_a_cgroup_are_counted_and_no_others() {
    let cgroup = match Cgroup::new() {
        Ok(cgroup) => cgroup,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    let place = cgroup.0.display().to_string();
    let options = format!(r#"{{"what":"cgroup","cgroup":"{place}"}}"#);
    let mut tool = Tool::start(&options).expect("it attaches");
    let lines = tool.during(|| {
        connect_in(&cgroup, 5);
        let outside = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        (0..3).for_each(|_| outside.connect("127.0.0.1:9").expect("an address"));
    });
    assert_eq!(lines.count("connects"), 5);
    assert_eq!(lines.state("connected_cgroup"), ("attached", 1));
    assert_eq!(lines.program("connected_cgroup").text("target"), place);

    drop(tool);
    let error = Tool::start(r#"{"what":"cgroup","cgroup":"/nowhere"}"#).err().expect("no folder");
    assert!(error.contains("cgroup /nowhere: No such file"), "{error}");
}
