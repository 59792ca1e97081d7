//! What a holder and a guardian decide, without a process or a clock of their own: fed with moments and
//! answers, they say what to do. Moments count from the machine's boot and include suspend.

use crate::act::lease::deadline::{self, Deadline, KILL_BUDGET};
use crate::store::ClaimAnswer;
use crate::words::error::Result;
use std::time::Duration;

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long what a command leaves behind may take to end by itself, within its lease.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// How long a guardian has for what it must do, at least and at most, before its holder does it.
const MOMENT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));

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

/// What a guardian does to the command and what came of it; or a holder, when its guardian does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nothing.
    Leave,
    /// TERM, once; of a holder to its guardian: CONT.
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
    /// Until when what the ended command has left may live, and whether it was told to end.
    leftovers: Option<(Duration, bool)>,
}

impl GuardianState {
    /// Over a command of a holder who may act until then.
    pub fn new(until: Deadline) -> GuardianState {
        GuardianState { until, held: true, told: false, leftovers: None }
    }

    /// Whether there is time to begin anything.
    pub fn may_begin(&self, now: Duration) -> bool {
        now < self.until.soft
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

    /// The command has ended, seen at `now`. What it has left is told to end, and may take a while, but never
    /// longer than its lease lasts.
    pub fn ended(&mut self, now: Duration) {
        self.leftovers.get_or_insert((now + LEFTOVERS, false));
    }

    /// Whether the command was told to end, or killed, because its lease did.
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
        match &mut self.leftovers {
            Some((end, _)) if now >= *end => Measure::Kill,
            Some((_, told @ false)) => {
                *told = true;
                Measure::Tell
            }
            _ => Measure::Leave,
        }
    }

    /// When there is something to do at last, if nothing happens before.
    pub fn wakes(&self) -> Duration {
        let soft = if self.told { self.until.hard } else { self.until.soft };
        let end = self.leftovers.map_or(Duration::MAX, |(end, _)| end);
        self.until.hard.min(soft).min(end)
    }

    /// When it must be awake, though it were stopped.
    pub fn revives(&self) -> Duration {
        self.until.soft.min(self.until.hard)
    }
}

/// A holder's own watch over the end of its lease: what its guardian has not done a moment after the time, it
/// does itself.
#[derive(Clone, Copy, Debug)]
pub struct Warden {
    until: Deadline,
    /// When that was said.
    since: Duration,
    told: bool,
}

impl Warden {
    /// Over a guardian who was told at `now` that the lease lasts until then.
    pub fn new(until: Deadline, now: Duration) -> Warden {
        Warden { until, since: now, told: false }
    }

    /// The guardian is told at `now` that the lease lasts until then.
    pub fn extended(&mut self, until: Deadline, now: Duration) {
        if until != self.until {
            *self = Warden::new(until, now);
        }
    }

    /// What to do at `now`.
    pub fn measure(&mut self, now: Duration) -> Measure {
        if now >= self.end() {
            return Measure::Kill;
        }
        if now >= self.until.soft && !std::mem::replace(&mut self.told, true) {
            return Measure::Tell;
        }
        Measure::Leave
    }

    /// When there is something to do at last.
    pub fn wakes(&self) -> Duration {
        if self.told { self.end() } else { self.end().min(self.until.soft) }
    }

    fn end(&self) -> Duration {
        let moment = (self.until.hard.saturating_sub(self.until.soft) / 2).clamp(MOMENT.0, MOMENT.1);
        self.until.hard.max(self.since) + moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const UNTIL: Deadline = Deadline { soft: at(1500), hard: at(1750) };

    #[test]
    fn leftovers_get_a_while_and_never_more_than_the_lease() {
        let mut guard = GuardianState::new(UNTIL);
        guard.ended(at(100));
        assert_eq!(
            [100, 200, 1099, 1100].map(|now| guard.measure(at(now))),
            [Measure::Tell, Measure::Leave, Measure::Leave, Measure::Kill]
        );
        // That a command has left something is no loss of the lease.
        assert!(!guard.told());
        let mut guard = GuardianState::new(UNTIL);
        guard.ended(at(1400));
        assert_eq!(
            [1400, 1749, 1750].map(|now| guard.measure(at(now))),
            [Measure::Tell, Measure::Tell, Measure::Kill]
        );
        assert!(guard.told());
        // A holder that goes on renewing leaves them their time.
        let mut guard = GuardianState::new(UNTIL);
        guard.ended(at(1400));
        guard.extended(Deadline { soft: at(3500), hard: at(3750) });
        assert_eq!(
            [1400, 2399, 2400].map(|now| guard.measure(at(now))),
            [Measure::Tell, Measure::Leave, Measure::Kill]
        );
    }

    #[test]
    fn nothing_begins_past_the_deadline() {
        let guard = GuardianState::new(UNTIL);
        assert!(guard.may_begin(at(1499)) && !guard.may_begin(at(1500)));
        assert!(!GuardianState::new(Deadline::NOW).may_begin(Duration::ZERO));
    }

    #[test]
    fn a_guardian_wakes_for_what_comes_next_and_is_revived_for_the_end() {
        let mut guard = GuardianState::new(UNTIL);
        assert_eq!((guard.wakes(), guard.revives()), (at(1500), at(1500)));
        guard.ended(at(100));
        assert_eq!(guard.wakes(), at(1100));
        let mut guard = GuardianState::new(UNTIL);
        guard.measure(at(1500));
        assert_eq!(guard.wakes(), at(1750));
        guard.extended(Deadline::NOW);
        assert_eq!((guard.wakes(), guard.revives()), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_holder_acts_a_moment_after_its_guardian_should_have() {
        let mut warden = Warden::new(UNTIL, at(0));
        assert_eq!(warden.wakes(), at(1500));
        assert_eq!(
            [1499, 1500, 1750, 1849, 1850].map(|now| warden.measure(at(now))),
            [Measure::Leave, Measure::Tell, Measure::Leave, Measure::Leave, Measure::Kill]
        );
        // A lease that is lost is over at once, but for the moment; to say it again does not put it off.
        let mut warden = Warden::new(UNTIL, at(0));
        warden.extended(Deadline::NOW, at(1000));
        warden.extended(Deadline::NOW, at(1040));
        assert_eq!((warden.measure(at(1049)), warden.measure(at(1050))), (Measure::Tell, Measure::Kill));
        let mut warden = Warden::new(UNTIL, at(0));
        warden.extended(Deadline { soft: at(2500), hard: at(2750) }, at(1000));
        assert_eq!(warden.measure(at(1850)), Measure::Leave);
    }
}
