//! Who is at the other end of a connection: the processes that hold the accepted socket, and those that hold
//! the sockets that listen there. Facts alone; which of them count is judged elsewhere.

use crate::sys::net::{self, Endpoint, Link};
use crate::sys::process::{Identity, Pid};
use crate::sys::task;
use crate::sys::user;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod elsewhere;
#[cfg(target_os = "linux")]
pub(crate) mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(any(target_os = "macos", test))]
mod fdinfo;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

/// Who has a socket, or one of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those that we may see, each once.
    pub pids: Vec<Pid>,
    /// Whether one of the sockets is held by nobody whom we may see.
    pub unseen: bool,
    /// Whether processes that we may not look into may hold them too: those of our own user, and where
    /// another user's process has made the socket all of them.
    pub partial: bool,
}

/// What has become of the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// It was accepted, and these hold it.
    Accepted(Holders),
    /// It stands in the queue of whoever listens: nobody has accepted it.
    Queued,
    /// Nobody may accept it before something is said (TCP_DEFER_ACCEPT), or the queue is full.
    PutOff,
    /// Whoever had it has hung up.
    Gone,
    /// It is in no table of this network namespace; the sentence says where it is, as far as can be told.
    Elsewhere {
        /// Whether it may still be on this machine.
        near: bool,
        /// Where.
        text: String,
    },
}

/// What has become of the other end of `link`, by now.
pub fn other_end(link: &Link) -> OtherEnd {
    system::other_end(link)
}

/// Who holds the sockets that take connections like `link`, ourselves aside where others do too; `None`
/// where the system does not tell.
pub fn listeners(link: &Link) -> Option<Holders> {
    let mut found = system::listeners(link)?;
    if found.pids.len() > 1 {
        found.pids.retain(|pid| *pid != Pid::own());
    }
    Some(found)
}

/// Whether it is not permitted to look into a process that lives. Without CAP_SYS_PTRACE not even root is
/// told what another user's holds. (Linux.)
pub fn is_hidden(pid: Pid) -> bool {
    system::is_hidden(pid)
}

/// Whether `pid` has an io_uring, in which it may have sockets without a descriptor (io_uring(7)).
pub fn has_ring(pid: Pid) -> bool {
    system::has_ring(pid)
}

/// Why `pid` may not be looked into, for people.
pub fn why_hidden(pid: Pid) -> String {
    let takes = if user::own_uid() == 0 { ", which takes CAP_SYS_PTRACE" } else { "" };
    format!("not permitted to look into process {pid}{takes}")
}

/// Who is at the other end of `link`, whoever it is: of several the oldest.
fn any(link: &Link) -> Option<Pid> {
    let accepted = match other_end(link) {
        OtherEnd::Accepted(holders) => holders.pids,
        OtherEnd::Elsewhere { .. } => return None,
        _ => Vec::new(),
    };
    let pids = if accepted.is_empty() { listeners(link)?.pids } else { accepted };
    oldest(&pids)
}

/// The one of `pids` that was started first.
pub fn oldest(pids: &[Pid]) -> Option<Pid> {
    pids.iter().copied().min_by_key(|pid| (Identity::of(*pid).map(|who| who.start), *pid))
}

/// Who listens at `endpoint` of this machine, whoever it is: a connection is made to find out, and nothing is
/// said.
pub fn holder(endpoint: &Endpoint, deadline: Instant) -> Option<Pid> {
    if matches!(endpoint, Endpoint::Tcp(host, _) if !net::is_local(host)) {
        return None;
    }
    let connect = async {
        let addresses = endpoint.addresses(deadline).await?;
        endpoint.connect(&addresses, deadline).await
    };
    any(task::block_on(connect).ok()?.link())
}

/// Whether an address is one of this machine's, as this network namespace has them.
fn is_ours(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback() || net::own_addresses().iter().any(|own| is_same(*own, ip))
}

/// Whether a socket that listens on `at` takes connections to `peer`: the same port, the same address or a
/// wildcard of its family.
fn listens_for(at: SocketAddr, peer: SocketAddr) -> bool {
    at.port() == peer.port()
        && (is_same(at.ip(), peer.ip()) || (at.ip().is_unspecified() && (at.is_ipv6() || peer.is_ipv4())))
}

fn is_same(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}
