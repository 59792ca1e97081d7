//! Where others lead: by links, by second names, by directories that all may write to, by lists of rights,
//! and by what a sandbox does not show. Strangers lead nobody; whoever links his own things, or shares a
//! group with nobody, is at home.

use crate::security_trust::{NOBODY, STRANGER, give, of, room_of};
use crate::support::{
    Done, Room, binary, collect, copy_program, finish, needs, needs_root, signal, skip, until,
};
use nix::sys::signal::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A room of the attacker's with a directory that all may write to, as /tmp.
fn room_with_tmp() -> Room {
    let room = room_of(STRANGER);
    std::fs::create_dir(room.path("tmp")).unwrap();
    mode(&room.path("tmp"), 0o1777);
    room
}

/// A link of a stranger's.
fn their_link(room: &Room, to: &Path, name: &str) {
    symlink(to, room.path(name)).unwrap();
    lchown(room.path(name), Some(STRANGER), Some(STRANGER)).unwrap();
}

fn belongs(room: &Room, name: &str) -> String {
    format!("'{}' belongs to user {STRANGER}", room.text(name))
}

fn names(room: &Room, directory: &str) -> usize {
    std::fs::read_dir(room.path(directory)).unwrap().count()
}

/// A tool as `uid` runs it, with a home of its own.
fn as_user(room: &Room, uid: u32, program: &str) -> Command {
    let home = room.path("own");
    if !home.exists() {
        std::fs::create_dir(&home).unwrap();
        give(&home, 0o700, uid);
        copy_program(&binary(program), &room.path(program));
    }
    let mut command = of(uid, &room.path(program));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
    command.current_dir(room.dir.path());
    command
}

#[apply(test)]
fn a_store_is_copied_only_where_nobody_else_says_what_is_written() {
    needs_root();
    let room = room_with_tmp();
    room.run("baa-lease", ["acquire", "--node-id", "a", "--store", "sqlite:own.db"]).expect(0, "1\n", "");
    let copy = |to: &str| room.run("baa-control", ["backup", "--store", "sqlite:own.db", to]);
    let before = names(&room, "theirs");
    copy("theirs/copy").failed_with(77, &belongs(&room, "theirs"));
    their_link(&room, &room.path("."), "tmp/link");
    copy("tmp/link/copy").failed_with(77, &belongs(&room, "tmp/link"));
    assert_eq!((names(&room, "theirs"), room.path("copy").exists()), (before, false));
    // What SQLite would believe of a stranger lies beside no copy of ours.
    their_link(&room, &room.path("secret"), "tmp/copy-journal");
    copy("tmp/copy").expect(0, "", "");
    assert_eq!(
        (names(&room, "tmp"), std::fs::metadata(room.path("tmp/copy")).unwrap().mode() & 0o777),
        (3, 0o600)
    );
    symlink("tmp", room.path("linked")).unwrap();
    copy("linked/another").expect(0, "", "");
    assert_eq!(std::fs::read_to_string(room.path("secret")).unwrap(), crate::security_trust::SECRET);
}

