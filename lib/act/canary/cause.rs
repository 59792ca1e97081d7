//! What a process died of: the evidence, ranked. Pure, and `unknown` rather than wrong.

use crate::service::JobEnd;
use crate::sys::cgroup::Kills;
use crate::sys::child::Exit;
use crate::sys::process::trace::Sent;
use crate::sys::process::{Ending, Pid};
use crate::sys::signal::{self, Signal};
use std::time::Duration;

/// Everything that was learned within milliseconds of a death.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// How the kernel says it ended.
    pub ending: Option<Ending>,
    /// The signals that were sent to it, oldest first; `None` without a trace.
    pub sent: Option<Vec<Sent>>,
    /// When it died, on the clock of the trace.
    pub at: Duration,
    /// The kernel's lines about want of memory since arming; `None` where we may not read its log.
    pub kernel: Option<Vec<String>>,
    /// What its memory group counted since arming.
    pub group: Option<Kills>,
    /// Kills for want of memory on the whole machine since the last look, a second or a few ago.
    pub machine: Option<u64>,
    /// What the manager of its job says.
    pub ended: Option<JobEnd>,
    /// How a tmux server's last moments looked to a client of it.
    pub tmux: Option<Parting>,
    /// How long the machine was suspended since the last look.
    pub suspended: Duration,
    /// Whether it was armed under another boot.
    pub rebooted: bool,
}

/// How a tmux server parted from a client that waited on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// It was told to end: kill-server, or SIGTERM. tmux does the same for both.
    Told,
    /// Its last session was closed.
    Sessionless,
}

/// The kinds of death, in the words of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Killed by the kernel for want of memory.
    OutOfMemory,
    /// Killed with its control group, by cgroup.kill.
    CgroupKill,
    /// Ended by a signal of somebody, also when it exited in answer to it.
    Signal,
    /// Ended by a fault of its own.
    Crash,
    /// Exited with 0.
    CleanExit,
    /// Exited with another status.
    ErrorExit,
    /// A tmux server that a client told to end.
    KillServer,
    /// Its manager stopped it.
    UnitStopped,
    /// The machine was booted anew.
    Reboot,
    /// It did not survive a suspend.
    Suspend,
    /// The evidence does not tell.
    Unknown,
}

impl Cause {
    /// The word in the record.
    pub fn word(self) -> &'static str {
        match self {
            Cause::OutOfMemory => "oom-kill",
            Cause::CgroupKill => "cgroup-kill",
            Cause::Signal => "signal",
            Cause::Crash => "crash",
            Cause::CleanExit => "clean-exit",
            Cause::ErrorExit => "error-exit",
            Cause::KillServer => "kill-server",
            Cause::UnitStopped => "unit-stopped",
            Cause::Reboot => "reboot",
            Cause::Suspend => "suspend",
            Cause::Unknown => "unknown",
        }
    }
}

/// The cause, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseVerdict {
    /// What it died of.
    pub cause: Cause,
    /// The signal behind it, also one that it exited in answer to.
    pub signal: Option<i32>,
    /// Who sent that: a command name and a pid.
    pub sender: Option<String>,
    /// One line for each piece of evidence, the decisive one first.
    pub evidence: Vec<String>,
}

/// `si_code` of sigaction(2) for a signal from the kernel itself.
const SI_KERNEL: i32 = 128;
/// `si_code` of kill(2).
const SI_USER: i32 = 0;
const KILL: i32 = Signal::SIGKILL as i32;
const HUP: i32 = Signal::SIGHUP as i32;
/// Signals that end a process by default and that people send.
const TERMINAL: [i32; 5] = [Signal::SIGTERM as i32, Signal::SIGINT as i32, HUP, Signal::SIGQUIT as i32, KILL];

/// Names for managers of services, whose signals mean that a unit is being stopped.
const MANAGERS: [&str; 4] = ["systemd", "(sd-pam)", "launchd", "baa-run"];

