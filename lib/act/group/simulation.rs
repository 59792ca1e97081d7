//! A hundred thousand steps of groups at random: crashes, probes that flap, stops, holds, reloads, on a clock
//! of their own. Never does a dependent run on without its needs, never are there two instances of an entry,
//! and every stop ends.

use crate::act::group::entry::{
    EntryHealth, EntryKind, EntryReadiness, EntryRules, Intervals, Life, RestartPauses, RestartWhen,
};
use crate::act::group::machine::{GroupAction, GroupEvent, GroupMachine, Said};
use crate::probe::liveness::Liveness;
use crate::sys::child::Exit;
use crate::words::dice::Dice;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn rules(dice: &mut Dice, number: usize) -> EntryRules {
    let kind =
        [EntryKind::Daemon, EntryKind::Daemon, EntryKind::Oneshot, EntryKind::Check][dice.roll(4) as usize];
    let intervals = Intervals {
        starting: Some(seconds(1)),
        loading: seconds(5),
        success: seconds(5),
        failure: seconds(1),
    };
    let probed = kind == EntryKind::Check || (kind == EntryKind::Daemon && dice.roll(2) == 0);
    let needs = (0..number).filter(|_| dice.roll(3) == 0).collect();
    let when = [RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never][dice.roll(3) as usize];
    EntryRules {
        id: format!("e{number}"),
        kind,
        needs,
        ignores: dice.roll(5) == 0,
        ready: probed.then_some(EntryReadiness {
            intervals,
            grace: seconds(3),
            successes: 1 + dice.roll(2) as u32,
            failures: 1 + dice.roll(3) as u32,
        }),
        live: (kind == EntryKind::Daemon && dice.roll(2) == 0).then(|| Liveness {
            interval: seconds(2),
            timeout: seconds(1),
            failures: 1 + dice.roll(2) as u32,
            successes: 1 + dice.roll(2) as u32,
        }),
        restart: RestartPauses {
            when,
            initial: Duration::ZERO,
            step: seconds(1),
            cap: seconds(30),
            reset_after: seconds(60),
            max: (dice.roll(4) == 0).then_some(2),
        },
        stop_timeout: seconds(dice.roll(4)),
        kill_grace: (dice.roll(3) == 0).then(|| seconds(dice.roll(4))),
    }
}

/// Those that need an entry, be it through others; with or without those that run on without it.
fn dependents(machine: &GroupMachine, number: usize, ignoring: bool) -> Vec<usize> {
    let (mut found, mut open) = (Vec::new(), vec![number]);
    while let Some(at) = open.pop() {
        for (one, entry) in machine.entries().iter().enumerate() {
            if entry.rules.needs.contains(&at) && (ignoring || !entry.rules.ignores) && !found.contains(&one)
            {
                found.push(one);
                open.push(one);
            }
        }
    }
    found
}

/// What is alive in the world: by the entry's own key, a process or what it has left.
#[derive(Default)]
struct World {
    keys: Vec<u64>,
    alive: BTreeMap<u64, u64>,
    rest: BTreeMap<u64, ()>,
    told: BTreeMap<u64, ()>,
    probes: Vec<(u64, u64)>,
    /// Who was asked whether it lives.
    lives: Vec<(u64, u64)>,
    /// Lives that knew a life of their needs which is over.
    doomed: Vec<(u64, u64)>,
    finished: bool,
}

