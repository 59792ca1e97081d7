//! launchctl's codes in one table: which are as good as done, which may pass, which are final, and what to
//! do. Matched on the number; on the text only where the number is the bare 1 of older releases.
//!
//! Sources: `launchctl error N`, and field reports of macOS 10.10 to 27 (openclaw#112731, headroom#1289,
//! osquery#5698, t3code#11995, KiroCrew#1698, pow#505).

use crate::service::{Trouble, TroubleClass};
use crate::words::error::brief;
use crate::words::exit::Status;

/// What launchctl was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchctlVerb {
    /// `bootout`.
    Bootout,
    /// `bootstrap`.
    Bootstrap,
    /// `enable`.
    Enable,
    /// `kickstart`.
    Kickstart,
    /// `print`.
    Print,
    /// `print-disabled`.
    PrintDisabled,
}

impl LaunchctlVerb {
    /// As launchctl calls it.
    pub fn name(self) -> &'static str {
        match self {
            LaunchctlVerb::Bootout => "bootout",
            LaunchctlVerb::Bootstrap => "bootstrap",
            LaunchctlVerb::Enable => "enable",
            LaunchctlVerb::Kickstart => "kickstart",
            LaunchctlVerb::Print => "print",
            LaunchctlVerb::PrintDisabled => "print-disabled",
        }
    }
}

use Status::{BadConfig, Internal, NotPermitted, Unavailable};
use TroubleClass::{Benign, Final, Retry, Unregistered};

