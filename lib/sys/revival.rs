//! A timer of the kernel that continues this process (SIGCONT), even while it is stopped: so one who has
//! something to do by a certain time does it, whoever has stopped him (Linux).

use std::time::Duration;

/// Between two continuations, once the time has come.
#[cfg(target_os = "linux")]
const AGAIN: Duration = Duration::from_millis(50);

/// Continues this process from a moment on, and again and again. A process that runs takes no notice.
#[derive(Debug)]
pub struct Revival {
    #[cfg(target_os = "linux")]
    timer: Option<i32>,
}

impl Revival {
    /// A timer that is not set. Where the system has none, nothing ever comes of it.
    pub fn new() -> Revival {
        Revival {
            #[cfg(target_os = "linux")]
            timer: linux::create(),
        }
    }

    /// Continues us from the moment `at` on, which counts from the machine's boot, suspend included.
    pub fn set(&self, at: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = self.timer {
            linux::set(timer, at);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = at;
    }
}

impl Default for Revival {
    fn default() -> Revival {
        Revival::new()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Revival {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            // SAFETY: timer_delete(2) of a timer that we have made.
            unsafe { libc::syscall(libc::SYS_timer_delete, timer) };
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::AGAIN;
    use std::time::Duration;

    /// By system calls of its own: the number that the kernel gives is all that we need, and a signal of this
    /// kind needs none of the library's threads.
    pub(super) fn create() -> Option<i32> {
        // SAFETY: a zeroed sigevent is a valid one.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGCONT;
        let mut timer: i32 = 0;
        let clock = libc::CLOCK_BOOTTIME;
        // SAFETY: the event and the place for the number outlive the call.
        let outcome =
            unsafe { libc::syscall(libc::SYS_timer_create, clock, &raw const event, &raw mut timer) };
        (outcome == 0).then_some(timer)
    }

    pub(super) fn set(timer: i32, at: Duration) {
        // Zero would unset it (timer_settime(2)).
        let at = at.max(Duration::from_nanos(1));
        let when = libc::itimerspec { it_interval: spec(AGAIN), it_value: spec(at) };
        // SAFETY: the times outlive the call; nothing is asked back.
        unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                timer,
                libc::TIMER_ABSTIME,
                &raw const when,
                std::ptr::null_mut::<libc::itimerspec>(),
            )
        };
    }

    fn spec(span: Duration) -> libc::timespec {
        libc::timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        }
    }
}
