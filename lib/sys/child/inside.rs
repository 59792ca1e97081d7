//! The start as the child sees it: between the fork and execve(2) it makes system calls only. No allocation,
//! no lock, no look at a user database: another thread of the parent may have held what they need.

use super::launch::{Ids, Plan, ROOM, Source};
use super::{Limit, Step};
use crate::sys::signal;
use std::ffi::CStr;

/// The child: becomes the program, or says why not and ends.
pub(super) fn child(plan: &mut Plan, report: i32, in_cgroup: bool, handlers_cleared: bool) -> ! {
    if !in_cgroup && let Some(door) = plan.cgroup {
        enter_cgroup(door);
    }
    let (step, errno) = become_it(plan, Some(report), handlers_cleared);
    let mut message = [0u8; 5];
    message[0] = step as u8;
    message[1..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: a write of live bytes; a parent that is gone needs no answer.
    unsafe { libc::write(report, message.as_ptr().cast(), message.len()) };
    super::end_now(127)
}

/// Outside of it is no worse than where there is none.
fn enter_cgroup(door: i32) {
    // SAFETY: the path ends with NUL, and is read from an open directory.
    let procs = unsafe { libc::openat(door, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if procs >= 0 {
        // "0" is the writer itself (cgroups(7)).
        // SAFETY: a write of one live byte.
        unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) };
    }
}

/// Everything between the fork and execve(2). Returns what failed.
pub(super) fn become_it(plan: &mut Plan, report: Option<i32>, handlers_cleared: bool) -> (Step, i32) {
    match prepare(plan, report) {
        Err(failed) => failed,
        Ok(()) => {
            signal::restore_for_program(plan.ignore_pipe, handlers_cleared);
            (Step::Exec, execute(plan))
        }
    }
}

fn prepare(plan: &mut Plan, report: Option<i32>) -> Result<(), (Step, i32)> {
    let at = |step: Step| move |errno: i32| (step, errno);
    if report.is_some() {
        // EPERM means that a session is ours already.
        // SAFETY: setsid(2) takes nothing.
        if unsafe { libc::setsid() } < 0 && errno() != libc::EPERM {
            return Err((Step::Session, errno()));
        }
    }
    for limit in &plan.limits {
        set_limit(limit).map_err(at(Step::Limits))?;
    }
    if let Some(nice) = plan.nice {
        // SAFETY: setpriority(2) with integers.
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map_err(at(Step::Limits))?;
    }
    if let Some(mask) = plan.umask {
        // SAFETY: umask(2) with an integer cannot fail.
        unsafe { libc::umask(mask as libc::mode_t) };
    }
    bound(plan.capabilities).map_err(at(Step::Attributes))?;
    if let Some(who) = &plan.user {
        become_user(who).map_err(at(Step::User))?;
    }
    // As the new user, whose it is then: what we could do to it, it must be able to do.
    own_keyring(plan.own_keyring).map_err(at(Step::Attributes))?;
    attributes(plan, report.is_some()).map_err(at(Step::Attributes))?;
    // The directory is entered as the new user, as launchd does, so that nobody is put where he may not go.
    if let Some(dir) = &plan.dir {
        // SAFETY: the path ends with NUL.
        check(unsafe { libc::chdir(dir.as_ptr()) }).map_err(at(Step::Directory))?;
    }
    descriptors(plan).map_err(at(Step::Descriptors))?;
    if let Some(room) = &mut plan.listen_pid {
        write_pid(room);
    }
    Ok(())
}

/// The pid in decimal digits at the end of `LISTEN_PID=0000000000`; leading zeros are no part of a number to
/// whom sd_listen_fds(3) reads it with strtoul, but they are cut all the same.
fn write_pid(room: &mut [u8]) {
    // SAFETY: getpid(2) takes nothing.
    let mut pid = unsafe { libc::getpid() };
    let (mut digits, mut count) = ([0u8; 10], 0);
    while pid > 0 && count < digits.len() {
        digits[count] = b'0' + u8::try_from(pid % 10).unwrap_or(0);
        pid /= 10;
        count += 1;
    }
    let from = ROOM.len() - 11;
    for at in 0..count {
        room[from + at] = digits[count - 1 - at];
    }
    room[from + count] = 0;
}

fn set_limit(limit: &Limit) -> Result<(), i32> {
    let both = libc::rlimit { rlim_cur: limit.soft as libc::rlim_t, rlim_max: limit.hard as libc::rlim_t };
    // SAFETY: the limits outlive the call.
    check(unsafe { libc::setrlimit(limit.resource as _, &raw const both) })
}

/// Groups first, then the group, then the user. By system calls of its own on Linux: the library's functions
/// tell all threads, and after a fork there is none to answer.
fn become_user(who: &Ids) -> Result<(), i32> {
    #[cfg(target_os = "linux")]
    {
        let (count, groups) = (who.groups.len(), who.groups.as_ptr());
        // SAFETY: as many groups are there as we say.
        call(unsafe { libc::syscall(libc::SYS_setgroups, count, groups) })?;
        // SAFETY: setresgid(2) with integers.
        call(unsafe { libc::syscall(libc::SYS_setresgid, who.gid, who.gid, who.gid) })?;
        // SAFETY: setresuid(2) with integers.
        call(unsafe { libc::syscall(libc::SYS_setresuid, who.uid, who.uid, who.uid) })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let count = libc::c_int::try_from(who.groups.len()).unwrap_or(0);
        // SAFETY: as many groups are there as we say.
        check(unsafe { libc::setgroups(count, who.groups.as_ptr()) })?;
        // SAFETY: setgid(2) with an integer.
        check(unsafe { libc::setgid(who.gid) })?;
        // SAFETY: setuid(2) with an integer.
        check(unsafe { libc::setuid(who.uid) })
    }
}

#[cfg(target_os = "linux")]
pub(in crate::sys) fn own_keyring(wanted: bool) -> Result<(), i32> {
    /// KEYCTL_JOIN_SESSION_KEYRING of <linux/keyctl.h>; without a name it is a new one.
    const JOIN: libc::c_int = 1;
    /// KEYCTL_GET_KEYRING_ID and KEY_SPEC_SESSION_KEYRING: what we have inherited.
    const GET: libc::c_int = 0;
    const SESSION: libc::c_int = -3;
    if !wanted {
        return Ok(());
    }
    // SAFETY: keyctl(2) with an integer and a null name.
    let joined = call(unsafe { libc::syscall(libc::SYS_keyctl, JOIN, std::ptr::null::<libc::c_char>()) });
    // SAFETY: keyctl(2) with integers; nothing is made.
    let found = || call(unsafe { libc::syscall(libc::SYS_keyctl, GET, SESSION, 0) });
    match joined {
        // Where there are no keyrings, or a sandbox forbids the call, nobody can read what is inherited. One
        // that can be asked for, and not be left behind, is not passed on.
        Err(libc::ENOSYS | libc::EPERM | libc::EACCES) if found().is_err() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(not(target_os = "linux"))]
pub(in crate::sys) fn own_keyring(_: bool) -> Result<(), i32> {
    Ok(())
}

/// Leaves no capability but these in the bounding set, and in those that a program would be given from.
#[cfg(target_os = "linux")]
fn bound(capabilities: Option<u64>) -> Result<(), i32> {
    /// _LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>: sets of 64 bits.
    const VERSION: u32 = 0x2008_0522;
    let Some(kept) = capabilities else { return Ok(()) };
    for number in (0..64).filter(|number| kept & (1 << number) == 0) {
        // SAFETY: prctl(2) with integers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            // The kernel knows no more of them.
            Err(libc::EINVAL) => break,
            outcome => outcome?,
        }
    }
    // SAFETY: prctl(2) with integers.
    let ambient = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    // Linux before 4.3 has none.
    check(ambient).or_else(|errno| if errno == libc::EINVAL { Ok(()) } else { Err(errno) })?;
    let head = [VERSION, 0];
    // Effective, permitted and inheritable: the lower halves, then the upper ones.
    let mut sets = [0u32; 6];
    // SAFETY: the header and the sets outlive the call, and are as large as this version has them.
    call(unsafe { libc::syscall(libc::SYS_capget, head.as_ptr(), sets.as_mut_ptr()) })?;
    sets[2] &= kept as u32;
    sets[5] &= (kept >> 32) as u32;
    // SAFETY: as above.
    call(unsafe { libc::syscall(libc::SYS_capset, head.as_ptr(), sets.as_ptr()) })
}

#[cfg(not(target_os = "linux"))]
fn bound(_: Option<u64>) -> Result<(), i32> {
    Ok(())
}

/// What a change of the user would undo is set after it (prctl(2)).
#[cfg(target_os = "linux")]
fn attributes(plan: &Plan, forked: bool) -> Result<(), i32> {
    if plan.no_new_privileges {
        // SAFETY: prctl(2) with integers.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    }
    if let Some(number) = plan.ends_with_us {
        // SAFETY: prctl(2) with integers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, number, 0, 0, 0) })?;
        // We may have been killed before it could be told so; then nobody would ever end it.
        // SAFETY: getppid(2) takes nothing.
        if forked && unsafe { libc::getppid() } != plan.parent {
            return Err(libc::ESRCH);
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn attributes(plan: &Plan, _: bool) -> Result<(), i32> {
    let _ = (plan.no_new_privileges, plan.ends_with_us, plan.parent);
    Ok(())
}

fn descriptors(plan: &Plan) -> Result<(), i32> {
    for (number, source) in (0..).zip(&plan.streams) {
        match source {
            Source::Inherit => {}
            Source::Fd(fd) => put(*fd, number)?,
            Source::Path(path, flags) => {
                put(open(path, *flags)?, number)?;
            }
        }
    }
    plan.pass.iter().try_for_each(|(fd, number)| put(*fd, *number))?;
    if plan.only_passed {
        close_on_exec_from(plan.highest + 1);
        (3..=plan.highest)
            .filter(|number| !plan.pass.iter().any(|(_, passed)| passed == number))
            .for_each(close_on_exec);
    }
    Ok(())
}

/// Opens a file for the program. A FIFO without its other end must not keep the start from ending: to one
/// that nobody reads /dev/null is preferred.
fn open(path: &CStr, flags: i32) -> Result<i32, i32> {
    let flags = flags | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path ends with NUL.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_NONBLOCK, 0o600 as libc::c_uint) };
    if fd < 0 && errno() == libc::ENXIO {
        // SAFETY: as above.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), flags & !libc::O_CREAT) };
        check(null)?;
        return Ok(null);
    }
    check(fd)?;
    // The program shall block on it, as every program expects.
    // SAFETY: F_SETFL changes flags of a descriptor.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags & libc::O_APPEND) })?;
    Ok(fd)
}

/// Puts `fd` at `number`, to be inherited.
fn put(fd: i32, number: i32) -> Result<(), i32> {
    if fd == number {
        // SAFETY: F_SETFD changes one flag of a descriptor.
        return check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) });
    }
    // SAFETY: dup2(2) with integers.
    check(unsafe { libc::dup2(fd, number) })
}

