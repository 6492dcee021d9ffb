//! `deps`: the packages of the distribution that building and testing need.

use crate::command;
use anyhow::{Result, bail};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// What packages are wanted for; each needs those before it too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Build,
    Dist,
    Test,
    Arm64,
}

/// Distributions by their package manager; the order of the columns in `PACKAGES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Debian,
    Fedora,
    Arch,
    Suse,
    Alpine,
}

/// A distribution that has no such package does without.
const NONE: &str = "";
/// Comes with other people's packages of Node, too.
const NPM: &str = "npm";

type Package = (Need, &'static str, [&'static str; 5]);

/// What for, and what Debian, Fedora, Arch, openSUSE and Alpine call it.
#[rustfmt::skip]
const PACKAGES: [Package; 37] = [
    (Need::Build, "compiles the BPF programs",
        ["clang"; 5]),
    (Need::Build, "llvm-strip: takes the debug sections out of BPF objects",
        ["llvm"; 5]),
    (Need::Build, "builds libbpf, which becomes part of each plugin",
        ["make"; 5]),
    (Need::Build, "finds libelf and zlib for libbpf",
        ["pkg-config", "pkgconf-pkg-config", "pkgconf", "pkg-config", "pkgconf"]),
    (Need::Build, "libbpf reads BPF objects with it",
        ["libelf-dev", "elfutils-libelf-devel", "libelf", "libelf-devel", "elfutils-dev"]),
    (Need::Build, "libelf reads compressed sections with it",
        ["zlib1g-dev", "zlib-devel", "zlib", "zlib-devel", "zlib-dev"]),
    (Need::Build, "the kernel's headers for user space: linux/bpf.h",
        ["linux-libc-dev", "kernel-headers", "linux-api-headers", "linux-glibc-devel", "linux-headers"]),
    (Need::Build, "makes the skeletons of C plugins",
        ["bpftool", "bpftool", "bpf", "bpftool", "bpftool"]),
    (Need::Dist, "dpkg-shlibdeps and dpkg-deb: make the package for Debian",
        ["dpkg-dev", "dpkg-dev", "dpkg", "dpkg", "dpkg-dev"]),
    (Need::Dist, "rpmbuild: makes the RPM package; rpm: installs it in a test's root",
        ["rpm", "rpm-build", "rpm-tools", "rpm-build", "rpm"]),
    (Need::Test, "makes the Debian root in which packages are tested",
        ["mmdebstrap", "mmdebstrap", NONE, NONE, NONE]),
    (Need::Test, "builds the collector's image and runs it",
        ["podman"; 5]),
    (Need::Test, "runs containers, also where cgroups of both versions are mounted",
        ["runc"; 5]),
    (Need::Test, "fetches Helm and Kubernetes' schemas, which check the chart and the manifest",
        ["python3-pip", "python3-pip", "python-pip", "python3-pip", "py3-pip"]),
    (Need::Test, "checks the format of the C sources",
        ["clang-format", "clang-tools-extra", "clang", "clang-tools", "clang-extra-tools"]),
    (Need::Test, "finds errors of the host in the memory of C plugins",
        ["valgrind"; 5]),
    (Need::Test, "boots the kernels to test on",
        ["qemu-system-x86", "qemu-system-x86", "qemu-system-x86", "qemu-x86", "qemu-system-x86_64"]),
    (Need::Test, "the user space of those machines",
        ["busybox-static", "busybox", "busybox", "busybox-static", "busybox-static"]),
    (Need::Test, "strip: makes test programs small enough for the machines",
        ["binutils"; 5]),
    (Need::Test, "hackbench: the load under which ticks are measured",
        ["rt-tests", "realtime-tests", "rt-tests", "rt-tests", "rt-tests"]),
    (Need::Test, "systemd-analyze: rates the unit of the service; nothing of it is started",
        ["systemd", "systemd", "systemd", "systemd", NONE]),
    (Need::Test, "asks the databases in the script of the first hour",
        ["curl"; 5]),
    (Need::Test, "opens flame graphs, without a window",
        ["chromium"; 5]),
    (Need::Test, "terminals of any size, for `collector top`",
        ["tmux"; 5]),
    (Need::Test, "runqlat and others, to compare with",
        ["libbpf-tools", "libbpf-tools", "libbpf-tools", "libbpf-tools", "bcc-tools"]),
    (Need::Test, "the shell whose commands are counted",
        ["bash"; 5]),
    (Need::Test, "libreadline, by which other shells and programs read lines",
        ["libreadline8", "readline", "readline", "libreadline8", "readline"]),
    (Need::Test, "a JVM whose collections are counted",
        ["openjdk-17-jre-headless", "java-17-openjdk-headless", "jre17-openjdk-headless",
         "java-17-openjdk-headless", "openjdk17-jre-headless"]),
    (Need::Test, "C++ programs that are watched and shall not notice",
        ["g++", "gcc-c++", "gcc", "gcc-c++", "g++"]),
    (Need::Test, "Node, the same",
        ["nodejs", "nodejs", "nodejs", "nodejs", "nodejs"]),
    (Need::Test, "fetches Grafana's types and the compiler of Flux, which Node runs",
        [NPM; 5]),
    (Need::Test, "makes the folder of DataFusion, which runs the dashboards' SQL",
        ["python3-venv", "python3", "python", "python3", "python3"]),
    (Need::Test, "jemalloc, an allocator in a library",
        ["libjemalloc2", "jemalloc", "jemalloc", "libjemalloc2", "jemalloc"]),
    (Need::Test, "tcmalloc, another one",
        ["libtcmalloc-minimal4", "gperftools-libs", "gperftools", "libtcmalloc_minimal4", "gperftools"]),
    (Need::Arm64, "compiles for arm64",
        ["gcc-aarch64-linux-gnu", "gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "cross-aarch64-gcc13",
         NONE]),
    (Need::Arm64, "the C library for arm64",
        ["libc6-dev-arm64-cross", NONE, "aarch64-linux-gnu-glibc", NONE, NONE]),
    (Need::Arm64, "boots kernels for arm64",
        ["qemu-system-arm", "qemu-system-aarch64", "qemu-system-aarch64", "qemu-arm", "qemu-system-aarch64"]),
];

