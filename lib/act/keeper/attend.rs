//! The loop around a keeper: signals, the control socket, time; and the effects that it asks for.

mod report;

use super::control::{self, Request};
use super::drain::{Draining, How};
use super::ledger::Ledger;
use super::lockfile::{Held, Taken};
use super::office::{Office, clear, identities};
use super::order::{Order, SCHEMA};
use super::readiness::{Asking, Notify, Ready};
use super::{Do, Event, Keeper, State};
use crate::sys::child::{self, Exit, Spec, Started};
use crate::sys::lines::Lines;
use crate::sys::memory;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span::{self, millis};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Signals that are meant for the command when the keeper gets them.
const FORWARDED: [Signal; 5] = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// How keeping ended.
#[derive(Debug)]
pub struct Ended {
    /// The status to end with.
    pub status: Status,
    /// The last state, in JSON.
    pub json: Value,
}

/// Keeps the command until a signal or a request stops it, or the policy says that it is over.
///
/// # Errors
/// 75 when another keeper has the label; 74, 77, 78 when the state cannot be kept.
pub fn attend(order: &Order, voice: &Voice) -> Result<Ended> {
    let cannot = |cause: std::io::Error| Error::io("cannot keep a command", &cause);
    let mut wanted = vec![Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT];
    wanted.extend(FORWARDED);
    let signals = Signals::catch(&wanted).map_err(cannot)?;
    let held = match order.lock.as_ref().map(|lock| lock.take(&signals)).transpose()? {
        Some(Taken::Signal(signal)) => return Ok(Ended { status: Status::Signal(signal as u8), json: json!({ "schema": SCHEMA, "state": "finished" }) }),
        Some(Taken::Held(held)) => Some(held),
        None => None,
    };
    let office = match &order.label {
        Some(label) => Some(Office::open(label)?),
        None => None,
    };
    let adopts = child::adopt_orphans();
    if let Some(office) = &office {
        office.clear_predecessor(order.policy.exit_timeout, voice);
    }
    for left in held.iter().filter_map(|held| held.left.as_ref()).flat_map(identities) {
        clear(left, "command", order.policy.exit_timeout, voice);
    }
    let ledger = order.give_up.clone().map(Ledger::open);
    if let Some(ledger) = ledger.as_ref().filter(|ledger| ledger.tripped()) {
        return Err(Error::new(Status::BadConfig, format!("cannot keep it: {}", ledger.words())));
    }
    let control = match &office {
        Some(office) => Some(Lines::listen(&office.place.control())?),
        None => None,
    };
    let mut shift = Shift {
        order,
        voice,
        office,
        keeper: Keeper::new(order.policy.clone()),
        main: None,
        last_main: None,
        spared: Vec::new(),
        not_started: None,
        finished: false,
        held,
        adopts,
        draining: None,
        asking: None,
        notify: None,
        ledger,
        gave_up: false,
        reason: None,
    };
    shift.run(&signals, control)?;
    Ok(Ended { status: shift.status(), json: shift.status_json(shift.keeper.state()) })
}

/// One life of a keeper.
struct Shift<'a> {
    order: &'a Order,
    voice: &'a Voice,
    office: Option<Office>,
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
    /// Whether it serves yet.
    asking: Option<Asking>,
    /// Where the life that is being started tells that it is ready.
    notify: Option<Notify>,
    ledger: Option<Ledger>,
    gave_up: bool,
    /// Why it was restarted last, for the next life.
    reason: Option<String>,
}

