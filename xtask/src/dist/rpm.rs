//! The RPM package. rpmbuild finds what the programs need by the names of their libraries, which are the same in all
//! distributions.

use super::{DESCRIPTION, HOMEPAGE, Package, SUMMARY, VERSION, tree};
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SPEC: &str = include_str!("collector.spec");

pub fn make(package: &Package) -> Result<PathBuf> {
    let work = package.folder.join("rpm");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let spec = work.join("collector.spec");
    fs::write(&spec, filled(&package.files()?))
        .with_context(|| format!("writing {}", spec.display()))?;
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet"]);
    for (name, value) in [
        ("_topdir", work.to_string_lossy()),
        ("staged", package.root.to_string_lossy()),
        ("_buildhost", "localhost".into()),
        ("_tmppath", work.to_string_lossy()),
    ] {
        rpmbuild.arg("--define").arg(format!("{name} {value}"));
    }
    rpmbuild.env("SOURCE_DATE_EPOCH", package.epoch.0.to_string());
    command::run(rpmbuild.arg(&spec))?;
    let made = workspace::files(&work.join("RPMS"))?;
    let made = made.first().context("rpmbuild made no package")?;
    let rpm = package.folder.join(workspace::file_name(made));
    fs::rename(made, &rpm).with_context(|| format!("moving {}", made.display()))?;
    Ok(rpm)
}

/// The specification with its blanks filled.
fn filled(files: &[PathBuf]) -> String {
    SPEC.replace("@VERSION@", VERSION)
        .replace("@HOMEPAGE@", HOMEPAGE)
        .replace("@SUMMARY@", SUMMARY)
        .replace("@DESCRIPTION@", DESCRIPTION)
        .replace("@FILES@", &listed(files))
}

/// Files, and the folders that are ours.
fn listed(files: &[PathBuf]) -> String {
    let mut lines = Vec::new();
    for file in files {
        for folder in file.ancestors().skip(1) {
            let ours = folder.components().any(|part| part.as_os_str() == "collector");
            if ours && file != Path::new(tree::CONFIGURATION) {
                lines.push(format!("%dir /{}", folder.display()));
            }
        }
        let config = file == Path::new(tree::CONFIGURATION);
        let kind = if config { "%config(noreplace) " } else { "" };
        lines.push(format!("{kind}\"/{}\"", file.display()));
    }
    lines.push("%dir /etc/collector".to_owned());
    lines.sort();
    lines.dedup();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_ours_are_the_packages_and_those_of_all_are_not() {
        let files =
            ["etc/collector/collector.toml", "usr/bin/collector", "usr/lib/collector/p/a.so"];
        let listed = listed(&files.map(PathBuf::from));
        let expected = "\"/usr/bin/collector\"\n\"/usr/lib/collector/p/a.so\"\n\
            %config(noreplace) \"/etc/collector/collector.toml\"\n%dir /etc/collector\n\
            %dir /usr/lib/collector\n%dir /usr/lib/collector/p";
        assert_eq!(listed, expected);
        let spec = filled(&[]);
        assert!(!spec.contains('@'), "{spec}");
    }
}
