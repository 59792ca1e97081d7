//! The names of what a process may, as files of ours say them: capabilities (capabilities(7), Linux) and
//! resource limits (setrlimit(2)).

use crate::sys::child::Resource;

/// No limit at all (RLIM_INFINITY).
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// The capabilities of Linux 5.9 and later, by their numbers.
#[cfg(target_os = "linux")]
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The bit of the capability called `name`: `net_bind_service`, with `CAP_` before it or not; `None` where
/// there is none of that name.
pub fn capability(name: &str) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("cap_").unwrap_or(&name);
        CAPABILITIES.iter().position(|one| *one == name).map(|number| 1 << number)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = name;
        None
    }
}

/// Whether this system has capabilities, and can keep a process from ever gaining privileges.
pub fn are_bounded() -> bool {
    cfg!(target_os = "linux")
}

/// The resource called `name`, as prlimit(1) has it: `nofile`, with `RLIMIT_` before it or not.
pub fn resource(name: &str) -> Option<Resource> {
    let name = name.to_ascii_lowercase();
    Some(match name.strip_prefix("rlimit_").unwrap_or(&name) {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        #[cfg(target_os = "linux")]
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "nofile" => Resource::RLIMIT_NOFILE,
        #[cfg(target_os = "linux")]
        "nproc" => Resource::RLIMIT_NPROC,
        #[cfg(target_os = "linux")]
        "rss" => Resource::RLIMIT_RSS,
        "stack" => Resource::RLIMIT_STACK,
        #[cfg(target_os = "linux")]
        "locks" => Resource::RLIMIT_LOCKS,
        #[cfg(target_os = "linux")]
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        #[cfg(target_os = "linux")]
        "nice" => Resource::RLIMIT_NICE,
        #[cfg(target_os = "linux")]
        "rtprio" => Resource::RLIMIT_RTPRIO,
        #[cfg(target_os = "linux")]
        "rttime" => Resource::RLIMIT_RTTIME,
        #[cfg(target_os = "linux")]
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual_pages() {
        assert_eq!(resource("nofile"), resource("RLIMIT_NOFILE"));
        assert!(resource("nofile").is_some() && resource("files").is_none() && capability("all").is_none());
        #[cfg(target_os = "linux")]
        {
            let bit = |name| capability(name).unwrap().trailing_zeros();
            assert_eq!((bit("chown"), bit("CAP_NET_BIND_SERVICE"), bit("sys_admin")), (0, 10, 21));
            assert_eq!((bit("wake_alarm"), bit("checkpoint_restore")), (35, 40));
        }
    }
}
