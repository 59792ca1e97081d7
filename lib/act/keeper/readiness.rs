//! Whether a command that was started serves: asked aside, and answered only by a process of its own; or told by itself, as sd_notify(3) does.

use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::pace::{self, Moment};
use crate::service::target::{self, HttpOptions};
use crate::sys::file;
use crate::sys::process::Pid;
use crate::sys::signal::Bell;
use crate::words::error::{Error, Result};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What is asked, and how long it may take until the answer is good.
#[derive(Clone, Debug)]
pub struct Ready {
    /// A target, as baa-healthwait takes it, or `notify`: the command tells.
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
        if self.is_told() { Ok(()) } else { self.probe(Pid::own()).map(drop) }
    }

    /// Whether the command tells by itself.
    pub(super) fn is_told(&self) -> bool {
        self.target == "notify"
    }

    /// A target that tells who answers must be answered by `pid` or a descendant: an old process's answer is not the new one's.
    fn probe(&self, pid: Pid) -> Result<Arc<dyn Probe>> {
        let options = HttpOptions::default();
        let among = Demand { among: Some(vec![pid]), exclusive: true, ..Demand::default() };
        let owned = target::parse(&self.target, &options, &among);
        Ok(owned.or_else(|_| target::parse(&self.target, &options, &Demand::default()))?.probe)
    }
}

/// A socket of one life, which tells over it that it is ready.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    /// A new one, in a directory that is ours alone. Each life has its own: what an old one says is not the new one's.
    ///
    /// # Errors
    /// Those of mkdir(2) and bind(2).
    pub(super) fn open() -> Result<Notify> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cannot = |cause: std::io::Error| Error::io("cannot make a socket for NOTIFY_SOCKET", &cause);
        let directory = file::runtime_dir().join("notify");
        file::own_dir(&file::runtime_dir()).and_then(|()| file::private_dir(&directory)).map_err(cannot)?;
        let path = directory.join(format!("{}-{}", Pid::own(), COUNT.fetch_add(1, Ordering::SeqCst)));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).map_err(cannot)?;
        socket.set_nonblocking(true).map_err(cannot)?;
        Ok(Notify { socket, path })
    }

    /// The variable that tells of it.
    pub(super) fn variable(&self) -> (OsString, OsString) {
        ("NOTIFY_SOCKET".into(), self.path.clone().into())
    }

    fn told(&self) -> bool {
        let (mut ready, mut bytes) = (false, [0u8; 4096]);
        while let Ok(count) = self.socket.recv(&mut bytes) {
            ready |= bytes[..count].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
        }
        ready
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A question that is asked again and again, until it is answered or dropped.
pub(super) struct Asking {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicBool>,
    last: Arc<Mutex<String>>,
    how: How,
}

enum How {
    Probe(Arc<dyn Probe>),
    Told(Notify),
}

impl Asking {
    /// Begins to ask whether `pid` serves, or to listen to what it tells over `notify`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(ready: &Ready, pid: Pid, notify: Option<Notify>) -> Result<Asking> {
        let cannot = |cause: std::io::Error| Error::io("cannot ask for readiness", &cause);
        let bell = Arc::new(Bell::new().map_err(cannot)?);
        if let Some(notify) = notify {
            let last = Arc::new(Mutex::new("it has not said READY=1".to_owned()));
            return Ok(Asking { bell, stop: Arc::default(), answered: Arc::default(), last, how: How::Told(notify) });
        }
        let probe = ready.probe(pid)?;
        let asking = Asking { bell, stop: Arc::default(), answered: Arc::default(), last: Arc::default(), how: How::Probe(Arc::clone(&probe)) };
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

    /// Readable when it may be answered.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.how {
            How::Probe(_) => self.bell.fd(),
            How::Told(notify) => notify.socket.as_fd(),
        }
    }

    /// Whether it serves.
    pub(super) fn answered(&self) -> bool {
        if let How::Told(notify) = &self.how {
            return notify.told();
        }
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
        if let How::Probe(probe) = &self.how {
            probe.cancel();
        }
    }
}
