//! Who answers on one connection: asked again and again while it stands, and decided by what the kernel
//! shows.
//!
//! Whoever holds the accepted socket answers. Nobody holds it before it was accepted, nor after it was
//! closed. Then whoever listens decides, if all of them count: the listeners are looked at first and the
//! connection after, so that one that was accepted meanwhile is seen. A listening socket that others hold too
//! decides nothing: an old process may have answered in the new one's name.

use crate::probe::ProbeAnswer;
use crate::probe::demand::{Demand, named};
use crate::sys::net::Link;
use crate::sys::owner::{self, Holders, OtherEnd};
use crate::sys::process::{Identity, Pid};
use crate::sys::task;
use crate::words::failure::{Class, Failure};
use std::time::{Duration, Instant};

/// How long it takes until listeners are looked at again, which is a walk through all descriptors.
const WALK: Duration = Duration::from_millis(50);
/// The first and the longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// How long nothing is said where waiting may be of no use.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it is waited for somebody to accept, where it is known already who can.
const ACCEPTANCE: Duration = Duration::from_millis(25);
/// How many processes a message names.
const NAMED: usize = 4;

/// What one look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Enough to judge.
    Clear,
    /// Nobody has accepted it yet, and it must be seen who does: nothing should be said before.
    Queued,
    /// Not enough; a later look may show more.
    Dim,
    /// Not enough, and nothing more will be seen.
    Over,
}

/// A question about one connection.
pub struct Inquiry<'a> {
    demand: &'a Demand,
    link: Link,
    /// The judgement, from the last look that allowed one.
    known: Option<Result<ProbeAnswer, Failure>>,
    /// Whether that is by who listens alone.
    by_listeners: bool,
    /// Why there is none.
    why: String,
    /// Who listens, and when that was looked at.
    listeners: Option<(Instant, Weight)>,
    /// Whether all that listen had to count before the connection was made.
    alone_before: bool,
    far: bool,
    began: Instant,
}

