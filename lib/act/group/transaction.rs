//! What a person asks a group for, and what comes of it: a verb is over when those that it is about are
//! ready, or down, or when it is clear that they will not be.

use crate::act::group::changes;
use crate::probe::liveness::LIVED;
use crate::service::group::GroupPaths;
use crate::sys::clock;
use crate::sys::say::Voice;
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use crate::words::span;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two looks at what comes of it: the first, and the longest.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: Duration = Duration::from_millis(100);

/// So many bytes of ids fit into one question.
const NAMED: usize = 8 * 1024;

/// How long to wait for what comes of a verb.
#[derive(Clone, Copy, Debug)]
pub struct VerbWait {
    /// Whether at all.
    pub wait: bool,
    /// No longer than this; `None` is without end.
    pub timeout: Option<Duration>,
}

/// What an entry is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Ready,
    Down,
}

/// What has become of it: as it should, or why not.
type Met = std::result::Result<(), String>;

/// What is waited for of an entry.
struct Awaited {
    goal: Goal,
    met: Option<Met>,
    /// Since when it has been as it should, where it is believed after a while only.
    since: Option<Instant>,
}

/// Gives the group of `paths` a verb for the entries `ids`, or for all of it where there are none, and waits
/// for what comes of it. Each change of those that it concerns is told by `voice`. What the group says of
/// itself at the end.
///
/// # Errors
/// 1 when an entry does not come to what was asked for; 69 when the group ends meanwhile; 124 when it takes
/// too long; those of `GroupPaths::ask`.
pub fn carry_out(
    paths: &GroupPaths,
    verb: &str,
    ids: &[String],
    how: VerbWait,
    voice: &Voice,
) -> Result<Value> {
    let until = how.timeout.map(|timeout| clock::after(Instant::now(), timeout));
    let said = paths.put(&json!({ "verb": verb, "ids": ids }))?;
    if let Some(warning) = said["change"]["warning"].as_str() {
        voice.warn(warning);
    }
    if !how.wait {
        return Ok(said);
    }
    let mut open = Transaction::of(verb, &said);
    if open.concerned.is_empty() && verb != "stop" {
        return Ok(said);
    }
    let mut pause = LOOK;
    loop {
        let answer = match paths.put(&open.question()) {
            Ok(answer) => answer,
            Err(error) if error.status == Status::Unavailable && open.is_for_all() => return Ok(said),
            Err(error) if error.status == Status::Unavailable => {
                return Err(Error::new(
                    error.status,
                    format!("cannot {verb} {}: the group has ended", list(ids)),
                ));
            }
            Err(error) => return Err(error),
        };
        let moved = open.take(Instant::now(), &answer, voice)?;
        if open.is_over() {
            open.outcome(verb)?;
            return paths.ask("status", None).or(Ok(said));
        }
        pause = if moved { LOOK } else { (pause * 2).min(LOOKS) };
        let now = Instant::now();
        if until.is_some_and(|until| now >= until) {
            let waited = span::show(how.timeout.unwrap_or_default());
            return Err(Error::new(
                Status::TooLate,
                format!("cannot {verb} {} within {waited}: {}", list(ids), open.laggards()),
            ));
        }
        let next = now + pause;
        std::thread::sleep(until.map_or(next, |until| until.min(next)) - now);
    }
}

/// Entries for people.
fn list(ids: &[String]) -> String {
    if ids.is_empty() { "the group".to_owned() } else { brief(&ids.join(", ")) }
}

struct Transaction {
    goals: HashMap<String, Awaited>,
    /// Those to tell of; none where it is about all of the group.
    concerned: Vec<String>,
    /// How many changes have been seen.
    after: u64,
    /// Whose answers they are.
    group: Value,
    /// How those fare that are not there yet.
    now: HashMap<String, String>,
}

