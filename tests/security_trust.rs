//! Whose word is believed: another user writes, links and serves what root's tools look at, and nothing comes
//! of it but one line that says whose it was.

use crate::support::{Done, Room, alive, finish, needs, needs_root, signal, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Debian's nobody; and one that the user database does not know.
pub const NOBODY: u32 = 65534;
pub const STRANGER: u32 = 65533;

/// What root has and another user may not see or change.
pub const SECRET: &str = "root's own word\n";

pub fn give(path: &Path, mode: u32, uid: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
}

/// A room that others may pass through, with a directory of the attacker's own, and a file that is root's.
pub fn room_of(uid: u32) -> Room {
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(room.path("theirs")).unwrap();
    give(&room.path("theirs"), 0o755, uid);
    room.secret("secret", SECRET);
    room
}

/// A command of the attacker's.
pub fn of(uid: u32, program: &Path) -> Command {
    let mut command = Command::new(needs("setpriv"));
    command
        .args([format!("--reuid={uid}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()])
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// What the attacker writes into a file of his directory.
pub fn their(room: &Room, name: &str, text: &str, uid: u32) -> PathBuf {
    let path = room.write(&format!("theirs/{name}"), text);
    for part in path.ancestors().take_while(|part| *part != room.path("theirs")) {
        give(part, if part.is_dir() { 0o755 } else { 0o644 }, uid);
    }
    path
}

fn victim() -> Child {
    Command::new("/bin/sleep").arg("1000").spawn().unwrap()
}

/// The words of a keeper, or of whoever has a lock, that would have `victim` ended.
fn forged(victim: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{victim}/stat")).unwrap();
    let start: u64 = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let words = json!({
        "pid": victim, "start": start, "boot": boot.trim(), "mark": "x/y", "keeper": victim, "cgroup": null
    });
    format!("{words}\n")
}

fn refused(done: &Done, status: i32, of: &Path, uid: u32) {
    done.failed_with(status, &format!("'{}' belongs to user {uid}\n", of.display()));
}

#[apply(test)]
fn a_forged_lock_has_nobody_killed() {
    needs_root();
    for uid in [NOBODY, STRANGER] {
        let room = room_of(uid);
        let mut victim = victim();
        let lock = their(&room, "lock", &forged(victim.id()), uid);
        let done = room.run("baa-run", ["--lock", &lock.to_string_lossy(), "--", "true"]);
        refused(&done, 77, &room.path("theirs"), uid);
        // Nor one that he has linked into root's own directory, by another name.
        std::fs::hard_link(&lock, room.path("linked")).unwrap();
        let done = room.run("baa-run", ["--restart", "never", "--lock", "linked", "--", "true"]);
        refused(&done, 77, &room.path("linked"), uid);
        // Nor lives that he has written down.
        their(&room, "run/jobs/web/lives", &forged(victim.id()), uid);
        let mut command = room.command("baa-run");
        command.env("BAA_RUNTIME_DIR", room.path("theirs/run"));
        refused(&finish(command.args(["--label", "web", "--", "true"])), 77, &room.path("theirs"), uid);
        assert!(alive(victim.id().into()), "{uid}");
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), forged(victim.id()));
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
}

#[apply(test)]
fn root_keeps_nothing_where_another_user_could_change_it() {
    needs_root();
    let room = room_of(NOBODY);
    // What root has made in a directory of another is no safer: that one can put something else there.
    std::fs::create_dir(room.path("theirs/roots")).unwrap();
    std::fs::create_dir(room.path("shared")).unwrap();
    std::fs::set_permissions(room.path("shared"), std::fs::Permissions::from_mode(0o777)).unwrap();
    symlink(room.path("shared"), room.path("theirs/link")).unwrap();
    lchown(room.path("theirs/link"), Some(NOBODY), None).unwrap();
    let theirs = room.path("theirs");
    for (variable, place, why) in [
        ("BAA_RUNTIME_DIR", "theirs", format!("'{}' belongs to user {NOBODY}", theirs.display())),
        ("BAA_RUNTIME_DIR", "theirs/new/run", format!("'{}' belongs to user {NOBODY}", theirs.display())),
        ("BAA_RUNTIME_DIR", "theirs/roots", format!("'{}' belongs to user {NOBODY}", theirs.display())),
        ("BAA_RUNTIME_DIR", "theirs/link", format!("'{}' belongs to user {NOBODY}", theirs.display())),
        ("BAA_RUNTIME_DIR", "shared/run", format!("others may write to '{}'", room.text("shared"))),
        ("XDG_RUNTIME_DIR", "theirs", format!("'{}' belongs to user {NOBODY}", theirs.display())),
    ] {
        for words in [&["--label", "web", "--", "true"][..], &["ctl", "status", "web"]] {
            let mut command = room.command("baa-run");
            command.env_remove("BAA_RUNTIME_DIR").env(variable, room.path(place)).args(words);
            let done = finish(&mut command);
            assert!(done.status == 77 && done.stdout.is_empty(), "{variable} {place} {words:?}: {done:?}");
            assert!(
                done.stderr.contains(&why) && done.stderr.lines().count() == 1,
                "{variable} {place}: {done:?}"
            );
        }
    }
    for words in [
        &["baa-reload", "--manager", "baa", "--install-dir", "agents", "--service", "x"][..],
        &["baa-lease", "acquire", "--node-id", "a"],
        &["baa-canary", "watch", "--pid", "1"],
    ] {
        room.plist("so.makefile.baa-x", &["/bin/true"], "");
        let mut command = room.command(words[0]);
        let done = finish(command.env("XDG_STATE_HOME", &theirs).args(&words[1..]));
        assert!(done.stderr.contains(&format!("belongs to user {NOBODY}")), "{words:?}: {done:?}");
        assert!(done.status == 77 && done.stderr.lines().count() == 1, "{words:?}: {done:?}");
    }
    let names = |path: PathBuf| std::fs::read_dir(path).unwrap().count();
    assert_eq!((names(theirs), names(room.path("theirs/roots")), names(room.path("shared"))), (2, 0, 0));
}

#[apply(test)]
fn a_secret_is_taken_only_where_it_is_one() {
    needs_root();
    let room = room_of(NOBODY);
    room.secret("open", "word\n");
    std::fs::set_permissions(room.path("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    room.secret("group", "word\n");
    give(&room.path("group"), 0o640, 0);
    chown(room.path("group"), None, Some(NOBODY)).unwrap();
    give(&room.secret("given", "word\n"), 0o600, NOBODY);
    give(&room.secret("theirs/token", "word\n"), 0o600, NOBODY);
    symlink(room.path("secret"), room.path("theirs/link")).unwrap();
    let programs: [&[&str]; 4] = [
        &["baa-control", "--listen", "127.0.0.1:0", "--token-file"],
        &["baa-lease", "status", "--store", "http://127.0.0.1:1", "--token-file"],
        &["baa-lease", "status", "--store", "etcd://a@127.0.0.1:1/p", "--etcd-password-file"],
        &["baa-healthwait", "--timeout", "1ms", "http://127.0.0.1:1/", "--token-file"],
    ];
    for words in programs {
        for (name, why) in [
            ("open", format!("others may read '{}'", room.text("open"))),
            ("group", format!("others may read '{}'", room.text("group"))),
            ("given", format!("'{}' belongs to user {NOBODY}", room.text("given"))),
            ("theirs/token", format!("'{}' belongs to user {NOBODY}", room.text("theirs"))),
            ("theirs/link", format!("'{}' belongs to user {NOBODY}", room.text("theirs"))),
        ] {
            let done = room.run(words[0], words[1..].iter().chain([&name]));
            done.failed_with(78, &why);
        }
        // A link of root's own to a secret is none of anybody else.
        let _ = std::fs::remove_file(room.path("own"));
        symlink(room.path("secret"), room.path("own")).unwrap();
        let mut command = room.command(words[0]);
        let child = command.args(&words[1..]).arg("own").stdout(Stdio::null()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        if words[0] == "baa-control" {
            signal(child.id(), Signal::SIGTERM);
        }
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(!said.contains("cannot read"), "{words:?}: {said}");
    }
}

#[apply(test)]
fn jobs_that_launchd_refuses_are_refused() {
    needs_root();
    let room = room_of(NOBODY);
    let label = "so.makefile.baa-evil";
    let ran = room.text("ran");
    let plist =
        room.plist(label, &["/bin/sh", "-c", &format!("echo > {ran}")], "<key>RunAtLoad</key><true/>");
    let text = std::fs::read_to_string(&plist).unwrap();
    let theirs = their(&room, &format!("{label}.plist"), &text, NOBODY);
    give(&theirs, 0o644, 0);
    let belongs = |path: &Path| format!("'{}' belongs to user {NOBODY}", path.display());
    let writable = format!("others may write to '{}'", plist.display());
    for (path, mode, owner, why) in [
        (&plist, 0o666, 0, &writable),
        (&plist, 0o664, 0, &writable),
        (&plist, 0o644, NOBODY, &belongs(&plist)),
        (&theirs, 0o644, 0, &belongs(&room.path("theirs"))),
    ] {
        give(path, mode, owner);
        let why = format!("launchd refuses its ownership or permissions (122): {why}");
        let file = path.to_string_lossy();
        room.run("baa-run", ["--job", &file]).failed_with(77, &why);
        room.run("baa-run", ["--detach", "--job", &file]).failed_with(77, &why);
        let group = format!("[[daemon]]\nid = \"evil\"\njob = \"{file}\"\n");
        let group = room.write("group.toml", &group);
        room.run("baa-daemons", ["check", &group.to_string_lossy()]).failed_with(77, &why);
        for manager in ["baa", "launchd"] {
            let directory = path.parent().unwrap().to_string_lossy().into_owned();
            let place = ["--manager", manager, "--install-dir", &directory, "--service", "evil"];
            let done = room.run("baa-reload", place);
            assert!(done.status == 77 && done.stderr.contains(&why), "{manager}: {done:?}");
        }
        assert!(!Path::new(&ran).exists(), "{file}");
    }
    // Of a group too only the file of ours, or root's.
    let group = their(&room, "group.toml", "[[daemon]]\nid = \"a\"\ncommand = [\"true\"]\n", NOBODY);
    refused(&room.run("baa-daemons", ["run", &group.to_string_lossy()]), 77, &room.path("theirs"), NOBODY);
}

/// What a job's user has linked in the place of its logs is not shown to whoever reads root's terminal.
#[apply(test)]
fn a_reload_shows_no_file_of_roots() {
    needs_root();
    let room = room_of(NOBODY);
    symlink(room.path("secret"), room.path("theirs/linked")).unwrap();
    symlink(room.path("."), room.path("theirs/way")).unwrap();
    their(&room, "honest", "an honest word\n", NOBODY);
    let more = |out: &str, err: &str| {
        format!(
            "<key>UserName</key><string>nobody</string><key>RunAtLoad</key><true/>\
             <key>StandardOutPath</key><string>{}</string><key>StandardErrorPath</key><string>{}</string>",
            room.text(out),
            room.text(err)
        )
    };
    let reload = |out: &str, err: &str| {
        room.plist("so.makefile.baa-evil", &["/bin/sh", "-c", "exit 3"], &more(out, err));
        let agents = room.text("agents");
        let words = ["--manager", "baa", "--install-dir", &agents, "--service", "evil", "--attempts", "1"];
        finish(room.command("baa-reload").args(words).args(["--delay", "10ms", "--timeout", "1s"]))
    };
    for (out, err) in [("theirs/linked", "theirs/way/secret"), ("theirs/linked", "theirs/honest")] {
        let done = reload(out, err);
        assert!(done.status != 0 && !done.stderr.contains(SECRET.trim()), "{out}: {done:?}");
        assert!(done.stderr.contains("log "), "{done:?}");
        // What was there before is told by a diagnosis alone.
        let words = ["diagnose", "--manager", "baa", "--service", "evil", "--install-dir"];
        let seen = finish(room.command("baa-reload").args(words).arg(room.text("agents")));
        assert!(!seen.stdout.contains(SECRET.trim()), "{out}: {seen:?}");
        assert!(err != "theirs/honest" || seen.stdout.contains("an honest word"), "{seen:?}");
        room.run("baa-run", ["ctl", "stop", "so.makefile.baa-evil"]);
    }
    assert_eq!(std::fs::read_to_string(room.path("secret")).unwrap(), SECRET);
}

#[apply(test)]
fn what_another_user_has_armed_is_not_believed() {
    needs_root();
    let room = room_of(NOBODY);
    let mut victim = victim();
    let arming = json!({
        "schema": "baa.canary.arming/1", "identity": "web", "pid": 1, "start": 1, "boot": "x", "socket": null,
        "canary_pid": victim.id(), "canary_start": 1, "armed_at": "2026-01-01T00:00:00Z",
    });
    let armed = their(&room, "logs/canary/a.json", &arming.to_string(), NOBODY);
    // His marker is a link to a file of root's, which a dismissal would empty.
    symlink(room.path("secret"), armed.with_extension("dismissed")).unwrap();
    let logs = room.text("theirs/logs");
    for words in [&["list"][..], &["status"], &["dismiss", "--all"], &["watch", "--pid", "1"]] {
        let done = room.run("baa-canary", words.iter().chain([&"--log-dir", &logs.as_str()]));
        refused(&done, 77, &room.path("theirs"), NOBODY);
    }
    assert!(alive(victim.id().into()) && armed.exists());
    assert_eq!(std::fs::read_to_string(room.path("secret")).unwrap(), SECRET);
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Nor is the first line of a file of root's told, that he says a pid stands in.
    symlink(room.path("secret"), room.path("theirs/pid")).unwrap();
    for words in [&["watch", "--pidfile"][..], &["watch", "--targets-from"]] {
        let done = room.run("baa-canary", words.iter().chain([&"theirs/pid"]));
        assert!(done.status != 0 && !done.stderr.contains("root's own"), "{done:?}");
    }
}

/// Listens as a server of tmux does; as its client tells who runs it.
const FALSE_TMUX: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 1) {
        system("{ id -u; env; ls /proc/self/fd; } > " RAN ".new && mv " RAN ".new " RAN);
        return 0;
    }
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 50)) return 1;
    fclose(fopen("listens", "w"));
    for (;;) close(accept(server, NULL, NULL));
}
"#;

/// A server of tmux says by its own program what its client is: that is run by nobody but its own user.
#[apply(test)]
fn the_program_of_another_users_tmux_is_not_run_by_root() {
    needs_root();
    let cc = needs("cc");
    for uid in [NOBODY, STRANGER] {
        let room = room_of(uid);
        let source = room.write("tmux.c", FALSE_TMUX);
        let ran = format!("-DRAN=\"{}\"", room.text("theirs/ran"));
        let mut compile = Command::new(&cc);
        compile.args(["-w", &ran, "-o", &room.text("theirs/tmux")]).arg(source);
        finish(&mut compile).expect(0, "", "");
        give(&room.path("theirs/tmux"), 0o755, uid);
        let mut server = of(uid, &room.path("theirs/tmux"));
        let mut server = server.current_dir(room.path("theirs")).spawn().unwrap();
        until("it listens", || room.path("theirs/listens").exists());
        let mut canary = room.command("baa-canary");
        canary.args(["watch", "-q", "--sock", "theirs/sock", "--log-dir", "logs"]).env("TOKEN", "hunter2");
        let mut canary = canary.stderr(Stdio::null()).spawn().unwrap();
        until("the client has run", || room.path("theirs/ran").exists());
        let told = std::fs::read_to_string(room.path("theirs/ran")).unwrap();
        signal(canary.id(), Signal::SIGKILL);
        signal(server.id(), Signal::SIGKILL);
        canary.wait().unwrap();
        server.wait().unwrap();
        assert!(told.starts_with(&format!("{uid}\n")) && !told.contains("hunter2"), "{told}");
    }
}

#[apply(test)]
fn a_store_that_others_can_write_to_is_none() {
    needs_root();
    let room = room_of(NOBODY);
    room.run("baa-lease", ["acquire", "--node-id", "a", "--store", "sqlite:own.db"]).expect(0, "1\n", "");
    let theirs = "sqlite:theirs/lease.db";
    let done = room.run("baa-lease", ["acquire", "--node-id", "a", "--store", theirs]);
    assert!(done.status == 77 && done.stderr.contains(&format!("belongs to user {NOBODY}")), "{done:?}");
    for (mode, owner, why) in [
        (0o666, 0, format!("others may write to '{}'", room.text("own.db"))),
        (0o600, NOBODY, format!("'{}' belongs to user {NOBODY}", room.text("own.db"))),
    ] {
        give(&room.path("own.db"), mode, owner);
        room.run("baa-lease", ["acquire", "--node-id", "a", "--store", "sqlite:own.db"])
            .failed_with(78, &why);
    }
    assert_eq!(std::fs::read_dir(room.path("theirs")).unwrap().count(), 0);
}
