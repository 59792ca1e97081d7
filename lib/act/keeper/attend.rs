//! The loop around a keeper: signals, the control socket, time; and the effects that it asks for.

use super::control::{self, Request};
use super::{Do, Event, Keeper, Policy, State};
use crate::service::embedded::Place;
use crate::service::recipe::Recipe;
use crate::sys::child::{self, Exit, Started};
use crate::sys::file::{self, Lock};
use crate::sys::lines::Lines;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span::{self, millis};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// The name and version of the JSON status.
pub const SCHEMA: &str = "baa.run/1";

/// Signals that are meant for the command when the keeper gets them.
const FORWARDED: [Signal; 5] = [Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// What to keep, and how.
#[derive(Debug)]
pub struct Order {
    /// The name under which its state is kept; without one there is no lock, no status and no control.
    pub label: Option<String>,
    /// What is started.
    pub recipe: Recipe,
    /// How it is kept.
    pub policy: Policy,
}

/// The JSON object of `--dry-run`. Arguments are told, the environment never.
pub fn plan(order: &Order) -> Value {
    let command: Vec<String> = match &order.recipe {
        Recipe::Command(words) => words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        Recipe::Job(job) => job.arguments.clone(),
    };
    json!({ "schema": SCHEMA, "dry_run": true, "label": order.label, "command": command })
}

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
    let office = match &order.label {
        Some(label) => Some(Office::open(label)?),
        None => None,
    };
    child::adopt_orphans();
    if let Some(office) = &office {
        office.clear_predecessor(order.policy.exit_timeout, voice);
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
    };
    shift.run(&signals, control)?;
    Ok(Ended { status: shift.status(), json: shift.status_json(shift.keeper.state()) })
}

/// The lock and the files of one label.
#[derive(Debug)]
struct Office {
    place: Place,
    label: String,
    _lock: Lock,
}

impl Office {
    fn open(label: &str) -> Result<Office> {
        let place = Place::of(label);
        place.make()?;
        // Whoever asks whether the lock is held takes it for an instant; that is no reason to give up.
        let until = Instant::now() + Duration::from_millis(300);
        let lock = loop {
            match Lock::take(&place.lock()).map_err(|cause| Error::io(format!("cannot lock '{}'", place.lock().display()), &cause))? {
                Some(lock) => break lock,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                None => return Err(Error::new(Status::Busy, format!("cannot keep {label}: another baa-run does"))),
            }
        };
        // Only to inform; the kernel's lock is the truth.
        let _ = lock.inform(&format!("{}\n", json!({ "pid": std::process::id() })));
        Ok(Office { place, label: label.to_owned(), _lock: lock })
    }

    /// A keeper that was killed leaves its command behind; two of them must not run side by side.
    fn clear_predecessor(&self, exit_timeout: Duration, voice: &Voice) {
        let Some(left) = file::read(&self.place.status(), 64 * 1024).ok().and_then(|bytes| identity(&bytes)) else { return };
        let alive = child::members(&[left], &[]);
        if alive.is_empty() {
            return;
        }
        voice.warn(format!("{}: the last keeper died and left process {} behind; stopping it", self.label, left.pid));
        alive.iter().for_each(|one| child::signal(*one, Signal::SIGTERM));
        let until = Instant::now() + if exit_timeout.is_zero() { Duration::from_secs(60) } else { exit_timeout };
        while !child::members(&[left], &[]).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        child::kill_trees(&[left], &[]);
    }
}

fn identity(status: &[u8]) -> Option<Identity> {
    let status: Value = serde_json::from_slice(status).ok()?;
    // Start times compare on one boot only.
    if status.get("boot")?.as_str()? != boot()? {
        return None;
    }
    let pid = Pid::new(i32::try_from(status.get("pid")?.as_i64()?).ok()?)?;
    Some(Identity { pid, start: Start(status.get("start")?.as_u64()?) })
}

/// What tells this boot from others.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    id.map(|id| id.trim().to_owned()).or_else(|| cfg!(target_os = "macos").then(|| "macos".to_owned()))
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
}

