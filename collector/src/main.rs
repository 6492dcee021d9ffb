//! `collector`: see `--help`.

use clap::Parser;
use collector::cli::{Cli, Command, Flags, Usage};
use collector::output::http;
use collector::{run, show};
use env_logger::Builder;
use log::LevelFilter;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    match dispatch(flags, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("collector: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn dispatch(flags: Flags, command: Option<Command>) -> anyhow::Result<u8> {
    let interval = flags.interval;
    let settings = flags.settings()?;
    log_to_stderr(settings.config.log);
    match command {
        None => run::run(&settings),
        Some(Command::List) => show::list(&settings),
        Some(Command::Describe { name, json }) => show::describe(&settings, &name, json),
        Some(Command::Once { name }) => {
            show::once(&settings, &name, interval.unwrap_or(Duration::from_secs(5)))
        }
    }
}

fn log_to_stderr(level: LevelFilter) {
    Builder::new()
        .filter_level(level)
        .filter_module(http::SHOWS_SECRETS, level.min(LevelFilter::Debug))
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            // A plugin's texts carry its name; the collector's own name what they are about.
            match record.target().split("::").next() {
                None | Some("collector") => writeln!(out, "collector: {level}: {}", record.args()),
                Some(plugin) => writeln!(out, "collector: {level}: {plugin}: {}", record.args()),
            }
        })
        .init();
}
