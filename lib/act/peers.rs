//! baa-peer-remove: a peer of iapeer is removed under its registry's lock, completely, and again from
//! wherever an attempt was cut off.

pub mod agent;
pub mod live;
pub mod lock;
pub mod owner;
pub mod registry;
pub mod remove;
pub mod report;
pub mod root;
pub mod tombstone;
