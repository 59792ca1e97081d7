//! The holder: takes the lease, has a guardian run the command, renews while it runs, and gives the lease up
//! when nothing of it lives.

use crate::act::lease::attempt::{Attempt, attempt};
use crate::act::lease::grant;
use crate::act::lease::holder::{Holder, Renewal};
use crate::act::lease::name;
use crate::act::lease::run::{LeasedRun, RunEnding};
use crate::store::{Claim, ClaimAnswer, Store};
use crate::sys::child::Exit;
use crate::sys::file::Lock;
use crate::sys::poll::{self, For};
use crate::sys::process::Pid;
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::sys::{clock, kernel, memory};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// poll(2) does not count the time of a suspend, so it is never trusted for longer.
const TICK: Duration = Duration::from_secs(1);
/// Signals that the command gets.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// What to hold, and how.
pub struct HoldRequest<'a> {
    /// The claim.
    pub claim: Claim,
    /// How often to renew, at most.
    pub interval: Duration,
    /// How long to wait for a lease that another has; `None` is without end.
    pub wait: Option<Duration>,
    /// What to run.
    pub command: &'a [OsString],
}

/// Runs the command under the lease; the status is the command's own, or says why it did not run to its end.
///
/// # Errors
/// 75 not acquired, 124 not in time, 69 the store cannot be asked, 76 lost while running, 126 and 127 the
/// command cannot be run.
pub fn hold(store: &dyn Store, request: &HoldRequest<'_>, voice: &Voice) -> Result<Status> {
    let signals = Signals::catch(&PASSED_ON).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let mut claim = request.claim.clone();
    claim.proof.secret = grant::secret_for(store)?;
    if !store.tells_instances() {
        claim.holder = format!("{}+{}", claim.holder, claim.instance);
    }
    if Pid::own().number() == 1 {
        // In a container we stand for the command: what is sent to us is meant for it.
        signals.catch_all().map_err(|cause| Error::io("cannot catch signals", &cause))?;
    } else {
        // Whatever would end us is the command's, real-time signals too.
        signals.catch_ending().map_err(|cause| Error::io("cannot catch signals", &cause))?;
    }
    let (mut holder, lock) = match acquire(store, &claim, request, &signals, voice)? {
        Taken::Lease(holder, lock) => (holder, lock),
        Taken::Signal(number) => return Ok(Status::Signal(number)),
    };
    let term = holder.term();
    voice.step(format!("leader of {} under term {term}", claim.lease));
    // From here on the lock is the guardian's and the command's: a holder that is stopped must not have it.
    let keep = lock.map(Lock::into_shared).transpose();
    let keep = keep.map_err(|cause| Error::io("cannot pass the lock on", &cause))?.into_iter().collect();
    let mut run = LeasedRun::start(&claim, &holder, request.command, Vec::new(), keep)?;
    memory::shrink();
    let ending = until_it_ends(store, &claim, &mut holder, &mut run, &signals, voice)
        .map_err(|why| Error::new(Status::Lost, format!("lost {} under term {term}: {why}", claim.lease)))?;
    match store.release(&claim, term) {
        Ok(_) => voice.step(format!("released {}", claim.lease)),
        Err(error) => voice.warn(format!("the lease is not given up, and runs out by itself: {error}")),
    }
    match ending {
        RunEnding::Command(Exit::Code(code), _) => Ok(Status::Command(u8::try_from(code).unwrap_or(u8::MAX))),
        RunEnding::Command(Exit::Signal(number), _) => Ok(Status::Signal(u8::try_from(number).unwrap_or(0))),
        RunEnding::NotStarted(status, why) => Err(Error::new(status, why)),
        RunEnding::Unguarded => Err(Error::bug("a command without a guardian is no ending")),
    }
}

enum Taken {
    Lease(Holder, Option<Lock>),
    Signal(u8),
}

/// How long a store may wait for the end of another's lease. What is granted counts from before that, so it
/// is short beside the lease.
pub fn wait_of(ttl: Duration) -> Duration {
    Duration::from_millis(500).min(ttl / 8)
}

/// The time since the machine's boot, suspend included.
///
/// # Errors
/// Where the kernel does not tell: 74.
pub fn now() -> Result<Duration> {
    kernel::uptime().ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))
}

