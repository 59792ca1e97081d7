//! baa-control: the seed's words, who is let in, what is refused, and what is never forgotten.

use crate::support::control::Control;
use crate::support::{Done, Room, collect, finish, needs, signal, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

fn body(holder: &str) -> String {
    json!({ "controller_id": holder, "host": "mini", "ttl_sec": 30, "preferred": true, "now": 100 })
        .to_string()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[apply(test)]
fn the_seeds_words_are_spoken() {
    let room = Room::new();
    let control = Control::new(&room);
    let (status, said) = control.post("/v1/leader/acquire", &body("mini-main"));
    assert_eq!((status, keys(&said)), (200, vec!["ok", "request_id", "data"]), "{said}");
    let data = &said["data"];
    assert_eq!(
        (&data["holder_id"], &data["holder_host"], &data["term"]),
        (&json!("mini-main"), &json!("mini"), &json!(1))
    );
    assert_eq!((&data["is_leader"], &data["operation"]), (&json!(true), &json!("acquire")));
    assert_eq!(
        (&data["lease"]["lease_name"], &data["lease"]["preferred_holder_id"]),
        (&json!("global"), &json!("mini-main"))
    );
    // The client's `now` of 1970 is not looked at.
    assert!(
        data["lease_expires_at"].as_u64().unwrap() > 1_700_000_000
            && data["renewed_at"].as_u64().unwrap() > 1_700_000_000
    );
    let (_, said) = control.post(
        "/v1/leader/acquire",
        r#"{"controllerId":"mini-main","host":"mini","ttlSec":30,"now":99999999999}"#,
    );
    assert_eq!((&said["data"]["operation"], &said["data"]["term"]), (&json!("renew"), &json!(1)));
    assert!(said["data"]["left_ms"].as_u64().unwrap() <= 30_000);
    let (status, said) = control.post("/v1/leader/acquire", &body("other"));
    assert_eq!(
        (status, &said["data"]["is_leader"], &said["data"]["holder_id"]),
        (200, &json!(false), &json!("mini-main"))
    );
    let beat = r#"{"controller_id":"mini-main","host":"mini","role":"primary","priority":100,
        "status":"leader","version":"1","heartbeat_at":5,"started_at":4}"#;
    assert_eq!(control.post("/v1/controllers/heartbeat", beat).0, 200);
    let all: Value = serde_json::from_str(&control.get("/v1/controllers", "").2).unwrap();
    let one = &all["data"]["controllers"][0];
    assert_eq!(
        (&one["controller_id"], &one["priority"], &one["status"], &one["heartbeat_at"]),
        (&json!("mini-main"), &json!(100), &json!("leader"), &json!(5))
    );
    let leader: Value = serde_json::from_str(&control.get("/v1/leader", "").2).unwrap();
    assert_eq!((&leader["data"]["holder_id"], &leader["data"]["term"]), (&json!("mini-main"), &json!(1)));
    let (status, said) = control.post("/v1/leader/release", r#"{"controller_id":"mini-main","term":1}"#);
    assert_eq!((status, &said["data"]["released"]), (200, &json!(true)));
    let leader: Value = serde_json::from_str(&control.get("/v1/leader", "").2).unwrap();
    assert_eq!((&leader["data"]["holder_id"], &leader["data"]["term"]), (&Value::Null, &json!(1)));
    let (_, head, text) = control.get("/v1/leader", "X-Request-Id: mine-1\r\n");
    assert!(head.contains("x-request-id: mine-1") && text.contains("\"request_id\":\"mine-1\""), "{head}");
    let (_, head, _) = control.get("/v1/leader", "X-Request-Id: a b\"\r\n");
    assert!(!head.contains("a b"), "{head}");
    assert_eq!((control.get("/healthz", "").2.as_str(), control.get("/readyz", "").0), ("ok\n", 200));
    let metrics = control.get("/metrics", "").2;
    for line in [
        "baa_lease_term{lease=\"global\"} 1",
        "baa_lease_held{lease=\"global\"} 0",
        "baa_control_controllers 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
    }
    assert_eq!(control.stop().status, 0);
}

#[apply(test)]
fn a_token_opens_and_is_shown_nowhere() {
    let room = Room::new();
    room.secret("tokens", "secret-token\n");
    let control = Control::start(&room, "127.0.0.1:0", &["--token-file", "tokens"]);
    let with = |token: &str| control.get("/v1/leader", &format!("Authorization: Bearer {token}\r\n")).0;
    assert_eq!(
        (with("secret-token"), with("secret-toke"), with(""), control.get("/v1/leader", "").0),
        (200, 401, 401, 401)
    );
    for open in ["/healthz", "/readyz"] {
        assert_eq!(control.get(open, "").0, 200);
    }
    for shut in ["/", "/metrics", "/v1/controllers", "/nothing"] {
        assert_eq!(control.get(shut, "").0, 401, "{shut}");
    }
    // A browser asks its user for the password.
    assert!(control.get("/", "").1.contains("www-authenticate: Basic"));
    assert_eq!(control.get("/", "Authorization: Basic eDpzZWNyZXQtdG9rZW4=\r\n").0, 200);
    let lease = |token: &str| {
        let mut command = room.command("baa-lease");
        finish(command.args(["acquire", "--store", &control.base()]).env("BAA_SHARED_TOKEN", token))
    };
    lease("secret-token").expect(0, "1\n", "");
    lease("wrong")
        .failed_with(77, "Control API 401 /v1/leader/acquire: unauthorized: a valid token is needed");
    room.secret("tokens", "new-token\n");
    signal(control.child.id(), Signal::SIGHUP);
    until("the new token is read", || with("new-token") == 200);
    assert_eq!(with("secret-token"), 401);
    std::fs::remove_file(room.path("tokens")).unwrap();
    signal(control.child.id(), Signal::SIGHUP);
    until("it says that the old one stays", || control.log().contains("the old tokens stay"));
    assert_eq!(with("new-token"), 200);
    assert!(
        !control.log().contains("secret-token") && !control.log().contains("new-token"),
        "{}",
        control.log()
    );
}

#[apply(test)]
fn it_does_not_start_where_it_should_not() {
    let room = Room::new();
    let control = |arguments: &[&str]| room.run("baa-control", arguments);
    control(&["--listen", "0.0.0.0:0"]).failed_with(78, "not loopback, without --token-file");
    control(&["--listen", "nonsense"]).failed_with(2, "cannot listen on 'nonsense'");
    control(&["--token-file", "none"]).failed_with(66, "cannot read the tokens");
    room.secret("empty", " \n");
    control(&["--token-file", "empty"]).failed_with(78, "there is no token");
    control(&["--store", "http://x"]).failed_with(2, "is no store");
    room.write("text", &"no database ".repeat(1000));
    control(&["--listen", "127.0.0.1:0", "--store", "sqlite:text"]).failed_with(65, "not a database");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _listener = std::net::TcpListener::bind(taken).unwrap();
    control(&["--listen", &taken.to_string()]).failed_with(74, "cannot listen");
    control(&["backup", "--store", "sqlite:none", "copy"]).failed_with(66, "there is no store");
}

#[apply(test)]
fn bad_requests_are_named_and_harm_nobody() {
    let room = Room::new();
    let control = Control::new(&room);
    let refused = |body: &str, status: u16, words: &str| {
        let (found, said) = control.post("/v1/leader/acquire", body);
        assert!(
            found == status && said["ok"] == false && said["message"].as_str().unwrap().contains(words),
            "{body}: {found} {said}"
        );
    };
    refused("", 400, "not JSON");
    refused("<html>", 400, "not JSON");
    refused(r#"{"controller_id":"a""#, 400, "not JSON");
    refused("[]", 400, "must be a JSON object");
    refused(r#"{"controller_id":["a"]}"#, 400, "must be a string");
    refused(r#"{"controller_id":"a","ttl_sec":0}"#, 400, "ttl_sec must be an integer from 1 to 86400");
    refused(r#"{"controller_id":"a","ttl_sec":-1}"#, 400, "ttl_sec");
    refused(r#"{"controller_id":"a","ttl_sec":1e300}"#, 400, "ttl_sec");
    refused(
        &format!(r#"{{"controller_id":"a","metadata_json":"{}"}}"#, "x".repeat(5000)),
        400,
        "metadata_json may have",
    );
    refused(&"x".repeat(70_000), 413, "65536");
    assert_eq!(
        control.post("/v1/leader/release", r#"{"controller_id":"a"}"#).1["message"],
        "term is missing"
    );
    // A page of a browser elsewhere: it may send text, and a name that points here.
    let host = &control.address;
    let form = format!(
        "POST /v1/leader/acquire HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: 21\r\n\r\n{{\"controller_id\":\"a\"}}"
    );
    assert_eq!(control.raw(&form).0, 415);
    assert_eq!(
        control.raw("GET /v1/leader HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").0,
        403
    );
    assert_eq!(control.raw("GET /v1/leader HTTP/1.1\r\nConnection: close\r\n\r\n").0, 403);
    assert_eq!(
        control.raw(&format!("DELETE /v1/leader HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).0,
        405
    );
    assert_eq!(control.get("/v1/leader?lease_name=..%2fx", "").0, 400);
    assert_eq!(control.get("/v1/leader/", "").0, 404);
    assert_eq!(control.raw("nonsense\r\n\r\n").0, 400);
    assert_eq!(control.get("/", &format!("X: {}\r\n", "y".repeat(100_000))).0, 431);
    // Those who break off, or send nothing.
    for text in [
        "",
        "GET",
        "POST /v1/leader/acquire HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: 9\r\n\r\n{",
    ] {
        TcpStream::connect(host).unwrap().write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(control.post("/v1/leader/acquire", &body("a")).1["data"]["term"], 1);
}

/// The place of the oldest that has said nothing is given to who comes.
#[apply(test)]
fn who_says_nothing_keeps_nobody_out() {
    let room = Room::new();
    let control = Control::start(&room, "127.0.0.1:0", &["--max-connections", "2"]);
    let mut silent = [(); 2].map(|()| {
        let stream = TcpStream::connect(&control.address).unwrap();
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        stream
    });
    let mut third = TcpStream::connect(&control.address).unwrap();
    third
        .write_all(
            format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", control.address)
                .as_bytes(),
        )
        .unwrap();
    third.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(silent[0].read(&mut [0u8; 1]).unwrap(), 0);
}

/// A waiting claim is answered by the release itself; one that nobody releases for, when its time is over.
#[apply(test)]
fn a_claim_waits_for_the_release() {
    let room = Room::new();
    let control = Control::new(&room);
    assert_eq!(control.post("/v1/leader/acquire", &body("a")).1["data"]["term"], 1);
    let waiting = |ms: u32| json!({ "controller_id": "b", "wait_ms": ms }).to_string();
    let (_, said) = control.post("/v1/leader/acquire", &waiting(10));
    assert_eq!(said["data"]["is_leader"], false);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| control.post("/v1/leader/acquire", &waiting(10_000)));
        until("it waits", || {
            control.get("/metrics", "").2.lines().any(|line| line == "baa_control_connections 2")
        });
        assert_eq!(
            control.post("/v1/leader/release", r#"{"controller_id":"a","term":1}"#).1["data"]["released"],
            true
        );
        let (_, said) = waits.join().unwrap();
        assert_eq!((&said["data"]["is_leader"], &said["data"]["term"]), (&json!(true), &json!(2)));
    });
}

/// What is acknowledged is on the disk: the server is killed at once after its answer, over and over.
#[apply(test)]
fn a_killed_server_forgets_nothing() {
    let room = Room::new();
    let mut control = Control::new(&room);
    let address = control.address.clone();
    for term in 1..=8 {
        let holder = format!("h{term}");
        assert_eq!(control.post("/v1/leader/acquire", &body(&holder)).1["data"]["term"], term);
        control.kill();
        control = Control::start(&room, &address, &[]);
        assert_eq!(control.post("/v1/leader/acquire", &body("thief")).1["data"]["holder_id"], json!(holder));
        let give = json!({ "controller_id": holder, "term": term }).to_string();
        assert_eq!(control.post("/v1/leader/release", &give).1["data"]["released"], true);
        control.kill();
        control = Control::start(&room, &address, &[]);
    }
}

#[apply(test)]
fn it_stops_without_cutting_anybody_off() {
    let room = Room::new();
    let control = Control::new(&room);
    control.post("/v1/leader/acquire", &body("a"));
    let address = control.address.clone();
    let mut waits = TcpStream::connect(&address).unwrap();
    let body = json!({ "controller_id": "b", "wait_ms": 1000 }).to_string();
    waits
        .write_all(
            format!(
                "POST /v1/leader/acquire HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .unwrap();
    until("it waits", || {
        control.get("/metrics", "").2.lines().any(|line| line == "baa_control_connections 2")
    });
    assert_eq!(control.stop().status, 0);
    let mut answer = String::new();
    waits.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"is_leader\":false"), "{answer}");
    assert!(TcpStream::connect(&address).is_err());
}

#[apply(test)]
fn a_copy_of_a_store_in_use_never_gives_a_term_twice() {
    let room = Room::new();
    let control = Control::new(&room);
    control.post("/v1/leader/acquire", &body("a"));
    room.run("baa-control", ["backup", "copy"]).expect(0, "", "");
    room.run("baa-control", ["backup", "copy"]).failed_with(75, "it is there");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(room.path("copy")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    room.run("baa-lease", ["acquire", "--store", "sqlite:copy"]).expect(0, "1000002\n", "");
    assert_eq!(control.post("/v1/leader/acquire", &body("a")).1["data"]["term"], 1);
}

/// A closed or full log is no reason not to serve.
#[apply(test)]
fn a_log_that_nobody_reads_stops_nothing() {
    let room = Room::new();
    let mut command = room.command("baa-control");
    let address = format!(
        "127.0.0.1:{}",
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    );
    let child = command
        .args(["--listen", &address])
        .stdout(Stdio::null())
        .stderr(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .spawn()
        .unwrap();
    until("it listens", || TcpStream::connect(&address).is_ok());
    let done: Done = room.run("baa-lease", ["acquire", "-q", "--store", &format!("http://{address}")]);
    done.expect(0, "1\n", "");
    signal(child.id(), Signal::SIGINT);
    assert_eq!(collect(child).status, 0);
}

/// Read by somebody who may not write it, a store is refused and left as it is.
#[apply(test)]
fn a_read_only_store_is_refused() {
    let room = Room::new();
    room.run("baa-lease", ["acquire", "--store", "sqlite:store"]).expect(0, "1\n", "");
    let before = std::fs::read(room.path("store")).unwrap();
    std::fs::set_permissions(room.path("store"), std::os::unix::fs::PermissionsExt::from_mode(0o444))
        .unwrap();
    let mut command = room.command("baa-lease");
    let done = if nix::unistd::geteuid().is_root() {
        needs("setpriv");
        let mut other = std::process::Command::new("setpriv");
        // A copy, for the checkout may lie where others may not go.
        crate::support::copy_program(Path::new(command.get_program()), &room.path("baa-lease"));
        other.args(["--reuid=65534", "--clear-groups", "--"]).arg(room.path("baa-lease")).args([
            "acquire",
            "--store",
            &format!("sqlite:{}", room.text("store")),
        ]);
        std::fs::set_permissions(room.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        finish(&mut other)
    } else {
        finish(command.args(["acquire", "--store", "sqlite:store"]))
    };
    done.failed_with(77, "cannot use the store");
    assert_eq!(std::fs::read(room.path("store")).unwrap(), before);
}
