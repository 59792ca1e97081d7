//! baa-reload on launchd: against a model of it, built from public reports (tests/launchctl); no line of this
//! ran on a Mac.

use crate::support::launchd::{DOMAIN, Launchd};
use crate::support::{
    CONDUCTOR as LABEL, Room, alive, binary, collect, example, finish, port, signal, until,
};
use nix::sys::signal::Signal;
use std::process::Stdio;

#[apply(test)]
fn a_loaded_job_is_replaced_by_a_new_process_that_answers() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let done = finish(&mut launchd.reload(&["--json", "-q"]));
    let one = &done.json()["services"][0];
    assert_eq!(
        (done.status, done.stderr.as_str(), one["outcome"].as_str()),
        (0, "", Some("recovered")),
        "{done:?}"
    );
    assert_eq!(
        (one["old_pid"].as_u64(), one["new_pid"].as_u64(), one["proof"].as_str()),
        (Some(old), launchd.pid(LABEL), Some("listener"))
    );
    assert_ne!(launchd.pid(LABEL), Some(old));
    assert!(!alive(old));
}

#[apply(test)]
fn a_job_that_was_not_loaded_is_loaded() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    let done = finish(&mut launchd.reload(&[]));
    assert_eq!((done.status, done.stdout.as_str()), (0, ""), "{done:?}");
    assert!(
        done.stderr.starts_with("baa-reload: conductor: recovered in ") && done.stderr.lines().count() == 1,
        "{done:?}"
    );
}

/// The deterministic report of the field: a job that ignores TERM, 5 while it drains, then unloaded for good
/// (openclaw#112731).
#[apply(test)]
fn a_job_that_ignores_term_is_not_left_unloaded() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=300", "drain=5,37,36,112,124"]);
    room.conductor(port, &["--ignore-term"], "<key>ExitTimeOut</key><integer>1</integer>");
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let done = finish(&mut launchd.reload(&["--json"]));
    assert_eq!(done.status, 0, "{done:?}");
    assert!(launchd.registered(LABEL) && launchd.pid(LABEL) != Some(old) && !alive(old));
}

#[apply(test)]
fn every_code_that_passes_is_waited_out() {
    for faults in [
        vec!["bootout=36", "linger=200"],
        vec!["linger=200", "drain=37"],
        vec!["refusals=3", "refusal=5"],
        vec!["refusals=3", "refusal=37"],
        vec!["refusals=2", "refusal=112"],
        vec!["refusals=2", "refusal=124"],
        vec!["refusals=2", "refusal=141"],
        vec!["refusals=2", "refusal=1"],
        vec!["pended=1"],
        vec!["hiccups=40", "seed=7"],
    ] {
        let (room, port) = (Room::new(), port());
        let launchd = Launchd::start(&room, &[]);
        room.conductor(port, &[], "");
        launchd.bootstrap(LABEL);
        launchd.faults(&faults);
        let done = finish(&mut launchd.reload(&["-v"]));
        assert_eq!(done.status, 0, "{faults:?} {done:?}");
        assert!(launchd.pid(LABEL).is_some(), "{faults:?}");
    }
}

#[apply(test)]
fn a_disabled_label_is_enabled_before_it_is_loaded() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    launchd.call(&["disable", &format!("{DOMAIN}/{LABEL}")]);
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    let calls = launchd.calls();
    let verbs: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.split(' ').next())
        .filter(|verb| !["print", "help"].contains(verb))
        .collect();
    assert_eq!(verbs, ["bootstrap", "disable", "bootout", "enable", "bootstrap"]);
}

/// Loaded and not serving: the report that the script was written for.
#[apply(test)]
fn a_job_that_does_not_serve_is_kicked_once_and_recovers() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--lame-first", &room.text("lame")], "");
    let done = finish(&mut launchd.reload(&["--json", "--attempts", "3", "--delay", "100ms"]));
    assert_eq!(
        (done.status, done.json()["services"][0]["outcome"].as_str()),
        (0, Some("recovered-by-kick")),
        "{done:?}"
    );
    assert!(done.stderr.contains("registered but not healthy"), "{done:?}");
    let kicks = launchd.calls().iter().filter(|call| call.starts_with("kickstart -k")).count();
    assert_eq!(kicks, 1);
}

