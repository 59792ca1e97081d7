//! Users, as jobs name them, and who we are.

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
    /// All its groups, the primary one among them.
    pub groups: Vec<u32>,
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
    #[cfg(not(target_os = "macos"))]
    let groups = std::ffi::CString::new(user.name.clone())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .map_or_else(|| vec![user.gid.as_raw()], |all| all.iter().map(|gid| gid.as_raw()).collect());
    #[cfg(target_os = "macos")]
    let groups = vec![user.gid.as_raw()];
    Credentials {
        groups,
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
    }
}
