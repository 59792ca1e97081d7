//! A model of launchd and launchctl(1) for the tests, built from public reports of what they do; it is not
//! launchd, and says so.
//!
//! `launchctl serve` is the launchd of one directory (`LAUNCHD_MODEL`): it starts real processes, throttles
//! them, TERMs and KILLs them. Every other verb is launchctl, which asks it. What it models, and the reports
//! it follows:
//! - bootout returns on acceptance; the label stays until the process is dead and a while longer;
//!   bootstrap meanwhile gives 5, 36 or 37, kickstart 37 (openclaw#112731, headroom#1289, osquery#5698);
//! - an exit timeout after which the main process is KILLed; `state = SIGTERMed` until then;
//! - bootstrap accepted and the job not started, until a plain kickstart (trusty-tools#2498);
//!   kickstart -k blocks while a spawn is scheduled (KiroCrew#1698);
//!   -k in the first moment kills the job that is starting (openclaw#41952);
//! - disabled labels give 119 or 5; a domain that is not there gives 125 or 112; an unknown label 113;
//! - `print` with nested blocks that repeat `state`, `pid`, `runs`, and an environment with values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr
)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

/// Faults and delays, set with `launchctl model KEY=VALUE…`.
struct Faults {
    /// How long the label stays after the process is gone.
    linger: Duration,
    /// What bootstrap gives meanwhile, in turn.
    drain_codes: Vec<i64>,
    /// What bootout gives when it was accepted: 0 or 36.
    bootout_code: i64,
    /// How many bootstraps are accepted without a start.
    pended: u32,
    /// How many kickstarts block.
    blocked: u32,
    /// How many bootstraps of a free label fail, and with what.
    refusals: u32,
    refusal_code: i64,
    /// A bootstrap of a file with this in its name is refused for good, with 109.
    bad_file: String,
    /// The whole domain is gone: every verb gives this.
    domain_code: i64,
    /// The roll of the dice: how likely, in a hundred, a call that is fine gives 37 and does nothing.
    hiccups: u64,
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
    last_exit: String,
    pended: bool,
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
    blocked: Vec<(Instant, UnixStream)>,
}

type Reply = (i64, String, String);

fn fail(verb: &str, code: i64, text: &str) -> Reply {
    let head = match verb {
        "bootstrap" => "Bootstrap failed: ",
        "bootout" => "Boot-out failed: ",
        _ => return (code, String::new(), format!("{text}\n")),
    };
    (code, String::new(), format!("{head}{code}: {text}\n"))
}

fn text(code: i64) -> &'static str {
    match code {
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
        _ => "Unknown error",
    }
}

impl Launchd {
    fn new(root: PathBuf) -> Launchd {
        let faults = Faults {
            linger: Duration::from_millis(0),
            drain_codes: vec![5],
            bootout_code: 0,
            pended: 0,
            blocked: 0,
            refusals: 0,
            refusal_code: 5,
            bad_file: String::new(),
            domain_code: 0,
            hiccups: 0,
        };
        Launchd {
            root,
            jobs: BTreeMap::new(),
            disabled: Vec::new(),
            faults,
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
            Some((exit, stdout, stderr)) => {
                writeln!(log, "{} -> {exit}", words.join(" ")).unwrap();
                let _ = writeln!(stream, "{}", json!({ "exit": exit, "stdout": stdout, "stderr": stderr }));
            }
            None => {
                writeln!(log, "{} -> blocked", words.join(" ")).unwrap();
                self.blocked.push((Instant::now() + Duration::from_secs(600), stream));
            }
        }
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % 100
    }

    /// `None` blocks the caller.
    fn call(&mut self, words: &[&str]) -> Option<Reply> {
        let ok = Some((0, String::new(), String::new()));
        if let ["model", settings @ ..] = words {
            for setting in settings {
                self.set(setting);
            }
            return ok;
        }
        let verb = *words.first().unwrap_or(&"");
        if self.faults.domain_code != 0 && verb != "model" {
            let message = if verb == "print" && self.faults.domain_code == 125 {
                "Could not find domain for user gui: 501"
            } else {
                text(self.faults.domain_code)
            };
            return Some(fail(verb, self.faults.domain_code, message));
        }
        if matches!(verb, "bootstrap" | "kickstart" | "bootout") && self.roll() < self.faults.hiccups {
            return Some(fail(verb, 37, text(37)));
        }
        match words {
            ["print", target] => Some(self.print(target)),
            ["enable", target] => {
                self.disabled.retain(|one| one != target);
                ok
            }
            ["disable", target] => {
                self.disabled.push((*target).to_owned());
                ok
            }
            ["bootstrap", domain, path] => Some(self.bootstrap(domain, path)),
            ["bootout", target] => Some(self.bootout(target)),
            ["kickstart", "-k", target] => self.kickstart(target, true),
            ["kickstart", target] => self.kickstart(target, false),
            _ => Some((64, String::new(), "Unrecognized target specifier.\n".to_owned())),
        }
    }

