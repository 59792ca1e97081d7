//! Root in directories of another user, who swaps what is in them all the while; and what the kernel is asked
//! for there.

use crate::peer_remove::REGISTRY;
use crate::security_trust::{NOBODY, STRANGER, give, of, room_of, their};
use crate::support::{Room, binary, finish, needs, needs_root, signal};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// An installation of the attacker's, and one beside it that only root may touch.
fn installations(uid: u32) -> Room {
    let room = room_of(uid);
    their(&room, "root/peers-profiles.json", REGISTRY, uid);
    their(&room, "root/state/lifecycle/claude-bob.stopped", "x\n", uid);
    room.secret("roots/peers-profiles.json", REGISTRY);
    for name in ["lock-holder", ".lock-holder", "lifecycle/claude-bob.stopped", "removed/bob.json"] {
        room.secret(&format!("roots/{name}"), "root's\n");
    }
    room
}

fn removal(room: &Room, root: &str) -> Command {
    let mut command = room.command("baa-peer-remove");
    command.args(["--force", "--wait", "50ms", "--root"]).arg(room.path(root)).arg("bob");
    command.env("IAPEER_SOCK_DIR", room.path("socks")).env("TOKEN", "hunter2");
    command
}

/// All below a directory: bytes, mode, owner and the time of the last change.
fn seen(path: &Path) -> BTreeMap<String, (Vec<u8>, u32, u32, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut todo = vec![path.to_owned()];
    while let Some(at) = todo.pop() {
        let found = std::fs::symlink_metadata(&at).unwrap();
        let bytes = if found.is_file() { std::fs::read(&at).unwrap() } else { Vec::new() };
        if found.is_dir() {
            todo.extend(std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = at.to_string_lossy().into_owned();
        all.insert(name, (bytes, found.mode(), found.uid(), found.ctime(), found.ctime_nsec()));
    }
    all
}

/// What in an installation the attacker links, and to what of root's.
const LINKS: [(&str, &str); 7] = [
    ("peers-profiles.json", "peers-profiles.json"),
    ("peers-profiles.lock", "lock-holder"),
    ("peers-profiles.lock.lock", ""),
    ("state", ""),
    ("state/lifecycle", "lifecycle"),
    ("state/removed", "removed"),
    ("state/removed/.lock-holder", ".lock-holder"),
];

#[apply(test)]
fn a_linked_installation_leads_root_nowhere() {
    needs_root();
    for (name, target) in LINKS {
        let room = installations(NOBODY);
        let before = seen(&room.path("roots"));
        let link = room.path("theirs/root").join(name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        give(link.parent().unwrap(), 0o755, NOBODY);
        let _ = std::fs::remove_file(&link).or_else(|_| std::fs::remove_dir_all(&link));
        symlink(room.path("roots").join(target), &link).unwrap();
        lchown(&link, Some(NOBODY), None).unwrap();
        let done = finish(&mut removal(&room, "theirs/root"));
        assert_eq!(before, seen(&room.path("roots")), "{name}: {done:?}");
        // Only the link in the place of the note is simply removed.
        let is_note = name.ends_with(".lock-holder");
        assert!(is_note || (done.status == 1 && done.stderr.lines().count() == 1), "{name}: {done:?}");
    }
}

#[apply(test)]
fn root_is_led_to_no_third_users_installation() {
    needs_root();
    let room = installations(STRANGER);
    let before = seen(&room.path("theirs/root"));
    std::fs::create_dir(room.path("way")).unwrap();
    give(&room.path("way"), 0o755, NOBODY);
    symlink(room.path("theirs/root"), room.path("way/root")).unwrap();
    lchown(room.path("way/root"), Some(NOBODY), None).unwrap();
    let done = finish(&mut removal(&room, "way/root"));
    let why = format!("'{}' belongs to user {NOBODY}\n", room.text("way"));
    done.failed_with(1, &why);
    assert_eq!(before, seen(&room.path("theirs/root")));
    // What is his own is worked on as he.
    let done = finish(&mut removal(&room, "theirs/root"));
    assert!(done.status == 0 && done.stdout.contains("removed \"bob\""), "{done:?}");
    let owners: BTreeSet<u32> =
        seen(&room.path("theirs/root")).values().map(|(_, _, uid, ..)| *uid).collect();
    assert_eq!(owners, BTreeSet::from([STRANGER]));
}

/// Swaps what root is about to use for links to what is root's, and back; and the directory that root makes
/// as its lock for one with links in it.
const SWAPPER: &str = r#"
    my ($there, $roots) = @ARGV;
    my @links = map { [split /=/] } @ARGV[2 .. $#ARGV];
    my $go = 1;
    $SIG{TERM} = sub { $go = 0 };
    chdir $there or die;
    sub put { open(my $f, ">", "new") or return; print $f $_[1]; close $f; rename "new", $_[0]; }
    open(my $f, "<", "peers-profiles.json") or die; local $/; my $registry = <$f>; close $f;
    my $rounds = 0;
    while ($go) {
        for my $link (@links) {
            my ($name, $target) = @$link;
            my $had = rename $name, "kept";
            symlink "$roots/$target", $name;
            unlink $name;
            rename "kept", $name if $had;
            $rounds++;
        }
        if (-d "peers-profiles.lock.lock") {
            mkdir "made"; symlink "$roots/.lock-holder", "made/.lock-holder";
            rename "peers-profiles.lock.lock", "old$rounds" and rename "made", "peers-profiles.lock.lock";
            unlink glob "old*/.lock-holder peers-profiles.lock.lock/.lock-holder";
            rmdir for glob "old* peers-profiles.lock.lock";
        }
        put("peers-profiles.json", $registry);
        mkdir "state"; mkdir "state/lifecycle"; mkdir "state/removed", 0700;
        put("state/lifecycle/claude-bob.stopped", "x");
        unlink "kept";
        if ($rounds % 700 == 0) { open(my $c, ">", "../rounds.new"); print $c $rounds; close $c;
            rename "../rounds.new", "../rounds"; select undef, undef, undef, 0.002; }
    }"#;

#[apply(test)]
fn the_swapping_attacker_wins_none_of_ten_thousand_rounds() {
    needs_root();
    let perl = needs("perl");
    let room = installations(NOBODY);
    let before = seen(&room.path("roots"));
    let mut attacker = of(NOBODY, &perl);
    attacker.args(["-e", SWAPPER]).args([room.text("theirs/root"), room.text("roots")]);
    attacker.args(LINKS.map(|(name, target)| format!("{name}={target}")));
    let mut attacker = attacker.spawn().unwrap();
    let rounds = || -> u64 {
        std::fs::read_to_string(room.path("theirs/rounds")).map_or(0, |text| text.parse().unwrap_or(0))
    };
    let mut ends: BTreeMap<i32, u32> = BTreeMap::new();
    let mut removed = 0;
    while rounds() < 10_000 || ends.values().sum::<u32>() < 200 {
        let done = finish(&mut removal(&room, "theirs/root"));
        removed += u32::from(done.stdout.contains("removed \"bob\""));
        *ends.entry(done.status).or_default() += 1;
        assert!([0, 1].contains(&done.status), "{done:?}");
        assert_eq!(before, seen(&room.path("roots")), "{done:?}");
        assert!(attacker.try_wait().unwrap().is_none(), "the attacker is gone");
    }
    signal(attacker.id(), Signal::SIGTERM);
    attacker.wait().unwrap();
    // Root was not merely turned away.
    assert!(removed > 0, "{ends:?}");
    let owners: BTreeSet<u32> =
        seen(&room.path("theirs/root")).values().map(|(_, _, uid, ..)| *uid).collect();
    assert_eq!(owners, BTreeSet::from([NOBODY]), "root has left something there");
}

/// What root's processes have asked to open below `theirs` without refusing links: a trace of `strace -f -y`.
fn followed(trace: &str, theirs: &str) -> Vec<String> {
    // Processes that have become somebody else, and what they start.
    let mut others: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is = |names: &[&str]| {
            let call = call.strip_prefix("<... ").unwrap_or(call);
            names.iter().any(|name| call.starts_with(name))
        };
        if is(&["setuid", "setresuid", "setreuid"]) && call.contains(&NOBODY.to_string()) {
            others.insert(pid);
        }
        if is(&["clone", "fork", "vfork"]) && others.contains(pid) {
            others.extend(call.rsplit_once(" = ").map(|(_, child)| child));
        }
        if is(&["open", "creat"]) && call.contains(theirs) && !others.contains(pid) {
            let safe = ["O_NOFOLLOW", "RESOLVE_NO_SYMLINKS"];
            if !safe.iter().any(|word| call.contains(word)) {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[apply(test)]
fn no_tool_opens_what_is_another_users_through_a_link() {
    needs_root();
    let (strace, perl) = (needs("strace"), needs("perl"));
    let room = installations(NOBODY);
    let theirs = room.text("theirs");
    for name in ["token", "log", "err", "pid", "body"] {
        give(&their(&room, name, "1\n", NOBODY), 0o600, NOBODY);
    }
    their(&room, "group.toml", "[[daemon]]\nid = \"a\"\ncommand = [\"true\"]\n", NOBODY);
    their(&room, "jobs.plist", "<plist><dict/></plist>", NOBODY);
    let more = format!(
        "<key>UserName</key><string>nobody</string><key>RunAtLoad</key><true/>\
         <key>WorkingDirectory</key><string>{theirs}</string>\
         <key>StandardOutPath</key><string>{theirs}/log</string>\
         <key>StandardErrorPath</key><string>{theirs}/err</string>"
    );
    let job = room.plist("so.makefile.baa-web", &["/bin/sh", "-c", "exit 3"], &more);
    let job = job.to_string_lossy();
    room.write(
        "group.toml",
        &format!(
            "[[oneshot]]\nid = \"a\"\ncommand = [\"/bin/true\"]\nuser = \"nobody\"\ncwd = \"{theirs}\"\n"
        ),
    );
    let agents = room.text("agents");
    let tools: &[&[&str]] = &[
        &["baa-peer-remove", "--root", "theirs/root", "bob"],
        &["baa-peer-remove", "--root", "theirs/none", "bob"],
        &["baa-run", "--lock", "theirs/lock", "--", "true"],
        &["baa-run", "--job", "theirs/jobs.plist"],
        &["baa-run", "--restart", "never", "--job", &job],
        &["baa-daemons", "check", "theirs/group.toml"],
        &["baa-daemons", "run", "theirs/group.toml"],
        &["baa-daemons", "run", "group.toml"],
        &["baa-canary", "list", "--log-dir", "theirs/logs"],
        &["baa-canary", "watch", "--log-dir", "theirs/logs", "--pid", "1"],
        &["baa-canary", "watch", "--log-dir", "logs", "--pidfile", "theirs/pid"],
        &["baa-canary", "watch", "--log-dir", "logs", "--sock", "theirs/sock"],
        &["baa-lease", "acquire", "--node-id", "a", "--store", "sqlite:theirs/lease.db"],
        &["baa-lease", "status", "--store", "http://127.0.0.1:1", "--token-file", "theirs/token"],
        &["baa-control", "--listen", "127.0.0.1:0", "--token-file", "theirs/token"],
        &["baa-control", "--listen", "127.0.0.1:0", "--store", "sqlite:theirs/lease.db"],
        &["baa-healthwait", "--timeout", "100ms", "--token-file", "theirs/token", "http://127.0.0.1:1/"],
        &["baa-healthwait", "--timeout", "100ms", "pidfile:theirs/pid", "file:theirs/body"],
        &["baa-reload", "--manager", "baa", "--install-dir", "theirs", "--service", "web"],
        &[
            "baa-reload",
            "--manager",
            "baa",
            "--install-dir",
            &agents,
            "--service",
            "web",
            "--attempts",
            "1",
            "--delay",
            "10ms",
            "--timeout",
            "500ms",
        ],
    ];
    let trace = room.path("trace");
    let traced = |program: &Path, words: &[&str]| {
        let mut command = room.command_at(&strace);
        command.args([
            "-f",
            "-y",
            "-qq",
            "-I",
            "1",
            "-e",
            "trace=/^(execve$|open|creat|set.*uid|clone|v?fork)",
            "-o",
        ]);
        command.arg(&trace).arg(program).args(words).env("IAPEER_SOCK_DIR", room.path("theirs"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Whoever watches or serves is watched for a while only.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while child.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > end {
                signal(child.id(), Signal::SIGTERM);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        std::fs::read_to_string(&trace).unwrap()
    };
    // The trace tells of one who does.
    let open = format!("open(my $f, '<', '{theirs}/body') or die");
    assert_eq!(followed(&traced(&perl, &["-e", &open]), &theirs).len(), 1);
    let mut touched = 0;
    let mut all = Vec::new();
    for words in tools {
        let trace = traced(&binary(words[0]), &words[1..]);
        assert!(trace.contains("execve("), "{words:?}: nothing was traced");
        touched += trace.lines().filter(|line| line.contains(&theirs)).count();
        all.extend(followed(&trace, &theirs).into_iter().map(|line| format!("{}: {line}", words.join(" "))));
        room.run("baa-run", ["ctl", "stop", "so.makefile.baa-web"]);
    }
    assert!(all.is_empty(), "{all:#?}");
    assert!(touched > 10, "{touched}");
}
