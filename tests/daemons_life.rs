//! What is alive of a group after something has happened to it: its supervisor killed, stopped, killed and
//! started again; a disk full; its runtime directory removed; its file renamed. On real processes.

use crate::daemons::{Group, ask, sleeper};
use crate::support::{Room, alive, collect, finish, is_stopped, needs, needs_root, signal, skip, until};
use baa::sys::cgroup::CgroupParent;
use baa::sys::file::{FileId, Lock};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The pid that a script has left in a file of the room.
fn left(room: &Room, name: &str) -> u64 {
    let mut pid = 0;
    until(&format!("{name} is written"), || {
        let text = std::fs::read_to_string(room.path(name)).unwrap_or_default();
        pid = text.trim().parse().unwrap_or(0);
        pid > 0
    });
    pid
}

/// An entry whose process leaves another one behind, in a session of its own: with its environment, or
/// without.
fn leaver(id: &str, emptied: bool, more: &str) -> String {
    let empty = if emptied { "env -i" } else { "" };
    let far = format!("echo $$ > {id}.tmp; mv {id}.tmp {id}.far; exec sleep 1000");
    let words = format!("(setsid {empty} /bin/sh -c '{far}' &); exec sleep 1000");
    format!("[[daemon]]\nid = \"{id}\"\ncommand = [\"/bin/sh\", \"-c\", \"\"\"{words}\"\"\"]\n{more}\n")
}

/// A command that hangs, and says who its grandchild is.
const HANGS: &str = "exec:sleep 1000 & echo $! > probe.tmp; mv probe.tmp probe; wait";

fn killed(group: Group) {
    let mut group = group;
    let mut child = group.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

fn runtime(room: &Room) -> PathBuf {
    let groups = std::fs::read_dir(room.path("run/groups")).unwrap().map(|one| one.unwrap().path());
    let mut groups: Vec<PathBuf> = groups.filter(|path| path.join("lock").exists()).collect();
    assert_eq!(groups.len(), 1);
    groups.pop().unwrap()
}

/// Killed, a supervisor takes its entries and what it asks along at once; what has left them, and what a
/// probe has started, is ended by the next run, before anything starts.
#[apply(test)]
fn a_killed_supervisor_leaves_nothing_that_the_next_run_does_not_end() {
    needs("setsid");
    let room = Room::new();
    let in_cgroups = CgroupParent::ours(|| false).is_some();
    let probed = sleeper("p", &format!("ready.probe = \"{HANGS}\""));
    let text = leaver("a", false, "") + &leaver("b", in_cgroups, "") + &probed;
    let group = Group::run(&room, &text);
    let [a, b, probe] = ["a.far", "b.far", "probe"].map(|name| left(&room, name));
    let mains = ["a", "b", "p"].map(|id| group.process(id));
    killed(group);
    until("the entries are dead", || mains.iter().all(|pid| !alive(*pid)));
    assert!(alive(a) && alive(b) && alive(probe));
    let group = Group::run(&room, &sleeper("c", ""));
    assert!(!alive(a) && !alive(b) && !alive(probe));
    assert_eq!(group.stop().status, 0);
}

/// Stopped by SIGSTOP, it keeps what it has: all is alive, and goes on when it does. Whoever asks is told.
#[apply(test)]
fn a_stopped_supervisor_is_told_from_one_that_does_not_run() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    let main = group.process("a");
    signal(group.pid(), Signal::SIGSTOP);
    is_stopped(group.pid());
    let said = format!("the group runs, but its process {} is stopped", group.pid());
    ask(&room, &["status", "g.toml"]).failed_with(124, &said);
    assert!(alive(main));
    signal(group.pid(), Signal::SIGCONT);
    group.ready();
    assert_eq!(group.process("a"), main);
    assert_eq!(group.stop().status, 0);
    ask(&room, &["status", "g.toml"]).failed_with(69, "the group does not run");
}