#[apply(test)]
fn without_kickstart_it_is_left_as_it_is_with_diagnostics() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--lame-first", &room.text("lame")], "");
    let done = finish(&mut launchd.reload(&["--skip-kickstart", "--attempts", "2", "--delay", "50ms"]));
    assert_eq!((done.status, done.stdout.as_str()), (69, ""), "{done:?}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with("baa-reload: conductor: it did not recover and must not be kicked: "),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains(&format!("health probe: http://127.0.0.1:{port}/healthz"))),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.contains("last probe: refused")), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("launchd says of gui/501/")
            && line.contains("running, process ")
            && line.contains("runs 1")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.contains("serving lame as ")), "{lines:#?}");
    assert_eq!(
        *lines.last().unwrap(),
        format!("baa-reload: manual recovery: launchctl kickstart -k {DOMAIN}/{LABEL}")
    );
    assert!(!done.stderr.contains("hunter2"));
    assert!(!launchd.calls().iter().any(|call| call.starts_with("kickstart")));
}

/// EADDRINUSE in the new process while the old one answers 200 (overdeck#2663).
#[apply(test)]
fn the_answer_of_another_process_does_not_count() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    let squatter = room.service(&format!("127.0.0.1:{port}"), &[]);
    let done = finish(&mut launchd.reload(&["--json", "--attempts", "2", "--delay", "50ms"]));
    let one = &done.json()["services"][0];
    assert_eq!(
        (done.status, one["outcome"].as_str(), one["last_probe"]["class"].as_str()),
        (69, Some("unhealthy"), Some("wrong-process")),
        "{done:?}"
    );
    assert!(
        one["last_probe"]["error"]
            .as_str()
            .unwrap()
            .contains(&format!("answered by process {}", squatter.pid())),
        "{done:?}"
    );
}

#[apply(test)]
fn a_process_that_answers_and_dies_has_not_recovered() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--exit-after", "300"], "<key>ThrottleInterval</key><integer>1</integer>");
    let done = finish(&mut launchd.reload(&["--json", "--settle", "2s", "--attempts", "2", "--delay", "1s"]));
    assert_eq!(done.status, 69, "{done:?}");
    assert!(
        done.json()["services"][0]["reason"].as_str().unwrap().contains("it did not recover"),
        "{done:?}"
    );
}

#[apply(test)]
fn a_refused_file_gives_way_to_the_last_one_that_worked() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    room.conductor(port, &[], "<key>ProcessType</key><string>Interactive</string>");
    launchd.faults(&["bad=agents/"]);
    let done = finish(&mut launchd.reload(&["--json"]));
    let one = &done.json()["services"][0];
    assert_eq!((done.status, one["outcome"].as_str()), (78, Some("restored")), "{done:?}");
    assert!(launchd.pid(LABEL).is_some());
    // What has come back runs well.
    assert!(one["repair"].is_null() && !done.stderr.contains("manual recovery"), "{done:?}");
}

#[apply(test)]
fn a_job_that_cannot_be_brought_back_is_reported_as_lost_with_the_command() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    // The file is edited after it was loaded: nothing is known to have worked.
    std::thread::sleep(std::time::Duration::from_millis(20));
    room.conductor(port, &[], "<key>ProcessType</key><string>Interactive</string>");
    launchd.faults(&["bad=agents/"]);
    let done = finish(&mut launchd.reload(&["--json"]));
    assert_eq!((done.status, done.json()["services"][0]["outcome"].as_str()), (76, Some("lost")), "{done:?}");
    let plist = room.text(&format!("agents/{LABEL}.plist"));
    let repair = format!(
        "baa-reload: manual recovery: launchctl enable {DOMAIN}/{LABEL}; launchctl bootstrap {DOMAIN} \
             {plist} && launchctl kickstart {DOMAIN}/{LABEL}"
    );
    assert_eq!(done.stderr.lines().last(), Some(repair.as_str()));
    // And that command does repair it.
    launchd.faults(&["bad="]);
    let line = repair.split_once("recovery: ").unwrap().1;
    let shell = finish(
        std::process::Command::new("/bin/sh")
            .args(["-c", line])
            .env("LAUNCHD_MODEL", room.path("launchd"))
            .env("PATH", format!("{}:/bin", room.text("launchd/bin"))),
    );
    assert_eq!(shell.status, 0, "{shell:?}");
    assert!(launchd.pid(LABEL).is_some());
}

#[apply(test)]
fn a_domain_that_is_not_there_is_told_and_nothing_is_touched() {
    for (code, status) in [(125, 69), (112, 69), (13, 77)] {
        let (room, port) = (Room::new(), port());
        let launchd = Launchd::start(&room, &[&format!("domain={code}")]);
        room.conductor(port, &[], "");
        let done = finish(&mut launchd.reload(&["--json"]));
        assert_eq!(
            (done.status, done.json()["services"][0]["outcome"].as_str()),
            (status, Some("refused")),
            "{done:?}"
        );
        assert!(launchd.calls().iter().all(|call| call.starts_with("print")));
    }
}

