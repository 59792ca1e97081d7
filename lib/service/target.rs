//! Targets, as people write them: which question each scheme stands for.

use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::dns::Dns;
use crate::probe::exec::{Exec, ExitStatuses};
use crate::probe::file::FileProbe;
use crate::probe::http::{AnswerRules, Http, Statuses};
use crate::probe::process::Process;
use crate::probe::record::{RecordProbe, RecordQuestion};
use crate::probe::server::Server;
use crate::probe::server::url::{self, ServerUrl};
use crate::probe::tcp::Tcp;
use crate::probe::unix::Unix;
use crate::service::manager::ManagerKind;
use crate::service::unit::Unit;
use crate::sys::http::{Request, Route, Trust, Url, check_abstract, host_and_port};
use crate::sys::process::{Age, Identity, Pid, ProcessSight, Start};
use crate::sys::redact;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What all HTTP targets of one call are asked.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// The method.
    pub method: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the answer must be.
    pub rules: AnswerRules,
    /// Whether redirects are followed.
    pub redirects: bool,
    /// What is trusted.
    pub trust: Trust,
}

impl Default for HttpOptions {
    /// A plain GET that must be answered with 200 to 399.
    fn default() -> HttpOptions {
        HttpOptions {
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            rules: AnswerRules::of_statuses(vec![Statuses::SUCCESS]),
            redirects: true,
            trust: Trust::default(),
        }
    }
}

/// What the targets of one call are asked with.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// What those over HTTP are asked, and must answer.
    pub http: HttpOptions,
    /// The statuses that commands say yes with.
    pub exec: Vec<ExitStatuses>,
    /// How to get to where something is asked.
    pub route: Route,
}

impl Default for TargetOptions {
    /// A plain GET, a command that exits with 0, the way that the system knows.
    fn default() -> TargetOptions {
        HttpOptions::default().into()
    }
}

impl From<HttpOptions> for TargetOptions {
    fn from(http: HttpOptions) -> TargetOptions {
        TargetOptions { http, exec: vec![ExitStatuses::SUCCESS], route: Route::default() }
    }
}

/// One target: its name for people, without secrets, and its question.
pub struct ProbeTarget {
    /// How messages name it.
    pub name: String,
    /// The question.
    pub probe: Arc<dyn Probe>,
}

/// What a target asks.
#[derive(Clone)]
pub enum TargetQuestion {
    /// Does it answer as it should?
    Http(Url),
    /// Does somebody accept at this host and port?
    Tcp(String, u16),
    /// Does somebody listen on this socket?
    Unix(PathBuf),
    /// Does this command, a line for sh(1), succeed?
    Exec(OsString),
    /// Is this file there?
    File(PathBuf),
    /// Does this name resolve?
    Dns(String),
    /// Has this name such a record?
    Record(RecordQuestion),
    /// Is this server ready?
    Server(ServerUrl),
    /// Does this process live?
    Process(Pid),
    /// Does the manager say that this job runs?
    Unit(Arc<Unit>),
}

