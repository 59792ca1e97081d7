//! baa-daemons among others: reloaded by baa-reload, answered for by strangers, left by its own, killed at
//! any moment, looked at.

use crate::daemons::{Group, ask, daemon, sleeper};
use crate::support::tmux::Tmux;
use crate::support::{Room, alive, example, needs, port, skip, until};
use serde_json::Value;

/// baa-reload reads the file again and proves that a new process of the entry is ready; what is wrong is
/// refused, and nothing touched.
#[apply(test)]
fn an_entry_is_reloaded_and_proven() {
    let room = Room::new();
    let reload = |arguments: &[&str]| {
        room.run(
            "baa-reload",
            ["--manager", "baa", "--group", "g.toml", "--label"].into_iter().chain(arguments.iter().copied()),
        )
    };
    let text = |x: &str| {
        daemon("a", &format!("ready.probe = \"file:a.up\"\nenv = {{ X = \"{x}\" }}"))
            + &daemon("b", "requires = [\"a\"]")
    };
    let group = Group::run(&room, &text("1"));
    group.ready();
    let [a, b] = ["a", "b"].map(|id| group.process(id));
    let done = reload(&["a", "--json"]);
    let told = done.json()["services"][0].clone();
    assert_eq!(
        (done.status, &told["outcome"], told["old_pid"].as_u64()),
        (0, &Value::from("recovered"), Some(a)),
        "{done:?}"
    );
    assert_eq!(told["new_pid"].as_u64(), Some(group.process("a")));
    assert!(!alive(a));
    group.ready();
    assert_ne!(group.process("b"), b);
    // What has changed in the file is what runs afterwards.
    room.write("g.toml", &text("2"));
    assert_eq!(reload(&["a", "-q"]).status, 0);
    let environment = std::fs::read(format!("/proc/{}/environ", group.process("a"))).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("X=2"));
    let a = group.process("a");
    reload(&["x"]).failed_with(3, "cannot reload x: there is no entry 'x'; nothing was touched");
    room.write("g.toml", "[[daemon]]\nid = 7");
    reload(&["a"]).failed_with(65, "nothing was touched");
    room.write("g.toml", &(text("2") + &sleeper("c", "")));
    assert_eq!(group.process("a"), a);
    let plan = "# a\nbaa-daemons reload g.toml\nbaa-daemons restart g.toml a\n"
        .replace("g.toml", &room.text("g.toml"));
    reload(&["a", "-n"]).expect(0, &plan, "");
    // One that does not come up is told of.
    room.write("g.toml", &text("3").replace("touch a.up", "sleep 1000"));
    let done = reload(&["a", "--attempts", "2", "--delay", "100ms"]);
    assert!(done.status == 69 && done.stderr.contains("it did not recover, even after a kick"), "{done:?}");
    assert!(done.stderr.lines().last().unwrap().contains("baa-daemons restart"), "{done:?}");
    assert_eq!(group.stop().status, 0);
    reload(&["a"]).failed_with(69, "the group does not run");
}

/// Whoever else answers on its port does not make an entry ready, unless that is wanted.
#[apply(test)]
fn a_strangers_answer_is_not_the_entrys() {
    let room = Room::new();
    let address = format!("127.0.0.1:{}", port());
    let stranger = room.service(&address, &[]);
    let entry = |more: &str| {
        sleeper("a", &format!("ready = {{ probe = \"http://{address}/healthz\", grace = 0{more} }}"))
            + &sleeper("b", "requires = [\"a\"]")
    };
    let group = Group::run(&room, &entry(""));
    until("it was asked", || {
        group.entry("a")["message"].as_str().is_some_and(|message| message.contains("answered by process"))
    });
    assert!(group.entry("a")["state"] == "failed" && group.entry("b")["state"] == "waiting");
    assert_eq!(group.stop().status, 0);
    let group = Group::run(&room, &entry(", anyone = true"));
    group.ready();
    assert_eq!(group.stop().status, 0);
    drop(stranger);
    let service = example("service");
    let own = format!(
        "[[daemon]]\nid = \"a\"\ncommand = [\"{}\", \"--listen\", \"{address}\"]\n\
             ready.probe = \"http://{address}/healthz\"\n",
        service.display()
    );
    let group = Group::run(&room, &own);
    group.ready();
    assert_eq!(group.stop().status, 0);
}

