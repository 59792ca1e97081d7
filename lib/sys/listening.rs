//! Does somebody listen on a port of this machine? A question to the kernel's tables (sock_diag(7)), a fifth
//! of the price of a connection that is refused, and nobody's accept queue is touched. Only a hint: a real
//! probe decides.

use std::net::SocketAddr;
use std::time::Duration;

/// A way to ask, if this system has one that works.
#[derive(Debug)]
pub struct Listening(system::Asker);

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
}

#[cfg(target_os = "linux")]
pub(crate) mod system {
    use nix::sys::socket::{MsgFlags, recv, send};
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// SOCK_DIAG_BY_FAMILY of <linux/sock_diag.h>; NLMSG_ERROR of <linux/netlink.h>; TCP_LISTEN of
    /// <net/tcp_states.h>.
    const BY_FAMILY: u16 = 20;
    const ERROR: u16 = 2;
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
            verdict(&self.ask(&question(address))?)
        }

        fn ask(&self, question: &[u8]) -> Option<Vec<u8>> {
            send(self.0.as_raw_fd(), question, MsgFlags::MSG_DONTWAIT).ok()?;
            let mut answer = [0u8; 1024];
            let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
            answer.get(..length).map(<[u8]>::to_vec)
        }
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

    fn bytes_of(address: IpAddr) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        match address {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        bytes
    }

    /// `struct nlmsghdr`, then `struct inet_diag_req_v2`: 72 bytes.
    fn question(address: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(72);
        bytes.extend(72u32.to_ne_bytes());
        bytes.extend(BY_FAMILY.to_ne_bytes());
        bytes.extend(1u16.to_ne_bytes());
        bytes.extend([0u8; 8]);
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        bytes.extend([u8::try_from(family).unwrap_or(0), 6, 0, 0]);
        bytes.extend(u32::MAX.to_ne_bytes());
        bytes.extend(address.port().to_be_bytes());
        bytes.extend([0u8; 2]);
        bytes.extend(bytes_of(address.ip()));
        bytes.extend([0u8; 16]);
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
    }
}
