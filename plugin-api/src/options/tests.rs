use super::*;
use serde_json::json;
use std::time::Duration;

crate::choice! {
    /// What lines are split by.
    enum By {
        /// Nothing.
        None = "",
        /// The name of the thread.
        Comm = "comm",
        /// The process.
        Pid = "pid",
    }
}

crate::options! {
    /// One option of each kind.
    struct All {
        /// A flag.
        flag: bool = false,
        /// A number.
        top: u64 = 20,
        /// A number
        /// with a range.
        rate: u64 [1..=1000] = 49,
        /// A share.
        share: f64 [0.0..=1.0] = 0.5,
        /// A text.
        name: String = "nobody".to_owned(),
        /// A time.
        wait: Duration [Duration::from_millis(1)..=Duration::from_secs(60)] = Duration::from_secs(1),
        /// A size.
        room: Bytes [Bytes::kib(4)..] = Bytes::kib(64),
        /// A choice.
        by: By = By::None,
        /// Texts.
        names: Vec<String> = Vec::new(),
        /// Ports.
        ports: Vec<u64> [..=65_535] = vec![80],
        /// Choices.
        ways: Vec<By> = vec![By::Comm],
        /// Sizes.
        sizes: Vec<Bytes> = vec![Bytes(512)],
        /// A process.
        pid: Option<u64> [1..] = None,
        /// A choice, or none.
        way: Option<By> = None,
        /// A size, or none.
        cap: Option<Bytes> = Some(Bytes::mib(1)),
    }
}

fn read(name: &str, value: &Value) -> Result<All> {
    All::from_json(&json!({name: value}).to_string())
}

fn refusal(name: &str, value: &Value) -> String {
    read(name, value).expect_err(name).to_string()
}

#[test]
fn what_is_not_given_has_its_default() {
    for json in ["", "{}"] {
        let all = All::from_json(json).unwrap();
        assert_eq!((all.flag, all.top, all.rate, all.share), (false, 20, 49, 0.5));
        assert_eq!((&*all.name, all.wait), ("nobody", Duration::from_secs(1)));
        assert_eq!((all.room, all.by), (Bytes(65_536), By::None));
        assert_eq!((all.names, all.ports), (vec![], vec![80]));
        assert_eq!((all.ways, all.sizes), (vec![By::Comm], vec![Bytes(512)]));
        assert_eq!((all.pid, all.way, all.cap), (None, None, Some(Bytes(1 << 20))));
    }
}

#[test]
fn what_is_given_is_read() {
    let json = json!({
        "flag": true, "top": 1, "rate": 1000, "share": 1, "name": "x", "wait": "10ms", "room": 8192,
        "by": "comm", "names": ["a", "b"], "ports": [0, 65_535], "ways": ["pid", ""],
        "sizes": ["1KiB", 7], "pid": 1, "way": "comm", "cap": "3GiB",
    });
    let all = All::from_json(&json.to_string()).unwrap();
    assert_eq!((all.flag, all.top, all.rate, all.share), (true, 1, 1000, 1.0));
    assert_eq!((&*all.name, all.wait), ("x", Duration::from_millis(10)));
    assert_eq!((all.room, all.by), (Bytes(8192), By::Comm));
    assert_eq!((all.names, all.ports), (vec!["a".to_owned(), "b".to_owned()], vec![0, 65_535]));
    assert_eq!((all.ways, all.sizes), (vec![By::Pid, By::None], vec![Bytes(1024), Bytes(7)]));
    assert_eq!((all.pid, all.way, all.cap), (Some(1), Some(By::Comm), Some(Bytes::gib(3))));
}

