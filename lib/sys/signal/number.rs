//! Any signal that can be sent, real-time ones too, which `Signal` has no names for.

use super::Signal;
use std::ops::RangeInclusive;

/// The first real-time signal and the last, as glibc, Go, Docker and systemd count them. The C library of
/// this program may keep one more for itself; whoever gets the signal counts like this.
#[cfg(target_os = "linux")]
const REAL_TIME: Option<RangeInclusive<i32>> = Some(34..=64);
#[cfg(not(target_os = "linux"))]
const REAL_TIME: Option<RangeInclusive<i32>> = None;

/// The number of a signal of this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(i32);

impl SignalNumber {
    /// From `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
    pub fn named(text: &str) -> Option<SignalNumber> {
        let number = match text.parse::<i32>() {
            Ok(number) => Some(number),
            Err(_) => {
                let short = text.strip_prefix("SIG").unwrap_or(text);
                real_time(short)
                    .or_else(|| format!("SIG{short}").parse::<Signal>().ok().map(|known| known as i32))
            }
        };
        let named = |number: i32| Signal::try_from(number).is_ok();
        number
            .filter(|number| named(*number) || REAL_TIME.is_some_and(|range| range.contains(number)))
            .map(SignalNumber)
    }

    /// The same, for an option.
    ///
    /// # Errors
    /// That it is none.
    pub fn parse(text: &str) -> Result<SignalNumber, String> {
        SignalNumber::named(text)
            .ok_or_else(|| format!("'{}' is no signal", crate::words::error::brief(text)))
    }

    /// From the name of a signal that ends a process, or has it end itself.
    ///
    /// # Errors
    /// Why it is none, in words that follow no other.
    pub fn to_end(text: &str) -> Result<SignalNumber, String> {
        let quoted = crate::words::error::brief(text);
        let signal = SignalNumber::parse(text)?;
        let others = [
            Signal::SIGSTOP,
            Signal::SIGTSTP,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGCONT,
            Signal::SIGCHLD,
        ];
        if others.iter().any(|other| signal == (*other).into()) {
            return Err(format!("'{quoted}' ends nothing"));
        }
        Ok(signal)
    }

    /// As kill(2) takes it.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl From<Signal> for SignalNumber {
    fn from(signal: Signal) -> SignalNumber {
        SignalNumber(signal as i32)
    }
}

impl std::fmt::Display for SignalNumber {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&super::name(self.0))
    }
}

/// The number of `RTMIN`, `RTMIN+N`, `RTMAX` or `RTMAX-N`.
fn real_time(short: &str) -> Option<i32> {
    let range = REAL_TIME?;
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some(range.start() + offset(rest, '+')?),
        (_, Some(rest)) => Some(range.end() - offset(rest, '-')?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        for (text, number) in [("TERM", 15), ("SIGTERM", 15), ("15", 15), ("9", 9), ("WINCH", 28)] {
            assert_eq!(
                SignalNumber::named(text).map(SignalNumber::number),
                if text == "WINCH" { Some(Signal::SIGWINCH as i32) } else { Some(number) },
                "{text}"
            );
        }
        for text in ["", "0", "-1", "65", "SIG", "term", "RTMIN-1", "RTMAX+1", "RTMIN+31", "SIGSIGTERM"] {
            assert_eq!(SignalNumber::named(text), None, "{text}");
        }
        let real_time = [("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX", 64), ("SIGRTMAX-1", 63), ("40", 40)];
        for (text, number) in real_time {
            let known = cfg!(target_os = "linux").then_some(number);
            assert_eq!(SignalNumber::named(text).map(SignalNumber::number), known, "{text}");
        }
    }

    #[test]
    fn what_ends_nothing_is_no_signal_to_end_by() {
        assert_eq!(SignalNumber::to_end("KILL"), Ok(Signal::SIGKILL.into()));
        assert_eq!(SignalNumber::to_end("SIGCONT"), Err("'SIGCONT' ends nothing".to_owned()));
        assert_eq!(SignalNumber::to_end("TREM"), Err("'TREM' is no signal".to_owned()));
    }
}
