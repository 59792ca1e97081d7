//! The report of a Mac (tests/launchctl/mac-report), tried on the model of launchd: each claim of the table
//! has a scenario, each scenario sees what the model was built to do, and nothing is left behind.

use crate::support::launchd::{DOMAIN, Launchd};
use crate::support::{Room, binary, example, finish, needs, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/launchctl");

/// A claim of the table: its name, and the values of its keys.
struct Claim {
    name: String,
    fields: Vec<(String, String)>,
}

impl Claim {
    fn has(&self, key: &str, value: &str) -> bool {
        self.fields.iter().any(|(name, text)| name == key && text == value)
    }

    fn count(&self, key: &str) -> usize {
        self.fields.iter().filter(|(name, _)| name == key).count()
    }

    /// Whether the model acts upon it.
    fn modelled(&self) -> bool {
        !self.has("model", "no")
    }
}

fn table() -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for line in source("claims").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => claims.push(Claim { name: line.to_owned(), fields: Vec::new() }),
            Some(field) => {
                let (key, value) = field.split_once(": ").unwrap();
                claims.last_mut().unwrap().fields.push((key.to_owned(), value.to_owned()));
            }
        }
    }
    claims
}

fn source(name: &str) -> String {
    std::fs::read_to_string(Path::new(HERE).join(name)).unwrap()
}

/// The report on its way, in a room with a model of launchd.
fn start(launchd: &Launchd, scenarios: &[&str]) -> Child {
    needs("ps");
    let room = launchd.room;
    std::fs::create_dir_all(room.path("tmp")).unwrap();
    Command::new(Path::new(HERE).join("mac-report"))
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", room.text("launchd/bin")))
        .env("LAUNCHD_MODEL", room.path("launchd"))
        .env("HOME", room.path("home"))
        .env("TMPDIR", room.path("tmp"))
        .args(["-d", DOMAIN, "-o", &room.text("report"), "-b"])
        .arg(binary("baa-reload").parent().unwrap())
        .args(scenarios)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(room.path("errors")).unwrap())
        .spawn()
        .unwrap()
}

/// The lines of the report, once it has ended with `status`. It takes the time that throttles and exit
/// timeouts take, and longer where the machine is busy.
fn report(launchd: &Launchd, mut child: Child, status: i32) -> Vec<Value> {
    let room = launchd.room;
    let ended = child.wait().unwrap();
    let file = |kind: &str| {
        let found = std::fs::read_dir(room.path("report")).into_iter().flatten().flatten();
        let path = found.map(|one| one.path()).find(|path| path.extension().is_some_and(|one| one == kind));
        path.map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default()
    };
    let text = file("txt");
    let told = std::fs::read_to_string(room.path("errors")).unwrap();
    assert_eq!(ended.code(), Some(status), "{told}\n{text}");
    let lines: Vec<Value> = file("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let head = format!("{:<8} {}: ", line["verdict"].as_str().unwrap(), line["name"].as_str().unwrap());
        assert!(text.lines().any(|one| one.starts_with(&head)), "{head}\n{text}");
    }
    lines
}

fn nothing_is_left(launchd: &Launchd) {
    let left = std::fs::read_dir(launchd.room.path("tmp")).unwrap().count();
    assert_eq!(left, 0, "its directory is left");
    let prefix = format!("bootstrap {DOMAIN} ");
    for call in launchd.calls().iter().filter_map(|call| call.strip_prefix(&prefix)) {
        let label = call.split(".plist").next().unwrap().rsplit('/').next().unwrap();
        until("its label is gone", || !launchd.registered(label));
    }
    let disabled = launchd.call(&["print-disabled", DOMAIN]).stdout;
    assert!(!disabled.contains("so.makefile"), "{disabled}");
    // What was told to end may take a moment.
    let mark = launchd.room.text("tmp/");
    until("its processes are gone", || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = entries.map(|one| std::fs::read(one.path().join("cmdline")).unwrap_or_default());
        !lines.any(|line| String::from_utf8_lossy(&line).contains(&mark))
    });
}

