//! What libbpf says: the reason behind a bare errno.

use super::verdict;
use libbpf_rs::{PrintLevel, set_print};
use std::cell::RefCell;

thread_local! {
    static SAID: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn hear(level: PrintLevel, text: String) {
    let text = text.trim_end();
    plugin_api::log::debug!("{text}");
    if level == PrintLevel::Warn && !is_meant(text) {
        SAID.with_borrow_mut(|said| {
            if let Some(said) = said {
                said.push(text.strip_prefix("libbpf: ").unwrap_or(text).to_owned());
            }
        });
    }
}

/// Runs `work` and returns, beside its result, libbpf's warnings meanwhile, on this thread.
pub(crate) fn listening<R>(work: impl FnOnce() -> R) -> (R, Vec<String>) {
    // This library's own copy of libbpf: no other plugin hears or changes it.
    set_print(Some((PrintLevel::Info, hear)));
    SAID.set(Some(Vec::new()));
    let result = work();
    (result, SAID.take().unwrap_or_default())
}

/// The program that failed: libbpf stops at it, so it is the last one that a warning speaks of (`prog 'NAME':
/// ...`).
pub(crate) fn program(warnings: &[String]) -> Option<&str> {
    let mut named = warnings.iter().rev();
    named.find_map(|line| line.strip_prefix("prog '")?.split_once('\'').map(|(name, _)| name))
}

/// What libbpf warns of although it is meant: a data section that no loaded program reads is not created, and
/// so cannot be bound to the programs.
fn is_meant(warning: &str) -> bool {
    warning.contains("failed to bind map '.rodata")
}

/// Warnings in one line that a reader can do something with: libbpf's own sentences, and the verifier's verdict
/// with the line of C that it is about, without the log's bulk.
pub(crate) fn reason(warnings: &[String]) -> String {
    const SENTENCES: usize = 3;
    let mut sentences: Vec<&str> = Vec::new();
    let mut verdict = None;
    for warning in warnings {
        let (before, log, after) = around_log(warning);
        verdict = log.and_then(verdict::of).or(verdict);
        let lines = before.lines().chain(after.lines()).map(str::trim);
        for line in lines.filter(|line| !is_noise(line)) {
            if !sentences.contains(&line) {
                sentences.push(line);
            }
        }
    }
    let shown = &sentences[sentences.len().saturating_sub(SENTENCES)..];
    let parts: Vec<&str> = shown.iter().copied().chain(verdict.as_deref()).collect();
    parts.join("; ")
}

/// What stands before the verifier's log, the log, and what stands behind it.
fn around_log(warning: &str) -> (&str, Option<&str>, &str) {
    let Some((before, rest)) = warning.split_once("-- BEGIN PROG LOAD LOG --") else {
        return (warning, None, "");
    };
    let (log, after) = rest.split_once("-- END PROG LOAD LOG --").unwrap_or((rest, ""));
    // `prog 'NAME': ` introduces the log and says nothing.
    (before.rsplit_once('\n').map_or("", |(lines, _)| lines), Some(log), after)
}

fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("failed to load object")
        || line.starts_with("failed to load BPF skeleton")
        || line.contains(": failed to load: ")
        || line.contains("Retrying without BTF")
        || line.contains("try raising 'ulimit -l'") // its guess at any EPERM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_keeps_the_sentence_and_drops_the_log() {
        let warnings = [
            "prog 'shows_fentry': BPF program load failed: Operation not permitted",
            "prog 'shows_fentry': -- BEGIN PROG LOAD LOG --\n0: R1=ctx() R10=fp0\n; int x\n\
             0: (b7) r0 = 0\nR0 !read_ok\nprocessed 1 insns\n-- END PROG LOAD LOG --",
            "prog 'shows_fentry': failed to load: -1",
            "failed to load object 'bpfsample_bpf'",
        ]
        .map(str::to_owned);
        assert_eq!(program(&warnings), Some("shows_fentry"));
        let reason = reason(&warnings);
        assert_eq!(
            reason,
            "prog 'shows_fentry': BPF program load failed: Operation not permitted; R0 !read_ok at `int x` (the whole \
             log: collector --log debug)"
        );
    }
}
