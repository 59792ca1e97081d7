//! How often a command ended as it should not, across keepers: on the disk, for a supervisor above us may
//! start us anew each time.

use crate::sys::{file, trust};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How many ends are kept.
const KEPT: usize = 1000;

/// When to give up.
#[derive(Clone, Debug)]
pub struct FailureLimit {
    /// After so many bad ends …
    pub ends: usize,
    /// … within this time.
    pub within: Duration,
    /// Where they are written down; without a place they are of this keeper alone.
    pub path: Option<PathBuf>,
}

/// The bad ends of a command, as seconds since 1970.
#[derive(Debug)]
pub(super) struct FailureLog {
    limit: FailureLimit,
    ends: Vec<u64>,
}

impl FailureLog {
    /// What is known of it. A file that cannot be read holds nothing against anybody.
    pub(super) fn open(limit: FailureLimit) -> FailureLog {
        let ends = limit.path.as_deref().map(read).unwrap_or_default();
        FailureLog { limit, ends }
    }

    /// Whether it is time to give up, before anything is started.
    pub(super) fn tripped(&self) -> bool {
        let since = now().saturating_sub(self.limit.within.as_secs());
        // A clock that was set back must not make the past count for ever.
        self.ends.iter().filter(|end| (since..=now() + 1).contains(*end)).count() >= self.limit.ends
    }

    /// Notes a bad end; whether it is time to give up.
    pub(super) fn note(&mut self) -> bool {
        self.ends.push(now());
        let spare = self.ends.len().saturating_sub(KEPT);
        self.ends.drain(..spare);
        if let Some(path) = &self.limit.path {
            let text: String = self.ends.iter().map(|end| format!("{end}\n")).collect();
            let _ = path
                .parent()
                .map_or(Ok(()), |directory| file::own_dir(directory).map(drop))
                .and_then(|()| file::replace_soon(path, text.as_bytes(), 0o600));
        }
        self.tripped()
    }

    /// Forgets all: somebody has asked for a start.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
        if let Some(path) = &self.limit.path {
            let _ = std::fs::remove_file(path);
        }
    }

    /// What was too much, in words.
    pub(super) fn words(&self) -> String {
        format!(
            "it has failed {} times within {}",
            self.limit.ends,
            crate::words::span::show(self.limit.within)
        )
    }
}

fn read(path: &Path) -> Vec<u64> {
    let bytes = trust::read(path, 64 * 1024).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads `N/SPAN`: so many ends within so long.
///
/// # Errors
/// Says what is wrong.
pub fn parse(text: &str) -> Result<(usize, Duration), String> {
    let (ends, within) = text.split_once('/').ok_or("write it as ENDS/SPAN: 5/10m")?;
    let ends = ends
        .parse()
        .ok()
        .filter(|ends| (1..=KEPT).contains(ends))
        .ok_or(format!("'{ends}' is not a number from 1 to {KEPT}"))?;
    Ok((ends, crate::words::span::parse(within)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trips_within_its_time_and_outlives_its_keeper() {
        let dir = tempfile::tempdir().unwrap();
        let limit = |within| FailureLimit {
            ends: 3,
            within: Duration::from_secs(within),
            path: Some(dir.path().join("ends")),
        };
        let mut failure_log = FailureLog::open(limit(600));
        assert!(!failure_log.note() && !failure_log.note());
        let mut failure_log = FailureLog::open(limit(600));
        assert!(!failure_log.tripped() && failure_log.note() && FailureLog::open(limit(600)).tripped());
        // What is long ago, or in the future, counts for nothing; nor does nonsense.
        std::fs::write(dir.path().join("ends"), "1\n2\n3\n99999999999\nnonsense\n").unwrap();
        assert!(!FailureLog::open(limit(600)).tripped());
        failure_log.clear();
        assert!(!FailureLog::open(limit(600)).tripped());
        assert_eq!(parse("5/10m"), Ok((5, Duration::from_secs(600))));
        for bad in ["5", "0/1m", "x/1m", "5/", "9999/1m"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
