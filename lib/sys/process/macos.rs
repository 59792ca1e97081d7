//! The process table of macOS: sysctl(3), libproc.h (proc_pidinfo), kqueue(2). Built and linked, never run
//! here.

use super::{Ending, Entry, Identity, Pid, Start, Vitals};
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// `struct kinfo_proc` of <sys/sysctl.h>, which the libc crate does not have: its size and the offsets of
/// what we read, the same on both architectures (64 bits). Unlike PROC_PIDTBSDINFO, which is for the
/// processes of one's own user, sysctl(3) tells of everybody's, and of those that have ended and were not
/// waited for.
const KINFO_SIZE: usize = 648;
const START_SECONDS: usize = 0;
const START_MICROSECONDS: usize = 8;
const STATE: usize = 36;
const PID: usize = 40;
const COMMAND: usize = 243;
const COMMAND_LENGTH: usize = 17;
const PARENT: usize = 560;
/// `SZOMB` of <sys/proc.h>.
const ZOMBIE: u8 = 5;
/// How often the table may have outgrown the room that was made for it.
const TRIES: u32 = 8;

/// One process, as sysctl(3) tells of it.
struct Kinfo<'a>(&'a [u8]);

impl Kinfo<'_> {
    fn number(&self, at: usize) -> Option<i32> {
        Some(i32::from_ne_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    fn entry(&self) -> Option<Entry> {
        let pid = Pid::new(self.number(PID)?)?;
        let bytes = self.0.get(START_SECONDS..START_SECONDS + 8)?.try_into().ok()?;
        let seconds = u64::try_from(i64::from_ne_bytes(bytes)).ok()?;
        let micros = u64::try_from(self.number(START_MICROSECONDS)?).ok()?;
        let start = Start(seconds.checked_mul(1_000_000)?.checked_add(micros)?);
        let session = nix::unistd::getsid(Some(pid.raw())).map_or(0, nix::unistd::Pid::as_raw);
        Some(Entry {
            identity: Identity { pid, start },
            parent: self.number(PARENT)?,
            session,
            zombie: *self.0.get(STATE)? == ZOMBIE,
        })
    }

    fn name(&self) -> Option<String> {
        let bytes = self.0.get(COMMAND..COMMAND + COMMAND_LENGTH)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

/// `kern.proc.WHAT.ARGUMENT`: some of the process table.
fn kinfo(what: i32, argument: i32) -> Vec<u8> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROC, what, argument];
    let mut ask = |buffer: *mut libc::c_void, size: &mut usize| {
        // SAFETY: four integers name the value, and the buffer holds `size` bytes or is null.
        unsafe { libc::sysctl(name.as_mut_ptr(), 4, buffer, size, std::ptr::null_mut(), 0) == 0 }
    };
    for _ in 0..TRIES {
        let mut size = 0;
        if !ask(std::ptr::null_mut(), &mut size) {
            break;
        }
        // Room for those that start meanwhile.
        size += 64 * KINFO_SIZE;
        let mut buffer = vec![0u8; size];
        if ask(buffer.as_mut_ptr().cast(), &mut size) {
            buffer.truncate(size);
            return buffer;
        }
    }
    Vec::new()
}

fn info(pid: Pid) -> Option<libc::proc_bsdinfo> {
    let mut info = std::mem::MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // SAFETY: the buffer is as large as we say and zeroed, which is a valid value of this plain C struct.
    let got = unsafe {
        libc::proc_pidinfo(pid.number(), libc::PROC_PIDTBSDINFO, 0, info.as_mut_ptr().cast(), size)
    };
    // SAFETY: zeroed above, and filled by the kernel where it filled anything.
    (got == size).then(|| unsafe { info.assume_init() })
}

/// `SSTOP` of <sys/proc.h>.
const STOPPED: u32 = 4;

pub(super) fn is_stopped(pid: Pid) -> bool {
    info(pid).is_some_and(|info| info.pbi_status == STOPPED)
}

pub(super) fn entry(pid: Pid) -> Option<Entry> {
    let bytes = kinfo(libc::KERN_PROC_PID, pid.number());
    bytes.chunks_exact(KINFO_SIZE).filter_map(|one| Kinfo(one).entry()).find(|one| one.identity.pid == pid)
}

/// Why a process that exists cannot be looked at, for people.
pub(super) fn unseen(_: Pid) -> String {
    "the system's table does not show it to us".to_owned()
}

pub(super) fn all() -> Vec<Entry> {
    let bytes = kinfo(libc::KERN_PROC_ALL, 0);
    bytes.chunks_exact(KINFO_SIZE).filter_map(|one| Kinfo(one).entry()).collect()
}

pub(super) fn name(pid: Pid) -> Option<String> {
    let bytes = kinfo(libc::KERN_PROC_PID, pid.number());
    bytes.chunks_exact(KINFO_SIZE).find_map(|one| Kinfo(one).name())
}

pub(super) fn wall_clock(start: Start) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(start.0))
}

