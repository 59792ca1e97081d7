//! What baa-reload asks of a service's health, of whom, and what it says when another process answers; on the
//! model of launchd and on the embedded manager.

use crate::support::launchd::Launchd;
use crate::support::{CONDUCTOR as LABEL, Done, Room, example, finish, needs, port};
use std::process::Command;

/// Of what is to fail.
const QUICK: [&str; 5] = ["--attempts", "2", "--delay", "300ms", "--no-rollback"];

fn embedded(room: &Room, more: &[&str]) -> Command {
    let mut command = room.command("baa-reload");
    command.args(["--manager", "baa", "--install-dir", &room.text("agents")]).args(["--json"]).args(more);
    command
}

fn one(done: &Done) -> serde_json::Value {
    done.json()["services"][0].clone()
}

fn seen(done: &Done) -> (i32, String) {
    let class = one(done)["last_probe"]["class"].as_str().unwrap_or("").to_owned();
    (done.status, if done.status == 0 { one(done)["proof"].as_str().unwrap().to_owned() } else { class })
}

#[track_caller]
fn proven(mut reload: Command, how: &str) -> Done {
    let done = finish(&mut reload);
    assert_eq!(seen(&done), (0, how.to_owned()), "{done:?}");
    done
}

#[track_caller]
fn failed(mut reload: Command, class: &str) -> Done {
    let done = finish(reload.args(QUICK));
    assert_eq!(seen(&done), (69, class.to_owned()), "{done:?}");
    done
}

/// What holds on each manager.
fn is_held_to(room: &Room, reload: &dyn Fn(&[&str]) -> Command) {
    let (port, requests) = (port(), room.text("requests"));
    let body = r#"{"ready":true,"name":"conductor"}"#;
    room.conductor(port, &["--status", "201", "--body", body, "--count", &requests], "");
    // 200 alone is good, as long as nothing else is said.
    failed(reload(&[]), "status");
    failed(reload(&["--health-status", "204,3xx"]), "status");
    let all = [
        "--health-status",
        "201",
        "--health-method",
        "POST",
        "--health-header",
        "X-Key: k3y",
        "--health-body-contains",
        "conductor",
        "--health-json-path",
        "/ready=true",
        "--health-token-env",
        "HEALTH",
    ];
    let mut asks = reload(&all);
    asks.env("HEALTH", "t0ken-of-health");
    proven(asks, "listener");
    let asked = std::fs::read_to_string(&requests).unwrap();
    let last = asked.lines().last().unwrap();
    assert!(
        last.starts_with("POST /healthz ")
            && last.contains("|X-Key: k3y|")
            && last.contains("|Authorization: Bearer t0ken-of-health|"),
        "{last}"
    );
    let more = [
        "--health-status=2xx",
        "--health-data={}",
        "--health-header-contains=Content-Length=",
        "--health-body-regex=\"name\":\\s*\"conductor\"",
        "--health-json-path=/name ~ ^cond",
    ];
    proven(reload(&more), "listener");
    let asked = std::fs::read_to_string(&requests).unwrap();
    let last = asked.lines().last().unwrap();
    assert!(last.starts_with("POST /healthz ") && last.contains("|Content-Length: 2|"), "{last}");
    room.write("sent", "{\"a\":1}");
    proven(reload(&["--health-status=2xx", "--health-data-file", &room.text("sent")]), "listener");
    assert!(
        std::fs::read_to_string(&requests).unwrap().lines().last().unwrap().contains("|Content-Length: 7|")
    );
    failed(reload(&["--health-status=2xx", "--health-header-contains", "X-None="]), "header");
    failed(reload(&["--health-status=2xx", "--health-body-regex", "^nothing"]), "body");
    failed(reload(&["--health-status", "2xx", "--health-body-contains", "nothing"]), "body");
    failed(reload(&["--health-status", "2xx", "--health-json-path", "/ready=false"]), "body");
    // A redirect is an answer, and is followed only on request.
    room.conductor(port, &["--status", "302", "--redirect", "/elsewhere"], "");
    failed(reload(&[]), "status");
    proven(reload(&["--health-status", "302"]), "listener");
    failed(reload(&["--health-status", "302", "--health-redirect"]), "protocol");
}

