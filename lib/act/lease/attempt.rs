//! One attempt to get a lease: dated from before the store is asked, and, on a store of this machine, under
//! a lock that the command and all that it starts inherit. So a lease is not given anew while anything lives
//! that ran under it, whoever was killed, and whatever the store's record says.

use crate::act::lease::hold::now;
use crate::act::lease::holder::Holder;
use crate::life;
use crate::store::{BootMoment, Claim, ClaimAnswer, Record, Store};
use crate::sys::file::{self, Lock};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What came of an attempt.
pub struct Attempt {
    /// The store's answer; a record of nobody's, where what the last leader has started still runs.
    pub answer: ClaimAnswer,
    /// The lease, if it is ours and there is time to begin anything.
    pub holder: Option<Holder>,
    /// The lock of one that is ours, where there is such a lock.
    pub lock: Option<Lock>,
}

/// Asks `store` once for the lease of `claim`, to be renewed every `interval` at most.
///
/// # Errors
/// As `Store::acquire`; 74 and 77 when the lock cannot be taken.
pub fn attempt(store: &dyn Store, claim: &Claim, interval: Duration) -> Result<Attempt> {
    let path = lock_file(store, &claim.lease);
    let lock = match &path {
        Some(path) => match take(path).map_err(|cause| cannot_lock(path, &cause))? {
            None => return Ok(Attempt { answer: held(store, claim)?, holder: None, lock: None }),
            lock => lock,
        },
        None => None,
    };
    let sent = now()?;
    let answer = store.acquire(claim)?;
    let ClaimAnswer::Ours { record, .. } = &answer else {
        // Whoever waits must not have the lock: it may be stopped, and would keep it from all others.
        return Ok(Attempt { answer, holder: None, lock: None });
    };
    let holder = Holder::granted(sent, record.term, claim.ttl, interval);
    // An answer that took too long grants nothing any more.
    let holder = Some(holder).filter(|holder| now().is_ok_and(|now| holder.may_begin(now)));
    Ok(Attempt { answer, holder, lock })
}

fn take(path: &Path) -> io::Result<Option<Lock>> {
    file::private_dir(path.parent().unwrap_or(Path::new(".")))?;
    Lock::take(path)
}

/// The answer to who finds the lock taken.
fn held(store: &dyn Store, claim: &Claim) -> Result<ClaimAnswer> {
    let now = BootMoment::now()?;
    let mut record = store.read(&claim.lease)?.unwrap_or_default();
    if record.leader(&now).is_none() {
        record = Record { holder: None, ..record };
    }
    Ok(ClaimAnswer::Held(record))
}

/// A share of the lock of a lease that is ours, for one more thing that runs under it; the outer `None` where
/// there is no lock, the inner where another has it alone.
///
/// # Errors
/// 74 and 77 when it cannot be taken.
pub fn share(path: Option<&PathBuf>) -> Result<Option<Option<Lock>>> {
    path.map(|path| Lock::take_share(path).map_err(|cause| cannot_lock(path, &cause))).transpose()
}

/// The file of the lock of `lease`, in a directory for the store's owner alone; `None` where the store is not
/// of this machine.
pub fn lock_file(store: &dyn Store, lease: &str) -> Option<PathBuf> {
    store.locks().map(|directory| directory.join(life::key(lease.as_bytes())))
}

fn cannot_lock(path: &Path, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::new(Status::NotPermitted, format!("cannot lock {}: {cause}", path.display()))
        }
        _ => Error::io(format!("cannot lock {}", path.display()), cause),
    }
}
