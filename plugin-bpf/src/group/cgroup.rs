//! Ids of cgroups to paths and containers.

use super::container::container_id;
use super::hierarchy::Hierarchy;
use plugin_api::{Result, log};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many cgroups one walk looks at: some ten times what a busy host has.
const LIMIT: usize = 20_000;
/// How long a cgroup that has ended is still known, for the events that it had before.
const KEPT: Duration = Duration::from_secs(60);
/// A walk at the latest after this time, so that a cgroup is known before its first event and its end.
const WALK_EVERY: Duration = Duration::from_secs(10);

/// The paths of cgroups by the id that BPF programs see (`task_cgroup_id()` of `filter.bpf.h`,
/// `bpf_get_current_cgroup_id()`).
///
/// A tool calls [`Cgroups::refresh`] at every tick and then asks. The tree is walked when an id is unknown,
/// at most once a tick, and at a tick when the last walk was 10 s ago. A cgroup that began and ended between two
/// walks has no path.
///
/// ```no_run
/// # fn call(cgroups: &mut plugin_bpf::group::Cgroups, rows: Vec<(u64, u64)>) {
/// cgroups.refresh();
/// let named: Vec<_> = rows.into_iter().map(|(id, count)| (cgroups.text(id), count)).collect();
/// # }
/// ```
#[derive(Debug)]
pub struct Cgroups {
    tree: Hierarchy,
    known: HashMap<u64, Cgroup>,
    now: Instant,
    walked: Option<Instant>,
    /// Whether an unknown id may still cause a walk at this tick.
    may_walk: bool,
    limit: usize,
}

#[derive(Debug)]
struct Cgroup {
    path: String,
    /// The walk that missed it first.
    gone: Option<Instant>,
}

impl Cgroups {
    /// Finds the cgroup2 file system: the only one, or the one beside the trees of version 1.
    ///
    /// # Errors
    /// None is mounted.
    pub fn find() -> Result<Self> {
        Ok(Self::of(Hierarchy::find()?))
    }

