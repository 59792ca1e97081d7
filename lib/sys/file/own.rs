//! Directories of our own: made where they are missing, and believed only where nobody else can change them,
//! nor put others in their place.

use crate::sys::{trust, user};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Makes `path` a directory for us alone, 0700, with its parents; refuses one that belongs to another user or
/// that others may enter, and one to which another user could have led us.
///
/// # Errors
/// Those of mkdir(2) and `trust::way`; PermissionDenied for a directory that is not private.
pub fn private_dir(path: &Path) -> io::Result<()> {
    let found = made(path)?;
    let ours = found.uid() == user::own_uid();
    check(found.is_dir() && ours && found.mode() & 0o077 == 0, "not a private directory of ours (0700)")
}

/// Makes `path` a directory that only we or root can change, 0700 where it is missing, on a way that only we
/// and root can change.
///
/// # Errors
/// Those of mkdir(2) and `trust::way`; PermissionDenied for a directory that others can change.
pub fn own_dir(path: &Path) -> io::Result<()> {
    let found = made(path)?;
    let uid = found.uid();
    if uid != 0 && uid != user::own_uid() {
        return Err(trust::Distrust::Owner { path: path.to_owned(), uid }.into());
    }
    check(found.is_dir() && found.mode() & 0o022 == 0, "others can change it")
}

/// Makes `path` a directory of this mode, whatever our umask is, where it is missing; its parent is there.
/// Refuses one that others can change, or to which another user could have led us.
///
/// # Errors
/// Those of mkdir(2) and `trust::check_directory`.
pub fn shared_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))?,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(cause),
    }
    trust::check_directory(path)
}

fn check(good: bool, why: &str) -> io::Result<()> {
    if good { Ok(()) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, why)) }
}

/// Nothing is made where another user could have it made elsewhere.
fn made(path: &Path) -> io::Result<Metadata> {
    let whole = std::path::absolute(path)?;
    if let Some(parent) = whole.parent()
        && let Err(cause) = fs::symlink_metadata(parent)
        && cause.kind() == io::ErrorKind::NotFound
    {
        made(parent)?;
    }
    let real = trust::way(&whole)?;
    match DirBuilder::new().mode(0o700).create(&real) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
        _ => fs::symlink_metadata(&real),
    }
}
