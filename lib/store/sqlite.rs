//! A store in a file of this machine, for all of its processes: SQLite, each change on the disk before it is acknowledged.
//!
//! Time is the kernel's, which all processes of a machine share; a file on a network is no store.

use crate::store::{self, Answer, Claim, Decision, Moment, Record, Store};
use crate::sys::{file, kernel};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the tables; a file of a newer one is not touched.
const VERSION: i64 = 1;
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT,
    host TEXT NOT NULL,
    instance TEXT NOT NULL,
    term INTEGER NOT NULL,
    ttl_ms INTEGER NOT NULL,
    boot TEXT NOT NULL,
    expires_ns INTEGER NOT NULL
) STRICT;
";

/// A store in a file.
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the store at `path`, made 0600 where it is missing.
    ///
    /// # Errors
    /// 65 for a file that is no database of ours, or of a newer version; 77 and 74 for one that cannot be written.
    pub fn open(path: &Path) -> Result<Sqlite> {
        let cannot = |cause: &std::io::Error| Error::io(format!("cannot open the store {}", path.display()), cause);
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            file::own_dir(directory).map_err(|cause| cannot(&cause))?;
        }
        file::open_log(path).map_err(|cause| cannot(&cause))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| told(path, &error))?;
        let store = Sqlite { connection, path: path.to_owned() };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&self) -> Result<()> {
        let told = |error: rusqlite::Error| told(&self.path, &error);
        self.connection.busy_timeout(BUSY).map_err(told)?;
        let version: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(told)?;
        if version > VERSION {
            return Err(Error::new(Status::Malformed, format!("cannot use the store {}: it has version {version}, newer than {VERSION}", self.path.display())));
        }
        // FULL: what was acknowledged is on the disk, also in the write-ahead log.
        self.connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").map_err(told)?;
        if version < VERSION {
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(told)?;
            // Another process may have made them while we waited.
            let version: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(told)?;
            let tables = if version < VERSION { TABLES } else { "" };
            self.connection.execute_batch(&format!("{tables} PRAGMA user_version = {VERSION}; COMMIT")).map_err(told)?;
        }
        Ok(())
    }

    /// Reads, decides and writes as one.
    fn change(&self, lease: &str, decide: impl FnOnce(Option<&Record>, &Moment) -> Decision) -> Result<(Decision, Option<Record>)> {
        let told = |error: rusqlite::Error| told(&self.path, &error);
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(told)?;
        let found = find(&transaction, lease).map_err(told)?;
        // The time is read once the file is ours: what waiting for it took is part of it.
        let decision = decide(found.as_ref(), &now()?);
        if let Decision::Write(record, _) = &decision {
            let row = params![
                lease,
                record.holder,
                record.host,
                record.instance,
                whole(record.term),
                whole(record.ttl.as_millis()),
                record.expires.boot,
                whole(record.expires.since.as_nanos())
            ];
            transaction.execute("INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row).map_err(told)?;
        }
        transaction.commit().map_err(told)?;
        Ok((decision, found))
    }
}

fn answer((decision, found): (Decision, Option<Record>)) -> Result<Answer> {
    match (decision, found) {
        (Decision::Write(record, renewed), _) => Ok(Answer::Ours { term: record.term, renewed }),
        (Decision::Refuse, Some(record)) => Ok(Answer::Held(record)),
        (Decision::Refuse, None) => Err(Error::new(Status::Lost, "the store does not know the lease any more")),
    }
}

impl Store for Sqlite {
    fn pace(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn acquire(&self, claim: &Claim) -> Result<Answer> {
        answer(self.change(&claim.lease, |found, now| store::decide_acquire(found, claim, now))?)
    }

    fn renew(&self, claim: &Claim, term: u64) -> Result<Answer> {
        answer(self.change(&claim.lease, |found, now| store::decide_renew(found, claim, term, now))?)
    }

    fn release(&self, claim: &Claim, term: u64) -> Result<bool> {
        let (decision, _) = self.change(&claim.lease, |found, _| store::decide_release(found, claim, term))?;
        Ok(decision != Decision::Refuse)
    }

    fn read(&self, lease: &str) -> Result<Option<(Record, Duration)>> {
        let found = find(&self.connection, lease).map_err(|error| told(&self.path, &error))?;
        let now = now()?;
        Ok(found.map(|record| {
            let left = record.left(&now);
            (record, left)
        }))
    }
}

fn find(connection: &Connection, lease: &str) -> rusqlite::Result<Option<Record>> {
    let mut statement = connection.prepare_cached("SELECT holder, host, instance, term, ttl_ms, boot, expires_ns FROM leases WHERE name = ?1")?;
    statement
        .query_row([lease], |row| {
            let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
            Ok(Record {
                holder: row.get(0)?,
                host: row.get(1)?,
                instance: row.get(2)?,
                term: number(3)?,
                ttl: Duration::from_millis(number(4)?),
                expires: Moment { boot: row.get(5)?, since: Duration::from_nanos(number(6)?) },
            })
        })
        .optional()
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn now() -> Result<Moment> {
    let moment = kernel::boot().zip(kernel::uptime()).map(|(boot, since)| Moment { boot, since });
    moment.ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))
}

fn told(path: &Path, error: &rusqlite::Error) -> Error {
    let what = format!("cannot use the store {}", path.display());
    let status = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Status::Malformed,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Status::NotPermitted,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Status::Unavailable,
        _ => Status::Io,
    };
    Error::new(status, format!("{what}: {}", crate::words::error::lower_first(&crate::words::error::brief(&error.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(holder: &str, ttl: u64) -> Claim {
        Claim { lease: "l".to_owned(), holder: holder.to_owned(), host: "h".to_owned(), instance: holder.to_owned(), ttl: Duration::from_millis(ttl) }
    }

    #[test]
    fn of_many_claims_at_once_one_is_granted_under_each_term() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let granted: Vec<u64> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..8)
                .map(|who| {
                    let path = &path;
                    scope.spawn(move || {
                        let store = Sqlite::open(path).unwrap();
                        let claim = claim(&format!("c{who}"), 600_000);
                        let mut terms = Vec::new();
                        for _ in 0..20 {
                            if let Answer::Ours { term, .. } = store.acquire(&claim).unwrap() {
                                terms.push(term);
                                assert!(store.release(&claim, term).unwrap());
                            }
                        }
                        terms
                    })
                })
                .collect();
            claims.into_iter().flat_map(|claim| claim.join().unwrap()).collect()
        });
        let mut sorted = granted.clone();
        sorted.sort_unstable();
        assert!(!granted.is_empty());
        assert_eq!(sorted, (1..=granted.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_not_ours_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, "this is no database, however long it may be".repeat(100)).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(Sqlite::open(&path).map(|_| ()).unwrap_err().status, Status::Malformed);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::remove_file(&path).unwrap();
        drop(Sqlite::open(&path).unwrap());
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let why = Sqlite::open(&path).map(|_| ()).unwrap_err();
        assert!(why.status == Status::Malformed && why.to_string().contains("newer"), "{why}");
    }
}
