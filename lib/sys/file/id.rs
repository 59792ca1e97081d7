//! What a file is, whatever it is called; and who has locked it.

use crate::sys::process::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a file is, by whatever name it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl FileId {
    /// Of the file that `path` leads to; `None` when there is none, or we may not look.
    pub fn of(path: &Path) -> Option<FileId> {
        fs::metadata(path).ok().as_ref().map(FileId::from)
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(found: &fs::Metadata) -> FileId {
        FileId { device: found.dev(), inode: found.ino() }
    }
}

/// The processes that hold the lock of `Lock` on the file that `path` leads to, as far as the system tells
/// (/proc/locks of Linux). The device is not compared: some file systems name it differently there.
pub fn lock_holders(path: &Path) -> Vec<Pid> {
    let Some(id) = FileId::of(path) else { return Vec::new() };
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words[..] else { return None };
        let inode: u64 = place.rsplit(':').next()?.parse().ok()?;
        (inode == id.inode).then(|| pid.parse().ok()).flatten()
    };
    text.lines().filter_map(holder).collect()
}
