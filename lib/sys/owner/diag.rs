//! Questions to the kernel's tables of sockets (sock_diag(7)): of TCP, and of unix sockets.

use crate::sys::net::UnixLink;
use nix::sys::socket::{MsgFlags, recv, send};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const NETLINK_SOCK_DIAG: i32 = 4;
/// SOCK_DIAG_BY_FAMILY of <linux/sock_diag.h>; the kinds of messages and flags of <linux/netlink.h>.
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
/// The states of <net/tcp_states.h>.
pub(super) const ESTABLISHED: u8 = 1;
pub(super) const SYN_RECV: u8 = 3;
pub(super) const LISTEN: u8 = 10;
pub(super) const NEW_SYN_RECV: u8 = 12;
/// INET_DIAG_SKV6ONLY of <linux/inet_diag.h>.
const V6_ONLY: u16 = 11;
/// What is to be shown, and the attributes of <linux/unix_diag.h>.
const SHOW_NAME: u32 = 1;
const SHOW_PEER: u32 = 4;
const SHOW_ICONS: u32 = 8;
const NAME: u16 = 0;
const PEER: u16 = 2;
const ICONS: u16 = 3;
const SHUTDOWN: u16 = 6;

/// A TCP socket of this network namespace.
#[derive(Clone, Debug)]
pub(super) struct TcpSocket {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: u8,
    /// 0 of one that no process has: not yet accepted, or closed.
    pub(super) inode: u64,
    /// Whether it takes connections of one network device alone.
    pub(super) bound: bool,
    pub(super) only_v6: bool,
}

/// What the kernel says of our end of a unix connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnixEnd {
    /// The inode of the other end; 0 of one that no process has.
    pub(super) peer: u64,
    pub(super) hung_up: bool,
}

pub(super) struct Diag(OwnedFd);

