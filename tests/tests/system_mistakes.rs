//! What authors read when they make a mistake: the compiler's words with the place, and the words that are right.

use std::fs;
use system_tests::tree::{Tree, printed};

const C: &str = "plugins/demo/src/demo.bpf.c";
const RUST: &str = "plugins/demo/src/lib.rs";

/// A file, a text in it, what an author writes instead, and what the build then says.
struct Mistake(&'static str, &'static str, &'static str, &'static [&'static str]);

const KINDS: &str = "the kinds are counter, gauge, float, flag, text and histogram";
const UNITS: &str = "the units are ns, us, ms, s and bytes";

const MISTAKES: &[Mistake] = &[
    // C
    Mistake(
        C,
        "FORKS, 1)",
        "FORK, 1)",
        &["src/demo.bpf.c:8:24: error: use of undeclared identifier 'FORK'"],
    ),
    Mistake(
        C,
        "FORKS, 1)",
        "1, 1)",
        &["src/demo.bpf.c:8:2", "counters_add: this map has no such counter"],
    ),
    Mistake(
        C,
        "counters_add(&counts, FORKS, 1)",
        "const int three = 3; counters_add(&counts, three, 1)",
        &["counters_add: this map has no such counter"],
    ),
    // Tables
    Mistake(RUST, "forks: counter", "forks: cuonter", &["`cuonter` is no kind of a field", KINDS]),
    Mistake(
        RUST,
        "forks: counter",
        "forks: counter(usec)",
        &["`usec` is no unit of a field", UNITS],
    ),
    Mistake(
        RUST,
        "forks: counter",
        "forks: counter [optonal]",
        &["`[optonal]`", "write `[optional]`"],
    ),
    Mistake(
        RUST,
        "forks: counter",
        "forks counter",
        &["table! takes", KINDS, "ns, us, ms, s and bytes"],
    ),
    Mistake(RUST, "forks: counter", "forks: counter(us)", &["a field's name must end in its unit"]),
    Mistake(
        RUST,
        "/// The tool.\n",
        "table! { /// Another.\n other { forks: counter \"Forks.\" } }\n/// The tool.\n",
        &[],
    ),
    Mistake(
        RUST,
        "lines.push(demo::Row {",
        "lines.push(other::Row { forks: 1 })?;\n lines.push(demo::Row {",
        &["a line of a table that is not exported", "export_tool!(TOOL: table, another_table);"],
    ),
    // Options
    Mistake(
        RUST,
        "/// The tool.\n",
        "options! { /// Takes.\n pub struct Options { /// A rate.\n rate: u64 = 1 } }\n/// The tool.\n",
        &[],
    ),
    Mistake(
        RUST,
        "rate: u64 = 1",
        "rate: u32 = 1",
        &[
            "an option cannot have the type `u32`",
            "types are bool, u64, f64, String, Duration, Bytes",
        ],
    ),
    Mistake(RUST, "rate: u64 = 1", "rate: u64", &["options! takes", "`name: type = default,`"]),
    Mistake(
        RUST,
        "rate: u64 = 1",
        "rate: u64 [1..9] = 1",
        &["write `low..=high`, `low..` or `..=high`"],
    ),
    // Hooks
    Mistake(
        RUST,
        "    fn rows(",
        "    fn hooks(&self) -> Hooks { Hooks::all([Hook::of(\"frok\")]) }\n    fn rows(",
        &["src/demo.bpf.c: program `fork_btf` belongs to no hook", "Hooks::without"],
    ),
];

#[test]
fn a_mistake_is_told_with_its_place_and_what_is_right() {
    let tree = Tree::copy();
    assert!(tree.cargo(&["xtask", "new", "demo"]).status.success());
    for Mistake(file, from, to, words) in MISTAKES {
        let old = tree.replace(file, from, to);
        if words.is_empty() {
            continue; // no mistake, but the ground for the next ones
        }
        let output = tree.cargo(&["check", "--package", "demo"]);
        let text = printed(&output);
        println!("== {to}\n{text}");
        assert!(!output.status.success(), "`{to}` compiles");
        // What rustc says beside it comes later.
        let errors: Vec<&str> = text.split("\nerror").collect();
        let first = if *file == RUST { errors[..2].join("\nerror") } else { text.clone() };
        for word in *words {
            assert!(first.contains(word), "`{to}`: no `{word}` in:\n{first}");
        }
        for noise in
            ["Caused by", "stack backtrace", "failed to run custom build command", "command `clang"]
        {
            assert!(!text.contains(noise), "`{to}`: `{noise}` in:\n{text}");
        }
        fs::write(tree.path(file), old).expect("as it was");
    }
    let output = tree.cargo(&["check", "--package", "demo"]);
    assert!(output.status.success(), "without mistakes it compiles:\n{}", printed(&output));
}
