//! `collector`: see `--help`.

use anyhow::Context as _;
use collector::cli::{Cli, CollectingFlags, Command, Usage};
use collector::messages::{self, Sayer};
use collector::output::http;
use collector::unknown_command::unknown_command;
use collector::{process, run, show, stdout};
use env_logger::{Builder, Target};
use log::LevelFilter;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::of_this_process();
    let code = start().and_then(|()| dispatch(cli)).unwrap_or_else(|error| {
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

fn dispatch(Cli { flags, mut collecting, command }: Cli) -> anyhow::Result<u8> {
    match &command {
        Some(Command::List { only, .. }) => collecting.only.clone_from(only),
        Some(Command::Once { reports, .. }) => collecting.reports = *reports,
        Some(Command::Check { names, outputs, .. }) => {
            collecting = CollectingFlags {
                only: names.clone(),
                outputs: outputs.clone(),
                ..CollectingFlags::default()
            };
        }
        _ => {}
    }
    let settings = flags.settings(collecting)?;
    log_to_stderr(settings.config.log);
    if command.is_some() && process::closed_at_start(process::Stream::Stdout) {
        return Err(
            Usage("standard output is closed: there is nowhere to show anything".into()).into()
        );
    }
    // Before any plugin is opened, which may print something.
    stdout::keep().context("keeping standard output")?;
    match command {
        None => run::run(&settings),
        Some(Command::List { width, .. }) => show::list(&settings, width),
        Some(Command::Check { width, .. }) => show::check(&settings, width),
        Some(Command::Describe { name, json }) => show::describe(&settings, &name, json),
        Some(Command::Once { name, interval, count, flag, width, .. }) => {
            show::once(&settings, &name, flag.unwrap_or(interval), count, width)
        }
        Some(Command::Other(words)) => {
            let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            Err(unknown_command(&settings, &word).into())
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
