//! `tcp://host:port`: does somebody accept there?

use crate::probe::demand::Demand;
use crate::probe::{Cost, Probe, ProbeAnswer, pace};
use crate::sys::net::{self, Endpoint, FixedAddresses};
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::words::failure::Failure;
use std::time::{Duration, Instant};

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

impl Probe for Tcp {
    fn ask(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let endpoint = Endpoint::Tcp(self.host.clone(), self.port);
        let addresses = endpoint.addresses_or(&self.fixed, deadline)?;
        let conn = net::connect(&addresses, deadline)?;
        let first = self.demand.judge(conn.link());
        if first.is_ok() || addresses.len() == 1 {
            return first;
        }
        // ::1 and 127.0.0.1 may be two servers: each of them is asked.
        let others = addresses
            .iter()
            .filter(|address| !matches!(conn.link(), net::Link::Tcp(_, asked) if asked == *address));
        others
            .filter_map(|address| net::connect(&[*address], deadline).ok())
            .map(|conn| self.demand.judge(conn.link()))
            .find(Result::is_ok)
            .unwrap_or(first)
    }

    fn doze(&self, pause: Duration) {
        pace::doze(&Endpoint::Tcp(self.host.clone(), self.port), pause);
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&Endpoint::Tcp(self.host.clone(), self.port), deadline)
    }

    fn cost(&self) -> Cost {
        let fixed = self.fixed.of(&self.host, self.port);
        let here = |all: Vec<std::net::SocketAddr>| all.iter().all(|one| one.ip().is_loopback());
        if fixed.map_or_else(|| net::is_local(&self.host), here) { Cost::Local } else { Cost::Remote }
    }
}
