//! launchctl's codes in one table: which are as good as done, which may pass, which are final. Matched on
//! code and text.
//!
//! Sources: `launchctl error N`, and field reports of macOS 14 to 26 (openclaw#112731, headroom#1289,
//! osquery#5698, t3code#11995, KiroCrew#1698).

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
        }
    }
}

use Status::{BadConfig, Internal, NotPermitted, Unavailable};
use TroubleClass::{Benign, Final, Retry, Unregistered};

/// A code, the verb it is meant for (`None`: any), its class, its meaning. The first row that fits counts.
type Row = (i32, Option<LaunchctlVerb>, TroubleClass, &'static str);

const TABLE: &[Row] = &[
    (1, None, Final(NotPermitted), "not permitted"),
    (3, Some(LaunchctlVerb::Bootstrap), Retry, "no such process"),
    (3, None, Unregistered, "not loaded"),
    // The catch-all. Whether it is loaded, draining or broken only `print` can tell, so it is tried again
    // while there is time.
    (
        5,
        Some(LaunchctlVerb::Bootstrap),
        Retry,
        "input/output error: the label still drains, or is loaded, or disabled, or launchd rejects the file",
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
    (119, None, Retry, "the service is disabled"),
    (122, None, Final(NotPermitted), "launchd refuses the owner or the mode of the file"),
    (124, Some(LaunchctlVerb::Bootstrap), Retry, "the domain is tearing down"),
    (124, None, Retry, "the domain is tearing down"),
    (
        125,
        None,
        Final(Unavailable),
        "the domain does not support this: no GUI login (ssh, sudo); try --domain user/UID",
    ),
    (130, Some(LaunchctlVerb::Bootstrap), Benign, "already loaded"),
    (134, None, Final(BadConfig), "the job cannot be loaded in this session (LimitLoadToSessionType)"),
    (139, None, Retry, "the service cannot be started at present"),
    (141, None, Retry, "launchd avoids reentrancy"),
    (144, None, Final(NotPermitted), "an entitlement is missing"),
    (146, None, Retry, "the domain is in on-demand-only mode: the login is not finished"),
    (150, None, Final(NotPermitted), "system integrity protection forbids it"),
    (155, None, Final(NotPermitted), "the program is quarantined"),
    (159, None, Final(NotPermitted), "the sandbox forbids it"),
    (161, None, Final(NotPermitted), "the user has switched it off in Login Items"),
];

/// Texts that say more than the exit status beside them: older releases exit with 1 whatever happened.
const TEXTS: &[(&str, i32)] = &[
    ("could not find service", 113),
    ("could not find specified service", 113),
    ("could not find domain", 125),
    ("could not find specified domain", 112),
    ("domain does not support specified action", 125),
    ("no such process", 3),
    ("service is disabled", 119),
    ("already exists in domain", 130),
    ("service already loaded", 130),
    ("operation already in progress", 37),
    ("operation now in progress", 36),
    ("input/output error", 5),
    ("operation not permitted", 1),
    ("permission denied", 13),
];

/// What it means that `verb` exited with `exit` and said `text`.
pub fn classify(verb: LaunchctlVerb, exit: i32, text: &str) -> Trouble {
    let code = code_in(text).unwrap_or(exit);
    let row = |code: i32| {
        TABLE.iter().find(|(number, only, ..)| *number == code && only.is_none_or(|only| only == verb))
    };
    let lower = text.to_ascii_lowercase();
    let by_text = TEXTS.iter().find(|(phrase, _)| lower.contains(phrase)).map(|(_, code)| *code);
    // A text that is known outweighs the bare status; a number in the text ("failed: 5:") agrees with it
    // anyway.
    let code = by_text.unwrap_or(code);
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
                Final(Unavailable),
            ),
            (LaunchctlVerb::Bootstrap, 119, "Bootstrap failed: 119: Service is disabled", Retry),
            (LaunchctlVerb::Bootstrap, 130, "service already exists in domain", Benign),
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
        assert_eq!(
            classify(LaunchctlVerb::Bootstrap, 5, "Bootstrap failed: 5: Input/output error").code,
            Some(5)
        );
    }
}
