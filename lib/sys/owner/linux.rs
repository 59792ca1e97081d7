//! Linux: which socket it is from sock_diag(7), or /proc/net where that is not to be had; who holds it from
//! /proc/PID/fd (proc(5)).

use super::diag::{self, Diag, TcpSocket};
use super::{Holders, OtherEnd, elsewhere, is_ours, is_same, listens_for};
use crate::sys::net::{Link, UnixLink};
use crate::sys::process::{Identity, Pid};
use crate::sys::user;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn other_end(link: &Link) -> OtherEnd {
    match link {
        Link::Tcp(local, peer) => tcp_end(*local, *peer),
        Link::Unix(link) => unix_end(link),
    }
}

pub(super) fn listeners(link: &Link) -> Option<Holders> {
    let inodes: Vec<u64> = match link {
        Link::Tcp(_, peer) => tcp_listening(*peer),
        Link::Unix(link) => {
            let asked = Diag::open().and_then(|diag| diag.unix_listening(link));
            asked.or_else(|| named_sockets(&link.name))?
        }
    };
    Some(holders(&inodes))
}

fn tcp_end(local: SocketAddr, peer: SocketAddr) -> OtherEnd {
    match connected(peer, local) {
        Some(TcpSocket { inode, .. }) if inode != 0 => return OtherEnd::Accepted(holders(&[inode])),
        Some(TcpSocket { state: diag::ESTABLISHED, .. }) => return OtherEnd::Queued,
        Some(TcpSocket { state: diag::SYN_RECV | diag::NEW_SYN_RECV, .. }) => return OtherEnd::PutOff,
        Some(_) => return OtherEnd::Gone,
        None => {}
    }
    // Our own end stands: then so does the other, and it is in no table that we have.
    if connected(local, peer).is_some_and(|own| own.state == diag::ESTABLISHED) {
        // It may just have been closed, and the news of it are in our own end since.
        if let Some(inode) = elsewhere::find(local, peer) {
            return OtherEnd::Accepted(holders(&[inode]));
        }
        let (near, text) = elsewhere::place(local, peer);
        return OtherEnd::Elsewhere { near, text };
    }
    if is_ours(peer.ip()) {
        return OtherEnd::Gone;
    }
    let (near, text) = elsewhere::place(local, peer);
    OtherEnd::Elsewhere { near, text }
}

fn unix_end(link: &UnixLink) -> OtherEnd {
    match Diag::open().and_then(|diag| diag.unix(link)) {
        Some(end) if end.peer != 0 => OtherEnd::Accepted(holders(&[end.peer])),
        Some(end) if end.hung_up => OtherEnd::Gone,
        Some(_) => OtherEnd::Queued,
        // Without sock_diag only the listener can be told.
        None => OtherEnd::Gone,
    }
}

/// The socket at `at` that is connected to `to`.
fn connected(at: SocketAddr, to: SocketAddr) -> Option<TcpSocket> {
    if let Some(found) = Diag::open().and_then(|diag| diag.connected(at, to)) {
        return found;
    }
    let is_it = |row: &TcpSocket| row.state != diag::LISTEN && same(row.local, at) && same(row.remote, to);
    rows("/proc/net").into_iter().find(is_it)
}

/// The inodes of the sockets that listen for `peer`. The kernel prefers an address to a wildcard.
fn tcp_listening(peer: SocketAddr) -> Vec<u64> {
    let asked = Diag::open().and_then(|diag| diag.listening(peer));
    let mut all = asked.unwrap_or_else(|| rows("/proc/net"));
    all.retain(|one| one.state == diag::LISTEN && listens_for(one.local, peer));
    all.retain(|one| !one.only_v6 || peer.ip().to_canonical().is_ipv6());
    let exact = |one: &TcpSocket| !one.bound && is_same(one.local.ip(), peer.ip());
    if all.iter().any(exact) {
        all.retain(|one| one.bound || exact(one));
    }
    all.iter().map(|one| one.inode).collect()
}

