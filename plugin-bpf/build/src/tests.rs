//! What an author reads when a program's declarations are wrong.

use super::skeleton;
use std::fs;
use tempfile::tempdir;

/// The Rust side of a program, or the error.
fn build(source: &str) -> Result<String, String> {
    let folder = tempdir().expect("a folder");
    let file = folder.path().join("demo.bpf.c");
    let program = format!("#include \"unity.bpf.h\"\n{source}\n");
    fs::write(&file, program).expect("a file");
    skeleton(&file, folder.path())?;
    Ok(fs::read_to_string(folder.path().join("demo.skel.rs")).expect("what it wrote"))
}

fn error(source: &str) -> String {
    build(source).err().unwrap_or_else(|| panic!("this should not build: {source}"))
}

const PROGRAM: &str = "ON_TRACEPOINT(fork, sched, sched_process_fork) { counters_add(&counts, A, 1); \
                       return 0; }";

#[test]
fn names_of_counters_become_fields() {
    let code = build(&format!("COUNTERS(counts, A, LONG_NAME);\n{PROGRAM}")).unwrap();
    assert!(code.contains("pub a: u64,") && code.contains("pub long_name: u64,"), "{code}");
    assert!(code.contains("pub counts: Counters<counts>,"), "{code}");
}

#[test]
fn a_counter_of_another_map_or_past_the_end_does_not_compile() {
    let two = "COUNTERS(counts, A);\nCOUNTERS(others, B, C);\n";
    let why = error(&format!("{two}{}", PROGRAM.replace("A, 1", "7, 1")));
    assert!(why.contains("counters_add: this map has no such counter"), "{why}");
    let why = error(&format!("{two}{}", PROGRAM.replace("A, 1", "B, 1")));
    assert!(why.contains("implicit conversion from enumeration type 'enum others'"), "{why}");
    let why = error(&format!("COUNTER_ARRAY(counts, 4);\n{}", PROGRAM.replace("A, 1", "4, 1")));
    assert!(why.contains("counters_add: this map has no such counter"), "{why}");
    let why = error(&format!(
        "COUNTER_ARRAY(counts, 4);\n{}",
        PROGRAM
            .replace("counters_add", "const int four = 4; counters_add")
            .replace("A, 1", "four, 1")
    ));
    assert!(why.contains("counters_add: this map has no such counter"), "{why}");
    let histogram = "HISTOGRAM(counts, 1, 1);\nON_TRACEPOINT(fork, sched, sched_process_fork) { CUT(cut); \
                     histogram_add(cut, &counts, 1, 7); return 0; }";
    let why = error(histogram);
    assert!(why.contains("histogram_add: this map has no such histogram"), "{why}");
}

#[test]
fn a_mistake_in_c_is_told_in_the_compilers_words_alone() {
    let why = error(&format!("COUNTERS(counts, A);\n{}", PROGRAM.replace("A, 1", "A, unknown")));
    assert!(why.contains("demo.bpf.c:3:") && why.contains("'unknown'"), "{why}");
    assert!(why.ends_with("1 error generated."), "{why}"); // one mistake, told once
    for ours in ["failed to", "Caused by", "clang -", "backtrace"] {
        assert!(!why.contains(ours), "{ours}: {why}");
    }
}

/// Its name has to be a constant expression no more than its number has.
#[test]
fn a_counter_by_a_constant_variable_compiles() {
    let source = PROGRAM.replace("counters_add", "const int last = 3; counters_add");
    build(&format!("COUNTER_ARRAY(counts, 4);\n{}", source.replace("A, 1", "last, 1"))).unwrap();
}

#[test]
fn a_table_needs_the_cut() {
    let source = "TABLE(names, __u32, __u64, 16);\nON_TRACEPOINT(fork, sched, sched_process_fork) \
                  { __u32 key = 0; table_add(&names, &key, 1); return 0; }";
    error(source);
}

/// What not every byte is a value of, Rust shall not read.
#[test]
fn types_that_rust_cannot_read_are_named_with_what_to_do() {
    let table = |of: &str| {
        format!(
            "struct key {{ {of} }};\nTABLE(names, struct key, __u64, 16);\nCOUNTERS(counts, A);\n{PROGRAM}"
        )
    };
    for (of, words) in [
        ("bool flag;", "field `flag` is a bool, which not every byte is; use __u8"),
        ("void *task;", "field `task` is a pointer"),
        ("__u32 a : 3;", "field `a` is a bit field; use whole bytes"),
        ("__u8 a; __u32 b __attribute__((packed));", "field `b` is not aligned"),
        ("union { __u32 a; __u64 b; } u;", "field `u` is a union"),
    ] {
        let why = error(&table(of));
        assert!(
            why.contains("map `names`: its key is struct key: ") && why.contains(words),
            "{why}"
        );
    }
}

#[test]
fn padding_is_written_out_as_a_field() {
    let source = format!(
        "struct key {{ __u8 a; __u64 b; __u16 c; }};\nTABLE(names, struct key, __u64, 16);\n\
         COUNTERS(counts, A);\n{PROGRAM}"
    );
    let code = build(&source).unwrap();
    for field in ["padding_at_1: [u8; 7]", "padding_at_18: [u8; 6]"] {
        assert!(code.contains(field), "{code}");
    }
    assert!(code.contains("size_of::<key>() == 24"), "{code}");
}

#[test]
fn a_program_is_listed_with_the_maps_that_it_uses() {
    let source = format!(
        "COUNTERS(counts, A);\nLRU_HASH(state, __u32, __u64, 8);\n{PROGRAM}\n\
         SEC(\"tp/sched/sched_process_exit\") int exit_tp(void *ctx) \
         {{ __u32 key = 1; bpf_map_delete_elem(&state, &key); return 0; }}"
    );
    let code = build(&source).unwrap();
    let exit = code.lines().find(|line| line.contains("\"exit_tp\"")).expect("the program");
    assert!(exit.contains(r#"maps: &["state"]"#), "{exit}");
    let fork = code.lines().find(|line| line.contains("\"fork_raw\"")).expect("the program");
    assert!(fork.contains("counts") && !fork.contains("state"), "{fork}");
}
