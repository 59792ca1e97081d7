//! How long a reload waits for an answer: of the manager, of a health check. A signal is heard meanwhile, and
//! the deadline ends it.

use super::{Halt, MARGIN, Reload, ReloadOutcome, ReloadPhase};
use crate::probe::{Probe, ProbeAnswer};
use crate::service::{JobState, Service, Trouble, TroubleClass};
use crate::sys::clock::Clock;
use crate::sys::task;
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked for a signal while a health check is under way.
const TICK: Duration = Duration::from_millis(20);

/// What the manager knows of a job; one that is busy is asked again for a while.
///
/// # Errors
/// When it cannot be told.
pub fn look(service: &dyn Service, clock: &dyn Clock) -> Result<Option<JobState>, Trouble> {
    look_until(service, clock, clock.now() + MARGIN)
}

/// The same; it is asked again until `until`.
pub(super) fn look_until(
    service: &dyn Service,
    clock: &dyn Clock,
    until: Instant,
) -> Result<Option<JobState>, Trouble> {
    let mut pause = Duration::from_millis(100);
    loop {
        match service.inspect() {
            Err(trouble) if trouble.class == TroubleClass::Retry && clock.now() < until => {
                clock.sleep_until(clock.now() + pause);
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}

impl Reload<'_> {
    /// Whether the deadline is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.clock.now() >= deadline)
    }

    /// `until`, or the deadline where that is before.
    pub(super) fn by_the_deadline(&self, until: Instant) -> Instant {
        self.deadline.map_or(until, |deadline| deadline.min(until))
    }

    /// Tells how far we are. The manager is given no longer than the deadline lets while nothing is stranded
    /// by that.
    pub(super) fn reaches(&self, phase: ReloadPhase) {
        self.hurry(phase == ReloadPhase::Proving || self.service.restarts_in_place());
        (self.context.progress)(phase);
    }

    /// Whether the manager is waited for no longer than the deadline lets.
    pub(super) fn hurry(&self, hurries: bool) {
        let until = self.deadline.filter(|_| hurries);
        self.hurried.set(until.is_some());
        self.service.answer_by(until);
    }

    /// What the manager knows of the job; one that is busy is asked again for a while, but once where nobody
    /// waits any longer.
    pub(super) fn look(&self) -> Result<Option<JobState>, Trouble> {
        let now = self.clock.now();
        let patience = if self.hurried.get() && self.is_late() { Duration::ZERO } else { MARGIN };
        look_until(self.service, self.clock, now + patience)
    }

    /// Asks for health; a signal ends the wait for the answer.
    pub(super) fn ask(
        &mut self,
        probe: &Arc<dyn Probe>,
        deadline: Instant,
    ) -> Result<Result<ProbeAnswer, Failure>, Halt> {
        let interrupted = || (self.context.interrupted)().is_some();
        match task::block_on(task::unless(probe.ask(deadline), TICK, &interrupted)) {
            Some(answer) => Ok(answer),
            None => {
                self.obey_signal()?;
                Ok(Err(Failure::new(Class::Down, "the health check came to no end")))
            }
        }
    }
}

/// Nobody waits any longer.
pub(super) fn late(reason: String) -> Halt {
    Halt { outcome: ReloadOutcome::Unhealthy, status: Status::TooLate, reason }
}
