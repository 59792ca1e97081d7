//! tmux: who serves a socket, and which sessions there are.

use crate::life;
use crate::service::job::DEFAULT_PATH;
use crate::sys::child::{Exit, Spec};
use crate::sys::net::{self, Link};
use crate::sys::process::{self, Pid};
use crate::sys::user;
use crate::words::error::{brief, reason};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a socket may take to answer.
const SOCKET_LIMIT: Duration = Duration::from_secs(2);

/// Why a socket has no tmux server of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Nobody answers.
    Down(String),
    /// Somebody else does.
    Foreign(String),
}

/// The tmux server that listens on a socket. Nothing is sent: the kernel tells who called listen(2) (unix(7),
/// SO_PEERCRED).
///
/// # Errors
/// When there is none.
pub fn listener(path: &Path) -> std::result::Result<Pid, Unserved> {
    let down = |why: &str| Unserved::Down(why.to_owned());
    let conn = net::connect_unix_now(path, Instant::now() + SOCKET_LIMIT)
        .map_err(|failure| down(failure.text.rsplit(": ").next().unwrap_or("no answer")))?;
    let Link::Unix(Some(pid)) = *conn.link() else { return Err(down("nobody tells who listens there")) };
    let uid = conn.peer_uid().map_err(|cause| Unserved::Down(reason(&cause)))?;
    if uid != user::own_uid() && user::own_uid() != 0 {
        return Err(Unserved::Foreign(format!("process {pid} of user {uid} listens there")));
    }
    let name = process::name(pid).unwrap_or_default();
    if !is_tmux(pid, &name) {
        return Err(Unserved::Foreign(format!(
            "process {pid} listens there, and that is '{}', no tmux server",
            brief(&name)
        )));
    }
    Ok(pid)
}

/// tmux names its server `tmux: server` (setproctitle), on macOS `tmux`; a renamed program is known by its
/// file.
fn is_tmux(pid: Pid, name: &str) -> bool {
    let file = || {
        process::program(pid)
            .and_then(|path| path.canonicalize().ok())
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
    };
    name.starts_with("tmux") || file().is_some_and(|file| file.starts_with("tmux"))
}

/// The names of the sessions of the server at `path`; `None` where no server of ours answers.
pub fn sessions(path: &Path) -> Option<Vec<String>> {
    let server = listener(path).ok()?;
    let mut spec = client(server, path)?;
    spec.args.extend(["list-sessions", "-F", "#{session_name}"].map(Into::into));
    let finished = life::run(spec, Instant::now() + SOCKET_LIMIT, 1 << 20, &AtomicBool::new(false)).ok()?;
    (finished.exit == Some(Exit::Code(0))).then(|| finished.stdout.lines().map(str::to_owned).collect())
}

/// A client of the server at `path`, to which a command is to be added: the server's own program where it can
/// be had, for the protocol between the two belongs to one version. Whose the server is, his is that program
/// too, and what the server may tell its client to run: so it runs as that user, in no environment of ours.
/// `None` where it cannot be told whose the server is.
pub fn client(server: Pid, path: &Path) -> Option<Spec> {
    let conn = net::connect_unix_now(path, Instant::now() + SOCKET_LIMIT).ok()?;
    // Of the socket, not of the process: whoever hides what his process does has it shown as root's.
    let uid = conn.peer_uid().ok().filter(|_| *conn.link() == Link::Unix(Some(server)))?;
    let program = process::program(server).map_or_else(|| "tmux".into(), Into::into);
    let mut spec = Spec::new::<&std::ffi::OsStr>(
        std::ffi::OsString::as_os_str(&program),
        ["-S".as_ref(), path.as_os_str()],
    );
    spec.arg0 = Some("tmux".into());
    if uid != user::own_uid() {
        spec.user = Some(user::numbered(uid).ok()?);
        spec.clear_env = true;
        spec.env = vec![("PATH".into(), DEFAULT_PATH.into()), ("TERM".into(), "dumb".into())];
        spec.dir = Some("/".into());
        spec.only_passed = true;
        spec.own_keyring = true;
    }
    Some(spec)
}