#[apply(test)]
fn on_launchd_an_answer_is_held_to_what_is_asked_for() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    is_held_to(&room, &|more| {
        let mut command = launchd.reload(&["--json"]);
        command.args(more);
        command
    });
}

#[apply(test)]
fn on_the_embedded_manager_an_answer_is_held_to_what_is_asked_for() {
    let room = Room::new();
    is_held_to(&room, &|more| embedded(&room, more));
}

#[apply(test)]
fn a_service_on_a_unix_socket_is_asked_over_it() {
    let room = Room::new();
    // A directory with a space, as macOS has them.
    std::fs::create_dir_all(room.path("Application Support")).unwrap();
    let socket = room.text("Application Support/api.sock");
    let service = example("service").to_string_lossy().into_owned();
    let run = "<key>RunAtLoad</key><true/>";
    room.plist(LABEL, &[&service, "--listen", &format!("unix:{socket}")], run);
    let (relative, target) = ("Application Support/api.sock", format!("unix:{socket}"));
    for flags in [["--health-unix", &socket], ["--health-unix", relative], ["--health-url", &target]] {
        proven(embedded(&room, &flags), "listener");
    }
    failed(embedded(&room, &["--health-unix", "/nonexistent/x.sock"]), "missing");
}

#[apply(test)]
fn other_targets_tell_of_health_too() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    let tcp = format!("tcp://127.0.0.1:{port}");
    proven(embedded(&room, &["--health-url", &tcp]), "listener");
    // These do not tell who answers: the death of the old process must do.
    let command = format!("exec:curl -sf http://127.0.0.1:{port}/ | grep -q ok");
    proven(embedded(&room, &["--health-url", &command]), "process");
    let file = format!("file:{}", room.text("agents"));
    proven(embedded(&room, &["--health-url", &file]), "process");
    let down = failed(embedded(&room, &["--health-url", "exec:echo not yet >&2; exit 3"]), "down");
    assert!(one(&down)["last_probe"]["error"].as_str().unwrap().contains("not yet"), "{down:?}");
    for target in ["dns:localhost", "pid:1", "launchd:x", "host", "tcp://h:0"] {
        let done = finish(&mut embedded(&room, &["--health-url", target]));
        assert_eq!(done.status, 2, "{done:?}");
        assert!(done.stderr.contains("cannot check the health of conductor: "), "{done:?}");
    }
}

#[apply(test)]
fn a_service_with_tls_is_verified() {
    needs("openssl");
    let (room, port) = (Room::new(), port());
    let key =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, secret) = (room.write("cert.pem", &key.cert.pem()), room.path("key.pem"));
    room.write("key.pem", &key.signing_key.serialize_pem());
    let (cert, secret) = (cert.to_string_lossy().into_owned(), secret.to_string_lossy().into_owned());
    let address = format!("127.0.0.1:{port}");
    room.plist(
        LABEL,
        &[
            "/usr/bin/openssl",
            "s_server",
            "-quiet",
            "-www",
            "-accept",
            &address,
            "-cert",
            &cert,
            "-key",
            &secret,
        ],
        "<key>RunAtLoad</key><true/>",
    );
    let url = format!("https://127.0.0.1:{port}/");
    proven(embedded(&room, &["--health-url", &url, "--health-cacert", &cert]), "listener");
    proven(embedded(&room, &["--health-url", &url, "--health-insecure"]), "listener");
    failed(embedded(&room, &["--health-url", &url]), "tls");
    // What cannot be used is told before anything is touched.
    let unread = finish(&mut embedded(&room, &["--health-url", &url, "--health-cacert", "/nonexistent"]));
    assert_eq!((unread.status, one(&unread)["outcome"].as_str()), (66, Some("refused")), "{unread:?}");
}

