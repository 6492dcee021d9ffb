//! How a process ended.

/// The exit status (0 to 255) of a process that ended by itself, or the signal that ended it, out of what
/// wait(2) gives and the kernel keeps as `exit_code`. Neither for a negative number: not known.
#[must_use]
pub fn exit_status(status: i32) -> (Option<i64>, Option<i64>) {
    match (status, status & 0x7f) {
        (..0, _) => (None, None),
        (_, 0) => (Some(i64::from(status >> 8 & 0xff)), None),
        (_, signal) => (None, Some(i64::from(signal))),
    }
}

#[cfg(test)]
mod tests {
    use super::exit_status;

    #[test]
    fn a_status_is_a_code_or_a_signal() {
        assert_eq!(exit_status(0), (Some(0), None));
        assert_eq!(exit_status(3 << 8), (Some(3), None));
        assert_eq!(exit_status(9), (None, Some(9)));
        assert_eq!(exit_status(11 | 0x80), (None, Some(11)), "with a core");
        assert_eq!(exit_status(-1), (None, None));
    }
}
