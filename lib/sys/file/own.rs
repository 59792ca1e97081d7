//! Directories of our own: made where they are missing, and believed only where nobody else can change them,
//! nor put others in their place.

use crate::sys::trust;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes `path` a directory for us alone, 0700, with its parents; refuses one that belongs to another user or
/// that others may enter, and one to which another user could have led us.
///
/// # Errors
/// Those of mkdir(2); PermissionDenied with a `trust::Distrust`.
pub fn private_dir(path: &Path) -> io::Result<()> {
    made(path)?;
    trust::check_private_directory(path).map(drop)
}

/// Makes `path` a directory that only we or root can change, 0700 where it is missing, on a way that only we
/// and root can change. Says where it is without links.
///
/// # Errors
/// Those of mkdir(2); PermissionDenied with a `trust::Distrust`, which names the directory that is not so.
pub fn own_dir(path: &Path) -> io::Result<PathBuf> {
    made(path)?;
    trust::check_own_directory(path)
}

/// Makes `path` a directory of this mode, whatever our umask is, where it is missing; its parent is there.
/// Refuses one that others can change, or to which another user could have led us. Says where it is without
/// links.
///
/// # Errors
/// Those of mkdir(2) and `trust::check_directory`.
pub fn shared_dir(path: &Path, mode: u32) -> io::Result<PathBuf> {
    // Nothing is made where another user could have it made elsewhere.
    let real = trust::way(path)?;
    match DirBuilder::new().mode(mode).create(&real) {
        Ok(()) => fs::set_permissions(&real, Permissions::from_mode(mode))?,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(cause),
    }
    trust::check_directory(path)
}

/// Nothing is made where another user could have it made elsewhere.
fn made(path: &Path) -> io::Result<()> {
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
        _ => Ok(()),
    }
}
