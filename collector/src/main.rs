//! `collector`: see `--help`.

use anyhow::Context as _;
use collector::cli::{Cli, CollectingFlags, Command};
use collector::isolated::{child, protocol};
use collector::messages::{self, Sayer};
use collector::output::http;
use collector::output::serve::Shared;
use collector::settings::Usage;
use collector::unknown_command::unknown_command;
use collector::{dashboard, process, run, show, stdout, top};
use env_logger::{Builder, Target};
use log::LevelFilter;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == protocol::WORD) {
        return child::main();
    }
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
        Some(Command::List { only, .. } | Command::Dashboard { names: only, .. }) => {
            collecting.only.clone_from(only);
        }
        Some(Command::Once { reports, .. }) => collecting.reports = *reports,
        Some(Command::Top { http: None, interval, only, .. }) => {
            collecting.only.clone_from(only);
            collecting.interval = interval.or(Some(Duration::from_secs(1)));
            collecting.shown = Some(Shared::new());
        }
        Some(Command::Check { names, outputs, .. }) => {
            collecting = CollectingFlags {
                only: if show::file_of(names)?.is_some() { Vec::new() } else { names.clone() },
                outputs: outputs.clone(),
                ..CollectingFlags::default()
            };
        }
        _ => {}
    }
    let check_config = collecting.check_config;
    let mut settings = flags.settings(collecting)?;
    log_to_stderr(settings.config.log);
    if command.is_some() && process::closed_at_start(process::StandardStream::Stdout) {
        return Err(
            Usage("standard output is closed: there is nowhere to show anything".into()).into()
        );
    }
    // Before any plugin is opened, which may print something.
    stdout::keep().context("keeping standard output")?;
    match command {
        None if check_config => show::check_config(&settings),
        None => run::run(settings),
        Some(Command::List { width, .. }) => show::list(&settings, width),
        Some(Command::Check { names, outputs, width }) => match show::file_of(&names)? {
            Some(_) if !outputs.is_empty() => {
                Err(Usage("a file is checked alone, without `--output`".to_owned()).into())
            }
            Some(file) => show::check_file(&settings, file, width),
            None => show::check(&settings, width),
        },
        Some(Command::Describe { name, json }) => show::describe(&settings, &name, json),
        Some(Command::Dashboard { language, .. }) => dashboard::dashboard(&settings, language),
        Some(Command::Top { http: Some(at), ca, .. }) => top::of_collector(&settings, at, ca),
        Some(Command::Top { http: None, .. }) => top::top(settings),
        Some(Command::Replay { file, at, http }) => top::replay(&settings, &file, at, http),
        Some(Command::Once { name, interval, count, flag, options, stacks, width, .. }) => {
            settings.set(&name, options);
            show::once(&settings, &name, flag.unwrap_or(interval), count, &stacks, width)
        }
        Some(Command::Other(words)) => {
            let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            Err(unknown_command(&settings, &word).into())
        }
    }
}

fn log_to_stderr(level: LevelFilter) {
    Builder::new()
        .filter_level(LevelFilter::Trace)
        .filter_module(http::SHOWS_SECRETS, LevelFilter::Debug)
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
    log::set_max_level(level); // which another configuration may change
}
