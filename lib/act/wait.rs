//! Waiting until targets answer (baa-healthwait): a state machine that is fed with the time and with what
//! probes saw, and says what to do next.

pub mod patient;
pub mod report;
pub mod watched;

use crate::probe::pace::{self, PollProgress};
use crate::probe::{Cost, ProbeAnswer};
use crate::words::failure::{Class, Failure};
use std::time::{Duration, Instant};

/// How often to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// As often as is free; see `probe::pace`.
    Adaptive,
    /// A pause of this length between two probes.
    Every(Duration),
}

/// What must be true for the wait to end well.
#[derive(Clone, Debug)]
pub struct WaitRules {
    /// Whether one target is enough.
    pub any: bool,
    /// How many probes of a target must succeed in a row.
    pub successes: u32,
    /// For how long a target must stay up.
    pub stable_for: Duration,
    /// Whether to wait until targets are down: an explicit refusal, never a timeout.
    pub invert: bool,
    /// How often to ask.
    pub rhythm: Rhythm,
    /// How many probes each target gets.
    pub attempts: Option<u32>,
    /// The end of all waiting.
    pub deadline: Option<Instant>,
    /// The end of one probe.
    pub probe_timeout: Duration,
}

/// How a wait ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitVerdict {
    /// As wanted.
    Ready,
    /// The deadline passed, or the attempts are used up.
    TooLate,
}

/// A run of probes that ended alike.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// When the first of them ended, from the start of the wait.
    pub at: Duration,
    /// `up`, or the class of the failure.
    pub what: &'static str,
    /// How many there were.
    pub count: u32,
}

/// The longest timeline that is kept; a target that flaps for days must not fill the memory.
const TIMELINE_LIMIT: usize = 256;

/// What is known of one target.
#[derive(Clone, Debug)]
pub struct Progress {
    /// How often it was asked; the last question may be open still.
    pub attempts: u32,
    /// When it had been as wanted for long enough, from the start.
    pub ready_after: Option<Duration>,
    /// What the last successful probe saw.
    pub answer: Option<ProbeAnswer>,
    /// The last failure.
    pub last: Option<Failure>,
    /// What was seen when.
    pub timeline: Vec<Stretch>,
    cost: Cost,
    watched: bool,
    in_flight: bool,
    row: u32,
    row_began: Option<Instant>,
    next: Instant,
    /// A sign in the kernel's tables brings the next probe no sooner than this.
    soonest: Instant,
    /// Whether the next probe is made because of such a sign, and how many of them were in vain.
    sighted: bool,
    misled: u32,
}

impl Progress {
    /// Whether the last probe found it plainly down.
    fn is_down(&self) -> bool {
        self.timeline.last().is_some_and(|last| last.what != "up")
            && self.last.as_ref().is_some_and(|last| last.class.is_down())
    }
}

/// A probe to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Of which target.
    pub index: usize,
    /// The end of the probe.
    pub deadline: Instant,
}

/// A wait for several targets.
#[derive(Debug)]
pub struct Wait {
    rules: WaitRules,
    began: Instant,
    targets: Vec<Progress>,
    /// How many targets are polled, but for those that start a process each time.
    polled: u32,
    /// How many probes there may be at a time.
    most: usize,
}

impl Wait {
    /// A wait that begins `now`, for targets of these costs.
    pub fn new(rules: WaitRules, costs: &[Cost], now: Instant) -> Wait {
        let fresh = |cost: &Cost| Progress {
            attempts: 0,
            ready_after: None,
            answer: None,
            last: None,
            timeline: Vec::new(),
            cost: *cost,
            watched: false,
            in_flight: false,
            row: 0,
            row_began: None,
            next: now,
            soonest: now,
            sighted: false,
            misled: 0,
        };
        Wait { targets: costs.iter().map(fresh).collect(), rules, began: now, polled: 1, most: usize::MAX }
    }

