//! A million steps of holders, guardians, commands and a store, on a clock of its own: messages are lost,
//! late and doubled, processes stop and die, clocks run apart; and never do two commands live at once. The
//! decisions are those of the program, the world around them is made up.

use crate::act::lease::holder::{GuardianState, Holder, Measure, Renewal};
use crate::store::{self, BootMoment, Claim, ClaimAnswer, Decision, Record};
use crate::words::dice::Dice;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

const NODES: usize = 5;
const TTL: Duration = Duration::from_secs(2);
/// A guardian looks at least so often (guard::TICK), and may be late by as much again on a busy machine.
const LOOK: u64 = 100_000;
/// Between KILL and death.
const DYING: u64 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Acquire,
    Renew(u64),
    Release(u64),
}

#[derive(Clone, Debug)]
enum Event {
    /// A request comes to the store: of a node's life, sent then by its clock.
    Request { node: usize, life: u64, ask: Ask, sent: Duration },
    /// An answer comes to a node.
    Answer { node: usize, life: u64, ask: Ask, sent: Duration, answer: std::result::Result<ClaimAnswer, ()> },
    /// A holder's turn.
    Turn(usize, u64),
    /// A guardian's look at a command's life.
    Look(usize, u64),
    /// A command's death.
    Death(usize, u64),
    /// Something befalls a node.
    Fate(usize),
}

/// One node: a holder process in one of its lives, and a command under a guardian, which outlives the holder.
struct Node {
    offset: u64,
    /// Millionths by which its clock is fast, plus a million.
    rate: u64,
    life: u64,
    stopped_until: u64,
    holder: Option<Holder>,
    /// Bears the number of the command.
    guard: Option<(u64, GuardianState)>,
    deaf: bool,
}

impl Node {
    fn clock(&self, at: u64) -> Duration {
        Duration::from_micros(self.offset + at / 1000 * self.rate / 1000 + at % 1000)
    }
}

struct World {
    at: u64,
    dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    serial: u64,
    nodes: Vec<Node>,
    store_rate: u64,
    record: Option<Record>,
    history: Vec<Span>,
    loss: u64,
}

/// A command's life: from its start to its death, under a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    node: usize,
    term: u64,
    from: u64,
    to: Option<u64>,
}

/// Two lives that overlap, or a term that has two; `None` for a good history.
fn fault(history: &[Span]) -> Option<String> {
    let mut spans = history.to_vec();
    spans.sort_by_key(|span| span.from);
    for pair in spans.windows(2) {
        if pair[0].to.is_none_or(|to| to > pair[1].from) {
            return Some(format!("{:?} overlaps {:?}", pair[0], pair[1]));
        }
        if pair[1].term <= pair[0].term {
            return Some(format!("{:?} does not come after {:?}", pair[1], pair[0]));
        }
    }
    None
}

