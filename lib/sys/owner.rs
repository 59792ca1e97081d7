//! Which process answered: the holder of the other end of a connection, or of the socket that listens there.

use crate::sys::net::{self, Endpoint, Link};
use crate::sys::process::Pid;
use crate::sys::task;
use crate::sys::user;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

#[cfg(target_os = "linux")]
pub(crate) mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

/// What the system tells about the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// One of the processes that were asked about holds it.
    Among(Pid),
    /// Somebody else does; the pid where we may see it.
    Another(Option<Pid>),
    /// It cannot be told: the peer is another machine, or hidden from us.
    Unknown,
}

/// Who is at the other end of `link`: one of `candidates`, or another?
///
/// The accepted connection decides where it still stands. After it is gone, every socket that listens on the
/// address must be held by a candidate: with SO_REUSEPORT an old and a new process may listen side by side,
/// and then nobody can tell who answered.
pub fn of(link: &Link, candidates: &[Pid]) -> Answerer {
    match link {
        Link::Unix(None) => Answerer::Unknown,
        Link::Unix(Some(pid)) if candidates.contains(pid) => Answerer::Among(*pid),
        Link::Unix(Some(pid)) => Answerer::Another(Some(*pid)),
        Link::Tcp(local, peer) => system::of(*local, *peer, candidates),
    }
}

/// Whether nothing is left of the connection but a listening socket that others than `candidates` and
/// ourselves hold too: it may have been inherited, and then nobody can tell who answered. (Linux; never seen
/// elsewhere.)
pub fn shared(link: &Link, candidates: &[Pid]) -> bool {
    match link {
        Link::Unix(_) => false,
        Link::Tcp(local, peer) => system::shared(*local, *peer, candidates),
    }
}

/// Whether we may not look into a process, though we are root: without CAP_SYS_PTRACE root is not told what
/// another user's holds. (Linux.)
pub fn is_hidden(pid: Pid) -> bool {
    user::own_uid() == 0 && system::is_hidden(pid)
}

/// Who is at the other end of `link`, whoever it is; for a judgement by age.
pub fn any(link: &Link) -> Option<Pid> {
    match link {
        Link::Unix(pid) => *pid,
        Link::Tcp(local, peer) => system::any(*local, *peer),
    }
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

/// Whether a socket that listens on `at` takes connections to `peer`: the same port, the same address or a
/// wildcard of its family.
fn listens_for(at: SocketAddr, peer: SocketAddr) -> bool {
    let plain = |ip: IpAddr| ip.to_canonical();
    at.port() == peer.port()
        && (plain(at.ip()) == plain(peer.ip())
            || (at.ip().is_unspecified() && (at.is_ipv6() || peer.is_ipv4())))
}
