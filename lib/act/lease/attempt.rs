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
    /// Whether the lock is another's.
    pub locked: bool,
}

/// Asks `store` once for the lease of `claim`, to be renewed every `interval` at most.
///
/// # Errors
/// As `Store::acquire`; 74 and 77 when the lock cannot be taken.
pub fn attempt(store: &dyn Store, claim: &Claim, interval: Duration) -> Result<Attempt> {
    let path = lock_file(store, &claim.lease);
    let lock = match &path {
        Some(path) => match take(path).map_err(|cause| cannot_lock(path, &cause))? {
            None => {
                return Ok(Attempt { answer: held(store, claim)?, holder: None, lock: None, locked: true });
            }
            lock => lock,
        },
        None => None,
    };
    let sent = now()?;
    let answer = store.acquire(claim)?;
    let ClaimAnswer::Ours { record, .. } = &answer else {
        // Whoever waits must not have the lock: it may be stopped, and would keep it from all others.
        return Ok(Attempt { answer, holder: None, lock: None, locked: false });
    };
    let holder = Holder::granted(sent, record.term, claim.ttl, interval);
    // An answer that took too long grants nothing any more.
    let holder = Some(holder).filter(|holder| now().is_ok_and(|now| holder.may_begin(now)));
    Ok(Attempt { answer, holder, lock, locked: false })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::lease::deadline::Deadline;
    use crate::act::lease::hold::renew;
    use crate::act::lease::holder::Renewal;
    use crate::store::Beat;

    /// A store that takes its time, or has it taken by the wire, and grants whatever it is asked for.
    struct Slow(Option<PathBuf>);

    impl Slow {
        fn grant(claim: &Claim) -> Result<ClaimAnswer> {
            std::thread::sleep(Duration::from_millis(60));
            let record = Record { holder: Some(claim.holder.clone()), term: 1, ..Record::default() };
            Ok(ClaimAnswer::Ours { record, renewed: false })
        }
    }

    impl Store for Slow {
        fn locks(&self) -> Option<PathBuf> {
            self.0.clone()
        }

        fn pace(&self) -> Duration {
            Duration::ZERO
        }

        fn acquire(&self, claim: &Claim) -> Result<ClaimAnswer> {
            Slow::grant(claim)
        }

        fn renew(&self, claim: &Claim, _: u64) -> Result<ClaimAnswer> {
            Slow::grant(claim)
        }

        fn release(&self, _: &Claim, _: u64) -> Result<bool> {
            Ok(true)
        }

        fn read(&self, _: &str) -> Result<Option<Record>> {
            Ok(None)
        }

        fn beat(&self, _: &Beat) -> Result<()> {
            Ok(())
        }
    }

    fn claim(ttl: Duration) -> Claim {
        Claim { lease: "l".to_owned(), holder: "h".to_owned(), ttl, ..Claim::default() }
    }

    /// Nobody knows when the store has counted from but that it was not before it was asked: a lease that
    /// counted from the answer could outlast the store's.
    #[test]
    fn a_lease_counts_from_before_the_request() {
        let ttl = Duration::from_secs(10);
        let asked = now().unwrap();
        let holder = attempt(&Slow(None), &claim(ttl), ttl / 3).unwrap().holder.unwrap();
        let latest = Deadline::of(asked + Duration::from_millis(55), ttl);
        assert!(holder.until().hard < latest.hard, "{:?} {latest:?}", holder.until());
    }

    #[test]
    fn a_renewal_counts_from_before_the_request() {
        let ttl = Duration::from_secs(10);
        let mut holder = Holder::granted(now().unwrap(), 1, ttl, ttl / 3);
        let asked = now().unwrap();
        let (renewal, _) = renew(&Slow(None), &claim(ttl), &mut holder);
        let latest = Deadline::of(asked + Duration::from_millis(55), ttl);
        assert!(
            matches!(renewal, Renewal::Extended(until) if until.hard < latest.hard),
            "{renewal:?} {latest:?}"
        );
    }

    /// What is granted too late is no lease.
    #[test]
    fn an_answer_that_took_too_long_grants_nothing() {
        let ttl = Duration::from_millis(50);
        assert!(attempt(&Slow(None), &claim(ttl), ttl).unwrap().holder.is_none());
    }

    /// The store would grant it; the lock knows better. It is freed with the last who has inherited it, a
    /// share of it too, and one who was refused keeps nothing.
    #[test]
    fn a_lease_is_not_granted_while_its_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let store = Slow(Some(dir.path().join("locks")));
        let ask = || attempt(&store, &claim(Duration::from_secs(9)), Duration::from_secs(3)).unwrap();
        let first = ask();
        assert!(first.holder.is_some());
        let inherited = first.lock.unwrap().into_shared().unwrap();
        let second = ask();
        assert!(second.holder.is_none() && second.lock.is_none());
        assert!(matches!(second.answer, ClaimAnswer::Held(record) if record.holder.is_none()));
        drop(inherited);
        assert!(ask().holder.is_some());
        let share = share(lock_file(&store, "l").as_ref()).unwrap().unwrap();
        assert!(share.is_some() && ask().holder.is_none());
        drop(share);
        assert!(ask().holder.is_some());
        let other = Claim { lease: "m".to_owned(), ..claim(Duration::from_secs(9)) };
        let _held = ask().lock;
        assert!(attempt(&store, &other, Duration::from_secs(3)).unwrap().holder.is_some());
        let mode = std::os::unix::fs::PermissionsExt::mode;
        let directory = std::fs::metadata(dir.path().join("locks")).unwrap();
        assert_eq!(mode(&directory.permissions()) & 0o777, 0o700);
    }
}
