//! When a restart that is asked for is done: those that come together are one, and none follows another too
//! soon (the seed's cooldown).

use std::time::{Duration, Instant};

/// A restart that waits for its time, and when the last one was.
#[derive(Debug)]
pub(super) struct Schedule {
    cooldown: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Schedule {
    /// Nothing is due. Between two restarts at least `cooldown` goes by.
    pub(super) fn new(cooldown: Duration) -> Schedule {
        Schedule { cooldown, last: None, due: None }
    }

    /// Asks for one. When there is one to come already they are one, at the earlier time.
    pub(super) fn ask(&mut self, now: Instant) -> Instant {
        let earliest = self.last.map_or(now, |last| crate::sys::clock::after(last, self.cooldown).max(now));
        let due = self.due.map_or(earliest, |due| due.min(earliest));
        self.due = Some(due);
        due
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether one is due now; it is done then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| now >= due);
        if due {
            self.done(now);
        }
        due
    }

    /// One is done, asked for or not; what was to come is one with it.
    pub(super) fn done(&mut self, now: Instant) {
        (self.last, self.due) = (Some(now), None);
    }

    /// Something as good as one is done, and what was to come is so still.
    pub(super) fn count(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// What was to come is not wanted any more.
    pub(super) fn cancel(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_that_come_together_are_one_and_none_follows_too_soon() {
        let (t0, second) = (Instant::now(), Duration::from_secs(1));
        let mut schedule = Schedule::new(30 * second);
        assert!(!schedule.take(t0));
        assert_eq!(schedule.ask(t0), t0);
        assert!(schedule.take(t0) && !schedule.take(t0));
        // Each of three within the cooldown is the same one, when that is over.
        for later in [1, 2, 29] {
            assert_eq!(schedule.ask(t0 + later * second), t0 + 30 * second);
        }
        assert!(!schedule.take(t0 + 29 * second) && schedule.take(t0 + 30 * second));
        assert!(!schedule.take(t0 + 100 * second));
        assert_eq!(schedule.ask(t0 + 100 * second), t0 + 100 * second);
        schedule.cancel();
        assert!(schedule.due().is_none() && !schedule.take(t0 + 200 * second));
        // One that was done at once counts too.
        schedule.done(t0 + 200 * second);
        assert_eq!(schedule.ask(t0 + 201 * second), t0 + 230 * second);
    }
}
