//! `tcp://host:port`: does somebody accept there?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::net::{self, Endpoint};
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::words::failure::Failure;
use std::time::Instant;

/// Up when a connection is accepted, by a process that meets the demand.
pub struct Tcp {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who must have answered.
    pub demand: Demand,
}

impl Tcp {
    async fn connect(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let addresses = self.place().addresses(deadline).await?;
        let conn = net::connect(&addresses, deadline).await?;
        let first = self.demand.judge(conn.link());
        if first.is_ok() || addresses.len() == 1 {
            return first;
        }
        // ::1 and 127.0.0.1 may be two servers: each of them is asked.
        for address in &addresses {
            if matches!(conn.link(), net::Link::Tcp(_, asked) if asked == address) {
                continue;
            }
            if let Ok(other) = net::connect(&[*address], deadline).await {
                let judged = self.demand.judge(other.link());
                if judged.is_ok() {
                    return judged;
                }
            }
        }
        first
    }

    fn place(&self) -> Endpoint {
        Endpoint::Tcp(self.host.clone(), self.port)
    }
}

impl Probe for Tcp {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.connect(deadline))
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&self.place(), deadline)
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(self.place())
    }

    fn cost(&self) -> Cost {
        Cost::of(&self.place())
    }
}
