//! The conductor's life: it registers, leads or stands by, runs its scheduler while it leads, and gives the
//! lease up when it is told to stop.
//!
//! One conductor of a name runs on a machine: the kernel holds its lock, and everything it starts inherits
//! it. So whoever gets the lock knows that nothing of the one before lives, even after kill -9, and goes on
//! under that one's lease at once.

use crate::act::lease::attempt::{self, attempt};
use crate::act::lease::conductor::{Conductor, ConductorState, Config};
use crate::act::lease::deadline::Deadline;
use crate::act::lease::hold::{now, renew, wait_of};
use crate::act::lease::holder::{Holder, Renewal};
use crate::act::lease::hooks::{Commands, Hooks};
use crate::act::lease::run::{LeasedRun, RunEnding, variables};
use crate::act::lease::{grant, local_api, name};
use crate::store::guard::{ClaimProof, GrantSecret};
use crate::store::{self, Claim, ClaimAnswer, Store};
use crate::sys::file::{self, Lock};
use crate::sys::memory;
use crate::sys::poll::{self, For};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// poll(2) does not count the time of a suspend, so it is never trusted for longer.
const TICK: Duration = Duration::from_secs(1);
/// How soon a claim that nobody answered is made again, at most.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a scheduler may take to end when we are told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Between two runs of a scheduler that ends by itself: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A scheduler that has run for so long begins anew with the shortest pause.
const LASTED: Duration = Duration::from_secs(60);
/// The signals that stop a conductor.
const STOPPING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// What to start.
pub struct ConductorRequest {
    /// What the conductor is set to.
    pub config: Config,
    /// Whether its local API may be seen from elsewhere.
    pub anywhere: bool,
    /// A shell command that runs only while it leads.
    pub scheduler: Option<String>,
    /// Shell commands that are told of changes.
    pub hooks: Commands,
    /// One heartbeat and one lease cycle, and no more.
    pub once: bool,
}

/// Runs the conductor until it is told to stop; says by which signal. `begun` is told of it once it has
/// registered and claimed. The two stores are the same one, opened twice: a heartbeat that hangs must not
/// hold up a renewal.
///
/// # Errors
/// 75 when a conductor of this name runs here already; those of the local API; never for a store that cannot
/// be reached.
pub fn start(
    request: ConductorRequest,
    stores: [Box<dyn Store>; 2],
    begun: &dyn Fn(&Conductor) -> Result<()>,
    voice: &Voice,
) -> Result<Option<Signal>> {
    let signals = Signals::catch(&STOPPING).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let (lock, instance, secret) = alone(&request.config, stores[0].as_ref())?;
    let listener = request
        .config
        .local_api
        .as_ref()
        .filter(|_| !request.once)
        .map(|url| local_api::bind(url, request.anywhere))
        .transpose()?;
    let [store, other] = stores;
    let claim = claim_of(&request.config, instance, secret);
    let shared = Arc::new(Mutex::new(Conductor::new(request.config)));
    if let Some(listener) = listener {
        local_api::serve(listener, Arc::clone(&shared))?;
    }
    let lease_lock = attempt::lock_file(store.as_ref(), &claim.lease);
    let hooks = Hooks::new(request.hooks, lease_lock.clone(), voice.clone());
    let (state, holder, run) = (ConductorState::Standby, None, None);
    let mut life = Life {
        store: store.as_ref(),
        claim,
        shared,
        hooks,
        voice,
        lock,
        lease_lock,
        scheduler: request.scheduler,
        state,
        holder,
        run,
        resting: None,
        pause: PAUSES.0,
    };
    let beat = life.conductor().beat();
    let registered = life.store.heartbeat(&beat);
    life.conductor().heartbeat(&registered);
    let next = life.cycle();
    life.conductor().started(!request.once);
    let told = begun(&life.conductor());
    if request.once {
        return told.map(|()| None);
    }
    // Nobody reads what we say: that is no reason to lead no more.
    told.unwrap_or_else(|error| voice.warn(error));
    life.changed();
    let stop = heart(other, Arc::clone(&life.shared))?;
    memory::shrink();
    let signal = life.live(&signals, next)?;
    drop(stop);
    Ok(Some(signal))
}

