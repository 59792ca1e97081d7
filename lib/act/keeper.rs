//! Keeping one command or job running (baa-run): a state machine that is fed with the time and with what
//! happened, and says what to do.

pub mod ask;
pub mod attend;
pub mod change;
pub(crate) mod control;
pub mod detach;
pub mod drain;
pub mod failure_log;
mod hooks;
mod lives;
pub mod lockfile;
pub mod notify;
mod place;
pub mod policy;
pub mod readiness;
pub mod request;
mod schedule;
pub mod stability;
mod state;
pub mod supervisor;
mod update;
mod watchdog;

pub use policy::{Policy, RestartPolicy};
pub use state::{KeeperAction, KeeperEvent, KeeperState, Next};

use crate::sys::child::Exit;
use crate::sys::clock;
use crate::sys::process::Identity;
use std::time::{Duration, Instant};

/// After a command died by itself, its leftovers get no longer than this to follow it, so that a restart is
/// not kept waiting.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// Between two kills of what does not die.
const AGAIN: Duration = Duration::from_millis(100);

/// Between two tries of what could not be started, and the first of the pauses that grow.
const SHORTEST: Duration = Duration::from_millis(100);

/// The state machine.
#[derive(Clone, Debug)]
pub struct Keeper {
    policy: Policy,
    state: KeeperState,
    runs: u64,
    last_exit: Option<Exit>,
    last_start: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// Whether any life of it has served.
    served: bool,
    never_came_up: bool,
    parked: bool,
    /// How often it was told to stop.
    stops: u8,
    /// How long it has after the kill signal, while it stops and was not sent that.
    grace: Option<Duration>,
    /// What was asked for, in the order of the numbers.
    changes: Vec<change::KeeperChange>,
}

impl Keeper {
    /// A keeper that has not begun.
    pub fn new(policy: Policy) -> Keeper {
        let (runs, failures, stops, last_exit, last_start) = (0, 0, 0, None, None);
        Keeper {
            policy,
            state: KeeperState::Idle,
            runs,
            last_exit,
            last_start,
            failures,
            served: false,
            never_came_up: false,
            parked: false,
            stops,
            grace: None,
            changes: Vec::new(),
        }
    }

    /// What the command does.
    pub fn state(&self) -> KeeperState {
        self.state
    }

    /// How often it was started.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Whether it has ended because its first life did not come to serve.
    pub fn never_came_up(&self) -> bool {
        self.never_came_up
    }

    /// Whether it is idle because a life of it did not come to serve.
    pub fn parked(&self) -> bool {
        self.parked
    }

    /// From now on it may take no longer than this to stop.
    pub fn stop_within(&mut self, limit: Duration) {
        let own = self.policy.exit_timeout;
        let limit = if self.policy.kill_grace.is_some() { limit / 2 } else { limit };
        self.policy.exit_timeout = if own.is_zero() { limit } else { own.min(limit) };
        self.policy.kill_grace = self.policy.kill_grace.map(|grace| grace.min(limit));
    }

