//! Whether a command that was started serves, and whether it goes on to: asked aside, and answered only by a
//! process of its own; or told by itself.

use super::notify::{Notification, Notify, Part};
use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::lineage::Lineage;
use crate::probe::liveness::{self, LiveAnswers, LiveVerdict, Liveness};
use crate::probe::pace::{self, PollProgress};
use crate::service::target::{self, TargetOptions};
use crate::sys::clock;
use crate::sys::process::Pid;
use crate::sys::signal::Bell;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What is asked, and how long it may take until the answer is good.
#[derive(Clone, Debug)]
pub struct ReadyCheck {
    /// What is asked, or listened to.
    pub by: By,
    /// From the start on.
    pub limit: Duration,
    /// How often in a row it must answer well.
    pub successes: u32,
}

/// How a life is known to serve.
#[derive(Clone, Debug)]
pub enum By {
    /// A target, as baa-healthwait takes it, answers.
    Target(OsString),
    /// It says so as sd_notify(3) does.
    Socket,
    /// It writes a line to this descriptor.
    Line(i32),
    /// It has run for so long.
    Lasting(Duration),
}

/// What is asked of a life that serves.
#[derive(Clone, Debug)]
pub struct LiveCheck {
    /// A target, as baa-healthwait takes it.
    pub target: OsString,
    /// How often, and what counts.
    pub rules: Liveness,
}

/// Whether a target can be asked at all.
///
/// # Errors
/// 2 and why not.
pub fn check(target: &OsStr) -> Result<()> {
    probe(target, Pid::own()).map(drop)
}

/// A target that tells who answers must be answered by `pid` or a descendant: an old process's answer is not
/// the new one's.
fn probe(target: &OsStr, pid: Pid) -> Result<Arc<dyn Probe>> {
    let options = TargetOptions::default();
    let among = Demand { among: Some(Lineage::of([pid])), ..Demand::default() };
    let owned = target::parse(target, &options, &among);
    Ok(owned.or_else(|_| target::parse(target, &options, &Demand::default()))?.probe)
}

/// A question that is asked again and again, until it is answered or dropped.
pub(super) struct Asking {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicBool>,
    last: Arc<Mutex<String>>,
    how: QuestionKind,
}

enum QuestionKind {
    Probe(Arc<dyn Probe>),
    Told(Notify),
    Lasts(Instant),
    Over,
}

impl Asking {
    /// Begins to ask whether `pid` serves, or to listen to what it tells over `notify`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(ready: &ReadyCheck, pid: Pid, notify: Option<Notify>) -> Result<Asking> {
        let cannot = |cause: std::io::Error| Error::io("cannot ask for readiness", &cause);
        let bell = Arc::new(Bell::new().map_err(cannot)?);
        let target = match (&ready.by, notify) {
            (By::Target(target), _) => target,
            (By::Lasting(span), _) => {
                let how = QuestionKind::Lasts(clock::after(Instant::now(), *span));
                let (stop, answered, last) = Default::default();
                return Ok(Asking { bell, stop, answered, last, how });
            }
            (by, Some(notify)) => {
                let last = if matches!(by, By::Socket) {
                    "it has not said READY=1"
                } else {
                    "it has not written a line"
                };
                let (last, how) = (Arc::new(Mutex::new(last.to_owned())), QuestionKind::Told(notify));
                return Ok(Asking { bell, stop: Arc::default(), answered: Arc::default(), last, how });
            }
            (_, None) => return Err(Error::new(Status::Internal, "nothing to listen to")),
        };
        let (probe, successes) = (probe(target, pid)?, ready.successes);
        let asking = Asking {
            bell,
            stop: Arc::default(),
            answered: Arc::default(),
            last: Arc::default(),
            how: QuestionKind::Probe(Arc::clone(&probe)),
        };
        let (bell, stop, answered, last) = (
            Arc::clone(&asking.bell),
            Arc::clone(&asking.stop),
            Arc::clone(&asking.answered),
            Arc::clone(&asking.last),
        );
        let work = move || {
            let (began, mut tries, mut good) = (Instant::now(), 0, 0);
            while !stop.load(Ordering::SeqCst) {
                let asked = Instant::now();
                let failure = probe.ask_now(asked + ANSWER).err();
                tries += 1;
                good = if failure.is_none() { good + 1 } else { 0 };
                if good >= successes {
                    answered.store(true, Ordering::SeqCst);
                    return bell.ring();
                }
                let moment = PollProgress {
                    cost: probe.cost(),
                    age: began.elapsed(),
                    spent: asked.elapsed().min(Duration::from_millis(1)),
                    polled: 1,
                    tries,
                    watched: false,
                };
                let pause = pace::pause(moment, failure.as_ref());
                match failure {
                    Some(failure) => {
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = failure.text;
                        probe.doze(pause);
                    }
                    // Somebody listens, so nothing would wake us before.
                    None => std::thread::sleep(pause),
                }
            }
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(work).map_err(cannot)?;
        Ok(asking)
    }

