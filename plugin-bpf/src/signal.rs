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

/// The first real-time signal, as the GNU C library has it, which keeps two to itself.
const SIGRTMIN: i32 = 34;

/// The name of a signal, as the tag of a row: `SIGKILL` for 9, `SIGRTMIN+3` for 37.
#[must_use]
pub fn name(number: i32) -> Cow<'static, str> {
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == number) {
        return (*name).into();
    }
    match number - SIGRTMIN {
        0 => "SIGRTMIN".into(),
        more @ 1..=30 => format!("SIGRTMIN+{more}").into(),
        _ => format!("SIG{number}").into(),
    }
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
        let names = [0, 32, 33, 34, 35, 64, 65].map(name);
        let wanted = ["SIG0", "SIG32", "SIG33", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+30", "SIG65"];
        assert_eq!(names, wanted);
        assert!(
            (1..=31).all(|number| !name(number)[3..].starts_with(|c: char| c.is_ascii_digit()))
        );
    }
}
