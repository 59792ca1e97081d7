//! What went before a bad end, written down for whoever looks into it later: a bundle of what happened,
//! without a word of what the command said or was told (facts 2.8).

use crate::sys::file;
use crate::sys::process::Pid;
use crate::words::{clean, stamp};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How many happenings are remembered.
const CAPACITY: usize = 1000;
/// What begins the word of where a bundle is.
pub(super) const WROTE: &str = "wrote stability bundle";
/// How many bundles are kept, of all keepers of a user.
const KEPT: usize = 20;
/// The longest error in a bundle, in characters.
const ERROR_LIMIT: usize = 500;

/// The last happenings of a keeper: when, and what, by name alone.
#[derive(Clone, Debug)]
pub(super) struct RecentEvents {
    began: Instant,
    events: Arc<Mutex<VecDeque<(SystemTime, &'static str)>>>,
}

impl RecentEvents {
    /// An empty one. Nothing is allocated until something happens.
    pub(super) fn new() -> RecentEvents {
        RecentEvents { began: Instant::now(), events: Arc::default() }
    }

    /// Remembers that `what` happened now.
    pub(super) fn note(&self, what: &'static str) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == CAPACITY {
            events.pop_front();
        }
        events.push_back((SystemTime::now(), what));
    }

    /// Writes the bundle of `reason`, 0600 in a directory of ours; older ones than the newest twenty go. Its
    /// path.
    ///
    /// # Errors
    /// Those of mkdir(2), write(2) and rename(2).
    pub(super) fn bundle(&self, reason: &str, error: &str) -> std::io::Result<PathBuf> {
        let directory = directory();
        file::own_dir(&file::state_dir())?;
        file::private_dir(&directory)?;
        let (now, reason) = (stamp::millis(SystemTime::now()), named(reason));
        let path = directory.join(format!(
            "baa-run-stability-{}-{}-{reason}.json",
            now.replace([':', '.'], "-"),
            Pid::own()
        ));
        file::replace(&path, format!("{}\n", self.words(reason, error, &now)).as_bytes(), 0o600)?;
        prune(&directory);
        Ok(path)
    }

    fn words(&self, reason: &str, error: &str, now: &str) -> Value {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = serde_json::Map::new();
        for (_, what) in events.iter() {
            let count = counts.get(*what).and_then(Value::as_u64).unwrap_or(0);
            counts.insert((*what).to_owned(), json!(count + 1));
        }
        let error: String = clean::line(error).chars().take(ERROR_LIMIT).collect();
        json!({
            "version": 1,
            "generatedAt": now,
            "reason": reason,
            "process": {
                "pid": Pid::own().number(),
                "platform": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
                "version": env!("CARGO_PKG_VERSION"),
                "uptimeMs": crate::words::span::millis(self.began.elapsed()),
            },
            // Whoever gets a bundle to look at need not know whose machine it was.
            "host": { "hostname": "redacted" },
            "error": { "message": error },
            "snapshot": {
                "counts": counts,
                "events": events.iter().map(|(when, what)| json!({
                    "ts": stamp::millis(*when), "ev": what
                })).collect::<Vec<_>>(),
            },
        })
    }
}

/// Where bundles are kept.
pub fn directory() -> PathBuf {
    file::state_dir().join("logs/stability")
}

/// A reason as a part of a name.
fn named(reason: &str) -> &str {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if (1..=120).contains(&reason.len()) && reason.bytes().all(good) { reason } else { "unknown" }
}

fn prune(directory: &Path) {
    let found = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let bundle = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("baa-run-stability-"))
    };
    let mut bundles: Vec<PathBuf> = found.filter(bundle).collect();
    // Their names begin with the time, so they sort by it.
    bundles.sort();
    let spare = bundles.len().saturating_sub(KEPT);
    bundles.iter().take(spare).for_each(|path| drop(std::fs::remove_file(path)));
}

/// Writes a bundle aside and waits no longer than `limit` for it: a disk that hangs must not keep us from
/// ending.
pub(super) fn bundle_within(
    story: &RecentEvents,
    reason: &'static str,
    error: String,
    limit: Duration,
) -> Option<std::io::Result<PathBuf>> {
    let (say, written) = std::sync::mpsc::channel();
    let story = story.clone();
    std::thread::Builder::new().spawn(move || say.send(story.bundle(reason, &error))).ok()?;
    written.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_bounded_and_has_no_secrets() {
        let story = RecentEvents::new();
        (0..1500).for_each(|turn| story.note(if turn < 1400 { "started" } else { "exited" }));
        let words = story.words(named("a/b"), "line\nbreak", "now");
        assert_eq!(
            (&words["reason"], &words["error"]["message"]),
            (&json!("unknown"), &json!("line\\u000abreak"))
        );
        assert_eq!(words["snapshot"]["counts"], json!({ "started": 900, "exited": 100 }));
        assert_eq!(words["snapshot"]["events"].as_array().unwrap().len(), CAPACITY);
        assert_eq!(
            (named("run.stop_timeout"), named(""), named(&"x".repeat(121))),
            ("run.stop_timeout", "unknown", "unknown")
        );
    }

    #[test]
    fn the_newest_twenty_are_kept_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("aaa.json"), "").unwrap();
        for turn in 10..40 {
            std::fs::write(dir.path().join(format!("baa-run-stability-{turn}-1-x.json")), "").unwrap();
        }
        prune(dir.path());
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            (names.len(), names[0].as_str(), names[1].as_str()),
            (21, "aaa.json", "baa-run-stability-20-1-x.json")
        );
    }
}
