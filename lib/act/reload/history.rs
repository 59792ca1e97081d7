//! What the journals tell: what was reloaded, when, by whom, and how it ended.

use super::files::ReloadFiles;
use super::journal::{ReloadFinisher, ReloadJournal, ReloadRecord};
use crate::service::check_unit_name;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use serde::Serialize;
use std::time::Duration;

/// The name and version of the JSON object.
const SCHEMA: &str = "baa.reload-history/1";

/// One reload, for programs.
#[derive(Serialize)]
struct ToldReload<'a> {
    schema: &'static str,
    label: &'a str,
    #[serde(flatten)]
    record: &'a ReloadRecord,
}

/// The reloads of `labels`, or of all where there are none, in the order of their beginnings; of each label
/// only the `last`. A line for each: for people, or one JSON object.
///
/// # Errors
/// 2 for what is no label; 66 for one of which no reload is known; 74, 77 where a journal cannot be read.
pub fn lines(labels: &[String], last: Option<usize>, json: bool) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for label in labels {
        check_unit_name(label).map_err(|why| Error::new(Status::Usage, why))?;
        let found = ReloadFiles::with_journal(Some(label));
        if found.is_empty() {
            return Err(Error::new(Status::NoInput, format!("no reload of {label} is known")));
        }
        all.extend(found);
    }
    if labels.is_empty() {
        all = ReloadFiles::with_journal(None);
    }
    let mut found: Vec<(String, ReloadRecord, bool)> = Vec::new();
    for files in all {
        let records = ReloadJournal::of(&files).records()?;
        let first = last.map_or(0, |last| records.len().saturating_sub(last));
        let newest = records.len();
        for (index, record) in records.into_iter().enumerate().skip(first) {
            let runs = record.end.is_none() && index + 1 == newest && files.locked();
            found.push((files.label().to_owned(), record, runs));
        }
    }
    found.sort_by(|(_, one, _), (_, other, _)| one.at.cmp(&other.at));
    found
        .iter()
        .map(|(label, record, runs)| {
            if json {
                serde_json::to_string(&ToldReload { schema: SCHEMA, label, record }).map_err(Error::bug)
            } else {
                Ok(text(label, record, *runs))
            }
        })
        .collect()
}

/// One reload, in a line; `runs` says whether one without an end is under way.
pub(super) fn text(label: &str, record: &ReloadRecord, runs: bool) -> String {
    let process = |pid: Option<i32>| pid.map_or("none".to_owned(), |pid| pid.to_string());
    let by = &record.by;
    let user = by.user.clone().unwrap_or_else(|| by.uid.to_string());
    let parent = by.parent.as_ref().map_or(String::new(), |parent| format!(" from {parent}"));
    let end = record.end.as_ref();
    let outcome = match end {
        Some(end) => end.outcome.clone(),
        None if runs => "running".to_owned(),
        None => "cut-off".to_owned(),
    };
    let mut words = vec![record.at.clone(), label.to_owned(), outcome];
    let took = end.map(|end| format!("in {}", span::show(Duration::from_millis(end.elapsed_ms))));
    words.extend(took);
    words.push(format!(
        "process {} -> {}",
        process(record.old_pid),
        process(end.and_then(|end| end.new_pid))
    ));
    let short = |hash: &Option<String>| {
        hash.as_ref().map_or("none".to_owned(), |hash| hash.chars().take(12).collect())
    };
    words.push(format!("file {} -> {}", short(&record.hash_before), short(&record.hash_after)));
    words.push(format!("by {user} (process {}{parent})", by.pid));
    words.extend(
        end.filter(|end| end.ended_by != ReloadFinisher::Itself)
            .map(|end| format!("ended by its {}", end.ended_by.name())),
    );
    words.extend(end.and_then(|end| end.reason.as_ref()).map(|reason| format!(": {reason}")));
    words.join("  ").replace("  : ", ": ")
}
