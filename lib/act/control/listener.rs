//! Where requests come from: TCP, and sockets of this machine, of which the kernel tells which user is at the
//! other end.

use crate::sys::file::{self, FileId, Lock};
use crate::sys::net;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// How long the addresses of this machine are believed.
const ADDRESSES: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(out, "{address}"),
            ListenAddress::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Who is at the other end, as far as the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody elsewhere, at this address.
    At(SocketAddr),
    /// Somebody on this machine, whichever of its addresses this is.
    Near(SocketAddr),
    /// This user of this machine.
    User(u32),
}

/// Who is counted as one: a user, or an address. This machine is one, for whoever is on it may come from any
/// of its loopback addresses; so is a network of 64 bits, for its hosts give themselves as many as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// All of an address.
    Address(IpAddr),
    /// All of a user.
    User(u32),
}

impl Caller {
    /// As whom it is counted.
    pub fn origin(self) -> Origin {
        match self {
            Caller::At(address) => Origin::of(address.ip()),
            Caller::Near(_) => Origin::Address(Ipv4Addr::LOCALHOST.into()),
            Caller::User(uid) => Origin::User(uid),
        }
    }

    /// As whom it claims a lease: from this address and no other.
    pub fn peer(self) -> String {
        match self {
            Caller::At(address) | Caller::Near(address) => format!("ip:{}", address.ip().to_canonical()),
            Caller::User(uid) => format!("uid:{uid}"),
        }
    }
}

