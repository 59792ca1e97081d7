//! Attacks on jobs of other users, by other users, and on the secrets of those who hold leases: with real
//! ones, root who runs the tools, and two unprivileged users.

use crate::support::control::Control;
use crate::support::{Room, collect, needs, needs_root, signal, until};
use nix::sys::signal::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Debian's nobody, whose jobs are kept.
const NOBODY: u32 = 65534;
/// Somebody without a name.
const STRANGER: u32 = 65533;

/// Perl that says `$ARGV[1]` to the socket `$ARGV[0]`, writes down what came of it, and stays.
const SAY: &str = "use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0); my $sent = send($s, $ARGV[1], 0, \
    sockaddr_un($ARGV[0])); print $sent ? qq(sent\\n) : qq($!\\n); close STDOUT; sleep 1000";
/// A command that says where it is to tell, and that it is ready when it may.
const TELLS: &str = "use Socket; open(my $f, '>', \"$ARGV[0]/new\") or die; print $f $ENV{NOTIFY_SOCKET}; \
    close $f; rename \"$ARGV[0]/new\", \"$ARGV[0]/told\"; until (-e \"$ARGV[0]/go\") { select undef, undef, \
    undef, 0.01 } socket(my $s, PF_UNIX, SOCK_DGRAM, 0); send($s, qq(READY=1\\nSTATUS=up), 0, \
    sockaddr_un($ENV{NOTIFY_SOCKET})) or die $!; sleep 1000";

/// A room that others may pass through, with a directory that all may write to, as /tmp.
fn room() -> Room {
    let room = Room::new();
    std::fs::set_permissions(room.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(room.path("theirs")).unwrap();
    std::fs::set_permissions(room.path("theirs"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    room.write("tells", TELLS);
    room
}

/// A process that ends with a test, however that ends.
struct Ends(u32);

impl Drop for Ends {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0).unwrap());
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
}

fn as_user(uid: u32, program: &str) -> Command {
    let mut command = Command::new(needs("setpriv"));
    command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]);
    command.arg(program).stdin(Stdio::null());
    command
}

/// A keeper with these arguments, whose words go to a file.
fn keeper(room: &Room, arguments: &[&str]) -> Child {
    let words = std::fs::File::create(room.path("words")).unwrap();
    room.command("baa-run").args(arguments).stdout(Stdio::null()).stderr(words).spawn().unwrap()
}

fn words(room: &Room) -> String {
    std::fs::read_to_string(room.path("words")).unwrap()
}

fn status(room: &Room) -> String {
    room.run("baa-run", ["ctl", "status", "j"]).stdout
}

/// Where the job tells of itself, once it runs.
fn socket(room: &Room) -> PathBuf {
    until("it runs", || room.path("theirs/told").exists());
    let path = PathBuf::from(std::fs::read_to_string(room.path("theirs/told")).unwrap());
    std::fs::remove_file(room.path("theirs/told")).unwrap();
    path
}

/// What comes of it when `uid` says READY=1 there; it stays until the keeper has judged it.
fn say(room: &Room, uid: u32, socket: &std::path::Path) -> String {
    let mut teller = as_user(uid, "perl");
    let mut teller =
        teller.args(["-e", SAY]).arg(socket).arg("READY=1").stdout(Stdio::piped()).spawn().unwrap();
    let ends = Ends(teller.id());
    let mut said = String::new();
    std::io::Read::read_to_string(teller.stdout.as_mut().unwrap(), &mut said).unwrap();
    let from = format!("process {} of user {uid}, which is no part of it", teller.id());
    if said == "sent\n" {
        until("it is judged", || words(room).contains("a message over NOTIFY_SOCKET is ignored"));
        assert!(words(room).contains(&from), "{}", words(room));
    }
    drop(ends);
    teller.wait().unwrap();
    said
}

fn job(room: &Room) -> String {
    let more = "<key>RunAtLoad</key><true/><key>UserName</key><string>nobody</string>";
    room.plist("j", &["perl", &room.text("tells"), &room.text("theirs")], more).to_string_lossy().into_owned()
}

