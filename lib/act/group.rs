//! baa-daemons: a group started and stopped in the order of its needs. What to do is decided by a machine
//! that is fed with events; the loop around it has the processes, the probes and the clock.

pub mod ask;
pub mod attend;
mod changes;
pub mod entry;
mod hold;
mod journal;
pub mod machine;
mod output;
pub mod plan;
mod probing;
mod reload;
mod rooms;
#[cfg(test)]
mod simulation;
mod slot;
pub mod state;
pub mod table;
pub mod transaction;
mod wish;

/// The name and version of what a group says of itself, and of what is said of its file.
pub const SCHEMA: &str = "baa.daemons/2";