#[apply(test)]
fn a_signal_in_the_middle_waits_until_the_job_is_registered() {
    for sent in [Signal::SIGTERM, Signal::SIGINT] {
        let (room, port) = (Room::new(), port());
        let launchd = Launchd::start(&room, &["linger=400"]);
        room.conductor(port, &["--drain", "200"], "");
        launchd.bootstrap(LABEL);
        let child =
            launchd.reload(&["--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
        signal(child.id(), sent);
        let done = collect(child);
        assert_eq!(
            (done.status, done.json()["services"][0]["outcome"].as_str()),
            (128 + sent as i32, Some("interrupted")),
            "{done:?}"
        );
        assert!(launchd.registered(LABEL));
    }
}

#[apply(test)]
fn a_reload_from_inside_the_job_is_handed_over() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=100"]);
    // The job reloads itself once, then serves.
    let reload = launchd.reload(&["-v"]);
    let words: Vec<String> = std::iter::once(reload.get_program())
        .chain(reload.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let variables: String = reload
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}='{}' ", name.to_str()?, value?.to_str()?)))
        .collect();
    let once = room.text("once");
    let script = format!(
        "if [ ! -e {once} ]; then : > {once}; sleep 0.3; {variables} {} > {} 2>&1; fi; \
             exec {} --listen 127.0.0.1:{port}",
        words.join(" "),
        room.text("inside"),
        example("service").display()
    );
    let environment = format!(
        "<key>EnvironmentVariables</key><dict><key>BAA_CONDUCTOR_LOCAL_API</key>\
             <string>http://127.0.0.1:{port}</string></dict>"
    );
    room.plist(
        LABEL,
        &["/bin/sh", "-c", &script],
        &format!("<key>RunAtLoad</key><true/><key>KeepAlive</key><true/>{environment}"),
    );
    launchd.bootstrap(LABEL);
    let old = launchd.pid(LABEL).unwrap();
    let log = || room.kept(LABEL, "log").and_then(|log| std::fs::read_to_string(log).ok());
    until("the helper's report", || log().is_some_and(|log| log.contains("recovered")));
    assert!(std::fs::read_to_string(room.path("inside")).unwrap().contains("we run inside it"));
    assert!(launchd.pid(LABEL).is_some_and(|pid| pid != old) && !alive(old));
}

#[apply(test)]
fn two_reloads_of_one_label_do_not_mix() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=500"]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    let first = launchd.reload(&["-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    let second = finish(&mut launchd.reload(&[]));
    second.failed_with(75, "cannot reload so.makefile.baa-conductor: another reload of it runs");
    assert_eq!(collect(first).status, 0);
}

#[apply(test)]
fn a_launchctl_that_blocks_does_not_block_the_reload() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["pended=1", "blocked=1"]);
    room.conductor(port, &[], "");
    let done = finish(&mut launchd.reload(&["--json"]));
    assert_eq!(done.status, 0, "{done:?}");
    assert!(launchd.calls().iter().any(|call| call.ends_with("-> blocked")));
}