/// Who holds these sockets. With hidepid, or without a /proc, not even the first process is shown.
fn holders(inodes: &[u64]) -> Holders {
    let mut seen = vec![false; inodes.len()];
    let mut pids = Vec::new();
    let mut hidden = !Path::new("/proc/1").exists();
    let mut foreign = false;
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in all.filter_map(|one| Pid::new(one.file_name().to_str()?.parse().ok()?)) {
        let fds = match descriptors(pid) {
            Ok(fds) => fds,
            Err(cause) if is_refused(&cause) => {
                hidden = true;
                // The first process hands its sockets to services, and leaves what comes to them.
                foreign |= pid.number() != 1 && is_of(pid, user::own_uid());
                continue;
            }
            Err(_) => continue,
        };
        let before = pids.len();
        for fd in fds {
            let link = match fs::read_link(&fd) {
                Ok(link) => link,
                Err(cause) => {
                    hidden |= is_refused(&cause);
                    continue;
                }
            };
            let inode = link.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            let Some(inode) = inode.and_then(|text| text.parse::<u64>().ok()) else { continue };
            if let Some(at) = inodes.iter().position(|one| *one == inode) {
                seen[at] = true;
                // The user who made the socket, or accepted it.
                foreign |= fs::metadata(&fd).is_ok_and(|socket| socket.uid() != user::own_uid());
                pids.truncate(before);
                pids.push(pid);
            }
        }
    }
    Holders { pids, unseen: seen.contains(&false), partial: hidden && foreign }
}

/// What `pid` has open. The descriptors of one whose first thread has ended are with another.
fn descriptors(pid: Pid) -> std::io::Result<Vec<PathBuf>> {
    let list = |path: &Path| -> std::io::Result<Vec<PathBuf>> {
        Ok(fs::read_dir(path)?.flatten().map(|one| one.path()).collect())
    };
    let own = list(Path::new(&format!("/proc/{pid}/fd")))?;
    let threads = if own.is_empty() { list(Path::new(&format!("/proc/{pid}/task")))? } else { Vec::new() };
    if threads.len() < 2 {
        return Ok(own);
    }
    Ok(threads.iter().filter_map(|thread| list(&thread.join("fd")).ok()).flatten().collect())
}

/// Whether one that may not be looked into is `uid`'s all the same: it may have made that so itself, or been
/// started with capabilities.
fn is_of(pid: Pid, uid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.is_some_and(|line| line.split_whitespace().any(|one| one.parse() == Ok(uid)))
}

/// Whoever reads all directories may list descriptors, and without CAP_SYS_PTRACE is not told of what.
pub(super) fn is_hidden(pid: Pid) -> bool {
    let hidden = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(cause) => is_refused(&cause),
        Ok(fds) => fds.flatten().any(|fd| fs::read_link(fd.path()).is_err_and(|cause| is_refused(&cause))),
    };
    hidden && Identity::of(pid).is_some()
}

fn is_refused(cause: &std::io::Error) -> bool {
    cause.kind() == ErrorKind::PermissionDenied
}

pub(super) fn has_ring(pid: Pid) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == Path::new("anon_inode:[io_uring]"))
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && is_same(one.ip(), other.ip())
}

/// The sockets of the tables in `directory`, a /proc/net. They take milliseconds where the kernel is made for
/// many sockets.
pub(super) fn rows(directory: &str) -> Vec<TcpSocket> {
    let tables = ["tcp", "tcp6"].map(|name| fs::File::open(format!("{directory}/{name}")));
    let lines =
        tables.into_iter().flatten().flat_map(|file| BufReader::new(file).lines().map_while(Result::ok));
    lines.filter_map(|line| row(&line)).map(|row| row.0).collect()
}

/// The inodes of the sockets that listen under a name, as /proc/net/unix has them.
fn named_sockets(name: &[u8]) -> Option<Vec<u64>> {
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').replace('\0', "@");
    let text = fs::read_to_string("/proc/net/unix").ok()?;
    let inode = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        // __SO_ACCEPTCON of <linux/net.h>.
        let listens = u32::from_str_radix(fields.nth(3)?, 16).ok()? & (1 << 16) != 0;
        let inode = fields.nth(2)?.parse().ok()?;
        (listens && fields.next()? == name).then_some(inode)
    };
    Some(text.lines().filter_map(inode).collect())
}

