//! macOS: proc_pidfdinfo(PROC_PIDFDSOCKETINFO) over the descriptors of the candidates. Built and linked,
//! never run here.
//!
//! The libc crate has no socket_fdinfo, so its fields are read at the offsets of <sys/proc_info.h> (XNU; both
//! architectures): the struct has 792 bytes, the protocol's part begins at 264.

use super::{Holders, OtherEnd, listens_for};
use crate::sys::net::Link;
use crate::sys::process::{Pid, Table};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const PROC_PIDLISTFDS: i32 = 1;
const PROC_PIDFDSOCKETINFO: i32 = 3;
const PROX_FDTYPE_SOCKET: u32 = 2;
const SOCKET_FDINFO_SIZE: usize = 792;
const SOI_KIND: usize = 256;
const SOCKINFO_TCP: i32 = 2;
const FOREIGN_PORT: usize = 264;
const LOCAL_PORT: usize = 268;
const VERSION_FLAGS: usize = 288;
const FOREIGN_ADDRESS: usize = 296;
const LOCAL_ADDRESS: usize = 312;
const TCP_STATE: usize = 344;
const TSI_S_LISTEN: i32 = 1;
const INI_IPV4: u8 = 1;

/// How a process takes part in the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Listens,
    Accepted,
}

pub(super) fn other_end(link: &Link) -> OtherEnd {
    match link {
        Link::Tcp(local, peer) => {
            let pids = holders(*local, *peer, Part::Accepted);
            if pids.is_empty() && !super::is_ours(peer.ip()) {
                return OtherEnd::Elsewhere { near: false, text: "it is on another machine".to_owned() };
            }
            // What waits in a queue and what was closed look the same: nobody has it.
            if pids.is_empty() {
                OtherEnd::Queued
            } else {
                OtherEnd::Accepted(Holders { pids, unseen: false })
            }
        }
        // LOCAL_PEERPID names the last that used the other end.
        Link::Unix(link) => match link.listener {
            Some(pid) => OtherEnd::Accepted(Holders { pids: vec![pid], unseen: false }),
            None => OtherEnd::Gone,
        },
    }
}

/// Which of several sockets somebody has is not told: whoever has one of them counts as having all.
pub(super) fn listeners(link: &Link) -> Option<Holders> {
    let Link::Tcp(local, peer) = link else { return None };
    let pids = holders(*local, *peer, Part::Listens);
    Some(Holders { unseen: pids.is_empty(), pids })
}

pub(super) fn is_hidden(_: Pid) -> bool {
    false
}

pub(super) fn has_ring(_: Pid) -> bool {
    false
}

fn holders(local: SocketAddr, peer: SocketAddr, wanted: Part) -> Vec<Pid> {
    let table = Table::read();
    let all = table.entries().iter().map(|entry| entry.identity.pid);
    all.filter(|pid| takes_part(*pid, local, peer, wanted)).collect()
}

fn takes_part(pid: Pid, local: SocketAddr, peer: SocketAddr, wanted: Part) -> bool {
    sockets(pid).into_iter().any(|fd| socket_part(pid, fd, local, peer) == Some(wanted))
}

fn sockets(pid: Pid) -> Vec<i32> {
    // Two 32-bit words for each descriptor: its number and its type.
    let mut words = vec![0u32; 2 * 4096];
    let size = i32::try_from(words.len() * 4).unwrap_or(0);
    // SAFETY: the buffer holds `size` bytes.
    let got =
        unsafe { libc::proc_pidinfo(pid.number(), PROC_PIDLISTFDS, 0, words.as_mut_ptr().cast(), size) };
    words.truncate(usize::try_from(got).unwrap_or(0) / 4);
    words
        .chunks_exact(2)
        .filter(|one| one[1] == PROX_FDTYPE_SOCKET)
        .filter_map(|one| i32::try_from(one[0]).ok())
        .collect()
}

fn socket_part(pid: Pid, fd: i32, local: SocketAddr, peer: SocketAddr) -> Option<Part> {
    let mut buffer = [0u8; SOCKET_FDINFO_SIZE];
    let size = i32::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer holds `size` bytes.
    let got = unsafe {
        libc::proc_pidfdinfo(pid.number(), fd, PROC_PIDFDSOCKETINFO, buffer.as_mut_ptr().cast(), size)
    };
    if got != size || word(&buffer, SOI_KIND)? != SOCKINFO_TCP {
        return None;
    }
    let here = address(&buffer, LOCAL_ADDRESS, LOCAL_PORT)?;
    if word(&buffer, TCP_STATE)? == TSI_S_LISTEN {
        return listens_for(here, peer).then_some(Part::Listens);
    }
    let there = address(&buffer, FOREIGN_ADDRESS, FOREIGN_PORT)?;
    (here == peer && there == local).then_some(Part::Accepted)
}

fn word(buffer: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(buffer.get(at..at + 4)?.try_into().ok()?))
}

/// Ports are in network order in the low half of an int; an IPv4 address is in the last word of the union.
fn address(buffer: &[u8], at: usize, port_at: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(buffer.get(port_at..port_at + 2)?.try_into().ok()?);
    let bytes: [u8; 16] = buffer.get(at..at + 16)?.try_into().ok()?;
    let ip = if buffer.get(VERSION_FLAGS)? & INI_IPV4 != 0 {
        IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(ip, port))
}
