//! The rules of the house, as tests: the layers and their direction, one door for each outside crate, no file
//! that hides.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                // Tests beside the code may use what they like.
                found.push((name, text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()));
            }
        }
    }
    found
}

/// From the bottom up; a layer may use itself and those before it.
const LAYERS: [&str; 8] = ["words", "sys", "life", "probe", "service", "store", "act", "program"];

#[apply(test)]
fn layers_point_downwards() {
    for (name, text) in sources("lib") {
        let Some(layer) =
            name.split(['/', '.']).nth(1).and_then(|layer| LAYERS.iter().position(|one| *one == layer))
        else {
            continue;
        };
        for above in &LAYERS[layer + 1..] {
            assert!(!text.contains(&format!("crate::{above}")), "{name} uses {above}, which is above it");
        }
    }
}

#[apply(test)]
fn acts_do_not_know_each_other() {
    let acts = ["wait", "reload", "keeper", "canary", "peers", "lease", "control", "group"];
    for (name, text) in sources("lib/act") {
        let own = name.split(['/', '.']).nth(2).unwrap().to_owned();
        for other in acts.iter().filter(|act| **act != own && own != "mod") {
            assert!(!text.contains(&format!("act::{other}")), "{name} uses act::{other}");
        }
    }
}

#[apply(test)]
fn each_outside_crate_has_one_door() {
    let doors: [(&str, &[&str]); 23] = [
        ("clap", &["lib/program", "bins/"]),
        ("nix", &["lib/sys/"]),
        ("libc", &["lib/sys/"]),
        ("rustls", &["lib/sys/http"]),
        ("webpki_roots", &["lib/sys/http/tls.rs"]),
        ("ureq_proto", &["lib/sys/http/exchange.rs"]),
        ("bytes", &["lib/sys/http/exchange.rs"]),
        ("httparse", &["lib/sys/http/serve.rs"]),
        ("base64", &["lib/sys/http/url.rs", "lib/store/etcd", "lib/act/control/authorization.rs"]),
        ("hyper", &["lib/act/control/"]),
        ("hyper_util", &["lib/act/control/server.rs"]),
        ("http_body_util", &["lib/act/control/server.rs", "lib/act/control/requests.rs"]),
        ("tokio", &["lib/act/control/"]),
        ("toml", &["lib/act/group/plan.rs"]),
        ("serde", &["lib/act/group/plan/text.rs", "lib/act/reload/", "lib/probe/pointed.rs"]),
        ("subtle", &["lib/act/control/authorization.rs", "lib/store/guard.rs"]),
        ("ring::digest", &["lib/sys/digest.rs"]),
        ("anstream", &["lib/sys/say.rs"]),
        ("plist", &["lib/service/job.rs"]),
        ("rusqlite", &["lib/store/sqlite"]),
        ("which", &["lib/sys/child.rs"]),
        ("regex_lite", &["lib/probe/pattern.rs"]),
        ("humantime", &["lib/words/stamp.rs"]),
    ];
    for (name, text) in sources("lib").into_iter().chain(sources("bins")) {
        for (outside, allowed) in doors {
            let inner = |before: char| before.is_alphanumeric() || before == '_' || before == ':';
            let names = |line: &str| {
                line.match_indices(&format!("{outside}::")).any(|(at, _)| !line[..at].ends_with(inner))
            };
            let used = text.lines().any(|line| !line.trim_start().starts_with("//") && names(line));
            assert!(
                !used || allowed.iter().any(|door| name.starts_with(door)),
                "{name} uses {outside}; its door is {allowed:?}"
            );
        }
    }
}

/// Everything that is ours, tests included and whole.
fn whole(directories: &[&str]) -> Vec<(String, String)> {
    let paths = directories.iter().flat_map(|directory| sources(directory));
    paths.map(|(name, _)| (name.clone(), std::fs::read_to_string(root().join(name)).unwrap())).collect()
}

