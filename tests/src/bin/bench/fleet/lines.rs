//! What a host sends: lines that a collector with all tools has written, played on.
//!
//! Each tick of a host is one of the recorded ticks, chosen by chance. A number that only grew while it was recorded is
//! a sum, and grows by what it grew by in that tick; any other value is that of the tick. So no period shows that a
//! database could compress, and what a host sends at a tick follows from its number and the tick's.

use anyhow::{Context, Result, ensure};
use collector::read::{Value, read};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The tag of the host that was recorded.
pub const RECORDED: &str = "recorded";

/// A series of lines: a table and its tags.
struct Series {
    tool: usize,
    /// The line up to the host's name, and from there to the fields.
    around: [String; 2],
    fields: Vec<Field>,
    /// By recorded tick.
    present: Vec<bool>,
}

struct Field {
    name: String,
    values: Values,
}

/// Values of fields, by recorded tick.
type Recorded = BTreeMap<String, Vec<Option<Value>>>;

/// By recorded tick; without those where the line or the field was not there.
enum Values {
    Sum { first: i64, steps: Vec<i64>, present: Vec<bool> },
    Each(Vec<Option<String>>),
}

/// What was recorded.
pub struct Lines {
    /// Who made them.
    pub tools: Vec<String>,
    series: Vec<Series>,
    ticks: Vec<Tick>,
    /// Lines that were left out: their times are not those of ticks.
    pub left_out: usize,
}

/// What is in a recorded tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    pub lines: u64,
    /// Fields, which are samples for VictoriaMetrics.
    pub samples: u64,
    /// Those that vmagent forwards by `relabel.yml`.
    pub kept: u64,
    pub bytes: u64,
}

/// What a tool adds.
#[derive(Clone, Debug, Default)]
pub struct Share {
    pub lines: f64,
    pub samples: f64,
    pub series: usize,
    pub series_kept: usize,
}

/// The lines of a tool at a tick.
pub struct Text {
    pub tool: usize,
    pub lines: u64,
    pub bytes: Vec<u8>,
}

/// A host at work.
pub struct Host {
    pub name: String,
    seed: u64,
    /// How often each of the recorded ticks was played.
    played: Vec<i64>,
}

fn is_kept(field: &str) -> bool {
    field != "interval_ns"
}

impl Lines {
    /// Of a file that a collector has written, ticking at an interval.
    ///
    /// # Errors
    /// They are no such lines, or too few.
    pub fn read(path: &Path, interval_ns: i64) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let (mut by_time, mut left_out) = (BTreeMap::<i64, Vec<_>>::new(), 0);
        for (raw, line) in whole.lines().zip(read(whole.as_bytes())?) {
            if line.time_ns % interval_ns == 0 {
                by_time.entry(line.time_ns).or_default().push((raw, line));
            } else {
                left_out += 1;
            }
        }
        // Tools begin one after the other, and the last tick may be half written.
        let most = by_time.values().map(Vec::len).max().unwrap_or(0);
        let mut ticks: Vec<_> = by_time.into_values().collect();
        let first = ticks.iter().position(|lines| lines.len() > most / 2).unwrap_or(0);
        ticks.drain(..(first + 2).min(ticks.len()));
        ticks.pop();
        ensure!(ticks.len() >= 3, "{} whole ticks in {}", ticks.len(), path.display());

