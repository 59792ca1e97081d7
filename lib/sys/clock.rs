//! Time, as a seam: acts ask a `Clock`, so that a test can run an hour of reloads in a moment.

use std::time::{Duration, Instant};

/// Where an act gets the time from, and waits.
pub trait Clock {
    /// The monotonic time now.
    fn now(&self) -> Instant;
    /// Returns at `until`, or a little later.
    fn sleep_until(&self, until: Instant);
}

/// The clock of this machine.
pub struct Real;

impl Clock for Real {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, until: Instant) {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

/// `now + span`, or a century from now where that would overflow. What comes from elsewhere is bounded where
/// it is read (`span::bounded`); this is for sums of it.
pub fn after(now: Instant, span: Duration) -> Instant {
    now + crate::words::span::bounded(span)
}

/// The monotonic time as other programs of this machine count it (clock_gettime(2)).
pub fn monotonic() -> Duration {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) {
        Ok(now) => Duration::from(now),
        Err(_) => Duration::ZERO,
    }
}

/// The processor time that this whole process has used: what polling really costs (clock_gettime(2)).
pub fn processor_time() -> Duration {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID) {
        Ok(spent) => Duration::from(spent),
        Err(_) => Duration::ZERO,
    }
}

/// A clock that jumps to the end of each sleep.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct FakeClock {
    pub(crate) began: Instant,
    pub(crate) passed: std::cell::Cell<Duration>,
}

#[cfg(test)]
impl FakeClock {
    pub(crate) fn new() -> FakeClock {
        FakeClock { began: Instant::now(), passed: std::cell::Cell::new(Duration::ZERO) }
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Instant {
        self.began + self.passed.get()
    }

    fn sleep_until(&self, until: Instant) {
        self.passed.set(self.passed.get().max(until.saturating_duration_since(self.began)));
    }
}
