//! From the kernel's clock to the wall clock.

/// An event with its time by `bpf_ktime_get_ns()`. The build script implements it for structs that have a field
/// `ktime_ns`.
pub trait Timed {
    /// The time, in nanoseconds.
    fn ktime_ns(&self) -> u64;
}

/// Places events on the wall clock: `bpf_ktime_get_ns()` to nanoseconds since 1970 UTC.
///
/// Two lines of a table with equal tags and time are one point for a database, so a time that was given
/// out is not given again: an equal one becomes the next nanosecond.
#[derive(Debug, Default)]
pub struct Timeline {
    last_ns: i64,
}

impl Timeline {
    /// Sorts events by their kernel time and calls `emit` with each one's time on the wall clock.
    ///
    /// # Errors
    /// The first that `emit` returns.
    pub fn place<T: Timed, E>(
        &mut self,
        mut events: Vec<T>,
        mut emit: impl FnMut(i64, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = wall_ns() - monotonic_ns();
        events.sort_by_key(Timed::ktime_ns);
        for event in events {
            let time = event.ktime_ns() as i64 + offset;
            // Taken (or just passed by one that had to move): the next free nanosecond. Much earlier is
            // a clock that was set back, and true.
            let taken = (0..1_000).contains(&(self.last_ns - time));
            let time = if taken { self.last_ns + 1 } else { time };
            self.last_ns = time;
            emit(time, event)?;
        }
        Ok(())
    }
}

fn wall_ns() -> i64 {
    clock(libc::CLOCK_REALTIME)
}

fn monotonic_ns() -> i64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for u64 {
        fn ktime_ns(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn equal_times_are_told_apart_and_order_is_the_kernels() {
        let mut line = Timeline::default();
        let mut seen = Vec::new();
        let now = monotonic_ns() as u64;
        for ktimes in [vec![now + 5, now, now, now], vec![now + 7, now + 5]] {
            line.place(ktimes, |at, _| {
                seen.push(at);
                Ok::<_, ()>(())
            })
            .unwrap();
        }
        let mut unique = seen.clone();
        unique.dedup();
        assert_eq!(unique.len(), 6, "{seen:?}");
        assert!(seen[..4].is_sorted());
    }
}
