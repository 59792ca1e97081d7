//! Why a job does not run, where launchd knows: the lines of `print` that tell of it, in words that a person
//! can act on.

use super::print::Seen;
use crate::service::{JobCause, Phase};
use crate::words::error::brief;

/// A reason of the system for the end of a process (the kernel's bsd/sys/reason.h), the name of the cause,
/// what it means, what to do about it.
type Reason = (&'static str, &'static str, &'static str, &'static str);

const REASONS: &[Reason] = &[
    (
        "CODESIGNING",
        "code-signing",
        "the system refuses the signature of its program",
        "look at it with codesign --verify --strict PROGRAM, sign it (codesign --force --sign - PROGRAM), \
         and put a new program in place of the old one as a new file, never over its bytes",
    ),
    (
        "JETSAM",
        "memory",
        "the system killed it to have its memory (jetsam)",
        "let it use less, free memory on this machine, or raise the limit in its property list",
    ),
    (
        "EXEC",
        "exec",
        "the system does not execute its program",
        "run it by hand: it may be of another processor, cut short, or in quarantine \
         (xattr -l PROGRAM; xattr -d com.apple.quarantine PROGRAM)",
    ),
    (
        "DYLD",
        "library",
        "a library that its program needs is missing or does not fit",
        "run it by hand, and look at otool -L PROGRAM",
    ),
    (
        "TCC",
        "privacy",
        "it asked for what the privacy settings do not let it have",
        "allow it in System Settings, Privacy & Security",
    ),
    (
        "SANDBOX",
        "sandbox",
        "the sandbox ended it",
        "look for its name in log show --last 5m --predicate 'sender == \"Sandbox\"'",
    ),
    (
        "ENDPOINTSECURITY",
        "endpoint-security",
        "a security product of this machine forbids its program",
        "have it allowed there",
    ),
    ("WATCHDOG", "watchdog", "a watchdog of the system ended it", "see its report in Console, Crash Reports"),
];

/// The lines of `print` that tell more than the state, with the names that reports give them.
pub(super) fn details(seen: &Seen) -> Vec<(&'static str, String)> {
    let pended = |text: &&str| *text != "false" && *text != "0";
    [
        ("last exit reason", seen.text("last exit reason")),
        // The state in other words, but for this one.
        ("job state", seen.text("job state").filter(|text| text.contains("fail"))),
        ("pended nondemand spawn", seen.text("pended nondemand spawn").filter(pended)),
    ]
    .into_iter()
    .filter_map(|(key, text)| Some((key, brief(text?))))
    .collect()
}

/// Why the job does not run. A job that runs has outlived what ended the run before it.
pub(super) fn of(seen: &Seen, phase: Phase, target: &str) -> Option<JobCause> {
    if matches!(phase, Phase::Running | Phase::Stopping) {
        return None;
    }
    let cause = |name, words: String, remedy: String| Some(JobCause { name, words, remedy });
    let details = details(seen);
    let detail = |key: &str| details.iter().find(|(name, _)| *name == key).map(|(_, text)| text.as_str());
    if let Some(text) = detail("last exit reason")
        && let Some((_, name, words, remedy)) =
            REASONS.iter().find(|(reason, ..)| text.trim_start_matches("OS_REASON_").starts_with(reason))
    {
        return cause(name, format!("{words} ({text})"), (*remedy).to_owned());
    }
    // In a login that is not finished, or came over ssh, launchd waits for more than in Low Power Mode and in
    // DarkWake; all of them let a start on demand pass.
    if let Some(text) = detail("pended nondemand spawn") {
        return cause(
            "pended",
            format!("launchd holds its start back ({text}): Low Power Mode, DarkWake, or no finished login"),
            format!(
                "wake the Mac, switch Low Power Mode off, log in; or start it now: \
                 launchctl kickstart {target}"
            ),
        );
    }
    // xpcproxy, which becomes the program, gives up with this.
    let config = seen.text("last exit code").is_some_and(|text| text.starts_with("78"));
    if config || detail("job state").is_some() {
        return cause(
            "spawn-failed",
            "launchd could not start its program".to_owned(),
            "see whether its user can execute the program and its interpreter, and write its logs; what \
             launchd met is in log show --last 5m --predicate 'process == \"launchd\"'"
                .to_owned(),
        );
    }
    None
}

/// Why a job that launchd took is not there any more.
pub(super) fn removed(label: &str) -> JobCause {
    JobCause {
        name: "login-items",
        words:
            "launchd took the job and removed it again: Login Items (Background Task Management) forbids it"
                .to_owned(),
        remedy: format!(
            "allow it in System Settings, General, Login Items & Extensions; sudo sfltool dumpbtm tells of \
             {label}"
        ),
    }
}

/// Why a job is refused that is disabled.
pub(super) fn disabled(target: &str) -> JobCause {
    JobCause {
        name: "disabled",
        words: "the label is disabled".to_owned(),
        remedy: format!("launchctl enable {target}"),
    }
}
