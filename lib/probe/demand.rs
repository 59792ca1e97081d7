//! Which processes' answers count: no other wait tool tells the answer of an old process from that of the new
//! one.

use crate::probe::ProbeAnswer;
use crate::sys::net::Link;
use crate::sys::owner::{self, Answerer};
use crate::sys::process::{Identity, Pid, Start, Table};
use crate::words::failure::{Class, Failure};

/// Who must have answered. The default takes anybody.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// One of these processes or a descendant of theirs, if given.
    pub among: Option<Vec<Pid>>,
    /// Only a process that was started after this, if given.
    pub newer_than: Option<Start>,
    /// Whether a listening socket that others hold too tells nothing: an old life and a new one may share it.
    pub exclusive: bool,
}

impl Demand {
    /// Whether anything is demanded at all.
    pub fn is_any(&self) -> bool {
        self.among.is_none() && self.newer_than.is_none()
    }

    /// Judges the process at the other end of `link`.
    ///
    /// # Errors
    /// `wrong-process` when it is another one, `unknown-process` when it cannot be told.
    pub fn judge(&self, link: &Link) -> Result<ProbeAnswer, Failure> {
        if self.is_any() {
            return Ok(ProbeAnswer::default());
        }
        let pid = match &self.among {
            None => owner::any(link),
            Some(roots) => {
                let tree: Vec<Pid> = Table::read().trees(roots).iter().map(|one| one.pid).collect();
                if self.exclusive && owner::shared(link, &tree) {
                    return Err(Failure::new(
                        Class::UnknownProcess,
                        "answered on a socket that others hold too, and hung up before it could be told \
                             who did",
                    ));
                }
                match owner::of(link, &tree) {
                    Answerer::Among(pid) => Some(pid),
                    Answerer::Another(pid) => {
                        return Err(wrong(pid, &format!("not process {} or a child of it", list(roots))));
                    }
                    Answerer::Unknown => None,
                }
            }
        };
        let Some(pid) = pid else {
            let why = match self.among.iter().flatten().find(|pid| owner::is_hidden(**pid)) {
                Some(pid) => format!("not permitted to look into process {pid}, which takes CAP_SYS_PTRACE"),
                None => "another machine, or not permitted to look".to_owned(),
            };
            return Err(Failure::new(
                Class::UnknownProcess,
                format!("cannot tell which process answered ({why})"),
            ));
        };
        self.judge_age(pid)?;
        Ok(ProbeAnswer { pid: Some(pid), http_status: None })
    }

    /// Judges a process by its age alone.
    ///
    /// # Errors
    /// As `judge`.
    pub fn judge_age(&self, pid: Pid) -> Result<(), Failure> {
        let Some(limit) = self.newer_than else { return Ok(()) };
        match Identity::of(pid) {
            Some(who) if who.start > limit => Ok(()),
            Some(_) => Err(wrong(Some(pid), "which was started too early")),
            None => Err(Failure::new(Class::UnknownProcess, format!("process {pid} answered and is gone"))),
        }
    }
}

fn wrong(pid: Option<Pid>, why: &str) -> Failure {
    let who = match pid {
        Some(pid) => match crate::sys::process::name(pid) {
            Some(name) => format!("process {pid} ({name})"),
            None => format!("process {pid}"),
        },
        None => "another process".to_owned(),
    };
    Failure::new(Class::WrongProcess, format!("answered by {who}, {why}"))
}

fn list(pids: &[Pid]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
