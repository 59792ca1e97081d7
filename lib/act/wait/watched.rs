//! The processes whose end ends a wait. One whose answers are waited for may make itself a daemon: it ends,
//! and a child of it serves.

use crate::probe::lineage::Lineage;
use crate::sys::child::Exit;
use crate::sys::process::{self, Identity, Pid, ProcessSight, Watch};
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Between two looks at processes of which no descriptor tells.
const LOOK: Duration = Duration::from_millis(2);
/// Between two looks at the children of a process that may become a daemon, at first and later: what it
/// starts and leaves in between is never known for its own.
const CHILDREN: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));
/// How long it is looked at often.
const YOUTH: Duration = Duration::from_secs(5);

/// All that are watched.
pub struct Guarded {
    watches: Vec<Watch>,
    server: Option<Lineage>,
    /// The pid of a server that has ended, while others of its lineage live.
    heirs_of: Option<Pid>,
    looked: Instant,
    began: Instant,
}

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vigil {
    /// All is as it was.
    Quiet,
    /// Something that people want to know.
    News(String),
    /// The wait is over, and this is why.
    Died(String),
}

impl Guarded {
    /// Watches `pids`, and those that `server` began with.
    ///
    /// # Errors
    /// 69 when nobody can tell whether one lives, or who a server is; or the first one that is dead already.
    pub fn open(
        pids: &[Pid],
        server: Option<Lineage>,
        now: Instant,
    ) -> Result<std::result::Result<Guarded, Pid>> {
        let mut watches = Vec::new();
        for pid in pids.iter().chain(server.iter().flat_map(|server| server.roots())) {
            let unknown = |cause: &str| {
                Error::new(Status::Unavailable, format!("cannot tell whether process {pid} lives: {cause}"))
            };
            match Watch::new(*pid).map_err(|cause| unknown(&reason(&cause)))? {
                Some(watch) => watches.push(watch),
                None => return Ok(Err(*pid)),
            }
        }
        if let Some(server) = &server {
            for pid in server.roots() {
                if let ProcessSight::Unseen(why) = Identity::sight(*pid) {
                    let text = format!("cannot tell whether process {pid} answers: it exists, but {why}");
                    return Err(Error::new(Status::Unavailable, text));
                }
            }
            server.learn();
        }
        Ok(Ok(Guarded { watches, server, heirs_of: None, looked: now, began: now }))
    }

    /// Looks who has died.
    pub fn look(&mut self, now: Instant) -> Vigil {
        if now >= self.looked + self.pause(now)
            && let Some(server) = &self.server
        {
            server.learn();
            self.looked = now;
            if let Some(pid) = self.heirs_of.filter(|_| server.members().is_empty()) {
                return Vigil::Died(format!("process {pid} and all that it has left have ended"));
            }
        }
        let Some(at) = self.watches.iter().position(Watch::dead) else { return Vigil::Quiet };
        let watch = self.watches.remove(at);
        let Identity { pid, .. } = watch.identity();
        let exit = exit(&watch);
        // A daemon's parent ends well, if it can be told.
        let well = exit.is_none_or(|exit| exit == Exit::Code(0));
        let server = self.server.as_ref().filter(|server| server.roots().contains(&pid) && well);
        if let Some(heir) = server.and_then(|server| server.members().first().copied()) {
            self.heirs_of = Some(pid);
            let name = process::name(heir.pid).map_or(String::new(), |name| format!(" ({name})"));
            return Vigil::News(format!("process {pid} has ended; its child {}{name} goes on", heir.pid));
        }
        Vigil::Died(match exit {
            Some(exit) => format!("process {pid} died: it {}", verb(exit)),
            None => format!("process {pid} died"),
        })
    }

    /// Readable when one of them has died, for those of whom a descriptor tells.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.iter().filter_map(Watch::fd)
    }

    /// When to look again, though nothing may have become readable.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let blind = self.fds().count() < self.watches.len();
        let children = self.server.as_ref().map(|_| (self.looked + self.pause(now)).max(now));
        children.into_iter().chain(blind.then(|| now + LOOK)).min()
    }

    fn pause(&self, now: Instant) -> Duration {
        if now < self.began + YOUTH { CHILDREN.0 } else { CHILDREN.1 }
    }
}

/// The kernel tells how a foreign process ended only once its parent has reaped it, which takes a moment.
fn exit(watch: &Watch) -> Option<Exit> {
    let until = Instant::now() + Duration::from_millis(10);
    loop {
        match watch.ending().map(|ending| ending.exit) {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            exit => return exit,
        }
    }
}

fn verb(exit: Exit) -> String {
    match exit {
        Exit::Code(_) => exit.to_string(),
        Exit::Signal(_) => format!("was {exit}"),
    }
}
