//! Regular expressions that foreign text is held against: bounded in their size, and in how much they look
//! at, so that no answer takes longer to judge than a deadline allows.

use regex_lite::{Regex, RegexBuilder};
use std::fmt;

/// The largest pattern, compiled, and the step in which the size of one is found.
const LARGEST: usize = 16 * 1024;
const STEP: usize = 1024;
/// So much of a text is looked at by a pattern of one step, and the less the larger it is: what it takes
/// grows with both, to a twentieth of a second at most.
const LOOKED_AT: usize = 256 * 1024;

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

    /// The same of bytes, of which not all may be text.
    pub fn matches_bytes(&self, bytes: &[u8]) -> bool {
        self.matches(&String::from_utf8_lossy(&bytes[..bytes.len().min(self.limit)]))
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
