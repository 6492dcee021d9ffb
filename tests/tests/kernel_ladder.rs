//! Hooks fall one by one, each for its own reasons.

use plugin_testing::{Harness, Line};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::fs;
use system_tests::ladder::Plugin;

fn start(asked: &str) -> Result<Harness<Plugin>, String> {
    Harness::init(&format!(r#"{{"asked":"{asked}"}}"#)).map_err(|error| format!("{error:#}"))
}

/// One thread that renames itself.
fn rename() {
    let named = std::thread::Builder::new().name("ladder".into());
    named.spawn(|| ()).expect("a thread").join().expect("no panic");
}

/// State, hook and reason, by program.
fn programs(lines: &[Line]) -> BTreeMap<String, (String, Option<String>, Option<String>)> {
    let lines = lines.iter().filter(|line| line.table == "collector_program");
    let text = |line: &Line, field: &str| line.get(field).map(|_| line.text(field).to_owned());
    let entry = |l: &Line| (l.text("state").to_owned(), text(l, "hook"), text(l, "reason"));
    lines.map(|line| (line.tag("program").to_owned(), entry(line))).collect()
}

fn state(state: &str, hook: Option<&str>) -> (String, Option<String>) {
    (state.to_owned(), hook.map(str::to_owned))
}

/// A field that a record lacks cost the ways that read no record.
#[test]
fn each_hook_falls_for_its_own_reasons_and_reports_its_own_mechanism() {
    let mut tool = start("working").expect("every hook has a way");
    rename();
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "ladder").expect("a line");
    assert!(line.u64("renames") >= 1 && line.u64("forks") >= 1, "{line:?}");
    assert_eq!(line.u64("names"), 1, "what stands behind a name's end is no part of its key");

    let programs = programs(&lines);
    println!("{programs:#?}");
    let of = |name: &str| {
        let (state, hook, _) = programs.get(name).unwrap_or_else(|| panic!("no line of {name}"));
        (state.clone(), hook.clone())
    };
    // rename never looked at its record, so nobody speaks of the field that it lacks.
    assert!(!programs.contains_key("rename_tp"));
    let rename = if programs.contains_key("rename_raw") { "raw_tp" } else { "tp_btf" };
    let name = if rename == "raw_tp" { "rename_raw" } else { "rename_btf" };
    assert_eq!(of(name), state("attached", Some(rename)));
    assert_eq!(of("fork_btf"), state("refused", None));
    assert_eq!(of("fork_raw"), state("refused", None));
    assert_eq!(of("fork_tp"), state("attached", Some("tp")));
    assert!(!programs.contains_key("guess_btf") && !programs.contains_key("narrow_tp"));
}

#[test]
fn a_program_that_the_tool_finds_idle_costs_its_hook_one_way() {
    let mut tool = start("trial").expect("the next way works");
    let quiet = tool.call().expect("a tick");
    let programs = programs(&quiet);
    if let Some((state, _, reason)) = programs.get("rename_btf") {
        // Where there is BTF.
        assert_eq!((state.as_str(), reason.as_deref()), ("refused", Some("asleep")));
    }
    assert_eq!(programs["rename_raw"].0, "attached");
    let of =
        |lines: &[Line]| lines.iter().find(|l| l.table == "ladder").expect("a line").u64("renames");
    assert_eq!(of(&quiet), 0, "what it counted before its first tick");
    rename();
    assert_eq!(of(&tool.call().expect("a tick")), 1);
    let error = start("idle").err().expect("no way is left").to_string();
    assert_eq!(error, "no way to observe `rename` works here: rename_raw: asleep");
}

#[test]
fn an_optional_hook_is_left_out_with_its_reason() {
    let mut tool = start("optional").expect("what is needed has a way");
    let programs = programs(&tool.call().expect("a tick"));
    let (state, hook, reason) = &programs["guess_btf"];
    assert_eq!((state.as_str(), hook), ("left out", &None));
    assert!(reason.as_ref().is_some_and(|r| r.contains("no_such_tracepoint")), "{reason:?}");
    assert_eq!(programs["fork_tp"].0, "attached");
}

#[test]
fn a_needed_hook_without_a_way_is_the_error_and_no_other_is_blamed() {
    let error = start("needed").err().expect("refused");
    println!("{error}");
    assert!(
        error.contains("no way to observe `guess`") && error.contains("guess_btf: "),
        "{error}"
    );
    assert!(!error.contains("rename") && !error.contains("fork_tp"), "{error}");
}

#[test]
fn of_two_mechanisms_the_second_is_taken_whole() {
    let mut tool = start("or").expect("the second set works");
    rename();
    let lines = tool.call().expect("a tick");
    let programs = programs(&lines);
    assert_eq!(programs["guess_btf"].0, "refused");
    assert_eq!(programs["fork_tp"].0, "attached");
    let line = lines.iter().find(|l| l.table == "ladder").expect("a line");
    assert!(line.u64("renames") >= 1 && line.u64("forks") >= 1, "{line:?}");
}

/// Not once for each set of hooks that needs it, and not again at the next start.
#[test]
fn a_refusal_is_logged_once_for_each_program() {
    let starts = [
        "of_two_mechanisms_the_second_is_taken_whole",
        "each_hook_falls_for_its_own_reasons_and_reports_its_own_mechanism",
    ];
    let exe = std::env::current_exe().expect("a path of this program");
    let output = std::process::Command::new(exe)
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .args(starts)
        .output()
        .expect("these tests run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for program in ["guess_btf", "fork_btf", "fork_raw"] {
        let line = format!("{program} is not attached: ");
        assert_eq!(said.matches(&line).count(), 1, "{program}: {said}");
    }
}

#[test]
fn a_record_that_does_not_fit_is_named_with_its_field() {
    plugin_bpf::only_kind("tp");
    let error = start("record").err().expect("rename's record has no such field");
    println!("{error}");
    assert!(error.contains("rename_tp: ") && error.contains("no field `no_such_field`"), "{error}");
    plugin_bpf::only_kind("tp");
    let error = start("narrow").err().expect("pid has four bytes");
    println!("{error}");
    assert!(
        error.contains("`pid`") && error.contains("4 bytes") && error.contains("reads 8"),
        "{error}"
    );
}

#[test]
fn the_verifiers_verdict_names_its_line_of_c() {
    let error = start("wild").err().expect("the verifier refuses it");
    println!("{error}");
    assert!(error.contains("wild_raw: ") && error.contains("invalid mem access"), "{error}");
    assert!(error.contains("return *(__u32 *)task;"), "{error}");
    assert!(error.contains("(the whole log: collector --log debug)"), "{error}");
    if plugin_bpf::kernel_at_least(6, 9) {
        let source = include_str!("../src/ladder.bpf.c").lines();
        let line = source.enumerate().find(|(_, line)| line.contains("*(__u32 *)task"));
        let (line, _) = line.expect("the line");
        assert!(error.contains(&format!(" at ladder.bpf.c:{}: ", line + 1)), "{error}");
    }
}

#[test]
fn a_test_whose_tool_does_not_start_shows_the_whole_log() {
    let test = std::env::current_exe().expect("this test");
    let only = ["--exact", "the_verifiers_verdict_names_its_line_of_c", "--nocapture"];
    let output = std::process::Command::new(test).args(only).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("-- BEGIN PROG LOAD LOG --"), "{text}");
    assert!(text.contains("(61) r0 = *(u32 *)(r0 +0)"), "{text}");
}

