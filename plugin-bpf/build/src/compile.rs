//! From C to two objects.

use crate::Result;
use libbpf_cargo::SkeletonBuilder;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of `unity.bpf.h`, `coolbpf.h` and `vmlinux.h`.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf");

/// One program, compiled for both kinds of kernels.
pub struct Objects {
    /// For kernels with fetching atomics.
    pub fetch: PathBuf,
    /// For the others.
    pub plain: PathBuf,
}

pub fn both(source: &Path, name: &str, out: &Path) -> Result<Objects> {
    let objects = Objects {
        fetch: out.join(format!("{name}.fetch.o")),
        plain: out.join(format!("{name}.plain.o")),
    };
    let depfile = out.join(format!("{name}.d"));
    let deps = ["-MMD".to_owned(), "-MF".to_owned(), depfile.display().to_string()];
    compile(source, &objects.plain, &deps)?;
    // Atomics that give the old value need BPF's instruction set v3 (Linux 5.1) and, here, Linux 5.12.
    compile(source, &objects.fetch, &["-DUNITY_FETCH".to_owned(), "-mcpu=v3".to_owned()])?;
    rerun_if_changed(&fs::read_to_string(&depfile).unwrap_or_default());
    Ok(objects)
}

fn compile(source: &Path, object: &Path, more: &[String]) -> Result<()> {
    let args = [format!("-I{HEADERS}"), "-Wall".into(), "-Werror".into()];
    let args = args.into_iter().chain(["-fno-unwind-tables".into()]).chain(more.iter().cloned());
    SkeletonBuilder::new()
        .source(source)
        .obj(object)
        .clang_args(args)
        .build()
        .map_err(|error| format!("{error:?}"))
}

/// Names the headers of a make rule (`a.o: a.c b.h \`), less those of libbpf, which were unpacked into a
/// folder that is gone by now.
fn rerun_if_changed(rule: &str) {
    for file in rule.replace("\\\n", " ").split_whitespace().skip(1) {
        if Path::new(file).exists() {
            println!("cargo:rerun-if-changed={file}");
        }
    }
}
