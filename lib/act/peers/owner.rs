//! Root in an installation of somebody else: all work there is done as its owner, by a process that has
//! become him for good. Root itself only tells launchd, and only of the peers that it was asked to remove.

use crate::act::peers::agent;
use crate::act::peers::root::Root;
use crate::service::iapeer;
use crate::service::launchd::Launchd;
use crate::sys::child::{self, Exit};
use crate::sys::deputy::{self, Deputy};
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid};
use crate::sys::signal::{Signal, Signals};
use crate::sys::{trust, user};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// What is to be done by this process.
#[derive(Debug)]
pub enum Share {
    /// All of it.
    Work(Root),
    /// Nothing any more: the owner has done it, with this status.
    Done(Status),
}

/// Takes the work up, or gives it to the owner of the installation and waits for him. Whoever else could lead
/// there is not followed.
///
/// # Errors
/// 77 where another than root and the owner can change the way to it; those of fork(2).
pub fn share(root: Root, names: &[String]) -> Result<Share> {
    let doing = format!("cannot work in {}", root.path().display());
    let cannot = |cause: std::io::Error| Error::io(&doing, &cause);
    let own = user::own_uid();
    let Ok(found) = std::fs::symlink_metadata(root.path()) else {
        // Whoever makes it now has it not looked at by root.
        return Ok(Share::Work(root.gone()));
    };
    if own != 0 {
        return Ok(Share::Work(root));
    }
    // Both, or whoever else is on the way could have his files worked on by a third, or by root.
    let real = trust::follow_of(root.given(), found.uid()).map_err(cannot)?;
    if real != root.path() {
        return Err(Error::new(Status::NotPermitted, format!("{doing}: it has become another directory")));
    }
    if found.uid() == 0 {
        return Ok(Share::Work(root));
    }
    let who = user::numbered(found.uid()).map_err(cannot)?;
    let keeps = |name: &str| {
        let plain = ["PATH", "TERM", "LANG", "TZ", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"];
        plain.contains(&name) || name.starts_with("LC_") || name.starts_with("IAPEER_")
    };
    match deputy::split(&who, &keeps).map_err(cannot)? {
        Deputy::Itself(line) => Ok(Share::Work(root.with_launchd(LaunchdLine(Arc::new(Mutex::new(line)))))),
        Deputy::Of { pid, asks } => serve(pid, &asks, who.uid, names).map(Share::Done),
    }
}

/// The line on which the owner's process has root tell launchd.
#[derive(Clone, Debug)]
pub struct LaunchdLine(Arc<Mutex<UnixStream>>);

impl LaunchdLine {
    /// Has the job of `personality` booted out; what came of it.
    ///
    /// # Errors
    /// When launchd keeps it, or nobody is there to be asked.
    pub fn take_down(&self, personality: &str) -> Result<&'static str> {
        let cannot = |cause| Error::io(format!("cannot boot out com.iapeer.{personality}"), &cause);
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(&*line, "{personality}").map_err(cannot)?;
        let mut answer = String::new();
        BufReader::new(&*line).read_line(&mut answer).map_err(cannot)?;
        match answer.trim_end() {
            "" => Err(Error::new(Status::Io, format!("cannot boot out com.iapeer.{personality}: no answer"))),
            said => agent::WORDS
                .iter()
                .find(|word| **word == said)
                .copied()
                .ok_or_else(|| Error::new(Status::Io, said.to_owned())),
        }
    }
}

/// What root does while the owner works: passes signals on, and boots out what it was asked to remove.
fn serve(pid: Pid, asks: &UnixStream, uid: u32, names: &[String]) -> Result<Status> {
    let cannot = |cause: std::io::Error| Error::io("cannot wait", &cause);
    let signals = Signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).map_err(cannot)?;
    let who = Identity::of(pid);
    let mut lines = BufReader::new(asks);
    loop {
        let ready = poll::wait(&[(signals.fd(), For::Reading), (asks.as_fd(), For::Reading)], None)
            .map_err(cannot)?;
        if ready[0] {
            for signal in signals.take() {
                // It may have been stopped: to signal it is all that its user can do to it.
                for one in [signal, Signal::SIGCONT] {
                    who.iter().for_each(|who| child::signal(*who, one));
                }
            }
        }
        if ready[1] {
            let mut line = String::new();
            let name = match lines.read_line(&mut line) {
                Ok(count) if count > 0 => line.trim_end(),
                _ => break,
            };
            let told = if names.iter().any(|asked| asked == name) && iapeer::is_personality(name) {
                agent::boot_out(Launchd::domain_of_user(uid), name)
            } else {
                Err(Error::new(Status::No, "cannot boot out what nobody has asked to remove"))
            };
            let said = told.map_or_else(|error| brief(&error.to_string()), str::to_owned);
            if writeln!(&*asks, "{said}").is_err() {
                break;
            }
        }
    }
    match child::wait(pid) {
        Some(Exit::Code(code)) => Ok(u8::try_from(code).map_or(Status::Internal, Status::Command)),
        Some(killed) => Err(Error::new(Status::No, format!("the process of user {uid} was {killed}"))),
        None => Err(Error::new(Status::No, format!("the process of user {uid} is gone"))),
    }
}
