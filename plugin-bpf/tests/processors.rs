//! Numbers of system calls that BPF programs know, by processor, beside those of the kernel's headers.

use std::collections::BTreeMap;
use std::fs;

/// What `unity/syscall_regs.h` says, by the processor's name there.
fn ours() -> BTreeMap<String, BTreeMap<String, i64>> {
    let header = include_str!("../bpf/unity/syscall_regs.h");
    let mut all = BTreeMap::<String, BTreeMap<String, i64>>::new();
    let mut processor = "";
    for line in header.lines() {
        if let Some((_, name)) = line.split_once("defined(__TARGET_ARCH_") {
            processor = name.trim_end_matches(')');
        }
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        if let ["#define", name, number] = words[..]
            && let Some(name) = name.strip_prefix("SYSCALL_")
            && let Ok(number) = number.parse()
        {
            all.entry(processor.to_owned()).or_default().insert(name.to_lowercase(), number);
        }
    }
    all
}

/// A call's number in a header of the kernel.
fn number(header: &str, name: &str) -> Option<i64> {
    let number = |line: &str| {
        let (call, number) = line.strip_prefix("#define __NR_")?.split_once(char::is_whitespace)?;
        number.trim().parse().ok().filter(|_| call == name)
    };
    header.lines().find_map(number)
}

#[test]
fn system_calls_have_the_numbers_of_the_kernels_headers() {
    let ours = ours();
    assert_eq!(Vec::from_iter(ours.keys()), ["arm64", "x86"]);
    let headers = [
        // All processors that came later have these.
        ("arm64", &["/usr/include/asm-generic/unistd.h"][..]),
        ("x86", &["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]),
    ];
    let mut compared = 0;
    for (processor, places) in headers {
        let Some(header) = places.iter().find_map(|place| fs::read_to_string(place).ok()) else {
            println!("no {}: {processor} is not compared", places.join(" nor "));
            continue;
        };
        for (name, known) in &ours[processor] {
            // What is not there has -2, which is no call's number.
            assert_eq!(number(&header, name).unwrap_or(-2), *known, "{processor}: {name}");
            compared += 1;
        }
    }
    if compared == 0 {
        println!("SKIPPED: none of the kernel's headers is here");
    }
}
