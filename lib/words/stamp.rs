//! Moments in words: RFC 3339, in UTC. A clock may be anywhere; what cannot be written so is written as the
//! nearest that can.

use std::time::{Duration, SystemTime};

/// The last second of the year 9999.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn writable(time: SystemTime) -> SystemTime {
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
}

/// To the second.
pub fn seconds(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(writable(time)).to_string()
}

/// To the millisecond.
pub fn millis(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(writable(time)).to_string()
}

/// Reads one; `None` for what is none.
pub fn parse(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_be_anywhere() {
        assert_eq!(seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(
            millis(SystemTime::UNIX_EPOCH + LAST + Duration::from_secs(1)),
            "9999-12-31T23:59:59.000Z"
        );
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!(parse("yesterday"), None);
    }
}
