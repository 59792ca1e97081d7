//! What is kept of a label between its reloads: the last definition that worked, a lock, a log, a journal.

use super::definition::{Definition, UnitFiles};
use crate::service::job::Job;
use crate::service::{JobState, Service, check_unit_name};
use crate::sys::file::{self, Lock};
use crate::sys::process::Identity;
use crate::sys::{digest, trust};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of one job, in a directory for us alone: they may hold secrets. A label alone does not name a
/// job: another manager, domain or runtime directory may have one that is called the same.
#[derive(Clone, Debug)]
pub struct ReloadFiles {
    directory: PathBuf,
    label: String,
    /// What tells jobs of one label apart.
    key: String,
}

/// How many letters of a SHA-256 tell the jobs of one label apart.
const KEY_LENGTH: usize = 8;

impl ReloadFiles {
    /// The files of `service`, which is called `label`; their directory is made where it is missing.
    ///
    /// # Errors
    /// 74, 77.
    pub fn of(label: &str, service: &dyn Service) -> Result<ReloadFiles> {
        let files = ReloadFiles::at(label, service);
        file::private_dir(&files.directory).map_err(|cause| {
            Error::io(format!("cannot keep state in '{}'", files.directory.display()), &cause)
        })?;
        Ok(files)
    }

    /// The same for one who only reads.
    pub fn at(label: &str, service: &dyn Service) -> ReloadFiles {
        let mut key = digest::sha256(format!("{}\0{}", service.manager(), service.place()).as_bytes());
        key.truncate(KEY_LENGTH);
        ReloadFiles { directory: ReloadFiles::place(), label: label.to_owned(), key }
    }

    fn place() -> PathBuf {
        file::state_dir().join("reload")
    }

    /// The files of all jobs that have a journal; of those of `label` alone, where one is given. The name of
    /// a unit may be said with its kind.
    pub fn with_journal(label: Option<&str>) -> Vec<ReloadFiles> {
        let names = std::fs::read_dir(ReloadFiles::place()).into_iter().flatten().flatten();
        let short = label.and_then(|label| label.strip_suffix(".service"));
        let mut found: Vec<ReloadFiles> = names
            .filter_map(|one| {
                let name = one.file_name().into_string().ok()?;
                let (label, key) = name.strip_suffix(".journal")?.rsplit_once('.')?;
                let (label, key) = (label.to_owned(), key.to_owned());
                (key.len() == KEY_LENGTH && check_unit_name(&label).is_ok()).then(|| ReloadFiles {
                    directory: ReloadFiles::place(),
                    label,
                    key,
                })
            })
            .filter(|one| label.is_none_or(|label| one.label == label || Some(one.label.as_str()) == short))
            .collect();
        found.sort_by(|one, other| (&one.label, &one.key).cmp(&(&other.label, &other.key)));
        found
    }

