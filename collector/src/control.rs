//! What the main thread and a plugin's thread say to each other. One owner gives orders: the main thread. Between an instance and the one
//! that replaces it there is one word, so that they change over between two ticks without a gap that matters.

use crate::tick::Now;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, never, select, unbounded};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What to do before ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make one last tick at this wall-clock time, for what happened since the last one.
    LastTick(i64),
    /// Make no tick after this time; one that is due until then is still made.
    NoneAfter(i64),
    /// Make the next tick, if it is not far off, else one at once.
    NextTick,
}

impl Order {
    /// Make no tick at all.
    pub const NOW: Self = Self::NoneAfter(i64::MIN);
}

/// To begin with ticks.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// All that begin with the same moment have the same first tick.
    pub at: Now,
    /// Begin with a call whose lines are thrown away: another instance has told of the time until now.
    pub skip: bool,
    /// When that instance was called for the last time.
    pub after: Option<Instant>,
    /// The time of its last tick, or of any before; 0 if there was none.
    pub newest_ns: i64,
}

/// To end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How.
    pub order: Order,
    /// Who begins when the last call has ended.
    pub successor: Option<Sender<Word>>,
}

/// What a plugin's thread hears.
#[derive(Clone, Debug)]
pub enum Word {
    /// Ticks begin.
    Begin(Begin),
    /// It is to end.
    End(Ending),
}

/// Whose the lines are: decided once, by whoever is first.
#[derive(Debug, Default)]
struct Post(AtomicU8);

const HELD: u8 = 0;
const LEFT: u8 = 1;
const ABANDONED: u8 = 2;

impl Post {
    fn turn(&self, to: u8) -> bool {
        self.0.compare_exchange(HELD, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The main thread's end.
#[derive(Clone, Debug)]
pub struct Control {
    words: Sender<Word>,
    post: Arc<Post>,
}

/// The plugin thread's end.
#[derive(Debug)]
pub struct Duty {
    words: Receiver<Word>,
    post: Arc<Post>,
}

/// A pair of both.
#[must_use]
pub fn control() -> (Control, Duty) {
    let (sender, words) = unbounded();
    let post = Arc::new(Post::default());
    (Control { words: sender, post: Arc::clone(&post) }, Duty { words, post })
}

impl Control {
    /// Says something; one that has ended does not hear it.
    pub fn say(&self, word: Word) {
        let _ = self.words.send(word);
    }

    /// The same to end.
    pub fn end(&self, order: Order) {
        self.say(Word::End(Ending { order, successor: None }));
    }

    /// The way to it, for the one that it follows.
    #[must_use]
    pub fn sender(&self) -> Sender<Word> {
        self.words.clone()
    }

    /// Waits for it no longer: what it says from now on is dropped. False when it has left before, and its successor
    /// knows.
    #[must_use]
    pub fn abandon(&self) -> bool {
        self.post.turn(ABANDONED)
    }
}

/// Waits for so long. recv_timeout() alone would give its CPU away eight times before it sleeps.
///
/// # Errors
/// As recv_timeout().
pub fn receive<T>(from: &Receiver<T>, time: Duration) -> Result<T, RecvTimeoutError> {
    select! {
        recv(from) -> it => it.map_err(|_| RecvTimeoutError::Disconnected),
        recv(never::<Infallible>()) -> _ => Err(RecvTimeoutError::Timeout),
        default(time) => Err(RecvTimeoutError::Timeout),
    }
}

impl Duty {
    /// Sleeps; wakes early with a word.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> Option<Word> {
        match receive(&self.words, time) {
            Ok(word) => Some(word),
            Err(RecvTimeoutError::Timeout) => None,
            // The collector itself is unwinding.
            Err(RecvTimeoutError::Disconnected) => Some(UNWINDING),
        }
    }

    /// Waits for a word.
    #[must_use]
    pub fn wait(&self) -> Word {
        self.words.recv().unwrap_or(UNWINDING)
    }

    /// Its last call has ended. False when nobody waits for what it says any more.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.post.turn(LEFT) || self.post.0.load(Ordering::Acquire) == LEFT
    }

    /// Whether its last call has ended.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.post.0.load(Ordering::Acquire) == LEFT
    }

    /// Whether nobody waits for what it says any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.post.0.load(Ordering::Acquire) == ABANDONED
    }
}

const UNWINDING: Word = Word::End(Ending { order: Order::NOW, successor: None });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_at_once_when_told_to_end() {
        let (control, duty) = control();
        assert!(duty.sleep(Duration::from_millis(1)).is_none());
        let began = Instant::now();
        let sleeper = std::thread::spawn(move || duty.sleep(Duration::from_secs(60)));
        control.end(Order::LastTick(7));
        let word = sleeper.join().unwrap();
        assert!(matches!(word, Some(Word::End(Ending { order: Order::LastTick(7), .. }))));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn either_it_has_left_or_it_is_abandoned() {
        let (first, duty) = control();
        assert!(duty.leave() && duty.leave() && !first.abandon() && !duty.is_abandoned());
        let (second, duty) = control();
        assert!(second.abandon() && !duty.leave() && duty.is_abandoned());
    }
}
