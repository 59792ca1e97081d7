//! A server on this machine that answers every request with the case, as it is or as bodies in turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where it is, and what it answers.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Default)]
struct Answers {
    /// In turn; the first follows the last.
    all: Vec<Vec<u8>>,
    next: usize,
}

impl Server {
    pub(super) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = Arc::new(Mutex::new(Answers::default()));
        let server = Server { address: listener.local_addr().unwrap(), answers: Arc::clone(&answers) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is as good as one that listens.
                let _ = answer(stream, &answers);
            }
        });
        server
    }

    /// Answers with these bytes, whatever they are.
    pub(super) fn says(&self, bytes: &[u8]) {
        self.set(vec![bytes.to_vec()]);
    }

    /// Answers with the lines of `bytes`, one after the other, as bodies. A line may begin with a status.
    pub(super) fn says_bodies(&self, bytes: &[u8]) {
        let answer = |line: &[u8]| {
            let (status, body) = match line.get(..3).and_then(|word| std::str::from_utf8(word).ok()) {
                Some(word) if word.parse().is_ok_and(|status: u16| status >= 200) => (word, &line[3..]),
                _ => ("200", line),
            };
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        self.set(bytes.split(|byte| *byte == b'\n').map(answer).collect());
    }

    /// The next request gets the first of them.
    pub(super) fn begin_anew(&self) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).next = 0;
    }

    fn set(&self, all: Vec<Vec<u8>>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Answers { all, next: 0 };
    }
}

fn answer(mut stream: TcpStream, answers: &Mutex<Answers>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut bytes = [0; 16 * 1024];
    let mut request = Vec::new();
    while !is_whole(&request) {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&bytes[..count]),
        }
    }
    let answer = {
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = answers.next;
        answers.next = (turn + 1) % answers.all.len().max(1);
        answers.all.get(turn).cloned().unwrap_or_default()
    };
    stream.write_all(&answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // The client closes first; and no port stays taken for a minute after each of thousands of cases.
    while stream.read(&mut bytes)? > 0 {}
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)?;
    Ok(())
}

/// Whether it is there with its body; our own client says how long that is.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}
