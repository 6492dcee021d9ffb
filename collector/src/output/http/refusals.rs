//! What servers say of the lines that they refuse.

use super::Server;
use serde_json::Value;

/// A line that a server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place among those that were sent, from 0.
    pub index: u64,
    /// What the server says of it.
    pub words: String,
}

/// InfluxDB 3 and its relatives name no more lines than this in one answer (docs.influxdata.com,
/// "Troubleshoot issues writing data"), so a list of this length may lack some.
const MOST_NAMED: usize = 100;

/// An answer's text: the error of the JSON that InfluxDB sends, or what else there is.
pub fn text(body: &[u8]) -> String {
    let json = serde_json::from_slice(body).unwrap_or(Value::Null);
    let error = ["error", "message"].iter().find_map(|key| json.get(key)?.as_str());
    let text = String::from_utf8_lossy(body);
    match error.or_else(|| begun(&text)) {
        Some(error) => error.to_owned(),
        None => text.trim().to_owned(),
    }
}

/// Whether JSON was cut off: no more than the begin of an answer is read.
fn is_cut(body: &[u8]) -> bool {
    body.starts_with(b"{") && serde_json::from_slice::<Value>(body).is_err()
}

/// The error of JSON that was cut off within it.
fn begun(text: &str) -> Option<&str> {
    let json = text.starts_with('{').then_some(text)?;
    let key = |key: &str| Some(json.split_once(key)?.1.trim_start());
    ["\"error\":", "\"message\":"].iter().find_map(|name| key(name)?.strip_prefix('"'))
}

/// The same, for people: one line, not long, of characters that can be seen.
pub fn shorten(text: &str) -> String {
    const LENGTH: usize = 300;
    let text = visible(text);
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// One line of characters that can be seen.
pub fn visible(text: &str) -> String {
    let seen = text.chars().filter(|c| !is_invisible(*c));
    seen.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Characters that change how others are shown and are not shown themselves, such as U+202E, which turns
/// the direction: Unicode's `Cf`, and its separators of lines and paragraphs.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Whether this kind of server says so of lines that it cannot parse or store. All else, such as what a
/// proxy says, is about no line.
///
/// Read in the servers' sources, and seen where a version is given: InfluxDB 1 and 1.6.7
/// `models/points.go` and `tsdb/shard.go`; Telegraf `plugins/inputs/influxdb_listener`, which is spoken to
/// as InfluxDB 1, and `influxdb_v2_listener`, as InfluxDB 2; InfluxDB 2 `http/points/points_parser.go` and
/// `http/write_handler.go`; Cloud docs.influxdata.com/influxdb3/cloud-serverless/write-data/troubleshoot;
/// InfluxDB 3 `influxdb3_server/src/http.rs` and 3.11.5; VictoriaMetrics 1.79 to 1.130
/// `lib/protoparser/influx/parser.go` and `lib/protoparser/protoparserutil/lines_reader.go`.
pub fn is_about_lines(server: &Server, body: &[u8]) -> bool {
    let text = text(body);
    let begins = |words: &[&str]| {
        body.starts_with(b"{") && words.iter().any(|words| without_prefix(&text).starts_with(words))
    };
    match server {
        Server::Influxdb1 { .. } => begins(&[
            "unable to parse '",
            "partial write",
            "field type conflict: ",
            "metric parse error: ",
        ]),
        Server::Influxdb2 { .. } => {
            let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            let code = json.get("code").and_then(Value::as_str);
            let known = ["invalid", "unprocessable entity", "internal error"];
            (is_cut(body) || code.is_some_and(|code| known.contains(&code)))
                && begins(&[
                    "unable to parse '",
                    "partial write",
                    "metric parse error: ",
                    "failed to parse line protocol",
                ])
        }
        Server::Influxdb3 { .. } => begins(&[
            "partial write of line protocol occurred",
            "parsing failed for write_lp endpoint",
            "line protocol parsing error",
            "Update to schema would exceed number of",
        ]),
        Server::Victoriametrics => [
            "cannot unmarshal InfluxDB line ",
            "incorrect influx line ",
            "cannot unmarshal influx line protocol data",
            "cannot read influx line protocol data: too long line",
        ]
        .iter()
        .any(|words| text.contains(words)),
        // They have answers of their own: `wire/receivers.rs`.
        Server::Prometheus { .. } | Server::Otlp => false,
    }
}

/// Whether InfluxDB says that there is no point in what it was sent, and has nothing else to say of it.
pub fn is_of_nothing(body: &[u8]) -> bool {
    let text = text(body);
    text.ends_with("No data was written") || text == "writing requires points"
}

/// What a server that stored the rest says of the lines it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partial {
    /// These and no others, in ascending order.
    Named(Vec<Refusal>),
    /// At least so many, it does not say which.
    Count(u64),
    /// Some.
    Some,
}

/// Reads the answer to a request of so many lines; `None` when it does not say that any are stored.
pub fn partial<'a>(
    body: &[u8],
    sent: u64,
    lines: impl Iterator<Item = &'a [u8]>,
) -> Option<Partial> {
    let text = text(body);
    let stored_rest = without_prefix(&text).starts_with("partial write");
    if is_cut(body) {
        return stored_rest.then_some(Partial::Some);
    }
    let mut named = numbered(body, sent);
    let complete = named.len() < MOST_NAMED;
    if named.is_empty() {
        named = quoted(&text, lines);
    }
    // What was sent to see whether anything is taken holds no line.
    if !named.is_empty() && (named.len() as u64 == sent || (stored_rest && complete)) {
        return Some(Partial::Named(named));
    }
    stored_rest.then(|| count(&text).map_or(Partial::Some, Partial::Count))
}

