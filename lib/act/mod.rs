//! The acts: one decision each, none knows another.

pub mod keeper;
pub mod reload;
pub mod wait;
