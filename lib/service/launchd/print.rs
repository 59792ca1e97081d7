//! `launchctl print`, which Apple says is no API: only known keys are believed, only where launchd itself has
//! written them, and only once.
//!
//! The block of a job has three parts. Its head (path, type, state) ends where the first block within it
//! opens. Then come the program, its arguments and its environments, raw: an argument with newlines puts
//! lines of its own there, `}` or a tabbed `pid = 1`, and values of the environment are secrets
//! (aragora#6010), so none of this is ever read. The tail (runs, pid, the last end) begins with the last line
//! that names the minimum runtime; the blocks in it repeat `state = active`, `pid` and `runs`, a tab deeper.

use std::collections::HashMap;

/// What the head holds.
const HEAD: [&str; 3] = ["path", "type", "state"];
/// What the tail holds, in the order of macOS 13 to 27; older releases have fewer.
const TAIL: [&str; 9] = [
    "minimum runtime",
    "exit timeout",
    "runs",
    "pid",
    "last exit code",
    "last exit reason",
    "last terminating signal",
    "pended nondemand spawn",
    "job state",
];
/// What the tail begins with: written by launchd after all that is raw, so that the last line of that name is
/// its own. The next counts where a release does not write the one before.
const ANCHORS: [&str; 3] = ["minimum runtime", "exit timeout", "runs"];

/// The top level of what was printed.
#[derive(Debug)]
pub(crate) struct Seen(HashMap<&'static str, String>);

impl Seen {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    /// Takes the known keys of `lines` that stand at the top level; the first of each counts.
    fn take<'a>(&mut self, lines: impl Iterator<Item = &'a str>, known: &[&'static str]) {
        let mut inside = false;
        for line in lines {
            let Some(top) = top(line) else { continue };
            if top == "}" {
                inside = false;
            } else if top.ends_with(" = {") || top.ends_with(" => {") {
                inside = true;
            } else if !inside
                && let Some((key, value)) = top.split_once(" = ")
                && let Some(key) = known.iter().find(|one| **one == key.trim())
            {
                self.0.entry(key).or_insert_with(|| value.trim().to_owned());
            }
        }
    }
}

/// What stands at the top level of the block: behind one tab.
fn top(line: &str) -> Option<&str> {
    line.strip_prefix('\t').filter(|rest| !rest.starts_with(['\t', ' ']))
}

/// Reads the block of `target`; `None` when it is not that of the target, or is cut.
pub(crate) fn read(text: &str, target: &str) -> Option<Seen> {
    let lines: Vec<&str> = text.lines().skip_while(|line| line.trim().is_empty()).collect();
    let header = lines.first()?.strip_suffix(" = {")?;
    // Up to 10.15 it was the label alone (wazuh-packages#2206, puppet-boxen#104).
    let label = target.rsplit_once('/').map_or(target, |(_, label)| label);
    if header != target && header != label {
        return None;
    }
    // The end is the last line, for the script of an argument may hold a brace as well.
    let end = lines.iter().rposition(|line| !line.trim().is_empty())?;
    if end == 0 || lines[end] != "}" {
        return None;
    }
    let body = &lines[1..end];
    let opens = |line: &&str| top(line).is_some_and(|top| top.ends_with('{'));
    let head = body.iter().position(opens).unwrap_or(body.len());
    let anchor = |key: &str| {
        let begins = |line: &&str| {
            top(line).and_then(|top| top.split_once(" = ")).is_some_and(|(found, _)| found.trim() == key)
        };
        body.iter().rposition(begins)
    };
    // Without an anchor nothing tells what is raw from what is not, but the blocks that enclose it.
    let tail = ANCHORS.iter().find_map(|key| anchor(key)).unwrap_or(0);
    let mut seen = Seen(HashMap::new());
    seen.take(body[..head].iter().copied(), &HEAD);
    seen.take(body[tail..].iter().copied(), &TAIL);
    Some(seen)
}

/// Whether `launchctl print-disabled` says that `label` is disabled; `None` when it does not name it, which
/// means that nobody has said anything about it.
pub(crate) fn disabled(text: &str, label: &str) -> Option<bool> {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.trim().split_once(" => ")?;
        (name.trim_matches('"') == label).then_some(value)
    })?;
    match value {
        // Up to macOS 12 the word was that of the key Disabled.
        "disabled" | "true" => Some(true),
        "enabled" | "false" => Some(false),
        _ => None,
    }
}
