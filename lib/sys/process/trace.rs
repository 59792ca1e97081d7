//! Who sends a signal: the kernel's own trace of signals, in an instance of its own, where we may have one
//! (Linux, root).
//!
//! `signal:signal_generate` is written at the moment of sending, so a sender that is gone by the time of the
//! death is still known.

use super::Pid;
use std::io;
use std::time::Duration;

/// One signal that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub signal: i32,
    /// `si_code` of sigaction(2): 0 for kill(2), 128 from the kernel, above 0 for a fault, -6 for tgkill(2).
    pub code: i32,
    /// Whether it was sent to the process rather than to one thread.
    pub group: bool,
    /// The thread that sent it; for a fault the one that faulted.
    pub sender: i32,
    /// The command name of that.
    pub sender_name: String,
    /// To whom.
    pub receiver: Pid,
    /// When, on the monotonic clock.
    pub at: Duration,
}

/// A trace of the signals sent to some processes. It ends with this value, and leaves nothing behind.
pub struct Trace(#[cfg(target_os = "linux")] tracefs::Instance);

impl Trace {
    /// Traces signals to `pids` from now on.
    ///
    /// # Errors
    /// `Unsupported` where there is no such trace, `PermissionDenied` where it is not for us.
    pub fn begin(pids: &[Pid]) -> io::Result<Trace> {
        #[cfg(target_os = "linux")]
        return Ok(Trace(tracefs::Instance::new(pids)?));
        #[cfg(not(target_os = "linux"))]
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("no trace of signals to {} processes here", pids.len()),
        ))
    }

    /// The time of the clock that `Sent::at` is told by.
    pub fn now() -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
    }

    /// What was sent since the last call, oldest first. The kernel keeps the newest few hundred.
    pub fn take(&mut self) -> Vec<Sent> {
        #[cfg(target_os = "linux")]
        return self.0.read().lines().filter_map(parse).collect();
        #[cfg(not(target_os = "linux"))]
        Vec::new()
    }
}

/// Reads a line of the trace: `  kill-12  [000] d..1.  11.5: signal_generate: sig=15 errno=0 code=0 comm=x
/// pid=9 grp=1 res=0`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn parse(line: &str) -> Option<Sent> {
    let (head, event) = line.split_once(": signal_generate: ")?;
    // Names may hold anything, so the outermost marks are taken: the number before ` [cpu]`, and `pid=` after
    // the last name.
    let (task, rest) = head.rsplit_once(" [")?;
    let at: f64 = rest.rsplit(' ').next()?.parse().ok()?;
    let (name, sender) = task.trim().rsplit_once('-')?;
    let (before, after) = event.rsplit_once(" pid=")?;
    let number =
        |text: &str, key: &str| text.split(' ').find_map(|word| word.strip_prefix(key)?.parse::<i32>().ok());
    Some(Sent {
        signal: number(before, "sig=")?,
        code: number(before, "code=")?,
        group: number(after, "grp=")? == 1,
        sender: sender.trim().parse().ok()?,
        sender_name: name.to_owned(),
        receiver: Pid::new(after.split(' ').next()?.parse().ok()?)?,
        at: Duration::try_from_secs_f64(at).ok()?,
    })
}

#[cfg(target_os = "linux")]
mod tracefs {
    use super::Pid;
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// More would not fit into a filter (one page); all deadly signals are traced then.
    const LISTED: usize = 64;
    /// The inode of the first pid namespace (PROC_PID_INIT_INO of <linux/proc_ns.h>): in any other the
    /// trace's pids are not ours.
    const FIRST_NAMESPACE: &str = "pid:[4026531836]";

    /// Of the names of our instances; the pid of their owner and a number follow.
    const PREFIX: &str = "baa-canary-";

    pub(super) struct Instance {
        instances: OwnedFd,
        name: String,
        pipe: Option<File>,
    }

