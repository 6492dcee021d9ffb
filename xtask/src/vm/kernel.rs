//! Debian's kernels, from the mirror that this machine's apt uses, kept in `.cache/kernels`.

use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A series of kernels that we test on.
pub struct Series {
    pub name: &'static str,
    /// The kind of package that holds vmlinuz; Debian split it off in 7.0.
    package: &'static str,
    /// Where Debian publishes it.
    suites: &'static [&'static str],
}

const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];
pub const SERIES: [Series; 4] = [
    Series { name: "5.10", package: "linux-image", suites: &["bullseye"] },
    Series { name: "6.1", package: "linux-image", suites: BOOKWORM },
    Series { name: "6.12", package: "linux-image", suites: BOOKWORM },
    Series { name: "7.2", package: "linux-binary", suites: &["trixie-backports"] },
];
const FLAVOUR: &str = "-cloud-amd64";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Kernel {
    pub series: &'static str,
    pub vmlinuz: PathBuf,
}

/// The newest kernel of each series: the cached one, else a fresh one.
pub fn get(wanted: &[&'static Series]) -> Result<Vec<Kernel>> {
    let missing: Vec<_> =
        wanted.iter().copied().filter(|series| cached(series).is_none()).collect();
    if !missing.is_empty() {
        fetch(&missing).with_context(|| {
            let cache = cache().join("vmlinuz-VERSION");
            format!("fetching kernels with apt; one of your own can be put at {}", cache.display())
        })?;
    }
    let find =
        |series: &&'static Series| cached(series).context("a fetched kernel is not in the cache");
    wanted.iter().map(find).collect()
}

fn cache() -> PathBuf {
    workspace::root().join(".cache/kernels")
}

fn cached(series: &'static Series) -> Option<Kernel> {
    let names: Vec<String> =
        workspace::list(&cache()).ok()?.iter().map(|path| workspace::file_name(path)).collect();
    let name = newest(&names, &format!("vmlinuz-{}.", series.name), "")?;
    Some(Kernel { series: series.name, vmlinuz: cache().join(name) })
}

fn fetch(missing: &[&'static Series]) -> Result<()> {
    let mirrors = mirrors()?;
    // apt's state of our own, so that the system's knows nothing of these suites.
    let state = cache().join(format!("apt-{}", std::process::id()));
    fs::create_dir_all(state.join("lists/partial")).context("making a folder for apt's lists")?;
    let mut sources: Vec<_> =
        missing.iter().flat_map(|s| s.suites).map(|s| mirrors.source(s)).collect();
    sources.sort();
    sources.dedup();
    fs::write(state.join("sources.list"), sources.concat()).context("writing apt's sources")?;

    eprintln!("fetching the lists of {} suites", sources.len());
    let fetched = command::run(apt("apt-get", &state).arg("update"))
        .and_then(|()| missing.iter().try_for_each(|series| take(series, &state)));
    fs::remove_dir_all(&state).with_context(|| format!("removing {}", state.display()))?;
    fetched
}

/// Downloads the newest package of a series and keeps its vmlinuz.
fn take(series: &Series, state: &Path) -> Result<()> {
    let prefix = format!("{}-{}.", series.package, series.name);
    let names = command::output(apt("apt-cache", state).args(["pkgnames", &prefix]))?;
    let names: Vec<_> = names.lines().collect();
    let Some(package) = newest(&names, &prefix, FLAVOUR) else {
        bail!("the mirror has no {prefix}*{FLAVOUR} in {}", series.suites.join(", "));
    };
    eprintln!("fetching {package}");
    // Checks the package against the signed list.
    command::run(apt("apt-get", state).args(["download", package]))?;
    let files = workspace::list(state)?;
    let is_deb = |path: &&PathBuf| path.extension().is_some_and(|e| e == "deb");
    let deb = files.iter().find(is_deb).context("apt-get download left no package")?;
    let root = state.join("root");
    command::run(Command::new("dpkg").arg("-x").args([deb, &root]))?;

    // boot/vmlinuz-RELEASE, or usr/lib/modules/RELEASE/vmlinuz.
    let files = workspace::files(&root)?;
    let is_kernel = |path: &&PathBuf| workspace::file_name(path).starts_with("vmlinuz");
    let kernel =
        files.iter().find(is_kernel).with_context(|| format!("{package} has no vmlinuz"))?;
    let release = package.replace(&format!("{}-", series.package), "");
    fs::rename(kernel, cache().join(format!("vmlinuz-{release}"))).context("keeping the kernel")?;
    fs::remove_file(deb).context("removing the package")?;
    fs::remove_dir_all(&root).context("removing the unpacked package")
}

fn apt(program: &str, state: &Path) -> Command {
    let mut apt = Command::new(program);
    apt.current_dir(state).args(["-q", "-o", "Dir::Etc::sourceparts=/dev/null"]);
    for (option, path) in
        [("Etc::sourcelist", "sources.list"), ("State::lists", "lists"), ("Cache", "")]
    {
        apt.arg("-o").arg(format!("Dir::{option}={}", state.join(path).display()));
    }
    // The state's folder belongs to us, not to apt's own user.
    apt.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
    apt.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]);
    apt
}

