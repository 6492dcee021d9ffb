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
    net_admin: bool,
}

/// What stands behind a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This process lacks privileges.
    Process(String),
    /// The kernel lacks or forbids it.
    Kernel(String),
}

/// Whether a reason may be one of privileges. The verifier answers EACCES too.
pub(super) fn is_denied(reason: &str) -> bool {
    is_forbidden(reason) || is_access_denied(reason)
}

/// What perf events answer to whoever lacks a capability; a lockdown or a filter of system calls answers EPERM.
pub(super) fn is_access_denied(reason: &str) -> bool {
    ["EACCES", "ermission denied"].iter().any(|word| reason.contains(word))
}

/// The function of a probe that was refused for want of privileges, and that is not there either: no privilege
/// helps.
pub(super) fn missing_function<'a>(section: &'a str, reason: &str) -> Option<&'a str> {
    let (kind, function) = section.split_once('/')?;
    if !is_denied(reason) || !matches!(kind, "kprobe" | "kretprobe") {
        return None;
    }
    // Who cannot read it does not know. Addresses are hidden from us, names are not.
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    let names = symbols.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    (!symbols.is_empty() && names.into_iter().all(|name| name != function)).then_some(function)
}

fn is_forbidden(reason: &str) -> bool {
    ["EPERM", "not permitted"].iter().any(|word| reason.contains(word))
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
            net_admin: privileges::has_net_admin(),
        }
    }

    /// Why a program with this section was refused, or the object as a whole (`""`).
    pub(super) fn explains(&self, section: &str, reason: &str) -> Option<Cause> {
        if let Some(missing) = self.missing.as_ref().filter(|_| is_denied(reason)) {
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
            "cgroup" => {
                let lacks = "it needs CAP_NET_ADMIN, which this process does not hold";
                ("programs of cgroups", (!self.net_admin).then_some(lacks))
            }
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
        is_forbidden(reason).then_some(Cause::Kernel(forbids))
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
            net_admin: true,
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
            (
                Machine { net_admin: false, ..machine() },
                "cgroup/connect4",
                eperm,
                "needs CAP_NET_ADMIN",
            ),
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
    fn a_probe_of_a_function_that_is_not_there_needs_no_privilege() {
        let eacces = "failed to create kprobe 'f+0x0' perf event: -EACCES";
        assert_eq!(missing_function("kprobe/no_such_function", eacces), Some("no_such_function"));
        assert_eq!(missing_function("kretprobe/vfs_read", eacces), None);
        assert_eq!(missing_function("kprobe/no_such_function", "-EINVAL"), None);
        assert_eq!(missing_function("tp/no/such", eacces), None);
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