impl Shift<'_> {
    fn run(&mut self, signals: &Signals, mut control: Option<Lines>) -> Result<()> {
        self.happen(Event::Begin);
        self.publish();
        memory::shrink();
        while !self.finished {
            let published = (self.keeper.state(), self.keeper.runs());
            for signal in signals.take() {
                self.signal(signal);
            }
            for (pid, exit) in child::reap() {
                self.reaped(pid, exit);
            }
            if let Some(control) = &mut control {
                control.serve(&mut |line| control::answer(line, &mut |request| self.request(request)));
            }
            self.readiness();
            if let Some(outcome) = self.draining.as_ref().and_then(Draining::over) {
                self.drained(outcome);
            }
            self.happen(Event::Time);
            if self.paths_hold() && self.keeper.state() == State::Idle {
                self.happen(Event::Paths);
            }
            if matches!(self.keeper.state(), State::Sweeping(..)) && self.rest().is_empty() {
                self.happen(Event::Swept);
            }
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
            State::Updating(_, Some(next), _) | State::Replacing(_, next, ..) if next.pid == pid => {
                self.voice.note(format!("{}: the next life {exit}", self.name()));
                self.happen(Event::NextExited(exit));
            }
            State::Updating(old, ..) | State::Replacing(old, ..) if old.pid == pid => self.happen(Event::Exited(exit)),
            _ if self.main.is_some_and(|main| main.pid == pid) => {
                self.main = None;
                self.ended(exit);
            }
            _ => {}
        }
    }

    fn sleep(&self, signals: &Signals, control: Option<&Lines>) -> Result<()> {
        let mut fds = vec![(signals.fd(), For::Reading)];
        fds.extend(control.map(Lines::fds).unwrap_or_default().into_iter().map(|fd| (fd, For::Reading)));
        fds.extend(self.draining.as_ref().map(|draining| (draining.bell.fd(), For::Reading)));
        fds.extend(self.asking.as_ref().map(|asking| (asking.fd(), For::Reading)));
        let mut until = self.keeper.wake().into_iter().chain(control.and_then(Lines::wake)).min();
        let mut at_most = |pause: u64| {
            let then = Instant::now() + Duration::from_millis(pause);
            until = Some(until.map_or(then, |until| until.min(then)));
        };
        // What the main process left behind may be no child of ours, so nothing tells us when it is gone.
        if matches!(self.keeper.state(), State::Sweeping(..)) {
            at_most(5);
        }
        if !self.order.recipe.paths().is_empty() {
            at_most(1000);
        }
        poll::wait(&fds, until).map(drop).map_err(|cause| Error::io("cannot wait", &cause))
    }

    fn happen(&mut self, event: Event) {
        let mut queue = vec![event];
        while let Some(event) = queue.pop() {
            for todo in self.keeper.handle(Instant::now(), event) {
                match todo {
                    Do::Start => queue.push(self.start()),
                    Do::StartNext => queue.push(self.start_next()),
                    Do::Promote(who) => (self.main, self.last_main) = (Some(who), Some(who)),
                    Do::KillOne(who) => child::kill_trees(&[who], &self.spared),
                    Do::Drain(who) => queue.extend(self.drain(who)),
                    Do::Terminate(who) => {
                        self.draining = None;
                        child::signal(who, Signal::SIGTERM);
                    }
                    Do::TerminateRest => self.rest().iter().for_each(|one| child::signal(*one, Signal::SIGTERM)),
                    Do::Kill => {
                        self.voice.warn(format!("{}: killing it", self.name()));
                        child::kill_trees(&self.roots(), &self.spared);
                    }
                    Do::Finish => self.finished = true,
                }
            }
        }
    }

    fn start(&mut self) -> Event {
        match self.spec().and_then(|spec| spec.start().map_err(not_started)) {
            Ok(Started { identity, .. }) => {
                self.voice.step(format!("{}: started as process {}", self.name(), identity.pid));
                self.main = Some(identity);
                self.last_main = Some(identity);
                self.not_started = None;
                // Known on disk before anything else happens: should we be killed now, the next keeper finds it.
                self.publish_with(State::Running(identity));
                Event::Started(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                self.not_started = Some(error);
                if self.failed() { Event::GiveUp } else { Event::NotStarted }
            }
        }
    }

    fn start_next(&mut self) -> Event {
        let State::Updating(old, _, until) = self.keeper.state() else { return Event::NextNotStarted };
        match self.spec().and_then(|spec| spec.start().map_err(not_started)) {
            Ok(Started { identity, .. }) => {
                self.voice.step(format!("{}: the next life is process {}", self.name(), identity.pid));
                // Known on disk before anything else happens: should we be killed now, the next keeper finds both.
                self.publish_with(State::Updating(old, Some(identity), until));
                Event::NextStarted(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                Event::NextNotStarted
            }
        }
    }

    fn spec(&mut self) -> Result<Spec> {
        let mut spec = self.order.recipe.spec()?;
        if let Some(reason) = self.reason.take() {
            spec.env.push(("BAA_RESTART_REASON".into(), reason.into()));
        }
        if self.order.ready.as_ref().is_some_and(Ready::is_told) {
            let notify = Notify::open()?;
            spec.env.push(notify.variable());
            self.notify = Some(notify);
        }
        if self.held.is_some() {
            // Whoever has the lock next must not find it beside us.
            spec.ends_with_us = Some(Signal::SIGKILL);
        }
        if !self.order.listen.is_empty() {
            let names: Vec<&str> = self.order.listen.iter().map(|(name, _)| name.as_str()).collect();
            spec.env.push(("LISTEN_FDS".into(), names.len().to_string().into()));
            spec.env.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
            spec.keep.extend(self.order.listen.iter().map(|(_, socket)| Arc::clone(socket)));
            // LISTEN_PID is the command's own, which only a process between us and it can know (sd_listen_fds(3)).
            let words: Vec<OsString> = std::iter::once(std::mem::take(&mut spec.program)).chain(std::mem::take(&mut spec.args)).collect();
            spec.program = "/bin/sh".into();
            spec.args = ["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"].into_iter().map(OsString::from).chain(words).collect();
        }
        Ok(spec)
    }

    /// Hears whether it serves, and says so when its time to is over.
    fn readiness(&mut self) {
        let (who, until) = match self.keeper.state() {
            State::Readying(who, until) | State::Updating(_, Some(who), until) => (who, until),
            _ => {
                self.asking = None;
                return;
            }
        };
        match (&self.asking, &self.order.ready) {
            (Some(asking), _) if asking.answered() => {
                self.voice.step(format!("{}: serves", self.name()));
                self.happen(Event::Ready);
            }
            (Some(asking), Some(ready)) if Instant::now() >= until => {
                let limit = span::show(ready.limit);
                self.voice.warn(format!("{}: does not serve within {limit}: {}", self.name(), asking.last()));
            }
            (None, Some(ready)) => match Asking::begin(ready, who.pid, self.notify.take()) {
                Ok(asking) => self.asking = Some(asking),
                Err(error) => self.voice.warn(error),
            },
            _ => {}
        }
    }

    /// Has the command finish what it has begun.
    fn drain(&mut self, who: Identity) -> Option<Event> {
        let drain = self.order.drain.as_ref()?;
        let limit = if drain.limit.is_zero() { "without end".to_owned() } else { format!("for {} at most", span::show(drain.limit)) };
        self.voice.note(format!("{}: draining {limit}", self.name()));
        let reason = self.reason.clone().unwrap_or_default();
        let expected = if drain.limit.is_zero() { 0 } else { millis(drain.limit) };
        let env = vec![
            ("BAA_PID".into(), who.pid.to_string().into()),
            ("BAA_RESTART_REASON".into(), reason.into()),
            ("BAA_RESTART_EXPECTED_MS".into(), expected.to_string().into()),
        ];
        if let How::Signal(signal) = drain.how {
            child::signal(who, signal);
        }
        match Draining::begin(drain, env) {
            Ok(draining) => {
                self.draining = draining;
                None
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                Some(Event::Drained)
            }
        }
    }

    /// A drain that fails is no reason not to restart.
    fn drained(&mut self, outcome: std::result::Result<(), String>) {
        self.draining = None;
        match outcome {
            Ok(()) => self.voice.step(format!("{}: drained", self.name())),
            Err(why) => self.voice.warn(format!("{}: not drained: {why}", self.name())),
        }
        self.happen(Event::Drained);
    }

    fn ended(&mut self, exit: Exit) {
        self.draining = None;
        // What was asked for does not count.
        let bad = matches!(self.keeper.state(), State::Running(_) | State::Readying(..)) && !exit.success();
        match self.keeper.state() {
            State::Running(_) if exit.success() => self.voice.step(format!("{}: {exit}", self.name())),
            State::Running(_) | State::Readying(..) => self.voice.note(format!("{}: {exit}", self.name())),
            _ => {}
        }
        self.happen(Event::Exited(exit));
        if bad && self.failed() {
            self.happen(Event::GiveUp);
        }
        if let State::Waiting(until) = self.keeper.state() {
            self.voice.step(format!("{}: next start in {}", self.name(), span::show(until.saturating_duration_since(Instant::now()))));
        }
    }

    /// Writes a bad end down; whether there were too many of them for a next start.
    fn failed(&mut self) -> bool {
        let Some(ledger) = self.ledger.as_mut() else { return false };
        if ledger.note() {
            self.voice.warn(format!("{}: giving up: {}", self.order.label.as_deref().unwrap_or("command"), ledger.words()));
            self.gave_up = true;
        }
        self.gave_up
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.happen(Event::Stop),
            Signal::SIGCHLD => {}
            other => {
                if let Some(main) = self.main {
                    child::signal(main, other);
                }
            }
        }
    }

    fn request(&mut self, request: Request) -> Value {
        let event = match request {
            Request::Status => return self.status_json(self.keeper.state()),
            Request::Spare(pid) => {
                self.spared.extend(Pid::new(pid));
                return json!({ "schema": SCHEMA });
            }
            Request::Stop => Event::Stop,
            Request::Start => Event::Start,
            Request::Update(reason) => {
                if self.order.ready.is_none() || !matches!(self.keeper.state(), State::Running(_)) {
                    return json!({ "error": "no life of it serves now, or nobody knows whether one does" });
                }
                self.reason = reason;
                Event::Update
            }
            Request::Restart(reason) => {
                self.reason = reason;
                Event::Restart
            }
        };
        if matches!(event, Event::Start | Event::Restart) {
            self.ledger.iter_mut().for_each(Ledger::clear);
        }
        // A second stop over the socket is impatience, not an order to kill; signals are.
        let stopping = matches!(self.keeper.state(), State::Stopping(_, _, super::Next::Finish) | State::Sweeping(_, super::Next::Finish));
        if !(stopping && event == Event::Stop) {
            self.happen(event);
        }
        self.publish();
        self.status_json(self.keeper.state())
    }

    /// Where the tree of the command grows from: the main process, dead or alive, and ourselves, to whom its orphans fall.
    fn roots(&self) -> Vec<Identity> {
        self.last_main.into_iter().chain(Identity::of(Pid::own())).collect()
    }

    /// What is left of the command, apart from its main process.
    fn rest(&self) -> Vec<Identity> {
        if self.adopts && child::childless() {
            return Vec::new();
        }
        let mut rest = child::members(&self.roots(), &self.spared);
        rest.retain(|one| Some(*one) != self.main);
        rest
    }

    fn paths_hold(&self) -> bool {
        self.order.recipe.paths().iter().any(|(path, wanted)| path.exists() == *wanted)
    }

    fn name(&self) -> &str {
        self.order.label.as_deref().unwrap_or("command")
    }
}

fn not_started(cause: std::io::Error) -> Error {
    Error::new(Status::of_failed_start(&cause), format!("cannot start it: {}", crate::words::error::reason(&cause)))
}
