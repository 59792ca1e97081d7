//! iapeer's registry as text: read to be judged, and changed by taking one entry out, everything else staying
//! as it was, byte for byte.

use crate::service::iapeer;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The newest version whose entries are known (facts B2).
const VERSION: u64 = 2;
/// What iapeer says of a registry that it does not read.
pub const CORRUPTED: &str = "peers-profiles.json corrupted, restore from backup or delete to start fresh";

/// A registry, and where its entries stand in the text.
#[derive(Clone, Debug)]
pub struct Registry<'a> {
    text: &'a str,
    /// Inside of the brackets of the list.
    list: Range<usize>,
    entries: Vec<(Range<usize>, Peer)>,
    /// The version that it says it has.
    pub version: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub personality: String,
    /// What it runs in.
    pub runtimes: Vec<String>,
    /// Its folder.
    pub cwd: String,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Registry<'a> {
    /// Reads it: version 2, what came before, and what is newer as far as it looks the same.
    ///
    /// # Errors
    /// Says what is wrong with it, after iapeer's own words.
    pub fn parse(text: &'a str) -> Result<Registry<'a>, String> {
        let corrupted = |why: String| format!("{CORRUPTED}: {why}");
        let top: &RawValue = serde_json::from_str(text).map_err(|why| corrupted(why.to_string()))?;
        // Before version 2 had its envelope the list stood alone.
        let (list, version) = if top.get().starts_with('[') {
            (top, 1)
        } else {
            let fields: Fields<'a> =
                serde_json::from_str(top.get()).map_err(|why| corrupted(why.to_string()))?;
            let version = match fields.get("version") {
                None => 1,
                Some(version) => serde_json::from_str(version.get())
                    .map_err(|_| corrupted("its version is no number".to_owned()))?,
            };
            (*fields.get("peers").ok_or_else(|| corrupted("it has no peers".to_owned()))?, version)
        };
        let rows: Vec<&'a RawValue> =
            serde_json::from_str(list.get()).map_err(|_| corrupted("its peers are no list".to_owned()))?;
        let mut entries: Vec<(Range<usize>, Peer)> = Vec::new();
        let mut names = BTreeSet::new();
        for row in rows {
            let peer = peer(row).map_err(corrupted)?;
            if !names.insert(peer.personality.clone()) {
                return Err(corrupted(format!(
                    "'{}' is there twice",
                    crate::words::error::brief(&peer.personality)
                )));
            }
            entries.push((span(text, row.get()), peer));
        }
        let list = span(text, list.get());
        Ok(Registry { text, list: list.start + 1..list.end - 1, entries, version })
    }

    /// Whether its version is newer than what is known here.
    pub fn is_newer(&self) -> bool {
        self.version > VERSION
    }

    /// The names of all entries, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, peer)| peer.personality.as_str())
    }

    /// The entry of `personality`.
    pub fn find(&self, personality: &str) -> Option<&Peer> {
        self.entries.iter().map(|(_, peer)| peer).find(|peer| peer.personality == personality)
    }

    /// The text without the entry of `personality`; `None` when there is none.
    pub fn without(&self, personality: &str) -> Option<String> {
        let at = self.entries.iter().position(|(_, peer)| peer.personality == personality)?;
        let span = |index: usize| self.entries.get(index).map(|(span, _)| span.clone());
        let own = span(at)?;
        // With the comma and the space up to the next one; the last one with those after the one before.
        let cut = match (at.checked_sub(1).and_then(span), span(at + 1)) {
            (_, Some(next)) => own.start..next.start,
            (Some(before), None) => before.end..own.end,
            (None, None) => self.list.clone(),
        };
        Some(format!("{}{}", &self.text[..cut.start], &self.text[cut.end..]))
    }

    /// Names that are one or two slips away from `personality`.
    pub fn near(&self, personality: &str) -> Vec<String> {
        let names = self.entries.iter().map(|(_, peer)| &peer.personality);
        names.filter(|name| distance(name, personality) <= 2 && *name != personality).cloned().collect()
    }
}

