//! How often the manager is asked while something is waited for: at first often, since each pause may add to
//! an outage, then less and less, and never more than ten times a second. A throttled job was asked of 128
//! times a second once, and launchctl is a process each time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The pauses between two questions.
const SHORTEST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_secs(1);
/// How many questions there may be within `WINDOW`: with the looks before and after there are ten or so.
const MOST: usize = 8;
const WINDOW: Duration = Duration::from_secs(1);

/// Pauses that grow.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff(SHORTEST)
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

/// The questions of one reload.
pub(super) struct Polls(RefCell<VecDeque<Instant>>);

impl Polls {
    pub(super) fn new() -> Polls {
        Polls(RefCell::new(VecDeque::new()))
    }

    /// One was asked at `now`.
    pub(super) fn count(&self, now: Instant) {
        let mut asked = self.0.borrow_mut();
        asked.push_back(now);
        while asked.len() > MOST {
            asked.pop_front();
        }
    }

    /// When the next one may be asked.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let asked = self.0.borrow();
        match asked.front() {
            Some(first) if asked.len() == MOST => (*first + WINDOW).max(now),
            _ => now,
        }
    }
}