#[apply(test)]
fn what_is_said_of_an_answer_that_nobody_asks_for_is_refused() {
    let room = Room::new();
    room.plist("so.makefile.baa-web", &["/bin/sleep", "1000"], "<key>RunAtLoad</key><true/>");
    for more in [&["--health-status", "204"][..], &["--any-process"]] {
        let mut all = vec!["--service", "web"];
        all.extend(more);
        let done = finish(&mut embedded(&room, &all));
        done.failed_with(2, "nothing is asked; give --health-url");
    }
    let done = finish(embedded(&room, &["--no-health", "--any-process"]).stdin(std::process::Stdio::null()));
    assert_eq!(done.status, 2, "{done:?}");
}

#[apply(test)]
fn a_plan_says_how_health_is_asked_for() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    let flags =
        ["--health-status", "2xx", "--health-header", "X-Api-Key: k3y", "--health-json-path", "/a=b c"];
    let mut all = vec!["--manager", "baa", "--dry-run"];
    let agents = room.text("agents");
    all.extend(["--install-dir", &agents]);
    all.extend(flags);
    let done = room.run("baa-reload", all);
    let command = format!(
        "baa-healthwait --header 'X-Api-Key: ***' --status 200-299 --json-path '/a=b c' --no-redirect \
         http://127.0.0.1:{port}/healthz"
    );
    assert_eq!((done.status, done.stdout.lines().last()), (0, Some(command.as_str())), "{done:?}");
}

/// Another process answers well where the job should, for as long as the round lasts.
fn is_outdone(room: &Room, reload: &dyn Fn(&[&str]) -> Command, kicks: &dyn Fn() -> u64) {
    let (front, own) = (port(), port());
    let url = format!("http://127.0.0.1:{front}/");
    room.conductor(own, &["--body", "first"], "");
    assert_eq!(finish(&mut reload(&[])).status, 0);
    room.conductor(own, &["--body", "second"], "");
    let proxy = room.service(&format!("127.0.0.1:{front}"), &[]);
    let before = kicks();
    let done = finish(reload(&["--health-url", &url]).args(&QUICK[..4]));
    assert_eq!(seen(&done), (69, "wrong-process".to_owned()), "{done:?}");
    let told = one(&done);
    let who = format!("answered by service (pid {}), not by the job (process ", proxy.pid());
    assert!(told["reason"].as_str().unwrap().contains(&who), "{done:?}");
    assert_eq!(told["held_by"]["pid"].to_string(), proxy.pid(), "{done:?}");
    assert_eq!(told["held_by"]["program"], "service");
    assert!(
        done.stderr.contains(&format!("is held by service (pid {}), no process", proxy.pid())),
        "{done:?}"
    );
    // It was not kicked, and not taken back: neither would have changed anything.
    assert_eq!((kicks() - before, told["outcome"].as_str()), (1, Some("unhealthy")), "{done:?}");
    proven(reload(&["--health-url", &url, "--any-process"]), "process");
    drop(proxy);
    // One that answers badly tells of a job that does not serve behind it: then it is kicked.
    let _proxy = room.service(&format!("127.0.0.1:{front}"), &["--status", "502"]);
    let before = kicks();
    let bad = failed(reload(&["--health-url", &url]), "wrong-process");
    assert_eq!(kicks() - before, 2, "{bad:?}");
    failed(reload(&["--health-url", &url, "--any-process"]), "status");
}

#[apply(test)]
fn on_launchd_another_process_that_answers_is_named_and_ends_the_round() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    is_outdone(
        &room,
        &|more| {
            let mut command = launchd.reload(&["--json"]);
            command.args(more);
            command
        },
        // A kick of the job that runs, and a life by its registration.
        &|| {
            let begins = |call: &String| call.starts_with("bootstrap ") || call.starts_with("kickstart -k ");
            u64::try_from(launchd.calls().iter().filter(|call| begins(call)).count()).unwrap()
        },
    );
}