/// The socket is the job's user's, and no stranger reaches it; and where the runtime directory can be passed
/// through it is in there.
#[apply(test)]
fn a_job_of_another_user_says_that_it_is_ready() {
    needs_root();
    needs("perl");
    for passable in [false, true] {
        let room = room();
        let theirs = room.text("theirs");
        std::fs::create_dir(room.path("run")).unwrap();
        let mode = if passable { 0o711 } else { 0o700 };
        std::fs::set_permissions(room.path("run"), std::fs::Permissions::from_mode(mode)).unwrap();
        let keeper = keeper(&room, &["--ready", "notify", "--watchdog", "60s", "--job", &job(&room)]);
        let socket = socket(&room);
        assert_eq!(socket.starts_with(room.path("run")), passable, "{socket:?}");
        let found = std::fs::metadata(&socket).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (NOBODY, 0o600));
        assert_eq!(std::fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(say(&room, STRANGER, &socket), "Permission denied\n");
        // The same user, and no part of the life.
        assert_eq!(say(&room, NOBODY, &socket), "sent\n");
        assert!(status(&room).contains("starting"), "{}", status(&room));
        std::fs::write(format!("{theirs}/go"), "").unwrap();
        until("it serves", || status(&room).contains("running"));
        assert!(status(&room).contains("says up"), "{}", status(&room));
        signal(keeper.id(), Signal::SIGTERM);
        collect(keeper);
        assert!(!socket.exists());
    }
}

/// As PostgreSQL's images do: the command is started as root and becomes somebody else by itself.
#[apply(test)]
fn a_command_that_drops_its_privileges_is_heard_and_strangers_are_not() {
    needs_root();
    needs("perl");
    let room = room();
    let theirs = room.text("theirs");
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let keeper = keeper(
        &room,
        &[
            "--label",
            "j",
            "--ready",
            "notify",
            "--",
            "setpriv",
            &ids[0],
            &ids[1],
            "--clear-groups",
            "perl",
            "tells",
            &theirs,
        ],
    );
    let socket = socket(&room);
    let listed = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!listed.contains(socket.to_str().unwrap()), "strangers can look its name up");
    assert_eq!(say(&room, STRANGER, &socket), "sent\n");
    assert!(status(&room).contains("starting"), "{}", status(&room));
    std::fs::write(format!("{theirs}/go"), "").unwrap();
    until("it serves", || status(&room).contains("running"));
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
}

/// Who of a life may speak for it.
#[apply(test)]
fn those_who_are_asked_for_speak_for_a_life() {
    needs("perl");
    for (access, ready) in [("main", false), ("exec", false), ("all", true)] {
        let room = room();
        let theirs = room.text("theirs");
        std::fs::write(room.path("theirs/go"), "").unwrap();
        let script = format!("perl tells {theirs} & wait");
        let words =
            ["--label", "j", "--ready", "notify", "--notify-access", access, "--", "sh", "-c", &script];
        let keeper = keeper(&room, &words);
        if ready {
            until("it serves", || status(&room).contains("running"));
        } else {
            until("it is judged", || self::words(&room).contains("which --notify-access leaves out"));
            assert!(status(&room).contains("starting"), "{}", status(&room));
        }
        signal(keeper.id(), Signal::SIGTERM);
        collect(keeper);
    }
}

/// One that has left its session and its parent is heard as long as it is known to be of the life; and one
/// that waits until it is heard (BARRIER=1) is.
#[apply(test)]
fn whoever_belongs_to_a_life_is_heard_wherever_it_went() {
    needs("perl");
    let far = |room: &Room| format!("setsid -f perl tells {}; exec sleep 1000", room.text("theirs"));
    let brief = |_: &Room| format!("{} --ready; exec sleep 1000", needs("systemd-notify").display());
    for script in [&far as &dyn Fn(&Room) -> String, &brief] {
        let room = room();
        std::fs::write(room.path("theirs/go"), "").unwrap();
        let script = script(&room);
        let keeper = keeper(&room, &["--label", "j", "--ready", "notify", "--", "sh", "-c", &script]);
        until("it serves", || status(&room).contains("running"));
        signal(keeper.id(), Signal::SIGTERM);
        collect(keeper);
    }
}

/// Perl that puts a key into a session keyring of its own (keyctl(2), add_key(2)), and becomes a command.
const KEY: &str = "my ($t, $d, $p) = ('user', 'baa-secret', 'x'); my ($k, $a) = `uname -m` =~ /x86_64/ ? \
    (250, 248) : (219, 217); syscall($k, 1, 0); syscall($a, $t, $d, $p, 1, -3); exec @ARGV";

/// Variables of ours that are none of another user's.
const SECRETS: [&str; 8] = [
    "BAA_SHARED_TOKEN",
    "BAA_ETCD_PASSWORD",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "INVOCATION_ID",
    "LD_BIND_NOW",
    "AWS_SECRET_ACCESS_KEY",
];

