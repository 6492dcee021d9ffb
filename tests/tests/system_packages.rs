//! The packages in a fresh Debian: its own systemd starts the service, lines arrive in the real database, an upgrade
//! loses none of them, and what is removed and purged is gone.

#[path = "system_packages/machine.rs"]
mod machine;

use machine::{Machine, Root};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use system_tests::wait;

/// From the installation to the first line in the database.
const FIRST_LINE: Duration = Duration::from_secs(30);
/// The worst that `systemd-analyze security` may say.
const MOST: f64 = 2.5;
const INFLUXD: &str = "[Service]\nEnvironment=HOME=/root\nExecStart=/opt/servers/influxd\n";
/// What a person writes: ticks of a second, the same output.
const EDITED: &str = r#"interval = "1s"
# My own words.
[[output]]
kind = "influxdb1"
url = "http://127.0.0.1:8086"
database = "telegraf"
spool = "/var/lib/collector/spool"
"#;
/// The watchdog bites sooner, and nobody waits after it.
const HASTE: &str = "[Service]\nWatchdogSec=5s\nRestartSec=100ms\n";

/// The package of a kind.
fn package(extension: &str) -> PathBuf {
    let folder = std::env::var_os("COLLECTOR_PACKAGES");
    let folder = folder.expect("COLLECTOR_PACKAGES: run this by `cargo xtask test`");
    let entries = fs::read_dir(&folder).expect("packages").map(|entry| entry.expect("one").path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|e| e == extension));
    found.next().unwrap_or_else(|| panic!("no .{extension} in {}", folder.display()))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{wrong}");
    said
}

/// The package of a version before this one, with another configuration.
fn package_before(folder: &Path) -> PathBuf {
    let (tree, deb) = (folder.join("before"), folder.join("before.deb"));
    output(Command::new("dpkg-deb").arg("-R").arg(package("deb")).arg(&tree));
    let edit = |place: &str, from: &str, to: &str| {
        let path = tree.join(place);
        let text = fs::read_to_string(&path).expect("a file of the package");
        assert!(text.contains(from), "{place}: {text}");
        fs::write(&path, text.replacen(from, to, 1)).expect("the file is ours");
    };
    edit("DEBIAN/control", "\nVersion: ", "\nVersion: 0.0~");
    edit("etc/collector/collector.toml", "# Between ticks.", "# Between ticks, before.");
    output(
        Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).args([&tree, &deb]),
    );
    deb
}

fn apt(machine: &Machine, words: &str) {
    let keep = "-o Dpkg::Options::=--force-confold";
    let said = machine.sh(&format!("apt-get -q --yes {keep} {words} 2>&1"));
    // The user's file in a folder of the package's is no mistake of the package.
    let wrong =
        |line: &str| line.contains("warning:") && !line.contains("not empty so not removed");
    assert!(!said.lines().any(wrong), "{said}");
}

fn is_active(machine: &Machine) {
    let state = machine.property("ActiveState");
    assert_eq!(state, "active", "{}", machine.journal());
}

/// Numbers before words in the last line of the books that are closed at an end.
fn number(books: &str, word: &str) -> u64 {
    let before = books.split(word).next().expect("a part").trim_end();
    let digits = before.rsplit(' ').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no number before `{word}`: {books}"))
}

/// The last books of each run of the service, by what they said.
fn books(machine: &Machine) -> Vec<String> {
    let said = machine.journal();
    let is_books = |line: &&str| line.contains(" lines produced") && line.contains(" waiting");
    said.lines().filter(is_books).map(str::to_owned).collect()
}

