//! baa-reload killed: by KILL, QUIT and the end of its session, at every moment; with its guardian and
//! without. The job is registered afterwards, and the journal says who saw to it. On the model of launchd
//! and on the embedded manager; BAA_KILLS sets how often.

use crate::support::launchd::Launchd;
use crate::support::{CONDUCTOR as LABEL, Room, alive, port, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many kills there are on each manager: more show more, and take up to two seconds each.
fn kills() -> u64 {
    std::env::var("BAA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// The guardians of the reloads of this room.
fn guardians(room: &Room) -> Vec<u32> {
    let ours = room.text("state");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|one| one.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cmdline") == b"baa-reload\0guard\0"
            && String::from_utf8_lossy(&read("environ")).contains(&format!("XDG_STATE_HOME={ours}\0"))
    })
    .collect()
}

fn history(room: &Room) -> Vec<Value> {
    let done = room.run("baa-reload", ["history", "--json"]);
    assert_eq!(done.status, 0, "{done:?}");
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command that is started and killed after `delay`; whether it was killed before it ended. One that ends
/// before has done what it is for.
fn killed(command: &mut Command, delay: Duration, with: Signal) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    if child.try_wait().unwrap().is_none() {
        signal(child.id(), with);
    }
    let status = child.wait().unwrap();
    assert!(matches!(status.code(), None | Some(0)), "{status}");
    status.code().is_none()
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What came of killing.
#[derive(Debug, Default)]
struct Tally {
    killed: u64,
    /// Of these, while the job was not registered.
    stranded: u64,
    /// From a death until nobody was at work any more.
    longest: Duration,
}

/// Kills reloads at every moment of theirs, until so many were hit; each time the job is registered when
/// nobody is at work on it any more.
fn kill_at_random(room: &Room, reload: &dyn Fn() -> Command, registered: &dyn Fn() -> bool) -> Tally {
    let mut dice = Dice(7);
    let mut tally = Tally::default();
    // How long one takes changes with the machine: half of them should be hit.
    let mut span = whole(&mut reload());
    while tally.killed < kills() {
        let with = [Signal::SIGKILL, Signal::SIGQUIT][usize::try_from(dice.roll(2)).unwrap()];
        let delay = Duration::from_micros(dice.roll(span.max(1000)));
        let hit = killed(&mut reload(), delay, with);
        let died = Instant::now();
        span = if hit { span + span / 16 } else { span - span / 16 };
        tally.killed += u64::from(hit);
        tally.stranded += u64::from(hit && !registered());
        until("nobody is at work on it", || guardians(room).is_empty());
        assert!(registered(), "stranded: {tally:?}");
        tally.longest = tally.longest.max(died.elapsed());
    }
    tally
}

/// A room with a job on a model of launchd that takes its time.
fn on_launchd(room: &Room) -> Launchd<'_> {
    let launchd = Launchd::start(room, &["linger=30", "drain=5,37"]);
    room.conductor(port(), &["--drain", "20"], "<key>ExitTimeOut</key><integer>1</integer>");
    launchd.bootstrap(LABEL);
    launchd
}

/// How long a reload takes that nobody kills, in microseconds.
fn whole(command: &mut Command) -> u64 {
    let began = Instant::now();
    assert_eq!(crate::support::finish(command).status, 0);
    u64::try_from(began.elapsed().as_micros()).unwrap()
}

#[apply(test)]
fn a_killed_reload_is_finished_by_its_guardian() {
    let room = Room::new();
    let launchd = on_launchd(&room);
    let tally = kill_at_random(&room, &|| launchd.reload(&["-q"]), &|| launchd.registered(LABEL));
    assert!(tally.stranded > 0, "no reload was killed while the job was unregistered: {tally:?}");
    let ends: Vec<Value> = history(&room);
    assert!(ends.iter().all(|one| !one["end"].is_null()), "{:?}", ends.last());
    let guarded = ends.iter().filter(|one| one["end"]["ended_by"] == "guardian").count();
    assert!(guarded > 0);
    println!("{tally:?}");
}

#[apply(test)]
fn a_reload_that_was_killed_with_its_guardian_is_finished_by_the_next() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["linger=400"]);
    let port = port();
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    for resume in [true, false] {
        let before = launchd.calls().len();
        let mut child = launchd.reload(&["-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("bootout", || launchd.calls()[before..].iter().any(|call| call.starts_with("bootout")));
        guardians(&room).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
        signal(child.id(), Signal::SIGKILL);
        child.wait().unwrap();
        until("it is stranded", || !launchd.registered(LABEL));
        let open = history(&room).pop().unwrap();
        assert!(open["end"].is_null(), "{open}");
        let told = room.run("baa-reload", ["history", "--label", LABEL]);
        assert!(told.stdout.lines().last().unwrap().contains("  cut-off  "), "{told:?}");
        let pid = open["by"]["pid"].as_u64().unwrap();
        let done = if resume {
            // Nothing else is asked for.
            let mut command = launchd.reload(&[]);
            command.arg("--resume");
            crate::support::finish(&mut command)
        } else {
            crate::support::finish(&mut launchd.reload(&["--json"]))
        };
        assert_eq!(done.status, 0, "{done:?}");
        assert!(
            done.stderr.contains(&format!("by process {pid} was cut off; finishing it first")),
            "{done:?}"
        );
        assert!(launchd.registered(LABEL) && launchd.pid(LABEL).is_some());
        let record = history(&room).into_iter().find(|one| one["id"] == open["id"]).unwrap();
        assert_eq!(
            (record["end"]["ended_by"].as_str(), record["end"]["outcome"].as_str()),
            (Some("resume"), Some("finished"))
        );
    }
    let nothing = room.run("baa-reload", ["--resume"]);
    nothing.expect(0, "", "baa-reload: no reload was cut off\n");
}

/// A new file that launchd would refuse is told of, after the job that was cut off is there again.
#[apply(test)]
fn what_was_cut_off_is_finished_before_a_bad_file_is_refused() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["linger=200"]);
    room.conductor(port(), &[], "");
    assert_eq!(crate::support::finish(&mut launchd.reload(&["-q"])).status, 0);
    let mut child = launchd.reload(&["-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let reloads = || launchd.calls().iter().filter(|call| call.starts_with("bootout")).count();
    until("bootout", || reloads() == 1);
    guardians(&room).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
    signal(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    until("it is stranded", || !launchd.registered(LABEL));
    // The file is cut short by whoever writes it: launchd refuses it, and the kept one is brought up.
    room.write(&format!("agents/{LABEL}.plist"), "<plist version=\"1.0\"><dict>");
    let done = crate::support::finish(&mut launchd.reload(&[]));
    assert_eq!(done.status, 65, "{done:?}");
    assert!(launchd.registered(LABEL), "{done:?}");
}

#[apply(test)]
fn a_guardian_that_was_killed_is_replaced() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["linger=500"]);
    room.conductor(port(), &["--drain", "300"], "");
    launchd.bootstrap(LABEL);
    let mut child = launchd.reload(&["-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    let first = guardians(&room);
    first.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
    // At the next step another one stands by, and finishes what is killed then.
    until("another one", || guardians(&room).iter().any(|pid| !first.contains(pid)));
    signal(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    until("it is finished", || guardians(&room).is_empty());
    assert!(launchd.registered(LABEL));
    assert_eq!(history(&room).pop().unwrap()["end"]["ended_by"], "guardian");
}

#[apply(test)]
fn on_the_embedded_manager_a_killed_reload_is_finished_too() {
    let room = Room::new();
    room.conductor(port(), &["--drain", "20"], "<key>ExitTimeOut</key><integer>1</integer>");
    let agents = room.text("agents");
    let reload = || {
        let mut command = room.command("baa-reload");
        command.args(["--manager", "baa", "--install-dir", &agents, "-q"]);
        command
    };
    assert_eq!(crate::support::finish(&mut reload()).status, 0);
    let status = || {
        let done = room.run("baa-run", ["ctl", "status", LABEL, "--json"]);
        (done.status < 2).then(|| done.json())
    };
    kill_at_random(&room, &reload, &|| status().is_some());
    until("it runs", || status().is_some_and(|now| now["pid"].as_u64().is_some_and(alive)));
    assert!(history(&room).iter().all(|one| !one["end"].is_null()));
}

/// systemd keeps a unit whatever becomes of whoever asked: what is to be shown is that it runs, that the
/// journal says so, and that nobody waits for ever.
#[apply(test)]
fn on_systemd_a_killed_reload_is_finished_too() {
    let room = Room::new();
    let script = format!(
        r#"
D=~/.config/systemd/user; mkdir -p $D
printf '[Service]\nExecStart=/bin/sleep 1000\nTimeoutStopSec=1s\n' > $D/killed.service
export XDG_STATE_HOME=$ROOM/state
reload="baa-reload --manager systemd --scope agent --label killed -q --wait-lock 60s"
$reload; $reload
for i in $(seq {}); do
  $reload & pid=$!
  sleep 0.0$((i % 10))$((i % 7)); kill -9 $pid 2> /dev/null || true; wait $pid 2> /dev/null || true
done
$reload && systemctl --user show -p ActiveState --value killed
baa-reload history --json | grep -vc '"end":' || true"#,
        kills()
    );
    let done = crate::support::systemd::beside_systemd(&room, &script);
    assert_eq!((done.status, done.stdout.as_str()), (0, "active\n0\n"), "{done:?}");
}

/// Who finishes a reload inherits its lock; what it brings up must not, or nobody could reload that again.
#[apply(test)]
fn after_a_guardian_the_job_can_be_reloaded() {
    let room = Room::new();
    room.conductor(port(), &["--drain", "300"], "");
    let agents = room.text("agents");
    let reload = || {
        let mut command = room.command("baa-reload");
        command.args(["--manager", "baa", "--install-dir", &agents, "-q"]);
        command
    };
    assert_eq!(crate::support::finish(&mut reload()).status, 0);
    let pid = || room.run("baa-run", ["ctl", "status", LABEL, "--json"]).json()["pid"].as_u64();
    let old = pid().unwrap();
    let mut child = reload().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("a guardian", || !guardians(&room).is_empty());
    until("it is told to go", || {
        room.run("baa-run", ["ctl", "status", LABEL]).stdout.contains("stopping") || !alive(old)
    });
    signal(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    until("it is finished", || guardians(&room).is_empty());
    assert_eq!(history(&room).pop().unwrap()["end"]["ended_by"], "guardian");
    until("it runs", || pid().is_some_and(|pid| pid != old));
    let again = crate::support::finish(&mut reload());
    assert_eq!(again.status, 0, "{again:?}");
}

/// Looked at first: nothing is done then. One JSON object tells of what was done.
#[apply(test)]
fn a_resume_is_told_of_before_it_is_done() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["linger=400"]);
    room.conductor(port(), &[], "");
    launchd.bootstrap(LABEL);
    let mut child = launchd.reload(&["-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    guardians(&room).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
    signal(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    until("it is stranded", || !launchd.registered(LABEL));
    let calls = launchd.calls().len();
    for more in [&["--resume", "--dry-run"][..], &["--dry-run"]] {
        let told = crate::support::finish(&mut launchd.reload(more));
        assert!(told.status == 0 && told.stderr.contains("would be finished"), "{told:?}");
    }
    assert!(launchd.calls()[calls..].iter().all(|call| call.starts_with("print")), "{:?}", launchd.calls());
    let done = crate::support::finish(&mut launchd.reload(&["--resume", "--json"]));
    assert_eq!(
        (done.status, &done.json()["services"][0]["outcome"]),
        (0, &Value::from("finished")),
        "{done:?}"
    );
    assert!(launchd.registered(LABEL));
}
