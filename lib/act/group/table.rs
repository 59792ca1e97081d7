//! A group in words: waves, laggards, a table.

use crate::act::group::entry::{EntryHealth, EntryKind};
use crate::act::group::machine::GroupMachine;
use crate::act::group::plan::GroupPlan;
use crate::act::group::state::EntryState;
use crate::words::span;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// Those that are not ready, with how they fare and why.
pub(super) fn laggards(machine: &GroupMachine) -> String {
    let states =
        machine.entries().iter().enumerate().map(|(number, entry)| (entry, machine.state(number), number));
    let late = states.filter(|(entry, ..)| entry.health != EntryHealth::Success);
    let words = late.map(|(entry, state, number)| {
        let mut inside = vec![state.word().to_owned()];
        inside.extend(entry.message(state).map(str::to_owned));
        inside.extend(machine.waits_for_words(number).filter(|_| state == EntryState::Waiting));
        if entry.failed > 0 {
            let last = entry.last.as_deref().unwrap_or("none");
            inside.push(format!("{} failed exits, last: {last}", entry.failed));
        }
        format!("{} ({})", entry.rules.id, inside.join("; "))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// How all of it fares, in a line.
pub(super) fn live(machine: &GroupMachine) -> String {
    let states: Vec<EntryState> = (0..machine.entries().len()).map(|number| machine.state(number)).collect();
    let count = |state: EntryState| states.iter().filter(|one| **one == state).count();
    let counts = EntryState::ALL.into_iter().map(|state| (count(state), state.word()));
    let parts: Vec<String> =
        counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let resting = machine.entries().iter().zip(&states).filter(|(_, state)| **state == EntryState::Backoff);
    let resting: Vec<&str> = resting.map(|(entry, _)| entry.rules.id.as_str()).take(5).collect();
    if resting.is_empty() {
        parts.join(" · ")
    } else {
        format!("{} · to start again: {}", parts.join(" · "), resting.join(", "))
    }
}

/// The waves of a plan, for people.
pub fn waves(plan: &GroupPlan) -> String {
    let mut text = String::new();
    for (title, waves) in [("start", plan.waves()), ("stop", plan.stop_waves())] {
        for (number, wave) in waves.iter().enumerate() {
            let ids: Vec<&str> = wave.iter().map(|entry| plan.entries[*entry].rules.id.as_str()).collect();
            let _ = writeln!(text, "{title} {}: {}", number + 1, ids.join(" "));
        }
    }
    text.trim_end().to_owned()
}

/// A plan for Graphviz: an arrow goes to what is needed.
pub fn dot(plan: &GroupPlan) -> String {
    let mut text = "digraph group {\n    rankdir=LR;\n".to_owned();
    for entry in &plan.entries {
        let shape = match entry.rules.kind {
            EntryKind::Daemon => "box",
            EntryKind::Oneshot => "ellipse",
            EntryKind::Check => "diamond",
        };
        let _ = writeln!(text, "    \"{}\" [shape={shape}];", entry.rules.id);
        for need in &entry.rules.needs {
            let _ = writeln!(text, "    \"{}\" -> \"{}\";", entry.rules.id, plan.entries[*need].rules.id);
        }
    }
    text + "}"
}

/// A group that runs, in a line: its file, its process, and how many entries are in which state.
pub fn group(status: &Value) -> String {
    let file = status["file"].as_str().unwrap_or("?");
    let pid = &status["pid"];
    if let Some(why) = status["error"].as_str() {
        return format!("{file}: process {pid}, {why}");
    }
    let entries = status["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |state: EntryState| entries.iter().filter(|entry| entry["state"] == state.word()).count();
    let counts = EntryState::ALL.into_iter().map(|state| (count(state), state.word()));
    let parts: Vec<String> =
        counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("{file}: process {pid}, {}", parts.join(", "))
}

/// What a group says of itself, as a table.
pub fn table(status: &Value) -> String {
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let rows: Vec<[String; 5]> = status["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let pid = entry["pid"].as_i64().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let up = entry["up_ms"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |up| span::show(Duration::from_secs(up / 1000)));
            let waits: Vec<&str> =
                entry["waits_for"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut why = word(entry, "message");
            if !waits.is_empty() {
                why = format!("for {}", waits.join(", "));
            }
            if let Some(pause) = entry["next_start_ms"].as_u64() {
                let pause = span::show(Duration::from_secs(pause.div_ceil(1000)));
                why = format!("{why}{}again in {pause}", if why.is_empty() { "" } else { "; " });
            }
            let failed = entry["failed_exits"].as_u64().unwrap_or(0);
            if failed > 0 {
                why = format!("{why}{}{failed} failed exits", if why.is_empty() { "" } else { "; " });
            }
            [word(entry, "id"), word(entry, "state"), pid, up, why]
        })
        .collect();
    let heads = ["ID", "STATE", "PID", "UP", ""].map(str::to_owned);
    let width =
        |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 5]| {
        let [id, status, pid, up, why] = row;
        let [a, b, c, d] = widths;
        format!("{id:<a$}  {status:<b$}  {pid:>c$}  {up:>d$}  {why}").trim_end().to_owned()
    };
    [&heads].into_iter().chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}