impl World {
    fn number(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|one| *one == key)
    }

    fn feed(&mut self, dice: &mut Dice, machine: &mut GroupMachine, now: Instant, event: GroupEvent) {
        let mut queue = vec![event];
        while let Some(event) = queue.pop() {
            for todo in machine.handle(now, event) {
                assert!(!self.finished, "{todo:?} after the end");
                match todo {
                    GroupAction::Start(number, session) => {
                        let (key, entry) = (self.keys[number], &machine.entries()[number]);
                        assert!(
                            !self.alive.contains_key(&key) && !self.rest.contains_key(&key),
                            "two instances of {}",
                            entry.rules.id
                        );
                        let unmet = machine.waits_for(number);
                        assert!(unmet.is_empty(), "{} starts without {unmet:?}", entry.rules.id);
                        let old = entry.rules.needs.iter().find(|need| {
                            self.doomed.contains(&(self.keys[**need], machine.entries()[**need].session))
                        });
                        assert_eq!(old, None, "{} starts on a life that should be over", entry.rules.id);
                        let other = machine
                            .entries()
                            .iter()
                            .zip(&self.keys)
                            .find(|(one, other)| one.rules.id == entry.rules.id && **other != key);
                        assert!(
                            other.is_none_or(|(_, other)| !self.alive.contains_key(other)),
                            "{} beside its older self",
                            entry.rules.id
                        );
                        if dice.roll(10) == 0 {
                            queue.push(GroupEvent::NotStarted { number, session, why: "no".to_owned() });
                        } else {
                            self.alive.insert(key, session);
                            queue.push(GroupEvent::Started(number, session));
                        }
                    }
                    GroupAction::Tell(number) => {
                        // One that serves no more waits for nobody, as one that has crashed.
                        let hung = machine.entries()[number].hung.is_some();
                        for one in dependents(machine, number, false).into_iter().filter(|_| !hung) {
                            let id = &machine.entries()[one].rules.id;
                            assert!(
                                !self.alive.contains_key(&self.keys[one]),
                                "{} is stopped before {id}",
                                machine.entries()[number].rules.id
                            );
                        }
                        assert!(self.told.insert(self.keys[number], ()).is_none(), "told twice");
                    }
                    GroupAction::Sweep(_) | GroupAction::Abort(_) => {}
                    GroupAction::Kill(number) => {
                        let key = self.keys[number];
                        self.rest.remove(&key);
                        if let Some(session) = self.alive.remove(&key) {
                            self.told.remove(&key);
                            queue.push(GroupEvent::Exited { number, session, exit: Exit::Signal(9) });
                        }
                    }
                    GroupAction::Probe(number, session) => self.probes.push((self.keys[number], session)),
                    GroupAction::AskLive(number, session) => self.lives.push((self.keys[number], session)),
                    GroupAction::Finish => {
                        assert!(self.alive.is_empty() && self.rest.is_empty(), "left behind");
                        self.finished = true;
                    }
                }
            }
        }
    }

    /// One thing happens.
    fn step(&mut self, dice: &mut Dice, machine: &mut GroupMachine, now: &mut Instant, stops: bool) {
        *now += Duration::from_millis(dice.roll(1500));
        let pick = |dice: &mut Dice, count: usize| dice.roll(count.max(1) as u64) as usize;
        let event = match dice.roll(13) {
            0..=2 if !self.alive.is_empty() => {
                let (key, session) = self
                    .alive
                    .iter()
                    .nth(pick(dice, self.alive.len()))
                    .map(|(key, session)| (*key, *session))
                    .unwrap();
                self.alive.remove(&key);
                self.told.remove(&key);
                if dice.roll(3) == 0 {
                    self.rest.insert(key, ());
                }
                GroupEvent::Exited {
                    number: self.number(key).unwrap(),
                    session,
                    exit: Exit::Code(dice.roll(2) as i32),
                }
            }
            3..=6 if !self.probes.is_empty() => {
                let of = self.probes.swap_remove(pick(dice, self.probes.len()));
                let said =
                    [Said::Ready, Said::Ready, Said::Not("no".to_owned()), Said::Loading("soon".to_owned())]
                        [pick(dice, 4)]
                    .clone();
                match self.number(of.0) {
                    Some(number) => {
                        GroupEvent::Probed { number, session: of.1, said, soon: Duration::from_millis(10) }
                    }
                    None => GroupEvent::Time,
                }
            }
            12 if !self.lives.is_empty() => {
                let of = self.lives.swap_remove(pick(dice, self.lives.len()));
                let (why, took) = ((dice.roll(3) > 0).then(|| "no".to_owned()), Duration::ZERO);
                let lived = |number| GroupEvent::Lived { number, session: of.1, why, took };
                self.number(of.0).map_or(GroupEvent::Time, lived)
            }
            7 => {
                let gone: Vec<u64> = self.rest.keys().copied().filter(|_| dice.roll(2) == 0).collect();
                self.rest.retain(|key, ()| !gone.contains(key));
                GroupEvent::Time
            }
            8 => GroupEvent::Hold(pick(dice, self.keys.len())),
            9 if dice.roll(4) == 0 => GroupEvent::Once(pick(dice, self.keys.len())),
            9 => GroupEvent::Release(pick(dice, self.keys.len())),
            10 if dice.roll(4) == 0 => GroupEvent::Bounce(pick(dice, self.keys.len())),
            11 if stops && dice.roll(100) == 0 => GroupEvent::Stop,
            _ => GroupEvent::Time,
        };
        let good = |machine: &GroupMachine| -> Vec<bool> {
            machine.entries().iter().map(|entry| entry.health == EntryHealth::Success).collect()
        };
        let was = good(machine);
        // What comes of an older life says nothing of this one.
        let stale = if let GroupEvent::Probed { number, session, .. } = event {
            Some(number).filter(|number| machine.entries()[*number].session != session)
        } else {
            None
        };
        let before = stale.map(|number| machine.entries()[number].health.clone());
        self.feed(dice, machine, *now, event);
        let after = stale.map(|number| machine.entries()[number].health.clone());
        for (number, _) in was.iter().zip(good(machine)).enumerate().filter(|(_, (was, is))| **was && !is) {
            for one in dependents(machine, number, false) {
                let key = self.keys[one];
                self.doomed.extend(self.alive.get(&key).map(|session| (key, *session)));
            }
        }
        assert!(
            before == after || !matches!(after, Some(EntryHealth::Success | EntryHealth::Loading(_))),
            "a stale answer is believed"
        );
        self.sweep(dice, machine, *now);
        self.keep_order(machine);
    }

    fn sweep(&mut self, dice: &mut Dice, machine: &mut GroupMachine, now: Instant) {
        for number in 0..self.keys.len() {
            if matches!(machine.entries()[number].life, Life::Sweeping(..))
                && !self.rest.contains_key(&self.keys[number])
            {
                self.feed(dice, machine, now, GroupEvent::Swept(number));
            }
        }
        let stay = machine.forget();
        self.keys = stay.iter().map(|number| self.keys[*number]).collect();
    }

    /// Whoever runs without all of its needs has been told to stop, or waits for its own dependents to go
    /// first.
    fn keep_order(&self, machine: &GroupMachine) {
        for (number, entry) in machine.entries().iter().enumerate() {
            assert_eq!(
                self.alive.contains_key(&self.keys[number]),
                entry.alive()
                    && !matches!(entry.life, Life::Sweeping(..))
                    && entry.rules.kind != EntryKind::Check
            );
            let life = (self.keys[number], entry.session);
            if entry.life == Life::Up && self.doomed.contains(&life) {
                let waits =
                    dependents(machine, number, true).into_iter().any(|one| machine.entries()[one].alive());
                // What a reload has taken out may have needed it.
                let old = machine.entries().iter().any(|one| one.leaves() && one.alive());
                assert!(waits || old, "{} outlives what it needed", entry.rules.id);
            }
            let unmet =
                entry.rules.needs.iter().any(|need| machine.entries()[*need].health != EntryHealth::Success);
            if unmet && entry.life == Life::Up && !entry.rules.ignores && !self.finished {
                let waits =
                    dependents(machine, number, true).into_iter().any(|one| machine.entries()[one].alive());
                let old = machine.entries().iter().any(|one| one.leaves() && one.alive());
                assert!(waits || old, "{} runs on without its needs", entry.rules.id);
            }
        }
    }
}

