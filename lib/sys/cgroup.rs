//! What the memory controller counts of a process's control group (Linux): kills for want of memory.

mod own;

pub use own::{Cgroup, CgroupParent};

use crate::sys::process::Pid;
use std::path::PathBuf;

/// The memory group that a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its path, as /proc tells it.
    pub path: String,
    directory: PathBuf,
    unified: bool,
}

/// How many processes the kernel has killed in a group for want of memory, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Processes of this very group.
    pub single: u64,
    /// Times that the whole group was killed (memory.oom.group).
    pub whole: u64,
}

impl Group {
    /// The group of `pid`, where there is a memory controller.
    pub fn of(pid: Pid) -> Option<Group> {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        find(&membership, &mounts).into_iter().find(|group| group.kills().is_some())
    }

    /// What was counted so far; `None` once the group is removed.
    pub fn kills(&self) -> Option<Kills> {
        // Version 2 counts those of groups below in memory.events, ours alone in memory.events.local; version
        // 1 since Linux 4.13.
        let text = std::fs::read_to_string(self.directory.join(if self.unified {
            "memory.events.local"
        } else {
            "memory.oom_control"
        }))
        .ok()?;
        let count = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        };
        Some(Kills { single: count("oom_kill")?, whole: count("oom_group_kill").unwrap_or(0) })
    }

    /// The counters as the kernel writes them, for people.
    pub fn text(&self) -> Option<String> {
        std::fs::read_to_string(self.directory.join(if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        }))
        .ok()
    }
}

/// The directory of the group of version 2 that `pid` is in, where there is one.
pub fn unified(pid: Pid) -> Option<PathBuf> {
    let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    find(&membership, &mounts).into_iter().find(|group| group.unified).map(|group| group.directory)
}

/// The directories that /proc/PID/cgroup (cgroups(7)) and /proc/self/mountinfo (proc_pid_mountinfo(5)) point
/// to: version 1 first, which has the controller where it is mounted at all.
pub(crate) fn find(membership: &str, mounts: &str) -> Vec<Group> {
    let path_of = |controllers: &dyn Fn(&str) -> bool| {
        membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            parts.next().filter(|names| controllers(names)).and_then(|_| parts.next())
        })
    };
    let mount_of = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let (found, options) = (right.next()?, right.nth(1)?);
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next()?, left.next()?);
            // One whose root is outside of our namespace shows others' groups (cgroup_namespaces(7)).
            let inside = !root.starts_with("/..");
            (inside && found == kind && (option.is_empty() || options.split(',').any(|one| one == option)))
                .then_some((root, point))
        })
    };
    let group = |path: Option<&str>, mount: Option<(&str, &str)>, unified: bool| {
        let ((root, point), path) = (mount?, path?);
        // Where only a part of the tree is mounted, paths are told from its root.
        let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
        Some(Group {
            path: path.to_owned(),
            directory: PathBuf::from(format!("{point}/{}", below.trim_start_matches('/'))),
            unified,
        })
    };
    let first = group(
        path_of(&|names| names.split(',').any(|name| name == "memory")),
        mount_of("cgroup", "memory"),
        false,
    );
    let second = group(path_of(&str::is_empty), mount_of("cgroup2", ""), true);
    first.into_iter().chain(second).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_group_is_found_in_both_versions() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             31 23 0:27 /part /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 23 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found = find("4:memory:/part/a\n3:cpu:/\n0::/b\n", mounts);
        let directories: Vec<_> =
            found.iter().map(|group| (group.directory.to_str().unwrap(), group.unified)).collect();
        assert_eq!(directories, [("/sys/fs/cgroup/memory/a", false), ("/sys/fs/cgroup/unified/b", true)]);
        assert!(find("garbage\n", mounts).is_empty() && find("0::/b\n", "").is_empty());
        let outside = format!("29 23 0:26 /.. /outside rw - cgroup2 cgroup2 rw\n{mounts}");
        assert_eq!(find("0::/b\n", &outside)[0].directory.to_str(), Some("/sys/fs/cgroup/unified/b"));
    }
}
