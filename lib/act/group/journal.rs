//! What happened to a group, a line of JSON each.

use crate::act::group::changes::EntryChange;
use crate::act::group::entry::GroupEntry;
use crate::act::group::output::LogFile;
use crate::sys::outlet::Outlet;
use crate::words::stamp;
use serde_json::{Value, json};
use std::path::Path;
use std::time::SystemTime;

/// The name and version of the lines; that of the beginning has it.
pub(super) const SCHEMA: &str = "baa.daemons-journal/2";

/// The journal.
pub(super) struct Journal(LogFile);

impl Journal {
    /// The one at `path`, written through `outlet`.
    pub(super) fn new(path: &Path, outlet: &Outlet) -> Journal {
        let loss = |lines: u64, why: &str| {
            let stamp = stamp::millis(SystemTime::now());
            format!("{}\n", json!({ "ts": stamp, "ev": "lost", "lines": lines, "why": why }))
        };
        Journal(LogFile::new(path, outlet, loss))
    }

    /// Notes an event of an entry, or of the group, with `more` to say.
    pub(super) fn note(&mut self, event: &str, id: Option<&str>, more: Value) {
        let mut line = json!({ "ts": stamp::millis(SystemTime::now()), "ev": event });
        id.iter().for_each(|id| line["id"] = json!(id));
        if let Value::Object(more) = more {
            more.into_iter().for_each(|(key, value)| line[&key] = value);
        }
        self.0.add(line.to_string().as_bytes());
    }

    /// Notes the state of an entry.
    pub(super) fn state(&mut self, entry: &GroupEntry, change: &EntryChange) {
        let more = json!({
            "state": change.state.word(), "message": change.message, "pid": change.pid,
            "failed_exits": entry.failed
        });
        self.note("state", Some(&change.id), more);
    }
}
