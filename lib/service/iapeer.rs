//! iapeer: what its peers are called, and where it keeps its files (facts B1).

use crate::sys::user;
use std::path::{Path, PathBuf};

/// The root that is named: by a flag, or by $IAPEER_ROOT.
pub fn named_root(flag: Option<&Path>) -> Option<PathBuf> {
    let named = flag.map(Path::to_owned).or_else(|| std::env::var_os("IAPEER_ROOT").map(PathBuf::from));
    named.filter(|root| !root.as_os_str().is_empty())
}

/// The root where none is named: `$HOME/.iapeer`.
pub fn home_root() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    Some(home.or_else(|| Some(user::own().ok()??.home))?.join(".iapeer"))
}

/// The directories that a peer's tmux socket may be in: $IAPEER_SOCK_DIR alone; else `socks` of a named root;
/// else /tmp.
pub fn socket_dir(root: Option<&Path>) -> PathBuf {
    let directory = std::env::var_os("IAPEER_SOCK_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    directory.or_else(|| root.map(|root| root.join("socks"))).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// The name of the socket of an identity.
pub fn socket_name(identity: &str) -> String {
    format!("tmux-iap-{identity}.sock")
}

/// The identity that a socket of this name belongs to.
pub fn identity_of_socket(name: &str) -> Option<&str> {
    name.strip_prefix("tmux-iap-")?.strip_suffix(".sock")
}

/// Whether `name` can be a peer's: a letter, then letters, digits and dashes, 32 at most.
pub fn is_personality(name: &str) -> bool {
    is_name(name, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether `name` can be a runtime's: the same without dashes.
pub fn is_runtime(name: &str) -> bool {
    is_name(name, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_name(name: &str, rest: impl Fn(u8) -> bool) -> bool {
    name.len() <= 32
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(rest)
}

/// The runtime of an identity of the peer `personality`: an identity is split at its first dash.
pub fn runtime_of<'a>(identity: &'a str, personality: &str) -> Option<&'a str> {
    let (runtime, rest) = identity.split_once('-')?;
    (rest == personality && is_runtime(runtime)).then_some(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_split_at_its_first_dash() {
        assert_eq!(runtime_of("claude-bob", "bob"), Some("claude"));
        assert_eq!(runtime_of("claude-a-b", "a-b"), Some("claude"));
        for identity in ["claude-bob2", "claude-a-bob", "-bob", "Claude-bob", "bob", "claude-"] {
            assert_eq!(runtime_of(identity, "bob"), None, "{identity}");
        }
    }

    #[test]
    fn a_name_leads_nowhere() {
        for name in ["bob", "a", "bob-2", "b2", &"x".repeat(32)] {
            assert!(is_personality(name), "{name}");
        }
        for name in ["", "../x", "Bob", "2b", "-b", "b.", "b b", "b\n", &"x".repeat(33)] {
            assert!(!is_personality(name), "{name}");
        }
        assert!(!is_runtime("a-b"));
    }
}