/// What the entry of a group with this file has written down about itself.
fn group(room: &Room, text: &str, script: &str) -> String {
    room.write("evil", script);
    room.write("g.toml", text);
    room.write("secret", "root's\n");
    let start = "exec 7< secret; exec perl \"$@\"";
    let mut command = room.command_at("/bin/sh".as_ref());
    command.args(["-c", start, "sh", "-e", KEY]).arg(crate::support::binary("baa-daemons"));
    command.args(["until-success", "--timeout", "30s", "g.toml"]);
    command.env("TMPDIR", room.text("private")).env("SSH_AUTH_SOCK", "/root/agent").env("COLOUR", "red");
    for name in SECRETS {
        command.env(name, "hunter2");
    }
    command.env("PATH", "/root/bin:/usr/bin:/bin").env("LC_TIME", "C.UTF-8").env("TZ", "UTC");
    let done = crate::support::finish(&mut command);
    assert_eq!(done.status, 0, "{done:?}");
    std::fs::read_to_string(room.path("theirs/told")).unwrap()
}

/// What root has open, its keys and its directories are not the entry's, with a command or a property list.
#[apply(test)]
fn an_entry_of_another_user_inherits_nothing_of_ours() {
    needs_root();
    needs("perl");
    let room = room();
    let told = room.text("theirs/told");
    let script = format!("{{ ls /proc/self/fd; cat <&7; env; cat /proc/keys; }} > {told} 2>&1");
    let plist = room.plist("evil", &["/bin/sh", "evil"], "<key>WorkingDirectory</key><string>.</string>");
    let plist = plist.display();
    for what in ["command = [\"/bin/sh\", \"evil\"]".to_owned(), format!("job = \"{plist}\"")] {
        let dir = room.dir.path().display();
        let text = format!("[[oneshot]]\nid = \"a\"\nuser = \"nobody\"\ncwd = \"{dir}\"\n{what}\n");
        let told = group(&room, &text, &script);
        assert!(!told.contains("root's") && !told.lines().any(|line| line == "7"), "{told}");
        assert!(!told.contains("baa-secret"), "{told}");
        assert!(!told.contains("TMPDIR=") && !told.contains("SSH_AUTH_SOCK="), "{told}");
        for line in ["USER=nobody", "LOGNAME=nobody", "HOME=/nonexistent"] {
            assert!(told.lines().any(|one| one == line), "{line}: {told}");
        }
        assert!(!told.contains("COLOUR=red") && !told.contains("hunter2"), "{told}");
        assert!(!told.contains("/root/bin"), "{told}");
        assert_eq!(
            told.contains("TZ=UTC") && told.contains("LC_TIME="),
            what.starts_with("command"),
            "{told}"
        );
        // Its keys are its own, to be changed and to be counted as such.
        let rings: Vec<&str> = told.lines().filter(|line| line.contains(" _ses:")).collect();
        assert!(rings.iter().all(|line| line.contains(&format!(" {NOBODY} "))), "{told}");
        std::fs::remove_file(room.path("theirs/told")).unwrap();
    }
}

/// The tokens of stores are no entry's; all else that the group has is for those of its own user.
#[apply(test)]
fn an_entry_of_ours_inherits_all_but_the_secrets_of_stores() {
    let room = room();
    let told = room.text("theirs/told");
    let command = "command = [\"/bin/sh\", \"evil\"]";
    let text = format!("[[oneshot]]\nid = \"a\"\n{command}\n");
    let told = group(&room, &text, &format!("{{ env; pwd; }} > {told}"));
    assert!(!told.contains("BAA_SHARED_TOKEN") && !told.contains("BAA_ETCD_PASSWORD"), "{told}");
    assert!(told.contains("AWS_SECRET_ACCESS_KEY=hunter2") && told.contains("COLOUR=red"), "{told}");
    assert!(told.ends_with(&format!("{}\n", room.dir.path().display())), "{told}");
}

/// What lies in root's own directory is not read through the directory that a process was started in.
#[apply(test)]
fn an_entry_of_another_user_begins_in_the_root() {
    needs_root();
    let room = room();
    let told = room.text("theirs/told");
    let script = format!("{{ pwd; cat secret; }} > {told} 2>&1; true");
    room.write("secret", "root's\n");
    let text = format!(
        "[[oneshot]]\nid = \"a\"\nuser = \"nobody\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n"
    );
    let told = group(&room, &text, "");
    assert!(told.starts_with("/\n") && !told.contains("root's"), "{told}");
}

