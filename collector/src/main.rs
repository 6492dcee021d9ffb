//! `collector`: see `--help`.

use clap::Parser;
use collector::cli::{Cli, Command, Flags, Usage};
use collector::messages::{self, Sayer};
use collector::output::http;
use collector::{process, run, show};
use env_logger::{Builder, Target};
use log::LevelFilter;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    let code = start().and_then(|()| dispatch(flags, command)).unwrap_or_else(|error| {
        messages::say(format!("collector: {error:#}\n").as_bytes());
        if error.is::<Usage>() { 2 } else { 1 }
    });
    messages::flush();
    ExitCode::from(code)
}

fn start() -> anyhow::Result<()> {
    process::keep_memory_private()?;
    messages::start()?;
    // The standard library's would wait for a reader.
    panic::set_hook(Box::new(|info| {
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        log::error!("{info}{trace}");
        messages::flush();
    }));
    Ok(())
}

fn dispatch(flags: Flags, command: Option<Command>) -> anyhow::Result<u8> {
    let interval = flags.interval;
    let settings = flags.settings()?;
    log_to_stderr(settings.config.log);
    if command.is_some() && process::closed_at_start(process::Stream::Stdout) {
        return Err(
            Usage("standard output is closed: there is nowhere to show anything".into()).into()
        );
    }
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
        .target(Target::Pipe(Box::new(Sayer)))
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
