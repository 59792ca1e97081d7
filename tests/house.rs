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
const LAYERS: [&str; 7] = ["words", "sys", "probe", "service", "store", "act", "program"];

#[test]
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

#[test]
fn acts_do_not_know_each_other() {
    let acts = ["wait", "reload", "keeper", "canary", "peers", "lease", "control", "group"];
    for (name, text) in sources("lib/act") {
        let own = name.split(['/', '.']).nth(2).unwrap().to_owned();
        for other in acts.iter().filter(|act| **act != own && own != "mod") {
            assert!(!text.contains(&format!("act::{other}")), "{name} uses act::{other}");
        }
    }
}

#[test]
fn each_outside_crate_has_one_door() {
    let doors: [(&str, &[&str]); 19] = [
        ("clap", &["lib/program.rs", "bins/"]),
        ("nix", &["lib/sys/"]),
        ("libc", &["lib/sys/"]),
        ("rustls", &["lib/sys/http"]),
        ("webpki_roots", &["lib/sys/http/tls.rs"]),
        ("httparse", &["lib/sys/http"]),
        ("base64", &["lib/sys/http/url.rs", "lib/store/etcd.rs", "lib/act/control/authorization.rs"]),
        ("hyper", &["lib/act/control/"]),
        ("hyper_util", &["lib/act/control/server.rs"]),
        ("http_body_util", &["lib/act/control/server.rs"]),
        ("tokio", &["lib/act/control/"]),
        ("toml", &["lib/act/group/plan.rs"]),
        ("serde", &["lib/act/group/plan.rs"]),
        ("subtle", &["lib/act/control/authorization.rs"]),
        ("anstream", &["lib/sys/say.rs"]),
        ("plist", &["lib/service/job.rs"]),
        ("rusqlite", &["lib/store/sqlite.rs"]),
        ("which", &["lib/sys/child.rs"]),
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

#[test]
fn main_is_short_and_a_file_is_a_sitting() {
    for (name, text) in sources("bins").into_iter().filter(|(name, _)| name.ends_with("main.rs")) {
        assert!(text.lines().count() <= 170, "{name} is no longer parse, prepare, act, report");
    }
    for (name, text) in sources("lib") {
        let lines = text.lines().count();
        assert!(lines <= 480, "{name} has {lines} lines");
    }
}

#[test]
fn every_module_says_what_it_promises() {
    for (name, text) in sources("lib").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{name}");
    }
}

#[test]
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

#[test]
fn the_top_level_is_as_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "bins",
        "lib",
        "completions",
        "man",
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
