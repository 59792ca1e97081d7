//! An update that can be undone: the next life is started beside the one that serves, and takes over only
//! when it serves itself. Until then the old one stays; if the next one dies or is late, it was never there.

use crate::act::keeper::change::{OVERTAKEN, Outcome};
use crate::act::keeper::{Do, Event, Keeper, Next, State, bound, end};
use crate::sys::clock;
use crate::sys::process::Identity;
use std::time::{Duration, Instant};

impl Keeper {
    /// Takes what concerns an update; `None` for all else.
    pub(super) fn updating(&mut self, now: Instant, event: Event) -> Option<Vec<Do>> {
        let todo = match (self.state, event) {
            (State::Running(old), Event::Update) => {
                self.policy.ready?;
                self.state = State::Updating(old, None, clock::after(now, self.policy.update));
                self.begin_update();
                self.runs += 1;
                vec![Do::StartNext]
            }
            (State::Updating(old, None, until), Event::NextStarted(new)) => {
                self.state = State::Updating(old, Some(new), until);
                vec![]
            }
            (State::Updating(old, ..), Event::NextNotStarted) => self.undo(old, "it could not be started"),
            (State::Updating(old, ..), Event::NextExited(_)) => self.undo(old, "it ended before it served"),
            (State::Updating(old, _, until), Event::Time) if now >= until => {
                self.undo(old, "it did not serve in time")
            }
            (State::Updating(old, Some(new), _), Event::Ready) => {
                self.decided(Outcome::Done);
                let drain = self.policy.drain;
                self.state = State::Replacing(
                    old,
                    new,
                    drain.map_or_else(|| self.limit(now), |limit| end(now, limit)),
                    drain.is_none(),
                );
                vec![Do::Promote(new), drain.map_or(Do::Terminate(old), |limit| Do::Drain(old, bound(limit)))]
            }
            // The old one is gone by itself: the next one is all that there is.
            (State::Updating(old, Some(new), until), Event::Exited(exit)) => {
                self.last_exit = Some(exit);
                self.last_start = Some(now);
                self.decided(Outcome::Done);
                self.state = State::Readying(new, until);
                vec![Do::Promote(new), Do::KillOne(old)]
            }
            (State::Updating(old, next, _), Event::Stop | Event::Restart) => {
                self.decided(Outcome::Failed(OVERTAKEN));
                let until = self.limit(now);
                self.state = State::Stopping(
                    old,
                    until,
                    if event == Event::Stop { Next::Finish } else { Next::Start },
                );
                next.map(Do::KillOne).into_iter().chain([Do::Terminate(old)]).collect()
            }
            (State::Replacing(old, new, _, false), Event::Drained) => self.retire(now, old, new),
            (State::Replacing(old, new, Some(until), false), Event::Time) if now >= until => {
                self.retire(now, old, new)
            }
            (State::Replacing(old, new, Some(until), true), Event::Time) if now >= until => {
                self.state = State::Replacing(old, new, Some(now + Duration::from_millis(100)), true);
                vec![Do::KillOne(old)]
            }
            (State::Replacing(old, new, ..), Event::Exited(_)) => {
                self.state = State::Running(new);
                vec![Do::KillOne(old)]
            }
            (State::Replacing(old, ..), Event::NextExited(exit)) => {
                self.last_exit = Some(exit);
                let until = self.limit(now);
                self.state = State::Stopping(old, until, Next::Start);
                vec![Do::Terminate(old)]
            }
            (State::Replacing(old, new, ..), Event::Stop) => {
                let until = self.limit(now);
                self.state = State::Stopping(new, until, Next::Finish);
                vec![Do::KillOne(old), Do::Terminate(new)]
            }
            (State::Updating(..) | State::Replacing(..), _) => vec![],
            _ => return None,
        };
        Some(todo)
    }

    fn undo(&mut self, old: Identity, why: &'static str) -> Vec<Do> {
        let next = if let State::Updating(_, next, _) = self.state { next } else { None };
        self.decided(Outcome::Failed(why));
        self.state = State::Running(old);
        next.map(Do::KillOne).into_iter().collect()
    }

    fn retire(&mut self, now: Instant, old: Identity, new: Identity) -> Vec<Do> {
        self.state = State::Replacing(old, new, self.limit(now), true);
        vec![Do::Terminate(old)]
    }

