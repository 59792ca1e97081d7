//! A unix socket that is spoken to in lines, one in and one out, by its own user and root alone.

use crate::sys::file::FileId;
use crate::sys::net;
use crate::sys::poll::For;
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
/// How long a client may take for its line, and for the answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);
/// Who is not let in for so long may look whether anybody is there who could.
const LET_IN: Duration = Duration::from_secs(2);
/// Between two tries to be let in: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How many are connected at once; who comes then waits in the socket's queue.
const CLIENTS: usize = 256;

/// The listening socket and those who are connected.
#[derive(Debug)]
pub struct Lines {
    listener: UnixListener,
    path: PathBuf,
    /// Which file the socket is: another one under its name is not ours to remove.
    id: Option<FileId>,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    /// What is still to be said, once the line has come.
    answer: Option<Vec<u8>>,
    until: Instant,
}

impl Lines {
    /// Listens on `path`; whoever calls holds the lock of the place, so a socket that is there is a dead
    /// one's.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen(path: &Path) -> Result<Lines> {
        let (listener, id) = bind(path)?;
        Ok(Lines { listener, path: path.to_owned(), id, clients: Vec::new() })
    }

    /// Listens again: the socket was removed.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen_again(&mut self) -> Result<()> {
        (self.listener, self.id) = bind(&self.path)?;
        Ok(())
    }

    /// Whether it is still there for those who look for it: not when somebody has cleaned up.
    pub fn is_there(&self) -> bool {
        self.id.is_some() && FileId::of(&self.path) == self.id
    }

    /// What to wait for.
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, For)> {
        let listener = (self.clients.len() < CLIENTS).then(|| (self.listener.as_fd(), For::Reading));
        let awaited = |client: &Client| if client.answer.is_some() { For::Writing } else { For::Reading };
        let clients = self.clients.iter().map(|client| (client.stream.as_fd(), awaited(client)));
        listener.into_iter().chain(clients.collect::<Vec<_>>()).collect()
    }

    /// When a client's patience with us, or ours with it, ends.
    pub fn wake(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).min()
    }

    /// Reads what clients ask, a line each, and answers each with the line that `reply` gives. Waits for
    /// nobody: an answer that a client does not read is kept for it as long as it has time.
    pub fn serve(&mut self, reply: &mut dyn FnMut(&[u8]) -> String) {
        while self.clients.len() < CLIENTS
            && let Ok((stream, _)) = self.listener.accept()
        {
            let permitted =
                net::peer_uid(stream.as_fd()).is_ok_and(|uid| uid == 0 || uid == crate::sys::user::own_uid());
            if permitted && stream.set_nonblocking(true).is_ok() {
                let until = Instant::now() + CLIENT_LIMIT;
                self.clients.push(Client { stream, line: Vec::new(), answer: None, until });
            }
        }
        self.clients.retain_mut(|client| client.goes_on(reply) && Instant::now() < client.until);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // One that another has put there is not ours to remove.
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> Result<(UnixListener, Option<FileId>)> {
    let doing = format!("cannot listen on '{}'", path.display());
    let cannot = |cause: std::io::Error| Error::io(&doing, &cause);
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cannot(cause)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    Ok((listener, FileId::of(path)))
}

enum Read1 {
    Line,
    More,
    Over,
}

impl Client {
    /// Reads and answers as far as that is possible now; whether there is more to come.
    fn goes_on(&mut self, reply: &mut dyn FnMut(&[u8]) -> String) -> bool {
        if self.answer.is_none() {
            match self.read() {
                Read1::More => return true,
                Read1::Over => return false,
                Read1::Line => {
                    self.answer = Some(format!("{}\n", reply(&self.line)).into_bytes());
                    self.until = Instant::now() + CLIENT_LIMIT;
                }
            }
        }
        let Some(answer) = &mut self.answer else { return false };
        loop {
            match self.stream.write(answer) {
                Ok(count) => {
                    answer.drain(..count);
                    if answer.is_empty() {
                        return false;
                    }
                }
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return true,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

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

/// Asks whoever listens on `path` a line; its answer, at most `limit` bytes. It may take as long as
/// `timeout`; who is not let in for two seconds, or half of it, is told so.
///
/// # Errors
/// Those of connect(2): NotFound and ConnectionRefused where nobody listens; WouldBlock where nobody was let
/// in, so that nothing was asked; TimedOut where nothing was answered in time; UnexpectedEof where
/// nothing was answered; InvalidData for an answer that is too long or cut; PermissionDenied when another
/// user listens there.
pub fn ask(path: &Path, line: &str, limit: u64, timeout: Duration) -> std::io::Result<String> {
    let until = Instant::now() + timeout;
    let mut stream = connect(path, Instant::now() + (timeout / 2).min(LET_IN))?;
    net::check_peer(stream.as_fd())?;
    let left = || Some(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    stream.set_write_timeout(left())?;
    writeln!(stream, "{line}")?;
    let mut answer = Vec::new();
    let mut chunk = [0u8; 8192];
    // An answer in crumbs must not take longer than one in a piece.
    while !answer.ends_with(b"\n") && answer.len() as u64 <= limit {
        stream.set_read_timeout(left())?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(cause) => return Err(cause),
        }
        if Instant::now() >= until {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let whole = answer.ends_with(b"\n") && answer.len() as u64 <= limit;
    String::from_utf8(answer).ok().filter(|_| whole).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// One that is stopped accepts nobody, and a full backlog would be waited for without end. On Linux whoever
/// finds it full sleeps until it has room (unix(7), SO_SNDTIMEO): thousands that try again and again would
/// keep from its work the very process that they wait for. Elsewhere they are refused, and try ever more
/// seldom.
fn connect(path: &Path, until: Instant) -> std::io::Result<UnixStream> {
    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let address = UnixAddr::new(path)?;
    let mut pause = FIRST_PAUSE;
    loop {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        let stream = UnixStream::from(fd);
        let left = until.saturating_duration_since(Instant::now());
        stream.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        match connect(stream.as_raw_fd(), &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if Instant::now() < until => {
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(Errno::EAGAIN) => return Err(ErrorKind::WouldBlock.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;

    #[test]
    fn a_client_that_does_not_read_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut lines = Lines::listen(&path).unwrap();
        let large = "x".repeat(4 << 20);
        let mut deaf = UnixStream::connect(&path).unwrap();
        deaf.write_all(b"large\n").unwrap();
        let mut quick = UnixStream::connect(&path).unwrap();
        quick.write_all(b"small\n").unwrap();
        let mut reply = |line: &[u8]| if line == b"large\n" { large.clone() } else { "ok".to_owned() };
        let mut answer = String::new();
        let end = Instant::now() + Duration::from_secs(60);
        quick.set_nonblocking(true).unwrap();
        while quick.read_to_string(&mut answer).is_err() {
            assert!(Instant::now() < end);
            lines.serve(&mut reply);
        }
        // The answer of the other is not lost: it has time to read it.
        assert_eq!(answer, "ok\n");
        let mut heard = 0;
        let mut chunk = vec![0; 1 << 16];
        deaf.set_nonblocking(true).unwrap();
        while heard < large.len() + 1 {
            assert!(Instant::now() < end);
            lines.serve(&mut reply);
            heard += deaf.read(&mut chunk).unwrap_or(0);
            poll::wait(&lines.fds(), Some(Instant::now() + Duration::from_millis(10))).unwrap();
        }
        assert_eq!(heard, large.len() + 1);
    }
}