/// More clients than it has room for, and some that say nothing: each gets its answer.
#[apply(test)]
fn many_clients_at_once_are_all_answered() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    let control = runtime(&room).join("control");
    let idle: Vec<_> = (0..40).map(|_| std::os::unix::net::UnixStream::connect(&control).unwrap()).collect();
    let clients: Vec<_> = (0..60)
        .map(|_| {
            let mut client = room.command("baa-daemons");
            client.args(["status", "g.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for client in clients {
        let done = collect(client);
        assert_eq!(done.status, 0, "{done:?}");
    }
    drop(idle);
    assert_eq!(group.stop().status, 0);
}

/// Another user's group is that, and not one that does not run.
#[apply(test)]
fn another_users_group_is_said_to_be_that() {
    needs_root();
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let group = Group::run(&room, &sleeper("a", ""));
    // The name of a group is of its user too, so one is asked that has the same name.
    let program = room.path("baa-daemons");
    std::fs::copy(crate::support::binary("baa-daemons"), &program).unwrap();
    let mut command = Command::new(&program);
    let other = finish(
        command
            .args(["status", "g.toml"])
            .env_clear()
            .env("BAA_RUNTIME_DIR", room.path("run"))
            .env("XDG_STATE_HOME", room.path("state"))
            .current_dir(room.dir.path())
            .uid(65534)
            .gid(65534),
    );
    other.failed_with(77, "another user's");
    assert_eq!(group.stop().status, 0);
}

/// It is asked to stop by CONT too, so one that is stopped can obey; and all of its process group is.
#[apply(test)]
fn a_stop_reaches_the_whole_process_group_even_when_that_is_stopped() {
    let room = Room::new();
    let words = "(trap 'echo kid > kid; exit 0' TERM; echo up > up; while :; do sleep 0.01; done) & \
         trap 'wait; exit 0' TERM; wait";
    let text = format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"\"\"{words}\"\"\"]\n");
    let group = Group::run(&room, &text);
    group.ready();
    until("both run", || room.path("up").exists());
    let main = i32::try_from(group.process("a")).unwrap();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(main), Signal::SIGSTOP).unwrap();
    let done = group.stop();
    assert_eq!(done.status, 0, "{done:?}");
    assert!(room.path("kid").exists());
}

/// Whatever would end it and can be caught stops all in order.
#[apply(test)]
fn every_signal_that_ends_a_program_stops_the_group_in_order() {
    let room = Room::new();
    let real_time = nix::libc::SIGRTMIN() + 5;
    let named = [Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGVTALRM]
        .map(|signal| signal as i32);
    // Some real-time signals are the C library's own, and its sigaction(2) refuses them. (33 is not here:
    // once glibc has made a thread it has a handler of its own, which takes no notice of what others send.)
    let reserved = if cfg!(target_os = "linux") { vec![32, 34] } else { Vec::new() };
    let others = [Signal::SIGPROF as i32, Signal::SIGABRT as i32, real_time];
    for number in named.into_iter().chain(others).chain(reserved) {
        let _ = std::fs::remove_file(room.path("ended"));
        let words = "trap 'echo ended > ended; exit 0' TERM; echo up > up; while :; do sleep 0.01; done";
        let text = format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"{words}\"]\n");
        let group = Group::run(&room, &text);
        group.ready();
        until("it runs", || room.path("up").exists());
        std::fs::remove_file(room.path("up")).unwrap();
        let pid = i32::try_from(group.pid()).unwrap();
        let sent = Command::new("kill").args([format!("-{number}"), pid.to_string()]).status().unwrap();
        assert!(sent.success());
        let mut group = group;
        let done = collect(group.child.take().unwrap());
        assert_eq!(done.status, 0, "{number}: {done:?}");
        assert!(room.path("ended").exists(), "{number}");
    }
}

/// Its file may be renamed, linked, or reached from another runtime directory: it is the same group, and
/// there is one of it.
#[apply(test)]
fn a_group_is_what_its_file_is() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    let main = group.process("a");
    std::fs::hard_link(room.path("g.toml"), room.path("link.toml")).unwrap();
    ask(&room, &["run", "link.toml"]).failed_with(75, "cannot run link.toml: it runs already");
    assert_eq!(ask(&room, &["status", "link.toml"]).status, 0);
    let elsewhere = |arguments: &[&str]| {
        let mut command = room.command("baa-daemons");
        finish(command.args(arguments).env("BAA_RUNTIME_DIR", room.path("run2")).env("XDG_STATE_HOME", "/"))
    };
    elsewhere(&["run", "g.toml"]).failed_with(75, "cannot run g.toml: it runs already");
    assert_eq!(elsewhere(&["status", "g.toml"]).status, 0);
    std::fs::remove_file(room.path("link.toml")).unwrap();
    std::fs::rename(room.path("g.toml"), room.path("new.toml")).unwrap();
    ask(&room, &["run", "new.toml"]).failed_with(75, "cannot run new.toml: it runs already");
    assert_eq!(ask(&room, &["status", "new.toml"]).status, 0);
    // From now on it is read by its new name.
    let more = sleeper("a", "") + &sleeper("b", "");
    let mut file = std::fs::OpenOptions::new().write(true).open(room.path("new.toml")).unwrap();
    std::io::Write::write_all(&mut file, more.as_bytes()).unwrap();
    assert_eq!(ask(&room, &["reload", "new.toml"]).status, 0);
    until("both run", || ask(&room, &["status", "new.toml"]).stdout.lines().count() == 3);
    assert!(alive(main));
    assert_eq!(ask(&room, &["stop", "new.toml"]).status, 0);
    assert!(!alive(main));
    let mut group = group;
    assert_eq!(collect(group.child.take().unwrap()).status, 0);
}

