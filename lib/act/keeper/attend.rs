//! The loop around a keeper: signals, the control socket, time; and the effects that it asks for.

mod asked;
mod draining;
mod ending;
mod health;
mod outcome;
mod report;
mod spawn;

use draining::DrainProgress;
use ending::{FailureWatch, StopGuard};
use health::LifeHealth;
use outcome::ChangeReport;

use super::control;
use super::hooks::RunningHooks;
use super::lives::KeptLives;
use super::lockfile::Taken;
use super::place::{KeeperPlace, PlaceState};
use super::request::{KeeperRequest, ListenRequest, SCHEMA};
use super::schedule::Schedule;
use super::stability::RecentEvents;
use super::{Keeper, KeeperAction, KeeperEvent, KeeperState};
use crate::life::Wall;
use crate::sys::child::{self, Exit};
use crate::sys::lines::Lines;
use crate::sys::poll::{self, For};
use crate::sys::process::Pid;
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Signals that are the keeper's own, or the command's when the keeper gets them. Of a first process they all
/// are.
const CAUGHT: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// When a life has lasted so long, memory that its start has needed is given back.
const CALM: Duration = Duration::from_millis(200);

/// How keeping ended.
#[derive(Debug)]
pub struct KeeperEnd {
    /// The status to end with.
    pub status: Status,
    /// The last state, in JSON.
    pub json: Value,
}

/// Keeps the command until a signal or a request stops it, or the policy says that it is over.
///
/// # Errors
/// 75 when another keeper has the label; 74, 77, 78 when the state cannot be kept, or an address cannot be
/// listened on.
pub fn attend(request: &KeeperRequest, voice: &Voice) -> Result<KeeperEnd> {
    let cannot = |cause: std::io::Error| Error::io("cannot keep a command", &cause);
    let signals = Signals::catch(&CAUGHT).map_err(cannot)?;
    if Pid::own().number() == 1 {
        signals.catch_all().map_err(cannot)?;
    }
    let mut place = match KeeperPlace::take(request, &signals)? {
        Taken::Held(place) => place,
        Taken::Signal(signal) => {
            return Ok(KeeperEnd {
                status: Status::Signal(signal as u8),
                json: json!({ "schema": SCHEMA, "state": "finished" }),
            });
        }
    };
    let mut lives = KeptLives::new(place.key(), child::adopt_orphans(), request.stop_signal);
    lives.record(&place.records(), voice);
    lives.clear_leftovers(name(request), request.policy.exit_timeout, voice)?;
    let failures = FailureWatch::open(request.give_up.clone())?;
    let sockets = request.listen.iter().map(ListenRequest::bind).collect::<Result<_>>()?;
    if let Some(label) = &mut place.label {
        label.listen()?;
    }
    let mut keeper_loop = KeeperLoop {
        request,
        voice,
        keeper: Keeper::new(request.policy.clone()),
        place,
        lives,
        sockets,
        health: LifeHealth::default(),
        drain: DrainProgress::default(),
        changes: ChangeReport::new(),
        stop: StopGuard::new(&request.supervisor, request.stop_signal),
        hooks: RunningHooks::new()?,
        failures,
        schedule: Schedule::new(request.cooldown),
        story: RecentEvents::new(),
        finished: false,
        touched: Some(Instant::now()),
    };
    keeper_loop.run(&signals)?;
    keeper_loop.leave(&signals);
    keeper_loop.end()
}

fn name(request: &KeeperRequest) -> &str {
    request.label.as_deref().unwrap_or("command")
}

/// The event loop of one keeper: what happens is handed to the part that it concerns, and the state machine
/// says what follows.
struct KeeperLoop<'a> {
    request: &'a KeeperRequest,
    voice: &'a Voice,
    keeper: Keeper,
    place: KeeperPlace,
    lives: KeptLives,
    /// Those of `--listen`, each with its name.
    sockets: Vec<(String, Arc<OwnedFd>)>,
    health: LifeHealth,
    drain: DrainProgress,
    changes: ChangeReport,
    stop: StopGuard,
    hooks: RunningHooks,
    failures: FailureWatch,
    schedule: Schedule,
    story: RecentEvents,
    finished: bool,
    /// Since when memory may be given back that a start has touched.
    touched: Option<Instant>,
}

