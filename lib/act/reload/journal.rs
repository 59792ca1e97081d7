//! The journal of the reloads of one label: what was begun, by whom, and how it ended. It is what a
//! post-mortem asks first; and a reload that was begun and has no end was cut off, and is finished by the
//! next one.
//!
//! JSON lines, in the order of writing: `begin` with the plan, `end` with what came of it. Written under the
//! label's lock, so there is one writer at a time.

use super::ReloadReport;
use super::files::ReloadFiles;
use super::unfinished::UnfinishedReload;
use crate::sys::file;
use crate::sys::process::{self, Pid};
use crate::sys::{trust, user};
use crate::words::error::{Error, Result};
use crate::words::span::millis;
use crate::words::stamp;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The name and version of the lines.
const SCHEMA: &str = "baa.reload-journal/1";
/// Beyond this size the older half is dropped: some five hundred reloads.
const LIMIT: u64 = 512 * 1024;

/// Who has asked for a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadRequester {
    /// The user's number.
    pub uid: u32,
    /// The user's name, where it has one.
    pub user: Option<String>,
    /// The process that asked.
    pub pid: i32,
    /// Its parent, by the name of its program. Its arguments are not told: they may hold secrets.
    pub parent: Option<String>,
    /// The parent's pid.
    pub parent_pid: Option<i32>,
}

impl ReloadRequester {
    /// We.
    pub fn ourselves() -> ReloadRequester {
        let parent = Pid::parent();
        ReloadRequester {
            uid: user::own_uid(),
            user: user::own().ok().flatten().map(|own| own.name),
            pid: Pid::own().number(),
            parent: parent.and_then(process::name),
            parent_pid: parent.map(Pid::number),
        }
    }
}

/// Who saw a reload end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadFinisher {
    /// It came to its end.
    Itself,
    /// Its guardian has finished it.
    Guardian,
    /// The next one, or `--resume`, has.
    Resume,
}

impl ReloadFinisher {
    /// Its name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            ReloadFinisher::Itself => "itself",
            ReloadFinisher::Guardian => "guardian",
            ReloadFinisher::Resume => "resume",
        }
    }
}

/// How a reload ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadEnd {
    /// Its outcome, by name.
    pub outcome: String,
    /// The status.
    pub exit: u8,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// The process after.
    pub new_pid: Option<i32>,
    /// Who saw it end.
    pub ended_by: ReloadFinisher,
    /// When the old process was gone, in milliseconds from the start.
    pub gone_after_ms: Option<u64>,
    /// When the job was registered again.
    pub up_after_ms: Option<u64>,
    /// When it was proven healthy.
    pub healthy_after_ms: Option<u64>,
    /// How long all took.
    pub elapsed_ms: u64,
}

impl ReloadEnd {
    /// Of `report`, as `ended_by` saw it.
    pub fn of(report: &ReloadReport, ended_by: ReloadFinisher) -> ReloadEnd {
        ReloadEnd {
            outcome: report.outcome.name().to_owned(),
            exit: report.status.code(),
            reason: report.reason.clone(),
            new_pid: report.new.map(Pid::number),
            ended_by,
            gone_after_ms: report.gone_after.map(millis),
            up_after_ms: report.up_after.map(millis),
            healthy_after_ms: report.healthy_after.map(millis),
            elapsed_ms: millis(report.elapsed),
        }
    }
}

/// A reload as the journal tells of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadRecord {
    /// Tells it from all others of the label.
    pub id: String,
    /// When it began.
    pub at: String,
    /// Who asked.
    pub by: ReloadRequester,
    /// The manager.
    pub manager: String,
    /// What the manager calls the job.
    pub target: String,
    /// The SHA-256 of the definition that worked last.
    pub hash_before: Option<String>,
    /// The SHA-256 of the new one.
    pub hash_after: Option<String>,
    /// The process before.
    pub old_pid: Option<i32>,
    /// What is left to be done if it is cut off.
    pub plan: UnfinishedReload,
    /// How it ended; `None` while it runs, or when it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ReloadEnd>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Begin {
        schema: String,
        #[serde(flatten)]
        record: Box<ReloadRecord>,
    },
    End {
        id: String,
        at: String,
        #[serde(flatten)]
        end: ReloadEnd,
    },
}

/// The journal of one label.
#[derive(Clone, Debug)]
pub struct ReloadJournal {
    files: ReloadFiles,
}

impl ReloadJournal {
    /// The journal of the label of `files`.
    pub fn of(files: &ReloadFiles) -> ReloadJournal {
        ReloadJournal { files: files.clone() }
    }

    /// What tells a reload that begins now from all others.
    pub fn new_id() -> String {
        format!("{}-{}", stamp::millis(SystemTime::now()), Pid::own())
    }

    /// Writes that a reload begins.
    ///
    /// # Errors
    /// 74, 77: then it must not begin, for nobody would know of it.
    pub fn begin(&self, record: ReloadRecord) -> Result<()> {
        self.shorten();
        self.append(&Line::Begin { schema: SCHEMA.to_owned(), record: Box::new(record) })
    }

    /// Writes how the reload `id` ended.
    ///
    /// # Errors
    /// 74, 77.
    pub fn end(&self, id: &str, end: ReloadEnd) -> Result<()> {
        self.append(&Line::End { id: id.to_owned(), at: stamp::millis(SystemTime::now()), end })
    }

    /// All that it tells of, the oldest first. Lines that cannot be read are passed over: an old one must not
    /// hide the new ones.
    ///
    /// # Errors
    /// 74, 77; an absent journal is an empty one.
    pub fn records(&self) -> Result<Vec<ReloadRecord>> {
        let mut records: Vec<ReloadRecord> = Vec::new();
        for line in self.text()?.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Begin { record, .. }) => records.push(*record),
                Ok(Line::End { id, end, .. }) => {
                    // The first end counts: whoever comes later has found nothing left to do.
                    let mut open = records.iter_mut().rev();
                    if let Some(record) = open.find(|record| record.id == id && record.end.is_none()) {
                        record.end = Some(end);
                    }
                }
                Err(_) => {}
            }
        }
        Ok(records)
    }

    /// The last reload, if it was begun and has no end. It may run: its lock tells.
    ///
    /// # Errors
    /// As `records`: then it cannot be told.
    pub fn open_record(&self) -> Result<Option<ReloadRecord>> {
        // There is one writer at a time: what was begun is open until the next line ends it.
        let text = self.text()?;
        let last = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        Ok(match last {
            Some(Line::Begin { record, .. }) => Some(*record),
            Some(Line::End { .. }) | None => None,
        })
    }

    fn text(&self) -> Result<String> {
        let path = self.files.journal();
        match trust::read(&path, LIMIT * 4) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(cause) => Err(Error::io(format!("cannot read '{}'", path.display()), &cause)),
        }
    }

    fn append(&self, line: &Line) -> Result<()> {
        let path = self.files.journal();
        let text = serde_json::to_string(line).map_err(Error::bug)?;
        file::append(&path, &text)
            .map_err(|cause| Error::io(format!("cannot write to '{}'", path.display()), &cause))
    }

    /// Drops the older half of one that has grown too large. What cannot be dropped is kept.
    fn shorten(&self) {
        let path = self.files.journal();
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > LIMIT)
            && let Ok(text) = self.text()
        {
            let lines: Vec<&str> = text.lines().collect();
            let mut newer = lines[lines.len() / 2..].join("\n");
            newer.push('\n');
            let _ = file::replace(&path, newer.as_bytes(), 0o600);
        }
    }
}
