//! A baa-control, and a client that speaks to it byte by byte.

use super::{Done, Room, collect};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Control {
    pub child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Control {
    /// Once it listens, on a port of its own or on the one of `address`.
    pub fn start(room: &Room, address: &str, options: &[&str]) -> Control {
        let mut command = room.command("baa-control");
        command.args(["--listen", address]).args(options).stdout(Stdio::null()).stderr(Stdio::piped());
        Control::spawned(command.spawn().unwrap())
    }

    pub fn spawned(mut child: Child) -> Control {
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address = first.trim().rsplit_once("http://").unwrap_or_else(|| panic!("{first}")).1.to_owned();
        let log = Arc::new(Mutex::new(first));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Control { child, address, log }
    }

    pub fn new(room: &Room) -> Control {
        Control::start(room, "127.0.0.1:0", &[])
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as it should be ended.
    pub fn stop(mut self) -> Done {
        super::signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        let child = std::mem::replace(&mut self.child, std::process::Command::new("true").spawn().unwrap());
        collect(child)
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A request as it is written; the status, the head and the body of the answer.
    pub fn raw(&self, text: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that has refused already may not read the rest.
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, head.to_owned(), body.to_owned())
    }

    pub fn get(&self, path: &str, fields: &str) -> (u16, String, String) {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n",
            self.address
        ))
    }

    pub fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {}",
            self.address,
            body.len()
        );
        let (status, _, text) = self.raw(&format!("{head}\r\n\r\n{body}"));
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.kill();
    }
}
