//! How everything is told to end.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What to do before ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make one last tick at this wall-clock time, for what happened since the last one.
    LastTick(i64),
    /// Make no tick after this time; one that is due until then is still made.
    NoneAfter(i64),
}

/// Gives the order, once.
#[derive(Debug)]
pub struct Stopper {
    order: Arc<OnceLock<Order>>,
    /// Dropped to wake all who wait.
    alive: Option<Sender<Infallible>>,
}

/// Where plugins' threads sleep and hear of the order.
#[derive(Clone, Debug)]
pub struct Stop {
    order: Arc<OnceLock<Order>>,
    alive: Receiver<Infallible>,
}

/// A pair of both.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let order = Arc::new(OnceLock::new());
    let (sender, alive) = bounded(0);
    (Stopper { order: Arc::clone(&order), alive: Some(sender) }, Stop { order, alive })
}

impl Stopper {
    /// Everybody is to end.
    pub fn stop(&mut self, order: Order) {
        let _ = self.order.set(order); // the first one holds
        self.alive = None;
    }
}

impl Stop {
    /// Sleeps; wakes early with the order to end.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> Option<Order> {
        match self.alive.recv_timeout(time) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Dropped without an order: the collector itself is unwinding.
                Some(*self.order.get().unwrap_or(&Order::NoneAfter(i64::MIN)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_sleeper_wakes_at_once_when_told_to_end() {
        let (mut stopper, stop) = stop();
        assert_eq!(stop.sleep(Duration::from_millis(1)), None);
        let began = Instant::now();
        let sleeper = std::thread::spawn(move || stop.sleep(Duration::from_secs(60)));
        stopper.stop(Order::LastTick(7));
        assert_eq!(sleeper.join().unwrap(), Some(Order::LastTick(7)));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
