//! `unix:///path`: does somebody listen on the socket?

use crate::probe::demand::Demand;
use crate::probe::{Asked, Cost, Probe};
use crate::sys::net::{self, Endpoint};
use crate::sys::owner;
use crate::sys::process::Pid;
use std::path::PathBuf;
use std::time::Instant;

/// Up when a connection is accepted, by a process that meets the demand.
pub struct Unix {
    /// The socket.
    pub path: PathBuf,
    /// Who must have answered.
    pub demand: Demand,
}

impl Probe for Unix {
    fn ask(&self, deadline: Instant) -> Asked<'_> {
        Box::pin(async move {
            let conn = net::connect_unix(&self.path, deadline).await?;
            self.demand.judge(conn.link())
        })
    }

    fn holder(&self, deadline: Instant) -> Option<Pid> {
        owner::holder(&Endpoint::Unix(self.path.clone()), deadline)
    }

    fn cost(&self) -> Cost {
        Cost::Local
    }
}
