//! The loop around a keeper: signals, the control socket, time; and the effects that it asks for.

mod asked;
mod ending;
mod health;
mod report;
mod spawn;

use health::LifeHealth;

use super::control;
use super::drain::Draining;
use super::failure_log::FailureLog;
use super::lockfile::{Held, Taken};
use super::notify::Notify;
use super::request::{KeeperRequest, SCHEMA};
use super::runtime_directory::{RuntimeDirectory, clear, identities};
use super::schedule::Schedule;
use super::stability::RecentEvents;
use super::supervisor::Allowance;
use super::watchdog::Watchdog;
use super::{Keeper, KeeperAction, KeeperEvent, KeeperState};
use crate::life;
use crate::sys::child::{self, Exit};
use crate::sys::lines::Lines;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
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
/// 75 when another keeper has the label; 74, 77, 78 when the state cannot be kept.
pub fn attend(request: &KeeperRequest, voice: &Voice) -> Result<KeeperEnd> {
    let cannot = |cause: std::io::Error| Error::io("cannot keep a command", &cause);
    let signals = Signals::catch(&CAUGHT).map_err(cannot)?;
    if Pid::own().number() == 1 {
        signals.catch_all().map_err(cannot)?;
    }
    let held = match request.lock.as_ref().map(|lock| lock.take(&signals)).transpose()? {
        Some(Taken::Signal(signal)) => {
            return Ok(KeeperEnd {
                status: Status::Signal(signal as u8),
                json: json!({ "schema": SCHEMA, "state": "finished" }),
            });
        }
        Some(Taken::Held(held)) => Some(held),
        None => None,
    };
    let runtime = match &request.label {
        Some(label) => Some(RuntimeDirectory::open(label)?),
        None => None,
    };
    let adopts = child::adopt_orphans();
    if let Some(runtime) = &runtime {
        runtime.clear_predecessor(request.policy.exit_timeout, voice);
    }
    for left in held.iter().filter_map(|held| held.left.as_ref()).flat_map(identities) {
        clear(left, "command", request.policy.exit_timeout, voice);
    }
    let failure_log = request.give_up.clone().map(FailureLog::open);
    if let Some(failure_log) = failure_log.as_ref().filter(|failure_log| failure_log.tripped()) {
        return Err(Error::new(Status::BadConfig, format!("cannot keep it: {}", failure_log.words())));
    }
    let control = match &runtime {
        Some(runtime) => Some(Lines::listen(&runtime.paths.control())?),
        None => None,
    };
    let mut keeper_loop = KeeperLoop {
        request,
        voice,
        runtime,
        keeper: Keeper::new(request.policy.clone()),
        main: None,
        last_main: None,
        spared: Vec::new(),
        not_started: None,
        finished: false,
        held,
        adopts,
        draining: None,
        drain_begun: None,
        drain_told: 0,
        health: LifeHealth::default(),
        notify: None,
        failure_log,
        gave_up: false,
        reason: None,
        story: RecentEvents::new(),
        schedule: Schedule::new(request.cooldown),
        allowance: Allowance::ask(&request.supervisor),
        watchdog: None,
        fired: Arc::default(),
        guarded: 0,
        not_serving: String::new(),
        was_parked: false,
        left_for_restart: false,
        changing: (0, Instant::now()),
        told: 0,
        hooks: Vec::new(),
        killing: false,
        touched: Some(Instant::now()),
    };
    keeper_loop.run(&signals, control)?;
    keeper_loop.leave();
    Ok(KeeperEnd { status: keeper_loop.status(), json: keeper_loop.status_json(keeper_loop.keeper.state()) })
}

/// One life of a keeper.
struct KeeperLoop<'a> {
    request: &'a KeeperRequest,
    voice: &'a Voice,
    runtime: Option<RuntimeDirectory>,
    keeper: Keeper,
    main: Option<Identity>,
    last_main: Option<Identity>,
    spared: Vec<Pid>,
    not_started: Option<Error>,
    finished: bool,
    held: Option<Held>,
    /// Whether orphans of the command become our children.
    adopts: bool,
    draining: Option<Draining>,
    /// Since when the process drains that does, and how often that was told.
    drain_begun: Option<(Instant, Identity)>,
    drain_told: u32,
    health: LifeHealth,
    /// Where the life that is being started tells of itself, and its process.
    notify: Option<(Pid, Notify)>,
    failure_log: Option<FailureLog>,
    gave_up: bool,
    /// Why it was restarted last, for the next life.
    reason: Option<String>,
    story: RecentEvents,
    schedule: Schedule,
    allowance: Allowance,
    watchdog: Option<Watchdog>,
    /// Whether it has begun to end us.
    fired: Arc<AtomicBool>,
    /// For which part of an end the watchdog is armed.
    guarded: u8,
    /// Why the last life that did not come to serve did not, as far as is known.
    not_serving: String,
    was_parked: bool,
    /// Whether we end because a supervisor restarts us.
    left_for_restart: bool,
    /// The last change, and since when it is made.
    changing: (u32, Instant),
    /// The last change whose outcome was told.
    told: u32,
    hooks: Vec<JoinHandle<()>>,
    /// Whether it was told that what stops now is killed.
    killing: bool,
    /// Since when memory may be given back that a start has touched.
    touched: Option<Instant>,
}

