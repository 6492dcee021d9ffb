//! `dist`: a .deb, an .rpm and a tar archive of the install tree, for this architecture. What is packed depends on the
//! commit and the toolchain alone: builds in two clones are equal to the byte, by `sha256sum target/packages/*`. Tests
//! pack one build twice, since a second one takes minutes.

mod deb;
mod rpm;
mod tar;
mod tree;

use crate::deps::{self, Need};
use crate::{build, command, workspace};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

/// All packages have the workspace's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `NAME <ADDRESS>`
const MAINTAINER: &str = env!("CARGO_PKG_AUTHORS");
const HOMEPAGE: &str = env!("CARGO_PKG_REPOSITORY");

/// What the packages say of what is in them.
const SUMMARY: &str = "exact eBPF counts as InfluxDB line protocol";
const DESCRIPTION: &str = "\
Each tool is a plugin that counts one thing in the kernel, such as how long
threads wait for a CPU. The collector loads all plugins, reads each once per
interval, and sends the result to Telegraf, InfluxDB, VictoriaMetrics, a file
or a pipe. Its counts are exact, and what could not be counted or delivered is
counted too, by cause.";

pub fn verb() -> Result<()> {
    deps::ensure(Need::Dist)?;
    build::everything()?;
    for package in make(&folder())? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Makes the packages twice, and compares them.
pub fn twice() -> Result<()> {
    let again = workspace::root().join("target/packages-again");
    for (first, second) in make(&folder())?.iter().zip(make(&again)?) {
        let (one, other) = (fs::read(first)?, fs::read(&second)?);
        ensure!(one == other, "{} and {} differ", first.display(), second.display());
    }
    fs::remove_dir_all(&again).with_context(|| format!("removing {}", again.display()))
}

/// Where packages are put.
pub fn folder() -> PathBuf {
    workspace::root().join("target/packages")
}

/// Makes the packages of what is built.
fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let root = folder.join("root");
    let epoch = Epoch::of_commit()?;
    tree::lay(&root, folder)?;
    epoch.stamp(&root)?;
    let package = &Package { root: &root, folder, epoch };
    // Most of it is compressing, each by one thread.
    let made = thread::scope(|scope| {
        let kinds = [deb::make, rpm::make, tar::make];
        let made = kinds.map(|make| scope.spawn(move || make(package)));
        made.into_iter().map(|made| made.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?;
    for rest in ["root", "pages", "deb", "rpm"] {
        let rest = folder.join(rest);
        fs::remove_dir_all(&rest).with_context(|| format!("removing {}", rest.display()))?;
    }
    Ok(made)
}

/// What is to be packed.
struct Package<'a> {
    /// The files, as they are to lie below `/`.
    root: &'a Path,
    /// Where the package is put.
    folder: &'a Path,
    epoch: Epoch,
}

impl Package<'_> {
    /// The packed files, relative to `/`.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let files = workspace::files(self.root)?;
        files.iter().map(|file| Ok(file.strip_prefix(self.root)?.to_owned())).collect()
    }
}

/// The time that everything in a package has, in seconds since 1970: that of the commit.
#[derive(Clone, Copy)]
struct Epoch(u64);

impl Epoch {
    /// `SOURCE_DATE_EPOCH`, or the time of the commit that is checked out.
    fn of_commit() -> Result<Epoch> {
        let text = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text,
            Err(_) => {
                let mut git = Command::new("git");
                git.arg("-C").arg(workspace::root()).args(["log", "-1", "--format=%ct"]);
                command::output(&mut git).context("outside of a clone, set SOURCE_DATE_EPOCH")?
            }
        };
        let seconds = text.trim().parse();
        Ok(Epoch(seconds.with_context(|| format!("SOURCE_DATE_EPOCH is no number: {text}"))?))
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }

    /// Gives a folder and all that is in it this time.
    fn stamp(self, path: &Path) -> Result<()> {
        if path.is_dir() {
            workspace::list(path)?.iter().try_for_each(|entry| self.stamp(entry))?;
        }
        let stamped = fs::File::open(path).and_then(|file| file.set_modified(self.time()));
        stamped.with_context(|| format!("setting the time of {}", path.display()))
    }
}
