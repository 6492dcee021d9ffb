//! Text in columns.

/// Rows whose cells stand below each other, two spaces apart. Columns that `right` names end there.
pub(super) fn aligned<R: AsRef<[String]>>(rows: &[R], right: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
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
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other() {
        let rows = [["NAME", "COUNT"], ["a", "1"], ["täglich", "12345678"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let text = aligned(&rows, |column| column == 1);
        assert_eq!(text, "NAME        COUNT\na               1\ntäglich  12345678\n");
    }
}
