//! Our own memory, for programs that wait for weeks.

/// Gives back what only the start needed: the pages of code and constants that were touched once, freed
/// memory, and the part of the stack that was used and left. What is needed again is mapped again from the
/// page cache. Does nothing where the system has no way. To be called last before a long wait, for all that
/// is touched afterwards is there again; `poll::wait_long` does so within the wait itself.
pub fn shrink() {
    spare().give_back();
}

/// What can be given back. First all is looked for, which needs code and memory; then it is given back, which
/// needs next to none.
pub struct Spare {
    #[cfg(target_os = "linux")]
    ranges: linux::Ranges,
}

/// Looks for what only the start needed.
pub fn spare() -> Spare {
    Spare {
        #[cfg(target_os = "linux")]
        ranges: linux::ranges(),
    }
}

impl Spare {
    /// Gives it back. In the midst of the wait that it is for: what that touches is there once.
    #[inline(always)]
    pub fn give_back(&self) {
        #[cfg(target_os = "linux")]
        linux::give_back(&self.ranges);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    /// How many mappings of code and constants are given back; a static program has two, and each library two
    /// more.
    const RANGES: usize = 32;
    const PAGE: usize = 4096;

    /// Where the stack was used and is not any more, and mappings of code and constants: addresses and
    /// lengths. Those of length 0 are none.
    pub(super) struct Ranges {
        stack: (usize, usize),
        constants: [(usize, usize); RANGES],
    }

    pub(super) fn ranges() -> Ranges {
        let mut found = Ranges { stack: (0, 0), constants: [(0, 0); RANGES] };
        // SAFETY: malloc_trim only releases free memory.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return found };
        found
            .constants
            .iter_mut()
            .zip(maps.lines().filter_map(constant))
            .for_each(|(place, range)| *place = range);
        let here = 0u8;
        found.stack =
            maps.lines().find_map(|line| unused(line, &raw const here as usize)).unwrap_or_default();
        found
    }

    /// By syscall(2), as the wait after it: what is touched from here on stays, and each function of the libc
    /// has pages of its own.
    #[inline(always)]
    pub(super) fn give_back(ranges: &Ranges) {
        let (start, length) = ranges.stack;
        let here = 0u8;
        // Whoever calls from further down than where the stack was looked at keeps it.
        if length > 0 && start + length + PAGE <= &raw const here as usize {
            // SAFETY: these pages are those of the stack that lie well below the frame that runs (far more
            // than the red zone, and than madvise and its callers take), and the stack grows downwards:
            // nothing lives there, and zeroes are as good.
            unsafe { libc::syscall(libc::SYS_madvise, start, length, libc::MADV_DONTNEED) };
        }
        for (start, length) in ranges.constants.iter().copied().take_while(|(_, length)| *length > 0) {
            // SAFETY: the mapping is a private one of a file and was never writable, so its pages hold what
            // the file holds, and are read again from there when they are touched (madvise(2),
            // MADV_DONTNEED).
            unsafe { libc::syscall(libc::SYS_madvise, start, length, libc::MADV_DONTNEED) };
        }
    }

    /// Of a line that tells of the main thread's stack, the part below `here` that is not in use; only where
    /// `here` is in it.
    fn unused(line: &str, here: usize) -> Option<(usize, usize)> {
        let range = line.ends_with("[stack]").then(|| line.split_ascii_whitespace().next())??;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        let until = here.checked_sub(2 * PAGE)? & !(PAGE - 1);
        ((start..end).contains(&here) && until > start).then(|| (start, until - start))
    }

    /// The address and length of a line of proc_pid_maps(5), if it is code, or the constants at the head of a
    /// file. Constants further on may have been relocated before they were sealed, and then are no longer the
    /// file's.
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
            assert!(
                kept("1000-3000 r--p 00004000 fe:00 5 /bin/x")
                    && kept("1000-3000 rw-p 00000000 fe:00 5 /bin/x")
            );
            assert!(kept("1000-3000 r-xp 00000000 00:00 0 [vdso]") && kept("") && kept("zz r-xp"));
            super::super::shrink();
        }

        #[test]
        fn only_what_lies_below_the_frame_is_unused() {
            let line = "7ffe0000-7fff0000 rw-p 00000000 00:00 0                          [stack]";
            assert_eq!(super::unused(line, 0x7ffe_8123), Some((0x7ffe_0000, 0x6000)));
            assert_eq!(super::unused(line, 0x7ffe_1000), None);
            assert_eq!(super::unused(line, 0x1000_0000), None);
            assert_eq!(super::unused(&line.replace("stack", "heap"), 0x7ffe_8123), None);
        }
    }
}
