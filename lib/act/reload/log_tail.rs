//! The ends of a job's logs, for its report: whole lines, of the new life alone where it is known when that
//! began, and without secrets.

use crate::service::job::Job;
use crate::sys::file::{self, LogMark};
use crate::sys::redact::Redactor;
use crate::sys::user;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How many lines of each are told.
pub const LOG_LINES: usize = 20;
/// Text is folded after so many letters.
const FOLD: usize = 160;

/// How long the logs of a job were when its reload began.
#[derive(Clone, Debug)]
pub struct LogMarks {
    stdout: Option<LogMark>,
    stderr: Option<LogMark>,
}

impl LogMarks {
    /// Of the logs of `job`, now.
    pub fn of(job: &Job) -> LogMarks {
        let uid = reader(job);
        let mark = |path: Option<&Path>| path.map(|path| LogMark::of(path, uid));
        LogMarks { stdout: mark(job.stdout.as_deref()), stderr: mark(job.stderr.as_deref()) }
    }
}

/// Whoever runs a job says what its logs are: no one is shown what that user could not have written.
fn reader(job: &Job) -> u32 {
    let uid = job.user.as_deref().and_then(|name| user::named(name).ok().flatten()).map(|who| who.uid);
    let of_file = || std::fs::metadata(&job.path).map(|found| found.uid()).ok();
    uid.or_else(of_file).unwrap_or_else(user::own_uid)
}

/// The end of one log, or why it cannot be had.
#[derive(Clone, Debug)]
pub struct LogTail {
    stream: &'static str,
    path: Option<std::path::PathBuf>,
    /// Whether only what is new is told.
    new: bool,
    tail: Result<Vec<String>, String>,
}

impl LogTail {
    /// Of the logs of `job`: what was written `since`, or all where that is not known.
    pub fn all_of(job: &Job, since: Option<&LogMarks>, redactor: &Redactor) -> Vec<LogTail> {
        let uid = reader(job);
        let logs = [
            ("stdout", job.stdout.as_deref(), since.and_then(|since| since.stdout.as_ref())),
            ("stderr", job.stderr.as_deref(), since.and_then(|since| since.stderr.as_ref())),
        ];
        let read = |(stream, path, since): (&'static str, Option<&Path>, Option<&LogMark>)| {
            let tail = path.map_or(Err("not set".to_owned()), |path| {
                let lines = file::last_lines(path, since, LOG_LINES, uid);
                lines.map_err(|cause| crate::words::error::reason(&cause))
            });
            let tail = tail.map(|lines| lines.iter().map(|line| redactor.text(line).into_owned()).collect());
            LogTail { stream, path: path.map(Path::to_owned), new: since.is_some(), tail }
        };
        logs.map(read).to_vec()
    }

    /// All of `logs` for people; one that both streams go to is told once.
    pub fn all_lines(logs: &[LogTail]) -> Vec<String> {
        match logs {
            [stdout, stderr] if stdout.path.is_some() && stdout.path == stderr.path => {
                LogTail { stream: "stdout and stderr", ..stdout.clone() }.lines()
            }
            logs => logs.iter().flat_map(LogTail::lines).collect(),
        }
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let path = self.path.as_ref().map_or(String::new(), |path| format!(" {}", path.display()));
        let name = format!("{} log{path}", self.stream);
        match &self.tail {
            Err(why) => vec![format!("{name}: {why}")],
            Ok(tail) if tail.is_empty() && self.new => vec![format!("{name}: nothing new")],
            Ok(tail) if tail.is_empty() => vec![format!("{name}: empty")],
            Ok(tail) => {
                let new = if self.new { "new, " } else { "" };
                let mut lines = vec![format!("{name} ({new}last {LOG_LINES} lines):")];
                lines.extend(tail.iter().flat_map(|line| fold(line)));
                lines
            }
        }
    }

    /// For programs: with all that was read.
    pub fn json(&self) -> Value {
        json!({
            "stream": self.stream,
            "path": self.path.as_ref().map(|path| path.to_string_lossy()),
            "new": self.new,
            "lines": self.tail.as_ref().ok(),
            "error": self.tail.as_ref().err(),
        })
    }
}

/// One line as several that are not too long, all indented, those after the first more so. It is folded at a
/// space, if there is one in the latter half.
pub fn fold(line: &str) -> Vec<String> {
    let line = crate::words::clean::uncoloured(line);
    let mut rest = line.as_str();
    let mut folded = Vec::new();
    loop {
        let indent = if folded.is_empty() { "  " } else { "      " };
        let Some((end, _)) = rest.char_indices().nth(FOLD) else {
            folded.push(format!("{indent}{rest}"));
            return folded;
        };
        let space = rest[..end].rfind(' ').map(|at| at + 1).filter(|at| *at > end / 2);
        let (part, more) = rest.split_at(space.unwrap_or(end));
        folded.push(format!("{indent}{}", part.trim_end()));
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_folded_and_nothing_of_it_is_lost() {
        assert_eq!(fold("short"), ["  short"]);
        assert_eq!(fold(""), ["  "]);
        let long = "ä".repeat(FOLD * 2 + 1);
        let folded = fold(&long);
        assert_eq!(folded.iter().map(|part| part.trim()).collect::<String>(), long);
        assert_eq!(folded.len(), 3);
        let words = "word ".repeat(100);
        let folded = fold(words.trim());
        assert!(folded.iter().all(|part| part.chars().count() <= FOLD + 6 && part.ends_with("word")));
        assert_eq!(folded.iter().map(|part| part.trim()).collect::<Vec<_>>().join(" "), words.trim());
    }
}
