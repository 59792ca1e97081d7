//! Writing without ever waiting for whoever reads. What the system takes at once is written at once; the rest
//! goes through a bounded queue that a thread of its own empties. What does not fit is dropped, counted, and
//! told at its place as soon as there is room again.
//!
//! A descriptor that we share with others must not be made non-blocking: O_NONBLOCK belongs to the open
//! file, so that the shell and the command beside us would have it too. Nor is poll(2) enough: between it and
//! the write another process may fill the pipe, a terminal may be paused by ^S, and a disk is always "ready".
//! Hence the kernel is asked for a single write that does not wait (`write_at_once`), and where it cannot
//! promise that (terminals, most file systems, old kernels, macOS), the thread waits instead of the caller.
//! It is started with the first write that needs it and ends when there was nothing to write for a while,
//! so a program that is silent pays nothing for it.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most that is written in one call: what a pipe takes as a whole or not at all (PIPE_BUF), so that our
/// lines are not mixed with those of others who write to the same pipe.
const CHUNK: usize = 4096;
/// How long the thread stays when there is nothing to write: less than a loop waits before it gives memory
/// back, so that what the thread has touched is given back too.
const LINGER: Duration = Duration::from_millis(100);
/// How often it tries again to tell of losses.
const AGAIN: Duration = Duration::from_secs(1);
/// A reader that takes nothing for so long is not waited for by those who could leave their input unread.
const STUCK: Duration = Duration::from_secs(1);
/// What an item of the queue costs beside its bytes.
const ITEM: usize = 32;
/// The thread needs little: a chunk, and a few calls.
const STACK: usize = 64 * 1024;

/// Where bytes go in the end.
pub trait Target: Send {
    /// Writes some of `bytes`, and may wait for that.
    ///
    /// # Errors
    /// Those of write(2).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes some of `bytes` where that surely does not wait; `None` where nobody can promise it.
    fn write_at_once(&mut self, bytes: &[u8]) -> Option<io::Result<usize>>;

    /// That `lines` were lost, because of `why`: the words that stand at their place. `None` where that is
    /// told elsewhere.
    fn loss(&self, lines: u64, why: &str) -> Option<String>;
}

/// A target, and what was lost on its way there and is not told yet.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Kept>>);

struct Kept {
    target: Box<dyn Target>,
    lost: u64,
    why: String,
    /// Whether the last line there has no end.
    torn: bool,
}

impl Sink {
    /// A sink that ends at `target`.
    pub fn new(target: impl Target + 'static) -> Sink {
        let kept = Kept { target: Box::new(target), lost: 0, why: String::new(), torn: false };
        Sink(Arc::new(Mutex::new(kept)))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn same(&self, other: &Sink) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Kept {
    /// Writes what surely does not wait, and nothing while something is to be told first.
    fn write_at_once(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if self.lost > 0 {
            return None;
        }
        let outcome = self.target.write_at_once(bytes);
        match &outcome {
            Some(Ok(count)) => self.wrote(bytes, *count),
            Some(Err(cause)) => self.lose(bytes, cause),
            None => {}
        }
        outcome
    }

    /// Writes `bytes`, however long that takes, and first tells of what was lost before them. Whether
    /// something is still to be told.
    fn deliver(&mut self, bytes: &[u8]) -> bool {
        if self.lost > 0 {
            let words = self.target.loss(self.lost, &self.why).unwrap_or_default();
            let words = format!("{}{words}", if self.torn && !words.is_empty() { "\n" } else { "" });
            match self.write_all(words.as_bytes()) {
                Err((_, cause)) if !is_gone(&cause) => {
                    self.lost += lines(bytes);
                    return true;
                }
                _ => self.lost = 0,
            }
        }
        if let Err((written, cause)) = self.write_all(bytes) {
            self.lose(bytes.get(written..).unwrap_or_default(), &cause);
        }
        self.lost > 0
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::result::Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.target.write(rest) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.wrote(rest, count);
                    written += count;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err((written, cause)),
            }
        }
        Ok(())
    }

    fn wrote(&mut self, bytes: &[u8], count: usize) {
        if let Some(last) = count.checked_sub(1).and_then(|last| bytes.get(last)) {
            self.torn = *last != b'\n';
        }
    }

