//! Compiles a package's BPF programs and writes their Rust side. A plugin's whole build.rs is
//!
//! ```text
//! fn main() {
//!     plugin_bpf_build::skeletons();
//! }
//! ```
//!
//! Every `src/NAME.bpf.c` becomes `$OUT_DIR/NAME.skel.rs`, which `plugin_bpf::skeleton!(NAME)` brings in. It
//! is compiled twice, with and without fetching atomics (unity/cut.h); types, maps and constants are read
//! from the object's BTF, programs and the maps that they use from its relocations.
//!
//! The script runs again when something in `src` changes, a new source for one, or a header that a source
//! includes. It compiles those sources again that changed, or whose headers did.

mod compile;
mod elf;
mod fresh;
mod hooks;
mod shape;
mod source;
mod write;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compiles every `src/*.bpf.c` of the package whose build script calls it.
///
/// Fails the build with the compiler's words, or a sentence about the declaration, when one does not compile.
pub fn skeletons() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    if let Err(error) = all() {
        // Not by an exit code, of which cargo would tell a long story.
        error.lines().for_each(|line| println!("cargo::error={line}"));
    }
}

/// Compiles a C program for the package's tests, with frame pointers and names for its functions, as
/// `$OUT_DIR/name`: the tests have it by `include_bytes!(concat!(env!("OUT_DIR"), "/name"))`, also in a machine
/// without a compiler.
///
/// # Panics
/// It does not compile.
pub fn test_program(source: &str, name: &str, flags: &[&str]) {
    println!("cargo::rerun-if-changed={source}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(cc);
    command.args(["-std=gnu11", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    command.args(["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-rdynamic"]);
    command.args(flags).arg(source).arg("-o").arg(out);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{text}");
}

fn all() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut sources: Vec<PathBuf> = fs::read_dir("src")
        .expect("a package has a src folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort();
    if sources.is_empty() {
        return Err("no src/*.bpf.c: a plugin's BPF program is src/NAME.bpf.c".into());
    }
    for source in sources {
        let name = name(&source);
        let generated = out.join(format!("{name}.skel.rs"));
        let depfile = compile::depfile(&out, &name);
        if !fresh::is_fresh(&generated, &source, &depfile) {
            let begun = fresh::now();
            skeleton(&source, &out)?;
            fresh::made_at(&generated, begun)
                .map_err(|e| format!("{}: {e}", generated.display()))?;
        }
        let programs = elf::read(&compile::objects(&out, &name).plain)?.programs;
        hooks::check(&name, &programs, Path::new("src"))
            .map_err(|error| format!("{}: {error}", source.display()))?;
        let headers = fresh::headers(&depfile);
        headers.iter().for_each(|header| println!("cargo::rerun-if-changed={header}"));
    }
    Ok(())
}

type Result<T> = std::result::Result<T, String>;

/// `demo` of `src/demo.bpf.c`.
fn name(source: &Path) -> String {
    let file = source.file_name().unwrap_or_default().to_string_lossy();
    file.trim_end_matches(".bpf.c").to_owned()
}

fn skeleton(source: &Path, out: &Path) -> Result<()> {
    let name = &name(source);
    let objects = compile::both(source, name, out)?;
    let read = source::Source::read(name, &objects)
        .map_err(|error| format!("{}: {error}", source.display()))?;
    let code = write::module(&read, &objects);
    let generated = out.join(format!("{name}.skel.rs"));
    fs::write(&generated, code).map_err(|e| format!("cannot write {}: {e}", generated.display()))
}

#[cfg(test)]
mod tests;
