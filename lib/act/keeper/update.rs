//! An update that can be undone: the next life is started beside the one that serves, and takes over only when it serves itself. Until then the old
//! one stays; if the next one dies or is late, it was never there.

use crate::act::keeper::{Do, Event, Keeper, Next, State, end};
use crate::sys::clock;
use crate::sys::process::Identity;
use std::time::{Duration, Instant};

/// How an update went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is not decided.
    Open,
    /// The next life serves.
    Done,
    /// The old one goes on, and why.
    Undone(&'static str),
}

impl Keeper {
    /// The last update: its number, and how it went.
    pub fn update(&self) -> Option<(u32, Update)> {
        self.update
    }

    /// Takes what concerns an update; `None` for all else.
    pub(super) fn updating(&mut self, now: Instant, event: Event) -> Option<Vec<Do>> {
        let todo = match (self.state, event) {
            (State::Running(old), Event::Update) => {
                let limit = self.policy.ready?;
                self.state = State::Updating(old, None, clock::after(now, limit));
                self.update = Some((self.update.map_or(0, |(number, _)| number) + 1, Update::Open));
                self.runs += 1;
                vec![Do::StartNext]
            }
            (State::Updating(old, None, until), Event::NextStarted(new)) => {
                self.state = State::Updating(old, Some(new), until);
                vec![]
            }
            (State::Updating(old, ..), Event::NextNotStarted) => self.undo(old, "it could not be started"),
            (State::Updating(old, ..), Event::NextExited(_)) => self.undo(old, "it ended before it served"),
            (State::Updating(old, _, until), Event::Time) if now >= until => self.undo(old, "it did not serve in time"),
            (State::Updating(old, Some(new), _), Event::Ready) => {
                self.decided(Update::Done);
                let drain = self.policy.drain;
                self.state = State::Replacing(old, new, drain.map_or_else(|| self.limit(now), |limit| end(now, limit)), drain.is_none());
                vec![Do::Promote(new), if drain.is_some() { Do::Drain(old) } else { Do::Terminate(old) }]
            }
            // The old one is gone by itself: the next one is all that there is.
            (State::Updating(old, Some(new), until), Event::Exited(exit)) => {
                self.last_exit = Some(exit);
                self.last_start = Some(now);
                self.decided(Update::Done);
                self.state = State::Readying(new, until);
                vec![Do::Promote(new), Do::KillOne(old)]
            }
            (State::Updating(old, next, _), Event::Stop | Event::Restart) => {
                self.decided(Update::Undone("something else was asked for"));
                let until = self.limit(now);
                self.state = State::Stopping(old, until, if event == Event::Stop { Next::Finish } else { Next::Start });
                next.map(Do::KillOne).into_iter().chain([Do::Terminate(old)]).collect()
            }
            (State::Replacing(old, new, _, false), Event::Drained) => self.retire(now, old, new),
            (State::Replacing(old, new, Some(until), false), Event::Time) if now >= until => self.retire(now, old, new),
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

    fn decided(&mut self, how: Update) {
        self.update = self.update.map(|(number, _)| (number, how));
    }

    fn undo(&mut self, old: Identity, why: &'static str) -> Vec<Do> {
        let next = if let State::Updating(_, next, _) = self.state { next } else { None };
        self.decided(Update::Undone(why));
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

    /// A keeper that is in the middle of an update from 7 to 8.
    fn updating(now: Instant, drain: Option<Duration>) -> Keeper {
        let seconds = Duration::from_secs;
        let (throttle, exit_timeout, backoff, healthy_after) = (seconds(1), seconds(5), seconds(0), seconds(60));
        let mut keeper = Keeper::new(Policy {
            restart: Restart::Always,
            start_at_once: true,
            throttle,
            exit_timeout,
            backoff,
            healthy_after,
            drain,
            ready: Some(seconds(10)),
        });
        keeper.handle(now, Event::Begin);
        keeper.handle(now, Event::Started(who(7)));
        assert_eq!(keeper.handle(now, Event::Update), []);
        keeper.handle(now, Event::Ready);
        assert_eq!(keeper.handle(now, Event::Update), [Do::StartNext]);
        assert_eq!(keeper.handle(now, Event::NextStarted(who(8))), []);
        assert_eq!(keeper.update(), Some((1, Update::Open)));
        keeper
    }

    #[test]
    fn the_old_one_goes_when_the_next_one_serves() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(keeper.handle(now, Event::Ready), [Do::Promote(who(8)), Do::Terminate(who(7))]);
        assert_eq!(keeper.update(), Some((1, Update::Done)));
        assert_eq!(keeper.handle(now + Duration::from_secs(5), Event::Time), [Do::KillOne(who(7))]);
        assert_eq!(keeper.handle(now, Event::Exited(Exit::Signal(9))), [Do::KillOne(who(7))]);
        assert_eq!(keeper.state(), State::Running(who(8)));
        // What it has begun is finished first.
        let mut keeper = updating(now, Some(Duration::from_secs(30)));
        assert_eq!(keeper.handle(now, Event::Ready), [Do::Promote(who(8)), Do::Drain(who(7))]);
        assert_eq!(keeper.handle(now, Event::Drained), [Do::Terminate(who(7))]);
        keeper.handle(now, Event::Exited(Exit::Code(0)));
        assert_eq!(keeper.state(), State::Running(who(8)));
    }

    #[test]
    fn the_old_one_stays_when_the_next_one_does_not_serve() {
        let now = Instant::now();
        for (event, late) in [(Event::NextExited(Exit::Code(1)), 0), (Event::Time, 10)] {
            let mut keeper = updating(now, None);
            assert_eq!(keeper.handle(now + Duration::from_secs(late), event), [Do::KillOne(who(8))], "{event:?}");
            assert_eq!(keeper.state(), State::Running(who(7)));
            assert!(matches!(keeper.update(), Some((1, Update::Undone(_)))));
            assert_eq!(keeper.handle(now, Event::Update), [Do::StartNext]);
        }
    }

    #[test]
    fn a_stop_or_a_death_in_between_leaves_nobody_behind() {
        let now = Instant::now();
        let mut keeper = updating(now, None);
        assert_eq!(keeper.handle(now, Event::Stop), [Do::KillOne(who(8)), Do::Terminate(who(7))]);
        let mut keeper = updating(now, None);
        assert_eq!(keeper.handle(now, Event::Exited(Exit::Code(1))), [Do::Promote(who(8)), Do::KillOne(who(7))]);
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
