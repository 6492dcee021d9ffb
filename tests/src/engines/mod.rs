//! What stands for servers and programs that no package of Debian has: the engine of InfluxDB 3, the compiler of
//! InfluxDB 2's Flux, and Grafana's own types. `cargo xtask` keeps them beside the servers.

mod datafusion;
mod flux;
mod grafana;

pub use datafusion::{Answer, datafusion};
pub use flux::flux;
pub use grafana::grafana;

use crate::servers::executable;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Packages of npm.
fn node_modules() -> PathBuf {
    executable("npm/node_modules")
}

/// Gives a program something to read; what it prints.
///
/// # Panics
/// It fails.
fn said(command: &mut Command, input: String) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end before it has read everything.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("its words");
    writer.join().expect("it wrote");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A script beside this file.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engines").join(name)
}
