//! The tables that the SDK fills for every plugin in Rust: what programs missed, what maps take and what they could not
//! store. No plugin describes them.

use plugin_api::describe::{Field, Table, Tag};
use plugin_api::{Kind, Unit};

/// Kernel memory of all plugins, one beside the other.
pub(super) fn memory() -> Table {
    Table {
        name: "collector_bpf".to_owned(),
        text: "All BPF maps of a plugin.".to_owned(),
        tags: vec![tag("plugin", "Its name.")],
        fields: vec![field("map_bytes", "Kernel memory of its maps.", Kind::Gauge, Unit::Bytes)],
    }
}

/// Those of their fields that are worth a panel.
pub(super) fn tables() -> [Table; 2] {
    let counter = |name: &str, text: &str| field(name, text, Kind::Counter, Unit::None);
    [
        Table {
            name: "collector_program".to_owned(),
            text: "One BPF program of a plugin.".to_owned(),
            tags: vec![tag("program", "The program's function.")],
            fields: vec![
                counter("missed", "Events that the kernel did not run the program for."),
                field(
                    "run_ns",
                    "Time in the program; with `bpf_stats = true`.",
                    Kind::Counter,
                    Unit::Ns,
                ),
                field("attached", "1 while it is attached, else 0.", Kind::Gauge, Unit::None),
            ],
        },
        Table {
            name: "collector_map".to_owned(),
            text: "A map of a plugin that can lose something.".to_owned(),
            tags: vec![tag("map", "Its name in the program.")],
            fields: vec![
                counter("full", "Events without room."),
                counter("busy", "Events that the kernel refused for another reason."),
                counter("truncated", "Stored, with their end cut off."),
                counter("unmatched", "Ended without a known begin."),
                field("size_bytes", "Kernel memory of the map.", Kind::Gauge, Unit::Bytes),
            ],
        },
    ]
}

fn field(name: &str, text: &str, kind: Kind, unit: Unit) -> Field {
    Field { name: name.to_owned(), text: text.to_owned(), kind, unit }
}

fn tag(name: &str, text: &str) -> Tag {
    Tag { name: name.to_owned(), text: text.to_owned() }
}
