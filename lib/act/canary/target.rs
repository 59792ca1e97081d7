//! What a canary watches, pinned to one process: pid and start time, taken over the socket's own word for who
//! listens.

use crate::service::Service;
use crate::service::iapeer;
use crate::service::manager::ManagerKind;
use crate::service::tmux::{self, Unserved};
use crate::sys::file;
use crate::sys::process::{self, Identity, Pid, ProcessSight};
use crate::words::error::{Error, Result, brief, reason};
use crate::words::exit::Status;
use std::path::{Path, PathBuf};

/// How a target is named by people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryTargetName {
    /// The tmux server that listens on this socket.
    Socket(PathBuf),
    /// This process.
    Pid(Pid),
    /// The process whose pid stands in this file.
    PidFile(PathBuf),
    /// The main process of this unit of systemd.
    Unit(String),
    /// The process of this job: launchd's (`gui/501/LABEL`; on macOS a bare label too), or a baa-run's.
    Label(String),
}

impl CanaryTargetName {
    /// Reads one line of a file of targets: `sock=PATH`, `pid=N`, `pidfile=PATH`, `unit=U` or `label=L`, or a
    /// path alone; then perhaps `identity=ID`. `None` for an empty line or a comment.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(line: &str) -> std::result::Result<Option<(CanaryTargetName, Option<String>)>, String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (first, identity) = match line.rsplit_once(" identity=") {
            Some((first, identity)) => (first.trim(), Some(identity.to_owned())),
            None => (line, None),
        };
        let aim = match first.split_once('=') {
            Some(("sock", path)) => CanaryTargetName::Socket(PathBuf::from(path)),
            Some(("pidfile", path)) => CanaryTargetName::PidFile(PathBuf::from(path)),
            Some(("pid", pid)) => CanaryTargetName::Pid(pid.parse()?),
            Some(("unit", unit)) => CanaryTargetName::Unit(unit.to_owned()),
            Some(("label", label)) => CanaryTargetName::Label(label.to_owned()),
            _ if first.starts_with('/') => CanaryTargetName::Socket(PathBuf::from(first)),
            _ => {
                return Err(format!(
                    "'{}' is no target; write sock=, pid=, pidfile=, unit= or label=",
                    brief(first)
                ));
            }
        };
        Ok(Some((aim, identity)))
    }
}

impl std::fmt::Display for CanaryTargetName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CanaryTargetName::Socket(path) => write!(out, "tmux server at {}", path.display()),
            CanaryTargetName::Pid(pid) => write!(out, "process {pid}"),
            CanaryTargetName::PidFile(path) => write!(out, "process of {}", path.display()),
            CanaryTargetName::Unit(unit) => write!(out, "unit {unit}"),
            CanaryTargetName::Label(label) => write!(out, "job {label}"),
        }
    }
}

/// A process to watch.
pub struct CanaryTarget {
    /// What it is called in records and file names.
    pub identity: String,
    /// Who it is.
    pub who: Identity,
    /// The tmux socket, without links on its way.
    pub socket: Option<PathBuf>,
    /// The job that it is the process of.
    pub service: Option<Box<dyn Service>>,
}

/// Pins what `aim` means now.
///
/// # Errors
/// 69 when nothing lives there, or somebody else listens; 2 for a bad name.
pub fn pin(aim: &CanaryTargetName, identity: Option<&str>) -> Result<CanaryTarget> {
    if let Some(identity) = identity {
        check_identity(identity)?;
    }
    let absent = |why: &str| Error::new(Status::Unavailable, format!("cannot watch the {aim}: {why}"));
    let (pid, socket, service): (Pid, Option<PathBuf>, Option<Box<dyn Service>>) = match aim {
        CanaryTargetName::Socket(path) => (
            served(path).map_err(|why| absent(&why))?,
            Some(path.canonicalize().map_err(|cause| absent(&reason(&cause)))?),
            None,
        ),
        CanaryTargetName::Pid(pid) => (*pid, None, None),
        CanaryTargetName::PidFile(path) => (from_file(aim, path)?, None, None),
        CanaryTargetName::Unit(unit) => from_service(aim, ManagerKind::Systemd.service(unit)?)?,
        CanaryTargetName::Label(label) => {
            let launchd = label.contains('/') || cfg!(target_os = "macos");
            let kind = if launchd { ManagerKind::Launchd } else { ManagerKind::Embedded };
            from_service(aim, kind.service(label)?)?
        }
    };
    let who = match Identity::sight(pid) {
        ProcessSight::Lives(who) => who,
        ProcessSight::Gone => return Err(absent(&format!("process {pid} is not alive"))),
        ProcessSight::Unseen(why) => return Err(absent(&format!("process {pid} exists, but {why}"))),
    };
    let identity = match identity {
        Some(identity) => identity.to_owned(),
        None => default_identity(aim, who),
    };
    Ok(CanaryTarget { identity, who, socket, service })
}