    fn set(&mut self, setting: &str) {
        let (key, value) = setting.split_once('=').unwrap();
        let number = || value.parse::<u64>().unwrap();
        let code = || value.parse::<i64>().unwrap();
        match key {
            "linger" => self.faults.linger = Duration::from_millis(number()),
            "drain" => self.faults.drain_codes = value.split(',').map(|one| one.parse().unwrap()).collect(),
            "bootout" => self.faults.bootout_code = code(),
            "pended" => self.faults.pended = u32::try_from(number()).unwrap(),
            "blocked" => self.faults.blocked = u32::try_from(number()).unwrap(),
            "refusals" => self.faults.refusals = u32::try_from(number()).unwrap(),
            "refusal" => self.faults.refusal_code = code(),
            "bad" => self.faults.bad_file = value.to_owned(),
            "domain" => self.faults.domain_code = code(),
            "hiccups" => self.faults.hiccups = number(),
            "seed" => self.dice = number(),
            other => panic!("unknown fault {other}"),
        }
    }

    fn bootstrap(&mut self, domain: &str, path: &str) -> Reply {
        let no = |code: i64| fail("bootstrap", code, text(code));
        if !self.faults.bad_file.is_empty() && path.contains(&self.faults.bad_file) {
            return no(109);
        }
        let Ok(value) = plist::Value::from_file(path) else { return no(5) };
        let keys = value.as_dictionary().unwrap();
        let label = keys["Label"].as_string().unwrap();
        let target = format!("{domain}/{label}");
        if let Some(job) = self.jobs.get(&target) {
            if job.leaving.is_some() {
                self.turn += 1;
                return no(self.faults.drain_codes[self.turn % self.faults.drain_codes.len()]);
            }
            // Already loaded: 37 or 5, and the old definition stays.
            self.turn += 1;
            return no([37, 5][self.turn % 2]);
        }
        if self.disabled.contains(&target) {
            self.turn += 1;
            return no([119, 5][self.turn % 2]);
        }
        if self.faults.refusals > 0 {
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
            last_exit: "(never exited)".to_owned(),
            pended: false,
            leaving: None,
            killed: false,
            gone_at: None,
            spawn_at: None,
        };
        if flag("RunAtLoad") || job.keep_alive {
            if self.faults.pended > 0 {
                self.faults.pended -= 1;
                job.pended = true;
            } else {
                job.spawn(&target);
            }
        }
        self.jobs.insert(target, job);
        (0, String::new(), String::new())
    }

    fn bootout(&mut self, target: &str) -> Reply {
        let linger = self.faults.linger;
        let Some(job) = self.jobs.get_mut(target) else { return fail("bootout", 3, text(3)) };
        if job.leaving.is_some() {
            return fail("bootout", 37, text(37));
        }
        job.leaving = Some(Instant::now() + job.exit_timeout);
        job.spawn_at = None;
        if job.child.is_some() {
            signal(job.pid, libc::SIGTERM);
        } else {
            job.gone_at = Some(Instant::now() + linger);
        }
        if self.faults.bootout_code == 0 {
            (0, String::new(), String::new())
        } else {
            fail("bootout", self.faults.bootout_code, text(self.faults.bootout_code))
        }
    }

    fn kickstart(&mut self, target: &str, kill: bool) -> Option<Reply> {
        let Some(job) = self.jobs.get_mut(target) else {
            return Some((
                113,
                String::new(),
                format!("Could not find service \"{target}\" in domain for user gui: 501\n"),
            ));
        };
        if job.leaving.is_some() {
            return Some(fail("kickstart", 37, text(37)));
        }
        if job.child.is_some() {
            if kill {
                // launchd starts it anew at once; the throttle does not hold a kickstart back.
                signal(job.pid, libc::SIGKILL);
                if let Some(child) = &mut job.child {
                    let _ = child.wait();
                }
                job.child = None;
                job.spawn(target);
            }
            return Some((0, String::new(), String::new()));
        }
        if job.spawn_at.is_some() && kill || self.faults.blocked > 0 {
            self.faults.blocked = self.faults.blocked.saturating_sub(1);
            return None;
        }
        job.pended = false;
        if job.spawn_at.is_none() {
            job.spawn(target);
        }
        Some((0, String::new(), String::new()))
    }

