//! A store in a file of this machine, for all of its processes: SQLite, each change on the disk before it is
//! acknowledged.
//!
//! Time is the kernel's, which all processes of a machine share; a file on a network is no store.

mod names;
mod tables;

use crate::store::controller::{Beat, HeardController};
use crate::store::guard::Guard;
use crate::store::{
    self, BootMoment, Claim, ClaimAnswer, ControlStore, Decision, LeaseChange, Record, Store, StoreReply,
    StoreRequest,
};
use crate::sys::{file, random, trust};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use names::Counted;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};
use std::cell::RefCell;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tables::{STEPS, VERSION};

/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// By how much a copy's terms are higher.
const RAISED: i64 = 1_000_000;
/// How many changes of hands are kept.
const CHANGES: i64 = 1000;
/// How many statements are kept prepared: all of ours.
const STATEMENTS: usize = 32;
/// How many requests reach the disk at once, at most.
const BATCH: usize = 1024;

/// A file is never made by SQLite, nor is a link followed to one.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// A store in a file.
pub struct Sqlite {
    connection: Connection,
    /// As it was given, for people.
    path: PathBuf,
    /// Where it is without links: its log and its locks are named after it.
    real: PathBuf,
    /// Device and inode of the file, as it was opened.
    identity: (u64, u64),
    /// How many names there are.
    counted: RefCell<Counted>,
}

impl Sqlite {
    /// Opens the store at `path`, made 0600 where it is missing.
    ///
    /// # Errors
    /// 65 for a file that is no database of ours, or of a newer version; 77 and 74 for one that cannot be
    /// written.
    pub fn open(path: &Path) -> Result<Sqlite> {
        let cannot =
            |cause: &std::io::Error| Error::io(format!("cannot open the store {}", path.display()), cause);
        let whole = std::path::absolute(path).map_err(|cause| cannot(&cause))?;
        // SQLite refuses every link on the way, root's too; those that are left have been judged.
        let directory = whole.parent().unwrap_or(Path::new("/"));
        let directory = file::own_dir(directory).map_err(|cause| cannot(&cause))?;
        let real = directory.join(whole.file_name().unwrap_or_default());
        // Made by us, so that it is nobody else's to read. One that is there must not even be opened: closing
        // any descriptor of it would free all locks that this process has on it (fcntl(2)), and another
        // process would take the store's log away under us.
        file::make(&real).map_err(|cause| cannot(&cause))?;
        let found = identity(&real).map_err(|cause| cannot(&cause))?;
        // Its log and its locks go by its name, so under a second name it would be another store; and one
        // that others can write to is no store of ours.
        let judged = std::fs::symlink_metadata(&real)
            .and_then(|found| Ok(trust::judge(&real, &found)?))
            .map_err(|cause| trust::told(format!("cannot use the store {}", path.display()), &cause));
        judged?;
        let connection = Connection::open_with_flags(&real, FLAGS).map_err(|error| told(path, &error))?;
        let (path, counted) = (path.to_owned(), RefCell::default());
        let store = Sqlite { connection, path, real, identity: found, counted };
        // Of several who open a new file at once SQLite refuses some without waiting, when it is changed to a
        // write-ahead log (sqlite3_busy_handler: not where two could wait for each other).
        let end = Instant::now() + BUSY;
        loop {
            match store.prepare() {
                Err(error) if error.status == Status::Unavailable && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                outcome => return outcome.map(|()| store),
            }
        }
    }

    fn prepare(&self) -> Result<()> {
        let told = |error: rusqlite::Error| told(&self.path, &error);
        self.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        self.connection.busy_timeout(BUSY).map_err(told)?;
        let version: i64 =
            self.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(told)?;
        if version > VERSION {
            return Err(Error::new(
                Status::Malformed,
                format!(
                    "cannot use the store {}: it has version {version}, newer than {VERSION}",
                    self.path.display()
                ),
            ));
        }
        // FULL: what was acknowledged is on the disk, also in the write-ahead log.
        self.connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .map_err(told)?;
        if version < VERSION {
            let transaction = self.begin()?;
            // Another process may have made them while we waited.
            let version: i64 =
                transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(told)?;
            let done = usize::try_from(version).unwrap_or(0);
            transaction
                .execute_batch(&format!(
                    "{} PRAGMA user_version = {VERSION};",
                    STEPS[done.min(STEPS.len())..].concat()
                ))
                .map_err(told)?;
            transaction.commit().map_err(told)?;
        }
        Ok(())
    }

