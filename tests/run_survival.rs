//! baa-run: what is alive after something was killed, stopped, filled or removed; until when, and who ends
//! it.

use crate::run_loop::{ctl, lives, read, script, spawn};
use crate::support::{Room, alive, binary, collect, finish, needs, needs_root, signal, skip, until};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};

/// A command that leaves two processes behind it that belong to nobody: one daemonised, and one with an empty
/// environment beside that. They say their pids in `left`. A word about a file that is not there yet could
/// kill it: whoever read that may be dead by then.
const DAEMONS: &str = "setsid -f /bin/sh -c 'echo $$ >> left; exec sleep 1000'; \
    setsid -f env -i /bin/sh -c 'echo $$ >> left; exec /bin/sleep 1000'; \
    until [ $(wc -l < left) = $(($(wc -l < lives) * 2)) ]; do sleep 0.01; done 2> /dev/null;";

fn left(room: &Room) -> Vec<u64> {
    read(room, "left").lines().filter_map(|line| line.parse().ok()).collect()
}

fn count(pids: &[u64]) -> usize {
    pids.iter().filter(|pid| alive(**pid)).count()
}

fn kill(mut keeper: Child) {
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}

/// baa-run after `setup`, run by a shell in a mount namespace of its own; skipped where there can be none.
fn within_mounts(room: &Room, setup: &str, arguments: &[&str]) -> Child {
    needs("unshare");
    let probe = finish(Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]));
    if probe.status != 0 {
        skip("no mount namespaces can be made here");
    }
    let bare = room.command("baa-run");
    let mut command = Command::new("unshare");
    command.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-m", "/bin/sh", "-c", &format!("{setup}\nexec \"$@\""), "sh"]);
    command.arg(bare.get_program()).args(arguments).current_dir(room.dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the one before has started has the sockets open too: it is ended first.
#[apply(test)]
fn a_killed_keeper_that_listened_is_replaced() {
    let room = Room::new();
    let (tcp, unix) =
        (format!("127.0.0.1:{}", crate::support::port()), format!("unix:{}", room.text("socket")));
    let life = script("");
    for address in [&tcp, &unix] {
        let words = ["-q", "--label", "z", "--listen", address, "--", "/bin/sh", "-c", &life];
        let before = lives(&room).len();
        let keeper = spawn(&room, &words);
        until("it runs", || lives(&room).len() == before + 1);
        // One that runs is told of as such, whatever the address.
        room.run("baa-run", words).failed_with(75, "another baa-run does");
        kill(keeper);
        let old = lives(&room)[before];
        assert!(alive(old));
        let keeper = spawn(&room, &words);
        until("the next one runs", || lives(&room).len() == before + 2);
        assert!(!alive(old));
        signal(keeper.id(), Signal::SIGTERM);
        assert_eq!(collect(keeper).status, 0);
    }
}

/// Whoever has no right to make a cgroup, or no cgroups at all.
const WITHOUT_CGROUPS: &str = "mount -t tmpfs none /sys/fs/cgroup";

#[apply(test)]
fn what_a_killed_keeper_has_left_is_ended_by_the_next_one() {
    needs("setsid");
    let room = Room::new();
    let life = script(DAEMONS);
    let words = ["-q", "--label", "z", "--", "/bin/sh", "-c", &life];
    // Three keepers are killed, each with all that it has started still there.
    for turn in 1..=3 {
        let keeper = spawn(&room, &words);
        until("it runs", || left(&room).len() == turn * 2 && lives(&room).len() == turn);
        // What the one before has left was ended first; but without a cgroup nobody knows of the one whose
        // environment is empty.
        let ours = count(&left(&room)) + count(&lives(&room));
        assert!(ours == 3 || ours <= turn + 2 && !has_cgroups(), "{ours} in turn {turn}");
        kill(keeper);
        assert!(count(&lives(&room)) == 1, "the last keeper took it along");
    }
    let done = room.run("baa-run", ["--label", "z", "--restart", "never", "--", "true"]);
    assert!(done.status == 0 && done.stderr.contains("z: the last keeper died and left process"), "{done:?}");
    assert_eq!(count(&lives(&room)), 0);
    assert!(count(&left(&room)) == 0 || !has_cgroups());
    // What is over is not told of again.
    room.run("baa-run", ["-q", "--label", "z", "--restart", "never", "--", "true"]).expect(0, "", "");
}

fn has_cgroups() -> bool {
    baa::sys::cgroup::CgroupParent::ours(|| false).is_some()
}

/// Where no cgroup can be made, a life is known by its mark, wherever it went.
#[apply(test)]
fn without_a_cgroup_daemons_are_found_by_their_mark() {
    needs_root();
    let room = Room::new();
    let life = script(
        "setsid -f /bin/sh -c 'echo $$ >> left; exec sleep 1000'; until [ -s left ]; do sleep 0.01; done;",
    );
    let words = ["-q", "--label", "z", "--", "/bin/sh", "-c", &life];
    kill({
        let keeper = within_mounts(&room, WITHOUT_CGROUPS, &words);
        until("it runs", || left(&room).len() == 1 && lives(&room).len() == 1);
        keeper
    });
    assert_eq!(count(&left(&room)) + count(&lives(&room)), 2);
    let next =
        within_mounts(&room, WITHOUT_CGROUPS, &["-q", "--label", "z", "--restart", "never", "--", "true"]);
    assert_eq!(collect(next).status, 0);
    assert_eq!(count(&left(&room)) + count(&lives(&room)), 0);
}

/// Nobody comes after a keeper that has no name: what it kept goes on, whatever has become of it.
#[apply(test)]
fn what_a_killed_keeper_without_a_name_has_left_goes_on() {
    needs("setsid");
    let room = Room::new();
    let life = script(DAEMONS);
    let words = ["-q", "--", "/bin/sh", "-c", &life];
    kill({
        let keeper = spawn(&room, &words);
        until("it runs", || left(&room).len() == 2 && lives(&room).len() == 1);
        keeper
    });
    let next = spawn(&room, &words);
    until("another one runs", || left(&room).len() == 4 && lives(&room).len() == 2);
    assert_eq!(count(&left(&room)) + count(&lives(&room)), 6);
    signal(next.id(), Signal::SIGTERM);
    assert_eq!(collect(next).status, 0);
    let ours = |pids: &[u64]| pids.iter().map(|pid| alive(*pid)).collect::<Vec<_>>();
    assert_eq!(
        (ours(&left(&room)), ours(&lives(&room))),
        (vec![true, true, false, false], vec![true, false])
    );
}

/// Without a cgroup, what has left its session and emptied its environment is found by nobody once its keeper
/// is dead.
#[apply(test)]
fn without_a_cgroup_an_emptied_environment_hides_from_the_next_keeper() {
    needs("setsid");
    needs_root();
    let room = Room::new();
    let life = script(DAEMONS);
    kill({
        let words = ["-q", "--label", "z", "--", "/bin/sh", "-c", &life];
        let keeper = within_mounts(&room, WITHOUT_CGROUPS, &words);
        until("it runs", || left(&room).len() == 2 && lives(&room).len() == 1);
        keeper
    });
    let end = ["-q", "--label", "z", "--restart", "never", "--", "true"];
    assert_eq!(collect(within_mounts(&room, WITHOUT_CGROUPS, &end)).status, 0);
    assert_eq!((count(&left(&room)), count(&lives(&room))), (1, 0));
}

/// Stopped, nothing of a command is left: not what daemonised, not what has hidden its origin.
#[apply(test)]
fn a_stop_ends_what_was_daemonised() {
    needs("setsid");
    needs_root();
    for mounts in ["true", WITHOUT_CGROUPS] {
        let room = Room::new();
        let keeper =
            within_mounts(&room, mounts, &["-q", "--label", "z", "--", "/bin/sh", "-c", &script(DAEMONS)]);
        until("it runs", || left(&room).len() == 2 && lives(&room).len() == 1);
        signal(keeper.id(), Signal::SIGTERM);
        assert_eq!(collect(keeper).status, 0);
        assert_eq!(count(&left(&room)) + count(&lives(&room)), 0, "{mounts}");
    }
}

/// Of one that holds a lock the command dies with its keeper, at once; what that has left the next one ends.
#[apply(test)]
fn under_a_lock_the_command_dies_with_its_keeper() {
    needs("setsid");
    let room = Room::new();
    room.write("lock", "");
    let life = script(DAEMONS);
    let keeper = spawn(&room, &["-q", "--lock", "lock", "--", "/bin/sh", "-c", &life]);
    until("it runs", || left(&room).len() == 2 && lives(&room).len() == 1);
    kill(keeper);
    until("it is dead", || count(&lives(&room)) == 0);
    // By whatever name the file is reached.
    std::fs::hard_link(room.path("lock"), room.path("other")).unwrap();
    let done = room.run("baa-run", ["--lock", "other", "--restart", "never", "--", "true"]);
    assert!(done.status == 0 && done.stderr.contains("command: the last keeper died"), "{done:?}");
    assert!(count(&left(&room)) == 0 || !has_cgroups());
}

/// With a full disk there is no record, and a killed keeper's life is found all the same: never two.
#[apply(test)]
fn on_a_full_disk_there_are_never_two() {
    needs_root();
    for (full, stderr) in [("before", "is found by its mark alone"), ("after", "")] {
        let room = Room::new();
        let life = script("set -C; true > busy || echo overlap >> trouble;");
        let setup = format!(
            "mkdir -p $BAA_RUNTIME_DIR; mount -t tmpfs -o size=64k,mode=700 none $BAA_RUNTIME_DIR
             mkdir -m 700 $BAA_RUNTIME_DIR/jobs $BAA_RUNTIME_DIR/jobs/x
             fill() {{ dd if=/dev/zero of=$BAA_RUNTIME_DIR/fill bs=4k 2> /dev/null; }}
             [ {full} = after ] || {{ echo > $BAA_RUNTIME_DIR/jobs/x/lock; fill; }}
             \"$1\" --label x --throttle 0 -- /bin/sh -c '{}' 2>> said &
             until [ -s lives ]; do sleep 0.01; done
             [ {full} = before ] || fill
             kill -9 $!; wait $!
             kill -0 $(cat lives) && rm busy || echo gone >> trouble",
            life.replace('\'', "'\\''")
        );
        let keeper = within_mounts(&room, &setup, &["--label", "x", "--", "/bin/sh", "-c", &life]);
        until("the next one runs", || lives(&room).len() == 2);
        assert_eq!(count(&lives(&room)), 1, "{full}");
        signal(keeper.id(), Signal::SIGTERM);
        let done = collect(keeper);
        assert!(done.status == 0 && done.stderr.contains("left process"), "{done:?}");
        assert!(read(&room, "said").contains(stderr), "{}", read(&room, "said"));
        assert_eq!((read(&room, "trouble").as_str(), count(&lives(&room))), ("", 0), "{full}");
    }
}

/// A keeper that is stopped keeps its place and its command; killed, that is not started again before the
/// keeper goes on.
#[apply(test)]
fn a_stopped_keeper_keeps_its_place() {
    let room = Room::new();
    let life = script("");
    let words = ["-q", "--label", "x", "--throttle", "0", "--", "/bin/sh", "-c", &life];
    let keeper = spawn(&room, &words);
    until("it runs", || lives(&room).len() == 1);
    signal(keeper.id(), Signal::SIGSTOP);
    room.run("baa-run", words).failed_with(75, "cannot keep x: another baa-run does");
    assert_eq!(count(&lives(&room)), 1);
    signal(u32::try_from(lives(&room)[0]).unwrap(), Signal::SIGKILL);
    until("it is dead", || count(&lives(&room)) == 0);
    signal(keeper.id(), Signal::SIGCONT);
    until("it runs again", || lives(&room).len() == 2);
    signal(keeper.id(), Signal::SIGTERM);
    assert_eq!(collect(keeper).status, 0);
    assert_eq!(count(&lives(&room)), 0);
}

/// Where somebody cleans up under a running keeper it makes its lock, its socket and its record again.
#[apply(test)]
fn a_place_that_was_removed_is_made_again() {
    let room = Room::new();
    let words = ["-q", "--label", "x", "--lock", "lock", "--", "/bin/sh", "-c", &script("")];
    let keeper = spawn(&room, &words);
    until("it runs", || ctl(&room, &["status", "x"]).status == 0);
    for gone in ["run", "run/jobs/x/control", "run/jobs/x/lives", "run/jobs/x/lock", "lock"] {
        let path = room.path(gone);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        until(gone, || path.exists() && ctl(&room, &["status", "x"]).status == 0);
    }
    room.run("baa-run", ["--label", "x", "--", "true"]).failed_with(75, "another baa-run does");
    room.run("baa-run", ["--lock", "lock", "--lock-wait", "0", "--", "true"])
        .failed_with(75, &format!("process {} holds 'lock'", keeper.id()));
    // What it keeps stands in the record again, for whoever comes after it.
    kill(keeper);
    let done = room.run("baa-run", ["--label", "x", "--restart", "never", "--", "true"]);
    assert_eq!((done.status, count(&lives(&room)), lives(&room).len()), (0, 0, 1), "{done:?}");
}

/// Another keeper may be faster than the one whose place was removed: one of them ends, and there are never
/// two lives.
#[apply(test)]
fn of_two_keepers_of_a_removed_place_one_ends() {
    let life = script(
        "set -C; true 2> /dev/null > busy || echo overlap >> trouble; trap 'rm -f busy; exit 0' TERM;",
    )
    .replace(" trap 'exit 0' TERM;", "");
    for turn in 0..8 {
        let room = Room::new();
        let words = ["-q", "--label", "x", "--throttle", "0", "--", "/bin/sh", "-c", &life];
        let mut first = spawn(&room, &words);
        until("it runs", || ctl(&room, &["status", "x"]).status == 0 && lives(&room).len() == 1);
        std::fs::remove_dir_all(room.path("run")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(turn * 150));
        let mut second = spawn(&room, &words);
        let (mut ended, mut lasts) = (None, 0);
        until("one of them has ended", || {
            for (number, keeper) in [&mut first, &mut second].into_iter().enumerate() {
                if let Some(status) = keeper.try_wait().unwrap() {
                    (ended, lasts) = (status.code(), 1 - number);
                }
            }
            ended.is_some()
        });
        assert_eq!(ended, Some(75));
        until("the other one keeps a life", || {
            ctl(&room, &["status", "x"]).status == 0 && count(&lives(&room)) == 1
        });
        signal([&first, &second][lasts].id(), Signal::SIGTERM);
        assert_eq!([collect(first).status, collect(second).status][lasts], 0);
        assert_eq!((count(&lives(&room)), read(&room, "trouble").as_str()), (0, ""), "{turn}");
    }
}

/// A file that is locked may be removed, and another one be locked in its place: then the first keeper makes
/// room.
#[apply(test)]
fn of_two_keepers_of_a_removed_file_the_first_makes_room() {
    let room = Room::new();
    room.write("lock", "");
    let life = script("");
    let words = ["-q", "--lock", "lock", "--", "/bin/sh", "-c", &life];
    let first = spawn(&room, &words);
    until("it runs", || lives(&room).len() == 1);
    std::fs::remove_file(room.path("lock")).unwrap();
    // Not before the first one has looked, and made it again: then the second one would be refused.
    room.write("lock", "");
    let second = spawn(&room, &words);
    let (mut keepers, mut lasts) = (vec![first, second], 0);
    until("one of them has ended", || {
        let ended = keepers.iter_mut().position(|keeper| keeper.try_wait().unwrap().is_some());
        ended.is_some_and(|number| {
            lasts = 1 - number;
            true
        })
    });
    let last = keepers.remove(lasts);
    assert_eq!(collect(keepers.remove(0)).status, 75);
    until("one life is kept", || count(&lives(&room)) == 1);
    signal(last.id(), Signal::SIGTERM);
    assert_eq!((collect(last).status, count(&lives(&room))), (0, 0));
}

/// Nothing is written into a file that is locked, and nothing in it is believed: not whose keeper it was, not
/// whom to end.
#[apply(test)]
fn a_locked_file_keeps_its_bytes_and_names_nobody() {
    let room = Room::new();
    let bystander = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let who = baa::sys::process::Identity::of(
        baa::sys::process::Pid::new(i32::try_from(bystander.id()).unwrap()).unwrap(),
    )
    .unwrap();
    let forged = serde_json::json!({
        "keeper": bystander.id(), "pid": bystander.id(), "start": who.start.0,
        "boot": baa::sys::kernel::boot(), "mark": "x/y",
    });
    let words = format!("{forged}\nprecious");
    room.write("lock", &words);
    let keeper = spawn(&room, &["--lock", "lock", "--", "/bin/sh", "-c", &script("")]);
    until("it runs", || lives(&room).len() == 1);
    assert_eq!(read(&room, "lock"), words);
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert!(done.status == 0 && !done.stderr.contains("left process"), "{done:?}");
    assert_eq!((read(&room, "lock"), who.alive()), (words, true));
    // One whom nobody of us has told of holds it: there is no name for him.
    let held = baa::sys::file::Lock::take(&room.path("lock")).unwrap();
    room.run("baa-run", ["--lock", "lock", "--lock-wait", "0", "--", "true"])
        .failed_with(75, "cannot start: another process holds 'lock'");
    drop(held);
    kill(bystander);
}

/// A root without /proc: started, stopped in its time, with its status; and what a killed keeper kept dies
/// with it, for nobody could find it.
#[apply(test)]
fn without_proc_a_command_is_kept_as_elsewhere() {
    needs_root();
    let room = Room::new();
    let life = script("").replace("exit 0", "exit 3");
    let words = ["-q", "--label", "x", "--restart", "never", "--stop-timeout", "50s"];
    let words = [&words[..], &["--", "/bin/sh", "-c", &life]].concat();
    let keeper = within_mounts(&room, "mount -t tmpfs none /proc", &words);
    until("it runs", || lives(&room).len() == 1);
    signal(keeper.id(), Signal::SIGTERM);
    let done = collect(keeper);
    assert_eq!((done.status, done.stderr.as_str(), count(&lives(&room))), (3, "", 0));
    let keeper = within_mounts(&room, "mount -t tmpfs none /proc", &words);
    until("it runs", || lives(&room).len() == 2);
    kill(keeper);
    until("it is dead", || count(&lives(&room)) == 0);
    // What it has started is ended with it, in its session or out of it: orphans of ours are found by asking.
    let away = "echo $$ > away.tmp; mv away.tmp away; exec sleep 1000";
    let wait = "while [ ! -e away ]; do :; done; touch ready; wait";
    let rest = format!("sleep 1000 & echo $! > near; setsid sh -c '{away}' & {wait}");
    let leaver = ["-q", "--restart", "never", "--stop-timeout", "50s", "--", "/bin/sh", "-c", &rest];
    let keeper = within_mounts(&room, "mount -t tmpfs none /proc", &leaver);
    until("it runs", || room.path("ready").exists());
    let pid = |name: &str| std::fs::read_to_string(room.path(name)).unwrap().trim().parse::<u64>().unwrap();
    let (near, away) = (pid("near"), pid("away"));
    assert!(alive(near) && alive(away));
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
    assert!(!alive(near) && !alive(away));
    let twice = "[ -e second ] && exit 4; touch second; kill -9 $$";
    let again = ["-q", "--restart", "on-failure", "--throttle", "0", "--", "/bin/sh", "-c", twice];
    let mut keeper = within_mounts(&room, "mount -t tmpfs none /proc", &again);
    until("it is restarted", || room.path("second").exists());
    signal(keeper.id(), Signal::SIGTERM);
    until("it has ended", || keeper.try_wait().unwrap().is_some());
}

/// Without a runtime directory the state is in none that is cleaned, and where there is no home at all that
/// is said.
#[apply(test)]
fn the_state_is_never_in_tmp() {
    needs_root();
    needs("setpriv");
    let room = Room::new();
    // The checkout may be private.
    let program = room.path("baa-run");
    std::fs::copy(binary("baa-run"), &program).unwrap();
    let home = room.path("somebody");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(54_321), Some(54_321)).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(room.dir.path(), open).unwrap();
    let run = |home: Option<&str>| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]).arg(&program);
        command.args(["-q", "--label", "x", "--restart", "never", "--", "true"]).env_clear();
        command.env("PATH", "/usr/bin:/bin").envs(home.map(|home| ("HOME", home)));
        finish(command.current_dir("/"))
    };
    run(Some(home.to_str().unwrap())).expect(0, "", "");
    assert!(home.join(".local/state/baa/run/jobs/x/lock").exists());
    run(None).failed_with(78, "cannot tell where to keep locks and sockets: HOME is not set");
    let long = format!("{}/{}", room.dir.path().display(), "x".repeat(100));
    let mut command = room.command("baa-run");
    command.args(["--label", "x", "--", "true"]).env("BAA_RUNTIME_DIR", long);
    finish(&mut command).failed_with(78, "the path is too long for a socket; set BAA_RUNTIME_DIR");
}
