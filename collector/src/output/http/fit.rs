//! How many lines a server takes at once, as its 413 teaches.

/// Requests of the size that fits, before a larger one is tried.
const PATIENCE: u32 = 64;

/// What is known of the size that a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    most: u64,
    /// Requests of that size since it was set.
    full: u32,
}

impl Default for Fit {
    fn default() -> Self {
        Self { most: u64::MAX, full: 0 }
    }
}

impl Fit {
    /// The most lines to send at once.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// So many were not too many. Now and then more are tried: lines are not all equally long, and a
    /// proxy's limit is raised some day.
    pub fn fitted(&mut self, lines: u64) {
        if lines < self.most {
            return;
        }
        self.full += 1;
        if self.full == PATIENCE {
            *self = Self { most: self.most.saturating_mul(2), full: 0 };
        }
    }

    /// So many were too many; a single one cannot be made smaller.
    pub fn too_many(&mut self, lines: u64) {
        *self = Self { most: (lines / 2).max(1), full: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_fits_is_found_kept_and_outgrown_slowly() {
        let mut fit = Fit::default();
        let (mut sent, mut refused) = (0_u64, 0);
        // The server takes 700 lines at once.
        for request in 0..200 {
            let lines = fit.most().min(5000);
            if lines > 700 {
                fit.too_many(lines);
                refused += 1;
            } else {
                fit.fitted(lines);
                sent += lines;
            }
            assert!(request < 3 || sent > 0);
        }
        assert_eq!(fit.most(), 625);
        assert_eq!(refused, 3 + 200 / (PATIENCE + 1));
    }

    #[test]
    fn small_requests_teach_nothing() {
        let mut fit = Fit::default();
        fit.too_many(1000);
        (0..1000).for_each(|_| fit.fitted(499));
        assert_eq!(fit.most(), 500);
        fit.too_many(1);
        assert_eq!(fit.most(), 1);
    }
}
