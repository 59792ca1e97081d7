//! The guardian of a reload: a process of ours in a session of its own, started before the job is taken down
//! and with the plan in hand. When the reload dies of anything, its end of the socket closes, and the
//! guardian finishes what it had begun. It holds the lock of the label too, so that the next reload waits
//! for it to be done.

use super::files::ReloadFiles;
use super::journal::{ReloadEnd, ReloadFinisher, ReloadJournal};
use super::secrets;
use super::unfinished::UnfinishedReload;
use super::{ReloadOutcome, ReloadPhase};
use crate::life;
use crate::sys::child::{self, Signal, Spec, Stdio};
use crate::sys::clock::Real;
use crate::sys::file::Lock;
use crate::sys::memory;
use crate::sys::poll::{self, For};
use crate::sys::secret;
use crate::sys::signal::Signals;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The verb that a guardian is started with.
const VERB: &str = "guard";
/// The variable that tells the number of its end of the socket.
const CONTROL: &str = "BAA_RELOAD_CONTROL_FD";
/// How long it may take until it stands by.
const BEGIN: Duration = Duration::from_secs(10);
/// What it says then, and what it is told when nothing is left to be done.
const READY: &str = "ready";
const DONE: &str = "done";
/// The longest plan.
const PLAN_LIMIT: u64 = 1 << 20;

/// What it is told first.
#[derive(Serialize, Deserialize)]
struct Orders {
    /// The reload's id in the journal.
    id: String,
    plan: UnfinishedReload,
    /// Under which number it has inherited the lock.
    lock: i32,
    /// How far the reload is, where it has begun.
    phase: Option<String>,
}

/// A guardian that stands by.
pub struct Guardian {
    wire: UnixStream,
}

impl Guardian {
    /// Starts one for the reload `id`, which has come as far as `phase`, and waits until it stands by. It
    /// shares `lock`.
    ///
    /// # Errors
    /// 69 to 71 when none can be had; then nothing must be touched.
    pub fn post(
        id: &str,
        plan: &UnfinishedReload,
        phase: Option<ReloadPhase>,
        lock: &Lock,
    ) -> Result<Guardian> {
        let cannot = |cause: std::io::Error| Error::io("cannot start a guardian of the reload", &cause);
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let theirs = OwnedFd::from(theirs);
        let shared = lock.share().map_err(cannot)?;
        let mut spec = Spec::new(child::own_program().map_err(cannot)?, [VERB]);
        spec.arg0 = Some("baa-reload".into());
        spec.env.push((CONTROL.into(), theirs.as_raw_fd().to_string().into()));
        // It is no part of a life that we were started in.
        spec.unset.push(life::MARK.into());
        spec.stdio = [Some(Stdio::null()), Some(Stdio::null()), Some(Stdio::null())];
        spec.only_passed = true;
        spec.pass.push((theirs.as_raw_fd(), Arc::new(theirs)));
        let phase = phase.map(|phase| phase.name().to_owned());
        let orders = serde_json::to_string(&Orders {
            id: id.to_owned(),
            plan: plan.clone(),
            lock: shared.as_raw_fd(),
            phase,
        });
        let orders = orders.map_err(Error::bug)?;
        spec.pass.push((shared.as_raw_fd(), Arc::new(shared)));
        ours.set_read_timeout(Some(BEGIN)).map_err(cannot)?;
        ours.set_write_timeout(Some(BEGIN)).map_err(cannot)?;
        let mut wire = &ours;
        // They are there before it is, whatever becomes of us meanwhile.
        writeln!(wire, "{orders}").map_err(cannot)?;
        spec.start()?;
        let mut word = String::new();
        BufReader::new(wire.take(64)).read_line(&mut word).map_err(cannot)?;
        if word.trim_end() != READY {
            return Err(Error::new(Status::Unavailable, "the guardian of the reload did not begin"));
        }
        Ok(Guardian { wire: ours })
    }

