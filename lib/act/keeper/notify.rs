//! What a command tells of itself: over a socket as sd_notify(3) does, or by a line on a descriptor as s6 has
//! it.

use crate::sys::file;
use crate::sys::process::Pid;
use crate::words::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The longest status that is kept, in characters.
const STATUS_LIMIT: usize = 200;

/// What was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// That it is ready.
    pub(crate) ready: bool,
    /// That it is alive.
    pub(crate) alive: bool,
    /// That it knows to be stuck, and wants to be stopped (`WATCHDOG=trigger`).
    pub(crate) stuck: bool,
    /// What it does, in its words.
    pub(crate) status: Option<String>,
}

/// Where one life tells. Each life has its own: what an old one says is not the new one's.
#[derive(Debug)]
pub(super) enum Notify {
    /// A datagram socket with a name, which is removed with it.
    Socket(UnixDatagram, PathBuf),
    /// The reading end of a pipe, as long as somebody may still write to it.
    Pipe(Option<File>),
}

impl Notify {
    /// A socket, in a directory that is ours alone.
    ///
    /// # Errors
    /// Those of mkdir(2) and bind(2).
    pub(super) fn socket() -> Result<Notify> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cannot = |cause: std::io::Error| Error::io("cannot make a socket for NOTIFY_SOCKET", &cause);
        let directory = file::runtime_dir().join("notify");
        file::own_dir(&file::runtime_dir()).and_then(|()| file::private_dir(&directory)).map_err(cannot)?;
        let path = directory.join(format!("{}-{}", Pid::own(), COUNT.fetch_add(1, Ordering::SeqCst)));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).map_err(cannot)?;
        socket.set_nonblocking(true).map_err(cannot)?;
        Ok(Notify::Socket(socket, path))
    }

    /// A pipe, and its writing end for the life alone.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub(super) fn pipe() -> Result<(Notify, OwnedFd)> {
        let cannot = |cause: std::io::Error| Error::io("cannot make a pipe for readiness", &cause);
        let (reader, writer) = crate::sys::signal::pipe().map_err(cannot)?;
        Ok((Notify::Pipe(Some(File::from(reader))), writer))
    }

    /// The variable that tells of it.
    pub(super) fn variable(&self) -> Option<(OsString, OsString)> {
        match self {
            Notify::Socket(_, path) => Some(("NOTIFY_SOCKET".into(), path.clone().into())),
            Notify::Pipe(_) => None,
        }
    }

    /// Readable when something may have been told; `None` when nothing more can be.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Notify::Socket(socket, _) => Some(socket.as_fd()),
            Notify::Pipe(pipe) => pipe.as_ref().map(AsFd::as_fd),
        }
    }

    /// What was told since the last call.
    pub(super) fn hear(&mut self) -> Notification {
        let (mut told, mut bytes) = (Notification::default(), [0u8; 4096]);
        match self {
            Notify::Socket(socket, _) => {
                while let Ok(count) = socket.recv(&mut bytes) {
                    told.hear(&bytes[..count]);
                }
            }
            // What is written before the line end means nothing (s6's notification-fd).
            Notify::Pipe(pipe) => {
                while let Some(Ok(count)) = pipe.as_mut().map(|pipe| pipe.read(&mut bytes)) {
                    told.ready |= bytes[..count].contains(&b'\n');
                    if count == 0 {
                        // Closed, it would be readable for ever.
                        *pipe = None;
                    }
                }
            }
        }
        told
    }

    /// Whether it can tell more than that it is ready.
    pub(super) fn lasts(&self) -> bool {
        matches!(self, Notify::Socket(..))
    }
}

impl Notification {
    /// Takes a datagram of sd_notify(3) in: lines, of which the last one of a kind counts.
    pub(crate) fn hear(&mut self, datagram: &[u8]) {
        datagram.split(|byte| *byte == b'\n').for_each(|line| self.line(line));
    }

    fn line(&mut self, line: &[u8]) {
        match line {
            b"READY=1" => self.ready = true,
            b"WATCHDOG=1" => self.alive = true,
            b"WATCHDOG=trigger" => self.stuck = true,
            _ => {
                if let Some(text) = line.strip_prefix(b"STATUS=") {
                    self.status = Some(
                        String::from_utf8_lossy(text)
                            .chars()
                            .filter(|letter| !letter.is_control())
                            .take(STATUS_LIMIT)
                            .collect(),
                    );
                }
            }
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        if let Notify::Socket(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_closed_is_not_waited_for() {
        let (reader, writer) = crate::sys::signal::pipe().unwrap();
        let mut notify = Notify::Pipe(Some(File::from(reader)));
        assert!(!notify.hear().ready && notify.fd().is_some());
        nix::unistd::write(&writer, b"almost").unwrap();
        assert!(!notify.hear().ready);
        nix::unistd::write(&writer, b" there\n").unwrap();
        drop(writer);
        assert!(notify.hear().ready && notify.fd().is_none());
        assert!(!notify.hear().ready);
    }

    #[test]
    fn a_command_tells_in_lines() {
        let mut told = Notification::default();
        told.hear(b"X=1\nSTATUS=a\x07b\nWATCHDOG=1\nREADY=10");
        assert_eq!(
            told,
            Notification { alive: true, status: Some("ab".to_owned()), ..Notification::default() }
        );
        told.line(b"READY=1");
        assert!(told.ready && !told.stuck);
    }
}
