//! What launchctl(1) says in the field, and what is made of it: starts that are none yet, causes, codes, raw
//! prints. Against the model (tests/launchctl), like all that has to do with launchd.

use crate::support::launchd::{DOMAIN, Launchd};
use crate::support::{CONDUCTOR as LABEL, Done, Room, alive, collect, finish, port, until};
use serde_json::Value;
use std::process::Stdio;

const QUICK: [&str; 6] = ["--json", "--no-health", "--attempts", "2", "--delay", "50ms"];

fn one(done: &Done) -> Value {
    done.json()["services"][0].clone()
}

/// The words that `name` begins the line with.
fn line(done: &Done, name: &str) -> String {
    let found = done.stderr.lines().find(|line| line.starts_with(&format!("baa-reload: {name}")));
    found.unwrap_or_else(|| panic!("no line {name}: {done:?}")).to_owned()
}

/// xpcproxy has a pid, and ended with 78 where it was taken for the program.
#[apply(test)]
fn a_start_under_way_is_no_proof_of_a_run() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["proxy=300", "doomed=1", "doom=78"]);
    room.conductor(port(), &[], "<key>ThrottleInterval</key><integer>1</integer>");
    let done = finish(&mut launchd.reload(&["--json", "--no-health", "-v"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{done:?}");
    let new = one(&done)["new_pid"].as_u64().unwrap();
    assert_eq!((launchd.pid(LABEL), one(&done)["state"]["runs"].as_u64()), (Some(new), Some(2)), "{done:?}");
    assert!(done.stderr.contains("no new process yet (the job is xpcproxy)"), "{done:?}");
}

#[apply(test)]
fn a_probe_of_launchd_waits_for_the_program() {
    for word in ["xpcproxy", "spawning", "a word of a release to come"] {
        let room = Room::new();
        let launchd = Launchd::start(&room, &["proxy=600000", &format!("proxy-word={word}")]);
        room.conductor(port(), &[], "");
        launchd.bootstrap(LABEL);
        let path = format!("{}:/usr/bin:/bin", room.text("launchd/bin"));
        let aim = format!("launchd:{DOMAIN}/{LABEL}");
        let ask =
            || finish(room.command("baa-healthwait").env("PATH", &path).args(["--timeout", "200ms", &aim]));
        let done = ask();
        assert!(done.status != 0 && done.stderr.contains(&format!("{LABEL} is {word}")), "{done:?}");
        launchd.faults(&["proxy-word=running"]);
        assert_eq!(ask().status, 0);
    }
}

#[apply(test)]
fn the_cause_that_launchd_knows_is_told_with_what_to_do() {
    for (faults, arguments, cause, words, remedy, detail) in [
        (
            vec!["doomed=100", "doom=OS_REASON_CODESIGNING"],
            vec![],
            "code-signing",
            "the system refuses the signature of its program (OS_REASON_CODESIGNING)",
            "codesign --force --sign - PROGRAM",
            ("last exit reason", "OS_REASON_CODESIGNING"),
        ),
        (
            vec!["doomed=100", "doom=OS_REASON_JETSAM"],
            vec![],
            "memory",
            "the system killed it to have its memory (jetsam)",
            "let it use less",
            ("last exit reason", "OS_REASON_JETSAM"),
        ),
        (
            vec!["doomed=100", "doom=OS_REASON_EXEC"],
            vec![],
            "exec",
            "the system does not execute its program",
            "xattr -d com.apple.quarantine PROGRAM",
            ("job state", "spawn failed"),
        ),
        (
            vec!["pended=100", "pended-for=inefficient"],
            vec!["--skip-kickstart"],
            "pended",
            "launchd holds its start back (inefficient): Low Power Mode, DarkWake, or no finished login",
            "launchctl kickstart gui/501/so.makefile.baa-conductor",
            ("pended nondemand spawn", "inefficient"),
        ),
    ] {
        let room = Room::new();
        let launchd = Launchd::start(&room, &faults);
        room.conductor(port(), &[], "");
        let done = finish(&mut launchd.reload(&[&QUICK[..], &arguments].concat()));
        assert_eq!((done.status, one(&done)["cause"]["name"].as_str()), (69, Some(cause)), "{done:?}");
        assert_eq!(one(&done)["state"]["details"][detail.0].as_str(), Some(detail.1), "{done:?}");
        let told = line(&done, "cause: ");
        assert!(told.contains(words) && told.contains(remedy), "{told}");
        assert!(line(&done, "launchd says of ").contains(&format!("{}: {}", detail.0, detail.1)), "{done:?}");
    }
}

#[apply(test)]
fn a_program_that_launchd_cannot_start_is_told_as_such() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["doomed=100", "doom=78"]);
    room.conductor(port(), &[], "");
    let done = finish(&mut launchd.reload(&QUICK));
    assert_eq!((done.status, one(&done)["cause"]["name"].as_str()), (69, Some("spawn-failed")), "{done:?}");
    assert_eq!(one(&done)["state"]["last_exit"].as_str(), Some("78: EX_CONFIG"));
}

