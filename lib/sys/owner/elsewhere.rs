//! The other end of a connection that is in no table of our network namespace: in another one of this
//! machine, or on another machine (network_namespaces(7), veth(4)).

use super::{is_ours, linux};
use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// SIOCETHTOOL of <linux/sockios.h>; ETHTOOL_GDRVINFO of <linux/ethtool.h>.
const ETHTOOL: u32 = 0x8946;
const GET_DRIVER: u32 = 3;

/// The inode of the socket at the other end, in a namespace that a process which we may see is in. Only for
/// an address that is behind a link between namespaces: others may have the same one there.
pub(super) fn find(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    behind(local.ip(), peer.ip()).filter(|link| link.is_near())?;
    let own = fs::metadata("/proc/self/ns/net").ok()?.ino();
    let mut known = HashSet::from([own]);
    let mut found = HashSet::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(namespace) = fs::metadata(process.path().join("ns/net")) else { continue };
        if !known.insert(namespace.ino()) {
            continue;
        }
        let rows = linux::rows(&process.path().join("net").to_string_lossy());
        let is_it = |at: SocketAddr, to: SocketAddr| {
            let plain = |one: SocketAddr| (one.ip().to_canonical(), one.port());
            plain(at) == plain(peer) && plain(to) == plain(local)
        };
        let here = rows.iter().filter(|row| row.inode != 0 && is_it(row.local, row.remote));
        found.extend(here.map(|row| row.inode));
    }
    // Two of them may have the same addresses, and then it is neither.
    if found.len() == 1 { found.into_iter().next() } else { None }
}

/// Where the other end is, as far as can be told, and whether it may be on this machine.
pub(super) fn place(local: SocketAddr, peer: SocketAddr) -> (bool, String) {
    let at = peer.ip().to_canonical();
    if is_ours(at) {
        let text = format!("it is in another network namespace: nobody in this one has a socket at {peer}");
        return (true, text);
    }
    match behind(local.ip(), at) {
        Some(Behind { device, kind: Kind::Pair, direct: true }) => {
            (true, format!("it is in another network namespace, behind {device}"))
        }
        Some(Behind { device, kind: Kind::Bridge, direct: true }) => {
            let more = "where namespaces of this machine and other machines are";
            (
                true,
                format!("it may be in another network namespace: it is behind the bridge {device}, {more}"),
            )
        }
        Some(Behind { device, kind: Kind::Pair, direct: false }) => {
            (true, format!("it is on another machine, or in another network namespace behind {device}"))
        }
        _ => (false, "it is on another machine".to_owned()),
    }
}

/// How the way to an address begins.
struct Behind {
    device: String,
    kind: Kind,
    /// Whether the address is in the network of the device itself.
    direct: bool,
}

impl Behind {
    fn is_near(&self) -> bool {
        self.kind != Kind::Other && self.direct
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two ends of a wire, one of them in another namespace.
    Pair,
    Bridge,
    Other,
}

/// The device that has `local`, and so leads to `peer`.
fn behind(local: IpAddr, peer: IpAddr) -> Option<Behind> {
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| {
        let address = address?;
        let old = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        old.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    let (local, peer) = (local.to_canonical(), peer.to_canonical());
    let found = nix::ifaddrs::getifaddrs().ok()?.find(|one| ip(one.address) == Some(local))?;
    let kind = match driver(&found.interface_name).as_deref() {
        Some("veth") => Kind::Pair,
        Some("bridge") => Kind::Bridge,
        _ => Kind::Other,
    };
    let direct = ip(found.netmask).is_some_and(|mask| match (local, peer, mask) {
        (IpAddr::V4(one), IpAddr::V4(other), IpAddr::V4(mask)) => {
            one.to_bits() & mask.to_bits() == other.to_bits() & mask.to_bits()
        }
        (IpAddr::V6(one), IpAddr::V6(other), IpAddr::V6(mask)) => {
            one.to_bits() & mask.to_bits() == other.to_bits() & mask.to_bits()
        }
        _ => false,
    });
    Some(Behind { device: found.interface_name, kind, direct })
}

/// The first fields of `struct ethtool_drvinfo`; the rest is room for the kernel.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// `struct ifreq`, as SIOCETHTOOL reads it.
#[repr(C)]
struct Question {
    device: [u8; libc::IFNAMSIZ],
    data: *mut Driver,
    rest: [u64; 1],
}

/// The driver of a network device. (A /sys may be that of another namespace.)
fn driver(device: &str) -> Option<String> {
    let fd = nix::sys::socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .ok()?;
    let mut answer = Driver { command: GET_DRIVER, name: [0; 32], rest: [0; 160] };
    let mut question = Question { device: [0; libc::IFNAMSIZ], data: &raw mut answer, rest: [0] };
    question
        .device
        .get_mut(..device.len())
        .filter(|_| device.len() < libc::IFNAMSIZ)?
        .copy_from_slice(device.as_bytes());
    // SAFETY: the kernel reads a struct ifreq of 40 bytes and writes 196 into what it points to; both outlive
    // the call.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), ETHTOOL as _, &raw mut question) };
    let end = answer.name.iter().position(|byte| *byte == 0)?;
    (outcome == 0).then(|| String::from_utf8_lossy(&answer.name[..end]).into_owned())
}
