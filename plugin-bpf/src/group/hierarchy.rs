//! The tree of cgroups, as folders of the cgroup2 file system.

use plugin_api::{Context as _, Result, anyhow, bail, ensure};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// A mounted cgroup2 file system, of version 2 or beside the trees of version 1.
///
/// A folder's inode number is the cgroup's id as BPF programs see it: both are the id of the kernfs node,
/// on 64-bit kernels since Linux 5.5 (40430452fd5d "kernfs: use 64bit inos if ino_t is 64bit" and
/// 743210386c03 "cgroup: use cgrp->kn->id as the cgroup ID"). It is never used again while the kernel
/// runs: its upper half counts the reuses of the lower one.
#[derive(Debug)]
pub(super) struct Hierarchy {
    root: PathBuf,
}

impl Hierarchy {
    /// Where this process sees it mounted.
    pub(super) fn find() -> Result<Self> {
        let file = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let points = mounted(&mounts);
        let whole = points.iter().find(|root| is_whole(root)).or(points.first());
        let root = whole.cloned().context(
            "no cgroup2 file system is mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup` mounts it",
        )?;
        Ok(Self { root })
    }

    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    #[cfg(test)]
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A cgroup's folder, whether or not it is there.
    pub(super) fn folder(&self, path: &str) -> PathBuf {
        let below = Path::new(path);
        let below = below.strip_prefix(&self.root).unwrap_or(below);
        self.root.join(below.strip_prefix("/").unwrap_or(below))
    }

    /// Shows each cgroup's id and its path, which begins with `/` at the mount. `false` when there are more
    /// than `limit`, and some were left out.
    pub(super) fn walk(&self, limit: usize, mut each: impl FnMut(u64, String)) -> bool {
        let Ok(root) = fs::metadata(&self.root) else { return true };
        each(root.ino(), "/".into());
        let mut seen = 1;
        let mut waiting = vec![(self.root.clone(), String::new())];
        while let Some((folder, path)) = waiting.pop() {
            // One that vanishes during the walk has no cgroups below it.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let Ok(cgroup) = entry.metadata() else { continue };
                if seen == limit {
                    return false;
                }
                seen += 1;
                let path = format!("{path}/{}", entry.file_name().to_string_lossy());
                if !is_leaf(&cgroup) {
                    waiting.push((entry.path(), path.clone()));
                }
                each(cgroup.ino(), path);
            }
        }
        true
    }

    /// The id of a cgroup and its level: 0 for the root, 1 for those in it.
    pub(super) fn resolve(&self, path: &str) -> Result<(u64, u32)> {
        let below = Path::new(path);
        let below = below.strip_prefix(&self.root).unwrap_or(below);
        let mut folder = self.root.clone();
        let mut level = 0;
        for part in below.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    folder.push(name);
                    level += 1;
                }
                _ => bail!("cgroup {path:?}: `..` is not understood: write the path from the root"),
            }
        }
        let root = self.root.display();
        let found = fs::metadata(&folder).map_err(|error| {
            anyhow!(
                "cgroup {path:?}: {}: {error}; `find {root} -type d` lists all",
                folder.display()
            )
        })?;
        ensure!(found.is_dir(), "cgroup {path:?}: {} is no folder", folder.display());
        ensure!(
            is_whole(&self.root),
            "cgroup {path:?}: {root} shows a part of the tree only, because the collector runs in a \
             cgroup namespace: run it in the host's (docker: --cgroupns=host), or mount the host's \
             /sys/fs/cgroup there"
        );
        Ok((found.ino(), level))
    }
}

/// Whether a folder has no folders in it. kernfs counts them as links; a file system that does not says 1.
fn is_leaf(folder: &Metadata) -> bool {
    folder.nlink() == 2
}

/// Whether a mount shows the whole tree: every cgroup but the very root has this file. In a cgroup namespace, mountinfo
/// shows the namespace's own part as `/`, and the host's tree, which a container may have mounted, as `/../..`.
fn is_whole(root: &Path) -> bool {
    !root.join("cgroup.events").exists()
}

/// The mount points of cgroup2 in the text of /proc/self/mountinfo, those that show all from `/` on first.
fn mounted(mounts: &str) -> Vec<PathBuf> {
    let mut mounts: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup2 ").then_some((root, point))
        })
        .collect();
    mounts.sort_by_key(|(root, _)| *root != "/");
    mounts.iter().map(|(_, point)| unescaped(point).into()).collect()
}

/// A path of mountinfo, where a space is `\040`.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, c)| path.replace(escape, c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_mount_is_found_in_every_layout() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                  31 30 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n";
        let expect = |mounts: &str, points: &[&str]| {
            assert_eq!(mounted(mounts), points.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        expect(v1, &[]);
        let hybrid = format!("{v1}32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        expect(&hybrid, &["/sys/fs/cgroup/unified"]);
        let part = "1 2 0:28 /docker/a /mnt rw - cgroup2 cgroup rw\n";
        expect(part, &["/mnt"]);
        let whole = "3 2 0:28 / /sys/fs\\040x/cgroup rw shared:4 master:1 - cgroup2 cgroup rw\n";
        expect(&format!("{part}{whole}"), &["/sys/fs x/cgroup", "/mnt"]);
        // A container's own, and the host's beside it.
        let own = "3 2 0:28 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let hosts = "4 2 0:28 /../.. /host/cgroup ro - cgroup2 cgroup rw\n";
        expect(&format!("{hosts}{own}"), &["/sys/fs/cgroup", "/host/cgroup"]);
    }

    #[test]
    fn a_walk_shows_every_folder_and_stops_at_its_limit() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("a/b/c")).expect("folders");
        fs::create_dir_all(root.path().join("d")).expect("a folder");
        fs::write(root.path().join("a/cgroup.procs"), "1\n").expect("a file");
        let tree = Hierarchy::at(root.path());
        let mut seen = HashMap::new();
        assert!(tree.walk(100, |id, path| assert!(seen.insert(path, id).is_none())));
        let mut paths: Vec<_> = seen.keys().map(String::as_str).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/d"]);
        let mut n = 0;
        assert!(!tree.walk(3, |_, _| n += 1));
        assert_eq!(n, 3);

        let absolute = root.path().join("a/b");
        for path in ["/a/b", "a/b", "a//b/", absolute.to_str().expect("UTF-8")] {
            assert_eq!(tree.resolve(path).expect("there"), (seen["/a/b"], 2), "{path}");
            assert_eq!(tree.folder(path), absolute, "{path}");
        }
        assert_eq!(tree.resolve("/").expect("there"), (seen["/"], 0));
        assert_eq!([tree.folder("/"), tree.folder("")], [root.path(), root.path()]);
    }

    #[test]
    fn a_wrong_path_says_what_to_do() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("file"), "").expect("a file");
        let tree = Hierarchy::at(root.path());
        let error = |path| format!("{:#}", tree.resolve(path).expect_err("refused"));
        assert!(error("/x.slice").contains("/x.slice: No such file"), "{}", error("/x.slice"));
        assert!(error("/x.slice").contains("-type d` lists all"));
        assert!(error("/file").contains("no folder"));
        assert!(error("../x").contains("from the root"));
        fs::write(root.path().join("cgroup.events"), "").expect("a file");
        assert!(error("/").contains("--cgroupns=host"));
    }
}