/// Judges the death of `who`.
pub fn judge(who: Pid, seen: &Evidence) -> CauseVerdict {
    let mut evidence = words(who, seen);
    let exit = seen.ending.map(|ending| ending.exit).or(seen.ended.as_ref().and_then(|ended| ended.exit));
    let fatal = fatal(who, exit, seen);
    let sender = fatal.filter(|sent| sent.code <= SI_USER).map(|sent| named(sent, who));
    let verdict = |cause, decisive: Option<String>| {
        if let Some(decisive) = decisive {
            evidence.retain(|line| *line != decisive);
            evidence.insert(0, decisive);
        }
        let signal = match (exit, fatal) {
            (Some(Exit::Signal(number)), _) => Some(number),
            (_, Some(sent)) => Some(sent.signal),
            _ => None,
        };
        CauseVerdict {
            cause,
            signal: signal.filter(|_| cause != Cause::Reboot),
            sender: sender.clone(),
            evidence: std::mem::take(&mut evidence),
        }
    };
    decide(who, seen, exit, fatal, verdict)
}

fn decide(
    who: Pid,
    seen: &Evidence,
    exit: Option<Exit>,
    fatal: Option<&Sent>,
    mut verdict: impl FnMut(Cause, Option<String>) -> CauseVerdict,
) -> CauseVerdict {
    if seen.rebooted {
        return verdict(Cause::Reboot, None);
    }
    if exit.is_none_or(|exit| exit == Exit::Signal(KILL)) {
        if let Some(line) = killed_for_memory(who, seen) {
            return verdict(Cause::OutOfMemory, Some(line));
        }
        // cgroup.kill sends to each thread group leader with no information about the sender (send_sig in
        // kernel/cgroup): code 0, not to the group. kill(2) sends to the group, tgkill(2) has a code of its
        // own.
        if let Some(sent) = fatal.filter(|sent| sent.signal == KILL && sent.code == SI_USER && !sent.group) {
            return verdict(Cause::CgroupKill, Some(trace_words(sent, who)));
        }
    }
    let stopped = seen.ended.as_ref().filter(|ended| ended.stopped);
    let by_manager = fatal.filter(|sent| {
        TERMINAL.contains(&sent.signal)
            && sent.code <= SI_USER
            && MANAGERS.contains(&sent.sender_name.as_str())
    });
    let by_other = fatal.filter(|sent| sent.code <= SI_USER && sent.sender != who.number());
    match exit {
        Some(Exit::Code(_)) | Some(Exit::Signal(_)) if stopped.is_some() => {
            verdict(Cause::UnitStopped, stopped.map(|ended| format!("manager: {}", ended.words)))
        }
        _ if by_manager.is_some() => {
            verdict(Cause::UnitStopped, by_manager.map(|sent| trace_words(sent, who)))
        }
        // A fault that somebody else sent is a signal; a fault of its own is a crash, also by abort(3), which
        // sends to itself.
        Some(exit @ Exit::Signal(_)) if exit.is_crash() && by_other.is_none() => verdict(Cause::Crash, None),
        Some(Exit::Signal(_)) => verdict(Cause::Signal, by_other.map(|sent| trace_words(sent, who))),
        // tmux kill-server makes the server send SIGTERM to itself (cmd-kill-server.c).
        Some(Exit::Code(0))
            if seen.tmux.is_some() && fatal.is_some_and(|sent| sent.sender == who.number()) =>
        {
            verdict(Cause::KillServer, fatal.map(|sent| trace_words(sent, who)))
        }
        Some(Exit::Code(_)) if by_other.is_some() => {
            verdict(Cause::Signal, by_other.map(|sent| trace_words(sent, who)))
        }
        Some(Exit::Code(0)) => verdict(Cause::CleanExit, None),
        Some(Exit::Code(_)) => verdict(Cause::ErrorExit, None),
        None if !seen.suspended.is_zero() => verdict(Cause::Suspend, None),
        None => verdict(Cause::Unknown, None),
    }
}

/// How long after a signal an exit is still taken for the answer to it. HUP means "read your configuration"
/// to many.
fn answers_within(signal: i32) -> Duration {
    if signal == HUP { Duration::from_secs(2) } else { Duration::from_secs(30) }
}

/// The signal that ended it, out of those that were sent: the last one of the number it died of, or for an
/// exit the last terminal one.
fn fatal(who: Pid, exit: Option<Exit>, seen: &Evidence) -> Option<&Sent> {
    let mut sent = seen.sent.iter().flatten().filter(|sent| sent.receiver == who);
    match exit {
        Some(Exit::Signal(number)) => sent.rfind(|sent| sent.signal == number),
        _ => sent.rfind(|sent| {
            TERMINAL.contains(&sent.signal) && seen.at.saturating_sub(sent.at) <= answers_within(sent.signal)
        }),
    }
}

