//! `dns:name`: does the name resolve?

use crate::probe::{Cost, Probe, ProbeAnswer};
use crate::sys::net;
use crate::words::failure::Failure;
use std::time::Instant;

/// Up when the system's resolver knows `name`.
pub struct Dns {
    /// The name.
    pub name: String,
}

impl Probe for Dns {
    fn ask(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        net::resolve(&self.name, deadline).map(|_| ProbeAnswer::default())
    }

    fn cost(&self) -> Cost {
        Cost::Remote
    }
}
