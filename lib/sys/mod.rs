//! The operating system, once: everything that is a system call, and the only `unsafe` of the project.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod child;
pub mod clock;
pub mod datagram;
pub mod deputy;
pub mod digest;
pub mod directory;
pub mod file;
pub mod http;
pub mod kernel;
pub mod lines;
pub mod listening;
pub mod memory;
pub mod net;
pub(crate) mod nss;
pub mod outlet;
pub mod owner;
pub mod poll;
pub mod poller;
pub mod process;
pub mod random;
pub mod redact;
pub mod revival;
pub mod rights;
mod runtime;
pub mod say;
pub mod secret;
pub mod signal;
pub mod task;
pub mod trust;
pub mod user;
