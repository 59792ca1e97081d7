//! Does somebody listen on a port of this machine? A question to the kernel's tables (sock_diag(7)), a fifth
//! of the price of a connection that is refused, and nobody's accept queue is touched; for many ports one
//! list of all listeners serves them all. Only a hint: a real probe decides.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A way to ask, if this system has one that works.
#[derive(Debug)]
pub struct Listening(system::Asker);

/// From so many addresses on a list of all listeners is cheaper than a question for each.
const MANY: usize = 8;

impl Listening {
    /// Opens the way, and tries it on a socket of our own: a kernel without the answer says "not found" too.
    pub fn open() -> Option<Listening> {
        let asker = system::Asker::open()?;
        let own = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        asker.listens(own.local_addr().ok()?).is_some_and(|yes| yes).then_some(Listening(asker))
    }

    /// Waits until somebody may listen on one of `addresses`, asking every `pause`, for at most `limit`.
    pub fn doze(&self, addresses: &[SocketAddr], pause: Duration, limit: Duration) {
        let mut slept = Duration::ZERO;
        while slept < limit {
            std::thread::sleep(pause.min(limit - slept));
            slept += pause;
            if addresses.iter().any(|address| self.listens(*address) != Some(false)) {
                return;
            }
        }
    }

    /// Whether somebody listens there; `None` when the answer is neither yes nor no.
    pub fn listens(&self, address: SocketAddr) -> Option<bool> {
        self.0.listens(address)
    }

    /// Those of `places` where somebody may listen now, by their positions.
    pub fn where_somebody_may(&self, places: &[&[SocketAddr]]) -> Vec<usize> {
        let count: usize = places.iter().map(|addresses| addresses.len()).sum();
        let list = if count >= MANY { self.0.all().map(Listeners::new) } else { None };
        let may = |address: &SocketAddr| match &list {
            Some(list) => list.hear(*address),
            None => self.listens(*address) != Some(false),
        };
        (0..places.len()).filter(|number| places[*number].iter().any(may)).collect()
    }
}

/// All sockets of this machine that listen.
struct Listeners {
    /// A bit for each port, so that the many that nobody has are found out at once.
    ports: Box<[u64; 1024]>,
    sockets: Vec<SocketAddr>,
}

impl Listeners {
    fn new(sockets: Vec<SocketAddr>) -> Listeners {
        let mut ports = Box::new([0u64; 1024]);
        sockets.iter().map(|socket| usize::from(socket.port())).for_each(|port| {
            ports[port / 64] |= 1 << (port % 64);
        });
        Listeners { ports, sockets }
    }

    /// Whether one of them may take connections to `address`.
    fn hear(&self, address: SocketAddr) -> bool {
        let port = usize::from(address.port());
        let wild = |at: IpAddr| at.is_unspecified() && (at.is_ipv6() || address.is_ipv4());
        self.ports[port / 64] & 1 << (port % 64) != 0
            && self.sockets.iter().any(|socket| {
                let at = socket.ip().to_canonical();
                socket.port() == address.port() && (at == address.ip().to_canonical() || wild(at))
            })
    }
}

/// The inode of the socket at the other end of a connection between two sockets of this machine, `local` ours
/// and `peer` the other's, without a walk through all that the kernel has; `None` where it cannot be told so.
#[cfg(target_os = "linux")]
pub fn other_end(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    system::Asker::open()?.other_end(local, peer)
}

#[cfg(target_os = "linux")]
pub(crate) mod system {
    use nix::sys::socket::{MsgFlags, recv, send};
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// SOCK_DIAG_BY_FAMILY of <linux/sock_diag.h>; NLMSG_ERROR and NLMSG_DONE of <linux/netlink.h>;
    /// TCP_LISTEN of <net/tcp_states.h>.
    const BY_FAMILY: u16 = 20;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const LISTEN: u8 = 10;
    const NETLINK_SOCK_DIAG: i32 = 4;

