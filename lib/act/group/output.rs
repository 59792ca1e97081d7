//! What entries say: into a file each, which is put aside when it is large, and on a terminal with the
//! entry's name before each line.

use crate::sys::file::open_log;
use crate::sys::outlet::{self, Outlet, Sink, Target};
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A file that is larger is put aside.
const LARGE: u64 = 10 * 1024 * 1024;
/// How many are kept aside.
const KEPT: u32 = 3;
/// A line that is longer is cut into several.
const LINE: usize = 16 * 1024;

/// A file that lines are added to, whatever the disk does: what it takes too long for waits in a queue that
/// all files of a group share.
pub(super) struct LogFile {
    outlet: Outlet,
    sink: Sink,
}

impl LogFile {
    /// The one at `path`, made 0600 when something is written. `loss` words how many lines were lost, and
    /// why, for whoever reads the file.
    pub(super) fn new(path: &Path, outlet: &Outlet, loss: fn(u64, &str) -> String) -> LogFile {
        let file = Rotated { path: path.to_owned(), file: None, size: 0, torn: false, loss };
        LogFile { outlet: outlet.clone(), sink: Sink::new(file) }
    }

    /// Adds a line. A disk that is full or stands still loses it, says so later, and stops nobody.
    pub(super) fn add(&self, line: &[u8]) {
        self.outlet.put(&self.sink, &[line, b"\n"].concat());
    }
}

/// The words of a loss in a file that people read.
pub(super) fn loss(lines: u64, why: &str) -> String {
    let (count, were) =
        if lines == 1 { ("1 line".to_owned(), "was") } else { (format!("{lines} lines"), "were") };
    format!("baa-daemons: {count} {were} lost here: {why}\n")
}

struct Rotated {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// Whether the last line has no end yet.
    torn: bool,
    loss: fn(u64, &str) -> String,
}

impl Rotated {
    fn is_due(&self) -> bool {
        self.size >= LARGE && !self.torn
    }

    fn put_aside(&mut self) {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..KEPT).rev() {
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        let _ = std::fs::rename(&self.path, numbered(1));
        (self.file, self.size) = (None, 0);
    }

    fn wrote(&mut self, bytes: &[u8], count: usize) -> usize {
        self.size += count as u64;
        self.torn = count > 0 && bytes.get(count - 1) != Some(&b'\n');
        count
    }
}

impl Target for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_due() {
            self.put_aside();
        }
        if self.file.is_none() {
            self.file = open_log(&self.path)?;
            self.size =
                self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        }
        // Nobody reads the FIFO that stands there.
        let Some(file) = &mut self.file else { return Ok(bytes.len()) };
        let count = file.write(bytes)?;
        Ok(self.wrote(bytes, count))
    }

    fn write_at_once(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let file = self.file.as_ref().filter(|_| !self.is_due())?;
        let written = outlet::write_at_once(file.as_fd(), bytes)?;
        Some(written.map(|count| self.wrote(bytes, count)))
    }

    fn loss(&self, lines: u64, why: &str) -> Option<String> {
        Some((self.loss)(lines, why))
    }
}

/// The output of one life of an entry.
pub(super) struct Output {
    pipe: PipeReader,
    rest: Vec<u8>,
}

impl Output {
    /// What comes out of `pipe`, which does not block.
    pub(super) fn new(pipe: PipeReader) -> Output {
        Output { pipe, rest: Vec::new() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Gives each whole line that has come to `each`; whether more may come.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(&[u8])) -> bool {
        let mut buffer = [0u8; 8192];
        // Bounded, so that one that writes without end does not keep us from the others.
        for _ in 0..16 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.end(each);
                    return false;
                }
                Ok(count) => {
                    self.rest.extend_from_slice(&buffer[..count]);
                    self.lines(each);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => return cause.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn lines(&mut self, each: &mut dyn FnMut(&[u8])) {
        let mut from = 0;
        while let Some(end) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            each(&self.rest[from..from + end]);
            from += end + 1;
        }
        self.rest.drain(..from);
        while self.rest.len() > LINE {
            each(&self.rest[..LINE]);
            self.rest.drain(..LINE);
        }
    }

    /// A line that was not ended is one at the end.
    pub(super) fn end(&mut self, each: &mut dyn FnMut(&[u8])) {
        if !self.rest.is_empty() {
            each(&std::mem::take(&mut self.rest));
        }
    }
}
