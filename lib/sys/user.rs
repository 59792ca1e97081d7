//! Users, as jobs name them, and who we are.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

/// What a process needs to become another user.
#[derive(Clone, Debug)]
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
}

/// Our effective user id.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user called `name`; `None` when there is none.
///
/// # Errors
/// Those of getpwnam_r(3).
pub fn named(name: &str) -> io::Result<Option<Credentials>> {
    Ok(nix::unistd::User::from_name(name)?.map(credentials))
}

/// Ourselves, as the user database knows us.
///
/// # Errors
/// Those of getpwuid_r(3).
pub fn own() -> io::Result<Option<Credentials>> {
    Ok(nix::unistd::User::from_uid(nix::unistd::geteuid())?.map(credentials))
}

/// The id of the group called `name`; `None` when there is none.
///
/// # Errors
/// Those of getgrnam_r(3).
pub fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn credentials(user: nix::unistd::User) -> Credentials {
    Credentials {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
    }
}

/// Becomes `who` for good: groups first, then the group, then the user. For the child between fork and exec.
pub(crate) fn become_user(who: &Credentials, login: &CString) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the calls; the integers are plain ids. initgroups(3)
    // may allocate, which is safe after a fork of the single-threaded keeper, the only program that changes
    // users.
    let outcome = unsafe {
        match libc::initgroups(login.as_ptr(), who.gid as _) {
            0 => match libc::setgid(who.gid) {
                0 => libc::setuid(who.uid),
                failed => failed,
            },
            failed => failed,
        }
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