/// How a set of holders stands to what is demanded.
#[derive(Clone, Debug)]
enum Weight {
    /// All of them count; the oldest.
    All(Pid),
    /// All that we may look into count, and others whom we may not look into may be holders too; the oldest.
    Seen(Pid),
    /// None does, and this is why.
    None(Failure),
    /// Only some: one that counts, and the others.
    Some(Pid, Vec<Pid>),
    /// It cannot be told, for this reason.
    Unknown(String),
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(demand: &'a Demand, link: Link) -> Inquiry<'a> {
        let known = demand.is_any().then(|| Ok(ProbeAnswer::default()));
        let why = "the system does not tell".to_owned();
        Inquiry {
            demand,
            link,
            known,
            by_listeners: false,
            why,
            listeners: None,
            alone_before: false,
            far: false,
            began: Instant::now(),
        }
    }

    /// The connection in question.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the other end is on another machine, so far as that can be told.
    pub fn is_far(&self) -> bool {
        self.far
    }

    /// Looks once. It costs some system calls, and now and then a walk through the descriptors of all
    /// processes.
    pub fn look(&mut self) -> Sight {
        if self.demand.is_any() {
            return Sight::Clear;
        }
        let mut end = owner::other_end(&self.link);
        if matches!(end, OtherEnd::Queued | OtherEnd::PutOff | OtherEnd::Gone) {
            let fresh = self.listeners.as_ref().is_some_and(|(at, _)| at.elapsed() < WALK);
            if !fresh {
                self.listeners = Some((Instant::now(), self.weigh_listeners()));
                // It may have been accepted, by one that listens no more, before they were looked at.
                end = owner::other_end(&self.link);
            }
        }
        match end {
            OtherEnd::Accepted(holders) => self.accepted(&holders),
            OtherEnd::Queued => self.listening(Sight::Queued),
            OtherEnd::PutOff => self.listening(Sight::Dim),
            OtherEnd::Gone => self.gone(),
            OtherEnd::Elsewhere { near, text } => {
                self.far = !near;
                self.why = text;
                // In a namespace that we may see it is found as soon as it was accepted.
                if near && self.known.is_none() && self.began.elapsed() < PATIENCE {
                    Sight::Dim
                } else {
                    Sight::Over
                }
            }
        }
    }

    /// Looks until it is known who answers, or nothing more can be seen, or `deadline`; nothing is said
    /// meanwhile.
    ///
    /// # Errors
    /// As `Demand::judge`.
    pub async fn settle(&mut self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        self.until(deadline, |sight| matches!(sight, Sight::Clear | Sight::Over)).await;
        self.judgement()
    }

    /// The same before a question is sent, so that whoever answers it and hangs up at once is known. It is
    /// good as well where only an answer can show more.
    ///
    /// # Errors
    /// `wrong-process` when it is known already: nothing is said to it then, least of all a password;
    /// `unknown-process` when it must be seen who accepts the connection, and nobody does.
    pub async fn connected(&mut self, deadline: Instant) -> Result<(), Failure> {
        let began = Instant::now();
        let last = self
            .until(deadline, |sight| match sight {
                Sight::Clear | Sight::Over => true,
                Sight::Queued => false,
                Sight::Dim => began.elapsed() >= PATIENCE,
            })
            .await;
        match &self.known {
            // Where others may lead to it, the first of them is another.
            Some(Err(failure)) if !self.demand.any_process => Err(failure.clone()),
            _ if last == Sight::Queued => Err(unknown(&self.why)),
            _ => Ok(()),
        }
    }

    /// The judgement when an answer has come.
    ///
    /// # Errors
    /// As `Demand::judge`.
    pub async fn answered(&mut self, deadline: Instant) -> Result<ProbeAnswer, Failure> {
        match &self.known {
            // Somebody may have accepted it whom nobody saw listen.
            Some(Ok(_)) if self.by_listeners => {
                self.look();
                self.judgement()
            }
            // Whoever it has passed the connection on to since answers in its name.
            Some(Ok(answer)) => Ok(answer.clone()),
            _ => self.settle(deadline).await,
        }
    }

    /// Whether the connection was closed before more could be seen, and yet all that listen count: then a
    /// second connection tells, for nobody else can have taken that.
    pub fn hung_up_alone(&self) -> bool {
        let alone = matches!(self.listeners, Some((_, Weight::All(_))));
        self.known.is_none() && alone && !self.alone_before
    }

    /// What was seen of an earlier connection to the same place counts for this one.
    pub fn after(mut self, earlier: &Inquiry<'_>) -> Inquiry<'a> {
        self.alone_before = earlier.hung_up_alone();
        self
    }

    async fn until(&mut self, deadline: Instant, enough: impl Fn(Sight) -> bool) -> Sight {
        let mut pause = PAUSE.0;
        loop {
            let sight = self.look();
            if enough(sight) || Instant::now() >= deadline {
                return sight;
            }
            task::sleep(deadline.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn judgement(&self) -> Result<ProbeAnswer, Failure> {
        self.known.clone().unwrap_or_else(|| Err(unknown(&self.why)))
    }

    fn judged(&mut self, judgement: Result<ProbeAnswer, Failure>) -> Sight {
        (self.known, self.by_listeners) = (Some(judgement), false);
        Sight::Clear
    }

    fn good(&mut self, pid: Pid, others: &[Pid]) -> Sight {
        let doubt = (!others.is_empty()).then(|| format!("{} too", has(others, "the socket")));
        self.judged(Ok(ProbeAnswer { pid: Some(pid), doubt, ..ProbeAnswer::default() }))
    }

    fn accepted(&mut self, holders: &Holders) -> Sight {
        match self.weigh(holders) {
            Weight::All(pid) | Weight::Seen(pid) => self.good(pid, &[]),
            // It is enough that one that counts has the socket too.
            Weight::None(failure) if self.demand.any_process => match self.weigh_listeners() {
                Weight::All(pid) | Weight::Seen(pid) | Weight::Some(pid, _) => self.good(pid, &holders.pids),
                Weight::None(_) | Weight::Unknown(_) => self.judged(Err(failure)),
            },
            Weight::None(failure) => self.judged(Err(failure)),
            Weight::Some(pid, others) if self.demand.any_process => self.good(pid, &others),
            // It was one of ours that accepted it, and has shared it since.
            Weight::Some(..) if matches!(self.known, Some(Ok(_))) && !self.by_listeners => Sight::Clear,
            Weight::Some(pid, others) => {
                self.known = None;
                let others = has(&others, "the connection");
                self.dim(format!("{} has the connection, and {others} too", named(pid)))
            }
            // It was closed while those were looked for that have it.
            Weight::Unknown(_) if owner::other_end(&self.link) == OtherEnd::Gone => self.gone(),
            // A process with an io_uring may hold it without a descriptor. Else whoever holds it is one whom
            // we may not see, and not one of those whom we see.
            Weight::Unknown(why) => match self.weigh_listeners() {
                Weight::All(pid) if owner::has_ring(pid) => self.good(pid, &[]),
                _ => {
                    self.known = None;
                    self.unseen(why)
                }
            },
        }
    }

    /// Nobody has accepted it yet.
    fn listening(&mut self, sight: Sight) -> Sight {
        match self.listeners.as_ref().map(|(_, weight)| weight.clone()) {
            // They can only be all that there are; who accepts it is seen if that comes soon.
            Some(Weight::All(pid)) => {
                self.good(pid, &[]);
                self.by_listeners = true;
                if self.began.elapsed() < ACCEPTANCE { Sight::Dim } else { Sight::Clear }
            }
            Some(Weight::None(failure)) => self.judged(Err(failure)),
            Some(Weight::Some(pid, others)) if self.demand.any_process => self.good(pid, &others),
            Some(Weight::Some(pid, others)) => {
                let accepted = if sight == Sight::Queued { ", and nobody has accepted" } else { "" };
                self.why = format!("{}{accepted}", both(pid, &others));
                sight
            }
            Some(Weight::Seen(pid)) if self.demand.any_process => self.good(pid, &[]),
            // Another user's process may be quicker.
            Some(Weight::Seen(pid)) => {
                self.why = perhaps_alone(pid);
                sight
            }
            Some(Weight::Unknown(why)) => self.unseen(why),
            None => Sight::Dim,
        }
    }

    /// What was known of it before counts; else only who listens, where nobody else did before.
    fn gone(&mut self) -> Sight {
        if self.known.is_some() {
            return Sight::Clear;
        }
        if self.listeners.is_none() {
            self.listeners = Some((Instant::now(), self.weigh_listeners()));
        }
        match self.listeners.as_ref().map(|(_, weight)| weight.clone()) {
            Some(Weight::All(pid)) if self.alone_before || self.demand.any_process => {
                return self.good(pid, &[]);
            }
            Some(Weight::All(pid)) => {
                self.why = format!("{} listens there, and whoever answered hung up at once", named(pid));
            }
            Some(Weight::None(failure)) => return self.judged(Err(failure)),
            Some(Weight::Seen(pid)) if self.demand.any_process => return self.good(pid, &[]),
            Some(Weight::Seen(pid)) => {
                self.why = format!("{}, and whoever answered hung up at once", perhaps_alone(pid));
            }
            Some(Weight::Some(pid, others)) if self.demand.any_process => return self.good(pid, &others),
            Some(Weight::Some(pid, others)) => {
                self.why = format!("{}, and whoever answered hung up at once", both(pid, &others));
            }
            Some(Weight::Unknown(why)) => self.why = why,
            None => {}
        }
        Sight::Over
    }

    /// Somebody is not to be seen: soon, if it only begins just now, or never.
    fn unseen(&mut self, why: String) -> Sight {
        let sight = self.dim(why);
        if self.began.elapsed() < PATIENCE { sight } else { Sight::Over }
    }

    fn dim(&mut self, why: String) -> Sight {
        self.why = why;
        Sight::Dim
    }

    fn weigh_listeners(&self) -> Weight {
        match owner::listeners(&self.link) {
            Some(holders) => self.weigh(&holders),
            None => Weight::Unknown("the system does not tell who listens".to_owned()),
        }
    }

    fn weigh(&self, holders: &Holders) -> Weight {
        let tree: Vec<Identity> =
            self.demand.among.as_ref().map_or_else(Vec::new, |lineage| lineage.members());
        let judged = |pid: &Pid| self.demand.judge_process(*pid, &tree);
        let (good, bad): (Vec<Pid>, Vec<Pid>) = holders.pids.iter().partition(|pid| judged(pid).is_ok());
        let hidden = || tree.iter().map(|one| one.pid).find(|pid| owner::is_hidden(*pid));
        match (owner::oldest(&good), owner::oldest(&bad)) {
            (Some(pid), None) if !holders.unseen && holders.partial => Weight::Seen(pid),
            (Some(pid), None) if !holders.unseen => Weight::All(pid),
            (Some(pid), None) => Weight::Unknown(format!(
                "{} listens there, and somebody who is not to be seen too",
                named(pid)
            )),
            (Some(pid), Some(_)) => Weight::Some(pid, bad),
            // One that counts may have it as well, and cannot be looked into.
            (None, other) => match (hidden(), other) {
                (Some(pid), _) => Weight::Unknown(owner::why_hidden(pid)),
                (None, Some(other)) if !holders.unseen => match judged(&other) {
                    Err(failure) => Weight::None(failure),
                    Ok(()) => Weight::All(other),
                },
                (None, Some(other)) => {
                    Weight::Unknown(format!("{} and somebody who is not to be seen have it", named(other)))
                }
                (None, None) => Weight::Unknown("nobody whom we may look into has it".to_owned()),
            },
        }
    }
}

fn unknown(why: &str) -> Failure {
    Failure::new(Class::UnknownProcess, format!("cannot tell which process answered ({why})"))
}

/// `process 1 (a) listens there, and those whom we may not look into may too`.
fn perhaps_alone(pid: Pid) -> String {
    format!("{} listens there, and processes that we may not look into may too", named(pid))
}

/// `process 1 (a) has the socket that listens there, and process 2 (b) has it too`.
fn both(pid: Pid, others: &[Pid]) -> String {
    format!("{} has the socket that listens there, and {} too", named(pid), has(others, "it"))
}

/// `process 1 (a) and process 2 (b) have it`.
fn has(pids: &[Pid], what: &str) -> String {
    let mut names: Vec<String> = pids.iter().take(NAMED).map(|pid| named(*pid)).collect();
    if pids.len() > NAMED {
        names.push(format!("{} more", pids.len() - NAMED));
    }
    format!("{} {} {what}", names.join(" and "), if pids.len() == 1 { "has" } else { "have" })
}
