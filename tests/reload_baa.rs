//! baa-reload on the embedded manager: real keepers, real processes, a real HTTP service.

use crate::support::{CONDUCTOR as LABEL, Done, Room, alive, example, port, until};
use serde_json::Value;

fn reload(room: &Room, arguments: &[&str]) -> Done {
    let agents = room.text("agents");
    let mut all = vec!["--manager", "baa", "--install-dir", &agents];
    all.extend(arguments);
    room.run("baa-reload", all)
}

fn status(room: &Room) -> Value {
    let done = room.run("baa-run", ["ctl", "status", LABEL, "--json"]);
    assert!(done.status < 2, "{done:?}");
    done.json()
}

#[apply(test)]
fn a_job_is_started_and_then_replaced() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    let first = reload(&room, &["--json", "-q"]);
    assert_eq!((first.status, first.json()["services"][0]["old_pid"].as_u64()), (0, None), "{first:?}");
    let old = status(&room)["pid"].as_u64().unwrap();
    let second = reload(&room, &["--json", "-q"]);
    let one = second.json()["services"][0].clone();
    assert_eq!(
        (second.status, one["old_pid"].as_u64(), one["proof"].as_str()),
        (0, Some(old), Some("listener")),
        "{second:?}"
    );
    assert!(!alive(old) && one["new_pid"] == status(&room)["pid"]);
}

#[apply(test)]
fn the_edited_file_is_what_runs_afterwards() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &["--status", "500"], "");
    let bad = reload(&room, &["--attempts", "1", "--delay", "10ms", "--json"]);
    assert_eq!(
        (bad.status, bad.json()["services"][0]["last_probe"]["status"].as_u64()),
        (69, Some(500)),
        "{bad:?}"
    );
    room.conductor(port, &[], "");
    assert_eq!(reload(&room, &[]).status, 0);
}

#[apply(test)]
fn the_environment_is_the_jobs_and_its_values_are_never_told() {
    let (room, port) = (Room::new(), port());
    let out = format!("<key>StandardOutPath</key><string>{}</string>", room.text("env"));
    room.plist(
        LABEL,
        &["/bin/sh", "-c", "env; exec sleep 1000"],
        &format!(
            "<key>RunAtLoad</key><true/>{out}<key>EnvironmentVariables</key><dict><key>TOKEN</key>\
             <string>hunter2</string></dict>"
        ),
    );
    let health = format!("http://127.0.0.1:{port}/");
    let done =
        reload(&room, &["--health-url", &health, "--attempts", "1", "--delay", "10ms", "-v", "--json"]);
    assert_eq!(done.status, 69);
    let environment = std::fs::read_to_string(room.path("env")).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(
        environment.contains("TOKEN=hunter2")
            && environment.contains(&format!("XPC_SERVICE_NAME={LABEL}"))
            && !names.contains(&"LAUNCHD_MODEL"),
        "{environment}"
    );
    for file in ["keeper.log", "status.json"] {
        assert!(
            !std::fs::read_to_string(room.path(&format!("run/jobs/{LABEL}/{file}")))
                .unwrap()
                .contains("hunter2")
        );
    }
}

#[apply(test)]
fn a_job_that_ignores_term_and_left_an_orphan_is_killed_with_its_tree() {
    let (room, port) = (Room::new(), port());
    let orphan = room.text("orphan");
    room.conductor(
        port,
        &["--ignore-term", "--orphan", &orphan],
        "<key>ExitTimeOut</key><integer>1</integer>",
    );
    assert_eq!(reload(&room, &["-q"]).status, 0);
    until("the orphan", || std::path::Path::new(&orphan).exists());
    let orphaned: u64 = std::fs::read_to_string(&orphan).unwrap().trim().parse().unwrap();
    let old = status(&room)["pid"].as_u64().unwrap();
    assert!(alive(orphaned));
    let done = reload(&room, &["-q"]);
    assert_eq!(done.status, 0, "{done:?}");
    assert!(!alive(old) && !alive(orphaned));
}

