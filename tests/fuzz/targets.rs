//! The parsers of foreign data, and what must hold of each besides that it does not panic, hang or swell.
//!
//! To add one: a line in the list, a function that feeds it, and small seeds, each another kind of good.

use super::server::Server;
use super::{Target, run};
use crate::act::canary::cause::{self, Evidence};
use crate::act::canary::target::CanaryTargetName;
use crate::act::control::api;
use crate::act::group::ask::GroupVerb;
use crate::act::group::plan::GroupPlan;
use crate::act::keeper;
use crate::act::keeper::control::ClientRequest;
use crate::act::keeper::notify::Notification;
use crate::act::lease::line::Line;
use crate::act::peers::registry::Registry;
use crate::service::job::Job;
use crate::service::{JobState, embedded, group, intent, launchd, systemd};
use crate::store::control_api::ControlApi;
use crate::store::etcd::Etcd;
use crate::store::sqlite::Sqlite;
use crate::store::{BootMoment, Claim, ControlStore, Controller, Record, Store};
use crate::sys::http::{self, Request, Trust, Url};
use crate::sys::process::Pid;
use crate::words::{error, logfmt, span, stamp};
use serde_json::Value;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Makes each target a test. (On one line: libtest finds them, for all this belongs to the library.)
macro_rules! targets {
    ($($name:ident: $seeds:expr $(, $field:ident: $value:expr)*;)*) => {
        $(
            #[test] fn $name() {
                run(&Target { $($field: $value,)* ..Target::new(stringify!($name), feed::$name, $seeds) })
            }
        )*
    };
}

const JSON: &str = "null true false {} [] [[[[ {\"a\": \" \\u0000 \\ud800 1e999 -1 :";

