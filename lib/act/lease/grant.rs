//! The secret of a grant, kept by its holder: in memory under hold, in the lock's file of a conductor, which
//! the next one of its name goes on with, and in a file of their own for the steps of a script.

use crate::store::Store;
use crate::store::guard::GrantSecret;
use crate::sys::secret::SecretText;
use crate::sys::{file, trust};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::io::ErrorKind;
use std::path::Path;

/// The largest file of a secret.
const LIMIT: u64 = 1024;

/// A new secret for a grant of `store`, where strangers may ask the store too.
///
/// # Errors
/// Where none can be made: 74.
pub fn secret_for(store: &dyn Store) -> Result<Option<GrantSecret>> {
    store.is_shared().then(GrantSecret::new).transpose()
}

/// The secret that `path` holds, to be shown.
///
/// # Errors
/// 66 where there is none; 65 for something else; 78 for a file that others may read or change.
pub fn kept(path: &Path) -> Result<GrantSecret> {
    let doing = format!("cannot read the secret of the lease from {}", path.display());
    let text = SecretText::read(&doing, path, LIMIT)?;
    GrantSecret::parse(text.reveal().trim())
        .ok_or_else(|| Error::new(Status::Malformed, format!("there is no secret in {}", path.display())))
}

/// The secret that a claim is to have: the one in `path`, or a new one that is written there first, so that
/// no grant is lost whose answer does not arrive. Whether it is a new one.
///
/// # Errors
/// As `kept`; those of writing the file.
pub fn prepared(path: &Path) -> Result<(GrantSecret, bool)> {
    if std::fs::symlink_metadata(path).is_err_and(|cause| cause.kind() == ErrorKind::NotFound) {
        let secret = GrantSecret::new()?;
        trust::way(path)
            .and_then(|path| file::replace(&path, format!("{}\n", secret.reveal()).as_bytes(), 0o600))
            .map_err(|cause| {
                Error::io(format!("cannot write the secret of the lease to {}", path.display()), &cause)
            })?;
        return Ok((secret, true));
    }
    Ok((kept(path)?, false))
}

/// Removes a secret that is of no use any more.
pub fn forget(path: &Path) {
    let _ = std::fs::remove_file(path);
}
