//! What is kept of a label between its reloads: the last definition that worked, a lock, a log, a journal.

use super::definition::{Definition, UnitFiles};
use crate::service::JobState;
use crate::service::job::Job;
use crate::sys::file::{self, Lock};
use crate::sys::process::Identity;
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::PathBuf;
use std::time::SystemTime;

/// The files of one label, in a directory for us alone: they may hold secrets.
#[derive(Clone, Debug)]
pub struct ReloadFiles {
    directory: PathBuf,
    label: String,
}

impl ReloadFiles {
    /// The files of `label`, whose directory is made where it is missing.
    ///
    /// # Errors
    /// 74, 77.
    pub fn of(label: &str) -> Result<ReloadFiles> {
        let files = ReloadFiles::at(label);
        file::private_dir(&files.directory).map_err(|cause| {
            Error::io(format!("cannot keep state in '{}'", files.directory.display()), &cause)
        })?;
        Ok(files)
    }

    /// The same for one who only reads.
    pub fn at(label: &str) -> ReloadFiles {
        ReloadFiles { directory: ReloadFiles::all(), label: label.to_owned() }
    }

    /// Where the files of all labels are.
    pub fn all() -> PathBuf {
        file::state_dir().join("reload")
    }

    /// The labels that have a journal.
    pub fn labels() -> Vec<String> {
        let names = std::fs::read_dir(ReloadFiles::all()).into_iter().flatten().flatten();
        let mut labels: Vec<String> = names
            .filter_map(|one| Some(one.file_name().to_str()?.strip_suffix(".journal")?.to_owned()))
            .filter(|label| crate::service::check_label(label).is_ok())
            .collect();
        labels.sort();
        labels
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
        self.directory.join(format!("{}.{kind}", self.label))
    }

    /// The property list that is kept, if it differs from `job`, and where.
    pub fn other_job(&self, job: &Job) -> Option<(PathBuf, Job)> {
        let kept = Job::read(&self.plist()).ok()?;
        (kept.bytes != job.bytes && kept.label == job.label).then(|| (self.plist(), kept))
    }

    /// The unit files that are kept, if they differ from `now`.
    pub fn other_units(&self, now: &UnitFiles) -> Option<UnitFiles> {
        let bytes = trust::read(&self.units(), UnitFiles::LIMIT).ok()?;
        let kept: UnitFiles = serde_json::from_slice(&bytes).ok()?;
        (kept != *now).then_some(kept)
    }

    /// What is kept in place of `definition`, as it is told apart by.
    pub fn kept_hash(&self, definition: &Definition) -> Option<String> {
        match definition {
            Definition::Plist(_) => {
                let bytes = trust::read(&self.plist(), u64::MAX - 1).ok()?;
                Some(crate::sys::digest::sha256(&bytes))
            }
            Definition::Units(_) => {
                let bytes = trust::read(&self.units(), UnitFiles::LIMIT).ok()?;
                serde_json::from_slice(&bytes).ok().map(|kept: UnitFiles| kept.hash())
            }
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
        std::fs::metadata(path).and_then(|found| found.modified()).ok()
    }

    /// Keeps `definition` as the last one that worked.
    ///
    /// # Errors
    /// 74, 77.
    pub fn remember(&self, definition: &Definition) -> Result<()> {
        let (path, bytes, mode) = match definition {
            // 0644, for launchd rejects a stricter mode; the directory, 0700, keeps it private.
            Definition::Plist(job) => (self.plist(), job.bytes.clone(), 0o644),
            Definition::Units(units) => (self.units(), serde_json::to_vec(units).map_err(Error::bug)?, 0o600),
            Definition::Elsewhere => return Ok(()),
        };
        if trust::read(&path, u64::MAX - 1).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        file::replace(&path, &bytes, mode)
            .map_err(|cause| Error::io(format!("cannot keep '{}'", path.display()), &cause))
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
        let older = |path: &PathBuf| {
            let written = std::fs::metadata(path).and_then(|found| found.modified());
            written.is_ok_and(|written: SystemTime| written < started)
        };
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
