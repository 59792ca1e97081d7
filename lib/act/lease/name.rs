//! Names of leases, holders and their processes.

use crate::store::Record;
use crate::sys::kernel;
use crate::sys::process::{Identity, Pid};
use crate::sys::random;

/// A name for this very process, which no other has or will have.
pub fn instance() -> String {
    match (Identity::of(Pid::own()), kernel::boot()) {
        (Some(own), Some(boot)) => {
            format!("{}.{}.{}", boot.get(..8).unwrap_or("boot"), own.pid, own.start.0)
        }
        // A pid alone comes again.
        _ => random::hex(),
    }
}

/// That another has `lease`, in words.
pub fn held(lease: &str, record: &Record) -> String {
    match &record.holder {
        Some(holder) => format!("{holder} has {lease} under term {}", record.term),
        None => format!("what the last leader of {lease} has started still runs"),
    }
}