#[apply(test)]
fn a_store_lies_behind_links_of_roots_and_of_no_strangers() {
    needs_root();
    let room = room_with_tmp();
    std::fs::create_dir_all(room.path("homes/real/deep")).unwrap();
    [room.path("homes/real"), room.path("homes/real/deep")].iter().for_each(|path| give(path, 0o700, NOBODY));
    symlink("real", room.path("homes/user")).unwrap();
    symlink("homes/user/deep", room.path("last")).unwrap();
    let acquire = |store: &str, node: &str| {
        let mut command = as_user(&room, NOBODY, "baa-lease");
        let store = format!("sqlite:{}", room.text(store));
        finish(command.args(["acquire", "--node-id", node, "--store", &store]))
    };
    acquire("homes/user/deep/a.db", "a").expect(0, "1\n", "");
    // It is the same store by each way, with the same locks.
    assert_eq!(acquire("last/a.db", "b").status, 75);
    assert_eq!(acquire("homes/real/deep/a.db", "b").status, 75);
    assert!(room.path("homes/real/deep/a.db-locks").is_dir());
    their_link(&room, &room.path("homes/real/deep"), "tmp/last");
    acquire("tmp/last/b.db", "a").failed_with(77, &belongs(&room, "tmp/last"));
    // Nor does a store lie where others can put its log.
    acquire("tmp/b.db", "a").failed_with(77, &format!("others may write to '{}'", room.text("tmp")));
    assert!(!room.path("homes/real/deep/b.db").exists() && !room.path("tmp/b.db").exists());
    // With a home behind a link everything is at home there.
    let mut command = as_user(&room, NOBODY, "baa-lease");
    finish(command.args(["acquire", "--node-id", "a"]).env("HOME", room.path("homes/user")))
        .expect(0, "1\n", "");
}

/// Debian's and Fedora's users have a group each, and a umask that lets it write.
#[apply(test)]
fn a_group_of_ones_own_is_nobody_else() {
    needs_root();
    needs("unshare");
    let room = room_of(STRANGER);
    for name in ["own", "own/state", "own/state/baa", "own/project", "own/logs", "own/run"] {
        std::fs::create_dir(room.path(name)).unwrap();
        give(&room.path(name), 0o775, 61_001);
    }
    for program in ["baa-lease", "baa-run", "baa-canary"] {
        copy_program(&binary(program), &room.path(program));
    }
    let base = |path: &str| std::fs::read_to_string(path).unwrap();
    room.write("passwd", &format!("{}alice:x:61001:61001::/own:/bin/sh\n", base("/etc/passwd")));
    let script =
        "cd \"$1\" || exit; mount --bind passwd /etc/passwd && mount --bind group /etc/group || exit 77
        shift; exec setpriv --reuid=61001 --regid=61001 --clear-groups \"$@\"";
    let run = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "/bin/sh", "-c", script, "sh"]).arg(room.dir.path()).args(words);
        command.env("HOME", room.path("own")).env("XDG_STATE_HOME", room.path("own/state"));
        finish(command.env("BAA_RUNTIME_DIR", room.path("own/run")).stdin(Stdio::null()))
    };
    let all: [&[&str]; 4] = [
        &["./baa-lease", "acquire", "-q", "--node-id", "a"],
        &["./baa-lease", "acquire", "-q", "--node-id", "a", "--store", "sqlite:own/project/l.db"],
        &["./baa-run", "--label", "x", "--restart", "never", "--", "true"],
        &["./baa-canary", "dismiss", "--all", "--log-dir", "own/logs"],
    ];
    for (members, fine) in [("", true), ("eve", false)] {
        room.write("group", &format!("{}alice:x:61001:{members}\n", base("/etc/group")));
        for words in all {
            let done = run(words);
            if done.status == 77 && !done.stderr.contains("others") {
                skip("no file can be mounted here");
            }
            let refused = done.status == 77
                && done.stderr.contains(&format!("others may write to '{}", room.text("own")));
            assert!(if fine { done.status == 0 } else { refused }, "{words:?}: {done:?}");
        }
    }
}

