//! What is written, byte by byte: tables of cases. `lines.rs` has the property.

use collector::encode::{MAX_TAG, MAX_TAG_KEY, MAX_TAGS, MAX_TEXT, Refused, Schema, Tags};
use collector::encoder::{Encoder, Room};
use collector::form::Form;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::time::Instant;

const TICK: Tick = Tick { seq: 7, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 999_000_001 };

fn configured(tags: &[(&str, &str)]) -> Tags {
    tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn rstrs<'a>(tags: &[&'a str]) -> Vec<RStr<'a>> {
    tags.iter().map(|tag| RStr::from_str(tag)).collect()
}

/// One row, with no other in its tick.
fn push(
    table: &mut Encoder,
    tags: &[&str],
    fields: &[Val<'_>],
    time_ns: i64,
) -> Result<String, Refused> {
    table.begin(TICK, Instant::now());
    let result = table.push(0, &rstrs(tags), fields, time_ns, TICK.elapsed_ns, Room::ANY);
    let [page] = &table.take()[..] else { panic!("one form") };
    assert_eq!(result.is_ok(), page.lines == 1);
    let text = String::from_utf8(page.bytes.clone()).unwrap();
    result.map(|()| text).inspect_err(|_| assert_eq!(page.bytes, b"", "it leaves no trace"))
}

fn encoded(schema: &mut Encoder, tags: &[&str], fields: &[Val<'_>]) -> Result<String, Refused> {
    push(schema, tags, fields, TICK_TIME)
}

fn table(table: &str, tags: &[&str], fields: &[&str], configured: &Tags, uint: bool) -> Encoder {
    let mut encoder = Encoder::new(&[Form::default()]);
    let schema = Schema::new(table, tags, fields, configured, uint).unwrap();
    encoder.add(table, schema);
    encoder
}

#[test]
fn a_line_has_sorted_tags_typed_fields_the_interval_and_the_ticks_time() {
    let tags = configured(&[("host", "a b"), ("zone", "z"), ("dc", "fra1"), ("none", "")]);
    let fields = ["f", "i", "u", "b", "s", "n"];
    let mut schema = table("cpu load", &["mode", "cpu"], &fields, &tags, false);
    let text = Val::Str(RStr::from_str("x\"y"));
    let values =
        [Val::F64(0.5), Val::I64(-3), Val::U64(u64::MAX), Val::Bool(true), text, Val::None];
    assert_eq!(
        encoded(&mut schema, &["user", "0"], &values).unwrap(),
        "cpu\\ load,cpu=0,dc=fra1,host=a\\ b,mode=user,zone=z \
         f=0.5,i=-3i,u=9223372036854775807i,b=true,s=\"x\\\"y\",interval_ns=999000001i \
         1700000000000000000\n"
    );
}

#[test]
fn an_empty_tag_value_leaves_the_tag_out() {
    let mut schema = table("t", &["a", "b"], &["n"], &Tags::new(), false);
    let line = encoded(&mut schema, &["", "x"], &[Val::I64(1)]).unwrap();
    assert!(line.starts_with("t,b=x n=1i,"), "{line}");
    let line = encoded(&mut schema, &["", ""], &[Val::I64(1)]).unwrap();
    assert!(line.starts_with("t n=1i,"), "{line}");
}

#[test]
fn what_the_table_declares_wins_over_what_is_configured() {
    let tags = configured(&[("host", "global"), ("n", "global")]);
    let mut schema = table("t", &["host"], &["n"], &tags, false);
    let line = encoded(&mut schema, &["own"], &[Val::I64(1)]).unwrap();
    assert!(line.starts_with("t,host=own n=1i,"), "{line}");
}

#[test]
fn u64_is_a_saturated_i64_unless_uint_is_wanted() {
    for (uint, value, wire) in [
        (false, 5, "5i"),
        (false, u64::MAX, "9223372036854775807i"),
        (true, 5, "5u"),
        (true, u64::MAX, "18446744073709551615u"),
    ] {
        let mut schema = table("t", &[], &["n"], &Tags::new(), uint);
        let line = encoded(&mut schema, &[], &[Val::U64(value)]).unwrap();
        assert!(line.starts_with(&format!("t n={wire},")), "{line}");
    }
}

#[test]
fn a_row_with_its_own_time_has_no_interval() {
    let mut schema = table("t", &[], &["n"], &Tags::new(), false);
    assert_eq!(push(&mut schema, &[], &[Val::I64(1)], 42).unwrap(), "t n=1i 42\n");
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_no_trace() {
    let mut schema = table("t", &["k"], &["a", "b"], &Tags::new(), false);
    let (long_text, long_tag) = ("x".repeat(MAX_TEXT + 1), "x".repeat(MAX_TAG + 1));
    let text = Val::Str(RStr::from_str(&long_text));
    let one = Val::I64(1);
    let rows: [(&[&str], &[Val<'_>], i64, Refused); 8] = [
        (&["k"], &[Val::None, Val::None], TICK_TIME, Refused::NoField),
        (&["k"], &[Val::F64(f64::NAN), Val::F64(f64::INFINITY)], TICK_TIME, Refused::NoField),
        (&["k"], &[one, text], TICK_TIME, Refused::LongText),
        (&[&long_tag], &[one, one], TICK_TIME, Refused::LongTags),
        (&["k"], &[one], TICK_TIME, Refused::Shape),
        (&[], &[one, one], TICK_TIME, Refused::Shape),
        (&["k"], &[one, one], 0, Refused::Time),
        (&["k"], &[one, one], i64::MAX, Refused::Time),
    ];
    for (tags, fields, time, why) in rows {
        assert_eq!(push(&mut schema, tags, fields, time), Err(why));
    }
    let longest = Val::Str(RStr::from_str(&long_text[1..]));
    assert!(encoded(&mut schema, &["k"], &[one, longest]).is_ok());
    let line = encoded(&mut schema, &["k"], &[Val::F64(f64::NAN), one]).unwrap();
    assert!(line.starts_with("t,k=k b=1i,"), "a field without a value is left out: {line}");
}

#[test]
fn tables_that_no_database_could_store_are_refused_by_name() {
    let long = "k".repeat(MAX_TAG_KEY + 1);
    let many: Vec<String> = (0..=MAX_TAGS).map(|number| format!("k{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [(&str, &[&str], &[&str], &str); 15] = [
        ("", &[], &["n"], "the table's name is empty"),
        ("#t", &[], &["n"], "`#t` begins with `#`"),
        ("t", &[], &[], "no field"),
        ("t", &[""], &["n"], "the name of a tag is empty"),
        ("t", &["time"], &["n"], "a tag named `time`"),
        ("t", &[], &["_field"], "a field named `_field`"),
        ("t", &[], &["interval_ns"], "the collector adds that field itself"),
        ("t", &["a", "a"], &["n"], "the tag `a` is there twice"),
        ("t", &[], &["a\x01", "a\x02"], "the field `a_` is there twice"),
        ("t", &["n"], &["n"], "`n` is a tag and a field"),
        ("t", &["__name__"], &["n"], "VictoriaMetrics keeps that name"),
        ("t", &[], &["\x02field"], "a field named `_field`"),
        ("t", &[], &["interval\nns"], "the collector adds that field itself"),
        ("t", &[&long], &["n"], "longer than 256 bytes"),
        ("t", &many, &["n"], "29 tags, the configured ones among them; 28 are the most"),
    ];
    for (table, tags, fields, words) in cases {
        let error = Schema::new(table, tags, fields, &Tags::new(), false).unwrap_err().to_string();
        assert!(error.contains(words), "{error} should say {words}");
    }
    let long = configured(&[("k", &"v".repeat(MAX_TAG + 1))]);
    let error = Schema::new("t", &[], &["n"], &long, false).unwrap_err().to_string();
    assert!(
        error.contains("the configured tag `k` has a value of more than 4096 bytes"),
        "{error}"
    );
    assert!(Schema::new("t", &["k"], &["n"], &long, false).is_ok(), "the table's own wins");
    let twice = configured(&[("k\x01", &"v".repeat(MAX_TAG + 1)), ("k\x02", "v")]);
    assert!(
        Schema::new("t", &[], &["n"], &twice, false).is_ok(),
        "both are `k_`, the last one stands"
    );
}
