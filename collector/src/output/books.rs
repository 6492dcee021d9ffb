//! What became of lines: counted per plugin, by cause when they were lost.

use std::fmt;
use std::ops::{AddAssign, Index, IndexMut, Sub};

/// Why lines were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The queue in memory was full: the oldest went.
    Full,
    /// The spool was full: the oldest went.
    SpoolFull,
    /// They lay in the spool for longer than they may.
    SpoolAge,
    /// The spool could not be read back.
    SpoolError,
    /// The server refuses these lines, whatever is done.
    Rejected,
    /// Longer than what carries them.
    TooLong,
    /// They came before the plugin knew of this output's form.
    Form,
    /// The other end is gone, or failed until the collector stopped.
    Error,
}

impl Cause {
    /// All of them, in the order of [`ByCause`].
    pub const ALL: [Self; 8] = [
        Self::Full,
        Self::SpoolFull,
        Self::SpoolAge,
        Self::SpoolError,
        Self::Rejected,
        Self::TooLong,
        Self::Form,
        Self::Error,
    ];

    /// Its name in tags and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::SpoolFull => "spool_full",
            Self::SpoolAge => "spool_age",
            Self::SpoolError => "spool_error",
            Self::Rejected => "rejected",
            Self::TooLong => "too_long",
            Self::Form => "form",
            Self::Error => "error",
        }
    }

    /// Whether an interval is missing then, and not single lines of it.
    #[must_use]
    pub fn makes_gap(self) -> bool {
        !matches!(self, Self::Rejected | Self::TooLong)
    }
}

/// Lines given up, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCause([u64; Cause::ALL.len()]);

impl ByCause {
    /// All causes together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Cause> for ByCause {
    type Output = u64;
    fn index(&self, cause: Cause) -> &u64 {
        &self.0[cause as usize]
    }
}

impl IndexMut<Cause> for ByCause {
    fn index_mut(&mut self, cause: Cause) -> &mut u64 {
        &mut self.0[cause as usize]
    }
}

/// Lines of one plugin, or of all, to one output since the start. At any moment
/// `produced + recovered = delivered + waiting + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Lines that were to go there.
    pub produced: u64,
    /// Lines that an earlier run of the collector left in the spool.
    pub recovered: u64,
    /// Lines that the other end took.
    pub delivered: u64,
    /// Lines in the queue, in the spool or on their way.
    pub waiting: u64,
    /// Lines given up.
    pub dropped: ByCause,
}

impl Books {
    /// Lines have come to wait.
    pub fn produce(&mut self, lines: u64) {
        self.produced += lines;
        self.waiting += lines;
    }

    /// Lines that waited were given up.
    pub fn give_up(&mut self, lines: u64, cause: Cause) {
        self.waiting -= lines;
        self.dropped[cause] += lines;
    }

    /// Lines that waited were taken by the other end.
    pub fn deliver(&mut self, lines: u64) {
        self.waiting -= lines;
        self.delivered += lines;
    }

    /// Whether the equation holds.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.produced + self.recovered == self.delivered + self.waiting + self.dropped.sum()
    }
}

impl AddAssign for Books {
    fn add_assign(&mut self, other: Self) {
        self.produced += other.produced;
        self.recovered += other.recovered;
        self.delivered += other.delivered;
        self.waiting += other.waiting;
        for cause in Cause::ALL {
            self.dropped[cause] += other.dropped[cause];
        }
    }
}

/// What came since an earlier state of the same books; `waiting` stays what it is now.
impl Sub for Books {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        let mut dropped = self.dropped;
        for cause in Cause::ALL {
            dropped[cause] -= before.dropped[cause];
        }
        Self {
            produced: self.produced - before.produced,
            recovered: self.recovered - before.recovered,
            delivered: self.delivered - before.delivered,
            waiting: self.waiting,
            dropped,
        }
    }
}

/// What one of several URLs got since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Lines that it took; those of all URLs together are `delivered`.
    pub lines: u64,
    /// Bytes of line protocol.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.errors += other.errors;
    }
}

/// What came since an earlier state.
impl Sub for Sent {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            lines: self.lines - before.lines,
            bytes: self.bytes - before.bytes,
            errors: self.errors - before.errors,
        }
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { produced, recovered, delivered, waiting, dropped } = self;
        write!(f, "{produced} lines produced")?;
        if *recovered > 0 {
            write!(f, " + {recovered} recovered from the spool")?;
        }
        write!(f, " = {delivered} delivered + {waiting} waiting")?;
        for cause in Cause::ALL {
            if dropped[cause] > 0 {
                write!(f, " + {} dropped ({})", dropped[cause], cause.word())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_balance_and_say_only_what_happened() {
        let mut books = Books { recovered: 3, waiting: 3, ..Books::default() };
        books.produce(10);
        books.deliver(6);
        books.give_up(2, Cause::Full);
        books.give_up(1, Cause::Rejected);
        assert!(books.balance());
        assert_eq!(
            books.to_string(),
            "10 lines produced + 3 recovered from the spool = 6 delivered + 4 waiting + \
             2 dropped (full) + 1 dropped (rejected)"
        );
        let mut sum = books;
        sum += books;
        assert_eq!((sum.dropped.sum(), sum.waiting), (6, 8));
        let since = sum - books;
        assert_eq!((since.produced, since.waiting, since.dropped[Cause::Full]), (10, 8, 2));
    }
}
