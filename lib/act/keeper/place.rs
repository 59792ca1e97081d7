//! What makes a keeper the only one: the lock of its label, with the files and the socket beside it, and the
//! lock of `--lock`. Others may remove them under it; then it makes them again, or, where another keeper was
//! faster, it ends.

use super::lockfile::{Held, LockRequest, Taken};
use super::request::KeeperRequest;
use crate::life;
use crate::service::embedded::KeeperPaths;
use crate::sys::file::{self, Lock};
use crate::sys::lines::Lines;
use crate::sys::say::Voice;
use crate::sys::signal::Signals;
use crate::sys::user;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at whether all of it is still there.
const LOOK: Duration = Duration::from_secs(2);

/// The place of a keeper.
pub(super) struct KeeperPlace {
    /// What it holds for its label.
    pub(super) label: Option<LabelPlace>,
    request: Option<LockRequest>,
    lock: Option<Held>,
    next: Instant,
    /// What was told of it last, so that it is told once.
    told: String,
}

/// The lock and the files of one label.
pub(super) struct LabelPlace {
    pub(super) paths: KeeperPaths,
    /// Where the outcome of the last restart or update is left for the next life.
    pub(super) sentinel: PathBuf,
    /// The socket, once it is listened on.
    pub(super) control: Option<Lines>,
    label: String,
    lock: Lock,
}

/// What a look has found.
pub(super) enum PlaceState {
    /// All is there.
    Kept,
    /// Something was gone, and was made again.
    Remade,
    /// Another keeper has it.
    Lost(Error),
}

impl KeeperPlace {
    /// Takes what is asked for, first the lock of `--lock`, which may be waited for.
    ///
    /// # Errors
    /// 75 when another keeper has it; 74, 77, 78 when it cannot be made.
    pub(super) fn take(request: &KeeperRequest, signals: &Signals) -> Result<Taken<KeeperPlace>> {
        let lock = match request.lock.as_ref().map(|lock| lock.take(signals)).transpose()? {
            Some(Taken::Signal(signal)) => return Ok(Taken::Signal(signal)),
            Some(Taken::Held(held)) => Some(held),
            None => None,
        };
        let label = request.label.as_deref().map(LabelPlace::open).transpose()?;
        let (request, next) = (request.lock.clone(), Instant::now() + LOOK);
        Ok(Taken::Held(KeeperPlace { label, request, lock, next, told: String::new() }))
    }

    /// The name of the keeper that its lives are marked with. A label means a keeper of this user in this
    /// runtime directory.
    pub(super) fn key(&self) -> String {
        match (&self.label, &self.lock) {
            (Some(label), _) => {
                let directory = file::runtime_dir();
                let name = format!("run {} {} {}", user::own_uid(), directory.display(), label.label);
                life::key(name.as_bytes())
            }
            (None, Some(lock)) => lock.key().to_owned(),
            (None, None) => life::key(b"run"),
        }
    }

    /// Where lives are written down, for whoever has the label or the lock next.
    pub(super) fn records(&self) -> Vec<PathBuf> {
        let label = self.label.as_ref().map(|label| label.paths.lives());
        label.into_iter().chain(self.lock.as_ref().map(Held::record)).collect()
    }

    /// Whether `--lock` is held.
    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Gives the lock of `--lock` back.
    pub(super) fn give_lock_back(&mut self) {
        self.lock = None;
    }

    /// When to look next; never for one that holds nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.label.is_some() || self.lock.is_some()).then_some(self.next)
    }

    /// Before a start: looks, and takes the lock again that was given back while nothing ran. Nothing is
    /// started without it (facts 1.9, 34).
    ///
    /// # Errors
    /// 75 while another has the lock; 74, 77.
    pub(super) fn take_again(&mut self) -> Result<bool> {
        match (&self.request, &self.lock) {
            (Some(request), None) => {
                self.lock = Some(request.take_now(true)?.ok_or_else(|| request.refusal())?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Looks whether all of it is there, and makes again what is not.
    pub(super) fn look(&mut self, voice: &Voice) -> PlaceState {
        self.next = Instant::now() + LOOK;
        match self.restore() {
            Ok(remade) => {
                self.told.clear();
                if remade { PlaceState::Remade } else { PlaceState::Kept }
            }
            Err(error) if error.status == Status::Busy => PlaceState::Lost(error),
            // Where it cannot be made again nobody else can take it either.
            Err(error) => {
                let text = error.to_string();
                if text != self.told {
                    voice.warn(&text);
                    self.told = text;
                }
                PlaceState::Kept
            }
        }
    }

    fn restore(&mut self) -> Result<bool> {
        let mut remade = false;
        if let Some(label) = &mut self.label {
            remade |= label.restore()?;
        }
        if let (Some(request), Some(lock)) = (&self.request, &mut self.lock)
            && !lock.is_at(&request.path)
        {
            *lock = request.take_now(true)?.ok_or_else(|| request.refusal())?;
            remade = true;
        }
        Ok(remade)
    }
}

impl LabelPlace {
    fn open(label: &str) -> Result<LabelPlace> {
        let paths = KeeperPaths::of(label);
        let lock = LabelPlace::lock(label, &paths)?;
        crate::service::intent::withdraw(&paths);
        let sentinel = file::state_dir().join("run").join(format!("{label}.sentinel.json"));
        Ok(LabelPlace { paths, sentinel, control: None, label: label.to_owned(), lock })
    }

    fn lock(label: &str, paths: &KeeperPaths) -> Result<Lock> {
        paths.make()?;
        let lock = Lock::take_soon(&paths.lock())
            .map_err(|cause| Error::io(format!("cannot lock '{}'", paths.lock().display()), &cause))?;
        let lock = lock
            .ok_or_else(|| Error::new(Status::Busy, format!("cannot keep {label}: another baa-run does")))?;
        // Only to inform; the kernel's lock is the truth.
        let _ = lock.inform(&format!("{}\n", json!({ "pid": std::process::id() })));
        Ok(lock)
    }

    /// Listens on the socket.
    pub(super) fn listen(&mut self) -> Result<()> {
        self.control = Some(Lines::listen(&self.paths.control())?);
        Ok(())
    }

    fn restore(&mut self) -> Result<bool> {
        let lost = !self.lock.is_at(&self.paths.lock());
        if lost {
            self.lock = LabelPlace::lock(&self.label, &self.paths)?;
        }
        let silent = self.control.as_ref().is_some_and(|control| !control.is_there());
        if silent {
            self.listen()?;
        }
        Ok(lost || silent)
    }
}