#[apply(test)]
fn a_keeper_that_was_killed_is_replaced_and_its_job_does_not_run_twice() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    assert_eq!(reload(&room, &["-q"]).status, 0);
    let before = status(&room);
    let (keeper, old) = (before["keeper"].as_u64().unwrap(), before["pid"].as_u64().unwrap());
    crate::support::signal(u32::try_from(keeper).unwrap(), nix::sys::signal::Signal::SIGKILL);
    until("the keeper is dead", || !alive(keeper));
    let done = reload(&room, &["-q"]);
    assert_eq!(done.status, 0, "{done:?}");
    assert!(!alive(old), "two instances");
}

#[apply(test)]
fn a_job_that_dies_is_started_again_by_its_keeper() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "<key>ThrottleInterval</key><integer>0</integer>");
    assert_eq!(reload(&room, &["-q"]).status, 0);
    let old = status(&room)["pid"].as_u64().unwrap();
    crate::support::signal(u32::try_from(old).unwrap(), nix::sys::signal::Signal::SIGKILL);
    until("a new process", || status(&room)["pid"].as_u64().is_some_and(|pid| pid != old));
    let now = status(&room);
    assert_eq!((now["runs"].as_u64(), now["last_exit"].as_str()), (Some(2), Some("killed by SIGKILL")));
}

#[apply(test)]
fn a_reload_from_inside_the_job_is_handed_over() {
    let (room, port) = (Room::new(), port());
    let once = room.text("once");
    let variables = ["HOME=home", "XDG_STATE_HOME=state", "BAA_RUNTIME_DIR=run"]
        .map(|pair| pair.split_once('=').map(|(name, dir)| format!("{name}={}", room.text(dir))).unwrap())
        .join(" ");
    let reload_line = format!(
        "{variables} {} --manager baa --install-dir {} -v > {} 2>&1",
        crate::support::binary("baa-reload").display(),
        room.text("agents"),
        room.text("inside")
    );
    let script = format!(
        "if [ ! -e {once} ]; then : > {once}; sleep 0.3; {reload_line}; fi; \
             exec {} --listen 127.0.0.1:{port}",
        example("service").display()
    );
    let environment = format!(
        "<key>EnvironmentVariables</key><dict><key>BAA_CONDUCTOR_LOCAL_API</key>\
             <string>http://127.0.0.1:{port}</string></dict>"
    );
    room.plist(LABEL, &["/bin/sh", "-c", &script], &format!("<key>RunAtLoad</key><true/>{environment}"));
    assert_eq!(
        room.run("baa-run", ["--detach", "--job", &room.text(&format!("agents/{LABEL}.plist"))]).status,
        0
    );
    let old = status(&room)["pid"].as_u64().unwrap();
    let log = || room.kept(LABEL, "log").and_then(|log| std::fs::read_to_string(log).ok());
    until("the helper's report", || log().is_some_and(|log| log.contains("recovered")));
    assert!(std::fs::read_to_string(room.path("inside")).unwrap().contains("we run inside it"));
    assert!(!alive(old) && status(&room)["pid"].as_u64().is_some());
}

#[apply(test)]
fn the_deadline_ends_the_wait_for_health_and_leaves_it_registered() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &["--answers-if", "/nonexistent"], "");
    let done = reload(&room, &["--timeout", "300ms", "--json", "-q"]);
    let one = &done.json()["services"][0];
    assert_eq!(
        (done.status, one["last_probe"]["class"].as_str(), one["state"]["state"].as_str()),
        (124, Some("refused"), Some("running")),
        "{done:?}"
    );
}