/// What stands between quotes in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[apply(test)]
fn each_claim_is_whole_and_those_of_the_model_are_in_the_model() {
    let claims = table();
    let names: BTreeSet<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    assert_eq!(names.len(), claims.len(), "two claims have one name");
    for claim in &claims {
        let counts = (claim.count("claim"), claim.count("from"), claim.count("is") > 0);
        assert_eq!(counts, (1, 1, true), "{}", claim.name);
        let known = |key: &str| ["claim", "is", "from", "mac", "model"].contains(&key);
        assert!(claim.fields.iter().all(|(key, _)| known(key)), "{}", claim.name);
    }
    // A name that the table lacks ends the model, when it comes to it; here it is enough that it has all.
    let model = ["main.rs", "print.rs"].map(source).concat();
    let used: BTreeSet<&str> = quoted(&model).collect();
    for claim in &claims {
        assert_eq!(used.contains(claim.name.as_str()), claim.modelled(), "{}", claim.name);
    }
    for name in model.split("claim(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(names.contains(name), "the model claims {name}, which is not in the table");
    }
}

/// All scenarios, on a model that notes which claims it has acted upon.
#[apply(test)]
fn the_model_is_what_the_report_expects_and_every_claim_is_tried() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    let lines = report(&launchd, start(&launchd, &[]), 0);
    let noted = std::fs::read_to_string(room.path("launchd/claimed")).unwrap();
    let noted: BTreeSet<&str> = noted.lines().collect();
    let claims = table();
    assert_eq!(lines.len(), claims.len());
    for (claim, line) in claims.iter().zip(&lines) {
        assert_eq!(line["name"].as_str(), Some(claim.name.as_str()));
        let rare = claim.has("model", "rare");
        let verdict = line["verdict"].as_str().unwrap();
        assert!(verdict == "holds" || rare && verdict == "untried", "no scenario, or it failed: {line}");
        assert!(!claim.modelled() || rare || noted.contains(claim.name.as_str()), "not acted upon: {line}");
        assert_eq!(line["schema"], "baa.mac-report/1");
        for key in ["claim", "expected", "seen", "system", "version", "build", "machine", "baa", "at"] {
            assert!(line[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {line}");
        }
    }
    nothing_is_left(&launchd);
}

/// A launchd that is not as we believe: that is what the report is for.
#[apply(test)]
fn what_differs_is_told_and_is_1() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    let script = format!(
        "#!/bin/sh\n{} \"$@\" > '{1}'\nstatus=$?\n\
         sed 's/exit code = 7/exit code = \"\\\\8\"/' '{1}'\nexit $status\n",
        example("launchctl").display(),
        room.text("said")
    );
    std::fs::remove_file(room.path("launchd/bin/launchctl")).unwrap();
    let other = room.write("launchd/bin/launchctl", &script);
    std::fs::set_permissions(other, PermissionsExt::from_mode(0o755)).unwrap();
    let lines = report(&launchd, start(&launchd, &["idle"]), 1);
    let of = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    let code = of("print-exit-code");
    assert_eq!(
        (code["verdict"].as_str(), code["seen"].as_str()),
        (Some("differs"), Some("\"\\8\"")),
        "{code}"
    );
    assert_eq!(of("state-idle")["verdict"], "holds");
    // What was not asked for is untried.
    assert_eq!(of("throttle")["verdict"], "untried");
}

#[apply(test)]
fn an_interrupted_report_leaves_nothing() {
    for (scenario, label, with) in [
        ("teardown", "deaf", Signal::SIGTERM),
        ("disabled", "disabled", Signal::SIGINT),
        ("reload", "service", Signal::SIGTERM),
        ("kickstart", "stubborn", Signal::SIGHUP),
    ] {
        let room = Room::new();
        let launchd = Launchd::start(&room, &[]);
        let child = start(&launchd, &[scenario]);
        let label = format!("so.makefile.baa-report.{label}");
        until("its job runs", || launchd.pid(&label).is_some());
        signal(child.id(), with);
        assert!(report(&launchd, child, 128 + with as i32).is_empty());
        nothing_is_left(&launchd);
    }
}

#[apply(test)]
fn without_launchctl_it_is_told() {
    let room = Room::new();
    let done = finish(
        Command::new(Path::new(HERE).join("mac-report"))
            .env("PATH", "/usr/bin:/bin")
            .arg("-b")
            .arg(binary("baa-reload").parent().unwrap())
            .current_dir(room.dir.path()),
    );
    done.expect(69, "", "mac-report: there is no launchctl here: this is for macOS\n");
}
