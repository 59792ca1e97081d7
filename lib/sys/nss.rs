//! The system's name service, kept at arm's length: /etc/nsswitch.conf says whether it knows more than plain
//! files, and getent(1) asks it, a child with a deadline. No module of it is ever loaded into us: a static
//! program crashes on them, and any of them may hang.

use crate::sys::child::{Exit, Signal, Spec, Stdio, await_exit, signal, wait};
use crate::sys::poll::{self, For};
use crate::sys::{child, file};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

/// More than any answer has: a group with some ten thousand members.
const LIMIT: usize = 1 << 20;

/// Where getent is found, before PATH is asked.
const USUAL: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin";

/// Whether `database` (passwd, group, hosts, …) is kept anywhere else than in `known` sources. Where nothing
/// is said of it, it is not.
pub(super) fn goes_beyond(database: &str, known: &[&str]) -> io::Result<bool> {
    let stranger = |source: &String| !known.contains(&source.as_str());
    Ok(sources(&switch()?, database).is_some_and(|sources| sources.iter().any(stranger)))
}

/// Whether anything is said of `database` at all.
#[cfg(target_os = "linux")]
pub(super) fn names(database: &str) -> io::Result<bool> {
    Ok(sources(&switch()?, database).is_some())
}

fn switch() -> io::Result<String> {
    match file::read(Path::new("/etc/nsswitch.conf"), 1 << 16) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(cause) => Err(cause),
    }
}

/// The sources of a database, as nsswitch.conf(5) names them, without what is to be done between them.
pub(crate) fn sources(text: &str, database: &str) -> Option<Vec<String>> {
    let line = text.lines().find_map(|line| {
        let (name, rest) = line.split('#').next()?.split_once(':')?;
        (name.trim() == database).then_some(rest)
    })?;
    let mut plain = String::new();
    let mut depth = 0;
    for letter in line.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            letter if depth <= 0 => plain.push(letter),
            _ => {}
        }
    }
    Some(plain.split_whitespace().map(str::to_owned).collect())
}

/// What `getent DATABASE KEY` prints; `None` when there is no such thing.
///
/// # Errors
/// Nobody can tell: getent is missing (`NotFound`), fails, or says nothing until the deadline (`TimedOut`).
pub(super) fn getent(database: &str, key: &str, deadline: Instant) -> io::Result<Option<String>> {
    let here = Path::new("/");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = [OsString::from(USUAL), path]
        .iter()
        .find_map(|path| child::find(OsStr::new("getent"), path, here))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "getent is missing"))?;
    let (exit, text) = output(Spec::new(program, [database, key]), deadline)?;
    match exit {
        Exit::Code(0) => Ok(Some(text)),
        Exit::Code(2) => Ok(None),
        other => Err(io::Error::other(format!("getent {other}"))),
    }
}

/// How a command ends, and what it prints, of which `LIMIT` bytes are kept. At the deadline it is killed; it
/// has no children that we would know of.
fn output(mut spec: Spec, deadline: Instant) -> io::Result<(Exit, String)> {
    spec.stdio = [Some(Stdio::null()), Some(Stdio::piped()), Some(Stdio::null())];
    spec.ends_with_us = Some(Signal::SIGKILL);
    let mut started = spec.start_claimed()?;
    let said = match started.stdout.take() {
        Some(mut pipe) => drain(&mut pipe, deadline),
        None => Ok(Vec::new()),
    };
    // It has closed its output, and will be gone at once.
    let ended = said.and_then(|said| Ok((await_exit(started.identity, deadline).ok_or_else(late)?, said)));
    let (exit, said) = ended.inspect_err(|_| {
        signal(started.identity, Signal::SIGKILL);
        wait(started.identity.pid);
    })?;
    Ok((exit, String::from_utf8_lossy(&said).into_owned()))
}

fn drain(pipe: &mut std::fs::File, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut said, mut buffer) = (Vec::new(), [0u8; 4096]);
    loop {
        if Instant::now() >= deadline || !poll::wait(&[(pipe.as_fd(), For::Reading)], Some(deadline))?[0] {
            return Err(late());
        }
        let count = pipe.read(&mut buffer)?;
        if count == 0 {
            return Ok(said);
        }
        said.extend_from_slice(&buffer[..count.min(LIMIT.saturating_sub(said.len()))]);
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "getent does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sources_are_read_without_what_is_to_be_done_between_them() {
        let text = "# passwd: no\npasswd:  files [NOTFOUND=continue SUCCESS=return] systemd # more\n\
                    hosts:files mdns4_minimal [NOTFOUND=return] dns\ngroup:\n";
        let of = |database: &str| sources(text, database).map(|sources| sources.join(" "));
        assert_eq!(of("passwd").unwrap(), "files systemd");
        assert_eq!(of("hosts").unwrap(), "files mdns4_minimal dns");
        assert_eq!(of("group").unwrap(), "");
        assert_eq!(of("initgroups"), None);
        assert_eq!(sources("passwd files\n]:[\npasswd: [ x ] ] y", "passwd").unwrap(), ["y"]);
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_at_the_deadline() {
        let soon = || Instant::now() + Duration::from_millis(50);
        let later = Instant::now() + Duration::from_secs(60);
        let shell = |script: &str| Spec::new("/bin/sh", ["-c", script]);
        for script in ["while :; do sleep 0.01; done", "exec > /dev/null; while :; do sleep 0.01; done"] {
            let outcome = output(shell(script), soon());
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut, "{script}");
        }
        assert_eq!(output(shell("echo a; exit 2"), later).unwrap(), (Exit::Code(2), "a\n".to_owned()));
        let (exit, said) = output(shell("yes | head -c 3000000"), later).unwrap();
        assert_eq!((exit, said.len()), (Exit::Code(0), LIMIT));
    }
}