#[apply(test)]
fn on_the_embedded_manager_another_process_that_answers_is_named_and_ends_the_round() {
    let room = Room::new();
    let lives = room.text("lives");
    is_outdone(
        &room,
        &|more| {
            // Each life writes a line.
            let path = room.path(&format!("agents/{LABEL}.plist"));
            let text = std::fs::read_to_string(&path).unwrap();
            if !text.contains("/bin/sh") {
                let script = format!(
                    "<array><string>/bin/sh</string><string>-c</string><string>echo &gt;&gt; {lives}; exec \
                     \"$@\"</string><string>sh</string>"
                );
                std::fs::write(&path, text.replace("<array>", &script)).unwrap();
            }
            embedded(&room, more)
        },
        &|| u64::try_from(std::fs::read_to_string(&lives).unwrap_or_default().lines().count()).unwrap(),
    );
}

/// A job that runs and cannot have its port.
#[apply(test)]
fn whoever_holds_the_port_is_named() {
    let (room, port) = (Room::new(), port());
    let squatter = room.service(&format!("127.0.0.1:{port}"), &["--mute"]);
    room.conductor(port, &[], "");
    let done = finish(embedded(&room, &["--probe-timeout", "100ms"]).args(QUICK));
    assert_eq!(done.status, 69, "{done:?}");
    assert_eq!(one(&done)["held_by"]["pid"].to_string(), squatter.pid(), "{done:?}");
    // The job itself is nobody to be named.
    let (room, port) = (Room::new(), crate::support::port());
    room.conductor(port, &["--status", "500"], "");
    let own = finish(embedded(&room, &[]).args(QUICK));
    assert!(own.status == 69 && one(&own)["held_by"].is_null(), "{own:?}");
}

/// A proxy that answers 502 until the job is up, and then for it, from a process of its own for each request.
#[apply(test)]
fn a_good_version_behind_a_proxy_is_neither_kicked_nor_taken_back() {
    let python = needs("python3");
    let (room, own, front) = (Room::new(), port(), port());
    room.conductor(own, &["--body", "first"], "");
    assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
    room.conductor(own, &["--body", "second", "--start-delay", "700"], "");
    let script = format!(
        "import http.server, socketserver, urllib.request\n\
         class Answer(http.server.BaseHTTPRequestHandler):\n\
         \x20def do_GET(self):\n\
         \x20\x20try: urllib.request.urlopen('http://127.0.0.1:{own}/').read(); status = 200\n\
         \x20\x20except OSError: status = 502\n\
         \x20\x20self.send_response(status); self.send_header('Content-Length', '0'); self.end_headers()\n\
         class Proxy(socketserver.ForkingMixIn, http.server.HTTPServer): pass\n\
         Proxy(('127.0.0.1', {front}), Answer).serve_forever()\n"
    );
    let mut proxy = Command::new(python);
    let mut proxy = proxy.args(["-c", &script]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let url = format!("http://127.0.0.1:{front}/");
    crate::support::until("the proxy answers", || std::net::TcpStream::connect(("127.0.0.1", front)).is_ok());
    let file = || std::fs::read(room.path(&format!("agents/{LABEL}.plist"))).unwrap();
    let second = file();
    let done =
        finish(&mut embedded(&room, &["--health-url", &url, "--attempts", "3", "--delay", "600ms", "-v"]));
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    let told = one(&done);
    assert_eq!((done.status, told["outcome"].as_str()), (69, Some("unhealthy")), "{done:?}");
    assert!(
        file() == second && told["rejected"] == serde_json::json!([]) && !done.stderr.contains("kicking it"),
        "{done:?}"
    );
    assert!(told["reason"].as_str().unwrap().ends_with("give --any-process"), "{done:?}");
}