/// Installs everything.
pub fn verb() -> Result<()> {
    ensure(Need::Test)?;
    println!("all {} packages are installed", PACKAGES.len());
    Ok(())
}

/// Installs what is missing; quick and silent when nothing is.
pub fn ensure(need: Need) -> Result<()> {
    let Some(family) = fs::read_to_string("/etc/os-release").ok().and_then(|text| family(&text))
    else {
        let names = names(Family::Debian, &wanted(need)).join(" ");
        bail!("this distribution is unknown here; Debian calls the packages: {names}");
    };
    let missing: Vec<Package> =
        wanted(need).into_iter().filter(|p| !installed(family, column(family, p))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing packages:");
    for package in &missing {
        eprintln!("  {:<22} {}", column(family, package), package.1);
    }
    let names = names(family, &missing);
    if family != Family::Debian || !root() {
        bail!("install them with `{} {}`, then try again", installer(family), names.join(" "));
    }
    command::run(apt_get().arg("update"))?;
    command::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(names))
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    // A fresh machine may be upgrading itself: wait for its lock.
    apt_get.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
    apt_get
}

/// Mounts what BPF tools look into, where it is not mounted and we may.
pub fn mount_filesystems() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for (kind, place) in [("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf")] {
        let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some(place));
        if mounted || !root() {
            continue;
        }
        let mut mount = Command::new("mount");
        match command::run(mount.args(["-t", kind, kind, place])) {
            Ok(()) => eprintln!("mounted {kind} at {place}"),
            Err(why) => eprintln!("{kind} is not mounted at {place}, and cannot be: {why:#}"),
        }
    }
}

fn wanted(need: Need) -> Vec<Package> {
    PACKAGES.into_iter().filter(|package| package.0 <= need).collect()
}

fn column(family: Family, package: &Package) -> &'static str {
    package.2[family as usize]
}

fn names(family: Family, packages: &[Package]) -> Vec<&'static str> {
    packages.iter().map(|package| column(family, package)).collect()
}

/// Which family a distribution belongs to, from the text of /etc/os-release.
fn family(os_release: &str) -> Option<Family> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let ids = format!("{} {}", value("ID"), value("ID_LIKE"));
    ids.split_whitespace().find_map(|id| match id {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" => Some(Family::Fedora),
        "arch" => Some(Family::Arch),
        "suse" | "opensuse" => Some(Family::Suse),
        "alpine" => Some(Family::Alpine),
        _ => None,
    })
}

fn installer(family: Family) -> &'static str {
    match family {
        Family::Debian => "apt-get install --no-install-recommends",
        Family::Fedora => "dnf install",
        Family::Arch => "pacman -S",
        Family::Suse => "zypper install",
        Family::Alpine => "apk add",
    }
}

fn installed(family: Family, package: &str) -> bool {
    if package == NONE || (package == NPM && runs(NPM)) {
        return true;
    }
    let query: &[&str] = match family {
        Family::Debian => &["dpkg-query", "--show", "--showformat=${db:Status-Status}"],
        Family::Fedora | Family::Suse => &["rpm", "--query", "--whatprovides"],
        Family::Arch => &["pacman", "--query"],
        Family::Alpine => &["apk", "info", "--installed"],
    };
    let answer = Command::new(query[0]).args(&query[1..]).arg(package).output();
    // dpkg also knows packages that were removed.
    answer.is_ok_and(|out| {
        out.status.success() && (family != Family::Debian || out.stdout == b"installed")
    })
}

fn runs(program: &str) -> bool {
    let mut program = Command::new(program);
    program.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}

fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_tells_the_family() {
        let table = [
            ("ID=debian\n", Some(Family::Debian)),
            ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", Some(Family::Debian)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Family::Debian)),
            ("ID=fedora\n", Some(Family::Fedora)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Family::Fedora)),
            ("ID=arch\n", Some(Family::Arch)),
            ("ID='opensuse-tumbleweed'\nID_LIKE='opensuse suse'\n", Some(Family::Suse)),
            ("ID=alpine\n", Some(Family::Alpine)),
            ("VERSION_ID=debian\nID=plan9\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(family(text), expected, "{text}");
        }
    }

    #[test]
    fn testing_needs_what_building_needs_and_more() {
        let (build, test) = (wanted(Need::Build), wanted(Need::Test));
        assert!(build.iter().all(|b| test.iter().any(|t| t.2 == b.2)));
        assert_eq!(wanted(Need::Arm64).len(), PACKAGES.len());
        assert!(!names(Family::Debian, &build).contains(&"qemu-system-x86"));
    }
}
