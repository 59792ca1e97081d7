//! Connections with a hard deadline: names resolved aside, addresses raced, every read and write bounded in
//! time.

mod fixed;
pub(crate) mod names;
pub mod reach;

pub use fixed::{FixedAddress, FixedAddresses};
pub use names::{is_local, resolve, resolve_now};
pub use reach::NetReach;

use crate::sys::poll::{self, For};
use crate::sys::task;
use crate::words::failure::{Class, Failure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two addresses of a remote name (RFC 8305 says 250 ms). Loopback addresses are raced at once.
const STAGGER: Duration = Duration::from_millis(250);

/// A socket that listens on `address`: `HOST:PORT`, or `unix:PATH`, where a socket that nobody listens on
/// gives way.
///
/// # Errors
/// Says what is wrong with the address, or those of bind(2).
pub fn listen(address: &str) -> io::Result<OwnedFd> {
    if let Some(path) = address.strip_prefix("unix:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        remove_stale(path)?;
        return Ok(std::os::unix::net::UnixListener::bind(path)?.into());
    }
    Ok(std::net::TcpListener::bind(address)?.into())
}

/// A socket at `path`, where nobody is in the way, that whoever has these rights may connect to: it has them
/// as soon as it can be seen. Whoever calls holds a lock that keeps others like us away.
///
/// # Errors
/// AddrInUse where something else is there; those of bind(2), chmod(2) and rename(2).
pub fn listen_unix(path: &Path, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    remove_stale(path)?;
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let mut staged = path.to_owned().into_os_string();
    staged.push(".new");
    let staged = Path::new(&staged);
    remove_stale(staged)?;
    let listener = std::os::unix::net::UnixListener::bind(staged)?;
    std::fs::set_permissions(staged, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(staged, path)?;
    Ok(listener)
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path)
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()));
    let stale = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && stale() { std::fs::remove_file(path) } else { Ok(()) }
}

/// Who is at the other end of a connection, for `owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Our address and theirs.
    Tcp(SocketAddr, SocketAddr),
    /// Our end of a unix socket.
    Unix(UnixLink),
}

/// What is known of a connection to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixLink {
    /// The process that called listen(2) there, where the system tells. Another may have accepted.
    pub listener: Option<crate::sys::process::Pid>,
    /// The inode of our socket.
    #[cfg(target_os = "linux")]
    pub(super) inode: u64,
    /// The name that the socket was bound to which listens there; an abstract one begins with a NUL.
    #[cfg(target_os = "linux")]
    pub(super) name: Vec<u8>,
}

impl UnixLink {
    fn of(fd: &OwnedFd) -> UnixLink {
        UnixLink {
            listener: peer_pid(fd),
            #[cfg(target_os = "linux")]
            inode: nix::sys::stat::fstat(fd).map_or(0, |found| found.st_ino),
            #[cfg(target_os = "linux")]
            name: peer_name(fd).unwrap_or_default(),
        }
    }
}

#[cfg(target_os = "linux")]
fn peer_name(fd: &OwnedFd) -> Option<Vec<u8>> {
    let address = nix::sys::socket::getpeername::<UnixAddr>(fd.as_raw_fd()).ok()?;
    let path = address.path().map(|path| std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec());
    path.or_else(|| Some([b"\0", address.as_abstract()?].concat()))
}

/// A connected stream whose reads and writes end at a deadline.
#[derive(Debug)]
pub struct Conn {
    fd: OwnedFd,
    link: Link,
    deadline: Instant,
}