fn acquire(
    store: &dyn Store,
    claim: &Claim,
    request: &HoldRequest<'_>,
    signals: &Signals,
    voice: &Voice,
) -> Result<Taken> {
    let end = request.wait.map(|wait| clock::after(Instant::now(), wait));
    let mut said = false;
    loop {
        // A store that can waits for us, once there is anything to wait for.
        let patient = if said {
            end.map_or(wait_of(claim.ttl), |end| {
                wait_of(claim.ttl).min(end.saturating_duration_since(Instant::now()))
            })
        } else {
            Duration::ZERO
        };
        let outcome = attempt(store, &Claim { wait: patient, ..claim.clone() }, request.interval);
        // A store that cannot be reached may be in a moment; what else it says is final.
        let (unknown, held) = match outcome {
            Err(error)
                if error.status == Status::Unavailable
                    && !request.wait.is_some_and(|wait| wait.is_zero()) =>
            {
                let held = error.to_string();
                (Some(error), held)
            }
            Err(error) => return Err(error),
            Ok(Attempt { holder: Some(holder), lock, .. }) => return Ok(Taken::Lease(holder, lock)),
            Ok(Attempt { answer: ClaimAnswer::Held(record), locked, .. }) => {
                (None, name::held(claim, &record, locked))
            }
            Ok(_) => (None, format!("the store took too long to grant {}", claim.lease)),
        };
        if request.wait.is_some_and(|wait| wait.is_zero()) {
            return Err(Error::new(Status::Busy, format!("cannot acquire: {held}")));
        }
        if !std::mem::replace(&mut said, true) {
            voice.step(format!("waiting: {held}"));
        }
        let at = Instant::now();
        if end.is_some_and(|end| at >= end) {
            return Err(unknown
                .unwrap_or_else(|| Error::new(Status::TooLate, format!("cannot acquire in time: {held}"))));
        }
        let until = end.map_or(at + store.pace(), |end| end.min(at + store.pace()));
        let ready = poll::wait(&[(signals.fd(), For::Reading)], Some(until))
            .map_err(|cause| Error::io("cannot wait", &cause))?;
        if ready[0]
            && let Some(number) = signals.take_numbers().into_iter().find(|number| ends_waiting(*number))
        {
            return Ok(Taken::Signal(u8::try_from(number).unwrap_or(0)));
        }
    }
}

/// Whether a signal ends one who has nothing yet. As process 1 we get many that mean nothing to a process
/// that waits.
fn ends_waiting(number: i32) -> bool {
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    ends.map(|signal| signal as i32).contains(&number)
}

/// Renews as long as the command runs, and says how it ended; or why the lease was lost.
fn until_it_ends(
    store: &dyn Store,
    claim: &Claim,
    holder: &mut Holder,
    run: &mut LeasedRun,
    signals: &Signals,
    voice: &Voice,
) -> std::result::Result<RunEnding, String> {
    let mut lost: Option<String> = None;
    loop {
        let at = now().unwrap_or(Duration::MAX);
        let pause = holder.due().map_or(TICK, |due| due.saturating_sub(at)).min(TICK);
        let _ = poll::wait(
            &[(run.fd(), For::Reading), (signals.fd(), For::Reading)],
            Some(Instant::now() + pause),
        );
        let passed = signals.take_numbers().into_iter().filter(|number| *number != Signal::SIGCHLD as i32);
        passed.for_each(|number| run.signal(number));
        match run.ended() {
            None => {}
            Some(RunEnding::Unguarded) => return Err("its guardian was killed".to_owned()),
            Some(RunEnding::Command(_, true)) => {
                return Err(lost.unwrap_or_else(|| "it could not be renewed in time".to_owned()));
            }
            Some(ending) => return lost.map_or(Ok(ending), Err),
        }
        if holder.due().is_some_and(|due| now().is_ok_and(|now| now >= due)) {
            match renew(store, claim, holder) {
                (Renewal::Extended(until), _) => run.extend(until),
                (Renewal::Lost, _) => {
                    lost = Some("another has it".to_owned());
                    run.extend(holder.until());
                }
                (Renewal::Unknown, answer) => {
                    let left = holder.until().soft.saturating_sub(now().unwrap_or(Duration::MAX));
                    let why = answer.err().map(|error| error.to_string()).unwrap_or_default();
                    voice.warn(format!("cannot renew, {} left: {why}", crate::words::span::show(left)));
                }
            }
        }
    }
}

/// Renews; the time is taken before the store is asked.
pub fn renew(store: &dyn Store, claim: &Claim, holder: &mut Holder) -> (Renewal, Result<ClaimAnswer>) {
    // Without a clock nothing can be said of the answer, and the lease is not extended.
    let sent = now().unwrap_or(Duration::ZERO);
    holder.sent(sent);
    let answer = store.renew(claim, holder.term());
    (holder.answered(sent, &answer, now().unwrap_or(Duration::MAX)), answer)
}
