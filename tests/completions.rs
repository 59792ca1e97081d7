//! What bash, zsh and fish offer where, each in a terminal of its own; and what the programs answer them.

use crate::artefacts::programs;
use crate::support::shell::Shell;
use crate::support::{Room, finish, needs, skip};
use baa::program::complete::{ValueKind, kind};
use clap::{Arg, Command as Declaration};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

const FILES: [&str; 2] = ["group.toml", "one.plist"];

/// A room with something of everything that is live.
fn furnished() -> Room {
    let room = Room::new();
    room.write(
        "work/group.toml",
        "[[daemon]]\nid = \"front\"\ncommand = [\"sleep\", \"9\"]\n[[oneshot]]\nid = \"back\"\n\
         command = [\"true\"]\n",
    );
    room.write("work/one.plist", "");
    std::fs::create_dir_all(room.path("work/sub")).unwrap();
    for label in ["so.makefile.baa-conductor", "org.example.web", "evil\u{1b}[31m", "two words"] {
        room.write(&format!("home/Library/LaunchAgents/{label}.plist"), "");
    }
    room.write(
        "root/peers-profiles.json",
        r#"{"version":2,"peers":[{"personality":"bob","runtime":"claude","cwd":"/"},
            {"personality":"alice","runtime":"claude","cwd":"/"}]}"#,
    );
    let kept = room.run("baa-run", ["--detach", "--label", "kept", "--", "sleep", "1000"]);
    kept.expect(0, "", "");
    for lease in ["blue", "green"] {
        let store = format!("sqlite:{}", room.text("lease.db"));
        let arguments = ["acquire", "--store", &store, "--lease", lease, "--lease-ttl-sec", "3600"];
        assert_eq!(room.run("baa-lease", arguments).status, 0);
    }
    room
}

/// The answer of a program to the question of a shell; nothing is said beside it.
#[track_caller]
fn answer(room: &Room, program: &str, words: &[&str]) -> Vec<String> {
    let done = finish(room.command(program).args(["__complete", "--"]).args(words));
    assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{program} {words:?}");
    assert!(!done.stdout.contains('\u{1b}'), "{:?}", done.stdout);
    let words = done.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned());
    // Options stand where nothing else is known.
    words.filter(|word| !word.starts_with("--")).collect()
}

/// Everything that is declared, verb by verb.
fn declared() -> Vec<(String, Declaration)> {
    let mut all = Vec::new();
    for mut program in programs() {
        program.build();
        let mut open = vec![(program.get_name().to_owned(), program)];
        while let Some((line, command)) = open.pop() {
            let below = command.get_subcommands().filter(|verb| !verb.is_hide_set());
            open.extend(below.map(|verb| (format!("{line} {}", verb.get_name()), verb.clone())));
            all.push((line, command));
        }
    }
    all
}

fn visible_options(command: &Declaration) -> Vec<String> {
    let options = command.get_arguments().filter(|one| !one.is_hide_set());
    options.filter_map(Arg::get_long).map(|long| format!("--{long}")).collect()
}

