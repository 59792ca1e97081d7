//! One watched process: its death, its channel, and what is asked about it when it is dead.

use crate::act::canary::arming::Arming;
use crate::act::canary::cause::Parting;
use crate::act::canary::channel::{Channel, Word};
use crate::act::canary::ring::Ring;
use crate::act::canary::target::CanaryTarget;
use crate::act::canary::watch::CanarySettings;
use crate::service::JobEnd;
use crate::service::tmux::{self, Unserved};
use crate::sys::cgroup::{Group, Kills};
use crate::sys::poll::{self, For};
use crate::sys::process::exits::Exits;
use crate::sys::process::{self, Ending, Watch};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// The kernel tells how a process ended within microseconds; one of another user only when it was reaped,
/// which its parent may put off.
const ENDING_LIMIT: Duration = Duration::from_millis(5);
const FOREIGN_ENDING_LIMIT: Duration = Duration::from_secs(1);
/// A client of a dead server ends at once.
const PARTING_LIMIT: Duration = Duration::from_millis(200);
/// How long a manager may take to notice the end of a job.
const MANAGER_LIMIT: Duration = Duration::from_millis(500);
/// Between two attempts to wait on a channel whose waiter was killed, and between opening one and looking
/// whether it holds up the server.
const CHANNEL_PAUSE: Duration = Duration::from_millis(500);
/// A waiter that is opened anew and hears a signal sooner has heard one that was left in the channel.
const STALE_SIGNAL: Duration = Duration::from_millis(100);

/// One process, watched.
pub(super) struct Watched {
    pub(super) target: CanaryTarget,
    watch: Watch,
    pub(super) arming: Arming,
    pub(super) group: Option<Box<(Group, Kills)>>,
    pub(super) ring: Ring,
    channel: Option<Channel>,
    /// When the channel was signalled last.
    signalled: Option<Instant>,
    /// When a new waiter is started.
    reopen: Option<Instant>,
    /// When the waiter was started, until it has been looked at; and whether it is not the first.
    opened: Option<Instant>,
    again: bool,
    pub(super) parting: Option<Parting>,
}

impl Watched {
    pub(super) fn begin(target: CanaryTarget, settings: &CanarySettings) -> Result<Watched> {
        let gone = || {
            Error::new(Status::Unavailable, format!("cannot watch process {}: it is dead", target.who.pid))
        };
        let arming = Arming::begin(&settings.records, &target)?;
        let arming = arming.ok_or_else(|| {
            Error::new(Status::Busy, format!("process {} is watched already", target.who.pid))
        })?;
        let watch = match Watch::over(target.who) {
            Ok(Some(watch)) => watch,
            failed => {
                arming.end();
                return Err(failed.err().map_or_else(gone, |cause| {
                    Error::io(format!("cannot watch process {}", target.who.pid), &cause)
                }));
            }
        };
        let group =
            Group::of(target.who.pid).and_then(|group| Some(Box::new((group.clone(), group.kills()?))));
        let mut one = Watched {
            target,
            watch,
            arming,
            group,
            ring: Ring::default(),
            channel: None,
            signalled: None,
            reopen: None,
            opened: None,
            again: false,
            parting: None,
        };
        if settings.channel {
            one.open();
        }
        Ok(one)
    }

