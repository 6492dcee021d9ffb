//! A Debian of its own: its systemd is the first process of a container, whose network is a loopback that nobody shares.

use plugin_testing::Moved;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use system_tests::{family, wait};
use tempfile::TempDir;

/// What the first process of a container does before it becomes systemd: `sh ROOT SERVERS`. It has namespaces of its
/// own, and all of root's capabilities, so that the unit's restrictions are the only ones. What belongs to the whole
/// machine it cannot change.
const BECOME_INIT: &str = r#"
mount --make-rprivate /
mount --bind "$1" "$1"
mkdir -p "$1/opt/servers"
mount --bind "$2" "$1/opt/servers"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
hostname fresh
pivot_root . mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin sh -ec 'umount -l /mnt; exec /usr/lib/systemd/systemd'
"#;

/// A fresh root; it goes with this value.
#[derive(Debug)]
pub struct Root(TempDir);

impl Root {
    /// Unpacks the archive of `cargo xtask test`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn fresh() -> Self {
        let archive = std::env::var_os("COLLECTOR_ROOT");
        let archive = archive.expect("COLLECTOR_ROOT: run this by `cargo xtask test`");
        let root = Self(tempfile::tempdir().expect("a folder"));
        let mut tar = Command::new("tar");
        let unpacked = tar.arg("-C").arg(root.0.path()).arg("-xpf").arg(archive).status();
        assert!(unpacked.expect("tar runs").success());
        root
    }

    #[must_use]
    pub fn path(&self, place: &str) -> PathBuf {
        self.0.path().join(place.trim_start_matches('/'))
    }

    /// All files and folders, but for those of the package managers, of logs and of what runs.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.current_dir(self.0.path()).args(["etc", "usr", "var", "opt", "srv"]);
        let text = String::from_utf8(find.output().expect("find runs").stdout).expect("names");
        let others =
            ["var/cache", "var/log", "var/lib/dpkg", "var/lib/apt", "var/lib/rpm", "var/tmp"];
        let kept = |line: &&str| !others.iter().any(|folder| line.starts_with(folder));
        let mut files: Vec<_> = text.lines().filter(kept).map(str::to_owned).collect();
        files.sort();
        files
    }
}

/// It runs; it ends with this value.
#[derive(Debug)]
pub struct Machine {
    pub root: Root,
    /// `unshare`, whose child is the first process.
    outer: Child,
    init: u32,
    cgroup: Moved,
}

impl Machine {
    /// Boots. Why not, where containers cannot be had.
    ///
    /// # Errors
    /// Containers cannot be had here.
    ///
    /// # Panics
    /// It does not come up.
    pub fn boot(root: Root, servers: &Path) -> Result<Self, String> {
        let cgroup = Moved::new().map_err(|why| format!("no cgroup for a container: {why}"))?;
        let log = root.path("console.log");
        let console = File::create(&log).expect("a file");
        let mut unshare = Command::new("sh");
        unshare.args(["-ec", "echo $$ >$0/cgroup.procs; exec \"$@\""]).arg(cgroup.sibling());
        unshare.args(["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        unshare.args(["--fork", "--kill-child", "sh", "-ec", BECOME_INIT, "sh"]);
        unshare.arg(root.0.path()).arg(servers);
        unshare.stdin(Stdio::null()).stdout(console.try_clone().expect("a file")).stderr(console);
        let mut outer = unshare.spawn().map_err(|why| format!("unshare: {why}"))?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let mut init = None;
        wait::until("the container's first process", || {
            if let Ok(Some(status)) = outer.try_wait() {
                panic!("the container ended with {status}: {}", said());
            }
            let children = family::children(outer.id());
            init = children.into_iter().find(|pid| family::comm(*pid) == "systemd");
            init.is_some()
        });
        let machine = Self { root, outer, init: init.expect("it was found"), cgroup };
        wait::until("the container to be up", || {
            let state = machine.run(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&&*state)
        });
        Ok(machine)
    }

    /// Runs a program in it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.init));
        nsenter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        nsenter.args(["--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
        nsenter.args(["DEBIAN_FRONTEND=noninteractive", "HOME=/root"]).args(words);
        nsenter.stdin(Stdio::null()).output().expect("nsenter runs")
    }

    /// What a script prints that has to succeed.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.run(&["sh", "-ec", script]);
        let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{script}: {status}\n{said}{wrong}\n{}", self.journal());
        said.trim_end().to_owned()
    }

    /// What the service said.
    #[must_use]
    pub fn journal(&self) -> String {
        let said = self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "collector"]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// A property of the service.
    #[must_use]
    pub fn property(&self, name: &str) -> String {
        self.sh(&format!("systemctl show --property={name} --value collector"))
    }

    /// What InfluxDB in the container answers.
    #[must_use]
    pub fn query(&self, query: &str) -> serde_json::Value {
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--target={}", self.init)).args(["--net", "curl", "--silent", "-XPOST"]);
        curl.args(["--noproxy", "*", "http://127.0.0.1:8086/query?db=telegraf&epoch=ns"]);
        let answer = curl.arg("--data-urlencode").arg(format!("q={query}")).output();
        serde_json::from_slice(&answer.expect("curl runs").stdout).unwrap_or_default()
    }

    /// The times of a table's lines there, in order.
    #[must_use]
    pub fn times(&self, table: &str) -> Vec<i64> {
        let answer = self.query(&format!("SELECT \"interval_ns\" FROM \"{table}\""));
        let rows = answer["results"][0]["series"][0]["values"].as_array().cloned();
        let mut times: Vec<i64> =
            rows.unwrap_or_default().iter().filter_map(|row| row[0].as_i64()).collect();
        times.sort_unstable();
        times
    }

    /// Starts InfluxDB in it, on the port that everybody expects, with the data that it had.
    pub fn start_influxd(&self) {
        let _ = self.sh("systemctl start influxd");
        wait::until("InfluxDB in the container", || {
            self.query("CREATE DATABASE telegraf")["results"].is_array()
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process all others of the container end.
        if let Some(init) = i32::try_from(self.init).ok().and_then(Pid::from_raw) {
            let _ = kill_process(init, Signal::KILL);
        }
        let _ = self.outer.wait();
        remove_cgroups(&self.cgroup.sibling());
    }
}

/// Those that the container made; what cannot be removed is empty, and in nobody's way.
fn remove_cgroups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}
