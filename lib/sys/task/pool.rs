//! A few threads for what can only be waited for by a thread: the name service, a manager's tool.

use super::{own_waker, woken};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// Threads that end when there is nothing to do; never more of them than the limit, whatever hangs.
pub struct Pool {
    limit: usize,
    state: Mutex<PoolState>,
}

struct PoolState {
    threads: usize,
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
}

/// Something that a thread does, for one or several who wait.
pub struct ThreadJob<T>(Mutex<ThreadJobState<T>>);

struct ThreadJobState<T> {
    begun: bool,
    result: Option<(Instant, T)>,
    waiting: Vec<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// At most `limit` threads.
    pub const fn new(limit: usize) -> Pool {
        Pool { limit, state: Mutex::new(PoolState { threads: 0, queue: VecDeque::new() }) }
    }

    /// One for a test.
    #[cfg(test)]
    pub(crate) fn leaked(limit: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(limit)))
    }

    /// How many threads there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Does `work` as soon as a thread is free; not at all if nobody waits for it any more by then.
    ///
    /// # Errors
    /// Those of starting the only thread.
    pub fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Arc<ThreadJob<T>>> {
        let job = Arc::new(ThreadJob(Mutex::new(ThreadJobState {
            begun: false,
            result: None,
            waiting: Vec::new(),
        })));
        let own = Arc::clone(&job);
        let mut state = lock(&self.state);
        state.queue.push_back(Box::new(move || {
            if Arc::strong_count(&own) == 1 {
                return;
            }
            lock(&own.0).begun = true;
            let value = work();
            let mut state = lock(&own.0);
            state.result = Some((Instant::now(), value));
            state.waiting.drain(..).for_each(Waker::wake);
        }));
        if state.threads < self.limit {
            match std::thread::Builder::new().spawn(|| self.work()) {
                Ok(_) => state.threads += 1,
                Err(cause) if state.threads == 0 => {
                    state.queue.clear();
                    return Err(cause);
                }
                Err(_) => {}
            }
        }
        Ok(job)
    }

    fn work(&self) {
        loop {
            let mut state = lock(&self.state);
            let Some(work) = state.queue.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            work();
        }
    }
}

impl<T: Clone> ThreadJob<T> {
    /// Waits for the result; `None` where there is none at `until`.
    pub async fn result(&self, until: Instant) -> Option<T> {
        let waker = own_waker().await;
        loop {
            {
                let mut state = lock(&self.0);
                if let Some((_, value)) = &state.result {
                    return Some(value.clone());
                }
                if !state.waiting.iter().any(|one| one.will_wake(&waker)) {
                    state.waiting.push(waker.clone());
                }
            }
            if Instant::now() >= until {
                return None;
            }
            woken(until).await;
        }
    }

    /// Whether a thread has begun with it.
    pub fn begun(&self) -> bool {
        lock(&self.0).begun
    }

    /// When it was done, and its result.
    pub fn done(&self) -> Option<(Instant, T)> {
        lock(&self.0).result.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::task::block_on;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn never_more_threads_than_the_limit_and_what_nobody_waits_for_is_not_done() {
        let pool = Pool::leaked(2);
        let (asked, hangs) = (channel::<()>(), channel::<()>());
        let hang = Arc::new(Mutex::new(hangs.1));
        let stuck: Vec<_> = (0..2)
            .map(|_| {
                let hang = Arc::clone(&hang);
                pool.run(move || lock(&hang).recv().is_ok()).unwrap()
            })
            .collect();
        let third = pool.run(|| 3).unwrap();
        drop(pool.run(move || asked.0.send(())).unwrap());
        let now = Instant::now();
        assert_eq!(block_on(third.result(now + Duration::from_millis(20))), None);
        assert!(!third.begun() && lock(&pool.state).threads == 2);
        drop(hangs.0);
        let late = now + Duration::from_secs(60);
        assert_eq!(block_on(third.result(late)), Some(3));
        assert!(stuck.iter().all(|one| block_on(one.result(late)).is_some()));
        assert!(asked.1.recv_timeout(Duration::from_secs(60)).is_err(), "it was done for nobody");
    }
}