/// Between its end and that of what it has left.
#[test]
fn what_is_asked_for_while_one_ends_by_itself_is_done() {
    for event in [GroupEvent::Bounce(0), GroupEvent::Release(0)] {
        let mut dice = Dice::of(1);
        let mut rules = EntryRules { kind: EntryKind::Daemon, ready: None, ..rules(&mut dice, 0) };
        rules.restart = RestartPauses { when: RestartWhen::Always, initial: seconds(3600), ..rules.restart };
        let (mut machine, now) = (GroupMachine::new(vec![rules]), Instant::now());
        assert_eq!(machine.handle(now, GroupEvent::Time), [GroupAction::Start(0, 1)]);
        machine.handle(now, GroupEvent::Started(0, 1));
        machine.handle(now, GroupEvent::Exited { number: 0, session: 1, exit: Exit::Code(1) });
        assert_eq!(machine.handle(now, event), []);
        assert_eq!(machine.handle(now, GroupEvent::Swept(0)), [GroupAction::Start(0, 2)]);
    }
}

#[test]
fn a_hundred_thousand_steps_keep_the_order() {
    let mut starts = 0;
    for seed in 1..=100u64 {
        let mut dice = Dice::of(seed);
        let mut all: Vec<EntryRules> = (0..8).map(|number| rules(&mut dice, number)).collect();
        let mut machine = GroupMachine::new(all.clone());
        let mut world = World { keys: (0..8).collect(), ..World::default() };
        let (mut now, mut serial) = (Instant::now(), 100);
        world.feed(&mut dice, &mut machine, now, GroupEvent::Time);
        for step in 0..1000 {
            world.step(&mut dice, &mut machine, &mut now, false);
            if step % 100 == 99 {
                // Some stay as they are, some change, their needs with them.
                let next: Vec<(EntryRules, bool)> = (0..8)
                    .map(|number| {
                        if dice.roll(3) == 0 {
                            (rules(&mut dice, number), true)
                        } else {
                            (all[number].clone(), false)
                        }
                    })
                    .collect();
                let here = |rules: &EntryRules| {
                    machine.entries().iter().position(|entry| entry.rules.id == rules.id && !entry.leaves())
                };
                let kept: Vec<Option<usize>> =
                    next.iter().map(|(rules, new)| if *new { None } else { here(rules) }).collect();
                all = next.into_iter().map(|(rules, _)| rules).collect();
                let paths = machine.reload(all.clone(), &kept);
                let mut keys = vec![0; machine.entries().len()];
                for (new, key) in keys.iter_mut().enumerate() {
                    serial += 1;
                    *key = paths.iter().position(|at| *at == new).map_or(serial, |old| world.keys[old]);
                }
                world.keys = keys;
                world.feed(&mut dice, &mut machine, now, GroupEvent::Time);
                world.sweep(&mut dice, &mut machine, now);
            }
        }
        starts += machine.entries().iter().map(|entry| entry.session).sum::<u64>();
        world.feed(&mut dice, &mut machine, now, GroupEvent::Stop);
        for _ in 0..200 {
            if world.finished {
                break;
            }
            now += seconds(1);
            world.rest.clear();
            world.feed(&mut dice, &mut machine, now, GroupEvent::Time);
            world.sweep(&mut dice, &mut machine, now);
            // Whoever has no limit ends by itself in the end.
            let told: Vec<u64> = world.told.keys().copied().collect();
            for key in told {
                if let (Some(session), Some(number)) = (world.alive.remove(&key), world.number(key)) {
                    world.told.remove(&key);
                    world.feed(
                        &mut dice,
                        &mut machine,
                        now,
                        GroupEvent::Exited { number, session, exit: Exit::Signal(15) },
                    );
                }
            }
        }
        assert!(world.finished, "seed {seed}: the stop does not end: {:?}", machine.entries());
    }
    assert!(starts > 1000, "{starts}");
}