#[apply(test)]
fn several_services_are_reloaded_in_order_and_the_worst_status_counts() {
    let room = Room::new();
    for (name, program) in [("a", "/bin/sleep"), ("b", "/bin/sleep"), ("c", "/bin/sleep")] {
        room.plist(&format!("so.makefile.baa-{name}"), &[program, "1000"], "<key>RunAtLoad</key><true/>");
    }
    let done = reload(&room, &["--all-services", "--json", "-q"]);
    let names: Vec<String> = done.json()["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["service"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((done.status, names), (0, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]), "{done:?}");
    room.plist("so.makefile.baa-b", &["/nonexistent/program"], "<key>RunAtLoad</key><true/>");
    let pid = |name: &str| {
        room.run("baa-run", ["ctl", "status", &format!("so.makefile.baa-{name}"), "--json"]).json()["pid"]
            .clone()
    };
    let (b, c) = (pid("b"), pid("c"));
    let stopped = reload(&room, &["--service", "b", "--service", "c"]);
    stopped.failed_with(66, "program '/nonexistent/program' does not exist");
    assert_eq!((pid("b"), pid("c")), (b.clone(), c.clone()), "nothing was touched");
    let went_on = reload(&room, &["--service", "b", "--service", "c", "--keep-going", "--json"]);
    assert_eq!((went_on.status, pid("b")), (66, b), "{went_on:?}");
    assert_ne!(pid("c"), c);
}

#[apply(test)]
fn a_bad_file_is_refused_and_the_running_service_untouched() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    assert_eq!(reload(&room, &["-q"]).status, 0);
    let pid = status(&room)["pid"].clone();
    let program = "<key>ProgramArguments</key><array><string>/bin/sleep</string></array>";
    let label = format!("<key>Label</key><string>{LABEL}</string>");
    for (body, code, why) in [
        (String::new(), 65, "the file is empty"),
        ("<plist><dict>".to_owned(), 65, "not a property list: it ends too early"),
        ("\0\u{1}binary".to_owned(), 65, "property list"),
        (format!("<plist><dict>{program}</dict></plist>"), 78, "it has no Label"),
        (
            format!("<plist><dict><key>Label</key><string>other</string>{program}</dict></plist>"),
            78,
            "its Label is 'other'",
        ),
        (
            format!("<plist><dict><key>Label</key><string>../../etc</string>{program}</dict></plist>"),
            78,
            "is not a label",
        ),
        (format!("<plist><dict>{label}</dict></plist>"), 78, "neither Program nor ProgramArguments"),
        (
            format!("<plist><dict>{label}<key>Program</key><string>/etc/passwd</string></dict></plist>"),
            77,
            "is not executable",
        ),
        (
            format!("<plist><dict>{label}<key>Program</key><string>/nonexistent</string></dict></plist>"),
            66,
            "does not exist",
        ),
        (
            format!(
                "<plist><dict>{label}{program}<key>StandardOutPath</key><string>/nonexistent/log</string>\
                     </dict></plist>"
            ),
            66,
            "its directory does not exist",
        ),
        (
            format!(
                "<plist><dict>{label}{program}<key>WorkingDirectory</key><string>/nonexistent</string>\
                     </dict></plist>"
            ),
            66,
            "is not a directory",
        ),
        (
            format!(
                "<plist><dict>{label}{program}<key>UserName</key><string>nobody-of-that-name</string>\
                     </dict></plist>"
            ),
            78,
            "no user",
        ),
        (
            format!(
                "<plist><dict>{label}{program}{}</dict></plist>",
                "<key>X</key><string>y</string>".repeat(60_000)
            ),
            65,
            "larger than",
        ),
    ] {
        room.write(&format!("agents/{LABEL}.plist"), &body);
        reload(&room, &[]).failed_with(code, why);
    }
    std::fs::remove_file(room.path(&format!("agents/{LABEL}.plist"))).unwrap();
    reload(&room, &[]).failed_with(66, "no such file or directory");
    std::fs::create_dir(room.path(&format!("agents/{LABEL}.plist"))).unwrap();
    assert_eq!(reload(&room, &[]).status, 65);
    assert_eq!(status(&room)["pid"], pid);
}