    /// From now on there are `most` probes at a time, at least one. Who has waited longest is next.
    pub fn bound(&mut self, most: usize) {
        self.most = most.max(1);
    }

    fn in_flight(&self) -> usize {
        self.targets.iter().filter(|target| target.in_flight).count()
    }

    /// The probes to be made now. Their targets count as in flight until `observe`.
    pub fn due(&mut self, now: Instant) -> Vec<Due> {
        let end = now + self.rules.probe_timeout;
        let end = self.rules.deadline.map_or(end, |deadline| deadline.min(end));
        let attempts = self.rules.attempts;
        let polled = |target: &&Progress| target.ready_after.is_none() && target.cost != Cost::Process;
        self.polled = u32::try_from(self.targets.iter().filter(polled).count()).unwrap_or(u32::MAX).max(1);
        let asks = |target: &Progress| {
            let exhausted = attempts.is_some_and(|limit| target.attempts >= limit);
            !target.in_flight && target.ready_after.is_none() && !exhausted && target.next <= now
        };
        let mut due: Vec<usize> =
            (0..self.targets.len()).filter(|index| asks(&self.targets[*index])).collect();
        let room = self.most.saturating_sub(self.in_flight());
        if due.len() > room {
            due.sort_by_key(|index| self.targets[*index].next);
            due.truncate(room);
        }
        for index in &due {
            self.targets[*index].in_flight = true;
            self.targets[*index].attempts += 1;
        }
        due.into_iter().map(|index| Due { index, deadline: end }).collect()
    }

    /// From now on asking target `index` costs this; `watched` says whether the kernel's tables are looked at
    /// for it.
    pub fn place(&mut self, index: usize, cost: Cost, watched: bool) {
        if let Some(target) = self.targets.get_mut(index) {
            (target.cost, target.watched) = (cost, watched && self.rules.rhythm == Rhythm::Adaptive);
        }
    }

    /// The targets that are plainly down and for which the kernel's tables are to be looked at.
    pub fn dozing(&self) -> Vec<usize> {
        let attempts = self.rules.attempts;
        let dozes = |target: &Progress| {
            target.watched
                && !target.in_flight
                && target.ready_after.is_none()
                && attempts.is_none_or(|limit| target.attempts < limit)
                && target.is_down()
        };
        (0..self.targets.len()).filter(|index| dozes(&self.targets[*index])).collect()
    }

    /// Somebody may listen at target `index` by now: it is asked at once, unless it was just asked.
    pub fn sighted(&mut self, index: usize) {
        if let Some(target) = self.targets.get_mut(index).filter(|target| target.watched) {
            target.sighted |= target.soonest < target.next;
            target.next = target.next.min(target.soonest);
        }
    }