/// The line that says the kernel killed `who` for want of memory, if one can be had.
fn killed_for_memory(who: Pid, seen: &Evidence) -> Option<String> {
    if let Some(line) = seen.kernel.iter().flatten().find(|line| names_victim(line, who)) {
        return Some(format!("kernel: {line}"));
    }
    if let Some(ended) = seen.ended.as_ref().filter(|ended| ended.words.ends_with("result oom-kill")) {
        return Some(format!("manager: {}", ended.words));
    }
    let group = seen.group.unwrap_or_default();
    let counted = (group.single > 0 || group.whole > 0) && seen.machine.is_some_and(|kills| kills > 0);
    // Its kernel log names every victim; where that is readable and does not name this one, the counters mean
    // another process.
    let others_only =
        seen.kernel.as_ref().is_some_and(|lines| lines.iter().any(|line| victim(line).is_some()));
    // Where the exit is not known to be a KILL, a count is no proof.
    (counted && !others_only && seen.ending.is_some()).then(|| counted_words(group))
}

/// `Memory cgroup out of memory: Killed process 42 (name) …` and `Out of memory: Killed process 42 (name) …`
/// (mm/oom_kill.c).
fn victim(line: &str) -> Option<i32> {
    let rest = line.split_once("Killed process ")?.1;
    rest[..rest.find(|letter: char| !letter.is_ascii_digit())?].parse().ok()
}

fn names_victim(line: &str, who: Pid) -> bool {
    victim(line) == Some(who.number())
}

fn named(sent: &Sent, who: Pid) -> String {
    if sent.sender == who.number() {
        "self".to_owned()
    } else {
        format!("{}[{}]", sent.sender_name, sent.sender)
    }
}

fn counted_words(group: Kills) -> String {
    format!("its memory group counts {} kills for want of memory since arming", group.single.max(group.whole))
}

fn trace_words(sent: &Sent, who: Pid) -> String {
    let from = match sent.code {
        SI_KERNEL => "the kernel".to_owned(),
        code if code > SI_USER => "a fault of its own".to_owned(),
        _ => named(sent, who),
    };
    let how = if sent.group { "to the process" } else { "to one thread" };
    format!("trace: {} from {from}, {how}, code {}", signal::name(sent.signal), sent.code)
}

