//! Functions and a static probe of this very program.

use super::{EXE, Tool};
use plugin_bpf::{Target, kernel_at_least};
use std::fs;
use std::hint::black_box;
use system_tests::links::want;

/// Calls it with 0, 1, .. as often as said.
pub fn call(times: u64) {
    for n in 0..times {
        assert_eq!(links_test_called(black_box(n)), 2 * n);
    }
}

/// As `call`, the other function.
pub fn call_too(times: u64) {
    for n in 0..times {
        assert_eq!(links_test_called_too(black_box(n)), 3 * n);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn links_test_called(n: u64) -> u64 {
    black_box(n) * 2
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn links_test_called_too(n: u64) -> u64 {
    black_box(n) * 3
}

/// Passes a number to the static probe `links_test:passed`, as DTRACE_PROBE1 of sys/sdt.h would.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn pass(n: u64) {
    // SAFETY: one nop; the note lies in a section of its own that the program does not load.
    unsafe {
        std::arch::asm!(
            "990: nop",
            ".pushsection .note.stapsdt, \"\", \"note\"",
            ".balign 4",
            ".4byte 992f-991f, 994f-993f, 3", // sizes of name and content; the type
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b, 0, 0", // the probe; no base, no semaphore
            ".asciz \"links_test\"",
            ".asciz \"passed\"",
            ".asciz \"8@%rdi\"",
            "994: .balign 4",
            ".popsection",
            in("rdi") n,
            options(nostack, preserves_flags)
        );
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a folder").count()
}

#[cfg(target_arch = "x86_64")]
fn passed() -> Vec<(&'static str, Target)> {
    // Of this process: before Linux 5.15 a position-independent program needs it.
    let own = i32::try_from(std::process::id()).expect("a pid");
    vec![("passed_usdt", Target::usdt(EXE, "links_test", "passed").of_pid(own))]
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_static_probe_passes_its_arguments_while_it_is_attached() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    for (key, sum) in [(1, 4950), (2, 4950)] {
        want(vec![(key, passed())]);
        let lines = tool.during(|| (0..100).for_each(pass));
        assert_eq!((lines.count("probes"), lines.count("passed")), (100, sum));
        assert_eq!(lines.state("passed_usdt"), ("attached", 1));
    }
    want(Vec::new());
    let lines = tool.during(|| (0..100).for_each(pass));
    assert_eq!(lines.count("probes"), 0);

    want(vec![(3, vec![("passed_usdt", Target::usdt(EXE, "links_test", "absent"))])]);
    let lines = tool.call();
    let reason = lines.reason("passed_usdt").expect("a reason");
    println!("refused: {reason}");
    for word in ["/proc/self/exe has no static probe `links_test:absent`", "`readelf -n FILE`"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

/// Before 5.15 a site is known by its address alone.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_second_link_to_a_static_probe_is_refused_where_the_kernel_has_no_cookies() {
    let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
    want(vec![(1, passed()), (2, passed())]);
    let lines = tool.call();
    let links = if kernel_at_least(5, 15) { 2 } else { 1 };
    assert_eq!(lines.state("passed_usdt"), ("attached", links));
    let reason = lines.reason("passed_usdt");
    assert_eq!(
        reason.is_some_and(|reason| reason.contains("IP collision")),
        links == 1,
        "{reason:?}"
    );
    let lines = tool.during(|| (0..10).for_each(pass));
    assert_eq!(lines.count("probes"), 10 * links);
}

/// A link of a static probe points into its object, and is detached first whatever else the tool does.
#[cfg(target_arch = "x86_64")]
#[test]
fn static_probes_are_attached_and_dropped_two_hundred_times() {
    let mut before = None;
    for round in 0..200u64 {
        let mut tool = Tool::start(r#"{"what":"user"}"#).expect("it loads");
        // In most rounds one link, which the object outlives; in some a second one, detached before.
        let second = (round % 8 == 0 && kernel_at_least(5, 15)).then(|| (2, passed()));
        want([(1, passed())].into_iter().chain(second.clone()).collect());
        let lines = tool.during(|| (0..round).for_each(pass));
        let links = if second.is_some() { 2 } else { 1 };
        assert_eq!(lines.count("probes"), links * round);
        if second.is_some() {
            want(vec![(1, passed())]);
            assert_eq!(tool.during(|| pass(1)).count("probes"), 1);
        }
        drop(tool);
        let now = descriptors();
        assert_eq!(now, *before.get_or_insert(now), "descriptors stay open, round {round}");
    }
}