    /// Takes what a probe of target `index` saw; `spent` is the processor time of one.
    pub fn observe(
        &mut self,
        now: Instant,
        index: usize,
        seen: Result<ProbeAnswer, Failure>,
        spent: Duration,
    ) {
        let polled = self.polled;
        let Some(target) = self.targets.get_mut(index) else { return };
        target.in_flight = false;
        let at = now - self.began;
        let what = seen.as_ref().map_or_else(|failure| failure.class.name(), |_| "up");
        let room = target.timeline.len() < TIMELINE_LIMIT;
        match target.timeline.last_mut() {
            Some(last) if last.what == what => last.count += 1,
            _ if room => target.timeline.push(Stretch { at, what, count: 1 }),
            _ => {}
        }
        let wanted = match &seen {
            Ok(_) => !self.rules.invert,
            Err(failure) => self.rules.invert && failure.class.is_down(),
        };
        if wanted {
            target.row += 1;
            let began = *target.row_began.get_or_insert(now);
            if target.row >= self.rules.successes && now - began >= self.rules.stable_for {
                target.ready_after = Some(at);
            }
        } else {
            (target.row, target.row_began) = (0, None);
        }
        // What says itself that it is down has answered.
        let failure = seen.as_ref().err().filter(|failure| failure.class != Class::Down);
        let (cost, tries, watched) = (target.cost, target.attempts, target.watched);
        let pause = match self.rules.rhythm {
            Rhythm::Every(pause) => pause,
            Rhythm::Adaptive => {
                let moment = PollProgress { cost, age: at, spent: spent * polled, polled, tries, watched };
                pace::pause(moment, failure)
            }
        };
        target.next = now + pause;
        if watched {
            // A sign may mislead again and again: a listener on another address, in the tables of a kernel
            // that means something else by them.
            target.misled = if std::mem::take(&mut target.sighted) { (target.misled + 1).min(6) } else { 0 };
            let alone = PollProgress { cost, age: at, spent, polled: 1, tries, watched: false };
            target.soonest = now + pace::pause(alone, failure) * (1 << target.misled);
        }
        // The last look of a stable span comes at its end, not a pause later.
        if let Some(began) = target.row_began.filter(|_| target.row >= self.rules.successes) {
            target.next = target.next.min(began + self.rules.stable_for);
        }
        match seen {
            Ok(answer) => target.answer = Some(answer),
            // The last probe is cut short by the deadline; what failed before tells more.
            Err(failure)
                if failure.class == Class::Timeout
                    && target.last.is_some()
                    && self.rules.deadline.is_some_and(|deadline| now >= deadline) => {}
            Err(failure) => target.last = Some(failure),
        }
    }

