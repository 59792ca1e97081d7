//! baa-healthwait and servers that mean it no good: each is refused for what it does, and costs no memory.

use crate::support::{Room, collect};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does with a connection on which it has been asked.
enum Deed {
    /// It says this and ends.
    Says(Vec<u8>),
    /// It says the first, and then the second for ever.
    Goes(Vec<u8>, Vec<u8>),
    /// It says this byte by byte, and for ever.
    Drips(Vec<u8>),
    /// It says this, and then nothing.
    Stalls(Vec<u8>),
    /// It breaks off with a reset.
    Resets,
}

/// One of them: its name, what it does, what else it is asked with, and the kinds of failure that may come.
struct Hostile(&'static str, Deed, &'static [&'static str], &'static [&'static str]);

fn says(text: &str) -> Deed {
    Deed::Says(text.as_bytes().to_vec())
}

fn goes(text: &str, on: &str) -> Deed {
    // In large pieces: the faster it comes, the more of it is kept where it is kept at all.
    Deed::Goes(text.as_bytes().to_vec(), on.repeat((16 << 10) / on.len() + 1).into_bytes())
}

const BODY: &[&str] = &["--body-contains", "never said"];
const JSON: &[&str] = &["--json-path", "/9999999=1"];
const TLS: &[&str] = &["https", "--insecure"];
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n";

fn heads() -> Vec<Hostile> {
    let to = |place: &str| says(&format!("HTTP/1.1 302 x\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"));
    let protocol: &[&str] = &["protocol"];
    vec![
        Hostile("1xx without end", goes("", "HTTP/1.1 102 x\r\nLink: y\r\n\r\n"), &[], protocol),
        Hostile("100 without end", goes("", "HTTP/1.1 100 Continue\r\n\r\n"), &[], protocol),
        Hostile("100 with fields without end", goes("", "HTTP/1.1 100 x\r\nA: b\r\n\r\n"), &[], protocol),
        Hostile("a 1xx that is large", goes("HTTP/1.1 103 x\r\nLink: ", "y"), &[], protocol),
        Hostile("a field without end", goes("HTTP/1.1 200 OK\r\nX: ", "y"), &[], protocol),
        Hostile("a name without end", goes("HTTP/1.1 200 OK\r\n", "y"), &[], protocol),
        Hostile("fields without end", goes(OK, "X: y\r\n"), &[], protocol),
        Hostile("a reason without end", goes("HTTP/1.1 200 ", "OK"), &[], protocol),
        Hostile("empty lines without end", goes("", "\r\n"), &[], protocol),
        Hostile("a head that drips", Deed::Drips(b"HTTP/1.1 200 OK".to_vec()), &[], &["timeout", "protocol"]),
        Hostile("a head that stalls", Deed::Stalls(OK.into()), &[], &["timeout"]),
        Hostile("silence", Deed::Stalls(Vec::new()), &[], &["timeout"]),
        Hostile("a negative length", says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), &[], protocol),
        Hostile("a length with a sign", says("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n"), &[], protocol),
        Hostile("a length in words", says("HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n"), &[], protocol),
        Hostile(
            "a length beyond all",
            says("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n"),
            &[],
            protocol,
        ),
        Hostile(
            "two lengths",
            says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nready"),
            &[],
            protocol,
        ),
        Hostile("two lengths in one", says("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n"), &[], protocol),
        Hostile("a redirect to itself", to("/"), &[], protocol),
        Hostile("a redirect to a file", to("file:///etc/passwd"), &[], protocol),
        Hostile("a redirect to a socket", to("http+unix:///run/docker.sock:/x"), &[], protocol),
        Hostile("a redirect to another scheme", to("gopher://127.0.0.1/"), &[], protocol),
        Hostile("a redirect to a bad port", to("http://127.0.0.1:99999/"), &[], protocol),
        Hostile("a redirect to what is no text", to("/\u{1}x y"), &[], protocol),
        Hostile(
            "a redirect to a long place",
            to(&format!("/{}", "x".repeat(60_000))),
            &[],
            &["protocol", "timeout"],
        ),
        Hostile("a redirect that is too long", to(&format!("/{}", "x".repeat(70_000))), &[], protocol),
        Hostile("no word", says(""), &[], &["reset"]),
        Hostile("a reset", Deed::Resets, &[], &["reset"]),
        Hostile("half a status", says("HTTP/1.1 2"), &[], &["reset"]),
        Hostile("half a head", says("HTTP/1.1 200 OK\r\nContent-"), &[], &["reset"]),
        Hostile("a status of zero", says("HTTP/1.1 000 x\r\n\r\n"), &[], protocol),
        Hostile("another version", says("HTTP/2 200\r\n\r\n"), &[], protocol),
        Hostile("a page without a head", says("<html>ready</html>"), &[], protocol),
        Hostile("a folded field", says("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n"), &[], protocol),
        Hostile("a field without a colon", says("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), &[], protocol),
        Hostile("zeroes", Deed::Goes(Vec::new(), vec![0; 16 << 10]), &[], protocol),
        Hostile("noise", Deed::Goes(Vec::new(), (0..=255).cycle().take(16 << 10).collect()), &[], protocol),
        Hostile("tls spoken to http", says("\u{15}\u{3}\u{1}\0\u{2}\u{2}F"), &[], protocol),
    ]
}

fn bodies() -> Vec<Hostile> {
    // A machine that is busy may not read as much in time.
    let endless: &[&str] = &["body", "timeout"];
    let chunk = |text: &str| says(&format!("{CHUNKED}{text}"));
    let on = |text: &str, on: &str| goes(&format!("{CHUNKED}{text}"), on);
    let length = |length: &str| format!("{OK}Content-Length: {length}\r\n\r\n");
    let (protocol, reset): (&[&str], &[&str]) = (&["protocol"], &["reset"]);
    vec![
        Hostile("an extension without end", on("5;", "x"), BODY, protocol),
        Hostile("an extension of each chunk", on("", "1;abcdefghij=k\r\nx\r\n"), BODY, &["body", "timeout"]),
        Hostile("a size without end", on("", "0"), BODY, protocol),
        Hostile("trailers without end", on("5\r\nready\r\n0\r\n", "X: y\r\n"), BODY, &["body"]),
        Hostile("a trailer without end", on("5\r\nready\r\n0\r\nX: ", "y"), BODY, &["body"]),
        Hostile("a size that is none", chunk("zz\r\nready\r\n0\r\n\r\n"), BODY, protocol),
        Hostile("a size below zero", chunk("-5\r\nready\r\n0\r\n\r\n"), BODY, protocol),
        Hostile("a size beyond all", chunk("fffffffffffffffff\r\nready"), BODY, protocol),
        Hostile("a large size and data without end", on("fffffffffffffff\r\n", "x"), BODY, endless),
        Hostile("a chunk that is longer than it says", chunk("2\r\nready\r\n0\r\n\r\n"), BODY, protocol),
        Hostile("a chunk that has no end", on("2\r\nab", "x"), BODY, protocol),
        Hostile("a chunk that is cut", chunk("9\r\nready"), BODY, reset),
        Hostile("a body that is cut", says(&(length("9") + "ready")), BODY, reset),
        Hostile("a body without end", goes(&format!("{OK}\r\n"), "x"), BODY, endless),
        Hostile(
            "a body of noise without end",
            Deed::Goes(format!("{OK}\r\n").into(), vec![0xff; 16 << 10]),
            BODY,
            endless,
        ),
        Hostile("a length of all there is", goes(&length("18446744073709551615"), "x"), BODY, endless),
        Hostile(
            "a body that nobody wants",
            goes(&length("99999999"), "x"),
            &["--status", "404"],
            &["status"],
        ),
        Hostile("a body after 204", goes("HTTP/1.1 204 x\r\n\r\n", "x"), BODY, &["body"]),
        Hostile("a body after 101", goes("HTTP/1.1 101 x\r\n\r\n", "x"), BODY, &["status"]),
        Hostile(
            "a body after HEAD",
            goes(&length("9"), "x"),
            &["--method", "HEAD", "--status", "404"],
            &["status"],
        ),
        Hostile("a body that drips", Deed::Drips(length("99999").into()), BODY, &["timeout"]),
        Hostile("a body that stalls", Deed::Stalls((length("9") + "ready").into()), BODY, &["timeout"]),
        Hostile(
            "JSON that is large as a tree",
            says(&format!("{OK}\r\n[{}0]", "0,".repeat(520_000))),
            JSON,
            &["body"],
        ),
        Hostile("JSON that is deep", goes(&format!("{OK}\r\n"), "["), JSON, &["body"]),
        Hostile(
            "a body that is packed",
            says("HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\n\r\nx"),
            BODY,
            &["body"],
        ),
    ]
}

fn handshakes() -> Vec<Hostile> {
    let tls: &[&str] = &["tls"];
    let record = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &length, content].concat()
    };
    let on = |start: Vec<u8>, piece: Vec<u8>| Deed::Goes(start, piece.repeat((16 << 10) / piece.len() + 1));
    vec![
        Hostile("HTTP at a TLS port", says("HTTP/1.1 400 Bad Request\r\n\r\n"), TLS, tls),
        Hostile("a banner at a TLS port", says("SSH-2.0-OpenSSH_9.2\r\n"), TLS, tls),
        Hostile("noise at a TLS port", on(Vec::new(), (0..=255).rev().collect()), TLS, tls),
        Hostile("zeroes at a TLS port", on(Vec::new(), vec![0; 256]), TLS, tls),
        Hostile("a record that is too large", on(vec![0x16, 3, 3, 0xff, 0xff], vec![1; 256]), TLS, tls),
        Hostile("a hello of nonsense", says("\u{16}\u{3}\u{3}\0\u{4}\u{2}\0\0\0"), TLS, tls),
        Hostile(
            "a hello that is 16 MiB",
            on(vec![0x16, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff], vec![1]),
            TLS,
            tls,
        ),
        Hostile("a refusal", Deed::Says(record(0x15, &[2, 40])), TLS, tls),
        Hostile("a refusal that nobody knows", Deed::Says(record(0x15, &[2, 222])), TLS, tls),
        Hostile("warnings without end", on(Vec::new(), record(0x15, &[1, 90])), TLS, tls),
        Hostile("empty records without end", on(Vec::new(), record(0x16, &[])), TLS, tls),
        Hostile("changes of ciphers without end", on(Vec::new(), record(0x14, &[1])), TLS, tls),
        Hostile("half a record", Deed::Says(vec![0x16, 3, 3, 0, 99, 2]), TLS, &["reset"]),
        Hostile("no word of tls", says(""), TLS, &["reset"]),
        Hostile("a handshake that stalls", Deed::Stalls(vec![0x16, 3, 3]), TLS, &["timeout"]),
        Hostile("a handshake that drips", Deed::Drips(vec![0x16, 3, 3, 0x40, 0]), TLS, &["timeout", "tls"]),
    ]
}

/// Does it once; how it ends is no matter.
fn attack(stream: &mut TcpStream, deed: &Deed) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // Asked it must have been: one that reads nothing has other failures.
    let _ = stream.read(&mut [0; 4096])?;
    match deed {
        Deed::Says(text) => {
            stream.write_all(text)?;
            // What lies there unread would make a reset of the end.
            stream.shutdown(std::net::Shutdown::Write)?;
            while stream.read(&mut [0; 4096])? > 0 {}
        }
        Deed::Goes(text, on) => {
            stream.write_all(text)?;
            loop {
                stream.write_all(on)?;
            }
        }
        Deed::Drips(text) => {
            for byte in text.iter().chain(std::iter::repeat(&b'x')) {
                stream.write_all(&[*byte])?;
                std::thread::yield_now();
            }
        }
        Deed::Stalls(text) => {
            stream.write_all(text)?;
            while stream.read(&mut [0; 64])? > 0 {}
        }
        Deed::Resets => {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)?;
        }
    }
    Ok(())
}

