//! The last resort: a stop that is not over in time ends the keeper from aside, whatever it waits for.

use super::lives::LifeOutlines;
use super::stability::{self, RecentEvents};
use crate::sys::child::{self, Signal};
use crate::sys::say;
use crate::words::exit::Status;
use crate::words::span;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long the bundle may take.
const BUNDLE: Duration = Duration::from_secs(1);

/// A watchdog that is armed until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    _leash: Sender<()>,
}

impl Watchdog {
    /// Unless it is dropped before `limit` is over, every life of `lives` is killed, a bundle of `story` is
    /// written for `reason`, and the process ends with 1. Without a thread there is no watchdog.
    /// `fired` is set before that, so that nobody takes what it has killed for a stop that went well.
    pub(super) fn arm(
        limit: Duration,
        reason: &'static str,
        story: &RecentEvents,
        fired: &Arc<AtomicBool>,
        lives: LifeOutlines,
    ) -> Option<Watchdog> {
        let (leash, watch) = channel::<()>();
        let (story, fired) = (story.clone(), Arc::clone(fired));
        let work = move || {
            if watch.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            fired.store(true, Ordering::SeqCst);
            let text =
                format!("the stop is not over within {}; ending without a full cleanup", span::show(limit));
            say::error(&text);
            let lives = lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for life in &lives {
                life.end(Signal::SIGKILL, Duration::ZERO);
            }
            story.note("watchdog");
            if let Some(Ok(path)) = stability::bundle_within(&story, reason, text, BUNDLE) {
                say::error(&format!("wrote '{}'", path.display()));
            }
            say::finish();
            child::end_now(Status::No.code());
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(work).ok()?;
        Some(Watchdog { _leash: leash })
    }
}
