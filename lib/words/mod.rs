//! The words that every tool shares: statuses, errors, failures of a probe, spans of time.

pub mod error;
pub mod exit;
pub mod failure;
pub mod span;
