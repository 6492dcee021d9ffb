//! The known name that someone likely meant.

/// The nearest of the known names, when it differs in no more than a third of its characters. Upper and
/// lower case are the same here.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let near = known.into_iter().filter_map(|text| {
        let known: Vec<char> = text.to_lowercase().chars().collect();
        let edits = edits(&name, &known);
        (edits <= name.len().max(known.len()) / 3).then_some((edits, text))
    });
    near.min_by_key(|(edits, _)| *edits).map(|(_, text)| text)
}

/// How many characters to insert, delete or replace, or neighbours to swap, to make one of the other.
/// An absurdly long name is far from all.
fn edits(from: &[char], to: &[char]) -> usize {
    if from.len().abs_diff(to.len()) > to.len() {
        return usize::MAX;
    }
    // rows[i][j]: the edits between the first i characters and the first j ones.
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let differs = usize::from(from[i - 1] != to[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["", "comm", "pid", "cgroup"];
        for (name, near) in [
            ("com", Some("comm")),
            ("Comm", Some("comm")),
            ("pdi", Some("pid")),
            ("cgorup", Some("cgroup")),
            ("cgroups", Some("cgroup")),
            ("", Some("")),
            ("x", None),
            ("cpu", None),
            ("everything", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