    fn print(&self, target: &str) -> Reply {
        let Some(job) = self.jobs.get(target) else {
            return (
                113,
                String::new(),
                format!(
                    "Bad request.\nCould not find service \"{}\" in domain for user gui: 501\n",
                    target.rsplit('/').next().unwrap()
                ),
            );
        };
        let state = match (&job.child, job.leaving, job.spawn_at) {
            (Some(_), Some(_), _) if job.killed => "SIGKILLed",
            (Some(_), Some(_), _) => "SIGTERMed",
            (Some(_), None, _) => "running",
            (None, _, Some(_)) => "spawn scheduled",
            _ => "not running",
        };
        let mut out = format!(
            "{target} = {{\n\tactive count = 1\n\tpath = {}\n\ttype = LaunchAgent\n\tstate = {state}\n\n\
                 \tprogram = {}\n\targuments = {{\n",
            job.path, job.arguments[0]
        );
        job.arguments.iter().for_each(|argument| out.push_str(&format!("\t\t{argument}\n")));
        out.push_str(
            "\t}\n\n\tinherited environment = {\n\
             \t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners\n\t}\n\n\tenvironment = {\n",
        );
        job.environment.iter().for_each(|(name, value)| out.push_str(&format!("\t\t{name} => {value}\n")));
        out.push_str(&format!("\t\tXPC_SERVICE_NAME => {}\n\t}}\n\n", target.rsplit('/').next().unwrap()));
        out.push_str(&format!(
            "\tdomain = gui/501 [100005]\n\tminimum runtime = {}\n\texit timeout = {}\n\truns = {}\n",
            job.throttle.as_secs(),
            job.exit_timeout.as_secs(),
            job.runs
        ));
        if job.child.is_some() {
            out.push_str(&format!("\tpid = {}\n\timmediate reason = speculative\n", job.pid));
        }
        out.push_str(&format!("\tlast exit code = {}\n\n", job.last_exit));
        out.push_str(
            "\tresource coalition = {\n\t\tID = 663\n\t\ttype = resource\n\t\tstate = active\n\
             \t\tactive count = 1\n\t\truns = 77\n\t\tpid = 1\n\t\tname = x\n\t}\n\n\
             \tspawn type = daemon (3)\n\tjetsam priority = 40\n\n\
             \tproperties = keepalive | runatload | inferred program\n}\n",
        );
        (0, out, String::new())
    }

    fn advance(&mut self) {
        let now = Instant::now();
        self.blocked.retain(|(until, _)| *until > now);
        let linger = self.faults.linger;
        let mut gone = Vec::new();
        for (target, job) in &mut self.jobs {
            if let Some(child) = &mut job.child
                && let Ok(Some(status)) = child.try_wait()
            {
                job.last_exit = status.code().map_or_else(
                    || format!("(signal {})", status.signal().unwrap_or(0)),
                    |code| code.to_string(),
                );
                job.child = None;
                if job.leaving.is_some() {
                    job.gone_at = Some(now + linger);
                } else if job.keep_alive {
                    job.spawn_at = Some(job.started.unwrap() + job.throttle);
                }
            }
            if job.child.is_some()
                && !job.killed
                && !job.exit_timeout.is_zero()
                && job.leaving.is_some_and(|until| now >= until)
            {
                job.killed = true;
                signal(job.pid, libc::SIGKILL);
            }
            if job.spawn_at.is_some_and(|at| now >= at) {
                job.spawn(target);
            }
            if job.gone_at.is_some_and(|at| now >= at) {
                gone.push(target.clone());
            }
        }
        gone.iter().for_each(|target| drop(self.jobs.remove(target)));
    }
}

impl Job {
    fn spawn(&mut self, target: &str) {
        let out = || match &self.stdout {
            Some(path) => {
                Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap())
            }
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.arguments[0]);
        command
            .args(&self.arguments[1..])
            .envs(self.environment.clone())
            .env("XPC_SERVICE_NAME", target.rsplit('/').next().unwrap());
        command.stdin(Stdio::null()).stdout(out()).stderr(out()).current_dir(Path::new("/")).process_group(0);
        let child = command.spawn().unwrap();
        self.pid = child.id();
        self.child = Some(child);
        self.started = Some(Instant::now());
        self.spawn_at = None;
        self.pended = false;
        self.runs += 1;
    }
}

fn signal(pid: u32, signal: i32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).unwrap());
}
