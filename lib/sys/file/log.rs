//! The end of a log, in whole lines; of all, or of what was written since a moment.

use super::FileId;
use crate::sys::trust;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// So much of a log is looked at, and told at most: a huge log, a FIFO or a device costs nothing.
pub const LOG_WINDOW: u64 = 64 * 1024;
/// So much before the end tells a log that was emptied and has grown again from one that has only grown.
const SAMPLE: u64 = 64;

/// How long a log was at a moment.
#[derive(Clone, Debug)]
pub struct LogMark {
    /// What it was, its length, and its last bytes; `None` where it was not there.
    seen: Option<(FileId, u64, Vec<u8>)>,
}

impl LogMark {
    /// Of the log at `path` of the user `uid`.
    pub fn of(path: &Path, uid: u32) -> LogMark {
        let look = || -> io::Result<(FileId, u64, Vec<u8>)> {
            let mut file = trust::open_of(path, uid)?;
            let found = file.metadata()?;
            let last = between(&mut file, found.len().saturating_sub(SAMPLE), found.len())?;
            Ok((FileId::from(&found), found.len(), last))
        };
        LogMark { seen: look().ok() }
    }

    /// Where what is new begins in `file`: where it ended, unless it is another one by now, or was emptied.
    fn begin(&self, file: &mut File) -> io::Result<u64> {
        let Some((id, length, last)) = &self.seen else { return Ok(0) };
        let found = file.metadata()?;
        let before = length.saturating_sub(SAMPLE);
        let grown = FileId::from(&found) == *id
            && found.len() >= *length
            && between(file, before, *length).is_ok_and(|now| now == *last);
        Ok(if grown { *length } else { 0 })
    }
}

fn between(file: &mut File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    Read::by_ref(file).take(to - from).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last `count` lines, whole, of a log of the user `uid`, out of its last 64 KiB; with `since` only of
/// what is new. A line that is longer than that alone begins with an ellipsis. Nobody is shown through us
/// what is not his.
///
/// # Errors
/// As `trust::open_of`; those of read(2).
pub fn last_lines(path: &Path, since: Option<&LogMark>, count: usize, uid: u32) -> io::Result<Vec<String>> {
    let mut file = trust::open_of(path, uid)?;
    let length = file.metadata()?.len();
    let begin = since.map_or(Ok(0), |mark| mark.begin(&mut file))?;
    let from = begin.max(length.saturating_sub(LOG_WINDOW));
    let bytes = between(&mut file, from, from + LOG_WINDOW)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.as_mut_slice() {
        [only] if from > begin => only.insert(0, '…'),
        [_, ..] if from > begin => drop(lines.remove(0)),
        _ => {}
    }
    lines.drain(..lines.len().saturating_sub(count));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::user::own_uid;
    use std::io::Write;

    fn lines(path: &Path, since: Option<&LogMark>, count: usize) -> Vec<String> {
        last_lines(path, since, count, own_uid()).unwrap()
    }

    #[test]
    fn only_what_is_new_is_told() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("log");
        let absent = LogMark::of(&path, own_uid());
        std::fs::write(&path, "old 1\nold 2\n").unwrap();
        assert_eq!(lines(&path, Some(&absent), 20), ["old 1", "old 2"]);
        let mark = LogMark::of(&path, own_uid());
        assert!(lines(&path, Some(&mark), 20).is_empty());
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(log, "new 1\nnew 2").unwrap();
        assert_eq!(lines(&path, Some(&mark), 20), ["new 1", "new 2"]);
        assert_eq!(lines(&path, None, 3), ["old 2", "new 1", "new 2"]);
        // Emptied, and grown beyond where it was.
        std::fs::write(&path, "fresh, and longer than before\n").unwrap();
        assert_eq!(lines(&path, Some(&mark), 20), ["fresh, and longer than before"]);
        // Rotated: another file.
        std::fs::rename(&path, room.path().join("log.1")).unwrap();
        std::fs::write(&path, "old 1\nold 2\nand more\n").unwrap();
        assert_eq!(lines(&path, Some(&mark), 1), ["and more"]);
    }

    #[test]
    fn lines_are_whole_within_the_window() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("log");
        let (half, whole) = ("y".repeat(40_000), "x".repeat(30_000));
        std::fs::write(&path, format!("{half}\n{whole}\nend\n")).unwrap();
        assert_eq!(lines(&path, None, 20), [whole, "end".to_owned()]);
        std::fs::write(&path, "z".repeat(100_000)).unwrap();
        let [only] = &lines(&path, None, 20)[..] else { panic!("one line") };
        assert_eq!((only.starts_with("…z"), only.len()), (true, 65_536 + "…".len()));
    }
}
