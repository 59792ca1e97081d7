//! What is alive under a lease when its holder, its guardian or both are stopped, killed or kept from
//! working: the leader before has written its last line before the next one writes its first, by the
//! order of the lines in one file.

use crate::support::control::Control;
use crate::support::{Done, Room, alive, collect, needs, signal, skip, until};
use baa::sys::process::Table;
use nix::sys::signal::Signal;
use std::process::{Child, Stdio};

/// The command of a leader: a writer that takes no notice of TERM, in a session of its own, and a command
/// that ends before its lease would, so that the writer is what it leaves.
const LEAVES_A_WRITER: &str = "setsid /bin/sh -c \"$WRITER\" & sleep 1.2";
/// The same, and a command that takes no notice of TERM either.
const STAYS: &str = "setsid /bin/sh -c \"$WRITER\" & while :; do sleep 0.01; done";
/// Appends lines to the log for as long as it lives.
const WRITER: &str = "trap '' TERM; echo $$ > far.tmp; mv far.tmp far; \
     while :; do echo first >> log; sleep 0.002; done";

/// A leader, whose guardian and writer are known.
struct Leader {
    holder: Child,
    guardian: u32,
    command: u64,
    writer: u64,
}

impl Leader {
    fn new(room: &Room, options: &[&str], script: &str) -> Leader {
        let script = format!("trap '' TERM; echo $$ > near.tmp; mv near.tmp near; {script}");
        let mut command = room.command("baa-lease");
        command.args(["hold", "--node-id", "first"]).args(options).args(["--", "/bin/sh", "-c", &script]);
        command.env("WRITER", WRITER).stdout(Stdio::null()).stderr(Stdio::piped());
        let holder = command.spawn().unwrap();
        until("the writer writes", || room.path("log").exists() && room.path("far").exists());
        let guardian = child_of(holder.id());
        Leader { holder, guardian, command: number(room, "near"), writer: number(room, "far") }
    }

