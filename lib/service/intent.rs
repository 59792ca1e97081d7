//! What is meant by the TERM that a keeper gets next: a restart, not a stop. A supervisor sends the same
//! signal for both, so whoever restarts through one writes his intent down first; without it the work in
//! flight would be cut off.
//!
//! Bound to one process and good for a minute and one reading, as the seed's (facts 2.2): one that is left
//! over must not turn a stop into a restart.

use crate::service::embedded::KeeperPaths;
use crate::sys::process::Pid;
use crate::sys::{file, trust};
use crate::words::clean;
use crate::words::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long it is good for.
const GOOD_FOR: Duration = Duration::from_secs(60);
const SIZE_LIMIT: u64 = 1024;
/// The longest reason, in characters (the seed's).
pub const REASON_LIMIT: usize = 200;
const KIND: &str = "baa-restart";

/// A restart that somebody meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Why.
    pub reason: Option<String>,
}

/// A reason as it is kept: without control characters, and not too long. Four bytes each at most, so it fits
/// into an intent.
pub fn reason(text: &str) -> String {
    let unfit = |letter: char| letter.is_control() || clean::is_unfit(letter);
    let plain = |letter: &char| !unfit(*letter) && *letter != '"' && *letter != '\\';
    text.chars().filter(plain).take(REASON_LIMIT).collect()
}

/// Writes down that the next TERM or USR1 of `keeper` means a restart.
///
/// # Errors
/// 74, 77 when the file cannot be written.
pub fn write(paths: &KeeperPaths, keeper: Pid, why: Option<&str>) -> Result<()> {
    let intent = json!({
        "kind": KIND, "pid": keeper.number(), "created_ms": millis(SystemTime::now()),
        "reason": why.map(reason)
    });
    let path = paths.intent();
    file::replace(&path, format!("{intent}\n").as_bytes(), 0o600)
        .map_err(|cause| Error::io(format!("cannot write '{}'", path.display()), &cause))
}

/// Tells the keeper that runs as `pid`, if a keeper does, that the TERM which it gets next means a restart.
/// Its place, where it was told.
pub fn announce(pid: Pid, why: &str) -> Option<KeeperPaths> {
    let labels = std::fs::read_dir(KeeperPaths::all())
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let keeper = |paths: &KeeperPaths| -> Option<i64> {
        let words = trust::read(&paths.lock(), SIZE_LIMIT).ok()?;
        serde_json::from_slice::<Value>(&words).ok()?["pid"].as_i64()
    };
    let paths = labels
        .map(|label| KeeperPaths::of(&label))
        .find(|paths| keeper(paths) == Some(i64::from(pid.number())) && paths.held())?;
    write(&paths, pid, Some(why)).ok()?;
    Some(paths)
}

/// Takes back what was written for a restart that did not come.
pub fn withdraw(paths: &KeeperPaths) {
    let _ = std::fs::remove_file(paths.intent());
}

/// Reads what was meant for `own`, and removes it, whether it is good or not.
pub fn take(paths: &KeeperPaths, own: Pid) -> Option<Intent> {
    take_at(&paths.intent(), own, SystemTime::now())
}

pub(crate) fn take_at(path: &Path, own: Pid, now: SystemTime) -> Option<Intent> {
    let bytes = trust::read(path, SIZE_LIMIT);
    // What is not believed is nobody's intent, and not ours to remove.
    if bytes.as_ref().is_err_and(trust::is_distrust) {
        return None;
    }
    std::fs::remove_file(path).ok()?;
    let intent: Value = serde_json::from_slice(&bytes.ok()?).ok()?;
    let age = millis(now).checked_sub(intent["created_ms"].as_u64()?)?;
    let meant = intent["kind"] == KIND && intent["pid"].as_i64() == Some(i64::from(own.number()));
    (meant && u128::from(age) <= GOOD_FOR.as_millis())
        .then(|| Intent { reason: intent["reason"].as_str().map(reason) })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    crate::words::span::millis(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_once_for_one_process_and_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("intent.json");
        let (own, now) = (Pid::own(), SystemTime::now());
        let write = |pid: i32, created: u64, more: &str| {
            std::fs::write(
                &path,
                format!("{{\"kind\":\"baa-restart\",\"pid\":{pid},\"created_ms\":{created}{more}}}"),
            )
            .unwrap();
            take_at(&path, own, now)
        };
        let (pid, fresh) = (own.number(), millis(now));
        assert_eq!(
            write(pid, fresh, ",\"reason\":\"new\\u0007 config\""),
            Some(Intent { reason: Some("new config".to_owned()) })
        );
        assert_eq!(write(pid, fresh - 60_000, ""), Some(Intent { reason: None }));
        // Too old, from the future, another's, too large, no intent at all.
        assert_eq!(write(pid, fresh - 60_001, ""), None);
        assert_eq!(write(pid, fresh + 1, ""), None);
        assert_eq!(write(pid + 1, fresh, ""), None);
        assert_eq!(write(pid, fresh, &format!(",\"x\":\"{}\"", "x".repeat(1024))), None);
        assert_eq!(write(pid, fresh, "garbage"), None);
        // Each was removed by the reading; a link, a directory and a file with two names stay and mean
        // nothing.
        assert!(!path.exists() && take_at(&path, own, now).is_none());
        let other = dir.path().join("other");
        std::fs::write(&other, format!("{{\"kind\":\"baa-restart\",\"pid\":{pid},\"created_ms\":{fresh}}}"))
            .unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(take_at(&path, own, now).is_none() && path.is_symlink());
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        assert!(take_at(&path, own, now).is_none() && path.exists() && other.exists());
    }
}