/// The sentinel lies in a directory that is root's alone, so nobody else is sent there.
#[apply(test)]
fn a_job_of_another_user_is_named_no_file_that_it_cannot_read() {
    needs_root();
    for (user, named) in [("", true), ("<key>UserName</key><string>nobody</string>", false)] {
        let room = room();
        let script = format!("cd {}; env > new; mv new told; exec sleep 1000", room.text("theirs"));
        let more = format!("<key>RunAtLoad</key><true/>{user}");
        let plist = room.plist("j", &["/bin/sh", "-c", &script], &more).to_string_lossy().into_owned();
        let keeper = keeper(&room, &["--job", &plist]);
        until("it runs", || room.path("theirs/told").exists());
        let told = std::fs::read_to_string(room.path("theirs/told")).unwrap();
        assert_eq!(told.contains("BAA_RESTART_SENTINEL="), named, "{told}");
        signal(keeper.id(), Signal::SIGTERM);
        collect(keeper);
    }
}

/// launchd gives a job three streams, whoever's it is, and root's keys are no job's.
#[apply(test)]
fn a_job_of_ours_inherits_no_descriptor_of_ours() {
    needs_root();
    needs("perl");
    let room = room();
    room.write("secret", "root's\n");
    // Root sees all of its keys in /proc/keys; this says whether it has come to the job (KEYCTL_SEARCH).
    room.write(
        "search",
        "my ($t, $d) = ('user', 'baa-secret'); my $k = `uname -m` =~ /x86_64/ ? 250 : 219; \
         print syscall($k, 10, -3, $t, $d, 0) > 0 ? 'baa-secret' : 'none'",
    );
    let (theirs, search) = (room.text("theirs"), room.text("search"));
    let script =
        format!("cat <&7 > {theirs}/new; perl {search} >> {theirs}/new; mv {theirs}/new {theirs}/told");
    let plist = room.plist("j", &["/bin/sh", "-c", &script], "<key>RunAtLoad</key><true/>");
    let mut command = room.command_at("/bin/sh".as_ref());
    let start = "exec 7< secret; exec perl \"$@\"";
    command.args(["-c", start, "sh", "-e", KEY]).arg(crate::support::binary("baa-run"));
    let keeper = command.args(["-q", "--restart", "never", "--job"]).arg(&plist);
    let done = crate::support::finish(keeper);
    let told = std::fs::read_to_string(room.path("theirs/told")).unwrap();
    assert!(!told.contains("root's") && told.ends_with("none"), "{told} {done:?}");
    // A command is given what a shell would give it.
    let mut command = room.command_at("/bin/sh".as_ref());
    command.args(["-c", "exec 7< secret; exec \"$@\"", "sh"]).arg(crate::support::binary("baa-run"));
    let done =
        crate::support::finish(command.args(["-q", "--restart", "never", "--", "sh", "-c", "cat <&7"]));
    done.expect(0, "root's\n", "");
}

