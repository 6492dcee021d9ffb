//! The image that etc/container/Containerfile makes of the package, run by podman with what the DaemonSet gives its
//! container: lines arrive, cgroups have the names of the node, and the memory request is what `check` computes.

use plugin_testing::Moved;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use system_tests::wait;
use tempfile::TempDir;

const IMAGE: &str = "localhost/collector:test";
const BASE: &str = "localhost/debian:test";
/// Tools that need no more than CAP_BPF and CAP_PERFMON, and no perf events.
const TOOLS: [&str; 3] = ["bootstrap", "runqlat", "softirqs"];

fn etc(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(path)
}

fn environment(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name}: run this by `cargo xtask test`"))
        .into()
}

/// What the manifest says of the one container, by its lines: the file is ours, and `system_charts` holds it against the
/// schemas.
struct Manifest {
    capabilities: Vec<String>,
    mounts: Vec<Mount>,
    /// MiB
    request: u64,
    limit: u64,
    text: String,
}

/// A place in the container.
struct Mount {
    place: String,
    /// Of the node, where it is one of its files.
    path: Option<String>,
    read_only: bool,
}

impl Manifest {
    fn read() -> Self {
        let text = fs::read_to_string(etc("kubernetes/collector.yaml")).expect("the manifest");
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let lines: Vec<&str> = lines.collect();
        let at = |key: &str| {
            let found = lines.iter().position(|line| *line == key);
            found.unwrap_or_else(|| panic!("no `{key}` in the manifest"))
        };
        // The items of a list, each with its own lines.
        let items = |key: &str, name: &str| {
            let mut items: Vec<Vec<String>> = Vec::new();
            for line in &lines[at(key) + 1..] {
                if let Some(first) = line.strip_prefix("- ").filter(|line| line.starts_with(name)) {
                    items.push(vec![first.to_owned()]);
                } else if line.ends_with(':')
                    && !line.starts_with("hostPath")
                    && !line.starts_with("configMap")
                {
                    break;
                } else if let Some(item) = items.last_mut() {
                    item.push((*line).to_owned());
                }
            }
            items
        };
        let value = |item: &[String], key: &str| {
            item.iter().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
        };
        let volumes = items("volumes:", "name: ");
        let mounts = items("volumeMounts:", "name: ").into_iter().map(|mount| {
            let name = &mount[0];
            let volume = volumes.iter().find(|volume| volume[0] == *name);
            Mount {
                place: value(&mount, "mountPath:").expect("a place"),
                path: volume.and_then(|volume| value(volume, "path:")),
                read_only: value(&mount, "readOnly:").is_some_and(|it| it == "true"),
            }
        });
        let mounts: Vec<Mount> = mounts.collect();
        assert_eq!(mounts.len(), text.matches("mountPath: ").count());
        let memory = |key: &str| {
            let mut after = lines[at(key)..].iter();
            let value = after.find_map(|line| line.strip_prefix("memory: ")?.strip_suffix("Mi"));
            value.and_then(|mib| mib.parse().ok()).expect("MiB")
        };
        let capabilities = lines[at("add:") + 1..].iter().map_while(|line| line.strip_prefix("- "));
        let capabilities = capabilities.map(str::to_owned).collect();
        let (request, limit) = (memory("requests:"), memory("limits:"));
        Self { capabilities, mounts, request, limit, text }
    }

    /// Whether a key has this value somewhere.
    fn says(&self, line: &str) -> bool {
        self.text.lines().any(|it| it.trim() == line)
    }
}

/// Podman with a store of its own, which goes with it.
struct Podman {
    folder: TempDir,
}

