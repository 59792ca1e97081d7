//! Names of leases, holders and their processes.

use crate::store::Record;
use crate::sys::kernel;
use crate::sys::process::{Identity, Pid};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;

/// Whether `name` can be the name of a lease, a holder or a host: short, and one word of a log.
///
/// # Errors
/// 2, and says so.
pub fn check(what: &str, name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._@:-".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
        return Err(Error::new(Status::Usage, format!("'{}' is not {what}: letters, digits, '.', '_', '@', ':' and '-', 128 at most", brief(name))));
    }
    Ok(())
}

/// A name for this very process, which no other has or will have.
pub fn instance() -> String {
    let (own, boot) = (Identity::of(Pid::own()), kernel::boot().unwrap_or_default());
    format!("{}.{}.{}", boot.get(..8).unwrap_or("boot"), Pid::own(), own.map_or(0, |own| own.start.0))
}

/// That another has `lease`, in words.
pub fn held(lease: &str, record: &Record) -> String {
    format!("{} has {lease} under term {}", record.holder.as_deref().unwrap_or("nobody"), record.term)
}
