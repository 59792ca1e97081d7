//! The parsers of foreign data, and what must hold of each besides that it does not panic, hang or swell.
//!
//! To add one: a line in the list, a function that feeds it, and a file of seeds, small and each another kind
//! of good, with the words of its language in the first line.

use super::server::Server;
use super::{Target, run};
use crate::act::canary::arming::Armed;
use crate::act::canary::cause::{self, Evidence};
use crate::act::canary::target::CanaryTargetName;
use crate::act::control::api;
use crate::act::control::authorization::Authorization;
use crate::act::control::metrics::Metrics;
use crate::act::control::page::{self, Shown};
use crate::act::group::ask::GroupVerb;
use crate::act::group::plan::GroupPlan;
use crate::act::keeper;
use crate::act::keeper::control::ClientRequest;
use crate::act::keeper::notify::Notification;
use crate::act::lease::line::Line;
use crate::act::peers::registry::Registry;
use crate::life::Lives;
use crate::probe::http::JsonValue;
use crate::service::job::Job;
use crate::service::{JobState, embedded, group, intent, launchd, systemd};
use crate::store::control_api::ControlApi;
use crate::store::etcd::Etcd;
use crate::store::sqlite::Sqlite;
use crate::store::{BootMoment, Claim, ControlStore, Controller, HeardController, Record, Store};
use crate::sys::http::{self, Request, Trust, Url};
use crate::sys::process::Pid;
use crate::words::{error, logfmt, span, stamp};
use serde_json::Value;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Makes each target a test. (On one line: libtest finds them, for all this belongs to the library.)
macro_rules! targets {
    ($($name:ident $(: $($field:ident: $value:expr),*)?;)*) => {
        $(
            #[test] fn $name() {
                let seeds = include_str!(concat!("seeds/", stringify!($name)));
                run(&Target { $($($field: $value,)*)? ..Target::new(stringify!($name), feed::$name, seeds) })
            }
        )*
    };
}

targets! {
    url;
    http_answer: cases: 2500, longest: 16 << 10, memory: (16, 4 << 20);
    http_request;
    etcd: cases: 400, memory: (256, 4 << 20);
    control_api: cases: 800, memory: (256, 4 << 20);
    control_requests;
    lease_rows: cases: 800, memory: (256, 8 << 20);
    job: cases: 4000, longest: 16 << 10, memory: (512, 8 << 20);
    group_file: cases: 2500, memory: (512, 8 << 20);
    peers: memory: (512, 1 << 20);
    launchctl_print;
    systemd_show;
    process_stat;
    socket_row;
    cgroup_files;
    signal_trace;
    kernel_words;
    netlink;
    users;
    sd_notify;
    keeper_requests;
    keeper_answers;
    group_requests;
    group_answers;
    guardian_lines;
    intents;
    life_records: longest: 1 << 16;
    arming_files;
    json_probes;
    control_login;
    canary_lines;
    spans;
    stamps;
    words_for_logs;
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// So that arithmetic with it is safe wherever it comes to.
#[track_caller]
fn bounded(span: Duration) {
    assert!(span <= span::LONGEST, "{span:?} is longer than any span that we reckon with");
}

#[track_caller]
fn sane(state: &JobState) {
    state.exit_timeout.into_iter().chain(state.throttle).for_each(bounded);
}

/// What a parser did not take is told in bounded words that no terminal acts on.
#[track_caller]
fn told(error: &str) {
    assert!(error.len() < 2048, "a message of {} bytes", error.len());
}

/// A file that is read anew in each case; in memory, where there is room for such.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = scratch();
    }
    let path = DIRECTORY.with(|directory| directory.path().join(name));
    std::fs::write(&path, bytes).unwrap();
    // As a secret is kept, for some are.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The server of this thread.
fn with_server<T>(work: impl FnOnce(&Server) -> T) -> T {
    thread_local! {
        static SERVER: Server = Server::start();
    }
    SERVER.with(work)
}

/// Everything that a store is asked, with what it says about it.
fn ask_all(server: &Server, store: &dyn ControlStore) {
    ask_store(server, store);
    let turn = |work: &dyn Fn()| {
        server.begin_anew();
        work();
    };
    turn(&|| drop(store.leases().map(|all| all.iter().for_each(|(_, record)| looked_at(record)))));
    turn(&|| drop(store.controllers().map(|all| all.iter().for_each(|heard| drop(api::controller(heard))))));
    turn(&|| drop(store.changes(10)));
    turn(&|| shown(store));
}