/// The most memory that a process has had, in KiB.
fn peak(pid: u64) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// Is asked three times, and looks at each further time what its client has needed: the last failure, and the
/// memory.
fn met(deed: &Arc<Deed>, more: &[&str]) -> (String, String, u64) {
    let room = Room::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (pid, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (deed, client, seen) = (Arc::clone(deed), Arc::clone(&pid), Arc::clone(&most));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Some(kib) = peak(client.load(Ordering::SeqCst)) {
                seen.fetch_max(kib, Ordering::SeqCst);
            }
            let deed = Arc::clone(&deed);
            std::thread::spawn(move || attack(&mut stream, &deed));
        }
    });
    let (scheme, more) = match more {
        ["https", more @ ..] => ("https", more),
        more => ("http", more),
    };
    let mut command = room.command("baa-healthwait");
    command.args(["--attempts", "3", "--delay", "5ms", "--probe-timeout", "500ms", "--json"]).args(more);
    command.arg(format!("{scheme}://{address}/"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    pid.store(child.id().into(), Ordering::SeqCst);
    let done = collect(child);
    assert_eq!(done.status, 124, "{done:?}");
    let error = &done.json()["targets"][0]["last_error"];
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("class"), text("text"), most.load(Ordering::SeqCst))
}

fn withstand(all: Vec<Hostile>, usual: Deed, more: &[&str]) {
    const LIMIT: u64 = 1024;
    let (_, _, usual) = met(&Arc::new(usual), more);
    assert!(usual > 0 || !cfg!(target_os = "linux"));
    let wrong = Mutex::new(Vec::new());
    let turns = Mutex::new(all.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(Hostile(name, deed, more, classes)) = turns.lock().unwrap().next() else {
                        break;
                    };
                    let (class, text, most) = met(&Arc::new(deed), more);
                    // What is wanted of a body is kept, as far as it is looked at.
                    let limit = if more == BODY || more == JSON { 2 * LIMIT } else { LIMIT };
                    if !classes.contains(&class.as_str()) || most > usual + limit || text.len() > 300 {
                        wrong.lock().unwrap().push((name, class, text, most.saturating_sub(usual)));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "beside {usual} KiB: {wrong:#?}");
}

#[apply(test)]
fn no_head_is_too_much() {
    withstand(heads(), says("HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\nno"), &[]);
}

#[apply(test)]
fn no_body_is_too_much() {
    withstand(bodies(), says("HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nno"), BODY);
}

#[apply(test)]
fn no_handshake_is_too_much() {
    withstand(handshakes(), says("\u{15}\u{3}\u{3}\0\u{2}\u{2}F"), TLS);
}

/// What it says must be clear to whoever has never heard of the library.
#[apply(test)]
fn what_speaks_something_else_is_named() {
    let refused = |deed: Deed, more: &[&str]| met(&Arc::new(deed), more).1;
    for (deed, more, words) in [
        (says("HTTP/1.1 400 x\r\n\r\n"), TLS, "tls: the server speaks plain HTTP here; ask by http://"),
        (says("<!DOCTYPE HTML>\n"), TLS, "tls: the server speaks plain HTTP here; ask by http://"),
        (says("SSH-2.0-x\r\n"), TLS, "tls: the server does not speak tls here"),
        (
            says("\u{15}\u{3}\u{3}\0\u{2}\u{2}F"),
            TLS,
            "tls: the server speaks no version of tls that we speak (1.2, 1.3)",
        ),
        (says("\u{15}\u{3}\u{1}\0\u{2}\u{2}\n"), &[], "the server speaks TLS here; ask by https://"),
    ] {
        assert_eq!(refused(deed, more), words);
    }
}
