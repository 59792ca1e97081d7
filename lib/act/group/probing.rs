//! Probes, asked aside: a question that hangs costs a thread until its time is over, and holds up nobody
//! else.

use crate::act::group::machine::Said;
use crate::probe::liveness;
use crate::probe::pace::{self, PollProgress};
use crate::probe::{Cost, Probe};
use crate::sys::process::Pid;
use crate::sys::signal::Bell;
use crate::words::error::{Error, Result};
use crate::words::failure::Failure;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many may hang at once.
const THREADS: usize = 256;
/// What a thread needs: a probe resolves names and speaks TLS.
const STACK: usize = 512 * 1024;

/// A question to ask.
pub(super) struct Question {
    /// Of whom: the slot and its life.
    pub(super) of: (u64, u64),
    /// What it is about.
    pub(super) about: About,
    /// The question.
    pub(super) probe: Arc<dyn Probe>,
    /// How long its answer may take.
    pub(super) timeout: Duration,
    /// How long this life has lasted, and how often it was asked.
    pub(super) age: Duration,
    /// How often it was asked before.
    pub(super) tries: u32,
}

/// What an entry is asked for.
#[derive(Clone, Copy)]
pub(super) enum About {
    /// Whether it is ready.
    Readiness,
    /// Whether its main process goes on to serve.
    Life(Pid),
}

/// An answer.
pub(super) struct ProbeReply {
    /// Of whom: the slot and its life.
    pub(super) of: (u64, u64),
    pub(super) about: About,
    pub(super) said: Said,
    /// How long it has taken.
    pub(super) took: Duration,
    /// How soon it may be asked again.
    pub(super) soon: Duration,
}

/// Those who ask.
pub(super) struct Probes {
    queue: Sender<Question>,
    waiting: Arc<Mutex<Receiver<Question>>>,
    replies: Receiver<ProbeReply>,
    reply: Sender<ProbeReply>,
    pub(super) bell: Arc<Bell>,
    /// Questions that nobody has begun with, less the threads that have nothing to do, plus the threads.
    open: Arc<AtomicUsize>,
    threads: usize,
}

impl Probes {
    /// Nobody yet.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub(super) fn new() -> Result<Probes> {
        let (queue, waiting) = channel();
        let (reply, replies) = channel();
        let bell = Arc::new(Bell::new().map_err(|cause| Error::io("cannot ask probes", &cause))?);
        Ok(Probes {
            queue,
            waiting: Arc::new(Mutex::new(waiting)),
            replies,
            reply,
            bell,
            open: Arc::new(AtomicUsize::new(0)),
            threads: 0,
        })
    }

    /// Asks; the answer rings the bell.
    pub(super) fn ask(&mut self, question: Question) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = self.queue.send(question);
        if open > self.threads && self.threads < THREADS {
            let (waiting, reply, bell, open) = (
                Arc::clone(&self.waiting),
                self.reply.clone(),
                Arc::clone(&self.bell),
                Arc::clone(&self.open),
            );
            let work = move || {
                while let Some(question) = next(&waiting) {
                    let answer = answer(&question);
                    open.fetch_sub(1, Ordering::SeqCst);
                    if reply.send(answer).is_err() {
                        return;
                    }
                    bell.ring();
                }
            };
            if std::thread::Builder::new().stack_size(STACK).spawn(work).is_ok() {
                self.threads += 1;
            }
        }
    }

    /// The answers that have come.
    pub(super) fn answers(&self) -> Vec<ProbeReply> {
        self.bell.silence();
        self.replies.try_iter().collect()
    }
}

fn next(waiting: &Mutex<Receiver<Question>>) -> Option<Question> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn answer(question: &Question) -> ProbeReply {
    let began = Instant::now();
    let (of, about) = (question.of, question.about);
    if let About::Life(main) = about
        && let Some(why) = liveness::stopped(main)
    {
        return ProbeReply { of, about, said: Said::Not(why), took: Duration::ZERO, soon: Duration::ZERO };
    }
    let said = question.probe.ask_now(began + question.timeout);
    let took = began.elapsed();
    let cost = question.probe.cost();
    // An answer that took long has cost others, not us.
    let spent = took.min(Duration::from_millis(1));
    let failure = said.as_ref().err();
    let (age, tries) = (question.age, question.tries);
    let moment = PollProgress { cost, age, spent, polled: 1, tries, watched: false };
    let soon = pace::pause(moment, failure);
    let said = match said {
        Ok(_) => Said::Ready,
        Err(failure) => match loading(cost, &failure) {
            Some(message) => Said::Loading(message),
            None => Said::Not(failure.text),
        },
    };
    ProbeReply { of, about, said, took, soon }
}

/// A command that exits with 75 (EX_TEMPFAIL) asks for more time.
fn loading(cost: Cost, failure: &Failure) -> Option<String> {
    let rest = failure.text.strip_prefix("the command exited with 75").filter(|_| cost == Cost::Process)?;
    rest.is_empty().then(|| "loading".to_owned()).or_else(|| rest.strip_prefix(": ").map(str::to_owned))
}