fn claim_of(config: &Config, instance: String, secret: Option<GrantSecret>) -> Claim {
    Claim {
        lease: config.lease.clone(),
        holder: config.node_id.clone(),
        host: config.host.clone(),
        instance,
        ttl: config.ttl,
        preferred: config.preferred,
        proof: ClaimProof { secret, ..ClaimProof::default() },
        ..Claim::default()
    }
}

/// The lock of this conductor on this machine, and the name of its process and the secret of its grants,
/// which go over from one that was killed to the next.
fn alone(config: &Config, store: &dyn Store) -> Result<(Lock, String, Option<GrantSecret>)> {
    let directory = file::state_dir().join("conductors");
    let cannot = |cause: std::io::Error| Error::io(format!("cannot lock {}", directory.display()), &cause);
    file::own_dir(&directory).map_err(cannot)?;
    let lock =
        Lock::take(&directory.join(format!("{}+{}.lock", config.lease, config.node_id))).map_err(cannot)?;
    let taken = || {
        Error::new(
            Status::Busy,
            format!(
                "cannot start: a conductor {} for {} runs here, or something of its last run does",
                config.node_id, config.lease
            ),
        )
    };
    let lock = lock.ok_or_else(taken)?;
    let kept = lock.words(512).map_err(cannot)?;
    let mut lines = kept.lines().map(str::trim);
    let instance = lines.next().filter(|name| store::check_name("an instance", name).is_ok());
    let instance = instance.map_or_else(name::instance, str::to_owned);
    let secret = match lines.next().and_then(GrantSecret::parse).filter(|_| store.is_shared()) {
        Some(secret) => Some(secret),
        None => grant::secret_for(store)?,
    };
    remember(&lock, &instance, secret.as_ref()).map_err(cannot)?;
    Ok((lock, instance, secret))
}

/// Writes down what the next one is to go on with.
fn remember(lock: &Lock, instance: &str, secret: Option<&GrantSecret>) -> std::io::Result<()> {
    let secret = secret.map(|secret| format!("{}\n", secret.reveal())).unwrap_or_default();
    lock.inform(&format!("{instance}\n{secret}"))
}

/// Sends a heartbeat in every interval, until the sender that it gives is dropped.
fn heart(store: Box<dyn Store>, shared: Arc<Mutex<Conductor>>) -> Result<Sender<()>> {
    let (stop, stopped) = channel();
    let work = move || {
        let conductor = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = conductor().config.heartbeat_interval;
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let beat = conductor().beat();
            // The lock is free while the store is asked.
            let outcome = store.heartbeat(&beat);
            conductor().heartbeat(&outcome);
        }
    };
    std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(work)
        .map_err(|cause| Error::io("cannot start the heartbeat loop", &cause))?;
    Ok(stop)
}

struct Life<'a> {
    store: &'a dyn Store,
    claim: Claim,
    shared: Arc<Mutex<Conductor>>,
    hooks: Hooks,
    voice: &'a Voice,
    lock: Lock,
    /// The file of the lease's own lock, on a store of this machine.
    lease_lock: Option<PathBuf>,
    scheduler: Option<String>,
    /// The state that hooks were told of.
    state: ConductorState,
    holder: Option<Holder>,
    /// The scheduler that runs, since when, and whether it was told to end.
    run: Option<(LeasedRun, Duration, bool)>,
    /// When the scheduler may run again.
    resting: Option<Duration>,
    pause: Duration,
}

