//! Other programs, with errors that repeat the command line.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::io;
use std::process::{Command, Output, Stdio};

/// The cargo that started us, in the workspace's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo
}

/// Runs a program that talks to the developer. Its output goes to standard error: standard output
/// belongs to what the verb was asked for.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(io::stderr()).status().with_context(|| starting(command))?;
    ensure!(status.success(), "`{}` ended with {status}", line(command));
    Ok(())
}

/// Runs a program for what it prints on standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, .. } =
        command.stderr(Stdio::inherit()).output().with_context(|| starting(command))?;
    ensure!(status.success(), "`{}` ended with {status}", line(command));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn starting(command: &Command) -> String {
    format!("starting `{}` (is it installed?)", line(command))
}

fn line(command: &Command) -> String {
    let program = workspace::file_name(command.get_program().as_ref());
    let arguments = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
