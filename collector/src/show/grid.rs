//! Text in columns.

/// Rows whose cells stand below each other, two spaces apart. Columns that `right` names end there. Lines longer
/// than `width` are cut.
pub(super) fn aligned<R: AsRef<[String]>>(
    rows: &[R],
    right: impl Fn(usize) -> bool,
    width: Option<usize>,
) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(longest).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.as_ref().iter().enumerate() {
            let width = widths[column];
            if column > 0 {
                line.push_str("  ");
            }
            line.push_str(&match right(column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
        }
        out.push_str(&cut(line.trim_end(), width));
        out.push('\n');
    }
    out
}

/// At most `width` characters; the last one then says that there is more.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [[String; 2]; 3] {
        let rows = [["NAME", "COUNT"], ["a", "1"], ["täglich", "12345678"]];
        rows.map(|row| row.map(str::to_owned))
    }

    #[test]
    fn cells_stand_below_each_other() {
        let text = aligned(&rows(), |column| column == 1, None);
        assert_eq!(text, "NAME        COUNT\na               1\ntäglich  12345678\n");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let text = aligned(&rows(), |column| column == 1, Some(10));
        assert_eq!(text, "NAME     …\na        …\ntäglich  …\n");
        let text = aligned(&rows(), |column| column == 1, Some(17));
        assert_eq!(text, "NAME        COUNT\na               1\ntäglich  12345678\n");
    }
}
