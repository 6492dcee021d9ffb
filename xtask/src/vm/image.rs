//! The guest's user space: busybox, the install tree, and the libraries that they need.

use super::cpio::Archive;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What a machine boots into. All files lie in memory, a few tens of megabytes.
pub struct Image {
    archive: Archive,
    libraries: BTreeSet<String>,
}

impl Image {
    /// A guest that will run `script` with a shell.
    pub fn new(script: &str) -> Result<Image> {
        let mut image = Image { archive: Archive::default(), libraries: BTreeSet::new() };
        let texts = [
            ("/init", 0o755, include_str!("init.sh")),
            ("/command", 0o644, script),
            ("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"),
            ("/etc/group", 0o644, "root:x:0:\n"),
            ("/etc/hosts", 0o644, "127.0.0.1 localhost guest\n"),
            ("/etc/os-release", 0o644, "ID=guest\nPRETTY_NAME=\"a test machine\"\n"),
        ];
        for (path, mode, text) in texts {
            image.archive.file(path, mode, text.as_bytes());
        }
        for folder in ["/proc", "/sys", "/dev", "/root"] {
            image.archive.folder(folder);
        }
        image.file(Path::new("/bin/busybox"), "/bin/busybox")?;
        Ok(image)
    }

    /// Adds the install tree, at /opt/collector, without what only the author of a C plugin needs.
    pub fn install_tree(&mut self) -> Result<()> {
        let dist = workspace::dist();
        for file in workspace::files(&dist)? {
            let place = file.strip_prefix(&dist)?;
            if !["include", "lib", "share"].iter().any(|folder| place.starts_with(folder)) {
                self.file(&file, &format!("/opt/collector/{}", place.display()))?;
            }
        }
        Ok(())
    }

    /// Adds a file, and the shared libraries that it needs, at the places that they have here.
    pub fn file(&mut self, source: &Path, place: &str) -> Result<()> {
        let content = self.copy(source, place)?;
        if content.starts_with(b"\x7fELF") {
            let (found, missing) = libraries(source)?;
            // A library finds what it needs beside the program that loads it.
            ensure!(
                missing.is_empty() || place.contains(".so"),
                "{} needs a library that this machine lacks: {}",
                source.display(),
                missing.join(", ")
            );
            for library in found {
                if self.libraries.insert(library.clone()) {
                    self.copy(Path::new(&library), &library)?;
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, source: &Path, place: &str) -> Result<Vec<u8>> {
        let content = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        let mode = fs::metadata(source)?.permissions().mode() & 0o777;
        self.archive.file(place, mode, &content);
        Ok(content)
    }

    /// Writes the archive that the kernel gets.
    pub fn write(self, path: &Path) -> Result<()> {
        fs::write(path, self.archive.finish())
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// The libraries of a program or library, by ldd, and those that are not found.
fn libraries(file: &Path) -> Result<(Vec<String>, Vec<String>)> {
    // ldd fails, with this text on one stream or the other, for what is linked statically.
    let ldd = Command::new("ldd").arg(file).output().context("starting ldd")?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&ldd.stdout), String::from_utf8_lossy(&ldd.stderr));
    if stdout.contains("statically linked") || stderr.contains("not a dynamic executable") {
        return Ok((Vec::new(), Vec::new()));
    }
    let (missing, found): (Vec<&str>, Vec<&str>) =
        stdout.lines().partition(|line| line.contains("not found"));
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    let missing = missing.into_iter().map(|line| line.trim().to_owned()).collect();
    Ok((found.into_iter().filter_map(path).collect(), missing))
}
