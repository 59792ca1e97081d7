//! Walls around real processes that try to get away.

use super::tree::{kill_until_gone, tree};
use super::*;
use crate::sys::cgroup::CgroupParent;
use crate::sys::child::{self, Signal, Spec};
use crate::sys::process::{Identity, Pid};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A shell that has left `far` behind: in a session of its own, its parent dead.
fn shell(dir: &Path, script: &str) -> Spec {
    let mut spec = Spec::new("/bin/sh", ["-c", script]);
    spec.dir = Some(dir.to_owned());
    spec
}

const LEAVE: &str = "(setsid sh -c 'echo $$ > far.tmp; mv far.tmp far; exec sleep 1000' &)";

fn far(dir: &Path) -> Identity {
    until("it has left", || dir.join("far").exists());
    let pid = std::fs::read_to_string(dir.join("far")).unwrap().trim().parse().unwrap();
    Identity::of(Pid::new(pid).unwrap()).unwrap()
}

#[test]
fn a_key_is_the_same_in_every_release() {
    // FNV-1a of the specification's own test vectors.
    assert_eq!(key(b""), "cbf29ce484222325");
    assert_eq!(key(b"foobar"), "85944171f73967e8");
}

/// A pid that was given away again belongs to a stranger.
#[test]
fn a_stranger_with_the_same_pid_is_none_of_us() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Wall::new("test", None, false, false);
    let main = wall.start_claimed(shell(dir.path(), "exec sleep 1000")).unwrap().identity;
    let stranger = Identity { pid: main.pid, start: crate::sys::process::Start(1) };
    assert_eq!(tree(&[stranger], &[]), []);
    assert_eq!(tree(&[main], &[]), [main]);
    assert!(!stranger.alive() && crate::sys::process::Watch::over(stranger).unwrap().is_none());
    child::signal(stranger, Signal::SIGKILL);
    assert!(kill_until_gone(|| tree(&[stranger], &[])) && main.alive());
    assert!(wall.kill());
    child::wait(main.pid);
}

#[test]
fn a_run_that_is_late_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec =
        shell(dir.path(), &format!("{LEAVE}; while [ ! -e far ]; do :; done; touch ready; sleep 1000"));
    let cancelled = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            until("it runs", || dir.path().join("ready").exists());
            cancelled.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        run(spec, Instant::now() + LONG, 100, &cancelled).unwrap()
    });
    assert_eq!(done.exit, None);
    let pid = std::fs::read_to_string(dir.path().join("far")).unwrap().trim().parse().unwrap();
    assert_eq!(Identity::of(Pid::new(pid).unwrap()), None);
}

#[test]
fn a_run_keeps_the_beginning_of_what_was_said_and_waits_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let spec = shell(dir.path(), &format!("{LEAVE}; printf 123456; echo err >&2; exit 3"));
    let done = run(spec, Instant::now() + LONG, 4, &AtomicBool::new(false)).unwrap();
    let words = Finished { exit: Some(child::Exit::Code(3)), stdout: "1234".into(), stderr: "err\n".into() };
    assert_eq!(done, words);
    child::signal(far(dir.path()), Signal::SIGKILL);
}

#[test]
fn a_wall_without_a_cgroup_knows_who_bears_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Wall::new("test", None, false, false);
    let main = wall.start_claimed(shell(dir.path(), &format!("{LEAVE}; exec sleep 1000"))).unwrap().identity;
    let far = far(dir.path());
    until("both are members", || wall.members().len() == 2);
    assert!(wall.members().contains(&far) && wall.rest() == [far] && !wall.is_empty());
    assert!(wall.has_member(far.pid) && wall.has_member(main.pid) && !wall.has_member(Pid::own()));
    // Its main process dead, the rest is still known.
    child::signal(main, Signal::SIGKILL);
    child::wait(main.pid);
    assert_eq!(wall.members(), [far]);
    assert!(wall.kill() && wall.is_empty() && !far.alive());
}

#[test]
fn a_cgroup_holds_even_those_without_an_environment() {
    let dir = tempfile::tempdir().unwrap();
    let Some(parent) = CgroupParent::ours(|| false) else { return };
    let mut wall = Wall::new("test", Some(&parent), false, false);
    let Some(group) = wall.cgroup().map(Path::to_owned) else { return };
    let leave = LEAVE.replace("setsid", "setsid env -i");
    let main = wall.start_claimed(shell(dir.path(), &format!("{leave}; exec sleep 1000"))).unwrap();
    let far = far(dir.path());
    assert!(main.in_cgroup && wall.members().contains(&far) && !wall.is_empty());
    assert!(wall.has_member(far.pid) && !wall.has_member(Pid::own()));
    assert!(wall.kill());
    child::wait(main.identity.pid);
    until("it is empty", || wall.is_empty());
    assert!(!far.alive());
    drop(wall);
    assert!(!group.exists());
}

