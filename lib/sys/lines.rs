//! A unix socket that is spoken to in lines, one in and one out, by its own user and root alone.

use crate::sys::net;
use crate::words::error::{Error, Result};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest line that a client may send.
pub const LINE_LIMIT: u64 = 16 * 1024;
/// How long a client may take for its line, and how many may wait.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);
const CLIENTS: usize = 32;
/// How long a client may take to read an answer that fills its buffer.
const WRITE_LIMIT: Duration = Duration::from_millis(200);

/// The listening socket and those who are connected.
#[derive(Debug)]
pub struct Lines {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    until: Instant,
}

impl Lines {
    /// Listens on `path`; whoever calls holds the lock of the place, so a socket that is there is a dead
    /// one's.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen(path: &Path) -> Result<Lines> {
        let doing = format!("cannot listen on '{}'", path.display());
        let cannot = |cause: std::io::Error| Error::io(&doing, &cause);
        match fs::remove_file(path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cannot(cause)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(cannot)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Lines { listener, path: path.to_owned(), clients: Vec::new() })
    }

    /// What to wait for.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.listener.as_fd()];
        fds.extend(self.clients.iter().map(|client| client.stream.as_fd()));
        fds
    }

    /// When a client's patience with us, or ours with it, ends.
    pub fn wake(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).min()
    }

    /// Reads what clients ask, a line each, and answers each with the line that `reply` gives.
    pub fn serve(&mut self, reply: &mut dyn FnMut(&[u8]) -> String) {
        while let Ok((stream, _)) = self.listener.accept() {
            let permitted =
                net::peer_uid(stream.as_fd()).is_ok_and(|uid| uid == 0 || uid == crate::sys::user::own_uid());
            if permitted && self.clients.len() < CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, line: Vec::new(), until: Instant::now() + CLIENT_LIMIT });
            }
        }
        self.clients.retain_mut(|client| match client.read() {
            Read1::More => Instant::now() < client.until,
            Read1::Over => false,
            Read1::Line => {
                let answer = reply(&client.line);
                // Most answers are far smaller than a socket's buffer; a client that does not read, or went
                // away, does not matter.
                let _ = client
                    .stream
                    .set_nonblocking(false)
                    .and_then(|()| client.stream.set_write_timeout(Some(WRITE_LIMIT)));
                let _ = writeln!(client.stream, "{answer}");
                false
            }
        });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

enum Read1 {
    Line,
    More,
    Over,
}

impl Client {
    fn read(&mut self) -> Read1 {
        let mut chunk = [0u8; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Read1::Over,
                Ok(count) => {
                    self.line.extend_from_slice(&chunk[..count]);
                    if self.line.contains(&b'\n') {
                        return Read1::Line;
                    }
                    if self.line.len() as u64 > LINE_LIMIT {
                        return Read1::Over;
                    }
                }
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Read1::More,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Read1::Over,
            }
        }
    }
}

/// Asks whoever listens on `path` a line; its answer, at most `limit` bytes.
///
/// # Errors
/// Those of connect(2): NotFound and ConnectionRefused where nobody listens; TimedOut; InvalidData for an
/// answer that is too long or cut.
pub fn ask(path: &Path, line: &str, limit: u64, timeout: Duration) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    stream.take(limit).read_to_string(&mut answer)?;
    if answer.ends_with('\n') { Ok(answer) } else { Err(ErrorKind::InvalidData.into()) }
}