    fn lives(&self) -> bool {
        alive(self.command) || alive(self.writer)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        for pid in [self.guardian, self.holder.id()] {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let _ = nix::sys::signal::kill(pid, Signal::SIGCONT);
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn number(room: &Room, file: &str) -> u64 {
    std::fs::read_to_string(room.path(file)).unwrap().trim().parse().unwrap()
}

fn child_of(parent: u32) -> u32 {
    let parent = i32::try_from(parent).unwrap();
    let table = Table::read();
    let child = table.entries().iter().find(|entry| entry.parent == parent).unwrap();
    u32::try_from(child.identity.pid.number()).unwrap()
}

fn next(room: &Room, options: &[&str]) -> Done {
    let script = "echo second >> log; sleep 0.1; echo $BAA_LEASE_TERM";
    let mut words = vec!["hold", "--node-id", "second"];
    words.extend(options);
    words.extend(["--", "/bin/sh", "-c", script]);
    room.run("baa-lease", words)
}

/// Every line of the first leader stands before the line of the second.
#[track_caller]
fn in_order(room: &Room) {
    let text = std::fs::read_to_string(room.path("log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let second = lines.iter().position(|line| *line == "second").unwrap();
    let late = lines[second..].iter().filter(|line| **line == "first").count();
    assert_eq!(late, 0, "lines of the first leader after the second had begun");
}

/// Under each of both scripts and times, on `store`: once `befalls` has come over a leader, another one
/// leads, and finds nothing of the first.
fn hands_over(store: impl Fn(&Room) -> Option<Control> + Sync, befalls: impl Fn(&Leader) + Sync) {
    needs("setsid");
    let case = |ttl: &str, script: &str| {
        let room = Room::new();
        let control = store(&room);
        let base = control.as_ref().map(Control::base);
        let mut options = vec!["--lease-ttl-sec", ttl, "--lease-renew-interval-ms", "200"];
        options.extend(base.iter().flat_map(|base| ["--store", base.as_str()]));
        let leader = Leader::new(&room, &options, script);
        befalls(&leader);
        let done = next(&room, &options);
        assert_eq!((done.status, done.stdout.as_str()), (0, "2\n"), "{done:?}");
        assert!(!leader.lives());
        in_order(&room);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| case("2", STAYS));
        scope.spawn(|| case("2", LEAVES_A_WRITER));
        scope.spawn(|| case("3", LEAVES_A_WRITER));
    });
}

fn on_a_file(_: &Room) -> Option<Control> {
    None
}

fn on_the_api(room: &Room) -> Option<Control> {
    Some(Control::new(room))
}

#[apply(test)]
fn a_killed_holder_leaves_nothing_on_a_file() {
    hands_over(on_a_file, |leader| signal(leader.holder.id(), Signal::SIGKILL));
}

#[apply(test)]
fn a_killed_holder_leaves_nothing_on_the_api() {
    hands_over(on_the_api, |leader| signal(leader.holder.id(), Signal::SIGKILL));
}

#[apply(test)]
fn a_stopped_holder_leaves_nothing_on_a_file() {
    hands_over(on_a_file, |leader| signal(leader.holder.id(), Signal::SIGSTOP));
}

#[apply(test)]
fn a_stopped_holder_leaves_nothing_on_the_api() {
    hands_over(on_the_api, |leader| signal(leader.holder.id(), Signal::SIGSTOP));
}

#[apply(test)]
fn a_killed_guardian_leaves_nothing_on_a_file() {
    hands_over(on_a_file, |leader| signal(leader.guardian, Signal::SIGKILL));
}

#[apply(test)]
fn a_killed_guardian_leaves_nothing_on_the_api() {
    hands_over(on_the_api, |leader| signal(leader.guardian, Signal::SIGKILL));
}

#[apply(test)]
fn both_stopped_leave_nothing_on_a_file() {
    hands_over(on_a_file, both(Signal::SIGSTOP, Signal::SIGSTOP));
}

#[apply(test)]
fn both_stopped_leave_nothing_on_the_api() {
    hands_over(on_the_api, both(Signal::SIGSTOP, Signal::SIGSTOP));
}

#[apply(test)]
fn a_stopped_guardian_of_a_killed_holder_leaves_nothing() {
    hands_over(on_the_api, both(Signal::SIGSTOP, Signal::SIGKILL));
}

#[apply(test)]
fn a_killed_guardian_of_a_stopped_holder_leaves_nothing_once_it_goes_on() {
    needs("setsid");
    // Nobody can act before it goes on; the lock keeps others out until then.
    for script in [STAYS, LEAVES_A_WRITER] {
        let room = Room::new();
        let leader = Leader::new(&room, &["--lease-ttl-sec", "2"], script);
        signal(leader.holder.id(), Signal::SIGSTOP);
        signal(leader.guardian, Signal::SIGKILL);
        until("the lease runs out", || room.run("baa-lease", ["status"]).status == 1);
        let refused = next(&room, &["--wait", "0"]);
        refused.failed_with(75, "cannot acquire: what the last leader of global has started still runs");
        assert!(alive(leader.writer));
        signal(leader.holder.id(), Signal::SIGCONT);
        next(&room, &[]).expect(0, "2\n", "");
        assert!(!leader.lives());
        in_order(&room);
    }
}

/// First the guardian, then the holder.
fn both(guardian: Signal, holder: Signal) -> impl Fn(&Leader) + Sync {
    move |leader| {
        signal(leader.guardian, guardian);
        signal(leader.holder.id(), holder);
    }
}

/// The command is killed by the kernel. What it has started goes on, and keeps the lease from others.
#[apply(test)]
fn both_killed_leave_the_lease_to_whatever_lives() {
    needs("setsid");
    for verb in ["hold", "acquire"] {
        let room = Room::new();
        let leader = Leader::new(&room, &["--lease-ttl-sec", "1"], STAYS);
        // The holder must not see the guardian's death, or it would end the rest.
        signal(leader.holder.id(), Signal::SIGSTOP);
        both(Signal::SIGKILL, Signal::SIGKILL)(&leader);
        until("the command is dead", || !alive(leader.command));
        until("the lease runs out", || room.run("baa-lease", ["status"]).status == 1);
        assert!(alive(leader.writer));
        let still = "what the last leader of global has started still runs";
        next(&room, &["--wait", "0"]).failed_with(75, still);
        next(&room, &["--wait", "20ms"]).failed_with(124, still);
        room.run("baa-lease", ["acquire"]).failed_with(75, still);
        signal(u32::try_from(leader.writer).unwrap(), Signal::SIGKILL);
        match verb {
            "hold" => next(&room, &[]).expect(0, "2\n", ""),
            _ => until("it is free", || room.run("baa-lease", ["acquire"]).stdout == "2\n"),
        }
    }
}

/// A guardian that cannot run hears nothing: its holder waits a moment, and ends all that it should have
/// ended.
#[apply(test)]
fn a_guardian_that_hangs_is_killed_by_its_holder() {
    needs("setsid");
    let frozen = "/sys/fs/cgroup/unified";
    let frozen = if std::path::Path::new(frozen).exists() { frozen } else { "/sys/fs/cgroup" };
    let frozen = std::path::Path::new(frozen).join(format!("baa-test-frozen-{}", std::process::id()));
    if std::fs::create_dir(&frozen).is_err() || !frozen.join("cgroup.freeze").exists() {
        skip("no process can be frozen here");
    }
    struct Thaw(std::path::PathBuf);
    impl Drop for Thaw {
        fn drop(&mut self) {
            let _ = std::fs::write(self.0.join("cgroup.freeze"), "0");
            until("it is empty", || std::fs::remove_dir(&self.0).is_ok());
        }
    }
    let _thaw = Thaw(frozen.clone());
    std::fs::write(frozen.join("cgroup.freeze"), "1").unwrap();
    for script in [STAYS, LEAVES_A_WRITER] {
        for thief in [true, false] {
            let room = Room::new();
            let options = ["--lease-ttl-sec", "2", "--lease-renew-interval-ms", "100"];
            let mut leader = Leader::new(&room, &options, script);
            std::fs::write(frozen.join("cgroup.procs"), leader.guardian.to_string()).unwrap();
            let store = rusqlite::Connection::open(room.path("state/baa/lease.db")).unwrap();
            if thief {
                store.execute_batch("UPDATE leases SET holder = 'thief', instance = '', term = 2").unwrap();
            } else {
                store.execute_batch("BEGIN EXCLUSIVE").unwrap();
            }
            until("all of it is dead", || !leader.lives());
            if !thief {
                store.execute_batch("ROLLBACK").unwrap();
            }
            let holder =
                std::mem::replace(&mut leader.holder, std::process::Command::new("true").spawn().unwrap());
            let done = collect(holder);
            let why = if thief { "another has it" } else { "it could not be renewed in time" };
            assert_eq!(done.status, 76, "{done:?}");
            assert!(done.stderr.contains(&format!("lost global under term 1: {why}")), "{done:?}");
            assert!(!alive(leader.guardian.into()));
        }
    }
}

/// A store that does not answer holds up neither: nothing lives any more when it could answer another.
#[apply(test)]
fn a_stopped_guardian_and_a_stopped_store_leave_nothing() {
    needs("setsid");
    for script in [STAYS, LEAVES_A_WRITER] {
        let room = Room::new();
        let control = Control::new(&room);
        let base = control.base();
        let options = ["--lease-ttl-sec", "2", "--lease-renew-interval-ms", "200", "--store", &base];
        let leader = Leader::new(&room, &options, script);
        signal(leader.guardian, Signal::SIGSTOP);
        signal(control.child.id(), Signal::SIGSTOP);
        until("all of it is dead", || !leader.lives());
        signal(control.child.id(), Signal::SIGCONT);
        let done = next(&room, &options);
        assert_eq!((done.status, done.stdout.as_str()), (0, "2\n"), "{done:?}");
        in_order(&room);
    }
}

/// Whoever opens the path anew finds a store that knows of no leader; the lock does.
#[apply(test)]
fn a_store_that_is_removed_gives_no_second_leader() {
    needs("setsid");
    let room = Room::new();
    let options = ["--lease-ttl-sec", "3", "--lease-renew-interval-ms", "100"];
    let leader = Leader::new(&room, &options, STAYS);
    for name in ["lease.db", "lease.db-wal", "lease.db-shm"] {
        std::fs::remove_file(room.path("state/baa").join(name)).unwrap();
    }
    next(&room, &[]).expect(0, "1\n", "");
    assert!(!leader.lives());
    in_order(&room);
}

/// A renewal that cannot be written is none: the command is dead before the lease's end.
#[apply(test)]
fn a_full_disk_ends_the_lease_in_time() {
    needs("setsid");
    let room = Room::new();
    let lease = crate::support::binary("baa-lease");
    let lease = lease.display();
    needs("unshare");
    let room_for = "mount -t tmpfs -o size=600k,mode=700 none state || exit 77";
    let fills = "until cat /dev/zero > state/fill 2> /dev/null; [ -s state/fill ]; do :; done";
    let first = format!("trap \"\" TERM; {fills}; {STAYS}").replace('\'', "'\\''");
    let script = format!(
        "mkdir -p state; {room_for}; {lease} hold --node-id first --lease-ttl-sec 2 \
         --lease-renew-interval-ms 100 -- /bin/sh -c '{first}'; echo $?; rm state/fill; \
         {lease} hold --node-id second -- /bin/sh -c 'echo second >> log; sleep 0.1; echo $BAA_LEASE_TERM'"
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", &script]).env("WRITER", WRITER);
    command.env("XDG_STATE_HOME", room.path("state")).current_dir(room.dir.path());
    let done = crate::support::finish(&mut command);
    if done.status == 77 || done.stderr.contains("unshare") {
        skip("no file system can be mounted here");
    }
    assert_eq!((done.status, done.stdout.as_str()), (0, "76\n2\n"), "{done:?}");
    assert!(done.stderr.contains("cannot renew"), "{done:?}");
    in_order(&room);
}

/// Contenders who hold a lease over and over, while holders and guardians of all of them are stopped,
/// continued and killed at random: BAA_CHAOS rounds of it. No line of an earlier term stands behind a
/// later one.
fn chaos(store: Option<&Control>, room: &Room, both: bool) {
    needs("setsid");
    let rounds: u32 = std::env::var("BAA_CHAOS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30);
    // What is left ends by itself some time, for nobody else ends what both have left.
    let script = "trap '' TERM; setsid /bin/sh -c 'trap \"\" TERM; count=0; while [ $count -lt 150 ]; do \
         echo $BAA_LEASE_TERM >> log; count=$((count + 1)); sleep 0.01; done' & sleep 0.4";
    let base = store.map(Control::base);
    let over = std::sync::atomic::AtomicBool::new(false);
    let holders = std::sync::Mutex::new([0u32; 3]);
    std::thread::scope(|scope| {
        for who in 0..3usize {
            let (over, holders, base) = (&over, &holders, &base);
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    let mut command = room.command("baa-lease");
                    command.args(["hold", "--node-id", &format!("n{who}"), "--lease-ttl-sec", "1"]);
                    command.args(base.iter().flat_map(|base| ["--store", base.as_str()]));
                    command.args(["--", "/bin/sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
                    let mut child = command.spawn().unwrap();
                    holders.lock().unwrap()[who] = child.id();
                    child.wait().unwrap();
                    holders.lock().unwrap()[who] = 0;
                }
            });
        }
        let mut dice = u64::from(std::process::id()) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        for _ in 0..rounds {
            std::thread::sleep(std::time::Duration::from_millis(20 + roll(150)));
            // Held, so that no pid is given away meanwhile.
            let holders = holders.lock().unwrap();
            let who = holders[usize::try_from(roll(3)).unwrap()];
            if who == 0 {
                continue;
            }
            let kind = [Signal::SIGSTOP, Signal::SIGKILL][usize::try_from(roll(2)).unwrap()];
            let send = |pid: u32, kind: Signal| {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
                let _ = nix::sys::signal::kill(pid, kind);
            };
            let guardian = has_child(who);
            match (guardian, roll(3)) {
                (Some(guardian), 0) => send(guardian, kind),
                (Some(guardian), 1) if both || kind == Signal::SIGSTOP => {
                    send(guardian, kind);
                    send(who, kind);
                }
                _ => send(who, kind),
            }
            drop(holders);
            std::thread::sleep(std::time::Duration::from_millis(roll(1500)));
            send(who, Signal::SIGCONT);
            guardian.into_iter().for_each(|guardian| send(guardian, Signal::SIGCONT));
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let text = std::fs::read_to_string(room.path("log")).unwrap();
    let terms: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(terms.is_sorted() && terms.last() > terms.first(), "{:?}", {
        let mut terms = terms.clone();
        terms.dedup();
        terms
    });
}

fn has_child(parent: u32) -> Option<u32> {
    let parent = i32::try_from(parent).unwrap();
    let table = Table::read();
    let child = table.entries().iter().find(|entry| entry.parent == parent && !entry.zombie)?;
    u32::try_from(child.identity.pid.number()).ok()
}

#[apply(test)]
fn chaos_on_a_file() {
    chaos(None, &Room::new(), true);
}

#[apply(test)]
fn chaos_on_the_api() {
    let room = Room::new();
    chaos(Some(&Control::new(&room)), &room, false);
}