/// One that serves no more is stopped and started again, as often as its policy says; what is asked to start
/// anew meanwhile is started without a pause, and what is to stay down stays down.
#[test]
fn one_that_serves_no_more_is_a_failure() {
    let [t0, after] = [0, 60].map(|late| Instant::now() + seconds(late));
    for (when, event, life) in [
        (RestartWhen::Always, None, Life::Starting),
        (RestartWhen::OnFailure, None, Life::Starting),
        (RestartWhen::Never, None, Life::Over),
        (RestartWhen::Never, Some(GroupEvent::Bounce(0)), Life::Starting),
        (RestartWhen::Always, Some(GroupEvent::Hold(0)), Life::Down),
    ] {
        let mut dice = Dice::of(1);
        let live = Liveness { interval: seconds(2), timeout: seconds(1), failures: 2, successes: 1 };
        let (mut one, mut two) = (rules(&mut dice, 0), rules(&mut dice, 1));
        (one.kind, one.ready, one.live, one.restart.when) = (EntryKind::Daemon, None, Some(live), when);
        (two.kind, two.ready, two.live, two.needs, two.ignores) =
            (EntryKind::Daemon, None, None, vec![0], false);
        let mut machine = GroupMachine::new(vec![one, two]);
        machine.handle(t0, GroupEvent::Time);
        machine.handle(t0, GroupEvent::Started(0, 1));
        machine.handle(t0, GroupEvent::Started(1, 1));
        assert_eq!(machine.handle(t0 + seconds(1), GroupEvent::Time), []);
        let asked = [GroupAction::AskLive(0, 1)];
        assert_eq!(machine.handle(t0 + seconds(2), GroupEvent::Time), asked);
        let no = || GroupEvent::Lived { number: 0, session: 1, why: Some("no".to_owned()), took: seconds(0) };
        assert_eq!(machine.handle(t0 + seconds(2), no()), []);
        assert_eq!(machine.handle(t0 + seconds(4), GroupEvent::Time), asked);
        assert_eq!(
            machine.handle(t0 + seconds(4), no()),
            [GroupAction::Tell(0), GroupAction::Tell(1)],
            "what needs it goes too"
        );
        let why = EntryHealth::Failure("does not serve any more: no".to_owned());
        assert_eq!(machine.entries()[0].health, why);
        event.into_iter().for_each(|event| drop(machine.handle(t0 + seconds(4), event)));
        for number in [1, 0] {
            machine.handle(after, GroupEvent::Exited { number, session: 1, exit: Exit::Code(0) });
            machine.handle(after, GroupEvent::Swept(number));
        }
        machine.handle(after, GroupEvent::Time);
        assert_eq!(machine.entries()[0].life, life, "{when:?}");
    }
}