    #[derive(Debug)]
    pub(super) struct Asker(OwnedFd);

    impl Asker {
        pub(super) fn open() -> Option<Asker> {
            // SAFETY: socket(2) takes three integers.
            let fd = unsafe {
                libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
            };
            // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
            (fd >= 0).then(|| Asker(unsafe { OwnedFd::from_raw_fd(fd) }))
        }

        /// `None` when the kernel's answer is neither yes nor no.
        pub(super) fn listens(&self, address: SocketAddr) -> Option<bool> {
            verdict(&self.ask(&question(address, None))?)
        }

        pub(super) fn other_end(&self, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
            connected(&self.ask(&question(peer, Some(local)))?, local.port(), peer.port())
        }

        /// All sockets that listen; `None` when the kernel's answer is not whole.
        pub(super) fn all(&self) -> Option<Vec<SocketAddr>> {
            // What is left of an answer that was not read to its end must not be taken for the next one's.
            let asker = Asker::open()?;
            let mut found = Vec::new();
            for family in [libc::AF_INET, libc::AF_INET6] {
                let mut question = question(SocketAddr::from(([0, 0, 0, 0], 0)), None);
                // NLM_F_REQUEST | NLM_F_DUMP; the family; the states, as bits.
                question[6..8].copy_from_slice(&0x301u16.to_ne_bytes());
                question[16] = u8::try_from(family).ok()?;
                question[20..24].copy_from_slice(&(1u32 << LISTEN).to_ne_bytes());
                send(asker.0.as_raw_fd(), &question, MsgFlags::MSG_DONTWAIT).ok()?;
                let mut answer = vec![0u8; 32 * 1024];
                loop {
                    let length = recv(asker.0.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
                    if listed(answer.get(..length)?, &mut found)? {
                        break;
                    }
                }
            }
            Some(found)
        }

        fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
            send(self.0.as_raw_fd(), question, MsgFlags::MSG_DONTWAIT).ok()?;
            let mut answer = [0u8; 1024];
            let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
            answer.get(..length).map(<[u8]>::to_vec)
        }
    }

    /// The inode out of an answer, if it is of a socket that is connected from `from` to `to`. What has lost
    /// its process has none; where there is no such connection the kernel names who listens.
    fn connected(answer: &[u8], from: u16, to: u16) -> Option<u64> {
        let number = |at: usize| answer.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        if verdict(answer)? || number(20)? != to || number(22)? != from {
            return None;
        }
        let inode = u32::from_ne_bytes(answer.get(84..88)?.try_into().ok()?);
        (inode != 0).then(|| u64::from(inode))
    }

