//! macOS: proc_pidfdinfo(PROC_PIDFDSOCKETINFO) over the descriptors of the candidates. Built and linked,
//! never run here.

use super::fdinfo::{self, SocketPart};
use super::{Holders, OtherEnd};
use crate::sys::net::Link;
use crate::sys::process::{Pid, Table};
use crate::sys::user;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

const PROC_PIDLISTFDS: i32 = 1;
const PROC_PIDFDSOCKETINFO: i32 = 3;
const PROX_FDTYPE_SOCKET: u32 = 2;
/// How often a list of descriptors may have outgrown the room that was made for it.
const TRIES: u32 = 8;

pub(super) fn other_end(link: &Link) -> OtherEnd {
    match link {
        Link::Tcp(local, peer) => {
            let found = holders(*local, *peer, SocketPart::Accepted);
            if found.unseen && !super::is_ours(peer.ip()) {
                return OtherEnd::Elsewhere { near: false, text: "it is on another machine".to_owned() };
            }
            // What waits in a queue and what was closed look the same: nobody has it.
            if found.unseen { OtherEnd::Queued } else { OtherEnd::Accepted(found) }
        }
        // LOCAL_PEERPID names the last that used the other end.
        Link::Unix(link) => match link.listener {
            Some(pid) => OtherEnd::Accepted(Holders { pids: vec![pid], ..Holders::default() }),
            None => OtherEnd::Gone,
        },
    }
}

/// Which of several sockets somebody has is not told: whoever has one of them counts as having all.
pub(super) fn listeners(link: &Link) -> Option<Holders> {
    let Link::Tcp(local, peer) = link else { return None };
    Some(holders(*local, *peer, SocketPart::Listens))
}

pub(super) fn is_hidden(_: Pid) -> bool {
    false
}

pub(super) fn has_ring(_: Pid) -> bool {
    false
}

/// Who has a socket that takes this part. Without root other users' processes tell nothing (EPERM).
fn holders(local: SocketAddr, peer: SocketAddr, wanted: SocketPart) -> Holders {
    let mut found = Holders::default();
    let (mut hidden, mut foreign) = (false, false);
    for pid in Table::read().entries().iter().map(|entry| entry.identity.pid) {
        let fds = match sockets(pid) {
            Ok(fds) => fds,
            Err(cause) => {
                hidden |= cause.kind() == ErrorKind::PermissionDenied;
                continue;
            }
        };
        let takes_part = |info: &[u8; fdinfo::SIZE]| fdinfo::part(info, local, peer) == Some(wanted);
        if let Some(info) = fds.into_iter().filter_map(|fd| socket_info(pid, fd)).find(takes_part) {
            foreign |= fdinfo::owner(&info) != user::own_uid();
            found.pids.push(pid);
        }
    }
    found.unseen = found.pids.is_empty();
    found.partial = hidden && foreign;
    found
}

/// Two 32-bit words for each descriptor: its number and its type. What fills the whole room may have been
/// cut.
fn sockets(pid: Pid) -> Result<Vec<i32>> {
    let mut words = Vec::new();
    for _ in 0..TRIES {
        let needed = list(pid, &mut [])?;
        // Room for those that are opened meanwhile.
        words = vec![0u32; needed + 2 * 64];
        let got = list(pid, &mut words)?;
        let whole = got < words.len();
        words.truncate(got);
        if whole {
            break;
        }
    }
    let sockets = words.chunks_exact(2).filter(|one| one[1] == PROX_FDTYPE_SOCKET);
    Ok(sockets.filter_map(|one| i32::try_from(one[0]).ok()).collect())
}

/// Fills `words` with descriptors, and tells how many words were written; without room for any, how many
/// there would be.
fn list(pid: Pid, words: &mut [u32]) -> Result<usize> {
    let size = i32::try_from(size_of_val(words)).unwrap_or(i32::MAX);
    let room = if words.is_empty() { std::ptr::null_mut() } else { words.as_mut_ptr().cast() };
    // SAFETY: the buffer holds `size` bytes, or is null, which asks for the size alone.
    let got = unsafe { libc::proc_pidinfo(pid.number(), PROC_PIDLISTFDS, 0, room, size) };
    // Nothing is told as 0, with errno.
    usize::try_from(got).ok().filter(|got| *got > 0).map(|got| got / 4).ok_or_else(Error::last_os_error)
}

fn socket_info(pid: Pid, fd: i32) -> Option<[u8; fdinfo::SIZE]> {
    let mut buffer = [0u8; fdinfo::SIZE];
    let size = i32::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer holds `size` bytes.
    let got = unsafe {
        libc::proc_pidfdinfo(pid.number(), fd, PROC_PIDFDSOCKETINFO, buffer.as_mut_ptr().cast(), size)
    };
    (got == size).then_some(buffer)
}
