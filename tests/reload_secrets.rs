//! What baa-reload does not show, in whatever it writes; and the ends of the logs that it does: whole, and of
//! the new life alone.

use crate::support::launchd::Launchd;
use crate::support::{CONDUCTOR as LABEL, Done, Room, example, finish, port};
use std::process::Command;

const QUICK: [&str; 6] = ["--attempts", "1", "--delay", "300ms", "--json", "-v"];

fn embedded(room: &Room, more: &[&str]) -> Command {
    let mut command = room.command("baa-reload");
    command.args(["--manager", "baa", "--install-dir", &room.text("agents")]).args(QUICK).args(more);
    command
}

fn one(done: &Done) -> serde_json::Value {
    done.json()["services"][0].clone()
}

/// A conductor on `port` that answers 500, once it has said `script` in its log.
fn talker(room: &Room, port: u16, script: &str, variables: &[(&str, &str)]) {
    let pairs: String =
        variables.iter().map(|(name, value)| format!("<key>{name}</key><string>{value}</string>")).collect();
    let service = example("service").display().to_string();
    let script = format!("{script}\nexec {service} --listen 127.0.0.1:{port} --status 500");
    let log = room.text("log");
    room.plist(
        LABEL,
        &["/bin/sh", "-c", &script],
        &format!(
            "<key>RunAtLoad</key><true/><key>EnvironmentVariables</key><dict>{pairs}</dict>\
             <key>StandardOutPath</key><string>{log}</string>"
        ),
    );
}

const SECRETS: [&str; 8] = [
    "hunter2-of-env",
    "line-of-a-key",
    "pw-of-db",
    "t0ken-of-url",
    "login:pw-of-url",
    "pw-of-url",
    "bG9naW46cHctb2YtdXJs",
    "k3y-of-header",
];

fn keeps_secrets(room: &Room, reload: &dyn Fn(&[&str]) -> Command) {
    let port = port();
    let say = "echo \"token $API_TOKEN, pem $PEM; $DATABASE_URL; mode $MODE in $DATA, $SHORT\"
        echo 'GET /healthz?key=t0ken-of-url by bG9naW46cHctb2YtdXJs; X-Api-Key: k3y-of-header'
        echo see https://a:b@elsewhere/x?sig=unknown-to-us";
    talker(
        room,
        port,
        say,
        &[
            ("API_TOKEN", "hunter2-of-env"),
            ("PEM", "-----BEGIN\nline-of-a-key\n-----END"),
            ("DATABASE_URL", "postgres://me:pw-of-db@db.internal/x"),
            ("MODE", "production"),
            ("DATA", "/usr/share"),
            ("SHORT", "abc"),
        ],
    );
    let url = format!("http://login:pw-of-url@127.0.0.1:{port}/healthz?key=t0ken-of-url&deep");
    let flags = ["--health-url", &url, "--health-header", "X-Api-Key: k3y-of-header"];
    let done = finish(&mut reload(&flags));
    assert_eq!(done.status, 69, "{done:?}");
    let shown = format!("http://***@127.0.0.1:{port}/healthz?key=***&deep");
    assert_eq!(one(&done)["health"], shown.as_str());
    assert!(done.stderr.contains(&shown), "{done:?}");
    // What a probe says, in its steps, its reasons and its report.
    let command = "exec:echo from-the-command and hunter2-of-env >&2; exit 3; API_TOKEN=from-the-command";
    let told = finish(&mut reload(&["--health-url", command]));
    assert!(told.stderr.contains("exited with 3: from-the-command and ***"), "{told:?}");
    let history = room.run("baa-reload", ["history"]);
    assert!(history.stdout.contains(" and ***"), "{history:?}");
    let journal = std::fs::read_to_string(room.kept(LABEL, "journal").unwrap()).unwrap();
    let mut plan = reload(&flags);
    let plan = finish(plan.arg("--dry-run"));
    assert_eq!(plan.json()["services"][0]["health"], shown.as_str());
    let all = [&done.stdout, &done.stderr, &journal, &history.stdout, &plan.stdout, &plan.stderr]
        .map(String::as_str);
    for secret in SECRETS {
        assert!(all.iter().all(|text| !text.contains(secret)), "{secret}: {all:#?}");
    }
    assert!([&told.stdout, &told.stderr].iter().all(|text| !text.contains("hunter2-of-env")), "{told:?}");
    // What is no secret stays.
    for plain in [
        "token ***, pem ***",
        "postgres://***@db.internal/x; mode production in /usr/share, abc",
        "GET /healthz?key=*** by ***; X-Api-Key: ***",
        "see https://***@elsewhere/x?sig=***",
    ] {
        assert!(done.stderr.contains(plain) && done.stdout.contains(plain), "{plain}: {done:?}");
    }
}

#[apply(test)]
fn on_launchd_nothing_that_is_written_has_a_secret() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    keeps_secrets(&room, &|more| {
        let mut command = launchd.reload(&QUICK);
        command.args(more);
        command
    });
}