impl Origin {
    fn of(address: IpAddr) -> Origin {
        Origin::Address(match address.to_canonical() {
            IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() & (u128::MAX << 64)).into(),
            one @ IpAddr::V4(_) => one,
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::At(address) | Caller::Near(address) => write!(out, "{address}"),
            Caller::User(uid) => write!(out, "uid:{uid}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Address(address) => write!(out, "ip:{address}"),
            Origin::User(uid) => write!(out, "uid:{uid}"),
        }
    }
}

/// A connection of either kind.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One place where we listen.
pub enum Listener {
    /// A port, and what addresses this machine has.
    Tcp(TcpListener, OwnAddresses),
    /// A socket.
    Unix(UnixListener, SocketFile),
}

/// The addresses of this machine, looked up again when they may have changed.
#[derive(Default)]
pub struct OwnAddresses(Mutex<Option<(Instant, Vec<IpAddr>)>>);

impl OwnAddresses {
    /// Whether a connection from `peer` to `ours` comes from this machine.
    fn is_near(&self, peer: IpAddr, ours: IpAddr) -> bool {
        let (peer, ours) = (peer.to_canonical(), ours.to_canonical());
        if ours.is_loopback() || peer.is_loopback() || peer == ours {
            return true;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, addresses) = known.get_or_insert_with(|| (Instant::now(), net::own_addresses()));
        if at.elapsed() >= ADDRESSES {
            (*at, *addresses) = (Instant::now(), net::own_addresses());
        }
        addresses.contains(&peer)
    }
}

/// The file of a socket, removed with it; the lock beside it lets nobody else listen there meanwhile.
pub struct SocketFile {
    path: PathBuf,
    id: Option<FileId>,
    _lock: Lock,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that another has put there is not ours to remove.
        if self.id.is_some() && FileId::of(&self.path) == self.id {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens on `address`; whoever has these rights to a socket (chmod(2)) may connect to it. Says where.
    ///
    /// # Errors
    /// Those of bind(2); 75 where another listens on the socket; 77 in a directory that others may change.
    pub fn bind(address: &ListenAddress, mode: u32) -> Result<(Listener, String)> {
        let cannot = |cause: io::Error| Error::io(format!("cannot listen on {address}"), &cause);
        match address {
            ListenAddress::Tcp(tcp) => {
                let listener = std::net::TcpListener::bind(tcp).map_err(cannot)?;
                listener.set_nonblocking(true).map_err(cannot)?;
                let at = listener.local_addr().map_err(cannot)?;
                let listener = TcpListener::from_std(listener).map_err(cannot)?;
                Ok((Listener::Tcp(listener, OwnAddresses::default()), format!("http://{at}")))
            }
            ListenAddress::Unix(path) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                // Where others could change it they could put another socket there.
                let parent = if parent == Path::new("") { Path::new(".") } else { parent };
                let place = file::shared_dir(parent, 0o755).map_err(cannot)?;
                let path = &place.join(path.file_name().unwrap_or_default());
                let mut beside = path.clone().into_os_string();
                beside.push(".lock");
                // In a directory like /tmp another may have made it.
                let lock = Lock::take_own(Path::new(&beside)).map_err(cannot)?;
                let Some(lock) = lock else {
                    let why = format!("cannot listen on {address}: another baa-control does");
                    return Err(Error::new(Status::Busy, why));
                };
                let listener = net::listen_unix(path, mode).map_err(cannot)?;
                let file = SocketFile { path: path.clone(), id: FileId::of(path), _lock: lock };
                listener.set_nonblocking(true).map_err(cannot)?;
                let listener = UnixListener::from_std(listener).map_err(cannot)?;
                Ok((Listener::Unix(listener, file), address.to_string()))
            }
        }
    }
}

/// The next connection to any of `listeners`; `turn` is the one that is asked first, so that none is passed
/// over.
///
/// # Errors
/// Those of accept(2).
pub async fn accept(listeners: &[Listener], turn: usize) -> io::Result<(Box<dyn Duplex>, Caller)> {
    poll_fn(|context| {
        for number in 0..listeners.len() {
            match &listeners[(turn + number) % listeners.len()] {
                Listener::Tcp(listener, own) => {
                    if let Poll::Ready(accepted) = listener.poll_accept(context) {
                        let (stream, peer) = accepted?;
                        let _ = stream.set_nodelay(true);
                        let near = own.is_near(peer.ip(), stream.local_addr()?.ip());
                        let caller = if near { Caller::Near(peer) } else { Caller::At(peer) };
                        return Poll::Ready(Ok((Box::new(stream) as Box<dyn Duplex>, caller)));
                    }
                }
                Listener::Unix(listener, _) => {
                    if let Poll::Ready(accepted) = listener.poll_accept(context) {
                        let stream = accepted?.0;
                        let uid = net::peer_uid(stream.as_fd())?;
                        return Poll::Ready(Ok((Box::new(stream) as Box<dyn Duplex>, Caller::User(uid))));
                    }
                }
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_counted_as_one_and_so_is_a_network_of_64_bits() {
        let (own, ours) = (OwnAddresses::default(), net::own_addresses());
        let near = |peer: &str, ours: &str| own.is_near(peer.parse().unwrap(), ours.parse().unwrap());
        // Who comes to a loopback address is here, wherever it says to be.
        for peer in ["127.9.9.9", "::1", "::ffff:127.0.0.2", "198.51.100.2", "2001:db8::1"] {
            assert!(near(peer, "127.0.0.1") && near(peer, "::1"), "{peer}");
        }
        assert!(near("198.51.100.2", "198.51.100.2") && !near("198.51.100.2", "198.51.100.3"));
        assert!(ours.iter().any(IpAddr::is_loopback));
        assert!(ours.iter().all(|one| near(&one.to_string(), "198.51.100.3")), "{ours:?}");
        let counted = |caller: Caller| caller.origin().to_string();
        let at = |address: &str| counted(Caller::At(address.parse().unwrap()));
        assert_eq!(counted(Caller::Near("198.51.100.2:1".parse().unwrap())), "ip:127.0.0.1");
        for near in ["[2001:db8::1]:1", "[2001:db8::ffff:0:0:2]:1"] {
            assert_eq!(at(near), "ip:2001:db8::");
        }
        assert_eq!(at("[2001:db8:0:1::1]:1"), "ip:2001:db8:0:1::");
        assert_eq!(
            (at("10.0.0.1:1"), at("[::ffff:10.0.0.2]:1")),
            ("ip:10.0.0.1".into(), "ip:10.0.0.2".into())
        );
        assert_eq!(counted(Caller::User(7)), "uid:7");
    }
}