fn served(path: &Path) -> std::result::Result<Pid, String> {
    tmux::listener(path).map_err(|unserved| match unserved {
        Unserved::Down(why) | Unserved::Foreign(why) => why,
    })
}

fn from_file(aim: &CanaryTargetName, path: &Path) -> Result<Pid> {
    // A pid file that is gone is the usual sign of a daemon that is.
    let bytes = file::read(path, 4096).map_err(|cause| {
        let status =
            if cause.kind() == std::io::ErrorKind::NotFound { Status::Unavailable } else { Status::Io };
        Error::new(status, format!("cannot watch the {aim}: {}", reason(&cause)))
    })?;
    // Some daemons write more lines after the first.
    let text = String::from_utf8_lossy(&bytes);
    text.lines()
        .next()
        .unwrap_or("")
        .trim()
        .parse()
        .map_err(|why| Error::new(Status::Malformed, format!("cannot watch the {aim}: {why}")))
}

type Pinned = (Pid, Option<PathBuf>, Option<Box<dyn Service>>);

fn from_service(aim: &CanaryTargetName, service: Box<dyn Service>) -> Result<Pinned> {
    let cannot = |why: String| Error::new(Status::Unavailable, format!("cannot watch the {aim}: {why}"));
    match service.inspect() {
        Ok(Some(state)) => match state.pid {
            Some(pid) => Ok((pid, None, Some(service))),
            None => Err(cannot(format!("no process of it runs: {}", state.word))),
        },
        Ok(None) => Err(cannot(format!("{} does not know it", service.manager()))),
        Err(trouble) => Err(cannot(trouble.text)),
    }
}

/// Whether `identity` can be part of a file name and of a line.
///
/// # Errors
/// 2, and says what it should be.
pub fn check_identity(identity: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if identity.is_empty()
        || identity.len() > 128
        || !identity.bytes().all(good)
        || identity.starts_with(['.', '-'])
    {
        return Err(Error::new(
            Status::Usage,
            format!("'{}' is not an identity: letters, digits, '.', '_', '@' and '-'", brief(identity)),
        ));
    }
    Ok(())
}

fn default_identity(aim: &CanaryTargetName, who: Identity) -> String {
    let text = match aim {
        CanaryTargetName::Socket(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            iapeer::identity_of_socket(&name).map_or_else(
                || path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                str::to_owned,
            )
        }
        CanaryTargetName::PidFile(path) => {
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
        CanaryTargetName::Unit(name) | CanaryTargetName::Label(name) => {
            name.rsplit('/').next().unwrap_or(name).to_owned()
        }
        CanaryTargetName::Pid(pid) => format!("{}-{pid}", process::name(*pid).unwrap_or_default()),
    };
    let clean: String = text
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "._@-".contains(letter) { letter } else { '-' })
        .take(100)
        .collect();
    let clean = clean.trim_start_matches(['.', '-']);
    if clean.is_empty() { format!("pid-{}", who.pid) } else { clean.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_target() {
        assert_eq!(
            CanaryTargetName::parse(" sock=/a b.sock identity=x-y "),
            Ok(Some((CanaryTargetName::Socket("/a b.sock".into()), Some("x-y".into()))))
        );
        assert_eq!(
            CanaryTargetName::parse("/run/t.sock"),
            Ok(Some((CanaryTargetName::Socket("/run/t.sock".into()), None)))
        );
        assert_eq!(
            CanaryTargetName::parse("unit=user/web.service"),
            Ok(Some((CanaryTargetName::Unit("user/web.service".into()), None)))
        );
        assert_eq!((CanaryTargetName::parse(""), CanaryTargetName::parse("# x")), (Ok(None), Ok(None)));
        for line in ["pid=0", "pid=x", "x", "what=1"] {
            assert!(CanaryTargetName::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_identity_stays_in_its_directory() {
        for good in ["claude-bob", "a", "getty@tty1.service"] {
            assert!(check_identity(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "-x", "a b", "a\n", "ä", &"x".repeat(129)] {
            assert!(check_identity(bad).is_err(), "{bad}");
        }
    }
}