impl Conn {
    /// Who is connected to whom.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The user at the other end of a unix connection.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn peer_uid(&self) -> io::Result<u32> {
        peer_uid(self.fd.as_fd())
    }

    /// Reads what is there, or waits for it; 0 at the end. The loop of the task goes on meanwhile.
    ///
    /// # Errors
    /// TimedOut at the deadline; those of read(2).
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // A peer that drips keeps the socket ready, so the deadline is looked at before the socket.
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match nix::unistd::read(&self.fd, buffer) {
                Err(nix::errno::Errno::EAGAIN) => self.wait_for(For::Reading).await?,
                Err(nix::errno::Errno::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Reads as much as there is room for.
    ///
    /// # Errors
    /// UnexpectedEof where less comes; as `receive`.
    pub async fn receive_exactly(&mut self, mut room: &mut [u8]) -> io::Result<()> {
        while !room.is_empty() {
            match self.receive(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => room = &mut room[count..],
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`. The loop of the task goes on meanwhile.
    ///
    /// # Errors
    /// TimedOut at the deadline; those of write(2).
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match nix::unistd::write(&self.fd, bytes) {
                Err(nix::errno::Errno::EAGAIN) => self.wait_for(For::Writing).await?,
                Err(nix::errno::Errno::EINTR) => {}
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    async fn wait_for(&self, what: For) -> io::Result<()> {
        task::ready(&[(self.fd.as_fd(), what)], self.deadline).await.map(drop)
    }

    fn ready(&self, what: For) -> io::Result<()> {
        // A peer that drips keeps the socket ready, so the deadline is looked at before the socket.
        if Instant::now() >= self.deadline || !poll::wait(&[(self.fd.as_fd(), what)], Some(self.deadline))?[0]
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Read for Conn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready(For::Reading)?;
            match nix::unistd::read(&self.fd, buffer) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

impl Write for Conn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.ready(For::Writing)?;
            match nix::unistd::write(&self.fd, bytes) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to the first of `addresses` that accepts; all loopback addresses are tried at once, others 250 ms
/// apart.
///
/// # Errors
/// The best failure: a refusal counts only if every address refused or has no such network here; else the
/// more telling one.
pub async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<Conn, Failure> {
    let mut trying: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    let mut waiting = addresses.iter();
    let mut next_start = Instant::now();
    loop {
        while Instant::now() >= next_start || trying.is_empty() {
            let Some(address) = waiting.next() else { break };
            match begin(*address) {
                Ok((fd, true)) => match connected(fd, *address, deadline) {
                    Ok(conn) => return Ok(conn),
                    Err(failure) => failures.push(failure),
                },
                Ok((fd, false)) => trying.push((fd, *address)),
                Err(cause) => failures.push(Failure::io(&format!("cannot connect to {address}"), &cause)),
            }
            if !address.ip().is_loopback() {
                next_start = Instant::now() + STAGGER;
            }
        }
        if trying.is_empty() && waiting.len() == 0 {
            return Err(telling(failures));
        }
        let until = if waiting.len() > 0 { deadline.min(next_start) } else { deadline };
        let fds: Vec<_> = trying.iter().map(|(fd, _)| (fd.as_fd(), For::Writing)).collect();
        let ready = task::ready(&fds, until)
            .await
            .map_err(|cause| Failure::io("cannot wait for a connection", &cause))?;
        let mut still = Vec::new();
        for ((fd, address), ready) in trying.into_iter().zip(ready) {
            if !ready {
                still.push((fd, address));
                continue;
            }
            match connected(fd, address, deadline) {
                Ok(conn) => return Ok(conn),
                Err(failure) => failures.push(failure),
            }
        }
        trying = still;
        if Instant::now() >= deadline {
            return Err(Failure::timeout("connecting"));
        }
    }
}

fn telling(mut failures: Vec<Failure>) -> Failure {
    // Hosts without IPv6 answer EADDRNOTAVAIL for ::1; that must not hide the refusal of 127.0.0.1
    // (wait-port#93).
    if failures.iter().any(|one| one.class != Class::Unreachable) {
        failures.retain(|one| one.class != Class::Unreachable);
    }
    let at = failures.iter().position(|one| !one.class.is_down()).unwrap_or(0);
    if failures.is_empty() {
        Failure::new(Class::Missing, "the name has no address")
    } else {
        failures.swap_remove(at)
    }
}

/// Starts a connection; true when it stands at once.
fn begin(address: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    start(family, &SockaddrStorage::from(address))
}

fn start(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<(OwnedFd, bool)> {
    let fd = socket(family)?;
    // SAFETY: connect(2) reads `len` bytes of an address that outlives the call.
    let outcome = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr(), address.len()) };
    match nix::errno::Errno::result(outcome) {
        Ok(_) => Ok((fd, true)),
        Err(nix::errno::Errno::EINPROGRESS) => Ok((fd, false)),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(target_os = "linux")]
fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(nix::sys::socket::socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let fd = nix::sys::socket::socket(family, SockType::Stream, SockFlag::empty(), None)?;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(fd)
}

fn connected(fd: OwnedFd, address: SocketAddr, deadline: Instant) -> Result<Conn, Failure> {
    let stream = TcpStream::from(fd);
    let doing = format!("cannot connect to {address}");
    if let Ok(Some(cause)) | Err(cause) = stream.take_error() {
        return Err(Failure::io(&doing, &cause));
    }
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, peer) = ends.map_err(|cause| Failure::io(&doing, &cause))?;
    // Polling a free port of the ephemeral range may meet itself: a simultaneous open (RFC 9293, 3.5). Nobody
    // listens there.
    if local == peer {
        return Err(Failure::io(&doing, &io::Error::from_raw_os_error(libc::ECONNREFUSED)));
    }
    let _ = stream.set_nodelay(true);
    Ok(Conn { fd: OwnedFd::from(stream), link: Link::Tcp(local, peer), deadline })
}

/// The address of a socket: a path, or on Linux `@NAME` for one of the abstract namespace (unix(7)).
fn unix_address(path: &Path) -> nix::Result<UnixAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        return UnixAddr::new_abstract(name);
    }
    UnixAddr::new(path)
}

/// Connects to the unix socket at `path`, or on Linux to the abstract one that `@NAME` stands for.
///
/// # Errors
/// `missing` without the path, `refused` when nobody listens on it, `timeout` when its backlog stays full.
pub async fn connect_unix(path: &Path, deadline: Instant) -> Result<Conn, Failure> {
    let doing = format!("cannot connect to {}", path.display());
    let address = unix_address(path).map_err(|errno| Failure::io(&doing, &errno.into()))?;
    loop {
        match start(AddressFamily::Unix, &address) {
            Ok((fd, _)) => {
                let link = Link::Unix(UnixLink::of(&fd));
                return Ok(Conn { fd, link, deadline });
            }
            Err(cause) if cause.raw_os_error() == Some(libc::EAGAIN) && Instant::now() < deadline => {
                task::sleep(deadline.min(Instant::now() + Duration::from_millis(5))).await;
            }
            Err(cause) => return Err(Failure::io(&doing, &cause)),
        }
    }
}

/// The same for a thread that does nothing else meanwhile.
///
/// # Errors
/// As `connect_unix`.
pub fn connect_unix_now(path: &Path, deadline: Instant) -> Result<Conn, Failure> {
    task::block_on(connect_unix(path, deadline))
}

/// The process that called listen(2) on the other end.
fn peer_pid(fd: &OwnedFd) -> Option<crate::sys::process::Pid> {
    #[cfg(target_os = "linux")]
    let number = nix::sys::socket::getsockopt(fd, nix::sys::socket::sockopt::PeerCredentials).ok()?.pid();
    #[cfg(target_os = "macos")]
    let number = nix::sys::socket::getsockopt(fd, nix::sys::socket::sockopt::LocalPeerPid).ok()?;
    crate::sys::process::Pid::new(number)
}

/// The addresses that the interfaces of this machine have; none where the kernel does not tell.
pub fn own_addresses() -> Vec<IpAddr> {
    let address = |found: nix::ifaddrs::InterfaceAddress| {
        let address = found.address?;
        let old = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        old.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    nix::ifaddrs::getifaddrs().map(|all| all.filter_map(address).collect()).unwrap_or_default()
}

/// The user at the other end of an accepted unix connection.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_uid(fd: BorrowedFd<'_>) -> io::Result<u32> {
    #[cfg(target_os = "linux")]
    return Ok(nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::PeerCredentials)?.uid());
    #[cfg(target_os = "macos")]
    return Ok(nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::LocalPeerCred)?.uid());
}

/// Whether root or we ourselves are at the other end of a unix connection: of anybody else nothing is
/// believed, for whoever made the socket may be anybody.
///
/// # Errors
/// PermissionDenied that says whose answer it would be; those of getsockopt(2).
pub fn check_peer(fd: BorrowedFd<'_>) -> io::Result<()> {
    check_peer_is(fd, crate::sys::user::own_uid())
}

/// The same of a server that runs as the user `known`.
///
/// # Errors
/// As `check_peer`.
pub fn check_peer_is(fd: BorrowedFd<'_>, known: u32) -> io::Result<()> {
    let (uid, own) = (peer_uid(fd)?, crate::sys::user::own_uid());
    if [0, own, known].contains(&uid) {
        return Ok(());
    }
    let wanted = match known {
        0 => "root".to_owned(),
        known if known == own => "us".to_owned(),
        known => format!("uid {known}"),
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("answered by uid {uid}, not by {wanted}")))
}

/// Where a stream is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Its addresses, to be raced; none for a unix socket.
    ///
    /// # Errors
    /// As `resolve`.
    pub async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
        match self {
            Endpoint::Tcp(host, port) if host.contains('%') => {
                names::with_zone(host, *port).map(|address| vec![address])
            }
            Endpoint::Tcp(host, port) => {
                let found = names::resolve_often(host, deadline).await?;
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
            }
            Endpoint::Unix(_) => Ok(Vec::new()),
        }
    }

    /// The same, where `fixed` names none for it.
    ///
    /// # Errors
    /// As `resolve`.
    pub async fn addresses_or(
        &self,
        fixed: &FixedAddresses,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let given = match self {
            Endpoint::Tcp(host, port) => fixed.of(host, *port),
            Endpoint::Unix(_) => None,
        };
        match given {
            Some(addresses) => Ok(addresses),
            None => self.addresses(deadline).await,
        }
    }

    /// Connects: to one of `addresses`, or to the socket.
    ///
    /// # Errors
    /// As `connect` and `connect_unix`.
    pub async fn connect(&self, addresses: &[SocketAddr], deadline: Instant) -> Result<Conn, Failure> {
        match self {
            Endpoint::Tcp(..) => connect(addresses, deadline).await,
            Endpoint::Unix(path) => connect_unix(path, deadline).await,
        }
    }

    /// How far away it is, as far as is known without asking anybody.
    pub fn reach(&self) -> NetReach {
        match self {
            Endpoint::Tcp(host, _) => reach::of(host),
            Endpoint::Unix(_) => NetReach::Own,
        }
    }

    /// Where a listener would show itself in the tables of this kernel; nowhere if it is not this machine's.
    pub fn own_sockets(&self) -> Vec<SocketAddr> {
        match self {
            Endpoint::Tcp(host, port) => reach::own_sockets(host, *port),
            Endpoint::Unix(_) => Vec::new(),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Tcp(host, port) => write!(out, "{host}:{port}"),
            Endpoint::Unix(path) => path.display().fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A port that nobody listens on may be the one that the system gives us to ask from: then we answer
    /// ourselves.
    #[test]
    fn a_socket_that_has_met_itself_has_met_nobody() {
        let fd = socket(AddressFamily::Inet).unwrap();
        nix::sys::socket::bind(fd.as_raw_fd(), &nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        let own: nix::sys::socket::SockaddrIn = nix::sys::socket::getsockname(fd.as_raw_fd()).unwrap();
        let _ = nix::sys::socket::connect(fd.as_raw_fd(), &own);
        let soon = Instant::now() + Duration::from_secs(60);
        assert_eq!(poll::wait(&[(fd.as_fd(), For::Writing)], Some(soon)).unwrap(), [true]);
        let address = SocketAddr::from(([127, 0, 0, 1], own.port()));
        let failure = connected(fd, address, soon).map(|_| ()).unwrap_err();
        assert_eq!(failure.class, Class::Refused);
    }

    /// One that always has a byte more keeps its socket ready for ever, and the deadline holds all the same.
    #[test]
    fn a_peer_that_drips_does_not_outlast_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut conn = connect_unix_now(&path, Instant::now() + Duration::from_millis(300)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let goes_on = || !over.load(std::sync::atomic::Ordering::SeqCst);
                while goes_on() && peer.write_all(&[0; 4096]).is_ok() {
                    std::thread::yield_now();
                }
            });
            let began = Instant::now();
            let mut byte = [0; 1];
            let cause = loop {
                match conn.read(&mut byte) {
                    Ok(_) if began.elapsed() < Duration::from_secs(60) => {}
                    outcome => break outcome.map_err(|cause| cause.kind()),
                }
            };
            over.store(true, std::sync::atomic::Ordering::SeqCst);
            drop(conn);
            assert_eq!(cause, Err(io::ErrorKind::TimedOut));
        });
    }
}
