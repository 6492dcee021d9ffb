//! `cargo xtask`: the developer's verbs. This file only dispatches; each verb is a module.

mod api;
mod apt;
mod arm64;
mod artifacts;
mod bench;
mod build;
mod charts;
mod command;
mod deps;
mod dist;
mod docs;
mod engines;
mod fuzz;
mod new;
mod readme;
mod root;
mod run;
mod sdk;
mod servers;
mod test;
mod tools;
mod verify;
mod vm;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Build, run, test and measure the collector and its plugins"
)]
#[command(after_help = include_str!("manual.txt"))]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the Debian packages that building and testing need
    Deps,
    /// Build the collector and the plugins into target/dist
    Build {
        /// Only these plugins
        plugins: Vec<String>,
    },
    /// Build, then make a .deb, an .rpm and a tar archive in target/packages
    Dist,
    /// Build, then become the collector on this machine
    Run {
        /// What the collector gets
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Test everything, or one plugin
    Test {
        /// A folder of plugins/: its lints and its tests on this machine's kernel only
        plugin: Option<String>,
        /// The plugin's tests on a virtual kernel, or on all of them and this machine's
        #[arg(long, requires = "plugin", value_parser = vm::series())]
        kernel: Option<String>,
    },
    /// Show how many instructions the kernels' verifiers process for each BPF program
    Verify {
        /// Rewrite the table that `cargo xtask test` compares with
        #[arg(long)]
        write: bool,
    },
    /// Run a command in a virtual machine with another kernel
    Vm(vm::Args),
    /// Load the tools' BPF programs into kernels for arm64, in emulated machines
    Arm64 {
        /// Which kernel
        #[arg(long, default_value = "6.12", value_parser = vm::series())]
        kernel: String,
    },
    /// Start a new plugin from the template
    New(new::Args),
    /// Write what `collector describe` says of plugins into their READMEs
    Readme {
        /// Only these plugins
        plugins: Vec<String>,
    },
    /// Compare what plugin-api offers with the list of what it has offered
    Api {
        /// Put what is new on the list
        #[arg(long)]
        write: bool,
    },
    /// Build the book of all manuals into target/book, and check its links
    Docs,
    /// Run a fuzz target for a while
    Fuzz(fuzz::Args),
    /// Measure
    Bench {
        /// What the bench program gets
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    dispatch(Cli::parse().verb).unwrap_or_else(|why| {
        eprintln!("error: {why:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Deps => deps::verb()?,
        Verb::Build { plugins } => build::verb(&plugins)?,
        Verb::Dist => dist::verb()?,
        Verb::Run { flags } => run::verb(&flags)?,
        Verb::Test { plugin: None, .. } => return test::everything(),
        Verb::Test { plugin: Some(name), kernel } => {
            return test::one_plugin(&name, kernel.as_deref());
        }
        Verb::Verify { write } => return verify::verb(write),
        Verb::Vm(args) => return vm::verb(&args),
        Verb::Arm64 { kernel } => return arm64::verb(&kernel),
        Verb::New(args) => new::verb(&args)?,
        Verb::Readme { plugins } => readme::verb(&plugins)?,
        Verb::Api { write } => api::verb(write)?,
        Verb::Docs => return docs::verb(),
        Verb::Fuzz(args) => fuzz::verb(&args)?,
        Verb::Bench { args } => bench::verb(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