impl Transaction {
    fn of(verb: &str, said: &Value) -> Transaction {
        let change = &said["change"];
        let ids = |key: &str| -> Vec<String> {
            let all = change[key].as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let of = |goal| move |id| (id, Awaited { goal, met: None, since: None });
        let ready = ids("ready").into_iter().map(of(Goal::Ready));
        let down = ids("down").into_iter().map(of(Goal::Down));
        let goals: HashMap<_, _> = ready.chain(down).collect();
        let whole = verb == "stop" && goals.is_empty();
        let others = if whole { Vec::new() } else { ids("others") };
        let concerned = goals.keys().cloned().chain(others).collect();
        let after = change["after"].as_u64().unwrap_or(0);
        Transaction { goals, concerned, after, group: said["pid"].clone(), now: HashMap::new() }
    }

    /// What has become of those that it is about.
    fn question(&self) -> Value {
        let length: usize = self.concerned.iter().map(|id| id.len() + 3).sum();
        let none = Vec::new();
        // So many cannot be named at once: all are asked about.
        let ids = if length < NAMED { &self.concerned } else { &none };
        json!({ "verb": "changes", "ids": ids, "after": self.after })
    }

    /// Whether it is about the end of the group.
    fn is_for_all(&self) -> bool {
        self.goals.is_empty()
    }

    fn is_over(&self) -> bool {
        !self.is_for_all() && self.goals.values().all(|one| one.met.is_some())
    }

    /// Takes what has become of the entries; whether anything has.
    fn take(&mut self, now: Instant, answer: &Value, voice: &Voice) -> Result<bool> {
        if answer["pid"] != self.group {
            return Err(Error::new(
                Status::Unavailable,
                "the group has ended, and another run of it has begun",
            ));
        }
        let list = |key: &str| answer[key].as_array().into_iter().flatten();
        for change in list("changes") {
            let id = change["id"].as_str().unwrap_or_default();
            let state = change["state"].as_str().unwrap_or_default();
            if !self.is_for_all() && !self.concerned.iter().any(|one| one == id) {
                continue;
            }
            voice.note(changes::words(id, state, change["message"].as_str()));
            let verdict = |goal| verdict(goal, state, change["message"].as_str());
            if let Some(one) = self.goals.get_mut(id).filter(|one| one.met.is_none()) {
                // What it came to before it failed is nothing to rely on.
                one.met = verdict(one.goal).filter(|met| met.is_err() || one.goal == Goal::Down);
            }
        }
        let moved = answer["number"].as_u64().is_some_and(|number| number > self.after);
        self.after = answer["number"].as_u64().unwrap_or(self.after);
        self.now.clear();
        for (id, one) in self.goals.iter_mut().filter(|(_, one)| one.met.is_none()) {
            let Some(entry) = list("entries").find(|entry| entry["id"].as_str() == Some(id)) else {
                one.met = Some(match one.goal {
                    Goal::Down => Ok(()),
                    Goal::Ready => Err("it is not in the file any more".to_owned()),
                });
                continue;
            };
            let state = entry["state"].as_str().unwrap_or_default();
            one.met = verdict(one.goal, state, entry["message"].as_str());
            let unproven = state == "ready" && entry["asks_ready"] == false;
            if unproven && now.saturating_duration_since(*one.since.get_or_insert(now)) < LIVED {
                one.met = None;
            }
            if let (Goal::Ready, "waiting", Some(by)) = (one.goal, state, entry["stuck"].as_str()) {
                one.met = Some(Err(format!("it waits, but {by}")));
            }
            self.now.insert(id.clone(), state.to_owned());
        }
        Ok(moved)
    }

    /// Those that are not there yet.
    fn laggards(&self) -> String {
        let open = self.goals.iter().filter(|(_, one)| one.met.is_none());
        let mut words: Vec<String> = open
            .map(|(id, _)| format!("{id} is {}", self.now.get(id).map_or("there", String::as_str)))
            .collect();
        words.sort();
        if words.is_empty() { "it runs".to_owned() } else { words.join(", ") }
    }

    fn outcome(&self, verb: &str) -> Result<()> {
        let failed = self.goals.iter().filter_map(|(id, one)| Some((id, one.met.as_ref()?.as_ref().err()?)));
        let mut words: Vec<String> = failed.map(|(id, why)| format!("{id}: {why}")).collect();
        if words.is_empty() {
            return Ok(());
        }
        words.sort();
        Err(Error::new(Status::No, format!("cannot {verb} {}", words.join("; "))))
    }
}

/// What a state means for who is to become `goal`; `None` while it is on its way.
fn verdict(goal: Goal, state: &str, message: Option<&str>) -> Option<Met> {
    let why = || message.map_or_else(|| state.to_owned(), |message| format!("{state}: {message}"));
    match (goal, state) {
        (Goal::Ready, "ready" | "done") | (Goal::Down, "disabled") => Some(Ok(())),
        (Goal::Ready, "failed" | "backoff") => Some(Err(why())),
        (Goal::Ready, "disabled") => Some(Err("it was stopped meanwhile".to_owned())),
        (Goal::Down, "starting" | "ready" | "done" | "failed" | "backoff") => {
            Some(Err("it was started again meanwhile".to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::say::Level;

    fn answer(number: u64, changes: &[(&str, &str)], now: &[(&str, &str)]) -> Value {
        let one = |(id, state): &(&str, &str)| json!({ "id": id, "state": state, "message": "m" });
        let (changes, entries): (Vec<Value>, Vec<Value>) =
            (changes.iter().map(one).collect(), now.iter().map(one).collect());
        json!({ "pid": 7, "number": number, "changes": changes, "entries": entries })
    }

    fn begun(verb: &str, ready: &[&str], down: &[&str]) -> Transaction {
        Transaction::of(verb, &json!({ "pid": 7, "change": { "after": 4, "ready": ready, "down": down } }))
    }

    #[test]
    fn what_happened_first_counts_not_what_is_there_now() {
        let (now, voice) = (Instant::now(), Voice::new(Level::Quiet));
        let mut open = begun("start", &["a"], &[]);
        let moved = open.take(now, &answer(5, &[("a", "starting")], &[("a", "starting")]), &voice).unwrap();
        assert!(moved && !open.is_over() && open.after == 5);
        open.take(now, &answer(8, &[("a", "backoff"), ("a", "starting"), ("a", "ready")], &[]), &voice)
            .unwrap();
        assert!(open.is_over());
        assert_eq!(open.outcome("start").unwrap_err().to_string(), "cannot start a: backoff: m");
    }

    #[test]
    fn a_daemon_that_is_not_asked_has_to_live_for_a_moment() {
        let (now, voice) = (Instant::now(), Voice::new(Level::Quiet));
        let mut open = begun("start", &["a"], &[]);
        let mut ready = answer(5, &[("a", "starting"), ("a", "ready")], &[("a", "ready")]);
        ready["entries"][0]["asks_ready"] = json!(false);
        open.take(now, &ready, &voice).unwrap();
        assert!(!open.is_over());
        open.take(now + LIVED, &ready, &voice).unwrap();
        assert!(open.is_over() && open.outcome("start").is_ok());
    }

    #[test]
    fn what_is_gone_is_down_and_another_run_knows_nothing() {
        let (now, voice) = (Instant::now(), Voice::new(Level::Quiet));
        let mut open = begun("reload", &["b"], &["a"]);
        open.take(now, &answer(5, &[], &[("b", "ready")]), &voice).unwrap();
        assert!(open.is_over() && open.outcome("reload").is_ok());
        let mut other = answer(5, &[], &[]);
        other["pid"] = json!(8);
        assert_eq!(open.take(now, &other, &voice).unwrap_err().status, Status::Unavailable);
    }
}
