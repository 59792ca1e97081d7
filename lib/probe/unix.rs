//! `unix:///path`: does somebody listen on the socket?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe, ProbeAnswer};
use crate::sys::net::{self, Endpoint};
use crate::sys::owner;
use crate::sys::process::Pid;
use crate::words::failure::Failure;
use std::path::PathBuf;
use std::time::Instant;

/// Up when a connection is accepted, by a process that meets the demand.
pub struct Unix {
    /// The socket.
    pub path: PathBuf,
    /// Who must have answered.
    pub demand: Demand,
}

impl Unix {
    async fn connect(&self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        let conn = net::connect_unix(&self.path, deadline).await?;
        let mut inquiry = self.demand.inquire(conn.link());
        let first = inquiry.settle(deadline).await;
        if !inquiry.hung_up_alone() {
            return first;
        }
        let second = net::connect_unix(&self.path, deadline).await?;
        self.demand.inquire(second.link()).after(&inquiry).settle(deadline).await
    }
}

impl Probe for Unix {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(self.connect(deadline))
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&Endpoint::Unix(self.path.clone()), deadline)
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}