    /// Copies the store to `to`, a new file, as it is at one moment. The copy's terms are raised by `RAISED`
    /// and its leases are nobody's: when it is put back, what was given since is not given again.
    ///
    /// # Errors
    /// 65 to 77 as for `open`; 75 where `to` is there; 77 in a directory that others can change.
    pub fn back_up(&self, to: &Path) -> Result<()> {
        let told = |error: rusqlite::Error| self::told(to, &error);
        if to.exists() {
            return Err(Error::new(Status::Busy, format!("cannot write {}: it is there", to.display())));
        }
        let cannot = |cause: std::io::Error| Error::io(format!("cannot write {}", to.display()), &cause);
        let whole = std::path::absolute(to).map_err(cannot)?;
        // Where others can change the directory, they say which file it is that we change.
        let beside = trust::check_directory(whole.parent().unwrap_or(Path::new("/"))).map_err(cannot)?;
        let target = beside.join(whole.file_name().unwrap_or_default());
        // A directory like /tmp is everybody's, and SQLite believes what lies beside a file: a copy is made
        // in one that is ours alone, and nobody can put another in its place.
        let room = beside.join(format!(".baa-{}.part", random::hex()));
        std::fs::DirBuilder::new().mode(0o700).create(&room).map_err(cannot)?;
        let staged = room.join("copy");
        let written = (|| {
            // Made by us, so that it is nobody else's to read.
            file::make(&staged).map_err(cannot)?;
            self.connection
                .execute("VACUUM INTO ?1", [staged.to_string_lossy()])
                .map_err(|error| self::told(&self.path, &error))?;
            let copy = Connection::open_with_flags(&staged, FLAGS).map_err(told)?;
            // Beyond the last term there is no other.
            let raise = "UPDATE leases SET term = min(term, 9223372036854775807 - ?1) + ?1, \
                         holder = NULL, instance = ''";
            copy.execute(raise, [RAISED]).map_err(told)?;
            copy.close().map_err(|(_, error)| told(error))?;
            std::fs::File::open(&staged).and_then(|file| file.sync_all()).map_err(cannot)?;
            // Never over another file.
            std::fs::hard_link(&staged, &target).map_err(cannot)
        })();
        let _ = std::fs::remove_dir_all(&room);
        written
    }

