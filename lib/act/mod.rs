//! The acts: one decision each, none knows another.

pub mod canary;
pub mod keeper;
pub mod peers;
pub mod reload;
pub mod wait;