/// What people and their tools are shown of it, which no name of it may break.
fn shown(store: &dyn ControlStore) {
    let now = BootMoment::now().unwrap();
    let leases = store.leases().unwrap_or_default();
    let text = Metrics::default().text(&leases, &now, 1, (1, 1), (1, 1));
    assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("baa_")), "{text}");
    let (controllers, changes) =
        (store.controllers().unwrap_or_default(), store.changes(10).unwrap_or_default());
    let page = page::render(&Shown { leases, controllers, changes }, &now, "nonce");
    assert!(!page.contains("<i>"), "{page}");
}

fn ask_store(server: &Server, store: &dyn Store) {
    let turn = |work: &dyn Fn()| {
        server.begin_anew();
        work();
    };
    let claim = claim();
    turn(&|| drop(store.acquire(&claim)));
    turn(&|| drop(store.renew(&claim, 3)));
    turn(&|| drop(store.release(&claim, 3)));
    turn(&|| drop(store.heartbeat(&Controller { id: "a".to_owned(), ..Controller::default() })));
    turn(&|| drop(store.read("l").map(|record| record.iter().for_each(looked_at))));
}

fn claim() -> Claim {
    Claim {
        lease: "l".to_owned(),
        holder: "a+i".to_owned(),
        host: "h".to_owned(),
        instance: "i".to_owned(),
        ttl: Duration::from_secs(30),
        ..Claim::default()
    }
}

/// What is done with a record that a store has told of.
fn looked_at(record: &Record) {
    let now = BootMoment::now().unwrap();
    let later = BootMoment { boot: "another".to_owned(), since: now.since };
    for now in [now, later] {
        let _ = record.left(&now);
        let _ = api::lease("l", record, &now);
        let carried = record.clone().carried_over(&now);
        let _ = crate::store::decide_acquire(Some(&carried), &claim(), &now);
    }
}

mod feed {
    use super::*;

