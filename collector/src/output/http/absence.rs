//! Whether the server is there at all, while it does not answer: so that its return is seen soon, and no
//! lines are sent to nobody.

/// Of attempts while the server is away, one in so many is made although it does not answer a ping: what
/// stands before it may let lines through and nothing else.
const BLIND: u32 = 4;

/// What is known of a server that did not answer.
#[derive(Debug, Default)]
pub struct Absence {
    /// What was asked last, lines or a ping, got no answer.
    away: bool,
    /// It answered a ping since it was last away. It is there, and does not take lines.
    seen: bool,
    /// Attempts that were not made.
    skipped: u32,
}

impl Absence {
    /// Lines got no answer.
    pub fn unanswered(&mut self) {
        self.away = true;
    }

    /// Lines were answered by the server, or by a gateway that says that the server is away or busy.
    pub fn answered(&mut self, by_gateway: bool) {
        *self = Self { seen: by_gateway && self.seen, ..Self::default() };
    }

    /// A ping was answered, or not. Whether the server has come back by that.
    pub fn pinged(&mut self, answered: bool) -> bool {
        self.away = !answered;
        !std::mem::replace(&mut self.seen, answered) && answered
    }

    /// Whether lines are to be sent now; `ping` says whether the server answers one.
    pub fn let_through(&mut self, ping: impl FnOnce() -> bool) -> bool {
        if !self.away {
            return true;
        }
        self.pinged(ping());
        self.skipped += u32::from(self.away);
        !self.away || self.skipped.is_multiple_of(BLIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_comes_back_is_seen_once() {
        let mut absence = Absence::default();
        absence.unanswered();
        let seen = [false, false, true, true, false, true].map(|ping| absence.pinged(ping));
        assert_eq!(seen, [false, false, true, false, false, true]);
    }

    #[test]
    fn one_that_answers_pings_and_no_lines_is_not_tried_early_again_and_again() {
        for by_gateway in [false, true] {
            let mut absence = Absence::default();
            let fail = |absence: &mut Absence| match by_gateway {
                true => absence.answered(true),
                false => absence.unanswered(),
            };
            fail(&mut absence);
            assert!(absence.pinged(true));
            for _ in 0..3 {
                fail(&mut absence);
                assert!(!absence.pinged(true));
                assert!(absence.let_through(|| true));
            }
            absence.answered(false);
            fail(&mut absence);
            assert!(absence.pinged(true), "another outage");
        }
    }

    #[test]
    fn lines_are_sent_to_nobody_now_and_then_only() {
        let mut absence = Absence::default();
        assert!(absence.let_through(|| unreachable!("all is well")));
        absence.unanswered();
        let sent = [(); 8].map(|()| absence.let_through(|| false));
        assert_eq!(sent, [false, false, false, true, false, false, false, true]);
        assert!(absence.let_through(|| true));
    }
}
