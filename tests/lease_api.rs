//! baa-lease against a control API: the seed's protocol, and servers that lie, stall and talk nonsense.

use crate::support::{Done, Room, finish, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// A server that gives the same answers in turn, the last one for ever, and keeps what it was asked. ECHO is
/// the name of who asks.
struct Server {
    base: String,
    asked: Arc<Mutex<Vec<(String, String, Value)>>>,
}

impl Server {
    fn new(answers: &[&str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers): (_, Vec<String>) =
            (Arc::clone(&asked), answers.iter().map(|answer| (*answer).to_owned()).collect());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if lines.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                lines.read_exact(&mut body).unwrap();
                let first = head.lines().next().unwrap_or_default().to_owned();
                let said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let answer = &answers[number.min(answers.len() - 1)]
                    .replace("ECHO", said["controller_id"].as_str().unwrap_or_default());
                kept.lock().unwrap().push((first, head, said));
                match answer.as_str() {
                    "STALL" => std::mem::forget(stream),
                    "HUGE" => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
                        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
                    }
                    answer => {
                        let (status, body) = answer.split_once(' ').unwrap();
                        let text = format!(
                            "HTTP/1.1 {status} Word\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = stream.write_all(text.as_bytes());
                    }
                }
            }
        });
        Server { base, asked }
    }

    fn asked(&self) -> Vec<(String, String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

fn lease(room: &Room, server: &Server, arguments: &[&str]) -> Done {
    let mut command = room.command("baa-lease");
    command
        .args(&arguments[..1])
        .args(["--control-api-base", &server.base, "-q"])
        .args(&arguments[1..])
        .env("BAA_SHARED_TOKEN", "secret-token");
    finish(&mut command)
}

const ENVELOPE: &str = concat!(
    r#"200 {"ok":true,"request_id":"req-1","data":{"holder_id":"mini-main","holder_host":"mini","#,
    r#""term":3,"lease_expires_at":130,"renewed_at":100,"is_leader":true,"operation":"renew","#,
    r#""lease":{"lease_name":"global"}}}"#
);

/// The seed's own test: envelopes are unwrapped, the bearer is sent, snake case goes out.
#[apply(test)]
fn an_envelope_is_unwrapped_and_the_bearer_sent() {
    let room = Room::new();
    let server = Server::new(&[ENVELOPE]);
    let done = lease(&room, &server, &["acquire", "--node-id", "mini-main", "--host", "mini", "--json"]);
    done.expect(
        0,
        "{\"schema\":\"baa.lease/1\",\"lease\":\"global\",\"operation\":\"renew\",\"term\":3,\
         \"is_leader\":true}\n",
        "",
    );
    let (first, head, body) = server.asked().remove(0);
    assert_eq!(first, "POST /v1/leader/acquire HTTP/1.1");
    assert!(
        head.contains("\r\nAuthorization: Bearer secret-token\r\n")
            && head.contains("\r\nContent-Type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(
        (&body["controller_id"], &body["host"], &body["ttl_sec"], &body["preferred"]),
        (&"mini-main".into(), &"mini".into(), &30.into(), &false.into())
    );
    assert!(body["now"].as_u64().unwrap() > 1_700_000_000);
}

#[apply(test)]
fn a_bare_object_in_camel_case_will_do_and_who_leads_is_worked_out() {
    let room = Room::new();
    let ours = r#"200 {"holderId":"localhost-main","term":7,"leaseExpiresAt":1}"#;
    lease(&room, &Server::new(&[ours]), &["acquire"]).expect(0, "7\n", "");
    let other = r#"200 {"holderId":"mini","term":7,"leaseExpiresAt":1}"#;
    lease(&room, &Server::new(&[other]), &["acquire"]).expect(
        75,
        "",
        "baa-lease: mini has global under term 7\n",
    );
}

#[apply(test)]
fn what_a_server_says_wrong_is_named_with_status_and_path() {
    let room = Room::new();
    let cases = [
        (
            r#"500 {"ok":false,"request_id":"r","error":"internal","message":"boom"}"#,
            69,
            "Control API 500 /v1/leader/acquire: internal: boom",
        ),
        (
            r#"200 {"ok":false,"request_id":"r","error":"busy","message":"later"}"#,
            69,
            "Control API /v1/leader/acquire: busy: later",
        ),
        (
            r#"401 {"ok":false,"request_id":"r","error":"unauthorized","message":"bad token secret-token"}"#,
            77,
            "unauthorized: bad token ***",
        ),
        (
            "502 <html>bad gateway</html>",
            69,
            "Control API 502 /v1/leader/acquire: Control API returned invalid JSON for /v1/leader/acquire",
        ),
        ("200 <html>hello</html>", 65, "Control API returned invalid JSON for /v1/leader/acquire"),
        (r#"200 {"ok":true,"data"#, 65, "invalid JSON"),
        ("200 ", 65, "returned a non-object payload"),
        ("200 [1]", 65, "returned a non-object payload"),
        (r#"200 {"term":1}"#, 65, "response is missing lease identity fields"),
        (r#"200 {"holder_id":7,"term":"x","lease_expires_at":1}"#, 65, "missing lease identity fields"),
        (r#"200 {"holder_id":"a","term":-1,"lease_expires_at":1}"#, 65, "missing lease identity fields"),
        (
            r#"200 {"holder_id":"a","term":1,"lease_expires_at":1,"is_leader":true}"#,
            65,
            "says that a leads and that we do",
        ),
        ("302 {}", 69, "Control API 302 /v1/leader/acquire"),
        ("STALL", 69, "waiting for the answer"),
        ("HUGE", 65, "invalid JSON"),
    ];
    for (answer, status, words) in cases {
        let done = lease(&room, &Server::new(&[answer]), &["acquire", "--lease-ttl-sec", "4"]);
        done.failed_with(status, words);
        assert!(!done.stderr.contains("secret-token"), "{done:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    room.run("baa-lease", ["acquire", "-q", "--store", &format!("http://{nobody}")])
        .failed_with(69, "connection refused");
}

#[apply(test)]
fn a_term_that_goes_back_is_lost_and_told() {
    let room = Room::new();
    let at = |term: u32| format!(r#"200 {{"holder_id":"ECHO","term":{term},"lease_expires_at":1}}"#);
    let server = Server::new(&[&at(5), &at(4)]);
    let done = lease(&room, &server, &["hold", "--lease-ttl-sec", "1", "--", "sleep", "1000"]);
    assert_eq!(done.status, 76, "{done:?}");
    assert!(
        done.stderr.contains("went back from term 5 to 4: refused")
            && done.stderr.contains("could not be renewed in time"),
        "{done:?}"
    );
    // A higher one means that ours has run out in between.
    let server = Server::new(&[&at(5), &at(6)]);
    lease(&room, &server, &["hold", "--lease-ttl-sec", "1", "--", "sleep", "1000"])
        .failed_with(76, "lost global under term 5: another has it");
}

/// To such a server a holder is its name; two processes of one name must not both lead.
#[apply(test)]
fn two_holds_of_one_name_are_two_to_the_server() {
    let room = Room::new();
    let server = Server::new(&[r#"200 {"holder_id":"ECHO","term":5,"lease_expires_at":1}"#]);
    for _ in 0..2 {
        assert_eq!(lease(&room, &server, &["hold", "--node-id", "mini", "--", "true"]).status, 0);
    }
    let asked = server.asked();
    let names: Vec<&str> = asked.iter().map(|one| one.2["controller_id"].as_str().unwrap()).collect();
    assert!(
        names.iter().all(|name| name.starts_with("mini+"))
            && names[0] == names[1]
            && names[2] == names[3]
            && names[0] != names[2],
        "{names:?}"
    );
}

#[apply(test)]
fn a_server_that_comes_back_in_time_costs_nothing() {
    let room = Room::new();
    let ours = r#"200 {"holder_id":"ECHO","term":5,"lease_expires_at":1}"#;
    let server = Server::new(&[ours, "500 oops", "500 oops", ours]);
    let script = "until [ -e go ]; do sleep 0.01; done; exit 4";
    let mut command = room.command("baa-lease");
    command.args([
        "hold",
        "--store",
        &server.base,
        "--lease-ttl-sec",
        "3",
        "--lease-renew-interval-ms",
        "100",
        "--",
        "/bin/sh",
        "-c",
        script,
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it was renewed after failures", || server.asked().len() >= 5);
    room.write("go", "");
    let done = crate::support::collect(child);
    assert!(done.status == 4 && done.stderr.contains("cannot renew, "), "{done:?}");
    let last = server.asked().pop().unwrap();
    assert_eq!((last.0.as_str(), &last.2["term"]), ("POST /v1/leader/release HTTP/1.1", &5.into()));
}

#[apply(test)]
fn a_token_is_read_from_a_file_and_shown_nowhere() {
    let room = Room::new();
    let server = Server::new(&[ENVELOPE]);
    room.secret("token", "file-token\n");
    let mut command = room.command("baa-lease");
    command.args([
        "acquire",
        "--store",
        &server.base,
        "--token-file",
        "token",
        "--node-id",
        "mini-main",
        "-v",
    ]);
    finish(&mut command).expect(0, "3\n", "");
    assert!(server.asked()[0].1.contains("Authorization: Bearer file-token\r\n"));
    let mut help = room.command("baa-lease");
    let help = finish(help.args(["hold", "--help"]).env("BAA_SHARED_TOKEN", "secret-token"));
    assert!(!help.stdout.contains("secret-token"), "{help:?}");
    room.run("baa-lease", ["acquire", "--store", &server.base, "--token-file", "none"])
        .failed_with(66, "cannot read the token");
    for (token, warning) in [
        (None, "BAA_SHARED_TOKEN is not configured"),
        (Some("replace-me"), "BAA_SHARED_TOKEN is still set to replace-me"),
    ] {
        let mut command = room.command("baa-lease");
        command
            .args(["acquire", "--store", &server.base, "--node-id", "mini-main"])
            .envs(token.map(|token| ("BAA_SHARED_TOKEN", token)));
        let done = finish(&mut command);
        assert!(done.status == 0 && done.stderr.contains(warning), "{done:?}");
    }
}