    fn begin(&self) -> Result<Transaction<'_>> {
        // Whoever opens a store that was put in the place of ours sees another truth; then ours is no truth
        // any more.
        if identity(&self.real).ok() != Some(self.identity) {
            return Err(Error::new(
                Status::Io,
                format!(
                    "cannot use the store {}: it was replaced or removed while it was open",
                    self.path.display()
                ),
            ));
        }
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| told(&self.path, &error))
    }

    /// Decides on what is `stored` and writes, within `transaction`, at `now`.
    fn change(
        &self,
        transaction: &Transaction<'_>,
        now: &BootMoment,
        lease: &str,
        stored: Option<Record>,
        decide: impl FnOnce(Option<&Record>) -> Decision,
    ) -> rusqlite::Result<(Decision, Option<Record>)> {
        let found = stored.clone().map(|record| record.carried_over(now));
        let decision = decide(found.as_ref());
        match &decision {
            Decision::Write(record, _) => {
                write(transaction, lease, record)?;
                if found
                    .as_ref()
                    .is_none_or(|found| found.term != record.term || found.holder != record.holder)
                {
                    let row = params![
                        lease,
                        whole(record.term),
                        record.holder,
                        record.host,
                        whole(store::unix_now())
                    ];
                    transaction
                        .prepare_cached(
                            "INSERT INTO changes (lease, term, holder, host, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(row)?;
                    transaction
                        .prepare_cached(
                            "DELETE FROM changes WHERE number <= (SELECT max(number) FROM changes) - ?1",
                        )?
                        .execute([CHANGES])?;
                }
            }
            Decision::Refuse => {
                if let Some(found) = found.as_ref().filter(|found| Some(*found) != stored.as_ref()) {
                    write(transaction, lease, found)?;
                }
            }
        }
        Ok((decision, found))
    }

    fn one(
        &self,
        transaction: &Transaction<'_>,
        now: &BootMoment,
        ask: &StoreRequest,
    ) -> rusqlite::Result<Result<StoreReply>> {
        Ok(match ask {
            StoreRequest::Acquire(claim) => {
                let stored = find(transaction, &claim.lease)?;
                if let (None, Some(quota)) = (&stored, &claim.quota)
                    && let Err(why) = self.make(transaction, quota, &claim.lease)?
                {
                    return Ok(Ok(StoreReply::NoRoom(why)));
                }
                let said = self.change(transaction, now, &claim.lease, stored, |found| {
                    store::decide_acquire(found, claim, now)
                })?;
                match said {
                    (Decision::Refuse, Some(found)) if found.leader(now).is_none() => {
                        Err(store::used_up(&claim.lease))
                    }
                    said => answer(said),
                }
            }
            StoreRequest::Renew(claim, term) => {
                let stored = find(transaction, &claim.lease)?;
                answer(self.change(transaction, now, &claim.lease, stored, |found| {
                    store::decide_renew(found, claim, *term, now)
                })?)
            }
            StoreRequest::Release(claim, term) => {
                let stored = find(transaction, &claim.lease)?;
                let (decision, found) = self.change(transaction, now, &claim.lease, stored, |found| {
                    store::decide_release(found, claim, *term)
                })?;
                match found {
                    Some(found) if found.keeps_out(claim, *term) => Err(store::guarded(&claim.lease)),
                    _ => Ok(StoreReply::Released(decision != Decision::Refuse)),
                }
            }
            StoreRequest::Heartbeat(beat) => self.note(transaction, beat)?,
            StoreRequest::Probe => {
                let count = "INSERT INTO probe VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1";
                transaction.prepare_cached(count)?.execute([])?;
                Ok(StoreReply::Noted)
            }
        })
    }

    fn all(&self, asks: &[StoreRequest]) -> Result<Vec<Result<StoreReply>>> {
        let said = self.written(asks);
        if said.is_err() {
            // Nothing of it was written, nor are its names there.
            self.counted.take();
        }
        said
    }

    fn written(&self, asks: &[StoreRequest]) -> Result<Vec<Result<StoreReply>>> {
        let told = |error: rusqlite::Error| told(&self.path, &error);
        let transaction = self.begin()?;
        // The time is read once the file is ours: what waiting for it took is part of it.
        let now = BootMoment::now()?;
        let said = asks
            .iter()
            .map(|ask| self.one(&transaction, &now, ask))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(told)?;
        transaction.commit().map_err(told)?;
        Ok(said)
    }

    fn single(&self, ask: StoreRequest) -> Result<StoreReply> {
        self.all(&[ask])?.pop().unwrap_or_else(|| Err(Error::bug("the store said nothing")))
    }

    fn rows<T>(&self, query: &str, row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        let rows = self
            .connection
            .prepare_cached(query)
            .and_then(|mut statement| statement.query_map([], row)?.collect());
        rows.map_err(|error| told(&self.path, &error))
    }
}

