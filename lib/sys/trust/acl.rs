//! Access lists of POSIX (acl(5)): where a file has one, the bits of its group are a bound, and who has which
//! right stands in the list alone. macOS has lists of another kind (acl(3)), which are not read.

use std::fs::File;
use std::io;
use std::path::Path;

/// Who has a right beside the owner and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "no other system tells"))]
pub(super) enum Listed {
    User(u32),
    Group(u32),
    /// The group that the file belongs to.
    OwnGroup,
}

/// Those who have this right (4 reads, 2 writes) by the list of the file at `path`, a link not followed, or
/// of the open `file`; `None` where there is no list.
///
/// # Errors
/// Those of getxattr(2); `InvalidData` for a list of another version.
#[cfg(target_os = "linux")]
pub(super) fn listed(path: &Path, file: Option<&File>, right: u32) -> io::Result<Option<Vec<Listed>>> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    /// XATTR_SIZE_MAX: no list is longer.
    const LIMIT: usize = 65_536;
    let name = c"system.posix_acl_access";
    let mut bytes = vec![0u8; LIMIT];
    let length = match file {
        // SAFETY: the name ends with NUL, and the buffer is as long as we say.
        Some(file) => unsafe {
            libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), bytes.as_mut_ptr().cast(), LIMIT)
        },
        None => {
            let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
            // SAFETY: the path and the name end with NUL, and the buffer is as long as we say.
            unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), bytes.as_mut_ptr().cast(), LIMIT) }
        }
    };
    let Ok(length) = usize::try_from(length) else {
        let cause = io::Error::last_os_error();
        return match cause.raw_os_error() {
            Some(libc::ENODATA | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(None),
            _ => Err(cause),
        };
    };
    parse(&bytes[..length], right).map(Some)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn listed(_: &Path, _: Option<&File>, _: u32) -> io::Result<Option<Vec<Listed>>> {
    Ok(None)
}

/// The list as the kernel tells it: `struct posix_acl_xattr_header` and entries of <linux/posix_acl_xattr.h>.
#[cfg(any(target_os = "linux", test))]
fn parse(bytes: &[u8], right: u32) -> io::Result<Vec<Listed>> {
    const USER: u16 = 0x02;
    const OWN_GROUP: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    let entries = match bytes.split_first_chunk::<4>() {
        Some((version, entries)) if u32::from_le_bytes(*version) == 2 => entries.chunks_exact(8),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let all: Vec<(u16, u32, u32)> = entries
        .map(|one| {
            let short = |at: usize| u16::from_le_bytes([one[at], one[at + 1]]);
            (short(0), u32::from(short(2)), u32::from_le_bytes([one[4], one[5], one[6], one[7]]))
        })
        .collect();
    let mask = all.iter().find(|(tag, ..)| *tag == MASK).map_or(7, |(_, rights, _)| *rights);
    let has = all.iter().filter(|(_, rights, _)| rights & mask & right != 0);
    Ok(has
        .filter_map(|(tag, _, id)| match *tag {
            USER => Some(Listed::User(*id)),
            OWN_GROUP => Some(Listed::OwnGroup),
            GROUP => Some(Listed::Group(*id)),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_who_has_a_right() {
        let list = |entries: &[(u16, u16, u32)]| {
            let mut bytes = 2u32.to_le_bytes().to_vec();
            for (tag, rights, id) in entries {
                bytes.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()));
                bytes.extend(id.to_le_bytes());
            }
            bytes
        };
        let all = [(1, 6, 0), (2, 6, 7), (2, 4, 8), (4, 4, 0), (8, 6, 9), (16, 6, 0), (32, 4, 0)];
        assert_eq!(parse(&list(&all), 2).unwrap(), [Listed::User(7), Listed::Group(9)]);
        let readers = [Listed::User(7), Listed::User(8), Listed::OwnGroup, Listed::Group(9)];
        assert_eq!(parse(&list(&all), 4).unwrap(), readers);
        let masked = [(1, 6, 0), (2, 6, 7), (4, 6, 0), (16, 4, 0), (32, 0, 0)];
        assert!(parse(&list(&masked), 2).unwrap().is_empty());
        assert!(parse(b"", 2).is_err() && parse(&[3, 0, 0, 0], 2).is_err());
    }
}