    /// The directory that they are in.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Lets one reload of a label run at a time.
    ///
    /// # Errors
    /// 75 when another runs.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.named("lock");
        match Lock::take(&path)
            .map_err(|cause| Error::io(format!("cannot lock '{}'", path.display()), &cause))?
        {
            Some(lock) => Ok(lock),
            None => Err(Error::new(
                Status::Busy,
                format!("cannot reload {}: another reload of it runs", self.label),
            )),
        }
    }

    /// Whether somebody holds the lock.
    pub fn locked(&self) -> bool {
        matches!(Lock::take_existing(&self.named("lock")), Ok(None))
    }

    /// Where a detached reload writes its report.
    pub fn log(&self) -> PathBuf {
        self.named("log")
    }

    /// Its journal; see `journal`.
    pub fn journal(&self) -> PathBuf {
        self.named("journal")
    }

    /// Where the copy of the last property list that worked is, if there is one.
    pub fn plist(&self) -> PathBuf {
        self.named("plist")
    }

    /// The copies of the last unit files that worked.
    fn units(&self) -> PathBuf {
        self.named("units")
    }

    fn named(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{}.{kind}", self.label, self.key))
    }

    /// The property list that is kept, if it differs from `job`, and where.
    pub fn other_job(&self, job: &Job) -> Option<(PathBuf, Job)> {
        let kept = Job::read(&self.plist()).ok()?;
        (kept.bytes != job.bytes && kept.label == job.label).then(|| (self.plist(), kept))
    }

    /// The unit files that are kept, if they differ from `now`.
    pub fn other_units(&self, now: &UnitFiles) -> Option<UnitFiles> {
        self.kept_units().filter(|kept| kept != now)
    }

    fn kept_units(&self) -> Option<UnitFiles> {
        let bytes = trust::read(&self.units(), UnitFiles::LIMIT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// What is kept in place of `definition`, as it is told apart by.
    pub fn kept_hash(&self, definition: &Definition) -> Option<String> {
        match definition {
            Definition::Plist(_) => {
                let bytes = trust::read(&self.plist(), u64::MAX - 1).ok()?;
                Some(digest::sha256(&bytes))
            }
            Definition::Units(_) => self.kept_units().map(|kept| kept.hash()),
            Definition::Elsewhere => None,
        }
    }

    /// When that was kept.
    pub fn kept_at(&self, definition: &Definition) -> Option<SystemTime> {
        let path = match definition {
            Definition::Plist(_) => self.plist(),
            Definition::Units(_) => self.units(),
            Definition::Elsewhere => return None,
        };
        modified(&path)
    }

    /// Keeps `definition` as the last one that worked; its time is that of the last time that it did.
    ///
    /// # Errors
    /// 74, 77.
    pub fn remember(&self, definition: &Definition) -> Result<()> {
        let (path, bytes, mode) = match definition {
            // It is brought up from the copy too, and was taken with the mode that it has.
            Definition::Plist(job) => (self.plist(), job.bytes.clone(), file::mode(&job.path, 0o644)),
            Definition::Units(units) => (self.units(), serde_json::to_vec(units).map_err(Error::bug)?, 0o600),
            Definition::Elsewhere => return Ok(()),
        };
        let cannot = |cause: std::io::Error| Error::io(format!("cannot keep '{}'", path.display()), &cause);
        let kept = trust::read(&path, u64::MAX - 1).is_ok_and(|kept| kept == bytes);
        if kept && file::mode(&path, 0) == mode {
            return file::touch(&path).map_err(&cannot);
        }
        file::replace(&path, &bytes, mode).map_err(cannot)
    }

    /// Whether `units` are known to be what the manager has read: they are what is kept, and none of them was
    /// written since.
    pub fn holds_read(&self, units: &UnitFiles) -> bool {
        let Some(kept_at) = modified(&self.units()) else { return false };
        self.kept_units().is_some_and(|kept| kept == *units)
            && units.paths().all(|path| file::changed_at(path).is_some_and(|changed| changed < kept_at))
    }

    /// Keeps nothing any more: what is kept is not what worked last.
    pub fn forget(&self) {
        for path in [self.plist(), self.units()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Keeps the definition of a job that runs, if nothing is kept yet and its files are older than the
    /// process: then it is what that was started from.
    pub fn remember_running(&self, definition: &Definition, state: &JobState) {
        let Some(started) = state.pid.and_then(Identity::of).and_then(|who| who.started_at()) else { return };
        // Not by the time that it says it was written: a copy of an old file may have come a moment ago.
        let older = |path: &PathBuf| file::changed_at(path).is_some_and(|changed| changed < started);
        let fits = match definition {
            Definition::Plist(job) => {
                state.source.as_ref().is_some_and(|source| *source == job.path)
                    && !self.plist().exists()
                    && older(&job.path)
            }
            Definition::Units(units) => !self.units().exists() && units.paths().all(older),
            Definition::Elsewhere => false,
        };
        if fits {
            let _ = self.remember(definition);
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}
