//! An update that can be undone: the next life is started beside the one that serves, and takes over only
//! when it serves itself. Until then the old one stays; if the next one dies or is late, it was never there.

use crate::act::keeper::change::{ChangeOutcome, OVERTAKEN, STOPPED};
use crate::act::keeper::{AGAIN, Keeper, KeeperAction, KeeperEvent, KeeperState, Next, bound, end};
use crate::sys::clock;
use crate::sys::process::Identity;
use std::time::Instant;

impl Keeper {
    /// Takes what concerns an update; `None` for all else.
    pub(super) fn updating(&mut self, now: Instant, event: KeeperEvent) -> Option<Vec<KeeperAction>> {
        let todo = match (self.state, event) {
            (KeeperState::Running(old), KeeperEvent::Update) => {
                self.policy.ready?;
                self.state =
                    KeeperState::Updating { old, next: None, until: clock::after(now, self.policy.update) };
                self.begin_update();
                self.runs += 1;
                vec![KeeperAction::StartNext]
            }
            (KeeperState::Updating { old, next: None, until }, KeeperEvent::NextStarted(new)) => {
                self.state = KeeperState::Updating { old, next: Some(new), until };
                vec![]
            }
            (KeeperState::Updating { old, .. }, KeeperEvent::NextNotStarted) => {
                self.undo(old, "it could not be started")
            }
            (KeeperState::Updating { old, .. }, KeeperEvent::NextExited(_)) => {
                self.undo(old, "it ended before it served")
            }
            (KeeperState::Updating { old, until, .. }, KeeperEvent::Time) if now >= until => {
                self.undo(old, "it did not serve in time")
            }
            (KeeperState::Updating { old, next: Some(new), .. }, KeeperEvent::Ready) => {
                self.decide_update(ChangeOutcome::Done);
                let drain = self.policy.drain;
                let until = drain.map_or_else(|| self.stop_limit(now), |limit| end(now, limit));
                self.state = KeeperState::Replacing { old, next: new, until, told: drain.is_none() };
                vec![
                    KeeperAction::Promote(new),
                    drain
                        .map_or(KeeperAction::Terminate(old), |limit| KeeperAction::Drain(old, bound(limit))),
                ]
            }
            // The old one is gone by itself: the next one is all that there is, and is still to serve.
            (KeeperState::Updating { old, next: Some(new), until }, KeeperEvent::Exited(exit)) => {
                self.last_exit = Some(exit);
                self.last_start = Some(now);
                self.state = KeeperState::Readying(new, until);
                vec![KeeperAction::Promote(new), KeeperAction::KillOne(old)]
            }
            (KeeperState::Updating { old, next, .. }, KeeperEvent::Stop | KeeperEvent::Restart) => {
                let why = if event == KeeperEvent::Stop { STOPPED } else { OVERTAKEN };
                self.decide_update(ChangeOutcome::Failed(why));
                let until = self.stop_limit(now);
                self.state = KeeperState::Stopping {
                    who: old,
                    until,
                    next: if event == KeeperEvent::Stop { Next::Finish } else { Next::Start },
                };
                next.map(KeeperAction::KillOne).into_iter().chain([KeeperAction::Terminate(old)]).collect()
            }
            (KeeperState::Replacing { old, next: new, told: false, .. }, KeeperEvent::Drained) => {
                self.retire(now, old, new)
            }
            (
                KeeperState::Replacing { old, next: new, until: Some(until), told: false },
                KeeperEvent::Time,
            ) if now >= until => self.retire(now, old, new),
            (
                KeeperState::Replacing { old, next: new, until: Some(until), told: true },
                KeeperEvent::Time,
            ) if now >= until => {
                let (later, todo) = match self.grace.take() {
                    Some(grace) => (now + grace, KeeperAction::AbortOne(old)),
                    None => (now + AGAIN, KeeperAction::KillOne(old)),
                };
                self.state = KeeperState::Replacing { old, next: new, until: Some(later), told: true };
                vec![todo]
            }
            (KeeperState::Replacing { old, next: new, .. }, KeeperEvent::Exited(_)) => {
                (self.state, self.grace) = (KeeperState::Running(new), None);
                let mut todo = vec![KeeperAction::KillOne(old)];
                // What was asked for while the old one finished its work.
                if self.restarting() {
                    todo.extend(self.step(now, KeeperEvent::Restart));
                }
                todo
            }
            (KeeperState::Replacing { old, .. }, KeeperEvent::NextExited(exit)) => {
                self.last_exit = Some(exit);
                let until = self.stop_limit(now);
                self.state = KeeperState::Stopping { who: old, until, next: Next::Start };
                vec![KeeperAction::Terminate(old)]
            }
            (KeeperState::Replacing { old, next: new, .. }, KeeperEvent::Stop) => {
                let until = self.stop_limit(now);
                self.state = KeeperState::Stopping { who: new, until, next: Next::Finish };
                vec![KeeperAction::KillOne(old), KeeperAction::Terminate(new)]
            }
            (KeeperState::Updating { .. } | KeeperState::Replacing { .. }, _) => vec![],
            _ => return None,
        };
        Some(todo)
    }