    /// How it ended last.
    pub fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }

    /// When `KeeperEvent::Time` is due.
    pub fn wake(&self) -> Option<Instant> {
        match self.state {
            KeeperState::Waiting(until)
            | KeeperState::Readying(_, until)
            | KeeperState::Updating { until, .. } => Some(until),
            KeeperState::Replacing { until, .. } => until,
            KeeperState::Stopping { until, .. }
            | KeeperState::Sweeping(until, _)
            | KeeperState::Draining { until, .. } => until,
            _ => None,
        }
    }

    /// Takes an event; says what to do, in order.
    pub fn handle(&mut self, now: Instant, event: KeeperEvent) -> Vec<KeeperAction> {
        let event = match (self.state, event) {
            (KeeperState::Running(_) | KeeperState::Draining { .. }, KeeperEvent::Leave(_)) => event,
            (
                KeeperState::Stopping { next: Next::Finish, .. } | KeeperState::Sweeping(_, Next::Finish),
                KeeperEvent::Leave(_),
            ) => KeeperEvent::Time,
            (_, KeeperEvent::Leave(_)) => KeeperEvent::Stop,
            _ => event,
        };
        if event == KeeperEvent::Restart {
            self.begin_restart();
        }
        let todo = match self.updating(now, event) {
            Some(todo) => todo,
            None => self.step(now, event),
        };
        self.settle();
        todo
    }

    fn step(&mut self, now: Instant, event: KeeperEvent) -> Vec<KeeperAction> {
        match (self.state, event) {
            (KeeperState::Finished, _) => vec![],
            (KeeperState::Idle, KeeperEvent::Begin) if self.policy.start_at_once => self.start(now),
            (KeeperState::Idle | KeeperState::Waiting(_), KeeperEvent::Start | KeeperEvent::Restart) => {
                self.start(now)
            }
            (KeeperState::Idle, KeeperEvent::Paths) => self.start_later(now, Duration::ZERO),
            (KeeperState::Waiting(until), KeeperEvent::Time) if now >= until => self.start(now),
            (KeeperState::Idle | KeeperState::Waiting(_), KeeperEvent::Stop) => self.finish(),

            (KeeperState::Starting, KeeperEvent::Started(who)) => {
                self.state = self.policy.ready.map_or(KeeperState::Running(who), |limit| {
                    KeeperState::Readying(who, clock::after(now, limit))
                });
                vec![]
            }
            (KeeperState::Readying(who, _), KeeperEvent::Ready) => {
                (self.state, self.served) = (KeeperState::Running(who), true);
                vec![]
            }
            (KeeperState::Readying(who, until), KeeperEvent::Time) if now >= until => {
                self.stop(now, who, Next::Park)
            }
            (KeeperState::Readying(who, _), KeeperEvent::Stop) => self.stop(now, who, Next::Finish),
            (KeeperState::Readying(who, _), KeeperEvent::Restart) => self.stop(now, who, Next::Start),
            // One that never served and dies has not come up.
            (KeeperState::Readying(..), KeeperEvent::Exited(exit)) if !self.served => {
                self.sweep(exit, Some(now + self.sweep_limit()), Next::Park)
            }
            (KeeperState::Starting, KeeperEvent::NotStarted) => {
                let exit = Exit::Code(127);
                self.last_exit = Some(exit);
                // Not without a pause, whatever the throttle says: it would take all of a core, and fill a
                // disk with words.
                self.decide(now, exit, SHORTEST)
            }

            (KeeperState::Running(_) | KeeperState::Readying(..), KeeperEvent::Exited(exit)) => {
                self.sweep(exit, Some(now + self.sweep_limit()), Next::Decide(exit))
            }
            (KeeperState::Running(who), KeeperEvent::Stop) => self.stop(now, who, Next::Finish),
            (KeeperState::Running(who), KeeperEvent::Restart) => {
                self.drain(now, who, self.policy.drain, Next::Start)
            }
            (KeeperState::Running(who), KeeperEvent::Leave(limit)) => {
                self.drain(now, who, shorter(self.policy.drain, limit), Next::Finish)
            }
            (KeeperState::Running(who), KeeperEvent::Hung) => self.stop(now, who, Next::Hung),
            // A stop never waits for a drain, and a second restart has had enough of it.
            (KeeperState::Draining { who, .. }, KeeperEvent::Stop) => {
                self.stops = self.stops.max(1);
                self.stop(now, who, Next::Finish)
            }
            (KeeperState::Draining { who, until, .. }, KeeperEvent::Leave(limit)) => {
                let sooner = limit.map(|limit| clock::after(now, limit));
                self.state = KeeperState::Draining {
                    who,
                    until: until.into_iter().chain(sooner).min(),
                    next: Next::Finish,
                };
                vec![]
            }
            (KeeperState::Draining { who, next: Next::Start, .. }, KeeperEvent::Restart) => {
                self.stop(now, who, Next::Start)
            }
            (KeeperState::Draining { who, next, .. }, KeeperEvent::Drained) => self.stop(now, who, next),
            (KeeperState::Draining { who, until: Some(until), next }, KeeperEvent::Time) if now >= until => {
                self.stop(now, who, next)
            }
            (KeeperState::Draining { next, .. }, KeeperEvent::Exited(exit)) => {
                self.sweep(exit, Some(now + self.sweep_limit()), next)
            }
            (KeeperState::Starting, KeeperEvent::GiveUp) => self.finish(),
            (KeeperState::Sweeping(until, _), KeeperEvent::GiveUp) => {
                self.state = KeeperState::Sweeping(until, Next::Finish);
                vec![]
            }

            (KeeperState::Stopping { until, next, .. }, KeeperEvent::Exited(exit)) => {
                self.sweep(exit, until, next)
            }
            (KeeperState::Stopping { .. } | KeeperState::Sweeping(..), KeeperEvent::Stop) => {
                self.stop_again()
            }
            // The restart takes the place of what would have come by itself.
            (
                KeeperState::Stopping { who, until, next: Next::Hung | Next::Park },
                KeeperEvent::Restart | KeeperEvent::Start,
            ) => {
                self.state = KeeperState::Stopping { who, until, next: Next::Start };
                vec![]
            }
            // A restart that is asked for during a stop for good comes too late.
            (
                KeeperState::Stopping { until: Some(until), .. } | KeeperState::Sweeping(Some(until), _),
                KeeperEvent::Time,
            ) if now >= until => match self.grace.take() {
                Some(grace) => {
                    self.put_off(now + grace);
                    vec![KeeperAction::Abort]
                }
                None => {
                    self.put_off(now + AGAIN);
                    vec![KeeperAction::Kill]
                }
            },

            (
                KeeperState::Sweeping(until, Next::Decide(_) | Next::Park | Next::Hung),
                KeeperEvent::Restart | KeeperEvent::Start,
            ) => {
                self.state = KeeperState::Sweeping(until, Next::Start);
                vec![]
            }
            (KeeperState::Sweeping(_, next), KeeperEvent::Swept) => match next {
                Next::Finish => self.finish(),
                Next::Start => self.start(now),
                Next::Decide(exit) => self.decide(now, exit, Duration::ZERO),
                // As if it had crashed, however it ended.
                Next::Hung => {
                    self.decide(now, Exit::Signal(crate::sys::signal::Signal::SIGABRT as i32), Duration::ZERO)
                }
                Next::Park if self.served => {
                    (self.state, self.parked) = (KeeperState::Idle, true);
                    vec![]
                }
                Next::Park => {
                    self.never_came_up = true;
                    self.finish()
                }
            },
            _ => vec![],
        }
    }

    fn start(&mut self, now: Instant) -> Vec<KeeperAction> {
        (self.state, self.parked, self.stops, self.grace) = (KeeperState::Starting, false, 0, None);
        self.runs += 1;
        self.last_start = Some(now);
        vec![KeeperAction::Start]
    }

    fn drain(
        &mut self,
        now: Instant,
        who: Identity,
        limit: Option<Duration>,
        next: Next,
    ) -> Vec<KeeperAction> {
        match limit {
            None => self.stop(now, who, next),
            Some(limit) => {
                self.stops += 1;
                self.state = KeeperState::Draining { who, until: end(now, limit), next };
                vec![KeeperAction::Drain(who, bound(limit))]
            }
        }
    }

    /// Told to stop while it stops already.
    fn stop_again(&mut self) -> Vec<KeeperAction> {
        let (who, next) = match &mut self.state {
            KeeperState::Stopping { who, next, .. } => (Some(*who), next),
            KeeperState::Sweeping(_, next) => (None, next),
            _ => return vec![],
        };
        let first = std::mem::replace(next, Next::Finish) != Next::Finish;
        self.stops = self.stops.saturating_add(1);
        match self.stops {
            0..=2 if first => vec![],
            0..=2 => {
                who.map(KeeperAction::Terminate).into_iter().chain([KeeperAction::TerminateRest]).collect()
            }
            _ => vec![KeeperAction::Kill],
        }
    }

    fn stop(&mut self, now: Instant, who: Identity, next: Next) -> Vec<KeeperAction> {
        self.stops += u8::from(next == Next::Finish);
        self.state = KeeperState::Stopping { who, until: self.stop_limit(now), next };
        vec![KeeperAction::Terminate(who)]
    }

    fn sweep(&mut self, exit: Exit, until: Option<Instant>, next: Next) -> Vec<KeeperAction> {
        self.last_exit = Some(exit);
        self.state = KeeperState::Sweeping(until, next);
        vec![KeeperAction::TerminateRest]
    }

    fn sweep_limit(&self) -> Duration {
        if self.policy.exit_timeout.is_zero() {
            SWEEP_LIMIT
        } else {
            self.policy.exit_timeout.min(SWEEP_LIMIT)
        }
    }

    /// What is to be killed is, or again, at `later`.
    fn put_off(&mut self, later: Instant) {
        match &mut self.state {
            KeeperState::Stopping { until, .. } | KeeperState::Sweeping(until, _) => *until = Some(later),
            _ => {}
        }
    }

    /// A stop begins: when all that is left is killed, or sent the kill signal.
    fn stop_limit(&mut self, now: Instant) -> Option<Instant> {
        self.grace = self.policy.kill_grace;
        end(now, self.policy.exit_timeout)
    }

    /// What follows from an end; a start is not at once, but after `least`.
    fn decide(&mut self, now: Instant, exit: Exit, least: Duration) -> Vec<KeeperAction> {
        let lasted = self.last_start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        self.failures = match exit.success() {
            true => 0,
            false if lasted >= self.policy.healthy_after => 1,
            false => self.failures.saturating_add(1),
        };
        match policy::wanted_again(&self.policy.restart, exit) {
            policy::Again::Yes => self.start_later(now, least),
            policy::Again::No => {
                self.state = KeeperState::Idle;
                vec![]
            }
            policy::Again::Over => self.finish(),
        }
    }

    fn start_later(&mut self, now: Instant, least: Duration) -> Vec<KeeperAction> {
        let throttled = self.last_start.map_or(now, |last| clock::after(last, self.policy.throttle));
        let until = throttled.max(clock::after(now, self.pause()));
        // `least` is for a start that would be at once.
        let until = if now >= until { now + least } else { until };
        if now >= until {
            return self.start(now);
        }
        self.state = KeeperState::Waiting(until);
        vec![]
    }

    /// What is added after failures in a row: nothing after the first, then the throttle (`SHORTEST` at
    /// least), twice as much each time.
    fn pause(&self) -> Duration {
        if self.policy.backoff.is_zero() || self.failures < 2 {
            return Duration::ZERO;
        }
        let first = self.policy.throttle.max(SHORTEST);
        first.saturating_mul(1 << (self.failures - 2).min(20)).min(self.policy.backoff)
    }

    fn finish(&mut self) -> Vec<KeeperAction> {
        self.state = KeeperState::Finished;
        vec![KeeperAction::Finish]
    }
}

