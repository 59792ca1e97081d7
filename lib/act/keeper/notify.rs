//! What a command tells of itself: over a socket as sd_notify(3) does, or by a line on a descriptor as s6 has
//! it. What comes over the socket is believed by the kernel's word on who has sent it.

use crate::sys::datagram::{self, Sender};
use crate::sys::process::{self, Pid};
use crate::sys::user::{self, Credentials};
use crate::sys::{file, random};
use crate::words::clean;
use crate::words::error::{Error, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// Somebody told something who is not believed: who, and why not.
    pub(crate) refused: Option<String>,
}

/// Whose word counts over a socket (NotifyAccess= of systemd.service(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyAccess {
    /// The main process alone.
    Main,
    /// The main process, and the commands that the keeper itself runs for it.
    Exec,
    /// All processes of the life, and those commands.
    #[default]
    All,
}

/// Who must be able to reach a socket.
#[derive(Debug)]
pub(super) enum Reach {
    /// Ourselves: what we start stays of our user.
    Own,
    /// What we start as this user.
    User(u32),
    /// What we start as root, and which may become any other user then.
    Anyone,
}

impl Reach {
    /// For what is started as `user`; with `None` as ourselves.
    pub(super) fn of(user: Option<&Credentials>) -> Reach {
        let own = user::own_uid();
        match user {
            Some(user) if user.uid != own => Reach::User(user.uid),
            // Where nobody tells who has sent something, a socket for all is one that lies.
            None if own == 0 && cfg!(target_os = "linux") => Reach::Anyone,
            _ => Reach::Own,
        }
    }
}

/// What of a life a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its main process.
    Main,
    /// What the keeper runs for it.
    Helper,
    /// Another process of it.
    Member,
    /// None.
    Stranger,
}

impl NotifyAccess {
    fn admits(self, part: Part) -> bool {
        match part {
            Part::Main => true,
            Part::Helper => self != NotifyAccess::Main,
            Part::Member => self == NotifyAccess::All,
            Part::Stranger => false,
        }
    }

    /// Whether `sender` is heard, who is that part of the life; else who he is and why not.
    fn judge(self, sender: Option<Sender>, part: &dyn Fn(Pid) -> Part) -> std::result::Result<(), String> {
        let Some(sender) = sender else {
            // Without the kernel's word the permissions of the socket are all there is.
            return if cfg!(target_os = "linux") { Err("nobody knows whom".to_owned()) } else { Ok(()) };
        };
        let Some(pid) = sender.pid else {
            return Err(format!("a process of user {} that is not seen from here", sender.uid));
        };
        let part = part(pid);
        if self.admits(part) {
            return Ok(());
        }
        let why = match part {
            Part::Stranger if !process::exists(pid) => "which has ended, so that nobody knows whose it was",
            Part::Stranger => "which is no part of it",
            _ => "which --notify-access leaves out",
        };
        Err(format!("process {pid} of user {}, {why}", sender.uid))
    }
}

/// Where one life tells. Each life has its own: what an old one says is not the new one's.
#[derive(Debug)]
pub(super) enum Notify {
    /// A datagram socket with a name, which is removed with it.
    Socket {
        /// The socket.
        socket: UnixDatagram,
        /// Its name.
        path: PathBuf,
        /// Whose word counts.
        access: NotifyAccess,
        /// Whether somebody who is not believed was told of.
        refused: bool,
        /// Until then nobody is heard: whoever floods us waits, and we do other things.
        rests: Option<Instant>,
    },
    /// The reading end of a pipe, as long as somebody may still write to it.
    Pipe(Option<File>),
}

/// So many datagrams are heard at once; the rest waits for the next round, so that nobody who floods us keeps
/// us from all else.
const BATCH: usize = 64;

/// After a round with more than can be heard at once, or with those who are not believed, nobody is heard for
/// so long, and for so many times as long as the round has taken: strangers get no more than a tenth of a
/// core out of us.
const REST: Duration = Duration::from_millis(10);
const RESTS: u32 = 9;
/// Whoever waits to be heard waits no longer for that.
const LONGEST_REST: Duration = Duration::from_millis(500);