    /// What an answer of the kernel says; `None` when that is neither yes nor no.
    pub(crate) fn verdict(answer: &[u8]) -> Option<bool> {
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        match kind {
            ERROR => {
                (i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?) == -libc::ENOENT).then_some(false)
            }
            // `struct inet_diag_msg`: family, state, …
            BY_FAMILY => Some(*answer.get(17)? == LISTEN),
            _ => None,
        }
    }

    /// Takes the sockets out of a piece of a list; whether it was the last, `None` where it is none.
    pub(crate) fn listed(mut piece: &[u8], found: &mut Vec<SocketAddr>) -> Option<bool> {
        while piece.len() >= 16 {
            let length = usize::try_from(u32::from_ne_bytes(piece.get(..4)?.try_into().ok()?)).ok()?;
            let kind = u16::from_ne_bytes(piece.get(4..6)?.try_into().ok()?);
            let message = piece.get(..length).filter(|message| message.len() >= 16)?;
            match kind {
                DONE => return Some(true),
                // `struct inet_diag_msg`: family, state, timer, retransmissions, ports, the address.
                BY_FAMILY => {
                    let port = u16::from_be_bytes(message.get(20..22)?.try_into().ok()?);
                    let bytes: [u8; 16] = message.get(24..40)?.try_into().ok()?;
                    let [a, b, c, d, ..] = bytes;
                    let old = i32::from(*message.get(16)?) == libc::AF_INET;
                    let address = if old { IpAddr::from([a, b, c, d]) } else { IpAddr::from(bytes) };
                    found.push(SocketAddr::new(address, port));
                }
                _ => return None,
            }
            piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(false)
    }

    fn bytes_of(address: IpAddr) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        match address {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        bytes
    }

    /// `struct nlmsghdr`, then `struct inet_diag_req_v2`: 72 bytes. The socket at `address`, connected to
    /// `remote` if there is such a one.
    fn question(address: SocketAddr, remote: Option<SocketAddr>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(72);
        bytes.extend(72u32.to_ne_bytes());
        bytes.extend(BY_FAMILY.to_ne_bytes());
        bytes.extend(1u16.to_ne_bytes());
        bytes.extend([0u8; 8]);
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        bytes.extend([u8::try_from(family).unwrap_or(0), 6, 0, 0]);
        bytes.extend(u32::MAX.to_ne_bytes());
        bytes.extend(address.port().to_be_bytes());
        bytes.extend(remote.map_or(0, |remote| remote.port()).to_be_bytes());
        bytes.extend(bytes_of(address.ip()));
        bytes.extend(remote.map_or([0u8; 16], |remote| bytes_of(remote.ip())));
        bytes.extend([0u8; 4]);
        // INET_DIAG_NOCOOKIE, twice.
        bytes.extend([0xff; 8]);
        bytes
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::SocketAddr;

    #[derive(Debug)]
    pub(super) struct Asker;

    impl Asker {
        pub(super) fn open() -> Option<Asker> {
            None
        }

        pub(super) fn listens(&self, _: SocketAddr) -> Option<bool> {
            None
        }

        pub(super) fn all(&self) -> Option<Vec<SocketAddr>> {
            None
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn one_list_tells_of_many_ports() {
        let way = Listening::open().unwrap();
        let own = |address: &str| TcpListener::bind(address).ok();
        let heard: Vec<TcpListener> = ["127.0.0.1:0", "127.0.0.7:0", "0.0.0.0:0", "[::]:0", "[::1]:0"]
            .into_iter()
            .filter_map(own)
            .collect();
        let mut places: Vec<Vec<SocketAddr>> = heard
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .map(|at| if at.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, at.port()).into() } else { at })
            .map(|at| vec![SocketAddr::from(([127, 0, 0, 99], 1)), at])
            .collect();
        let count = places.len();
        // Of these the port is taken, but on another address.
        places.push(vec![SocketAddr::from(([127, 0, 0, 8], heard[1].local_addr().unwrap().port()))]);
        let free = own("127.0.0.1:0").unwrap().local_addr().unwrap();
        places.extend((0..MANY).map(|_| vec![free]));
        let places: Vec<&[SocketAddr]> = places.iter().map(Vec::as_slice).collect();
        assert_eq!(way.where_somebody_may(&places), (0..count).collect::<Vec<_>>());
        // The same by a question for each.
        assert_eq!(way.where_somebody_may(&places[..2]), [0, 1]);
        assert!(way.where_somebody_may(&places[count..count + 2]).is_empty());
    }

    #[test]
    fn the_other_end_of_a_connection_is_found_without_a_walk() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let host = if address.starts_with("[::1]") { "[::1]" } else { "127.0.0.1" };
            let ours = TcpStream::connect(format!("{host}:{port}")).unwrap();
            let (local, peer) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
            // Nobody has accepted it: it has no inode, and whoever listens is not the other end.
            assert_eq!(other_end(local, peer), None, "{address}");
            let (theirs, _) = listener.accept().unwrap();
            let link = std::fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
            let inode = other_end(local, peer).map(|inode| format!("socket:[{inode}]"));
            assert_eq!(inode.as_deref(), link.to_str(), "{address}");
            drop(theirs);
            assert_eq!(other_end(local, peer), None, "{address}");
        }
    }
}