impl TargetQuestion {
    /// Reads a target.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating a login.
    pub fn parse(text: &OsStr) -> std::result::Result<TargetQuestion, String> {
        let utf8 = || text.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
        let rest = |scheme: &str| text.as_bytes().strip_prefix(scheme.as_bytes());
        let path = |bytes: &[u8]| {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
                Err("it names no path".to_owned())
            } else {
                Ok(path)
            }
        };
        let unit = |kind: ManagerKind, name: &str| {
            let service = kind.service(name).map_err(|cause| cause.to_string())?;
            kind.foreign().map_or(Ok(()), |why| Err(why.to_owned()))?;
            Ok(TargetQuestion::Unit(Arc::new(Unit::new(service))))
        };
        if let Some(command) = rest("exec:") {
            if command.is_empty() {
                return Err("it names no command".to_owned());
            }
            Ok(TargetQuestion::Exec(OsString::from_vec(command.to_vec())))
        } else if let Some(file) = rest("file:") {
            path(of_this_machine(file)?).map(TargetQuestion::File)
        } else if let Some(socket) = rest("unix:") {
            let socket = socket.strip_prefix(b"//").unwrap_or(socket);
            if socket.starts_with(b"@") {
                check_abstract(&String::from_utf8_lossy(socket))?;
            }
            path(socket).map(TargetQuestion::Unix)
        } else if let Some(question) = utf8()?.strip_prefix("dns:").filter(|name| name.contains('?')) {
            RecordQuestion::parse(question).map(TargetQuestion::Record)
        } else if let Some(name) = utf8()?.strip_prefix("dns:") {
            match host_and_port(name)? {
                (name, None) => Ok(TargetQuestion::Dns(name)),
                _ => Err("a name has no port".to_owned()),
            }
        } else if let Some(pid) = utf8()?.strip_prefix("pid:") {
            pid.parse().map(TargetQuestion::Process)
        } else if let Some(label) = utf8()?.strip_prefix("launchd:") {
            unit(ManagerKind::Launchd, label)
        } else if let Some(name) = utf8()?.strip_prefix("systemd:") {
            unit(ManagerKind::Systemd, name)
        } else if let Some(hint) = foreign_scheme(utf8()?) {
            Err(hint)
        } else if url::is_server(utf8()?) {
            ServerUrl::parse(utf8()?).map(TargetQuestion::Server)
        } else if utf8()?.contains("://") && !utf8()?.starts_with("tcp://") {
            Url::parse(utf8()?).map(TargetQuestion::Http)
        } else {
            if utf8()?.starts_with('/') {
                return Err("it is a path; write file: or unix: before it".to_owned());
            }
            // As libpq takes it; what stands there may be a password.
            if utf8()?.contains([' ', '=']) {
                return Err("it is no URL and no host:port".to_owned());
            }
            let address = match utf8()?.strip_prefix("tcp://") {
                // As in other URLs the sign before a zone is escaped.
                Some(address) => address.trim_end_matches('/').replacen("%25", "%", 1),
                None => utf8()?.trim_end_matches('/').to_owned(),
            };
            // wait-port and wait-on take a port alone for one of this machine.
            if is_port(address.strip_prefix(':').unwrap_or(&address)) {
                return Err(format!("it has no host; write localhost:{}", address.trim_start_matches(':')));
            }
            let (host, port) = host_and_port(&address)?;
            let port = port.ok_or_else(|| "it has no port; write host:port".to_owned())?;
            Ok(TargetQuestion::Tcp(host, port))
        }
    }

    /// Whether the answer tells whether `demand` is met.
    pub fn tells_process(&self, demand: &Demand) -> bool {
        match self {
            TargetQuestion::Http(_)
            | TargetQuestion::Tcp(..)
            | TargetQuestion::Unix(_)
            | TargetQuestion::Server(_) => true,
            TargetQuestion::Process(_) => demand.among.is_none(),
            TargetQuestion::Exec(_)
            | TargetQuestion::File(_)
            | TargetQuestion::Dns(_)
            | TargetQuestion::Record(_)
            | TargetQuestion::Unit(_) => false,
        }
    }

    /// The question, asked with these options where it is one of HTTP; `demand` is for those that can tell.
    pub fn probe(&self, options: &TargetOptions, demand: &Demand) -> Arc<dyn Probe> {
        match self {
            TargetQuestion::Http(url) => Arc::new(http(url.clone(), options, demand)),
            TargetQuestion::Tcp(host, port) => {
                let fixed = options.route.fixed.clone();
                Arc::new(Tcp { host: host.clone(), port: *port, fixed, demand: demand.clone() })
            }
            TargetQuestion::Unix(path) => Arc::new(Unix { path: path.clone(), demand: demand.clone() }),
            TargetQuestion::Exec(command) => Arc::new(Exec::new(command.clone(), options.exec.clone())),
            TargetQuestion::File(path) => Arc::new(FileProbe { path: path.clone() }),
            TargetQuestion::Dns(name) => Arc::new(Dns { name: name.clone() }),
            TargetQuestion::Record(question) => Arc::new(RecordProbe { question: question.clone() }),
            TargetQuestion::Server(url) => Arc::new(Server {
                url: url.clone(),
                trust: options.http.trust.clone(),
                headers: options.http.headers.clone(),
                demand: demand.clone(),
            }),
            TargetQuestion::Process(pid) => Arc::new(Process::new(*pid, demand.clone())),
            TargetQuestion::Unit(unit) => unit.clone(),
        }
    }
}

/// Whether this is a port and nothing else.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The path of `file:`, which may name this machine as its host (RFC 8089).
fn of_this_machine(file: &[u8]) -> std::result::Result<&[u8], String> {
    let Some(rest) = file.strip_prefix(b"//") else { return Ok(file) };
    let path = rest.strip_prefix(b"localhost").unwrap_or(rest);
    if path.is_empty() || path.starts_with(b"/") {
        return Ok(path);
    }
    let shown = crate::words::error::brief(&String::from_utf8_lossy(rest));
    Err(format!("between // and the next / stands a host; write file:{shown} for a path"))
}