impl Notify {
    /// A socket for those who must reach it, and for nobody else where it is known who they are.
    ///
    /// # Errors
    /// Those of mkdir(2), bind(2) and chown(2).
    pub(super) fn socket(reach: &Reach, access: NotifyAccess) -> Result<Notify> {
        let cannot = |cause: io::Error| Error::io("cannot make a socket for NOTIFY_SOCKET", &cause);
        file::check_runtime_dir()?;
        let made = match reach {
            Reach::Own => private_place().and_then(|place| bound(&place, reach)),
            Reach::User(_) => passage().and_then(|place| bound(&place, reach)),
            // Most commands of root stay root's; those are heard all the same.
            Reach::Anyone => passage()
                .and_then(|place| bound(&place, reach))
                .or_else(|_| private_place().and_then(|place| bound(&place, &Reach::Own))),
        };
        let (socket, path) = made.map_err(cannot)?;
        Ok(Notify::Socket { socket, path, access, refused: false, rests: None })
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
            Notify::Socket { path, .. } => Some(("NOTIFY_SOCKET".into(), path.clone().into())),
            Notify::Pipe(_) => None,
        }
    }

    /// Readable when something may have been told; `None` when nothing more can be.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Notify::Socket { socket, rests, .. } => rests.is_none().then_some(socket.as_fd()),
            Notify::Pipe(pipe) => pipe.as_ref().map(AsFd::as_fd),
        }
    }

    /// When it is to be heard again, where it rests.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self {
            Notify::Socket { rests, .. } => *rests,
            Notify::Pipe(_) => None,
        }
    }

    /// What was told since the last call, by processes which are a part of the life as `part` says.
    pub(super) fn hear(&mut self, part: &dyn Fn(Pid) -> Part) -> Notification {
        let (mut told, mut bytes) = (Notification::default(), [0u8; 4096]);
        match self {
            Notify::Socket { socket, access, refused, rests, .. } => {
                let now = Instant::now();
                if rests.is_some_and(|until| now < until) {
                    return told;
                }
                let (mut heard, mut strangers) = (0, HashSet::new());
                while heard < BATCH {
                    let Ok((count, sender)) = datagram::receive(socket, &mut bytes) else { break };
                    heard += 1;
                    // Nobody becomes a part of the life while he floods us; to ask once is enough.
                    if sender.is_some_and(|sender| strangers.contains(&sender)) {
                        continue;
                    }
                    // One after the other: whoever waits until he is heard (BARRIER=1) is still there.
                    let Err(who) = access.judge(sender, part) else {
                        told.hear(&bytes[..count]);
                        continue;
                    };
                    strangers.extend(sender);
                    if !std::mem::replace(refused, true) {
                        told.refused = Some(who);
                    }
                }
                let rest = (now.elapsed() * RESTS).clamp(REST, LONGEST_REST);
                *rests = (heard == BATCH || !strangers.is_empty()).then(|| Instant::now() + rest);
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
        matches!(self, Notify::Socket { .. })
    }
}

/// A directory that is ours alone.
fn private_place() -> io::Result<PathBuf> {
    let place = file::runtime_dir().join("notify");
    file::own_dir(&file::runtime_dir())?;
    file::private_dir(&place)?;
    Ok(place)
}

/// A directory that others may pass through, but neither list nor change: in the runtime directory where they
/// come as far as that, else beside root's own.
fn passage() -> io::Result<PathBuf> {
    let own = file::runtime_dir();
    file::own_dir(&own)?;
    let place = if passable(&own) { own.join("reach") } else { PathBuf::from(BESIDE) };
    file::shared_dir(&place, 0o711)?;
    let found = fs::symlink_metadata(&place)?;
    if found.mode() & 0o077 != 0o011 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("'{}' is not of mode 0711", place.display()),
        ));
    }
    // What keepers have left that were killed.
    let asks = UnixDatagram::unbound()?;
    for left in fs::read_dir(&place).into_iter().flatten().flatten() {
        let answer = asks.connect(left.path());
        if answer.is_err_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(left.path());
        }
    }
    Ok(place)
}