impl Life<'_> {
    fn conductor(&self) -> MutexGuard<'_, Conductor> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One lease cycle: renews what is held, or claims it. Says when the next one is due, since the machine's
    /// boot.
    fn cycle(&mut self) -> Duration {
        let sent = now().unwrap_or(Duration::MAX);
        let interval = self.conductor().config.renew_interval;
        if let Some(holder) = &mut self.holder {
            let (renewal, answer) = renew(self.store, &self.claim, holder);
            let (until, due) = (holder.until(), holder.due());
            self.conductor().answered(&answer, sent);
            match renewal {
                Renewal::Extended(until) => self.extend(until),
                Renewal::Unknown => {}
                Renewal::Lost => {
                    self.holder = None;
                    self.extend(until);
                    self.change_secret();
                }
            }
            return due.unwrap_or(sent);
        }
        if self.run.is_some() {
            // Nothing is claimed while something of the last leadership lives.
            return sent + AGAIN.min(interval);
        }
        // A store that can waits for us, once another is known to lead.
        let another = self.conductor().term().is_some();
        let wait = if another { wait_of(self.claim.ttl).min(interval) } else { Duration::ZERO };
        // The lock is freed at once: nothing runs under the lease yet, and what will takes a share of it. So
        // a conductor that is stopped keeps it from nobody.
        let outcome = attempt(self.store, &Claim { wait, ..self.claim.clone() }, interval)
            .map(|attempt| (attempt.answer, attempt.holder));
        let at = now().unwrap_or(Duration::MAX);
        let mut next = at + interval.min(if outcome.is_ok() { self.store.pace() } else { AGAIN });
        let answer = match outcome {
            Ok((ClaimAnswer::Ours { .. }, None)) => Err(Error::new(
                Status::Unavailable,
                format!("the store took too long to grant {}", self.claim.lease),
            )),
            Ok((answer, holder)) => {
                next = holder.as_ref().and_then(Holder::due).unwrap_or(next);
                self.holder = holder;
                Ok(answer)
            }
            Err(error) => Err(error),
        };
        self.conductor().answered(&answer, at);
        next
    }

    /// The next grant has another secret; the old one, where no other can be written down.
    fn change_secret(&mut self) {
        if let Ok(Some(secret)) = grant::secret_for(self.store)
            && remember(&self.lock, &self.claim.instance, Some(&secret)).is_ok()
        {
            self.claim.proof.secret = Some(secret);
        }
    }

    fn extend(&mut self, until: Deadline) {
        if let Some((run, _, ending)) = &mut self.run
            && (!*ending || until == Deadline::NOW)
        {
            run.extend(until);
        }
    }

    /// Tells the scheduler to end, and kills it at `hard`.
    fn end_scheduler(&mut self, hard: Duration) {
        if let Some((run, _, ending)) = &mut self.run
            && !std::mem::replace(ending, true)
        {
            run.extend(Deadline { soft: Duration::ZERO, hard });
        }
    }

    /// Draws the consequences of the state: for hooks, for people, for the scheduler.
    fn changed(&mut self) {
        let (state, term, summary) = {
            let conductor = self.conductor();
            (conductor.state(), conductor.term(), conductor.summary())
        };
        if state == self.state {
            return;
        }
        self.voice.note(format!("{} -> {}: {summary}", self.state.name(), state.name()));
        self.state = state;
        self.hooks.tell(state, variables(&self.claim, term.unwrap_or(0)));
        if state != ConductorState::Leader {
            let hard = self.holder.as_ref().map_or(Duration::ZERO, |holder| holder.until().hard);
            self.end_scheduler(hard);
        }
    }

    fn live(&mut self, signals: &Signals, mut next: Duration) -> Result<Signal> {
        let signal = loop {
            let at = now()?;
            if at >= next {
                next = self.cycle();
            }
            if self.holder.as_ref().is_some_and(|holder| now().is_ok_and(|now| now >= holder.until().soft)) {
                // The guardian has ended the scheduler, or is about to: it knows the same moment.
                self.holder = None;
                self.conductor().lost(&Error::new(Status::Lost, "the lease could not be renewed in time"));
                next = at;
            }
            self.changed();
            self.schedule(at)?;
            let until = [Some(next), self.holder.as_ref().map(|holder| holder.until().soft), self.resting]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(next);
            let pause = until.saturating_sub(now()?).min(TICK);
            if let Some(signal) = self.pause(signals, Instant::now() + pause)? {
                break signal;
            }
        };
        self.stop(signals)?;
        Ok(signal)
    }

    /// Waits for a signal, or for an end of the scheduler.
    fn pause(&mut self, signals: &Signals, until: Instant) -> Result<Option<Signal>> {
        let mut fds = vec![(signals.fd(), For::Reading)];
        fds.extend(self.run.as_ref().map(|(run, ..)| (run.fd(), For::Reading)));
        poll::wait(&fds, Some(until)).map_err(|cause| Error::io("cannot wait", &cause))?;
        drop(fds);
        if let Some((ending, since, told)) =
            self.run.as_mut().and_then(|(run, since, told)| run.ended().map(|ending| (ending, *since, *told)))
        {
            self.run = None;
            self.ended(ending, since, told)?;
        }
        Ok(signals.take().into_iter().next())
    }

    fn ended(&mut self, ending: RunEnding, since: Duration, told: bool) -> Result<()> {
        let at = now()?;
        let what = match ending {
            RunEnding::Command(exit, _) => exit.to_string(),
            RunEnding::NotStarted(_, ref why) => why.clone(),
            RunEnding::Unguarded => "its guardian was killed".to_owned(),
        };
        if told || matches!(ending, RunEnding::Command(_, true)) {
            self.voice.note(format!("the scheduler has ended: {what}"));
            return Ok(());
        }
        self.pause = if at.saturating_sub(since) >= LASTED { PAUSES.0 } else { self.pause };
        self.voice.warn(format!(
            "the scheduler has ended by itself: {what}; it runs again in {}",
            crate::words::span::show(self.pause)
        ));
        self.resting = Some(at + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }

    /// Starts the scheduler where it should run and does not.
    fn schedule(&mut self, at: Duration) -> Result<()> {
        if self.resting.is_some_and(|resting| at >= resting) {
            self.resting = None;
        }
        let (Some(command), Some(holder), ConductorState::Leader, None, None) =
            (&self.scheduler, &self.holder, self.state, &self.run, self.resting)
        else {
            return Ok(());
        };
        if !holder.may_begin(now()?) {
            return Ok(());
        }
        let words: Vec<OsString> = vec!["/bin/sh".into(), "-c".into(), command.into()];
        let cannot = |cause: std::io::Error| Error::io("cannot share the conductor's lock", &cause);
        let mut keep = vec![self.lock.share().map_err(cannot)?];
        match attempt::share(self.lease_lock.as_ref())? {
            Some(Some(lock)) => keep.push(lock.into_shared().map_err(cannot)?),
            // Another has the lease already, and we shall be told so.
            Some(None) => {
                self.resting = Some(at + PAUSES.0);
                return Ok(());
            }
            None => {}
        }
        let env = self.conductor().config.paths.variables();
        self.run = Some((LeasedRun::start(&self.claim, holder, &words, env, keep)?, at, false));
        Ok(())
    }

    /// Ends the scheduler, tells the hooks, and only then gives the lease up. Another signal makes it hurry.
    fn stop(&mut self, signals: &Signals) -> Result<()> {
        let mut hard = now()? + GRACE;
        hard = self.holder.as_ref().map_or(hard, |holder| holder.until().hard.min(hard));
        self.end_scheduler(hard);
        while self.run.is_some() {
            if self.pause(signals, Instant::now() + TICK)?.is_some() {
                self.extend(Deadline::NOW);
            }
        }
        self.conductor().stopped();
        self.changed();
        let until = self.holder.as_ref().map_or(hard, |holder| holder.until().hard);
        while !self.hooks.finished() {
            if now()? >= until || self.pause(signals, Instant::now() + Duration::from_millis(10))?.is_some() {
                self.hooks.cancel();
            }
        }
        let beat = self.conductor().beat();
        if let Some(holder) = self.holder.take() {
            // What has asked to give up must not claim again: the next one is another.
            self.lock.inform("").map_err(|cause| Error::io("cannot write the conductor's lock", &cause))?;
            match self.store.release(&self.claim, holder.term()) {
                // A store that answers is told that we lead no more; what others see does not depend on it.
                Ok(_) => drop(self.store.heartbeat(&beat)),
                Err(error) => {
                    self.voice.warn(format!("the lease is not given up, and runs out by itself: {error}"))
                }
            }
        }
        Ok(())
    }
}