    fn lose(&mut self, bytes: &[u8], cause: &io::Error) {
        if !is_gone(cause) {
            (self.lost, self.why) = (lines(bytes), crate::words::error::reason(cause));
        }
    }
}

/// Nobody will ever read there, so there is nobody to tell either.
fn is_gone(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(libc::EPIPE | libc::EBADF | libc::EIO | libc::ENXIO | libc::ECONNRESET | libc::ENOTCONN)
    )
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What became of what was put.
#[derive(Debug)]
pub enum Put {
    /// It is written.
    Written,
    /// It waits for its turn.
    Waits,
    /// There was no room: it is dropped, and counted.
    Lost,
    /// It cannot be written, now or ever.
    Failed(io::Error),
}

/// A bounded queue and the thread that empties it, shared by all sinks that may hold each other up.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    limit: usize,
    state: Mutex<State>,
    /// Something was put.
    more: Condvar,
    /// Something was written.
    less: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    items: VecDeque<(Sink, What)>,
    /// How many of the items are losses.
    losses: usize,
    /// Whether there is a thread.
    thread: bool,
    /// Since when it writes what it has taken.
    writing: Option<Instant>,
    /// Sinks that could not be told yet what was lost.
    owing: Vec<Sink>,
}

enum What {
    /// The next so many bytes.
    Text(usize),
    /// So many lines were lost here.
    Lost(u64),
}

impl Outlet {
    /// One that holds `limit` bytes at most.
    pub fn new(limit: usize) -> Outlet {
        let state = Mutex::new(State::default());
        Outlet(Arc::new(Shared { limit, state, more: Condvar::new(), less: Condvar::new() }))
    }

    /// Puts `bytes` on their way to `sink`; never waits.
    pub fn put(&self, sink: &Sink, bytes: &[u8]) -> Put {
        let mut state = self.0.lock();
        // After a loss there must be room for more than a line, or it would be told of each line anew.
        let room = if state.has_lost(sink) { self.0.limit / 2 } else { self.0.limit };
        let mut rest = bytes;
        if state.is_idle() {
            match sink.lock().write_at_once(bytes) {
                Some(Ok(count)) if count == bytes.len() => return Put::Written,
                Some(Ok(count)) => rest = bytes.get(count..).unwrap_or_default(),
                Some(Err(cause)) => return Put::Failed(cause),
                None => {}
            }
        }
        if state.size() + rest.len() + ITEM > room {
            state.lose(sink, lines(rest));
            return Put::Lost;
        }
        state.bytes.extend(rest);
        match state.items.back_mut() {
            Some((last, What::Text(length))) if last.same(sink) => *length += rest.len(),
            _ => state.items.push_back((sink.clone(), What::Text(rest.len()))),
        }
        self.0.ensure_thread(&mut state);
        Put::Waits
    }

    /// Puts `bytes` only where nothing waits before them, so that they are not old when they are read. They
    /// are not counted where they are dropped. Whether they were put.
    pub fn put_if_idle(&self, sink: &Sink, bytes: &[u8]) -> bool {
        let idle = self.0.lock().is_idle();
        idle && matches!(self.put(sink, bytes), Put::Written | Put::Waits)
    }

    /// Whether it is time to leave unread what would be put here: the queue is half full, and it moves. One
    /// that does not move is not waited for.
    pub fn is_congested(&self) -> bool {
        let state = self.0.lock();
        let moves = state.thread && state.writing.is_none_or(|since| since.elapsed() < STUCK);
        moves && state.size() > self.0.limit / 2
    }

