//! A model of launchd and launchctl(1) for the tests, built from public reports of what they do; it is not
//! launchd, and says so.
//!
//! `launchctl serve` is the launchd of one directory (`LAUNCHD_MODEL`): it starts real processes, throttles
//! them, TERMs and KILLs them. Every other verb is launchctl, which asks it. What it models, and the reports
//! it follows:
//! - bootout returns on acceptance; the label stays until the process is dead and a while longer;
//!   bootstrap meanwhile gives 5, 36 or 37, kickstart 37 (openclaw#112731, headroom#1289, osquery#5698);
//! - an exit timeout after which the main process is KILLed; `state = SIGTERMed` until then;
//! - bootstrap accepted and the job not started, until a plain kickstart (trusty-tools#2498), and the line
//!   `pended nondemand spawn` that tells of it (hypaware#1036; `inefficient` in Low Power Mode);
//!   kickstart -k blocks while a spawn is scheduled (KiroCrew#1698), is a TERM and, at the exit timeout, a
//!   KILL, and returns when the new process is there (captures after it show `Terminated: 15`; KiroCrew#1562:
//!   9); -k in the first moment ends the job that is starting (openclaw#41952);
//! - kickstart refused with EPERM the first time (nix-installer#1099), or with 150 by SIP;
//! - a start through xpcproxy, with a pid, that may end with 78 EX_CONFIG and never become the program;
//!   one that is killed for its signature or its memory, with `last exit reason`; `last terminating signal`
//!   in place of `last exit code`;
//! - disabled labels give 119 or 5; a domain that is not there gives 112; an unknown label 113; a loaded one
//!   5, 37, 125, or 133 (pow#505), or 0 with the old definition kept;
//! - a job that Login Items forbids is removed after the bootstrap was accepted; sandboxed callers get 5
//!   (Homebrew/brew#23895);
//! - `bootout --wait` where `launchctl help bootout` shows it: back when the job is gone;
//! - `print`: see print.rs.
//!
//! Each of these has a name in `claims`, and is tried on a Mac by `mac-report`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod faults;
mod print;
mod table;

use faults::Faults;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use table::claim;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(std::env::var_os("LAUNCHD_MODEL").expect("LAUNCHD_MODEL"));
    if arguments.first().is_some_and(|verb| verb == "serve") {
        return Launchd::new(root).serve();
    }
    let mut stream = UnixStream::connect(root.join("socket")).expect("the model runs");
    writeln!(stream, "{}", json!(arguments)).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    print!("{}", answer["stdout"].as_str().unwrap_or(""));
    eprint!("{}", answer["stderr"].as_str().unwrap_or(""));
    std::process::exit(i32::try_from(answer["exit"].as_i64().unwrap()).unwrap());
}

struct Job {
    path: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    stdout: Option<String>,
    keep_alive: bool,
    exit_timeout: Duration,
    throttle: Duration,
    child: Option<Child>,
    pid: u32,
    started: Option<Instant>,
    runs: u64,
    last_exit: Option<ExitStatus>,
    /// Why the system ended it.
    reason: Option<String>,
    /// What the process that starts is doomed to.
    doom: Option<String>,
    /// Until when it is xpcproxy.
    proxy_until: Option<Instant>,
    pended: bool,
    /// Set by kickstart -k: when the process is KILLed; a new one starts as soon as it is dead.
    replaced: Option<Instant>,
    /// Set by bootout: when the process is KILLed, and then when the label goes.
    leaving: Option<Instant>,
    killed: bool,
    gone_at: Option<Instant>,
    spawn_at: Option<Instant>,
}

struct Launchd {
    root: PathBuf,
    jobs: BTreeMap<String, Job>,
    disabled: Vec<String>,
    faults: Faults,
    turn: usize,
    dice: u64,
    /// Clients whose answer is due later.
    blocked: Vec<(Wait, UnixStream)>,
}

type Reply = (i64, String, String);

/// What a client is told.
enum Answer {
    Now(Reply),
    Later(Wait),
}