    /// Readable when it is dead; `None` where the system must be asked.
    pub(super) fn death_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.fd()
    }

    /// Readable when there is something to hear.
    pub(super) fn channel_fd(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(Channel::fd)
    }

    pub(super) fn dead(&self) -> bool {
        self.watch.dead()
    }

    fn open(&mut self) {
        let socket = self.target.socket.as_ref();
        self.channel =
            socket.and_then(|socket| Channel::open(self.target.who.pid, socket, &self.target.identity));
        self.opened = self.channel.is_some().then(Instant::now);
    }

    pub(super) fn listen(&mut self, now: Instant, grace: Duration) {
        if self.signalled.is_some_and(|at| now.duration_since(at) > grace) {
            self.signalled = None;
        }
        let ready = self.channel.as_ref().is_some_and(|channel| {
            poll::wait(&[(channel.fd(), For::Reading)], Some(now)).is_ok_and(|ready| ready[0])
        });
        if ready && let Some(word) = self.channel.as_mut().and_then(Channel::hear) {
            self.heard(word, now, grace);
        }
        if self.opened.is_some_and(|at| now >= at + CHANNEL_PAUSE) {
            self.opened = None;
            // A client that comes while the server is ending is never told to go, and the server waits for it
            // (tmux 3.3a): it must not be we who keep it from its end.
            if self
                .target
                .socket
                .as_ref()
                .is_some_and(|socket| matches!(tmux::listener(socket), Err(Unserved::Down(_))))
            {
                self.channel = None;
                self.reopen = Some(now + CHANNEL_PAUSE);
            }
        }
        if self.reopen.is_some_and(|at| now >= at) {
            self.reopen = None;
            let serves = self
                .target
                .socket
                .as_ref()
                .is_some_and(|socket| tmux::listener(socket) == Ok(self.target.who.pid));
            self.again = true;
            if serves {
                self.open();
            } else {
                self.reopen = Some(now + CHANNEL_PAUSE * 10);
            }
        }
    }

    /// When `listen` is due without anything to hear.
    pub(super) fn due(&self) -> Option<Instant> {
        self.opened.map(|at| at + CHANNEL_PAUSE).into_iter().chain(self.reopen).min()
    }

    fn heard(&mut self, word: Word, now: Instant, grace: Duration) {
        let stale = self.again && self.opened.is_some_and(|at| now < at + STALE_SIGNAL);
        self.channel = None;
        self.opened = None;
        self.reopen = Some(now + CHANNEL_PAUSE);
        match word {
            Word::Signalled if !stale => {
                self.signalled = Some(now);
                // Not sooner: what follows a signal is the end of the server, and that is no time to call on
                // it.
                self.reopen = Some(now + grace + STALE_SIGNAL);
            }
            Word::Parting(parting) => self.parting = Some(parting),
            Word::Signalled | Word::Nothing => {}
        }
    }

    /// Hears a dead server's client out.
    pub(super) fn part(&mut self, grace: Duration) {
        let until = Instant::now() + PARTING_LIMIT;
        while let Some(channel) = &mut self.channel {
            if !poll::wait(&[(channel.fd(), For::Reading)], Some(until)).is_ok_and(|ready| ready[0]) {
                self.channel = None;
            } else if let Some(word) = channel.hear() {
                self.heard(word, Instant::now(), grace);
            }
        }
    }

    /// Whether the end was announced.
    pub(super) fn meant(&self, grace: Duration) -> bool {
        self.arming.dismissed() || self.signalled.is_some_and(|at| at.elapsed() <= grace)
    }

    pub(super) fn ending(&self, mut told: Option<&mut Exits>) -> Option<Ending> {
        let began = Instant::now();
        loop {
            let ending = self
                .watch
                .ending()
                .or_else(|| told.as_mut().and_then(|told| told.ending(self.target.who.pid)));
            // A zombie that tells us nothing may still be reaped in time.
            let limit =
                if process::exists(self.target.who.pid) { FOREIGN_ENDING_LIMIT } else { ENDING_LIMIT };
            if ending.is_some()
                || began.elapsed() >= limit
                || self.watch.fd().is_none()
                || cfg!(target_os = "macos")
            {
                return ending;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub(super) fn kills(&self) -> Option<Kills> {
        let (group, before) = self.group.as_deref()?;
        let now = group.kills()?;
        Some(Kills {
            single: now.single.saturating_sub(before.single),
            whole: now.whole.saturating_sub(before.whole),
        })
    }

    /// What the manager of the job says, as soon as it has noticed.
    pub(super) fn asked(&self) -> Option<JobEnd> {
        let service = self.target.service.as_ref()?;
        let until = Instant::now() + MANAGER_LIMIT;
        loop {
            let ended = service.ending(self.target.who.pid);
            if ended.as_ref().is_some_and(|ended| ended.exit.is_some()) || Instant::now() >= until {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
