//! The process table of Linux: proc_pid_stat(5), pidfd_open(2).

use super::{Ending, Entry, Identity, Pid, Start, Vitals};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub(super) fn entry(pid: Pid) -> Option<Entry> {
    parse(pid, &stat(pid)?)
}

/// Why a process that exists cannot be looked at, for people.
pub(super) fn unseen(pid: Pid) -> String {
    let cause = match fs::File::open(format!("/proc/{pid}/stat")) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => cause,
        _ if entry(Pid::own()).is_some() => return "/proc does not show it to us".to_owned(),
        _ => match fs::File::open("/proc/self/stat") {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => cause,
            _ => return "it cannot be looked at without /proc".to_owned(),
        },
    };
    format!("it cannot be looked at: {}", crate::words::error::reason(&cause))
}

/// One read: the kernel makes the whole line at once, of 52 numbers and a short name, and a file without a
/// size is otherwise read in crumbs.
fn stat(pid: Pid) -> Option<Vec<u8>> {
    let mut line = vec![0; 2048];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    line.truncate(length);
    Some(line)
}

pub(super) fn all() -> Vec<Entry> {
    let Ok(list) = fs::read_dir("/proc") else { return Vec::new() };
    list.flatten().filter_map(|one| one.file_name().to_str()?.parse().ok()).filter_map(entry).collect()
}

/// The fields from the third on, the state. The name in parentheses may hold spaces and parentheses of its
/// own, so they are counted from the last one.
fn fields(stat: &[u8]) -> Option<Vec<&str>> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    Some(std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().collect())
}

/// Field `number` of proc_pid_stat(5).
fn field<T: std::str::FromStr>(fields: &[&str], number: usize) -> Option<T> {
    fields.get(number.checked_sub(3)?)?.parse().ok()
}

/// Reads a line of proc_pid_stat(5).
pub(crate) fn parse(pid: Pid, stat: &[u8]) -> Option<Entry> {
    let fields = fields(stat)?;
    Some(Entry {
        identity: Identity { pid, start: Start(field(&fields, 22)?) },
        parent: field(&fields, 4)?,
        session: field(&fields, 6)?,
        // A process lives whose first thread has ended and others have not.
        zombie: matches!(*fields.first()?, "Z" | "X" | "x") && field::<u32>(&fields, 20)? <= 1,
    })
}

pub(super) fn is_stopped(pid: Pid) -> bool {
    let Some(stat) = stat(pid) else { return false };
    fields(&stat).is_some_and(|fields| matches!(fields.first(), Some(&("T" | "t"))))
}

pub(super) fn vitals(pid: Pid) -> Option<Vitals> {
    let stat = stat(pid)?;
    let fields = fields(&stat)?;
    let page = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let resident = field::<u64>(&fields, 24)?.checked_mul(page)? / 1024;
    Some(Vitals { resident, threads: field(&fields, 20)?, descriptors: descriptors(pid) })
}

/// Since Linux 6.2 the directory's size is their number; before, it is 0 and they are counted.
fn descriptors(pid: Pid) -> Option<u32> {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path).ok()?.len() {
        0 => u32::try_from(fs::read_dir(&path).ok()?.count()).ok(),
        count => u32::try_from(count).ok(),
    }
}

/// The pairs of /proc/PID/environ.
pub(super) fn environment(pid: Pid) -> Option<Vec<Vec<u8>>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    Some(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

/// A child is listed with the thread that made it, an adopted one with the first.
pub(super) fn children() -> Option<Vec<Pid>> {
    children_of(Pid::own())
}

/// None of a process that is gone. A thread that ends meanwhile has left its children to another.
pub(super) fn children_of(pid: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(found) };
    for thread in threads.flatten() {
        let list = match fs::read_to_string(thread.path().join("children")) {
            Err(_) if !thread.path().exists() => continue,
            list => list.ok()?,
        };
        found.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::new(pid.parse().ok()?)));
    }
    Some(found)
}

pub(super) fn arguments(pid: Pid) -> Option<Vec<OsString>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    Some(line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// The link itself, not what it says: it leads to the very file even after that was replaced or removed
/// (proc_pid_exe(5)).
pub(super) fn program(pid: Pid) -> Option<PathBuf> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    fs::read_link(&link).is_ok().then_some(link)
}

