//! docs/schemas: a schema for each `schema` that is printed or written, and what is printed as they have it.
//! (That of every other test too: `support::schema` looks at all that comes by.)

use crate::support::schema::{self, all, troubles};
use crate::support::{Done, Room, Service, collect, finish, is_stopped, needs, omit, port, signal, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file, or of all files below a directory.
fn texts(at: &Path) -> Vec<String> {
    if !at.is_dir() {
        return vec![std::fs::read_to_string(at).unwrap()];
    }
    std::fs::read_dir(at).unwrap().flat_map(|entry| texts(&entry.unwrap().path())).collect()
}

#[apply(test)]
fn each_format_has_a_schema_and_each_schema_a_format() {
    let name = regex_lite::Regex::new(r#""(baa\.[a-z.-]+/[0-9]+)""#).unwrap();
    let all_texts = ["lib", "bins", "tests/launchctl/mac-report"].map(|at| texts(&root().join(at)));
    let said: BTreeSet<String> = all_texts
        .iter()
        .flatten()
        .flat_map(|text| name.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(said, all().keys().cloned().collect());
}

#[apply(test)]
fn a_schema_says_what_it_is_of_and_each_field_what_it_means() {
    fn described(schema: &Value, at: &str) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let reference = field["$ref"].is_string();
            assert!(reference || field["description"].is_string(), "{at}.{name} is not described");
            let said = field["description"].as_str().unwrap_or_default();
            assert_eq!(name.ends_with("_ms"), said.contains("milliseconds"), "the unit of {at}.{name}");
        }
        for (name, inner) in schema.as_object().into_iter().flatten() {
            match inner {
                Value::Object(_) => described(inner, &format!("{at}.{name}")),
                Value::Array(all) => all.iter().for_each(|one| described(one, at)),
                _ => {}
            }
        }
    }
    for (name, schema) in all() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        let (format, version) = name.strip_prefix("baa.").unwrap().rsplit_once('/').unwrap();
        assert_eq!(schema["$id"], format!("urn:baa:{format}:{version}"), "{name}");
        assert!(schema["title"].is_string(), "{name}");
        let about = schema["description"].as_str().unwrap();
        assert!(about.contains("must ignore those that it does not know"), "{name}: {about}");
        described(schema, name);
    }
}

#[apply(test)]
fn each_shape_has_an_example_and_what_is_unknown_or_missing_is_found() {
    for (name, schema) in all() {
        let examples = schema["examples"].as_array().unwrap();
        for example in examples {
            assert_eq!(troubles(name, example), [""; 0], "{name}: {example}");
            let mut more = example.clone();
            more["surprise"] = json!(1);
            assert!(!troubles(name, &more).is_empty(), "{name}: {more}");
        }
        for shape in schema["anyOf"].as_array().unwrap() {
            let mut one = schema.clone();
            one["anyOf"] = json!([shape]);
            let fits = |example: &&Value| schema::troubles_in(&one, name, example).is_empty();
            let fitting = examples.iter().find(fits).unwrap_or_else(|| panic!("{name}: {shape}"));
            for field in fitting.as_object().unwrap().keys() {
                let mut less = fitting.clone();
                less.as_object_mut().unwrap().remove(field);
                let optional = ["coalesced", "repair", "end"].contains(&field.as_str());
                let short = name == "baa.run/1" && fitting.as_object().unwrap().len() <= 2;
                let found = !schema::troubles_in(&one, name, &less).is_empty();
                assert!(found || optional || short, "{name}: nobody misses {field} in {fitting}");
            }
        }
    }
}