impl Podman {
    /// Why not, where it does not run.
    fn new() -> Result<Self, String> {
        let podman = Self { folder: tempfile::tempdir().expect("a folder") };
        let version =
            podman.command(&["version"]).output().map_err(|why| format!("podman: {why}"))?;
        if version.status.success() {
            return Ok(podman);
        }
        Err(String::from_utf8_lossy(&version.stderr).into_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let place = |name: &str| self.folder.path().join(name);
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(place("store")).arg("--runroot").arg(place("run"));
        podman.arg("--tmpdir").arg(place("tmp"));
        // crun does not run where cgroups of both versions are mounted.
        podman.args(["--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
        podman.args(words);
        podman.stdin(Stdio::null());
        podman
    }

    fn run(&self, words: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(words).output().expect("podman runs");
        let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "podman {words:?}: {status}\n{said}{wrong}");
        said.trim_end().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its containers and what is mounted for them.
        let _ = self.command(&["rm", "--all", "--force", "--time=1"]).output();
        let _ = self.command(&["unmount", "--all", "--force"]).output();
        let _ = self.command(&["system", "reset", "--force"]).output();
        // Folders that podman leaves, one in each tree of cgroups; those that others use are not empty.
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(tree.path().join("libpod_parent"));
        }
        let _ = fs::remove_dir("/sys/fs/cgroup/libpod_parent");
    }
}

/// A process in a cgroup, that sleeps and wakes.
struct Sleeper(Child);

impl Sleeper {
    fn start(cgroup: &Path) -> Self {
        let script = "echo $$ >$0/cgroup.procs; while :; do sleep 0.02; done";
        let mut shell = Command::new("sh");
        Self(shell.arg("-c").arg(script).arg(cgroup).spawn().expect("sh starts"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The image is made without a network: of a Debian root in place of the one that is pulled.
fn build(podman: &Podman) {
    let root = environment("COLLECTOR_ROOT");
    podman.run(&["import", "--quiet", root.to_str().expect("a name"), BASE]);
    let (file, context) = (etc("container/Containerfile"), environment("COLLECTOR_PACKAGES"));
    let base = format!("--build-arg=DEBIAN={BASE}");
    podman.run(&[
        "build",
        "--quiet",
        "--network=none",
        "--pull=never",
        "--layers=false",
        &base,
        "--build-arg=CERTIFICATES=",
        "--file",
        file.to_str().expect("a name"),
        "--tag",
        IMAGE,
        context.to_str().expect("a name"),
    ]);
}

/// The runtime's profile for system calls. Debian 12's lets bpf and perf_event_open pass for CAP_SYS_ADMIN only; later ones
/// do for CAP_BPF and CAP_PERFMON, as is done here.
fn seccomp() -> String {
    let text = fs::read_to_string("/usr/share/containers/seccomp.json").expect("podman's profile");
    let mut profile: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let calls = profile["syscalls"].as_array_mut().expect("a list");
    let is_ours = |call: &serde_json::Value| {
        let names = call["names"].as_array().into_iter().flatten();
        names.into_iter().any(|name| name == "bpf" || name == "perf_event_open")
    };
    calls.retain(|call| !is_ours(call) || call["action"] == "SCMP_ACT_ALLOW");
    for (name, capability) in [("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")] {
        calls.push(serde_json::json!({
            "names": [name],
            "action": "SCMP_ACT_ALLOW",
            "includes": { "caps": [capability] },
        }));
    }
    profile.to_string()
}

/// Memory of a process's cgroup in MiB, of either version.
fn memory(process: &str) -> Option<u64> {
    let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let file = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controller, path) = (parts.next()?, parts.next()?);
        let path = match controller {
            "memory" => format!("/sys/fs/cgroup/memory{path}/memory.usage_in_bytes"),
            "" => format!("/sys/fs/cgroup{path}/memory.current"),
            _ => return None,
        };
        fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    };
    Some(cgroups.lines().find_map(file)? >> 20)
}

/// The words by which podman gives a container what the manifest does; the configuration and the folder of the node are
/// the test's.
fn given(manifest: &Manifest, profile: &Path, config: &Path, state: &Path) -> Vec<String> {
    let mut words = vec!["--network=none".to_owned(), "--cap-drop=ALL".to_owned()];
    words.extend(manifest.capabilities.iter().map(|capability| format!("--cap-add={capability}")));
    for (says, word) in [
        ("hostPID: true", "--pid=host"),
        ("readOnlyRootFilesystem: true", "--read-only"),
        ("allowPrivilegeEscalation: false", "--security-opt=no-new-privileges"),
        ("runAsUser: 0", "--user=0:0"),
    ] {
        assert!(manifest.says(says), "{says} is not in the manifest");
        words.push(word.to_owned());
    }
    words.extend(
        [
            // What else `--read-only` makes writable a pod has not.
            "--read-only-tmpfs=false",
            "--cgroupns=private",
            // Podman wants more than this machine may give.
            "--ulimit=nofile=4096:4096",
            "--ulimit=nproc=4096:4096",
        ]
        .map(str::to_owned),
    );
    words.push(format!("--memory={}m", manifest.limit));
    words.push(format!("--security-opt=seccomp={}", profile.display()));
    for Mount { place, path, read_only } in &manifest.mounts {
        let source = match (place.as_str(), path) {
            ("/etc/collector/collector.toml", _) => config.display().to_string(),
            ("/var/lib/collector", _) => state.display().to_string(),
            (_, Some(path)) => path.clone(),
            // An empty folder of the pod's.
            (_, None) => format!("{}/copies", state.display()),
        };
        let mode = if *read_only { ":ro" } else { "" };
        words.push(format!("--volume={source}:{place}{mode}"));
    }
    words
}

fn count(lines: &str, table: &str) -> usize {
    lines.lines().filter(|line| line.starts_with(&format!("{table},"))).count()
}

#[test]
fn a_container_with_the_daemon_sets_privileges_counts_the_node() {
    let podman = match Podman::new() {
        Ok(podman) => podman,
        Err(why) => return println!("SKIPPED: podman does not run here: {why}"),
    };
    let cgroup = match Moved::new() {
        Ok(cgroup) => cgroup,
        Err(why) => return println!("SKIPPED: no cgroup of a test's own: {why}"),
    };
    let manifest = Manifest::read();
    build(&podman);
    let size = podman.run(&["image", "inspect", "--format={{.Size}}", IMAGE]);
    let size: f64 = size.parse().expect("bytes");

    let home = tempfile::tempdir().expect("a folder");
    let (config, state) = (home.path().join("collector.toml"), home.path().join("state"));
    fs::create_dir_all(state.join("copies")).expect("a folder");
    let toml = "interval = \"200ms\"\nself = \"full\"\n[plugin.runqlat]\nby = \"cgroup\"\n\
                [[output]]\nkind = \"file\"\npath = \"/var/lib/collector/lines\"\n";
    fs::write(&config, toml).expect("a file");
    let profile = home.path().join("seccomp.json");
    fs::write(&profile, seccomp()).expect("a file");
    let given = given(&manifest, &profile, &config, &state);
    let run = |first: &[&str], last: &[&str]| {
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        podman.run(
            &[&["run"], first, &given, &[IMAGE, "--config=/etc/collector/collector.toml"], last]
                .concat(),
        )
    };
    let only = format!("--only={}", TOOLS.join(","));
    run(&["--detach", "--name=c"], &["--tag=host=node-1", &only]);

    let sleeper = Sleeper::start(&cgroup.sibling());
    // From the root of the node's tree.
    let own = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.0.id())).expect("its cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned();
    let lines = state.join("lines");
    let named = format!("cgroup={own},host=node-1 ");
    let said = || {
        let logs = podman.command(&["logs", "c"]).output().expect("podman runs");
        String::from_utf8_lossy(&logs.stderr).into_owned()
    };
    let has_all =
        |text: &str| text.contains(&named) && TOOLS.iter().all(|tool| count(text, tool) >= 2);
    wait::until("lines of the container with the node's cgroup", || {
        let running = podman.run(&["inspect", "--format={{.State.Running}}", "c"]);
        assert_eq!(running, "true", "{}", said());
        has_all(&fs::read_to_string(&lines).unwrap_or_default())
    });
    let current = memory(&podman.run(&["inspect", "--format={{.State.Pid}}", "c"]));
    podman.run(&["stop", "--time=10", "c"]);
    assert_eq!(podman.run(&["inspect", "--format={{.State.ExitCode}}", "c"]), "0", "{}", said());
    drop(sleeper);

    let check = podman
        .command(
            &[
                &["run", "--rm"][..],
                &given.iter().map(String::as_str).collect::<Vec<_>>(),
                &[IMAGE, "check", "--wide"],
            ]
            .concat(),
        )
        .output()
        .expect("podman runs");
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    println!("{check}");
    let memory = check.lines().find(|line| line.starts_with("memory ")).expect("a row");
    let request = memory.split("request: ").nth(1).and_then(|rest| rest.trim().strip_suffix("Mi"));
    let request: u64 = request.unwrap_or_else(|| panic!("{memory}")).parse().expect("MiB");
    println!(
        "TABLE: image {:.1} MB; check computes {request} MiB, the DaemonSet asks for {} MiB; with {} tools its cgroup \
         takes {} MiB",
        size / 1e6,
        manifest.request,
        TOOLS.len(),
        current.map_or("?".to_owned(), |mib| mib.to_string()),
    );
    assert!(request <= manifest.request, "{memory}");
    assert!(current.is_none_or(|mib| mib <= manifest.request), "{current:?} MiB");
}