impl KeeperLoop<'_> {
    fn run(&mut self, signals: &Signals, mut control: Option<Lines>) -> Result<()> {
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
            if let Some(control) = &mut control {
                control.serve(&mut |line| control::answer(line, &mut |request| self.request(request)));
            }
            self.health();
            self.on_time();
            self.drain_notice();
            if let Some(outcome) = self.draining.as_ref().and_then(Draining::over) {
                self.drained(outcome);
            }
            self.happen(KeeperEvent::Time);
            if self.paths_hold() && self.keeper.state() == KeeperState::Idle {
                self.happen(KeeperEvent::Paths);
            }
            if matches!(self.keeper.state(), KeeperState::Sweeping(..)) && self.rest().is_empty() {
                self.happen(KeeperEvent::Swept);
            }
            self.parked();
            self.guard();
            self.settled();
            if (self.keeper.state(), self.keeper.runs()) != published {
                self.publish();
            }
            if !self.finished {
                self.sleep(signals, control.as_ref())?;
            }
        }
        Ok(())
    }

    fn reaped(&mut self, pid: Pid, exit: Exit) {
        match self.keeper.state() {
            KeeperState::Updating { next: Some(next), .. } | KeeperState::Replacing { next, .. }
                if next.pid == pid =>
            {
                self.voice.note(format!("{}: the next life {exit}", self.name()));
                self.happen(KeeperEvent::NextExited(exit));
            }
            KeeperState::Updating { old, .. } | KeeperState::Replacing { old, .. } if old.pid == pid => {
                self.forget_drain();
                self.happen(KeeperEvent::Exited(exit));
            }
            _ if self.main.is_some_and(|main| main.pid == pid) => {
                self.main = None;
                self.ended(exit);
            }
            _ => {}
        }
    }

    fn sleep(&mut self, signals: &Signals, control: Option<&Lines>) -> Result<()> {
        let mut fds = vec![(signals.fd(), For::Reading)];
        fds.extend(control.map(Lines::fds).unwrap_or_default());
        fds.extend(self.draining.as_ref().map(|draining| (draining.bell.fd(), For::Reading)));
        fds.extend(self.health.fds().map(|fd| (fd, For::Reading)));
        let others = [control.and_then(Lines::wake), self.schedule.due(), self.sign_due(), self.notice_due()];
        let mut until = self.keeper.wake().into_iter().chain(others.into_iter().flatten()).min();
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
        let mut queue = vec![event];
        while let Some(event) = queue.pop() {
            for todo in self.keeper.handle(Instant::now(), event) {
                match todo {
                    KeeperAction::Start => queue.push(self.start()),
                    KeeperAction::StartNext => queue.push(self.start_next()),
                    KeeperAction::Promote(who) => (self.main, self.last_main) = (Some(who), Some(who)),
                    KeeperAction::KillOne(who) => drop(life::kill_tree(&[who], &self.spared)),
                    KeeperAction::Drain(who, limit) => queue.extend(self.drain(who, limit)),
                    KeeperAction::Terminate(who) => {
                        self.cut_drain();
                        child::signal(who, Signal::SIGTERM);
                    }
                    KeeperAction::TerminateRest => {
                        self.rest().iter().for_each(|one| child::signal(*one, Signal::SIGTERM))
                    }
                    KeeperAction::Kill => {
                        if !std::mem::replace(&mut self.killing, true) {
                            self.voice.warn(format!("{}: killing it", self.name()));
                        }
                        life::kill_tree(&self.roots(), &self.spared);
                    }
                    KeeperAction::Finish => self.finished = true,
                }
            }
        }
    }

    /// Where the tree of the command grows from: the main process, dead or alive, and ourselves, to whom its
    /// orphans fall.
    fn roots(&self) -> Vec<Identity> {
        self.last_main.into_iter().chain(Identity::of(Pid::own())).collect()
    }

    /// What is left of the command, apart from its main process.
    fn rest(&self) -> Vec<Identity> {
        if self.adopts && child::childless() {
            return Vec::new();
        }
        let spared: Vec<Pid> = self.spared.iter().copied().chain(child::helpers()).collect();
        let mut rest = life::tree(&self.roots(), &spared);
        rest.retain(|one| Some(*one) != self.main);
        rest
    }

    fn paths_hold(&self) -> bool {
        self.request.recipe.paths().iter().any(|(path, wanted)| path.exists() == *wanted)
    }

    fn name(&self) -> &str {
        self.request.label.as_deref().unwrap_or("command")
    }
}
