//! Linux: a socket's inode from /proc/net/tcp, its holder from /proc/PID/fd (proc(5)).

use super::{Answerer, listens_for};
use crate::sys::process::{Pid, Table};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP_LISTEN of <net/tcp_states.h>.
const LISTEN: &str = "0A";

/// The sockets that can have answered: the accepted one if it stands, or all that listen there.
struct Sockets {
    accepted: Option<u64>,
    listening: Vec<u64>,
}

impl Sockets {
    fn inodes(&self) -> Vec<u64> {
        self.accepted.map_or_else(|| self.listening.clone(), |inode| vec![inode])
    }
}

pub(super) fn of(local: SocketAddr, peer: SocketAddr, candidates: &[Pid]) -> Answerer {
    let inodes = find(local, peer).inodes();
    if inodes.is_empty() {
        return Answerer::Unknown;
    }
    let mut holder = None;
    for inode in &inodes {
        match candidates.iter().find(|pid| holds(**pid, *inode) == Some(true)) {
            Some(pid) => holder = Some(*pid),
            None if candidates.iter().any(|pid| holds(*pid, *inode).is_none() && alive(*pid)) => {
                return Answerer::Unknown;
            }
            None => return Answerer::Another(holder_of(*inode)),
        }
    }
    holder.map_or(Answerer::Unknown, Answerer::Among)
}

pub(super) fn shared(local: SocketAddr, peer: SocketAddr, candidates: &[Pid]) -> bool {
    let sockets = find(local, peer);
    let outside = |pid: &Pid| !candidates.contains(pid) && *pid != Pid::own();
    let table = Table::read();
    let held = |inode: &u64| {
        table
            .entries()
            .iter()
            .map(|entry| entry.identity.pid)
            .filter(outside)
            .any(|pid| holds(pid, *inode) == Some(true))
    };
    sockets.accepted.is_none() && sockets.listening.iter().any(held)
}

pub(super) fn any(local: SocketAddr, peer: SocketAddr) -> Option<Pid> {
    // With several listeners it is the oldest that must satisfy a judgement by age.
    let holders: Option<Vec<Pid>> = find(local, peer).inodes().into_iter().map(holder_of).collect();
    holders?.into_iter().min_by_key(|pid| crate::sys::process::Identity::of(*pid).map(|who| who.start))
}

fn alive(pid: Pid) -> bool {
    crate::sys::process::Identity::of(pid).is_some()
}

fn holder_of(inode: u64) -> Option<Pid> {
    Table::read()
        .entries()
        .iter()
        .map(|entry| entry.identity.pid)
        .find(|pid| holds(*pid, inode) == Some(true))
}

/// `None` when we may not look. Whoever reads all directories may list descriptors, and without
/// CAP_SYS_PTRACE is not told of what.
fn holds(pid: Pid, inode: u64) -> Option<bool> {
    let wanted = format!("socket:[{inode}]");
    let mut hidden = false;
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        match fs::read_link(fd.path()) {
            Ok(target) if target.as_os_str() == wanted.as_str() => return Some(true),
            Err(cause) => hidden |= cause.kind() == ErrorKind::PermissionDenied,
            Ok(_) => {}
        }
    }
    (!hidden).then_some(false)
}

pub(super) fn is_hidden(pid: Pid) -> bool {
    alive(pid) && holds(pid, 0).is_none()
}

fn find(local: SocketAddr, peer: SocketAddr) -> Sockets {
    let mut found =
        Sockets { accepted: crate::sys::listening::other_end(local, peer), listening: Vec::new() };
    // The tables take milliseconds where the kernel is made for many sockets.
    if found.accepted.is_some() {
        return found;
    }
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(file) = fs::File::open(table) else { continue };
        for line in BufReader::new(file).lines().skip(1).map_while(Result::ok) {
            let Some(row) = row(&line) else { continue };
            if row.listens && listens_for(row.local, peer) {
                found.listening.push(row.inode);
            } else if row.inode != 0 && same(row.local, peer) && same(row.remote, local) {
                found.accepted = Some(row.inode);
            }
        }
    }
    found
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

pub(crate) struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    inode: u64,
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`
pub(crate) fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let (local, remote, state) = (fields.nth(1)?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Row { local: address(local)?, remote: address(remote)?, listens: state == LISTEN, inode })
}

/// Words of 32 bits in host order, in hex, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_a_row_of_the_kernels_table() {
        let row = row(
            "   0: 0100007F:10DD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 \
             12345 1 0 100 0",
        )
        .unwrap();
        assert_eq!((row.local.to_string().as_str(), row.listens, row.inode), ("127.0.0.1:4317", true, 12345));
        assert_eq!(address("00000000000000000000000001000000:0050").unwrap().to_string(), "[::1]:80");
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0050").unwrap().ip().to_canonical().to_string(),
            "127.0.0.1"
        );
        assert!(address("0100007F").is_none());
    }
}
