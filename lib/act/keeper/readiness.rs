//! Whether a command that was started serves: asked aside, and answered only by a process of its own.

use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::pace::{self, Moment};
use crate::service::target::{self, HttpOptions};
use crate::sys::process::Pid;
use crate::sys::signal::Bell;
use crate::words::error::{Error, Result};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What is asked, and how long it may take until the answer is good.
#[derive(Clone, Debug)]
pub struct Ready {
    /// A target, as baa-healthwait takes it.
    pub target: OsString,
    /// From the start on.
    pub limit: Duration,
}

impl Ready {
    /// Whether its target can be asked at all.
    ///
    /// # Errors
    /// 2 and why not.
    pub fn check(&self) -> Result<()> {
        self.probe(Pid::own()).map(drop)
    }

    /// A target that tells who answers must be answered by `pid` or a descendant: an old process's answer is not the new one's.
    fn probe(&self, pid: Pid) -> Result<Arc<dyn Probe>> {
        let options = HttpOptions::default();
        let among = Demand { among: Some(vec![pid]), exclusive: true, ..Demand::default() };
        let owned = target::parse(&self.target, &options, &among);
        Ok(owned.or_else(|_| target::parse(&self.target, &options, &Demand::default()))?.probe)
    }
}

/// A question that is asked again and again, until it is answered or dropped.
pub(super) struct Asking {
    pub(super) bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicBool>,
    last: Arc<Mutex<String>>,
    probe: Arc<dyn Probe>,
}

impl Asking {
    /// Begins to ask whether `pid` serves.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(ready: &Ready, pid: Pid) -> Result<Asking> {
        let cannot = |cause: std::io::Error| Error::io("cannot ask for readiness", &cause);
        let probe = ready.probe(pid)?;
        let asking = Asking {
            bell: Arc::new(Bell::new().map_err(cannot)?),
            stop: Arc::default(),
            answered: Arc::default(),
            last: Arc::default(),
            probe: Arc::clone(&probe),
        };
        let (bell, stop, answered, last) = (Arc::clone(&asking.bell), Arc::clone(&asking.stop), Arc::clone(&asking.answered), Arc::clone(&asking.last));
        let work = move || {
            let (began, mut tries) = (Instant::now(), 0);
            while !stop.load(Ordering::SeqCst) {
                let asked = Instant::now();
                let outcome = probe.ask(asked + ANSWER);
                tries += 1;
                let Err(failure) = outcome else {
                    answered.store(true, Ordering::SeqCst);
                    return bell.ring();
                };
                let moment = Moment { cost: probe.cost(), age: began.elapsed(), spent: asked.elapsed().min(Duration::from_millis(1)), tries };
                let pause = pace::pause(moment, Some(&failure));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = failure.text;
                probe.doze(pause);
            }
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(work).map_err(cannot)?;
        Ok(asking)
    }

    /// Whether it serves.
    pub(super) fn answered(&self) -> bool {
        self.bell.silence();
        self.answered.load(Ordering::SeqCst)
    }

    /// Why not, as far as was seen.
    pub(super) fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.probe.cancel();
    }
}
