//! What is written is what an independent reader reads: tables of cases, and hostile rows by the
//! hundred thousand.

use collector::encode::{MAX_TEXT, Refused, Schema, Tags, encode_row};
use collector::read::{Line, Value, read};
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::collections::BTreeMap;

const TICK: Tick = Tick { seq: 7, time_ns: 1_700_000_000_000_000_000, elapsed_ns: 999_000_001 };

fn configured(tags: &[(&str, &str)]) -> Tags {
    tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn rstrs<'a>(tags: &[&'a str]) -> Vec<RStr<'a>> {
    tags.iter().map(|tag| RStr::from_str(tag)).collect()
}

fn encoded(schema: &Schema, tags: &[&str], fields: &[Val<'_>]) -> Result<String, Refused> {
    let mut out = Vec::new();
    encode_row(schema, &rstrs(tags), fields, TICK_TIME, &TICK, &mut out)
        .map(|()| String::from_utf8(out).unwrap())
}

#[test]
fn a_line_has_sorted_tags_typed_fields_the_interval_and_the_ticks_time() {
    let tags = configured(&[("host", "a b"), ("zone", "z"), ("dc", "fra1"), ("none", "")]);
    let fields = ["f", "i", "u", "b", "s", "n"];
    let schema = Schema::new("cpu load", &["mode", "cpu"], &fields, &tags, false).unwrap();
    let text = Val::Str(RStr::from_str("x\"y"));
    let values =
        [Val::F64(0.5), Val::I64(-3), Val::U64(u64::MAX), Val::Bool(true), text, Val::None];
    assert_eq!(
        encoded(&schema, &["user", "0"], &values).unwrap(),
        "cpu\\ load,cpu=0,dc=fra1,host=a\\ b,mode=user,zone=z \
         f=0.5,i=-3i,u=9223372036854775807i,b=true,s=\"x\\\"y\",interval_ns=999000001i \
         1700000000000000000\n"
    );
}

#[test]
fn an_empty_tag_value_leaves_the_tag_out() {
    let schema = Schema::new("t", &["a", "b"], &["n"], &Tags::new(), false).unwrap();
    let line = encoded(&schema, &["", "x"], &[Val::I64(1)]).unwrap();
    assert!(line.starts_with("t,b=x n=1i,"), "{line}");
    let line = encoded(&schema, &["", ""], &[Val::I64(1)]).unwrap();
    assert!(line.starts_with("t n=1i,"), "{line}");
}

#[test]
fn what_the_table_declares_wins_over_what_is_configured() {
    let tags = configured(&[("host", "global"), ("n", "global")]);
    let schema = Schema::new("t", &["host"], &["n"], &tags, false).unwrap();
    let line = encoded(&schema, &["own"], &[Val::I64(1)]).unwrap();
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
        let schema = Schema::new("t", &[], &["n"], &Tags::new(), uint).unwrap();
        let line = encoded(&schema, &[], &[Val::U64(value)]).unwrap();
        assert!(line.starts_with(&format!("t n={wire},")), "{line}");
    }
}

#[test]
fn a_row_with_its_own_time_has_no_interval() {
    let schema = Schema::new("t", &[], &["n"], &Tags::new(), false).unwrap();
    let mut out = Vec::new();
    encode_row(&schema, &[], &[Val::I64(1)], 42, &TICK, &mut out).unwrap();
    assert_eq!(out, b"t n=1i 42\n");
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_no_trace() {
    let schema = Schema::new("t", &["k"], &["a", "b"], &Tags::new(), false).unwrap();
    let (long_text, long_tag) = ("x".repeat(MAX_TEXT + 1), "x".repeat(65_536));
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
        let mut out = b"neighbour\n".to_vec();
        let result = encode_row(&schema, &rstrs(tags), fields, time, &TICK, &mut out);
        assert_eq!(result, Err(why));
        assert_eq!(out, b"neighbour\n");
    }
    let longest = Val::Str(RStr::from_str(&long_text[1..]));
    assert!(encoded(&schema, &["k"], &[one, longest]).is_ok());
    let line = encoded(&schema, &["k"], &[Val::F64(f64::NAN), one]).unwrap();
    assert!(line.starts_with("t,k=k b=1i,"), "a field without a value is left out: {line}");
}

#[test]
fn tables_that_no_database_could_store_are_refused_by_name() {
    let cases: [(&str, &[&str], &[&str], &str); 10] = [
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
    ];
    for (table, tags, fields, words) in cases {
        let error = Schema::new(table, tags, fields, &Tags::new(), false).unwrap_err().to_string();
        assert!(error.contains(words), "{error} should say {words}");
    }
}

