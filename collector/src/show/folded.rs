//! `once --folded` and `once --flame`: the stacks in a plugin's lines, as text and as a picture.

use crate::read::{Line, Value};
use plugin_api::describe::{Description, Table};
use plugin_api::{Kind, Unit};
use std::collections::BTreeMap;
use std::io;

/// The field that makes a table one of stacks.
const FOLDED: &str = "folded";
/// The tag of the sum of what is beyond the top, which no other row has.
const REST: &str = "other";
/// The frame of what has no stack in its row.
const OTHER: &str = "[other]";
/// A frame without a name.
const UNKNOWN: &str = "[unknown]";

/// The table of a plugin that has stacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stacks<'a> {
    table: &'a Table,
    /// Its first field that is a whole number: how wide a stack is.
    weight: &'a str,
    unit: Unit,
    /// How it is now; what it is in a later line stands for all before.
    is_state: bool,
}

/// Stacks with their weights.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folded(BTreeMap<String, u64>);

impl<'a> Stacks<'a> {
    /// `None` for a plugin that has no such table.
    pub(super) fn of(plugin: &'a Description) -> Option<Self> {
        plugin.tables.iter().find_map(|table| {
            let has_stacks = |field: &&_| is_folded(field);
            table.fields.iter().find(has_stacks)?;
            let mut fields = table.fields.iter();
            let weight = fields.find(|field| matches!(field.kind, Kind::Counter | Kind::Gauge))?;
            let is_state = weight.kind == Kind::Gauge;
            Some(Self { table, weight: &weight.name, unit: weight.unit, is_state })
        })
    }

    /// What the widths are.
    pub(super) fn weight(&self) -> &'a str {
        self.weight
    }

    /// The same as a word behind a number.
    pub(super) fn unit(&self) -> &'a str {
        match self.unit.suffix() {
            "" => self.weight,
            suffix => &suffix[1..],
        }
    }

    /// The table's name.
    pub(super) fn table(&self) -> &'a str {
        &self.table.name
    }

    /// Takes the stacks of a tick.
    pub(super) fn add(&self, lines: &[Line], to: &mut Folded) {
        if self.is_state {
            to.0.clear();
        }
        for line in lines.iter().filter(|line| line.table == self.table.name) {
            let weight = match line.get(self.weight) {
                Some(Value::U64(weight)) => *weight,
                Some(Value::I64(weight)) => u64::try_from(*weight).unwrap_or(0),
                _ => 0,
            };
            if weight > 0 {
                let is_rest = line.tags.values().any(|tag| tag == REST);
                let stack = match line.get(FOLDED) {
                    Some(Value::Text(text)) if !is_rest => cleaned(text),
                    _ => OTHER.to_owned(),
                };
                *to.0.entry(stack).or_default() += weight;
            }
        }
    }
}

fn is_folded(field: &plugin_api::describe::Field) -> bool {
    field.name == FOLDED && field.kind == Kind::Text
}

/// A stack whose frames every reader of folded stacks takes as they are. The reader finds the weight behind the last
/// space, and a second one in front of it: a number at the end of a frame is joined to the word before it.
fn cleaned(folded: &str) -> String {
    let frame = |frame: &str| {
        let text: String = frame.chars().map(|c| if is_printed(c) { c } else { '_' }).collect();
        let text = text.trim();
        if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
    };
    let frames: Vec<String> = folded.split(';').map(frame).collect();
    let mut stack = frames.join(";");
    if let Some((rest, last)) = stack.rsplit_once(' ')
        && last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        stack = format!("{rest}_{last}");
    }
    // A line that begins so is a comment.
    if stack.starts_with("# ") { stack.replacen(' ', "_", 1) } else { stack }
}