/// The shorter of a drain's own limit, zero without end, and another one; `None` where there is no drain.
fn shorter(own: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    own.map(
        |own| if own.is_zero() { other.unwrap_or(own) } else { other.map_or(own, |other| own.min(other)) },
    )
}

/// A limit, where there is one; zero is without end.
fn bound(limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then_some(limit)
}

/// When a limit from `now` on is over; zero is without end.
fn end(now: Instant, limit: Duration) -> Option<Instant> {
    bound(limit).map(|limit| clock::after(now, limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::job::KeepAlive;
    use crate::sys::process::{Pid, Start};

    fn who(pid: i32) -> Identity {
        Identity { pid: Pid::new(pid).unwrap(), start: Start(1) }
    }

    fn keeper(restart: RestartPolicy) -> Keeper {
        Keeper::new(policy(restart))
    }

    fn policy(restart: RestartPolicy) -> Policy {
        let seconds = Duration::from_secs;
        Policy {
            restart,
            start_at_once: true,
            throttle: seconds(10),
            exit_timeout: seconds(5),
            kill_grace: None,
            backoff: Duration::ZERO,
            healthy_after: seconds(60),
            drain: None,
            ready: None,
            update: seconds(10),
        }
    }

    /// The first start that does not come to serve is the end; a later one is parked, for whoever asks.
    #[test]
    fn a_first_start_that_fails_ends_and_a_later_one_is_parked() {
        let limit = Duration::from_secs(10);
        let t0 = Instant::now();
        let start = || {
            let mut keeper = Keeper::new(Policy { ready: Some(limit), ..policy(RestartPolicy::Always) });
            keeper.handle(t0, KeeperEvent::Begin);
            keeper.handle(t0, KeeperEvent::Started(who(7)));
            assert_eq!(keeper.wake(), Some(t0 + limit));
            keeper
        };
        let mut keeper = start();
        assert_eq!(keeper.handle(t0 + limit, KeeperEvent::Time), [KeeperAction::Terminate(who(7))]);
        keeper.handle(t0 + limit, KeeperEvent::Exited(Exit::Signal(15)));
        assert_eq!(keeper.handle(t0 + limit, KeeperEvent::Swept), [KeeperAction::Finish]);
        let mut keeper = start();
        keeper.handle(t0, KeeperEvent::Exited(Exit::Code(1)));
        assert_eq!(keeper.handle(t0, KeeperEvent::Swept), [KeeperAction::Finish]);
        let mut keeper = start();
        keeper.handle(t0, KeeperEvent::Ready);
        assert_eq!(keeper.handle(t0, KeeperEvent::Restart), [KeeperAction::Terminate(who(7))]);
        keeper.handle(t0, KeeperEvent::Exited(Exit::Code(0)));
        assert_eq!(keeper.handle(t0, KeeperEvent::Swept), [KeeperAction::Start]);
        keeper.handle(t0, KeeperEvent::Started(who(8)));
        assert_eq!(keeper.handle(t0 + limit, KeeperEvent::Time), [KeeperAction::Terminate(who(8))]);
        keeper.handle(t0 + limit, KeeperEvent::Exited(Exit::Code(0)));
        assert_eq!(keeper.handle(t0 + limit, KeeperEvent::Swept), []);
        assert_eq!(keeper.state(), KeeperState::Idle);
        assert_eq!(keeper.handle(t0 + limit, KeeperEvent::Restart), [KeeperAction::Start]);
    }

    #[test]
    fn failures_in_a_row_are_met_with_longer_pauses_and_health_with_the_shortest() {
        let mut keeper = Keeper::new(Policy {
            throttle: Duration::from_secs(1),
            backoff: Duration::from_secs(5),
            ..policy(RestartPolicy::Always)
        });
        let mut now = Instant::now();
        keeper.handle(now, KeeperEvent::Begin);
        let mut pauses = Vec::new();
        for lasted in [0, 0, 0, 0, 0, 100, 0] {
            keeper.handle(now, KeeperEvent::Started(who(7)));
            now += Duration::from_secs(lasted);
            keeper.handle(now, KeeperEvent::Exited(Exit::Code(1)));
            let done = keeper.handle(now, KeeperEvent::Swept);
            pauses.push(keeper.wake().map_or(0, |wake| (wake - now).as_secs()));
            if done.is_empty() {
                now = keeper.wake().unwrap();
                assert_eq!(keeper.handle(now, KeeperEvent::Time), [KeeperAction::Start]);
            }
        }
        assert_eq!(pauses, [1, 1, 2, 4, 5, 0, 1]);
    }

    #[test]
    fn a_restart_drains_and_a_stop_does_not() {
        let limit = Duration::from_secs(300);
        let draining = || {
            let mut keeper = Keeper::new(Policy { drain: Some(limit), ..policy(RestartPolicy::Always) });
            let now = Instant::now();
            keeper.handle(now, KeeperEvent::Begin);
            keeper.handle(now, KeeperEvent::Started(who(7)));
            assert_eq!(keeper.handle(now, KeeperEvent::Restart), [KeeperAction::Drain(who(7), Some(limit))]);
            assert_eq!(keeper.handle(now, KeeperEvent::Time), []);
            (keeper, now)
        };
        for (late, event) in [
            (0, KeeperEvent::Drained),
            (0, KeeperEvent::Restart),
            (300, KeeperEvent::Time),
            (0, KeeperEvent::Stop),
        ] {
            let (mut keeper, now) = draining();
            assert_eq!(
                keeper.handle(now + Duration::from_secs(late), event),
                [KeeperAction::Terminate(who(7))],
                "{event:?}"
            );
        }
        let (mut keeper, now) = draining();
        assert_eq!(keeper.handle(now, KeeperEvent::Exited(Exit::Code(0))), [KeeperAction::TerminateRest]);
        assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Start]);
    }

    #[test]
    fn restarts_after_the_throttle_counted_from_the_start() {
        let mut keeper = keeper(RestartPolicy::Always);
        let t0 = Instant::now();
        let at = |seconds| t0 + Duration::from_secs(seconds);
        assert_eq!(keeper.handle(t0, KeeperEvent::Begin), [KeeperAction::Start]);
        assert_eq!(keeper.handle(t0, KeeperEvent::Started(who(7))), []);
        assert_eq!(keeper.handle(at(3), KeeperEvent::Exited(Exit::Code(0))), [KeeperAction::TerminateRest]);
        assert_eq!(keeper.handle(at(3), KeeperEvent::Swept), []);
        assert_eq!(keeper.wake(), Some(at(10)));
        assert_eq!(keeper.handle(at(9), KeeperEvent::Time), []);
        assert_eq!(keeper.handle(at(10), KeeperEvent::Time), [KeeperAction::Start]);
        keeper.handle(at(10), KeeperEvent::Started(who(8)));
        keeper.handle(at(30), KeeperEvent::Exited(Exit::Code(1)));
        assert_eq!(keeper.handle(at(30), KeeperEvent::Swept), [KeeperAction::Start]);
        assert_eq!(keeper.runs(), 3);
    }

    #[test]
    fn stops_with_term_then_kills_the_tree_and_only_then_ends() {
        let mut keeper = keeper(RestartPolicy::Always);
        let t0 = Instant::now();
        keeper.handle(t0, KeeperEvent::Begin);
        keeper.handle(t0, KeeperEvent::Started(who(7)));
        assert_eq!(keeper.handle(t0, KeeperEvent::Stop), [KeeperAction::Terminate(who(7))]);
        assert_eq!(keeper.handle(t0 + Duration::from_secs(4), KeeperEvent::Time), []);
        assert_eq!(keeper.handle(t0 + Duration::from_secs(5), KeeperEvent::Time), [KeeperAction::Kill]);
        assert_eq!(
            keeper.handle(t0 + Duration::from_secs(5), KeeperEvent::Exited(Exit::Signal(9))),
            [KeeperAction::TerminateRest]
        );
        assert_eq!(keeper.handle(t0 + Duration::from_secs(5), KeeperEvent::Swept), [KeeperAction::Finish]);
    }

    /// What has a kill signal gets it first, once in each stop, and its time after it.
    #[test]
    fn a_kill_signal_comes_before_the_kill() {
        let kill_grace = Some(Duration::from_secs(5));
        let mut keeper = Keeper::new(Policy { kill_grace, ..policy(RestartPolicy::Always) });
        let t0 = Instant::now();
        let at = |seconds| t0 + Duration::from_secs(seconds);
        keeper.handle(t0, KeeperEvent::Begin);
        for (base, pid) in [(0, 7), (20, 8)] {
            keeper.handle(at(base), KeeperEvent::Started(who(pid)));
            keeper.handle(at(base), KeeperEvent::Restart);
            assert_eq!(keeper.handle(at(base + 5), KeeperEvent::Time), [KeeperAction::Abort]);
            assert_eq!(keeper.handle(at(base + 9), KeeperEvent::Time), []);
            assert_eq!(keeper.handle(at(base + 10), KeeperEvent::Time), [KeeperAction::Kill]);
            keeper.handle(at(base + 10), KeeperEvent::Exited(Exit::Signal(9)));
            assert_eq!(keeper.handle(at(base + 11), KeeperEvent::Time), [KeeperAction::Kill]);
            assert_eq!(keeper.handle(at(base + 11), KeeperEvent::Swept), [KeeperAction::Start]);
        }
        // One that ends by itself has only its leftovers swept.
        keeper.handle(at(40), KeeperEvent::Started(who(9)));
        keeper.handle(at(40), KeeperEvent::Exited(Exit::Code(1)));
        assert_eq!(keeper.handle(at(45), KeeperEvent::Time), [KeeperAction::Kill]);
        // A supervisor's time is shared by both.
        let mut keeper = Keeper::new(Policy { kill_grace, ..policy(RestartPolicy::Always) });
        keeper.stop_within(Duration::from_secs(4));
        keeper.handle(t0, KeeperEvent::Begin);
        keeper.handle(t0, KeeperEvent::Started(who(7)));
        keeper.handle(t0, KeeperEvent::Stop);
        assert_eq!(keeper.handle(at(2), KeeperEvent::Time), [KeeperAction::Abort]);
        assert_eq!(keeper.handle(at(4), KeeperEvent::Time), [KeeperAction::Kill]);
    }

    #[test]
    fn a_stop_overrides_a_restart_the_second_reaches_all_and_the_third_kills() {
        let now = Instant::now();
        let restarting = |drain| {
            let mut keeper = Keeper::new(Policy { drain, ..policy(RestartPolicy::Always) });
            keeper.handle(now, KeeperEvent::Begin);
            keeper.handle(now, KeeperEvent::Started(who(7)));
            keeper.handle(now, KeeperEvent::Restart);
            keeper
        };
        let mut keeper = restarting(None);
        assert_eq!(keeper.handle(now, KeeperEvent::Stop), []);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Stop),
            [KeeperAction::Terminate(who(7)), KeeperAction::TerminateRest]
        );
        assert_eq!(keeper.handle(now, KeeperEvent::Stop), [KeeperAction::Kill]);
        keeper.handle(now, KeeperEvent::Exited(Exit::Signal(9)));
        assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Finish]);
        assert_eq!(keeper.changes().last().unwrap().outcome, change::ChangeOutcome::Failed("it was stopped"));
        // The signal that began the drain was the first one.
        let mut keeper = restarting(Some(Duration::from_secs(300)));
        assert_eq!(keeper.handle(now, KeeperEvent::Stop), [KeeperAction::Terminate(who(7))]);
        assert_eq!(keeper.handle(now, KeeperEvent::Stop), [KeeperAction::Kill]);
    }

    /// Leaving drains, for no longer than it is given, and then ends; a restart that is under way becomes it.
    #[test]
    fn one_that_leaves_drains_and_ends() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        for (drain, given, takes) in [
            (Some(300), Some(15), Some(15)),
            (Some(300), None, Some(300)),
            (Some(0), Some(15), Some(15)),
            (Some(0), None, None),
        ] {
            let mut keeper =
                Keeper::new(Policy { drain: drain.map(seconds), ..policy(RestartPolicy::Always) });
            keeper.handle(now, KeeperEvent::Begin);
            keeper.handle(now, KeeperEvent::Started(who(7)));
            assert_eq!(
                keeper.handle(now, KeeperEvent::Leave(given.map(seconds))),
                [KeeperAction::Drain(who(7), takes.map(seconds))]
            );
            assert_eq!(keeper.handle(now, KeeperEvent::Leave(None)), []);
            assert_eq!(keeper.handle(now, KeeperEvent::Drained), [KeeperAction::Terminate(who(7))]);
            assert_eq!(keeper.handle(now, KeeperEvent::Leave(None)), []);
            keeper.handle(now, KeeperEvent::Exited(Exit::Code(0)));
            assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Finish]);
        }
        let mut keeper = Keeper::new(Policy { drain: Some(seconds(300)), ..policy(RestartPolicy::Always) });
        keeper.handle(now, KeeperEvent::Begin);
        keeper.handle(now, KeeperEvent::Started(who(7)));
        keeper.handle(now, KeeperEvent::Restart);
        assert_eq!(keeper.handle(now, KeeperEvent::Leave(Some(seconds(15)))), []);
        assert_eq!(keeper.wake(), Some(now + seconds(15)));
        // Where there is no drain, it is a stop.
        let mut keeper = Keeper::new(policy(RestartPolicy::Always));
        keeper.handle(now, KeeperEvent::Begin);
        keeper.handle(now, KeeperEvent::Started(who(7)));
        assert_eq!(keeper.handle(now, KeeperEvent::Leave(None)), [KeeperAction::Terminate(who(7))]);
    }

    /// One that has ceased to serve is stopped and started again as after a failure, however well it ends.
    #[test]
    fn one_that_hangs_is_a_failure() {
        for (restart, again) in
            [(RestartPolicy::Always, true), (RestartPolicy::OnFailure, true), (RestartPolicy::Never, false)]
        {
            let (mut keeper, now) = (keeper(restart.clone()), Instant::now());
            let later = now + Duration::from_secs(60);
            keeper.handle(now, KeeperEvent::Begin);
            keeper.handle(now, KeeperEvent::Started(who(7)));
            assert_eq!(keeper.handle(later, KeeperEvent::Hung), [KeeperAction::Terminate(who(7))]);
            keeper.handle(later, KeeperEvent::Exited(Exit::Code(0)));
            assert_eq!(
                keeper.handle(later, KeeperEvent::Swept),
                [if again { KeeperAction::Start } else { KeeperAction::Finish }],
                "{restart:?}"
            );
            assert_eq!(keeper.last_exit(), Some(Exit::Code(0)));
        }
    }

    #[test]
    fn keep_alive_is_read_as_launchd_reads_it() {
        let when = |successful_exit, crashed| {
            RestartPolicy::Job(KeepAlive::When { successful_exit, crashed, paths: vec![] })
        };
        for (restart, exit, runs) in [
            (RestartPolicy::Job(KeepAlive::Always(true)), Exit::Code(0), true),
            (RestartPolicy::Job(KeepAlive::Always(false)), Exit::Code(1), false),
            (when(Some(false), None), Exit::Code(0), false),
            (when(Some(false), None), Exit::Code(1), true),
            (when(Some(true), None), Exit::Code(0), true),
            (when(None, Some(true)), Exit::Signal(11), true),
            (when(None, Some(true)), Exit::Signal(9), false),
            (when(Some(true), Some(true)), Exit::Signal(6), true),
        ] {
            let mut keeper = keeper(restart.clone());
            let now = Instant::now();
            keeper.handle(now, KeeperEvent::Begin);
            keeper.handle(now, KeeperEvent::Started(who(7)));
            keeper.handle(now + Duration::from_secs(60), KeeperEvent::Exited(exit));
            let done = keeper.handle(now + Duration::from_secs(60), KeeperEvent::Swept);
            assert_eq!(done == [KeeperAction::Start], runs, "{restart:?} {exit:?}");
        }
    }

    /// A hundred thousand random events: never two instances but in an update, never a start after the end,
    /// and a stop always ends it.
    #[test]
    fn never_runs_twice_and_every_stop_ends() {
        let mut roll = crate::words::dice::Dice::of(12345);
        let mut next = |limit: u64| roll.roll(limit);
        for _ in 0..200 {
            let restart = if next(2) == 0 {
                RestartPolicy::Always
            } else {
                RestartPolicy::Job(KeepAlive::Always(false))
            };
            let drain = (next(2) == 0).then(|| Duration::from_secs(next(3)));
            let ready = (next(2) == 0).then(|| Duration::from_secs(next(5)));
            let kill_grace = (next(2) == 0).then(|| Duration::from_secs(next(3)));
            let mut keeper = Keeper::new(Policy {
                drain,
                ready,
                kill_grace,
                backoff: Duration::from_secs(next(2) * 5),
                ..policy(restart)
            });
            let mut now = Instant::now();
            let (mut alive, mut pid, mut rest, mut ended) = (Vec::new(), 0, false, false);
            let mut queue = vec![KeeperEvent::Begin];
            for step in 0..600 {
                let event = queue.pop().unwrap_or_else(|| match next(13) {
                    0 => KeeperEvent::Start,
                    1 => KeeperEvent::Restart,
                    2 if step > 250 && next(3) == 0 => KeeperEvent::Stop,
                    3 if !alive.is_empty() => {
                        let dead = alive.remove(usize::try_from(next(alive.len() as u64)).unwrap());
                        rest = rest || next(2) == 0;
                        died(&keeper, dead, Exit::Code(i32::try_from(next(2)).unwrap()))
                    }
                    4 if alive.is_empty() && !rest => KeeperEvent::Swept,
                    5 => KeeperEvent::Paths,
                    6 => KeeperEvent::Drained,
                    7 | 8 => KeeperEvent::Ready,
                    9 => KeeperEvent::Update,
                    10 => KeeperEvent::Hung,
                    11 if step > 400 => KeeperEvent::Leave(Some(Duration::from_secs(next(3)))),
                    _ => KeeperEvent::Time,
                });
                now += Duration::from_millis(next(4000));
                let todo = keeper.handle(now, event);
                let updates =
                    matches!(keeper.state(), KeeperState::Updating { .. } | KeeperState::Replacing { .. });
                for todo in todo {
                    assert!(!ended, "{todo:?} after the end");
                    match todo {
                        KeeperAction::Start | KeeperAction::StartNext => {
                            assert!(
                                todo == KeeperAction::StartNext || alive.is_empty() && !rest,
                                "two instances"
                            );
                            pid += 1;
                            if next(5) == 0 {
                                queue.push(if todo == KeeperAction::Start {
                                    KeeperEvent::NotStarted
                                } else {
                                    KeeperEvent::NextNotStarted
                                });
                                continue;
                            }
                            alive.push(pid);
                            queue.push(if todo == KeeperAction::Start {
                                KeeperEvent::Started(who(pid))
                            } else {
                                KeeperEvent::NextStarted(who(pid))
                            });
                        }
                        KeeperAction::Kill => {
                            rest = false;
                            queue.extend(alive.drain(..).map(|dead| died(&keeper, dead, Exit::Signal(9))));
                        }
                        KeeperAction::KillOne(one) => {
                            if let Some(at) = alive.iter().position(|pid| who(*pid) == one) {
                                let dead = alive.remove(at);
                                queue.push(died(&keeper, dead, Exit::Signal(9)));
                            }
                        }
                        KeeperAction::TerminateRest => rest = rest && next(2) == 0,
                        KeeperAction::Terminate(_)
                        | KeeperAction::Abort
                        | KeeperAction::AbortOne(_)
                        | KeeperAction::Drain(..)
                        | KeeperAction::Promote(_) => {}
                        KeeperAction::Finish => {
                            assert!(alive.is_empty() && !rest, "left behind: {alive:?}");
                            ended = true;
                        }
                    }
                }
                // Between the order to start the next life and its start there is nothing else.
                assert!(
                    updates
                        || alive.len() <= 1
                        || queue.iter().any(|event| matches!(
                            event,
                            KeeperEvent::Exited(_) | KeeperEvent::NextExited(_)
                        )),
                    "{alive:?}"
                );
                if let Some(change) = keeper.changes().last().copied() {
                    assert!(change.over() || keeper.state() != KeeperState::Finished);
                }
            }
            for _ in 0..20 {
                now += Duration::from_secs(60);
                for event in [KeeperEvent::Stop, KeeperEvent::Time] {
                    for todo in keeper.handle(now, event) {
                        if matches!(todo, KeeperAction::Kill | KeeperAction::KillOne(_)) {
                            for dead in std::mem::take(&mut alive) {
                                let event = died(&keeper, dead, Exit::Signal(9));
                                keeper.handle(now, event);
                            }
                        }
                    }
                }
                keeper.handle(now, KeeperEvent::Swept);
            }
            assert_eq!(keeper.state(), KeeperState::Finished);
        }
    }

    /// A process is known as the next life while there are two.
    fn died(keeper: &Keeper, pid: i32, exit: Exit) -> KeeperEvent {
        match keeper.state() {
            KeeperState::Updating { next: Some(next), .. } | KeeperState::Replacing { next, .. }
                if next == who(pid) =>
            {
                KeeperEvent::NextExited(exit)
            }
            _ => KeeperEvent::Exited(exit),
        }
    }
}
