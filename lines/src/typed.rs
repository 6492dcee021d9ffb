//! Lines of [`Buckets::Typed`](crate::form::Buckets::Typed), read as an output needs them that makes something
//! else of them: fast, and without taking memory for what stands in the line already.
//!
//! Lines of other forms are read too: nothing in them counts, and texts are passed over.

use plugin_api::histogram::BUCKETS;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Tags of a line, in its order.
pub type Tags<'a> = SmallVec<[(&'a str, &'a str); 8]>;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Measurement and tags as they stand there.
    pub series: &'a str,
    /// The measurement as it stands there.
    pub table: &'a str,
    /// Tags as they stand there: see [`unescaped`].
    pub tags: Tags<'a>,
    /// Fields but those of the histogram's buckets, as they stand there.
    pub fields: SmallVec<[(&'a str, Value); 16]>,
    /// How many values each bucket has, in a line with a histogram.
    pub buckets: Option<[u64; BUCKETS]>,
    /// Nanoseconds since 1970 UTC.
    pub time_ns: i64,
    /// Where the time begins that it counts; a single event has none, nor what is on record about a begin.
    pub begin_ns: Option<i64>,
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// `1u`: it counts.
    Count(u64),
    /// `1i`, and `true` as 1.
    Whole(i64),
    /// `1.0`
    Float(f64),
}

/// Reads lines, each with its newline. What is no line is passed over: the encoder writes none such.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Option<Line<'_>>> {
    text.split_inclusive(|&byte| byte == b'\n').map(|line| Line::read(str::from_utf8(line).ok()?))
}

/// What a name or tag's value is: without the backslashes before what is special.
#[must_use]
pub fn unescaped(name: &str) -> Cow<'_, str> {
    if !name.contains('\\') {
        return Cow::Borrowed(name);
    }
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&special @ (',' | ' ' | '=')) if c == '\\' => {
                plain.push(special);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Measurement and tags of a series, as they stand there.
#[must_use]
pub fn series_parts(series: &str) -> Option<(&str, Tags<'_>)> {
    let (table, mut left) = cut(series, b',').unwrap_or((series, ""));
    let mut tags = Tags::new();
    while !left.is_empty() {
        let (tag, rest) = cut(left, b',').unwrap_or((left, ""));
        tags.push(cut(tag, b'=')?);
        left = rest;
    }
    Some((table, tags))
}

impl<'a> Line<'a> {
    /// The value of a field that counts, as it stands there.
    #[must_use]
    pub fn count(&self, field: impl Fn(&str) -> bool) -> Option<u64> {
        self.fields.iter().find_map(|(key, value)| match value {
            Value::Count(n) if field(key) => Some(*n),
            _ => None,
        })
    }

    /// For a line of a file: there all whole numbers look alike, and buckets without values are left out. `counts` says
    /// which fields count.
    pub fn count_in_file(&mut self, has_histogram: bool, counts: impl Fn(&str) -> bool) {
        let there = |(key, _): &(&str, Value)| bucket_number(key).is_some();
        let has_histogram = has_histogram || self.fields.iter().any(there);
        let mut buckets = self.buckets.take().or(has_histogram.then_some([0; BUCKETS]));
        self.fields.retain(|(key, value)| {
            let Value::Whole(whole) = *value else { return true };
            let Ok(count) = u64::try_from(whole) else { return true };
            if let (Some(buckets), Some(number)) = (&mut buckets, bucket_number(key)) {
                buckets[number] = count;
                return false;
            }
            let of_histogram = has_histogram && (*key == "count" || key.starts_with("sum"));
            if of_histogram || counts(key) {
                *value = Value::Count(count);
            }
            true
        });
        self.buckets = buckets;
    }

    fn read(line: &'a str) -> Option<Self> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (series, rest) = cut(line, b' ')?;
        let (table, tags) = series_parts(series)?;
        let mut read = Self {
            series,
            table,
            tags,
            fields: SmallVec::new(),
            buckets: None,
            time_ns: 0,
            begin_ns: None,
        };
        let mut interval_ns = None;
        let mut rest = rest;
        loop {
            let (key, value) = cut(rest, b'=')?;
            let length = length(value);
            let (value, after) = value.split_at_checked(length)?;
            match (value_of(value), key) {
                (Some(Value::Whole(ns)), "interval_ns") => interval_ns = Some(ns),
                (Some(value), _) => read.field(key, value),
                (None, _) => {}
            }
            rest = after.get(1..)?;
            if after.starts_with(' ') {
                break;
            }
        }
        read.time_ns = rest.parse().ok()?;
        read.begin_ns = interval_ns.map(|ns| read.time_ns.saturating_sub(ns));
        Some(read)
    }

    fn field(&mut self, key: &'a str, value: Value) {
        if let (Value::Count(count), Some(number)) = (value, bucket_number(key)) {
            self.buckets.get_or_insert([0; BUCKETS])[number] = count;
        } else {
            self.fields.push((key, value));
        }
    }
}

/// The number of the bucket that `bucket_4_8` is.
fn bucket_number(key: &str) -> Option<usize> {
    let (from, _) = key.strip_prefix("bucket_")?.split_once('_')?;
    match from.parse::<u64>().ok()? {
        0 => Some(0),
        1 => None,
        from => from.is_power_of_two().then_some(from.trailing_zeros() as usize),
    }
}

/// What stands before and behind the first such byte that has no backslash before it.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut begin = 0;
    loop {
        let found = begin + bytes[begin..].iter().position(|&byte| byte == at)?;
        if found == 0 || bytes[found - 1] != b'\\' {
            return Some((&text[..found], &text[found + 1..]));
        }
        begin = found + 1;
    }
}

