//! How processes ended that are not our children, on kernels that do not tell it of a reaped process (before
//! 6.15): the proc connector of <linux/cn_proc.h>, for root. A filter in the kernel lets only the exits of
//! the watched through, so nothing else wakes or fills it.

use super::{Ending, Pid};
use std::collections::HashMap;
use std::io;

/// The exits of some processes.
pub struct Exits {
    #[cfg(target_os = "linux")]
    socket: std::os::fd::OwnedFd,
    seen: HashMap<Pid, Ending>,
}

impl Exits {
    /// Listens for the exits of `pids` from now on.
    ///
    /// # Errors
    /// `Unsupported` where there is no such thing (in a container, say), `PermissionDenied` where it is not
    /// for us.
    pub fn of(pids: &[Pid]) -> io::Result<Exits> {
        #[cfg(target_os = "linux")]
        return Ok(Exits { socket: connector::listen(pids)?, seen: HashMap::new() });
        #[cfg(not(target_os = "linux"))]
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("no exits of {} processes are told here", pids.len()),
        ))
    }

    /// Whether they are needed here: where the kernel tells the status of a reaped process itself, they are
    /// not.
    pub fn are_needed() -> bool {
        cfg!(target_os = "linux") && kernel_version().is_none_or(|version| version < (6, 15))
    }

    /// How `pid` ended, if that was told by now.
    pub fn ending(&mut self, pid: Pid) -> Option<Ending> {
        #[cfg(target_os = "linux")]
        connector::read(&self.socket, &mut self.seen);
        self.seen.get(&pid).copied()
    }
}

fn kernel_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut parts = name
        .release()
        .to_str()?
        .split(|letter: char| !letter.is_ascii_digit())
        .map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next()?))
}

#[cfg(target_os = "linux")]
pub(crate) mod connector {
    use super::{Ending, HashMap, Pid, io};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    const NETLINK_CONNECTOR: i32 = 11;
    /// CN_IDX_PROC and CN_VAL_PROC of <linux/connector.h>.
    const PROC: u32 = 1;
    const LISTEN: u32 = 1;
    /// PROC_EVENT_EXIT.
    const EXIT: u32 = 0x8000_0000;
    /// Behind a `struct nlmsghdr` (16 bytes) and a `struct cn_msg` (20): what, cpu, time; then pid, tgid,
    /// exit code.
    const WHAT: usize = 36;
    const PID: usize = 52;
    const CODE: usize = 60;
    /// More pids than this make a filter too long; then all exits come through.
    const LISTED: usize = 200;

    /// The first namespaces of a machine have fixed numbers (<linux/proc_ns.h>). In any other the kernel
    /// takes the request and never tells anything.
    const FIRST: [(&str, &str); 2] =
        [("/proc/self/ns/pid", "pid:[4026531836]"), ("/proc/self/ns/user", "user:[4026531837]")];

    pub(super) fn listen(pids: &[Pid]) -> io::Result<OwnedFd> {
        if FIRST
            .iter()
            .any(|(file, first)| std::fs::read_link(file).is_ok_and(|own| own.as_os_str() != *first))
        {
            let why = "exits are told in the first namespaces of a machine only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: three integers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        filter(&socket, pids)?;
        // SAFETY: a zeroed sockaddr_nl is a valid one.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
        address.nl_groups = PROC;
        // SAFETY: the address lives through the call and is as large as we say.
        if unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_nl>() as libc::socklen_t)
        } < 0
        {
            return Err(io::Error::last_os_error());
        }
        let mut message = Vec::new();
        for word in [40, libc::NLMSG_DONE as u32, 0, std::process::id(), PROC, PROC, 0, 0, 4, LISTEN] {
            message.extend(word.to_ne_bytes());
        }
        // SAFETY: the buffer holds as many bytes as we say.
        if unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    /// Classic BPF reads words in network order, so the constants are turned.
    fn filter(socket: &OwnedFd, pids: &[Pid]) -> io::Result<()> {
        let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
        let (load, equal, end) = (
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::BPF_RET | libc::BPF_K,
        );
        let mut program = vec![
            op(load, WHAT as u32, 0, 0),
            op(equal, EXIT.to_be(), 1, 0),
            op(end, 0, 0, 0),
            op(load, PID as u32, 0, 0),
        ];
        if pids.len() <= LISTED {
            for pid in pids {
                program.push(op(equal, pid.number().cast_unsigned().to_be(), 0, 1));
                program.push(op(end, u32::MAX, 0, 0));
            }
            program.push(op(end, 0, 0, 0));
        } else {
            program.push(op(end, u32::MAX, 0, 0));
        }
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: the program lives through the call, which copies it.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size,
            )
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(super) fn read(socket: &OwnedFd, seen: &mut HashMap<Pid, Ending>) {
        let mut buffer = [0u8; 4096];
        loop {
            // SAFETY: the buffer holds as many bytes as we say.
            let count =
                unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else { return };
            seen.extend(buffer.get(..count).and_then(exit));
        }
    }

    /// Whose end a message of the kernel tells of, if it does.
    pub(crate) fn exit(message: &[u8]) -> Option<(Pid, Ending)> {
        let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
        let (pid, code) = (word(PID)?, word(CODE)?);
        let ending = Ending::from_wait_status(code.cast_signed());
        Pid::new(pid.cast_signed()).filter(|_| word(WHAT) == Some(EXIT)).map(|pid| (pid, ending))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_has_a_version() {
        assert!(super::kernel_version().is_some_and(|version| version > (2, 6)));
    }
}