/// Background Task Management: bootstrap is accepted, and the label is not there.
#[apply(test)]
fn a_job_that_login_items_forbid_is_told_as_such() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &["removes=1"]);
    room.conductor(port(), &[], "");
    let done = finish(&mut launchd.reload(&QUICK));
    assert_ne!(done.status, 0);
    assert_eq!(one(&done)["cause"]["name"].as_str(), Some("login-items"), "{done:?}");
    assert!(line(&done, "cause: ").contains("System Settings, General, Login Items"), "{done:?}");
    assert!(!launchd.registered(LABEL));
}

/// Somebody disables it while it is reloaded; and 150 is not taken for the 1 whose words it has.
#[apply(test)]
fn a_job_that_is_disabled_is_told_as_such_and_a_number_before_its_text() {
    for old in ["old-disabled=0", "old-disabled=1"] {
        let room = Room::new();
        let launchd = Launchd::start(&room, &[old, "kicks=1000", "kick=150"]);
        let sleep = ["/bin/sleep", "1000"];
        room.plist(LABEL, &sleep, "");
        let child = launchd
            .reload(&["--json", "--no-health", "--attempts", "5", "--delay", "200ms"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("bootstrap", || launchd.calls().iter().any(|call| call.starts_with("bootstrap")));
        launchd.call(&["disable", &format!("{DOMAIN}/{LABEL}")]);
        let done = collect(child);
        assert_eq!((done.status, one(&done)["cause"]["name"].as_str()), (77, Some("disabled")), "{done:?}");
        assert!(
            line(&done, "cause: ").ends_with(&format!("; launchctl enable {DOMAIN}/{LABEL}")),
            "{done:?}"
        );
        assert!(
            one(&done)["reason"].as_str().unwrap().contains("gave 150: system integrity protection"),
            "{done:?}"
        );
    }
}

#[apply(test)]
fn a_kickstart_that_is_not_permitted_is_tried_a_second_time() {
    for (kicks, expected, outcome) in [(1, 0, "recovered-by-kick"), (2, 77, "unhealthy")] {
        let (room, port) = (Room::new(), port());
        let launchd = Launchd::start(&room, &[&format!("kicks={kicks}"), "kick=1"]);
        room.conductor(port, &["--lame-first", &room.text("lame")], "");
        let done = finish(&mut launchd.reload(&["--json", "--attempts", "2", "--delay", "50ms"]));
        assert_eq!((done.status, one(&done)["outcome"].as_str()), (expected, Some(outcome)), "{done:?}");
        let tried = launchd.calls().iter().filter(|call| call.starts_with("kickstart -k")).count();
        assert_eq!(tried, 2);
    }
}

#[apply(test)]
fn a_print_with_the_header_of_old_is_read_and_a_twin_is_seen() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["old-header=1"]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let done = finish(&mut launchd.reload(&["--json", "-q"]));
    assert_eq!((done.status, one(&done)["old_pid"].as_u64()), (0, Some(old)), "{done:?}");
    let plist = room.text(&format!("agents/{LABEL}.plist"));
    assert_eq!(launchd.call(&["bootstrap", "system", &plist]).status, 0);
    let done = finish(&mut launchd.reload(&["-q"]));
    assert_eq!(done.status, 78, "{done:?}");
    assert!(done.stderr.contains("is loaded too"), "{done:?}");
}

/// launchd prints the arguments as they are: a script may say what launchd says.
#[apply(test)]
fn a_script_among_the_arguments_is_not_taken_for_launchds_word() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    let script = ": '\n\t}\n\tpid = 1\n\tstate = SIGTERMed\n\truns = 99\n}\n'; exec /bin/sleep 1000";
    room.plist(LABEL, &["/bin/sh", "-c", script], "<key>RunAtLoad</key><true/>");
    let first = finish(&mut launchd.reload(&QUICK));
    let done = finish(&mut launchd.reload(&QUICK));
    assert_eq!((first.status, done.status), (0, 0), "{first:?} {done:?}");
    let (old, new) = (one(&done)["old_pid"].as_u64(), one(&done)["new_pid"].as_u64().unwrap());
    assert_eq!((one(&first)["new_pid"].as_u64(), one(&done)["state"]["runs"].as_u64()), (old, Some(1)));
    assert!(new > 1 && alive(new) && !alive(old.unwrap()), "{done:?}");
    assert_eq!(one(&done)["state"]["state"].as_str(), Some("running"));
}