/// How long a field's value is, which begins here.
fn length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return bytes.iter().position(|&b| b == b',' || b == b' ').unwrap_or(bytes.len());
    }
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// None for a text.
fn value_of(text: &str) -> Option<Value> {
    match text.as_bytes() {
        b"true" => Some(Value::Whole(1)),
        b"false" => Some(Value::Whole(0)),
        [b'"', ..] => None,
        [.., b'u'] => text[..text.len() - 1].parse().ok().map(Value::Count),
        [.., b'i'] => text[..text.len() - 1].parse().ok().map(Value::Whole),
        _ => text.parse().ok().map(Value::Float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Line<'_> {
        let mut lines = lines(text.as_bytes());
        let line = lines.next().expect("a line").expect("it can be read");
        assert!(lines.next().is_none());
        line
    }

    #[test]
    fn a_line_says_what_it_is() {
        let line = one(
            "my\\ table,a\\=b=c\\,d,host=x=y\\z n=1u,m=-2i,f=1.5e-7,ok=true,bucket_0_2=3u,bucket_4_8=4u,\
             bucket_9223372036854775808_inf=5u,interval_ns=400i 1000\n",
        );
        assert_eq!((line.table, &*unescaped(line.table)), ("my\\ table", "my table"));
        assert_eq!(line.series, "my\\ table,a\\=b=c\\,d,host=x=y\\z");
        let tags: Vec<_> = line.tags.iter().map(|(k, v)| (unescaped(k), unescaped(v))).collect();
        assert_eq!(tags, [("a=b".into(), "c,d".into()), ("host".into(), "x=y\\z".into())]);
        let fields = [
            ("n", Value::Count(1)),
            ("m", Value::Whole(-2)),
            ("f", Value::Float(1.5e-7)),
            ("ok", Value::Whole(1)),
        ];
        assert_eq!(&line.fields[..], fields);
        let buckets = line.buckets.expect("a histogram");
        assert_eq!((buckets[0], buckets[2], buckets[63]), (3, 4, 5));
        assert_eq!(buckets.iter().sum::<u64>(), 12);
        assert_eq!((line.time_ns, line.begin_ns), (1000, Some(600)));
    }

    #[test]
    fn texts_are_passed_over_and_what_is_no_line_too() {
        let line = one("t s=\"a,b=1i \\\"c\\\\\",n=7i 5\n");
        assert_eq!(&line.fields[..], [("n", Value::Whole(7))]);
        assert_eq!((line.begin_ns, line.buckets), (None, None));
        assert!(one("t s=\"x\" 5\n").fields.is_empty());
        for wrong in ["", "t", "t n", "t n=1i", "t n=1i x", "t,a n=1i 1", "t n=\"a 1"] {
            assert!(Line::read(wrong).is_none(), "{wrong}");
        }
        assert!(lines(b"t,a=\xff n=1i 1\n").next().expect("a line").is_none());
    }

    #[test]
    fn a_line_of_a_file_counts_what_it_is_told_to() {
        let text = "w count=3i,sum_us=9i,max_us=4i,seen=2i,bucket_0_2=3i,interval_ns=1i 5\n";
        for (histogram, text) in [(false, text), (true, text)] {
            let mut line = one(text);
            line.count_in_file(histogram, |field| field == "seen");
            let fields = [
                ("count", Value::Count(3)),
                ("sum_us", Value::Count(9)),
                ("max_us", Value::Whole(4)),
                ("seen", Value::Count(2)),
            ];
            assert_eq!(&line.fields[..], fields);
            assert_eq!(line.buckets.map(|all| (all[0], all[1])), Some((3, 0)));
        }
        let mut line = one("w count=0i,sum_us=0i,n=-1i 5\n");
        line.count_in_file(true, |_| true);
        assert_eq!(line.buckets, Some([0; BUCKETS]), "buckets without values are left out");
        assert_eq!(line.fields[2].1, Value::Whole(-1));
        let mut line = one("t count=1i,sum=2i 5\n");
        line.count_in_file(false, |_| false);
        assert_eq!((line.buckets, line.fields[0].1), (None, Value::Whole(1)));
    }

    #[test]
    fn a_bucket_is_known_by_its_lower_bound() {
        for (key, number) in [
            ("bucket_0_2", Some(0)),
            ("bucket_2_4", Some(1)),
            ("bucket_9223372036854775808_inf", Some(63)),
            ("bucket_1_2", None),
            ("bucket_3_4", None),
            ("bucket_2", None),
            ("buckets", None),
        ] {
            assert_eq!(bucket_number(key), number, "{key}");
        }
    }
}