/// InfluxDB 2 puts its own words before those of the engine that it shares with InfluxDB 1.
fn without_prefix(text: &str) -> &str {
    ["failure", "unexpected error"]
        .iter()
        .find_map(|what| text.strip_prefix(what)?.strip_prefix(" writing points to database: "))
        .unwrap_or(text)
}

/// InfluxDB 3: `{"error": "...", "data": [{"line_number": 2, "error_message": "..."}, ...]}`.
fn numbered(body: &[u8], sent: u64) -> Vec<Refusal> {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let refusal = |item: &Value| {
        let number = item.get("line_number")?.as_u64().filter(|n| (1..=sent).contains(n))?;
        let words = item.get("error_message").and_then(Value::as_str).unwrap_or_default();
        Some(Refusal { index: number - 1, words: words.to_owned() })
    };
    let items = json.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // One that is not understood, and the list is worth nothing.
    let refusals: Option<Vec<Refusal>> = items.iter().map(refusal).collect();
    let mut refusals = refusals.unwrap_or_default();
    refusals.sort_by_key(|refusal| refusal.index);
    refusals.dedup_by_key(|refusal| refusal.index);
    refusals
}

/// InfluxDB 1 and 2: `unable to parse 'LINE': why`, one after the other in the order of the lines.
fn quoted<'a>(text: &str, lines: impl Iterator<Item = &'a [u8]>) -> Vec<Refusal> {
    const QUOTE: &str = "unable to parse '";
    let Some(begin) = text.find(QUOTE) else { return Vec::new() };
    let separator = format!("\n{QUOTE}");
    let mut quotes = text[begin + QUOTE.len()..].split(&separator).peekable();
    let mut refusals = Vec::new();
    for (index, line) in (0..).zip(lines) {
        let Some(quote) = quotes.peek() else { break };
        let words = std::str::from_utf8(line)
            .ok()
            .and_then(|line| quote.strip_prefix(line.trim_end_matches('\n'))?.strip_prefix("': "));
        if let Some(words) = words {
            let words = words.strip_suffix(" dropped=0").unwrap_or(words).to_owned();
            refusals.push(Refusal { index, words });
            quotes.next();
        }
    }
    // A quote that is none of the lines: then the others may be wrong as well.
    if quotes.peek().is_some() { Vec::new() } else { refusals }
}

