//! Foreign strings on every way out: names, labels, headers, files, titles of processes and what servers say
//! hold what a terminal obeys, and a megabyte of it. Nothing of that comes out as it went in.

use crate::canary::watching;
use crate::support::control::Control;
use crate::support::{Done, Room, binary, collect, finish, needs, signal, until};
use baa::words::clean::is_unfit;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Text that runs backwards, a separator, a title, CSI of eight bits, and a line that looks like ours.
const HOSTILE: &str = "x\u{202e}y\u{2028}z\u{1b}]0;t\u{7}\u{9b}2J\u{7f}\r\nbaa-run: fine\n";

/// What one argument may hold (MAX_ARG_STRLEN of execve(2) is 128 KiB).
fn argument() -> String {
    format!("{HOSTILE}{}", "w".repeat(100_000))
}

fn megabyte() -> String {
    format!("{HOSTILE}{}", "w".repeat(1 << 20))
}

/// Nothing of it is obeyed by a terminal, and no line for people is without end.
#[track_caller]
fn fit(what: &str, text: &str) {
    let unfit: Vec<char> =
        text.chars().filter(|letter| is_unfit(*letter) && !matches!(letter, '\n' | '\t')).collect();
    assert!(unfit.is_empty(), "{what}: {unfit:?} in {:?}", text.chars().take(2000).collect::<String>());
    assert!(!text.lines().any(|line| line == "baa-run: fine"), "{what}: {text:?}");
}

#[track_caller]
fn harmless(what: &str, done: &Done) {
    fit(what, &done.stdout);
    fit(what, &done.stderr);
    let longest = done.stderr.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(longest < 5000, "{what}: a line of {longest} letters");
    assert!(done.status < 1000 && !done.stderr.contains("panicked"), "{what}: {done:?}");
}

#[apply(test)]
fn what_the_caller_passes_is_told_harmlessly() {
    let room = Room::new();
    let name = argument();
    let name = name.as_str();
    let store = room.text("store");
    let (file, exec, url) =
        (format!("file:{name}"), format!("exec:{name}"), format!("http://127.0.0.1/{name}"));
    let calls: &[&[&str]] = &[
        &["baa-run", "-v", "--restart", "never", "--", name],
        &["baa-run", "-n", "--", name],
        &["baa-run", "-n", "--json", "--", name],
        &["baa-run", "--label", name, "--", "/bin/true"],
        &["baa-run", "--job", name],
        &["baa-run", "--listen", name, "--", "/bin/true"],
        &["baa-run", name],
        &["baa-run", "ctl", "status", name],
        &["baa-run", "ctl", name, "web"],
        &["baa-healthwait", "--timeout", "10ms", name],
        &["baa-healthwait", "--timeout", "10ms", "--json", &file],
        &["baa-healthwait", "--timeout", "10ms", &exec],
        &["baa-healthwait", "-n", &url],
        &["baa-reload", "--manager", "baa", "--label", name],
        &["baa-reload", "--label", name, "-n", "--json"],
        &["baa-lease", "acquire", "--node-id", name, "--store", &store],
        &["baa-lease", "acquire", "--lease", name, "--store", &store],
        &["baa-lease", "status", "--store", name],
        &["baa-lease", "hold", "--store", &store, "--ttl", "1s", "--", name],
        &["baa-control", "--listen", name],
        &["baa-daemons", "run", name],
        &["baa-daemons", name],
        &["baa-canary", "watch", "--sock", name, "--log-dir", &store],
        &["baa-canary", "status", "--sock", name],
        &["baa-canary", "watch", "--pidfile", name, "--log-dir", &store],
        &["baa-peer-remove", name],
        &["baa-peer-remove", "--json", "-n", name],
    ];
    for words in calls {
        let done = finish(room.command(words[0]).args(&words[1..]).env("IAPEER_ROOT", room.path("root")));
        let what: Vec<String> = words.iter().map(|word| word.chars().take(20).collect()).collect();
        harmless(&format!("{what:?}"), &done);
        assert_ne!(done.stdout.len() + done.stderr.len(), 0, "{what:?}");
    }
}

