//! What entries say: into a file each, which is put aside when it is large, and on a terminal with the
//! entry's name before each line.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A file that is larger is put aside.
const LARGE: u64 = 10 * 1024 * 1024;
/// How many are kept aside.
const KEPT: u32 = 3;
/// A line that is longer is cut into several.
const LINE: usize = 16 * 1024;

/// A file that lines are added to.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl LogFile {
    /// The one at `path`, made 0600 when something is written.
    pub(super) fn new(path: &Path) -> LogFile {
        LogFile { path: path.to_owned(), file: None, size: 0 }
    }

    /// Adds a line. A disk that is full loses it, and stops nobody.
    pub(super) fn add(&mut self, line: &[u8]) {
        if self.size >= LARGE {
            self.put_aside();
        }
        if self.file.is_none() {
            self.file = crate::sys::file::open_log(&self.path).ok().flatten();
            self.size =
                self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        }
        if let Some(file) = &mut self.file {
            let whole = [line, b"\n"].concat();
            self.size += whole.len() as u64;
            let _ = file.write_all(&whole);
        }
    }

    fn put_aside(&mut self) {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..KEPT).rev() {
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        let _ = std::fs::rename(&self.path, numbered(1));
        (self.file, self.size) = (None, 0);
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