#[apply(test)]
fn a_dry_run_says_the_commands_and_touches_nothing() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    let plist = room.text(&format!("agents/{LABEL}.plist"));
    let plan = format!(
        "# conductor\nbaa-run ctl drain {LABEL}\nbaa-run --detach --job {plist}\n\
             baa-healthwait --status 200 --no-redirect http://127.0.0.1:{port}/healthz\n"
    );
    reload(&room, &["-n"]).expect(0, &plan, "");
    assert!(!room.path("run").exists() && !room.path("state").exists());
    let json = reload(&room, &["-n", "--json"]).json();
    assert_eq!(json["services"][0]["commands"][0], format!("baa-run ctl drain {LABEL}"));
}

#[apply(test)]
fn a_job_that_dies_at_its_start_is_told_of_with_its_end() {
    let room = Room::new();
    room.plist(
        LABEL,
        &["/bin/sh", "-c", "echo cannot open the database >&2; exit 3"],
        &format!(
            "<key>KeepAlive</key><true/><key>StandardErrorPath</key><string>{}</string>",
            room.text("err")
        ),
    );
    let done = reload(&room, &["--attempts", "2", "--delay", "50ms", "--json"]);
    let one = &done.json()["services"][0];
    assert_eq!(
        (done.status, one["state"]["last_exit"].as_str(), one["state"]["state"].as_str()),
        (69, Some("exited with 3"), Some("waiting")),
        "{done:?}"
    );
    assert!(done.stderr.contains("cannot open the database"), "{done:?}");
}

/// A job that does its work and exits is not a service that died; nor is one that waits to be kicked and must
/// not be.
#[apply(test)]
fn a_job_that_is_not_to_stay_has_recovered_when_it_is_done() {
    let room = Room::new();
    room.plist("so.makefile.baa-once", &["/bin/sh", "-c", "exit 0"], "<key>RunAtLoad</key><true/>");
    for _ in 0..2 {
        let done = reload(&room, &["--service", "once", "--json", "-q"]);
        let json = done.json();
        assert_eq!(
            (done.status, json["services"][0]["outcome"].as_str()),
            (0, Some("recovered")),
            "{done:?}"
        );
    }
    room.plist("so.makefile.baa-later", &["/bin/sleep", "1000"], "");
    let done = reload(&room, &["--service", "later", "--skip-kickstart", "--json", "-q"]);
    assert_eq!((done.status, done.json()["services"][0]["new_pid"].is_null()), (0, true), "{done:?}");
    let done = reload(&room, &["--service", "later", "--json", "-q"]);
    assert_eq!((done.status, done.json()["services"][0]["new_pid"].is_null()), (0, false), "{done:?}");
}

#[apply(test)]
fn logs_that_cannot_be_read_cost_nothing() {
    let (room, port) = (Room::new(), port());
    nix::unistd::mkfifo(&room.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let huge = std::fs::File::create(room.path("huge")).unwrap();
    huge.set_len(10_000_000_000).unwrap();
    let logs = format!(
        "<key>StandardOutPath</key><string>{}</string><key>StandardErrorPath</key><string>{}</string>",
        room.text("fifo"),
        room.text("huge")
    );
    room.conductor(port, &["--answers-if", "/nonexistent"], &logs);
    let done = reload(&room, &["--attempts", "1", "--delay", "10ms"]);
    assert_eq!(done.status, 69, "{done:?}");
    assert!(
        done.stderr.contains("stdout log ") && done.stderr.contains("fifo: not a regular file"),
        "{done:?}"
    );
    assert!(done.stderr.contains("stderr log ") && done.stderr.len() < 10_000, "{done:?}");
    assert!(
        done.stderr.lines().last().unwrap().starts_with("baa-reload: manual recovery: baa-run ctl restart ")
    );
}
