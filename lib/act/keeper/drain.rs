//! Letting a command finish what it has begun before it is stopped for a restart. A command of any kind can:
//! by a signal after which it ends by itself, by another command that returns when it is done, or by HTTP:
//! POST to begin, GET for how much is left.

use crate::life;
use crate::probe::http::Statuses;
use crate::sys::child::Spec;
use crate::sys::http::{self, Request, Route, Trust, Url};
use crate::sys::signal::{Bell, SignalNumber};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use serde_json::Value;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Between two questions for what is left.
const LOOK: Duration = Duration::from_millis(200);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How it is asked to.
#[derive(Clone, Debug)]
pub enum DrainMethod {
    /// By this signal; it ends by itself.
    Signal(SignalNumber),
    /// By this shell command, which returns when all is done.
    Command(String),
    /// By POST to this URL; then GET tells how much is left: a number, or JSON with `pending`.
    Http(Url),
}

/// How, and for how long at most.
#[derive(Clone, Debug)]
pub struct Drain {
    /// How.
    pub how: DrainMethod,
    /// How long; zero is without end.
    pub limit: Duration,
    /// A shell command that aborts what is left of a drain that is cut short.
    pub abort: Option<String>,
    /// How often it is told that it still drains; zero is never.
    pub notice: Duration,
}

/// Reads the URL of a drain.
///
/// # Errors
/// 2 for what is none.
pub fn url(text: &str) -> Result<DrainMethod> {
    Url::parse(text)
        .map(DrainMethod::Http)
        .map_err(|why| Error::new(Status::Usage, format!("cannot drain by '{}': {why}", brief(text))))
}

/// A drain that runs aside.
pub(super) struct Draining {
    done: Receiver<std::result::Result<(), String>>,
    pub(super) bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
}

/// Nobody knows how much is left.
const UNKNOWN: u64 = u64::MAX;

impl std::fmt::Debug for Draining {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Draining")
    }
}

impl Draining {
    /// Begins, for no longer than `limit`; `None` where a signal is all that there is to it. `env` is what a
    /// command is told; over HTTP it is the body of the POST, in JSON.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(
        drain: &Drain,
        limit: Option<Duration>,
        env: Vec<(OsString, OsString)>,
    ) -> Result<Option<Draining>> {
        if let DrainMethod::Signal(_) = drain.how {
            return Ok(None);
        }
        let cannot = |cause: std::io::Error| Error::io("cannot drain", &cause);
        let (bell, stop) = (Arc::new(Bell::new().map_err(cannot)?), Arc::new(AtomicBool::new(false)));
        let (say, done) = channel();
        let until = Instant::now() + limit.unwrap_or(crate::words::span::LONGEST);
        let (how, ring, stopped, left) =
            (drain.how.clone(), Arc::clone(&bell), Arc::clone(&stop), Arc::new(AtomicU64::new(UNKNOWN)));
        let count = Arc::clone(&left);
        let work = move || {
            let _ = say.send(match &how {
                DrainMethod::Command(command) => by_command(command, env, until, &stopped),
                DrainMethod::Http(url) => by_http(url, &body(&env), until, &stopped, &count),
                DrainMethod::Signal(_) => Ok(()),
            });
            ring.ring();
        };
        std::thread::Builder::new().spawn(work).map_err(cannot)?;
        Ok(Some(Draining { done, bell, stop, left }))
    }

    /// Whether it is over, and how it went.
    pub(super) fn over(&self) -> Option<std::result::Result<(), String>> {
        self.bell.silence();
        self.done.try_recv().ok()
    }

    /// How much is left, if it tells.
    pub(super) fn left(&self) -> Option<u64> {
        Some(self.left.load(Ordering::SeqCst)).filter(|left| *left != UNKNOWN)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn by_command(
    command: &str,
    env: Vec<(OsString, OsString)>,
    until: Instant,
    stopped: &AtomicBool,
) -> std::result::Result<(), String> {
    let mut spec = Spec::new("/bin/sh", ["-c", command]);
    spec.env = env;
    let done = life::run(spec, until, 4096, stopped).map_err(|cause| cause.to_string())?;
    match done.exit {
        Some(exit) if exit.success() => Ok(()),
        Some(exit) => Err(format!(
            "the drain command {exit}: {}",
            brief(done.stderr.lines().last().unwrap_or_default())
        )),
        None => Err("the drain command was not done in time".to_owned()),
    }
}

/// What a command would be told in variables: `BAA_RESTART_REASON` as `restart_reason`.
fn body(env: &[(OsString, OsString)]) -> Vec<u8> {
    let name = |name: &OsString| name.to_string_lossy().strip_prefix("BAA_").map(str::to_ascii_lowercase);
    let pairs =
        env.iter().filter_map(|(key, value)| Some((name(key)?, Value::from(value.to_string_lossy()))));
    Value::Object(pairs.collect()).to_string().into_bytes()
}

fn by_http(
    url: &Url,
    told: &[u8],
    until: Instant,
    stopped: &AtomicBool,
    count: &AtomicU64,
) -> std::result::Result<(), String> {
    let ask = |method: &str| {
        let posts = method == "POST";
        let headers =
            if posts { vec![("Content-Type".to_owned(), "application/json".to_owned())] } else { Vec::new() };
        let (url, body, trust) =
            (url.clone(), if posts { told.to_vec() } else { Vec::new() }, Trust::default());
        let request = Request {
            url,
            method: method.to_owned(),
            headers,
            body,
            redirects: false,
            known_peer: None,
            route: Route::default(),
            want_body: true,
            trust,
        };
        let answer =
            http::ask_now(&request, until.min(Instant::now() + ANSWER)).map_err(|failure| failure.text)?;
        if Statuses::SUCCESS.hold(answer.status) {
            Ok(answer.body)
        } else {
            Err(format!("{method} was answered with {}", answer.status))
        }
    };
    ask("POST")?;
    while !stopped.load(Ordering::SeqCst) && Instant::now() < until {
        let left = pending(&ask("GET")?)?;
        count.store(left, Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Err("work is left".to_owned())
}

/// A number, or JSON with `pending`.
fn pending(body: &[u8]) -> std::result::Result<u64, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|_| "what is left is not told as a number".to_owned())?;
    value
        .as_u64()
        .or_else(|| value["pending"].as_u64())
        .ok_or_else(|| "what is left is not told as a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_a_number_or_has_a_name() {
        assert_eq!((pending(b"0"), pending(b" 7\n"), pending(br#"{"pending":3}"#)), (Ok(0), Ok(7), Ok(3)));
        for bad in [&b""[..], b"none", b"-1", b"{}", b"\"3\""] {
            assert!(pending(bad).is_err());
        }
    }
}
