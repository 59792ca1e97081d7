//! What the JSON body of an answer must hold, as `--json-path` has it: `/ready=true`, `/lag < 10`,
//! `/status ~ ^(ok|idle)$`, `/id exists`.

use crate::probe::pattern::Pattern;
use crate::probe::pointed;
use crate::words::error::brief;
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::fmt;

/// One demand on a JSON body.
#[derive(Clone, Debug)]
pub struct JsonTest {
    pointer: String,
    wanted: Wanted,
    /// As it was given.
    text: String,
}

#[derive(Clone, Debug)]
enum Wanted {
    Exists,
    /// The text, and as which JSON it can be read.
    Equal(String, Option<Value>),
    Other(String, Option<Value>),
    /// A number, and how what is found may stand to it.
    Number(Number, &'static [Ordering]),
    Matches(Pattern),
}

const HOW: &str = "write 'POINTER=VALUE', like /ready=true, 'POINTER OP VALUE' with = != < <= > >= ~, or \
                   'POINTER exists'";

impl JsonTest {
    /// Reads `POINTER=VALUE`, `POINTER OP VALUE` or `POINTER exists`; the pointer as RFC 6901 has it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<JsonTest, String> {
        let Some((pointer, operator, value)) = cut(text) else {
            let pointer = text.strip_suffix(" exists").ok_or(HOW)?;
            return JsonTest::of(pointer, Wanted::Exists, text);
        };
        if operator == "=" && (value.starts_with('=') || (text.contains(" => ") && value.starts_with("> "))) {
            return Err(HOW.to_owned());
        }
        let json = || serde_json::from_str(value).ok();
        let number = |how: &'static [Ordering]| match json() {
            Some(Value::Number(number)) => Ok(Wanted::Number(number, how)),
            _ => Err(format!("'{value}' is not a number, which {operator} asks for")),
        };
        let wanted = match operator {
            "=" => Wanted::Equal(value.to_owned(), json()),
            "!=" => Wanted::Other(value.to_owned(), json()),
            "<" => number(&[Ordering::Less])?,
            "<=" => number(&[Ordering::Less, Ordering::Equal])?,
            ">" => number(&[Ordering::Greater])?,
            ">=" => number(&[Ordering::Greater, Ordering::Equal])?,
            _ => Wanted::Matches(Pattern::parse(value)?),
        };
        JsonTest::of(pointer, wanted, text)
    }

    fn of(pointer: &str, wanted: Wanted, text: &str) -> Result<JsonTest, String> {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("'{pointer}' is not a JSON pointer; it begins with / (RFC 6901)"));
        }
        if pointer.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(format!("'{pointer}' is not a JSON pointer; ~ is written ~0 in it (RFC 6901)"));
        }
        Ok(JsonTest { pointer: pointer.to_owned(), wanted, text: text.to_owned() })
    }

    /// Whether a body holds it.
    ///
    /// # Errors
    /// What it does not hold. What was found is foreign and may be secret: it is not repeated.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), String> {
        let pointer = &self.pointer;
        let found = pointed::at(body, pointer)?.ok_or_else(|| format!("the body has no {pointer}"))?;
        let found = &found;
        let same = |text: &str, json: &Option<Value>| {
            found.as_str() == Some(text) || json.as_ref().is_some_and(|json| equal(json, found))
        };
        match &self.wanted {
            Wanted::Exists => Ok(()),
            Wanted::Equal(text, json) if same(text, json) => Ok(()),
            Wanted::Equal(text, _) => Err(format!("{pointer} is not {}", brief(text))),
            Wanted::Other(text, json) if same(text, json) => Err(format!("{pointer} is {}", brief(text))),
            Wanted::Other(..) => Ok(()),
            Wanted::Number(wanted, how) => {
                let Value::Number(found) = found else { return Err(format!("{pointer} is not a number")) };
                let right = compare(found, wanted).is_some_and(|order| how.contains(&order));
                if right { Ok(()) } else { Err(format!("not {}", self.text)) }
            }
            Wanted::Matches(pattern) => {
                let whole = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                let right = pattern.matches(&whole);
                if right { Ok(()) } else { Err(format!("{pointer} does not match '{pattern}'")) }
            }
        }
    }
}

impl fmt::Display for JsonTest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// The first operator of `text`, with what stands before and behind it. `=`, `!=`, `<=` and `>=` need no
/// spaces; `<` and `>` need them only where a `=` follows, which belongs to an older meaning, and `~` always,
/// for a pointer may hold one.
fn cut(text: &str) -> Option<(&str, &str, &str)> {
    let (at, operator) = text.char_indices().find_map(|(at, _)| {
        let rest = &text[at..];
        let spaced =
            |operator: &str| text[..at].ends_with(' ') && rest[operator.len()..].strip_prefix(' ').is_some();
        let known = ["!=", "<=", ">=", "=", "<", ">", "~"];
        let operator = known.into_iter().find(|operator| rest.starts_with(operator))?;
        let clear = match operator {
            "<" | ">" => spaced(operator) || !rest.contains('='),
            "~" => spaced(operator),
            _ => true,
        };
        clear.then_some((at, operator))
    })?;
    let (pointer, value) = (&text[..at], &text[at + operator.len()..]);
    Some(match (pointer.strip_suffix(' '), value.strip_prefix(' ')) {
        (Some(pointer), Some(value)) => (pointer, operator, value),
        _ => (pointer, operator, value),
    })
}

/// Numbers are compared by their value: 1 is 1.0.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Some(Ordering::Equal),
        _ => one == other,
    }
}

fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    let whole = |number: &Number| number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_values_as_text_or_as_json() {
        let body = serde_json::json!({
            "ready": true, "name": "true", "n": 1, "a/b": [null, "x=y"], "": "empty key", "s": "x > y",
            "big": u64::MAX, "f": 1.5, "w": "warming up", "a!": 3, "t~": "q", "<": 2
        });
        for (text, good) in [
            ("/ready=true", true),
            ("/name=true", true),
            ("/n=1", true),
            ("/n=1.0", true),
            ("/n=1.5", false),
            ("/a~1b/1=x=y", true),
            ("/a~1b/0=null", true),
            ("/none=1", false),
            ("/=empty key", true),
            ("/s=x > y", true),
            ("/n = 1", true),
            ("/n= 1", true),
            ("/s= x > y", false),
            ("/n != 2", true),
            ("/n!=1", false),
            ("/none != 2", false),
            ("/n < 2", true),
            ("/n<1", false),
            ("/n <= 1", true),
            ("/n>=1", true),
            ("/n > 0.5", true),
            ("/f > 1", true),
            ("/big > 18446744073709551614", true),
            ("/name > 1", false),
            ("/<=2", false),
            ("/w ~ ^warm", true),
            ("/w ~ ^up", false),
            ("/ready ~ ^true$", true),
            ("/t~0 ~ q", true),
            ("/ready exists", true),
            ("/a~1b/0 exists", true),
            ("/none exists", false),
            (" exists", true),
        ] {
            assert_eq!(
                JsonTest::parse(text).map(|test| test.check(body.to_string().as_bytes()).is_ok()),
                Ok(good),
                "{text}"
            );
        }
        for text in ["ready=true", "/ready", "/n > x", "/n < ", "/n ~ (", "exists", "/n exist", "n exists"] {
            assert!(JsonTest::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn is_shown_as_it_was_given() {
        assert_eq!(JsonTest::parse("/n  != 3").unwrap().to_string(), "/n  != 3");
    }
}
