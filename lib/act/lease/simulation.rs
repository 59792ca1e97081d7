//! A million steps of holders, guardians, commands and a store, on a clock of its own: messages are lost,
//! late and doubled, holders and guardians stop, hang and die, clocks run apart; and never do two commands
//! live at once, nor anything that a command has left, and nothing lives beyond the end of its lease. The
//! decisions are those of the program, the world around them is made up.

mod parts;

use self::parts::{Able, Ask, Event, Node, Run, Span, fault};
use crate::act::lease::holder::{GuardianState, Holder, Measure, Renewal, Warden};
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
    /// Whether all nodes are of one machine, with a lock that a run inherits; and who has it.
    local: bool,
    lock: Option<(usize, u64)>,
}

impl World {
    fn new(seed: u64, drift: u64, loss: u64, local: bool) -> World {
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
                run: None,
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
            local,
            lock: None,
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
            Some(Event::Look(node, run)) => self.look(node, run),
            Some(Event::Watch { node, life, run }) => self.watch(node, life, run),
            Some(Event::Death { node, run, command }) => self.die(node, run, command),
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
            (Ask::Acquire, None) if me.run.is_none() => {
                let granted = match answer {
                    Ok(ClaimAnswer::Ours { record, .. }) => Some(record.term),
                    _ => None,
                };
                let holder = granted.map(|term| Holder::granted(sent, term, TTL, TTL / 4));
                match holder.filter(|holder| holder.may_begin(now)) {
                    Some(holder) => self.begin(node, holder),
                    None => self.unlock(node, life),
                }
            }
            (Ask::Renew(term), Some(holder)) if holder.term() == term => {
                let renewal = holder.answered(sent, &answer, now);
                let until = holder.until();
                if let (Renewal::Extended(_) | Renewal::Lost, Some(run)) = (renewal, &mut me.run) {
                    run.said = Some(until);
                    run.warden.extended(until, now);
                    run.hard = run.hard.max(until.hard);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, node: usize, holder: Holder) {
        let (at, number, me) = (self.at, self.serial, &mut self.nodes[node]);
        let (now, life, until, term) = (me.clock(at), me.life, holder.until(), holder.term());
        me.run = Some(Run {
            number,
            guard: GuardianState::new(until),
            able: Able::Yes,
            said: None,
            orphan: false,
            warden: Warden::new(until, now),
            command: true,
            leftover: true,
            seen: false,
            hard: until.hard,
        });
        me.holder = Some(holder);
        self.history.push(Span { node, term, from: at, to: None });
        if let Some(fault) = fault(&self.history[self.history.len().saturating_sub(2)..]) {
            panic!("at {at}: {fault}");
        }
        let end = self.dice.roll(10_000_000);
        self.after(1, Event::Look(node, number));
        self.after(1, Event::Watch { node, life, run: number });
        self.after(end, Event::Death { node, run: number, command: true });
    }

    fn unlock(&mut self, node: usize, life: u64) {
        self.lock = self.lock.filter(|owner| *owner != (node, life));
    }

    /// A holder renews when it is due; one that has nothing asks for the lease. One whose guardian is
    /// dead ends what that has left.
    fn turn(&mut self, node: usize, life: u64) {
        let (at, local, lock, me) = (self.at, self.local, self.lock, &mut self.nodes[node]);
        if me.life != life {
            return;
        }
        if me.stopped_until <= at {
            let now = me.clock(at);
            let unguarded = me.run.as_ref().filter(|run| run.able == Able::Dead).map(|run| run.number);
            let ask = match &mut me.holder {
                Some(holder) if holder.due().is_some_and(|due| now >= due) => {
                    holder.sent(now);
                    Some(Ask::Renew(holder.term()))
                }
                Some(_) => None,
                None if local && lock.is_some() => None,
                None => me.run.is_none().then_some(Ask::Acquire),
            };
            if ask == Some(Ask::Acquire) && local {
                self.lock = Some((node, life));
            }
            if let Some(ask) = ask {
                self.send(Event::Request { node, life, ask, sent: now });
            }
            if let Some(run) = unguarded {
                self.kill(node, run);
                self.over(node, run);
            }
        }
        let pause = 20_000 + self.dice.roll(80_000);
        self.after(pause, Event::Turn(node, life));
    }

    /// All that lives of a run dies soon.
    fn kill(&mut self, node: usize, run: u64) {
        for command in [true, false] {
            let dying = self.dice.roll(DYING);
            self.after(dying, Event::Death { node, run, command });
        }
    }

    fn look(&mut self, node: usize, number: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        let (now, deaf) = (me.clock(at), me.deaf);
        let Some(run) = me.run(number) else { return };
        match run.able {
            Able::Dead => return,
            Able::Stopped(until) if at < until && now < run.guard.revives() => {
                return self.after(10_000, Event::Look(node, number));
            }
            Able::Hangs(until) if at < until => return self.after(10_000, Event::Look(node, number)),
            _ => {}
        }
        if !run.command && !std::mem::replace(&mut run.seen, true) {
            run.guard.ended(now);
        }
        run.said.take().into_iter().for_each(|until| run.guard.extended(until));
        if run.orphan {
            run.guard.abandoned(now);
        }
        match run.guard.measure(now) {
            Measure::Leave => {}
            // Some take no notice.
            Measure::Tell if deaf => {}
            Measure::Tell => {
                for command in [true, false] {
                    let dying = self.dice.roll(300_000);
                    self.after(dying, Event::Death { node, run: number, command });
                }
            }
            Measure::Kill => self.kill(node, number),
        }
        self.over(node, number);
        let pause = 1 + self.dice.roll(2 * LOOK);
        self.after(pause, Event::Look(node, number));
    }

    fn watch(&mut self, node: usize, life: u64, number: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        let (now, gone, stopped) = (me.clock(at), me.life != life, me.stopped_until);
        let Some(run) = me.run(number).filter(|_| !gone) else { return };
        if stopped > at {
            return self.after(stopped - at, Event::Watch { node, life, run: number });
        }
        match run.warden.measure(now) {
            Measure::Leave => {}
            Measure::Tell => {
                if let Able::Stopped(_) = run.able {
                    run.able = Able::Yes;
                }
            }
            Measure::Kill => {
                run.able = Able::Dead;
                self.kill(node, number);
            }
        }
        let pause = 1 + self.dice.roll(LOOK / 2);
        self.after(pause, Event::Watch { node, life, run: number });
    }

    fn die(&mut self, node: usize, number: u64, command: bool) {
        let (at, local, me) = (self.at, self.local, &mut self.nodes[node]);
        let now = me.clock(at);
        let Some(run) = me.run(number) else { return };
        if !std::mem::replace(if command { &mut run.command } else { &mut run.leftover }, false) {
            return;
        }
        let late = now.saturating_sub(run.hard);
        assert!(
            local || late < Duration::from_micros(2 * LOOK + DYING),
            "at {at}: {late:?} beyond the lease"
        );
        if run.command || run.leftover {
            return;
        }
        let last = self.history.iter_mut().rev().find(|span| span.node == node && span.to.is_none());
        last.into_iter().for_each(|span| span.to = Some(at));
    }

    /// All is dead, and seen to be: only now is the lease given up, if the holder still believes in it,
    /// and the lock free.
    fn over(&mut self, node: usize, number: u64) {
        let (at, me) = (self.at, &mut self.nodes[node]);
        if me.run(number).is_none_or(|run| run.command || run.leftover) {
            return;
        }
        me.run = None;
        me.deaf = !me.deaf;
        let now = me.clock(at);
        let released = me.holder.take().filter(|_| me.stopped_until <= at).map(|holder| holder.term());
        // A claimant that has asked to give up claims no more: its word may come late, and would give up what
        // it has taken anew since.
        me.life += 1;
        let next = me.life;
        self.lock = self.lock.filter(|(owner, _)| *owner != node);
        self.after(1, Event::Turn(node, next));
        if let Some(term) = released {
            self.send(Event::Request { node, life: next - 1, ask: Ask::Release(term), sent: now });
        }
    }

    /// A holder or a guardian is stopped for a while, hangs, or is killed. Where there is no lock, one of
    /// both can act: a guardian who is stopped is continued by the kernel, one who is killed takes its
    /// command along.
    fn fate(&mut self, node: usize) {
        let (at, local, span) = (self.at, self.local, self.dice.roll(5_000_000));
        let what = self.dice.roll(8);
        let me = &mut self.nodes[node];
        let able = me.run.as_ref().map_or(Able::Yes, |run| run.able);
        let guarded = local || matches!(able, Able::Yes | Able::Stopped(_));
        // Whoever holds at all would be told of a guardian's death.
        let held = local || (me.holder.is_some() && me.stopped_until <= at);
        let number = me.run.as_ref().map(|run| run.number);
        match (what, &mut me.run) {
            (0, _) if guarded => me.stopped_until = at + span,
            (1, run) if guarded => {
                let old = me.life;
                run.iter_mut().for_each(|run| run.orphan = true);
                (me.life, me.holder, me.stopped_until) = (old + 1, None, 0);
                let (life, runs) = (me.life, me.run.is_some());
                if !runs {
                    self.unlock(node, old);
                }
                self.after(200_000, Event::Turn(node, life));
            }
            (2, Some(run)) if able == Able::Yes => run.able = Able::Stopped(at + span),
            (3, Some(run)) if able == Able::Yes && held => run.able = Able::Hangs(at + span),
            (4, Some(run)) if able != Able::Dead && held => {
                run.able = Able::Dead;
                let dying = self.dice.roll(DYING);
                let run = number.unwrap_or_default();
                self.after(dying, Event::Death { node, run, command: true });
            }
            _ => {}
        }
        let pause = self.dice.roll(10_000_000);
        self.after(pause, Event::Fate(node));
    }
}

/// A history of `steps`, without a fault, with so many lives in it.
fn lives(seed: u64, local: bool, steps: usize) -> usize {
    let mut world = World::new(seed, 5_000, if local { 0 } else { 10 }, local);
    (0..steps).for_each(|_| world.step());
    assert_eq!(fault(&world.history[..world.history.len() - 1]), None);
    world.history.len()
}

/// Clocks one percent apart at most, from one another's truth half a percent: what the margin is for. Of a
/// holder and its guardian one may fail.
#[test]
fn a_million_steps_have_no_two_leaders() {
    let lives: usize = (1..=8).map(|seed| lives(seed, false, 150_000)).sum();
    // Something has happened: hundreds of changes of hands.
    assert!(lives > 1000, "{lives}");
}

/// On one machine both may fail: the lock keeps others out for as long as anything lives.
#[test]
fn a_million_steps_on_one_machine_have_no_two_leaders() {
    let lives: usize = (1..=8).map(|seed| lives(seed, true, 150_000)).sum();
    assert!(lives > 300, "{lives}");
}

/// The checker finds what there is to find: where clocks run further apart than any margin, leaders overlap.
#[test]
fn clocks_beyond_the_margin_are_caught() {
    let caught = (1..=20).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 400_000, 10, false);
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
