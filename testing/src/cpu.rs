//! CPUs: which there are, threads that stay on one, and one that goes and comes back.

use std::fs;

fn allowed() -> libc::cpu_set_t {
    // SAFETY: zeros are an empty set, and the kernel fills it as far as it is long.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        set
    }
}

fn allow(set: &libc::cpu_set_t) {
    // SAFETY: the kernel only reads the set, which is as long as it is told.
    let set = unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// The online CPUs that this thread may run on.
#[must_use]
pub fn online() -> Vec<usize> {
    let set = allowed();
    // SAFETY: only reads the set, below its length.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Does something on one CPU, and lets the thread go afterwards.
///
/// # Panics
/// The CPU is not online.
pub fn on_cpu<T>(cpu: usize, act: impl FnOnce() -> T) -> T {
    struct Back(libc::cpu_set_t);
    impl Drop for Back {
        fn drop(&mut self) {
            allow(&self.0);
        }
    }
    let _back = Back(allowed());
    // SAFETY: zeros are an empty set; the macro writes within it.
    let one = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    allow(&one);
    act()
}

/// Whether this is a virtual machine of `cargo xtask`.
#[must_use]
pub fn is_guest() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("ID=guest"))
}

/// Whether a test that takes long in an emulator, and that is the same on all kernels, is left to others: `cargo xtask
/// test` then has it on the live kernel, the oldest and the newest. This says so as a line that it counts; the test
/// returns.
#[must_use]
pub fn is_left_to_others() -> bool {
    let left = std::env::var_os("COLLECTOR_BETWEEN").is_some();
    if left {
        println!(
            "SKIPPED: takes long in an emulator: on the live kernel, the oldest and the newest"
        );
    }
    left
}

/// The switch of CPU 1. Dropped, it puts the CPU online again.
pub struct Switch(());

const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

impl Switch {
    /// In a virtual machine of `cargo xtask` only.
    ///
    /// # Errors
    /// Why the CPU is better left alone: for a line that says SKIPPED.
    pub fn find() -> Result<Self, &'static str> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        if !is_guest() {
            Err("takes a CPU offline, which only a virtual machine of ours may do")
        } else if release.starts_with("5.10.") {
            Err("5.10 stands still in the emulator after its CPU came back")
        } else if !fs::exists(SWITCH).unwrap_or(false) {
            Err("this kernel takes no CPU offline")
        } else {
            Ok(Self(()))
        }
    }

    /// Puts the CPU online or offline.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn set(&self, on: bool) {
        fs::write(SWITCH, if on { "1" } else { "0" }).expect("the kernel switches it");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, "1");
    }
}