    /// Tells it what comes next; says whether it is there to hear it.
    pub fn tell(&self, phase: ReloadPhase) -> bool {
        writeln!(&self.wire, "{}", phase.name()).is_ok()
    }

    /// Lets it go: nothing is left to be done.
    pub fn dismiss(self) {
        let _ = writeln!(&self.wire, "{DONE}");
    }
}

/// Stands by for a reload, and finishes it if it dies.
///
/// # Errors
/// When nobody has started us so.
pub fn stand_by() -> Result<Status> {
    let usage = || Error::new(Status::Usage, "only baa-reload starts a guardian");
    // What it brings up inherits neither the word nor the descriptors: a keeper that held the lock would let
    // nobody reload its job again.
    secret::take(&[CONTROL]);
    let number = secret::taken(CONTROL).and_then(|number| number.reveal().parse().ok());
    let stream = number.and_then(|number| child::inherited(number).ok()).map(UnixStream::from);
    let stream = stream.ok_or_else(usage)?;
    // Whatever ends the reload must not end us: not a terminal, not a group, not a machine that asks all to
    // go, before the job is registered.
    let unheard = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
    let _signals = Signals::catch(&unheard).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let mut lines = BufReader::new(stream.try_clone().map_err(|_| usage())?);
    let mut line = String::new();
    let began = poll::wait(&[(stream.as_fd(), For::Reading)], Some(Instant::now() + BEGIN));
    if !began.is_ok_and(|ready| ready.contains(&true)) {
        return Err(usage());
    }
    (&mut lines).take(PLAN_LIMIT).read_line(&mut line).map_err(|_| usage())?;
    let orders: Orders = serde_json::from_str(&line).map_err(|_| usage())?;
    let _lock = child::inherited(orders.lock).map_err(|_| usage())?;
    // Whoever does not hear it is dead already.
    let _ = writeln!(&stream, "{READY}");
    memory::shrink();
    let mut phase = orders.phase.as_deref().and_then(ReloadPhase::named);
    loop {
        line.clear();
        match (&mut lines).take(256).read_line(&mut line) {
            Ok(0) => break,
            Ok(_) if line.trim_end() == DONE => return Ok(Status::Done),
            Ok(_) => phase = ReloadPhase::named(line.trim_end()).or(phase),
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let journal = ReloadJournal::of(&ReloadFiles::of(&orders.plan.label, &*orders.plan.service()?)?);
    // It may have written its end and died before it let us go.
    if journal.open_record().is_ok_and(|open| open.is_none_or(|open| open.id != orders.id)) {
        return Ok(Status::Done);
    }
    finish(&journal, &orders.id, &orders.plan, phase, ReloadFinisher::Guardian)
}

/// Finishes a reload that was cut off, and writes how it ended. Without a `phase` nothing was touched. A
/// guardian puts the last file that worked in the place of one that is refused; anybody later leaves it: it
/// may be another by then, which somebody wants to be told of.
///
/// # Errors
/// 74, 77 for the journal.
pub fn finish(
    journal: &ReloadJournal,
    id: &str,
    plan: &UnfinishedReload,
    phase: Option<ReloadPhase>,
    ended_by: ReloadFinisher,
) -> Result<Status> {
    let service = plan.service()?;
    let Some(phase) = phase else {
        let end = ReloadEnd {
            outcome: ReloadOutcome::Refused.name().to_owned(),
            exit: Status::Internal.code(),
            reason: Some("it was cut off before anything was touched".to_owned()),
            new_pid: None,
            ended_by,
            gone_after_ms: None,
            up_after_ms: None,
            healthy_after_ms: None,
            elapsed_ms: 0,
        };
        journal.end(id, end)?;
        return Ok(Status::Done);
    };
    let mut report = plan.finish(phase, ended_by == ReloadFinisher::Guardian, &*service, &Real);
    report.redact(&secrets::redactor_of(plan, &*service));
    journal.end(id, ReloadEnd::of(&report, ended_by))?;
    Ok(report.status)
}
