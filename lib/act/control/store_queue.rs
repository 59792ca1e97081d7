//! The queue between many requests and one store: what waits while the disk is busy is written together, and
//! reaches the disk with one sync.

use crate::store::{ControlStore, StoreReply, StoreRequest};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many requests may wait; who comes then is told that we are busy.
const QUEUE: usize = 16_384;
/// How many threads ask a store that is best asked one by one, for it is elsewhere.
const STORE_THREADS: usize = 16;
/// How long it is believed that a store can be written to.
const WRITTEN: Duration = Duration::from_secs(1);

/// Opens the store, once for each thread.
pub type StoreOpener = dyn Fn() -> Result<Box<dyn ControlStore>> + Send + Sync;

struct QueuedChange {
    ask: StoreRequest,
    reply: oneshot::Sender<Result<StoreReply>>,
}

type QueuedRead = Box<dyn FnOnce(&dyn ControlStore) + Send>;

/// The queue of a store, and the threads that serve it.
#[derive(Clone)]
pub struct StoreQueue {
    changes: SyncSender<QueuedChange>,
    looks: SyncSender<QueuedRead>,
    /// How many times changes were written, and how many changes.
    counts: Arc<(AtomicU64, AtomicU64)>,
    /// When it was last seen that the store can be written to.
    written: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl StoreQueue {
    /// Opens the store and begins to serve it.
    ///
    /// # Errors
    /// Those of the store, and of starting threads.
    pub fn open(opener: &StoreOpener) -> Result<StoreQueue> {
        let first = opener()?;
        let batch = first.batch();
        let threads = if batch > 1 { 1 } else { STORE_THREADS };
        let (changes, queue) = sync_channel::<QueuedChange>(QUEUE);
        let (looks, questions) = sync_channel::<QueuedRead>(QUEUE);
        let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let queue = Arc::new(Mutex::new(queue));
        let mut stores = vec![first];
        for _ in 1..threads {
            stores.push(opener()?);
        }
        for store in stores {
            let (queue, counts) = (Arc::clone(&queue), Arc::clone(&counts));
            thread(move || {
                while let Some(jobs) = take(&queue, batch) {
                    counts.0.fetch_add(1, Ordering::Relaxed);
                    counts.1.fetch_add(jobs.len() as u64, Ordering::Relaxed);
                    let (asks, replies): (Vec<StoreRequest>, Vec<_>) =
                        jobs.into_iter().map(|job| (job.ask, job.reply)).unzip();
                    let said = store.together(&asks);
                    // Whoever has hung up wants no answer.
                    replies.into_iter().zip(said).for_each(|(reply, told)| drop(reply.send(told)));
                }
            })?;
        }
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..threads.min(4) {
            let (store, questions) = (opener()?, Arc::clone(&questions));
            thread(move || {
                while let Some(looks) = take(&questions, 1) {
                    looks.into_iter().for_each(|look| look(store.as_ref()));
                }
            })?;
        }
        Ok(StoreQueue { changes, looks, counts, written: Arc::default() })
    }

    /// Whether the store can be written to: tried, but no more than once in a moment, whoever asks.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<()> {
        let mut written = self.written.lock().await;
        if written.is_none_or(|at| at.elapsed() >= WRITTEN) {
            *written = None;
            self.change(StoreRequest::Probe).await?;
            *written = Some(Instant::now());
        }
        Ok(())
    }

    /// Has a change written, and waits until it is on the disk.
    ///
    /// # Errors
    /// Those of the store; 69 when too many wait already.
    pub async fn change(&self, ask: StoreRequest) -> Result<StoreReply> {
        let (reply, told) = oneshot::channel();
        self.changes.try_send(QueuedChange { ask, reply }).map_err(|_| busy())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Looks at the store.
    ///
    /// # Errors
    /// As `change`.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn ControlStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, told) = oneshot::channel();
        self.looks.try_send(Box::new(move |store| drop(reply.send(look(store))))).map_err(|_| busy())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// How many times changes were written, and how many changes that were.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.0.load(Ordering::Relaxed), self.counts.1.load(Ordering::Relaxed))
    }
}

fn busy() -> Error {
    Error::new(Status::Unavailable, "too many requests wait for the store")
}

fn gone() -> Error {
    Error::new(Status::Unavailable, "the store is being closed")
}

fn thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .spawn(work)
        .map(drop)
        .map_err(|cause| Error::io("cannot start a thread", &cause))
}

/// Waits for one, and takes what else is there, up to `most`; `None` when nobody can ask any more.
fn take<T>(queue: &Mutex<Receiver<T>>, most: usize) -> Option<Vec<T>> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut taken = vec![queue.recv().ok()?];
    taken.extend(queue.try_iter().take(most - 1));
    Some(taken)
}
