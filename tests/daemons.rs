//! baa-daemons: a group of real processes, started and stopped in the order of its needs.

use crate::support::{Done, Room, alive, collect, needs, signal, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Child, Stdio};

pub(crate) struct Group<'a> {
    room: &'a Room,
    pub(crate) child: Option<Child>,
}

impl<'a> Group<'a> {
    pub(crate) fn run(room: &'a Room, text: &str) -> Group<'a> {
        room.write("g.toml", text);
        let child = room
            .command("baa-daemons")
            .args(["run", "-v", "g.toml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut group = Group { room, child: Some(child) };
        until("it runs", || {
            if group.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                panic!("it has ended: {:?}", collect(group.child.take().unwrap()));
            }
            ask(room, &["status", "g.toml"]).status != 69
        });
        group
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn status(&self) -> Value {
        ask(self.room, &["status", "--json", "g.toml"]).json()
    }

    pub(crate) fn entry(&self, id: &str) -> Value {
        self.status()["entries"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["id"] == id)
            .unwrap_or(&Value::Null)
            .clone()
    }

    pub(crate) fn becomes(&self, id: &str, status: &str) {
        until(&format!("{id} is {status}"), || self.entry(id)["state"] == status);
    }

    pub(crate) fn ready(&self) {
        until("all is ready", || ask(self.room, &["status", "g.toml"]).status == 0);
    }

    pub(crate) fn process(&self, id: &str) -> u64 {
        let mut pid = None;
        until(&format!("{id} runs"), || {
            pid = self.entry(id)["pid"].as_u64();
            pid.is_some()
        });
        pid.unwrap()
    }

    pub(crate) fn stop(mut self) -> Done {
        signal(self.pid(), Signal::SIGTERM);
        collect(self.child.take().unwrap())
    }

    /// What happened, as `event id`, in order.
    fn events(&self, wanted: &[&str]) -> Vec<String> {
        events(self.room, wanted)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn ask(room: &Room, arguments: &[&str]) -> Done {
    room.run("baa-daemons", arguments)
}

pub(crate) fn events(room: &Room, wanted: &[&str]) -> Vec<String> {
    let text = ask(room, &["logs", "--events", "-l", "100000", "g.toml"]).stdout;
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let words = lines.map(|line| {
        (line["ev"].as_str().unwrap().to_owned(), line["id"].as_str().unwrap_or_default().to_owned())
    });
    words
        .filter(|(event, _)| wanted.contains(&event.as_str()))
        .map(|(event, id)| format!("{event} {id}"))
        .collect()
}

/// A daemon that is ready when its file is there, and takes it away when it is told to stop.
pub(crate) fn daemon(id: &str, more: &str) -> String {
    let script = format!("trap 'rm -f {id}.up; exit 0' TERM; touch {id}.up; while :; do sleep 0.02; done");
    format!("[[daemon]]\nid = \"{id}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{more}\n")
}

pub(crate) fn sleeper(id: &str, more: &str) -> String {
    format!("[[daemon]]\nid = \"{id}\"\ncommand = [\"/bin/sleep\", \"1000\"]\n{more}\n")
}

#[apply(test)]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let room = Room::new();
    let one = |more: &str| format!("[[daemon]]\nid = \"a\"\ncommand = [\"touch\", \"ran\"]\n{more}");
    for (text, status, words) in [
        (String::new(), 78, "there is no [[daemon]], [[oneshot]] or [[check]] in it"),
        ("[[daemon]]\nid = 7".to_owned(), 65, "g.toml:2: invalid type: integer `7`, expected a string"),
        ("[[daemon\n".to_owned(), 65, "g.toml:1: "),
        (one("colour = 1"), 65, "unknown field `colour`"),
        (one("[[demon]]"), 65, "unknown field `demon`"),
        (one("requires = [\"b\"]"), 78, "entry 'a' requires 'b', which is not there"),
        (one(&one("")), 78, "duplicate id 'a'"),
        (one("requires = [\"a\"]"), 78, "a cycle: a requires a"),
        (
            one(&sleeper("b", "requires = [\"c\"]"))
                + &sleeper("c", "requires = [\"d\"]")
                + &sleeper("d", "requires = [\"b\"]"),
            78,
            "a cycle: b requires c requires d requires b",
        ),
        ("[[daemon]]\nid = \"\"\ncommand = [\"true\"]".to_owned(), 78, "an entry has an empty id"),
        ("[[daemon]]\nid = \"../x\"\ncommand = [\"true\"]".to_owned(), 78, "'../x' is no id"),
        ("[[daemon]]\nid = \"a\"".to_owned(), 78, "entry 'a': it needs a command"),
        ("[[daemon]]\nid = \"a\"\ncommand = []".to_owned(), 78, "it needs a command"),
        ("[[check]]\nid = \"a\"".to_owned(), 78, "a check needs ready.probe"),
        (
            "[[check]]\nid = \"a\"\ncommand = [\"true\"]\nready.probe = \"file:x\"".to_owned(),
            78,
            "a check has no command",
        ),
        (one("ready.probe = \"nonsense\""), 2, "cannot use target 'nonsense'"),
        (one("ready = { probe = \"file:x\", timeout = 0 }"), 78, "ready.timeout must be more than 0"),
        (one("ready = { probe = \"file:x\", failure-threshold = 0 }"), 78, "a threshold must be 1 or more"),
        (one("stop-timeout = \"soon\""), 65, "g.toml:4: "),
        (one("stop-signal = \"HUPP\""), 78, "'HUPP' is no signal"),
        (one("user = \"nobody-of-this-name\""), 78, "no user 'nobody-of-this-name'"),
        (one("restart = \"sometimes\""), 65, "g.toml:4: "),
        ("x = \"\u{0}\"".to_owned(), 65, "g.toml:1: "),
    ] {
        room.write("g.toml", &text);
        let done = ask(&room, &["run", "g.toml"]);
        assert!(
            done.status == status && done.stderr.contains(words) && done.stderr.lines().count() == 1,
            "{text}: {done:?}"
        );
        assert_eq!(ask(&room, &["check", "g.toml"]).status, status);
    }
    ask(&room, &["run", "none.toml"]).failed_with(66, "cannot read none.toml");
    std::fs::write(room.path("g.toml"), [0xff, 0xfe]).unwrap();
    ask(&room, &["check", "g.toml"]).failed_with(65, "is not UTF-8");
    assert!(!room.path("ran").exists());
    ask(&room, &["status", "g.toml"]).failed_with(69, "the group does not run");
}

#[apply(test)]
fn waves_are_shown_for_people_and_for_graphviz() {
    let room = Room::new();
    let check = "[[check]]\nid = \"c\"\nrequires = [\"a\"]\nready.probe = \"file:x\"\n";
    room.write(
        "g.toml",
        &(sleeper("web", "requires = [\"b\", \"c\"]")
            + &sleeper("b", "requires = [\"a\"]")
            + &sleeper("a", "")
            + check),
    );
    ask(&room, &["graph", "g.toml"]).expect(
        0,
        "start 1: a\nstart 2: b c\nstart 3: web\nstop 1: web\nstop 2: b c\nstop 3: a\n",
        "",
    );
    let dot = ask(&room, &["graph", "--dot", "g.toml"]).stdout;
    assert!(
        dot.starts_with("digraph group {")
            && dot.contains("\"web\" -> \"c\";")
            && dot.contains("\"c\" [shape=diamond];"),
        "{dot}"
    );
    assert_eq!(ask(&room, &["graph", "--json", "g.toml"]).json()["start"][1], serde_json::json!(["b", "c"]));
    assert!(ask(&room, &["check", "g.toml"]).stderr.contains("4 entries in 3 waves"));
}

/// What needs a daemon is stopped when it dies, the last first, and begins from scratch when it is back.
#[apply(test)]
fn a_death_takes_its_dependents_along_and_they_come_back_in_order() {
    let room = Room::new();
    let text = daemon("a", "ready.probe = \"file:a.up\"")
        + &daemon("b", "requires = [\"a\"]\nready.probe = \"file:b.up\"")
        + &daemon("c", "requires = [\"b\"]");
    let group = Group::run(&room, &text);
    group.ready();
    let old = ["a", "b", "c"].map(|id| group.process(id));
    signal(u32::try_from(old[0]).unwrap(), Signal::SIGKILL);
    until("all are new", || {
        let status = group.status();
        let pids: Vec<Option<u64>> =
            status["entries"].as_array().unwrap().iter().map(|entry| entry["pid"].as_u64()).collect();
        pids.iter().zip(old).all(|(pid, old)| pid.is_some_and(|pid| pid != old))
            && status["entries"].as_array().unwrap().iter().all(|entry| entry["state"] == "ready")
    });
    assert_eq!(group.entry("a")["failed_exits"], 1);
    assert_eq!(group.stop().status, 0);
    let order = events(&room, &["start", "stop", "exit"]);
    let words: Vec<&str> = order.iter().map(String::as_str).collect();
    let starts: Vec<&str> = words.iter().copied().filter(|word| word.starts_with("start")).collect();
    assert_eq!(starts, ["start a", "start b", "start c", "start a", "start b", "start c"]);
    // The second stop of c, at the end, comes before b's, and b's before a's.
    let last = |word: &str| words.iter().rposition(|one| *one == word).unwrap();
    assert!(last("exit c") < last("stop b") && last("exit b") < last("stop a"), "{words:?}");
    let first = |word: &str| words.iter().position(|one| *one == word).unwrap();
    assert!(first("exit a") < first("stop c") && first("exit c") < first("stop b"), "{words:?}");
    assert!(!["a", "b", "c"].iter().any(|id| room.path(&format!("{id}.up")).exists()));
}

#[apply(test)]
fn a_signal_to_its_own_group_harms_no_other() {
    let room = Room::new();
    let text = sleeper("quiet", "")
        + "[[daemon]]\nid = \"rude\"\nrestart = \"never\"\n\
             command = [\"/bin/sh\", \"-c\", \"kill -TERM 0; sleep 1000\"]\n";
    let group = Group::run(&room, &text);
    group.becomes("rude", "failed");
    let pid = group.process("quiet");
    assert!(alive(pid));
    assert_eq!(group.entry("quiet")["failed_exits"], 0);
    assert_eq!(group.entry("rude")["message"], "killed by SIGTERM");
    assert_eq!(group.stop().status, 0);
    assert!(!alive(pid));
}

/// One that does not hear TERM is killed with all it has; what it needs is stopped after it all the same.
#[apply(test)]
fn the_deaf_are_killed_and_no_wave_is_left_out() {
    needs("setsid");
    let room = Room::new();
    let deaf = "trap '' TERM; setsid /bin/sh -c \\\"trap '' TERM; echo \\\\$\\\\$ > far; \
         while :; do sleep 0.02; done\\\" & while :; do sleep 0.02; done";
    let text = daemon("base", "")
        + &format!(
            "[[daemon]]\nid = \"deaf\"\nrequires = [\"base\"]\nstop-timeout = \"300ms\"\n\
                 command = [\"/bin/sh\", \"-c\", \"{deaf}\"]\n"
        );
    let group = Group::run(&room, &text);
    group.ready();
    until("its child runs", || {
        std::fs::read_to_string(room.path("far")).is_ok_and(|text| text.ends_with('\n'))
    });
    let far: u64 = std::fs::read_to_string(room.path("far")).unwrap().trim().parse().unwrap();
    let near = group.process("deaf");
    let done = group.stop();
    assert!(done.status == 1 && done.stderr.contains("deaf: killing it"), "{done:?}");
    assert!(!alive(near) && !alive(far) && !room.path("base.up").exists());
}

#[apply(test)]
fn a_second_signal_kills_all_at_once() {
    let room = Room::new();
    let deaf = |id: &str| {
        format!(
            "[[daemon]]\nid = \"{id}\"\nstop-timeout = 0\ncommand = [\"/bin/sh\", \"-c\", \"trap '' TERM; \
                 touch {id}.up; while :; do sleep 0.02; done\"]\nready.probe = \"file:{id}.up\"\n"
        )
    };
    let mut group = Group::run(&room, &(deaf("a") + &deaf("b")));
    group.ready();
    signal(group.pid(), Signal::SIGINT);
    until("they were told", || group.events(&["stop"]).len() == 3);
    signal(group.pid(), Signal::SIGINT);
    assert_eq!(collect(group.child.take().unwrap()).status, 1);
}

/// A probe that hangs holds up neither a stop nor the others, and leaves nothing behind.
#[apply(test)]
fn a_hung_probe_holds_up_nobody() {
    let room = Room::new();
    let hung = "[[check]]\nid = \"hung\"\nready = { probe = \"exec:sleep 1000 & echo $! > hung.tmp; \
         mv hung.tmp hung.pid; wait\", timeout = \"60s\" }\n";
    let group = Group::run(&room, &(sleeper("a", "") + hung));
    until("it hangs", || room.path("hung.pid").exists());
    group.becomes("a", "ready");
    assert_eq!(group.entry("hung")["state"], "starting");
    let pid: u64 = std::fs::read_to_string(room.path("hung.pid")).unwrap().trim().parse().unwrap();
    assert_eq!(group.stop().status, 0);
    assert!(!alive(pid));
}

#[apply(test)]
fn until_success_ends_with_everything_stopped_or_names_the_laggards() {
    let room = Room::new();
    let work = "[[oneshot]]\nid = \"work\"\nrequires = [\"db\"]\n\
         command = [\"/bin/sh\", \"-c\", \"test -e db.up && touch worked\"]\n";
    room.write("g.toml", &(daemon("db", "ready.probe = \"file:db.up\"") + work));
    ask(&room, &["until-success", "g.toml"]).expect(0, "", "");
    assert!(room.path("worked").exists() && !room.path("db.up").exists());
    let crasher = "[[daemon]]\nid = \"crasher\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\n\
         ready.probe = \"file:never\"\nready.grace = 0\n";
    let stuck = "[[check]]\nid = \"stuck\"\nready.probe = \"exec:echo still warming up >&2; exit 75\"\n";
    room.write(
        "g.toml",
        &(crasher.to_owned() + stuck + &sleeper("fine", "") + &sleeper("behind", "requires = [\"crasher\"]")),
    );
    let done = ask(&room, &["until-success", "-q", "--timeout", "1500ms", "g.toml"]);
    assert_eq!(done.status, 124, "{done:?}");
    let words = done.stderr.lines().last().unwrap();
    assert!(words.starts_with("baa-daemons: timed out after 1.5s waiting for "), "{words}");
    assert!(
        words.contains("stuck (starting; still warming up)")
            && words.contains("behind (waiting; for crasher)")
            && !words.contains("fine"),
        "{words}"
    );
    assert!(words.contains("crasher (") && words.contains("failed exits, last: exited with 3)"), "{words}");
}

#[apply(test)]
fn a_reload_touches_only_what_changed_and_what_needs_it() {
    let room = Room::new();
    let text = |env: &str| {
        sleeper("a", &format!("env = {{ X = \"{env}\" }}"))
            + &sleeper("b", "requires = [\"a\"]")
            + &sleeper("c", "")
    };
    let group = Group::run(&room, &(text("1") + &sleeper("old", "")));
    group.ready();
    let [a, b, c, old] = ["a", "b", "c", "old"].map(|id| group.process(id));
    room.write("g.toml", "[[daemon]]\nid = \"a\"\nrequires = [\"a\"]\ncommand = [\"true\"]");
    ask(&room, &["reload", "g.toml"]).failed_with(78, "a cycle");
    assert_eq!(group.process("a"), a);
    room.write("g.toml", &(text("2") + &sleeper("new", "requires = [\"c\"]")));
    assert_eq!(ask(&room, &["reload", "g.toml"]).status, 0);
    until("what changed is new", || {
        group.entry("new")["state"] == "ready"
            && group.entry("b")["state"] == "ready"
            && group.entry("b")["pid"] != b
    });
    assert_ne!(group.process("a"), a);
    assert_eq!(group.process("c"), c);
    until("what is gone is stopped", || !alive(old));
    assert_eq!(group.entry("old"), Value::Null);
    let environment = std::fs::read(format!("/proc/{}/environ", group.process("a"))).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("X=2"));
    // The same again changes nothing, by a signal too.
    signal(group.pid(), Signal::SIGHUP);
    until("it was read", || group.events(&["reload"]).len() == 2);
    assert_eq!(group.process("c"), c);
    assert_eq!(group.stop().status, 0);
}

#[apply(test)]
fn entries_are_stopped_started_and_restarted_by_hand() {
    let room = Room::new();
    let group = Group::run(&room, &(sleeper("a", "") + &sleeper("b", "requires = [\"a\"]")));
    group.ready();
    let b = group.process("b");
    assert_eq!(ask(&room, &["stop", "g.toml", "a"]).status, 0);
    group.becomes("a", "disabled");
    until("b waits", || group.entry("b")["state"] == "waiting" && group.entry("b")["pid"].is_null());
    assert!(!alive(b));
    assert_eq!(group.entry("b")["waits_for"], serde_json::json!(["a"]));
    let table = ask(&room, &["status", "g.toml"]);
    assert!(
        table.status == 1 && table.stdout.contains("disabled") && table.stdout.contains("for a"),
        "{table:?}"
    );
    assert_eq!(ask(&room, &["start", "g.toml", "a"]).status, 0);
    group.ready();
    let [a, b] = ["a", "b"].map(|id| group.process(id));
    assert_eq!(ask(&room, &["restart", "g.toml", "a"]).status, 0);
    until("both are new", || {
        group.entry("a")["pid"] != a
            && group.entry("b")["pid"] != b
            && ask(&room, &["status", "g.toml"]).status == 0
    });
    ask(&room, &["restart", "g.toml", "x"]).failed_with(3, "there is no entry 'x'");
    ask(&room, &["run", "g.toml"]).failed_with(75, "it runs already");
    let groups = std::fs::read_dir(room.path("run/groups")).unwrap().next().unwrap().unwrap().path();
    let mode = |path: std::path::PathBuf| {
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
    };
    assert_eq!((mode(groups.join("control")), mode(groups)), (0o600, 0o700));
    assert_eq!(ask(&room, &["stop", "g.toml"]).status, 0);
    ask(&room, &["status", "g.toml"]).failed_with(69, "does not run");
}

/// Killed, it takes its entries along; what has left them is stopped by the next run before anything starts.
#[apply(test)]
fn a_killed_group_leaves_nothing_for_the_next_one() {
    needs("setsid");
    let room = Room::new();
    let script = "setsid /bin/sh -c 'echo $$ > far.tmp; mv far.tmp far; exec sleep 1000' & exec sleep 1000";
    let text = format!("[[daemon]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    let mut group = Group::run(&room, &text);
    group.ready();
    until("its child runs", || room.path("far").exists());
    let far: u64 = std::fs::read_to_string(room.path("far")).unwrap().trim().parse().unwrap();
    let near = group.process("a");
    group.child.as_mut().unwrap().kill().unwrap();
    group.child.take().unwrap().wait().unwrap();
    until("the entry is gone", || !alive(near));
    assert!(alive(far));
    std::fs::remove_file(room.path("far")).unwrap();
    let group = Group::run(&room, &text);
    group.ready();
    assert!(!alive(far));
    until("the second child runs", || room.path("far").exists());
    let done = group.stop();
    assert!(
        done.status == 0 && done.stderr.contains("the last run was killed and left 1 processes"),
        "{done:?}"
    );
    until("the second child is gone too", || {
        std::fs::read_to_string(room.path("far")).is_ok_and(|pid| !alive(pid.trim().parse().unwrap()))
    });
}

/// Two failures of three are no reason to stop what needs it; three are.
#[apply(test)]
fn a_probe_may_fail_now_and_then() {
    let room = Room::new();
    let ready = "ready = { probe = \"exec:test ! -e bad\", interval = { success = 0.02, failure = 0.02 }, \
         failure-threshold = 3, grace = 0 }";
    let group = Group::run(
        &room,
        &(sleeper("a", ready)
            + &sleeper("b", "requires = [\"a\"]")
            + &sleeper("c", "requires = [\"a\"]\non-dependency-failure = \"ignore\"")),
    );
    group.ready();
    let [b, c] = ["b", "c"].map(|id| group.process(id));
    room.write("bad", "");
    group.becomes("a", "failed");
    until("b is stopped", || !alive(b));
    assert!(alive(c));
    std::fs::remove_file(room.path("bad")).unwrap();
    group.ready();
    assert_eq!(group.process("c"), c);
    assert_eq!(group.entry("a")["failed_exits"], 0);
    assert_eq!(group.stop().status, 0);
    // One failure in between is not seen by anybody.
    let flaky = "ready = { probe = \"exec:n=$(cat n 2> /dev/null || echo 0); echo $((n+1)) > n; \
         test $((n % 3)) -ne 2\", interval = { success = 0.02, failure = 0.02 } }";
    let group = Group::run(&room, &(sleeper("a", flaky) + &sleeper("b", "requires = [\"a\"]")));
    group.ready();
    let b = group.process("b");
    until("it was asked often", || {
        std::fs::read_to_string(room.path("n")).is_ok_and(|n| n.trim().parse::<u32>().is_ok_and(|n| n > 12))
    });
    assert_eq!(group.process("b"), b);
    assert_eq!(group.stop().status, 0);
}

#[apply(test)]
fn a_failing_oneshot_is_seen_and_tried_again() {
    let room = Room::new();
    let text = "[[oneshot]]\nid = \"once\"\ncommand = [\"/bin/sh\", \"-c\", \"echo x >> tries; \
         test $(wc -l < tries) -ge 3\"]\nrestart = { step = 0.05 }\n";
    let group = Group::run(&room, &(text.to_owned() + &sleeper("after", "requires = [\"once\"]")));
    group.ready();
    assert_eq!(
        (group.entry("once")["failed_exits"].clone(), std::fs::read_to_string(room.path("tries")).unwrap()),
        (2.into(), "x\nx\nx\n".to_owned())
    );
    assert_eq!(group.stop().status, 0);
    assert_eq!(events(&room, &["start"]), ["start once", "start once", "start once", "start after"]);
}

/// After so many restarts in a row it is given up, until somebody asks.
#[apply(test)]
fn restarts_may_have_an_end() {
    let room = Room::new();
    let text = "[[oneshot]]\nid = \"once\"\ncommand = [\"/bin/sh\", \"-c\", \"echo x >> tries; exit 3\"]\n\
         restart = { step = 0.01, max = 2 }\n";
    let group = Group::run(&room, text);
    let tries = || std::fs::read_to_string(room.path("tries")).unwrap_or_default().lines().count();
    let over = || {
        group.entry("once")["state"] == "failed"
            && group.entry("once")["next_start_ms"].is_null()
            && group.entry("once")["pid"].is_null()
    };
    until("it is given up", || tries() == 3 && over());
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(tries(), 3);
    assert_eq!(ask(&room, &["restart", "--no-wait", "g.toml", "once"]).status, 0);
    until("it is given up again", || tries() == 6 && over());
    assert_eq!(group.stop().status, 0);
}

/// An interval may be one for all, or one for each status.
#[apply(test)]
fn an_interval_may_be_one_for_all() {
    let room = Room::new();
    for (number, interval) in
        ["0.02", "\"20ms\"", "{ default = 0.02, waiting = 1, starting = 0.02, failure = 0.02 }"]
            .into_iter()
            .enumerate()
    {
        let file = format!("asked{number}");
        let ready = format!("ready = {{ probe = \"exec:echo x >> {file}\", interval = {interval} }}");
        let group = Group::run(&room, &sleeper("a", &ready));
        until("it is asked often", || {
            std::fs::read_to_string(room.path(&file)).is_ok_and(|text| text.lines().count() > 5)
        });
        assert_eq!(group.stop().status, 0);
    }
}

#[apply(test)]
fn an_entry_gets_what_its_table_says() {
    let room = Room::new();
    std::fs::create_dir(room.path("inside")).unwrap();
    let script = "echo $X $BAA_DAEMONS_ENTRY; pwd; trap 'echo got usr1; exit 0' USR1; touch ../up; while :; \
         do sleep 0.02; done";
    let entry = format!(
        "[[daemon]]\nid = \"a\"\ncwd = \"inside\"\nenv = {{ X = \"y z\" }}\nstop-signal = \"USR1\"\n\
             command = [\"/bin/sh\", \"-c\", \"{script}\"]\nready.probe = \"file:up\"\n"
    );
    let mark = room.path("job");
    let job = room.plist(
        "org.example.job",
        &["/bin/sh", "-c", &format!("touch {}; exec sleep 1000", mark.display())],
        "",
    );
    let text = entry + &format!("[[daemon]]\nid = \"job\"\njob = \"{}\"\n", job.display());
    let group = Group::run(&room, &text);
    group.ready();
    until("the job runs", || mark.exists());
    assert_eq!(group.stop().status, 0);
    let said = ask(&room, &["logs", "g.toml", "a"]).stdout;
    let inside = room.path("inside").canonicalize().unwrap();
    // The signal goes to the whole group, a sleep of the shell's among it.
    assert_eq!(
        said.replace("User defined signal 1\n", ""),
        format!("y z a\n{}\ngot usr1\n", inside.display())
    );
    assert!(ask(&room, &["logs", "g.toml"]).stdout.starts_with("a | y z a\n"));
    ask(&room, &["logs", "g.toml", "x"]).failed_with(3, "there is no entry 'x'");
}