/// A small generator with a seed (xorshift64*), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Mostly the bytes that hurt.
    fn text(&mut self, longest: usize) -> String {
        const NASTY: [char; 24] = [
            '\\', ',', '=', ' ', '"', '\n', '\r', '\t', '\0', '#', '\u{7f}', '\u{1b}', 'a', 'n',
            'i', '0', '-', '.', 'ü', '\u{85}', '\u{a0}', '\u{2028}', '\u{feff}', '🦀',
        ];
        (0..self.below(longest + 1)).map(|_| NASTY[self.below(NASTY.len())]).collect()
    }

    fn names(&mut self, most: usize) -> Vec<String> {
        (0..self.below(most + 1)).map(|_| self.text(5)).collect()
    }

    fn value<'a>(&mut self, text: &'a str) -> Val<'a> {
        let bits = (self.below(1 << 31) as u64) << 33 ^ self.below(1 << 31) as u64;
        match self.below(9) {
            0 => Val::F64(f64::from_bits(bits)),
            1 => Val::F64([f64::NAN, f64::INFINITY, -0.0, 1e300, 5e-324][self.below(5)]),
            2 => Val::I64(bits as i64),
            3 => Val::U64([0, u64::MAX, i64::MAX as u64 + 1, bits][self.below(4)]),
            4 => Val::Bool(bits & 1 == 1),
            5 => Val::None,
            _ => Val::Str(RStr::from_str(text)),
        }
    }
}

/// What a name reads back as, in other words than the encoder's: see `escape.rs`.
fn name_read_back(name: &str, no_quotes: bool) -> String {
    let chars: Vec<char> = name.chars().collect();
    let normal = chars.iter().enumerate().map(|(i, &c)| {
        let before_special = chars.get(i + 1).is_none_or(|next| r"\,= ".contains(*next));
        match c {
            '\\' if before_special => '_',
            '\0'..='\x1f' | '\x7f' => '_',
            '"' if no_quotes => '_',
            c => c,
        }
    });
    normal.collect()
}

fn value_read_back(value: &Val<'_>, uint: bool) -> Option<Value> {
    let control = |c| if matches!(c, '\0'..='\x1f' | '\x7f') { '_' } else { c };
    Some(match value {
        Val::F64(v) if v.is_finite() => Value::F64(*v),
        Val::I64(v) => Value::I64(*v),
        Val::U64(v) if uint => Value::U64(*v),
        Val::U64(v) => Value::I64((*v).min(i64::MAX as u64) as i64),
        Val::Bool(v) => Value::Bool(*v),
        Val::Str(v) => {
            let text = v.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
            Value::Text(text.chars().map(control).collect())
        }
        Val::F64(_) | Val::None => return None,
    })
}

#[test]
fn hostile_rows_read_back_equal_or_are_refused_and_never_break_a_neighbour() {
    let mut random = Random(0x5eed);
    let (mut lines, mut refused) = (0, 0);
    while lines < 100_000 {
        let (table, tags, fields) = (random.text(6), random.names(4), random.names(4));
        let global: Tags = [(random.text(4), random.text(6)), ("host".into(), "h".into())].into();
        if global.keys().any(|k| collector::encode::check_key("tag", k).is_err()) {
            continue; // the configuration is refused
        }
        let tag_names: Vec<&str> = tags.iter().map(String::as_str).collect();
        let field_names: Vec<&str> = fields.iter().map(String::as_str).collect();
        let uint = random.below(2) == 1;
        let Ok(schema) = Schema::new(&table, &tag_names, &field_names, &global, uint) else {
            refused += 1;
            continue;
        };
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let tag_values: Vec<String> = tags.iter().map(|_| random.text(8)).collect();
            let texts: Vec<String> = fields.iter().map(|_| random.text(12)).collect();
            let tag_refs: Vec<&str> = tag_values.iter().map(String::as_str).collect();
            let values: Vec<Val<'_>> = texts.iter().map(|text| random.value(text)).collect();
            let own_time = [TICK_TIME, 1, 1_700_000_000_123_456_789][random.below(3)];
            let before = out.len();
            if encode_row(&schema, &rstrs(&tag_refs), &values, own_time, &TICK, &mut out).is_err() {
                assert_eq!(out.len(), before);
                assert!(values.iter().all(|v| value_read_back(v, uint).is_none()));
                refused += 1;
                continue;
            }
            lines += 1;
            let mut row_tags: BTreeMap<String, String> = BTreeMap::new();
            let own = |key: &str| {
                tags.iter().any(|t| name_read_back(t, false) == key)
                    || fields.iter().any(|f| name_read_back(f, true) == key)
            };
            for (key, value) in &global {
                let key = name_read_back(key, false);
                if !own(&key) && !value.is_empty() {
                    row_tags.insert(key, name_read_back(value, false));
                }
            }
            for (key, value) in tags.iter().zip(&tag_values) {
                row_tags.insert(name_read_back(key, false), name_read_back(value, false));
            }
            row_tags.retain(|_, value| !value.is_empty());
            let mut row_fields: BTreeMap<String, Value> = fields
                .iter()
                .zip(&values)
                .filter_map(|(key, v)| Some((name_read_back(key, true), value_read_back(v, uint)?)))
                .collect();
            let mut time_ns = own_time;
            if own_time == TICK_TIME {
                row_fields.insert("interval_ns".to_owned(), Value::I64(999_000_001));
                time_ns = TICK.time_ns;
            }
            expected.push(Line {
                table: name_read_back(&table, false),
                tags: row_tags,
                fields: row_fields,
                time_ns,
            });
        }
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), expected.len());
        let read = read(&out).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(read, expected, "{}", String::from_utf8_lossy(&out));
    }
    assert!(refused > 10_000, "the generator is not hostile enough: {refused} refused");
}