    impl Instance {
        pub(super) fn new(pids: &[Pid]) -> io::Result<Instance> {
            if std::fs::read_link("/proc/self/ns/pid")?.as_os_str() != FIRST_NAMESPACE {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "not in the first pid namespace"));
            }
            let root = mount()?;
            let instances = open(&root, "instances", libc::O_RDONLY | libc::O_DIRECTORY)?;
            clear(&instances);
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            nix::sys::stat::mkdirat(&instances, name.as_str(), nix::sys::stat::Mode::S_IRWXU)?;
            let mut made = Instance { instances, name, pipe: None };
            made.write("buffer_size_kb", "16")?;
            made.write("trace_clock", "mono")?;
            let deadly = "sig == 9 || sig == 15 || sig == 1 || sig == 2 || sig == 3 || sig == 6 || sig == 11"
                .to_owned();
            let listed = pids.iter().map(|pid| format!("pid == {pid}")).collect::<Vec<_>>().join(" || ");
            // Children that end and windows that change size would push out what we are after.
            let filter = if pids.len() > LISTED {
                deadly
            } else {
                format!("({listed}) && sig != {} && sig != {}", libc::SIGCHLD, libc::SIGWINCH)
            };
            made.write("events/signal/signal_generate/filter", &filter)?;
            made.pipe = Some(File::from(open(
                &made.instances,
                &format!("{}/trace_pipe", made.name),
                libc::O_RDONLY | libc::O_NONBLOCK,
            )?));
            made.write("events/signal/signal_generate/enable", "1")?;
            Ok(made)
        }

        fn write(&self, file: &str, text: &str) -> io::Result<()> {
            File::from(open(&self.instances, &format!("{}/{file}", self.name), libc::O_WRONLY)?)
                .write_all(text.as_bytes())
        }

        pub(super) fn read(&mut self) -> String {
            let mut bytes = Vec::new();
            let mut buffer = [0u8; 8192];
            while let Some(count) = self
                .pipe
                .as_mut()
                .and_then(|pipe| pipe.read(&mut buffer).ok())
                .filter(|count| *count > 0 && bytes.len() < 1 << 20)
            {
                bytes.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    impl Drop for Instance {
        fn drop(&mut self) {
            // The kernel does not remove an instance that somebody reads.
            self.pipe = None;
            remove(&self.instances, &self.name);
        }
    }

    fn remove(instances: &OwnedFd, name: &str) {
        let _ = nix::unistd::unlinkat(instances.as_fd(), name, nix::unistd::UnlinkatFlags::RemoveDir);
    }

    /// Removes what canaries left behind that were killed.
    fn clear(instances: &OwnedFd) {
        let names = std::fs::read_dir(format!("/proc/self/fd/{}", instances.as_raw_fd()))
            .into_iter()
            .flatten()
            .flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            if let Some(pid) =
                name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<Pid>().ok())
                && super::super::Identity::of(pid).is_none()
            {
                remove(instances, &name);
            }
        }
    }

    fn open(at: &OwnedFd, path: &str, flags: i32) -> io::Result<OwnedFd> {
        let flags = nix::fcntl::OFlag::from_bits_truncate(flags) | nix::fcntl::OFlag::O_CLOEXEC;
        Ok(nix::fcntl::openat(at, path, flags, nix::sys::stat::Mode::empty())?)
    }

    /// The tracing file system, mounted nowhere (fsmount(2)): whether and where the machine has it mounted
    /// does not matter.
    fn mount() -> io::Result<OwnedFd> {
        const FSOPEN_CLOEXEC: u32 = 1;
        const FSMOUNT_CLOEXEC: u32 = 1;
        const FSCONFIG_CMD_CREATE: u32 = 6;
        let null = std::ptr::null::<libc::c_char>();
        // SAFETY: the name is NUL-terminated and lives through the call.
        let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC) })?;
        // SAFETY: FSCONFIG_CMD_CREATE takes no key, value or number.
        let made = unsafe {
            libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0)
        };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: three integers.
        owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
    }

    fn owned(outcome: libc::c_long) -> io::Result<OwnedFd> {
        match i32::try_from(outcome) {
            // SAFETY: the kernel has just given us this descriptor, close-on-exec, and nobody else has it.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_names_hold() {
        let line = "    a [0] pid=1-x-17538   [001] d..1. 11733.3: signal_generate: sig=15 errno=0 code=-6 \
             comm=b pid=2 grp=9 pid=17538 grp=1 res=0";
        let sent = parse(line).unwrap();
        assert_eq!(
            (sent.signal, sent.code, sent.group, sent.sender, sent.receiver.number()),
            (15, -6, true, 17538, 17538)
        );
        assert_eq!((sent.sender_name.as_str(), sent.at.as_millis()), ("a [0] pid=1-x", 11_733_300));
        for line in [
            "",
            "x: signal_generate: ",
            "CPU:0 [LOST 5 EVENTS]",
            "a-1 [0] 1: signal_generate: sig=9 errno=0 code=0 comm=x pid= grp=1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
