//! baa-healthwait through a proxy: only one that was asked for, with its login and with what is asked of it
//! for HTTP and for what is encrypted, and with nothing that it says taken for the word of the target.

use crate::support::{Done, Room, finish, needs, port};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

fn wait(room: &Room, words: &[&str]) -> Done {
    room.run("baa-healthwait", [&["--attempts", "1"], words].concat())
}

/// A head, byte by byte: what follows it is for another.
fn head(stream: &mut TcpStream) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0; 1]);
    while !seen.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A proxy that sends every CONNECT on to `to`, and answers all else itself; tells the heads.
fn proxy(to: u16, answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let asked = head(&mut stream);
            let tunnel = asked.starts_with("CONNECT ") && answer.is_empty();
            if sender.send(asked).is_err() {
                return;
            }
            if !tunnel {
                let _ = stream.write_all(answer.as_bytes());
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            for (mut from, mut into) in
                [(stream.try_clone().unwrap(), server.try_clone().unwrap()), (server, stream)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready";

#[apply(test)]
fn http_is_asked_of_the_proxy_by_a_whole_url() {
    let room = Room::new();
    let (address, heads) = proxy(0, OK);
    let proxy = format!("http://me:hunter2@{address}");
    let words = ["-v", "--proxy", &proxy, "--body-contains", "ready", "http://db.invalid:81/x?q"];
    let done = wait(&room, &words);
    assert!(done.status == 0 && !done.stderr.contains("hunter2"), "{done:?}");
    let asked = heads.recv().unwrap();
    assert!(asked.starts_with("GET http://db.invalid:81/x?q HTTP/1.1\r\n"), "{asked}");
    let asked = asked.to_lowercase();
    assert!(asked.contains("\r\nhost: db.invalid:81\r\n"), "{asked}");
    assert!(asked.contains("\r\nproxy-authorization: basic bwu6ahvudgvymg==\r\n"), "{asked}");
    // The login of the proxy is nobody's else, and that of the target goes there alone.
    assert!(!asked.contains("\r\nauthorization:"), "{asked}");
    let done = wait(&room, &["--proxy", &address, "http://u:p@db.invalid/"]);
    done.expect(0, "", "");
    let asked = heads.recv().unwrap().to_lowercase();
    assert!(asked.contains("\r\nauthorization: basic dtpw\r\n") && !asked.contains("proxy-auth"), "{asked}");
}

#[apply(test)]
fn what_is_encrypted_goes_through_a_tunnel() {
    let room = Room::new();
    needs("openssl");
    let key = rcgen::generate_simple_self_signed(vec!["db.invalid".to_owned()]).unwrap();
    room.write("cert.pem", &key.cert.pem());
    room.write("key.pem", &key.signing_key.serialize_pem());
    let port = port();
    let listen = format!("127.0.0.1:{port}");
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &listen])
        .args(["-cert", &room.text("cert.pem"), "-key", &room.text("key.pem")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    room.run("baa-healthwait", [&listen]).expect(0, "", "");
    let (address, heads) = proxy(port, "");
    let proxy = format!("http://me:hunter2@{address}");
    let cert = room.text("cert.pem");
    wait(&room, &["--proxy", &proxy, "--cacert", &cert, "https://db.invalid/x"]).expect(0, "", "");
    let asked = heads.recv().unwrap();
    assert!(asked.starts_with("CONNECT db.invalid:443 HTTP/1.1\r\nHost: db.invalid:443\r\n"), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n"), "{asked}");
    // The certificate is that of the target.
    let done = wait(&room, &["--proxy", &proxy, "--cacert", &cert, "https://other.invalid/"]);
    done.failed_with(124, "tls: the certificate is not for 'other.invalid'");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[apply(test)]
fn what_the_proxy_says_is_not_the_word_of_the_target() {
    let room = Room::new();
    for (answer, why) in [
        ("HTTP/1.1 407 No\r\n\r\n", "the proxy answered 407 and makes no way there"),
        ("SSH-2.0-x\r\n\r\n", "the proxy: the answer is not HTTP"),
        ("HTTP/1.1", "the proxy closed the connection without an answer"),
    ] {
        let (address, _heads) = proxy(0, answer);
        wait(&room, &["--proxy", &address, "https://db.invalid/"]).failed_with(124, why);
    }
    // That it is not there does not say that the target is down.
    let nobody = format!("127.0.0.1:{}", port());
    for url in ["http://db.invalid/", "https://db.invalid/"] {
        let done = wait(&room, &["--invert", "--json", "--proxy", &nobody, url]);
        let json = done.json();
        assert_eq!((done.status, &json["targets"][0]["last_error"]["class"]), (124, &"unreachable".into()));
        wait(&room, &["--proxy", &nobody, url]).failed_with(124, "the proxy: cannot connect to");
    }
}

#[apply(test)]
fn no_proxy_is_taken_that_was_not_asked_for() {
    let room = Room::new();
    let (one, nobody) = (port(), format!("http://127.0.0.1:{}", port()));
    let _service = room.service(&format!("127.0.0.1:{one}"), &[]);
    let mut command = room.command("baa-healthwait");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &nobody);
    }
    finish(command.args(["--attempts", "1", &format!("http://127.0.0.1:{one}/")])).expect(0, "", "");
    for (proxy, why) in [
        ("socks5://127.0.0.1:1", "by http://, and by nothing else"),
        ("https://127.0.0.1:1", "by http://, and by nothing else"),
        ("http://127.0.0.1", "the port of the proxy is missing"),
        ("http://127.0.0.1:1/x", "is not a port"),
    ] {
        wait(&room, &["--proxy", proxy, "http://h/"]).failed_with(2, why);
    }
    wait(&room, &["--proxy", &nobody, "--served-by", "1", "http://h/"]).failed_with(2, "cannot be used with");
}

/// A redirect to another origin gets neither header fields nor the body.
#[apply(test)]
fn data_does_not_follow_to_another_origin() {
    let room = Room::new();
    let (one, other) = (port(), port());
    let _other = room.service(&format!("127.0.0.1:{other}"), &["--count", &room.text("other")]);
    let to = format!("http://127.0.0.1:{other}/");
    let _one = room.service(&format!("127.0.0.1:{one}"), &["--status", "307", "--redirect", &to]);
    let url = format!("http://127.0.0.1:{one}/");
    wait(&room, &["--data", "hunter2", &url]).failed_with(124, "redirected to another origin");
    assert!(!room.path("other").exists());
    wait(&room, &[&url]).expect(0, "", "");
}