#[apply(test)]
fn lines_have_at_most_110_columns() {
    let mut wide = Vec::new();
    for (name, text) in whole(&["lib", "bins", "tests"]) {
        let lines = (1..).zip(text.lines());
        wide.extend(
            lines
                .filter(|(_, line)| line.chars().count() > 110)
                .map(|(number, _)| format!("{name}:{number}")),
        );
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

/// The name of the type that a line declares, and whether others see it.
fn declared(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let (public, rest) = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => (true, rest.split_once(") ")?.1),
        Some(rest) => (true, rest.strip_prefix(' ')?),
        None => (false, line),
    };
    let (kind, rest) = rest.split_once(' ')?;
    let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
    (["struct", "enum", "trait", "type"].contains(&kind) && name.starts_with(char::is_uppercase))
        .then_some((name, public))
}

#[apply(test)]
fn each_public_type_name_stands_for_one_type() {
    let mut names: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for (name, text) in sources("lib").into_iter().chain(sources("bins")) {
        for (word, _) in text.lines().filter_map(declared).filter(|(_, public)| *public) {
            let files = names.entry(word.to_owned()).or_default();
            // The same type for another system may stand in the same file.
            if files.last() != Some(&name) {
                files.push(name.clone());
            }
        }
    }
    names.retain(|_, files| files.len() > 1);
    assert!(names.is_empty(), "{names:#?}");
}

/// How many fields stand between the parentheses that `text` begins with.
fn unnamed_fields(text: &str) -> usize {
    let (mut depth, mut fields, mut filled) = (0, 0, false);
    for letter in text.chars() {
        match letter {
            '(' | '<' | '[' | '{' => depth += 1,
            ')' | '>' | ']' | '}' => depth -= 1,
            ',' if depth == 1 => (fields, filled) = (fields + 1, false),
            letter => filled |= depth > 0 && !letter.is_whitespace(),
        }
        if depth == 0 {
            break;
        }
    }
    fields + usize::from(filled)
}

/// The variants of the enum whose declaration `text` begins with: what follows each name.
fn variants(text: &str) -> Vec<(&str, &str)> {
    let (indent, mut found) = (text.len() - text.trim_start().len() + 4, Vec::new());
    let mut at = text.find('\n').unwrap_or(text.len()) + 1;
    for line in text.lines().skip(1) {
        let inner = line.trim_start();
        if !line.is_empty() && line.len() - inner.len() < indent {
            break;
        }
        let end = inner.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(inner.len());
        if line.len() - inner.len() == indent && inner.starts_with(char::is_uppercase) {
            found.push((&inner[..end], &text[at + indent + end..]));
        }
        at += line.len() + 1;
    }
    found
}

#[apply(test)]
fn more_than_two_fields_have_names() {
    let mut nameless = Vec::new();
    for (name, text) in whole(&["lib", "bins"]) {
        let mut at = 0;
        for line in text.lines() {
            let rest = &text[at..];
            at += line.len() + 1;
            let Some((word, _)) = declared(line) else { continue };
            let of_tuple = line.split_once(&format!(" {word}(")).map(|(before, _)| before.len());
            let tuple = of_tuple.map(|before| (word, &rest[before + 1 + word.len()..]));
            let all = if line.contains("enum ") { variants(rest) } else { Vec::new() };
            let many = all.into_iter().chain(tuple).filter(|(_, fields)| fields.starts_with('('));
            let many = many.filter(|(_, fields)| unnamed_fields(fields) > 2);
            nameless.extend(many.map(|(variant, _)| format!("{name}: {word} {variant}")));
        }
    }
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[apply(test)]
fn main_is_short_and_a_file_is_a_sitting() {
    for (name, text) in sources("bins").into_iter().filter(|(name, _)| name.ends_with("main.rs")) {
        assert!(text.lines().count() <= 210, "{name} is no longer parse, prepare, act, report");
    }
    for (name, text) in sources("lib") {
        let lines = text.lines().count();
        assert!(lines <= 570, "{name} has {lines} lines");
    }
}

#[apply(test)]
fn every_module_says_what_it_promises() {
    for (name, text) in sources("lib").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{name}");
    }
}

#[apply(test)]
fn every_test_file_is_named_in_main() {
    let main = std::fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_file() && name != "main" {
            assert!(main.contains(&format!("mod {name};")), "{name}");
        }
    }
}

/// tests/main.rs has a harness of its own: what libtest would find, it would leave out without a word.
#[apply(test)]
fn no_test_is_left_out_without_a_word() {
    let plain = ["#[te", "st]"].concat();
    for (name, text) in sources("tests") {
        let found = text.lines().any(|line| line.trim() == plain);
        assert!(!found, "{name} has a {plain}, which the harness does not see: write #[apply(test)]");
        let quiet = ["SKIP", "PED"].concat();
        assert!(!text.contains(&quiet), "{name} leaves out a test by hand: call skip or needs");
    }
}

#[apply(test)]
fn the_top_level_is_as_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "bins",
        "lib",
        "completions",
        "docs",
        "man",
        "packaging",
        "tests",
        "target",
        "dist",
    ];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || agreed.contains(&name.as_str()), "{name}");
    }
    assert!(Path::new(&root().join(".ci/run")).exists());
}

/// A quote that begins a word of `.B` groups words, and is not printed: `\(dq` is.
#[apply(test)]
fn no_page_loses_a_quote() {
    for entry in std::fs::read_dir(root().join("man")).unwrap() {
        let path = entry.unwrap().path();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let words = line.strip_prefix(".B ").or(line.strip_prefix(".I ")).unwrap_or_default();
            // One that stands around all of the line is meant to go.
            let whole = words.starts_with('"') && words.ends_with('"') && words.matches('"').count() == 2;
            assert!(whole || !format!(" {words}").contains(" \""), "{}: {line}", path.display());
        }
    }
}
