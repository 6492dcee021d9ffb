//! Debian's packages without installing them: apt with lists of its own, so that the system's know nothing
//! of it and nothing is configured or started. Works without root.

use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The lists of some suites, in a folder that goes when this does.
pub struct Apt {
    folder: PathBuf,
    /// For another processor than this machine's.
    architecture: Option<&'static str>,
}

impl Apt {
    /// Fetches the lists of Debian's suites from the mirror that this machine's apt uses, into a folder
    /// below `cache`.
    pub fn of(suites: &[&str], cache: &Path) -> Result<Apt> {
        Apt::new(None, suites, cache)
    }

    /// The same, of packages for another processor.
    pub fn of_architecture(
        architecture: &'static str,
        suites: &[&str],
        cache: &Path,
    ) -> Result<Apt> {
        Apt::new(Some(architecture), suites, cache)
    }

    fn new(architecture: Option<&'static str>, suites: &[&str], cache: &Path) -> Result<Apt> {
        let folder = cache.join(format!("apt-{}", std::process::id()));
        let apt = Apt { folder, architecture };
        fs::create_dir_all(apt.folder.join("lists/partial"))
            .with_context(|| format!("making {}", apt.folder.display()))?;
        let mirrors = apt.mirrors()?;
        let mut sources: Vec<_> = suites.iter().map(|suite| mirrors.source(suite)).collect();
        sources.sort();
        sources.dedup();
        fs::write(apt.folder.join("sources.list"), sources.concat())
            .context("writing apt's sources")?;
        eprintln!("fetching the lists of {} suites", sources.len());
        command::run(apt.program("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// A line of apt's sources for a suite, of the same mirror.
    pub fn source(&self, suite: &str) -> Result<String> {
        Ok(self.mirrors()?.source(suite))
    }

    /// Names of packages that begin so.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = command::output(self.program("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads a package, checked against the signed list, and unpacks it; the folder with its files.
    pub fn unpack(&self, package: &str) -> Result<PathBuf> {
        eprintln!("fetching {package}");
        command::run(self.program("apt-get").args(["download", package]))?;
        let files = workspace::list(&self.folder)?;
        let is_deb = |path: &&PathBuf| path.extension().is_some_and(|e| e == "deb");
        let deb = files.iter().find(is_deb).context("apt-get download left no package")?;
        let root = self.folder.join(format!("root-{package}"));
        command::run(Command::new("dpkg").arg("-x").args([deb, &root]))?;
        fs::remove_file(deb).context("removing the package")?;
        Ok(root)
    }

    /// With the suites of our own alone.
    fn program(&self, program: &str) -> Command {
        let mut apt = self.with_own_lists(program);
        let sources = self.folder.join("sources.list");
        apt.arg("-o").arg(format!("Dir::Etc::sourcelist={}", sources.display()));
        apt.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        if let Some(architecture) = self.architecture {
            apt.arg("-o").arg(format!("APT::Architecture={architecture}"));
            apt.arg("-o").arg(format!("APT::Architectures={architecture}"));
        }
        apt
    }

    fn with_own_lists(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.current_dir(&self.folder).arg("-q");
        for (option, path) in [("State::lists", "lists"), ("Cache", "")] {
            apt.arg("-o").arg(format!("Dir::{option}={}", self.folder.join(path).display()));
        }
        // The folder belongs to us, not to apt's own user.
        apt.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
        apt.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]);
        apt
    }

    /// Asks apt. It knows who is behind an address once it has lists, which a fresh machine has not: then
    /// those of its sources are fetched into our folder.
    fn mirrors(&self) -> Result<Mirrors> {
        let question = ["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(SITE)"];
        let known = command::output(Command::new("apt-get").args(question))?;
        if let Some(mirrors) = Mirrors::of(&known) {
            return Ok(mirrors);
        }
        command::run(self.with_own_lists("apt-get").arg("update"))?;
        let known = command::output(self.with_own_lists("apt-get").args(question))?;
        Mirrors::of(&known).context("apt on this machine has no Debian mirror in its sources")
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        // What stays behind is in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