/// A thousand reloads with random faults: in each the job is registered afterwards, whatever else happens.
#[apply(test)]
fn a_thousand_random_reloads_strand_nothing() {
    const LANES: u64 = 4;
    const EACH: u64 = 250;
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                let (room, port) = (Room::new(), port());
                let launchd = Launchd::start(&room, &[&format!("seed={}", lane + 1)]);
                let mut dice = lane.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
                let mut roll = |limit: u64| {
                    dice =
                        dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (dice >> 33) % limit
                };
                for turn in 0..EACH {
                    let drain = roll(40).to_string();
                    let mut arguments = vec!["--drain", &drain];
                    if roll(20) == 0 {
                        arguments.push("--ignore-term");
                    }
                    let more =
                        if roll(4) == 0 { "" } else { "<key>ThrottleInterval</key><integer>1</integer>" };
                    room.conductor(
                        port,
                        &arguments,
                        &format!("<key>ExitTimeOut</key><integer>1</integer>{more}"),
                    );
                    let faults = [
                        format!("linger={}", roll(60)),
                        format!(
                            "drain={}",
                            ["5", "37", "36", "5,37", "112,5", "124,5,36"][usize::try_from(roll(6)).unwrap()]
                        ),
                        format!("bootout={}", if roll(4) == 0 { 36 } else { 0 }),
                        format!("pended={}", u64::from(roll(10) == 0)),
                        format!("refusals={}", if roll(5) == 0 { roll(4) } else { 0 }),
                        format!("refusal={}", [5, 37, 112, 124, 141][usize::try_from(roll(5)).unwrap()]),
                        format!("hiccups={}", if roll(3) == 0 { 20 } else { 0 }),
                        "blocked=0".to_owned(),
                    ];
                    launchd.faults(&faults.iter().map(String::as_str).collect::<Vec<_>>());
                    if roll(10) == 0 {
                        launchd.call(&["disable", &format!("{DOMAIN}/{LABEL}")]);
                    }
                    let (before, registered) = (launchd.pid(LABEL), launchd.registered(LABEL));
                    let interrupt = roll(8) == 0;
                    let child = launchd
                        .reload(&["--json", "-v"])
                        .stdout(Stdio::piped())
                        .stderr(Stdio::piped())
                        .spawn()
                        .unwrap();
                    if interrupt {
                        std::thread::sleep(std::time::Duration::from_millis(roll(120)));
                        let _ = nix::sys::signal::kill(
                            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
                            Signal::SIGTERM,
                        );
                    }
                    let done = collect(child);
                    // Killed by the default action means: before it had touched anything.
                    let expected = if interrupt { vec![0, 143, 1015] } else { vec![0] };
                    assert!(
                        expected.contains(&done.status),
                        "lane {lane} turn {turn} {faults:?} {arguments:?}: {done:?}"
                    );
                    // The first ones may be interrupted before there was anything to strand.
                    assert!(
                        !registered && done.status != 0 || launchd.registered(LABEL),
                        "lane {lane} turn {turn}: stranded: {faults:?} {done:?}"
                    );
                    if done.status == 0 {
                        assert!(
                            launchd.pid(LABEL).is_some() && launchd.pid(LABEL) != before,
                            "lane {lane} turn {turn}: not new: {done:?}"
                        );
                    }
                }
            });
        }
    });
}

/// A keeper that launchd runs is told that a restart is meant, and finishes what it has begun before it goes.
#[apply(test)]
fn a_keeper_drains_before_it_is_reloaded() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    let (run, drain) = (
        binary("baa-run").to_string_lossy().into_owned(),
        format!("echo drained for $BAA_RESTART_REASON, $BAA_DRAIN_MS >> {}", room.text("log")),
    );
    let words = [
        run.as_str(),
        "--label",
        "gw",
        "--supervisor",
        "launchd",
        "--drain-cmd",
        &drain,
        "--",
        "/bin/sleep",
        "1000",
    ];
    let variables = [("BAA_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state")]
        .map(|(key, path)| format!("<key>{key}</key><string>{}</string>", room.text(path)));
    let environment = format!("<key>EnvironmentVariables</key><dict>{}</dict>", variables.concat());
    room.plist("gw", &words, &format!("<key>RunAtLoad</key><true/><key>KeepAlive</key><true/>{environment}"));
    launchd.bootstrap("gw");
    until("it is kept", || room.run("baa-run", ["ctl", "status", "gw"]).status == 0);
    let old = launchd.pid("gw").unwrap();
    let done = finish(&mut launchd.reload(&["--label", "gw", "-q"]));
    assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{done:?}");
    // Of the 30 s that are taken for granted where the model's launchctl is not asked.
    assert_eq!(std::fs::read_to_string(room.path("log")).unwrap(), "drained for baa-reload, 15000\n");
    assert!(!alive(old) && launchd.pid("gw").is_some_and(|pid| pid != old));
    until("it is kept", || room.run("baa-run", ["ctl", "status", "gw"]).status == 0);
}

/// A check that outlasts the pause after it used to win another one, without end.
#[apply(test)]
fn a_service_that_accepts_and_says_nothing_is_kicked_once_and_given_up() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &["--mute"], "");
    let quick = ["--json", "--attempts", "3", "--delay", "20ms", "--probe-timeout", "50ms"];
    let done = finish(&mut launchd.reload(&quick));
    let told = done.json();
    assert_eq!((done.status, &told["services"][0]["outcome"]), (69, &"unhealthy".into()), "{done:?}");
    assert!(done.stderr.contains("no answer"), "{done:?}");
    let kicks = launchd.calls().iter().filter(|call| call.starts_with("kickstart -k")).count();
    assert_eq!(kicks, 1);
}
