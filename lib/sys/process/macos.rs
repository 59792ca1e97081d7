//! The process table of macOS: libproc.h (proc_pidinfo, proc_listallpids), kqueue(2). Built and linked, never
//! run here.

use super::{Ending, Entry, Identity, Pid, Start, Vitals};
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// `SZOMB` of <sys/proc.h>.
const ZOMBIE: u32 = 5;

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

pub(super) fn entry(pid: Pid) -> Option<Entry> {
    let info = info(pid)?;
    let start = Start(info.pbi_start_tvsec.checked_mul(1_000_000)?.checked_add(info.pbi_start_tvusec)?);
    let session = nix::unistd::getsid(Some(pid.raw())).map_or(0, nix::unistd::Pid::as_raw);
    Some(Entry {
        identity: Identity { pid, start },
        parent: i32::try_from(info.pbi_ppid).ok()?,
        session,
        zombie: info.pbi_status == ZOMBIE,
    })
}

pub(super) fn all() -> Vec<Entry> {
    // SAFETY: a null buffer of size 0 asks for the number of processes only.
    let count = unsafe { libc::proc_listallpids(std::ptr::null_mut(), 0) };
    // Room for those that start meanwhile.
    let mut pids = vec![0i32; usize::try_from(count).unwrap_or(0) + 64];
    let size = i32::try_from(pids.len() * size_of::<i32>()).unwrap_or(0);
    // SAFETY: the buffer holds `size` bytes of integers.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), size) };
    pids.truncate(usize::try_from(count).unwrap_or(0));
    pids.into_iter().filter_map(Pid::new).filter_map(entry).collect()
}

pub(super) fn name(pid: Pid) -> Option<String> {
    let info = info(pid)?;
    let bytes: Vec<u8> =
        info.pbi_comm.iter().map(|letter| letter.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
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

pub(super) fn program(pid: Pid) -> Option<PathBuf> {
    let mut buffer = vec![0u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    let size = u32::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer holds `size` bytes.
    let length = unsafe { libc::proc_pidpath(pid.number(), buffer.as_mut_ptr().cast(), size) };
    buffer.truncate(usize::try_from(length).ok().filter(|length| *length > 0)?);
    Some(PathBuf::from(OsString::from_vec(buffer)))
}
