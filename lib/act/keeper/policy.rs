//! How a command is kept: what a keeper is configured with.

use crate::service::job::KeepAlive;
use crate::sys::child::Exit;
use std::time::Duration;

/// When a command that ended is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never: the keeper ends with it.
    Never,
    /// After any end but an exit with 0.
    OnFailure,
    /// Always.
    Always,
    /// As the dictionary of launchd's KeepAlive says; otherwise the keeper idles.
    Job(KeepAlive),
}

/// How a command is kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Whether it is started at first.
    pub start_at_once: bool,
    /// The shortest time between two starts by itself; a request starts at once.
    pub throttle: Duration,
    /// How long it may take to stop before its whole tree is killed; zero is without end.
    pub exit_timeout: Duration,
    /// How long what is left then has after the kill signal, where there is one.
    pub kill_grace: Option<Duration>,
    /// After each failure in a row the pause is twice the last one, up to this; zero is never.
    pub backoff: Duration,
    /// A run that lasts so long begins anew with the shortest pause.
    pub healthy_after: Duration,
    /// How long it may take to drain before a restart, zero without end; `None` is not at all.
    pub drain: Option<Duration>,
    /// How long a start may take until it serves; `None` is not asked for.
    pub ready: Option<Duration>,
    /// How long the next life may take to serve in an update, while the old one goes on.
    pub update: Duration,
}

/// What follows from an end.
pub(super) enum Again {
    /// A start.
    Yes,
    /// Nothing, until asked.
    No,
    /// The end of the keeper.
    Over,
}

/// What `restart` says after this end.
pub(super) fn wanted_again(restart: &RestartPolicy, exit: Exit) -> Again {
    let wanted = match restart {
        RestartPolicy::Never => return Again::Over,
        RestartPolicy::OnFailure if exit.success() => return Again::Over,
        RestartPolicy::OnFailure | RestartPolicy::Always => true,
        RestartPolicy::Job(KeepAlive::Always(always)) => *always,
        // launchd takes the keys as alternatives; paths are looked at apart, as `KeeperEvent::Paths`.
        RestartPolicy::Job(KeepAlive::When { successful_exit, crashed, .. }) => {
            successful_exit.is_some_and(|wanted| wanted == exit.success())
                || crashed.is_some_and(|wanted| wanted == exit.is_crash())
        }
    };
    if wanted { Again::Yes } else { Again::No }
}
