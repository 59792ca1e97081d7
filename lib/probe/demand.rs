//! Which processes' answers count: no other wait tool tells the answer of an old process from that of the new
//! one.

use crate::probe::ProbeAnswer;
use crate::probe::inquiry::Inquiry;
use crate::probe::lineage::Lineage;
use crate::sys::net::Link;
use crate::sys::process::{self, Age, Identity, Pid};
use crate::words::failure::{Class, Failure};
use std::time::Instant;

/// Who must have answered. The default takes anybody.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// One of these processes or a descendant of theirs, if given.
    pub among: Option<Lineage>,
    /// Only a process that was started after this, if given.
    pub newer_than: Option<Age>,
    /// Whether it is enough that such a process may have answered: it holds the socket, and others hold it
    /// too; and whether others may have led to it. Else it must be shown that nobody else answered.
    pub any_process: bool,
}

impl Demand {
    /// Whether anything is demanded at all.
    pub fn is_any(&self) -> bool {
        self.among.is_none() && self.newer_than.is_none()
    }

    /// Judges the process at the other end of `link`, by what can be told of it just now; `inquire` is for
    /// whoever can ask again.
    ///
    /// # Errors
    /// `wrong-process` when it is another one, `unknown-process` when it cannot be told.
    pub async fn judge(&self, link: &Link) -> Result<ProbeAnswer, Failure> {
        self.inquire(link).answered(Instant::now()).await
    }

    /// The question who is at the other end of `link`, to be asked while the connection stands.
    pub fn inquire(&self, link: &Link) -> Inquiry<'_> {
        Inquiry::new(self, link.clone())
    }

    /// Judges a process by its age alone.
    ///
    /// # Errors
    /// As `judge`.
    pub fn judge_age(&self, pid: Pid) -> Result<(), Failure> {
        let Some(limit) = self.newer_than else { return Ok(()) };
        match Identity::of(pid) {
            Some(who) if limit.is_before(who) => Ok(()),
            Some(_) => Err(wrong(pid, "which was started too early")),
            None => Err(Failure::new(Class::UnknownProcess, format!("process {pid} answered and is gone"))),
        }
    }

    /// Judges a process; `tree` are the members of `among`.
    pub(super) fn judge_process(&self, pid: Pid, tree: &[Identity]) -> Result<(), Failure> {
        if let Some(lineage) = &self.among
            && !tree.iter().any(|one| one.pid == pid)
        {
            return Err(wrong(pid, &format!("not process {} or a child of it", list(lineage.roots()))));
        }
        self.judge_age(pid)
    }
}

fn wrong(pid: Pid, why: &str) -> Failure {
    Failure::new(Class::WrongProcess, format!("answered by {}, {why}", named(pid)))
}

/// A process, for people.
pub(super) fn named(pid: Pid) -> String {
    match process::name(pid) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

fn list(pids: &[Pid]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
