//! Compiles the C++ program that tools look into, for machines without a compiler too; an empty file where there is none
//! here.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

const SOURCE: &str = "src/unharmed/watched.cpp";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CXX");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("watched");
    let mut command = Command::new(env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    command.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    command.args(["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]);
    // A machine has the C library alone.
    command.args(["-static-libstdc++", "-static-libgcc", SOURCE, "-o"]).arg(&out);
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}:\n{text}");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("cargo::warning=no C++ compiler: tests without a program in C++");
            fs::write(out, "").expect("a file in OUT_DIR");
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}