/// What a client waits for.
enum Wait {
    /// In vain, until then.
    Until(Instant),
    /// That the label is gone.
    Gone(String),
    /// That the job was started this often.
    Started(String, u64),
}

fn ok() -> Reply {
    (0, String::new(), String::new())
}

fn fail(verb: &str, code: i64, text: &str) -> Reply {
    let head = match verb {
        "bootstrap" => "Bootstrap failed: ",
        "bootout" => "Boot-out failed: ",
        "kickstart" => {
            return (code, String::new(), format!("Could not kickstart service: {code}: {text}\n"));
        }
        _ => return (code, String::new(), format!("{text}\n")),
    };
    (code, String::new(), format!("{head}{code}: {text}\n"))
}

fn text(code: i64) -> &'static str {
    match code {
        1 => "Operation not permitted",
        3 => "No such process",
        5 => "Input/output error",
        36 => "Operation now in progress",
        37 => "Operation already in progress",
        109 => "Invalid property list",
        112 => "Could not find specified domain",
        113 => "Could not find specified service",
        119 => "Service is disabled",
        124 => "Domain is tearing down",
        125 => "Domain does not support specified action",
        133 => "Operation already in progress",
        150 => "Operation not permitted while System Integrity Protection is engaged",
        _ => "Unknown error",
    }
}

impl Launchd {
    fn new(root: PathBuf) -> Launchd {
        Launchd {
            root,
            jobs: BTreeMap::new(),
            disabled: Vec::new(),
            faults: Faults::new(),
            turn: 0,
            dice: 1,
            blocked: Vec::new(),
        }
    }

