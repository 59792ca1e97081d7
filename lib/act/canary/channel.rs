//! The channel of the older tools: `tmux wait-for -S iap-canary-IDENTITY` before a server is ended says that
//! the end is meant.
//!
//! The waiter is the server's own program: the protocol between client and server is tmux's own, and a wrong
//! word in it ends the server. Its exit status is no evidence: 0 after the signal, but also after
//! kill-server, SIGTERM or the last session. What tells them apart is a second command in the same queue:
//! after the signal there are sessions to list; when the server ends there are none (facts C2; tmux 3.3a).

use crate::act::canary::cause::Parting;
use crate::service::tmux;
use crate::sys::child::{self, Exit, Signal, Stdio};
use crate::sys::process::{Identity, Pid};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// A client of a tmux server that waits on the channel.
pub struct Channel {
    waiter: Identity,
    output: PipeReader,
    heard: String,
    ended: bool,
}

/// Printed for each session after the signal.
const SIGNALLED: &str = "signalled";
/// A session that is not there.
const NOWHERE: &str = "=baa-parted";
/// What tmux says instead of not finding it when no session is left at all: "no current target".
const NONE_LEFT: &str = "no current";

/// What the waiter came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Somebody signalled the channel.
    Signalled,
    /// The server is ending.
    Parting(Parting),
    /// Neither: the waiter was killed, or the server was.
    Nothing,
}

impl Channel {
    /// Waits on the channel of `identity` in the server `who` at `socket`; `None` where no client can be
    /// started.
    pub fn open(who: Pid, socket: &Path, identity: &str) -> Option<Channel> {
        let channel = format!("iap-canary-{identity}");
        let words =
            ["wait-for", &channel, ";", "list-sessions", "-F", SIGNALLED, ";", "has-session", "-t", NOWHERE];
        let mut spec = tmux::client(who, socket)?;
        spec.args.extend(words.iter().map(Into::into));
        let (output, input) = std::io::pipe().ok()?;
        spec.stdio = [Some(Stdio::null()), Some(input.try_clone().ok()?.into()), Some(input.into())];
        spec.ends_with_us = Some(Signal::SIGTERM);
        let started = spec.start().ok()?;
        Some(Channel { waiter: started.identity, output, heard: String::new(), ended: false })
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Reads on; the word once the waiter has ended.
    pub fn hear(&mut self) -> Option<Word> {
        let mut buffer = [0u8; 4096];
        let count = self.output.read(&mut buffer).unwrap_or(0);
        if count > 0 {
            if self.heard.len() < 4096 {
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            return None;
        }
        let exit = child::wait(self.waiter.pid);
        self.ended = true;
        Some(match exit {
            // Its two outputs come in any order.
            _ if self.heard.contains(SIGNALLED) => Word::Signalled,
            // Told to go, a client ends with 0; where the server ends for want of sessions, with the status
            // of the last command.
            Some(Exit::Code(0)) if self.heard.contains(NONE_LEFT) => Word::Parting(Parting::Told),
            Some(Exit::Code(1)) if self.heard.contains(NONE_LEFT) => Word::Parting(Parting::Sessionless),
            _ => Word::Nothing,
        })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.ended {
            child::signal(self.waiter, Signal::SIGKILL);
            let _ = child::wait(self.waiter.pid);
        }
    }
}
