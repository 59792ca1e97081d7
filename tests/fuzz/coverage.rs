//! What a case reaches, where the compiler was told to count (`make fuzz`): one byte for each edge of the
//! code, as libFuzzer has it (SanitizerCoverage, inline-8bit-counters). Without that nothing is ever new.

use std::cell::RefCell;
use std::slice;
use std::sync::Mutex;

/// The counters of each object: address and length.
static COUNTERS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Called by the start of each object that was compiled so, before main.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let (start, end) = (start as usize, end as usize);
    if let Ok(mut counters) = COUNTERS.lock()
        && !counters.iter().any(|(known, _)| *known == start)
    {
        counters.push((start, end.saturating_sub(start)));
    }
}

/// Likewise; the addresses are of no interest here.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(_: *const usize, _: *const usize) {}

thread_local! {
    /// The highest count of each edge so far, rounded to powers of two.
    static SEEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether something was reached since the last call that was never reached before, or not so often. All
/// threads share the counters, so that each target has a process of its own in `make fuzz`. (Of the last few
/// bytes of an object, less than a word, nothing is known.)
pub(super) fn is_new() -> bool {
    let Ok(counters) = COUNTERS.lock() else { return false };
    SEEN.with_borrow_mut(|seen| {
        let (mut new, mut from) = (false, 0);
        for (start, length) in counters.iter() {
            seen.resize(seen.len().max(from + length), 0);
            // SAFETY: the compiler made these bytes for the life of the program, and says where they end;
            // instrumented code only adds to them, and a count that is lost between two threads is no harm.
            let counts = unsafe { slice::from_raw_parts_mut(*start as *mut u8, *length) };
            let (words, _) = counts.as_chunks_mut::<8>();
            for (counts, seen) in words.iter_mut().zip(seen[from..].chunks_mut(8)) {
                // Nearly all of them, in each case.
                if u64::from_ne_bytes(*counts) == 0 {
                    continue;
                }
                for (count, seen) in counts.iter_mut().zip(seen) {
                    let rounded = count.checked_ilog2().map_or(0, |log| 1u8 << log);
                    if rounded > *seen {
                        (*seen, new) = (rounded, true);
                    }
                    *count = 0;
                }
            }
            from += length;
        }
        new
    })
}