/// Where `part`, a slice of `text`, stands in it.
fn span(text: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

/// Reads an entry as iapeer does (facts B2.5, B2.6). Only the fields that matter are decoded; the others may
/// hold anything.
fn peer(row: &RawValue) -> Result<Peer, String> {
    let fields: Fields<'_> =
        serde_json::from_str(row.get()).map_err(|_| "an entry is no object".to_owned())?;
    let string =
        |key: &str| fields.get(key).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    let personality =
        string("personality").filter(|name| !name.is_empty()).ok_or("an entry has no personality")?;
    let wrong = |what: &str| format!("'{}' has {what}", crate::words::error::brief(&personality));
    let default =
        string("default_runtime").or_else(|| string("runtime")).ok_or_else(|| wrong("no runtime"))?;
    let runtimes: Vec<String> = match fields.get("runtimes").filter(|value| value.get() != "null") {
        Some(list) => {
            serde_json::from_str(list.get()).map_err(|_| wrong("runtimes that are no list of names"))?
        }
        None => vec![default.clone()],
    };
    if !iapeer::is_runtime(&default) || !runtimes.iter().all(|runtime| iapeer::is_runtime(runtime)) {
        return Err(wrong("a bad runtime"));
    }
    let known = ["artificial", "natural", "absent", "human", "scripted"];
    if fields.contains_key("intelligence")
        && !string("intelligence").is_some_and(|value| known.contains(&value.as_str()))
    {
        return Err(wrong("a bad intelligence"));
    }
    let cwd = string("cwd").filter(|cwd| !cwd.is_empty()).ok_or_else(|| wrong("no cwd"))?;
    Ok(Peer { personality, runtimes, cwd })
}

/// Levenshtein's.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], line + 1);
        for (column, with) in other.iter().enumerate() {
            let cost = (corner + usize::from(letter != *with)).min(row[column] + 1).min(row[column + 1] + 1);
            corner = std::mem::replace(&mut row[column + 1], cost);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::dice::Dice;
    use serde_json::Value;

    fn space(dice: &mut Dice) -> &'static str {
        dice.pick(&["", " ", "\n  ", "\t", "\r\n"])
    }

    fn entry(dice: &mut Dice, name: &str) -> String {
        let mut fields = vec![
            format!("\"personality\":{}\"{name}\"", space(dice)),
            format!("\"cwd\": \"/peers/{name}\\u00e9\""),
        ];
        fields.push(
            dice.pick(&[
                "\"runtime\": \"claude\"",
                "\"default_runtime\":\"codex\",\"runtimes\":[\"codex\", \"claude\"]",
            ])
            .to_owned(),
        );
        if dice.roll(2) == 0 {
            let unknown = [
                "\"x\": {\"peers\": [{\"personality\": \"bob\"}], \"n\": 1.50e+3}",
                "\"description\": \"]}, {\\\"personality\\\": \\\"bob\\\"\"",
                "\"lone\": \"\\ud800\"",
                "\"интерфейсы\": [1, [2, []]]",
            ];
            fields.push(dice.pick(&unknown).to_owned());
        }
        if dice.roll(2) == 0 {
            fields.push(format!(
                "\"intelligence\": \"{}\"",
                dice.pick(&["artificial", "human", "scripted", "absent"])
            ));
        }
        let turn = usize::try_from(dice.roll(fields.len() as u64)).unwrap();
        fields.rotate_left(turn);
        let (open, close) = (space(dice), space(dice));
        format!("{{{open}{}{close}}}", fields.join(&format!("{},{}", space(dice), space(dice))))
    }

    /// Any registry without one peer is the same text with one cut, and the same value with one entry less.
    #[test]
    fn one_entry_goes_and_nothing_else_changes() {
        let mut dice = Dice::of(1);
        for _ in 0..3000 {
            let count = dice.roll(6) + 1;
            let entries: Vec<String> =
                (0..count).map(|number| entry(&mut dice, &format!("peer-{number}"))).collect();
            let list = format!(
                "[{}{}{}]",
                space(&mut dice),
                entries.join(&format!("{},{}", space(&mut dice), space(&mut dice))),
                space(&mut dice)
            );
            let text = match dice.roll(4) {
                0 => format!("{}{list}\n", space(&mut dice)),
                1 => format!("{{\"peers\":{list}}}"),
                2 => format!(
                    "{{\"version\": 2,{}\"peers\": {list},\"more\": [\"peers\"]}}\n",
                    space(&mut dice)
                ),
                _ => format!("{{\"peers\": {list}, \"version\": 1}}"),
            };
            let victim = dice.roll(count);
            let registry = Registry::parse(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
            let after = registry.without(&format!("peer-{victim}")).unwrap();
            // What is left is a beginning and an end of what was there.
            let head = text.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
            let tail =
                text.bytes().rev().zip(after.bytes().rev()).take_while(|(one, other)| one == other).count();
            assert!(head + tail >= after.len(), "{text}\n{after}");
            for (number, entry) in entries.iter().enumerate() {
                assert_eq!(after.contains(entry.as_str()), number as u64 != victim, "{text}\n{after}");
            }
            let again = Registry::parse(&after).unwrap();
            assert_eq!((again.entries.len() as u64, again.version), (count - 1, registry.version));
            assert!(again.find(&format!("peer-{victim}")).is_none());
        }
    }

    #[test]
    fn what_iapeer_does_not_read_is_refused() {
        let entry = |more: &str| {
            format!(
                "{{\"version\":2,\"peers\":[{{\"personality\":\"bob\",\"runtime\":\"claude\",\
                     \"cwd\":\"/x\"{more}}}]}}"
            )
        };
        assert!(Registry::parse(&entry("")).is_ok());
        let bad = [
            String::new(),
            "{".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "{\"peers\":{}}".to_owned(),
            "{\"peers\":[1]}".to_owned(),
            "{\"peers\":[{}]}".to_owned(),
            "\u{feff}[]".to_owned(),
            entry(",\"cwd\":\"\""),
            entry(",\"runtimes\":[\"a-b\"]"),
            entry(",\"runtimes\":7"),
            entry(",\"intelligence\":\"alien\""),
            entry("},{\"personality\":\"bob\",\"runtime\":\"claude\",\"cwd\":\"/y\""),
            entry("") + "x",
            "{\"version\":\"2\",\"peers\":[]}".to_owned(),
            "[".repeat(100_000),
        ];
        for text in bad {
            let why = Registry::parse(&text).map(|_| ()).unwrap_err();
            assert!(why.starts_with(CORRUPTED), "{why}");
        }
        assert!(Registry::parse("{\"version\":3,\"peers\":[]}").unwrap().is_newer());
    }

    #[test]
    fn the_last_entry_leaves_an_empty_list() {
        let text = "{\n  \"version\": 2,\n  \"peers\": [\n    {\"personality\":\"a\",\"runtime\":\"x\",\
             \"cwd\":\"/\"}\n  ]\n}\n";
        let after = Registry::parse(text).unwrap().without("a").unwrap();
        assert_eq!(after, "{\n  \"version\": 2,\n  \"peers\": []\n}\n");
        assert_eq!(serde_json::from_str::<Value>(&after).unwrap()["peers"], Value::Array(Vec::new()));
    }

    #[test]
    fn a_slip_is_near() {
        assert_eq!(
            (distance("bob", "bob"), distance("bob", "bbo"), distance("", "abc"), distance("bob2", "bob")),
            (0, 2, 3, 1)
        );
    }
}