    fn undo(&mut self, old: Identity, why: &'static str) -> Vec<KeeperAction> {
        let next = if let KeeperState::Updating { next, .. } = self.state { next } else { None };
        self.decide_update(ChangeOutcome::Failed(why));
        self.state = KeeperState::Running(old);
        next.map(KeeperAction::KillOne).into_iter().collect()
    }

    fn retire(&mut self, now: Instant, old: Identity, new: Identity) -> Vec<KeeperAction> {
        let until = self.stop_limit(now);
        self.state = KeeperState::Replacing { old, next: new, until, told: true };
        vec![KeeperAction::Terminate(old)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::keeper::{Policy, RestartPolicy};
    use crate::sys::child::Exit;
    use crate::sys::process::{Pid, Start};
    use std::time::Duration;

    fn who(pid: i32) -> Identity {
        Identity { pid: Pid::new(pid).unwrap(), start: Start(1) }
    }

    fn outcome(keeper: &Keeper) -> Option<(u32, ChangeOutcome)> {
        keeper.changes().last().map(|change| (change.number, change.outcome))
    }

    /// A keeper that is in the middle of an update from 7 to 8.
    fn updating(now: Instant, drain: Option<Duration>) -> Keeper {
        let seconds = Duration::from_secs;
        let (throttle, exit_timeout, backoff, healthy_after) =
            (seconds(1), seconds(5), seconds(0), seconds(60));
        let mut keeper = Keeper::new(Policy {
            restart: RestartPolicy::Always,
            start_at_once: true,
            throttle,
            exit_timeout,
            kill_grace: None,
            backoff,
            healthy_after,
            drain,
            ready: Some(seconds(60)),
            update: seconds(10),
        });
        keeper.handle(now, KeeperEvent::Begin);
        keeper.handle(now, KeeperEvent::Started(who(7)));
        assert_eq!(keeper.handle(now, KeeperEvent::Update), []);
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(keeper.handle(now, KeeperEvent::Update), [KeeperAction::StartNext]);
        assert_eq!(keeper.handle(now, KeeperEvent::NextStarted(who(8))), []);
        assert_eq!(outcome(&keeper), Some((1, ChangeOutcome::Open)));
        keeper
    }

    /// It waits for the old one, which finishes its work; and whoever asked hears what came of it.
    #[test]
    fn a_restart_that_is_asked_for_while_the_old_one_goes_is_done_after_it() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(keeper.handle(now, KeeperEvent::Restart), []);
        assert_eq!((outcome(&keeper), keeper.restarting()), (Some((2, ChangeOutcome::Open)), true));
        assert_eq!(
            keeper.handle(now, KeeperEvent::Exited(Exit::Code(0))),
            [KeeperAction::KillOne(who(7)), KeeperAction::Terminate(who(8))]
        );
        keeper.handle(now, KeeperEvent::Exited(Exit::Code(0)));
        assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Start]);
        keeper.handle(now, KeeperEvent::Started(who(9)));
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(outcome(&keeper), Some((2, ChangeOutcome::Done)));
        assert_eq!(keeper.state(), KeeperState::Running(who(9)));
    }

    #[test]
    fn the_old_one_goes_when_the_next_one_serves() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Ready),
            [KeeperAction::Promote(who(8)), KeeperAction::Terminate(who(7))]
        );
        assert_eq!(outcome(&keeper), Some((1, ChangeOutcome::Done)));
        assert_eq!(
            keeper.handle(now + Duration::from_secs(5), KeeperEvent::Time),
            [KeeperAction::KillOne(who(7))]
        );
        assert_eq!(keeper.handle(now, KeeperEvent::Exited(Exit::Signal(9))), [KeeperAction::KillOne(who(7))]);
        assert_eq!(keeper.state(), KeeperState::Running(who(8)));
        // What it has begun is finished first.
        let mut keeper = updating(now, Some(Duration::from_secs(30)));
        assert_eq!(
            keeper.handle(now, KeeperEvent::Ready),
            [KeeperAction::Promote(who(8)), KeeperAction::Drain(who(7), Some(Duration::from_secs(30)))]
        );
        assert_eq!(keeper.handle(now, KeeperEvent::Drained), [KeeperAction::Terminate(who(7))]);
        keeper.handle(now, KeeperEvent::Exited(Exit::Code(0)));
        assert_eq!(keeper.state(), KeeperState::Running(who(8)));
    }

    #[test]
    fn the_old_one_stays_when_the_next_one_does_not_serve() {
        let now = Instant::now();
        for (event, late) in [(KeeperEvent::NextExited(Exit::Code(1)), 0), (KeeperEvent::Time, 10)] {
            let mut keeper = updating(now, None);
            assert_eq!(
                keeper.handle(now + Duration::from_secs(late), event),
                [KeeperAction::KillOne(who(8))],
                "{event:?}"
            );
            assert_eq!(keeper.state(), KeeperState::Running(who(7)));
            assert!(matches!(outcome(&keeper), Some((1, ChangeOutcome::Failed(_)))));
            assert_eq!(keeper.handle(now, KeeperEvent::Update), [KeeperAction::StartNext]);
        }
    }

    /// Each has its own number and outcome, and none is taken for that of another.
    #[test]
    fn a_restart_that_is_asked_for_during_an_update_never_speaks_for_it() {
        let now = Instant::now();
        let outcomes = |keeper: &Keeper| {
            keeper.changes().iter().map(|change| (change.number, change.outcome.word())).collect::<Vec<_>>()
        };
        // It waits, and the update fails by itself.
        let mut keeper = updating(now, None);
        assert_eq!(keeper.plan_restart(), 2);
        keeper.handle(now, KeeperEvent::NextExited(Exit::Code(1)));
        assert_eq!(outcomes(&keeper), [(1, "failed"), (2, "open")]);
        keeper.handle(now, KeeperEvent::Restart);
        assert_eq!(outcomes(&keeper), [(1, "failed"), (2, "open")]);
        keeper.handle(now, KeeperEvent::Exited(Exit::Code(0)));
        keeper.handle(now, KeeperEvent::Swept);
        keeper.handle(now, KeeperEvent::Started(who(9)));
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(outcomes(&keeper), [(1, "failed"), (2, "done")]);
        // It is done at once: then the update has come to nothing, and nothing is said of the restart yet.
        let mut keeper = updating(now, None);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Restart),
            [KeeperAction::KillOne(who(8)), KeeperAction::Terminate(who(7))]
        );
        assert_eq!(outcomes(&keeper), [(1, "failed"), (2, "open")]);
        // One that waited before is one with an update that succeeds, and outlasts one that does not.
        for (event, first) in [(KeeperEvent::Ready, "done"), (KeeperEvent::NextExited(Exit::Code(1)), "open")]
        {
            let mut keeper = updating(now, None);
            keeper.handle(now, KeeperEvent::NextExited(Exit::Code(1)));
            assert_eq!(keeper.plan_restart(), 2);
            keeper.handle(now, KeeperEvent::Update);
            keeper.handle(now, KeeperEvent::NextStarted(who(9)));
            assert_eq!(keeper.plan_restart(), 4);
            keeper.handle(now, event);
            assert_eq!((outcomes(&keeper)[1], outcomes(&keeper)[3]), ((2, first), (4, "open")));
        }
        // The old life dies by itself: the update is decided by whether the next one comes to serve.
        let mut keeper = updating(now, None);
        keeper.handle(now, KeeperEvent::Exited(Exit::Code(1)));
        assert_eq!(outcomes(&keeper), [(1, "open")]);
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(outcomes(&keeper), [(1, "done")]);
        // A life that dies before it serves, and is started again without a pause, was not it either.
        keeper.policy.throttle = Duration::ZERO;
        keeper.handle(now, KeeperEvent::Restart);
        for outcome in ["open", "failed"] {
            keeper.handle(now, KeeperEvent::Exited(Exit::Code(1)));
            assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Start]);
            assert_eq!(outcomes(&keeper), [(1, "done"), (2, outcome)]);
            keeper.handle(now, KeeperEvent::Started(who(10)));
        }
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(outcomes(&keeper), [(1, "done"), (2, "failed")]);
        // Many are asked for: those that are open are never forgotten.
        for number in 3..100 {
            assert_eq!(keeper.handle(now, KeeperEvent::Update), [KeeperAction::StartNext]);
            assert_eq!(outcomes(&keeper).last(), Some(&(number, "open")));
            keeper.handle(now, KeeperEvent::NextNotStarted);
        }
        assert!(outcomes(&keeper).len() < 20);
    }

    #[test]
    fn a_stop_or_a_death_in_between_leaves_nobody_behind() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Stop),
            [KeeperAction::KillOne(who(8)), KeeperAction::Terminate(who(7))]
        );
        let mut keeper = updating(now, None);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Exited(Exit::Code(1))),
            [KeeperAction::Promote(who(8)), KeeperAction::KillOne(who(7))]
        );
        assert!(matches!(keeper.state(), KeeperState::Readying(new, _) if new == who(8)));
        let mut keeper = updating(now, None);
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(
            keeper.handle(now, KeeperEvent::Stop),
            [KeeperAction::KillOne(who(7)), KeeperAction::Terminate(who(8))]
        );
        let mut keeper = updating(now, None);
        keeper.handle(now, KeeperEvent::Ready);
        assert_eq!(
            keeper.handle(now, KeeperEvent::NextExited(Exit::Code(1))),
            [KeeperAction::Terminate(who(7))]
        );
        keeper.handle(now, KeeperEvent::Exited(Exit::Code(0)));
        assert_eq!(keeper.handle(now, KeeperEvent::Swept), [KeeperAction::Start]);
    }
}
