//! The property.

use crate::{Case, Model};
use line_encoder::read::{Line, Value, read};

/// What a case came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows that became lines and read back equal.
    pub lines: u64,
    /// Rows that were refused, all of them when the table was.
    pub refused: u64,
}

/// Encodes a case between two neighbours and reads everything back.
///
/// # Panics
/// A line does not read back equal, a refusal left a trace or has no reason, or a neighbour is harmed.
#[must_use]
pub fn check(case: &Case) -> Checked {
    const NEIGHBOUR: &[u8] = b"neighbour,k=v n=1i,s=\"x\" 1\n";
    let mut checked = Checked::default();
    let encoder = case.encoder();
    let Some(model) = Model::of(case) else {
        assert!(encoder.is_err(), "a table that must be refused is taken");
        checked.refused = case.rows.len() as u64;
        return checked;
    };
    let mut encoder = encoder.expect("a table that can be stored is taken");

    let mut out = NEIGHBOUR.to_vec();
    let neighbour = read(NEIGHBOUR).expect("the neighbour is a line").remove(0);
    let mut expected = vec![neighbour.clone()];
    for row in &case.rows {
        let before = out.clone();
        let result = row.encode(&mut encoder, &case.tick, &mut out);
        let refusals = model.refusals(row);
        assert!(out.starts_with(&before), "earlier lines stay as they are");
        match result {
            Ok(()) => {
                assert_eq!(refusals, [], "a row that must be refused is taken");
                let line = &out[before.len()..];
                let newlines = line.iter().filter(|&&byte| byte == b'\n').count();
                assert!(newlines == 1 && line.ends_with(b"\n"), "one line, and its end");
                expected.push(model.line(row));
                checked.lines += 1;
            }
            Err(why) => {
                assert!(refusals.contains(&why), "refused: {why}; it could be: {refusals:?}");
                assert_eq!(out.len(), before.len(), "a refused row leaves no trace");
                checked.refused += 1;
            }
        }
    }
    out.extend_from_slice(NEIGHBOUR);
    expected.push(neighbour);
    let found = read(&out).expect("every line is a line");
    assert_eq!(found, expected);
    assert!(floats(&found).eq(floats(&expected)), "-0.0 is not 0.0");
    checked
}

fn floats(lines: &[Line]) -> impl Iterator<Item = u64> {
    lines.iter().flat_map(|line| line.fields.values()).filter_map(|value| match value {
        Value::F64(v) => Some(v.to_bits()),
        _ => None,
    })
}
