//! What services are called on this machine, for whoever types a name of one. Nothing is changed, and what
//! cannot be read is left out.

use crate::service::embedded::KeeperPaths;
use crate::service::{check_label, systemd};
use crate::sys::net;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many files of a directory are looked at.
const MOST: usize = 10_000;

fn files(directory: &Path) -> impl Iterator<Item = String> {
    let all = std::fs::read_dir(directory).into_iter().flatten().flatten().take(MOST);
    all.filter_map(|one| one.file_name().into_string().ok())
}

/// The labels of the property lists in `directory`, sorted.
pub fn installed(directory: &Path) -> Vec<String> {
    let labels = files(directory).filter_map(|name| name.strip_suffix(".plist").map(str::to_owned));
    let mut labels: Vec<String> = labels.filter(|label| check_label(label).is_ok()).collect();
    labels.sort();
    labels
}

/// The directory of the agents of whoever asks.
pub fn agents() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join("Library/LaunchAgents"))
}

/// The labels of jobs whose keeper listens, sorted.
pub fn kept(deadline: Instant) -> Vec<String> {
    let listens = |label: &String| net::connect_unix_now(&KeeperPaths::of(label).control(), deadline).is_ok();
    let all = KeeperPaths::all();
    let labels = files(&all).filter(|label| check_label(label).is_ok());
    let mut labels: Vec<String> = labels.filter(listens).collect();
    labels.sort();
    labels
}

/// What launchd's jobs are called, where `word` has begun so: LABEL of an agent, or system/LABEL.
pub fn launchd(word: &str) -> Vec<String> {
    if word.starts_with("system/") {
        let daemons = installed(Path::new("/Library/LaunchDaemons"));
        return daemons.into_iter().map(|label| format!("system/{label}")).collect();
    }
    agents().map(|agents| installed(&agents)).unwrap_or_default()
}

/// What systemd's units are called, where `word` has begun so: UNIT of the own manager, or user/UNIT,
/// system/UNIT.
pub fn units(word: &str, deadline: Instant) -> Vec<String> {
    let (before, system) = match word.split_once('/') {
        Some(("user", _)) => ("user/", false),
        Some(("system", _)) => ("system/", true),
        _ => ("", systemd::Systemd::default_is_system()),
    };
    systemd::units(system, deadline).into_iter().map(|unit| format!("{before}{unit}")).collect()
}
