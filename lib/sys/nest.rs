//! A control group for one process and all that comes of it (cgroups(7), version 2): nobody leaves it by
//! himself, not by a session of his own, not by an empty environment; and all of it can be killed at once.
//! Where the system lets us make one.

use crate::sys::cgroup;
use crate::sys::process::{Identity, Pid};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where control groups can be made: below our own.
#[derive(Clone, Debug)]
pub struct Ground(PathBuf);

/// A control group of ours, which is removed with this.
#[derive(Debug)]
pub struct Nest {
    directory: PathBuf,
    door: Arc<OwnedFd>,
}

impl Ground {
    /// Below our own group, if it is one of version 2 that we may write to, and is ours: under systemd it
    /// must be delegated to us (Delegate= of systemd.resource-control(5)), for it is systemd's otherwise.
    /// Where it is not marked as such, `given` is asked.
    pub fn ours(given: impl FnOnce() -> bool) -> Option<Ground> {
        let directory = cgroup::unified(Pid::own())?;
        let systemd = Path::new("/run/systemd/system").is_dir();
        (crate::sys::file::writable(&directory) && (!systemd || delegated(&directory) || given()))
            .then_some(Ground(directory))
    }

    /// A new group named `name`.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn make(&self, name: &str) -> io::Result<Nest> {
        let directory = self.0.join(name);
        std::fs::create_dir(&directory)?;
        match File::options().write(true).open(directory.join("cgroup.procs")) {
            Ok(door) => Ok(Nest { directory, door: Arc::new(door.into()) }),
            Err(cause) => {
                let _ = std::fs::remove_dir(&directory);
                Err(cause)
            }
        }
    }

    /// Kills what is left in the groups whose names begin with `prefix`, and removes them.
    pub fn clear(&self, prefix: &str) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                kill(&entry.path());
                // Those who are dying keep it for a moment.
                for _ in 0..100 {
                    match std::fs::remove_dir(entry.path()) {
                        Err(cause) if cause.raw_os_error() == Some(libc::EBUSY) => {
                            std::thread::sleep(std::time::Duration::from_millis(1))
                        }
                        _ => break,
                    }
                }
            }
        }
    }
}

impl Nest {
    /// What a child writes to, to be inside from its first instruction on.
    pub fn door(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.door)
    }

    /// Who lives in it.
    pub fn members(&self) -> Vec<Identity> {
        let text = std::fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Identity::of(Pid::new(line.parse().ok()?)?)).collect()
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        kill(&self.directory);
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// At once, since Linux 5.14; before, whoever calls has other ways.
fn kill(directory: &Path) {
    let _ = std::fs::write(directory.join("cgroup.kill"), "1");
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