fn every_verb_option_and_word(shell: &mut Shell) {
    let mut seen = BTreeSet::new();
    for (line, command) in declared() {
        let options = visible_options(&command);
        shell.offers(&format!("{line} --"), &options.iter().map(String::as_str).collect::<Vec<_>>());
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<&str> = verbs.map(Declaration::get_name).collect();
        if !verbs.is_empty() {
            shell.offers(&format!("{line} "), &verbs);
        }
        for argument in command.get_arguments().filter(|one| one.get_action().takes_values()) {
            let name = argument.get_long().map(|long| format!("--{long} ")).unwrap_or_default();
            if argument.is_hide_set() || argument.is_last_set() || argument.is_require_equals_set() {
                continue;
            }
            let line = format!("{line} {name}");
            let words: Vec<String> =
                argument.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // A value that is called the same is the same thing everywhere, but for what is live.
            let fresh =
                seen.insert(format!("{:?} {:?} {words:?}", argument.get_value_names(), kind(argument)));
            if !fresh {
                continue;
            }
            let files = |offered: Vec<String>| offered.iter().any(|one| FILES.contains(&one.as_str()));
            match kind(argument) {
                _ if !words.is_empty() => assert!(!files(shell.offers(&line, &words)), "{line}"),
                ValueKind::Shell("files") => drop(shell.offers(&line, &FILES)),
                ValueKind::Shell("plists") => {
                    let offered = shell.offers(&line, &["one.plist", "sub/"]);
                    assert!(!offered.contains(&"group.toml".to_owned()), "{line}");
                }
                ValueKind::Shell("directories") => shell.completes(&line, &format!("{line}sub/")),
                ValueKind::Known(words) => assert!(!files(shell.offers(&line, words)), "{line}"),
                ValueKind::Free if !name.is_empty() => shell.completes(&line, &line),
                _ => {}
            }
        }
    }
}

fn what_is_live(shell: &mut Shell, room: &Room) {
    let store = format!("sqlite:{}", room.text("lease.db"));
    shell.completes("baa-run ctl status ", "baa-run ctl status kept ");
    shell.completes("baa-daemons start gr", "baa-daemons start group.toml ");
    let offered = shell.offers("baa-daemons start group.toml ", &["front", "back"]);
    assert!(!offered.iter().any(|one| FILES.contains(&one.as_str())), "{offered:?}");
    shell.completes("baa-reload --manager baa --label k", "baa-reload --manager baa --label kept ");
    let line = "baa-reload --manager launchd --label ";
    let offered = shell.offers(line, &["org.example.web", "so.makefile.baa-conductor"]);
    assert!(!offered.iter().any(|one| one.contains("evil") || one == "two"), "{offered:?}");
    let line = "baa-reload --manager launchd --service ";
    shell.completes(line, &format!("{line}conductor "));
    shell
        .completes("baa-reload --group group.toml --label f", "baa-reload --group group.toml --label front ");
    shell.offers(&format!("baa-lease status --store {store} --lease "), &["blue", "green"]);
    let line = format!("baa-lease status --store {store} --lease ");
    shell.completes(&format!("{line}bl"), &format!("{line}blue "));
    let line = format!("baa-peer-remove --root {} ", room.text("root"));
    shell.offers(&line, &["alice", "bob"]);
    shell.completes(&format!("{line}bob "), &format!("{line}bob alice "));
}

fn parts_of_words(shell: &mut Shell) {
    let same = [
        ("baa-run ct", "baa-run ctl "),
        ("baa-run --restart=ne", "baa-run --restart=never "),
        ("baa-run --job=o", "baa-run --job=one.plist "),
        ("baa-run --job o", "baa-run --job one.plist "),
        ("baa-healthwait fi", "baa-healthwait file:"),
        ("baa-healthwait file:o", "baa-healthwait file:one.plist "),
        ("baa-healthwait launchd:o", "baa-healthwait launchd:org.example.web "),
        ("baa-lease --scheduler=x --run-o", "baa-lease --scheduler=x --run-once "),
        ("baa-daemons logs -l 5 gr", "baa-daemons logs -l 5 group.toml "),
        // The command after `--` is completed as its own.
        ("baa-healthwait x:1 -- baa-run ctl stat", "baa-healthwait x:1 -- baa-run ctl status "),
        ("baa-run -- baa-peer-r", "baa-run -- baa-peer-remove "),
        // What was given once is not offered again.
        ("baa-daemons run --no-echo --no-e", "baa-daemons run --no-echo --no-e"),
    ];
    same.iter().for_each(|(line, whole)| shell.completes(line, whole));
}

fn in_a_terminal(kind: &'static str) {
    let room = furnished();
    let mut shell = Shell::start(&room, kind);
    parts_of_words(&mut shell);
    what_is_live(&mut shell, &room);
    every_verb_option_and_word(&mut shell);
}