/// A code, the verb it is meant for (`None`: any), its class, its meaning. The first row that fits counts.
type Row = (i32, Option<LaunchctlVerb>, TroubleClass, &'static str);

/// Not permitted; older releases exit with it whatever happened.
pub const EPERM: i32 = 1;

const TABLE: &[Row] = &[
    // It is about the caller or about nothing, never about the file; kickstart is tried again after it too.
    (EPERM, Some(LaunchctlVerb::Bootstrap), Retry, "not permitted"),
    (EPERM, None, Final(NotPermitted), "not permitted"),
    (3, Some(LaunchctlVerb::Bootstrap), Retry, "no such process"),
    (3, None, Unregistered, "not loaded"),
    // The catch-all. Whether it is loaded, draining or broken only `print` can tell, so it is tried again
    // while there is time.
    (
        5,
        Some(LaunchctlVerb::Bootstrap),
        Retry,
        "input/output error: the label still drains, or is loaded, or disabled, or launchd rejects the file, \
         or the caller runs in a sandbox",
    ),
    (5, Some(LaunchctlVerb::Bootout), Benign, "input/output error: it may not have been loaded"),
    (5, None, Retry, "input/output error"),
    (13, None, Final(NotPermitted), "permission denied"),
    (17, Some(LaunchctlVerb::Bootstrap), Benign, "already loaded"),
    (36, Some(LaunchctlVerb::Bootout), Benign, "in progress: the job is on its way down"),
    (36, None, Retry, "in progress: the label still drains"),
    (37, Some(LaunchctlVerb::Bootout), Benign, "already in progress: the job is on its way down"),
    // Loaded already, or still draining; `print` decides.
    (37, None, Retry, "already in progress: the label still drains, or is loaded"),
    (64, None, Final(Internal), "launchctl does not know this usage"),
    (107, None, Final(BadConfig), "malformed bundle"),
    (108, None, Final(BadConfig), "invalid path"),
    (109, None, Final(BadConfig), "invalid property list"),
    (110, None, Final(BadConfig), "the property list has no Label"),
    (111, None, Final(BadConfig), "the property list has no program"),
    (112, Some(LaunchctlVerb::Bootstrap), Retry, "no such domain at the moment"),
    (112, None, Final(Unavailable), "no such domain: the user has no such session"),
    (113, Some(LaunchctlVerb::Bootstrap), Retry, "no such service at the moment"),
    (113, None, Unregistered, "not loaded"),
    (119, None, Retry, "the service is disabled; launchctl enable allows it"),
    (122, None, Final(NotPermitted), "launchd refuses the owner or the mode of the file"),
    (124, None, Retry, "the domain is tearing down"),
    // Of a label that is loaded as well; `print` decides.
    (
        125,
        Some(LaunchctlVerb::Bootstrap),
        Retry,
        "the domain does not support this: the label is loaded, or there is no GUI login (ssh, sudo; then \
         try --domain user/UID)",
    ),
    (
        125,
        None,
        Final(Unavailable),
        "the domain does not support this: no GUI login (ssh, sudo); try --domain user/UID",
    ),
    // In the public tables "behavior was undefined": it says nothing of what was done.
    (130, None, Retry, "launchd does not say what it did"),
    (133, Some(LaunchctlVerb::Bootout), Benign, "already in progress: the job is on its way down"),
    (133, None, Retry, "already in progress: the label still drains, or is loaded"),
    (134, None, Final(BadConfig), "the job cannot be loaded in this session (LimitLoadToSessionType)"),
    (139, None, Retry, "the service cannot be started at present"),
    (141, None, Retry, "launchd avoids reentrancy"),
    (144, None, Final(NotPermitted), "an entitlement is missing"),
    (146, None, Retry, "the domain is in on-demand-only mode: the login is not finished"),
    (150, None, Final(NotPermitted), "system integrity protection forbids it"),
    (
        155,
        None,
        Final(NotPermitted),
        "the program is quarantined; xattr -d com.apple.quarantine PROGRAM lifts that",
    ),
    (159, None, Final(NotPermitted), "the sandbox forbids it"),
    (
        161,
        None,
        Final(NotPermitted),
        "the user has switched it off; System Settings, General, Login Items & Extensions allow it",
    ),
];

/// Texts that say more than the bare 1 beside them.
const TEXTS: &[(&str, i32)] = &[
    ("could not find service", 113),
    ("could not find specified service", 113),
    ("could not find domain", 112),
    ("could not find specified domain", 112),
    ("domain does not support specified action", 125),
    ("no such process", 3),
    ("service is disabled", 119),
    ("already exists in domain", 17),
    ("service already loaded", 17),
    ("operation already in progress", 37),
    ("operation now in progress", 36),
    ("input/output error", 5),
    ("system integrity protection", 150),
    ("operation not permitted", EPERM),
    ("permission denied", 13),
];

/// What it means that `verb` exited with `exit` and said `text`.
pub fn classify(verb: LaunchctlVerb, exit: i32, text: &str) -> Trouble {
    let row = |code: i32| {
        TABLE.iter().find(|(number, only, ..)| *number == code && only.is_none_or(|only| only == verb))
    };
    let lower = text.to_ascii_lowercase();
    let by_text = || TEXTS.iter().find(|(phrase, _)| lower.contains(phrase)).map(|(_, code)| *code);
    // "Operation not permitted" is part of the text of 150 as well, and "Could not find" of several: a number
    // says more, in the text ("failed: 5:") or as the status.
    let number = code_in(text).or(Some(exit).filter(|exit| *exit != EPERM));
    let code = number.or_else(by_text).unwrap_or(exit);
    let said = brief(text);
    match row(code) {
        Some((number, _, class, meaning)) => Trouble {
            class: *class,
            code: Some(*number),
            text: format!("launchctl {} gave {number}: {meaning}", verb.name()),
        },
        None => {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            Trouble {
                class: Retry,
                code: Some(code),
                text: format!("launchctl {} gave {code}{said}", verb.name()),
            }
        }
    }
}

/// The number in `Bootstrap failed: 5: Input/output error`.
fn code_in(text: &str) -> Option<i32> {
    let at = text.find("failed: ")? + "failed: ".len();
    let digits: String = text[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_of_the_field_are_told_apart() {
        for (verb, exit, text, class) in [
            (LaunchctlVerb::Bootout, 3, "Boot-out failed: 3: No such process", Unregistered),
            (
                LaunchctlVerb::Bootstrap,
                5,
                "Bootstrap failed: 5: Input/output error\n\
                     Try re-running the command as root for richer errors.",
                Retry,
            ),
            (LaunchctlVerb::Bootout, 36, "Boot-out failed: 36: Operation now in progress", Benign),
            (LaunchctlVerb::Bootstrap, 37, "Bootstrap failed: 37: Operation already in progress", Retry),
            (LaunchctlVerb::Kickstart, 37, "Operation already in progress", Retry),
            (
                LaunchctlVerb::Print,
                113,
                "Could not find service \"x\" in domain for user gui: 501",
                Unregistered,
            ),
            (
                LaunchctlVerb::Print,
                1,
                "Bad request.\nCould not find service \"x\" in domain for port",
                Unregistered,
            ),
            (LaunchctlVerb::Print, 1, "", Final(NotPermitted)),
            (LaunchctlVerb::Print, 13, "", Final(NotPermitted)),
            (LaunchctlVerb::Print, 125, "Could not find domain for user gui: 501", Final(Unavailable)),
            (
                LaunchctlVerb::Bootstrap,
                125,
                "Bootstrap failed: 125: Domain does not support specified action",
                Retry,
            ),
            (LaunchctlVerb::Bootstrap, 119, "Bootstrap failed: 119: Service is disabled", Retry),
            (LaunchctlVerb::Bootstrap, 1, "service already exists in domain", Benign),
            (LaunchctlVerb::Bootstrap, 1, "Bootstrap failed: 1: Operation not permitted", Retry),
            (LaunchctlVerb::Bootout, 1, "Boot-out failed: 1: Operation not permitted", Final(NotPermitted)),
            // "Behavior was undefined", in the public tables.
            (LaunchctlVerb::Bootstrap, 130, "Bootstrap failed: 130: Unknown error: 130", Retry),
            (LaunchctlVerb::Bootstrap, 133, "Bootstrap failed: 133: Operation already in progress", Retry),
            (LaunchctlVerb::Bootout, 133, "Boot-out failed: 133: Operation already in progress", Benign),
            // A number says more than the words that several have in common.
            (
                LaunchctlVerb::Bootout,
                150,
                "Boot-out failed: 150: Operation not permitted while System Integrity Protection is engaged",
                Final(NotPermitted),
            ),
            (LaunchctlVerb::Print, 112, "Could not find domain for user gui: 501", Final(Unavailable)),
            (LaunchctlVerb::Bootstrap, 112, "Could not find domain for user gui: 501", Retry),
            (LaunchctlVerb::Print, 1, "Could not find domain for user gui: 501", Final(Unavailable)),
            (LaunchctlVerb::Kickstart, 113, "Operation already in progress", Unregistered),
            (
                LaunchctlVerb::Bootstrap,
                122,
                "Bootstrap failed: 122: Path had bad ownership/permissions",
                Final(NotPermitted),
            ),
            (LaunchctlVerb::Bootstrap, 109, "Bootstrap failed: 109: Invalid property list", Final(BadConfig)),
            (LaunchctlVerb::Bootout, 64, "Unrecognized target specifier", Final(Internal)),
            (LaunchctlVerb::Bootstrap, 99, "what", Retry),
        ] {
            assert_eq!(classify(verb, exit, text).class, class, "{verb:?} {exit} {text}");
        }
        for (exit, text, code) in [
            (5, "Bootstrap failed: 5: Input/output error", 5),
            (1, "Bootstrap failed: 5: Input/output error", 5),
            (
                150,
                "Could not kickstart service: Operation not permitted while System Integrity Protection",
                150,
            ),
            (1, "Operation not permitted while System Integrity Protection is engaged", 150),
            (1, "Could not kickstart service \"x\": 1: Operation not permitted", EPERM),
            (112, "Could not find domain for user gui: 501", 112),
            (1, "", EPERM),
        ] {
            assert_eq!(classify(LaunchctlVerb::Kickstart, exit, text).code, Some(code), "{exit} {text}");
        }
    }
}