/// Reads all targets of a call.
///
/// # Errors
/// As `parse`, with what other tools' users may have meant.
pub fn parse_all(texts: &[OsString], options: &TargetOptions, demand: &Demand) -> Result<Vec<ProbeTarget>> {
    let one = |(at, text): (usize, &OsString)| {
        parse(text, options, demand).map_err(|error| {
            let (host, port) = (text.to_str(), texts.get(at + 1).and_then(|next| next.to_str()));
            // wait4x has a verb before its targets.
            if port.is_some() && host.is_some_and(|host| VERBS.contains(&host)) {
                return Error::new(
                    error.status,
                    format!("{error}; leave the word out, a target says what it is"),
                );
            }
            match (host, port.filter(|port| is_port(port))) {
                (Some(host), Some(port)) if host_and_port(host).is_ok_and(|(_, port)| port.is_none()) => {
                    Error::new(error.status, format!("{error}, here {host}:{port}"))
                }
                _ => error,
            }
        })
    };
    texts.iter().enumerate().map(one).collect()
}

/// Reads a target.
///
/// # Errors
/// A usage error (2) that says what is wrong with it.
pub fn parse(text: &OsStr, options: &TargetOptions, demand: &Demand) -> Result<ProbeTarget> {
    // A login in a URL must not be repeated, not even in the message that refuses the URL.
    let safe = hide_login(&text.to_string_lossy());
    let wrong = |why: String| Error::new(Status::Usage, format!("cannot use target '{safe}': {why}"));
    let question = TargetQuestion::parse(text).map_err(wrong)?;
    if !demand.is_any() && !question.tells_process(demand) {
        return Err(wrong(
            "it cannot tell which process answers, which --served-by and --newer-than ask for".to_owned(),
        ));
    }
    let probe = question.probe(options, demand);
    Ok(ProbeTarget { name: safe, probe })
}

fn http(url: Url, options: &TargetOptions, demand: &Demand) -> Http {
    let (options, route) = (&options.http, &options.route);
    Http {
        request: Request {
            url,
            method: options.method.clone(),
            headers: options.headers.clone(),
            redirects: options.redirects,
            known_peer: None,
            body: options.body.clone(),
            want_body: options.rules.want_body(),
            trust: options.trust.clone(),
            route: route.clone(),
        },
        rules: options.rules.clone(),
        demand: demand.clone(),
    }
}

/// The verbs of wait4x.
const VERBS: [&str; 5] = ["tcp", "http", "exec", "dns", "postgresql"];

/// How a target that other tools write is written here.
fn foreign_scheme(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let hidden = hide_login(rest.trim_start_matches('/'));
    let rest = redact::urls(&hidden);
    let path = || format!("/{rest}");
    match scheme {
        // wait-on; a host may have such a name.
        "tcp" if !text.starts_with("tcp://") && rest.contains(':') => Some(format!("write {rest}")),
        "tcp" if !text.starts_with("tcp://") => Some(format!("write localhost:{rest}")),
        "http" if rest.starts_with("unix:") => {
            Some(format!("write http+unix://{}", rest.trim_start_matches("unix:")))
        }
        "socket" if rest.parse::<u16>().is_err() => Some(format!("write unix:{}", path())),
        "http-get" | "https-get" => Some(format!("write {}://{rest}", scheme.trim_end_matches("-get"))),
        // wait4x and goss.
        "command" | "cmd" if rest.parse::<u16>().is_err() => Some(format!("write exec:'{rest}'")),
        "process" if rest.parse::<u16>().is_err() => Some("write pid:NUMBER".to_owned()),
        "postgresql+psycopg2" | "postgresql+asyncpg" => Some(format!("write postgresql://{rest}")),
        _ => None,
    }
}

fn hide_login(text: &str) -> String {
    let plain = ["file:", "unix:", "dns:", "pid:", "launchd:", "systemd:"];
    if text.starts_with("exec:") {
        redact::urls(text).into_owned()
    } else if url::is_server(text) {
        url::shown(text)
    } else if text.contains("://") {
        redact::without_secrets(text)
    } else {
        // A host and a port, before which somebody may have written a login.
        match text.rfind('@').filter(|_| !plain.iter().any(|scheme| text.starts_with(scheme))) {
            Some(end) if end > 0 => format!("{}{}", redact::MASK, &text[end..]),
            // As libpq takes it: `host=h password=x`.
            _ => text.split(' ').map(redact::pair).collect::<Vec<_>>().join(" "),
        }
    }
}