#[test]
fn the_debian_package_is_installed_upgraded_removed_and_purged() {
    let root = Root::fresh();
    let servers = std::env::var_os("COLLECTOR_SERVERS").expect("COLLECTOR_SERVERS");
    let folder = root.path("root");
    fs::copy(package("deb"), folder.join("new.deb")).expect("a copy");
    let work = tempfile::tempdir().expect("a folder");
    fs::copy(package_before(work.path()), folder.join("old.deb")).expect("a copy");
    fs::write(root.path("etc/systemd/system/influxd.service"), INFLUXD).expect("a unit");
    let machine = match Machine::boot(root, Path::new(&servers)) {
        Ok(machine) => machine,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    machine.start_influxd();
    let before = machine.root.files();

    let began = Instant::now();
    apt(&machine, "install /root/old.deb");
    is_active(&machine); // its first tick is out
    wait::until("lines", || !machine.times("bootstrap").is_empty());
    let took = began.elapsed();
    assert!(took < FIRST_LINE, "{took:?}");
    it_is_well_closed(&machine, took);
    it_reloads(&machine);
    it_is_upgraded(&machine);
    the_watchdog_bites_who_stands_still(&machine);

    fs::write(machine.root.path("etc/collector/token"), "mine").expect("a file of the user's");
    apt(&machine, "remove collector");
    let _ = machine.sh("! grep -qx collector /proc/[0-9]*/comm");
    let kept = fs::read_to_string(machine.root.path("etc/collector/collector.toml"));
    assert_eq!(kept.expect("the configuration stays"), EDITED);
    assert!(!machine.root.path("usr/bin/collector").exists());
    apt(&machine, "purge collector");
    let mut left = machine.root.files();
    left.retain(|file| !before.contains(file) && !is_anothers(file));
    assert_eq!(left, ["etc/collector", "etc/collector/token"]);
    assert_eq!(machine.run(&["getent", "passwd", "collector"]).status.code(), Some(2));
}

/// What the system and the user of this test make beside the package.
fn is_anothers(file: &str) -> bool {
    file.starts_with("etc/systemd/system/collector.service.d")
        || (file.starts_with("var/lib/systemd") && !file.contains("collector"))
        || ["etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-"].contains(&file)
        || file == "etc/.pwd.lock"
        || file.starts_with("var/lib/influxdb")
}

/// By the real systemd, with the process that runs.
fn it_is_well_closed(machine: &Machine, took: Duration) {
    let rated = machine.sh("systemd-analyze security --no-pager collector.service | tail -n 1");
    let score = rated.split(": ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(score.is_some_and(|score: f64| score <= MOST), "{rated}");
    println!("TABLE: {}", rated.trim_start_matches("→ "));
    println!("TABLE: the first line is in InfluxDB {:.1} s after apt began", took.as_secs_f64());
    let pid = machine.property("MainPID");
    let status = machine.sh(&format!("cat /proc/{pid}/status"));
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let user = machine.sh("id -u collector");
    assert_eq!((value("Uid:"), value("NoNewPrivs:")), (user, "1".to_owned()));
    let bounding = u64::from_str_radix(&value("CapBnd:"), 16).expect("hexadecimal");
    let (perfmon, bpf) = (1 << 38, 1 << 39);
    assert_eq!(bounding & !(perfmon | bpf), 0, "{status}");
    let status = machine.property("StatusText");
    assert!(status.contains(" plugins run"), "{status}");
    println!("TABLE: status: {status}");
}

/// With the configuration that a person writes.
fn it_reloads(machine: &Machine) {
    fs::write(machine.root.path("etc/collector/collector.toml"), EDITED).expect("root's file");
    let _ = machine.sh("collector --check-config --config /etc/collector/collector.toml");
    let _ = machine.sh("systemctl reload collector");
    wait::until("ticks of a second", || {
        let times = machine.times("bootstrap");
        times.windows(2).any(|pair| pair[1] - pair[0] == 1_000_000_000)
    });
    is_active(machine);
}

/// While the database is down: lines of the old collector wait for the new one.
fn it_is_upgraded(machine: &Machine) {
    let old = machine.property("MainPID");
    let _ = machine.sh("systemctl stop influxd");
    wait::until("trouble", || machine.property("StatusText").contains("does not deliver"));
    apt(machine, "install /root/new.deb");
    assert_ne!(machine.property("MainPID"), old);
    is_active(machine);
    let kept = fs::read_to_string(machine.root.path("etc/collector/collector.toml"));
    assert_eq!(kept.expect("the configuration"), EDITED);
    let upgraded = books(machine).pop().expect("the old one closed its books");
    let waiting = number(&upgraded, " waiting");
    assert!(waiting > 0 && !upgraded.contains("dropped"), "{upgraded}");

    machine.start_influxd();
    wait::until("delivery", || !machine.property("StatusText").contains("does not deliver"));
    let _ = machine.sh("systemctl restart collector");
    let ended = books(machine).pop().expect("the new one closed its books");
    assert_eq!(number(&ended, " recovered from the spool"), waiting, "{ended}");
    assert_eq!(number(&ended, " waiting"), 0, "{ended}");
    assert!(!ended.contains("dropped"), "{ended}");
    // Since there are ticks of a second none is missing, but where one collector followed another.
    let times = machine.times("bootstrap");
    let apart = |pair: &[i64]| (pair[1] - pair[0]) as f64 / 1e9;
    let gaps = times.windows(2).map(apart).skip_while(|gap| *gap != 1.0);
    let gaps: Vec<f64> = gaps.filter(|gap| *gap > 1.5).collect();
    println!("TABLE: seconds between ticks at an upgrade and a restart: {gaps:.1?}");
    assert!(gaps.len() <= 2 && gaps.iter().all(|gap| *gap < 12.0), "{gaps:?} in {times:?}");
}

/// And nobody else.
fn the_watchdog_bites_who_stands_still(machine: &Machine) {
    let dropin = machine.root.path("etc/systemd/system/collector.service.d");
    fs::create_dir_all(&dropin).expect("a folder");
    fs::write(dropin.join("haste.conf"), HASTE).expect("a drop-in");
    let _ = machine.sh("systemctl daemon-reload; systemctl restart collector");
    let began = machine.property("MainPID");
    let _ = machine.sh("sleep 7");
    assert_eq!(machine.property("MainPID"), began, "{}", machine.journal());
    let _ = machine.sh(&format!("kill -STOP {began}"));
    wait::until("another one", || {
        let pid = machine.property("MainPID");
        pid != began && pid != "0" && machine.property("ActiveState") == "active"
    });
    assert_eq!(machine.property("NRestarts"), "1");
}

/// Without systemd running: files, scripts and the user, and that nothing of the package is left.
#[test]
fn the_rpm_package_is_installed_and_erased() {
    let root = Root::fresh();
    let before = root.files();
    let rpm = |words: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(root.path("")).args(words);
        output(&mut rpm)
    };
    let file = root.path("root/new.rpm");
    fs::copy(package("rpm"), &file).expect("a copy");
    // What it needs is there, but Debian's rpm knows nothing of dpkg's packages.
    let install = ["--nodeps", "-U", file.to_str().expect("a name")];
    rpm(&install);
    assert_eq!(rpm(&["-V", "--nodeps", "collector"]), "");
    let passwd = fs::read_to_string(root.path("etc/passwd")).expect("users");
    assert!(passwd.contains("\ncollector:"), "{passwd}");
    let needs = rpm(&["-q", "--requires", "collector"]);
    for library in ["libelf.so.1", "libz.so.1", "libc.so.6"] {
        assert!(needs.contains(library), "{needs}");
    }
    fs::write(root.path("etc/collector/collector.toml"), EDITED).expect("root's file");
    rpm(&["--nodeps", "-U", "--replacepkgs", file.to_str().expect("a name")]);
    let kept = fs::read_to_string(root.path("etc/collector/collector.toml"));
    assert_eq!(kept.expect("the configuration"), EDITED);
    rpm(&["-e", "collector"]);
    let mut left = root.files();
    left.retain(|file| !before.contains(file) && !is_anothers(file));
    // Folders that Debian has only with other packages.
    left.retain(|file| !root.path(file).is_dir());
    assert_eq!(left, ["etc/collector/collector.toml.rpmsave"]);
}

/// What is asked of systemd, by what a program in its place writes down.
#[test]
fn an_rpm_upgrade_restarts_the_service_and_keeps_both_configurations() {
    let root = Root::fresh();
    let rpm = |words: &[&str]| {
        let mut rpm = Command::new("rpm");
        output(rpm.arg("--root").arg(root.path("")).arg("--nodeps").args(words))
    };
    fs::create_dir_all(root.path("run/systemd/system")).expect("as if it were booted");
    let log = root.path("root/asked");
    let systemctl = root.path("usr/bin/systemctl");
    let _ = fs::remove_file(&systemctl); // it may be a link
    fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >>/root/asked\n").expect("a program");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("ours");
    let asked = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let work = tempfile::tempdir().expect("a folder");
    let (old, new) = (root.path("root/old.rpm"), root.path("root/new.rpm"));
    fs::copy(rpm_before(work.path()), &old).expect("a copy");
    fs::copy(package("rpm"), &new).expect("a copy");
    let name = |path: &Path| path.to_str().expect("a name").to_owned();

    rpm(&["-i", &name(&old)]);
    assert_eq!(asked(), ["--no-reload preset collector.service", "daemon-reload"]);
    let config = root.path("etc/collector/collector.toml");
    fs::write(&config, EDITED).expect("root's file");
    rpm(&["-U", &name(&new)]);
    assert_eq!(asked(), ["daemon-reload", "daemon-reload", "try-restart collector.service"]);
    assert_eq!(fs::read_to_string(&config).expect("the configuration"), EDITED);
    let new_config = fs::read_to_string(root.path("etc/collector/collector.toml.rpmnew"));
    assert!(new_config.expect("the package's").contains("# Between ticks."));
    assert!(root.path("usr/lib/collector/plugins").is_dir(), "the new files are there");
    rpm(&["-e", "collector"]);
    assert_eq!(asked(), ["--no-reload disable --now collector.service", "daemon-reload"]);
    assert!(!root.path("usr/bin/collector").exists());
    assert_eq!(fs::read_to_string(config.with_extension("toml.rpmsave")).expect("kept"), EDITED);
}

/// A package of a version before this one: with the same scripts, little in it, and another configuration.
fn rpm_before(folder: &Path) -> PathBuf {
    let staged = folder.join("staged");
    for (path, text) in [
        ("etc/collector/collector.toml", "# Before.\n"),
        ("usr/bin/collector", "#!/bin/sh\n"),
        ("usr/lib/systemd/system/collector.service", "[Service]\nExecStart=/usr/bin/collector\n"),
    ] {
        let path = staged.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let files = "%config(noreplace) /etc/collector/collector.toml\n/usr/bin/collector\n\
                 /usr/lib/systemd/system/collector.service\n";
    let spec = include_str!("../../xtask/src/dist/collector.spec")
        .replace("@VERSION@", "0.0.1")
        .replace("@HOMEPAGE@", "https://before.example/")
        .replace("@SUMMARY@", "before")
        .replace("@DESCRIPTION@", "Before.")
        .replace("@FILES@", files);
    let path = folder.join("collector.spec");
    fs::write(&path, spec).expect("a specification");
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet"]);
    for (name, value) in [("_topdir", folder), ("staged", &staged), ("_tmppath", folder)] {
        rpmbuild.arg("--define").arg(format!("{name} {}", value.display()));
    }
    output(rpmbuild.arg(&path).env("SOURCE_DATE_EPOCH", "1700000000"));
    let mut find = Command::new("find");
    let made = output(find.arg(folder.join("RPMS")).args(["-name", "*.rpm"]));
    PathBuf::from(made.trim())
}

/// One tree in three packages, in which nothing names the folders where it was built.
#[test]
fn the_packages_hold_the_same_files_and_no_path_of_their_building() {
    let folder = tempfile::tempdir().expect("a folder");
    output(Command::new("dpkg-deb").arg("-x").arg(package("deb")).arg(folder.path()));
    let mut find = Command::new("find");
    let files = output(find.current_dir(folder.path()).args([".", "-type", "f"]));
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text
            .lines()
            .map(|line| line.trim_start_matches('.').trim_start_matches('/').to_owned())
            .collect();
        lines.sort();
        lines
    };
    let in_tar = output(Command::new("tar").arg("-tf").arg(package("xz")));
    assert_eq!(sorted(&files), sorted(&in_tar));
    let in_rpm = output(Command::new("rpm").args(["-qlp"]).arg(package("rpm")));
    let in_rpm = sorted(&in_rpm);
    let missing: Vec<_> = sorted(&files).into_iter().filter(|f| !in_rpm.contains(f)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME")).expect("a home");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut grep = Command::new("grep");
    grep.args(["-rlF", "-e"]).arg(format!("{}/", here.display()));
    grep.arg("-e").arg(format!("{}/registry", home.trim_end_matches('/')));
    grep.arg("-e").arg(format!("{}/.cargo/", home.trim_end_matches('/')));
    let named = grep.arg(folder.path()).output().expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&named.stdout), "");

    // Shells read the completions, and bash completes.
    let completions = folder.path().join("usr/share/bash-completion/completions/collector");
    let script = format!(
        ". {}; COMP_WORDS=(collector des); COMP_CWORD=1; _collector collector des collector; \
         echo ${{COMPREPLY[@]}}",
        completions.display()
    );
    assert_eq!(output(Command::new("bash").arg("-c").arg(script)).trim(), "describe");
    let sizes = ["deb", "rpm", "xz"].map(|kind| {
        let bytes = fs::metadata(package(kind)).expect("a package").len();
        format!(".{kind} {:.1} MB", bytes as f64 / 1e6)
    });
    println!("TABLE: packages: {}", sizes.join(", "));
}