    /// Whether the wait is over.
    pub fn verdict(&self, now: Instant) -> Option<WaitVerdict> {
        let ready = |target: &Progress| target.ready_after.is_some();
        if if self.rules.any { self.targets.iter().any(ready) } else { self.targets.iter().all(ready) } {
            return Some(WaitVerdict::Ready);
        }
        if self.rules.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(WaitVerdict::TooLate);
        }
        // After the last attempt its pause is waited out too, as the script did that counted attempts; here
        // it would help nobody.
        let limit = self.rules.attempts?;
        let lost = |target: &Progress| !ready(target) && !target.in_flight && target.attempts >= limit;
        let over = if self.rules.any { self.targets.iter().all(lost) } else { self.targets.iter().any(lost) };
        over.then_some(WaitVerdict::TooLate)
    }

    /// When there is something to do again, if nothing is observed before.
    pub fn wake(&self) -> Option<Instant> {
        if self.in_flight() >= self.most {
            return self.rules.deadline;
        }
        let attempts = self.rules.attempts;
        let idle = self.targets.iter().filter(|target| {
            !target.in_flight
                && target.ready_after.is_none()
                && attempts.is_none_or(|limit| target.attempts < limit)
        });
        idle.map(|target| target.next).chain(self.rules.deadline).min()
    }

    /// What is known of the targets, in the order given.
    pub fn targets(&self) -> &[Progress] {
        &self.targets
    }

    /// How long it has taken.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now - self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> WaitRules {
        WaitRules {
            any: false,
            successes: 1,
            stable_for: Duration::ZERO,
            invert: false,
            rhythm: Rhythm::Every(Duration::from_millis(100)),
            attempts: None,
            deadline: None,
            probe_timeout: Duration::from_secs(5),
        }
    }

    /// Answers every due probe by `world(index, millis)` until the wait is over; returns the verdict and when
    /// it came.
    fn play(
        rules: WaitRules,
        count: usize,
        world: &dyn Fn(usize, u64) -> Result<ProbeAnswer, Failure>,
    ) -> (WaitVerdict, u64, Wait) {
        let began = Instant::now();
        let mut now = began;
        let mut wait = Wait::new(rules, &vec![Cost::Local; count], now);
        loop {
            for Due { index, .. } in wait.due(now) {
                let millis = u64::try_from((now - began).as_millis()).unwrap();
                wait.observe(now, index, world(index, millis), Duration::from_micros(30));
            }
            if let Some(verdict) = wait.verdict(now) {
                return (verdict, u64::try_from((now - began).as_millis()).unwrap(), wait);
            }
            now = wait.wake().unwrap().max(now);
        }
    }

    fn up() -> Result<ProbeAnswer, Failure> {
        Ok(ProbeAnswer::default())
    }

    fn down(class: Class) -> Result<ProbeAnswer, Failure> {
        Err(Failure::new(class, "down"))
    }

    #[test]
    fn all_targets_must_have_been_up() {
        let world = |index, at| if at >= 1000 * index as u64 { up() } else { down(Class::Refused) };
        let (verdict, at, _) = play(rules(), 3, &world);
        assert_eq!((verdict, at), (WaitVerdict::Ready, 2000));
        let (verdict, at, _) = play(WaitRules { any: true, ..rules() }, 3, &world);
        assert_eq!((verdict, at), (WaitVerdict::Ready, 0));
    }

    #[test]
    fn one_lucky_probe_is_not_enough_when_a_row_is_asked_for() {
        let flaps =
            |_, at: u64| if (at / 200).is_multiple_of(2) || at >= 3000 { up() } else { down(Class::Status) };
        let (verdict, at, _) = play(WaitRules { successes: 3, ..rules() }, 1, &flaps);
        assert_eq!((verdict, at), (WaitVerdict::Ready, 3000));
        let (verdict, at, _) =
            play(WaitRules { stable_for: Duration::from_millis(250), ..rules() }, 1, &flaps);
        assert_eq!((verdict, at), (WaitVerdict::Ready, 3050));
    }

    #[test]
    fn only_an_explicit_refusal_is_down() {
        let hangs = |_, at: u64| {
            if at < 500 {
                up()
            } else if at < 1000 {
                down(Class::Timeout)
            } else {
                down(Class::Refused)
            }
        };
        let (verdict, at, _) = play(WaitRules { invert: true, ..rules() }, 1, &hangs);
        assert_eq!((verdict, at), (WaitVerdict::Ready, 1000));
    }

    #[test]
    fn attempts_and_the_deadline_end_it() {
        let never = |_, _| down(Class::Refused);
        let (verdict, at, wait) = play(WaitRules { attempts: Some(3), ..rules() }, 1, &never);
        assert_eq!((verdict, at, wait.targets()[0].attempts), (WaitVerdict::TooLate, 200, 3));
        let deadline = Some(Instant::now() + Duration::from_millis(1500));
        let (verdict, at, _) = play(WaitRules { deadline, ..rules() }, 1, &never);
        assert!(verdict == WaitVerdict::TooLate && at >= 1490, "{at}");
    }

    #[test]
    fn with_little_room_all_have_their_turn() {
        let mut now = Instant::now();
        let mut wait = Wait::new(rules(), &[Cost::Local; 5], now);
        wait.bound(2);
        for _ in 0..50 {
            let due = wait.due(now);
            assert_eq!((due.len(), wait.wake()), (2, None));
            assert!(wait.due(now).is_empty());
            now += Duration::from_millis(100);
            for one in due {
                wait.observe(now, one.index, down(Class::Refused), Duration::ZERO);
            }
        }
        let attempts: Vec<u32> = wait.targets().iter().map(|target| target.attempts).collect();
        assert!(attempts.iter().all(|attempts| *attempts >= 15), "{attempts:?}");
    }

    #[test]
    fn the_timeline_is_bounded() {
        let flaps =
            |_, at: u64| if (at / 100).is_multiple_of(2) { down(Class::Refused) } else { down(Class::Reset) };
        let (_, _, wait) = play(WaitRules { attempts: Some(1000), ..rules() }, 1, &flaps);
        assert_eq!(wait.targets()[0].timeline.len(), TIMELINE_LIMIT);
    }
}