/// Ours knows only what these schemas use: one that knows all says that they are schemas, and that the
/// examples are as they say.
#[apply(test)]
fn another_validator_agrees() {
    // Debian's package is for the Python of the system, which may not be the first on the PATH.
    let has = ["-c", "import jsonschema; jsonschema.Draft202012Validator"];
    let knows = |python: &PathBuf| python.exists() && finish(Command::new(python).args(has)).status == 0;
    let pythons = [needs("python3"), PathBuf::from("/usr/bin/python3")];
    let Some(python) = pythons.into_iter().find(knows) else { omit("python3-jsonschema is missing") };
    let script = r#"
import json, pathlib, sys
from jsonschema import Draft202012Validator as Validator
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    schema = json.loads(path.read_text())
    Validator.check_schema(schema)
    validator = Validator(schema)
    for example in schema["examples"]:
        validator.validate(example)
        # Whoever reads ignores what is new.
        validator.validate({**example, "surprise": 1})
    for wrong in [[], {}, {"schema": "baa.other/1"}]:
        assert not validator.is_valid(wrong), (path, wrong)
"#;
    let done = finish(Command::new(&python).args(["-c", script]).arg(schema::directory()));
    assert_eq!((done.status, done.stderr.as_str()), (0, ""));
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a line, which is to end so and to print this; `finish` has looked at the object.
#[track_caller]
fn told(room: &Room, line: &str, status: i32, format: &str) -> Done {
    let (program, arguments) = line.split_once(' ').unwrap();
    let done = room.run(program, words(arguments));
    let first = done.stdout.lines().next().unwrap_or_default();
    let first = serde_json::from_str(first).unwrap_or(Value::Null);
    let said = first["schema"].as_str().unwrap_or_default();
    assert_eq!((done.status, said), (status, format), "{line}: {done:?}");
    done
}

#[apply(test)]
fn each_program_says_each_outcome_in_its_format() {
    let room = Room::new();
    let dead = port();
    let wait = "baa.healthwait/1";
    told(&room, "baa-healthwait --json file:/", 0, wait);
    told(&room, &format!("baa-healthwait --json --timeout 50ms 127.0.0.1:{dead}"), 124, wait);
    told(&room, &format!("baa-healthwait --json -n 127.0.0.1:{dead}"), 0, wait);
    let mut long = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut waiting = room.command("baa-healthwait");
    waiting.args(["--json", "--watch-pid", &long.id().to_string(), &format!("127.0.0.1:{dead}")]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until("it waits", || std::fs::read_dir(format!("/proc/{}/fd", waiting.id())).unwrap().count() > 4);
    long.kill().unwrap();
    long.wait().unwrap();
    assert_eq!(collect(waiting).json()["result"], "died");

    told(&room, "baa-run --json --restart never -- true", 0, "baa.run/1");
    told(&room, "baa-run --json --restart never -- false", 1, "baa.run/1");
    told(&room, "baa-run --json --restart never -- /none", 127, "baa.run/1");
    told(&room, "baa-run --json -n -- true", 0, "baa.run/1");

    room.write("g.toml", "[[daemon]]\nid = \"a\"\ncommand = [\"sleep\", \"1000\"]\n");
    told(&room, "baa-daemons check --json g.toml", 0, "baa.daemons/2");
    told(&room, "baa-daemons graph --json g.toml", 0, "baa.daemons/2");

    told(&room, "baa-lease acquire --json --lease l --node-id me", 0, "baa.lease/1");
    told(&room, "baa-lease renew --json --lease l --node-id me --term 1", 0, "baa.lease/1");
    told(&room, "baa-lease status --json --lease l", 0, "baa.lease/1");
    told(&room, "baa-lease status --json --lease other", 1, "baa.lease/1");

    told(&room, "baa-canary list --json", 0, "baa.canary.list/1");
    told(&room, "baa-canary snapshot --json", 0, "baa.canary.snapshot/1");
    told(&room, "baa-canary classify --json --sock none", 1, "baa.canary.classify/1");

    told(&room, "baa-reload --json --manager baa --label web --plist none.plist", 66, "baa.reload/1");
    told(&room, "baa-reload --json --resume", 0, "baa.reload/1");
    told(&room, "baa-reload diagnose --json --manager baa --label web", 1, "baa.reload-diagnosis/1");
}

/// What was asked for wrongly, or cannot be told of, has a status and a line on stderr, and no object.
#[apply(test)]
fn what_is_no_answer_prints_no_object() {
    let room = Room::new();
    room.write("g.toml", "[[check]]\nid = \"a\"\nready = { probe = \"file:/\" }\n");
    for (line, status) in [
        ("baa-healthwait --json --nonsense", 2),
        ("baa-run --json", 2),
        ("baa-run ctl status --json none", 69),
        ("baa-daemons status --json g.toml", 69),
        ("baa-daemons check --json none.toml", 66),
        ("baa-lease renew --json --lease l --node-id me --term 9", 76),
        ("baa-reload --json --service ../x", 2),
        ("baa-canary watch --json pid:0", 2),
        ("baa-peer-remove --json", 2),
    ] {
        let done = told(&room, line, status, "");
        assert_eq!((done.stdout.as_str(), done.stderr.lines().count()), ("", 1), "{line}: {done:?}");
    }
}

#[apply(test)]
fn a_journal_is_looked_at_whole_and_a_test_that_leaves_a_wrong_one_fails() {
    let journal = |last: &str| {
        format!(
            "{{\"ts\":\"2026-11-22T07:31:09.001Z\",\"ev\":\"begin\",\"schema\":\"baa.daemons-journal/2\",\
             \"pid\":1,\"entries\":1}}\n{{\"ts\":\"2026-11-22T07:31:09.003Z\",\"ev\":\"{last}\"}}\n"
        )
    };
    schema::check("a journal", &journal("stop"));
    let found = |look: fn(&str)| {
        let wrong = journal("surprise");
        std::panic::catch_unwind(|| look(&wrong)).is_err()
    };
    assert!(found(|wrong| schema::check("a journal", wrong)));
    assert!(found(|wrong| {
        let room = Room::new();
        std::fs::write(room.path("journal"), wrong).unwrap();
    }));
    // What the test itself has written is its own affair.
    let room = Room::new();
    room.write("journal", &journal("surprise"));
}

/// What does not answer is in the list too.
#[apply(test)]
fn who_is_stopped_is_listed_in_the_format() {
    let room = Room::new();
    room.write("g.toml", "[[daemon]]\nid = \"a\"\ncommand = [\"sleep\", \"1000\"]\n");
    let begin = |program: &str, arguments: &[&str]| {
        let mut command = room.command(program);
        Service {
            child: command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
        }
    };
    let keeper = begin("baa-run", &["--label", "web", "--", "sleep", "1000"]);
    let group = begin("baa-daemons", &["run", "g.toml"]);
    until("both run", || {
        let ready = |program: &str, words: &[&str]| room.run(program, words).status == 0;
        ready("baa-run", &["ctl", "status", "web"]) && ready("baa-daemons", &["status", "g.toml"])
    });
    for one in [&keeper, &group] {
        signal(one.child.id(), Signal::SIGSTOP);
        is_stopped(one.child.id());
    }
    let jobs = told(&room, "baa-run ctl list --json", 0, "baa.run.list/1").json();
    assert!(jobs["jobs"][0]["unreachable"].as_str().unwrap().contains("is stopped"), "{jobs}");
    let groups = told(&room, "baa-daemons list --json", 0, "baa.daemons/2").json();
    assert!(groups["groups"][0]["error"].as_str().unwrap().contains("is stopped"), "{groups}");
    for one in [&keeper, &group] {
        signal(one.child.id(), Signal::SIGCONT);
        signal(one.child.id(), Signal::SIGTERM);
    }
    for mut one in [keeper, group] {
        one.child.wait().unwrap();
    }
}
