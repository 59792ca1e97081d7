//! baa-canary: a death is recorded with its cause. It never ends, wakes or restarts anything itself.

pub mod arm;
pub mod arming;
pub mod cause;
pub mod channel;
pub mod classify;
pub mod forensics;
pub mod gap;
pub mod notify;
pub mod record;
pub mod request;
pub mod ring;
pub mod target;
pub mod watch;
mod watched;