    fn limit(&self, now: Instant) -> Option<Instant> {
        end(now, self.policy.exit_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::keeper::{Policy, Restart};
    use crate::sys::child::Exit;
    use crate::sys::process::{Pid, Start};

    fn who(pid: i32) -> Identity {
        Identity { pid: Pid::new(pid).unwrap(), start: Start(1) }
    }

    fn outcome(keeper: &Keeper) -> Option<(u32, Outcome)> {
        keeper.change().map(|change| (change.number, change.outcome))
    }

    /// A keeper that is in the middle of an update from 7 to 8.
    fn updating(now: Instant, drain: Option<Duration>) -> Keeper {
        let seconds = Duration::from_secs;
        let (throttle, exit_timeout, backoff, healthy_after) =
            (seconds(1), seconds(5), seconds(0), seconds(60));
        let mut keeper = Keeper::new(Policy {
            restart: Restart::Always,
            start_at_once: true,
            throttle,
            exit_timeout,
            backoff,
            healthy_after,
            drain,
            ready: Some(seconds(60)),
            update: seconds(10),
        });
        keeper.handle(now, Event::Begin);
        keeper.handle(now, Event::Started(who(7)));
        assert_eq!(keeper.handle(now, Event::Update), []);
        keeper.handle(now, Event::Ready);
        assert_eq!(keeper.handle(now, Event::Update), [Do::StartNext]);
        assert_eq!(keeper.handle(now, Event::NextStarted(who(8))), []);
        assert_eq!(outcome(&keeper), Some((1, Outcome::Open)));
        keeper
    }

    #[test]
    fn the_old_one_goes_when_the_next_one_serves() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(keeper.handle(now, Event::Ready), [Do::Promote(who(8)), Do::Terminate(who(7))]);
        assert_eq!(outcome(&keeper), Some((1, Outcome::Done)));
        assert_eq!(keeper.handle(now + Duration::from_secs(5), Event::Time), [Do::KillOne(who(7))]);
        assert_eq!(keeper.handle(now, Event::Exited(Exit::Signal(9))), [Do::KillOne(who(7))]);
        assert_eq!(keeper.state(), State::Running(who(8)));
        // What it has begun is finished first.
        let mut keeper = updating(now, Some(Duration::from_secs(30)));
        assert_eq!(
            keeper.handle(now, Event::Ready),
            [Do::Promote(who(8)), Do::Drain(who(7), Some(Duration::from_secs(30)))]
        );
        assert_eq!(keeper.handle(now, Event::Drained), [Do::Terminate(who(7))]);
        keeper.handle(now, Event::Exited(Exit::Code(0)));
        assert_eq!(keeper.state(), State::Running(who(8)));
    }

    #[test]
    fn the_old_one_stays_when_the_next_one_does_not_serve() {
        let now = Instant::now();
        for (event, late) in [(Event::NextExited(Exit::Code(1)), 0), (Event::Time, 10)] {
            let mut keeper = updating(now, None);
            assert_eq!(
                keeper.handle(now + Duration::from_secs(late), event),
                [Do::KillOne(who(8))],
                "{event:?}"
            );
            assert_eq!(keeper.state(), State::Running(who(7)));
            assert!(matches!(outcome(&keeper), Some((1, Outcome::Failed(_)))));
            assert_eq!(keeper.handle(now, Event::Update), [Do::StartNext]);
        }
    }

    #[test]
    fn a_stop_or_a_death_in_between_leaves_nobody_behind() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(keeper.handle(now, Event::Stop), [Do::KillOne(who(8)), Do::Terminate(who(7))]);
        let mut keeper = updating(now, None);
        assert_eq!(
            keeper.handle(now, Event::Exited(Exit::Code(1))),
            [Do::Promote(who(8)), Do::KillOne(who(7))]
        );
        assert!(matches!(keeper.state(), State::Readying(new, _) if new == who(8)));
        let mut keeper = updating(now, None);
        keeper.handle(now, Event::Ready);
        assert_eq!(keeper.handle(now, Event::Stop), [Do::KillOne(who(7)), Do::Terminate(who(8))]);
        let mut keeper = updating(now, None);
        keeper.handle(now, Event::Ready);
        assert_eq!(keeper.handle(now, Event::NextExited(Exit::Code(1))), [Do::Terminate(who(7))]);
        keeper.handle(now, Event::Exited(Exit::Code(0)));
        assert_eq!(keeper.handle(now, Event::Swept), [Do::Start]);
    }
}
