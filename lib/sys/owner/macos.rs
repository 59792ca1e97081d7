//! macOS: proc_pidfdinfo(PROC_PIDFDSOCKETINFO) over the descriptors of the candidates. Built and linked,
//! never run here.

use super::fdinfo::{self, SocketPart};
use super::{Holders, OtherEnd};
use crate::sys::net::Link;
use crate::sys::process::{Pid, Table};
use std::net::SocketAddr;

const PROC_PIDLISTFDS: i32 = 1;
const PROC_PIDFDSOCKETINFO: i32 = 3;
const PROX_FDTYPE_SOCKET: u32 = 2;
/// How often a list of descriptors may have outgrown the room that was made for it.
const TRIES: u32 = 8;

pub(super) fn other_end(link: &Link) -> OtherEnd {
    match link {
        Link::Tcp(local, peer) => {
            let pids = holders(*local, *peer, SocketPart::Accepted);
            if pids.is_empty() && !super::is_ours(peer.ip()) {
                return OtherEnd::Elsewhere { near: false, text: "it is on another machine".to_owned() };
            }
            // What waits in a queue and what was closed look the same: nobody has it.
            if pids.is_empty() {
                OtherEnd::Queued
            } else {
                OtherEnd::Accepted(Holders { pids, unseen: false })
            }
        }
        // LOCAL_PEERPID names the last that used the other end.
        Link::Unix(link) => match link.listener {
            Some(pid) => OtherEnd::Accepted(Holders { pids: vec![pid], unseen: false }),
            None => OtherEnd::Gone,
        },
    }
}

/// Which of several sockets somebody has is not told: whoever has one of them counts as having all.
pub(super) fn listeners(link: &Link) -> Option<Holders> {
    let Link::Tcp(local, peer) = link else { return None };
    let pids = holders(*local, *peer, SocketPart::Listens);
    Some(Holders { unseen: pids.is_empty(), pids })
}

pub(super) fn is_hidden(_: Pid) -> bool {
    false
}

pub(super) fn has_ring(_: Pid) -> bool {
    false
}

fn holders(local: SocketAddr, peer: SocketAddr, wanted: SocketPart) -> Vec<Pid> {
    let table = Table::read();
    let all = table.entries().iter().map(|entry| entry.identity.pid);
    all.filter(|pid| takes_part(*pid, local, peer, wanted)).collect()
}

fn takes_part(pid: Pid, local: SocketAddr, peer: SocketAddr, wanted: SocketPart) -> bool {
    sockets(pid).into_iter().any(|fd| socket_part(pid, fd, local, peer) == Some(wanted))
}

/// Two 32-bit words for each descriptor: its number and its type. What fills the whole room may have been
/// cut.
fn sockets(pid: Pid) -> Vec<i32> {
    let mut words = Vec::new();
    for _ in 0..TRIES {
        let Some(needed) = list(pid, &mut []) else { return Vec::new() };
        // Room for those that are opened meanwhile.
        words = vec![0u32; needed + 2 * 64];
        let Some(got) = list(pid, &mut words) else { return Vec::new() };
        let whole = got < words.len();
        words.truncate(got);
        if whole {
            break;
        }
    }
    words
        .chunks_exact(2)
        .filter(|one| one[1] == PROX_FDTYPE_SOCKET)
        .filter_map(|one| i32::try_from(one[0]).ok())
        .collect()
}

/// Fills `words` with descriptors, and tells how many words were written; without room for any, how many
/// there would be.
fn list(pid: Pid, words: &mut [u32]) -> Option<usize> {
    let size = i32::try_from(size_of_val(words)).ok()?;
    let room = if words.is_empty() { std::ptr::null_mut() } else { words.as_mut_ptr().cast() };
    // SAFETY: the buffer holds `size` bytes, or is null, which asks for the size alone.
    let got = unsafe { libc::proc_pidinfo(pid.number(), PROC_PIDLISTFDS, 0, room, size) };
    usize::try_from(got).ok().filter(|got| *got > 0).map(|got| got / 4)
}

fn socket_part(pid: Pid, fd: i32, local: SocketAddr, peer: SocketAddr) -> Option<SocketPart> {
    let mut buffer = [0u8; fdinfo::SIZE];
    let size = i32::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer holds `size` bytes.
    let got = unsafe {
        libc::proc_pidfdinfo(pid.number(), fd, PROC_PIDFDSOCKETINFO, buffer.as_mut_ptr().cast(), size)
    };
    if got == size { fdinfo::part(&buffer, local, peer) } else { None }
}
