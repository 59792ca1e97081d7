//! Where locks, sockets and what is known of a boot are kept: in a directory that nobody cleans while they
//! are in use, as /tmp is.

use crate::sys::user;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What leads to it.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<PathBuf>,
    uid: u32,
    /// Whether this is a directory of ours.
    ours: &'a dyn Fn(&Path) -> bool,
    /// Our home as the user database has it.
    home: &'a dyn Fn() -> Option<PathBuf>,
    mac: bool,
}

/// Where state of this boot is kept: `$BAA_RUNTIME_DIR`, or `$XDG_RUNTIME_DIR/baa`, or for root `/run/baa`
/// (`/var/run/baa` on macOS), or `/run/user/UID/baa` where that directory is there and ours, or else, for it
/// must be one that nobody cleans, `~/Library/Application Support/baa` on macOS, and on other systems
/// `$XDG_STATE_HOME/baa/run` or `~/.local/state/baa/run`. Where there is none of them it is a directory that
/// does not exist, and `check_runtime_dir` says so.
pub fn runtime_dir() -> PathBuf {
    here().unwrap_or_else(|| PathBuf::from("/nonexistent/baa"))
}

/// Whether there is a place for it at all.
///
/// # Errors
/// 78 for a user without a home.
pub fn check_runtime_dir() -> Result<()> {
    let uid = user::own_uid();
    let none = || {
        let why = format!(
            "cannot tell where to keep locks and sockets: HOME is not set, and the user database has no home \
             for uid {uid}; set XDG_RUNTIME_DIR"
        );
        Error::new(Status::BadConfig, why)
    };
    here().map(drop).ok_or_else(none)
}

fn here() -> Option<PathBuf> {
    /// Looked for once: the user database may be far away.
    static HERE: OnceLock<Option<PathBuf>> = OnceLock::new();
    HERE.get_or_init(look).clone()
}

fn look() -> Option<PathBuf> {
    let uid = user::own_uid();
    place(&Surroundings {
        variable: &|name| std::env::var_os(name).map(PathBuf::from),
        uid,
        ours: &|path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid),
        home: &|| user::own().ok().flatten().map(|own| own.home),
        mac: cfg!(target_os = "macos"),
    })
}

fn place(around: &Surroundings<'_>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let variable = |name: &str| (around.variable)(name).filter(absolute);
    if let Some(path) = variable("BAA_RUNTIME_DIR") {
        return Some(path);
    }
    if let Some(path) = variable("XDG_RUNTIME_DIR") {
        return Some(path.join("baa"));
    }
    if around.uid == 0 {
        return Some(PathBuf::from(if around.mac { "/var/run/baa" } else { "/run/baa" }));
    }
    // Whoever is called by cron(8) or su(1) is not told of it, and shall meet those who are.
    let session = PathBuf::from(format!("/run/user/{}", around.uid));
    if !around.mac && (around.ours)(&session) {
        return Some(session.join("baa"));
    }
    let home = || variable("HOME").or_else(|| (around.home)().filter(absolute));
    if around.mac {
        return home().map(|home| home.join("Library/Application Support/baa"));
    }
    match variable("XDG_STATE_HOME") {
        Some(path) => Some(path.join("baa/run")),
        None => home().map(|home| home.join(".local/state/baa/run")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_directory_is_one_that_nobody_cleans() {
        let see = |pairs: &[(&str, &str)], uid: u32, session: bool, home: Option<&str>, mac: bool| {
            let variable = |name: &str| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            };
            let found = place(&Surroundings {
                variable: &variable,
                uid,
                ours: &|path| session && path == Path::new("/run/user/7"),
                home: &|| home.map(PathBuf::from),
                mac,
            });
            found.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let all =
            [("BAA_RUNTIME_DIR", "/b"), ("XDG_RUNTIME_DIR", "/x"), ("XDG_STATE_HOME", "/s"), ("HOME", "/h")];
        assert_eq!(see(&all, 7, true, None, false), "/b");
        assert_eq!(see(&all[1..], 0, true, None, false), "/x/baa");
        assert_eq!(see(&all[2..], 0, true, None, false), "/run/baa");
        assert_eq!(see(&all[2..], 0, true, None, true), "/var/run/baa");
        assert_eq!(see(&all[2..], 7, true, None, false), "/run/user/7/baa");
        assert_eq!(see(&all[2..], 7, false, None, false), "/s/baa/run");
        assert_eq!(see(&all[3..], 7, false, None, false), "/h/.local/state/baa/run");
        assert_eq!(see(&all[2..], 7, true, None, true), "/h/Library/Application Support/baa");
        assert_eq!(see(&[("HOME", "relative")], 7, false, Some("/d"), false), "/d/.local/state/baa/run");
        assert_eq!(see(&[("XDG_RUNTIME_DIR", "")], 7, false, None, false), "");
    }
}
