//! What a C plugin hands over, in the limits of the interface and beyond them.

use super::build;
use collector::elf::Abi;
use collector::encode::Tags;
use collector::form::Form;
use collector::instance::{Instance, PluginError};
use collector::load;
use collector::read::{Line, Value, read};
use collector::sink::{Dropped, Limits, Reports, Terms};
use plugin_api::Tick;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// A plugin in this process.
struct Rig {
    _dir: TempDir,
    instance: Box<dyn Instance>,
    /// What was dropped since this was last looked at.
    dropped: Dropped,
    seq: u64,
}

/// What the plugins of this process have logged.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Rig {
    fn new(name: &str, source: &str, definitions: &[&str]) -> Self {
        log::set_max_level(log::LevelFilter::Warn);
        let dir = tempfile::tempdir().unwrap();
        let plugin = load::load_here(&build(dir.path(), name, source, definitions)).unwrap();
        assert_eq!(plugin.abi(), Abi::C);
        assert_eq!(plugin.description.name, name);
        let terms = Terms {
            plugin: name.to_owned(),
            tables: plugin.tables(),
            forms: vec![Form::default()],
            reports: Reports::Full,
            tags: Tags::new(),
            uint: true,
            limits: Limits::DEFAULT,
            log: |plugin, _, text| SAID.lock().unwrap().push(format!("{plugin}: {text}")),
        };
        let instance = plugin.instance(terms, "{}".to_owned(), Duration::from_secs(1));
        Self { _dir: dir, instance, dropped: Dropped::default(), seq: 0 }
    }

    fn call(&mut self) -> (Vec<Line>, Result<(), PluginError>) {
        self.seq += 1;
        let time_ns = 1_700_000_000_000_000_000 + self.seq as i64 * 1_000_000_000;
        let outcome =
            self.instance.call(&Tick { seq: self.seq, time_ns, elapsed_ns: 1_000_000_000 });
        self.dropped += outcome.tally.dropped;
        (read(&outcome.closed.into_only()).unwrap(), outcome.result)
    }

    fn end(&mut self) {
        let outcome = self.instance.end();
        self.dropped += outcome.tally.dropped;
        outcome.result.unwrap();
    }

    fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}

fn of<'a>(lines: &'a [Line], table: &str) -> Vec<&'a Line> {
    lines.iter().filter(|line| line.table == table).collect()
}

/// The counters of what is wrong that are not 0.
fn wrong(lines: &[Line]) -> Vec<(&str, u64)> {
    let [report] = of(lines, "collector_c_plugin")[..] else { panic!("one report: {lines:?}") };
    let counters = report.fields.iter().filter_map(|(key, value)| match value {
        Value::U64(count @ 1..) if !key.starts_with("lines_") && key != "interval_ns" => {
            Some((key.as_str(), *count))
        }
        _ => None,
    });
    counters.collect()
}

#[test]
fn lines_at_every_limit_arrive_whole() {
    let mut rig = Rig::new("limits", "limits.c", &[]);
    rig.instance.start().unwrap();
    for _ in 0..2 {
        let (lines, result) = rig.call();
        result.unwrap();
        assert_eq!(wrong(&lines), []);
        let lines = of(&lines, "a_table_of_31_bytes_as_they_fit");
        assert_eq!(lines.len(), 2048);
        for (i, line) in lines.iter().enumerate() {
            for j in 0..4 {
                assert_eq!(line.tag(&format!("index_15_bytes{j}")), format!("{i:09}_text{j}"));
            }
            for j in 0..32 {
                let value = line.get(&format!("value_15_byte{j:02}"));
                assert_eq!(value, Some(&Value::F64((i * 100 + j) as f64)), "{i}, {j}");
            }
            assert_eq!(line.tags.len(), 4);
            assert_eq!(line.fields.len(), 33 + usize::from(i == 0), "and interval_ns");
        }
        assert_eq!(lines[0].text("a_log_15_bytes_"), "x".repeat(64 * 1024));
    }
    rig.end();
    assert_eq!(rig.take_dropped(), Dropped::default());
}