        let mut tools: Vec<String> = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut series: Vec<(Series, Recorded)> = Vec::new();
        for (at, tick) in ticks.iter().enumerate() {
            for (raw, line) in tick {
                let head = &raw[..end_of_series(raw)];
                let number = *numbers.entry(head).or_insert(series.len());
                if number == series.len() {
                    let tool = line.table.split('_').next().unwrap_or_default();
                    let known = tools.iter().position(|name| name == tool);
                    let tool = known.unwrap_or_else(|| {
                        tools.push(tool.to_owned());
                        tools.len() - 1
                    });
                    let host = format!(",host={RECORDED}");
                    let (before, after) = head.split_once(&*host).context("a line without host")?;
                    let around = [format!("{before},host="), format!("{after} ")];
                    let present = vec![false; ticks.len()];
                    let new = Series { tool, around, fields: Vec::new(), present };
                    series.push((new, Recorded::new()));
                }
                let (series, fields) = &mut series[number];
                series.present[at] = true;
                for (name, value) in &line.fields {
                    let values = fields.entry(name.clone()).or_insert(vec![None; ticks.len()]);
                    values[at] = Some(value.clone());
                }
            }
        }
        let mut series: Vec<Series> = series
            .into_iter()
            .map(|(series, fields)| {
                let field = |(name, values): (String, Vec<_>)| Field {
                    values: Values::of(&name, &values),
                    name,
                };
                Series { fields: fields.into_iter().map(field).collect(), ..series }
            })
            .collect();
        series.sort_by_key(|series| series.tool);
        let ticks = vec![Tick::default(); ticks.len()];
        let mut lines = Self { tools, series, ticks, left_out };
        lines.check()?;
        lines.ticks = (0..lines.ticks.len()).map(|at| lines.tick(at)).collect();
        Ok(lines)
    }

    /// No two samples of a tick have the same name and tags at VictoriaMetrics.
    fn check(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for series in &self.series {
            let (table, tags) = series.around[0].split_once(',').context("tags")?;
            for field in &series.fields {
                let name = format!("{table}_{},{tags}{}", field.name, series.around[1]);
                ensure!(names.insert(name.clone()), "two fields are one series: {name}");
            }
        }
        Ok(())
    }

    fn tick(&self, at: usize) -> Tick {
        let mut tick = Tick::default();
        for series in self.series.iter().filter(|series| series.present[at]) {
            tick.lines += 1;
            for field in series.fields.iter().filter(|field| field.values.present(at)) {
                tick.samples += 1;
                tick.kept += u64::from(is_kept(&field.name));
            }
        }
        let host = self.host(0);
        let texts = self.texts(&host, at, 1_700_000_000_000_000_000);
        tick.bytes = texts.iter().map(|text| text.bytes.len() as u64).sum();
        tick
    }

    /// What the recorded ticks have.
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// The mean of something over the recorded ticks.
    pub fn mean(&self, of: impl Fn(&Tick) -> u64) -> f64 {
        self.ticks.iter().map(of).sum::<u64>() as f64 / self.ticks.len() as f64
    }

    /// Tools, with what each adds to a host.
    pub fn shares(&self) -> BTreeMap<&str, Share> {
        let mut shares = BTreeMap::<&str, Share>::new();
        let count = self.ticks.len() as f64;
        for series in &self.series {
            let share = shares.entry(&self.tools[series.tool]).or_default();
            share.lines += series.present.iter().filter(|present| **present).count() as f64 / count;
            for field in &series.fields {
                share.series += 1;
                share.series_kept += usize::from(is_kept(&field.name));
                let present = (0..self.ticks.len()).filter(|at| field.values.present(*at)).count();
                share.samples += present as f64 / count;
            }
        }
        shares
    }

    /// A host at its beginning, by its number.
    pub fn host(&self, number: u64) -> Host {
        let seed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Host { name: format!("h{number:04}"), seed, played: vec![0; self.ticks.len()] }
    }

    /// Which of the recorded ticks a host plays at one of its ticks.
    pub fn choice(&self, host: &Host, tick: u64) -> usize {
        let mut rng = fastrand::Rng::with_seed(host.seed ^ tick);
        rng.usize(..self.ticks.len())
    }

    /// Plays a tick, and returns which of the recorded ones that is.
    pub fn play(&self, host: &mut Host, tick: u64) -> usize {
        let at = self.choice(host, tick);
        host.played[at] += 1;
        at
    }

    /// The lines of the tick that a host has played last, by tool.
    pub fn texts(&self, host: &Host, at: usize, time_ns: i64) -> Vec<Text> {
        let mut texts: Vec<Text> = Vec::new();
        let mut line = String::with_capacity(1024);
        for series in self.series.iter().filter(|series| series.present[at]) {
            line.clear();
            line.push_str(&series.around[0]);
            line.push_str(&host.name);
            line.push_str(&series.around[1]);
            let begin = line.len();
            for field in series.fields.iter().filter(|field| field.values.present(at)) {
                if line.len() > begin {
                    line.push(',');
                }
                line.push_str(&field.name);
                line.push('=');
                match &field.values {
                    Values::Sum { first, steps, .. } => {
                        let grown: i64 = steps.iter().zip(&host.played).map(|(s, n)| s * n).sum();
                        let _ = write!(line, "{}i", first + grown); // a text takes it
                    }
                    Values::Each(values) => line.push_str(values[at].as_deref().unwrap_or("")),
                }
            }
            let _ = writeln!(line, " {time_ns}");
            match texts.last_mut().filter(|text| text.tool == series.tool) {
                Some(text) => {
                    text.lines += 1;
                    text.bytes.extend_from_slice(line.as_bytes());
                }
                None => texts.push(Text {
                    tool: series.tool,
                    lines: 1,
                    bytes: line.as_bytes().to_vec(),
                }),
            }
        }
        texts
    }

    /// Samples that the database is to have of each of a host's ticks, whether they were made or not.
    pub fn kept(&self, host: &Host, ticks: Range<u64>, relabelled: bool) -> Vec<u64> {
        ticks
            .map(|tick| {
                let tick = self.ticks[self.choice(host, tick)];
                if relabelled { tick.kept } else { tick.samples }
            })
            .collect()
    }
}

