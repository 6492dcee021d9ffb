//! Makes the plugins in `plugin/` as an author without a checkout does: with bpfso.mk and an install tree.

#[path = "../../xtask/src/sdk.rs"]
mod sdk;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let include = PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys sets it"));
    for place in ["plugin-api/include", "plugin-api/share", "plugin-bpf/bpf", "etc/bpfso.mk"] {
        println!("cargo::rerun-if-changed={}", root.join(place).display());
    }
    for place in ["plugin", "host.c", "build.rs", "../../xtask/src/sdk.rs"] {
        println!("cargo::rerun-if-changed={place}");
    }

    let dist = out.join("dist");
    let _ = fs::remove_dir_all(&dist);
    for (place, source) in sdk::files(&root, include.parent().expect("a folder")).expect("headers")
    {
        copy(&source, &dist.join(place));
    }
    let bpfso = fs::read_to_string(root.join("etc/bpfso.mk")).expect("bpfso.mk");

    // unity's layout: plugin/NAME/Makefile includes plugin/bpfso.mk, which is a copy.
    let tree = out.join("plugin");
    let _ = fs::remove_dir_all(&tree);
    let mut names = Vec::new();
    let csample = root.join("plugins/csample");
    println!("cargo::rerun-if-changed={}", csample.display());
    let folders =
        fs::read_dir("plugin").expect("plugins").map(|entry| entry.expect("a folder").path());
    for folder in folders.chain([csample]) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        for file in fs::read_dir(&folder).expect("files").map(|entry| entry.expect("a file").path())
        {
            copy(&file, &tree.join(&name).join(file.file_name().expect("a name")));
        }
        names.push(name);
    }
    fs::write(tree.join("bpfso.mk"), sdk::bpfso_mk(&bpfso, &dist)).expect("bpfso.mk");
    names.sort();
    let mut code = String::new();
    for name in &names {
        run(Command::new("make").arg("-C").arg(tree.join(name)).env_remove("COLLECTOR_DIST"));
        let so = tree.join(name).join(format!("lib{name}.so"));
        code += &format!(
            "/// plugin/{name}.\npub static {}: &[u8] = include_bytes!({so:?});\n",
            name.to_uppercase()
        );
    }
    // Objects alone, for those who have no skeleton.
    for name in ["shows", "unlicensed", "proprietary"] {
        let object = tree.join(format!("object/.build/{name}.bpf.o"));
        let doc = format!("/// plugin/object/{name}.bpf.c.");
        code += &format!(
            "{doc}\npub static {}: &[u8] = include_bytes!({object:?});\n",
            name.to_uppercase()
        );
    }
    let host = out.join("host");
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    run(Command::new(cc)
        .args(["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-rdynamic"])
        .arg(format!("-I{}", dist.join("include").display()))
        .args(["host.c", "-ldl", "-lpthread", "-o"])
        .arg(&host));
    code += &format!("/// host.c.\npub static HOST: &[u8] = include_bytes!({host:?});\n");
    fs::write(out.join("made.rs"), code).expect("made.rs");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&text));
}