pub(super) fn name(pid: Pid) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Start times count from the boot and include suspend, as CLOCK_BOOTTIME does.
pub(super) fn wall_clock(start: Start) -> Option<SystemTime> {
    let since_boot = Duration::from_millis(start.0.checked_mul(1000)? / hertz()?);
    SystemTime::now().checked_sub(uptime()?.saturating_sub(since_boot))
}

/// A time before the boot is older than every process. The two clocks cannot be read at once: the one since
/// boot is read first, of some readings the closest counts, and so the tick is never one that is later.
pub(super) fn start_at(time: SystemTime) -> Option<Start> {
    let reading = || {
        let before = uptime()?;
        let now = SystemTime::now();
        Some((uptime()?.saturating_sub(before), before, now))
    };
    let (_, before, now) = (0..5).filter_map(|_| reading()).min_by_key(|(took, ..)| *took)?;
    let since_boot = match now.duration_since(time) {
        Ok(ago) => before.saturating_sub(ago),
        Err(ahead) => before.checked_add(ahead.duration())?,
    };
    let ticks = since_boot.as_nanos().checked_mul(u128::from(hertz()?))? / 1_000_000_000;
    u64::try_from(ticks).ok().map(Start)
}

/// Whether `later` was given out after `pid`, of two pids that were so within one tick. They go round: what
/// is less than half a round ahead is later.
pub(super) fn was_next(pid: Pid, later: Pid) -> bool {
    let limit = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(1 << 22);
    let ahead = (i64::from(later.number()) - i64::from(pid.number())).rem_euclid(limit);
    (1..limit / 2).contains(&ahead)
}

fn uptime() -> Option<Duration> {
    Some(Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?))
}

fn hertz() -> Option<u64> {
    u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??)
        .ok()
        .filter(|hertz| *hertz > 0)
}

pub(super) fn watch(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.number(), 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process of a descriptor, if it lives.
pub(super) fn signal(fd: &OwnedFd, number: i32) {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal(2) with integers and a null siginfo.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), number, nothing, 0) };
}

/// `struct pidfd_info` of <linux/pidfd.h>, first version: 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;

pub(super) fn ending(who: Identity, fd: BorrowedFd<'_>) -> Option<Ending> {
    // A zombie is told by /proc, a reaped process by its descriptor; it may be reaped between the two
    // questions.
    zombie(who).or_else(|| reaped(fd))
}

/// The status of a zombie, field 52 of proc_pid_stat(5): shown to whom ptrace(2) would let read the process,
/// and 0 to others.
fn zombie(who: Identity) -> Option<Ending> {
    let stat = stat(who.pid)?;
    let entry = parse(who.pid, &stat).filter(|entry| entry.zombie && entry.identity == who)?;
    let word: i32 = field(&fields(&stat)?, 52)?;
    (word != 0 || readable(entry.identity.pid)).then(|| Ending::from_wait_status(word))
}

/// Whether all user and group ids of a process are ours, or we are root.
fn readable(pid: Pid) -> bool {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let all = |key: &str, own: u32| {
        let ids = status.lines().find_map(|line| line.strip_prefix(key)).map(str::split_ascii_whitespace);
        ids.is_some_and(|mut ids| ids.all(|id| id.parse() == Ok(own)))
    };
    uid == 0 || (all("Uid:", uid) && all("Gid:", gid))
}

fn reaped(fd: BorrowedFd<'_>) -> Option<Ending> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request number carries the size of the struct that the pointer points to, and it outlives
    // the call.
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (outcome == 0 && info.mask & INFO_EXIT != 0).then(|| Ending::from_wait_status(info.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = b"7 (a) R 1) S 4 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let entry = parse(Pid(7), stat).unwrap();
        assert_eq!(
            (entry.parent, entry.session, entry.identity.start, entry.zombie),
            (4, 6, Start(777), false)
        );
        assert!(parse(Pid(7), b"7 (cut").is_none());
        assert!(parse(Pid(7), b"").is_none());
    }
}
