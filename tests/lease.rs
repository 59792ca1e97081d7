//! baa-lease on a store of this machine: one leader at a time, whatever is killed, stopped or locked.

use crate::support::{Done, Room, alive, collect, needs, signal, skip, until};
use baa::sys::process::Table;
use nix::sys::signal::Signal;
use std::process::{Child, Stdio};

fn lease<'a>(room: &Room, arguments: impl IntoIterator<Item = &'a str>) -> Done {
    room.run("baa-lease", arguments)
}

/// A holder of a shell command, once its command runs. The command finds `ready` to say so.
fn holding(room: &Room, options: &[&str], script: &str) -> Child {
    let _ = std::fs::remove_file(room.path("ready"));
    let script = format!("echo $$ > ready.tmp; mv ready.tmp ready; {script}");
    let mut command = room.command("baa-lease");
    command
        .arg("hold")
        .args(options)
        .args(["--", "/bin/sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("the command runs", || room.path("ready").exists());
    child
}

fn pid(room: &Room, file: &str) -> u64 {
    until("a pid", || std::fs::read_to_string(room.path(file)).is_ok_and(|text| text.ends_with('\n')));
    std::fs::read_to_string(room.path(file)).unwrap().trim().parse().unwrap()
}

/// The guardian of a holder: its only child.
fn guardian(holder: &Child) -> u32 {
    let table = Table::read();
    let parent = i32::try_from(holder.id()).unwrap();
    let child = table.entries().iter().find(|entry| entry.parent == parent).unwrap();
    u32::try_from(child.identity.pid.number()).unwrap()
}

fn store(room: &Room) -> rusqlite::Connection {
    rusqlite::Connection::open(room.path("state/baa/lease.db")).unwrap()
}

#[apply(test)]
fn a_lease_goes_from_hand_to_hand_and_its_term_only_up() {
    let room = Room::new();
    lease(&room, ["status"]).expect(1, "global: nobody, last term 0\n", "");
    lease(&room, ["acquire"]).expect(0, "1\n", "");
    lease(&room, ["acquire", "--json"]).expect(
        0,
        "{\"schema\":\"baa.lease/1\",\"lease\":\"global\",\"operation\":\"renew\",\"term\":1,\
             \"is_leader\":true}\n",
        "",
    );
    let done = lease(&room, ["status"]);
    assert!(done.status == 0 && done.stdout.starts_with("global: localhost-main under term 1, "), "{done:?}");
    lease(&room, ["acquire", "--node-id", "b"]).expect(
        75,
        "",
        "baa-lease: localhost-main has global under term 1\n",
    );
    lease(&room, ["renew", "--term", "1"]).expect(0, "1\n", "");
    lease(&room, ["renew", "--term", "2"]).failed_with(76, "localhost-main has global under term 1");
    lease(&room, ["release", "--term", "1", "--node-id", "b"])
        .failed_with(76, "global is not held under term 1");
    assert_eq!(
        (lease(&room, ["check", "--term", "1"]).status, lease(&room, ["check", "--term", "2"]).status),
        (0, 1)
    );
    lease(&room, ["release", "--term", "1"]).expect(0, "", "");
    assert_eq!(lease(&room, ["check", "--term", "1"]).status, 1);
    lease(&room, ["release", "--term", "1"]).failed_with(76, "not held under term 1");
    lease(&room, ["acquire", "--node-id", "b", "--lease-ttl-sec", "1"]).expect(0, "2\n", "");
    until("it runs out", || lease(&room, ["acquire"]).stdout == "3\n");
    lease(&room, ["renew", "--term", "2", "--node-id", "b"])
        .failed_with(76, "localhost-main has global under term 3");
    lease(&room, ["acquire", "--lease", "other"]).expect(0, "1\n", "");
    assert_eq!(lease(&room, ["status", "--json"]).json()["holder_id"], "localhost-main");
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(room.path("state/baa/lease.db")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[apply(test)]
fn bad_words_are_refused() {
    let room = Room::new();
    for bad in [
        ["--lease-ttl-sec", "0"],
        ["--lease-ttl-sec", "-1"],
        ["--lease-ttl-sec", "99999999999"],
        ["--node-id", "a b"],
        ["--lease", ""],
        ["--store", "redis:x"],
        ["--store", "sqlite:"],
    ] {
        assert_eq!(lease(&room, ["acquire"].into_iter().chain(bad)).status, 2, "{bad:?}");
    }
    lease(&room, ["hold"]).failed_with(2, "required arguments");
    lease(&room, ["guard", "--", "true"]).failed_with(125, "only baa-lease hold starts a guardian");
    room.write("text", &"no database ".repeat(1000));
    std::fs::set_permissions(room.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    lease(&room, ["acquire", "--store", "sqlite:text"]).failed_with(65, "file is not a database");
    assert_eq!(std::fs::read_to_string(room.path("text")).unwrap(), "no database ".repeat(1000));
}

#[apply(test)]
fn the_status_is_the_commands_own() {
    let room = Room::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -34 $$", 162),
        ("kill -64 $$", 192),
    ] {
        lease(&room, ["hold", "--", "/bin/sh", "-c", script]).expect(status, "", "");
    }
    lease(&room, ["hold", "--", "/nonexistent"])
        .failed_with(127, "cannot start '/nonexistent': no such file or directory");
    lease(&room, ["hold", "--", "/etc/passwd"]).failed_with(126, "permission denied");
    let script = "echo $BAA_LEASE_NAME $BAA_LEASE_TERM $BAA_LEASE_HOLDER; \
         test -n \"$BAA_LEASE_EXPIRES_AT\" && env | grep -c CONTROL_FD; cat";
    lease(&room, ["hold", "--lease", "x", "--node-id", "me", "--", "/bin/sh", "-c", script]).expect(
        0,
        "x 1 me\n0\n",
        "",
    );
    lease(&room, ["status"]).expect(1, "global: nobody, last term 9\n", "");
    lease(&room, ["hold", "-n", "--", "touch", "a b"]).expect(
        0,
        "",
        "baa-lease: would hold global as localhost-main and run touch 'a b'\n",
    );
    assert!(!room.path("a b").exists());
}

#[apply(test)]
fn who_does_not_lead_waits_or_goes() {
    let room = Room::new();
    let holder = holding(&room, &["--node-id", "a"], "trap 'exit 3' TERM; while :; do sleep 0.01; done");
    lease(&room, ["hold", "--wait", "0", "--", "touch", "ran"]).expect(
        75,
        "",
        "baa-lease: cannot acquire: a has global under term 1\n",
    );
    lease(&room, ["hold", "--wait", "100ms", "--", "touch", "ran"])
        .failed_with(124, "cannot acquire in time: a has global under term 1");
    // The same name is no key to another process's lease.
    lease(&room, ["hold", "--wait", "0", "--node-id", "a", "--", "touch", "ran"])
        .failed_with(75, "a has global under term 1");
    let waits = room
        .command("baa-lease")
        .args(["hold", "-v", "--", "touch", "ran"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let gone = room
        .command("baa-lease")
        .args(["hold", "--", "touch", "never"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it catches signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gone.id())).unwrap();
        status.lines().any(|line| {
            line.strip_prefix("SigCgt:\t")
                .is_some_and(|mask| u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0)
        })
    });
    signal(gone.id(), Signal::SIGTERM);
    assert_eq!(collect(gone).status, 143);
    assert!(!room.path("ran").exists());
    signal(holder.id(), Signal::SIGTERM);
    collect(holder).expect(3, "", "");
    assert_eq!(collect(waits).status, 0);
    assert!(room.path("ran").exists() && !room.path("never").exists());
}

/// Each command finds nobody else at work, over and over.
#[apply(test)]
fn commands_never_overlap() {
    let room = Room::new();
    let script =
        "mkdir busy || echo overlap >> trouble; echo $BAA_LEASE_TERM >> terms; sleep 0.002; rmdir busy";
    std::thread::scope(|scope| {
        for who in 0..4 {
            let room = &room;
            scope.spawn(move || {
                for _ in 0..15 {
                    assert_eq!(
                        lease(room, ["hold", "--node-id", &format!("n{who}"), "--", "/bin/sh", "-c", script])
                            .status,
                        0
                    );
                }
            });
        }
    });
    assert!(!room.path("trouble").exists());
    let terms: Vec<u64> = std::fs::read_to_string(room.path("terms"))
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(terms, (1..=60).collect::<Vec<_>>());
}

/// A command that takes no notice of TERM, with a child that has left its session and its parent.
const STUBBORN: &str = "trap '' TERM; setsid /bin/sh -c 'trap \"\" TERM; echo $$ > far.tmp; mv far.tmp far; \
     while :; do sleep 0.01; done' & while :; do sleep 0.01; done";

/// Starts the next leader and has it look whether anything of the one before lives.
fn next_sees_nobody(room: &Room, near: u64, far: u64) {
    let script = format!(
        "kill -0 {near} 2> /dev/null && echo near lives; kill -0 {far} 2> /dev/null && echo far lives; \
             echo $BAA_LEASE_TERM"
    );
    // A zombie answers kill(2) too, and who inherits it may be slow; the processes themselves are looked at
    // first.
    let done = lease(room, ["hold", "--node-id", "next", "--", "/bin/sh", "-c", &script]);
    assert!(!alive(near) && !alive(far), "{done:?}");
    assert!(done.status == 0 && done.stdout.ends_with("2\n"), "{done:?}");
}

#[apply(test)]
fn a_holder_that_is_killed_leaves_nothing_running_past_its_lease() {
    needs("setsid");
    let room = Room::new();
    let mut holder = holding(&room, &["--lease-ttl-sec", "2"], STUBBORN);
    let (near, far) = (pid(&room, "ready"), pid(&room, "far"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    next_sees_nobody(&room, near, far);
}

#[apply(test)]
fn a_holder_that_is_stopped_leads_no_longer_than_its_lease() {
    needs("setsid");
    let room = Room::new();
    let holder = holding(&room, &["--lease-ttl-sec", "2"], STUBBORN);
    let (near, far) = (pid(&room, "ready"), pid(&room, "far"));
    signal(holder.id(), Signal::SIGSTOP);
    next_sees_nobody(&room, near, far);
    signal(holder.id(), Signal::SIGCONT);
    collect(holder).failed_with(76, "lost global under term 1: it could not be renewed in time");
}

#[apply(test)]
fn a_guardian_that_is_killed_takes_its_command_along() {
    needs("setsid");
    let room = Room::new();
    let holder = holding(&room, &["--lease-ttl-sec", "5"], STUBBORN);
    let (near, far) = (pid(&room, "ready"), pid(&room, "far"));
    signal(guardian(&holder), Signal::SIGKILL);
    collect(holder).failed_with(76, "lost global under term 1: its guardian was killed");
    assert!(!alive(near) && !alive(far));
}

#[apply(test)]
fn a_store_that_is_locked_is_tried_again_and_then_given_up_in_time() {
    needs("setsid");
    let room = Room::new();
    let holder = holding(&room, &["--lease-ttl-sec", "2", "--lease-renew-interval-ms", "100"], STUBBORN);
    let (near, far) = (pid(&room, "ready"), pid(&room, "far"));
    let locks = store(&room);
    locks.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Dead before anybody else could have it, for the lock is still held.
    until("the command is dead", || !alive(near) && !alive(far));
    locks.execute_batch("ROLLBACK").unwrap();
    let done = collect(holder);
    assert!(
        done.status == 76
            && done.stderr.contains("lost global under term 1: it could not be renewed in time"),
        "{done:?}"
    );
    next_sees_nobody(&room, near, far);
}

#[apply(test)]
fn a_lease_that_another_has_is_lost_at_once() {
    needs("setsid");
    let room = Room::new();
    let holder = holding(&room, &["--lease-renew-interval-ms", "50"], STUBBORN);
    let (near, far) = (pid(&room, "ready"), pid(&room, "far"));
    store(&room).execute_batch("UPDATE leases SET holder = 'thief', instance = '', term = 2").unwrap();
    collect(holder).failed_with(76, "lost global under term 1: another has it");
    assert!(!alive(near) && !alive(far));
    assert_eq!(lease(&room, ["status", "--json"]).json()["holder_id"], "thief");
}

#[apply(test)]
fn what_a_command_leaves_behind_is_dead_before_the_lease_is_free() {
    needs("setsid");
    let room = Room::new();
    let script = "setsid /bin/sh -c 'trap \"\" TERM; echo $$ > far.tmp; mv far.tmp far; \
         while :; do sleep 0.01; done' & until [ -e far ]; do sleep 0.01; done; exit 5";
    lease(&room, ["hold", "--", "/bin/sh", "-c", script]).expect(5, "", "");
    assert!(!alive(pid(&room, "far")));
}

#[apply(test)]
fn a_file_of_a_newer_version_is_refused() {
    let room = Room::new();
    lease(&room, ["acquire"]).expect(0, "1\n", "");
    store(&room).execute_batch("PRAGMA user_version = 9").unwrap();
    lease(&room, ["acquire"]).failed_with(65, "it has version 9, newer than 4");
    lease(&room, ["hold", "--", "touch", "ran"]).failed_with(65, "newer");
    assert!(!room.path("ran").exists());
}

/// A caller that ignores SIGCHLD has its children reaped by the kernel; ours are ours all the same.
#[apply(test)]
fn a_caller_who_ignores_the_end_of_children_changes_nothing() {
    let room = Room::new();
    let lease = crate::support::binary("baa-lease");
    let script = format!("trap '' CHLD; exec {} hold -- /bin/sh -c 'exit 3'", lease.display());
    let mut command = std::process::Command::new("/bin/sh");
    command.env("XDG_STATE_HOME", room.path("state"));
    crate::support::finish(command.args(["-c", &script]).current_dir(room.dir.path())).expect(3, "", "");
}

/// What a guardian is asked to run after the lease's end, it does not run.
#[apply(test)]
fn a_guardian_begins_nothing_past_the_deadline() {
    use std::io::{Read, Write};
    let room = Room::new();
    let far = u64::MAX;
    for (until, answer, ran) in [
        ("until 0 0\n".to_owned(), "killed 15 1\n", false),
        (String::new(), "killed 15 1\n", false),
        (format!("until {far} {far}\n"), "started\ncode 0 0\n", true),
    ] {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(until.as_bytes()).unwrap();
        let lease = crate::support::binary("baa-lease");
        let script = format!("exec 5<&0 {} guard -- touch ran", lease.display());
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script]).current_dir(room.dir.path()).env("BAA_LEASE_CONTROL_FD", "5");
        command.env("BAA_LIFE", "key/id").stdin(std::os::fd::OwnedFd::from(theirs));
        assert_eq!(crate::support::finish(&mut command).status, 0);
        drop(command);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        assert_eq!((said.as_str(), room.path("ran").exists()), (answer, ran), "{until:?}");
    }
}

/// Without /proc a command is started, signalled, awaited and ended as a child; on a store that needs none.
#[apply(test)]
fn a_root_without_proc_is_enough() {
    let room = Room::new();
    let control = crate::support::control::Control::new(&room);
    let lease = crate::support::binary("baa-lease");
    let hold = format!(
        "{} hold -q --store {} --lease-ttl-sec 2 --shared-token secret --",
        lease.display(),
        control.base()
    );
    let script = format!(
        "mount -t tmpfs none /proc || exit 77; {hold} /bin/sh -c 'exit 3'; echo $?; \
         {hold} /bin/sh -c 'kill -34 $$'; echo $?; \
         {hold} /bin/sh -c 'trap \"exit 4\" USR1; touch up; while :; do sleep 0.01; done' & \
         until [ -e up ]; do sleep 0.01; done; kill -USR1 $!; wait $!; echo $?; rm up; \
         {hold} /bin/sh -c 'trap \"\" TERM; echo $$ > main; touch up; while :; do sleep 0.01; done' & \
         until [ -e up ]; do sleep 0.01; done; kill -9 $!; wait $!; echo $?; \
         while kill -0 $(cat main) 2> /dev/null; do sleep 0.01; done; echo gone"
    );
    needs("unshare");
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", &script]).current_dir(room.dir.path());
    command.env("XDG_STATE_HOME", room.path("state"));
    let done = crate::support::finish(&mut command);
    if done.status == 77 || done.stderr.contains("unshare") {
        skip("no file system can be mounted here");
    }
    assert_eq!((done.status, done.stdout.as_str()), (0, "3\n162\n4\n137\ngone\n"), "{done:?}");
}