fn close_on_exec(number: i32) {
    // SAFETY: F_SETFD changes one flag of a descriptor, or fails where there is none.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// All descriptors from `first` on.
pub(in crate::sys) fn close_on_exec_from(first: i32) {
    #[cfg(target_os = "linux")]
    {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: close_range(2) with integers (Linux 5.11).
        if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) } == 0
        {
            return;
        }
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place for the limit outlives the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let end = i32::try_from(limit.rlim_cur).unwrap_or(65_536).min(65_536);
    (first..end).for_each(close_on_exec);
}

/// Tries each place of PATH as execvp(3) does; the error of the one that says most.
fn execute(plan: &mut Plan) -> i32 {
    let mut worst = libc::ENOENT;
    for candidate in &plan.candidates {
        // SAFETY: path, words and variables end with NUL, and their lists with a null pointer.
        unsafe { libc::execve(candidate.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        match errno() {
            libc::ENOEXEC => {
                plan.script[1] = candidate.as_ptr();
                // SAFETY: as above.
                unsafe { libc::execve(c"/bin/sh".as_ptr(), plan.script.as_ptr(), plan.envp.as_ptr()) };
                return errno();
            }
            libc::EACCES => worst = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            other => return other,
        }
    }
    worst
}

fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}

fn check(outcome: libc::c_int) -> Result<(), i32> {
    if outcome < 0 { Err(errno()) } else { Ok(()) }
}

#[cfg(target_os = "linux")]
fn call(outcome: libc::c_long) -> Result<(), i32> {
    if outcome < 0 { Err(errno()) } else { Ok(()) }
}
