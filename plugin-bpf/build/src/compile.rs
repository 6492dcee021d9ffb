//! From C to two objects.

use crate::Result;
use libbpf_cargo::SkeletonBuilder;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The folder of `unity.bpf.h`, `coolbpf.h` and `vmlinux.h`.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf");

/// One program, compiled for both kinds of kernels.
pub struct Objects {
    /// For kernels with fetching atomics.
    pub fetch: PathBuf,
    /// For the others.
    pub plain: PathBuf,
}

/// Where the objects of a program are.
pub fn objects(out: &Path, name: &str) -> Objects {
    Objects {
        fetch: out.join(format!("{name}.fetch.o")),
        plain: out.join(format!("{name}.plain.o")),
    }
}

/// Compiles a program.
pub fn both(source: &Path, name: &str, out: &Path) -> Result<Objects> {
    let objects = objects(out, name);
    let deps = ["-MMD".to_owned(), "-MF".to_owned(), depfile(out, name).display().to_string()];
    compile(source, &objects.plain, &deps)?;
    // Atomics that give the old value need BPF's instruction set v3 (Linux 5.1) and, here, Linux 5.12.
    compile(source, &objects.fetch, &["-DUNITY_FETCH".to_owned(), "-mcpu=v3".to_owned()])?;
    Ok(objects)
}

/// Where the compiler writes which headers a source includes, as a make rule.
pub fn depfile(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.d"))
}

fn compile(source: &Path, object: &Path, more: &[String]) -> Result<()> {
    let headers = fs::canonicalize(HEADERS).map_err(|e| format!("{HEADERS}: {e}"))?;
    let args = [format!("-I{}", headers.display()), "-Wall".into(), "-Werror".into()];
    // The kernel is told where a line of code stands: below the package and the headers, wherever those lie.
    let package = env::current_dir().map_err(|e| format!("the package's folder: {e}"))?;
    let folders = [(&package, "."), (&headers, "bpf")];
    let folders =
        folders.map(|(here, there)| format!("-ffile-prefix-map={}={there}", here.display()));
    let args = args.into_iter().chain(folders);
    let args = args.chain(["-fno-unwind-tables".into()]).chain(more.iter().cloned());
    SkeletonBuilder::new()
        .source(source)
        .obj(object)
        .clang_args(args)
        .build()
        .map_err(|error| words(&format!("{error:#}"), &error.root_cause().to_string()))
}

/// Why there is no object: the compiler's words as they are, which stand at the bottom of the error.
fn words(error: &str, cause: &str) -> String {
    if error.contains("failed to execute `clang`") {
        return format!("clang does not start ({cause}): `cargo xtask deps` installs it");
    }
    if error.contains("command `clang ") { cause.trim_end().to_owned() } else { error.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_missing_compiler_is_told_with_what_installs_it() {
        let error =
            "failed to build `a.bpf.c`: failed to execute `clang`: No such file or directory";
        let words = words(error, "No such file or directory");
        assert!(words.starts_with("clang does not start (No such file"), "{words}");
        assert!(words.contains("cargo xtask deps"), "{words}");
    }
}