/// An editor puts a new file in the place of the old one: that is the group's from then on.
#[apply(test)]
fn a_file_that_was_replaced_is_still_locked() {
    let room = Room::new();
    let group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    room.write("next.toml", &sleeper("a", ""));
    let id = FileId::of(&room.path("next.toml")).unwrap();
    std::fs::rename(room.path("next.toml"), room.path("g.toml")).unwrap();
    let note = runtime(&room).join("group.json");
    let known = format!("[{},{}]", id.device, id.inode);
    until("it is noticed", || std::fs::read_to_string(&note).unwrap().contains(&known));
    let mut command = room.command("baa-daemons");
    command.args(["run", "g.toml"]).env("BAA_RUNTIME_DIR", room.path("run2"));
    finish(command.env("XDG_STATE_HOME", room.path("state2"))).failed_with(75, "it runs already");
    assert_eq!(group.stop().status, 0);
}

/// Whoever cleans /run or /tmp takes nothing away for long: the lock, the socket and the record are made
/// again, and what a killed supervisor has left is found all the same.
#[apply(test)]
fn a_runtime_directory_that_is_removed_is_made_again() {
    needs("setsid");
    let room = Room::new();
    let group = Group::run(&room, &leaver("a", false, ""));
    group.ready();
    let main = group.process("a");
    std::fs::remove_dir_all(room.path("run")).unwrap();
    ask(&room, &["run", "g.toml"]).failed_with(75, "it runs already");
    // Asked meanwhile it is waited for, and never said not to run.
    let done = ask(&room, &["status", "g.toml"]);
    assert_eq!(done.status, 0, "{done:?}");
    assert_eq!(group.process("a"), main);
    let far = left(&room, "a.far");
    killed(group);
    assert!(alive(far));
    std::fs::remove_dir_all(room.path("run")).unwrap();
    let group = Group::run(&room, &sleeper("b", ""));
    assert!(!alive(far));
    assert_eq!(group.stop().status, 0);
}

/// Where another one has taken its place it ends what it keeps, and leaves the other one's socket alone.
#[apply(test)]
fn a_group_whose_place_was_taken_ends_what_it_keeps() {
    let room = Room::new();
    let mut group = Group::run(&room, &sleeper("a", ""));
    group.ready();
    let main = group.process("a");
    let place = runtime(&room);
    std::fs::rename(room.path("run"), room.path("old")).unwrap();
    std::fs::create_dir_all(&place).unwrap();
    for path in [room.path("run"), room.path("run/groups"), place.clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let other = Lock::take(&place.join("lock")).unwrap().unwrap();
    std::fs::write(place.join("control"), "").unwrap();
    let done = collect(group.child.take().unwrap());
    assert_eq!(done.status, 76, "{done:?}");
    assert!(done.stderr.contains("another run of g.toml has taken the place of this one"), "{done:?}");
    assert!(!alive(main) && place.join("control").exists());
    drop(other);
}

/// On a disk that is full a group starts, restarts what dies, and is cleared away after by the next run.
#[apply(test)]
fn a_full_disk_holds_up_nobody() {
    needs("setsid");
    let room = Room::new();
    let mounted = room.path("disk");
    std::fs::create_dir(&mounted).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&mounted).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        skip("no file system can be mounted here");
    }
    let filled = std::fs::write(mounted.join("filler"), vec![0; 1 << 20]);
    assert!(filled.is_err());
    room.write("g.toml", &leaver("a", false, "restart = { initial = 0 }"));
    let run = || {
        let mut command = room.command("baa-daemons");
        command.env("BAA_RUNTIME_DIR", mounted.join("run")).env("XDG_STATE_HOME", mounted.join("state"));
        command
    };
    let mut group = run().args(["run", "g.toml"]).stderr(Stdio::null()).spawn().unwrap();
    let far = left(&room, "a.far");
    until("it runs", || finish(run().args(["status", "g.toml"])).status == 0);
    let pid = || finish(run().args(["status", "--json", "g.toml"])).json()["entries"][0]["pid"].as_u64();
    let main = pid().unwrap();
    signal(u32::try_from(main).unwrap(), Signal::SIGKILL);
    until("it is back", || pid().is_some_and(|pid| pid != main));
    assert!(!alive(far), "what the last life has left lives beside the next one");
    // The second life has left its own by now, and what is read next is the third one's.
    until("the second life has left one", || left(&room, "a.far") != far);
    std::fs::remove_file(room.path("a.far")).unwrap();
    signal(u32::try_from(pid().unwrap()).unwrap(), Signal::SIGKILL);
    let far = left(&room, "a.far");
    group.kill().unwrap();
    group.wait().unwrap();
    assert!(alive(far));
    let mut group = run().args(["run", "g.toml"]).stderr(Stdio::null()).spawn().unwrap();
    until("it runs again", || finish(run().args(["status", "g.toml"])).status == 0);
    assert!(!alive(far));
    signal(group.id(), Signal::SIGTERM);
    assert_eq!(group.wait().unwrap().code(), Some(0));
    let _ = Command::new("umount").args(["-l"]).arg(&mounted).status();
}

