//! Whether JSON is as docs/schemas has it: the part of JSON Schema that those use, and stricter, for a field
//! that a schema does not tell of is one that somebody forgot to write down. (Whoever reads our JSON must
//! ignore such fields: that is how formats grow.)

use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// Where they are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

/// All of them, by the value of `schema` that they are for.
pub fn all() -> &'static HashMap<String, Value> {
    static ALL: OnceLock<HashMap<String, Value>> = OnceLock::new();
    ALL.get_or_init(|| {
        let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                let (name, version) = name.rsplit_once('-').unwrap();
                let text = std::fs::read_to_string(&path).unwrap();
                (format!("{name}/{version}"), serde_json::from_str(&text).unwrap())
            })
            .collect()
    })
}

/// Files that a test has written itself, and so perhaps wrong on purpose.
pub static OURS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Checks all JSON of ours in what was written, be it one object or lines. A line without a `schema` belongs
/// to the one before it, as in a journal.
///
/// # Panics
/// When something is not as its schema has it.
pub fn check(from: &str, text: &str) {
    let whole = serde_json::from_str::<Value>(text);
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    let values: Vec<Value> = whole.map_or_else(|_| lines.collect(), |one| vec![one]);
    let mut format = None;
    for value in values.iter().filter(|value| value.is_object()) {
        let named = value["schema"].as_str().filter(|name| name.starts_with("baa."));
        format = named.map(str::to_owned).or(format);
        let Some(name) = &format else { continue };
        let troubles = troubles(name, value);
        assert!(troubles.is_empty(), "{from} is not as {name} has it: {}\n{value:#}", troubles.join("; "));
    }
}

/// What is wrong with `value`.
pub fn troubles(name: &str, value: &Value) -> Vec<String> {
    let none = || vec![format!("docs/schemas has no {name}")];
    all().get(name).map_or_else(none, |schema| troubles_in(schema, name, value))
}

/// The same by another schema.
pub fn troubles_in(schema: &Value, name: &str, value: &Value) -> Vec<String> {
    let mut troubles = Vec::new();
    Walk { root: schema }.walk(schema, value, name, &mut troubles);
    troubles
}

struct Walk<'a> {
    root: &'a Value,
}

/// What is for people.
const SAID: [&str; 7] = ["$schema", "$id", "$defs", "title", "description", "examples", "format"];

impl Walk<'_> {
    fn walk(&self, schema: &Value, value: &Value, at: &str, troubles: &mut Vec<String>) {
        let rules = schema.as_object().unwrap();
        for (rule, with) in rules.iter().filter(|(rule, _)| !SAID.contains(&rule.as_str())) {
            let fits = match rule.as_str() {
                "$ref" => {
                    let name = with.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    self.walk(&self.root["$defs"][name], value, at, troubles);
                    true
                }
                "anyOf" => {
                    self.any(with.as_array().unwrap(), value, at, troubles);
                    true
                }
                "type" => {
                    let types = with.as_array().map_or(std::slice::from_ref(with), Vec::as_slice);
                    types.iter().any(|one| is(one.as_str().unwrap(), value))
                }
                "const" => with == value,
                "enum" => with.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= with.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= with.as_f64().unwrap()),
                "pattern" => value.as_str().is_none_or(|text| {
                    regex_lite::Regex::new(with.as_str().unwrap()).unwrap().is_match(text)
                }),
                "required" => {
                    let Some(object) = value.as_object() else { continue };
                    let names = with.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                    troubles.extend(
                        names
                            .filter(|name| !object.contains_key(*name))
                            .map(|name| format!("{at}.{name} is missing")),
                    );
                    true
                }
                "properties" => {
                    self.fields(with, value, at, troubles);
                    true
                }
                "additionalProperties" => {
                    let fields = value.as_object().into_iter().flatten();
                    fields.for_each(|(name, one)| self.walk(with, one, &format!("{at}.{name}"), troubles));
                    true
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten().enumerate();
                    items.for_each(|(index, one)| self.walk(with, one, &format!("{at}[{index}]"), troubles));
                    true
                }
                other => panic!("{at}: a schema says '{other}', which nobody checks here"),
            };
            if !fits {
                troubles.push(format!("{at} is {value}, and {rule} is {with}"));
            }
        }
    }

    fn fields(&self, schemas: &Value, value: &Value, at: &str, troubles: &mut Vec<String>) {
        for (name, one) in value.as_object().into_iter().flatten() {
            match schemas.get(name) {
                Some(schema) => self.walk(schema, one, &format!("{at}.{name}"), troubles),
                None => troubles.push(format!("{at}.{name} is not told of")),
            }
        }
    }

    /// Of those that do not fit, the one is told of that lacks least.
    fn any(&self, schemas: &[Value], value: &Value, at: &str, troubles: &mut Vec<String>) {
        let tried = schemas.iter().map(|schema| {
            let mut found = Vec::new();
            self.walk(schema, value, at, &mut found);
            found
        });
        troubles.extend(tried.min_by_key(Vec::len).unwrap());
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("no type {other}"),
    }
}
