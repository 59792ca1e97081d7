//! The words of the state machine: what happens to a keeper, what it is to do, and what a command does.

use crate::sys::child::Exit;
use crate::sys::process::Identity;
use std::time::{Duration, Instant};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The keeper is ready to begin.
    Begin,
    /// Nothing, but time went by.
    Time,
    /// The command was started.
    Started(Identity),
    /// The command could not be started.
    NotStarted,
    /// The main process ended.
    Exited(Exit),
    /// Nothing of the command is left.
    Swept,
    /// It shall stop, and the keeper with it. Asked a second time, a drain is cut short and the whole tree
    /// told; a third time, it is killed.
    Stop,
    /// It shall finish what it has begun, for no longer than this, and then stop, and the keeper with it.
    Leave(Option<Duration>),
    /// It shall run.
    Start,
    /// It shall be stopped and started.
    Restart,
    /// The paths that KeepAlive names are as they should be.
    Paths,
    /// It serves; in an update, the next life of it.
    Ready,
    /// The next life shall be started beside this one.
    Update,
    /// The next life was started.
    NextStarted(Identity),
    /// It could not be.
    NextNotStarted,
    /// It ended.
    NextExited(Exit),
    /// What it had begun is finished, or cannot be.
    Drained,
    /// It has failed too often: there is no next start.
    GiveUp,
    /// It runs and does not serve any more.
    Hung,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperAction {
    /// Start the command.
    Start,
    /// Start the next life beside this one.
    StartNext,
    /// This one is the main process from now on.
    Promote(Identity),
    /// Kill this process and all that it has started.
    KillOne(Identity),
    /// Have the main process finish what it has begun, for no longer than this.
    Drain(Identity, Option<Duration>),
    /// Send the stop signal to the main process.
    Terminate(Identity),
    /// Send TERM to what the main process left behind.
    TerminateRest,
    /// Send the kill signal to everything of the command.
    Abort,
    /// Send the kill signal to this process and all that it has started.
    AbortOne(Identity),
    /// Kill everything of the command.
    Kill,
    /// End the keeper.
    Finish,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperState {
    /// Nothing, until asked.
    Idle,
    /// Nothing, until then.
    Waiting(Instant),
    /// It is being started.
    Starting,
    /// It runs.
    Running(Identity),
    /// It runs, and must serve by then.
    Readying(Identity, Instant),
    /// It runs, and the next life is started beside it.
    Updating {
        /// The life that serves.
        old: Identity,
        /// The life beside it, once it is started.
        next: Option<Identity>,
        /// When the next life must serve at the latest.
        until: Instant,
    },
    /// The old life goes, and the next one runs.
    Replacing {
        /// The life that goes.
        old: Identity,
        /// The life that serves.
        next: Identity,
        /// How long the old one may take for what it does now.
        until: Option<Instant>,
        /// Whether the old one was told to stop; before that it drains.
        told: bool,
    },
    /// It finishes what it has begun.
    Draining {
        /// The main process.
        who: Identity,
        /// When it is told to stop at the latest.
        until: Option<Instant>,
        /// What comes after the stop.
        next: Next,
    },
    /// It was told to stop.
    Stopping {
        /// The main process.
        who: Identity,
        /// When everything of it is killed.
        until: Option<Instant>,
        /// What comes after the stop.
        next: Next,
    },
    /// Its main process is dead, and what that left behind goes, at the latest at the time.
    Sweeping(Option<Instant>, Next),
    /// The keeper ends.
    Finished,
}

/// What comes after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The end.
    Finish,
    /// A start.
    Start,
    /// Whatever the policy says after this end.
    Decide(Exit),
    /// It did not come to serve: the end, if it never did; else nothing, until asked.
    Park,
    /// Whatever the policy says after a failure, however it ended: it had ceased to serve.
    Hung,
}