impl KeeperLoop<'_> {
    fn run(&mut self, signals: &Signals) -> Result<()> {
        self.happen(KeeperEvent::Begin);
        self.publish();
        while !self.finished {
            let published = (self.keeper.state(), self.keeper.runs());
            for number in signals.take_numbers() {
                self.signal(number);
            }
            for (pid, exit) in child::reap() {
                self.reaped(pid, exit);
            }
            self.serve();
            self.look_at_place();
            // What is late by then has been asked why.
            let asked = Instant::now();
            self.health();
            self.on_time();
            self.drain_progress();
            self.tell_after_abort();
            self.happen_at(asked, KeeperEvent::Time);
            if self.paths_hold() && self.keeper.state() == KeeperState::Idle {
                self.happen(KeeperEvent::Paths);
            }
            if matches!(self.keeper.state(), KeeperState::Sweeping(..)) && self.lives.are_over() {
                self.lives.forget_all();
                self.happen(KeeperEvent::Swept);
            }
            self.parked();
            self.guard();
            self.settled();
            if (self.keeper.state(), self.keeper.runs()) != published {
                self.publish();
            }
            if !self.finished {
                self.sleep(signals)?;
            }
        }
        Ok(())
    }

    /// Answers whoever asks over the socket.
    fn serve(&mut self) {
        let Some(mut control) = self.place.label.as_mut().and_then(|label| label.control.take()) else {
            return;
        };
        control.serve(&mut |line| control::answer(line, &mut |request| self.request(request)));
        if let Some(label) = &mut self.place.label {
            label.control = Some(control);
        }
    }

    /// Looks now and then whether the lock and the socket are still there for others to find.
    fn look_at_place(&mut self) {
        if self.stop.lost.is_none() && self.place.due().is_some_and(|due| Instant::now() >= due) {
            self.keep_place();
            // What the look has touched is given back at once; a life that has just started has its time.
            self.touched = self.touched.or_else(|| Instant::now().checked_sub(CALM));
        }
    }

    /// Makes again what others have removed; where another keeper has taken its place, this one ends. Whether
    /// it is still ours.
    fn keep_place(&mut self) -> bool {
        match self.place.look(self.voice) {
            PlaceState::Kept if self.lives.are_recorded() => true,
            PlaceState::Kept | PlaceState::Remade => {
                self.record_anew();
                self.publish();
                true
            }
            PlaceState::Lost(error) => {
                self.voice.warn(format!("{}: another keeper has its place; ending", name(self.request)));
                self.stop.lost = Some(error);
                self.stop_now();
                false
            }
        }
    }

    fn record_anew(&mut self) {
        self.lives.record(&self.place.records(), self.voice);
        self.lives.note_all(self.voice);
    }

    fn reaped(&mut self, pid: Pid, exit: Exit) {
        match self.keeper.state() {
            KeeperState::Updating { next: Some(next), .. } | KeeperState::Replacing { next, .. }
                if next.pid == pid =>
            {
                self.voice.note(format!("{}: the next life {exit}", name(self.request)));
                self.happen(KeeperEvent::NextExited(exit));
            }
            KeeperState::Updating { old, .. } | KeeperState::Replacing { old, .. } if old.pid == pid => {
                self.forget_drain();
                self.happen(KeeperEvent::Exited(exit));
            }
            _ if self.lives.main().is_some_and(|main| main.pid == pid) => {
                self.lives.died(pid);
                self.ended(exit);
            }
            _ => {}
        }
    }

    fn sleep(&mut self, signals: &Signals) -> Result<()> {
        let control = self.place.label.as_ref().and_then(|label| label.control.as_ref());
        let mut fds = vec![(signals.fd(), For::Reading), (self.hooks.fd(), For::Reading)];
        fds.extend(control.map(Lines::fds).unwrap_or_default());
        fds.extend(self.drain.fd().into_iter().chain(self.health.fds()).map(|fd| (fd, For::Reading)));
        let times = [
            self.keeper.wake(),
            control.and_then(Lines::wake),
            self.restart_due(),
            self.health.wake(),
            self.sign_due(),
            self.notice_due(),
            self.place.due().filter(|_| self.stop.lost.is_none()),
        ];
        let mut until = times.into_iter().flatten().min();
        let mut at_most = |pause: u64| {
            let then = Instant::now() + Duration::from_millis(pause);
            until = Some(until.map_or(then, |until| until.min(then)));
        };
        // What the main process left behind may be no child of ours, so nothing tells us when it is gone.
        if matches!(self.keeper.state(), KeeperState::Sweeping(..)) {
            at_most(5);
        }
        if !self.request.recipe.paths().is_empty() {
            at_most(1000);
        }
        // What a start has touched is given back once a life has lasted a moment; not while it may be the
        // first of many.
        let calm = self.touched.map(|since| since + CALM);
        let is_calm = calm.is_some_and(|calm| Instant::now() >= calm);
        let ready = if is_calm {
            poll::wait_long(&fds, until)
        } else {
            poll::wait(&fds, until.into_iter().chain(calm).min())
        };
        if is_calm {
            self.touched = None;
        }
        ready.map(drop).map_err(|cause| Error::io("cannot wait", &cause))
    }

    fn happen(&mut self, event: KeeperEvent) {
        self.happen_at(Instant::now(), event);
    }

    fn happen_at(&mut self, now: Instant, event: KeeperEvent) {
        let (mut queue, mut first) = (vec![event], Some(now));
        while let Some(event) = queue.pop() {
            for todo in self.keeper.handle(first.take().unwrap_or_else(Instant::now), event) {
                match todo {
                    KeeperAction::Start => queue.push(self.start()),
                    KeeperAction::StartNext => queue.push(self.start_next()),
                    KeeperAction::Promote(who) => self.lives.promote(who),
                    KeeperAction::KillOne(who) => self.lives.kill_one(who),
                    KeeperAction::Drain(who, limit) => queue.extend(self.begin_drain(who, limit)),
                    KeeperAction::Terminate(who) => {
                        if !self.cut_drain(who) {
                            Wall::tell(&[who], self.stop.signal);
                        }
                    }
                    // The stop signal is the main process's way to end; a job in the background of a
                    // shell ignores INT and QUIT.
                    KeeperAction::TerminateRest => self.lives.tell_rest(Signal::SIGTERM),
                    KeeperAction::Abort => self.abort(None),
                    KeeperAction::AbortOne(who) => self.abort(Some(who)),
                    KeeperAction::Kill => self.kill(),
                    KeeperAction::Finish => self.finished = true,
                }
            }
        }
    }

    fn paths_hold(&self) -> bool {
        self.request.recipe.paths().iter().any(|(path, wanted)| path.exists() == *wanted)
    }
}
