//! The names of signals.

use std::borrow::Cow;

macro_rules! names {
    ($($name:ident)+) => {
        const NAMES: &[(i32, &str)] = &[$((libc::$name, stringify!($name)),)+];
    };
}

names! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM
    SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO
    SIGPWR SIGSYS
}

/// The name of a signal, as the tag of a row: `SIGKILL` for 9. Real-time signals go by their number, `SIG34`, because
/// C libraries differ in which of them is `SIGRTMIN`.
#[must_use]
pub fn name(number: i32) -> Cow<'static, str> {
    let known = NAMES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("SIG{number}").into(), |(_, name)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn each_signal_has_one_name() {
        assert_eq!(
            (name(9), name(11), name(6)),
            ("SIGKILL".into(), "SIGSEGV".into(), "SIGABRT".into())
        );
        assert_eq!((name(34), name(64), name(0)), ("SIG34".into(), "SIG64".into(), "SIG0".into()));
        assert!(
            (1..=31).all(|number| !name(number)[3..].starts_with(|c: char| c.is_ascii_digit()))
        );
    }
}
