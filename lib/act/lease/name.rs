//! Names of leases, holders and their processes.

use crate::store::Record;
use crate::sys::kernel;
use crate::sys::process::{Identity, Pid};

/// A name for this very process, which no other has or will have.
pub fn instance() -> String {
    let (own, boot) = (Identity::of(Pid::own()), kernel::boot().unwrap_or_default());
    format!("{}.{}.{}", boot.get(..8).unwrap_or("boot"), Pid::own(), own.map_or(0, |own| own.start.0))
}

/// That another has `lease`, in words.
pub fn held(lease: &str, record: &Record) -> String {
    match &record.holder {
        Some(holder) => format!("{holder} has {lease} under term {}", record.term),
        None => format!("what the last leader of {lease} has started still runs"),
    }
}