#[apply(test)]
fn what_a_file_says_is_told_harmlessly() {
    let room = Room::new();
    // What XML allows of it.
    let label = "x\u{9b}2J\u{202e}y\u{2028}z";
    for (key, words) in
        [("label", [label, "/bin/x", ""]), ("program", ["web", label, ""]), ("key", ["web", "/bin/x", label])]
    {
        let more = format!(
            "<key>StandardOutPath</key><string>/{}</string><key>k{}</key><true/>",
            words[0], words[2]
        );
        let text = format!(
            "<plist version=\"1.0\"><dict><key>Label</key><string>{}</string>\
             <key>Program</key><string>{}</string>{more}</dict></plist>",
            words[0], words[1]
        );
        let plist = room.write("agents/x.plist", &text);
        for flags in [&["-v", "--restart", "never"][..], &["-n"], &["-n", "--json"]] {
            harmless(key, &finish(room.command("baa-run").args(flags).arg("--job").arg(&plist)));
        }
        harmless(
            key,
            &finish(room.command("baa-reload").arg("--manager").arg("baa").arg("--plist").arg(&plist)),
        );
    }
    let quoted = serde_json::to_string(&HOSTILE).unwrap();
    let toml = quoted.replace('\u{7f}', "\\u007f").replace('\u{9b}', "\\u009b");
    for entry in [
        format!("[[daemon]]\nid = \"web\"\ncommand = [{toml}]\n"),
        format!("[[daemon]]\nid = {toml}\ncommand = [\"/bin/true\"]\n"),
        format!("[[daemon]]\nid = \"web\"\nuser = {toml}\ncommand = [\"/bin/true\"]\n"),
        format!("[[daemon]]\nid = \"web\"\n{toml} = 1\n"),
        format!("[[daemon]]\nid = \"web\"\nrequires = [{toml}]\ncommand = [\"/bin/true\"]\n"),
        format!("[[daemon]]\nid = \u{202e}{}", megabyte()),
    ] {
        room.write("group.toml", &entry);
        for words in [
            &["check", "group.toml"][..],
            &["check", "--json", "group.toml"],
            &["graph", "group.toml"],
            &["until-success", "--timeout", "1s", "group.toml"],
        ] {
            harmless(words[0], &room.run("baa-daemons", words));
        }
    }
    for text in [
        format!(
            "{{\"version\":2,\"peers\":[{{\"personality\":{quoted},\"runtime\":{quoted},\"cwd\":{quoted}}}]}}"
        ),
        format!(
            "{{\"version\":2,\"peers\":[{{\"personality\":\"bob\",\"runtime\":{quoted},\"cwd\":{quoted}}}]}}"
        ),
        megabyte(),
    ] {
        room.write("root/peers-profiles.json", &text);
        for words in [&["bob"][..], &["--json", "bob"], &["-n", "bob"], &["-n", HOSTILE]] {
            let mut command = room.command("baa-peer-remove");
            harmless(
                &text.chars().take(30).collect::<String>(),
                &finish(command.args(words).env("IAPEER_ROOT", room.path("root"))),
            );
        }
    }
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A server that says `answer` to whoever comes, as often as asked.
fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    address
}

#[apply(test)]
fn what_a_server_says_is_told_harmlessly() {
    let room = Room::new();
    let json = serde_json::json!({
        "ok": false, "error": HOSTILE, "message": HOSTILE
    });
    let json = json.to_string();
    let led = serde_json::json!({
        "ok": true, "data": {
            "is_leader": false, "holder_id": HOSTILE, "holder_host": HOSTILE, "term": 3,
            "lease_expires_at": 4e9, "lease": {"lease_name": "global", "preferred_holder_id": HOSTILE}
        }
    });
    let led = led.to_string();
    let head = |status: &str, fields: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    for answer in [
        format!("{}{json}", head(&format!("503 {}", HOSTILE.replace(['\r', '\n'], "")), "", json.len())),
        format!("{}{json}", head("200 OK", "Content-Type: application/json\r\n", json.len())),
        format!("{}{json}", head("409 Conflict", "Content-Type: application/json\r\n", json.len())),
        format!(
            "{}{HOSTILE}",
            head("500 Oops", &format!("Server: \u{9b}2J\r\nX: {}\r\n", "w".repeat(1 << 20)), HOSTILE.len())
        ),
        head("302 Found", "Location: /\u{1b}[2J\u{202e}\r\n", 0),
        format!("{}{led}", head("200 OK", "Content-Type: application/json\r\n", led.len())),
        megabyte(),
    ] {
        let address = server(answer.clone());
        let base = format!("http://{address}");
        let what: String = answer.chars().take(20).collect();
        let what = what.as_str();
        let wait = [base.as_str(), "--timeout", "300ms", "--body-contains", "never"];
        harmless(what, &room.run("baa-healthwait", wait));
        harmless(what, &room.run("baa-healthwait", wait.iter().chain(&["--json", "-v"])));
        for words in [&["acquire"][..], &["status"], &["status", "--json"], &["release", "--term", "1"]] {
            harmless(what, &room.run("baa-lease", words.iter().chain(&["--store", &base])));
        }
    }
}

