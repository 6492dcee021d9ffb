//! The Debian package.

use super::{DESCRIPTION, HOMEPAGE, MAINTAINER, Package, SUMMARY, VERSION, tree};
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What dpkg runs when it installs, upgrades and removes.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("deb/postinst")),
    ("prerm", include_str!("deb/prerm")),
    ("postrm", include_str!("deb/postrm")),
];

pub fn make(package: &Package) -> Result<PathBuf> {
    let work = package.folder.join("deb");
    let (root, debian) = (work.join("root"), work.join("root/DEBIAN"));
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    command::run(Command::new("cp").arg("--archive").args([package.root, &root]))?;
    // By this folder dpkg-shlibdeps knows a package's root.
    fs::create_dir_all(&debian).with_context(|| format!("making {}", debian.display()))?;
    let architecture = command::output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let files = package.files()?;
    let control = control(architecture, &depends(&root, &work)?, size(package.root, &files)?);
    write(&debian.join("control"), &control, 0o644)?;
    write(&debian.join("conffiles"), &format!("/{}\n", tree::CONFIGURATION), 0o644)?;
    let mut sums = Command::new("md5sum");
    sums.current_dir(&root).args(files.iter().filter(|f| *f != Path::new(tree::CONFIGURATION)));
    write(&debian.join("md5sums"), &command::output(&mut sums)?, 0o644)?;
    for (name, text) in SCRIPTS {
        write(&debian.join(name), text, 0o755)?;
    }
    package.epoch.stamp(&root)?;
    let deb = package.folder.join(format!("collector_{VERSION}_{architecture}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    // One thread and one level: the same bytes on every machine.
    dpkg_deb.args(["--root-owner-group", "--threads-max=1", "-Zxz", "-z3", "--build"]);
    command::run(
        dpkg_deb.args([&root, &deb]).env("SOURCE_DATE_EPOCH", package.epoch.0.to_string()),
    )?;
    Ok(deb)
}

/// Shared libraries, and the oldest versions of them that have what is used, by dpkg's own knowledge.
fn depends(root: &Path, work: &Path) -> Result<String> {
    let debian = work.join("debian");
    write(
        &debian.join("control"),
        "Source: collector\n\nPackage: collector\nArchitecture: any\n",
        0o644,
    )?;
    let mut objects = vec![root.join("usr/bin/collector")];
    objects.extend(workspace::files(&root.join("usr/lib/collector/plugins"))?);
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps.current_dir(work).arg("-O").args(objects.iter().map(|object| {
        let mut argument = std::ffi::OsString::from("-e");
        argument.push(object);
        argument
    }));
    let answer = command::output(&mut shlibdeps)?;
    let depends = answer.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends.map(str::to_owned).context("dpkg-shlibdeps found no dependencies")
}

/// KiB that the files take.
fn size(root: &Path, files: &[PathBuf]) -> Result<u64> {
    let sizes = files.iter().map(|file| Ok(fs::metadata(root.join(file))?.len().div_ceil(1024)));
    sizes.sum()
}

fn control(architecture: &str, depends: &str, size: u64) -> String {
    let mut text = format!(
        "Package: collector\nVersion: {VERSION}\nArchitecture: {architecture}\n\
         Maintainer: {MAINTAINER}\nHomepage: {HOMEPAGE}\nInstalled-Size: {size}\n\
         Depends: {depends}, init-system-helpers, passwd\nRecommends: systemd\n\
         Section: admin\nPriority: optional\nDescription: {SUMMARY}\n"
    );
    for line in DESCRIPTION.lines() {
        let _ = writeln!(text, " {line}"); // to a text nothing fails
    }
    text
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_names_whom_the_workspace_names() {
        let control = control("amd64", "libc6", 1);
        let value = |key: &str| control.lines().find_map(|line| line.strip_prefix(key));
        assert_eq!(value("Homepage: "), Some(HOMEPAGE));
        let maintainer = value("Maintainer: ").expect("one");
        // Several would need a list of `Uploaders`.
        let (name, address) = maintainer.split_once(" <").expect("NAME <ADDRESS>");
        assert!(!name.is_empty() && !name.contains(':'), "{maintainer}");
        assert!(address.ends_with('>') && address.contains('@'), "{maintainer}");
        assert!(!control.contains("localhost"), "{control}");
    }
}
