//! C plugins: what they may hand over, what becomes of it, and what it costs the others.

mod beside;
mod checkers;
mod libraries;
mod misuse;
mod threads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

/// Compiles a plugin of `tests/host/c`, with definitions, as `libNAME.so` of a folder.
pub fn build(dir: &Path, name: &str, source: &str, definitions: &[&str]) -> PathBuf {
    build_with(dir, name, source, definitions, &[])
}

/// Compiles a library of a few words.
pub fn build_text(dir: &Path, name: &str, code: &str) -> PathBuf {
    let (source, file) = (dir.join(format!("{name}.c")), dir.join(format!("lib{name}.so")));
    std::fs::write(&source, code).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&file).arg(&source).status();
    assert!(cc.unwrap().success());
    file
}

/// By their sources, definitions and flags.
type Libraries = BTreeMap<Vec<String>, Arc<OnceLock<Vec<u8>>>>;
/// Many tests want the same.
static COMPILED: Mutex<Libraries> = Mutex::new(BTreeMap::new());

fn build_with(
    dir: &Path,
    name: &str,
    source: &str,
    definitions: &[&str],
    flags: &[&str],
) -> PathBuf {
    let file = dir.join(format!("lib{name}.so"));
    let words = [&[source], definitions, flags].concat();
    let words = words.into_iter().map(str::to_owned).collect();
    let library = Arc::clone(COMPILED.lock().unwrap().entry(words).or_default());
    let library = library.get_or_init(|| compile(&file, source, definitions, flags));
    std::fs::write(&file, library).unwrap();
    file
}

fn compile(file: &Path, source: &str, definitions: &[&str], flags: &[&str]) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/c");
    let cc = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .args(["-Wno-stringop-truncation", "-Wno-format-truncation", "-Wno-switch"])
        .args(definitions.iter().map(|definition| format!("-D{definition}")))
        .args(flags)
        .arg("-I")
        .arg(sources.join("../../../../plugin-api/include"))
        .arg(sources.join(source))
        .arg("-o")
        .arg(file)
        .output()
        .expect("cc, which also links Rust programs");
    assert!(cc.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&cc.stderr));
    std::fs::read(file).unwrap()
}
