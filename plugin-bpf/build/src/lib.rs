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
//! The script runs again when a source or a header that it includes changes, and for nothing else; so a
//! second source in the same folder wants build.rs touched once.

mod compile;
mod elf;
mod shape;
mod source;
mod write;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// Compiles every `src/*.bpf.c` of the package whose build script calls it.
///
/// Ends the build with the compiler's words, or a sentence about the declaration, when one does not compile.
pub fn skeletons() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut sources: Vec<PathBuf> = fs::read_dir("src")
        .expect("a package has a src folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort();
    if sources.is_empty() {
        fail("no src/*.bpf.c: a plugin's BPF program is src/NAME.bpf.c");
    }
    for source in sources {
        if let Err(error) = skeleton(&source, &out) {
            fail(&format!("{}: {error}", source.display()));
        }
    }
}

type Result<T> = std::result::Result<T, String>;

fn skeleton(source: &Path, out: &Path) -> Result<()> {
    let file = source.file_name().unwrap_or_default().to_string_lossy();
    let name = file.trim_end_matches(".bpf.c");
    let objects = compile::both(source, name, out)?;
    let read = source::Source::read(name, &objects)?;
    let code = write::module(&read, &objects);
    let generated = out.join(format!("{name}.skel.rs"));
    fs::write(&generated, code).map_err(|e| format!("cannot write {}: {e}", generated.display()))
}

fn fail(text: &str) -> ! {
    // On stderr: cargo shows it as it is, many lines and all.
    eprintln!("{text}\n\nIs clang installed? `cargo xtask deps` installs what the build needs.");
    process::exit(1);
}

#[cfg(test)]
mod tests;
