//! Why a kernel refuses a program that another kernel takes: what it lacks, and what forbids it.
//!
//! The kernel answers EPERM to all of it. Looked up only when a program was refused.

use plugin_api::privileges;
use std::fs;
use std::path::Path;

/// What decides about programs on this machine.
pub(super) struct Machine {
    /// What this process lacks.
    missing: Option<String>,
    /// The mode of the kernel's lockdown, `None` when it is off or nobody says.
    lockdown: Option<String>,
    /// A filter of system calls, as containers have.
    seccomp: bool,
    kprobes: bool,
    uprobes: bool,
    tracepoints: bool,
}

/// What stands behind a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This process lacks privileges.
    Process(String),
    /// The kernel lacks or forbids it.
    Kernel(String),
}

impl Machine {
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let tracefs = |name: &str| {
            ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
                .iter()
                // One that may not be looked at may be there.
                .any(|folder| Path::new(folder).join(name).try_exists().unwrap_or(true))
        };
        let probes = |kind: &str| {
            Path::new("/sys/bus/event_source/devices").join(kind).exists()
                || tracefs(&format!("{kind}_events"))
        };
        Self {
            missing: privileges::missing(),
            lockdown: lockdown(&text("/sys/kernel/security/lockdown")),
            seccomp: text("/proc/self/status").lines().any(|line| line == "Seccomp:\t2"),
            kprobes: probes("kprobe"),
            uprobes: probes("uprobe"),
            tracepoints: tracefs("events"),
        }
    }

    /// Why a program with this section was refused, or the object as a whole (`""`).
    pub(super) fn explains(&self, section: &str, reason: &str) -> Option<Cause> {
        let says = |words: [&str; 2]| words.iter().any(|word| reason.contains(word));
        let forbidden = says(["EPERM", "not permitted"]);
        // The verifier answers EACCES too: alone it says nothing about privileges.
        let denied = forbidden || says(["EACCES", "ermission denied"]);
        if let Some(missing) = self.missing.as_ref().filter(|_| denied) {
            return Some(Cause::Process(missing.clone()));
        }
        let (what, lacks) = match section.split(['/', '.']).next().unwrap_or_default() {
            "kprobe" | "kretprobe" | "ksyscall" | "kretsyscall" => {
                let lacks = "this kernel has no kprobes (CONFIG_KPROBES)";
                ("kprobes", (!self.kprobes).then_some(lacks))
            }
            "uprobe" | "uretprobe" | "usdt" => {
                let lacks = "this kernel has no uprobes (CONFIG_UPROBES)";
                ("uprobes", (!self.uprobes).then_some(lacks))
            }
            "tp" | "tracepoint" => {
                let lacks =
                    "tracefs is not mounted: `mount -t tracefs tracefs /sys/kernel/tracing`";
                ("tracepoints", (!self.tracepoints).then_some(lacks))
            }
            "fentry" | "fexit" | "fmod_ret" | "lsm" => ("BPF trampolines", None),
            "perf_event" => ("perf events", None),
            _ => ("BPF", None),
        };
        if let Some(lacks) = lacks {
            return Some(Cause::Kernel(lacks.to_owned()));
        }
        let by = match (&self.lockdown, self.seccomp) {
            (Some(mode), _) => format!("; its lockdown is `{mode}`"),
            (None, true) => {
                "; in a container its seccomp filter may: `--security-opt seccomp=unconfined`"
                    .to_owned()
            }
            (None, false) => String::new(),
        };
        let forbids = format!("the process has the privileges, but the kernel forbids {what}{by}");
        forbidden.then_some(Cause::Kernel(forbids))
    }
}

/// The mode in brackets, `none [integrity] confidentiality`, unless it is `none`.
fn lockdown(modes: &str) -> Option<String> {
    let (mode, _) = modes.split_once('[')?.1.split_once(']')?;
    (mode != "none").then(|| mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            missing: None,
            lockdown: None,
            seccomp: false,
            kprobes: true,
            uprobes: true,
            tracepoints: true,
        }
    }

    #[test]
    fn a_refusal_says_what_the_kernel_lacks_or_forbids() {
        let locked = || Machine { lockdown: Some("integrity".to_owned()), ..machine() };
        let needs = || Some("needs root; missing: CAP_BPF".to_owned());
        let eperm = "BPF program load failed: -EPERM";
        for (machine, section, reason, words) in [
            (machine(), "fentry/f", eperm, "the kernel forbids BPF trampolines"),
            (locked(), "fentry/f", eperm, "BPF trampolines; its lockdown is `integrity`"),
            (locked(), "kprobe/f", eperm, "kprobes; its lockdown is"),
            (Machine { seccomp: true, ..machine() }, "", eperm, "seccomp=unconfined"),
            (Machine { kprobes: false, ..machine() }, "kprobe/f", "-ENOENT", "has no kprobes"),
            (Machine { uprobes: false, ..machine() }, "usdt", "-ENOENT", "has no uprobes"),
            (Machine { tracepoints: false, ..machine() }, "tp/s/e", "-ENOENT", "mount -t tracefs"),
            (Machine { missing: needs(), ..locked() }, "tp_btf/e", eperm, "missing: CAP_BPF"),
            (
                Machine { missing: needs(), ..machine() },
                "perf_event",
                "-EACCES",
                "missing: CAP_BPF",
            ),
        ] {
            let told = machine.explains(section, reason);
            let ((Some(Cause::Process(text)), true) | (Some(Cause::Kernel(text)), false)) =
                (&told, machine.missing.is_some())
            else {
                panic!("{section}: {reason}: {told:?}");
            };
            assert!(text.contains(words), "{section}: {reason}: {text}");
        }
    }

    #[test]
    fn what_is_no_refusal_is_left_as_it_is() {
        let verifier = "-EACCES; func 'sched_process_exit' doesn't have 2-th argument";
        for reason in ["-ENOENT", "-EINVAL; R0 !read_ok", verifier] {
            assert_eq!(machine().explains("fentry/f", reason), None);
        }
    }

    #[test]
    fn the_lockdown_is_read_as_the_kernel_writes_it() {
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown("[none] integrity confidentiality\n"), None);
        assert_eq!(lockdown(""), None);
    }
}