impl Values {
    fn of(name: &str, values: &[Option<Value>]) -> Self {
        let present: Vec<bool> = values.iter().map(Option::is_some).collect();
        let whole: Option<Vec<i64>> = values
            .iter()
            .flatten()
            .map(|value| match value {
                Value::I64(n) => Some(*n),
                _ => None,
            })
            .collect();
        let grows = |whole: &Vec<i64>| whole.is_sorted() && whole.first() < whole.last();
        if let Some(whole) = whole.filter(grows).filter(|_| is_kept(name)) {
            let mut last = whole[0];
            let step = |value: &Option<Value>| match value {
                Some(Value::I64(n)) => n - std::mem::replace(&mut last, *n),
                _ => 0,
            };
            return Self::Sum {
                first: whole[0],
                steps: values.iter().map(step).collect(),
                present,
            };
        }
        let text = |value: &Value| match value {
            Value::I64(n) => format!("{n}i"),
            Value::U64(n) => format!("{n}u"),
            Value::F64(n) => n.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Text(text) => {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
        };
        Self::Each(values.iter().map(|value| value.as_ref().map(text)).collect())
    }

    fn present(&self, at: usize) -> bool {
        match self {
            Self::Sum { present, .. } => present[at],
            Self::Each(values) => values[at].is_some(),
        }
    }
}

/// Where the fields of a line begin: behind the first space that no backslash precedes.
fn end_of_series(line: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b' ' if !escaped => return at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_on_where_they_were_and_all_else_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut text = String::new();
        for tick in 1..=6 {
            writeln!(
                text,
                "t,host=recorded,name=a\\ b count={}i,max_us={}i,interval_ns=10i {}0",
                tick * tick,
                9 - tick % 2,
                tick
            )
            .unwrap();
            writeln!(text, "t,host=recorded x=1i {tick}3").unwrap();
        }
        fs::write(&path, text).unwrap();
        let lines = Lines::read(&path, 10).unwrap();
        assert_eq!(lines.ticks().len(), 3, "two at the begin and the last one are not played");
        assert_eq!(lines.left_out, 6);
        let tick = lines.ticks()[0];
        assert_eq!((tick.lines, tick.samples, tick.kept), (1, 3, 2));
        let mut host = lines.host(7);
        let mut sum = 9;
        for tick in 0..20 {
            let at = lines.play(&mut host, tick);
            sum += [0, 7, 9][at];
            let [text] = &lines.texts(&host, at, 1230)[..] else { panic!("one tool") };
            let expected = format!(
                "t,host=h0007,name=a\\ b count={sum}i,interval_ns=10i,max_us={}i 1230\n",
                [8, 9, 8][at]
            );
            assert_eq!(String::from_utf8_lossy(&text.bytes), expected);
        }
    }
}
