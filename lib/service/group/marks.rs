//! Which entries of a group were stopped by hand: until they are started, in this boot; or until they are
//! enabled, whatever happens. A reload and another run of the group find them here.

use super::GroupPaths;
use crate::sys::file::{self, Lock};
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest list.
const LIST: u64 = 4 * 1024 * 1024;
/// How long another one may take to change it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ids of entries.
pub type MarkedIds = BTreeSet<String>;

impl GroupPaths {
    /// Those that were stopped by hand.
    pub fn stopped(&self) -> MarkedIds {
        ids(&self.stopped_list())
    }

    /// Those that are not to run until they are enabled.
    pub fn disabled(&self) -> MarkedIds {
        ids(&self.disabled_list())
    }

    /// Keeps which are stopped by hand, as long as this boot lasts.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn keep_stopped(&self, ids: &MarkedIds) -> std::io::Result<()> {
        let path = self.stopped_list();
        if ids.is_empty() && !path.exists() {
            return Ok(());
        }
        file::replace_soon(&path, text(ids).as_bytes(), 0o600)
    }

    /// Writes down for good whether `which` may run.
    ///
    /// # Errors
    /// 74, 77; 75 when another one does not let go of the list.
    pub fn enable(&self, which: &[String], may_run: bool) -> Result<()> {
        let path = self.disabled_list();
        let cannot = |cause: std::io::Error| Error::io(format!("cannot write '{}'", path.display()), &cause);
        self.make()?;
        let until = Instant::now() + PATIENCE;
        let _lock = loop {
            match Lock::take(&self.logs().join("disabled.lock")).map_err(cannot)? {
                Some(lock) => break lock,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                None => {
                    return Err(Error::new(
                        Status::Busy,
                        format!("cannot write '{}': it is busy", path.display()),
                    ));
                }
            }
        };
        let mut ids = ids(&path);
        ids.retain(|id| !which.contains(id));
        if !may_run {
            ids.extend(which.iter().cloned());
        }
        file::replace(&path, text(&ids).as_bytes(), 0o600).map_err(cannot)
    }

    fn stopped_list(&self) -> PathBuf {
        self.directory().join("stopped.json")
    }

    fn disabled_list(&self) -> PathBuf {
        self.logs().join("disabled.json")
    }
}

fn ids(path: &Path) -> MarkedIds {
    let bytes = trust::read(path, LIST).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn text(ids: &MarkedIds) -> String {
    format!("{}\n", serde_json::json!(ids))
}
