//! Compiles a package's BPF programs into skeletons. A plugin's whole build.rs is
//!
//! ```text
//! fn main() {
//!     plugin_bpf_build::skeletons();
//! }
//! ```
//!
//! Every `src/NAME.bpf.c` becomes `$OUT_DIR/NAME.skel.rs`, which `plugin_bpf::skeleton!(NAME)` brings in.
//! The script runs again when a source or a header that it includes changes, and for nothing else; so a
//! second source in the same folder wants build.rs touched once.

use libbpf_cargo::SkeletonBuilder;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// The folder of `unity.bpf.h`, `coolbpf.h` and `vmlinux.h`.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf");

/// Compiles every `src/*.bpf.c` of the package whose build script calls it.
///
/// Ends the build with the compiler's words when one does not compile.
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
        skeleton(&source, &out);
    }
}

fn skeleton(source: &Path, out: &Path) {
    let file = source.file_name().unwrap_or_default().to_string_lossy();
    let name = file.trim_end_matches(".bpf.c");
    let depfile = out.join(format!("{name}.d"));
    let generated = out.join(format!("{name}.skel.rs"));
    let result = SkeletonBuilder::new()
        .source(source)
        .reference_obj(true) // include_bytes! of the object: a tenth of the memory, a third of the time
        .clang_args([
            format!("-I{HEADERS}"),
            "-Wall".into(),
            "-Werror".into(),
            "-fno-unwind-tables".into(),
            "-MMD".into(),
            "-MF".into(),
            depfile.display().to_string(),
        ])
        .build_and_generate(&generated);
    if let Err(error) = result {
        fail(&format!("{}: {error:?}", source.display()));
    }
    let code = fs::read_to_string(&generated).unwrap_or_default();
    let Some(builder) = code.split_whitespace().find_map(|word| word.strip_suffix("SkelBuilder"))
    else {
        fail(&format!("{}: the generated skeleton has no builder", generated.display()));
    };
    // The same names for every plugin's skeleton, so that a macro can say them.
    let code = format!(
        "{code}\npub type Builder = {builder}SkelBuilder;\npub type Loaded = {builder}Skel<'static>;\n"
    );
    if let Err(error) = fs::write(&generated, code) {
        fail(&format!("cannot write {}: {error}", generated.display()));
    }
    rerun_if_changed(&fs::read_to_string(&depfile).unwrap_or_default());
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

fn fail(text: &str) -> ! {
    // On stderr: cargo shows it as it is, many lines and all.
    eprintln!("{text}\n\nIs clang installed? `cargo xtask deps` installs what the build needs.");
    process::exit(1);
}
