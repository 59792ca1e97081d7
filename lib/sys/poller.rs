//! Many descriptors that are waited for together and for long: the kernel keeps the list (epoll(7),
//! kqueue(2)), so a wait costs what has come, not what there is.

use crate::sys::poll::For;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(not(target_os = "linux"))]
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

/// How many ready descriptors one look tells of; the rest comes with the next.
const AT_ONCE: usize = 256;

/// The list.
#[derive(Debug)]
pub struct Poller {
    #[cfg(target_os = "linux")]
    queue: nix::sys::epoll::Epoll,
    #[cfg(not(target_os = "linux"))]
    queue: Kqueue,
}

#[cfg(target_os = "linux")]
impl Poller {
    /// An empty list.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> io::Result<Poller> {
        let queue = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { queue })
    }

    /// From now on `ready` says `key` while `fd` has something to read, or is at its end.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        self.add_for(fd, &[For::Reading], key)
    }

    /// The same for all that is given; a descriptor may be in the list once.
    ///
    /// # Errors
    /// As `add`.
    pub fn add_for(&self, fd: BorrowedFd<'_>, what: &[For], key: u64) -> io::Result<()> {
        use nix::sys::epoll::{EpollEvent, EpollFlags};
        let flag =
            |what: &For| if *what == For::Reading { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
        Ok(self.queue.add(fd, EpollEvent::new(what.iter().map(flag).collect(), key))?)
    }

    /// Takes `fd` out, before it is closed.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        self.remove_for(fd, &[For::Reading]);
    }

    /// The same for one that was added for `what`.
    pub fn remove_for(&self, fd: BorrowedFd<'_>, _: &[For]) {
        let _ = self.queue.delete(fd);
    }

    /// Readable when something in the list is.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.queue.0.as_fd()
    }

    /// The keys of what is ready now. Does not wait.
    pub fn ready(&self) -> Vec<u64> {
        let mut events = [nix::sys::epoll::EpollEvent::empty(); AT_ONCE];
        let count = self.queue.wait(&mut events, nix::sys::epoll::EpollTimeout::ZERO).unwrap_or(0);
        events[..count].iter().map(|event| event.data()).collect()
    }
}

#[cfg(not(target_os = "linux"))]
impl Poller {
    /// An empty list.
    ///
    /// # Errors
    /// Those of kqueue(2).
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { queue: Kqueue::new()? })
    }

    /// From now on `ready` says `key` while `fd` has something to read, or is at its end.
    ///
    /// # Errors
    /// Those of kevent(2).
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        self.add_for(fd, &[For::Reading], key)
    }

    /// The same for all that is given; a descriptor may be in the list once.
    ///
    /// # Errors
    /// As `add`.
    pub fn add_for(&self, fd: BorrowedFd<'_>, what: &[For], key: u64) -> io::Result<()> {
        what.iter().try_for_each(|what| self.change(fd, *what, EvFlags::EV_ADD, key))
    }

    /// Takes `fd` out, before it is closed.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        self.remove_for(fd, &[For::Reading]);
    }

    /// The same for one that was added for `what`.
    pub fn remove_for(&self, fd: BorrowedFd<'_>, what: &[For]) {
        what.iter().for_each(|what| drop(self.change(fd, *what, EvFlags::EV_DELETE, 0)));
    }

    /// Readable when something in the list is.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// The keys of what is ready now. Does not wait.
    pub fn ready(&self) -> Vec<u64> {
        let none = KEvent::new(0, EventFilter::EVFILT_READ, EvFlags::empty(), FilterFlag::empty(), 0, 0);
        let mut events = [none; AT_ONCE];
        let at_once = Some(libc::timespec { tv_sec: 0, tv_nsec: 0 });
        let count = self.queue.kevent(&[], &mut events, at_once).unwrap_or(0);
        events[..count].iter().map(|event| event.udata() as u64).collect()
    }

    fn change(&self, fd: BorrowedFd<'_>, what: For, flags: EvFlags, key: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let number = fd.as_raw_fd() as usize;
        let reads = what == For::Reading;
        let filter = if reads { EventFilter::EVFILT_READ } else { EventFilter::EVFILT_WRITE };
        let change = KEvent::new(number, filter, flags, FilterFlag::empty(), 0, key as isize);
        let at_once = Some(libc::timespec { tv_sec: 0, tv_nsec: 0 });
        self.queue.kevent(&[change], &mut [], at_once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_what_is_ready_is_named_and_an_end_is_readiness() {
        let poller = Poller::new().unwrap();
        let pipes: Vec<_> = (0..3).map(|_| io::pipe().unwrap()).collect();
        pipes.iter().zip(7..).for_each(|((reader, _), key)| poller.add(reader.as_fd(), key).unwrap());
        assert!(poller.ready().is_empty());
        let mut pipes = pipes.into_iter();
        let (first, mut second, (third, end)) =
            (pipes.next().unwrap(), pipes.next().unwrap(), pipes.next().unwrap());
        second.1.write_all(b"x").unwrap();
        assert_eq!(poller.ready(), [8]);
        drop(end);
        let mut both = poller.ready();
        both.sort_unstable();
        assert_eq!(both, [8, 9]);
        poller.remove(third.as_fd());
        assert_eq!(poller.ready(), [8]);
        drop(first);
    }
}
