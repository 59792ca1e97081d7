//! Cgroups that we make (cgroups(7), version 2), one for each life: nobody leaves one by himself, not by a
//! session of his own, not by an empty environment; and all of it can be killed at once. Where the system
//! lets us make one.

use super::unified;
use crate::sys::process::{Identity, Pid};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a cgroup is tried to be removed whose processes are dying, a millisecond apart.
const TRIES: u32 = 100;

/// Where cgroups can be made: below our own.
#[derive(Clone, Debug)]
pub struct CgroupParent(PathBuf);

/// A cgroup of ours. It is removed with this, if it is empty by then.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    /// The directory itself, for clone3(2).
    door: Option<Arc<OwnedFd>>,
}

impl CgroupParent {
    /// Below our own cgroup, if it is one of version 2 that we may write to, and is ours: under systemd it
    /// must be delegated to us (Delegate= of systemd.resource-control(5)), for it is systemd's otherwise.
    /// Where it is not marked as such, `given` is asked.
    pub fn ours(given: impl FnOnce() -> bool) -> Option<CgroupParent> {
        let directory = unified(Pid::own())?;
        let systemd = Path::new("/run/systemd/system").is_dir();
        let ours = crate::sys::file::writable(&directory) && (!systemd || delegated(&directory) || given());
        ours.then_some(CgroupParent(directory))
    }

    /// A new cgroup named `name`.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn make(&self, name: &str) -> io::Result<Cgroup> {
        let directory = self.0.join(name);
        std::fs::create_dir(&directory)?;
        // From here on it is removed with the value.
        let mut made = Cgroup { directory, door: None };
        made.door = Some(Arc::new(File::open(&made.directory)?.into()));
        Ok(made)
    }
}

impl CgroupParent {
    /// The directories of the cgroups that are in it now.
    pub fn below(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        found.filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir())).map(|one| one.path()).collect()
    }
}

impl Cgroup {
    /// One that somebody else has made, by its directory; `None` when it is gone, or is no cgroup.
    pub fn found(directory: &Path) -> Option<Cgroup> {
        let is_one = directory.is_absolute() && directory.join("cgroup.procs").exists();
        is_one.then(|| Cgroup { directory: directory.to_owned(), door: None })
    }

    /// The same, to make children in it.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn joined(directory: &Path) -> io::Result<Cgroup> {
        let mut found = Cgroup::found(directory).ok_or(io::ErrorKind::NotFound)?;
        found.door = Some(Arc::new(File::open(&found.directory)?.into()));
        Ok(found)
    }

    /// What a child is made in; see `child::Spec`.
    pub fn door(&self) -> Option<Arc<OwnedFd>> {
        self.door.clone()
    }

    /// No child is made in it any more.
    pub fn shut(&mut self) {
        self.door = None;
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Who lives in it, and in the cgroups below it.
    pub fn members(&self) -> Vec<Identity> {
        let mut found = Vec::new();
        let mut open = vec![self.directory.clone()];
        while let Some(directory) = open.pop() {
            let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| Identity::of(Pid::new(line.parse().ok()?)?)));
            let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            open.extend(below.map(|one| one.path()).filter(|path| path.is_dir()));
        }
        found
    }

    /// Whether nobody lives in it or below; `None` where that cannot be told.
    pub fn is_empty(&self) -> Option<bool> {
        let text = std::fs::read_to_string(self.directory.join("cgroup.events")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix("populated ")? == "0"))
    }

    /// Kills all that is in it, at once, since Linux 5.14; whether that could be done.
    pub fn kill(&self) -> bool {
        std::fs::write(self.directory.join("cgroup.kill"), "1").is_ok()
    }

    /// Moves a process out of it, to where it was made; one that may not be moved stays.
    pub fn let_out(&self, pid: Pid) {
        if let Some(parent) = self.directory.parent() {
            let _ = std::fs::write(parent.join("cgroup.procs"), pid.to_string());
        }
    }

    /// Removes it, with what is below. Those who are dying keep it for a moment.
    pub fn remove(&self) {
        for _ in 0..TRIES {
            let below = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
            below.map(|one| one.path()).filter(|path| path.is_dir()).for_each(|path| {
                Cgroup { directory: path, door: None }.remove_now();
            });
            if self.remove_now() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether it is gone, or never will be.
    fn remove_now(&self) -> bool {
        let outcome = std::fs::remove_dir(&self.directory);
        !outcome.is_err_and(|cause| cause.raw_os_error() == Some(libc::EBUSY))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove_now();
    }
}

/// systemd marks what it gives away: for its own sake as `trusted.`, for users as `user.`.
fn delegated(directory: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let Ok(path) = std::ffi::CString::new(directory.as_os_str().as_bytes()) else { return false };
        [c"user.delegate", c"trusted.delegate"].into_iter().any(|name| {
            let mut value = [0u8; 8];
            // SAFETY: both names end with NUL, and at most the length of the buffer is written.
            let length = unsafe {
                libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
            };
            length == 1 && value[0] == b'1'
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = directory;
        false
    }
}