/// What leaves its session and its parent is still the entry's, and ends with this life of it; another
/// entry's stays.
#[apply(test)]
fn what_escapes_an_entry_ends_with_it() {
    needs("setsid");
    let room = Room::new();
    let leave = |id: &str| {
        let far = format!(
            "setsid /bin/sh -c 'trap \\\\\\\"\\\\\\\" TERM; echo $$ > {id}.tmp; mv {id}.tmp {id}.far; \
                 while :; do sleep 0.02; done' &"
        );
        format!(
            "[[daemon]]\nid = \"{id}\"\nstop-timeout = \"200ms\"\n\
                 command = [\"/bin/sh\", \"-c\", \"(/bin/sh -c \\\"{far}\\\"); exec sleep 1000\"]\n"
        )
    };
    // Its words come with its end, in one go.
    let talks = "[[daemon]]\nid = \"c\"\ncommand = [\"/bin/sh\", \"-c\", \"trap 'echo last words; exit 0' \
         TERM; while :; do sleep 0.01; done\"]\n";
    let group = Group::run(&room, &(leave("a") + &leave("b") + talks));
    group.ready();
    let far = |id: &str| {
        let mut pid = 0;
        until("it has left", || {
            pid = std::fs::read_to_string(room.path(&format!("{id}.far")))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0);
            pid > 0
        });
        pid
    };
    let [a, b] = ["a", "b"].map(far);
    std::fs::remove_file(room.path("a.far")).unwrap();
    let old = group.process("a");
    assert_eq!(ask(&room, &["restart", "g.toml", "a"]).status, 0);
    until("it is new", || group.process("a") != old);
    assert!(!alive(a), "what a has left lives beside its next life");
    assert!(alive(b));
    // What an entry that is taken out has said last is kept.
    room.write("g.toml", &leave("a"));
    assert_eq!(ask(&room, &["reload", "g.toml"]).status, 0);
    until("b is gone", || !alive(b));
    let logs = std::fs::read_dir(room.path("state/baa/groups")).unwrap().next().unwrap().unwrap().path();
    let words =
        || std::fs::read_to_string(logs.join("c.log")).unwrap_or_default().replace("Terminated\n", "");
    until("its last words are kept", || words() == "last words\n");
    assert_eq!(group.stop().status, 1);
}

/// In a control group of its own, nobody gets away: not by a session, not by an empty environment, not by
/// both.
#[apply(test)]
fn nobody_leaves_a_control_group() {
    needs("setsid");
    let room = Room::new();
    let Some(ground) = baa::sys::cgroup::CgroupParent::ours(|| false) else {
        skip("no control groups (version 2) can be made here");
    };
    // Literal text, as TOML has it: no backslash means anything.
    let words =
        "(setsid env -i /bin/sh -c 'echo $$ > far.tmp; mv far.tmp far; exec sleep 1000' &); exec sleep 1000";
    let text = format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"\"\"{words}\"\"\"]\n")
        + &sleeper("b", "");
    let group = Group::run(&room, &text);
    group.ready();
    until("it has left", || room.path("far").exists());
    let far: u64 = std::fs::read_to_string(room.path("far")).unwrap().trim().parse().unwrap();
    let inside = std::fs::read_to_string(format!("/proc/{far}/cgroup")).unwrap();
    assert!(inside.contains("/baa-g-"), "{inside}");
    assert_eq!(ask(&room, &["stop", "g.toml", "a"]).status, 0);
    until("it is gone", || !alive(far));
    group.becomes("a", "disabled");
    assert!(alive(group.process("b")));
    // Killed, it leaves the groups, and the next one removes them.
    std::fs::remove_file(room.path("far")).unwrap();
    assert_eq!(ask(&room, &["start", "g.toml", "a"]).status, 0);
    until("it has left", || room.path("far").exists());
    let far: u64 = std::fs::read_to_string(room.path("far")).unwrap().trim().parse().unwrap();
    let mut group = group;
    group.child.as_mut().unwrap().kill().unwrap();
    group.child.take().unwrap().wait().unwrap();
    assert!(alive(far));
    std::fs::remove_file(room.path("far")).unwrap();
    let group = Group::run(&room, &text);
    assert!(!alive(far));
    group.ready();
    until("it has left", || room.path("far").exists());
    assert_eq!(group.stop().status, 0);
    drop(ground);
}

