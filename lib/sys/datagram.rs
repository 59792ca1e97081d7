//! Datagrams over a socket with a name, and who has sent them: by the kernel's word (SCM_CREDENTIALS of
//! unix(7)), which a sender without privileges cannot forge. macOS knows no such word for datagrams; there
//! the permissions of the socket and of the directories above it are all that keeps strangers out.

use crate::sys::process::Pid;
use std::io;
use std::os::unix::net::UnixDatagram;

/// Who has sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// Its process; `None` for one that is not seen from our pid namespace. It may be gone by now.
    pub pid: Option<Pid>,
    /// Its user.
    pub uid: u32,
}

/// Asks the kernel to tell who sends, from now on.
///
/// # Errors
/// Those of setsockopt(2).
pub fn ask_senders(socket: &UnixDatagram) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::PassCred, &true)?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

/// Takes one datagram, without waiting: its length, and who has sent it where the system tells. Descriptors
/// that come with it are closed.
///
/// # Errors
/// Those of recvmsg(2); `WouldBlock` where there is none.
#[cfg(target_os = "linux")]
pub fn receive(socket: &UnixDatagram, bytes: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    use std::os::fd::AsRawFd;
    /// Room for the credentials, which the kernel puts first, and for nothing else: descriptors for which
    /// there is no room are closed by the kernel. Of u64, for a header must be aligned.
    type Room = [u64; 4];
    // SAFETY: CMSG_SPACE computes with an integer.
    let length = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
    let mut room: Room = [0; 4];
    if length > size_of::<Room>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a zeroed msghdr is a valid one.
    let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
    head.msg_iov = &raw mut part;
    head.msg_iovlen = 1;
    head.msg_control = room.as_mut_ptr().cast();
    head.msg_controllen = length as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header, the buffer and the room outlive the call, and are as large as it says.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut head, flags) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled the header in; the answer is null or points into the room.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const head) };
    if first.is_null() {
        return Ok((count, None));
    }
    // SAFETY: it points to a whole header in the room.
    let told = unsafe { first.read_unaligned() };
    // SAFETY: CMSG_LEN computes with an integer.
    let whole = told.cmsg_len as usize >= unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;
    if !whole || told.cmsg_level != libc::SOL_SOCKET || told.cmsg_type != libc::SCM_CREDENTIALS {
        return Ok((count, None));
    }
    // SAFETY: the header is in the room, and its data begins behind it.
    let data = unsafe { libc::CMSG_DATA(first) }.cast::<libc::ucred>();
    // SAFETY: as long as its length says, which was looked at.
    let ids = unsafe { data.read_unaligned() };
    Ok((count, Some(Sender { pid: Pid::new(ids.pid), uid: ids.uid })))
}

/// The same, where nobody tells who has sent it.
///
/// # Errors
/// Those of recv(2); `WouldBlock` where there is none.
#[cfg(not(target_os = "linux"))]
pub fn receive(socket: &UnixDatagram, bytes: &mut [u8]) -> io::Result<(usize, Option<Sender>)> {
    socket.set_nonblocking(true)?;
    Ok((socket.recv(bytes)?, None))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_has_sent_it() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ask_senders(&ours).unwrap();
        let mut bytes = [0; 16];
        let none = receive(&ours, &mut bytes).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        theirs.send(b"word").unwrap();
        let sender = Sender { pid: Some(Pid::own()), uid: crate::sys::user::own_uid() };
        assert_eq!(receive(&ours, &mut bytes).unwrap(), (4, Some(sender)));
        assert_eq!(&bytes[..4], b"word");
    }
}
