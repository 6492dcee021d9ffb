//! Whether this thread may load BPF programs: the collector asks before it starts plugins, and plugin-bpf
//! when the kernel has refused one.

use std::fs;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Inode of the machine's own user namespace (`PROC_USER_INIT_INO`).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// What this thread lacks to load BPF programs, and what to do; `None` when it lacks nothing, or when /proc does
/// not say.
#[must_use]
pub fn missing() -> Option<String> {
    let effective = effective()?;
    // Distributions take CAP_BPF back into older kernels, so the version does not tell.
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok()?.trim().parse().ok()?;
    let namespace = fs::read_link("/proc/self/ns/user");
    let initial = namespace.map_or(true, |link| link.as_os_str() == INITIAL_USER_NAMESPACE);
    missing_of(effective, last, initial)
}

/// Whether this thread may take CAP_SYS_ADMIN and has not: the collector starts a plugin without it first, and
/// once more with it where the kernel wants it for perf events.
#[must_use]
pub fn spares_sys_admin() -> bool {
    let has = |set| capabilities(set).is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1);
    has("CapPrm:") && !has("CapEff:")
}

/// Whether something failed for want of descriptors, as the errors of the kernel and of libbpf name it. Then neither
/// more privileges nor another way help, and the next try may find enough.
#[must_use]
pub fn is_short_of_files(reason: &str) -> bool {
    ["EMFILE", "ENFILE", "oo many open files"].iter().any(|word| reason.contains(word))
}

/// Whether this thread may configure the network, which programs of cgroups take (`is_net_admin_prog_type`); true
/// when /proc does not say.
#[must_use]
pub fn has_net_admin() -> bool {
    effective().is_none_or(|held| held >> CAP_NET_ADMIN & 1 == 1 || held >> CAP_SYS_ADMIN & 1 == 1)
}

fn effective() -> Option<u64> {
    capabilities("CapEff:")
}

/// One of this thread's sets.
fn capabilities(set: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix(set))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// `last` is the last capability that the kernel knows.
fn missing_of(effective: u64, last: u32, initial_namespace: bool) -> Option<String> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    if !initial_namespace {
        return Some(
            "runs in a user namespace, whose root may not load BPF programs: start it outside \
             (a container with `--userns=host`)"
                .to_owned(),
        );
    }
    if has(CAP_SYS_ADMIN) {
        return None; // it includes the two
    }
    if last < CAP_BPF {
        return Some(
            "needs root, or CAP_SYS_ADMIN, as this kernel does not know CAP_BPF (Linux 5.8); missing: \
             CAP_SYS_ADMIN"
                .to_owned(),
        );
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter_map(|(capability, name)| (!has(capability)).then_some(name))
        .collect();
    let missing = (!missing.is_empty()).then(|| missing.join(", "))?;
    Some(format!("needs root, or CAP_BPF and CAP_PERFMON; missing: {missing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let (bpf, perfmon, admin) = (1 << CAP_BPF, 1 << CAP_PERFMON, 1 << CAP_SYS_ADMIN);
        let both = "needs root, or CAP_BPF and CAP_PERFMON; missing: CAP_BPF, CAP_PERFMON";
        for (effective, last, initial, expected) in [
            (u64::MAX, 40, true, None),
            (bpf | perfmon, 40, true, None),
            (admin, 40, true, None),
            (admin, 37, true, None),
            (0, 40, true, Some(both)),
            (bpf, 40, true, Some("missing: CAP_PERFMON")),
            (perfmon, 40, true, Some("missing: CAP_BPF")),
            (bpf | perfmon, 37, true, Some("missing: CAP_SYS_ADMIN")),
            (u64::MAX, 40, false, Some("runs in a user namespace")),
        ] {
            let answer = missing_of(effective, last, initial);
            let matches = match (&answer, expected) {
                (None, None) => true,
                (Some(answer), Some(words)) => answer.contains(words),
                _ => false,
            };
            assert!(matches, "{effective:x}, {last}, {initial}: {answer:?}");
        }
    }
}
