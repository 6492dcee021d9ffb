//! `collector check`: whether this machine can run the plugins and reach the outputs.

use super::grid;
use crate::capabilities::{self, CapabilitySet, Held};
use crate::cli::{Settings, Width};
use crate::config::options;
use crate::folder;
use crate::form::Form;
use crate::load::Plugin;
use crate::output::reach;
use crate::process::thread_name;
use crate::read::{Line, read};
use crate::runner::{init, text};
use crate::sink::{Reports, Sink, Terms};
use crate::start::warn_of_sections_without_plugin;
use crate::stdout::print;
use crate::tick::Now;
use anyhow::Result;
use log::Level;
use plugin_api::{Tick, privileges};
use std::path::Path;
use std::thread;
use std::time::Instant;

/// What was found about one thing.
struct Found {
    what: String,
    state: &'static str,
    text: String,
}

impl Found {
    fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), state: "ok", text: text.into() }
    }

    /// Something that a plugin may need.
    fn missing(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), state: "missing", text: text.into() }
    }

    fn fails(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { what: what.into(), state: "fails", text: text.into() }
    }
}

/// Checks the machine, the configuration, the outputs, and the plugins that are named, else the enabled ones:
/// each is started, called once and ended. 1 when one of them fails.
///
/// # Errors
/// There is no plugins folder, or a plugin that is named is not in it.
pub fn check(settings: &Settings, width: Width) -> Result<u8> {
    let folder = folder::open(settings)?;
    folder::check_names(&folder, settings.only.iter().map(String::as_str))?;
    warn_of_sections_without_plugin(settings, &folder.plugins);
    let mut found = machine();
    if let Some(file) = &settings.file {
        found.push(Found::ok(format!("configuration {}", file.display()), ""));
    }
    for output in &settings.config.outputs {
        let what = format!("output {}", output.target);
        found.push(match reach(output) {
            Ok(()) => Found::ok(what, ""),
            Err(error) => Found::fails(what, format!("{error:#}")),
        });
    }
    let chosen: Vec<&Plugin> =
        folder.plugins.iter().filter(|it| settings.chosen(&it.description.name)).collect();
    let asked = chosen.iter().fold(CapabilitySet::empty(), |all, it| all | it.capabilities);
    capabilities::keep(asked, Level::Debug);
    for it in chosen {
        let what = format!("plugin {}", it.description.name);
        // Each on a thread of its own, as when collecting: it holds what this plugin needs.
        found.push(match on_a_thread(&it.description.name, || plugin(settings, it)) {
            Ok(text) => Found::ok(what, text),
            Err(reason) => Found::fails(what, reason),
        });
    }
    if settings.only.is_empty() {
        let refused = folder.refused.iter();
        found
            .extend(refused.map(|r| Found::fails(format!("file {}", r.path.display()), &r.reason)));
    }
    let failed = found.iter().any(|found| found.state == "fails");
    let mut rows = vec![["WHAT", "STATE", "TEXT"].map(str::to_owned)];
    rows.extend(
        found.into_iter().map(|Found { what, state, text }| [what, state.to_owned(), text]),
    );
    print(&grid::aligned(&rows, |_| false, width.columns()));
    Ok(u8::from(failed))
}

fn machine() -> Vec<Found> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    vec![
        Found::ok(format!("kernel {kernel}"), ""),
        if btf.exists() {
            Found::ok("kernel types (BTF)", "")
        } else {
            let text = format!("{} does not exist: programs that need it fall back", btf.display());
            Found::missing("kernel types (BTF)", text)
        },
        match privileges::missing() {
            None => Found::ok("privileges", ""),
            Some(missing) => Found::missing("privileges", missing),
        },
    ]
}

fn on_a_thread<T: Send>(
    name: &str,
    run: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(thread_name(name)).spawn_scoped(scope, run);
        let thread = thread.map_err(|why| format!("starting its thread: {why}"))?;
        thread.join().unwrap_or_else(|_| Err("the collector's own check panicked".to_owned()))
    })
}

/// What holds it, and which better ways were refused.
fn plugin(settings: &Settings, plugin: &Plugin) -> Result<String, String> {
    let description = &plugin.description;
    let config = settings.plugin(&description.name);
    let options = options::to_json(&config.options, description)?;
    let sink = Sink::leak(Terms {
        plugin: description.name.clone(),
        tables: Some(description.tables.clone()),
        forms: vec![Form::default()],
        reports: Reports::Full,
        tags: settings.config.tags.clone(),
        uint: settings.config.uint,
        limits: config.limits,
        // What it says when it starts is in the answer.
        log: |plugin, level, text| {
            if level <= Level::Warn {
                log::log!(target: plugin, level, "{text}");
            }
        },
    });
    let module = plugin.module;
    let failed = |what: &str, reason: String| format!("{what} failed: {reason}");
    let began = Instant::now();
    let mut held = Held::take(&description.name, plugin.capabilities);
    init(&mut held, &description.name, module, sink, &options).map_err(|e| failed("init", e))?;
    let elapsed_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let tick = Tick { seq: 0, time_ns: Now::read().wall_ns, elapsed_ns };
    sink.open(tick);
    let called = text(module.call()(&tick, sink.host()));
    let bytes = sink.close().into_only();
    let ended = text(module.deinit()());
    called.map_err(|e| failed("call", e))?;
    ended.map_err(|e| failed("deinit", e))?;
    let lines = read(&bytes).map_err(|error| format!("its lines cannot be read: {error:#}"))?;
    Ok(answer(&lines))
}

fn answer(lines: &[Line]) -> String {
    let field = |line: &Line, key| line.get(key).map(ToString::to_string).unwrap_or_default();
    let programs: Vec<_> = lines.iter().filter(|line| line.table == "collector_program").collect();
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for line in programs {
        let program = line.tag("program");
        match field(line, "state").as_str() {
            "refused" | "left out" => refused.push(format!("{program}: {}", field(line, "reason"))),
            "waiting" => held.push(format!("{program} (waits for something to attach to)")),
            _ => held.push(program.to_owned()),
        }
    }
    let mut parts = Vec::new();
    if !held.is_empty() {
        parts.push(format!("attached: {}", held.join(", ")));
    }
    if !refused.is_empty() {
        parts.push(format!("refused: {}", refused.join(" | ")));
    }
    if parts.is_empty() {
        let plural = if lines.len() == 1 { "" } else { "s" };
        parts.push(format!("{} line{plural}", lines.len()));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_what_holds_and_what_was_refused() {
        let lines = "collector_program,program=a_btf reason=\"no BTF\",state=\"refused\" 1\n\
                     collector_program,program=a_tp hook=\"tp\",state=\"attached\" 1\n\
                     collector_program,program=b_usdt hook=\"usdt\",state=\"waiting\" 1\n\
                     a n=1i 1\n";
        let expected = "attached: a_tp, b_usdt (waits for something to attach to); \
                        refused: a_btf: no BTF";
        assert_eq!(answer(&read(lines.as_bytes()).unwrap()), expected);
        assert_eq!(answer(&read(b"a n=1i 1\n").unwrap()), "1 line");
    }
}
