//! What a keeper leaves for others to find: a lock, a status, and the process that runs under them.

use crate::life;
use crate::service::embedded::KeeperPaths;
use crate::sys::file::{self, Lock};
use crate::sys::kernel;
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::say::Voice;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The lock and the files of one label.
#[derive(Debug)]
pub(super) struct RuntimeDirectory {
    pub(super) paths: KeeperPaths,
    /// Where the outcome of the last restart or update is left for the next life.
    pub(super) sentinel: PathBuf,
    label: String,
    _lock: Lock,
}

impl RuntimeDirectory {
    pub(super) fn open(label: &str) -> Result<RuntimeDirectory> {
        let paths = KeeperPaths::of(label);
        paths.make()?;
        let lock = Lock::take_soon(&paths.lock())
            .map_err(|cause| Error::io(format!("cannot lock '{}'", paths.lock().display()), &cause))?;
        let lock = lock
            .ok_or_else(|| Error::new(Status::Busy, format!("cannot keep {label}: another baa-run does")))?;
        // Only to inform; the kernel's lock is the truth.
        let _ = lock.inform(&format!("{}\n", json!({ "pid": std::process::id() })));
        crate::service::intent::withdraw(&paths);
        let sentinel = file::state_dir().join("run").join(format!("{label}.sentinel.json"));
        Ok(RuntimeDirectory { paths, sentinel, label: label.to_owned(), _lock: lock })
    }

    /// A keeper that was killed leaves its command behind; two of them must not run side by side.
    pub(super) fn clear_predecessor(&self, exit_timeout: Duration, voice: &Voice) {
        let status = file::read(&self.paths.status(), 64 * 1024)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        for left in status.iter().flat_map(identities) {
            clear(left, &self.label, exit_timeout, voice);
        }
    }
}

/// Ends what a keeper that died has left.
pub(super) fn clear(left: Identity, name: &str, exit_timeout: Duration, voice: &Voice) {
    if life::tree(&[left], &[]).is_empty() {
        return;
    }
    voice.warn(format!("{name}: the last keeper died and left process {} behind; stopping it", left.pid));
    life::end_tree(&[left], if exit_timeout.is_zero() { Duration::from_secs(60) } else { exit_timeout });
}

/// The processes that a keeper's status tells of, if they are of this boot: the main one, and in an update
/// the one beside it.
pub(super) fn identities(status: &Value) -> Vec<Identity> {
    [Some(status), status.get("beside")].into_iter().flatten().filter_map(identity).collect()
}

fn identity(status: &Value) -> Option<Identity> {
    // Start times compare on one boot only.
    if status.get("boot")?.as_str()? != kernel::boot()? {
        return None;
    }
    let pid = Pid::new(i32::try_from(status.get("pid")?.as_i64()?).ok()?)?;
    Some(Identity { pid, start: Start(status.get("start")?.as_u64()?) })
}
