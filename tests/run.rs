//! baa-run: one command or job, kept.

use crate::support::{Room, alive, collect, needs, needs_root, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Stdio;

fn status(room: &Room, label: &str) -> Value {
    room.run("baa-run", ["ctl", "status", label, "--json"]).json()
}

#[apply(test)]
fn with_restart_never_the_status_is_the_commands_own() {
    let room = Room::new();
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        let done = room.run("baa-run", ["-q", "--restart", "never", "--", "/bin/sh", "-c", script]);
        done.expect(code, "", "");
    }
    let done =
        room.run("baa-run", ["--restart", "never", "--", "/bin/sh", "-c", "cat; echo out; echo err >&2"]);
    done.expect(0, "out\n", "err\n");
}

#[apply(test)]
fn what_cannot_be_run_is_126_and_127() {
    let room = Room::new();
    room.run("baa-run", ["--restart", "never", "--", "/nonexistent"]).failed_with(127, "no such file");
    room.run("baa-run", ["--restart", "never", "--", "/etc/passwd"]).failed_with(126, "permission denied");
    room.run("baa-run", ["--nonsense", "--", "true"]).failed_with(125, "--nonsense");
    room.run("baa-run", ["--nonsense"]).failed_with(2, "--nonsense");
    room.run::<&str>("baa-run", []).failed_with(2, "required arguments were not provided");
}

#[apply(test)]
fn a_dry_run_starts_nothing() {
    let room = Room::new();
    room.run("baa-run", ["-n", "--json", "-q", "--", "touch", "ran"]).expect(
        0,
        "{\"schema\":\"baa.run/1\",\"dry_run\":true,\"label\":null,\"command\":[\"touch\",\"ran\"]}\n",
        "",
    );
    room.run("baa-run", ["-n", "--", "touch", "a b"]).expect(0, "", "baa-run: would keep touch 'a b'\n");
    assert!(!room.path("ran").exists() && !room.path("run").exists());
}

#[apply(test)]
fn on_failure_ends_with_success_and_restarts_after_failure() {
    let room = Room::new();
    let script = format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ]", room.text("count"));
    room.run("baa-run", ["-q", "--restart", "on-failure", "--throttle", "0", "--", "/bin/sh", "-c", &script])
        .expect(0, "", "");
    assert_eq!(std::fs::read_to_string(room.path("count")).unwrap(), "x\nx\nx\n");
}