/// A misuse in each of two calls: what is counted, what is dropped, how many good lines of the table `wrong` are left.
pub type Case = (&'static str, &'static [(&'static str, u64)], Dropped, usize);

const NONE: Dropped = Dropped { full: 0, invalid: 0, closed: 0, duplicate: 0, series: 0 };

#[rustfmt::skip]
pub const CASES: [Case; 26] = [
    ("none", &[], NONE, 1),
    ("num_negative", &[("bad_count", 1)], NONE, 0),
    ("num_over_limit", &[("bad_count", 1), ("dropped_full", 952)], Dropped { full: 952, ..NONE }, 2047),
    ("num_over_memory", &[("bad_count", 1), ("dropped_no_line", 1)], Dropped { invalid: 1, ..NONE }, 2),
    ("null_lines", &[("bad_count", 1)], NONE, 0),
    ("odd_pointer", &[("not_malloc", 1)], NONE, 0),
    ("static_lines", &[("not_malloc", 1)], NONE, 1),
    ("hole_in_values", &[("after_hole", 2)], NONE, 1),
    ("hole_in_indexes", &[("after_hole", 1)], NONE, 1),
    ("no_table", &[("dropped_no_line", 1)], Dropped { invalid: 1, ..NONE }, 0),
    ("no_value", &[("dropped_no_line", 1)], Dropped { invalid: 1, ..NONE }, 0),
    ("comment_table", &[("dropped_no_line", 1)], Dropped { invalid: 1, ..NONE }, 0),
    ("report_table", &[("dropped_no_line", 1)], Dropped { invalid: 1, ..NONE }, 0),
    ("not_utf8", &[("not_text", 2)], NONE, 1),
    ("not_finite", &[("not_finite", 2)], NONE, 1),
    ("only_not_finite", &[("not_finite", 1)], Dropped { invalid: 1, ..NONE }, 0),
    ("name_twice", &[("bad_name", 1)], NONE, 1),
    ("tag_and_field", &[("bad_name", 1)], NONE, 1),
    ("reserved_name", &[("bad_name", 2)], NONE, 1),
    ("number_and_text", &[("bad_name", 1)], NONE, 2),
    ("log_null", &[("bad_log", 1)], NONE, 1),
    ("log_too_long", &[("bad_log", 1)], NONE, 1),
    ("log_not_utf8", &[("not_text", 1)], NONE, 1),
    ("log_static", &[], NONE, 1),
    ("log_shared", &[], NONE, 2),
    ("same_series", &[], Dropped { duplicate: 1, ..NONE }, 1),
];

/// Misuses that no list above can hold.
pub const OTHER_CASES: [&str; 4] =
    ["log_without_name", "no_terminator", "call_negative", "call_positive"];

fn is_given_lines(case: &str) -> bool {
    !["num_negative", "null_lines", "odd_pointer"].contains(&case)
}

#[test]
fn each_misuse_is_counted_and_told_once_and_costs_no_other_line() {
    for (case, counted, dropped, left) in CASES {
        let mut rig = Rig::new(case, "faults.c", &[&format!("FAULT={case}")]);
        rig.instance.start().unwrap();
        for call in 1..=2 {
            let (lines, result) = rig.call();
            result.unwrap();
            assert_eq!(wrong(&lines), counted, "{case}");
            assert_eq!(rig.take_dropped(), dropped, "{case}");
            assert_eq!(of(&lines, "wrong").len(), left, "{case}: {lines:?}");
            let right = of(&lines, "right");
            assert_eq!(right.len(), usize::from(is_given_lines(case)), "{case}");
            assert!(right.iter().all(|line| line.get("value") == Some(&Value::F64(call.into()))));
        }
        rig.end();
        let said = SAID.lock().unwrap();
        let own: Vec<&String> =
            said.iter().filter(|said| said.starts_with(&format!("{case}: "))).collect();
        let causes =
            counted.len() + usize::from(dropped.duplicate > 0 || case == "only_not_finite");
        let texts = causes + usize::from(case == "reserved_name"); // two names
        assert_eq!(own.len(), texts, "{case}: {own:?}");
    }
}

#[test]
fn what_is_left_of_a_wrong_line_is_right() {
    let lines = |case: &str| {
        let name = format!("{case}_seen");
        let mut rig = Rig::new(&name, "faults.c", &[&format!("FAULT={case}")]);
        rig.instance.start().unwrap();
        rig.call().0
    };
    let field = |case, name: &str| of(&lines(case), "wrong")[0].get(name).cloned();
    let number = |value: f64| Some(Value::F64(value));
    let text = |value: &str| Some(Value::Text(value.to_owned()));
    assert_eq!(field("name_twice", "value"), number(1.0), "the first one");
    assert_eq!(field("tag_and_field", "other"), number(1.0));
    assert_eq!(field("not_utf8", "val\u{fffd}ue"), number(1.0));
    assert_eq!(of(&lines("not_utf8"), "wrong")[0].tag("comm"), "caf\u{fffd}");
    assert_eq!(field("log_not_utf8", "log"), text("a\u{fffd}b"));
    assert_eq!(field("log_static", "log"), text("a constant"));
    assert_eq!(field("log_too_long", "log"), text(&"y".repeat(65_535)));
    assert_eq!(field("log_without_name", "value"), number(1.0));
    let both = lines("log_shared");
    assert!(of(&both, "wrong").iter().all(|line| line.text("log") == "of two"), "{both:?}");

    let unterminated = lines("no_terminator");
    assert_eq!(wrong(&unterminated), [("unterminated", 5)]);
    let [line] = of(&unterminated, &"t".repeat(32))[..] else { panic!("{unterminated:?}") };
    assert_eq!(line.tag(&"i".repeat(16)), "x".repeat(16));
    assert_eq!(line.get(&"v".repeat(16)), number(1.0).as_ref());
    assert_eq!(line.text(&"l".repeat(16)), "text");
}

#[test]
fn an_answer_that_is_not_0_is_a_failure_in_words() {
    for (case, reason) in [
        ("init_negative", "it returned -22 (Invalid argument)"),
        (
            "init_positive",
            "it returned 13 (Permission denied); success is 0, an errno is returned as -errno",
        ),
    ] {
        let mut rig = Rig::new(case, "faults.c", &[&format!("FAULT={case}")]);
        assert_eq!(rig.instance.start(), Err(PluginError::Answered(reason.to_owned())));
        rig.end(); // its deinit would abort
        assert_eq!(rig.instance.start(), Err(PluginError::Answered(reason.to_owned())));
    }
    for (case, reason) in [
        ("call_negative", "it returned -5 (Input/output error)"),
        ("call_positive", "it returned 2 (No such file or directory)"),
    ] {
        let mut rig = Rig::new(case, "faults.c", &[&format!("FAULT={case}")]);
        rig.instance.start().unwrap();
        let (lines, result) = rig.call();
        assert_eq!(result, Err(PluginError::Answered(reason.to_owned())));
        assert_eq!(wrong(&lines), [("dropped_failed", 2)]);
        assert_eq!(rig.take_dropped(), Dropped { invalid: 2, ..NONE });
        assert_eq!(lines.len(), 1, "the report");
    }
}