/// InfluxDB 1 and 2: `... dropped=N`. It can be too low: lines that cannot be parsed are not in it, nor
/// lines that are too old, when others are refused for another reason.
fn count(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(" dropped=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let at_end = rest.is_empty() || rest.starts_with(" for database: ");
    digits.parse().ok().filter(|&count| at_end && count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial_of(body: &str, sent: &str) -> Option<Partial> {
        let lines = sent.split_inclusive('\n').map(str::as_bytes);
        partial(body.as_bytes(), sent.matches('\n').count() as u64, lines)
    }

    fn named(refusals: &[(u64, &str)]) -> Option<Partial> {
        let refusal = |&(index, words): &(u64, &str)| Refusal { index, words: words.into() };
        Some(Partial::Named(refusals.iter().map(refusal).collect()))
    }

    /// Answers of InfluxDB 1.6.7, word for word.
    #[test]
    fn quoted_lines_are_found() {
        let body = r#"{"error":"partial write: unable to parse 'bad': missing fields\nunable to parse 'bad2 x': invalid field format dropped=0"}"#;
        let both = named(&[(1, "missing fields"), (3, "invalid field format")]);
        assert_eq!(partial_of(body, "a v=1 1\nbad\na v=2 2\nbad2 x\n"), both);
        // Nothing could be parsed.
        let body = r#"{"error":"unable to parse 'bad': missing fields"}"#;
        assert_eq!(partial_of(body, "bad\n"), named(&[(0, "missing fields")]));
        // InfluxDB 2 says so too, and then stores nothing.
        assert_eq!(partial_of(body, "a v=1 1\nbad\n"), None);
    }

    #[test]
    fn of_no_lines_none_is_named() {
        let body = r#"{"error":"unable to parse 'bad': missing fields"}"#;
        assert_eq!(partial_of(body, ""), None);
        assert_eq!(
            partial_of(&body.replace("unable", "partial write: unable"), ""),
            Some(Partial::Some)
        );
    }

    #[test]
    fn a_quote_that_was_not_sent_makes_all_of_them_worthless() {
        let body = r#"{"error":"partial write: unable to parse 'bad': missing fields\nunable to parse 'other': missing fields dropped=0"}"#;
        assert_eq!(partial_of(body, "a v=1 1\nbad\n"), Some(Partial::Some));
    }

    /// From InfluxDB 3's own tests.
    #[test]
    fn numbered_lines_are_found() {
        let body = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"cpu,host=a val= 123","line_number":2,"error_message":"No fields were provided"}]}"#;
        let sent = "cpu,host=b val=2 155\ncpu,host=a val= 123\ncpu,host=b val=5 199\n";
        assert_eq!(partial_of(body, sent), named(&[(1, "No fields were provided")]));
        let body = body.replace("partial write of line protocol occurred", "parsing failed");
        assert_eq!(partial_of(&body, sent), None);
        for number in ["0", "4", "\"2\"", "-1"] {
            let body = format!(
                r#"{{"error":"partial write of line protocol occurred","data":[{{"line_number":{number}}}]}}"#
            );
            assert_eq!(partial_of(&body, sent), Some(Partial::Some), "{number}");
        }
    }

    #[test]
    fn a_list_that_may_have_been_cut_is_not_trusted() {
        let item = |n: u64| format!(r#"{{"line_number":{n},"error_message":"no"}}"#);
        let body = |names: u64| {
            let items: Vec<String> = (1..=names).map(item).collect();
            format!(
                r#"{{"error":"partial write of line protocol occurred","data":[{}]}}"#,
                items.join(",")
            )
        };
        let sent = "a\n".repeat(200);
        assert!(matches!(partial_of(&body(99), &sent), Some(Partial::Named(n)) if n.len() == 99));
        assert_eq!(partial_of(&body(100), &sent), Some(Partial::Some));
        assert!(matches!(partial_of(&body(200), &sent), Some(Partial::Named(n)) if n.len() == 200));
    }

    #[test]
    fn counts_are_read_from_the_end_only() {
        let two = Some(Partial::Count(2));
        for (text, expected) in [
            ("partial write: points beyond retention policy dropped=2", &two),
            (
                "failure writing points to database: partial write: points beyond retention policy dropped=2",
                &two,
            ),
            // InfluxDB 2.7.
            (
                "failure writing points to database: partial write: dropped 2 points outside retention policy of duration 72h0m0s - oldest point a,b= dropped=9 at T dropped=2 for database: D for retention policy: autogen",
                &two,
            ),
            ("partial write: tag dropped=7 of a line that follows", &Some(Partial::Some)),
            ("partial write: field type conflict dropped=0", &Some(Partial::Some)),
            // What a line says of itself.
            ("unable to parse 'm s=\"partial write: dropped=3\"': no", &None),
            ("write failed", &None),
        ] {
            assert_eq!(&partial_of(text, "a\nb\nc\n"), expected, "{text}");
        }
    }

    #[test]
    fn words_are_one_short_line() {
        assert_eq!(text(b"{\"code\":\"invalid\",\"message\":\"no\"}"), "no");
        assert_eq!(text(b" plain \n"), "plain");
        assert_eq!(text(b"{\"error\": \"cut in the mid"), "cut in the mid");
        assert_eq!(shorten("a\nb\tc"), "a b c");
        assert_eq!(shorten(&"x".repeat(300)).len(), 300);
        assert_eq!(shorten(&"x".repeat(301)).len(), 303);
    }

    #[test]
    fn words_hold_nothing_that_hides_or_turns_others() {
        assert_eq!(
            shorten("a\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{e0041}f\u{2028}g\u{ad}h"),
            "abcdefgh"
        );
        assert_eq!(shorten("\u{1b}[31mred\u{7}\u{9b}1m"), " [31mred  1m");
        assert_eq!(shorten("größer, 大きい, \u{1f600}"), "größer, 大きい, \u{1f600}");
    }

    #[test]
    fn a_count_of_an_answer_that_was_cut_is_not_trusted() {
        let body = r#"{"error":"partial write: field type conflict dropped=1"#;
        assert_eq!(partial_of(body, "a\nb\nc\n"), Some(Partial::Some));
        assert_eq!(partial_of(&format!("{body}\"}}"), "a\nb\nc\n"), Some(Partial::Count(1)));
        assert_eq!(partial_of(r#"{"error":"unable to parse 'a': n"#, "a\nb\n"), None);
    }
}