/// Who has no home, and is told of no place, is told so, with a label and without.
#[apply(test)]
fn whoever_has_no_place_for_a_socket_is_told_so() {
    needs_root();
    let baa_run = crate::support::binary("baa-run");
    let room = room();
    let copy = room.path("baa-run");
    std::fs::copy(baa_run, &copy).unwrap();
    for words in [&["--label", "j"] as &[&str], &["--ready", "notify"], &["--watchdog", "10s"]] {
        let mut command = as_user(STRANGER, copy.to_str().unwrap());
        command.args(["--restart", "never"]).args(words).args(["--", "true"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        let done = crate::support::finish(&mut command);
        assert!(done.status == 78 && done.stderr.contains("set XDG_RUNTIME_DIR"), "{words:?} {done:?}");
    }
}

/// A property list's log is opened by the user that the entry names, through no link to a file of root's.
#[apply(test)]
fn an_entry_of_another_user_writes_to_no_file_of_roots() {
    needs_root();
    let room = room();
    let secret = room.write("secret", "root's\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&secret, room.path("theirs/out")).unwrap();
    let out = room.text("theirs/out");
    let more = format!("<key>StandardOutPath</key><string>{out}</string>");
    let plist = room.plist("evil", &["/bin/echo", "evil"], &more);
    let plist = plist.display();
    room.write(
        "g.toml",
        &format!("[[oneshot]]\nid = \"a\"\nuser = \"nobody\"\njob = \"{plist}\"\nrestart = \"never\"\n"),
    );
    let done = room.run("baa-daemons", ["until-success", "--timeout", "5s", "g.toml"]);
    assert_ne!(done.status, 0, "{done:?}");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "root's\n");
}

#[apply(test)]
fn an_entry_has_no_more_rights_than_its_file_gives() {
    needs_root();
    needs("perl");
    let room = room();
    let told = room.text("theirs/told");
    let script = format!("{{ cat /proc/self/status; ulimit -n; ulimit -Hn; ulimit -c; }} > {told}");
    let text = "[[oneshot]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"evil\"]\nno-new-privs = true\n\
        capabilities = [\"CAP_CHOWN\", \"net_bind_service\"]\n\
        limits = { nofile = { soft = 64, hard = 128 }, core = 0 }\n";
    for user in ["", "user = \"nobody\"\n"] {
        let cwd = format!("cwd = \"{}\"\n", room.dir.path().display());
        let told = group(&room, &format!("{text}{user}{cwd}"), &script);
        let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!((field("NoNewPrivs:"), field("CapBnd:")), ("1", "0000000000000401"), "{told}");
        assert_eq!(field("CapInh:"), "0000000000000000");
        let effective = if user.is_empty() { "0000000000000401" } else { "0000000000000000" };
        assert_eq!(field("CapEff:"), effective, "{told}");
        assert!(told.ends_with("64\n128\n0\n"), "{told}");
        std::fs::remove_file(room.path("theirs/told")).unwrap();
    }
    for (key, words) in [
        ("capabilities = [\"all\"]", "'all' is no capability"),
        ("limits = { files = 1 }", "'files' is no resource with a limit"),
        ("limits = { nofile = \"many\" }", "'many' is no limit: a number, or unlimited"),
        ("limits = { nofile = { soft = 2, hard = 1 } }", "the soft limit of nofile is above the hard one"),
    ] {
        room.write("g.toml", &format!("[[daemon]]\nid = \"a\"\ncommand = [\"true\"]\n{key}\n"));
        room.run("baa-daemons", ["check", "g.toml"]).failed_with(78, words);
    }
}

#[apply(test)]
fn a_command_gains_no_privileges_where_that_is_asked_for() {
    let room = Room::new();
    for (words, set) in [(&["--no-new-privs"] as &[&str], "1"), (&[], "0")] {
        let script = ["--", "/bin/sh", "-c", "grep NoNewPrivs /proc/self/status"];
        let done = room.run("baa-run", [&["-q", "--restart", "never"], words, &script].concat());
        done.expect(0, &format!("NoNewPrivs:\t{set}\n"), "");
    }
}

/// A control API with a token, and somebody who holds a lease of it with `program` under his command.
struct Led {
    room: Room,
    control: Control,
    holder: Child,
}

const TOKEN: &str = "hunter2-hunter2";

impl Led {
    /// The holder runs as `uid`, with no limit of cores, in a directory of its own.
    fn new(uid: u32, script: &str) -> Led {
        let room = room();
        let file = room.secret("token", TOKEN);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let control = Control::start(&room, "127.0.0.1:0", &["--token-file", &room.text("token")]);
        let lease = crate::support::binary("baa-lease");
        let start = "ulimit -c unlimited; exec \"$@\"";
        let mut holder = as_user(uid, "/bin/sh");
        holder.args(["-c", start, "sh"]).arg(lease);
        holder.args(["hold", "-q", "--store", &control.base(), "--", "/bin/sh", "-c", script]);
        holder.env_clear().env("PATH", "/usr/bin:/bin").env("BAA_SHARED_TOKEN", TOKEN);
        holder.env("BAA_ETCD_PASSWORD", TOKEN).env("XDG_STATE_HOME", room.text("theirs/state"));
        holder.env("BAA_CONTROL_STORE", format!("http://me:{TOKEN}@localhost"));
        holder.env("BAA_RUNTIME_DIR", room.text("theirs/run")).current_dir(room.path("theirs"));
        let holder = holder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("it leads", || room.path("theirs/told").exists());
        Led { room, control, holder }
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.room.path("theirs/told")).unwrap()
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        self.control.kill();
    }
}

/// What the led command, and whoever stands between, can read.
const LED: &str = "{ env; ulimit -c; cat /proc/$PPID/environ | tr '\\0' '\\n'; ls -ld /proc/self/environ; } \
    > new 2>&1; mv new told; exec sleep 1000";

#[apply(test)]
fn no_secret_of_a_store_reaches_what_is_led() {
    needs_root();
    for uid in [0, NOBODY] {
        let led = Led::new(uid, LED);
        let told = led.told();
        assert!(told.contains("BAA_LEASE_TERM=") && told.contains("BAA_LEASE_CONTROL_FD="), "{told}");
        assert!(!told.contains(TOKEN) && !told.contains("BAA_SHARED_TOKEN"), "{told}");
        // Whoever is led may have cores, and is shown to its own user, as if nobody led it.
        assert!(told.lines().any(|line| line == "unlimited"), "{told}");
        let owner = if uid == 0 { "root root" } else { "nobody nogroup" };
        assert!(told.lines().last().unwrap().contains(owner), "{told}");
        // Root may look, and finds it overwritten.
        let environ = std::fs::read(format!("/proc/{}/environ", led.holder.id())).unwrap();
        let environ = String::from_utf8_lossy(&environ);
        assert!(environ.contains("BAA_SHARED_TOKEN=\0") && environ.contains("PATH=/usr/bin"), "{environ:?}");
        assert!(!environ.replace(&format!("me:{TOKEN}"), "").contains(TOKEN), "{environ:?}");
    }
}

/// Another process of the same user, its led command perhaps, looks into its memory; and it crashes.
#[apply(test)]
fn no_secret_of_a_store_is_seen_in_memory_or_in_a_core() {
    needs_root();
    let led = Led::new(NOBODY, LED);
    let holder = led.holder.id();
    for file in ["environ", "mem"] {
        let mut look = as_user(NOBODY, "head");
        let done = crate::support::finish(look.args(["-c", "1"]).arg(format!("/proc/{holder}/{file}")));
        assert!(done.status == 1 && done.stderr.contains("Permission denied"), "{file}: {done:?}");
    }
    drop(led);
    // A fault of a holder comes from within; what waits for its store ends by any signal.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("http://{}", silent.local_addr().unwrap());
    let room = room();
    let mut asks = as_user(NOBODY, "/bin/sh");
    asks.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).arg(crate::support::binary("baa-lease"));
    asks.args(["status", "--store", &store]).env("BAA_SHARED_TOKEN", TOKEN).current_dir(room.path("theirs"));
    let mut asks = asks.spawn().unwrap();
    let (mut asked, _) = silent.accept().unwrap();
    let mut bytes = [0; 4096];
    let mut request = String::new();
    while !request.contains(TOKEN) {
        let count = std::io::Read::read(&mut asked, &mut bytes).unwrap();
        request.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    signal(asks.id(), Signal::SIGABRT);
    let ended = asks.wait().unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::SIGABRT as i32), false));
    assert_eq!(cores(&room), 0);
}

