//! The user database of Linux: plain files first, and the name service where it knows more than they do.

use super::Credentials;
use crate::sys::nss;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// Sources that are the files themselves.
const PLAIN: [&str; 2] = ["files", "compat"];

/// How long the name service may take for one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than a file of any machine has.
const LIMIT: u64 = 64 << 20;

pub(super) fn named(name: &str) -> io::Result<Option<Credentials>> {
    let is_it = |user: &Credentials| user.name == name;
    let Some(user) = look_up(USERS, "passwd", name, |line| user(line).filter(is_it))? else {
        return Ok(None);
    };
    let groups = groups(&user)?;
    Ok(Some(Credentials { groups, ..user }))
}

/// Without its groups.
pub(super) fn numbered(uid: u32) -> io::Result<Option<Credentials>> {
    let is_it = |user: &Credentials| user.uid == uid;
    look_up(USERS, "passwd", &uid.to_string(), |line| user(line).filter(is_it))
}

pub(super) fn group(name: &str) -> io::Result<Option<u32>> {
    let is_it = |group: &GroupLine<'_>| group.name == name.as_bytes();
    look_up(GROUPS, "group", name, |line| group_line(line).filter(is_it).map(|group| group.gid))
}

/// Whether the files know of nobody in a group but `uid`: one of his own, that has his name. In root's may be
/// accounts of the system, which nobody logs in to.
pub(super) fn is_private(gid: u32, uid: u32) -> io::Result<bool> {
    /// From here on users are people (login.defs(5)).
    const PEOPLE: u32 = 1000;
    let (mut own, mut others) = (String::new(), false);
    lines(USERS, |line| {
        let found = user(line).filter(|found| found.gid == gid)?;
        if found.uid == uid {
            own = found.name;
        } else {
            others |= uid != 0 || found.uid >= PEOPLE;
        }
        None::<()>
    })?;
    let is_own = |group: GroupLine<'_>| {
        let alone = group.members.is_empty() || group.members == own.as_bytes();
        alone && (uid == 0 || group.name == own.as_bytes())
    };
    let found = lines(GROUPS, |line| group_line(line).filter(|group| group.gid == gid).map(is_own))?;
    Ok(!others && found.unwrap_or(uid == 0))
}

/// The first line of the file that `reads`; else of the name service's answer.
fn look_up<T>(
    path: &str,
    database: &str,
    key: &str,
    reads: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    if let Some(found) = lines(path, |line| reads(line))? {
        return Ok(Some(found));
    }
    if !nss::goes_beyond(database, &PLAIN)? {
        return Ok(None);
    }
    let answer = nss::getent(database, key, Instant::now() + PATIENCE)?;
    Ok(answer.and_then(|text| text.lines().find_map(|line| reads(line.as_bytes()))))
}

/// All groups of a user: its own, those that list it, and those that the name service adds.
fn groups(user: &Credentials) -> io::Result<Vec<u32>> {
    let mut all = vec![user.gid];
    lines(GROUPS, |line| {
        if let Some(group) = group_line(line)
            && group.members.split(|byte| *byte == b',').any(|member| member == user.name.as_bytes())
        {
            all.push(group.gid);
        }
        None::<()>
    })?;
    let database = if nss::names("initgroups")? { "initgroups" } else { "group" };
    if nss::goes_beyond(database, &PLAIN)? {
        match nss::getent("initgroups", &user.name, Instant::now() + PATIENCE) {
            Ok(answer) => {
                let answer = answer.unwrap_or_default();
                all.extend(answer.split_whitespace().skip(1).filter_map(|word| word.parse::<u32>().ok()));
            }
            // A user of the files, on a machine that has no more than them in truth.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|gid| seen.insert(*gid));
    Ok(all)
}

/// Hands each line of a file to `found` until that is content. A file that is missing has no lines.
fn lines<T>(path: &str, mut found: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut reader = BufReader::new(file.take(LIMIT));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(found) = found(line.trim_ascii_end()) {
            return Ok(Some(found));
        }
        line.clear();
    }
    Ok(None)
}

/// A line of passwd(5). Those that begin with + or - are for NIS.
pub(crate) fn user(line: &[u8]) -> Option<Credentials> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let shell = if shell.is_empty() { b"/bin/sh" } else { *shell };
    Some(Credentials {
        name: plain_name(name)?.to_owned(),
        uid: number(uid)?,
        gid: number(gid)?,
        home: OsStr::from_bytes(home).into(),
        shell: OsStr::from_bytes(shell).into(),
        groups: Vec::new(),
    })
}

pub(crate) struct GroupLine<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// A line of group(5).
pub(crate) fn group_line(line: &[u8]) -> Option<GroupLine<'_>> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, _, gid, members] = fields.as_slice() else { return None };
    plain_name(name)?;
    Some(GroupLine { name, gid: number(gid)?, members })
}

fn plain_name(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.starts_with(['+', '-']))
}

/// A plain decimal number; -1 is nobody's.
fn number(text: &[u8]) -> Option<u32> {
    let digits =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users_are_read_and_strange_ones_left_out() {
        let bob = user(b"bob:x:1000:100:Bob,,,:/home/bob:/bin/zsh").unwrap();
        assert_eq!((bob.name.as_str(), bob.uid, bob.gid), ("bob", 1000, 100));
        assert_eq!((bob.home.to_str(), bob.shell.to_str()), (Some("/home/bob"), Some("/bin/zsh")));
        assert_eq!(user(b"bob:x:1:2:::").unwrap().shell.to_str(), Some("/bin/sh"));
        let odd = user(b"bob:x:1:2::/h\xff:/s\xff").unwrap();
        assert_eq!(odd.home.as_os_str().as_bytes(), b"/h\xff");
        let strange: [&[u8]; 10] = [
            b"",
            b"bob",
            b"+::::::",
            b"-bob:x:1:2:::",
            b":x:1:2:::",
            b"bob:x::2:::",
            b"bob:x:-1:2:::",
            b"bob:x:+1:2:::",
            b"bob:x:4294967295:2:::",
            b"bob:x:1:2::::more",
        ];
        assert!(strange.iter().all(|line| user(line).is_none()));
    }

    #[test]
    fn lines_of_groups_are_read() {
        let group = group_line(b"staff:x:50:bob,eve").unwrap();
        assert_eq!((group.name, group.gid, group.members), (&b"staff"[..], 50, &b"bob,eve"[..]));
        assert_eq!(group_line(b"staff::50:").unwrap().members, b"");
        assert!(group_line(b"+:::").is_none() && group_line(b"staff:x:x:").is_none());
    }
}