#[apply(test)]
fn a_server_believes_no_lock_and_makes_no_directory_of_a_strangers() {
    needs_root();
    let room = room_with_tmp();
    let listen = |socket: &str| {
        let address = format!("unix:{}", room.text(socket));
        room.run("baa-control", ["--listen", &address, "--store", "sqlite:own.db"])
    };
    give(&room.write("tmp/sock.lock", ""), 0o666, STRANGER);
    listen("tmp/sock").failed_with(77, &belongs(&room, "tmp/sock.lock"));
    std::fs::create_dir(room.path("roots")).unwrap();
    their_link(&room, &room.path("roots"), "theirs/link");
    listen("theirs/link/new/sock").failed_with(77, &belongs(&room, "theirs"));
    their_link(&room, &room.path("roots/made"), "tmp/linked.lock");
    listen("tmp/linked").failed_with(77, &format!("'{}' is a link", room.text("tmp/linked.lock")));
    assert_eq!((names(&room, "roots"), room.path("tmp/sock").exists()), (0, false));
    // A link of root's own, and a lock of its own, are fine.
    symlink("roots", room.path("link")).unwrap();
    let mut command = room.command("baa-control");
    command.args(["--listen", &format!("unix:{}", room.text("link/sock")), "--store", "sqlite:own.db"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it listens", || room.path("roots/sock").exists());
    signal(child.id(), Signal::SIGTERM);
    assert_eq!(collect(child).status, 0);
}

#[apply(test)]
fn a_file_to_lock_is_roots_own_and_another_is_reached_by_no_strangers_link() {
    needs_root();
    let room = room_with_tmp();
    let lock = |file: &str| {
        let words = ["--restart", "never", "--lock-wait", "0", "--lock", file, "--", "true"];
        room.run("baa-run", words)
    };
    give(&room.write("tmp/lock", ""), 0o666, STRANGER);
    lock("tmp/lock").failed_with(77, &belongs(&room, "tmp/lock"));
    mode(&room.write("open", ""), 0o666);
    lock("open").failed_with(77, &format!("others may write to '{}'", room.text("open")));
    std::fs::hard_link(room.path("secret"), room.path("tmp/second")).unwrap();
    lock("tmp/second").failed_with(77, &format!("'{}' has more than one name", room.text("tmp/second")));
    nix::unistd::mkfifo(&room.path("tmp/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    lock("tmp/fifo").failed_with(77, &format!("'{}' is a link, or of no plain kind", room.text("tmp/fifo")));
    lock("tmp/own").expect(0, "", "");
    // Users share a file with whom they like, in whose directory they like.
    let of_user = |file: &str| {
        let mut command = as_user(&room, NOBODY, "baa-run");
        command.args(["--restart", "never", "--lock-wait", "0", "--lock", file, "--", "true"]);
        finish(&mut command)
    };
    of_user("tmp/lock").expect(0, "", "");
    give(&room.write("theirs/lock", ""), 0o666, STRANGER);
    of_user("theirs/lock").expect(0, "", "");
    their_link(&room, &room.path("own"), "tmp/link");
    of_user("tmp/link/made").failed_with(77, &belongs(&room, "tmp/link"));
    assert!(!room.path("own/made").exists());
}

/// A job of root's own is root's, and so is what it writes to and reads.
#[apply(test)]
fn a_job_of_roots_is_led_nowhere() {
    needs_root();
    let room = room_with_tmp();
    room.secret("roots", "before\n");
    their_link(&room, &room.path("roots"), "tmp/linked");
    their_link(&room, &room.path("made"), "tmp/dangling");
    std::fs::hard_link(room.path("roots"), room.path("theirs/second")).unwrap();
    let run = |keys: &str| {
        let plist = room.plist("so.makefile.baa-own", &["/bin/cat"], keys);
        room.run("baa-run", ["--restart", "never", "--job", &plist.to_string_lossy()])
    };
    let group = "<key>GroupName</key><string>root</string>";
    for more in ["", group] {
        for key in ["StandardOutPath", "StandardErrorPath", "StandardInPath"] {
            for (name, why) in [
                ("tmp/linked", belongs(&room, "tmp/linked")),
                ("tmp/dangling", belongs(&room, "tmp/dangling")),
                ("theirs/second", format!("'{}' has more than one name", room.text("theirs/second"))),
            ] {
                let keys = format!(
                    "<key>RunAtLoad</key><true/><key>{key}</key><string>{}</string>",
                    room.text(name)
                );
                run(&format!("{keys}{more}")).failed_with(77, &why);
            }
        }
    }
    assert_eq!(std::fs::read_to_string(room.path("roots")).unwrap(), "before\n");
    assert!(!room.path("made").exists());
    // Logs of root in directories that a group may write to, as Ubuntu's /var/log, behind links of root's.
    std::fs::create_dir(room.path("log")).unwrap();
    chown(room.path("log"), None, Some(NOBODY)).unwrap();
    mode(&room.path("log"), 0o775);
    symlink(room.path("log/real"), room.path("log/link")).unwrap();
    let keys = format!(
        "<key>RunAtLoad</key><true/><key>StandardInPath</key><string>{}</string>\
         <key>StandardOutPath</key><string>{}</string><key>StandardErrorPath</key>\
         <string>/dev/stderr</string>",
        room.text("roots"),
        room.text("log/link")
    );
    for _ in 0..2 {
        run(&keys).expect(0, "", "");
    }
    assert_eq!(std::fs::read_to_string(room.path("log/real")).unwrap(), "before\nbefore\n");
}

/// Sets the access list of ARGV[1]: whoever has the number ARGV[2] may do ARGV[3] with it.
const LISTS: &str = r#"
#include <stdint.h>
#include <stdlib.h>
#include <sys/xattr.h>
struct entry { uint16_t tag, rights; uint32_t id; };
int main(int argc, char **argv) {
    uint16_t may = atoi(argv[3]);
    struct { uint32_t version; struct entry all[5]; } list = {2, {{1, 6 | may, -1},
        {2, may, atoi(argv[2])}, {4, 0, -1}, {16, may, -1}, {32, 0, -1}}};
    return setxattr(argv[1], "system.posix_acl_access", &list, sizeof list, 0) ? 77 : 0;
}
"#;

#[apply(test)]
fn who_may_write_by_an_access_list_is_another() {
    needs_root();
    let room = room_of(STRANGER);
    let source = room.write("list.c", LISTS);
    let mut compile = Command::new(needs("cc"));
    finish(compile.args(["-w", "-o", &room.text("list")]).arg(source)).expect(0, "", "");
    let list = |name: &str, uid: u32, rights: &str| {
        let mut command = Command::new(room.path("list"));
        let done = finish(command.arg(room.path(name)).args([&uid.to_string(), rights]));
        if done.status == 77 {
            skip("the file system has no access lists");
        }
    };
    let group = "[[oneshot]]\nid = \"a\"\ncommand = [\"true\"]\n";
    room.write("group.toml", group);
    let check = |name: &str| room.run("baa-daemons", ["check", name]);
    for (uid, rights, fine) in [(STRANGER, "6", false), (STRANGER, "4", true), (0, "6", true)] {
        list("group.toml", uid, rights);
        let done = check("group.toml");
        if fine {
            assert_eq!(done.status, 0, "{uid} {rights}: {done:?}");
        } else {
            done.failed_with(77, &format!("others may write to '{}'", room.text("group.toml")));
        }
    }
    room.write("dir/group.toml", group);
    list("dir", STRANGER, "7");
    check("dir/group.toml").failed_with(77, &format!("others may write to '{}'", room.text("dir")));
    room.secret("token", "word\n");
    list("token", STRANGER, "4");
    let ask = ["--timeout", "1ms", "http://127.0.0.1:1/", "--token-file", "token"];
    room.run("baa-healthwait", ask).failed_with(78, &format!("others may read '{}'", room.text("token")));
    // As systemd gives a service its credentials.
    list("token", NOBODY, "4");
    let mut command = as_user(&room, NOBODY, "baa-healthwait");
    assert_eq!(finish(command.args(ask)).status, 124);
}

fn asked_with(command: &mut Command, file: &str) -> Done {
    finish(command.args(["--timeout", "1s", "--attempts", "1", "http://127.0.0.1:1/", "--token-file", file]))
}

/// What root lets our group read, root has given us; what our caller has opened, he has given us.
#[apply(test)]
fn a_secret_may_come_from_root_and_from_a_descriptor() {
    needs_root();
    let room = room_of(STRANGER);
    let token = room.secret("token", "word\n");
    chown(&token, None, Some(NOBODY)).unwrap();
    mode(&token, 0o640);
    // Its user is a stranger, its group is not.
    let done = asked_with(&mut as_user(&room, STRANGER, "baa-healthwait"), "token");
    assert_eq!(done.status, 124, "{done:?}");
    chown(&token, Some(STRANGER), None).unwrap();
    asked_with(&mut as_user(&room, STRANGER, "baa-healthwait"), "token").failed_with(78, "others may read");
    for file in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let mut command = as_user(&room, STRANGER, "baa-healthwait");
        let (reader, writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut &writer, b"word\n").unwrap();
        drop(writer);
        let done = asked_with(command.stdin(reader), file);
        assert_eq!(done.status, 124, "{file}: {done:?}");
    }
    room.run("baa-healthwait", ["http://127.0.0.1:1/", "--token-file", "/dev/fd/99"])
        .failed_with(66, "/dev/fd/99");
}

/// Whose certificates are trusted, he is whom we tell our tokens.
#[apply(test)]
fn nobody_else_says_which_certificates_are_trusted() {
    needs_root();
    let room = room_of(STRANGER);
    room.secret("token", "word\n");
    give(&room.write("theirs/ca.pem", "x"), 0o644, STRANGER);
    mode(&room.write("open.pem", "x"), 0o666);
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", server.local_addr().unwrap());
    let open = format!("others may write to '{}'", room.text("open.pem"));
    for (file, why) in [("theirs/ca.pem", belongs(&room, "theirs")), ("open.pem", open)] {
        let status = ["status", "--store", &url, "--token-file", "token", "--ca-file", file];
        room.run("baa-lease", status).failed_with(78, &why);
        let ask = ["--timeout", "5s", "--attempts", "1", &url];
        room.run("baa-healthwait", ask.iter().chain(&["--cacert", file])).failed_with(78, &why);
        let mut command = room.command("baa-healthwait");
        let done = finish(command.args(ask).env("SSL_CERT_FILE", room.path(file)));
        assert!(
            done.status != 0 && done.stderr.contains(&format!("SSL_CERT_FILE is not used: {why}")),
            "{done:?}"
        );
    }
}

/// All whom a sandbox has no number for look the same: root, and whoever else has made a directory.
#[apply(test)]
fn a_sandbox_believes_no_strangers_directory() {
    needs_root();
    needs("unshare");
    let room = room_of(STRANGER);
    let group = "[[oneshot]]\nid = \"a\"\ncommand = [\"true\"]\n";
    std::fs::create_dir(room.path("theirs/own")).unwrap();
    give(&room.path("theirs/own"), 0o755, NOBODY);
    give(&room.write("theirs/own/group.toml", group), 0o644, NOBODY);
    give(&room.write("tmp.toml", group), 0o644, NOBODY);
    copy_program(&binary("baa-daemons"), &room.path("baa-daemons"));
    let check = |map: &[&str], path: &str| {
        let mut command = of(NOBODY, Path::new("unshare"));
        command.args(map).arg(room.path("baa-daemons")).arg("check").arg(room.path(path));
        command.env("HOME", "/nonexistent").current_dir("/");
        finish(&mut command)
    };
    for map in [&["-Ur"][..], &["-U", "--map-user=61001"]] {
        let done = check(map, "theirs/own/group.toml");
        if done.stderr.contains("unshare") {
            skip("no user namespace can be made here");
        }
        assert!(done.status == 77 && done.stderr.contains("belongs to user 65534"), "{map:?}: {done:?}");
    }
    // What is root's all the way is still believed.
    let done = check(&["-Ur"], "/etc/hosts");
    assert_eq!(done.status, 65, "{done:?}");
}
