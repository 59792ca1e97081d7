//! A peer's job in launchd: one that iapeer has made is booted out and removed, one of somebody else's making
//! is not touched (facts B4.15).

use crate::act::peers::root::Root;
use crate::service::launchd::Launchd;
use crate::service::{Service, TroubleClass, job};
use crate::sys::child;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The mark that iapeer puts into its jobs.
const MANAGED: &str = "com.iapeer.managed";

/// A property list of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// There is none, or no launchd.
    None,
    /// iapeer's own.
    Owned(PathBuf),
    /// Somebody else's.
    Foreign(PathBuf),
}

/// Looks for that of `personality`. One that cannot be read is nobody's to remove.
pub fn find(root: &Root, personality: &str) -> Agent {
    let Some(path) = root.agents().map(|directory| directory.join(format!("com.iapeer.{personality}.plist")))
    else {
        return Agent::None;
    };
    if path.symlink_metadata().is_err() {
        return Agent::None;
    }
    match job::has_key(&path, MANAGED) {
        Ok(true) => Agent::Owned(path),
        Ok(false) | Err(_) => Agent::Foreign(path),
    }
}

/// Boots the job out and removes its file; says what was done.
///
/// # Errors
/// When launchd keeps the job, or the file stays.
pub fn tear_down(root: &Root, personality: &str, path: &Path) -> Result<String> {
    let said = if root.sandbox {
        "skipped-sandbox + plist removed"
    } else if !has_launchctl() {
        "no launchctl here + plist removed"
    } else {
        match root.launchd() {
            Some(line) => line.take_down(personality)?,
            None => boot_out(Launchd::domain_of(false), personality)?,
        }
    };
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove {}", path.display()), &cause))
        }
        _ => Ok(said.to_owned()),
    }
}

/// What is said of a job that is gone: booted out now, or not loaded.
pub const WORDS: [&str; 2] = ["booted out + plist removed", "not loaded + plist removed"];

/// Has launchd forget the job in `domain`; which of `WORDS` tells of it.
///
/// # Errors
/// When launchd keeps it.
pub fn boot_out(domain: String, personality: &str) -> Result<&'static str> {
    let job = Launchd::new(domain, format!("com.iapeer.{personality}"));
    match job.take_down() {
        Ok(()) => Ok(WORDS[0]),
        // One that is not loaded needs no booting out.
        Err(trouble) if matches!(trouble.class, TroubleClass::Benign | TroubleClass::Unregistered) => {
            Ok(WORDS[1])
        }
        Err(trouble) => {
            Err(Error::new(Status::Io, format!("cannot boot out com.iapeer.{personality}: {trouble}")))
        }
    }
}

fn has_launchctl() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    child::find(OsStr::new("launchctl"), &path, Path::new("/")).is_some()
}
