//! What was found, point by point.

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Its kind and ABI.
    Loads,
    /// What it says of itself.
    Description,
    /// `init`: loading and attaching.
    Starts,
    Calls,
    /// Lines against the description.
    Lines,
    /// `deinit`.
    Ends,
    /// Within the time that each of these may take.
    Deadline,
    /// `init`, `call` and `deinit` once more in the same process.
    Again,
    Books,
    /// What it leaves behind.
    Leaves,
    Signals,
    Cost,
}

impl Point {
    const ALL: [(Self, &str); 12] = [
        (Self::Loads, "loads"),
        (Self::Description, "description"),
        (Self::Starts, "init"),
        (Self::Calls, "call"),
        (Self::Lines, "lines"),
        (Self::Ends, "deinit"),
        (Self::Deadline, "deadline"),
        (Self::Again, "second start"),
        (Self::Books, "books"),
        (Self::Leaves, "left behind"),
        (Self::Signals, "signals"),
        (Self::Cost, "cost"),
    ];
}

/// What was found.
#[derive(Default)]
pub(super) struct Verdicts {
    found: Vec<(Point, &'static str, String)>,
    /// What the verifier said of programs that it refused.
    pub log: String,
}

impl Verdicts {
    pub fn ok(&mut self, point: Point, text: impl Into<String>) {
        self.found.push((point, "ok", text.into()));
    }

    pub fn fails(&mut self, point: Point, text: impl Into<String>) {
        self.found.push((point, "fails", text.into()));
    }

    /// The point means nothing here.
    pub fn does_not_apply(&mut self, point: Point, text: &str) {
        self.found.push((point, "n/a", text.to_owned()));
    }

    /// It fails for these faults, or is well.
    pub fn judge(&mut self, point: Point, faults: &[String], well: impl Into<String>) {
        match faults {
            [] => self.ok(point, well),
            faults => self.fails(point, faults.join("; ")),
        }
    }

    pub fn failed(&self) -> bool {
        self.found.iter().any(|(_, state, _)| *state == "fails")
    }

    /// A row for each point, in their order.
    pub fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        Point::ALL.into_iter().map(|(point, name)| {
            let found = self.found.iter().find(|(known, ..)| *known == point);
            let (state, text) =
                found.map_or(("not run", ""), |(_, state, text)| (*state, text.as_str()));
            [name, state, text].map(str::to_owned)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_row_whatever_was_found() {
        let mut verdicts = Verdicts::default();
        verdicts.ok(Point::Loads, "x");
        verdicts.does_not_apply(Point::Description, "none");
        assert!(!verdicts.failed());
        verdicts.judge(Point::Starts, &[], "well");
        verdicts.judge(Point::Calls, &["a".to_owned(), "b".to_owned()], "well");
        assert!(verdicts.failed());
        let rows: Vec<String> = verdicts.rows().map(|row| row.join(" ")).collect();
        assert_eq!(
            rows[..4],
            ["loads ok x", "description n/a none", "init ok well", "call fails a; b"]
        );
        assert!(rows[4..].iter().all(|row| row.ends_with(" not run ")), "{rows:?}");
    }
}
