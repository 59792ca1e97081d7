//! Why a session is gone: because its tmux server is, or without it. The words are iapeer's (facts B5), which
//! log readers know.

use crate::service::tmux::{self, Unserved};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::path::Path;

/// What has become of the server of a session that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The server died: its socket file is missing.
    Removed,
    /// The server died: nobody answers on its socket.
    Stale,
    /// The server lives.
    Session,
    /// Somebody who is no tmux server, or another user's, listens there.
    Foreign,
}

impl Gone {
    /// Looks at `socket`.
    pub fn at(socket: &Path) -> Gone {
        if !socket.exists() {
            return Gone::Removed;
        }
        match tmux::listener(socket) {
            Ok(_) => Gone::Session,
            Err(Unserved::Foreign(_)) => Gone::Foreign,
            Err(Unserved::Down(_)) => Gone::Stale,
        }
    }

    /// iapeer's word, and its reason. That a stale socket means want of memory is not said: only a report of
    /// it would.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Gone::Removed => ("server-dead", "tmux server gone (socket file missing)"),
            Gone::Stale => (
                "server-dead",
                "tmux server dead — stale socket (check exits.log ev=server-exit canary record)",
            ),
            Gone::Session => {
                ("session-gone", "session gone, tmux server alive (exit cause should be in exits.log)")
            }
            Gone::Foreign => ("server-dead", "tmux server gone (another program listens on its socket)"),
        }
    }

    /// 0 while the server lives, 1 when it is dead.
    pub fn status(self) -> Status {
        if self == Gone::Session { Status::Done } else { Status::No }
    }

    /// Its JSON.
    pub fn json(self) -> Value {
        let (death, reason) = self.words();
        json!({ "schema": "baa.canary.classify/1", "death": death, "reason": reason })
    }
}