/// Where sockets are that others reach, when they cannot reach the runtime directory.
const BESIDE: &str = if cfg!(target_os = "macos") { "/var/run/baa-reach" } else { "/run/baa-reach" };

/// Whether everybody may pass through all directories down to this one.
fn passable(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| {
        path.ancestors().all(|one| fs::metadata(one).is_ok_and(|found| found.mode() & 0o001 != 0))
    })
}

/// A socket in `place`, and its name.
fn bound(place: &Path, reach: &Reach) -> io::Result<(UnixDatagram, PathBuf)> {
    let name = || place.join(format!("{}-{}", Pid::own(), &random::hex()[..16]));
    let first = name();
    let socket = UnixDatagram::bind(&first)?;
    let settle = || {
        socket.set_nonblocking(true)?;
        datagram::ask_senders(&socket)?;
        match reach {
            Reach::Own => Ok(first.clone()),
            Reach::User(uid) => {
                fs::set_permissions(&first, Permissions::from_mode(0o600))?;
                chown(&first, Some(*uid), None)?;
                Ok(first.clone())
            }
            Reach::Anyone => {
                fs::set_permissions(&first, Permissions::from_mode(0o666))?;
                // The name that it was bound to is in a list of the kernel that all may read; by this one
                // only those find it who were told of it.
                let second = name();
                fs::rename(&first, &second)?;
                Ok(second)
            }
        }
    };
    match settle() {
        Ok(path) => Ok((socket, path)),
        Err(cause) => {
            let _ = fs::remove_file(&first);
            Err(cause)
        }
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
                            .filter(|letter| !letter.is_control() && !clean::is_unfit(*letter))
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
        if let Notify::Socket { path, .. } = self {
            let _ = fs::remove_file(path);
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
        let part = |_: Pid| Part::Stranger;
        assert!(!notify.hear(&part).ready && notify.fd().is_some());
        nix::unistd::write(&writer, b"almost").unwrap();
        assert!(!notify.hear(&part).ready);
        nix::unistd::write(&writer, b" there\n").unwrap();
        drop(writer);
        assert!(notify.hear(&part).ready && notify.fd().is_none());
        assert!(!notify.hear(&part).ready);
    }

    /// Whoever is not believed may send without end: he is heard now and then, and told of once.
    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_floods_us_waits() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        datagram::ask_senders(&ours).unwrap();
        let path = PathBuf::from("/nonexistent/socket");
        let access = NotifyAccess::All;
        let mut notify = Notify::Socket { socket: ours, path, access, refused: false, rests: None };
        theirs.send(b"READY=1").unwrap();
        assert!(notify.hear(&|_| Part::Main).ready && notify.fd().is_some() && notify.wake().is_none());
        theirs.send(b"READY=1").unwrap();
        assert!(notify.hear(&|_| Part::Stranger).refused.is_some());
        // Now it rests, and is heard again after that.
        let wake = notify.wake().unwrap();
        assert!(notify.fd().is_none());
        theirs.send(b"READY=1").unwrap();
        let early = notify.hear(&|_| Part::Main).ready;
        assert!(!early || Instant::now() >= wake);
        while !early && !notify.hear(&|_| Part::Main).ready {
            std::thread::sleep(REST);
        }
        assert!(notify.fd().is_some());
        // Of one who has sent much it is asked once.
        theirs.set_nonblocking(true).unwrap();
        while theirs.send(b"READY=1").is_ok() {}
        let asked = std::cell::Cell::new(0);
        notify.hear(&|_| {
            asked.set(asked.get() + 1);
            Part::Stranger
        });
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn a_command_tells_in_lines() {
        let mut told = Notification::default();
        told.hear(b"X=1\nSTATUS=a\x07\xe2\x80\xaeb\nWATCHDOG=1\nREADY=10");
        assert_eq!(
            told,
            Notification { alive: true, status: Some("ab".to_owned()), ..Notification::default() }
        );
        told.line(b"READY=1");
        assert!(told.ready && !told.stuck);
    }
}
