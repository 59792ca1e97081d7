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
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

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
    /// Somebody at this address.
    At(SocketAddr),
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
            Caller::User(uid) => Origin::User(uid),
        }
    }

    /// As whom it claims a lease: from this address and no other.
    pub fn peer(self) -> String {
        match self {
            Caller::At(address) => format!("ip:{}", address.ip().to_canonical()),
            Caller::User(uid) => format!("uid:{uid}"),
        }
    }
}

impl Origin {
    fn of(address: IpAddr) -> Origin {
        Origin::Address(match address.to_canonical() {
            here if here.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() & (u128::MAX << 64)).into(),
            one @ IpAddr::V4(_) => one,
        })
    }

    /// As whom a peer is counted, who is written as `Caller::peer` has it.
    pub fn counted(peer: &str) -> String {
        let address = peer.strip_prefix("ip:").and_then(|address| address.parse().ok());
        address.map_or_else(|| peer.to_owned(), |address| Origin::of(address).to_string())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::At(address) => write!(out, "{address}"),
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
    /// A port.
    Tcp(TcpListener),
    /// A socket.
    Unix(UnixListener, SocketFile),
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
                Ok((Listener::Tcp(listener), format!("http://{at}")))
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
                Listener::Tcp(listener) => {
                    if let Poll::Ready(accepted) = listener.poll_accept(context) {
                        let (stream, peer) = accepted?;
                        let _ = stream.set_nodelay(true);
                        return Poll::Ready(Ok((Box::new(stream) as Box<dyn Duplex>, Caller::At(peer))));
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
        let counted = |address: &str| Origin::counted(&Caller::At(address.parse().unwrap()).peer());
        for here in ["127.0.0.1:1", "127.9.9.9:2", "[::1]:3", "[::ffff:127.0.0.2]:4"] {
            assert_eq!(counted(here), "ip:127.0.0.1");
        }
        for near in ["[2001:db8::1]:1", "[2001:db8::ffff:0:0:2]:1"] {
            assert_eq!(counted(near), "ip:2001:db8::");
        }
        assert_eq!(counted("[2001:db8:0:1::1]:1"), "ip:2001:db8:0:1::");
        assert_eq!(
            (counted("10.0.0.1:1"), counted("10.0.0.2:1")),
            ("ip:10.0.0.1".into(), "ip:10.0.0.2".into())
        );
        assert_eq!(Origin::counted("uid:7"), Caller::User(7).origin().to_string());
        assert_eq!(Origin::counted("token:00"), "token:00");
    }
}
