//! The units and property lists of baa-hardening(7): their managers accept them as they stand, and the
//! programs know the options in them.

use crate::support::{PATIENCE, Room, binary, finish, needs, needs_root};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The files in the page: their names and texts, as a reader sees them.
fn files(kind: &str) -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/man/baa-hardening.7")).unwrap();
    let begin = format!(".\\\" BEGIN {kind} ");
    let parts = page.split(&begin).skip(1).map(|part| {
        let (name, rest) = part.split_once('\n').unwrap();
        let text = rest.strip_prefix(".nf\n").unwrap().split_once("\n.fi\n").unwrap().0;
        (name.to_owned(), text.replace("\\-", "-").replace("\\(aq", "'"))
    });
    parts.collect()
}

/// The command of a unit, for the programs under test.
fn command(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    line.replace("%i", "daemon").split(' ').map(str::to_owned).collect()
}

#[apply(test)]
fn systemd_accepts_the_units_and_finds_little_open() {
    needs("systemd-analyze");
    let room = Room::new();
    // Of 10.0; what systemd-analyze(1) calls OK ends at 5.
    let bounds = BTreeMap::from([
        ("baa-canary@.service", 50),
        ("baa-control.service", 20),
        ("baa-daemons.service", 75),
        ("baa-run@.service", 75),
        ("baa-web.service", 40),
    ]);
    let units = files("unit");
    assert_eq!(
        units.keys().map(String::as_str).collect::<Vec<_>>(),
        bounds.keys().copied().collect::<Vec<_>>()
    );
    for (name, text) in units {
        let path = room.write(&format!("units/{name}"), &text.replace("/usr/local/bin/web", "/bin/true"));
        let directory = binary("baa-run").parent().unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap().replace("/usr/local/bin", &directory);
        let instance = name.replace("@.", "@daemon.");
        let path = room.write(&format!("units/{instance}"), &text);
        let verified = finish(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        let complaints: Vec<&str> = verified.stderr.lines().filter(|line| line.contains(&instance)).collect();
        assert!(verified.status == 0 && complaints.is_empty(), "{name}: {verified:?}");
        let threshold = format!("--threshold={}", bounds[name.as_str()]);
        let mut security = Command::new("systemd-analyze");
        let found = finish(security.args(["security", "--offline=true", &threshold]).arg(&path));
        assert_eq!(found.status, 0, "{name}: {}", found.stdout);
    }
}

/// With no other capabilities than the unit leaves, a group can become the users of its entries, see which of
/// them answers, and end them; and says what it lacks without.
#[apply(test)]
fn a_group_has_the_capabilities_that_it_needs() {
    needs_root();
    needs("perl");
    let units = files("unit");
    let line =
        units["baa-daemons.service"].lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let all: String = line.unwrap().split(' ').map(|one| one.replace("CAP_", ",+").to_lowercase()).collect();
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 5, \
        LocalAddr => \"127.0.0.1\", LocalPort => $ARGV[0]) or die; \
        while (my $c = $s->accept) { push @held, $c; sleep 1 }";
    for (bounds, status, words) in
        [(all.clone(), 0, ""), (all.replace(",+sys_ptrace", ""), 124, "which takes CAP_SYS_PTRACE")]
    {
        let room = Room::new();
        let port = crate::support::port();
        room.write(
            "g.toml",
            &format!(
                "[[daemon]]\nid = \"a\"\nuser = \"nobody\"\ncommand = [\"perl\", \"-e\", '''{listen}''', \
                 \"{port}\"]\nready.probe = \"tcp://127.0.0.1:{port}\"\n"
            ),
        );
        let group = room.command("baa-daemons");
        let mut command = Command::new(needs("setpriv"));
        command.env_clear().envs(group.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(format!("--bounding-set=-all{bounds}")).arg(group.get_program());
        command.args(["until-success", "--timeout", "3s", "g.toml"]).current_dir(room.dir.path());
        let done = finish(command.stdin(Stdio::null()));
        assert!(done.status == status && done.stderr.contains(words), "{bounds}: {done:?}");
    }
}

/// None of the options is unknown, and none is wrong.
#[apply(test)]
fn the_programs_know_what_the_units_and_property_lists_say() {
    let room = Room::new();
    let programs = binary("baa-run").parent().unwrap().display().to_string();
    let mut commands: Vec<Vec<String>> = files("unit").values().map(|text| command(text)).collect();
    for (name, text) in files("plist") {
        let here = text.replace("_baa", "nobody").replace("/usr/local/bin", &programs);
        room.write("var/baa/log", "");
        let path = room.write(&name, &here.replace("/usr/local/var", &room.text("var")));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let plan = finish(room.command("baa-run").args(["-n", "--json", "--job"]).arg(&path));
        assert!(plan.status == 0 && !plan.stderr.contains("warning"), "{name}: {plan:?}");
        let words = text.split("<array>").nth(1).unwrap().split("</array>").next().unwrap();
        let words = words.split("<string>").skip(1).map(|word| word.split('<').next().unwrap().to_owned());
        commands.push(words.collect());
    }
    assert_eq!(commands.len(), 6);
    for words in commands {
        let program = words[0].rsplit_once('/').unwrap().1;
        let arguments = words[1..].iter().map(|word| {
            // Nowhere but in the room.
            ["/run/", "/var/", "/etc/", "/usr/local/var/", "/usr/local/etc/"]
                .iter()
                .fold(word.clone(), |word, place| word.replacen(place, &room.text("none/"), 1))
        });
        let mut child = room.command(program);
        let child = child.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let done = end_soon(child);
        assert_ne!(done.status, 2, "{words:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty(), "{words:?}");
    }
}

/// The end of a program that may have begun to serve.
fn end_soon(child: std::process::Child) -> crate::support::Done {
    let pid = child.id();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = std::sync::Arc::clone(&over);
    let ender = std::thread::spawn(move || {
        let patience = std::time::Instant::now() + PATIENCE / 20;
        while !ended.load(std::sync::atomic::Ordering::SeqCst) && std::time::Instant::now() < patience {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if !ended.load(std::sync::atomic::Ordering::SeqCst) {
            crate::support::signal(pid, nix::sys::signal::Signal::SIGTERM);
        }
    });
    let done = crate::support::collect(child);
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    ender.join().unwrap();
    done
}
