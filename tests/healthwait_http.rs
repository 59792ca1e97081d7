//! baa-healthwait speaks HTTP as its servers expect: what it sends, when it has heard enough, how it parts.

use crate::support::{Done, Room};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Serves each connection with one answer to one request, and tells what it was asked.
struct Server {
    address: SocketAddr,
    asked: Receiver<String>,
}

impl Server {
    /// `answer` is given the line of the request.
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, asked) = channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let request = request(&mut stream);
                let line = request.lines().next().unwrap_or_default().to_owned();
                let _ = told.send(request);
                let _ = stream.write_all(answer(&line).as_bytes());
            }
        });
        Server { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn lines(&self) -> Vec<String> {
        self.asked.try_iter().map(|asked| asked.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

/// The head of a request.
fn request(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        request.push(byte[0]);
    }
    String::from_utf8_lossy(&request).into_owned()
}

fn once(room: &Room, arguments: &[&str]) -> Done {
    room.run("baa-healthwait", ["--attempts", "1"].iter().chain(arguments))
}

const NOTHING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[apply(test)]
fn a_field_that_is_given_is_sent_once() {
    let room = Room::new();
    let server = Server::start(|_| NOTHING.to_owned());
    let fields =
        ["host: other.example", "content-LENGTH: 7", "user-agent: me", "ACCEPT: text/x", "X-A: 1", "x-a: 2"];
    let mut arguments = vec!["--method", "POST"];
    fields.iter().for_each(|field| arguments.extend(["-H", field]));
    let url = server.url("/\"<`>?\"<`>");
    arguments.push(&url);
    once(&room, &arguments).expect(0, "", "");
    let asked = server.asked.recv().unwrap();
    let count = |name: &str| asked.to_lowercase().matches(&format!("\n{name}:")).count();
    let counts = ["host", "content-length", "user-agent", "accept", "accept-encoding", "x-a"].map(count);
    assert_eq!(counts, [1, 1, 1, 1, 0, 2], "{asked}");
    // The length is that of what is sent, or the server would wait for the rest.
    assert!(asked.contains("host: other.example\r\n") && asked.contains("Content-Length: 0\r\n"), "{asked}");
    assert!(asked.starts_with("POST /%22%3C%60%3E?%22%3C%60%3E HTTP/1.1\r\n"), "{asked}");
    once(&room, &[&server.url("/x?y")]).expect(0, "", "");
    let usual = format!(
        "GET /x?y HTTP/1.1\r\nHost: {}\r\nUser-Agent: baa/{}\r\nAccept: */*\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.asked.recv().unwrap(), usual);
}

#[apply(test)]
fn a_url_within_a_url_is_no_socket() {
    let room = Room::new();
    let socket = room.text("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = request(&mut stream);
        stream.write_all(NOTHING.as_bytes()).unwrap();
        asked
    });
    once(&room, &[&format!("http+unix://{socket}:/proxy?u=http://h/p")]).expect(0, "", "");
    assert!(asked.join().unwrap().starts_with("GET /proxy?u=http://h/p HTTP/1.1\r\nHost: localhost\r\n"));
}

/// A stream never ends, so whoever waits for its end waits in vain.
#[apply(test)]
fn a_stream_is_heard_until_its_text_has_come() {
    let room = Room::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n4\r\nup\n\n\r\n");
    for answer in
        [chunked, format!("{head}\r\ndata: up\n\n"), format!("{head}Content-Length: 99\r\n\r\ndata: up\n\n")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let answer = answer.clone();
                std::thread::spawn(move || {
                    request(&mut stream);
                    // In pieces, as it happens.
                    for piece in answer.as_bytes().chunks(7) {
                        stream.write_all(piece).unwrap();
                    }
                    while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
                });
            }
        });
        once(&room, &["--body-contains", "data: up", "--body-contains", "ta", &url]).expect(0, "", "");
        let late = once(&room, &["--probe-timeout", "300ms", "--body-contains", "down", &url]);
        late.failed_with(124, "no answer in time (waiting for the rest of the answer)");
        // Who is wrong from the beginning is not heard to the end.
        once(&room, &["--status", "404", "--body-contains", "down", &url]).failed_with(124, "answered 200");
    }
}

/// A server whose client hangs up in the midst of its answer calls it a broken pipe.
#[apply(test)]
fn a_server_can_say_all_that_it_has_to_say() {
    let room = Room::new();
    for (size, chunked) in [(20, false), (20, true), (60_000, true), (300_000, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            request(&mut stream);
            let (length, before, after) = if chunked {
                ("Transfer-Encoding: chunked".to_owned(), format!("{size:x}\r\n"), "\r\n0\r\nX: y\r\n\r\n")
            } else {
                (format!("Content-Length: {size}"), String::new(), "")
            };
            // All of it lies in the kernel's hands at once, so that no scheduler decides what comes.
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::SndBuf, &(1 << 20))?;
            let answer = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n{before}{}{after}", "x".repeat(size));
            stream.write_all(answer.as_bytes())?;
            stream.read(&mut [0; 64])
        });
        once(&room, &[&url]).expect(0, "", "");
        assert_eq!(server.join().unwrap().map_err(|cause| cause.to_string()), Ok(0), "{size} {chunked}");
    }
}

#[apply(test)]
fn a_redirect_says_what_is_asked_next() {
    let room = Room::new();
    let server = Server::start(|line| match line.split('/').nth(1).and_then(|path| path.get(..3)) {
        Some("end") => NOTHING.to_owned(),
        Some(status) => format!("HTTP/1.1 {status} x\r\nLocation: ./end\r\nContent-Length: 0\r\n\r\n"),
        None => String::new(),
    });
    for (status, method, then) in [
        ("303", "POST", "GET"),
        ("303", "PUT", "GET"),
        ("303", "HEAD", "HEAD"),
        ("302", "POST", "GET"),
        ("301", "POST", "GET"),
        ("302", "PUT", "PUT"),
        ("307", "POST", "POST"),
        ("308", "POST", "POST"),
        ("307", "HEAD", "HEAD"),
    ] {
        once(&room, &["--method", method, "--status", "200", &server.url(&format!("/{status}"))])
            .expect(0, "", "");
        assert_eq!(server.lines(), [format!("{method} /{status} HTTP/1.1"), format!("{then} /end HTTP/1.1")]);
    }
}

#[apply(test)]
fn what_is_packed_is_left_so_and_said_to_be() {
    let room = Room::new();
    let server = Server::start(|_| {
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nready".to_owned()
    });
    once(&room, &["--body-contains", "ready", &server.url("/")]).expect(0, "", "");
    once(&room, &["--body-contains", "up", &server.url("/")])
        .failed_with(124, "the body does not contain 'up' (it is sent as gzip, and left so)");
}
