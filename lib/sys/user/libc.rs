//! The user database by way of the libc, where that asks a daemon of the system (Open Directory on macOS) and
//! loads nothing.

use super::Credentials;
use std::ffi::CString;
use std::io;

pub(super) fn named(name: &str) -> io::Result<Option<Credentials>> {
    nix::unistd::User::from_name(name)?.map(credentials).transpose()
}

pub(super) fn numbered(uid: u32) -> io::Result<Option<Credentials>> {
    nix::unistd::User::from_uid(uid.into())?.map(credentials).transpose()
}

pub(super) fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn credentials(user: nix::unistd::User) -> io::Result<Credentials> {
    Ok(Credentials {
        groups: groups(&user)?,
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
        shell: user.shell,
    })
}

/// As initgroups(3) would set them: at most as many as the kernel takes.
fn groups(user: &nix::unistd::User) -> io::Result<Vec<u32>> {
    const MOST: usize = 16;
    let name = CString::new(user.name.clone())?;
    let primary = libc::c_int::try_from(user.gid.as_raw()).unwrap_or(libc::c_int::MAX);
    let mut found: [libc::c_int; MOST] = [0; MOST];
    let mut count = MOST as libc::c_int;
    // SAFETY: the name is NUL-terminated and there is room for as many as we say. What does not fit is left
    // out, and the count says so.
    unsafe { libc::getgrouplist(name.as_ptr(), primary, found.as_mut_ptr(), &raw mut count) };
    let count = usize::try_from(count).unwrap_or(0).min(MOST);
    Ok(found[..count].iter().map(|gid| gid.cast_unsigned()).collect())
}

/// No system without these files gives each user a group.
pub(super) fn is_private(_: u32, _: u32) -> io::Result<bool> {
    Ok(false)
}
