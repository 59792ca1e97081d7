//! `dns:name`: does the name resolve?

use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::net;
use std::time::Instant;

/// Up when the system's resolver knows `name`.
pub struct Dns {
    /// The name.
    pub name: String,
}

impl Probe for Dns {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(async move { net::resolve(&self.name, deadline).await.map(|_| ProbeAnswer::default()) })
    }

    fn cost(&self) -> Cost {
        Cost::Remote
    }
}
