//! What the kernel tells of the whole machine: this boot, its pauses, its kills, its log.

use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

/// A name for this boot of the machine; another one after each boot. `None` where the system gives none.
pub fn boot() -> Option<String> {
    /// It is the same as long as we live.
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(read_boot).clone()
}

fn read_boot() -> Option<String> {
    #[cfg(target_os = "linux")]
    return Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned());
    #[cfg(target_os = "macos")]
    return macos::text(c"kern.bootsessionuuid");
}

/// How long the machine was suspended since its boot.
pub fn suspended() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    let (all, awake) = (nix::time::ClockId::CLOCK_BOOTTIME, nix::time::ClockId::CLOCK_MONOTONIC);
    // mach_continuous_time and mach_absolute_time under their POSIX names (clock_gettime(3)).
    #[cfg(target_os = "macos")]
    let (all, awake) = (
        nix::time::ClockId::from_raw(libc::CLOCK_MONOTONIC_RAW),
        nix::time::ClockId::from_raw(libc::CLOCK_UPTIME_RAW),
    );
    let read = |clock| nix::time::clock_gettime(clock).ok().map(Duration::from);
    // Read in this order the difference is never too small; the moment between the two is no suspend.
    let awake = read(awake)?;
    Some(read(all)?.saturating_sub(awake))
        .map(|span| if span < Duration::from_millis(50) { Duration::ZERO } else { span })
}

/// How long ago the machine was booted.
pub fn uptime() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(target_os = "macos")]
    let clock = nix::time::ClockId::from_raw(libc::CLOCK_MONOTONIC_RAW);
    nix::time::clock_gettime(clock).ok().map(Duration::from)
}

/// How many processes the kernel has killed for want of memory since boot (Linux 4.13).
pub fn out_of_memory_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The share of time in the last ten seconds in which some task, and all tasks, waited for memory, in
/// hundredths of a percent (Linux 4.20, PSI).
pub fn memory_pressure() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/pressure/memory").ok()?;
    let share = |line: &str| line.split("avg10=").nth(1)?.split(' ').next()?.parse::<f64>().ok();
    let mut lines = text.lines().map(|line| share(line).map(|percent| (percent * 100.0) as u16));
    Some((lines.next()??, lines.next().flatten().unwrap_or(0)))
}

/// Bytes in all and free for us on the file system of `path`.
pub fn disk(path: &std::path::Path) -> Option<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    #[allow(clippy::useless_conversion)]
    let blocks = |count| u64::from(count).saturating_mul(found.fragment_size() as u64);
    Some((blocks(found.blocks()), blocks(found.blocks_available())))
}

/// The kernel's log from some moment on (/dev/kmsg, Linux), where we may read it.
pub struct Log(std::fs::File);

impl Log {
    /// From now on.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn from_now() -> std::io::Result<Log> {
        use std::io::Seek;
        use std::os::unix::fs::OpenOptionsExt;
        let mut file =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(std::io::SeekFrom::End(0))?;
        Ok(Log(file))
    }

    /// The lines since the last call for which `wanted` holds: at most a thousand, the newest.
    pub fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = std::collections::VecDeque::new();
        let mut record = [0u8; 8192];
        // One read is one record, `priority,sequence,time,flags;text`; the kernel's ring bounds their number.
        for _ in 0..1_000_000 {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(count) => {
                    let text = String::from_utf8_lossy(&record[..count]);
                    let line = text.split_once(';').map_or("", |(_, text)| text).lines().next().unwrap_or("");
                    if wanted(line) {
                        found.push_back(line.to_owned());
                    }
                    if found.len() > 1000 {
                        found.pop_front();
                    }
                }
                // Records were overwritten before we read them; the next read goes on with the oldest that is
                // left.
                Err(cause) if cause.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        found.into()
    }
}

#[cfg(target_os = "macos")]
mod macos {
    /// A text value of sysctl(3).
    pub(super) fn text(name: &std::ffi::CStr) -> Option<String> {
        let mut buffer = [0u8; 128];
        let mut size = buffer.len();
        // SAFETY: the name is NUL-terminated, and the buffer holds `size` bytes.
        let outcome = unsafe {
            libc::sysctlbyname(
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                &raw mut size,
                std::ptr::null_mut(),
                0,
            )
        };
        let bytes = buffer.get(..size).filter(|_| outcome == 0)?;
        Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_boot_has_a_name_and_an_age() {
        assert_eq!(super::boot(), super::boot());
        assert!(super::boot().is_some_and(|boot| boot.len() >= 32));
        assert!(super::uptime() >= super::suspended());
    }
}
