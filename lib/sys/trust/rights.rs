//! Who has which right to what was found: its owner, its group, its access list, and what a sandbox does not
//! show.

use super::Distrust;
use super::acl::{self, Listed};
use crate::sys::user;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;

/// Others may write, and only the owner of an entry may remove it (inode(7)).
const STICKY: u32 = 0o1000;

/// What is judged: at its path, where nobody else can put another, or as it was opened.
pub(super) struct Thing<'a> {
    pub(super) path: &'a Path,
    pub(super) found: &'a Metadata,
    pub(super) file: Option<&'a File>,
}

/// The rights of all others; those of the group stand three bits above.
pub(super) const READ: u32 = 4;
const WRITE: u32 = 2;

impl Thing<'_> {
    pub(super) fn alone(&self) -> Result<(), Distrust> {
        if !self.found.is_file() {
            return Err(Distrust::Kind { path: self.path.to_owned() });
        }
        self.contents()?;
        if self.found.nlink() > 1 {
            return Err(Distrust::Links { path: self.path.to_owned() });
        }
        Ok(())
    }

    pub(super) fn contents(&self) -> Result<(), Distrust> {
        let uid = user::own_uid();
        owner(self.path, self.found, uid)?;
        self.writers(uid)
    }

    /// One directory on a way.
    pub(super) fn directory(&self, uid: u32) -> Result<(), Distrust> {
        owner(self.path, self.found, uid)?;
        // In a sticky one others make entries, but cannot touch those of somebody else.
        if self.found.mode() & STICKY == 0 { self.writers(uid) } else { Ok(()) }
    }

    /// Whether anybody but the owner, root and `uid` may write.
    pub(super) fn writers(&self, uid: u32) -> Result<(), Distrust> {
        if self.others_have(WRITE, uid) {
            return Err(Distrust::Writable { path: self.path.into() });
        }
        Ok(())
    }

    pub(super) fn others_have(&self, right: u32, uid: u32) -> bool {
        let mode = self.found.mode();
        if mode & right != 0 {
            return true;
        }
        // With an access list these bits bound what anybody is given by it.
        if mode & (right << 3) == 0 {
            return false;
        }
        let is_ours = |gid: u32| self.is_own_group(gid, right, uid);
        match acl::listed(self.path, self.file, right) {
            Ok(None) => !is_ours(self.found.gid()),
            Ok(Some(list)) => list.into_iter().any(|one| match one {
                Listed::User(user) => user != 0 && user != uid,
                Listed::Group(gid) => !is_ours(gid),
                Listed::OwnGroup => !is_ours(self.found.gid()),
            }),
            Err(_) => true,
        }
    }

    /// Whether a right of this group is nobody's but root's and ours: root's own group for what is root's; a
    /// user's group of his own (Debian's and Fedora's user-private groups); and what root lets a group read
    /// that we are in, root has given us.
    fn is_own_group(&self, gid: u32, right: u32, uid: u32) -> bool {
        let of_root = self.found.uid() == 0;
        (of_root && is_roots_group(gid))
            || (uid != 0 && user::is_private_group(gid, uid))
            || (of_root && right == READ && uid != 0 && uid == user::own_uid() && user::in_group(gid))
    }
}

/// On macOS also those of its daemons and of the administrators, who may become root.
fn is_roots_group(gid: u32) -> bool {
    if cfg!(target_os = "macos") {
        [0, 1, 80].contains(&gid)
    } else {
        gid == 0 && user::is_private_group(0, 0)
    }
}

pub(super) fn owner(path: &Path, found: &Metadata, of: u32) -> Result<(), Distrust> {
    let uid = found.uid();
    if uid == 0 || uid == of || (is_unmapped(uid) && is_of_the_system(path)) {
        Ok(())
    } else {
        Err(Distrust::Owner { path: path.into(), uid })
    }
}

/// Whether a user is one that our user namespace has no number for, as the machine's root is to a sandbox:
/// where root has one, it is another.
fn is_unmapped(uid: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        /// What the kernel shows instead (DEFAULT_OVERFLOWUID).
        const NOBODY: u32 = 65534;
        static MAPPED: OnceLock<bool> = OnceLock::new();
        let is_mapped = || {
            let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            let covers = |line: &str| {
                let words: Vec<u64> =
                    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
                let has_nobody = |from, count| (from..from + count).contains(&u64::from(NOBODY));
                matches!(words[..], [from, outside, count] if outside == 0 || has_nobody(from, count))
            };
            map.is_empty() || map.lines().any(covers)
        };
        uid == NOBODY && !MAPPED.get_or_init(is_mapped)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = uid;
        false
    }
}

/// Whether what belongs to a user without a number is most likely root's: all such users look the same. It is
/// not where anybody may make directories, and not among the directories of users.
fn is_of_the_system(path: &Path) -> bool {
    const OF_USERS: [&str; 4] = ["/home", "/run/user", "/var/home", "/export/home"];
    let Some(parent) = path.parent() else { return true };
    let open = fs::symlink_metadata(parent).map_or(true, |found| found.mode() & 0o022 != 0);
    !open && !OF_USERS.iter().any(|of_users| parent == Path::new(of_users))
}
