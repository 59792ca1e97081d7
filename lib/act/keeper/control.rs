//! The control socket of a keeper: one JSON line in, one out; for its own user and root alone.

use crate::service::embedded::LINE_LIMIT;
use crate::sys::net;
use crate::words::error::{Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a client may take for its line, and how many may wait.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);
const CLIENTS: usize = 32;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `status`.
    Status,
    /// `stop`.
    Stop,
    /// `start`.
    Start,
    /// `restart`.
    Restart,
    /// `spare`: leave this process of ours alone.
    Spare(i32),
}

/// The listening socket and those who are connected.
#[derive(Debug)]
pub(super) struct Control {
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

impl Control {
    /// Listens on `path`; whoever calls holds the lock of the place, so a socket that is there is a dead keeper's.
    pub(super) fn listen(path: &Path) -> Result<Control> {
        let doing = format!("cannot listen on '{}'", path.display());
        let cannot = |cause: std::io::Error| Error::io(&doing, &cause);
        match fs::remove_file(path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cannot(cause)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(cannot)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Control { listener, path: path.to_owned(), clients: Vec::new() })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.listener.as_fd()];
        fds.extend(self.clients.iter().map(|client| client.stream.as_fd()));
        fds
    }

    /// When a client's patience with us, or ours with it, ends.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).min()
    }

    /// Reads what clients ask and answers each with `reply`.
    pub(super) fn serve(&mut self, reply: &mut dyn FnMut(Request) -> Value) {
        while let Ok((stream, _)) = self.listener.accept() {
            let permitted = net::peer_uid(stream.as_fd()).is_ok_and(|uid| uid == 0 || uid == crate::sys::user::own_uid());
            if permitted && self.clients.len() < CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, line: Vec::new(), until: Instant::now() + CLIENT_LIMIT });
            }
        }
        self.clients.retain_mut(|client| match client.read() {
            Read1::More => Instant::now() < client.until,
            Read1::Over => false,
            Read1::Line => {
                let answer = match parse(&client.line) {
                    Ok(request) => reply(request),
                    Err(why) => json!({ "error": why }),
                };
                // The answer is far smaller than a socket's buffer; a client that went away does not matter.
                let _ = writeln!(client.stream, "{answer}");
                false
            }
        });
    }
}

impl Drop for Control {
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

fn parse(line: &[u8]) -> std::result::Result<Request, &'static str> {
    let request: Value = serde_json::from_slice(line).map_err(|_| "the request is not JSON")?;
    match request.get("verb").and_then(Value::as_str) {
        Some("status") => Ok(Request::Status),
        Some("stop") => Ok(Request::Stop),
        Some("start") => Ok(Request::Start),
        Some("restart") => Ok(Request::Restart),
        Some("spare") => {
            let pid = request.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
            pid.map(Request::Spare).ok_or("spare needs a pid")
        }
        _ => Err("unknown verb"),
    }
}
