//! `tcp://host:port`: does somebody accept there?

use crate::probe::demand::Demand;
use crate::probe::{Cost, Probe, ProbeAnswer, pace};
use crate::sys::net::{self, Conn, Endpoint, Link};
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
    /// Who must have answered.
    pub demand: Demand,
}

impl Tcp {
    fn judge(&self, conn: &Conn, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let mut inquiry = self.demand.inquire(conn.link());
        let first = inquiry.settle(deadline);
        let Link::Tcp(_, peer) = conn.link() else { return first };
        if !inquiry.hung_up_alone() {
            return first;
        }
        let Ok(second) = net::connect(&[*peer], deadline) else { return first };
        self.demand.inquire(second.link()).after(&inquiry).settle(deadline)
    }
}

impl Probe for Tcp {
    fn ask(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let addresses = Endpoint::Tcp(self.host.clone(), self.port).addresses(deadline)?;
        let conn = net::connect(&addresses, deadline)?;
        let first = self.judge(&conn, deadline);
        if first.is_ok() || addresses.len() == 1 {
            return first;
        }
        // ::1 and 127.0.0.1 may be two servers: each of them is asked.
        let others = addresses
            .iter()
            .filter(|address| !matches!(conn.link(), Link::Tcp(_, asked) if asked == *address));
        others
            .filter_map(|address| net::connect(&[*address], deadline).ok())
            .map(|conn| self.judge(&conn, deadline))
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
        if net::is_local(&self.host) { Cost::Local } else { Cost::Remote }
    }
}
