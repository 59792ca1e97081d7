//! Spans of time: `500ms`, `2s`, `1m30s`, bare seconds in; the shortest such form out.

use std::time::Duration;

/// The longest span taken, a hundred years: `Instant` arithmetic stays far from overflow.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A span that comes from elsewhere, as far as it is reckoned with: no longer than `LONGEST`, so that no
/// sum with it overflows.
pub fn bounded(span: Duration) -> Duration {
    span.min(LONGEST)
}

/// Reads a span: numbers with `ms`, `s`, `m`, `h` or `d`, largest first, or bare seconds (`2`, `0.5`).
///
/// # Errors
/// Says what is wrong with `text`, for clap to print.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a span of time; write 500ms, 2s, 1m30s or seconds");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters =
            tail.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if total == Duration::ZERO && last_unit == u64::MAX && tail.is_empty() => 1_000,
            _ => return Err(wrong()),
        };
        if millis >= last_unit || number.starts_with('.') || number.ends_with('.') {
            return Err(wrong());
        }
        last_unit = millis;
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = value * millis as f64 / 1000.0;
        if !seconds.is_finite() || seconds > LONGEST.as_secs_f64() {
            return Err(format!("'{text}' is too long"));
        }
        total += Duration::from_secs_f64(seconds);
        rest = tail;
    }
    if total > LONGEST {
        return Err(format!("'{text}' is too long"));
    }
    Ok(total)
}

/// Reads a pause between two tries, which cannot be none: nothing else would run.
///
/// # Errors
/// As `parse`, and for none.
pub fn parse_pause(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("a pause is longer than 0; 1ms is as good as none".to_owned()),
        pause => Ok(pause),
    }
}

/// Whole milliseconds, as JSON carries spans.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a span for people: `12ms`, `1.5s`, `2m03s`.
pub fn show(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        0 if span.is_zero() => "0s".to_owned(),
        0..1000 => format!("{millis}ms"),
        1000..60_000 if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        1000..60_000 => format!("{:.1}s", span.as_secs_f64()),
        60_000..3_600_000 => format!("{}m{:02}s", millis / 60_000, millis / 1000 % 60),
        _ => format!("{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2000),
            ("1m30s", 90_000),
            ("2", 2000),
            ("0.5", 500),
            ("0", 0),
            ("1.5s", 1500),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_span() {
        for text in [
            "",
            " ",
            "x",
            "1x",
            "-1",
            "1s2m",
            "1s1s",
            "5 s",
            "1m30",
            ".",
            "1.",
            ".5",
            "1.2.3",
            "1e3",
            "99999999999999999999d",
            "inf",
            "nan",
            "ms",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pause_is_not_nothing() {
        assert_eq!(parse_pause("1ms"), Ok(Duration::from_millis(1)));
        assert!(parse_pause("0").is_err() && parse_pause("0.0001ms").is_ok() && parse_pause("x").is_err());
    }

    #[test]
    fn shows_the_shortest_form() {
        for (millis, text) in
            [(0, "0s"), (12, "12ms"), (1000, "1s"), (1500, "1.5s"), (123_000, "2m03s"), (3_660_000, "1h01m")]
        {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
