//! The last file that worked, kept to be restored when a new one is refused.

use crate::service::JobState;
use crate::service::job::Job;
use crate::sys::file::{self, Lock};
use crate::sys::process::Identity;
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::path::PathBuf;

/// The files of one label: the last property list that worked, a lock, a log.
#[derive(Debug)]
pub struct ReloadFiles {
    directory: PathBuf,
    label: String,
}

impl ReloadFiles {
    /// The files of `label`, in a directory for us alone: the file may hold secrets.
    ///
    /// # Errors
    /// 74, 77.
    pub fn of(label: &str) -> Result<ReloadFiles> {
        let directory = file::state_dir().join("reload");
        file::private_dir(&directory)
            .map_err(|cause| Error::io(format!("cannot keep state in '{}'", directory.display()), &cause))?;
        Ok(ReloadFiles { directory, label: label.to_owned() })
    }

    /// Lets one reload of a label run at a time.
    ///
    /// # Errors
    /// 75 when another runs.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.directory.join(format!("{}.lock", self.label));
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
        matches!(Lock::take(&self.directory.join(format!("{}.lock", self.label))), Ok(None))
    }

    /// Where a detached reload writes its report.
    pub fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.label))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.plist", self.label))
    }

    /// The copy, if there is one that differs from `job`.
    pub fn other_than(&self, job: &Job) -> Option<PathBuf> {
        let kept = Job::read(&self.path()).ok()?;
        (kept.bytes != job.bytes && kept.label == job.label).then(|| self.path())
    }

    /// Keeps `job`'s file as the last one that worked.
    ///
    /// # Errors
    /// 74, 77.
    pub fn remember(&self, job: &Job) -> Result<()> {
        if trust::read(&self.path(), u64::MAX - 1).is_ok_and(|kept| kept == job.bytes) {
            return Ok(());
        }
        // 0644, for launchd rejects a stricter mode; the directory, 0700, keeps it private.
        file::replace(&self.path(), &job.bytes, 0o644)
            .map_err(|cause| Error::io(format!("cannot keep '{}'", self.path().display()), &cause))
    }

    /// Keeps the file of a job that runs, if nothing is kept yet and the file is older than the process: then
    /// it is what it was started from.
    pub fn remember_running(&self, job: &Job, state: &JobState) {
        let Some(started) = state.pid.and_then(Identity::of).and_then(|who| who.started_at()) else { return };
        let written = std::fs::metadata(&job.path).and_then(|found| found.modified());
        let same_file = state.source.as_ref().is_some_and(|source| *source == job.path);
        if same_file && !self.path().exists() && written.is_ok_and(|written| written < started) {
            let _ = self.remember(job);
        }
    }
}