impl World {
    fn new(seed: u64, drift: u64, loss: u64) -> World {
        let mut dice = Dice::of(seed);
        let rate = |dice: &mut Dice| 1_000_000 - drift + dice.roll(2 * drift + 1);
        let store_rate = rate(&mut dice);
        let nodes = (0..NODES)
            .map(|_| Node {
                offset: dice.roll(1 << 40),
                rate: rate(&mut dice),
                life: 0,
                stopped_until: 0,
                holder: None,
                guard: None,
                deaf: false,
            })
            .collect();
        let (queue, events) = (BinaryHeap::new(), std::collections::HashMap::new());
        let mut world = World {
            at: 0,
            dice,
            queue,
            events,
            serial: 0,
            nodes,
            store_rate,
            record: None,
            history: Vec::new(),
            loss,
        };
        for node in 0..NODES {
            world.after(1, Event::Turn(node, 0));
            world.after(1_000_000, Event::Fate(node));
        }
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((self.at + delay, self.serial)));
        self.events.insert(self.serial, event);
    }

    /// A message: lost, late or doubled.
    fn send(&mut self, event: Event) {
        let copies = if self.dice.chance(self.loss) { 0 } else { 1 + u64::from(self.dice.chance(5)) };
        for _ in 0..copies {
            let late = if self.dice.chance(10) { self.dice.roll(4_000_000) } else { self.dice.roll(20_000) };
            self.after(late + 100, event.clone());
        }
    }

    fn claim(&self, node: usize, life: u64) -> Claim {
        Claim {
            lease: "l".to_owned(),
            holder: format!("n{node}"),
            host: "h".to_owned(),
            instance: life.to_string(),
            ttl: TTL,
            ..Claim::default()
        }
    }

    fn step(&mut self) {
        let Some(Reverse((at, serial))) = self.queue.pop() else { return };
        self.at = at;
        match self.events.remove(&serial) {
            Some(Event::Request { node, life, ask, sent }) => self.serve(node, life, ask, sent),
            Some(Event::Answer { node, life, ask, sent, answer }) => {
                self.answered(node, life, ask, sent, answer)
            }
            Some(Event::Turn(node, life)) => self.turn(node, life),
            Some(Event::Look(node, command)) => self.look(node, command),
            Some(Event::Death(node, command)) => self.die(node, command),
            Some(Event::Fate(node)) => self.fate(node),
            None => {}
        }
    }

    /// The store: the program's own decisions, on a clock that is nobody else's.
    fn serve(&mut self, node: usize, life: u64, ask: Ask, sent: Duration) {
        let now = BootMoment {
            boot: "b".to_owned(),
            since: Duration::from_micros(self.at / 1000 * self.store_rate / 1000),
        };
        let claim = self.claim(node, life);
        let decision = match ask {
            Ask::Acquire => store::decide_acquire(self.record.as_ref(), &claim, &now),
            Ask::Renew(term) => store::decide_renew(self.record.as_ref(), &claim, term, &now),
            Ask::Release(term) => store::decide_release(self.record.as_ref(), &claim, term),
        };
        let answer = match (decision, &self.record) {
            (Decision::Write(record, renewed), _) => {
                self.record = Some(record.clone());
                Ok(ClaimAnswer::Ours { record, renewed })
            }
            (Decision::Refuse, Some(record)) => Ok(ClaimAnswer::Held(record.clone())),
            (Decision::Refuse, None) => Err(()),
        };
        self.send(Event::Answer { node, life, ask, sent, answer });
    }

    fn answered(
        &mut self,
        node: usize,
        life: u64,
        ask: Ask,
        sent: Duration,
        answer: std::result::Result<ClaimAnswer, ()>,
    ) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        if me.life != life {
            return;
        }
        if me.stopped_until > at {
            // It waits in the socket of a stopped process.
            let delay = me.stopped_until - at;
            return self.after(delay, Event::Answer { node, life, ask, sent, answer });
        }
        let now = me.clock(at);
        let answer: Result<ClaimAnswer> = answer.map_err(|()| Error::new(Status::Unavailable, "lost"));
        match (ask, &mut me.holder) {
            (Ask::Acquire, None) if me.guard.is_none() => {
                let Ok(ClaimAnswer::Ours { record, .. }) = answer else { return };
                let term = record.term;
                let holder = Holder::granted(sent, term, TTL, TTL / 4);
                if holder.may_begin(now) {
                    me.guard = Some((self.serial, GuardianState::new(holder.until())));
                    me.holder = Some(holder);
                    let command = self.serial;
                    self.history.push(Span { node, term, from: at, to: None });
                    if let Some(fault) = fault(&self.history[self.history.len().saturating_sub(2)..]) {
                        panic!("at {at}: {fault}");
                    }
                    let end = self.dice.roll(10_000_000);
                    self.after(1, Event::Look(node, command));
                    self.after(end, Event::Death(node, command));
                }
            }
            (Ask::Renew(term), Some(holder)) if holder.term() == term => {
                let renewal = holder.answered(sent, &answer, now);
                if let (Renewal::Extended(_) | Renewal::Lost, Some((_, guard))) = (renewal, &mut me.guard) {
                    guard.extended(holder.until());
                }
            }
            _ => {}
        }
    }

    /// A holder renews when it is due; one that has nothing asks for the lease.
    fn turn(&mut self, node: usize, life: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        if me.life != life {
            return;
        }
        if me.stopped_until <= at {
            let now = me.clock(at);
            let ask = match &mut me.holder {
                Some(holder) if holder.due().is_some_and(|due| now >= due) => {
                    holder.sent(now);
                    Some(Ask::Renew(holder.term()))
                }
                Some(_) => None,
                None => me.guard.is_none().then_some(Ask::Acquire),
            };
            if let Some(ask) = ask {
                self.send(Event::Request { node, life, ask, sent: now });
            }
        }
        let pause = 20_000 + self.dice.roll(80_000);
        self.after(pause, Event::Turn(node, life));
    }

    fn look(&mut self, node: usize, command: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        let now = me.clock(at);
        let Some((_, guard)) = me.guard.as_mut().filter(|(number, _)| *number == command) else { return };
        match guard.measure(now) {
            Measure::Leave => {}
            // Some commands take no notice.
            Measure::Tell if me.deaf => {}
            Measure::Tell => {
                let dying = self.dice.roll(300_000);
                self.after(dying, Event::Death(node, command));
            }
            Measure::Kill => {
                let dying = self.dice.roll(DYING);
                self.after(dying, Event::Death(node, command));
            }
        }
        let pause = 1 + self.dice.roll(2 * LOOK);
        self.after(pause, Event::Look(node, command));
    }

    /// The command is dead, and seen to be: only now is the lease given up, if the holder still believes in
    /// it.
    fn die(&mut self, node: usize, command: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        if me.guard.as_ref().is_none_or(|(number, _)| *number != command) {
            return;
        }
        me.guard = None;
        me.deaf = !me.deaf;
        let (now, life) = (me.clock(at), me.life);
        let released = me.holder.take().filter(|_| me.stopped_until <= at).map(|holder| holder.term());
        self.history
            .iter_mut()
            .rev()
            .find(|span| span.node == node && span.to.is_none())
            .into_iter()
            .for_each(|span| span.to = Some(at));
        // A claimant that has asked to give up claims no more: its word may come late, and would give up what
        // it has taken anew since.
        me.life += 1;
        let next = me.life;
        self.after(1, Event::Turn(node, next));
        if let Some(term) = released {
            self.send(Event::Request { node, life, ask: Ask::Release(term), sent: now });
        }
    }

    /// A holder is stopped for a while, or killed; its guardian lives on.
    fn fate(&mut self, node: usize) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        let now = me.clock(at);
        match self.dice.roll(4) {
            0 => me.stopped_until = at + self.dice.roll(5_000_000),
            1 => {
                me.life += 1;
                me.holder = None;
                me.stopped_until = 0;
                if let Some((_, guard)) = &mut me.guard {
                    guard.abandoned(now);
                }
                let life = me.life;
                self.after(200_000, Event::Turn(node, life));
            }
            _ => {}
        }
        let pause = self.dice.roll(20_000_000);
        self.after(pause, Event::Fate(node));
    }
}