#[test]
fn an_error_says_the_key_the_value_and_what_is_allowed() {
    let number = "must be a whole number, not";
    let ways = r#"must be a text ("", "comm" or "pid"), not"#;
    let size = r#"must be a size such as "64KiB""#;
    for (name, value, expected) in [
        ("flag", json!("yes"), "must be true or false, not \"yes\"".to_owned()),
        ("top", json!("5"), format!("{number} \"5\"")),
        ("top", json!(-5), format!("{number} -5: it is negative")),
        ("top", json!(1.5), format!("{number} 1.5: it has a fraction")),
        ("top", json!(3.0), format!("{number} 3.0: write 3, without a decimal point")),
        ("top", json!(1e30), format!("{number} 1e+30: it is larger than 18446744073709551615")),
        ("rate", json!(0), "must be a whole number (1 to 1000), not 0".to_owned()),
        (
            "rate",
            json!(-1),
            "must be a whole number (1 to 1000), not -1: it is negative".to_owned(),
        ),
        ("share", json!(1.01), "must be a number (0.0 to 1.0), not 1.01".to_owned()),
        ("share", json!("1"), "must be a number (0.0 to 1.0), not \"1\"".to_owned()),
        ("name", json!(1), "must be a text, not 1".to_owned()),
        (
            "wait",
            json!("2m"),
            "must be a duration such as \"10ms\" (1ms to 1m), not \"2m\"".to_owned(),
        ),
        ("wait", json!(10), "must be a duration such as \"10ms\" (1ms to 1m), not 10".to_owned()),
        ("room", json!("1KiB"), format!("{size} (at least 4KiB), not \"1KiB\"")),
        ("room", json!(-1), format!("{size} (at least 4KiB), not -1: it is negative")),
        (
            "room",
            json!("64kb"),
            format!(
                "{size} (at least 4KiB), not \"64kb\": the units are KiB, MiB, GiB and TiB, and bytes have none"
            ),
        ),
        ("by", json!("com"), format!("{ways} \"com\": did you mean \"comm\"?")),
        ("by", json!("Comm"), format!("{ways} \"Comm\": did you mean \"comm\"?")),
        ("by", json!("cgroup"), format!("{ways} \"cgroup\"")),
        ("by", json!(1), format!("{ways} 1")),
        ("names", json!("a"), "must be a list of texts, not \"a\"".to_owned()),
        ("ports", json!(80), "must be a list of whole numbers (at most 65535), not 80".to_owned()),
        ("pid", json!(0), "must be a whole number (at least 1), not 0".to_owned()),
        ("pid", json!(null), "must be a whole number (at least 1), not null".to_owned()),
        ("way", json!("x"), format!("{ways} \"x\"")),
    ] {
        assert_eq!(refusal(name, &value), format!("option `{name}` {expected}"));
    }
}

#[test]
fn an_error_in_a_list_says_the_item() {
    for (name, value, expected) in [
        ("names", json!(["a", 1]), "must be a text, not 1"),
        ("ports", json!([1, 65_536]), "must be a whole number (at most 65535), not 65536"),
        (
            "ways",
            json!(["pid", "conm"]),
            r#"must be a text ("", "comm" or "pid"), not "conm": did you mean "comm"?"#,
        ),
    ] {
        assert_eq!(refusal(name, &value), format!("each item of option `{name}` {expected}"));
    }
}