impl Shift<'_> {
    fn run(&mut self, signals: &Signals, mut control: Option<Lines>) -> Result<()> {
        self.happen(Event::Begin);
        self.publish();
        while !self.finished {
            let published = (self.keeper.state(), self.keeper.runs());
            for signal in signals.take() {
                self.signal(signal);
            }
            for (pid, exit) in child::reap() {
                if self.main.is_some_and(|main| main.pid == pid) {
                    self.main = None;
                    self.ended(exit);
                }
            }
            if let Some(control) = &mut control {
                control.serve(&mut |line| control::answer(line, &mut |request| self.request(request)));
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

    fn sleep(&self, signals: &Signals, control: Option<&Lines>) -> Result<()> {
        let mut fds = vec![(signals.fd(), For::Reading)];
        fds.extend(control.map(Lines::fds).unwrap_or_default().into_iter().map(|fd| (fd, For::Reading)));
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
                    Do::Terminate(who) => child::signal(who, Signal::SIGTERM),
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
        match self.order.recipe.spec().and_then(|spec| spec.start().map_err(not_started)) {
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
                Event::NotStarted
            }
        }
    }

    fn ended(&mut self, exit: Exit) {
        match self.keeper.state() {
            State::Running(_) if exit.success() => self.voice.step(format!("{}: {exit}", self.name())),
            State::Running(_) => self.voice.note(format!("{}: {exit}", self.name())),
            _ => {}
        }
        self.happen(Event::Exited(exit));
        if let State::Waiting(until) = self.keeper.state() {
            self.voice.step(format!("{}: next start in {}", self.name(), span::show(until.saturating_duration_since(Instant::now()))));
        }
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
            Request::Restart => Event::Restart,
        };
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

    fn publish(&self) {
        self.publish_with(self.keeper.state());
    }

    fn publish_with(&self, state: State) {
        let Some(office) = &self.office else { return };
        let text = format!("{}\n", self.status_json(state));
        if let Err(cause) = file::replace(&office.place.status(), text.as_bytes(), 0o600) {
            self.voice.warn(format!("cannot write '{}': {}", office.place.status().display(), crate::words::error::reason(&cause)));
        }
    }

    /// Read by `service::embedded`.
    fn status_json(&self, state: State) -> Value {
        let policy = &self.order.policy;
        let word = match state {
            State::Idle => "idle",
            State::Waiting(_) => "waiting",
            State::Starting | State::Running(_) => "running",
            State::Stopping(..) | State::Sweeping(..) => "stopping",
            State::Finished => "finished",
        };
        let next_start = if let State::Waiting(until) = state { Some(millis(until.saturating_duration_since(Instant::now()))) } else { None };
        let job = if let Recipe::Job(job) = &self.order.recipe { Some(job.path.to_string_lossy().into_owned()) } else { None };
        json!({
            "schema": SCHEMA,
            "label": self.order.label,
            "state": word,
            "pid": self.main.map(|main| main.pid.number()),
            "start": self.main.map(|main| main.start.0),
            "boot": boot(),
            "keeper": std::process::id(),
            "runs": self.keeper.runs(),
            "last_exit": self.keeper.last_exit().map(|exit| exit.to_string()),
            "next_start_ms": next_start,
            "exit_timeout_ms": millis(policy.exit_timeout),
            "throttle_ms": millis(policy.throttle),
            "job": job,
            "written": crate::words::stamp::millis(SystemTime::now()),
        })
    }

    /// With `--restart never` the status is the command's own; otherwise a stop that was asked for is success.
    fn status(&self) -> Status {
        if let (Some(error), super::Restart::Never | super::Restart::OnFailure) = (&self.not_started, &self.order.policy.restart) {
            return error.status;
        }
        match (&self.order.policy.restart, self.keeper.last_exit()) {
            (super::Restart::Never, Some(Exit::Code(code))) => Status::Command(u8::try_from(code).unwrap_or(1)),
            (super::Restart::Never, Some(Exit::Signal(number))) => Status::Signal(u8::try_from(number).unwrap_or(0)),
            _ => Status::Done,
        }
    }
}

fn not_started(cause: std::io::Error) -> Error {
    Error::new(Status::of_failed_start(&cause), format!("cannot start it: {}", crate::words::error::reason(&cause)))
}