/// The names of all leases in the store at `path`, sorted. Nothing is made or changed: where no process has
/// it open it is read as it lies there.
///
/// # Errors
/// Where there is none, where it is no store of ours, or where it is busy for longer than `limit`.
pub fn lease_names(path: &Path, limit: Duration) -> Result<Vec<String>> {
    let cannot = |cause: std::io::Error| Error::io(format!("cannot read {}", path.display()), &cause);
    let real = trust::follow(path).map_err(cannot)?;
    trust::judge(&real, &std::fs::symlink_metadata(&real).map_err(cannot)?)
        .map_err(|why| cannot(why.into()))?;
    let beside = |end: &str| {
        let mut name = real.clone().into_os_string();
        name.push(end);
        Path::new(&name).exists()
    };
    // A reader of a file that is being written to uses the log and its index, and would make what is missing.
    let still = if beside("-wal") && beside("-shm") { "" } else { "&immutable=1" };
    let encoded: String =
        real.as_os_str().as_encoded_bytes().iter().map(|byte| format!("%{byte:02x}")).collect();
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let told = |error: rusqlite::Error| told(path, &error);
    let connection =
        Connection::open_with_flags(format!("file:{encoded}?mode=ro{still}"), flags).map_err(told)?;
    connection.busy_timeout(limit).map_err(told)?;
    let mut statement = connection.prepare("SELECT name FROM leases ORDER BY name").map_err(told)?;
    let names = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    names.map_err(told)
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn answer((decision, found): (Decision, Option<Record>)) -> Result<StoreReply> {
    match (decision, found) {
        (Decision::Write(record, renewed), _) => {
            Ok(StoreReply::Answer(ClaimAnswer::Ours { record, renewed }))
        }
        (Decision::Refuse, Some(record)) => Ok(StoreReply::Answer(ClaimAnswer::Held(record))),
        (Decision::Refuse, None) => {
            Err(Error::new(Status::Lost, "the store does not know the lease any more"))
        }
    }
}

fn of_a_claim(told: StoreReply) -> Result<ClaimAnswer> {
    if let StoreReply::Answer(answer) = told {
        Ok(answer)
    } else {
        Err(Error::bug("the store answered another question"))
    }
}

impl Store for Sqlite {
    fn locks(&self) -> Option<PathBuf> {
        let mut name = self.real.clone().into_os_string();
        name.push("-locks");
        Some(name.into())
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn acquire(&self, claim: &Claim) -> Result<ClaimAnswer> {
        of_a_claim(self.single(StoreRequest::Acquire(claim.clone()))?)
    }

    fn renew(&self, claim: &Claim, term: u64) -> Result<ClaimAnswer> {
        of_a_claim(self.single(StoreRequest::Renew(claim.clone(), term))?)
    }

    fn release(&self, claim: &Claim, term: u64) -> Result<bool> {
        Ok(matches!(self.single(StoreRequest::Release(claim.clone(), term))?, StoreReply::Released(true)))
    }

    fn read(&self, lease: &str) -> Result<Option<Record>> {
        find(&self.connection, lease).map_err(|error| told(&self.path, &error))
    }

    fn beat(&self, beat: &Beat) -> Result<()> {
        self.single(StoreRequest::Heartbeat(beat.clone())).map(drop)
    }
}

impl ControlStore for Sqlite {
    fn leases(&self) -> Result<Vec<(String, Record)>> {
        self.rows(&format!("SELECT {COLUMNS}, name FROM leases ORDER BY name"), |row| {
            Ok((row.get(12)?, record(row)?))
        })
    }

    fn probe(&self) -> Result<()> {
        self.single(StoreRequest::Probe).map(drop)
    }

    fn controllers(&self) -> Result<Vec<HeardController>> {
        self.heard()
    }

    fn changes(&self, count: usize) -> Result<Vec<LeaseChange>> {
        self.rows(
            &format!("SELECT lease, term, holder, host, at FROM changes ORDER BY number DESC LIMIT {count}"),
            |row| {
                let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
                Ok(LeaseChange {
                    lease: row.get(0)?,
                    term: number(1)?,
                    holder: row.get(2)?,
                    host: row.get(3)?,
                    at: number(4)?,
                })
            },
        )
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn together(&self, asks: &[StoreRequest]) -> Vec<Result<StoreReply>> {
        match self.all(asks) {
            Ok(said) => said,
            // Nothing of it was written: each is told so.
            Err(error) => asks.iter().map(|_| Err(Error::new(error.status, error.to_string()))).collect(),
        }
    }
}

const COLUMNS: &str = "holder, host, instance, term, ttl_ms, boot, expires_ns, preferred, metadata, far, \
                       peer, secret";

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
    Ok(Record {
        holder: row.get(0)?,
        host: row.get(1)?,
        instance: row.get(2)?,
        term: number(3)?,
        ttl: span::bounded(Duration::from_millis(number(4)?)),
        expires: BootMoment { boot: row.get(5)?, since: Duration::from_nanos(number(6)?) },
        preferred: row.get(7)?,
        metadata: row.get(8)?,
        far: row.get(9)?,
        guard: Guard { peer: row.get(10)?, secret: row.get(11)? },
    })
}

fn find(connection: &Connection, lease: &str) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM leases WHERE name = ?1"))?
        .query_row([lease], record)
        .optional()
}

fn write(transaction: &Transaction<'_>, lease: &str, record: &Record) -> rusqlite::Result<()> {
    let row = params![
        lease,
        record.holder,
        record.host,
        record.instance,
        whole(record.term),
        whole(record.ttl.as_millis()),
        record.expires.boot,
        whole(record.expires.since.as_nanos()),
        record.preferred,
        record.metadata,
        record.far,
        record.guard.peer,
        record.guard.secret
    ];
    let names = format!(
        "INSERT OR REPLACE INTO leases (name, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
             ?11, ?12, ?13)"
    );
    transaction.prepare_cached(&names)?.execute(row).map(drop)
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn told(path: &Path, error: &rusqlite::Error) -> Error {
    let what = format!("cannot use the store {}", path.display());
    let status = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Status::Malformed,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Status::NotPermitted,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Status::Unavailable,
        _ => Status::Io,
    };
    Error::new(
        status,
        format!(
            "{what}: {}",
            crate::words::error::lower_first(&crate::words::error::brief(&error.to_string()))
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(holder: &str, ttl: u64) -> Claim {
        Claim {
            lease: "l".to_owned(),
            holder: holder.to_owned(),
            host: "h".to_owned(),
            instance: holder.to_owned(),
            ttl: Duration::from_millis(ttl),
            ..Claim::default()
        }
    }

    /// A new store is changed to a write-ahead log by whoever is first.
    #[test]
    fn several_open_a_new_store_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..40 {
            let path = dir.path().join(format!("{round}.db"));
            let barrier = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        barrier.wait();
                        drop(Sqlite::open(&path).unwrap());
                    });
                }
            });
        }
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
                            if let ClaimAnswer::Ours { record, .. } = store.acquire(&claim).unwrap() {
                                terms.push(record.term);
                                assert!(store.release(&claim, record.term).unwrap());
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

    /// A second connection of this process must not free the locks of the first: another process, the last
    /// one to close, would remove the log.
    #[test]
    fn two_connections_of_a_process_keep_its_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let (one, _two) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
        one.acquire(&claim("a", 600_000)).unwrap();
        // As another process does: it opens, writes and closes.
        let other = std::process::Command::new("/proc/self/exe")
            .args(["store::sqlite::tests::another_process", "--exact", "--ignored"])
            .env("STORE", &path)
            .output();
        assert!(other.unwrap().status.success());
        assert!(
            one.renew(&claim("a", 600_000), 1).is_ok_and(|answer| matches!(answer, ClaimAnswer::Ours { .. }))
        );
        let answer = Sqlite::open(&path).unwrap().acquire(&claim("b", 1)).unwrap();
        assert!(matches!(answer, ClaimAnswer::Held(record) if record.holder.as_deref() == Some("a")));
        assert!(dir.path().join("store-wal").exists());
    }

    #[test]
    #[ignore = "a part of two_connections_of_a_process_keep_its_locks"]
    fn another_process() {
        let store = Sqlite::open(Path::new(&std::env::var_os("STORE").unwrap())).unwrap();
        assert!(store.acquire(&Claim { lease: "other".to_owned(), ..claim("b", 1) }).is_ok());
    }

    /// Waiting for the file takes none of a lease's time: the time is read under the lock, so nothing
    /// that was written meanwhile is judged by a time before it, and no lease is granted that has run out
    /// in part.
    #[test]
    fn a_lease_counts_from_when_the_file_was_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Sqlite::open(&path).unwrap();
        let locks = Connection::open(&path).unwrap();
        locks.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (asks, asked) = std::sync::mpsc::channel();
        let (answer, freed) = std::thread::scope(|scope| {
            let claimant = scope.spawn(move || {
                asks.send(()).unwrap();
                store.acquire(&claim("a", 1000)).unwrap()
            });
            asked.recv().unwrap();
            // As long as others may have the file; whatever the claimant does meanwhile is not granted yet.
            std::thread::sleep(Duration::from_millis(60));
            let freed = BootMoment::now().unwrap();
            locks.execute_batch("ROLLBACK").unwrap();
            (claimant.join().unwrap(), freed)
        });
        let ClaimAnswer::Ours { record, .. } = answer else { panic!("{answer:?}") };
        assert!(record.expires.since >= freed.since + Duration::from_secs(1));
    }

    #[test]
    fn a_store_that_is_put_away_is_used_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Sqlite::open(&path).unwrap();
        store.acquire(&claim("a", 600_000)).unwrap();
        for name in ["store", "store-wal", "store-shm"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert!(store.renew(&claim("a", 600_000), 1).is_err());
        assert!(matches!(
            Sqlite::open(&path).unwrap().acquire(&claim("b", 1)).unwrap(),
            ClaimAnswer::Ours { .. }
        ));
        assert!(
            store.renew(&claim("a", 600_000), 1).unwrap_err().to_string().contains("replaced or removed")
        );
    }

    /// What a holder elsewhere was given before a reboot lasts once more from when it is first asked for, and
    /// then runs out.
    #[test]
    fn a_reboot_ends_no_lease_of_another_machine() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("store")).unwrap();
        let far = |holder: &str, ttl| Claim { far: true, ..claim(holder, ttl) };
        store.acquire(&far("a", 50)).unwrap();
        store.acquire(&Claim { lease: "near".to_owned(), ..claim("a", 600_000) }).unwrap();
        store.connection.execute_batch("UPDATE leases SET boot = 'before'").unwrap();
        let answer = store.acquire(&far("b", 50)).unwrap();
        assert!(matches!(answer, ClaimAnswer::Held(record) if record.holder.as_deref() == Some("a")));
        assert!(matches!(
            store.acquire(&Claim { lease: "near".to_owned(), ..claim("b", 1) }).unwrap(),
            ClaimAnswer::Ours { .. }
        ));
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !matches!(store.acquire(&far("b", 50)).unwrap(), ClaimAnswer::Ours { .. }) {
            assert!(std::time::Instant::now() < end);
        }
    }

    /// A store of the first version, as that version made it.
    #[test]
    fn an_old_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO leases VALUES ('l', NULL, 'h', '', 7, 1000, 'b', 0); PRAGMA user_version = 1",
        )
        .unwrap();
        drop(old);
        let store = Sqlite::open(&path).unwrap();
        let answer = store.acquire(&claim("a", 1000)).unwrap();
        assert!(matches!(answer, ClaimAnswer::Ours { record, .. } if record.term == 8));
        assert_eq!(store.changes(9).unwrap().len(), 1);
    }

    #[test]
    fn a_copy_is_nobodys_and_never_gives_a_term_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
        let store = Sqlite::open(&path).unwrap();
        store.acquire(&claim("a", 600_000)).unwrap();
        store.back_up(&copy).unwrap();
        assert_eq!(store.back_up(&copy).unwrap_err().status, Status::Busy);
        let copy = Sqlite::open(&copy).unwrap();
        let answer = copy.acquire(&claim("b", 1000)).unwrap();
        assert!(matches!(answer, ClaimAnswer::Ours { record, renewed: false } if record.term == 1_000_002));
        assert_eq!(
            std::fs::read_dir(dir.path())
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("part"))
                .count(),
            0
        );
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
