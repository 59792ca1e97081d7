//! The words that every tool shares: statuses, errors, failures of a probe, lines of a log, spans and moments
//! of time.

pub mod clean;
#[cfg(test)]
pub(crate) mod dice;
pub mod error;
pub mod exit;
pub mod failure;
pub mod logfmt;
pub mod span;
pub mod stamp;
