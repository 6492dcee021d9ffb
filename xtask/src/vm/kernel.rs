//! Debian's kernels, from the mirror that this machine's apt uses, kept in `.cache/kernels`.

use crate::apt::Apt;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;

/// A series of kernels that we test on.
pub struct Series {
    pub name: &'static str,
    /// The kind of package that holds vmlinuz; Debian split it off in 7.0.
    pub package: &'static str,
    /// Where Debian publishes it.
    pub suites: &'static [&'static str],
}

const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];
pub const SERIES: [Series; 4] = [
    Series { name: "5.10", package: "linux-image", suites: &["bullseye"] },
    Series { name: "6.1", package: "linux-image", suites: BOOKWORM },
    Series { name: "6.12", package: "linux-image", suites: BOOKWORM },
    Series { name: "7.2", package: "linux-binary", suites: &["trixie-backports"] },
];
const FLAVOUR: &str = "-cloud-amd64";

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
    let suites: Vec<_> = missing.iter().flat_map(|series| series.suites).copied().collect();
    let apt = Apt::of(&suites, &cache())?;
    missing.iter().try_for_each(|series| take(series, &apt))
}

/// Downloads the newest package of a series and keeps its vmlinuz.
fn take(series: &Series, apt: &Apt) -> Result<()> {
    let prefix = format!("{}-{}.", series.package, series.name);
    let names = apt.names(&prefix)?;
    let Some(package) = newest(&names, &prefix, FLAVOUR) else {
        bail!("the mirror has no {prefix}*{FLAVOUR} in {}", series.suites.join(", "));
    };
    // boot/vmlinuz-RELEASE, or usr/lib/modules/RELEASE/vmlinuz.
    let files = workspace::files(&apt.unpack(package)?)?;
    let is_kernel = |path: &&PathBuf| workspace::file_name(path).starts_with("vmlinuz");
    let kernel =
        files.iter().find(is_kernel).with_context(|| format!("{package} has no vmlinuz"))?;
    let release = package.replace(&format!("{}-", series.package), "");
    fs::rename(kernel, cache().join(format!("vmlinuz-{release}"))).context("keeping the kernel")
}

/// The name with the highest version between prefix and suffix. A version begins with a digit; only
/// its numbers count, which is enough within one series of one flavour.
pub fn newest<'a>(names: &'a [impl AsRef<str>], prefix: &str, suffix: &str) -> Option<&'a str> {
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
}
