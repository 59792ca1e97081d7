//! Attacks by other users of the machine, with two real ones: root, who runs the tools, and nobody, who would
//! like to be root.

use crate::support::{Room, binary, collect, needs, needs_root, signal, until};
use nix::sys::signal::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's nobody; a number is enough.
const NOBODY: u32 = 65534;

fn give(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// A room that others may pass through, with a directory of the attacker's own.
fn room() -> Room {
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(room.path("theirs")).unwrap();
    give(&room.path("theirs"), 0o755);
    room
}

fn of_nobody(room: &Room, script: &str, more: &str) -> std::path::PathBuf {
    let more = format!("<key>RunAtLoad</key><true/><key>UserName</key><string>nobody</string>{more}");
    room.plist("evil", &["/bin/sh", "-c", script], &more)
}

/// Keeps the job until the keeper has said this, then stops it; what it has said.
fn kept(room: &Room, plist: &Path, word: &str) -> String {
    let mut command = room.command("baa-run");
    command.args(["-v", "--job"]).arg(plist);
    told_by(room, &mut command, word)
}

fn told_by(room: &Room, command: &mut Command, word: &str) -> String {
    let words = room.path("words");
    let log = std::fs::File::create(&words).unwrap();
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(&words).unwrap();
    until("the keeper has said it", || said().contains(word));
    signal(child.id(), Signal::SIGTERM);
    collect(child);
    said()
}

/// A job's log is a link to a file of root's: launchd opens it as the user, and so do we.
#[apply(test)]
fn a_job_of_another_user_writes_to_no_file_of_roots() {
    needs_root();
    let room = room();
    let secret = room.write("secret", "root's\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let theirs = |name: &str| room.text(&format!("theirs/{name}"));
    for (key, name) in [("StandardErrorPath", "err"), ("StandardOutPath", "out"), ("StandardInPath", "in")] {
        symlink(&secret, theirs(name)).unwrap();
        let script = format!("cat > {} 2>&1; echo evil; echo evil >&2", theirs("read"));
        let plist = of_nobody(&room, &script, &format!("<key>{key}</key><string>{}</string>", theirs(name)));
        let words = kept(&room, &plist, "cannot open");
        assert!(words.contains("permission denied"), "{key}: {words}");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "root's\n", "{key}");
        assert!(!room.path("theirs/read").exists(), "{key}");
    }
    // An honest log is the user's own, as launchd makes it.
    let path = format!("<key>StandardOutPath</key><string>{}</string>", theirs("log"));
    let plist = of_nobody(&room, "echo word", &path);
    kept(&room, &plist, "exited with 0");
    assert_eq!(std::fs::read_to_string(theirs("log")).unwrap(), "word\n");
    assert_eq!(std::fs::metadata(theirs("log")).unwrap().uid(), NOBODY);
}

/// What root's shell had open is not the job's to read.
#[apply(test)]
fn a_job_of_another_user_inherits_no_descriptor_of_ours() {
    needs_root();
    let room = room();
    room.write("secret", "root's\n");
    let told = room.text("theirs/told");
    let script = format!("{{ ls /proc/self/fd; cat <&7; env; }} > {told} 2>&1");
    let plist = of_nobody(&room, &script, "");
    let start = "exec 7< secret; exec \"$@\"";
    let mut command = room.command_at("/bin/sh".as_ref());
    command.args(["-c", start, "sh"]).arg(binary("baa-run")).args(["-v", "--job"]).arg(plist);
    told_by(&room, command.env("TMPDIR", room.text("private")), "exited with 0");
    let told = std::fs::read_to_string(told).unwrap();
    assert!(!told.contains("root's") && !told.lines().any(|line| line == "7"), "{told}");
    assert!(!told.contains("TMPDIR=") && told.contains("USER=nobody"), "{told}");
}

/// Whoever prepares a socket where root looks for a keeper is not believed.
#[apply(test)]
fn an_answer_of_another_user_is_not_believed() {
    needs_root();
    let (perl, setpriv) = (needs("perl"), needs("setpriv"));
    let room = room();
    let place = room.path("theirs/jobs/web");
    std::fs::create_dir_all(&place).unwrap();
    give(&room.path("theirs/jobs"), 0o755);
    give(&place, 0o755);
    let lie = r#"
        use IO::Socket::UNIX;
        my $s = IO::Socket::UNIX->new(Local => "control", Listen => 5) or die;
        open(my $f, ">", "listens"); close $f;
        my $lie = qq({"state":"running","pid":1,"keeper":1}\n);
        while (my $c = $s->accept) { <$c>; print $c $lie; close $c; }"#;
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let mut liar =
        Command::new(setpriv).args(ids).arg(perl).args(["-e", lie]).current_dir(&place).spawn().unwrap();
    until("it listens", || place.join("listens").exists());
    let mut ask = room.command("baa-run");
    ask.args(["ctl", "status", "web"]).env("BAA_RUNTIME_DIR", room.text("theirs"));
    let done = crate::support::finish(&mut ask);
    signal(liar.id(), Signal::SIGKILL);
    liar.wait().unwrap();
    assert!(done.status != 0 && done.stdout.is_empty(), "{done:?}");
    assert!(done.stderr.contains(&format!("belongs to user {NOBODY}")), "{done:?}");
}

/// Should the directories ever be open, a keeper still obeys nobody but root and its own user.
#[apply(test)]
fn a_stranger_is_not_obeyed() {
    needs_root();
    let (perl, setpriv) = (needs("perl"), needs("setpriv"));
    let room = room();
    let mut keeper = room.command("baa-run");
    let mut keeper = keeper.args(["-q", "--label", "web", "--", "/bin/sleep", "1000"]).spawn().unwrap();
    let socket = room.path("run/jobs/web/control");
    until("it listens", || room.run("baa-run", ["ctl", "status", "web"]).status == 0);
    for (path, mode) in
        [("run", 0o755), ("run/jobs", 0o755), ("run/jobs/web", 0o755), ("run/jobs/web/control", 0o666)]
    {
        std::fs::set_permissions(room.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = r#"
        use IO::Socket::UNIX;
        my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "no way in";
        $SIG{PIPE} = "IGNORE";
        print $s qq({"verb":"stop"}\n);
        print <$s>;"#;
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let mut stranger = Command::new(setpriv);
    stranger.args(ids).arg(perl).args(["-e", ask]).arg(&socket);
    crate::support::finish(&mut stranger).expect(0, "", "");
    let status = room.run("baa-run", ["ctl", "status", "web"]);
    assert!(status.stdout.contains("running"), "{status:?}");
    signal(keeper.id(), Signal::SIGTERM);
    assert!(keeper.wait().unwrap().success());
}