    fn serve(mut self) {
        let listener = UnixListener::bind(self.root.join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let parent = std::os::unix::process::parent_id();
        // Ends with the test that started it.
        while std::os::unix::process::parent_id() == parent {
            self.advance();
            match listener.accept() {
                Ok((stream, _)) => self.answer(stream),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        for job in self.jobs.values_mut() {
            if let Some(child) = &mut job.child {
                let _ = child.kill();
            }
        }
    }

    fn answer(&mut self, mut stream: UnixStream) {
        stream.set_nonblocking(false).unwrap();
        let mut line = String::new();
        if BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).is_err() {
            return;
        }
        let Ok(arguments) = serde_json::from_str::<Vec<String>>(&line) else { return };
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.root.join("calls")).unwrap();
        let reply = self.call(&words);
        match reply {
            Answer::Now(reply) => {
                writeln!(log, "{} -> {}", words.join(" "), reply.0).unwrap();
                tell(&mut stream, &reply);
            }
            Answer::Later(wait) => {
                let how = if matches!(wait, Wait::Until(_)) { "blocked" } else { "waits" };
                writeln!(log, "{} -> {how}", words.join(" ")).unwrap();
                self.blocked.push((wait, stream));
            }
        }
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % 100
    }

    fn call(&mut self, words: &[&str]) -> Answer {
        if let ["model", settings @ ..] = words {
            for setting in settings {
                let (key, value) = setting.split_once('=').unwrap();
                match key {
                    "reset" => self.faults = Faults::new(),
                    "seed" => self.dice = value.parse().unwrap(),
                    _ => self.faults.set(key, value),
                }
            }
            return Answer::Now(ok());
        }
        let verb = *words.first().unwrap_or(&"");
        if self.faults.domain_code != 0 && verb != "model" {
            claim(match verb {
                "print" => "domain-print",
                "bootstrap" => "domain-bootstrap",
                _ => "domain-others",
            });
            let message = if verb == "print" && self.faults.domain_code == 112 {
                "Bad request.\nCould not find domain for user gui: 501"
            } else {
                text(self.faults.domain_code)
            };
            return Answer::Now(fail(verb, self.faults.domain_code, message));
        }
        let changes = matches!(verb, "bootstrap" | "kickstart" | "bootout");
        if changes && self.faults.sandbox {
            claim("sandboxed");
            return Answer::Now(fail(verb, 5, text(5)));
        }
        if changes && self.roll() < self.faults.hiccups {
            claim("hiccup");
            return Answer::Now(fail(verb, 37, text(37)));
        }
        match words {
            ["print", target] => Answer::Now(self.print(target)),
            ["print-disabled", domain] => Answer::Now(self.print_disabled(domain)),
            ["help", "bootout"] => {
                claim("bootout-wait-named");
                let wait = if self.faults.waits { "[--wait] " } else { "" };
                let usage = format!(
                    "Usage: launchctl bootout {wait}<domain-target> [service-path1, service-path2, ...] | \
                     <service-target>\n"
                );
                Answer::Now((0, usage, String::new()))
            }
            ["enable", target] => {
                claim("enable");
                self.disabled.retain(|one| one != target);
                Answer::Now(ok())
            }
            ["disable", target] => {
                claim("disable");
                self.disabled.push((*target).to_owned());
                Answer::Now(ok())
            }
            ["bootstrap", domain, path] => Answer::Now(self.bootstrap(domain, path)),
            ["bootout", "--wait", target] if self.faults.waits => match self.bootout(target) {
                (0, ..) => {
                    claim("bootout-wait");
                    Answer::Later(Wait::Gone((*target).to_owned()))
                }
                refusal => Answer::Now(refusal),
            },
            ["bootout", target] => Answer::Now(self.bootout(target)),
            ["kickstart", "-k", target] => self.kickstart(target, true),
            ["kickstart", target] => self.kickstart(target, false),
            _ => {
                claim("usage");
                Answer::Now((64, String::new(), "Unrecognized target specifier.\n".to_owned()))
            }
        }
    }

    fn bootstrap(&mut self, domain: &str, path: &str) -> Reply {
        let no = |code: i64| fail("bootstrap", code, text(code));
        self.faults.hides = false;
        if !self.faults.bad_file.is_empty() && path.contains(&self.faults.bad_file) {
            claim("bootstrap-invalid");
            return no(109);
        }
        let Ok(value) = plist::Value::from_file(path) else {
            claim(if Path::new(path).exists() { "bootstrap-malformed" } else { "bootstrap-missing" });
            return no(5);
        };
        let keys = value.as_dictionary().unwrap();
        let label = keys["Label"].as_string().unwrap();
        let target = format!("{domain}/{label}");
        if let Some(job) = self.jobs.get(&target) {
            if job.leaving.is_some() {
                claim("bootstrap-draining");
                self.turn += 1;
                return no(self.faults.drain_codes[self.turn % self.faults.drain_codes.len()]);
            }
            // Already loaded, and the old definition stays.
            claim("bootstrap-loaded");
            claim("bootstrap-keeps-definition");
            self.turn += 1;
            return match self.faults.loaded_codes[self.turn % self.faults.loaded_codes.len()] {
                0 => ok(),
                code => no(code),
            };
        }
        if self.disabled.contains(&target) {
            claim("bootstrap-disabled");
            self.turn += 1;
            return no([119, 5][self.turn % 2]);
        }
        if self.faults.refusals > 0 {
            claim("bootstrap-passing");
            self.faults.refusals -= 1;
            return no(self.faults.refusal_code);
        }
        let strings = |key: &str| {
            keys.get(key)
                .and_then(plist::Value::as_array)
                .map(|all| all.iter().map(|one| one.as_string().unwrap().to_owned()).collect::<Vec<_>>())
        };
        let flag = |key: &str| keys.get(key).and_then(plist::Value::as_boolean).unwrap_or(false);
        let seconds = |key: &str, default: u64| {
            Duration::from_secs(keys.get(key).and_then(plist::Value::as_unsigned_integer).unwrap_or(default))
        };
        let environment = keys.get("EnvironmentVariables").and_then(plist::Value::as_dictionary);
        let mut job = Job {
            path: path.to_owned(),
            arguments: strings("ProgramArguments").unwrap(),
            environment: environment
                .map(|all| {
                    all.iter()
                        .map(|(key, value)| (key.clone(), value.as_string().unwrap().to_owned()))
                        .collect()
                })
                .unwrap_or_default(),
            stdout: keys.get("StandardOutPath").and_then(plist::Value::as_string).map(str::to_owned),
            keep_alive: flag("KeepAlive"),
            exit_timeout: seconds("ExitTimeOut", 5),
            throttle: seconds("ThrottleInterval", 10),
            child: None,
            pid: 0,
            started: None,
            runs: 0,
            last_exit: None,
            reason: None,
            doom: None,
            proxy_until: None,
            pended: false,
            replaced: None,
            leaving: None,
            killed: false,
            gone_at: None,
            spawn_at: None,
        };
        if flag("RunAtLoad") || job.keep_alive {
            if self.faults.pended > 0 {
                self.faults.pended -= 1;
                claim("bootstrap-pended");
                job.pended = true;
            } else {
                claim("bootstrap-starts");
                job.spawn(&target, &mut self.faults);
            }
        }
        if self.faults.removes {
            claim("login-items");
            if let Some(child) = &mut job.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            return ok();
        }
        self.jobs.insert(target, job);
        claim("bootstrap");
        if self.faults.unheard > 0 {
            claim("bootstrap-unheard");
            self.faults.unheard -= 1;
            return no(self.faults.unheard_code);
        }
        ok()
    }

    fn bootout(&mut self, target: &str) -> Reply {
        let linger = self.faults.linger;
        let Some(job) = self.jobs.get_mut(target) else {
            claim("bootout-unknown");
            return fail("bootout", 3, text(3));
        };
        if job.leaving.is_some() {
            claim("bootout-twice");
            return fail("bootout", 37, text(37));
        }
        job.leaving = Some(Instant::now() + job.exit_timeout);
        job.spawn_at = None;
        if job.child.is_some() {
            claim("bootout-accepted");
            signal(job.pid, libc::SIGTERM);
        } else {
            claim("bootout-idle");
            job.gone_at = Some(Instant::now() + linger);
        }
        if self.faults.bootout_code == 0 {
            ok()
        } else {
            fail("bootout", self.faults.bootout_code, text(self.faults.bootout_code))
        }
    }

    fn kickstart(&mut self, target: &str, kill: bool) -> Answer {
        if self.faults.kicks > 0 {
            self.faults.kicks -= 1;
            claim(if self.faults.kick_code == 150 { "kickstart-sip" } else { "kickstart-passing" });
            return Answer::Now(fail("kickstart", self.faults.kick_code, text(self.faults.kick_code)));
        }
        let Some(job) = self.jobs.get_mut(target) else {
            claim("kickstart-unknown");
            return Answer::Now(unknown(target));
        };
        if job.leaving.is_some() {
            claim("kickstart-draining");
            return Answer::Now(fail("kickstart", 37, text(37)));
        }
        if job.child.is_some() {
            if !kill {
                claim("kickstart-running");
                return Answer::Now(ok());
            }
            claim("kickstart-k");
            // launchd starts it anew at once; the throttle does not hold a kickstart back.
            signal(job.pid, libc::SIGTERM);
            job.replaced.get_or_insert(Instant::now() + job.exit_timeout);
            return Answer::Later(Wait::Started(target.to_owned(), job.runs + 1));
        }
        if job.spawn_at.is_some() && kill || self.faults.blocked > 0 {
            claim("kickstart-k-scheduled");
            self.faults.blocked = self.faults.blocked.saturating_sub(1);
            return Answer::Later(Wait::Until(Instant::now() + Duration::from_secs(600)));
        }
        job.pended = false;
        claim(if job.spawn_at.is_some() { "kickstart-scheduled" } else { "kickstart-idle" });
        if job.spawn_at.is_none() {
            job.spawn(target, &mut self.faults);
        }
        Answer::Now(ok())
    }

    fn advance(&mut self) {
        let now = Instant::now();
        let linger = self.faults.linger;
        let mut gone = Vec::new();
        for (target, job) in &mut self.jobs {
            if let Some(child) = &mut job.child
                && let Ok(Some(status)) = child.try_wait()
            {
                job.last_exit = Some(status);
                job.reason = job.doom.take().filter(|doom| doom.starts_with("OS_REASON"));
                job.child = None;
                if job.replaced.take().is_some() && job.leaving.is_none() {
                    job.spawn_at = Some(now);
                } else if job.leaving.is_some() {
                    job.gone_at = Some(now + linger);
                } else if job.keep_alive {
                    claim("throttle");
                    job.spawn_at = Some(job.started.unwrap() + job.throttle);
                }
            }
            if job.child.is_some()
                && !job.killed
                && !job.exit_timeout.is_zero()
                && job.leaving.or(job.replaced).is_some_and(|until| now >= until)
            {
                claim(if job.leaving.is_some() { "bootout-kills" } else { "kickstart-k-kills" });
                job.killed = true;
                signal(job.pid, libc::SIGKILL);
            }
            if job.spawn_at.is_some_and(|at| now >= at) {
                job.spawn(target, &mut self.faults);
            }
            if job.gone_at.is_some_and(|at| now >= at) {
                claim("bootout-gone");
                gone.push(target.clone());
            }
        }
        gone.iter().for_each(|target| drop(self.jobs.remove(target)));
        let jobs = &self.jobs;
        self.blocked.retain_mut(|(wait, stream)| {
            let over = match wait {
                Wait::Until(at) => return now < *at,
                Wait::Gone(target) => !jobs.contains_key(target),
                Wait::Started(target, runs) => jobs.get(target).is_none_or(|job| job.runs >= *runs),
            };
            if over {
                tell(stream, &ok());
            }
            !over
        });
    }
}

impl Job {
    fn spawn(&mut self, target: &str, faults: &mut Faults) {
        let out = || match &self.stdout {
            Some(path) => {
                claim("job-output");
                Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap())
            }
            None => Stdio::null(),
        };
        self.doom = (faults.doomed > 0).then(|| faults.doom.clone());
        faults.doomed = faults.doomed.saturating_sub(1);
        // What never becomes the program is xpcproxy to its end.
        let end = match self.doom.as_deref() {
            None => None,
            Some(code) if code.parse::<i32>().is_ok() => {
                claim("start-fails");
                Some(format!("exit {code}"))
            }
            Some(_) => {
                claim("start-refused");
                Some("kill -KILL $$".to_owned())
            }
        };
        let script = |end: String| format!("sleep {}; {end}", faults.proxy.as_secs_f64());
        let words = match end {
            None => self.arguments.clone(),
            Some(end) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script(end)],
        };
        ["job-environment", "job-directory", "job-group", "job-input"].into_iter().for_each(claim);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(self.environment.clone())
            .env("XPC_SERVICE_NAME", target.rsplit('/').next().unwrap());
        command.stdin(Stdio::null()).stdout(out()).stderr(out()).current_dir(Path::new("/")).process_group(0);
        let child = command.spawn().unwrap();
        let now = Instant::now();
        self.pid = child.id();
        self.child = Some(child);
        self.started = Some(now);
        self.proxy_until = Some(now + faults.proxy).filter(|_| !faults.proxy.is_zero());
        self.spawn_at = None;
        self.pended = false;
        self.killed = false;
        self.runs += 1;
    }
}

fn tell(stream: &mut UnixStream, (exit, stdout, stderr): &Reply) {
    let _ = writeln!(stream, "{}", json!({ "exit": exit, "stdout": stdout, "stderr": stderr }));
}

/// What is said of a label that is not loaded.
fn unknown(target: &str) -> Reply {
    let label = target.rsplit('/').next().unwrap();
    let text = format!("Bad request.\nCould not find service \"{label}\" in domain for user gui: 501\n");
    (113, String::new(), text)
}

fn signal(pid: u32, signal: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).unwrap());
}
