//! baa-lease start: the seed's conductor, with a scheduler that runs only while it leads.

use crate::support::control::Control;
use crate::support::{Room, alive, collect, finish, needs, port, signal, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

/// A scheduler that would find another one at work, with a child that has left its session, and neither hears
/// TERM.
const STUBBORN: &str = "trap '' TERM; mkdir busy || echo overlap >> trouble; \
    echo $BAA_LEASE_HOLDER $BAA_LEASE_TERM >> ran; \
    setsid /bin/sh -c 'trap \"\" TERM; while :; do sleep 0.01; done' & echo $$ > pid.tmp; \
    mv pid.tmp pid.$BAA_LEASE_HOLDER; while :; do sleep 0.01; done";

struct Conductor {
    child: Child,
    port: u16,
}

impl Conductor {
    fn start(room: &Room, name: &str, options: &[&str]) -> Conductor {
        let port = port();
        let api = format!("http://127.0.0.1:{port}/");
        let mut command = room.command("baa-lease");
        command
            .args([
                "start",
                "--node-id",
                name,
                "--local-api",
                &api,
                "--lease-ttl-sec",
                "2",
                "--lease-renew-interval-ms",
                "200",
            ])
            .args(options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let conductor = Conductor { child, port };
        until("it has started", || {
            conductor.runtime().is_some_and(|runtime| runtime["runtime"]["started"] == true)
        });
        conductor
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port).as_bytes())
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn role(&self) -> String {
        self.get("/rolez").map(|(_, body)| body.trim().to_owned()).unwrap_or_default()
    }

    fn runtime(&self) -> Option<Value> {
        serde_json::from_str(&self.get("/v1/runtime")?.1).ok()
    }

    fn becomes(&self, role: &str) {
        until(&format!("it is {role}"), || self.role() == role);
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn scheduler(room: &Room, name: &str) -> u64 {
    until("the scheduler runs", || room.path(&format!("pid.{name}")).exists());
    std::fs::read_to_string(room.path(&format!("pid.{name}"))).unwrap().trim().parse().unwrap()
}

/// The seed's own test: what launchd sets gives way to what the command line says.
#[apply(test)]
fn variables_give_way_to_options() {
    let room = Room::new();
    let config = |arguments: &[&str]| {
        let mut command = room.command("baa-lease");
        command.args(["config", "--json"]).args(arguments).envs([
            ("BAA_NODE_ID", "mini-main"),
            ("BAA_CONDUCTOR_HOST", "mini"),
            ("BAA_CONDUCTOR_ROLE", "primary"),
            ("BAA_CONTROL_API_BASE", "https://control.example.test/"),
            ("BAA_CONDUCTOR_LOCAL_API", "http://127.0.0.1:4317/"),
            ("BAA_SHARED_TOKEN", "replace-me"),
            ("BAA_RUNS_DIR", "/tmp/runs"),
            ("BAA_CONDUCTOR_PRIORITY", ""),
            ("BAA_CONDUCTOR_VERSION", " "),
        ]);
        finish(&mut command)
    };
    let done = config(&["--role", "standby"]);
    let said = done.json();
    assert_eq!(
        (&said["role"], &said["nodeId"], &said["controlApiBase"]),
        (&json!("standby"), &json!("mini-main"), &json!("https://control.example.test"))
    );
    assert_eq!(
        (&said["localApiBase"], &said["paths"]["runsDir"], &said["version"]),
        (&json!("http://127.0.0.1:4317/"), &json!("/tmp/runs"), &Value::Null)
    );
    assert_eq!(
        (&said["priority"], &said["preferred"], &said["leaseTtlSec"], &said["renewFailureThreshold"]),
        (&json!(50), &json!(false), &json!(30), &json!(2))
    );
    assert_eq!((&said["heartbeatIntervalMs"], &said["leaseRenewIntervalMs"]), (&json!(5000), &json!(5000)));
    assert!(
        done.stderr.contains("warning: BAA_SHARED_TOKEN is still set to replace-me")
            && !done.stdout.contains("replace-me"),
        "{done:?}"
    );
    let done = config(&[
        "--preferred",
        "--priority",
        "7",
        "--lease-renew-interval-ms",
        "30000",
        "--shared-token",
        "hunter2",
    ]);
    assert_eq!((&done.json()["priority"], &done.json()["preferred"]), (&json!(7), &json!(true)));
    assert!(
        done.stderr.contains("renew interval is >= lease TTL") && !done.stdout.contains("hunter2"),
        "{done:?}"
    );
    assert_eq!(config(&["--no-preferred"]).json()["preferred"], false);
    for (arguments, why) in [
        (["--role", "boss"], "Conductor role must be either \"primary\" or \"standby\"."),
        (["--priority", "-1"], "Conductor priority must be >= 0."),
        (["--priority", "high"], "Conductor priority must be an integer."),
        (["--lease-ttl-sec", "0"], "Conductor lease ttl must be >= 1."),
        (["--heartbeat-interval-ms", "0"], "Conductor heartbeat interval must be >= 1."),
        (
            ["--lease-renew-interval-ms", "99999999999999999999"],
            "Conductor lease renew interval is outside the supported integer range",
        ),
        (["--renew-failure-threshold", "0"], "Conductor renew failure threshold must be >= 1."),
        (["--preferred=perhaps", "-q"], "Conductor preferred flag must be a boolean flag."),
    ] {
        config(&arguments).failed_with(2, why);
    }
    let text = room.run("baa-lease", ["config"]);
    assert!(
        text.stdout.starts_with("identity: localhost-main@localhost(primary)\n")
            && text.stdout.contains("\nshared_token_configured: false\n"),
        "{text:?}"
    );
    assert!(room.run("baa-lease", ["checklist"]).stdout.starts_with("1. register-controller: "));
    assert_eq!(room.run("baa-lease", ["checklist", "--json"]).json()[5]["key"], "start-scheduler");
}

#[apply(test)]
fn once_is_a_heartbeat_a_claim_and_a_snapshot() {
    let room = Room::new();
    // Without a verb, as the seed takes it.
    let done = room.run("baa-lease", ["--node-id", "mini-main", "--run-once"]);
    let said = done.json();
    assert_eq!(
        (done.status, &said["daemon"]["leaseState"], &said["daemon"]["currentTerm"]),
        (0, &json!("leader"), &json!(1))
    );
    assert_eq!(
        (&said["identity"], &said["loops"]["lease"]),
        (&json!("mini-main@localhost(primary)"), &json!(false))
    );
    assert!(done.stderr.contains("BAA_CONDUCTOR_LOCAL_API is not configured"), "{done:?}");
    let done = room.run(
        "baa-lease",
        [
            "start",
            "--node-id",
            "mini-main",
            "--control-api-base",
            "http://127.0.0.1:9",
            "--run-once",
            "--json",
        ],
    );
    let said = done.json();
    assert_eq!(
        (done.status, &said["daemon"]["leaseState"], &said["daemon"]["schedulerEnabled"]),
        (0, &json!("degraded"), &json!(false))
    );
    assert!(
        said["daemon"]["lastError"].as_str().unwrap().starts_with("Control API /v1/leader/acquire: "),
        "{said}"
    );
    room.run("baa-lease", ["start", "--run-once", "-n"]).expect(
        0,
        "",
        "baa-lease: would start localhost-main@localhost(primary) for global\n",
    );
    room.run("baa-lease", ["acquire", "-n", "--lease", "x"]).expect(0, "", "baa-lease: would acquire x\n");
    assert!(room.run("baa-lease", ["status", "--lease", "x"]).stdout.contains("last term 0"));
}

/// The main job: the leader is killed, its scheduler with it, and only then the standby's begins.
fn takes_over(room: &Room, store: &[&str]) {
    let run = |name: &str, role: &str| {
        Conductor::start(
            room,
            name,
            &[
                store,
                &[
                    "--role",
                    role,
                    "--scheduler",
                    STUBBORN,
                    "--on-leader",
                    "echo $BAA_LEASE_HOLDER $BAA_LEASE_STATE >> told",
                ],
            ]
            .concat(),
        )
    };
    let mut a = run("a", "primary");
    let b = run("b", "standby");
    assert_eq!((a.role().as_str(), b.role().as_str()), ("leader", "standby"));
    assert_eq!(
        (a.get("/healthz").unwrap(), a.get("/readyz").unwrap().0, b.get("/readyz").unwrap().0),
        ((200, "ok\n".to_owned()), 200, 200)
    );
    let old = scheduler(room, "a");
    a.kill();
    b.becomes("leader");
    assert!(!alive(old));
    std::fs::remove_dir(room.path("busy")).unwrap();
    scheduler(room, "b");
    assert!(!room.path("trouble").exists());
    assert_eq!(std::fs::read_to_string(room.path("ran")).unwrap(), "a 1\nb 2\n");
    until("hooks were told", || {
        std::fs::read_to_string(room.path("told")).is_ok_and(|told| told == "a leader\nb leader\n")
    });
    // Told to stop, it ends what it has begun before it gives the lease up.
    let last = scheduler(room, "b");
    signal(b.child.id(), Signal::SIGTERM);
    let done = collect(b.child);
    assert!(done.status == 0 && done.stdout.ends_with("conductor stopped after SIGTERM\n"), "{done:?}");
    assert!(!alive(last));
}

#[apply(test)]
fn a_standby_takes_over_on_a_file() {
    let room = Room::new();
    takes_over(&room, &[]);
    room.run("baa-lease", ["status"]).expect(1, "global: nobody, last term 2\n", "");
}

#[apply(test)]
fn a_standby_takes_over_on_the_control_api() {
    let room = Room::new();
    let control = Control::new(&room);
    takes_over(&room, &["--store", &control.base()]);
    let all: Value = serde_json::from_str(&control.get("/v1/controllers", "").2).unwrap();
    let names: Vec<&str> = all["data"]["controllers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["controller_id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(all["data"]["controllers"][1]["status"], "standby");
}

/// One of a name runs on a machine; the next goes on under its lease at once, for the lock says that nothing
/// of the one before lives.
#[apply(test)]
fn one_of_a_name_and_the_next_goes_on() {
    needs("setsid");
    let room = Room::new();
    let mut first = Conductor::start(&room, "a", &["--lease-ttl-sec", "60", "--scheduler", STUBBORN]);
    let old = scheduler(&room, "a");
    room.run("baa-lease", ["start", "--node-id", "a"]).failed_with(75, "a conductor a for global runs here");
    room.run("baa-lease", ["start", "--node-id", "a", "--run-once"]).failed_with(75, "runs here");
    first.kill();
    // While the guardian ends the scheduler nobody else starts.
    until("the next one starts", || {
        let done = room.run("baa-lease", ["start", "--node-id", "a", "--run-once", "--lease-ttl-sec", "60"]);
        assert!(done.status == 75 || !alive(old), "{done:?}");
        done.status == 0
            && done.json()["daemon"]["leaseState"] == "leader"
            && done.json()["daemon"]["currentTerm"] == 1
    });
}

#[apply(test)]
fn without_its_store_it_is_degraded_and_comes_back() {
    let room = Room::new();
    let mut control = Control::new(&room);
    let address = control.address.clone();
    let hooks = [
        "--on-degraded",
        "echo degraded >> told",
        "--on-leader",
        "echo leader >> told",
        "--scheduler",
        "echo $BAA_LEASE_TERM >> ran; exec sleep 1000",
    ];
    let base = control.base();
    let options =
        [&["--store", &base, "--lease-ttl-sec", "30", "--lease-renew-interval-ms", "100"], &hooks[..]]
            .concat();
    let conductor = Conductor::start(&room, "a", &options);
    until("the scheduler runs", || room.path("ran").exists());
    control.kill();
    conductor.becomes("degraded");
    assert_eq!(conductor.get("/readyz").unwrap().0, 503);
    let runtime = conductor.runtime().unwrap();
    assert!(
        runtime["daemon"]["consecutiveRenewFailures"].as_u64().unwrap() >= 2
            && runtime["daemon"]["schedulerEnabled"] == false,
        "{runtime}"
    );
    let _control = Control::start(&room, &address, &[]);
    conductor.becomes("leader");
    until("the scheduler runs again", || std::fs::read_to_string(room.path("ran")).unwrap() == "1\n1\n");
    until("hooks were told", || {
        std::fs::read_to_string(room.path("told")).is_ok_and(|told| told == "leader\ndegraded\nleader\n")
    });
    signal(conductor.child.id(), Signal::SIGINT);
    assert_eq!(collect(conductor.child).status, 0);
}

/// Stopped, it cannot renew; the guardian needs nobody to tell it.
#[apply(test)]
fn a_stopped_leader_leads_no_more_when_it_goes_on() {
    needs("setsid");
    let room = Room::new();
    let a = Conductor::start(&room, "a", &["--scheduler", STUBBORN]);
    let old = scheduler(&room, "a");
    signal(a.child.id(), Signal::SIGSTOP);
    room.run(
        "baa-lease",
        [
            "hold",
            "--node-id",
            "thief",
            "--lease-ttl-sec",
            "60",
            "--",
            "/bin/sh",
            "-c",
            &format!(
                "kill -0 {old} 2> /dev/null && echo alive; kill -CONT {}; until [ -e go ]; do sleep 0.01; \
                 done & sleep 0.3",
                a.child.id()
            ),
        ],
    )
    .expect(0, "", "");
    assert!(!alive(old));
    until("it has seen that", || {
        a.runtime().is_some_and(|runtime| runtime["daemon"]["currentTerm"].as_u64() >= Some(2))
    });
    signal(a.child.id(), Signal::SIGTERM);
    assert_eq!(collect(a.child).status, 0);
}

#[apply(test)]
fn a_scheduler_that_ends_runs_again_and_a_hook_that_fails_is_told() {
    let room = Room::new();
    let a = Conductor::start(
        &room,
        "a",
        &["--scheduler", "echo x >> ran; exit 3", "--on-leader", "echo no luck >&2; exit 7"],
    );
    until("it ran twice", || {
        std::fs::read_to_string(room.path("ran")).is_ok_and(|ran| ran.lines().count() >= 2)
    });
    signal(a.child.id(), Signal::SIGTERM);
    let done = collect(a.child);
    assert!(
        done.stderr.contains("the scheduler has ended by itself: exited with 3; it runs again in 1s"),
        "{done:?}"
    );
    assert!(done.stderr.contains("the hook for leader failed: exited with 7: no luck"), "{done:?}");
}

#[apply(test)]
fn the_local_api_is_for_this_machine() {
    let room = Room::new();
    let start = |url: &str| room.run("baa-lease", ["start", "--local-api", url]);
    start("http://192.0.2.1:4317").failed_with(78, "which is not loopback, without --local-api-anywhere");
    start("https://127.0.0.1:4317").failed_with(2, "plain http");
    start("nonsense").failed_with(2, "the local API cannot be at");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    start(&format!("http://{}", taken.local_addr().unwrap())).failed_with(74, "cannot serve the local API");
    let a = Conductor::start(&room, "a", &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", a.port)).unwrap();
    stream.write_all(b"GET /v1/runtime HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!((a.get("/nothing").unwrap().0, a.get("/rolez?x=y").unwrap().0), (404, 200));
    // One that says nothing does not keep the others from an answer.
    let _silent = TcpStream::connect(("127.0.0.1", a.port)).unwrap();
    assert_eq!(a.get("/healthz").unwrap().0, 200);
    signal(a.child.id(), Signal::SIGTERM);
    collect(a.child);
}

/// Deaths by real-time signals are deaths, of a scheduler and of a hook, also where the caller ignores
/// SIGCHLD.
#[apply(test)]
fn a_death_by_a_real_time_signal_is_seen() {
    let room = Room::new();
    let lease = crate::support::binary("baa-lease");
    let script = format!(
        "trap '' CHLD; exec {} start --scheduler 'kill -34 $$' --on-leader 'kill -64 $$' 2> said",
        lease.display()
    );
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &script]).current_dir(room.dir.path()).env("XDG_STATE_HOME", room.path("state"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let said =
        |words: &str| std::fs::read_to_string(room.path("said")).is_ok_and(|text| text.contains(words));
    until("the scheduler is seen", || said("the scheduler has ended by itself: killed by signal 34"));
    until("the hook is seen", || said("the hook for leader failed: killed by signal 64"));
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

/// What has asked to give up must not claim again under its name: a word of it that comes late would give up
/// what the next has taken.
#[apply(test)]
fn a_name_is_not_kept_once_its_lease_is_given_up() {
    let room = Room::new();
    let conductor = Conductor::start(&room, "a", &[]);
    conductor.becomes("leader");
    let kept = || std::fs::read_to_string(room.path("state/baa/conductors/global+a.lock")).unwrap();
    let first = kept();
    assert!(!first.trim().is_empty());
    signal(conductor.child.id(), Signal::SIGTERM);
    assert_eq!(collect(conductor.child).status, 0);
    assert_eq!(kept(), "");
    let next = Conductor::start(&room, "a", &[]);
    next.becomes("leader");
    assert_ne!(kept(), first);
    signal(next.child.id(), Signal::SIGTERM);
    assert_eq!(collect(next.child).status, 0);
}

/// Conductor and guardian are killed: nobody else on this machine leads while what the scheduler or the hook
/// for leader has started lives.
#[apply(test)]
fn what_a_killed_conductor_leaves_keeps_the_lease() {
    needs("setsid");
    let leaves = "echo $$ > pid.tmp; mv pid.tmp PID; exec sleep 1000";
    for option in ["--scheduler", "--on-leader"] {
        let room = Room::new();
        let far = leaves.replace("PID", "far");
        let script = format!("setsid /bin/sh -c '{far}' & while :; do sleep 0.01; done");
        let mut first = Conductor::start(&room, "a", &[option, &script]);
        until("it has left something", || room.path("far").exists());
        let far: i32 = std::fs::read_to_string(room.path("far")).unwrap().trim().parse().unwrap();
        let own = i32::try_from(first.child.id()).unwrap();
        let table = baa::sys::process::Table::read();
        let below: Vec<i32> = table
            .entries()
            .iter()
            .filter(|entry| entry.parent == own)
            .map(|entry| entry.identity.pid.number())
            .collect();
        // It must not see the guardian's death, or it would end the rest.
        signal(first.child.id(), Signal::SIGSTOP);
        for pid in below {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        first.kill();
        until("the lease runs out", || room.run("baa-lease", ["status"]).status == 1);
        let second = Conductor::start(&room, "b", &[]);
        let hold = ["hold", "--wait", "0", "--node-id", "c", "--", "true"];
        room.run("baa-lease", hold).failed_with(75, "what the last leader of global has started still runs");
        assert_eq!(second.role(), "standby");
        assert!(alive(u64::try_from(far).unwrap()), "{option}");
        signal(u32::try_from(far).unwrap(), Signal::SIGKILL);
        second.becomes("leader");
        signal(second.child.id(), Signal::SIGTERM);
        assert_eq!(collect(second.child).status, 0);
    }
}