    /// Waits until it is no longer congested, at most until `until`.
    pub fn wait_for_room(&self, until: Instant) {
        let mut state = self.0.lock();
        while state.size() > self.0.limit / 2 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.less.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until all is written, at most until `until`; whether it is.
    pub fn flush(&self, until: Instant) -> bool {
        let mut state = self.0.lock();
        while !state.is_idle() {
            self.0.ensure_thread(&mut state);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.less.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.items.is_empty() && self.writing.is_none()
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.items.len() * ITEM
    }

    /// Whether the last that came to `sink` was lost.
    fn has_lost(&self, sink: &Sink) -> bool {
        let last = || self.items.iter().rev().find(|(other, _)| other.same(sink));
        self.losses > 0 && last().is_some_and(|(_, what)| matches!(what, What::Lost(_)))
    }

    fn lose(&mut self, sink: &Sink, count: u64) {
        match self.items.iter_mut().rev().find(|(other, _)| other.same(sink)) {
            Some((_, What::Lost(lost))) => *lost += count,
            _ if count > 0 => {
                self.items.push_back((sink.clone(), What::Lost(count)));
                self.losses += 1;
            }
            _ => {}
        }
    }

    /// Takes what is to be written next: whole lines where a chunk holds any.
    fn next(&mut self, chunk: &mut Vec<u8>) -> Option<Sink> {
        chunk.clear();
        let (sink, what) = self.items.front_mut()?;
        let sink = sink.clone();
        let over = match what {
            What::Lost(count) => {
                let mut kept = sink.lock();
                kept.lost += *count;
                kept.why = "nobody read them".to_owned();
                self.losses -= 1;
                true
            }
            What::Text(length) => {
                let most = (*length).min(CHUNK);
                let (first, second) = self.bytes.as_slices();
                let (from_first, from_second) = (most.min(first.len()), most.saturating_sub(first.len()));
                chunk.extend_from_slice(&first[..from_first]);
                chunk.extend_from_slice(&second[..from_second]);
                if let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') {
                    chunk.truncate(end + 1);
                }
                self.bytes.drain(..chunk.len());
                *length -= chunk.len();
                *length == 0
            }
        };
        if over {
            self.items.pop_front();
        }
        if self.items.is_empty() {
            // The memory of a burst is not kept for ever.
            (self.bytes, self.items) = (VecDeque::new(), VecDeque::new());
        }
        Some(sink)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without a thread, which the system may refuse, what waits goes on waiting until the next call.
    fn ensure_thread(self: &Arc<Shared>, state: &mut State) {
        if state.thread {
            self.more.notify_one();
            return;
        }
        let shared = Arc::clone(self);
        state.thread = unheard(move || shared.work());
    }

    fn work(&self) {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut state = self.lock();
        loop {
            while let Some(sink) = state.next(&mut chunk) {
                state.writing = Some(Instant::now());
                drop(state);
                let owes = sink.lock().deliver(&chunk);
                state = self.lock();
                state.writing = None;
                state.owing.retain(|other| !other.same(&sink));
                if owes {
                    state.owing.push(sink);
                }
                self.less.notify_all();
            }
            let pause = if state.owing.is_empty() { LINGER } else { AGAIN };
            let (woken, waited) =
                self.more.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if !waited.timed_out() || !state.items.is_empty() {
                continue;
            }
            if state.owing.is_empty() {
                state.thread = false;
                return;
            }
            for sink in std::mem::take(&mut state.owing) {
                state.items.push_back((sink, What::Text(0)));
            }
        }
    }
}

/// Starts a thread that no signal interrupts: they are all for the loop. Whether it was started.
fn unheard(work: impl FnOnce() + Send + 'static) -> bool {
    // A thread inherits the mask of the one that starts it.
    let mut before = SigSet::empty();
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before));
    let started = std::thread::Builder::new().stack_size(STACK).spawn(work).is_ok();
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    started
}

/// Writes some of `bytes` to `fd` if the kernel promises not to wait; `None` where it does not.
pub fn write_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> Option<io::Result<usize>> {
    match direct(fd, bytes) {
        Ok(count) => Some(Ok(count)),
        Err(cause) if is_gone(&cause) || cause.kind() == io::ErrorKind::StorageFull => Some(Err(cause)),
        // It would wait, or does not know how not to, or may not try.
        Err(_) => None,
    }
}

/// A pipe or a file takes a write that does not wait since Linux 6.5 or so, each in its own release; the
/// kernel refuses where the file cannot.
#[cfg(target_os = "linux")]
fn direct(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if is_socket(fd) {
        return send(fd, bytes);
    }
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one part that describes `bytes`, which the kernel only reads; -1 is the file's own position.
    let count = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            fd.as_raw_fd(),
            &raw const part,
            1_usize,
            -1_isize,
            -1_isize,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(not(target_os = "linux"))]
fn direct(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if is_socket(fd) { send(fd, bytes) } else { Err(io::ErrorKind::Unsupported.into()) }
}

