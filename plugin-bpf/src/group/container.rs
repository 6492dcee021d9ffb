//! The container that a cgroup belongs to, from the names that container managers give.

/// What managers that use systemd put before the id: `docker-ID.scope`.
const PREFIXES: [&str; 5] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"];
/// Folders below which a bare id of any length is a container's.
const PARENTS: [&str; 3] = ["docker", "kubepods", "libpod_parent"];
/// Characters of an id that is given without its manager's name.
const FULL: usize = 64;

/// The container id in a cgroup's path: 32 to 64 characters of `0-9a-f`. Of nested containers, the inner one.
///
/// | manager | path |
/// |---|---|
/// | docker, podman, nerdctl with systemd | `/system.slice/docker-ID.scope` (`libpod-`, `nerdctl-`) |
/// | docker without systemd | `/docker/ID` |
/// | Kubernetes with systemd | `/kubepods.slice/../cri-containerd-ID.scope` (`crio-`, `docker-`) |
/// | Kubernetes without systemd | `/kubepods/burstable/podUID/ID` |
pub(super) fn container_id(path: &str) -> Option<&str> {
    let mut below_parent = false;
    let mut found = None;
    for name in path.split('/') {
        // containerd without systemd, set up for systemd: `kubepods-podUID.slice:cri-containerd:ID`.
        let last = name.rsplit(':').next().unwrap_or(name);
        let last = last.strip_suffix(".scope").unwrap_or(last);
        let of_manager = PREFIXES.iter().find_map(|prefix| last.strip_prefix(prefix));
        let bare = Some(last).filter(|id| below_parent || id.len() == FULL);
        if let Some(id) = of_manager.or(bare).filter(|id| is_id(id)) {
            found = Some(id);
        }
        below_parent |= PARENTS.contains(&name) || name.starts_with("kubepods");
    }
    found
}

fn is_id(text: &str) -> bool {
    (32..=FULL).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::container_id;

    #[test]
    fn each_manager_s_paths_have_their_container() {
        let long = "0123456789abcdef".repeat(4);
        let short = "0123456789abcdef".repeat(2);
        let pod = "8f1b4b1e_aaaa_4c1d_9c55_0123456789ab";
        for (path, id) in [
            (format!("/system.slice/docker-{long}.scope"), Some(&long)),
            (format!("/system.slice/docker-{long}.scope/init.scope"), Some(&long)),
            (format!("/docker/{long}"), Some(&long)),
            (format!("/docker/{short}/system.slice"), Some(&short)),
            (format!("/machine.slice/libpod-{long}.scope/container"), Some(&long)),
            (format!("/libpod_parent/libpod-{long}"), Some(&long)),
            (format!("/machine.slice/libpod-conmon-{long}.scope"), None),
            (
                format!("/kubepods.slice/kubepods-pod{pod}.slice/cri-containerd-{long}.scope"),
                Some(&long),
            ),
            (format!("/kubepods.slice/kubepods-pod{pod}.slice/crio-{long}.scope"), Some(&long)),
            (format!("/kubepods.slice/crio-conmon-{long}.scope"), None),
            (format!("/kubepods/burstable/pod{pod}/{short}"), Some(&short)),
            (format!("/kubepods/kubepods-pod{pod}.slice:cri-containerd:{long}"), Some(&long)),
            (format!("/docker/{short}/kubelet/kubepods/pod{pod}/{long}"), Some(&long)),
            (format!("/garden/{long}"), Some(&long)),
            (format!("/machine.slice/{short}"), None),
            (format!("/docker/{}", long.to_uppercase()), None),
            (format!("/docker/{long}0"), None),
            ("/system.slice/docker.service".into(), None),
            ("/".into(), None),
        ] {
            assert_eq!(container_id(&path), id.map(String::as_str), "{path}");
        }
    }
}
