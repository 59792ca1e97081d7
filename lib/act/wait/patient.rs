//! The loop around a wait: one thread for each target asks, this one decides, and nothing keeps it past the
//! deadline.

use super::watched::{Guarded, Vigil};
use super::{Due, Wait, WaitRules, WaitVerdict};
use crate::probe::lineage::Lineage;
use crate::probe::{Cost, Probe, ProbeAnswer};
use crate::sys::clock;
use crate::sys::poll::{self, For};
use crate::sys::process::Pid;
use crate::sys::signal::{Bell, Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::failure::Failure;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitEnding {
    /// By itself.
    By(WaitVerdict),
    /// A process that was watched is dead.
    Died(String),
    /// A signal came.
    Signal(Signal),
}

/// A doze ends soon after this, so that it does not reach beyond a deadline.
const LONGEST_DOZE: Duration = Duration::from_millis(105);

/// Waits by `rules` until the probes answer, a process of `watched` or the last of `server` dies, or a
/// signal comes; `show` is called after every change, with news if there are some, and at least every
/// `refresh`. Returns the state of the wait with how it ended.
///
/// # Errors
/// Those of making threads and pipes.
pub fn wait(
    rules: WaitRules,
    probes: &[Arc<dyn Probe>],
    (watched, server): (&[Pid], Option<Lineage>),
    signals: &Signals,
    refresh: Duration,
    show: &mut dyn FnMut(&Wait, Instant, Option<String>),
) -> Result<(Wait, WaitEnding)> {
    let cannot = |cause: std::io::Error| Error::io("cannot wait", &cause);
    let began = Instant::now();
    let costs: Vec<Cost> = probes.iter().map(|probe| probe.cost()).collect();
    let local = u32::try_from(costs.iter().filter(|cost| **cost == Cost::Local).count()).unwrap_or(1).max(1);
    let mut wait = Wait::new(rules, &costs, began);
    let mut guarded = match Guarded::open(watched, server, began)? {
        Ok(guarded) => guarded,
        Err(pid) => return Ok((wait, WaitEnding::Died(format!("process {pid} is not alive")))),
    };
    let threads = ProbeThreads::open(probes).map_err(cannot)?;
    let (mut spent_before, mut probes_before) = (clock::processor_time(), 0u32);
    let mut spent = Duration::ZERO;
    let ending = loop {
        let news = match guarded.look(Instant::now()) {
            Vigil::Died(why) => break WaitEnding::Died(why),
            Vigil::News(news) => Some(news),
            Vigil::Quiet => None,
        };
        if let Some(signal) = signals.take().first() {
            break WaitEnding::Signal(*signal);
        }
        let now = Instant::now();
        while let Ok(Seen { index, count, last }) = threads.results.try_recv() {
            probes_before += count;
            wait.observe(now, index, count, last, spent * local);
        }
        if probes_before >= 8 {
            let used = clock::processor_time();
            spent = used.saturating_sub(spent_before) / probes_before;
            (spent_before, probes_before) = (used, 0);
        }
        show(&wait, now, news);
        if let Some(verdict) = wait.verdict(now) {
            break WaitEnding::By(verdict);
        }
        for due in wait.due(now) {
            threads.ask(due);
        }
        let mut fds = vec![(signals.fd(), For::Reading), (threads.bell.fd(), For::Reading)];
        fds.extend(guarded.fds().map(|fd| (fd, For::Reading)));
        let until = wait.wake().into_iter().chain(guarded.next(now)).min();
        let heartbeat = now + refresh;
        poll::wait(&fds, Some(until.map_or(heartbeat, |until| until.min(heartbeat)))).map_err(cannot)?;
        threads.bell.silence();
    };
    // The threads are left behind, but not the commands that they run: whoever is to kill them may not run
    // for long on a machine that is busy, so it is done here.
    if costs.contains(&Cost::Process) {
        crate::life::end_helpers();
    }
    Ok((wait, ending))
}

/// What a thread saw.
struct Seen {
    index: usize,
    count: u32,
    last: std::result::Result<ProbeAnswer, Failure>,
}

/// Where threads lay down what they saw, and ring.
struct ProbeThreads {
    askers: Vec<Sender<Due>>,
    results: Receiver<Seen>,
    bell: Arc<Bell>,
}

impl ProbeThreads {
    fn open(probes: &[Arc<dyn Probe>]) -> std::io::Result<ProbeThreads> {
        let (sender, results) = channel();
        let bell = Arc::new(Bell::new()?);
        let mut askers = Vec::new();
        for (index, probe) in probes.iter().cloned().enumerate() {
            let (asker, asked) = channel::<Due>();
            let (sender, bell) = (sender.clone(), bell.clone());
            std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
                for due in asked {
                    if sender.send(ask(index, &*probe, due)).is_err() {
                        return;
                    }
                    bell.ring();
                }
            })?;
            askers.push(asker);
        }
        Ok(ProbeThreads { askers, results, bell })
    }

    fn ask(&self, due: Due) {
        let _ = self.askers[due.index].send(due);
    }
}

fn ask(index: usize, probe: &dyn Probe, due: Due) -> Seen {
    let mut count = 1;
    loop {
        let last = probe.ask(due.deadline);
        match (&last, due.again) {
            (Err(failure), Some((pause, until)))
                if failure.class.is_down() && Instant::now() + LONGEST_DOZE.max(pause) < until =>
            {
                probe.doze(pause)
            }
            _ => return Seen { index, count, last },
        }
        count += 1;
    }
}