/// Clocks one percent apart at most, from one another's truth half a percent: what the margin is for.
#[test]
fn a_million_steps_have_no_two_leaders() {
    let mut lives = 0;
    for seed in 1..=8 {
        let mut world = World::new(seed, 5_000, 10);
        for _ in 0..150_000 {
            world.step();
        }
        assert_eq!(fault(&world.history[..world.history.len() - 1]), None);
        lives += world.history.len();
    }
    // Something has happened: hundreds of changes of hands.
    assert!(lives > 1000, "{lives}");
}

/// The checker finds what there is to find: where clocks run further apart than any margin, leaders overlap.
#[test]
fn clocks_beyond_the_margin_are_caught() {
    let caught = (1..=20).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 400_000, 10);
            (0..100_000).for_each(|_| world.step());
        })
        .is_err()
    });
    assert!(caught);
}

#[test]
fn the_checker_knows_good_from_bad() {
    let span = |node, term, from, to| Span { node, term, from, to };
    assert_eq!(fault(&[]), None);
    assert_eq!(fault(&[span(0, 1, 0, Some(5)), span(1, 2, 5, Some(6)), span(0, 4, 9, None)]), None);
    assert!(fault(&[span(0, 1, 0, Some(5)), span(1, 2, 4, Some(6))]).is_some());
    assert!(fault(&[span(0, 1, 0, None), span(1, 2, 4, Some(6))]).is_some());
    assert!(fault(&[span(0, 2, 0, Some(5)), span(1, 1, 6, Some(7))]).is_some());
    assert!(fault(&[span(0, 1, 0, Some(5)), span(1, 1, 6, Some(7))]).is_some());
}