targets! {
    url: &[
        b"http://localhost:80/a?b=c#d http://other/x", b"https://u:p%40@[::1]:8443/ /abs?x",
        b"http+unix:///run/a.sock:/p ?q", b"http+unix://%2Frun%2Fa.sock/p //h/x",
    ], words: "http:// https:// http+unix:// %00 %2F @ [::1] :0 :65536 /../ ://";
    http_answer: &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\nuntil the end",
    ], words: "HTTP/1.1 101 Content-Length: Transfer-Encoding: chunked gzip \r\n\r\n Location: Retry-After: Age: ffffffffffffffff 8000000000000000",
       cases: 4000, longest: 16 << 10, memory: (16, 4 << 20);
    http_request: &[
        b"GET /x?y HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", b"HEAD / HTTP/1.0\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    ], words: "GET POST HEAD Host: localhost \r\n\r\n HTTP/1.1";
    etcd: &[
        br#"{"responses":[{"response_range":{"kvs":[{"value":"eyJob2xkZXIiOiJhK2kiLCJ0ZXJtIjozLCJ0dGxfbXMiOjMwMDAwLCJpbnN0YW5jZSI6ImkifQ==","lease":"7","mod_revision":"5"}]}},{"response_range":{"kvs":[{"value":"eyJ0ZXJtIjozfQ==","mod_revision":"4"}]}}],"succeeded":true,"TTL":"17","ID":"9","result":{"TTL":"30"},"kvs":[]}"#,
        br#"{"kvs":[{"key":"cC9sZWFzZXMvYS90ZXJt","value":"eyJ0ZXJtIjozfQ==","mod_revision":"4"}],"more":true}
{"responses":[{},{}],"TTL":"-1"}"#,
        b"{\"ID\":\"9\"}\n503{\"message\":\"no leader\",\"code\":14}\n401{\"error\":\"x\"}\n{\"succeeded\":false}",
    ], words: "responses response_range kvs value lease mod_revision TTL ID result succeeded more \"18446744073709551615\" \"9223372036854775807\" eyJ0ZXJtIjoxODQ0Njc0NDA3MzcwOTU1MTYxNX0= 503 200",
       cases: 700, memory: (256, 4 << 20);
    control_api: &[
        br#"{"ok":true,"data":{"holder_id":"a","term":3,"lease_expires_at":1e9,"left_ms":500,"is_leader":true,"holder_host":"h","lease":{"lease_name":"l","metadata_json":"{}"}}}"#,
        br#"{"holderId":"b","term":18446744073709551615,"leaseExpiresAt":1,"isLeader":false}"#,
        b"409{\"ok\":false,\"error\":\"lost\",\"message\":\"x\"}\n{\"term\":0,\"is_leader\":false,\"holder_id\":null}\n{\"released\":true}",
    ], words: "ok data term left_ms holder_id lease_expires_at is_leader renewed_at operation renew 500 404 18446744073709551615",
       cases: 1500, memory: (256, 4 << 20);
    control_requests: &[
        br#"{"controller_id":"a","host":"h","ttl_sec":30,"preferred":true,"lease_name":"l","instance":"i","wait_ms":9,"term":3}"#,
        br#"{"controllerId":"a","ttlSec":30.0,"priority":7,"heartbeatAt":5,"metadataJson":"{}","version":null}"#,
    ], words: JSON;
    lease_rows: &[
        b"\x03\x02a+\x03\x01h\x03\x01i\x01\x05\0\0\0\0\0\0\0\x01\x30\x75\0\0\0\0\0\0\x03\x01b\x01\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\x01\x01\0\0\0\0\0\0\0",
        b"\0\x03\x01h\x03\0\x01\xff\xff\xff\xff\xff\xff\xff\x7f\x01\xff\xff\xff\xff\xff\xff\xff\x7f\x03\x01b\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0",
    ], cases: 1500, memory: (256, 8 << 20);
    job: &[
        br#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict><key>Label</key><string>a.b</string><key>ProgramArguments</key><array><string>/bin/sh</string><string>-c</string></array><key>ExitTimeOut</key><integer>5</integer><key>ThrottleInterval</key><integer>10</integer><key>KeepAlive</key><dict><key>SuccessfulExit</key><false/><key>PathState</key><dict><key>/x</key><true/></dict></dict><key>Umask</key><string>022</string><key>EnvironmentVariables</key><dict><key>A</key><string>b</string></dict></dict></plist>"#,
        b"{ Label = \"a.b\"; Program = /bin/sh; }",
        b"bplist00\xd5\x01\x02\x03\x04\x05\x06\x07\x0a\x0b\x0e[ExitTimeOutYKeepAliveULabel_\x10\x10ProgramArguments_\x10\x10ThrottleInterval\x10\x05\xd1\x08\x09^SuccessfulExit\x08Sa.b\xa2\x0c\x0dW/bin/shR-c\x10\x0a\x08\x13\x1f)/BUWZijnqy|\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00~",
    ], words: "<dict> </dict> <key> </key> <integer> </integer> <string> <array> <real> <date> <data> <true/> ExitTimeOut ThrottleInterval KeepAlive RunAtLoad Umask UserName -1 0x7fffffffffffffff <!DOCTYPE <!ENTITY &a; ]]> bplist00",
       cases: 6000, longest: 16 << 10, memory: (512, 8 << 20);
    group_file: &[
        b"[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\"]\nrequires = [\"b\"]\nready = { probe = \"tcp://127.0.0.1:1\", timeout = \"1s\", interval = { default = 5, starting = 0.1 } }\nrestart = { policy = \"always\", initial = \"0s\", step = 0.05, cap = \"30s\", max = 2 }\nstop-timeout = 5\n\n[[oneshot]]\nid = \"b\"\ncommand = [\"true\"]\nenv = { A = \"b\" }\nstop_signal = \"INT\"\n",
        b"[[check]]\nid = \"c\"\nready = { probe = \"file:/x\", anyone = true, success_threshold = 2, grace = \"1m30s\" }\non-dependency-failure = \"stop\"\n[[daemon]]\nid='d'\ncommand=['x']\nuser='root'\ncwd='/'\n",
    ], words: "[[daemon]] [[oneshot]] [[check]] id = requires ready probe timeout interval restart policy initial step cap max reset_after stop_timeout 1e999 nan -inf \"\"\" ''' {} [ ] 1979-05-27T07:32:00Z 0xffffffffffffffff 99999999999d",
       cases: 4000, memory: (512, 8 << 20);
    peers: &[
        br#"{"version":2,"peers":[{"personality":"a","default_runtime":"claude","cwd":"/x","intelligence":"artificial"},{"personality":"b","runtime":"codex","runtimes":["codex","claude"]}]}"#,
        br#"[ {"personality":"a","runtime":"claude"} ,{"personality":"c","default_runtime":"claude","runtimes":null} ]"#,
    ], words: "personality default_runtime runtimes cwd intelligence version peers claude codex null {} [] , 2 3",
       memory: (512, 1 << 20);
    launchctl_print: &[
        b"gui/501/a = {\n\tactive count = 1\n\tpath = /a.plist\n\tstate = running\n\tpid = 4242\n\truns = 3\n\texit timeout = 5\n\tminimum runtime = 10\n\tlast exit code = 78: EX_CONFIG\n\tenvironment = {\n\t\tA => b\n\t}\n}\n",
    ], words: "gui/501/a = { } \t pid runs state exit timeout minimum runtime SIGTERMed spawn";
    systemd_show: &[
        b"LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=42\nNRestarts=3\nTimeoutStopUSec=1min 30s\nRestartUSec=100ms\nExecMainPID=42\nExecMainCode=2\nExecMainStatus=9\nResult=success\nActiveExitTimestampMonotonic=5\nExecMainExitTimestampMonotonic=7\nEnvironment=A=b \"C=d e\"\nControlGroup=/none\n",
    ], words: "infinity 1min 99999999999999999999d 18446744073709551615s us ms h = MainPID ExecMainCode ControlGroup=/ /../ \\ \" '";
    process_stat: &[b"7 (a) R 1) S 4 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0"], words: "( ) S Z X";
    socket_row: &[
        b"   0: 0100007F:10DD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0",
        b"   1: 00000000000000000000000001000000:0050 0000000000000000FFFF00000100007F:0050 01 0:0 0:0 0 0 0 9",
    ], words: "+ : FFFFFFFF";
    cgroup_files: &[
        b"4:memory:/part/a\n3:cpu:/\n0::/b\n\x0030 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n31 23 0:27 /part /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    ], words: "memory cgroup cgroup2 - /.. : ::";
    signal_trace: &[
        b"  kill-12  [000] d..1.  11.5: signal_generate: sig=15 errno=0 code=0 comm=x pid=9 grp=1 res=0",
    ], words: "signal_generate: sig= code= pid= grp= comm= [ ] -";
    kernel_words: &[
        b"Out of memory: Killed process 42 (name) total-vm:1kB", b"oom_reaper: reaped process 42 (x)",
    ], words: "Killed process 42 ( )";
    netlink: &[
        b"\x4c\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0\x2a\0\0\0\x2a\0\0\0\0\x09\0\0\x11\0\0\0",
        b"\x48\0\0\0\x14\0\0\0\0\0\0\0\0\0\0\0\x02\x0a\0\0",
    ];
    users: &[
        b"bob:x:1000:100:Bob,,,:/home/bob:/bin/zsh", b"staff:x:50:bob,eve",
        b"passwd: files systemd [!UNAVAIL=return] nis # x\nhosts: files dns",
    ], words: "+ - :: [ ] root:x:0:0 passwd: hosts:";
    sd_notify: &[b"READY=1\nSTATUS=serving\nWATCHDOG=1\nMAINPID=7"], words: "READY=1 STATUS= WATCHDOG=trigger FDSTORE=1";
    keeper_requests: &[
        br#"{"verb":"restart","reason":"why","now":true}"#, br#"{"verb":"spare","pid":42}"#, br#"{"verb":"status"}"#,
    ], words: "verb restart spare drain update pid reason";
    keeper_answers: &[
        br#"{"state":"running","pid":42,"start":7,"boot":"b","runs":3,"exit_timeout_ms":20000,"drain_ms":5,"throttle_ms":1000,"last_exit":"exited with 0","beside":{"pid":9,"start":1,"boot":"b"},"up_ms":5,"restart_in_ms":7,"drain":{"left":3}}"#,
    ], words: "state running draining pid start boot runs exit_timeout_ms drain_ms throttle_ms beside 18446744073709551615";
    group_requests: &[br#"{"verb":"restart","id":"a"}"#, br#"{"verb":"stop"}"#], words: "verb id status reload check renew";
    group_answers: &[
        br#"{"entries":[{"id":"a","status":"success","message":"x","pid":42,"life":3,"up_ms":7,"stop_timeout_ms":60000,"failed_exits":0,"last":"exited with 0","next_start_ms":5,"waits_for":["b"]}],"stopping":false}"#,
    ], words: "entries id status success failure waiting pid life up_ms stop_timeout_ms 18446744073709551615";
    guardian_lines: &[b"until 1 2\nsignal 15\nstarted\nfailed 127 no such file\ncode 3 0\nkilled 9 1\n"], words: "until signal started failed code killed";
    intents: &[br#"{"kind":"baa-restart","pid":42,"created_ms":5,"reason":"new config"}"#], words: "kind baa-restart pid created_ms reason";
    canary_lines: &[b"sock=/tmp/x identity=a", b"pid=42", b"unit=a.service", b"# none"], words: "sock= pid= pidfile= unit= label= identity=";
    spans: &[b"1m30s", b"500ms", b"0.5", b"1d2h3m4s5ms"], words: "ms s m h d . 1e9";
    stamps: &[b"2026-01-31T12:00:00Z", b"1970-01-01T00:00:00.5Z"], words: "T Z - : . 9999-12-31";
    words_for_logs: &[b"key=value", b"a \"quoted\" one\\", b"\x07bell\nline"], words: "= \" \\";
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
    turn(&|| {
        drop(
            store.controllers().map(|all| all.iter().for_each(|(one, ago)| drop(api::controller(one, *ago)))),
        )
    });
    turn(&|| drop(store.changes(10)));
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
        // A login is not shown, so what is shown is another URL then.
        if !shown.contains("***@") {
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
                want_body: true,
                trust: Trust::default(),
            };
            match http::ask(&request, Instant::now() + Duration::from_secs(10), &Ok) {
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
        let _ = api::beat(case).map(|beat| api::controller(&beat, Duration::ZERO));
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
            if case.len() % 2 == 0 {
                let now = BootMoment::now().unwrap();
                let _ = other.execute("UPDATE leases SET boot = ?1", [now.boot]);
            }
            let _ = store.read("l").map(|record| record.iter().for_each(looked_at));
            let _ = store.leases().map(|all| all.iter().for_each(|(_, record)| looked_at(record)));
            let _ = store.controllers();
            let _ = store.changes(10);
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
            sane(&launchd::state(&seen));
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
        drop(crate::sys::owner::linux::row(&text(case)));
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