pub(super) fn start_at(time: SystemTime) -> Option<Start> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).ok().map(Start)
}

pub(super) fn watch(pid: Pid) -> io::Result<OwnedFd> {
    let queue = Kqueue::new()?;
    let ident = usize::try_from(pid.number()).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // Without EV_CLEAR or EV_ONESHOT the event stays, so that the descriptor stays readable.
    let change = KEvent::new(ident, EventFilter::EVFILT_PROC, EvFlags::EV_ADD, FilterFlag::NOTE_EXIT, 0, 0);
    queue.kevent(&[change], &mut [], Some(libc::timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(OwnedFd::from(queue))
}

/// macOS tells the exit status to the parent only.
pub(super) fn ending(_: Identity, _: BorrowedFd<'_>) -> Option<Ending> {
    None
}

pub(super) fn vitals(pid: Pid) -> Option<Vitals> {
    let mut task = std::mem::MaybeUninit::<libc::proc_taskinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_taskinfo>()).ok()?;
    // SAFETY: the buffer is as large as we say and zeroed, which is a valid value of this plain C struct.
    let got = unsafe {
        libc::proc_pidinfo(pid.number(), libc::PROC_PIDTASKINFO, 0, task.as_mut_ptr().cast(), size)
    };
    if got != size {
        return None;
    }
    // SAFETY: zeroed above, and filled by the kernel.
    let task = unsafe { task.assume_init() };
    Some(Vitals {
        resident: task.pti_resident_size / 1024,
        threads: u32::try_from(task.pti_threadnum).ok()?,
        descriptors: Some(info(pid)?.pbi_nfiles),
    })
}

/// `sysctl kern.procargs2`: a count, the program, padding, the arguments, the environment.
fn words(pid: Pid) -> Option<(usize, Vec<Vec<u8>>)> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid.number()];
    let mut buffer = vec![0u8; 1024 * 1024];
    let mut size = buffer.len();
    // SAFETY: three integers name the value, and the buffer holds `size` bytes.
    let outcome = unsafe {
        libc::sysctl(name.as_mut_ptr(), 3, buffer.as_mut_ptr().cast(), &raw mut size, std::ptr::null_mut(), 0)
    };
    let bytes = buffer.get(..size).filter(|_| outcome == 0)?;
    let count = usize::try_from(i32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let words = bytes.get(4..)?.split(|byte| *byte == 0).skip(1).skip_while(|word| word.is_empty());
    Some((count, words.map(<[u8]>::to_vec).collect()))
}

pub(super) fn arguments(pid: Pid) -> Option<Vec<OsString>> {
    let (count, words) = words(pid)?;
    Some(words.into_iter().take(count).map(OsString::from_vec).collect())
}

/// Told of processes of our own user only.
pub(super) fn environment(pid: Pid) -> Option<Vec<Vec<u8>>> {
    let (count, words) = words(pid)?;
    Some(words.into_iter().skip(count).take_while(|word| !word.is_empty()).collect())
}

pub(super) fn children() -> Option<Vec<Pid>> {
    None
}

pub(super) fn children_of(_: Pid) -> Option<Vec<Pid>> {
    None
}

/// Start times are of microseconds; of two in the same one nobody can tell.
pub(super) fn was_next(_: Pid, _: Pid) -> bool {
    false
}

pub(super) fn program(pid: Pid) -> Option<PathBuf> {
    let mut buffer = vec![0u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    let size = u32::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer holds `size` bytes.
    let length = unsafe { libc::proc_pidpath(pid.number(), buffer.as_mut_ptr().cast(), size) };
    buffer.truncate(usize::try_from(length).ok().filter(|length| *length > 0)?);
    Some(PathBuf::from(OsString::from_vec(buffer)))
}