/// The addresses of Debian's archives.
#[derive(Debug, PartialEq)]
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// From lines `ORIGIN|LABEL|SITE`.
    fn of(targets: &str) -> Option<Mirrors> {
        let site = |label: &str| {
            let prefix = format!("Debian|{label}|");
            targets.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
        };
        let main = site("Debian")?;
        let security = site("Debian-Security").unwrap_or_else(|| format!("{main}-security"));
        Some(Mirrors { main, security })
    }

    fn source(&self, suite: &str) -> String {
        let site = if suite.ends_with("-security") { &self.security } else { &self.main };
        format!("deb [signed-by={KEYS}] {site} {suite} main\n")
    }
}

/// Asks apt. It knows who is behind an address once it has lists, which a fresh machine has not.
fn mirrors() -> Result<Mirrors> {
    let format = "$(ORIGIN)|$(LABEL)|$(SITE)";
    let ask =
        || command::output(Command::new("apt-get").args(["indextargets", "--format", format]));
    if let Some(mirrors) = Mirrors::of(&ask()?) {
        return Ok(mirrors);
    }
    command::run(Command::new("apt-get").arg("update"))?;
    Mirrors::of(&ask()?).context("apt on this machine has no Debian mirror in its sources")
}

/// The name with the highest version between prefix and suffix. A version begins with a digit; only
/// its numbers count, which is enough within one series of one flavour.
fn newest<'a>(names: &'a [impl AsRef<str>], prefix: &str, suffix: &str) -> Option<&'a str> {
    let version = |name: &str| -> Option<Vec<u64>> {
        let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let numbers = middle.split(|c: char| !c.is_ascii_digit());
        middle.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
        Some(numbers.filter_map(|n| n.parse().ok()).collect())
    };
    let candidates = names.iter().map(AsRef::as_ref).filter(|name| version(name).is_some());
    candidates.max_by_key(|name| version(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_wins_by_number() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.999+deb12-cloud-amd64-dbg",
            "linux-image-6.12.unsigned-cloud-amd64",
        ];
        let table = [
            ("linux-image-6.1.", Some(names[1])),
            ("linux-image-6.12.", Some(names[4])),
            ("linux-image-5.10.", None),
        ];
        for (prefix, expected) in table {
            assert_eq!(newest(&names, prefix, FLAVOUR), expected, "{prefix}");
        }
    }

    #[test]
    fn a_cached_kernel_of_another_series_is_not_taken() {
        let names = ["vmlinuz-6.12.3-cloud-amd64", "vmlinuz-6.1.0-9-cloud-amd64", "apt-12"];
        assert_eq!(newest(&names, "vmlinuz-6.1.", ""), Some(names[1]));
    }

    #[test]
    fn mirrors_come_from_debian_alone() {
        let targets = "Other|Debian|http://o/debian\nDebian|Debian Backports|http://b/debian\n\
            Debian|Debian|http://m/debian\n";
        let mirrors = Mirrors::of(targets).unwrap();
        assert_eq!(mirrors.main, "http://m/debian");
        assert_eq!(mirrors.security, "http://m/debian-security");
        let targets = format!("Debian|Debian-Security|http://s/sec\n{targets}");
        assert_eq!(Mirrors::of(&targets).unwrap().security, "http://s/sec");
        assert_eq!(Mirrors::of("Ubuntu|Ubuntu|http://u/ubuntu\n"), None);
        assert_eq!(Mirrors::of("$(ORIGIN)|$(LABEL)|http://m/debian\n"), None);
    }
}
