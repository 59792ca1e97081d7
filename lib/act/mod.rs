//! The acts: one decision each, none knows another.

pub mod canary;
pub mod control;
pub mod group;
pub mod keeper;
pub mod lease;
pub mod peers;
pub mod reload;
pub mod wait;