#[test]
fn one_that_is_stopped_can_obey() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Wall::new("test", None, false, false);
    let script =
        "trap 'echo > obeyed; exit 0' TERM; echo > ready; kill -STOP $$; while :; do sleep 0.01; done";
    let main = wall.start_claimed(shell(dir.path(), script)).unwrap().identity;
    until("it is ready", || dir.path().join("ready").exists());
    assert!(wall.end(Signal::SIGTERM, LONG));
    assert_eq!(child::wait(main.pid), Some(child::Exit::Code(0)));
    assert!(dir.path().join("obeyed").exists());
}

#[test]
fn one_that_does_not_obey_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut wall = Wall::new("test", None, false, false);
    let script = "trap '' TERM; echo > ready; while :; do sleep 0.01; done";
    let main = wall.start_claimed(shell(dir.path(), script)).unwrap().identity;
    until("it is ready", || dir.path().join("ready").exists());
    assert!(wall.end(Signal::SIGTERM, Duration::from_millis(20)));
    assert_eq!(child::wait(main.pid), Some(child::Exit::Signal(9)));
}

#[test]
fn what_a_predecessor_has_left_is_found_by_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lives");
    let own = key(dir.path().as_os_str().as_encoded_bytes());
    let lives = Lives::open(&path, &own, 2).unwrap();
    assert!(lives.leftovers().is_empty());
    let size = std::fs::metadata(&path).unwrap().len();
    let mut wall = Wall::new(&own, None, false, false);
    // Killed between the note and the start, there is nothing to find.
    lives.note(1, &wall).unwrap();
    assert!(Lives::open(&path, &own, 2).unwrap().leftovers().is_empty());
    let main = wall.start_claimed(shell(dir.path(), &format!("{LEAVE}; exec sleep 1000"))).unwrap().identity;
    let far = far(dir.path());
    // Killed between the start and the second note, its mark is known.
    let left = Lives::open(&path, &own, 2).unwrap().leftovers();
    assert!(left.len() == 1 && left[0].main().is_none() && left[0].members().contains(&main));
    lives.note(1, &wall).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    let left = Lives::open(&path, &own, 2).unwrap().leftovers();
    assert!(left.len() == 1 && left[0].main() == Some(main) && left[0].members().contains(&far));
    // Without the file it is found by its mark.
    std::fs::remove_file(&path).unwrap();
    let lives = Lives::open(&path, &own, 2).unwrap();
    let left = lives.leftovers();
    assert!(left.len() == 1 && left[0].members().contains(&far));
    assert!(left[0].end(Signal::SIGTERM, LONG) && !far.alive() && !main.alive());
    child::wait(main.pid);
    lives.note(0, &wall).unwrap();
    lives.over(0).unwrap();
    assert!(Lives::open(&path, &own, 2).unwrap().leftovers().is_empty());
}

#[test]
fn a_record_that_is_nonsense_tells_of_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lives");
    let boot = crate::sys::kernel::boot();
    let own = Identity::own();
    let strange = serde_json::json!({ "mark": "x/y", "boot": boot, "pid": own.pid.number(), "start": 1 });
    let earlier =
        serde_json::json!({ "mark": "x/y", "boot": "old", "pid": own.pid.number(), "start": own.start.0 });
    for text in ["", "{}", "[1", "\0\0\0", &"x".repeat(5000), &strange.to_string(), &earlier.to_string()] {
        std::fs::write(&path, text).unwrap();
        assert!(Lives::open(&path, "nobody", 1).unwrap().leftovers().is_empty(), "{text}");
    }
}

/// Whoever sees first that it is late kills all that are: each alone would look at all processes.
#[test]
fn those_that_are_late_are_killed_together() {
    use crate::sys::task::{self, Cancel};
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;
    let dir = tempfile::tempdir().unwrap();
    let (never, deadline) = (Cancel::default(), Instant::now() + Duration::from_millis(500));
    task::block_on(async {
        let mut other = pin!(run_whole(shell(dir.path(), LEAVE), deadline + LONG, 0, &never));
        let held = format!("{LEAVE}; exec sleep 1000");
        let mut late = pin!(run_whole(shell(dir.path(), &held), deadline, 0, &never));
        // It is begun, and nobody looks at it any more.
        assert!(poll_fn(|context| Poll::Ready(late.as_mut().poll(context).is_pending())).await);
        let left = far(dir.path());
        let first = run_whole(shell(dir.path(), "exec sleep 1000"), deadline, 0, &never).await.unwrap();
        assert_eq!(first.exit, None);
        assert!(!left.alive());
        assert_eq!(late.await.unwrap().exit, None);
        std::fs::remove_file(dir.path().join("far")).unwrap();
        assert!(other.as_mut().await.unwrap().exit.is_some());
    });
}
