//! What a holder and a guardian decide, without a process or a clock of their own: fed with moments and
//! answers, they say what to do. Moments count from the machine's boot and include suspend.

use crate::act::lease::deadline::{self, Deadline, KILL_BUDGET};
use crate::store::ClaimAnswer;
use crate::words::error::Result;
use std::time::Duration;

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// A lease, held.
#[derive(Clone, Debug)]
pub struct Holder {
    ttl: Duration,
    interval: Duration,
    term: u64,
    until: Deadline,
    next: Duration,
    lost: bool,
}

/// What an answer to a renewal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts until then.
    Extended(Deadline),
    /// It is not known; try again.
    Unknown,
    /// It is another's: whoever has it may act already.
    Lost,
}

impl Holder {
    /// A lease of `ttl` under `term`, by a request that was sent at `sent`; to be renewed every `interval` at
    /// most.
    pub fn granted(sent: Duration, term: u64, ttl: Duration, interval: Duration) -> Holder {
        let interval = deadline::interval(interval, ttl);
        Holder { ttl, interval, term, until: Deadline::of(sent, ttl), next: sent + interval, lost: false }
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Until when it may be acted on.
    pub fn until(&self) -> Deadline {
        self.until
    }

    /// Whether there is time to begin anything: an answer may have come too late.
    pub fn may_begin(&self, now: Duration) -> bool {
        now < self.until.soft
    }

    /// When to renew; `None` once it is lost.
    pub fn due(&self) -> Option<Duration> {
        (!self.lost).then_some(self.next)
    }

    /// Notes that a renewal was sent at `now`.
    pub fn sent(&mut self, now: Duration) {
        self.next = now + self.interval;
    }

    /// Takes the answer to a renewal that was sent at `sent`.
    pub fn answered(&mut self, sent: Duration, answer: &Result<ClaimAnswer>, now: Duration) -> Renewal {
        match answer {
            Ok(ClaimAnswer::Ours { record, .. }) if record.term == self.term => {
                let until = Deadline::of(sent, self.ttl);
                // An answer may be overtaken by a later one.
                if until.soft > self.until.soft {
                    self.until = until;
                }
                Renewal::Extended(self.until)
            }
            Err(_) => {
                self.next = now + AGAIN.min(self.interval);
                Renewal::Unknown
            }
            Ok(_) => {
                self.lost = true;
                self.until = Deadline::NOW;
                Renewal::Lost
            }
        }
    }
}

/// What a guardian does to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nothing.
    Leave,
    /// TERM, once.
    Tell,
    /// KILL, again and again.
    Kill,
}

/// A guardian's knowledge.
#[derive(Clone, Copy, Debug)]
pub struct GuardianState {
    until: Deadline,
    held: bool,
    told: bool,
}

impl GuardianState {
    /// Over a command of a holder who may act until then.
    pub fn new(until: Deadline) -> GuardianState {
        GuardianState { until, held: true, told: false }
    }

    /// The holder says that it may act until then.
    pub fn extended(&mut self, until: Deadline) {
        self.until = until;
    }

    /// The holder is gone, seen at `now`: it renews no more, and the command need not wait for the end of the
    /// lease.
    pub fn abandoned(&mut self, now: Duration) {
        if std::mem::replace(&mut self.held, false) {
            self.until.hard = self.until.hard.min(now + KILL_BUDGET);
        }
    }

    /// Whether the command was told to end.
    pub fn told(&self) -> bool {
        self.told
    }

    /// What to do at `now`.
    pub fn measure(&mut self, now: Duration) -> Measure {
        if now >= self.until.hard {
            self.told = true;
            return Measure::Kill;
        }
        if (now >= self.until.soft || !self.held) && !self.told {
            self.told = true;
            return Measure::Tell;
        }
        Measure::Leave
    }
}