#[apply(test)]
fn bootout_waits_where_this_launchctl_can() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["waits=1", "linger=300"]);
    room.conductor(port, &["--drain", "100"], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let done = finish(&mut launchd.reload(&["-q"]));
    assert_eq!(done.status, 0, "{done:?}");
    assert!(!alive(old) && launchd.pid(LABEL).is_some_and(|pid| pid != old));
    let calls = launchd.calls();
    let at = |verb: &str, from: usize| {
        from + calls[from..].iter().position(|call| call.starts_with(verb)).unwrap()
    };
    let bootout = at("bootout --wait", 0);
    // It was gone when the call came back: nobody had to ask again and again.
    let between = &calls[bootout + 1..at("enable", bootout)];
    assert_eq!(between.iter().filter(|call| call.starts_with("print")).count(), 1, "{calls:#?}");
    assert_eq!(calls.iter().filter(|call| call.starts_with("help")).count(), 1, "{calls:#?}");
}

/// The client says that it failed, and the job is loaded; the next one says that it is there already.
#[apply(test)]
fn a_bootstrap_that_was_heard_and_said_to_have_failed_is_found_out() {
    for code in [125, 130, 133] {
        let (room, port) = (Room::new(), port());
        let launchd = Launchd::start(&room, &[]);
        room.conductor(port, &[], "");
        launchd.bootstrap(LABEL);
        let old = launchd.pid(LABEL);
        let faults = ["unheard=1", &format!("unheard-code={code}"), &format!("loaded={code}"), "proxy=200"];
        launchd.faults(&faults);
        let done = finish(&mut launchd.reload(&["--json", "-v"]));
        assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{code} {done:?}");
        assert!(launchd.pid(LABEL).is_some_and(|pid| Some(pid) != old));
    }
}

/// A sandbox gives 5 whatever is asked for, and a missing domain 112: what runs is left alone.
#[apply(test)]
fn what_cannot_be_taken_down_is_left_as_it_is() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL);
    for (faults, code) in [("sandbox=1", "gave 5: "), ("domain=112", "gave 112: no such domain")] {
        launchd.faults(&[faults]);
        let done = finish(&mut launchd.reload(&["--json"]));
        assert_eq!((done.status, one(&done)["outcome"].as_str()), (69, Some("refused")), "{done:?}");
        assert!(one(&done)["reason"].as_str().unwrap().contains(code), "{done:?}");
        launchd.faults(&["sandbox=0", "domain=0"]);
        assert_eq!(launchd.pid(LABEL), old);
    }
}

/// `print` does not show it, bootstrap ends with 0 and keeps what was loaded from elsewhere.
#[apply(test)]
fn a_definition_from_another_file_is_not_taken_for_this_one() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["loaded=0"]);
    room.conductor(port, &[], "");
    let (plist, other) = (room.text(&format!("agents/{LABEL}.plist")), room.text("other.plist"));
    std::fs::copy(&plist, &other).unwrap();
    assert_eq!(launchd.call(&["bootstrap", DOMAIN, &other]).status, 0);
    let old = launchd.pid(LABEL).unwrap();
    launchd.faults(&["hides=1"]);
    let done = finish(&mut launchd.reload(&["--json", "-v"]));
    assert_eq!((done.status, one(&done)["outcome"].as_str()), (0, Some("recovered")), "{done:?}");
    assert!(!alive(old) && launchd.pid(LABEL).is_some_and(|pid| pid != old), "{done:?}");
    let print = launchd.call(&["print", &format!("{DOMAIN}/{LABEL}")]).stdout;
    assert!(print.contains(&format!("path = {plist}\n")), "{print}");
}
