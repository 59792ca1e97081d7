//! The loop around a wait: every question is a task of one thread, one look at the kernel's tables serves all
//! that are down on this machine, and nothing keeps it past the deadline.

use super::watched::{Guarded, Vigil};
use super::{Wait, WaitRules, WaitVerdict};
use crate::probe::lineage::Lineage;
use crate::probe::pace;
use crate::probe::{Cost, Probe, ProbeAnswer};
use crate::sys::clock;
use crate::sys::listening::Listening;
use crate::sys::net::Endpoint;
use crate::sys::poll::{self, For};
use crate::sys::process::Pid;
use crate::sys::signal::Signals;
use crate::sys::task::Tasks;
use crate::words::error::{Error, Result};
use crate::words::failure::{Class, Failure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The descriptors that we have for ourselves, and those that a question may take: a connection to each of
/// some addresses, or the pipes of a command.
const OWN: usize = 32;
const EACH: usize = 4;

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitEnding {
    /// By itself.
    By(WaitVerdict),
    /// A process that was watched is dead.
    Died(String),
    /// A signal came; its number, for real-time signals have no name.
    Signal(i32),
}

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
    let mut wait = Wait::new(rules, &costs, began);
    let mut guarded = match Guarded::open(watched, server, began)? {
        Ok(guarded) => guarded,
        Err(pid) => return Ok((wait, WaitEnding::Died(format!("process {pid} is not alive")))),
    };
    let room = poll::RaisedLimit::new(OWN + EACH * probes.len());
    wait.bound(room.count().saturating_sub(OWN) / EACH);
    let mut tasks: Tasks<'_, std::result::Result<ProbeAnswer, Failure>> = Tasks::new().map_err(cannot)?;
    let mut looks = Looks::new(probes.len(), began);
    let mut prices = Prices { before: clock::processor_time(), count: 0, one: Duration::ZERO };
    let (mut signalled, mut woken) = (true, true);
    let ending = loop {
        if signalled && let Some(signal) = signals.take_numbers().first() {
            break WaitEnding::Signal(*signal);
        }
        let done = tasks.run(woken);
        let now = Instant::now();
        let news = match guarded.look(now) {
            Vigil::Died(why) => break WaitEnding::Died(why),
            Vigil::News(news) => Some(news),
            Vigil::Quiet => None,
        };
        prices.count += u32::try_from(done.len()).unwrap_or(0);
        prices.reckon(&mut looks);
        for (index, seen) in done {
            looks.places[index] = match &seen {
                // One that says itself that it is down has a listener all the time.
                Err(failure) if failure.class.is_down() && failure.class != Class::Down => {
                    looks.places_of(&*probes[index])
                }
                _ => Vec::new(),
            };
            wait.place(index, probes[index].cost(), !looks.places[index].is_empty());
            wait.observe(now, index, seen, prices.one);
        }
        looks.look(now, &mut wait);
        show(&wait, now, news);
        if let Some(verdict) = wait.verdict(now) {
            break WaitEnding::By(verdict);
        }
        for due in wait.due(now) {
            tasks.start(due.index, probes[due.index].ask(due.deadline));
        }
        let mut fds = vec![(signals.fd(), For::Reading), (tasks.fd(), For::Reading)];
        fds.extend(guarded.fds().map(|fd| (fd, For::Reading)));
        let times = [wait.wake(), tasks.wake(), looks.wake(&wait), guarded.next(now), Some(now + refresh)];
        let ready = poll::wait(&fds, times.into_iter().flatten().min()).map_err(cannot)?;
        (signalled, woken) = (ready[0], ready[1]);
    };
    // The commands that are running are killed all at once; then each task lets go of its own.
    if costs.contains(&Cost::Process) {
        crate::life::end_helpers();
    }
    drop(tasks);
    Ok((wait, ending))
}

/// What a probe costs.
struct Prices {
    before: Duration,
    count: u32,
    one: Duration,
}

impl Prices {
    /// Divides the processor time, without that of the looks, among the probes.
    fn reckon(&mut self, looks: &mut Looks) {
        if self.count >= 8 {
            let used = clock::processor_time();
            let looked = std::mem::take(&mut looks.spent);
            self.one = used.saturating_sub(self.before).saturating_sub(looked) / self.count;
            (self.before, self.count) = (used, 0);
        }
    }
}

/// Looks at the kernel's tables for those who are down.
struct Looks {
    /// Opened when somebody is down for the first time; `None` within where there is no way.
    way: Option<Option<Listening>>,
    places: Vec<Vec<SocketAddr>>,
    next: Instant,
    /// What the last one that was measured took, how many there were since, and what all of them took.
    one: Duration,
    unmeasured: u32,
    spent: Duration,
}

/// So many looks are taken to cost the same: to measure one costs as much as a small one.
const ALIKE: u32 = 16;

impl Looks {
    fn new(count: usize, now: Instant) -> Looks {
        let (one, spent) = (Duration::ZERO, Duration::ZERO);
        Looks { way: None, places: vec![Vec::new(); count], next: now, one, unmeasured: ALIKE, spent }
    }

    /// Where a listener of `probe` would show itself; nowhere if that cannot be seen.
    fn places_of(&mut self, probe: &dyn Probe) -> Vec<SocketAddr> {
        match self.way.get_or_insert_with(Listening::open) {
            Some(_) => probe.endpoint().as_ref().map(Endpoint::own_sockets).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Looks, if it is time to, and tells the wait of those whom it saw.
    fn look(&mut self, now: Instant, wait: &mut Wait) {
        let Some(Some(way)) = &self.way else { return };
        if now < self.next {
            return;
        }
        let dozing = wait.dozing();
        if dozing.is_empty() {
            return;
        }
        let before = (self.unmeasured >= ALIKE).then(clock::processor_time);
        let places: Vec<&[SocketAddr]> = dozing.iter().map(|index| self.places[*index].as_slice()).collect();
        for position in way.where_somebody_may(&places) {
            wait.sighted(dozing[position]);
        }
        self.unmeasured += 1;
        if let Some(before) = before {
            (self.one, self.unmeasured) = (clock::processor_time().saturating_sub(before), 0);
        }
        self.spent += self.one;
        self.next = now + pace::look(self.one);
    }

    fn wake(&self, wait: &Wait) -> Option<Instant> {
        (matches!(self.way, Some(Some(_))) && !wait.dozing().is_empty()).then_some(self.next)
    }
}
