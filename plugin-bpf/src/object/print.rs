//! What libbpf says: the reason behind a bare errno.

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

/// Warnings in one line that a reader can do something with: libbpf's own sentences and the end of the
/// verifier's log, without the log's bulk.
pub(crate) fn reason(warnings: &[String]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for line in warnings.iter().flat_map(|warning| warning.lines()).map(str::trim) {
        let noise = line.is_empty()
            || line.starts_with("--")
            || line.starts_with("processed ")
            || line.starts_with("failed to load object")
            || line.starts_with("failed to load BPF skeleton")
            || line.contains(": failed to load: ")
            || line.contains("Retrying without BTF")
            || line.contains("try raising 'ulimit -l'") // its guess at any EPERM
            || line.contains("-- BEGIN PROG LOAD LOG --")
            || line.contains("-- END PROG LOAD LOG --");
        let verifier_trace = line.split_once(':').is_some_and(|(n, _)| {
            n.bytes().all(|b| b.is_ascii_digit()) || n.starts_with(['R', ';'])
        });
        if !noise && !verifier_trace && !parts.contains(&line) {
            parts.push(line);
        }
    }
    let from = parts.len().saturating_sub(4);
    parts[from..].join("; ")
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
        assert!(reason.contains("Operation not permitted"), "{reason}");
        assert!(reason.contains("R0 !read_ok") && !reason.contains("processed"), "{reason}");
    }
}
