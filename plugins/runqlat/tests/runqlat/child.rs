//! Processes that sleep, yield or spin when they are told to, and cgroups for them.

use plugin_testing::cpu;
use std::ffi::CString;
use std::fs;
use std::ops::Sub;
use std::path::PathBuf;
use std::time::Duration;

/// What a child does in one round.
#[derive(Clone, Copy)]
#[repr(C)]
pub enum Act {
    /// Short sleeps, so many.
    Sleep(u64),
    /// Gives its CPU away again and again.
    Yield(Duration),
    /// Keeps it.
    Spin(Duration),
}

/// How often a task left its CPU.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    pub slept: u64,
    pub preempted: u64,
}

impl Switches {
    pub fn all(self) -> u64 {
        self.slept + self.preempted
    }
}

impl Sub for Switches {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self { slept: self.slept - before.slept, preempted: self.preempted - before.preempted }
    }
}

/// A process of one thread on the last CPU, asleep between its rounds; killed when it is dropped.
pub struct Child {
    pid: i32,
    go: i32,
    done: i32,
}

impl Child {
    /// With flags of clone(2), such as CLONE_NEWPID, and the name of its thread.
    pub fn fork(flags: i32, name: &str) -> Self {
        let (go, done) = (pipe(), pipe());
        let name = CString::new(name).expect("no NUL");
        // SAFETY: zeros are an empty set; the macro writes within it.
        let cpus = unsafe {
            let mut cpus: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(*cpu::online().last().expect("a CPU"), &mut cpus);
            cpus
        };
        // SAFETY: a fork; as this process has other threads, the child makes system calls only.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: system calls with memory of this frame, and an end without destructors.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::prctl(libc::PR_SET_NAME, name.as_ptr());
                libc::sched_setaffinity(0, size_of_val(&cpus), &cpus);
                let mut act = Act::Sleep(0);
                let (into, len) = (std::ptr::from_mut(&mut act).cast(), size_of::<Act>());
                while libc::read(go[0], into, len) == len as isize {
                    perform(act);
                    libc::write(done[1], std::ptr::from_ref(&0u8).cast(), 1);
                }
                libc::_exit(0);
            }
        }
        for fd in [go[0], done[1]] {
            // SAFETY: our own descriptor, not used any more.
            unsafe { libc::close(fd) };
        }
        let child = Self { pid: pid as i32, go: go[1], done: done[0] };
        child.asleep();
        child
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The number of its pid namespace.
    pub fn pid_ns(&self) -> String {
        let link = fs::read_link(format!("/proc/{}/ns/pid", self.pid)).expect("its namespace");
        let text = link.to_string_lossy().into_owned();
        text.trim_matches(|c: char| !c.is_ascii_digit()).to_owned()
    }

    pub fn begin(&self, act: Act) {
        let (from, len) = (std::ptr::from_ref(&act).cast(), size_of::<Act>());
        // SAFETY: the kernel reads the value within its size; the child reads the same type.
        let written = unsafe { libc::write(self.go, from, len) };
        assert_eq!(written, len as isize);
    }

    /// Waits until the round is over and the child sleeps.
    pub fn end(&self) {
        let mut byte = 0u8;
        // SAFETY: the kernel writes one byte.
        let read = unsafe { libc::read(self.done, std::ptr::from_mut(&mut byte).cast(), 1) };
        assert_eq!(read, 1, "the child ended");
        self.asleep();
    }

    fn asleep(&self) {
        let is_asleep = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it lives");
            let state = stat.rsplit_once(") ").expect("a name").1.starts_with('S');
            // In the kernel's pipe, rather than on its way there.
            let wchan = fs::read_to_string(format!("/proc/{}/syscall", self.pid));
            state && wchan.map_or(true, |call| call.starts_with("0 "))
        };
        while !is_asleep() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn switches(&self) -> Switches {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it lives");
        let number = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.expect("the kernel counts switches").trim().parse().expect("a number")
        };
        Switches {
            slept: number("voluntary_ctxt_switches:"),
            preempted: number("nonvoluntary_ctxt_switches:"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child and descriptors.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            libc::close(self.go);
            libc::close(self.done);
        }
    }
}

fn perform(act: Act) {
    match act {
        Act::Sleep(n) => {
            let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000 };
            // SAFETY: the kernel reads the time.
            (0..n).for_each(|_| unsafe {
                libc::nanosleep(&time, std::ptr::null_mut());
            });
        }
        Act::Yield(time) => until(time, || {
            // SAFETY: no arguments.
            unsafe { libc::sched_yield() };
        }),
        Act::Spin(time) => until(time, || ()),
    }
}

fn until(time: Duration, act: impl Fn()) {
    let end = plugin_testing::irq_off::monotonic() + time.as_nanos() as u64;
    while plugin_testing::irq_off::monotonic() < end {
        act();
    }
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    ends
}

/// A cgroup of this test's own; removed when it is dropped, after those who are in it.
pub struct Cgroup {
    folder: PathBuf,
    path: String,
}

impl Cgroup {
    /// One below the root of cgroup2.
    pub fn new(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let root = mount.and_then(|line| line.split(' ').nth(4)).ok_or("cgroup2 is not mounted")?;
        let path = format!("/{name}-{}", std::process::id());
        let folder = PathBuf::from(format!("{root}{path}"));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder, path })
    }

    pub fn child(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).expect("a cgroup in a cgroup");
        Self { folder, path: format!("{}/{name}", self.path) }
    }

    /// With a quota: microseconds of CPU time in each period.
    pub fn limit(self, max: &str) -> Result<Self, String> {
        let control = self.folder.with_file_name("cgroup.subtree_control");
        let set =
            fs::write(control, "+cpu").and_then(|()| fs::write(self.folder.join("cpu.max"), max));
        set.map_err(|error| format!("no quota in cgroup2 here: {error}"))?;
        Ok(self)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn add(&self, child: &Child) {
        fs::write(self.folder.join("cgroup.procs"), child.pid.to_string()).expect("it moves");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Those who are killed leave it when their last CPU has let them go.
        for _ in 0..200 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{} stays", self.folder.display());
    }
}