/// What `--newer-than` is given: a process, or a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newer {
    /// Than this process.
    Process(Pid),
    /// Than this time.
    Time(SystemTime),
}

impl Newer {
    /// Reads a pid, `@SECONDS` since 1970, or a time of RFC 3339.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> std::result::Result<Newer, String> {
        let wrong = || {
            format!(
                "'{text}' is neither a pid, nor @SECONDS since 1970, nor a time like 2026-01-31T12:00:00Z"
            )
        };
        if let Some(seconds) = text.strip_prefix('@') {
            return since_1970(seconds).map(Newer::Time).ok_or_else(wrong);
        }
        if let Ok(pid) = text.parse::<Pid>() {
            return Ok(Newer::Process(pid));
        }
        crate::words::stamp::parse(text).map(Newer::Time).ok_or_else(wrong)
    }

    /// What a process must be younger than.
    ///
    /// # Errors
    /// 69 when the process is gone: its start time is no longer to be had.
    pub fn limit(&self) -> Result<Age> {
        match self {
            Newer::Process(pid) => {
                let why = match Identity::sight(*pid) {
                    ProcessSight::Lives(who) => return Ok(Age::Process(who)),
                    ProcessSight::Gone => "it is not alive".to_owned(),
                    ProcessSight::Unseen(why) => format!("it exists, but {why}"),
                };
                Err(Error::new(
                    Status::Unavailable,
                    format!(
                        "cannot tell what is newer than process {pid}: {why}; \
                             give a time instead (@SECONDS)"
                    ),
                ))
            }
            Newer::Time(time) => {
                let start = Start::at(*time).map(Age::Tick);
                start.ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))
            }
        }
    }
}

/// Seconds with up to nine digits after the point, exactly: a float of today's has no nanoseconds.
fn since_1970(text: &str) -> Option<SystemTime> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let nanos = format!("{part:0<9}").get(..9)?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_never_shown() {
        // What follows the host may as well be the rest of a password.
        assert_eq!(hide_login("http://a:b@host/x@y"), "http://***@y");
        assert_eq!(hide_login("http://host/x@y?m=a@b"), "http://host/x@y?m=a@b");
        assert_eq!(hide_login("systemd:a@b.service"), "systemd:a@b.service");
        assert_eq!(hide_login("exec:curl http://u:a#b@h; echo x@y"), "exec:curl http://***@h; echo x@y");
        assert_eq!(hide_login("ftp://a:b@host"), "ftp://***@host");
        assert_eq!(hide_login("host:80"), "host:80");
    }

    #[test]
    fn no_refusal_and_no_reason_repeats_a_login() {
        for text in [
            "tcp://u:secretw@h:1",
            "u:secretw@h:1",
            "http://u:a#secretw@h",
            "http://u:99#secretw@h",
            "http://u:a/secretw@h",
            "http://u:a?secretw@h",
            "http://u:a'secretw@h:x",
            "postgres://u:a#secretw@h",
            "tcp:u:secretw@h:1",
            "jdbc:postgresql://u:x@h/db?user=u&password=secretw",
            "http-get://u:secretw@h",
        ] {
            let why = parse(OsStr::new(text), &TargetOptions::default(), &Demand::default());
            let why = why.map(|target| target.name).unwrap_err().to_string();
            assert!(why.contains("***@") && !why.contains("secretw"), "{why}");
            assert!(!why.contains("'a'"), "{why}");
        }
        let text = OsStr::new("host=h password=secretw");
        let why =
            parse(text, &TargetOptions::default(), &Demand::default()).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("host=h password=***") && !why.contains("secretw"), "{why}");
        let text = OsStr::new("http://u:99/secretw@h/");
        assert_eq!(parse(text, &TargetOptions::default(), &Demand::default()).unwrap().name, "http://***@h/");
    }

    #[test]
    fn reads_pids_and_times() {
        assert_eq!(Newer::parse("42"), Ok(Newer::Process(Pid::new(42).unwrap())));
        assert_eq!(Newer::parse("@1"), Newer::parse("1970-01-01T00:00:01Z"));
        assert_eq!(Newer::parse("@1.5"), Newer::parse("@1.500000000"));
        for text in ["", "0", "-1", "@", "@x", "@-1", "@1.x", "@.5", "@+1", "yesterday"] {
            assert!(Newer::parse(text).is_err(), "{text}");
        }
    }
}
