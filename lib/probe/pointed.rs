//! What a JSON text holds at a pointer, without building the rest of it: a body of one MiB that a server
//! chooses would be a tree of thirty.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The largest value that is looked at.
const LIMIT: usize = 16 * 1024;
/// How deep lists and objects may lie in each other.
const DEPTH: usize = 128;

/// What `body` holds at `pointer` (RFC 6901), if anything; of several of one name the last.
///
/// # Errors
/// Says that it is not JSON or too deep, or that what is there is too large.
pub(crate) fn at(body: &[u8], pointer: &str) -> Result<Option<Value>, String> {
    let tokens: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let no_json = |_| "the body is not JSON".to_owned();
    if is_deep(body) {
        return Err(format!("the body is JSON of more than {DEPTH} lists and objects in each other"));
    }
    let mut text = serde_json::Deserializer::from_slice(body);
    let found = At(&tokens).deserialize(&mut text).map_err(no_json)?;
    text.end().map_err(no_json)?;
    match found {
        Some(found) if found.get().len() > LIMIT => Err(format!("{pointer} is larger than {LIMIT} bytes")),
        Some(found) => serde_json::from_str(found.get()).map(Some).map_err(no_json),
        None => Ok(None),
    }
}

/// The library passes over what is not asked for, however deep, and remembers each step down.
fn is_deep(body: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
    }
    false
}

struct At<'t>(&'t [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(text).map(Some),
            _ => text.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = map.next_key()? {
            if self.0.first().is_some_and(|token| *token == name) {
                found = map.next_value_seed(At(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // No sign and no leading zero (RFC 6901, 4).
        let place = self.0.first().filter(|token| *token == "0" || !token.starts_with(['0', '+']));
        let place: Option<usize> = place.and_then(|token| token.parse().ok());
        let (mut turn, mut found) = (0, None);
        loop {
            if place == Some(turn) {
                let Some(there) = list.next_element_seed(At(&self.0[1..]))? else { return Ok(None) };
                found = there;
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            turn += 1;
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A name that is copied only where it holds escapes.
#[derive(serde::Deserialize)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside the library's own, which builds all of it.
    #[test]
    fn finds_what_a_tree_would_hold() {
        let text = r#" {"a":[1,{"b":null},"x"],"":0,"m~n":true,"a/b":{"":{"c":1.5}},"d":1,"d":{"e":2},
            "n":null,"\u0061b":"q","s":"t","z":[[],[[7]]]} "#;
        let tree: Value = serde_json::from_str(text).unwrap();
        let pointers = "|/|/a|/a/0|/a/1/b|/a/2|/a/3|/a/01|/a/+1|/a/-|/a/b|/m~0n|/a~1b|/a~1b//c|/d|/d/e|/n\
                        |/n/x|/ab|/s/x|/z/1/0/0|/z/0/0|/none|/d/e/f";
        for pointer in pointers.split('|') {
            assert_eq!(at(text.as_bytes(), pointer).unwrap().as_ref(), tree.pointer(pointer), "{pointer}");
        }
        for bad in ["", "{", "{} x", "{\"a\":}", "[1,]", "nul", "{\"a\":1 \"b\":2}"] {
            assert!(at(bad.as_bytes(), "/b").is_err(), "{bad}");
        }
        assert!(at(format!("{{\"a\":\"{}\"}}", "x".repeat(LIMIT)).as_bytes(), "/a").is_err());
        let nested = |depth: usize| format!("{{\"b\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(at(nested(DEPTH - 1).as_bytes(), "/a"), Ok(None));
        assert!(at(nested(DEPTH).as_bytes(), "/a").is_err());
        let quoted = format!("[\"{}\\\"{}\", 7]", "[".repeat(999), "{".repeat(999));
        assert_eq!(at(quoted.as_bytes(), "/1"), Ok(Some(Value::from(7))));
    }
}
