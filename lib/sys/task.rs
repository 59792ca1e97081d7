//! Many questions in one thread. A task is a future that says what it waits for (descriptors, a time, or a
//! helper thread that wakes it) and is polled again when that has come. `Tasks` runs many of them for a loop
//! that waits for other things too; `block_on` runs one to its end.
//!
//! What a future waits for is laid down aside of it, so futures of other libraries' event loops cannot run
//! here. Each wait may end early, and whoever waits looks again.

pub mod pool;

use crate::sys::poll::{self, For};
use crate::sys::poller::Poller;
use crate::sys::signal::Bell;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// What a task that is not finished waits for.
#[derive(Default)]
struct Wants {
    fds: Vec<(RawFd, For)>,
    until: Option<Instant>,
}

thread_local! {
    /// What the task that runs in this thread waits for, once it has to wait.
    static WANTS: RefCell<Wants> = RefCell::default();
    /// Whether another thread may end the wait by a word.
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

/// Says what it waits for, and is over when it is polled again.
struct Pause(Option<Wants>);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.take() {
            Some(wants) => {
                WANTS.set(wants);
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

/// Waits until one of `fds` is ready or `until` comes. Says which are ready: none at that time.
///
/// # Errors
/// Those of poll(2).
pub async fn ready(fds: &[(BorrowedFd<'_>, For)], until: Instant) -> io::Result<Vec<bool>> {
    loop {
        let now = Instant::now();
        // What happens on this machine has often happened already.
        let ready = poll::wait(fds, Some(now))?;
        if now >= until || ready.contains(&true) {
            return Ok(ready);
        }
        let fds = fds.iter().map(|(fd, what)| (fd.as_raw_fd(), *what)).collect();
        Pause(Some(Wants { fds, until: Some(until) })).await;
    }
}

/// Waits until `until`.
pub async fn sleep(until: Instant) {
    while Instant::now() < until {
        Pause(Some(Wants { fds: Vec::new(), until: Some(until) })).await;
    }
}

/// `future`, unless `stop` says at one of its looks, which are `tick` apart, that it is to end: then it is
/// left as it is, and the answer is `None`.
pub async fn unless<T>(
    future: impl Future<Output = T>,
    tick: Duration,
    stop: &dyn Fn() -> bool,
) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        if stop() {
            WANTS.take();
            return Poll::Ready(None);
        }
        let look = Instant::now() + tick;
        WANTS.with_borrow_mut(|wants| wants.until = Some(wants.until.map_or(look, |until| until.min(look))));
        Poll::Pending
    })
    .await
}

/// Waits until another thread wakes the task, or `until` comes, or sooner: whoever calls looks again.
async fn woken(until: Instant) {
    Pause(Some(Wants { fds: Vec::new(), until: Some(until) })).await;
}

/// The waker of the task that runs.
async fn own_waker() -> Waker {
    std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await
}

/// A word from another thread that a task shall end.
#[derive(Debug, Default)]
pub struct Cancel {
    set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Cancel {
    /// Says it; a task that listens is polled again.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Whether it was said; from now on the word ends the next wait of this task.
    pub async fn is_set(&self) -> bool {
        LISTENS.set(true);
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(own_waker().await);
        self.set.load(Ordering::SeqCst)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a task to its end; this thread does nothing else meanwhile.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let Wants { fds, until } = WANTS.take();
        if fds.is_empty() {
            match until {
                Some(until) => std::thread::park_timeout(until.saturating_duration_since(Instant::now())),
                None => std::thread::park(),
            }
            continue;
        }
        // SAFETY: the future, which is not polled meanwhile, has them open.
        let fds: Vec<_> =
            fds.iter().map(|(fd, what)| (unsafe { BorrowedFd::borrow_raw(*fd) }, *what)).collect();
        // In poll(2) no other thread can wake us.
        let soon = LISTENS.take().then(|| Instant::now() + LOOK);
        if poll::wait(&fds, until.into_iter().chain(soon).min()).is_err() {
            std::thread::sleep(LOOK);
        }
    }
}

/// Between two looks of a thread that waits for descriptors at what another may have told it.
const LOOK: Duration = Duration::from_millis(10);
/// The key of our own bell in the poller.
const BELL: u64 = u64::MAX;

/// The tasks that other threads have woken.
struct WokenTasks {
    keys: Mutex<Vec<usize>>,
    bell: Bell,
}

struct TaskWaker {
    key: usize,
    woken: Arc<WokenTasks>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.keys.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.woken.bell.ring();
    }
}

struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    waker: Waker,
    wants: Wants,
}

/// Tasks that run in the thread that has them, each under a small number of its own.
pub struct Tasks<'a, T> {
    tasks: Vec<Option<Task<'a, T>>>,
    poller: Poller,
    woken: Arc<WokenTasks>,
    times: BTreeSet<(Instant, usize)>,
    fresh: Vec<usize>,
}