    /// Readable when it may be answered.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.how {
            QuestionKind::Probe(_) | QuestionKind::Over => Some(self.bell.fd()),
            QuestionKind::Told(notify) => notify.fd(),
            QuestionKind::Lasts(_) => None,
        }
    }

    /// When to hear again by itself.
    pub(super) fn wake(&self) -> Option<Instant> {
        match &self.how {
            QuestionKind::Told(notify) => notify.wake(),
            QuestionKind::Lasts(until) => Some(*until),
            QuestionKind::Probe(_) | QuestionKind::Over => None,
        }
    }

    /// What is known by now; `ready` once it serves. `part` says of what part of the life a process is.
    pub(super) fn hear(&mut self, part: &dyn Fn(Pid) -> Part) -> Notification {
        if let QuestionKind::Told(notify) = &mut self.how {
            return notify.hear(part);
        }
        if let QuestionKind::Lasts(until) = &self.how {
            return Notification { ready: Instant::now() >= *until, ..Notification::default() };
        }
        self.bell.silence();
        Notification { ready: self.answered.load(Ordering::SeqCst), ..Notification::default() }
    }

    /// Where the life goes on to tell of itself, once it serves.
    pub(super) fn into_notify(mut self) -> Option<Notify> {
        match std::mem::replace(&mut self.how, QuestionKind::Over) {
            QuestionKind::Told(notify) if notify.lasts() => Some(notify),
            _ => None,
        }
    }

    /// Why not, as far as was seen.
    pub(super) fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let QuestionKind::Probe(probe) = &self.how {
            probe.cancel();
        }
    }
}

/// A life that serves is asked whether it still does, until this is dropped.
pub(super) struct LiveWatch {
    bell: Arc<Bell>,
    lost: Arc<Mutex<Option<String>>>,
    probe: Arc<dyn Probe>,
    _leash: Sender<()>,
}

impl Drop for LiveWatch {
    fn drop(&mut self) {
        self.probe.cancel();
    }
}

impl LiveWatch {
    /// Begins to ask `pid`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(live: &LiveCheck, pid: Pid) -> Result<LiveWatch> {
        let cannot = |cause: std::io::Error| Error::io("cannot ask whether it lives", &cause);
        let (probe, live) = (probe(&live.target, pid)?, live.clone());
        let ((leash, held), bell, lost) =
            (channel::<()>(), Arc::new(Bell::new().map_err(cannot)?), Arc::new(Mutex::new(None)));
        let living = LiveWatch {
            bell: Arc::clone(&bell),
            lost: Arc::clone(&lost),
            probe: Arc::clone(&probe),
            _leash: leash,
        };
        let work = move || {
            let (mut answers, mut pause) = (LiveAnswers::default(), live.rules.interval);
            while held.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let asked = Instant::now();
                let answer = match liveness::stopped(pid) {
                    Some(why) => Err(why),
                    None => probe.ask_now(asked + live.rules.timeout).map_err(|failure| failure.text),
                };
                match (live.rules.judge(&mut answers, answer.is_ok(), asked.elapsed()), answer) {
                    (LiveVerdict::Lost, Err(why)) => {
                        *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                        return bell.ring();
                    }
                    (LiveVerdict::Again(next), _) => pause = next,
                    (LiveVerdict::Lost, Ok(_)) => return,
                }
            }
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(work).map_err(cannot)?;
        Ok(living)
    }

    /// Readable when it may not serve any more.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.fd()
    }

    /// Why it does not, if it does not.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
