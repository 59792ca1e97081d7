//! Values of options and variables as the seed takes them: an empty variable sets nothing, and what is wrong
//! is said in its words.

use crate::act::lease::conductor::Role;

/// A number that may not be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub Option<u64>);

/// A parser of whole numbers from `minimum` to `maximum`, which calls them `what`.
pub fn number(
    what: &'static str,
    minimum: u64,
    maximum: u64,
) -> impl Fn(&str) -> Result<Number, String> + Clone + Send + Sync + 'static {
    move |text| {
        let text = text.trim();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if text.is_empty() {
            return Ok(Number(None));
        }
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{what} must be an integer."));
        }
        if text.starts_with('-') {
            return Err(format!("{what} must be >= {minimum}."));
        }
        match text.parse::<u64>() {
            Ok(number) if number < minimum => Err(format!("{what} must be >= {minimum}.")),
            Ok(number) if number <= maximum => Ok(Number(Some(number))),
            _ => Err(format!("{what} is outside the supported integer range: {maximum} at most.")),
        }
    }
}

/// A role; empty is a primary's.
///
/// # Errors
/// In the seed's words.
pub fn role(text: &str) -> Result<Role, String> {
    match text.trim() {
        "" | "primary" => Ok(Role::Primary),
        "standby" => Ok(Role::Standby),
        _ => Err("Conductor role must be either \"primary\" or \"standby\".".to_owned()),
    }
}

/// Yes, no, or not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flag(pub Option<bool>);

/// A flag's value.
///
/// # Errors
/// In the seed's words.
pub fn flag(text: &str) -> Result<Flag, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(Flag(None)),
        "1" | "on" | "true" | "yes" => Ok(Flag(Some(true))),
        "0" | "off" | "false" | "no" => Ok(Flag(Some(false))),
        _ => Err("Conductor preferred flag must be a boolean flag.".to_owned()),
    }
}

/// A text without the space around it; `None` where nothing is left.
pub fn text(given: Option<&String>) -> Option<String> {
    given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_the_seed_takes_them() {
        let parse = number("Conductor lease ttl", 1, 86_400);
        assert_eq!((parse(" 30 "), parse("")), (Ok(Number(Some(30))), Ok(Number(None))));
        for (text, why) in [
            ("x", "must be an integer"),
            ("1.5", "must be an integer"),
            ("0", "must be >= 1"),
            ("-3", "must be >= 1"),
            ("99999999999999999999", "range"),
        ] {
            assert!(parse(text).unwrap_err().contains(why), "{text}");
        }
        assert_eq!(
            (flag("On"), flag(" "), flag("0")),
            (Ok(Flag(Some(true))), Ok(Flag(None)), Ok(Flag(Some(false))))
        );
        assert!(flag("maybe").unwrap_err().contains("boolean flag"));
        assert!(role("leader").unwrap_err().contains("either \"primary\" or \"standby\""));
    }
}