#[apply(test)]
fn bash_completes_every_verb_of_every_program() {
    in_a_terminal("bash");
}

#[apply(test)]
fn zsh_completes_every_verb_of_every_program() {
    in_a_terminal("zsh");
}

#[apply(test)]
fn fish_completes_every_verb_of_every_program() {
    in_a_terminal("fish");
}

/// All files below `at`, and what is in them.
fn everything(at: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let mut open = vec![at.to_owned()];
    let mut found = BTreeSet::new();
    while let Some(path) = open.pop() {
        let text = path.to_string_lossy().into_owned();
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert((text, Vec::new()));
        } else {
            found.insert((text, std::fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

#[apply(test)]
fn a_question_changes_nothing() {
    let room = furnished();
    let store = format!("sqlite:{}", room.text("lease.db"));
    for journal in ["web.0123abcd", "work.0123abcd", "work.4567abcd"] {
        room.write(&format!("state/baa/reload/{journal}.journal"), "");
    }
    let before = everything(room.dir.path());
    let ask = || {
        assert_eq!(
            answer(&room, "baa-lease", &["status", "--store", &store, "--lease", ""]),
            ["blue", "green"]
        );
        assert!(
            answer(&room, "baa-lease", &["status", "--store", "sqlite:none.db", "--lease", ""]).is_empty()
        );
        assert!(answer(&room, "baa-lease", &["status", "--lease", ""]).is_empty());
        assert_eq!(answer(&room, "baa-run", &["ctl", "stop", ""]), ["kept"]);
        let history = ["history", "--label", "web", "--label", ""];
        assert_eq!(answer(&room, "baa-reload", &history), ["work"]);
        answer(&room, "baa-canary", &["dismiss", "--identity", ""]);
    };
    ask();
    assert_eq!(everything(room.dir.path()), before);
    // Nor where there is nothing yet.
    let bare = Room::new();
    assert!(answer(&bare, "baa-run", &["ctl", "stop", ""]).is_empty());
    assert!(answer(&bare, "baa-lease", &["status", "--lease", ""]).is_empty());
    assert_eq!(std::fs::read_dir(bare.dir.path()).unwrap().count(), 0);
}

/// A lease of a store that is in use is in its log alone.
#[apply(test)]
fn a_store_in_use_tells_its_leases_too() {
    let room = Room::new();
    let (store, socket) =
        (format!("sqlite:{}", room.text("lease.db")), format!("unix:{}", room.text("sock")));
    let mut serves = room.command("baa-control");
    let child =
        serves.args(["--quiet", "--store", &store, "--listen", &socket]).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    crate::support::until("baa-control listens", || room.path("sock").exists());
    assert_eq!(room.run("baa-lease", ["acquire", "--store", &socket, "--lease", "red"]).status, 0);
    for store in [&store, &socket] {
        assert_eq!(answer(&room, "baa-lease", &["check", "--store", store, "--lease", ""]), ["red"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[apply(test)]
fn what_is_wrong_or_hangs_is_not_told() {
    let room = Room::new();
    room.write("bad.toml", "[[daemon]\nid");
    room.write(
        "odd.toml",
        "[[daemon]]\nid = \"a\\u001b[31mb\"\n[[daemon]]\nid = \"c d\"\n[[daemon]]\nid = \"e\"\n",
    );
    room.write("lease.db", "no database");
    assert!(answer(&room, "baa-daemons", &["start", "bad.toml", ""]).is_empty());
    assert!(answer(&room, "baa-daemons", &["start", "none.toml", ""]).is_empty());
    assert_eq!(answer(&room, "baa-daemons", &["start", "odd.toml", ""]), ["e"]);
    assert!(answer(&room, "baa-lease", &["check", "--store", "sqlite:lease.db", "--lease", ""]).is_empty());
    assert!(answer(&room, "baa-lease", &["no-such-verb", "--lease", ""]).is_empty());
    // A manager that does not answer is waited for only so long, and is gone with the question.
    let own = room.write("bin/systemctl", "#!/bin/sh\necho $$ > $0.pid\nexec sleep 1000\n");
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut asks = room.command("baa-reload");
    asks.env("PATH", format!("{}:/usr/bin:/bin", room.text("bin")));
    let done = finish(asks.args(["__complete", "--", "--manager", "systemd", "--label", ""]));
    done.expect(0, "", "");
    let pid = std::fs::read_to_string(room.path("bin/systemctl.pid")).unwrap_or_default();
    if let Ok(pid) = pid.trim().parse() {
        crate::support::until("systemctl is gone", || !crate::support::alive(pid));
    }
}

/// A store elsewhere is not asked by who has only begun to type.
#[apply(test)]
fn no_host_is_spoken_to() {
    let room = Room::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    for scheme in ["http", "https", "etcd", "etcds"] {
        let store = format!("{scheme}://{at}");
        assert!(answer(&room, "baa-lease", &["check", "--store", &store, "--lease", ""]).is_empty());
    }
    assert!(listener.accept().is_err());
}

#[apply(test)]
fn units_are_those_that_systemd_has_loaded() {
    let room = Room::new();
    let done = crate::support::systemd::beside_systemd(
        &room,
        r#"
mkdir -p ~/.config/systemd/user
printf '[Service]\nExecStart=/bin/sleep 1000\n' > ~/.config/systemd/user/org.example.web.service
systemctl --user start org.example.web
baa-reload __complete -- --manager systemd --scope agent --label '' | grep -x org.example.web
baa-healthwait __complete -- systemd:user/o | grep -x systemd:user/org.example.web.service
baa-canary __complete -- watch --unit user/ | grep -x user/org.example.web.service"#,
    );
    let units = "org.example.web\nsystemd:user/org.example.web.service\nuser/org.example.web.service\n";
    assert_eq!((done.status, done.stdout.as_str()), (0, units), "{done:?}");
}

/// Where `make install` puts them for `prefix`: bash's, zsh's, fish's.
fn places(room: &Room, prefix: &str) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Only the recipe: nothing is built, and no make looks after us.
    let printed = "print-places:\n\t@printf '%s\\n' $(COMPLETE_BASH) $(COMPLETE_ZSH) $(COMPLETE_FISH)\n";
    let more = room.write("more.mk", printed);
    let mut make = std::process::Command::new(needs("make"));
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(sources);
    let done = finish(
        make.arg("-f")
            .arg("Makefile")
            .arg("-f")
            .arg(more)
            .args([&format!("PREFIX={prefix}"), "print-places"]),
    );
    assert_eq!(done.status, 0, "{done:?}");
    done.stdout.lines().map(str::to_owned).collect()
}

/// Each shell as it is right after a login, with no word about directories in its environment.
#[apply(test)]
fn make_installs_them_where_each_shell_looks() {
    let room = Room::new();
    let asked = |shell: &str, words: &[&str]| {
        let mut command = std::process::Command::new(needs(shell));
        finish(command.args(words).env_clear().env("HOME", room.text("home")).env("PATH", "/usr/bin:/bin"))
            .stdout
    };
    let bash = std::fs::read_to_string("/usr/share/bash-completion/bash_completion")
        .unwrap_or_else(|_| skip("bash-completion is missing"));
    assert!(bash.contains("/usr/local/share:/usr/share"));
    let zsh = asked("zsh", &["-f", "-c", "print -l $fpath"]);
    let fish = asked("fish", &["-c", "printf '%s\\n' $fish_complete_path"]);
    for prefix in ["/usr", "/usr/local"] {
        let places = places(&room, prefix);
        assert_eq!(places[0], format!("{prefix}/share/bash-completion/completions"));
        assert!(zsh.lines().any(|line| line == places[1]), "{places:?}: {zsh}");
        assert!(fish.lines().any(|line| line == places[2]), "{places:?}: {fish}");
    }
}
