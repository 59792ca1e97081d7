//! What a case costs: the processor's time, and memory at once; and an end with words for one that never
//! comes to its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, Once, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// A case that takes so long, by the clock on the wall, will not end.
const STUCK: Duration = Duration::from_secs(120);

thread_local! {
    /// What this thread has taken and not given back, and the most of it.
    static TAKEN: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's memory, counted.
struct Counted;

#[global_allocator]
static MEMORY: Counted = Counted;

fn count(by: isize) {
    // At the end of a thread there is nothing to count into any more.
    let _ = TAKEN.try_with(|taken| {
        let now = taken.get().0.saturating_add(by);
        taken.set((now, taken.get().1.max(now)));
    });
}

// SAFETY: all of it is the system's allocator, which is asked the same; what is counted touches no memory of
// anybody else.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as the caller has promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as the caller has promised us.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as the caller has promised us.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The cases that are under way, and since when.
static RUNNING: Mutex<Option<HashMap<ThreadId, Running>>> = Mutex::new(None);

struct Running {
    target: &'static str,
    case: Vec<u8>,
    since: Instant,
}

/// Ends the program when a case does not come to its end.
pub(super) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
                let stuck = running.iter().flatten().find(|(_, one)| one.since.elapsed() > STUCK);
                if let Some((_, stuck)) = stuck {
                    let path = super::directory("failed").join(format!("{}-stuck", stuck.target));
                    let _ = std::fs::write(&path, &stuck.case);
                    eprintln!("{} does not come to an end; the case is in {}", stuck.target, path.display());
                    std::process::abort();
                }
            }
        });
    });
}

/// A case under way.
pub(super) struct Case {
    spent: Duration,
    taken: isize,
}

impl Case {
    pub(super) fn begin(target: &'static str, case: &[u8]) -> Case {
        let running = Running { target, case: case.to_vec(), since: Instant::now() };
        let mut all = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_or_insert_default().insert(std::thread::current().id(), running);
        drop(all);
        let taken = TAKEN.with(|taken| {
            taken.set((taken.get().0, taken.get().0));
            taken.get().0
        });
        Case { spent: spent(), taken }
    }

    /// The processor's time and the memory that it took.
    pub(super) fn end(self) -> (Duration, usize) {
        let memory = TAKEN.with(|taken| taken.get().1 - self.taken);
        let time = spent().saturating_sub(self.spent);
        if let Some(all) = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            all.remove(&std::thread::current().id());
        }
        (time, memory.cast_unsigned())
    }
}

/// The processor's time of this thread.
fn spent() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}