impl<'a, T> Tasks<'a, T> {
    /// None yet.
    ///
    /// # Errors
    /// Those of making a poller and a pipe.
    pub fn new() -> io::Result<Tasks<'a, T>> {
        let (poller, bell) = (Poller::new()?, Bell::new()?);
        poller.add(bell.fd(), BELL)?;
        let woken = Arc::new(WokenTasks { keys: Mutex::default(), bell });
        Ok(Tasks { tasks: Vec::new(), poller, woken, times: BTreeSet::new(), fresh: Vec::new() })
    }

    /// Starts a task; one that has the number `key` already is dropped. It runs with the next `run`.
    pub fn start(&mut self, key: usize, future: Pin<Box<dyn Future<Output = T> + 'a>>) {
        if self.tasks.len() <= key {
            self.tasks.resize_with(key + 1, || None);
        }
        self.rest(key);
        let waker = Waker::from(Arc::new(TaskWaker { key, woken: Arc::clone(&self.woken) }));
        self.tasks[key] = Some(Task { future, waker, wants: Wants::default() });
        self.fresh.push(key);
    }

    /// Readable when `run` has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.poller.fd()
    }

    /// When `run` has something to do, if nothing happens before.
    pub fn wake(&self) -> Option<Instant> {
        if !self.fresh.is_empty() {
            return Some(Instant::now());
        }
        self.times.first().map(|(time, _)| *time)
    }

    /// Runs what can go on; what has ended by that. Does not wait. `woken` says whether `fd` may be readable.
    pub fn run(&mut self, woken: bool) -> Vec<(usize, T)> {
        let mut keys = std::mem::take(&mut self.fresh);
        let ready = if woken { self.poller.ready() } else { Vec::new() };
        for key in ready {
            match usize::try_from(key) {
                Ok(key) if key < self.tasks.len() => keys.push(key),
                _ => {
                    self.woken.bell.silence();
                    keys.append(&mut self.woken.keys.lock().unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        let now = Instant::now();
        keys.extend(self.times.iter().take_while(|(time, _)| *time <= now).map(|(_, key)| *key));
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| Some((key, self.poll(key)?))).collect()
    }

    fn poll(&mut self, key: usize) -> Option<T> {
        self.rest(key);
        let task = self.tasks.get_mut(key)?.as_mut()?;
        match task.future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
            Poll::Ready(value) => {
                self.tasks[key] = None;
                Some(value)
            }
            Poll::Pending => {
                let mut wants = WANTS.take();
                let number = u64::try_from(key).unwrap_or(BELL);
                wants.fds.sort_unstable_by_key(|(fd, _)| *fd);
                for same in wants.fds.chunk_by(|(one, _), (other, _)| one == other) {
                    let what: Vec<For> = same.iter().map(|(_, what)| *what).collect();
                    // SAFETY: the future, which is not polled meanwhile, has it open.
                    let fd = unsafe { BorrowedFd::borrow_raw(same[0].0) };
                    if self.poller.add_for(fd, &what, number).is_err() {
                        let soon = Instant::now() + LOOK;
                        wants.until = Some(wants.until.map_or(soon, |until| until.min(soon)));
                    }
                }
                self.times.extend(wants.until.map(|until| (until, key)));
                task.wants = wants;
                None
            }
        }
    }

    /// What a task has waited for is not waited for any more: it may close it when it is polled or dropped.
    fn rest(&mut self, key: usize) {
        let Some(task) = self.tasks.get_mut(key).and_then(Option::as_mut) else { return };
        let wants = std::mem::take(&mut task.wants);
        for (fd, what) in wants.fds {
            // SAFETY: the future, which was not polled since, has it open.
            self.poller.remove_for(unsafe { BorrowedFd::borrow_raw(fd) }, &[what]);
        }
        if let Some(until) = wants.until {
            self.times.remove(&(until, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Runs tasks until so many have ended.
    fn ended<'a>(tasks: &mut Tasks<'a, u32>, count: usize) -> Vec<(usize, u32)> {
        let (mut all, end) = (Vec::new(), late());
        while all.len() < count && Instant::now() < end {
            all.extend(tasks.run(true));
            if all.len() < count {
                let until = tasks.wake().map_or(end, |wake| wake.min(end));
                poll::wait(&[(tasks.fd(), For::Reading)], Some(until)).unwrap();
            }
        }
        all
    }

    #[test]
    fn tasks_go_on_when_what_they_wait_for_has_come() {
        let (reader, mut writer) = io::pipe().unwrap();
        let job = pool::Pool::leaked(1).run(|| 7).unwrap();
        let mut tasks = Tasks::new().unwrap();
        tasks.start(
            5,
            Box::pin(async { u32::from(ready(&[(reader.as_fd(), For::Reading)], late()).await.unwrap()[0]) }),
        );
        tasks.start(1, Box::pin(async { job.result(late()).await.unwrap() }));
        tasks.start(
            0,
            Box::pin(async {
                sleep(Instant::now() + Duration::from_millis(5)).await;
                3
            }),
        );
        let mut both = ended(&mut tasks, 2);
        both.sort_unstable();
        assert_eq!(both, [(0, 3), (1, 7)]);
        writer.write_all(b"x").unwrap();
        assert_eq!(ended(&mut tasks, 1), [(5, 1)]);
    }

    #[test]
    fn one_descriptor_may_be_waited_for_to_read_and_to_write() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        while nix::unistd::write(&theirs, &[0; 4096]).is_ok() {}
        let mut tasks = Tasks::new().unwrap();
        let both = [(theirs.as_fd(), For::Reading), (theirs.as_fd(), For::Writing)];
        tasks.start(
            0,
            Box::pin(async move {
                match ready(&both, late()).await.unwrap()[..] {
                    [read, write] => u32::from(read) + 2 * u32::from(write),
                    _ => 9,
                }
            }),
        );
        assert!(tasks.run(true).is_empty());
        ours.write_all(b"x").unwrap();
        assert_eq!(ended(&mut tasks, 1), [(0, 1)]);
    }

    #[test]
    fn what_is_not_ready_in_time_is_not_ready() {
        let (reader, _writer) = io::pipe().unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(block_on(ready(&[(reader.as_fd(), For::Reading)], soon)).unwrap(), [false]);
        assert!(Instant::now() >= soon);
    }

    /// The descriptor of one that was dropped may be another's the next moment.
    #[test]
    fn a_task_that_was_dropped_waits_for_nothing() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut tasks = Tasks::new().unwrap();
        let fd = reader.as_fd();
        tasks.start(
            0,
            Box::pin(async move {
                let _ = ready(&[(fd, For::Reading)], late()).await;
                1
            }),
        );
        assert!(tasks.run(true).is_empty());
        tasks.start(0, Box::pin(std::future::pending()));
        assert!(tasks.run(true).is_empty() && tasks.wake().is_none());
        writer.write_all(b"x").unwrap();
        assert!(tasks.poller.ready().is_empty());
    }

    #[test]
    fn a_word_from_another_thread_ends_a_wait() {
        let (cancel, (reader, _writer)) = (Cancel::default(), io::pipe().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| cancel.set());
            block_on(async {
                while !cancel.is_set().await {
                    let fd = reader.as_fd();
                    Pause(Some(Wants { fds: vec![(fd.as_raw_fd(), For::Reading)], until: None })).await;
                }
            });
        });
    }
}