fn cores(room: &Room) -> usize {
    let files = std::fs::read_dir(room.path("theirs")).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().contains("core")).count()
}

/// A server stays visible to its own user's programs, which ask who listens; and writes no core either.
#[apply(test)]
fn a_server_with_secrets_is_found_by_its_user_and_writes_no_core() {
    needs_root();
    let room = room();
    let file = room.write("theirs/token", TOKEN);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // It keeps its state where nobody else may write.
    std::fs::set_permissions(room.path("theirs"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in [&file, &room.path("theirs")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let port = crate::support::port();
    let (run, control) = (crate::support::binary("baa-run"), crate::support::binary("baa-control"));
    let script = format!(
        "ulimit -c unlimited; exec {} --label j --ready tcp://127.0.0.1:{port} -- {} \
         --listen 127.0.0.1:{port} --token-file token --store sqlite:db",
        run.display(),
        control.display()
    );
    let mut keeper = as_user(NOBODY, "/bin/sh");
    keeper.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
    keeper.env("BAA_RUNTIME_DIR", room.text("theirs/run")).env("XDG_STATE_HOME", room.text("theirs/state"));
    let words = std::fs::File::create(room.path("words")).unwrap();
    let keeper = keeper.current_dir(room.path("theirs")).stderr(words).spawn().unwrap();
    let status = || {
        let mut ask = as_user(NOBODY, run.to_str().unwrap());
        ask.args(["ctl", "status", "j", "--json"]).env("BAA_RUNTIME_DIR", room.text("theirs/run"));
        crate::support::finish(&mut ask)
    };
    until("it serves", || status().stdout.contains("\"running\""));
    let pid = u32::try_from(status().json()["pid"].as_u64().unwrap()).unwrap();
    signal(pid, Signal::SIGABRT);
    until("it has crashed", || self::words(&room).contains("killed by"));
    assert_eq!(cores(&room), 0);
    signal(keeper.id(), Signal::SIGTERM);
    collect(keeper);
}
