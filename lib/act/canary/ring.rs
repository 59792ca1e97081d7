//! The last minute of a process, one sample a second: what a death looked like before it came.

use crate::sys::kernel;
use crate::sys::process::{Pid, Vitals};
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

/// How many samples are kept.
const LENGTH: usize = 60;

/// Sixteen bytes, for a canary may watch a thousand processes.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Tenths of a second since the canary began.
    at: u32,
    resident: u32,
    threads: u16,
    descriptors: u16,
    some: u16,
    full: u16,
}

/// The samples of one process.
#[derive(Debug, Default)]
pub struct Ring(VecDeque<Sample>);

impl Ring {
    /// Takes a sample of `pid`; `at` counts from the canary's start, `pressure` is the machine's.
    pub fn take(&mut self, pid: Pid, at: Duration, pressure: (u16, u16)) {
        let Some(now) = Vitals::of(pid) else { return };
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(Sample {
            at: u32::try_from(at.as_millis() / 100).unwrap_or(u32::MAX),
            resident: u32::try_from(now.resident).unwrap_or(u32::MAX),
            threads: u16::try_from(now.threads).unwrap_or(u16::MAX),
            descriptors: now.descriptors.map_or(0, |count| u16::try_from(count).unwrap_or(u16::MAX)),
            some: pressure.0,
            full: pressure.1,
        });
    }

    /// A table of the samples, with the seconds before `death`.
    pub fn text(&self, death: Duration) -> String {
        let mut text = String::from("seconds-before rss-kib threads fds mem-some-avg10 mem-full-avg10\n");
        for one in &self.0 {
            let before = death.saturating_sub(Duration::from_millis(u64::from(one.at) * 100)).as_secs_f64();
            let (some, full) = (f64::from(one.some) / 100.0, f64::from(one.full) / 100.0);
            let _ = writeln!(
                text,
                "{before:.1} {} {} {} {some:.2} {full:.2}",
                one.resident, one.threads, one.descriptors
            );
        }
        text
    }
}

/// The machine's memory pressure, for `take`.
pub fn pressure() -> (u16, u16) {
    kernel::memory_pressure().unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_is_kept() {
        let mut ring = Ring::default();
        for second in 0..100 {
            ring.take(Pid::own(), Duration::from_secs(second), (150, 25));
        }
        let text = ring.text(Duration::from_secs(100));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LENGTH + 1);
        assert!(
            lines[1].starts_with("60.0 ")
                && lines[60].starts_with("1.0 ")
                && lines[60].ends_with(" 1.50 0.25"),
            "{text}"
        );
    }
}