/// Why an entry could not be started is told whole: the program, what is wrong with it, and where.
#[apply(test)]
fn the_error_of_a_start_is_passed_on_whole() {
    let room = Room::new();
    std::fs::create_dir(room.path("srv")).unwrap();
    let group = Group::run(&room, "[[daemon]]\nid = \"web\"\ncwd = \"srv\"\ncommand = [\"./web\"]\n");
    let text = "cannot start './web': no such file or directory (in ./srv)";
    until("it is told", || group.entry("web")["message"] == text);
    assert_eq!(group.stop().status, 0);
}

/// A supervisor was killed, and its file has got another name, or had two: what it has left is ended all the
/// same.
#[apply(test)]
fn what_is_left_is_found_under_another_name() {
    for by_link in [false, true] {
        let room = Room::new();
        let group = Group::run(&room, &leaver("a", false, ""));
        group.ready();
        let (main, far) = (group.process("a"), left(&room, "a.far"));
        killed(group);
        let _ = std::fs::remove_file(room.path("a.far"));
        if by_link {
            std::fs::hard_link(room.path("g.toml"), room.path("new.toml")).unwrap();
        } else {
            std::fs::rename(room.path("g.toml"), room.path("new.toml")).unwrap();
        }
        let mut run = room.command("baa-daemons");
        let next =
            run.args(["run", "new.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let second = left(&room, "a.far");
        assert!(!alive(main) && !alive(far) && alive(second), "{by_link}");
        signal(next.id(), Signal::SIGTERM);
        let done = collect(next);
        assert!(done.stderr.contains("the last run was killed and left"), "{done:?}");
        assert!(!alive(second));
    }
}

/// What only waits for a success has none when it is ended before, and ends at once where none can come any
/// more.
#[apply(test)]
fn a_success_that_did_not_come_is_none() {
    let room = Room::new();
    let stuck = "[[check]]\nid = \"stuck\"\nready.probe = \"file:never\"\n";
    room.write("g.toml", &(sleeper("a", "") + stuck));
    let begin = || {
        let mut command = room.command("baa-daemons");
        command.args(["until-success", "g.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        until("it runs", || ask(&room, &["status", "g.toml"]).stdout.contains("ready"));
        child
    };
    for (sent, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let child = begin();
        signal(child.id(), sent);
        let done = collect(child);
        let words = format!("ended by {sent} while waiting for stuck (");
        assert!(done.status == status && done.stderr.contains(&words), "{done:?}");
    }
    let child = begin();
    ask(&room, &["stop", "-q", "g.toml"]).expect(0, "", "");
    let done = collect(child);
    assert!(done.status == 1 && done.stderr.contains("stopped while waiting for stuck ("), "{done:?}");
    let hopeless =
        "[[oneshot]]\nid = \"m\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 4\"]\nrestart = \"never\"\n";
    room.write("g.toml", &(sleeper("a", "requires = [\"m\"]") + hopeless));
    let why = "m is not started again, so not all can be a success: exited with 4";
    ask(&room, &["until-success", "-q", "g.toml"]).failed_with(69, why);
}
