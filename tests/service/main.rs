//! A small real HTTP service for tests, the demo and the bench, with the faults that services have in the
//! field.
//!
//! It listens on `--listen`, or on the socket that it has inherited; answers `/healthz`, streams `/stream`
//! for five seconds, and can start late, serve nothing in its first life, ignore TERM, drain, leave orphans.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);
/// Requests that are being answered.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Without a crate for it: the demo compiles this file alone. The number and the word are the same on all
/// systems.
mod c {
    pub const SIGTERM: i32 = 15;
    pub const SIG_IGN: usize = 1;

    #[allow(unsafe_code)]
    unsafe extern "C" {
        pub fn signal(number: i32, handler: usize) -> usize;
        pub fn setsid() -> i32;
    }
}

extern "C" fn stop(_: i32) {
    STOP.store(true, Ordering::SeqCst);
}

#[derive(Clone, Default)]
struct Options {
    status: u16,
    body: String,
    headers: Vec<String>,
    drip: Option<Duration>,
    mute: bool,
    redirect: Option<String>,
    answers: Option<String>,
    count: Option<String>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut listen = None;
    let mut options = Options { status: 200, body: "ok\n".to_owned(), ..Options::default() };
    let (mut start_delay, mut drain) = (Duration::ZERO, Duration::ZERO);
    let mut ready = None;
    let mut exit_after = None;
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match flag.as_str() {
            "--listen" => listen = Some(value()),
            "--status" => options.status = value().parse().unwrap(),
            "--body" => options.body = value(),
            "--header" => options.headers.push(value()),
            "--drip" => options.drip = Some(millis(&value())),
            "--mute" => options.mute = true,
            "--redirect" => options.redirect = Some(value()),
            // Serves only once this file exists.
            "--answers-if" => options.answers = Some(value()),
            // A line for each request.
            "--count" => options.count = Some(value()),
            "--start-delay" => start_delay = millis(&value()),
            "--drain" => drain = millis(&value()),
            "--exit-after" => exit_after = Some(millis(&value())),
            // A resolver that takes questions and never answers.
            "--mute-udp" => {
                let hole = std::net::UdpSocket::bind(value()).unwrap();
                tell(ready.as_deref(), "hole");
                std::thread::sleep(Duration::from_secs(60));
                drop(hole);
                return;
            }
            "--ready" => ready = Some(value()),
            "--ignore-term" => ignore(c::SIGTERM),
            // A process in a session of its own, twice removed, that ignores TERM.
            "--orphan" => orphan(&value()),
            // The first life makes the file and serves nothing.
            "--lame-first" => {
                if std::fs::OpenOptions::new().write(true).create_new(true).open(value()).is_ok() {
                    options.answers = Some("/nonexistent/never".to_owned());
                }
            }
            other => panic!("unknown flag {other}"),
        }
    }
    catch(c::SIGTERM);
    std::thread::sleep(start_delay);
    let listen = listen.expect("--listen");
    let began = Instant::now();
    let serves = options.answers.as_ref().is_none_or(|path| Path::new(path).exists());
    if let Some(path) = listen.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        tell(ready.as_deref(), "unix");
        while !STOP.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let options = options.clone();
                    stream.set_nonblocking(false).unwrap();
                    std::thread::spawn(move || serve(stream, &options));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        return;
    }
    let listener = if serves { Some(bind(&listen)) } else { None };
    tell(
        ready.as_deref(),
        &listener
            .as_ref()
            .map_or("lame".to_owned(), |listener| listener.local_addr().unwrap().port().to_string()),
    );
    while !STOP.load(Ordering::SeqCst) {
        if exit_after.is_some_and(|span| began.elapsed() >= span) {
            std::process::exit(3);
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((stream, _))) => {
                let options = options.clone();
                stream.set_nonblocking(false).unwrap();
                ACTIVE.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    serve(stream, &options);
                    ACTIVE.fetch_sub(1, Ordering::SeqCst);
                });
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    drop(listener);
    std::thread::sleep(drain);
    // Of an inherited socket what was accepted is answered to its end.
    while listen == "inherited" && ACTIVE.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

/// A predecessor that drains may hold the port for a moment.
fn bind(listen: &str) -> TcpListener {
    if listen == "inherited" {
        return inherited();
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpListener::bind(listen) {
            Ok(listener) => {
                listener.set_nonblocking(true).unwrap();
                return listener;
            }
            Err(cause) if Instant::now() < until => {
                eprintln!("cannot bind {listen}: {cause}");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(cause) => panic!("cannot bind {listen}: {cause}"),
        }
    }
}

#[allow(unsafe_code)]
fn inherited() -> TcpListener {
    assert_eq!(std::env::var("LISTEN_PID").unwrap(), std::process::id().to_string());
    // SAFETY: whoever sets LISTEN_PID to us has left descriptor 3 to us.
    let listener = unsafe { <TcpListener as std::os::fd::FromRawFd>::from_raw_fd(3) };
    listener.set_nonblocking(true).unwrap();
    listener
}

fn tell(ready: Option<&str>, text: &str) {
    println!("serving {text} as {}", std::process::id());
    if let Some(path) = ready {
        std::fs::write(format!("{path}.tmp"), format!("{text} {}\n", std::process::id())).unwrap();
        std::fs::rename(format!("{path}.tmp"), path).unwrap();
    }
}

trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for std::os::unix::net::UnixStream {}

fn serve(mut stream: impl Stream, options: &Options) {
    let mut request = Vec::new();
    let mut byte = [0u8; 1];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    if let Some(path) = &options.count {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let _ = file
            .write_all(format!("{}\n", String::from_utf8_lossy(&request).replace("\r\n", "|")).as_bytes());
    }
    if options.mute {
        std::thread::sleep(Duration::from_secs(3600));
    }
    if request.starts_with(b"GET /stream ") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
        return;
    }
    let mut answer =
        format!("HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\n", options.status, options.body.len());
    for header in &options.headers {
        answer.push_str(&format!("{header}\r\n"));
    }
    if let Some(to) = &options.redirect {
        answer.push_str(&format!("Location: {to}\r\n"));
    }
    answer.push_str("\r\n");
    let _ = stream.write_all(answer.as_bytes());
    for byte in options.body.bytes() {
        if let Some(pause) = options.drip {
            std::thread::sleep(pause);
        }
        if stream.write_all(&[byte]).is_err() {
            return;
        }
    }
    // Held open, as keep-alive does, until the client goes.
    let _ = stream.read(&mut byte);
}

/// What was ignored stays ignored.
#[allow(unsafe_code)]
fn catch(signal: i32) {
    // SAFETY: the handler only stores into an atomic.
    let before = unsafe { c::signal(signal, stop as *const () as usize) };
    if before == c::SIG_IGN {
        ignore(signal);
    }
}

#[allow(unsafe_code)]
fn ignore(signal: i32) {
    // SAFETY: ignoring a signal runs no code.
    unsafe { c::signal(signal, c::SIG_IGN) };
}

#[allow(unsafe_code)]
fn orphan(ready: &str) {
    let script = format!("trap '' TERM; echo $$ > {ready}.tmp; mv {ready}.tmp {ready}; exec sleep 1000");
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &format!("/bin/sh -c \"{script}\" &").replace("$$", "\\$\\$")]);
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            c::setsid();
            Ok(())
        })
    };
    command.status().unwrap();
}