fn is_socket(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFSOCK)
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    use nix::sys::socket::MsgFlags;
    Ok(nix::sys::socket::send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    /// A disk that is stuck while the gate is locked, and full while it says so.
    #[derive(Clone, Default)]
    struct Disk {
        gate: Arc<Mutex<()>>,
        full: Arc<Mutex<bool>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Disk {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
        }
    }

    impl Target for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gate = self.gate.lock().unwrap();
            if *self.full.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(7);
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn write_at_once(&mut self, _: &[u8]) -> Option<io::Result<usize>> {
            None
        }

        fn loss(&self, lines: u64, why: &str) -> Option<String> {
            Some(format!("{lines} lost: {why}\n"))
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn what_does_not_fit_is_counted_at_its_place() {
        let disk = Disk::default();
        let (outlet, sink) = (Outlet::new(1024), Sink::new(disk.clone()));
        let other = Disk::default();
        let aside = Sink::new(other.clone());
        let gate = disk.gate.lock().unwrap();
        let mut lost = 0;
        for number in 0..100 {
            if matches!(outlet.put(&sink, format!("line {number} of a hundred\n").as_bytes()), Put::Lost) {
                lost += 1;
            }
        }
        // As much as is kept, and once more what was being written by then.
        assert!((1..70).contains(&lost), "{lost}");
        assert!(matches!(outlet.put(&aside, b"besides\n"), Put::Lost | Put::Waits));
        assert!(!outlet.put_if_idle(&sink, b"a picture"));
        assert!(!outlet.flush(Instant::now()) && outlet.is_congested());
        drop(gate);
        outlet.wait_for_room(soon());
        assert!(outlet.flush(soon()));
        outlet.put(&sink, b"again\n");
        assert!(outlet.flush(soon()));
        let text = disk.text();
        let lines: Vec<&str> = text.lines().collect();
        let told = lines.iter().position(|line| line.contains("lost")).unwrap();
        assert_eq!(lines[told], format!("{lost} lost: nobody read them"));
        assert_eq!(lines[told - 1], format!("line {} of a hundred", 99 - lost));
        assert_eq!(lines[told + 1..], ["again"]);
        assert!(other.text().lines().count() == 1);
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_told_when_there_is_room() {
        let disk = Disk::default();
        let (outlet, sink) = (Outlet::new(1024), Sink::new(disk.clone()));
        outlet.put(&sink, b"one\n");
        assert!(outlet.flush(soon()));
        *disk.full.lock().unwrap() = true;
        for _ in 0..3 {
            outlet.put(&sink, b"lost\n");
            assert!(outlet.flush(soon()));
        }
        *disk.full.lock().unwrap() = false;
        // Without another line, too.
        let until = soon();
        while disk.text() == "one\n" {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(disk.text(), "one\n3 lost: no storage space\n");
    }

    #[test]
    fn a_thread_that_has_nothing_to_do_ends() {
        let disk = Disk::default();
        let (outlet, sink) = (Outlet::new(1024), Sink::new(disk.clone()));
        outlet.put(&sink, b"one\n");
        let until = soon();
        while outlet.0.lock().thread {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        outlet.put(&sink, b"two\n");
        assert!(outlet.flush(soon()));
        assert_eq!(disk.text(), "one\ntwo\n");
    }

    #[test]
    fn what_the_system_takes_at_once_is_written_at_once() {
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(write_at_once(writer.as_fd(), b"socket").unwrap().unwrap(), 6);
        let mut bytes = [0; 6];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"socket");
        // One that is full takes some or nothing, and does not wait.
        while write_at_once(writer.as_fd(), &[0; 4096]).is_some() {}
        drop(reader);
        assert!(write_at_once(writer.as_fd(), b"x").unwrap().is_err());
        let (reader, writer) = std::io::pipe().unwrap();
        while write_at_once(writer.as_fd(), &[0; 4096]).is_some_and(|written| written.is_ok()) {}
        assert!(write_at_once(writer.as_fd(), b"x").is_none());
        drop(reader);
        // Without a way to ask for it the thread finds out.
        assert!(write_at_once(writer.as_fd(), b"x").is_none_or(|written| written.is_err()));
        let file = tempfile::tempfile().unwrap();
        if let Some(written) = write_at_once(file.as_fd(), b"file") {
            assert_eq!(written.unwrap(), 4);
            (&file).write_all(b" goes on").unwrap();
            assert_eq!(file.metadata().unwrap().len(), 12);
        }
    }
}
