//! Where an iapeer installation keeps what belongs to a peer (facts B1).

use crate::service::iapeer;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An installation.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    sockets: Vec<PathBuf>,
    /// Whether this is a test's own, in which launchd is not touched (IAPEER_TEST_SANDBOX=1).
    pub sandbox: bool,
}

impl Root {
    /// The one that a flag, $IAPEER_ROOT or the home directory names.
    ///
    /// # Errors
    /// 2 when none can be told, or when a sandbox names the real one.
    pub fn find(flag: Option<&Path>) -> Result<Root> {
        let usage = |why: &str| Error::new(Status::Usage, why);
        let (named, home) = (iapeer::named_root(flag), iapeer::home_root());
        let path = named
            .clone()
            .or_else(|| home.clone())
            .ok_or_else(|| usage("cannot tell where iapeer's files are: give --root"))?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let at_home = home.is_some_and(|home| real(&home) == real(&path));
        let sandbox = std::env::var_os("IAPEER_TEST_SANDBOX").is_some_and(|value| value == "1");
        if sandbox && at_home {
            return Err(usage("IAPEER_TEST_SANDBOX is set, and the root is the real one"));
        }
        let mut sockets = vec![iapeer::socket_dir(named.as_deref())];
        // A flag may name the root at home, whose sockets are in /tmp.
        if at_home && std::env::var_os("IAPEER_SOCK_DIR").is_none() {
            sockets.push(PathBuf::from("/tmp"));
        }
        sockets.dedup();
        Ok(Root { path: real(&path), sockets, sandbox })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The registry.
    pub fn registry(&self) -> PathBuf {
        self.path.join("peers-profiles.json")
    }

    /// The file that the registry's lock is named after.
    pub fn lock_target(&self) -> PathBuf {
        self.path.join("peers-profiles.lock")
    }

    /// The directory of the markers.
    pub fn lifecycle(&self) -> PathBuf {
        self.path.join("state/lifecycle")
    }

    /// The directory of our tombstones.
    pub fn tombstones(&self) -> PathBuf {
        self.path.join("state/removed")
    }

    /// The directories that sockets of tmux servers are in.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// The directory of supervisors.
    pub fn supervisors(&self) -> PathBuf {
        self.path.join("state/supervisor")
    }

    /// The directory of launchd's jobs, where there is one: $IAPEER_LAUNCHAGENTS_DIR, or on macOS the user's.
    pub fn agents(&self) -> Option<PathBuf> {
        let named =
            std::env::var_os("IAPEER_LAUNCHAGENTS_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
        let home = || {
            std::env::var_os("HOME")
                .map(|home| PathBuf::from(home).join("Library/LaunchAgents"))
                .filter(|_| cfg!(target_os = "macos"))
        };
        named.or_else(home)
    }

    /// What a removal leaves alone, of what there is: logs, forensics, supervisor files, the peer's own
    /// folder.
    pub fn kept(&self, personality: &str) -> Vec<PathBuf> {
        let of_peer =
            |name: &str| iapeer::runtime_of(name.split('.').next().unwrap_or(name), personality).is_some();
        // IDENTITY-SECONDS.txt, and of the newer canaries IDENTITY-SECONDS-PID.txt.
        let of_death = |name: &str| {
            let numbers = |text: &'_ str| {
                text.rsplit_once('-')
                    .filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()))
                    .map(|(rest, _)| rest.to_owned())
            };
            let once = name.strip_suffix(".txt").and_then(numbers);
            let twice = once.as_deref().and_then(numbers);
            [once, twice]
                .into_iter()
                .flatten()
                .any(|identity| iapeer::runtime_of(&identity, personality).is_some())
        };
        let mut kept = Vec::new();
        for (directory, deaths) in [
            ("logs/lifecycle", false),
            ("logs/iapeer/server-deaths", true),
            ("logs/iapeer/tmux-cmdlog", false),
            ("state/supervisor", false),
        ] {
            let directory = self.path.join(directory);
            let names = names(&directory).into_iter().filter_map(|name| name.into_string().ok());
            kept.extend(
                names
                    .filter(|name| of_peer(name) || (deaths && of_death(name)))
                    .map(|name| directory.join(name)),
            );
        }
        kept.extend(Some(self.path.join("peers").join(personality)).filter(|path| path.exists()));
        kept
    }
}

/// The names in a directory, sorted; none where it cannot be read.
pub fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}
