//! A table with some rows, made of bytes.

use crate::text;
use arbitrary::{Arbitrary, Result, Unstructured};
use line_encoder::encode::{Refused, Schema, Tags, check_key};
use line_encoder::encoder::{Encoder, Room};
use line_encoder::form::Form;
use plugin_api::abi::{TICK_TIME, Tick, Val};
use plugin_api::abi_stable::std_types::RStr;
use std::time::Instant;

/// A table as a plugin and a configuration may give it, with rows.
#[derive(Clone, Debug)]
pub struct Case {
    /// The table's name.
    pub table: String,
    /// Keys of its tags.
    pub tags: Vec<String>,
    /// Keys of its fields.
    pub fields: Vec<String>,
    /// Tags of the configuration, which has refused all keys that it must.
    pub configured: Tags,
    /// `u64` stays unsigned on the wire.
    pub uint: bool,
    /// The tick of all rows.
    pub tick: Tick,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// A row, mostly with as many values as its table has tags and fields.
#[derive(Clone, Debug)]
pub struct Row {
    /// Values of the tags.
    pub tags: Vec<String>,
    /// Values of the fields.
    pub cells: Vec<Cell>,
    /// Its own time, or [`TICK_TIME`].
    pub time_ns: i64,
}

/// What [`Val`] is, owned.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in Val")]
pub enum Cell {
    None,
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
    Text(String),
}

impl Case {
    /// Prepares the table, as the host does.
    ///
    /// # Errors
    /// The table is refused.
    pub fn encoder(&self) -> anyhow::Result<Encoder> {
        let (tags, fields) = (strs(&self.tags), strs(&self.fields));
        let schema = Schema::new(&self.table, &tags, &fields, &self.configured, self.uint)?;
        let mut encoder = Encoder::new(&[Form::default()]);
        encoder.add(&self.table, schema);
        Ok(encoder)
    }
}

impl Row {
    /// Encodes it, as the host does, and appends it; with no other row in its tick or the one before.
    ///
    /// # Errors
    /// It is refused.
    pub fn encode(
        &self,
        encoder: &mut Encoder,
        tick: &Tick,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let tags: Vec<RStr<'_>> = self.tags.iter().map(|tag| RStr::from_str(tag)).collect();
        let cells: Vec<Val<'_>> = self.cells.iter().map(Cell::val).collect();
        let now = Instant::now();
        encoder.begin(*tick, now);
        encoder.begin(*tick, now);
        let room = Room::ANY;
        let result = encoder.push(0, &tags, &cells, self.time_ns, tick.elapsed_ns, room);
        out.extend_from_slice(&encoder.take()[0].bytes);
        result
    }
}

impl Cell {
    /// As it crosses the ABI.
    #[must_use]
    pub fn val(&self) -> Val<'_> {
        match self {
            Self::None => Val::None,
            Self::I64(v) => Val::I64(*v),
            Self::U64(v) => Val::U64(*v),
            Self::F64(v) => Val::F64(*v),
            Self::Bool(v) => Val::Bool(*v),
            Self::Text(v) => Val::Str(RStr::from_str(v)),
        }
    }
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let table = text::name(u, &[])?;
        let tags = names(u, &[])?;
        let fields = names(u, &tags)?;
        let mut configured = Tags::new();
        for key in names(u, &tags)? {
            let value = text::text(u)?;
            if check_key("tag", &key).is_ok() {
                configured.insert(key, value);
            }
        }
        let tick = Tick { seq: 7, time_ns: 1_700_000_000_000_000_000, elapsed_ns: u.arbitrary()? };
        let mut case =
            Self { table, tags, fields, configured, uint: u.arbitrary()?, tick, rows: vec![] };
        for _ in 0..1 + u.arbitrary::<u8>()? % 4 {
            let row = row(u, &case)?;
            case.rows.push(row);
        }
        Ok(case)
    }
}

/// Some names; `before` are those that they must not repeat, and sometimes do.
fn names(u: &mut Unstructured<'_>, before: &[String]) -> Result<Vec<String>> {
    match u.arbitrary::<u8>()? {
        255 => Ok(Vec::new()),
        254 => {
            let (name, count) = (text::name(u, before)?, 8 + u.arbitrary::<u8>()? % 32);
            Ok((0..count).map(|number| format!("{name}{number}")).collect())
        }
        count => {
            let mut known = before.to_vec();
            for _ in 0..1 + count % 5 {
                known.push(text::name(u, &known)?);
            }
            Ok(known.split_off(before.len()))
        }
    }
}

fn row(u: &mut Unstructured<'_>, case: &Case) -> Result<Row> {
    let (mut tags, mut cells) = (case.tags.len(), case.fields.len());
    match u.arbitrary::<u8>()? {
        255 => tags += 1,
        254 => cells = cells.saturating_sub(1),
        _ => {}
    }
    let alike = if u.arbitrary::<u8>()? >= 0xf0 { Some(text::text(u)?) } else { None };
    let mut tag = || alike.clone().map_or_else(|| text::text(u), Ok);
    Ok(Row {
        tags: (0..tags).map(|_| tag()).collect::<Result<_>>()?,
        cells: (0..cells).map(|_| cell(u)).collect::<Result<_>>()?,
        time_ns: match u.arbitrary::<u8>()? {
            0..=0xbf => TICK_TIME,
            0xc0..=0xdf => 1_700_000_000_123_456_789,
            0xe0..=0xef => *u.choose(&[1, 0, -1, i64::MIN + 1, i64::MAX, i64::MAX - 1])?,
            _ => u.arbitrary()?,
        },
    })
}

fn cell(u: &mut Unstructured<'_>) -> Result<Cell> {
    /// Numbers at which something ends: digits, mantissas, exponents, signs.
    const FLOATS: [f64; 15] = [
        0.0,
        -0.0,
        1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        1e21,
        1e-7,
        9_007_199_254_740_993.0,
        0.1,
    ];
    Ok(match u.arbitrary::<u8>()? % 10 {
        0 => Cell::I64(u.arbitrary()?),
        1 => Cell::I64(*u.choose(&[i64::MIN, i64::MAX, 0, -1, 1 << 53])?),
        2 => Cell::U64(u.arbitrary()?),
        3 => Cell::U64(*u.choose(&[u64::MAX, i64::MAX as u64, 1 << 63, 0])?),
        4 => Cell::F64(f64::from_bits(u.arbitrary()?)),
        5 => Cell::F64(*u.choose(&FLOATS)?),
        6 => Cell::Bool(u.arbitrary()?),
        7 => Cell::None,
        _ => Cell::Text(text::text(u)?),
    })
}