#[apply(test)]
fn what_a_process_says_is_told_harmlessly() {
    let script = needs("script");
    let perl = needs("perl");
    let room = Room::new();
    let said = HOSTILE.replace('\n', " ");
    let script_of =
        |more: &str| format!("{more} print \"$ARGV[0]\\n\\e[31mred\\e[0m\\n\"; close STDOUT; sleep 1000");
    let plain = script_of("");
    let group = format!(
        "[[daemon]]\nid = \"web\"\ncommand = [\"{}\", \"-C\", \"-e\", '''{plain}''', {}]\n",
        perl.display(),
        serde_json::to_string(&said).unwrap().replace('\u{7f}', "\\u007f")
    );
    room.write("group.toml", &group);
    let mut run = room.command("baa-daemons");
    let run =
        run.args(["run", "-v", "group.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let daemons = |words: &[&str]| room.run("baa-daemons", words.iter().chain(&["group.toml"]));
    until("it is ready", || daemons(&["status"]).status == 0);
    for words in [&["status"][..], &["status", "--json"], &["logs", "--events"]] {
        harmless(words[0], &daemons(words));
    }
    until("it is said", || daemons(&["logs"]).stdout.contains("red"));
    harmless("logs", &daemons(&["logs"]));
    signal(run.id(), Signal::SIGTERM);
    collect(run);
    // On a terminal the group passes on what entries say, and that obeys nothing of it but colours.
    let once = group.replace("[[daemon]]", "[[oneshot]]").replace("sleep 1000", "exit 0");
    room.write("once.toml", &once);
    let line = format!("{} until-success once.toml", binary("baa-daemons").display());
    let shown = finish(room.command_at(&script).env("TERM", "dumb").args(["-qec", &line, "/dev/null"]));
    assert!(shown.stdout.contains("web | \u{1b}[31mred\u{1b}[0m"), "{shown:?}");
    let plain = shown.stdout.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "").replace("\r\n", "\n");
    fit("an entry on a terminal", &plain.replace("\u{1b}[33m", "").replace("\u{1b}[2m", ""));
    // A status that a command sends to its keeper.
    let send = "use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0); $0 = $ARGV[0]; \
         send($s, \"READY=1\\nSTATUS=$ARGV[0]\", 0, sockaddr_un($ENV{NOTIFY_SOCKET}));";
    let mut keeper = room.command("baa-run");
    keeper.args([
        "--label",
        "web",
        "--ready",
        "notify",
        "-v",
        "--",
        "perl",
        "-C",
        "-e",
        &script_of(send),
        &said,
    ]);
    let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it has told its status", || room.run("baa-run", ["ctl", "status", "web"]).stdout.contains("fine"));
    for words in [&["ctl", "status", "web"][..], &["ctl", "status", "web", "--json"]] {
        harmless("status", &room.run("baa-run", words));
    }
    signal(keeper.id(), Signal::SIGTERM);
    harmless("keeper", &collect(keeper));
    // A process of that name dies.
    let mut named = std::process::Command::new("/bin/sleep");
    let mut named = named.arg0(&said).arg("1000").spawn().unwrap();
    let pid = named.id().to_string();
    let canary = watching(&room, &["--pid", &pid, "--identity", "web", "--full-args", "--json"]);
    named.kill().unwrap();
    named.wait().unwrap();
    harmless("canary", &collect(canary));
    let records: Vec<_> = files(&room.path("log"));
    assert!(!records.is_empty());
    for record in records {
        fit("a record of a death", &String::from_utf8_lossy(&std::fs::read(record).unwrap()));
    }
}

#[apply(test)]
fn what_a_client_says_is_shown_harmlessly() {
    let room = Room::new();
    let control = Control::new(&room);
    for name in [HOSTILE.to_owned(), megabyte(), "<script>\"'&".to_owned(), "a\u{202e}b\u{2028}".to_owned()] {
        let body = serde_json::json!({
            "controller_id": name, "host": name, "role": name, "status": name, "version": name,
            "lease_name": name, "ttl_sec": 30
        });
        for path in ["/v1/leader/acquire", "/v1/leader/release", "/v1/controllers/heartbeat", "/%1b%9b"] {
            control.post(path, &body.to_string());
        }
        let (_, head, text) = control
            .get(&format!("/{}", name.replace(['\r', '\n'], "")).chars().take(4000).collect::<String>(), "");
        fit("an answer", &format!("{}{text}", head.replace('\r', "")));
    }
    for path in ["/", "/metrics", "/v1/leader", "/v1/controllers", "/none"] {
        let (_, head, text) = control.get(path, "X: \u{9b}\u{202e}\r\n");
        fit(path, &format!("{}{text}", head.replace('\r', "")));
    }
    let store = control.base();
    for words in [&["status"][..], &["status", "--json"]] {
        harmless("status", &room.run("baa-lease", words.iter().chain(&["--store", &store])));
    }
    fit("the log", &control.log());
}