/// Every piece as a line for people.
fn words(who: Pid, seen: &Evidence) -> Vec<String> {
    let mut lines = Vec::new();
    match seen.ending {
        Some(ending) => lines.push(format!(
            "kernel: process {who} {}{}",
            ending.exit,
            if ending.core { ", core dumped" } else { "" }
        )),
        None => lines.push(format!("kernel: how process {who} ended is not told to us")),
    }
    if let Some(ended) = &seen.ended {
        lines.push(format!("manager: {}", ended.words));
    }
    lines.extend(
        seen.sent.iter().flatten().filter(|sent| sent.receiver == who).map(|sent| trace_words(sent, who)),
    );
    lines.extend(seen.kernel.iter().flatten().map(|line| format!("kernel: {line}")));
    if let Some(group) = seen.group.filter(|group| *group != Kills::default()) {
        lines.push(counted_words(group));
    }
    match seen.tmux {
        Some(Parting::Told) => {
            lines.push("tmux: the server was told to end, by kill-server or SIGTERM".to_owned())
        }
        Some(Parting::Sessionless) => lines.push("tmux: the last session was closed".to_owned()),
        None => {}
    }
    if !seen.suspended.is_zero() {
        lines.push(format!(
            "the machine was suspended for {} just before",
            crate::words::span::show(seen.suspended)
        ));
    }
    if seen.rebooted {
        lines.push("armed under another boot of the machine".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Pid {
        Pid::new(42).unwrap()
    }

    fn exited(exit: Exit) -> Evidence {
        Evidence { ending: Some(Ending { exit, core: false }), ..Evidence::default() }
    }

    fn sent(signal: i32, code: i32, group: bool, sender: i32, name: &str) -> Option<Vec<Sent>> {
        Some(vec![Sent {
            signal,
            code,
            group,
            sender,
            sender_name: name.to_owned(),
            receiver: who(),
            at: Duration::from_secs(100),
        }])
    }

    #[track_caller]
    fn is(evidence: &Evidence, cause: Cause) -> CauseVerdict {
        let verdict = judge(who(), evidence);
        assert_eq!(verdict.cause, cause, "{verdict:?}");
        verdict
    }

    #[test]
    fn a_plain_ending_is_named_after_itself() {
        is(&exited(Exit::Code(0)), Cause::CleanExit);
        is(&exited(Exit::Code(3)), Cause::ErrorExit);
        assert_eq!(is(&exited(Exit::Signal(9)), Cause::Signal).signal, Some(9));
        is(&exited(Exit::Signal(11)), Cause::Crash);
        is(&Evidence::default(), Cause::Unknown);
        is(&Evidence { suspended: Duration::from_secs(9), ..Evidence::default() }, Cause::Suspend);
        is(&Evidence { rebooted: true, ..Evidence::default() }, Cause::Reboot);
    }

    #[test]
    fn the_kernel_must_name_this_very_victim() {
        let line = |pid: i32| {
            Some(vec![format!("Memory cgroup out of memory: Killed process {pid} (x) total-vm:1kB")])
        };
        let counted = Evidence {
            group: Some(Kills { single: 1, whole: 0 }),
            machine: Some(1),
            ..exited(Exit::Signal(9))
        };
        is(&Evidence { kernel: line(42), ..exited(Exit::Signal(9)) }, Cause::OutOfMemory);
        is(&Evidence { kernel: line(42), ..Evidence::default() }, Cause::OutOfMemory);
        is(&Evidence { kernel: line(421), ..exited(Exit::Signal(9)) }, Cause::Signal);
        is(&Evidence { kernel: line(42), ..exited(Exit::Signal(15)) }, Cause::Signal);
        // Without the kernel's log the counters speak; with it they mean the process that it names.
        is(&counted, Cause::OutOfMemory);
        is(&Evidence { kernel: line(7), ..counted.clone() }, Cause::Signal);
        is(&Evidence { machine: Some(0), ..counted.clone() }, Cause::Signal);
        is(&Evidence { ending: None, ..counted }, Cause::Unknown);
    }

    #[test]
    fn the_trace_tells_who_sent_it() {
        let kill = Evidence { sent: sent(9, 0, true, 7, "bash"), ..exited(Exit::Signal(9)) };
        assert_eq!(is(&kill, Cause::Signal).sender.as_deref(), Some("bash[7]"));
        is(&Evidence { sent: sent(9, 0, false, 7, "bash"), ..exited(Exit::Signal(9)) }, Cause::CgroupKill);
        is(&Evidence { sent: sent(15, 0, true, 1, "systemd"), ..exited(Exit::Code(0)) }, Cause::UnitStopped);
        let handled =
            is(&Evidence { sent: sent(15, 0, true, 7, "kill"), ..exited(Exit::Code(0)) }, Cause::Signal);
        is(
            &Evidence {
                sent: sent(15, 0, true, 7, "kill"),
                at: Duration::from_secs(200),
                ..exited(Exit::Code(0))
            },
            Cause::CleanExit,
        );
        assert_eq!((handled.signal, handled.sender.as_deref()), (Some(15), Some("kill[7]")));
        is(&Evidence { sent: sent(11, 0, true, 7, "kill"), ..exited(Exit::Signal(11)) }, Cause::Signal);
        is(&Evidence { sent: sent(6, -6, false, 42, "x"), ..exited(Exit::Signal(6)) }, Cause::Crash);
        assert_eq!(
            is(&Evidence { sent: sent(11, 1, false, 42, "x"), ..exited(Exit::Signal(11)) }, Cause::Crash)
                .sender,
            None
        );
        let own = Evidence { sent: sent(15, 0, true, 42, "tmux: server"), ..exited(Exit::Code(0)) };
        is(&Evidence { tmux: Some(Parting::Told), ..own }, Cause::KillServer);
    }

    #[test]
    fn a_manager_that_stops_it_is_believed() {
        let ended = |stopped| {
            Some(JobEnd { exit: None, stopped, words: "inactive (dead), result success".to_owned() })
        };
        is(&Evidence { ended: ended(true), ..exited(Exit::Signal(15)) }, Cause::UnitStopped);
        is(&Evidence { ended: ended(false), ..exited(Exit::Signal(15)) }, Cause::Signal);
    }
}