impl Diag {
    pub(super) fn open() -> Option<Diag> {
        // SAFETY: socket(2) takes three integers.
        let fd =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG) };
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        (fd >= 0).then(|| Diag(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The socket at `at` that is connected to `to`; `None` when the kernel does not answer.
    pub(super) fn connected(&self, at: SocketAddr, to: SocketAddr) -> Option<Option<TcpSocket>> {
        let found = self.ask(&tcp_question(at, Some(to), u32::MAX, REQUEST))?;
        let socket = found.first().and_then(|message| tcp(message));
        // Where there is no such connection the kernel names who listens there.
        Some(socket.filter(|one| one.local.port() == at.port() && one.remote.port() == to.port()))
    }

    /// The sockets that listen on the port of `at`, whatever their address.
    pub(super) fn listening(&self, at: SocketAddr) -> Option<Vec<TcpSocket>> {
        let mut found = Vec::new();
        for any in ["0.0.0.0", "::"] {
            let Ok(any) = any.parse::<IpAddr>() else { continue };
            let at = SocketAddr::new(any, at.port());
            // A kernel without IPv6 says so, and has no such socket.
            let messages = self.ask(&tcp_question(at, None, 1 << LISTEN, REQUEST | DUMP));
            if any.is_ipv4() && messages.is_none() {
                return None;
            }
            let all = messages.unwrap_or_default();
            found.extend(all.iter().filter_map(|one| tcp(one)).filter(|one| one.local.port() == at.port()));
        }
        Some(found)
    }

    /// What is known of the other end of our unix socket; `None` when the kernel does not answer.
    pub(super) fn unix(&self, link: &UnixLink) -> Option<UnixEnd> {
        let inode = u32::try_from(link.inode).ok()?;
        let messages = self.ask(&unix_question(u32::MAX, inode, SHOW_PEER, REQUEST))?;
        let attributes = messages.first()?.get(32..)?;
        let word = attribute(attributes, PEER).and_then(|bytes| bytes.get(..4));
        let peer = word.map_or(0, |four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]));
        let hung_up = attribute(attributes, SHUTDOWN).is_some_and(|bytes| bytes.first() != Some(&0));
        Some(UnixEnd { peer: u64::from(peer), hung_up })
    }

    /// The inodes of the unix sockets that may have taken our connection: the very one, where it still waits
    /// in its queue, else all that listen under the name.
    pub(super) fn unix_listening(&self, link: &UnixLink) -> Option<Vec<u64>> {
        let question = unix_question(1 << LISTEN, 0, SHOW_NAME | SHOW_ICONS, REQUEST | DUMP);
        let (mut queued, mut named) = (Vec::new(), Vec::new());
        for message in self.ask(&question)? {
            let Some(inode) = message.get(20..24) else { continue };
            let inode = u64::from(u32::from_ne_bytes([inode[0], inode[1], inode[2], inode[3]]));
            let attributes = message.get(32..).unwrap_or_default();
            let waiting = attribute(attributes, ICONS).unwrap_or_default();
            let ours = |four: &[u8]| Some(u64::from(u32::from_ne_bytes(four.try_into().ok()?)));
            if waiting.chunks_exact(4).any(|four| ours(four) == Some(link.inode)) {
                queued.push(inode);
            }
            let name = attribute(attributes, NAME).unwrap_or_default();
            // A path may end with the NUL that it was bound with.
            let plain = |name: &[u8]| name.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            if name[..plain(name)] == link.name[..plain(&link.name)] {
                named.push(inode);
            }
        }
        Some(if queued.is_empty() { named } else { queued })
    }

    /// The messages of an answer; none where there is no such socket.
    fn ask(&self, question: &[u8]) -> Option<Vec<Vec<u8>>> {
        send(self.0.as_raw_fd(), question, MsgFlags::MSG_DONTWAIT).ok()?;
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            // The kernel has put its answer, or the next part of it, into the socket by now.
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
            let mut rest = buffer.get(..length)?;
            while let Some(head) = rest.get(..16) {
                let length = usize::try_from(u32::from_ne_bytes(head[..4].try_into().ok()?)).ok()?;
                let (kind, flags) =
                    (u16::from_ne_bytes([head[4], head[5]]), u16::from_ne_bytes([head[6], head[7]]));
                let message = rest.get(..length).filter(|message| message.len() >= 16)?;
                match kind {
                    DONE => return Some(found),
                    ERROR => {
                        let number = i32::from_ne_bytes(message.get(16..20)?.try_into().ok()?);
                        return (number == -libc::ENOENT).then_some(found);
                    }
                    BY_FAMILY => found.push(message.to_vec()),
                    _ => {}
                }
                // NLM_F_MULTI: more comes, and DONE at its end.
                if flags & 2 == 0 {
                    return Some(found);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([head[2], head[3]]) == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// `struct nlmsghdr`, then `struct inet_diag_msg`: family, state, two more, the two ports, the two addresses,
/// the device, …, the inode, attributes.
fn tcp(message: &[u8]) -> Option<TcpSocket> {
    let address = |at: usize, port_at: usize| {
        let port = u16::from_be_bytes(message.get(port_at..port_at + 2)?.try_into().ok()?);
        let ip = match i32::from(*message.get(16)?) {
            libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(message.get(at..at + 4)?).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(message.get(at..at + 16)?).ok()?),
        };
        Some(SocketAddr::new(ip, port))
    };
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    Some(TcpSocket {
        local: address(24, 20)?,
        remote: address(40, 22)?,
        state: *message.get(17)?,
        inode: u64::from(word(84)?),
        bound: word(56)? != 0,
        only_v6: attribute(message.get(88..)?, V6_ONLY).is_some_and(|value| value.first() == Some(&1)),
    })
}

fn bytes_of(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    match address {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    bytes
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`: 72 bytes.
fn tcp_question(address: SocketAddr, remote: Option<SocketAddr>, states: u32, flags: u16) -> Vec<u8> {
    let mut bytes = header(72, flags);
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes.extend([u8::try_from(family).unwrap_or(0), 6, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(address.port().to_be_bytes());
    bytes.extend(remote.map_or(0, |remote| remote.port()).to_be_bytes());
    bytes.extend(bytes_of(address.ip()));
    bytes.extend(remote.map_or([0u8; 16], |remote| bytes_of(remote.ip())));
    bytes.extend([0u8; 4]);
    // INET_DIAG_NOCOOKIE, twice.
    bytes.extend([0xff; 8]);
    bytes
}

/// `struct nlmsghdr`, then `struct unix_diag_req`: 40 bytes.
fn unix_question(states: u32, inode: u32, show: u32, flags: u16) -> Vec<u8> {
    let mut bytes = header(40, flags);
    bytes.extend([u8::try_from(libc::AF_UNIX).unwrap_or(0), 0, 0, 0]);
    [states, inode, show].iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
    bytes.extend([0xff; 8]);
    bytes
}

fn header(length: u32, flags: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0u8; 8]);
    bytes
}
