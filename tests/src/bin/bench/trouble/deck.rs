//! What happens next: each event once before any comes again, in a random order.

use fastrand::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    Influx,
    Victoria,
}

#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// `kill -9` of a server, and a new start later.
    Kill(Receiver),
    /// It hangs for a while.
    Freeze(Receiver),
    /// `kill -9` and a new start of the collector.
    KillCollector,
    /// The collector gets the wrong address of this number, later the right one.
    Mistake(usize),
}

/// Events to come, and those that were drawn.
pub struct Deck {
    mistakes: usize,
    left: Vec<Event>,
    drawn: Vec<Event>,
}

impl Deck {
    /// With so many mistakes.
    pub fn new(mistakes: usize) -> Self {
        Self { mistakes, left: Vec::new(), drawn: Vec::new() }
    }

    pub fn draw(&mut self, rng: &mut Rng) -> Event {
        if self.left.is_empty() {
            let servers = [Receiver::Influx, Receiver::Victoria].into_iter();
            self.left.extend(servers.flat_map(|server| {
                [Event::Kill(server), Event::Freeze(server), Event::Freeze(server)]
            }));
            self.left.extend([Event::KillCollector; 3]);
            self.left.extend((0..self.mistakes).map(Event::Mistake));
            rng.shuffle(&mut self.left);
        }
        let event = self.left.pop().expect("it was filled");
        self.drawn.push(event);
        event
    }

    pub fn drawn(&self) -> &[Event] {
        &self.drawn
    }
}
