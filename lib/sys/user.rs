//! Users and groups, as jobs name them, and who we are. On Linux from /etc/passwd and /etc/group, and from
//! the name service where it knows more (`nss`): never by way of the libc, whose modules a static program
//! cannot load and a dynamic one cannot stop. Everything is looked up before a process is started.

#[cfg(target_os = "linux")]
#[path = "user/files.rs"]
pub(crate) mod database;
#[cfg(not(target_os = "linux"))]
#[path = "user/libc.rs"]
mod database;

use crate::words::error::{Error, brief, reason};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// What a process needs to become another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group, or the one asked for.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
    /// All its groups, the primary one among them.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// What login(1) tells a session of its user: HOME, SHELL, USER and LOGNAME.
    pub fn environment(&self) -> [(OsString, OsString); 4] {
        let (home, shell, name) = (&self.home, &self.shell, &self.name);
        [
            ("HOME".into(), home.into()),
            ("SHELL".into(), shell.into()),
            ("USER".into(), name.into()),
            ("LOGNAME".into(), name.into()),
        ]
    }

    /// The same with another primary group.
    #[must_use]
    pub fn with_group(mut self, gid: u32) -> Credentials {
        self.gid = gid;
        if !self.groups.contains(&gid) {
            self.groups.push(gid);
        }
        self
    }
}

/// Our effective user id.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user called `name`; `None` when there is none.
///
/// # Errors
/// Nobody can tell: the database cannot be read, or the name service does not answer.
pub fn named(name: &str) -> io::Result<Option<Credentials>> {
    if !sane(name) {
        return Ok(None);
    }
    database::named(name)
}

/// The user called `name`, for whom a job asks.
///
/// # Errors
/// 78 when there is no such user; 69 when nobody can tell.
pub fn wanted(name: &str) -> Result<Credentials, Error> {
    match named(name) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Error::new(Status::BadConfig, format!("no user '{}'", brief(name)))),
        Err(cause) => Err(unknown("user", name, &cause)),
    }
}

/// The user with this number, with its groups. One that the database does not know has no name, no home and
/// no group that anybody else is in.
///
/// # Errors
/// As `named`.
pub fn numbered(uid: u32) -> io::Result<Credentials> {
    /// Nobody's (nogroup of Linux; -2 on macOS).
    const NO_GROUP: u32 = if cfg!(target_os = "macos") { u32::MAX - 1 } else { 65534 };
    let known = database::numbered(uid)?.map(|found| found.name);
    let found = known.map(|name| database::named(&name)).transpose()?.flatten();
    Ok(found.filter(|found| found.uid == uid).unwrap_or_else(|| Credentials {
        name: uid.to_string(),
        uid,
        gid: NO_GROUP,
        home: PathBuf::from("/"),
        shell: PathBuf::from("/bin/sh"),
        groups: vec![NO_GROUP],
    }))
}

/// The id of the group called `name`, for which a job asks.
///
/// # Errors
/// 78 when there is no such group; 69 when nobody can tell.
pub fn wanted_group(name: &str) -> Result<u32, Error> {
    let found = if sane(name) { database::group(name) } else { Ok(None) };
    match found {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(Error::new(Status::BadConfig, format!("no group '{}'", brief(name)))),
        Err(cause) => Err(unknown("group", name, &cause)),
    }
}

fn unknown(kind: &str, name: &str, cause: &io::Error) -> Error {
    let why = reason(cause);
    Error::new(Status::Unavailable, format!("cannot tell whether there is a {kind} '{}': {why}", brief(name)))
}

/// Ourselves, as the user database knows us, with the groups that we are in now; `None` for a number without
/// a name.
///
/// # Errors
/// As `named`.
pub fn own() -> io::Result<Option<Credentials>> {
    let Some(mut own) = database::numbered(own_uid())? else { return Ok(None) };
    own.groups = groups()?;
    Ok(Some(own.clone().with_group(own.gid)))
}

/// The groups of this process.
fn groups() -> io::Result<Vec<u32>> {
    // SAFETY: with no room nothing is written; the answer is how many there are.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut found = vec![0; usize::try_from(count).map_err(|_| io::Error::last_os_error())?];
    // SAFETY: there is room for as many as we say.
    let count = unsafe { libc::getgroups(count, found.as_mut_ptr()) };
    found.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    Ok(found)
}

/// Whether we are in a group.
pub fn in_group(gid: u32) -> bool {
    nix::unistd::getegid().as_raw() == gid || groups().is_ok_and(|groups| groups.contains(&gid))
}

/// Whether nobody but `uid` is in a group, as far as the files know.
pub fn is_private_group(gid: u32, uid: u32) -> bool {
    database::is_private(gid, uid).unwrap_or(false)
}

/// Whether a name can be one in a database of lines with colons, and is no option of a command.
fn sane(name: &str) -> bool {
    let strange =
        |letter: char| letter == ':' || letter == '\0' || letter.is_whitespace() || letter.is_control();
    !name.is_empty() && !name.starts_with(['-', '+']) && !name.contains(strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nonsense_is_not() {
        let root = wanted("root").unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0) && root.home.is_absolute());
        for name in ["", "-s", "+", "a:b", "a\nb", "a b", "no-such-user-here"] {
            let error = wanted(name).unwrap_err();
            assert_eq!(error.status, Status::BadConfig, "{error}");
        }
        assert_eq!(wanted_group("no-such-group-here").unwrap_err().status, Status::BadConfig);
    }

    #[test]
    fn another_group_is_one_of_its_groups() {
        let root = wanted("root").unwrap().with_group(4711);
        assert!(root.gid == 4711 && root.groups.contains(&4711) && root.groups.contains(&0));
    }
}