#[apply(test)]
fn the_command_runs_in_a_session_of_its_own_and_gets_signals() {
    let room = Room::new();
    let script = format!(
        "trap 'echo usr1 >> {0}.usr1' USR1; trap 'echo usr2 > {0}.usr2' USR2; trap 'exit 0' TERM; \
             cut -d' ' -f6 /proc/$$/stat > {0}.tmp; mv {0}.tmp {0}; while :; do sleep 0.01; done",
        room.text("sid")
    );
    let child = room
        .command("baa-run")
        .args(["--restart", "never", "--label", "x", "--", "/bin/sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the command is ready", || room.path("sid").exists());
    assert_eq!(
        std::fs::read_to_string(room.path("sid")).unwrap().trim(),
        status(&room, "x")["pid"].to_string()
    );
    // USR1 has a meaning of its own (a restart), and unless somebody has said that it has, none at all.
    signal(child.id(), Signal::SIGUSR1);
    signal(child.id(), Signal::SIGUSR2);
    until("the signal came through", || room.path("sid.usr2").exists());
    assert!(!room.path("sid.usr1").exists());
    signal(child.id(), Signal::SIGTERM);
    let done = collect(child);
    assert!(done.status == 0 && done.stderr.contains("USR1 is ignored"), "{done:?}");
    std::fs::remove_file(room.path("sid")).unwrap();
    let child = room
        .command("baa-run")
        .args(["-q", "--restart", "never", "--usr1", "pass", "--", "/bin/sh", "-c", &script])
        .spawn()
        .unwrap();
    until("the command is ready", || room.path("sid").exists());
    signal(child.id(), Signal::SIGUSR1);
    until("the signal came through", || room.path("sid.usr1").exists());
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[apply(test)]
fn a_command_that_ignores_term_is_killed_with_its_tree() {
    needs("setsid");
    let room = Room::new();
    // The grandchild leaves session and parent behind and ignores TERM too.
    let script = format!(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > {0}.tmp; mv {0}.tmp {0}; \
             exec sleep 1000' & sleep 1000",
        room.text("grandchild")
    );
    let child = room
        .command("baa-run")
        .args(["-q", "--stop-timeout", "200ms", "--", "/bin/sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the grandchild", || room.path("grandchild").exists());
    let grandchild: u64 = std::fs::read_to_string(room.path("grandchild")).unwrap().trim().parse().unwrap();
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
    assert!(!alive(grandchild));
}

#[apply(test)]
fn a_third_signal_does_not_wait() {
    let room = Room::new();
    // The second one reaches the whole tree.
    let script = format!(
        "trap '' TERM INT; (trap 'echo x > {0}.told' TERM; : > {0}; while :; do sleep 0.01; done) & \
             while :; do wait; sleep 1000; done",
        room.text("up")
    );
    let child = room
        .command("baa-run")
        .args(["-q", "--stop-timeout", "0", "--", "/bin/sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the command is up", || room.path("up").exists());
    signal(child.id(), Signal::SIGINT);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(!room.path("up.told").exists());
    signal(child.id(), Signal::SIGINT);
    until("the whole tree is told", || room.path("up.told").exists());
    assert!(alive(u64::from(child.id())));
    signal(child.id(), Signal::SIGINT);
    assert_eq!(collect(child).status, 0);
}

#[apply(test)]
fn one_of_many_keepers_of_a_label_wins() {
    let room = Room::new();
    let children: Vec<_> = (0..10)
        .map(|_| {
            room.command("baa-run")
                .args(["-q", "--label", "one", "--", "/bin/sleep", "1000"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    until("a keeper is up", || room.run("baa-run", ["ctl", "status", "one"]).status == 0);
    let winner = u32::try_from(status(&room, "one")["keeper"].as_u64().unwrap()).unwrap();
    // The losers first: one that still tries may have the lock once the winner is gone.
    let (winners, losers): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.id() == winner);
    losers
        .into_iter()
        .for_each(|child| collect(child).failed_with(75, "cannot keep one: another baa-run does"));
    signal(winner, Signal::SIGTERM);
    winners.into_iter().for_each(|child| collect(child).expect(0, "", ""));
}

#[apply(test)]
fn ctl_starts_stops_and_restarts() {
    let room = Room::new();
    let plist = room.plist("a.job", &["/bin/sleep", "1000"], "");
    let plist = plist.to_string_lossy();
    room.run("baa-run", ["--detach", "--job", &plist]).expect(0, "", "");
    room.run("baa-run", ["--detach", "--job", &plist]).failed_with(75, "another baa-run does");
    // Neither RunAtLoad nor KeepAlive: it is loaded and does not run.
    room.run("baa-run", ["ctl", "status", "a.job"]).expect(1, "a.job: idle, runs 0\n", "");
    assert_eq!(room.run("baa-run", ["ctl", "start", "a.job"]).status, 0);
    let first = status(&room, "a.job")["pid"].as_u64().unwrap();
    assert_eq!(room.run("baa-run", ["ctl", "restart", "a.job"]).status, 0);
    until("a new process", || status(&room, "a.job")["pid"].as_u64().is_some_and(|pid| pid != first));
    let keeper = status(&room, "a.job")["keeper"].as_u64().unwrap();
    room.run("baa-run", ["ctl", "stop", "a.job"]).expect(0, "", "");
    assert!(!alive(keeper));
    room.run("baa-run", ["ctl", "status", "a.job"]).failed_with(69, "cannot ask about a.job: no keeper runs");
    room.run("baa-run", ["ctl", "stop", "../x"]).failed_with(2, "is not a label");
}

#[apply(test)]
fn the_control_socket_bears_nonsense() {
    use std::io::{Read, Write};
    let room = Room::new();
    room.run("baa-run", ["--detach", "--label", "n", "--", "/bin/sleep", "1000"]).expect(0, "", "");
    let socket = room.path("run/jobs/n/control");
    for nonsense in
        [&b"\n"[..], b"{}\n", b"{\"verb\":7}\n", b"\xff\xff\n", b"{\"verb\":\"spare\"}\n", &[b'x'; 100_000]]
    {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("error"), "{answer}");
    }
    assert_eq!(status(&room, "n")["state"], "running");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&socket).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[apply(test)]
fn a_state_directory_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    std::fs::create_dir_all(room.path("run/jobs/open")).unwrap();
    std::fs::set_permissions(room.path("run/jobs/open"), std::fs::Permissions::from_mode(0o755)).unwrap();
    room.run("baa-run", ["--label", "open", "--", "true"])
        .failed_with(77, "is not for its owner alone (0700)");
    std::fs::set_permissions(room.path("run"), std::fs::Permissions::from_mode(0o777)).unwrap();
    room.run("baa-run", ["--label", "x", "--", "true"])
        .failed_with(77, &format!("others may write to '{}'", room.text("run")));
    std::fs::set_permissions(room.path("run"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let long = "x".repeat(150);
    room.run("baa-run", ["--label", &long, "--", "true"]).failed_with(78, "too long for a socket");
}

#[apply(test)]
fn a_job_gets_its_directory_umask_input_and_logs() {
    let room = Room::new();
    let script = "pwd; umask; cat; echo $0; echo err >&2";
    room.write("input", "from the input\n");
    room.write("dir/x", "");
    let keys = format!(
        "<key>WorkingDirectory</key><string>{0}/dir</string><key>Umask</key><integer>63</integer>\
             <key>StandardInPath</key><string>{0}/input</string><key>StandardOutPath</key>\
             <string>{0}/out</string><key>StandardErrorPath</key><string>{0}/err</string>\
             <key>RunAtLoad</key><true/>",
        room.dir.path().display()
    );
    let plist = room.plist("a.job", &["/bin/sh", "-c", script, "zero"], &keys);
    let done = room.run("baa-run", ["--restart", "never", "--job", &plist.to_string_lossy()]);
    done.expect(0, "", "");
    assert_eq!(
        std::fs::read_to_string(room.path("out")).unwrap(),
        format!("{}\n0077\nfrom the input\nzero\n", room.text("dir"))
    );
    assert_eq!(std::fs::read_to_string(room.path("err")).unwrap(), "err\n");
}

#[apply(test)]
fn a_job_can_run_as_another_user() {
    needs_root();
    let room = Room::new();
    // It opens its log itself, as launchd has it: in a place that it may write to.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(room.dir.path(), open).unwrap();
    let plist = room.plist(
        "a.job",
        &["/bin/sh", "-c", "id -un; id -gn; echo $HOME"],
        &format!(
            "<key>UserName</key><string>nobody</string><key>StandardOutPath</key><string>{}</string>\
             <key>RunAtLoad</key><true/>",
            room.text("out")
        ),
    );
    room.run("baa-run", ["--restart", "never", "--job", &plist.to_string_lossy()]).expect(0, "", "");
    assert_eq!(std::fs::read_to_string(room.path("out")).unwrap(), "nobody\nnogroup\n/nonexistent\n");
}

#[apply(test)]
fn keep_alive_by_path_starts_when_the_path_appears() {
    let room = Room::new();
    let keys = format!(
        "<key>KeepAlive</key><dict><key>PathState</key><dict><key>{}</key><true/></dict></dict>",
        room.text("flag")
    );
    let plist = room.plist("a.job", &["/bin/sleep", "1000"], &keys);
    room.run("baa-run", ["--detach", "--job", &plist.to_string_lossy()]).expect(0, "", "");
    assert_eq!(status(&room, "a.job")["state"], "idle");
    room.write("flag", "");
    until("it runs", || status(&room, "a.job")["state"] == "running");
}
