//! `collector check`: whether this machine can run the plugins and reach the outputs.

use super::conformance::onlooker::Onlooker;
use super::memory::Memory;
use super::trial::trial;
use super::{Width, grid, on_a_thread};
use crate::capabilities;
use crate::encode::INTERVAL_FIELD;
use crate::folder;
use crate::load::Plugin;
use crate::output::reach;
use crate::read::{Line, Value};
use crate::settings::Settings;
use crate::sink::is_report;
use crate::stdout::print;
use anyhow::{Context as _, Result};
use log::Level;
use plugin_api::privileges;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

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
    let folder = folder::open(settings, &|name| settings.chosen(name))?;
    folder::check_names(&folder, settings.only.iter().map(String::as_str))?;
    folder::warn_of_sections_without_plugin(settings, &folder);
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
    let onlooker = Onlooker::start().context("a thread that looks on")?;
    capabilities::keep(folder::asked(settings, &chosen), Level::Debug);
    let mut memory = Memory::before(&onlooker);
    for it in chosen {
        let what = format!("plugin {}", it.description.name);
        memory.begin(&onlooker);
        // Each on a thread of its own, as when collecting: it holds what this plugin needs.
        let tried = on_a_thread(&it.description.name, || {
            trial(settings, it, Duration::ZERO, |process| memory.add(&onlooker, process))
        });
        found.push(match tried {
            Ok(lines) => Found::ok(what, answer(&lines)),
            Err(reason) => Found::fails(what, reason),
        });
    }
    found.push(match memory.text() {
        Ok(text) => Found::ok("memory", text),
        Err(why) => Found::missing("memory", why),
    });
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

/// What holds it, and which better ways were refused; of a C plugin, what is wrong with its lines.
pub(super) fn answer(lines: &[Line]) -> String {
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
        let count = lines.iter().filter(|line| !is_report(&line.table)).count();
        let plural = if count == 1 { "" } else { "s" };
        parts.push(format!("{count} line{plural}"));
    }
    let reports = lines.iter().filter(|line| line.table == "collector_c_plugin");
    let wrong: Vec<String> =
        wrong(reports).into_iter().map(|(key, count)| format!("{key} {count}")).collect();
    if !wrong.is_empty() {
        parts.push(format!("wrong: {}", wrong.join(", ")));
    }
    parts.join("; ")
}

/// What lines of `collector_c_plugin` have counted that an author got wrong.
pub(super) fn wrong<'a>(lines: impl Iterator<Item = &'a Line>) -> BTreeMap<&'a str, u64> {
    let mut wrong = BTreeMap::new();
    for (key, value) in lines.flat_map(|line| &line.fields) {
        let count = match value {
            Value::I64(count) => u64::try_from(*count).unwrap_or_default(),
            Value::U64(count) => *count,
            _ => 0,
        };
        if count > 0 && !key.starts_with("lines_") && key != INTERVAL_FIELD {
            *wrong.entry(key.as_str()).or_default() += count;
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read;

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
        let lines = "a n=1 1\na n=2 2\n\
                     collector_c_plugin,plugin=x lines_called=2i,after_hole=1i,bad_log=0i,interval_ns=5i 1\n";
        assert_eq!(answer(&read(lines.as_bytes()).unwrap()), "2 lines; wrong: after_hole 1");
    }
}