    /// Reads the tree of a known mount point, as of the host's `/sys/fs/cgroup` that is seen elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self::of(Hierarchy::at(root))
    }

    fn of(tree: Hierarchy) -> Self {
        let (now, known) = (Instant::now(), HashMap::new());
        Self { tree, known, now, walked: None, may_walk: true, limit: LIMIT }
    }

    /// Begins a tick.
    pub fn refresh(&mut self) {
        self.refresh_at(Instant::now());
    }

    fn refresh_at(&mut self, now: Instant) {
        self.now = now;
        self.may_walk = true;
        if self.walked.is_none_or(|at| now.duration_since(at) >= WALK_EVERY) {
            self.walk();
        }
    }

    /// A cgroup's path from the root of the mount, as `/system.slice/cron.service`; the root is `/`.
    /// `None` when it is unknown.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        if !self.known.contains_key(&id) && self.may_walk {
            self.walk();
        }
        self.known.get(&id).map(|cgroup| &*cgroup.path)
    }

    /// What a row is named by: the path, or `id:1234` when it is unknown.
    pub fn text(&mut self, id: u64) -> String {
        self.path(id).map_or_else(|| format!("id:{id}"), str::to_owned)
    }

    /// The id of the container that a cgroup belongs to: 32 to 64 hexadecimal digits. `None` when it
    /// belongs to none or is unknown.
    pub fn container(&mut self, id: u64) -> Option<&str> {
        container_id(self.path(id)?)
    }

    /// The id of a cgroup and its level, 0 for the root. The path may begin at the root of the tree or with
    /// the mount point.
    ///
    /// # Errors
    /// There is no such cgroup, or only a part of the tree can be seen. The text names the path and says
    /// what to do.
    pub fn resolve(&self, path: &str) -> Result<(u64, u32)> {
        self.tree.resolve(path)
    }

    /// The folder of a cgroup, for [`Target::Cgroup`](crate::Target::Cgroup); the path as for
    /// [`Cgroups::resolve`], empty for the root.
    #[must_use]
    pub fn folder(&self, path: &str) -> PathBuf {
        self.tree.folder(path)
    }

    fn walk(&mut self) {
        let Self { tree, known, now, limit, .. } = self;
        for cgroup in known.values_mut() {
            cgroup.gone.get_or_insert(*now);
        }
        let complete = tree.walk(*limit, |id, path| {
            known.insert(id, Cgroup { path, gone: None });
        });
        if !complete && self.walked.is_none() {
            log::warn!("more than {limit} cgroups: some are shown by their id");
        }
        known.retain(|_, cgroup| cgroup.gone.is_none_or(|at| now.duration_since(at) < KEPT));
        // Of those that are gone the older ones have to leave when there are too many.
        let mut gone: Vec<_> =
            known.iter().filter_map(|(id, cgroup)| Some((Reverse(cgroup.gone?), *id))).collect();
        gone.sort_unstable();
        gone.iter().skip(*limit).for_each(|(_, id)| drop(known.remove(id)));
        self.walked = Some(self.now);
        self.may_walk = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    /// Makes a folder and gives its inode number.
    fn make(path: &Path) -> u64 {
        fs::create_dir_all(path).expect("a folder");
        fs::metadata(path).expect("it is there").ino()
    }

    #[test]
    fn an_unknown_id_walks_the_tree_once_a_tick() {
        let root = tempfile::tempdir().expect("a folder");
        let mut cgroups = Cgroups::at(root.path());
        let id = make(&root.path().join("a.slice/b.service"));
        cgroups.refresh();
        assert_eq!(cgroups.text(id), "/a.slice/b.service");
        assert_eq!(cgroups.text(make(root.path())), "/");

        let container = "0123456789abcdef".repeat(4);
        let name = format!("docker-{container}.scope");
        // The walk of this tick was by refresh: the new one is unknown until the next.
        let new = make(&root.path().join("a.slice").join(&name));
        assert_eq!(cgroups.path(new), None);
        assert_eq!(cgroups.text(new), format!("id:{new}"));
        cgroups.refresh();
        assert_eq!(cgroups.text(new), format!("/a.slice/{name}"));
        assert_eq!(cgroups.container(new), Some(&*container));
        assert_eq!(cgroups.container(id), None);
    }

    #[test]
    fn a_cgroup_that_ended_is_known_for_a_minute() {
        let root = tempfile::tempdir().expect("a folder");
        let mut cgroups = Cgroups::at(root.path());
        let folder = root.path().join("gone.scope");
        let id = make(&folder);
        let begin = Instant::now();
        cgroups.refresh_at(begin);
        fs::remove_dir(&folder).expect("removed");
        for (seconds, known) in [(10, true), (20, true), (69, true), (80, false)] {
            cgroups.refresh_at(begin + Duration::from_secs(seconds));
            assert_eq!(cgroups.known.contains_key(&id), known, "after {seconds} s");
        }
        assert_eq!(cgroups.text(id), format!("id:{id}"));
    }

    #[test]
    fn the_number_of_known_cgroups_is_bounded() {
        let root = tempfile::tempdir().expect("a folder");
        let mut cgroups = Cgroups { limit: 10, ..Cgroups::at(root.path()) };
        let begin = Instant::now();
        for tick in 0..5 {
            let names: Vec<_> = (0..8).map(|i| root.path().join(format!("{tick}-{i}"))).collect();
            for name in &names {
                make(name);
            }
            cgroups.refresh_at(begin + Duration::from_secs(10 * tick));
            names.iter().for_each(|name| fs::remove_dir(name).expect("removed"));
        }
        assert!(cgroups.known.len() <= 20, "{}", cgroups.known.len());
    }

    #[test]
    fn a_real_cgroup_is_found_by_its_id() {
        let Ok(mut cgroups) = Cgroups::find() else {
            println!("SKIPPED: no cgroup2 file system is mounted");
            return;
        };
        let root = cgroups.tree.resolve("/").map(|(id, _)| id);
        let folder = cgroups.tree.root().join(format!("unity-{}.scope", std::process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            println!("SKIPPED: {}: {error}", folder.display());
            return;
        }
        let path = format!("/{}", folder.file_name().expect("a name").to_string_lossy());
        let resolved = cgroups.resolve(&path);
        let ino = fs::metadata(&folder).map(|folder| folder.ino());
        let text = ino.as_ref().map(|id| cgroups.text(*id)).ok();
        fs::remove_dir(&folder).expect("removed");
        assert_eq!(text.as_deref(), Some(&*path));
        // The root has an id of its own only where the whole tree is seen.
        if root.is_ok() {
            assert_eq!(resolved.expect("there"), (ino.expect("there"), 1));
        }
    }
}
