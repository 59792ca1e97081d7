//! Our own memory, for programs that wait for weeks.

/// Gives back what only the start needed: the pages of code and constants that were touched once, and freed memory. What is needed again is
/// mapped again from the page cache. Does nothing where the system has no way.
pub fn shrink() {
    #[cfg(target_os = "linux")]
    linux::shrink();
}

#[cfg(target_os = "linux")]
mod linux {
    pub(super) fn shrink() {
        // SAFETY: malloc_trim only releases free memory.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        for (start, length) in maps.lines().filter_map(constant) {
            // SAFETY: the mapping is a private one of a file and was never writable, so its pages hold what the file holds, and are
            // read again from there when they are touched (madvise(2), MADV_DONTNEED).
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
    }

    /// The address and length of a line of proc_pid_maps(5), if it is code, or the constants at the head of a file. Constants further on
    /// may have been relocated before they were sealed, and then are no longer the file's.
    fn constant(line: &str) -> Option<(usize, usize)> {
        let mut fields = line.split_ascii_whitespace();
        let (range, mode, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let file = fields.nth(2)?.starts_with('/');
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        let head = mode == "r--p" && offset.bytes().all(|byte| byte == b'0');
        (file && (mode == "r-xp" || head)).then(|| (start, end.saturating_sub(start)))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn only_what_is_still_the_files_is_given_back() {
            let kept = |line: &str| super::constant(line).is_none();
            assert_eq!(super::constant("1000-3000 r-xp 00001000 fe:00 5 /bin/x"), Some((0x1000, 0x2000)));
            assert_eq!(super::constant("1000-3000 r--p 00000000 fe:00 5 /bin/x"), Some((0x1000, 0x2000)));
            assert!(kept("1000-3000 r--p 00004000 fe:00 5 /bin/x") && kept("1000-3000 rw-p 00000000 fe:00 5 /bin/x"));
            assert!(kept("1000-3000 r-xp 00000000 00:00 0 [vdso]") && kept("") && kept("zz r-xp"));
            super::super::shrink();
        }
    }
}
