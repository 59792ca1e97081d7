//! The status page of baa-control in a real browser: whole without a script, live with one.

use crate::support::control::Control;
use crate::support::{PATIENCE, Room, needs};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

struct Browser {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl Browser {
    fn open(room: &Room, url: &str, options: &[&str]) -> Browser {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/browser.mjs");
        needs("node");
        needs("chromium");
        let mut command = Command::new("node");
        command.arg(script).arg(url).arg(room.path("page.png")).args(options).env("HOME", room.path("home"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(serde_json::from_str(&line).unwrap());
            }
        });
        Browser { child, stdin, lines }
    }

    /// Waits until the page is as it should be.
    fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (end, mut last) = (Instant::now() + PATIENCE, Value::Null);
        while let Ok(seen) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if wanted(&seen) {
                return seen;
            }
            last = seen;
        }
        panic!("{what}: {last}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

fn says(seen: &Value, words: &[&str]) -> bool {
    let text = seen["text"].as_str().unwrap();
    words.iter().all(|word| text.contains(word))
}

fn take(control: &Control, holder: &str) -> Value {
    control
        .post(
            "/v1/leader/acquire",
            &json!({ "controller_id": holder, "host": "mini", "ttl_sec": 60 }).to_string(),
        )
        .1
}

#[apply(test)]
fn it_follows_without_being_loaded_again() {
    let room = Room::new();
    let mut control = Control::new(&room);
    let address = control.address.clone();
    let browser = Browser::open(&room, &control.base(), &[]);
    let seen = browser
        .shows("nobody leads", |seen| says(seen, &["No lease was ever taken.", "No controller was heard."]));
    let load = seen["load"].clone();
    let beat = json!({
        "controller_id": "mini-main", "host": "mini", "role": "primary", "priority": 100, "status": "leader",
        "version": "<b>7</b>"
    });
    control.post("/v1/controllers/heartbeat", &beat.to_string());
    take(&control, "mini-main");
    let seen = browser.shows("the leader", |seen| {
        says(seen, &["mini-main", "primary", "100", "taken by mini-main", "<b>7</b>", "59s"])
    });
    assert_eq!(seen["load"], load);
    control.post("/v1/leader/release", r#"{"controller_id":"mini-main","term":1}"#);
    take(&control, "mini-standby");
    browser.shows("a change of hands", |seen| says(seen, &["given up", "taken by mini-standby", "2"]));
    control.kill();
    let seen = browser.shows("that nothing answers", |seen| seen["off"] == true);
    assert!(says(&seen, &["No answer: what follows is old.", "mini-standby"]), "{seen}");
    let control = Control::start(&room, &address, &[]);
    let seen = browser.shows("that it is back", |seen| seen["off"] == false);
    assert_eq!(seen["load"], load);
    let troubles: Vec<&Value> = seen["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|text| !text.as_str().unwrap().contains("ERR_CONNECTION_REFUSED"))
        .collect();
    assert!(troubles.is_empty(), "{troubles:?}");
    drop(browser);
    drop(control);
    assert!(std::fs::metadata(room.path("page.png")).unwrap().len() > 5_000);
    if let Some(keep) = std::env::var_os("BAA_KEEP_PICTURE") {
        std::fs::copy(room.path("page.png"), keep).unwrap();
    }
}

/// Without a script all is there, and the page is loaded anew by itself. A browser's login opens it.
#[apply(test)]
fn it_is_whole_without_a_script_and_behind_a_login() {
    let room = Room::new();
    room.secret("tokens", "secret\n");
    let control = Control::start(&room, "127.0.0.1:0", &["--token-file", "tokens"]);
    let mut command = room.command("baa-lease");
    command.args(["acquire", "--node-id", "mini-main", "--store", &control.base(), "--token-file", "tokens"]);
    crate::support::finish(&mut command).expect(0, "1\n", "");
    let url = format!("http://x:secret@{}/", control.address);
    let seen = Browser::open(&room, &url, &["no-script"])
        .shows("the leader", |seen| says(seen, &["mini-main", "taken by mini-main"]));
    assert!(seen["troubles"].as_array().unwrap().is_empty(), "{seen}");
    let browser = Browser::open(&room, &url, &[]);
    browser.shows("the leader", |seen| says(seen, &["mini-main"]));
    command.args(["--lease", "other"]);
    crate::support::finish(&mut command).expect(0, "1\n", "");
    let seen = browser.shows("another lease", |seen| says(seen, &["other"]));
    assert!(seen["off"] == false, "{seen}");
}