    pub(super) fn url(case: &[u8]) {
        let text = text(case);
        let (first, second) = text.split_once(' ').unwrap_or((&text, ""));
        let Ok(url) = Url::parse(first).inspect_err(|why| told(why)) else { return };
        let shown = url.to_string();
        // A login is not shown, and a socket may have a name that no URL shows: that is another URL then.
        if !shown.contains("***@") && !shown.contains('#') {
            assert_eq!(Url::parse(&shown).map(|again| again.to_string()), Ok(shown));
        }
        if let Ok(joined) = url.join(second) {
            let shown = joined.to_string();
            assert!(shown.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{shown:?}");
        }
    }

    pub(super) fn http_answer(case: &[u8]) {
        with_server(|server| {
            server.says(case);
            let request = Request {
                url: Url::parse(&format!("http://{}/", server.address)).unwrap(),
                method: "GET".to_owned(),
                headers: Vec::new(),
                body: Vec::new(),
                redirects: false,
                known_peer: None,
                want_body: true,
                trust: Trust::default(),
            };
            match http::ask_now(&request, Instant::now() + Duration::from_secs(10), &Ok) {
                Ok(answer) => assert!(answer.body.len() <= http::BODY_LIMIT && answer.status >= 100),
                Err(failure) => {
                    told(&failure.text);
                    assert!(!failure.text.contains("timed out"), "{}", failure.text);
                }
            }
        });
    }

    pub(super) fn http_request(case: &[u8]) {
        let (status, _, body) = http::serve::reply(case, &|path| {
            assert!(!path.contains('?'));
            (200, "text/plain", path.to_owned())
        });
        assert!([200, 400, 403, 405].contains(&status) && body.len() <= case.len() + 100);
    }

    pub(super) fn etcd(case: &[u8]) {
        with_server(|server| {
            server.says_bodies(case);
            let store = Etcd::new(&format!("etcd://{}/p", server.address), None, Trust::default()).unwrap();
            ask_all(server, &store);
        });
    }

    pub(super) fn control_api(case: &[u8]) {
        with_server(|server| {
            server.says_bodies(case);
            let url = format!("http://{}", server.address);
            let store = ControlApi::new(&url, None, Trust::default()).unwrap();
            ask_store(server, &store);
        });
    }

    pub(super) fn control_requests(case: &[u8]) {
        match api::asked(case) {
            Ok(asked) => {
                bounded(asked.claim.ttl);
                bounded(asked.claim.wait);
            }
            Err(why) => told(&why),
        }
        let _ = api::beat(case)
            .map(|controller| api::controller(&HeardController { controller, ..HeardController::default() }));
    }

    /// Rows of whatever SQLite can hold, whatever the columns are called: a file is foreign too.
    pub(super) fn lease_rows(case: &[u8]) {
        thread_local! {
            static DIRECTORY: tempfile::TempDir = scratch();
            static STORE: (Sqlite, rusqlite::Connection) = DIRECTORY.with(|directory| {
                let path = directory.path().join("lease.db");
                let store = Sqlite::open(&path).unwrap();
                store.acquire(&claim()).unwrap();
                store.heartbeat(&Controller { id: "a".to_owned(), ..Controller::default() }).unwrap();
                let other = rusqlite::Connection::open(&path).unwrap();
                other.execute_batch("PRAGMA synchronous = OFF").unwrap();
                (store, other)
            });
        }
        let mut rest = case;
        let mut value = || value(&mut rest);
        let columns = [
            "holder",
            "host",
            "instance",
            "term",
            "ttl_ms",
            "boot",
            "expires_ns",
            "preferred",
            "metadata",
            "far",
        ];
        STORE.with(|(store, other)| {
            let mut set = |table: &str, columns: &[&str]| {
                for column in columns {
                    // What a column does not take at all is not there to be read.
                    let _ = other.execute(&format!("UPDATE {table} SET {column} = ?1"), [value()]);
                }
            };
            set("leases", &columns);
            set(
                "controllers",
                &["host", "role", "priority", "status", "version", "heartbeat_at", "started_at", "heard_at"],
            );
            set("changes", &["term", "holder", "host", "at"]);
            // So that arithmetic meets what lasts now, too.
            if case.len().is_multiple_of(2) {
                let now = BootMoment::now().unwrap();
                let _ = other.execute("UPDATE leases SET boot = ?1", [now.boot]);
            }
            let _ = store.read("l").map(|record| record.iter().for_each(looked_at));
            let _ = store.leases().map(|all| all.iter().for_each(|(_, record)| looked_at(record)));
            shown(store);
            let before = store.read("l").ok().flatten().map_or(0, |record| record.term);
            if let Ok(crate::store::ClaimAnswer::Ours { record, .. }) = store.acquire(&claim()) {
                assert!(
                    record.term >= before && record.term > 0,
                    "the term went from {before} to {}",
                    record.term
                );
                assert_eq!(store.read("l").unwrap().unwrap().term, record.term);
            }
        });
    }

    fn value(rest: &mut &[u8]) -> rusqlite::types::Value {
        use rusqlite::types::Value;
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count.min(rest.len()));
            *rest = left;
            taken
        };
        let kind = take(1).first().copied().unwrap_or(0) % 5;
        let mut word = || {
            let mut word = [0; 8];
            let bytes = take(8);
            word[..bytes.len()].copy_from_slice(bytes);
            word
        };
        match kind {
            0 => Value::Null,
            1 => Value::Integer(i64::from_le_bytes(word())),
            2 => Value::Real(f64::from_le_bytes(word())),
            kind => {
                let length = take(1).first().copied().unwrap_or(0);
                let bytes = take(length.into());
                if kind == 3 { Value::Text(text(bytes).into_owned()) } else { Value::Blob(bytes.to_vec()) }
            }
        }
    }

    pub(super) fn job(case: &[u8]) {
        match Job::read(&file("job.plist", case)) {
            Ok(job) => {
                bounded(job.throttle);
                bounded(job.exit_timeout);
                assert!(job.umask.is_none_or(|mask| mask <= 0o777) && !job.arguments.is_empty());
            }
            Err(error) => told(&error.to_string()),
        }
    }

    pub(super) fn group_file(case: &[u8]) {
        match GroupPlan::read(&file("g.toml", case)) {
            Ok(plan) => {
                let (start, stop) = (plan.waves(), plan.stop_waves());
                let count = |waves: &[Vec<usize>]| waves.iter().map(Vec::len).sum::<usize>();
                assert_eq!((count(&start), count(&stop)), (plan.entries.len(), plan.entries.len()));
                for entry in &plan.entries {
                    bounded(entry.rules.stop_timeout);
                    bounded(entry.probe_timeout);
                }
            }
            Err(error) => told(&error.to_string()),
        }
    }

    pub(super) fn peers(case: &[u8]) {
        let text = text(case);
        let Ok(registry) = Registry::parse(&text) else { return };
        let _ = registry.near("abc");
        let names: Vec<String> = registry.names().map(str::to_owned).collect();
        for name in names.iter().take(3) {
            assert!(registry.find(name).is_some());
            let without = registry.without(name).unwrap();
            let again = Registry::parse(&without).unwrap();
            let left: Vec<&str> = names.iter().map(String::as_str).filter(|other| other != name).collect();
            assert_eq!(again.names().collect::<Vec<_>>(), left);
        }
    }

    pub(super) fn launchctl_print(case: &[u8]) {
        if let Some(seen) = launchd::print::read(&text(case), "gui/501/a") {
            sane(&launchd::state(&seen, "gui/501/a"));
        }
    }

    pub(super) fn systemd_show(case: &[u8]) {
        let seen = systemd::properties(&text(case));
        systemd::state(&seen).iter().for_each(sane);
        let _ = systemd::ended(&seen, Pid::new(42).unwrap());
        seen.values().for_each(|value| drop(systemd::words(value)));
    }

    pub(super) fn process_stat(case: &[u8]) {
        #[cfg(target_os = "linux")]
        if let Some(entry) = crate::sys::process::linux::parse(Pid::new(7).unwrap(), case) {
            let _ = entry.identity.started_at();
        }
    }

    pub(super) fn socket_row(case: &[u8]) {
        #[cfg(target_os = "linux")]
        let _ = crate::sys::owner::linux::row(&text(case));
    }

    pub(super) fn cgroup_files(case: &[u8]) {
        let text = text(case);
        let (membership, mounts) = text.split_once('\0').unwrap_or((&text, ""));
        assert!(crate::sys::cgroup::find(membership, mounts).len() <= 2);
    }

    pub(super) fn signal_trace(case: &[u8]) {
        let _ = text(case).lines().filter_map(crate::sys::process::trace::parse).count();
    }

    pub(super) fn kernel_words(case: &[u8]) {
        let who = Pid::new(42).unwrap();
        let words = text(case);
        let sent = words.lines().filter_map(crate::sys::process::trace::parse).collect();
        let evidence = Evidence {
            ending: None,
            sent: Some(sent),
            at: Duration::from_secs(1),
            kernel: Some(words.lines().map(str::to_owned).collect()),
            group: None,
            machine: Some(u64::MAX),
            ended: None,
            tmux: None,
            suspended: Duration::MAX,
            rebooted: false,
        };
        let _ = cause::judge(who, &evidence);
    }

    pub(super) fn netlink(case: &[u8]) {
        #[cfg(target_os = "linux")]
        {
            let _ = crate::sys::process::exits::connector::exit(case);
            let _ = crate::sys::listening::system::verdict(case);
        }
        let _ = case;
    }

    pub(super) fn users(case: &[u8]) {
        #[cfg(target_os = "linux")]
        for line in case.split(|byte| *byte == b'\n') {
            use crate::sys::user::database::{group_line, user};
            if let Some(user) = user(line) {
                assert!(!user.name.is_empty() && user.uid != u32::MAX && user.gid != u32::MAX);
            }
            let _ = group_line(line);
        }
        let _ = crate::sys::nss::sources(&text(case), "passwd");
        let addresses = crate::sys::net::names::listed(&text(case));
        assert!(addresses.len() <= case.len() / 2);
    }

    pub(super) fn sd_notify(case: &[u8]) {
        let mut told = Notification::default();
        told.hear(case);
        assert!(
            told.status.is_none_or(|status| {
                status.chars().count() <= 200 && !status.chars().any(char::is_control)
            })
        );
    }

    pub(super) fn keeper_requests(case: &[u8]) {
        if let Ok(ClientRequest::Restart { reason: Some(reason), .. }) = keeper::control::parse(case) {
            assert!(reason.chars().count() <= intent::REASON_LIMIT);
        }
    }

    pub(super) fn keeper_answers(case: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(case) else { return };
        sane(&embedded::state(&answer));
        let _ = keeper::ask::words(&answer);
    }

    pub(super) fn group_requests(case: &[u8]) {
        let _ = GroupVerb::parse(case);
    }

    pub(super) fn group_answers(case: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(case) else { return };
        answer["entries"].as_array().into_iter().flatten().for_each(|entry| sane(&group::state(entry)));
        let _ = crate::act::group::table::table(&answer);
    }

    pub(super) fn guardian_lines(case: &[u8]) {
        for line in text(case).lines() {
            if let Some(parsed) = Line::parse(line) {
                let written = parsed.text();
                let again = Line::parse(written.trim_end_matches('\n'));
                assert_eq!(again.map(|again| again.text()), Some(written));
            }
        }
    }

    pub(super) fn intents(case: &[u8]) {
        let path = file("intent.json", case);
        if let Some(found) = intent::take_at(&path, Pid::new(42).unwrap(), SystemTime::now()) {
            assert!(found.reason.is_none_or(|reason| reason.chars().count() <= intent::REASON_LIMIT));
        }
        assert!(!path.exists());
    }

    pub(super) fn life_records(case: &[u8]) {
        let path = file("lives", case);
        let lives = Lives::open(&path, "fuzz", 2).unwrap();
        lives.over(1).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= case.len().max(2048) as u64 + 1024);
    }

    pub(super) fn arming_files(case: &[u8]) {
        if let Some(armed) = Armed::read(&file("armed", case)) {
            let _ = (armed.text(), armed.json());
        }
    }

    pub(super) fn json_probes(case: &[u8]) {
        let text = text(case);
        let (wanted, body) = text.split_once('\n').unwrap_or((&text, ""));
        let (Ok(wanted), Ok(body)) = (JsonValue::parse(wanted), serde_json::from_str::<Value>(body)) else {
            return;
        };
        let _ = wanted.check(&body);
    }

    pub(super) fn control_login(case: &[u8]) {
        use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
        thread_local! {
            static GUARD: Authorization =
                Authorization::new(Some(&file("tokens", b"a token\n")), None).unwrap();
        }
        let mut headers = HeaderMap::new();
        for (name, line) in
            [AUTHORIZATION, HOST, CONTENT_TYPE].into_iter().zip(case.split(|byte| *byte == b'\n'))
        {
            HeaderValue::from_bytes(line).into_iter().for_each(|value| drop(headers.insert(&name, value)));
        }
        let caller = crate::act::control::listener::Caller::At(([127, 0, 0, 1], 9).into());
        let open = Authorization::new(None, None).unwrap().admit(caller, &headers, true).is_ok();
        let admitted = GUARD.with(|guard| guard.admit(caller, &headers, true)).is_ok();
        let text = text(case);
        assert!(!admitted || text.contains("a token") || text.to_ascii_lowercase().contains("basic"));
        assert!(
            !open
                || text.contains("application/json")
                || text.to_ascii_lowercase().contains("application/json")
        );
    }

    pub(super) fn canary_lines(case: &[u8]) {
        for line in text(case).lines() {
            let _ = CanaryTargetName::parse(line).inspect_err(|why| told(why));
        }
    }

    pub(super) fn spans(case: &[u8]) {
        if let Ok(span) = span::parse(&text(case)) {
            bounded(span);
            assert!(span::parse(&span::show(span)).is_ok(), "{}", span::show(span));
        }
    }

    pub(super) fn stamps(case: &[u8]) {
        if let Some(time) = stamp::parse(&text(case)) {
            let shown = stamp::millis(time);
            assert_eq!(stamp::parse(&shown).map(stamp::millis), Some(shown));
        }
    }

    pub(super) fn words_for_logs(case: &[u8]) {
        let value = text(case);
        let mut line = String::new();
        logfmt::field(&mut line, "key", &value);
        assert!(!line.chars().any(char::is_control) && line.starts_with("key="), "{line:?}");
        let brief = error::brief(&value);
        assert!(brief.chars().count() <= 201 && !brief.chars().any(char::is_control), "{brief:?}");
        let _ = error::lower_first(&value);
    }
}
