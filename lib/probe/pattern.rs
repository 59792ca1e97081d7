//! Regular expressions that foreign text is held against: bounded in their size, and in how much they look
//! at, so that no answer takes longer to judge than a deadline allows.

use regex_lite::{Regex, RegexBuilder};
use std::fmt;
use std::time::Instant;

/// The largest pattern, compiled, and the step in which the size of one is found.
const LARGEST: usize = 16 * 1024;
const STEP: usize = 1024;
/// So much of a text is looked at by a pattern of one step, and the less the larger it is: what it takes
/// grows with both, to a twentieth of a second at most.
const LOOKED_AT: usize = 256 * 1024;

/// The first of the pieces that a text is looked at in while a clock runs; each is twice the one before.
const FIRST: usize = 4 * 1024;
/// So much longer a piece takes than the one before, at most.
const LONGER: u32 = 3;

/// A regular expression, which matches anywhere in a text unless it says `^` or `$`.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    limit: usize,
}

impl Pattern {
    /// Reads one; the syntax is that of the regex crate, with `\d`, `\s`, `\w` and `\b` for ASCII alone.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut size = STEP;
        loop {
            match RegexBuilder::new(text).size_limit(size).build() {
                Ok(regex) => return Ok(Pattern { regex, limit: LOOKED_AT / (size / STEP) }),
                // The library does not tell a pattern that is too large from one that is wrong.
                Err(_) if size < LARGEST => size *= 2,
                Err(cause) => return Err(format!("'{text}' is not a regular expression: {cause}")),
            }
        }
    }

    /// The same of bytes, of which not all may be text; `None` when there is no time left to find out. A
    /// search cannot be broken off, so it is begun with little, and goes on with more only where that, to
    /// judge by the last piece, ends in time.
    pub fn matches_until(&self, bytes: &[u8], deadline: Instant) -> Option<bool> {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(self.limit)]);
        let (mut length, mut last) = (FIRST, None);
        loop {
            let began = Instant::now();
            let left = deadline.checked_duration_since(began).filter(|left| !left.is_zero())?;
            if last.is_some_and(|took| took * LONGER > left) {
                return None;
            }
            if length >= text.len() {
                return Some(self.matches(&text));
            }
            // What matches at an end that moves tells nothing, and how long it took does.
            let end = (0..=length).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            if self.matches(&text[..end]) && self.is_steady() {
                return Some(true);
            }
            last = Some(began.elapsed());
            length *= 2;
        }
    }

    /// Whether what is looked at of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut end = self.limit.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.regex.is_match(&text[..end])
    }
}

impl Pattern {
    /// Whether a text that matches still does when more comes after it.
    pub fn is_steady(&self) -> bool {
        let text = self.regex.as_str();
        !["$", r"\b", r"\B", r"\z", r"\<", r"\>"].iter().any(|end| text.contains(end))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.regex.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn matches_anywhere_and_only_as_far_as_it_looks() {
        let pattern = Pattern::parse(r#""status":\s*"(ok|healthy)""#).unwrap();
        assert!(pattern.matches(r#"{"status":  "healthy"}"#) && !pattern.matches(r#"{"status":"no"}"#));
        let text = "é".repeat(LOOKED_AT);
        assert!(Pattern::parse("é$").unwrap().matches(&text));
        assert!(!Pattern::parse("x").unwrap().matches(&(text + "x")));
        assert!(Pattern::parse("[a-z]{1,90}x[0-9]{1,90}").unwrap().limit < LOOKED_AT);
    }

    #[test]
    fn a_search_ends_with_the_clock() {
        let slow = Pattern::parse("(.*a){30}b").unwrap();
        let text = vec![b'a'; LOOKED_AT];
        let now = Instant::now();
        assert_eq!(slow.matches_until(&text, now), None);
        assert_eq!(slow.matches_until(b"ab", now), None);
        let later = now + Duration::from_secs(600);
        assert_eq!(slow.matches_until(&text, later), Some(false));
        let sure = Pattern::parse("^é+$").unwrap();
        let text = "é".repeat(10_000);
        assert_eq!(sure.matches_until(text.as_bytes(), later), Some(true));
        assert_eq!(sure.matches_until((text + "x").as_bytes(), later), Some(false));
        assert_eq!(sure.matches_until(b"", later), Some(false));
    }

    #[test]
    fn a_match_at_the_end_may_be_none_when_the_end_moves() {
        assert!(Pattern::parse("a|[b-d]+").unwrap().is_steady());
        assert!(!Pattern::parse("ok$").unwrap().is_steady() && !Pattern::parse(r"ok\b").unwrap().is_steady());
    }

    #[test]
    fn refuses_what_is_none_and_what_is_too_large() {
        for text in ["(", "a{2,1}", "(a{1,99}){1,99}", "[z-a]", r"\p{Greek}"] {
            let why = Pattern::parse(text).unwrap_err();
            assert!(why.contains("is not a regular expression"), "{why}");
        }
    }
}