#[apply(test)]
fn on_the_embedded_manager_nothing_that_is_written_has_a_secret() {
    let room = Room::new();
    keeps_secrets(&room, &|more| embedded(&room, more));
}

/// What the version that is rolled back to has in its environment is secret too.
#[apply(test)]
fn the_secrets_of_the_last_version_that_worked_are_kept_as_well() {
    let (room, port) = (Room::new(), port());
    let base = format!("http://127.0.0.1:{port}");
    let service = example("service").display().to_string();
    let log = format!("<key>StandardOutPath</key><string>{}</string>", room.text("log"));
    let version = |status: &str, secret: &str| {
        let script =
            format!("echo using $SECRET; exec {service} --listen 127.0.0.1:{port} --status {status}");
        let more = format!(
            "<key>RunAtLoad</key><true/>{log}<key>EnvironmentVariables</key><dict>\
             <key>BAA_CONDUCTOR_LOCAL_API</key><string>{base}</string>\
             <key>SECRET</key><string>{secret}</string></dict>"
        );
        room.plist(LABEL, &["/bin/sh", "-c", &script], &more);
    };
    version("200", "old-secret");
    assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
    version("500", "new-secret");
    let done = finish(&mut embedded(&room, &[]));
    assert_eq!(done.status, 78, "{done:?}");
    let log = std::fs::read_to_string(room.path("log")).unwrap();
    assert!(
        log.contains("new-secret") && log.ends_with("using old-secret\nserving")
            || log.contains("old-secret")
    );
    assert!(done.stdout.contains("using ***"), "{done:?}");
    assert!(!format!("{done:?}").contains("-secret"), "{done:?}");
}

fn tells_of_the_new_life(room: &Room, reload: &dyn Fn(&[&str]) -> Command) {
    let port = port();
    let url = format!("http://127.0.0.1:{port}/");
    let long = format!("{} the end", "long line ".repeat(60).trim());
    let say = |life: &str| format!("for n in 1 2 3; do echo {life} $n; done\necho '{long}'");
    talker(room, port, &say("first life"), &[]);
    let first = finish(&mut reload(&["--health-url", &url, "--no-rollback"]));
    assert_eq!(first.status, 69, "{first:?}");
    talker(room, port, &say("second life"), &[]);
    let done = finish(&mut reload(&["--health-url", &url, "--no-rollback"]));
    let log = one(&done)["logs"][0].clone();
    let lines: Vec<&str> = log["lines"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert!(lines.contains(&"second life 1") && lines.contains(&long.as_str()), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("first life")), "{lines:#?}");
    // For people it is folded, and all of it is there.
    let told: Vec<&str> =
        done.stderr.lines().map(|line| line.strip_prefix("baa-reload: ").unwrap_or(line)).collect();
    let begin = told.iter().position(|line| line.starts_with("  long line")).unwrap();
    let whole: Vec<&str> = told[begin..].iter().map(|line| line.trim()).collect();
    assert!(whole.join(" ").starts_with(&long), "{told:#?}");
    assert!(told.iter().all(|line| line.chars().count() < 250), "{told:#?}");
    // A log that was rotated meanwhile counts from its start, and one that says nothing new has nothing.
    talker(room, port, "[ -e moved ] || mv log log.1; : > moved; echo third life > log", &[]);
    let path = room.text("agents/so.makefile.baa-conductor.plist");
    let moved = std::fs::read_to_string(&path)
        .unwrap()
        .replace("mv log log.1", &format!("mv {0} {0}.1", room.text("log")));
    let moved = moved
        .replace("&gt; log", &format!("&gt; {}", room.text("log")))
        .replace("> log", &format!("> {}", room.text("log")));
    std::fs::write(&path, moved.replace("moved", &room.text("moved"))).unwrap();
    let rotated = finish(&mut reload(&["--health-url", &url, "--no-rollback"]));
    let lines = one(&rotated)["logs"][0]["lines"].clone();
    assert!(lines[0] == "third life", "{lines}");
    talker(room, port, "exec >/dev/null", &[]);
    let silent = finish(&mut reload(&["--health-url", &url, "--no-rollback"]));
    assert_eq!(one(&silent)["logs"][0]["lines"], serde_json::json!([]), "{silent:?}");
    assert!(silent.stderr.contains("log: nothing new"), "{silent:?}");
}

#[apply(test)]
fn on_launchd_only_the_new_life_is_told_of_and_whole() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    tells_of_the_new_life(&room, &|more| {
        let mut command = launchd.reload(&QUICK);
        command.args(more);
        command
    });
}

#[apply(test)]
fn on_the_embedded_manager_only_the_new_life_is_told_of_and_whole() {
    let room = Room::new();
    tells_of_the_new_life(&room, &|more| embedded(&room, more));
}