#[test]
fn a_humantime_error_stays_readable() {
    let text = refusal("wait", &json!("10"));
    assert!(text.contains(r#"not "10": time unit needed"#), "{text}");
}

#[test]
fn an_unknown_option_gets_the_nearest_name() {
    let text = refusal("raet", &json!(1));
    assert!(
        text.starts_with("unknown option `raet` (did you mean `rate`?): known are flag, "),
        "{text}"
    );
    let text = NoOptions::from_json(r#"{"rate":1}"#).unwrap_err().to_string();
    assert_eq!(text, "unknown option `rate`: this plugin has none");
}

#[test]
fn the_description_says_kind_default_and_other_forms() {
    let described = All::describe();
    let table = [
        ("flag", "true or false", json!(false), None),
        ("top", "whole number", json!(20), None),
        ("rate", "whole number (1 to 1000)", json!(49), None),
        ("share", "number (0.0 to 1.0)", json!(0.5), None),
        ("name", "text", json!("nobody"), None),
        ("wait", "duration such as \"10ms\" (1ms to 1m)", json!("1s"), None),
        ("room", "size such as \"64KiB\" (at least 4KiB)", json!("64KiB"), Some(json!(0))),
        ("by", r#"text ("", "comm" or "pid")"#, json!(""), None),
        ("names", "list of texts", json!([]), None),
        ("ports", "list of whole numbers (at most 65535)", json!([80]), None),
        ("ways", r#"list of texts ("", "comm" or "pid")"#, json!(["comm"]), None),
        ("sizes", "list of sizes such as \"64KiB\"", json!(["512"]), Some(json!([]))),
        ("pid", "optional whole number (at least 1)", json!(null), None),
        ("way", r#"optional text ("", "comm" or "pid")"#, json!(null), None),
        ("cap", "optional size such as \"64KiB\"", json!("1MiB"), Some(json!(0))),
    ];
    assert_eq!(described.len(), table.len());
    for (option, (name, kind, default, also)) in described.iter().zip(table) {
        assert_eq!((&*option.name, &*option.kind), (name, kind));
        assert_eq!((&option.default, &option.also), (&default, &also), "{name}");
    }
    assert_eq!(described[2].text, "A number with a range.");
    assert_eq!(described[2].expected(), "a whole number (1 to 1000)");
    assert_eq!(described[12].expected(), "an optional whole number (at least 1)");
}

#[test]
fn the_defaults_of_a_description_read_back() {
    for option in All::describe().iter().filter(|option| !option.default.is_null()) {
        assert!(read(&option.name, &option.default).is_ok(), "{}", option.name);
    }
}

#[test]
fn a_description_without_the_newer_key_is_read_and_written_as_before() {
    let json = json!({"name": "top", "text": "", "kind": "whole number", "default": 20});
    let option: PluginOption = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(option.also, None);
    assert_eq!(serde_json::to_value(&option).unwrap(), json);
}

crate::options! {
    /// A mistake of the plugin's author.
    struct Wrong {
        /// Its default is not in its range.
        rate: u64 [1..=10] = 0,
    }
}

#[test]
fn a_default_outside_its_range_is_found_with_every_configuration() {
    for json in ["{}", r#"{"rate":5}"#] {
        assert_eq!(
            Wrong::from_json(json).map(|wrong| wrong.rate).unwrap_err().to_string(),
            "option `rate` has a default of 0, which its range (1 to 10) does not allow"
        );
    }
    assert_eq!(Wrong::describe()[0].default, json!(0), "a description never panics");
}

#[test]
fn sizes_are_shown_in_the_largest_unit_that_divides_them() {
    for (size, text) in [
        (Bytes(0), "0"),
        (Bytes(1), "1"),
        (Bytes(1023), "1023"),
        (Bytes(1024), "1KiB"),
        (Bytes(1025), "1025"),
        (Bytes(1536 << 10), "1536KiB"),
        (Bytes::mib(1024), "1GiB"),
        (Bytes::gib(10), "10GiB"),
        (Bytes(3 << 40), "3TiB"),
        (Bytes(u64::MAX), "18446744073709551615"),
    ] {
        assert_eq!(size.to_string(), text);
        assert_eq!(text.parse(), Ok(size));
    }
    assert_eq!("4 KiB".parse(), Ok(Bytes(4096)));
}

#[test]
fn what_is_no_size_is_refused_with_a_reason() {
    let (units, number) = ("the units are", "begins with a whole number");
    for (text, reason) in [
        ("", number),
        ("KiB", number),
        ("-1KiB", number),
        ("+1", number),
        ("1.5MiB", number),
        ("1 000", number),
        ("64kib", units),
        ("64K", units),
        ("1e3B", units),
        ("18446744073709551616", "larger than"),
        ("16777216TiB", "larger than"),
    ] {
        let why = text.parse::<Bytes>().unwrap_err();
        assert!(why.contains(reason), "{text}: {why}");
    }
}

#[test]
fn texts_of_variants_are_compared_as_a_whole() {
    assert!(all_differ(&["", "a", "ab", "b"]));
    assert!(!all_differ(&["a", "b", "a"]));
    assert!(!all_differ(&["", ""]));
}