/// A session is one program, else a kprobe and a kretprobe are taken together.
#[test]
fn entry_and_return_are_one_way() {
    let mut tool = match start("call") {
        Ok(tool) => tool,
        Err(why) => {
            for program in ["call_kprobe_session: ", "call_kprobe: "] {
                assert!(why.contains(program), "{why}");
            }
            return println!("SKIPPED: no kprobes here: {why}");
        }
    };
    tool.call().expect("a tick");
    for _ in 0..100 {
        // SAFETY: takes and touches nothing. By number, for libc may answer without a system call.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "ladder").expect("a line");
    assert_eq!((line.u64("entered"), line.u64("returned")), (100, 100));
    let attached: Vec<_> =
        programs(&lines).into_iter().filter(|(_, p)| p.0 == "attached").collect();
    println!("{attached:?}");
    assert!(attached.len() == 1 && attached[0].0 == "call_kprobe_session" || attached.len() == 2);
}

/// Each argument in its own type: a pointer is the caller's, and of a word only the type's bytes count.
#[test]
fn a_system_call_has_its_arguments_and_its_result() {
    let mut tool = start("syscall").expect("both attach");
    tool.call().expect("a tick");
    for third in [-3_i64, 3] {
        // SAFETY: there is no such option: the kernel looks at nothing else.
        let result = unsafe {
            libc::syscall(libc::SYS_prctl, -2_i64, c"ladder".as_ptr(), third, 0x104_i64, 0_i64)
        };
        assert_eq!(result, -1);
    }
    let lines = tool.call().expect("a tick");
    let line = lines.iter().find(|l| l.table == "ladder").expect("a line");
    assert_eq!((line.u64("entered"), line.u64("returned")), (1, 2));
    let error = start("argument").err().expect("refused");
    assert!(error.contains("sys_enter_prctl has no field `no_such_argument`"), "{error}");
}

#[test]
fn an_iterator_is_read_when_it_is_asked_for() {
    let tool = Harness::<Plugin>::init_or_skip(r#"{"asked":"tasks"}"#);
    let Some(mut tool) = tool else { return };
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let waiting = std::thread::spawn(move || told.recv().is_err());
    let lines = tool.call().expect("a tick");
    let tasks = lines.iter().find(|l| l.table == "ladder").expect("a line").u64("tasks");
    let threads = fs::read_dir("/proc/self/task").expect("proc").count() as u64;
    drop(tell);
    assert!(waiting.join().expect("no panic"));
    assert_eq!(tasks, threads);
}

#[test]
fn a_program_without_a_hook_is_no_silence() {
    let error = start("forgotten").err().expect("refused");
    assert!(error.contains("`narrow_tp` belongs to no hook"), "{error}");
    let error = start("unknown").err().expect("refused");
    assert!(error.contains("hook `nothing` has no program"), "{error}");
}

/// The report is made of what is attached, not of copies: when the tool is gone, so are its programs.
#[test]
fn a_tool_that_is_gone_has_detached() {
    let attached = || {
        libbpf_rs::query::ProgInfoIter::default()
            .filter(|program| program.name == "dirty_raw")
            .count()
    };
    // The kernel frees a program after a grace period, also those of the tests before.
    let wait_for_none = || {
        let begin = std::time::Instant::now();
        while attached() > 0 {
            assert!(begin.elapsed().as_secs() < 60, "it is still there");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    wait_for_none();
    let tool = start("working").expect("it attaches");
    assert_eq!(attached(), 1);
    drop(tool);
    wait_for_none();
}

/// Descriptors run out at each point of the start in turn.
#[test]
fn a_want_of_descriptors_ends_the_start_and_costs_no_hook_its_best_way() {
    let hooks = |tool: &mut Harness<Plugin>| {
        let programs = programs(&tool.call().expect("a tick"));
        programs.into_values().map(|(state, hook, _)| (state, hook)).collect::<Vec<_>>()
    };
    let best = hooks(&mut start("working").expect("every hook has a way"));
    let limits = getrlimit(Resource::Nofile);
    let open = || fs::read_dir("/proc/self/fd").expect("descriptors").count() as u64;
    let (mut refused, mut limit) = (0, open());
    loop {
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..limits }).expect("a limit");
        let started = start("working");
        setrlimit(Resource::Nofile, limits).expect("it was so before");
        match started {
            Ok(mut tool) => {
                assert_eq!(hooks(&mut tool), best, "{limit} descriptors");
                break;
            }
            Err(error) => {
                assert!(
                    error.contains("EMFILE") || error.contains("oo many open files"),
                    "{limit}: {error}"
                );
                assert!(!error.contains('|'), "{limit}: {error}");
            }
        }
        (refused, limit) = (refused + 1, limit + 1);
    }
    println!("{refused} starts were refused, then one had enough");
    assert!(refused >= 10, "only {refused} were refused");
}
