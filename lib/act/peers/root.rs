//! Where an iapeer installation keeps what belongs to a peer (facts B1).

use crate::act::peers::owner::LaunchdLine;
use crate::service::iapeer;
use crate::sys::directory::Directory;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// An installation.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    /// As it was named.
    given: PathBuf,
    sockets: Vec<PathBuf>,
    /// Whether this is a test's own, in which launchd is not touched (IAPEER_TEST_SANDBOX=1).
    pub sandbox: bool,
    /// Whether it was there when it was looked for.
    exists: bool,
    /// Who tells launchd, where we may not.
    launchd: Option<LaunchdLine>,
}

/// What is never a link in an installation: nothing beyond it is read or written.
const OWN: [&str; 6] = [
    "peers-profiles.json",
    "peers-profiles.lock",
    "state",
    "state/lifecycle",
    "state/removed",
    "state/supervisor",
];

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
        let (path, given) = (real(&path), path);
        let exists = path.is_dir();
        Ok(Root { path, given, sockets, sandbox, exists, launchd: None })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The way that was named to it.
    pub(super) fn given(&self) -> &Path {
        &self.given
    }

    /// The same, as one that is not there.
    pub(super) fn gone(self) -> Root {
        Root { exists: false, ..self }
    }

    /// Whether it was there when it was looked for. Nothing is made in one that was not.
    pub fn exists(&self) -> bool {
        self.exists
    }

    fn open(&self) -> io::Result<Directory> {
        if self.exists { Directory::open(&self.path) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The same, for which `line` tells launchd.
    pub(super) fn with_launchd(self, line: LaunchdLine) -> Root {
        Root { launchd: Some(line), ..self }
    }

    /// Who tells launchd, where we may not.
    pub(super) fn launchd(&self) -> Option<&LaunchdLine> {
        self.launchd.as_ref()
    }

    /// Whether nothing in it leads elsewhere.
    ///
    /// # Errors
    /// 77 with what does.
    pub fn check(&self) -> Result<()> {
        let all = OWN.iter().map(|name| self.path.join(name));
        let mut links = all.filter(|path| path.symlink_metadata().is_ok_and(|found| found.is_symlink()));
        links.next().map_or(Ok(()), |path| {
            let why = format!("cannot work in {}: '{}' is a link", self.path.display(), path.display());
            Err(Error::new(Status::NotPermitted, why))
        })
    }

    /// The bytes of a file in it, at most `limit`; a link is not followed.
    ///
    /// # Errors
    /// Those of open(2) and `Directory::read`.
    pub fn read(&self, below: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.open()?.read(Path::new(below), limit)
    }

    /// A directory in it; a link is not followed.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn enter(&self, below: &str) -> io::Result<Directory> {
        self.open()?.enter(Path::new(below))
    }

    /// The names in a directory in it, sorted; none where it cannot be read.
    pub fn names(&self, below: &str) -> Vec<OsString> {
        self.enter(below).and_then(|directory| directory.names()).unwrap_or_default()
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
            let names = self.names(directory).into_iter().filter_map(|name| name.into_string().ok());
            kept.extend(
                names
                    .filter(|name| of_peer(name) || (deaths && of_death(name)))
                    .map(|name| self.path.join(directory).join(name)),
            );
        }
        kept.extend(Some(self.path.join("peers").join(personality)).filter(|path| path.exists()));
        kept
    }
}
