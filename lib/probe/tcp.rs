//! `tcp://host:port`: does somebody accept there?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::net::{self, Conn, Endpoint, FixedAddresses, Link};
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
    /// Addresses of hosts that no resolver is asked for.
    pub fixed: FixedAddresses,
    /// Who must have answered.
    pub demand: Demand,
}

impl Tcp {
    async fn judge(&self, conn: &Conn, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let mut inquiry = self.demand.inquire(conn.link());
        let first = inquiry.settle(deadline).await;
        let Link::Tcp(_, peer) = conn.link() else { return first };
        if !inquiry.hung_up_alone() {
            return first;
        }
        let Ok(second) = net::connect(&[*peer], deadline).await else { return first };
        self.demand.inquire(second.link()).after(&inquiry).settle(deadline).await
    }

    async fn connect(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let addresses = self.place().addresses_or(&self.fixed, deadline).await?;
        let conn = net::connect(&addresses, deadline).await?;
        let first = self.judge(&conn, deadline).await;
        if first.is_ok() || addresses.len() == 1 {
            return first;
        }
        // ::1 and 127.0.0.1 may be two servers: each of them is asked.
        for address in &addresses {
            if matches!(conn.link(), Link::Tcp(_, asked) if asked == address) {
                continue;
            }
            if let Ok(other) = net::connect(&[*address], deadline).await {
                let judged = self.judge(&other, deadline).await;
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
        Some(self.fixed.endpoint(self.place()))
    }

    fn cost(&self) -> Cost {
        Cost::of(&self.fixed.endpoint(self.place()))
    }
}