/// A line of /proc/net/tcp.
pub(crate) struct Row(TcpSocket);

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`
pub(crate) fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let (local, remote, state) = (fields.nth(1)?, fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    let (local, remote) = (address(local)?, address(remote)?);
    let state = u8::from_str_radix(state, 16).ok()?;
    Some(Row(TcpSocket { local, remote, state, inode, bound: false, only_v6: false }))
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
    use std::net::{TcpListener, TcpStream};

    fn only(holders: Holders) -> Pid {
        assert!(holders.pids.len() == 1 && !holders.unseen, "{holders:?}");
        holders.pids[0]
    }

    fn accepted_by(end: OtherEnd) -> Pid {
        let OtherEnd::Accepted(holders) = end else { panic!("{end:?}") };
        only(holders)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_a_row_of_the_kernels_table() {
        let row = row(
            "   0: 0100007F:10DD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 \
             12345 1 0 100 0",
        )
        .unwrap();
        let Row(row) = row;
        assert_eq!(
            (row.local.to_string().as_str(), row.state, row.inode),
            ("127.0.0.1:4317", diag::LISTEN, 12345)
        );
        assert_eq!(address("00000000000000000000000001000000:0050").unwrap().to_string(), "[::1]:80");
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0050").unwrap().ip().to_canonical().to_string(),
            "127.0.0.1"
        );
        assert!(address("0100007F").is_none());
    }

    #[test]
    fn the_other_end_of_a_connection_is_followed_from_the_queue_to_its_end() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let host = if address.starts_with("[::1]") { "[::1]" } else { "127.0.0.1" };
            let ours = TcpStream::connect(format!("{host}:{port}")).unwrap();
            let link = Link::Tcp(ours.local_addr().unwrap(), ours.peer_addr().unwrap());
            assert_eq!(other_end(&link), OtherEnd::Queued, "{address}");
            assert_eq!(listeners(&link).map(only), Some(Pid::own()), "{address}");
            let (theirs, _) = listener.accept().unwrap();
            assert_eq!(accepted_by(other_end(&link)), Pid::own(), "{address}");
            drop(theirs);
            assert_eq!(other_end(&link), OtherEnd::Gone, "{address}");
            drop(listener);
            let nobody = listeners(&link).unwrap();
            assert!(nobody.pids.is_empty(), "{address}");
        }
    }

    #[test]
    fn the_other_end_of_a_unix_connection_is_followed_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let conn = crate::sys::net::connect_unix_now(&path, std::time::Instant::now()).unwrap();
        assert_eq!(other_end(conn.link()), OtherEnd::Queued);
        assert_eq!(listeners(conn.link()).map(only), Some(Pid::own()));
        let (theirs, _) = listener.accept().unwrap();
        assert_eq!(accepted_by(other_end(conn.link())), Pid::own());
        drop(theirs);
        assert_eq!(other_end(conn.link()), OtherEnd::Gone);
        assert_eq!(listeners(conn.link()).map(only), Some(Pid::own()));
    }

    /// What a sandbox without sock_diag has must tell the same.
    #[test]
    fn the_tables_of_proc_tell_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let all = rows("/proc/net");
        let at = |socket: (SocketAddr, SocketAddr)| {
            all.iter().find(|row| (row.local, row.remote) == socket).map(|row| (row.state, row.inode != 0))
        };
        let ends = (theirs.local_addr().unwrap(), ours.local_addr().unwrap());
        assert_eq!(at(ends), Some((diag::ESTABLISHED, true)));
        let listens = |row: &&TcpSocket| row.state == diag::LISTEN && row.local == ends.0;
        assert_eq!(all.iter().filter(listens).count(), 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let name = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        assert_eq!(named_sockets(name).unwrap().len(), 1);
    }
}