/// Whether XML can hold it, on one line.
fn is_printed(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

impl Folded {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A line for each stack: its frames from the outermost on, with `;` between them, and its weight.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(stack, weight)| format!("{stack} {weight}\n")).collect()
    }

    /// A flame graph, as SVG.
    ///
    /// # Errors
    /// There is no stack.
    pub(super) fn picture(
        &self,
        title: String,
        subtitle: String,
        unit: &str,
    ) -> io::Result<Vec<u8>> {
        let mut options = inferno::flamegraph::Options::default();
        options.title = title;
        options.subtitle = Some(subtitle);
        options.count_name = unit.to_owned();
        options.deterministic = true; // a function has its color in the next picture too
        let (text, mut svg) = (self.text(), Vec::new());
        inferno::flamegraph::from_lines(&mut options, text.lines(), &mut svg)?;
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read;
    use serde_json::json;

    fn plugin(kind: &str) -> Description {
        let field = |name: &str, kind: &str| json!({"name": name, "text": "", "kind": kind, "unit": "none"});
        let plugin = json!({
            "name": "p", "version": "1", "text": "", "options": [],
            "tables": [
                {"name": "p", "text": "", "tags": [], "fields": [field("n", "counter"), field("folded", "counter")]},
                {"name": "p_stack", "text": "", "tags": [{"name": "stack", "text": ""}],
                 "fields": [field("share", "float"), field("n", kind), field("m", "counter"), field("folded", "text")]},
            ],
        });
        Description::from_json(&plugin.to_string()).unwrap()
    }

    fn folded(kind: &str, ticks: &[&str]) -> Folded {
        let plugin = plugin(kind);
        let stacks = Stacks::of(&plugin).unwrap();
        assert_eq!((stacks.table(), stacks.weight()), ("p_stack", "n"));
        let mut folded = Folded::default();
        ticks.iter().for_each(|lines| stacks.add(&read(lines.as_bytes()).unwrap(), &mut folded));
        folded
    }

    #[test]
    fn a_plugin_without_a_text_named_folded_has_no_stacks() {
        let mut without = plugin("counter");
        without.tables.pop();
        assert!(Stacks::of(&without).is_none());
    }

    #[test]
    fn equal_stacks_are_one_and_what_has_no_row_has_a_frame() {
        let ticks = [
            "p_stack,stack=1 n=3i,m=9i,share=0.5,folded=\"a;b\" 1\n\
             p_stack,stack=2 n=4i,m=9i,folded=\"a;b\" 1\n\
             p_stack,stack=3 n=0i,m=9i,folded=\"a;c\" 1\n\
             p_stack,stack=4 n=1i,m=9i,folded=\"other\" 1\n\
             p,x=y n=1i,folded=5i 1\n",
            "p_stack,stack=1 n=1i,m=9i,folded=\"a;b\" 2\np_stack,stack=other n=10i,m=9i,folded=\"other\" 2\n",
        ];
        assert_eq!(folded("counter", &ticks).text(), "[other] 10\na;b 8\nother 1\n");
        assert_eq!(folded("gauge", &ticks).text(), "[other] 10\na;b 1\n");
        assert!(folded("counter", &[]).is_empty());
    }

    #[test]
    fn names_come_out_as_readers_take_them() {
        let table = [
            ("main;std::vec<a, b>::push(int) const", "main;std::vec<a, b>::push(int) const"),
            ("main;worker 12", "main;worker_12"),
            ("main;a 1 2.5", "main;a 1_2.5"),
            ("worker 12;main", "worker 12;main"),
            ("12", "12"),
            ("a;;b; ;", "a;[unknown];b;[unknown];[unknown]"),
            ("", "[unknown]"),
            ("# 1;b", "#_1;b"),
            ("a\u{1b}[1m\t;b\u{fffe}", "a_[1m_;b_"),
            ("<&>\"';ü", "<&>\"';ü"),
        ];
        for (given, expected) in table {
            assert_eq!(cleaned(given), expected, "{given:?}");
        }
    }

    #[test]
    fn the_picture_has_each_frame_with_its_weight() {
        let lines = "p_stack,stack=1 n=30i,folded=\"main;a<b>&c 12\" 1\n\
                     p_stack,stack=2 n=10i,folded=\"main;worker 7\" 1\n\
                     p_stack,stack=other n=60i 1\n";
        let svg = folded("counter", &[lines]).picture("p: n".into(), "x".into(), "n").unwrap();
        let svg = String::from_utf8(svg).unwrap();
        for title in [
            "main (40 n, 40.00%)",
            "a&lt;b&gt;&amp;c_12 (30 n, 30.00%)",
            "worker_7 (10 n, 10.00%)",
            "[other] (60 n, 60.00%)",
            "all (100 n, 100%)",
        ] {
            assert!(svg.contains(&format!("<title>{title}</title>")), "{title}: {svg}");
        }
    }
}
