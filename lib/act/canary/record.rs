//! The record of a death: one line in exits.log, on the disk before anything slow is asked, and never lost
//! for want of a place.

use crate::act::canary::cause::CauseVerdict;
use crate::act::canary::target::CanaryTarget;
use crate::sys::child::Exit;
use crate::sys::process::Ending;
use crate::sys::{file, signal, trust};
use crate::words::error::{Error, Result, reason};
use crate::words::logfmt;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where records, forensics and armings are.
#[derive(Clone, Debug)]
pub struct RecordDirectory {
    directory: PathBuf,
}

impl RecordDirectory {
    /// A log directory.
    pub fn new(directory: PathBuf) -> RecordDirectory {
        RecordDirectory { directory }
    }

    /// The log of deaths.
    pub fn log(&self) -> PathBuf {
        self.directory.join("exits.log")
    }

    /// The directory of what was found at each death.
    pub fn forensics(&self) -> PathBuf {
        self.directory.join("server-deaths")
    }

    /// The directory of the armings.
    pub fn armings(&self) -> PathBuf {
        self.directory.join("canary")
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// That forensics cannot be kept, and why.
    pub fn cannot_keep(&self, cause: &io::Error) -> String {
        format!("cannot keep all forensics in {}: {}", self.forensics().display(), reason(cause))
    }

    /// Whether nobody else can say what is armed here, nor lead us elsewhere.
    ///
    /// # Errors
    /// 77 where somebody can.
    pub fn check(&self) -> Result<()> {
        match trust::check_directory(&self.armings()) {
            Err(cause) if trust::is_distrust(&cause) => Err(Error::io(
                format!("cannot believe what is armed in {}", self.armings().display()),
                &cause,
            )),
            _ => Ok(()),
        }
    }

    /// Makes the directories, 0700 where they are missing.
    ///
    /// # Errors
    /// When one cannot be made, or can be changed by others.
    pub fn make(&self) -> Result<()> {
        for path in [self.directory.clone(), self.forensics(), self.armings()] {
            file::own_dir(&path)
                .map_err(|cause| Error::io(format!("cannot keep records in {}", path.display()), &cause))?;
        }
        Ok(())
    }
}

/// A death, judged.
#[derive(Clone, Debug)]
pub struct Death {
    /// What died is called.
    pub identity: String,
    /// Its pid.
    pub pid: i32,
    /// Its socket.
    pub socket: Option<String>,
    /// When it was seen.
    pub at: SystemTime,
    /// How the kernel says it ended.
    pub ending: Option<Ending>,
    /// Why.
    pub verdict: CauseVerdict,
    /// The file with everything else; `None` when it could not be made.
    pub forensics: Option<PathBuf>,
}

impl Death {
    /// The death of `target`.
    pub fn new(
        target: &CanaryTarget,
        at: SystemTime,
        ending: Option<Ending>,
        verdict: CauseVerdict,
    ) -> Death {
        let socket = target.socket.as_ref().map(|path| path.to_string_lossy().into_owned());
        Death {
            identity: target.identity.clone(),
            pid: target.who.pid.number(),
            socket,
            at,
            ending,
            verdict,
            forensics: None,
        }
    }

    /// When, as iapeer writes it.
    pub fn time(&self) -> String {
        crate::words::stamp::seconds(self.at)
    }

    /// Where its forensics belong: the second alone would collide (facts C2).
    pub fn file_name(&self) -> String {
        let seconds = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        format!("{}-{seconds}-{}.txt", self.identity, self.pid)
    }

    fn exit(&self) -> Option<Exit> {
        self.ending.map(|ending| ending.exit)
    }

    /// The line of exits.log: iapeer's keys in its order, ours after them. There is no client of tmux whose
    /// status could be told, hence `wait_rc=-`.
    pub fn line(&self) -> String {
        let mut line = String::new();
        let forensics =
            self.forensics.as_ref().map_or("-".to_owned(), |path| path.to_string_lossy().into_owned());
        let fields = [
            ("ts", self.time()),
            ("ev", "server-exit".to_owned()),
            ("identity", self.identity.clone()),
            ("server_pid", self.pid.to_string()),
            ("wait_rc", "-".to_owned()),
            ("cause", self.verdict.cause.word().to_owned()),
            ("forensics", forensics),
            ("sig", self.signal_word()),
            ("exit", self.exit_word()),
            (
                "core",
                self.ending.map_or("unknown", |ending| if ending.core { "yes" } else { "no" }).to_owned(),
            ),
            ("sender", self.verdict.sender.clone().unwrap_or("unknown".to_owned())),
            ("evidence", self.verdict.evidence.first().cloned().unwrap_or_default()),
            ("host", "baa-canary".to_owned()),
        ];
        for (key, value) in fields {
            logfmt::field(&mut line, key, &value);
        }
        line
    }

    fn signal_word(&self) -> String {
        match (self.verdict.signal, self.exit()) {
            (Some(number), _) => signal::name(number),
            (None, Some(_)) => "-".to_owned(),
            (None, None) => "unknown".to_owned(),
        }
    }

    fn exit_word(&self) -> String {
        match self.exit() {
            Some(Exit::Code(code)) => code.to_string(),
            Some(Exit::Signal(_)) => "-".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        json!({
            "schema": "baa.canary/1",
            "ts": self.time(),
            "ev": "server-exit",
            "identity": self.identity,
            "server_pid": self.pid,
            "socket": self.socket,
            "cause": self.verdict.cause.word(),
            "signal": self.verdict.signal.map(signal::name),
            "exit": match self.exit() { Some(Exit::Code(code)) => Some(code), _ => None },
            "core": self.ending.map(|ending| ending.core),
            "sender": self.verdict.sender,
            "evidence": self.verdict.evidence,
            "forensics": self.forensics.as_ref().map(|path| path.to_string_lossy()),
        })
    }
}

/// Writes lines durably: into the log, made anew where it was removed; when its disk is full, after
/// `make_room`; when that fails too, into the log of a second place. Says where they went.
///
/// # Errors
/// When no place takes them.
pub fn write(records: &RecordDirectory, lines: &str, make_room: impl FnOnce()) -> io::Result<PathBuf> {
    let first = || match file::own_dir(records.directory()) {
        Err(cause) if trust::is_distrust(&cause) => Err(cause),
        _ => file::append_durably(&records.log(), lines),
    };
    let tried = first().or_else(|cause| {
        make_room();
        if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            first()
        } else {
            Err(cause)
        }
    });
    let Err(cause) = tried else { return Ok(records.log()) };
    for second in [file::state_dir(), file::runtime_dir()] {
        let second = RecordDirectory::new(second.join("canary"));
        if second.directory() != records.directory()
            && file::own_dir(second.directory()).is_ok()
            && file::append_durably(&second.log(), lines).is_ok()
        {
            return Ok(second.log());
        }
    }
    Err(cause)
}
