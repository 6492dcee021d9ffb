//! What the author of a C plugin needs: headers, libbpf, bpfso.mk and its scripts.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Each file with its place below the install tree. `libbpf` is the folder that libbpf-sys made.
///
/// Not among them: `etc/bpfso.mk`, which is installed with the rest of etc/.
pub fn files(root: &Path, libbpf: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = vec![("lib/libbpf.a".into(), libbpf.join("libbpf.a"))];
    for (place, folder) in [
        ("include", root.join("plugin-api/include")),
        ("include/kit", root.join("plugin-bpf/bpf")),
        ("include/bpf", libbpf.join("include/bpf")),
        ("share", root.join("plugin-api/share")),
    ] {
        below(Path::new(place), &folder, &mut files)?;
    }
    Ok(files)
}

fn below(place: &Path, folder: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let place = place.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            below(&place, &entry.path(), files)?;
        } else {
            files.push((place, entry.path()));
        }
    }
    Ok(())
}

/// bpfso.mk as it is installed: it knows the install tree, so that a copy of it works anywhere.
pub fn bpfso_mk(text: &str, dist: &Path) -> String {
    text.replace("\nbpfso_home :=\n", &format!("\nbpfso_home := {}\n", dist.display()))
}