/// Killed at any moment, a group leaves a lock that is free, events that are whole, and nothing that runs
/// beside the next one.
#[apply(test)]
fn a_group_that_is_killed_at_any_moment_leaves_what_the_next_one_can_use() {
    let room = Room::new();
    let life = |id: &str, more: &str| {
        let script = format!(
            "echo $$ >> lives; set -C; true > {id}.busy || echo {id} >> trouble; true >| {id}.up; \
                 trap 'rm -rf {id}.busy {id}.up; exit 0' TERM; while :; do sleep 0.01; done"
        );
        format!(
            "[[daemon]]\nid = \"{id}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
                 ready.probe = \"file:{id}.up\"\n{more}\n"
        )
    };
    let text = life("a", "") + &life("b", "requires = [\"a\"]") + &life("c", "requires = [\"b\"]");
    let lives = || -> Vec<u64> {
        std::fs::read_to_string(room.path("lives"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect()
    };
    for turn in 0..40u64 {
        let mut group = Group::run(&room, &text);
        if turn % 2 == 0 {
            // One that was stopped in a turn before is not started by another run.
            ask(&room, &["start", "g.toml", "b"]);
            group.ready();
            let verb: &[&str] =
                [&["restart", "g.toml", "a"][..], &["stop", "g.toml", "b"], &["reload", "g.toml"]]
                    [usize::try_from(turn / 2 % 3).unwrap()];
            ask(&room, verb);
        }
        std::thread::sleep(std::time::Duration::from_millis(turn));
        let child = group.child.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        until("its entries are gone", || lives().iter().all(|life| !alive(*life)));
        assert!(!room.path("trouble").exists(), "{turn}");
        for mark in ["a.busy", "b.busy", "c.busy"] {
            let _ = std::fs::remove_file(room.path(mark));
            let _ = std::fs::remove_file(room.path(&mark.replace("busy", "up")));
        }
    }
    let events = ask(&room, &["logs", "--events", "-l", "100000", "g.toml"]).stdout;
    assert!(
        events.lines().count() > 40 && events.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "baa.daemons-journal/2");
    let group = Group::run(&room, &text);
    ask(&room, &["start", "g.toml", "b"]);
    group.ready();
    assert_eq!(group.stop().status, 0);
}

/// On a terminal a table stands below what entries say, and is gone in the end.
#[apply(test)]
fn on_a_terminal_a_table_shows_how_it_fares() {
    let room = Room::new();
    let talks = "[[daemon]]\nid = \"talks\"\ncommand = [\"/bin/sh\", \"-c\", \"echo hello from it; \
         exec sleep 1000\"]\n";
    room.write("g.toml", &(talks.to_owned() + &sleeper("web", "requires = [\"talks\"]")));
    let server = Tmux::start(&room, "looks");
    let bare = room.command("baa-daemons");
    let env: Vec<String> = bare
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}='{}'", key.to_str()?, value?.to_str()?)))
        .collect();
    let command = format!(
        "cd {}; {} {} run g.toml; echo ended",
        room.dir.path().display(),
        env.join(" "),
        bare.get_program().to_string_lossy()
    );
    server.tmux(&["respawn-pane", "-k", "/bin/sh"]);
    server.tmux(&["send-keys", "-l", &format!("clear; {command}\n")]);
    let screen = || server.tmux(&["capture-pane", "-p"]);
    until("the table is there", || screen().lines().filter(|line| line.contains("ready")).count() == 2);
    let seen = screen();
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    let at = |text: &str| lines.iter().position(|line| line.starts_with(text));
    assert!(
        at("talks | hello from it") < at("ID ") && at("ID ").is_some() && at("ID ") < at("web "),
        "{seen}"
    );
    // A restart is shown in the same place.
    let shown = lines.iter().filter(|line| line.starts_with("ID ")).count();
    assert_eq!(shown, 1, "{seen}");
    server.tmux(&["send-keys", "C-c"]);
    until("it has ended", || screen().lines().any(|line| line.trim() == "ended"));
    assert!(!screen().lines().any(|line| line.starts_with("ID ")), "{}", screen());
}

/// Under systemd control groups are made where the unit's is given away, and only there.
#[apply(test)]
fn under_systemd_control_groups_are_made_where_they_may_be() {
    let room = Room::new();
    room.write("g.toml", &sleeper("a", ""));
    let script = r#"
mkdir -p ~/.config/systemd/user; export BAA_RUNTIME_DIR=$ROOM/run XDG_STATE_HOME=$ROOM/state
for delegate in yes no; do
  printf '%s\n' '[Service]' KillMode=mixed Delegate=$delegate \
    Environment=BAA_RUNTIME_DIR=$ROOM/run Environment=XDG_STATE_HOME=$ROOM/state \
    "ExecStart=$(command -v baa-daemons) run $ROOM/g.toml" > ~/.config/systemd/user/g-$delegate.service
  systemctl --user daemon-reload; systemctl --user start g-$delegate
  baa-healthwait -q --timeout 30s exec:"baa-daemons status $ROOM/g.toml"
  pid=$(baa-daemons status --json $ROOM/g.toml | sed 's/.*"pid":\([0-9]*\),"life".*/\1/')
  grep -c "g-$delegate.service/baa-g-" /proc/$pid/cgroup || true
  systemctl --user stop g-$delegate; systemctl --user show -p Result --value g-$delegate
done"#;
    let done = crate::support::systemd::beside_systemd(&room, script);
    done.expect(0, "1\nsuccess\n0\nsuccess\n", "");
}
