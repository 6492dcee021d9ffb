//! The panels of a table, in no database's language.

use plugin_api::Kind;
use plugin_api::Unit;
use plugin_api::describe::{Field, Table};

/// What stands under one heading.
pub(super) struct Group<'a> {
    pub name: String,
    pub text: String,
    pub panels: Vec<Panel<'a>>,
}

/// A panel.
pub(super) struct Panel<'a> {
    pub title: String,
    pub text: String,
    pub unit: Unit,
    pub table: &'a str,
    /// The plugin whose lines alone are asked for, in a table that several plugins fill.
    pub plugin: Option<&'a str>,
    pub ask: Ask<'a>,
}

/// What is asked of a table.
pub(super) enum Ask<'a> {
    /// Counters, per second.
    Rates { fields: Vec<&'a str>, tags: Vec<&'a str> },
    /// Values of the histogram, per second.
    Counts { suffix: &'static str, tags: Vec<&'a str> },
    /// What is so now: the largest in each step. Flags are 0 or 1.
    Values { fields: Vec<&'a str>, tags: Vec<&'a str>, flags: bool },
    /// Quantiles and the maximum of the histogram.
    Quantiles { suffix: &'static str, tags: Vec<&'a str> },
    /// How many values lie in each bucket of the histogram.
    Heat { suffix: &'static str },
    /// The tags' values that count most, in the whole time that is shown.
    Top { counted: Counted<'a>, tags: Vec<&'a str> },
}

/// What a top list adds up.
#[derive(Clone, Copy)]
pub(super) enum Counted<'a> {
    /// A counter.
    Counter(&'a str),
    /// Values of the histogram, whose unit has this suffix.
    Histogram(&'static str),
}

impl<'a> Panel<'a> {
    /// A table's panels. Texts have none: they are no numbers. Nor have single events, which nobody adds up.
    pub fn of_table(table: &'a Table) -> Vec<Self> {
        if table.name.ends_with("_event") {
            return Vec::new();
        }
        let tags: Vec<&str> = table.tags.iter().map(|tag| &*tag.name).collect();
        let of = |kinds: &'static [Kind]| table.fields.iter().filter(|f| kinds.contains(&f.kind));
        let counters: Vec<&Field> = of(&[Kind::Counter]).collect();
        let values: Vec<&Field> = of(&[Kind::Gauge, Kind::Float]).collect();
        let flags: Vec<&Field> = of(&[Kind::Flag]).collect();
        let mut panels = Vec::new();
        let mut add = |title: String, text: String, unit, ask| {
            let title = format!("{}: {title}", table.name);
            panels.push(Self { title, text, unit, table: &table.name, plugin: None, ask });
        };
        for histogram in of(&[Kind::Histogram]) {
            let (text, suffix) = (histogram.text.clone(), histogram.unit.suffix());
            let ask = Ask::Quantiles { suffix, tags: tags.clone() };
            add("p50, p99 and the longest".to_owned(), text.clone(), histogram.unit, ask);
            add("heat map".to_owned(), text.clone(), histogram.unit, Ask::Heat { suffix });
            let ask = Ask::Counts { suffix, tags: tags.clone() };
            add("count per second".to_owned(), text, Unit::None, ask);
        }
        let first = of(&[Kind::Histogram])
            .map(|histogram| ("count", Unit::None, Counted::Histogram(histogram.unit.suffix())));
        let mut first =
            first
                .chain(of(&[Kind::Counter]).map(|counter| {
                    (&*counter.name, counter.unit, Counted::Counter(&counter.name))
                }));
        if let (false, Some((name, unit, counted))) = (tags.is_empty(), first.next()) {
            let text = format!("{}\n\nThe {MOST} that count most in the time shown.", table.text);
            let title = format!("most {name} by {}", tags.join(", "));
            add(title, text, unit, Ask::Top { counted, tags: tags.clone() });
        }
        // By a tag each field has a panel of its own: its lines are the tag's values.
        for group in groups(&counters, !tags.is_empty()) {
            let fields = group.iter().map(|field| &*field.name).collect();
            let title = format!("{} per second", names(&group));
            let ask = Ask::Rates { fields, tags: tags.clone() };
            add(title, texts(table, &group), group[0].unit, ask);
        }
        let values = groups(&values, !tags.is_empty()).into_iter().map(|group| (group, false));
        let flags = groups(&flags, !tags.is_empty()).into_iter().map(|group| (group, true));
        for (group, flags) in values.chain(flags) {
            let fields = group.iter().map(|field| &*field.name).collect();
            let ask = Ask::Values { fields, tags: tags.clone(), flags };
            add(names(&group), texts(table, &group), group[0].unit, ask);
        }
        panels
    }

    /// The same of one plugin's lines.
    pub fn of_plugin(self, plugin: &'a str) -> Self {
        Self { plugin: Some(plugin), ..self }
    }
}

/// The most lines of a panel, and rows of a list. Tables by a tag have up to 21 a host.
pub(super) const MOST: usize = 12;

/// Fields of one unit, which share an axis; or each alone.
fn groups<'f>(fields: &[&'f Field], alone: bool) -> Vec<Vec<&'f Field>> {
    let mut groups: Vec<Vec<&Field>> = Vec::new();
    for field in fields {
        match groups.iter_mut().find(|group| !alone && group[0].unit == field.unit) {
            Some(group) => group.push(field),
            None => groups.push(vec![field]),
        }
    }
    groups
}

fn names(fields: &[&Field]) -> String {
    fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ")
}

fn texts(table: &Table, fields: &[&Field]) -> String {
    let texts = fields.iter().map(|field| format!("`{}`: {}", field.name, field.text));
    [table.text.clone()].into_iter().chain(texts).collect::<Vec<_>>().join("\n\n")
}
