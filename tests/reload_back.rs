//! The way back: a version that is accepted and does not serve gives way to the last one that worked; on the
//! model of launchd and on the embedded manager.

use crate::support::launchd::Launchd;
use crate::support::{CONDUCTOR as LABEL, Done, Room, collect, finish, port, until};
use std::process::{Command, Stdio};

const QUICK: [&str; 5] = ["--attempts", "2", "--delay", "20ms", "--json"];

fn file(room: &Room) -> String {
    std::fs::read_to_string(room.path(&format!("agents/{LABEL}.plist"))).unwrap()
}

fn rejected(room: &Room) -> Option<String> {
    std::fs::read_to_string(room.path(&format!("agents/{LABEL}.plist.rejected"))).ok()
}

fn outcome(done: &Done) -> (i32, String) {
    (done.status, done.json()["services"][0]["outcome"].as_str().unwrap().to_owned())
}

fn embedded(room: &Room, more: &[&str]) -> Command {
    let mut command = room.command("baa-reload");
    command.args(["--manager", "baa", "--install-dir", &room.text("agents")]).args(QUICK).args(more);
    command
}

/// What holds on each manager: a good version, then a bad one, with `more` options.
fn goes_back(room: &Room, reload: &dyn Fn(&[&str]) -> Command) {
    let port = port();
    room.conductor(port, &["--body", "good"], "");
    let first = finish(&mut reload(&[]));
    assert_eq!(outcome(&first), (0, "recovered".to_owned()), "{first:?}");
    let good = file(room);
    room.conductor(port, &["--status", "500"], "");
    let bad = file(room);
    let done = finish(&mut reload(&[]));
    assert_eq!(outcome(&done), (78, "rolled-back".to_owned()), "{done:?}");
    // What runs is what the next login loads; what does not serve is kept, and named.
    assert_eq!((file(room), rejected(room)), (good.clone(), Some(bad.clone())));
    let one = done.json()["services"][0].clone();
    assert!(one["rejected"][0].as_str().unwrap().ends_with(".plist.rejected"), "{done:?}");
    assert!(done.stderr.contains("rolled back to the last version that worked"), "{done:?}");
    let asked = room.run("baa-healthwait", ["--timeout", "5s", &format!("http://127.0.0.1:{port}/")]);
    assert_eq!(asked.status, 0, "{asked:?}");
    // Told not to, it stays as it is, and is told of.
    std::fs::write(room.path(&format!("agents/{LABEL}.plist")), &bad).unwrap();
    let stays = finish(&mut reload(&["--no-rollback"]));
    assert_eq!(outcome(&stays), (69, "unhealthy".to_owned()), "{stays:?}");
    assert_eq!(file(room), bad);
    // The history has it all.
    let history = room.run("baa-reload", ["history", "--label", LABEL]);
    let outcomes: Vec<&str> = history.stdout.lines().map(|line| line.split("  ").nth(2).unwrap()).collect();
    assert_eq!(outcomes, ["recovered", "rolled-back", "unhealthy"], "{history:?}");
}

#[apply(test)]
fn on_launchd_what_does_not_serve_gives_way() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    goes_back(&room, &|more| {
        let mut command = launchd.reload(&QUICK);
        command.args(more);
        command
    });
}

#[apply(test)]
fn on_the_embedded_manager_what_does_not_serve_gives_way() {
    let room = Room::new();
    goes_back(&room, &|more| embedded(&room, more));
}

/// A build that crashes at once, of which the keeper says that it waits.
#[apply(test)]
fn a_version_that_dies_gives_way() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
    let good = file(&room);
    room.plist(LABEL, &["/bin/false"], "<key>RunAtLoad</key><true/><key>KeepAlive</key><true/>");
    let url = format!("http://127.0.0.1:{port}/healthz");
    let done = finish(&mut embedded(&room, &["--health-url", &url]));
    assert_eq!(outcome(&done), (78, "rolled-back".to_owned()), "{done:?}");
    assert_eq!(file(&room), good);
}

#[apply(test)]
fn an_old_version_that_does_not_serve_either_is_told_of() {
    let (room, port) = (Room::new(), port());
    let served = room.write("serves", "");
    room.conductor(port, &["--answers-if", &served.to_string_lossy()], "");
    assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
    // What both lean on is gone.
    std::fs::remove_file(served).unwrap();
    room.conductor(port, &["--status", "500"], "");
    let done = finish(&mut embedded(&room, &[]));
    assert_eq!(outcome(&done), (69, "unhealthy".to_owned()), "{done:?}");
    let reason = done.json()["services"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("brought back and does not serve either"), "{reason}");
}

/// One that gave a good answer once is left alone, unless it is asked for.
#[apply(test)]
fn what_has_served_gives_way_only_when_asked() {
    for (more, expected) in [(&[][..], (69, "unhealthy")), (&["--rollback"][..], (78, "rolled-back"))] {
        let (room, port) = (Room::new(), port());
        room.conductor(port, &[], "");
        assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
        // It answers, and dies.
        room.conductor(port, &["--exit-after", "150"], "<key>ThrottleInterval</key><integer>0</integer>");
        let mut all = vec!["--settle", "400ms"];
        all.extend(more);
        let done = finish(&mut embedded(&room, &all));
        assert_eq!(outcome(&done), (expected.0, expected.1.to_owned()), "{done:?}");
    }
}

/// A property list that is a link belongs to whoever keeps the link's target: it is not replaced.
#[apply(test)]
fn a_linked_file_is_left_alone_and_the_kept_one_is_brought_up() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    room.conductor(port, &["--status", "500"], "");
    let installed = room.path(&format!("agents/{LABEL}.plist"));
    std::fs::rename(&installed, room.path("managed.plist")).unwrap();
    std::os::unix::fs::symlink(room.path("managed.plist"), &installed).unwrap();
    let done = finish(&mut launchd.reload(&QUICK));
    assert_eq!(outcome(&done), (78, "rolled-back".to_owned()), "{done:?}");
    assert!(done.stderr.contains("the new file is still installed"), "{done:?}");
    assert!(installed.is_symlink() && rejected(&room).is_none());
}

/// Somebody writes his next version while another one is being tried: it is left as it is, and what was
/// tried is what is set aside.
#[apply(test)]
fn what_was_written_meanwhile_is_not_what_was_tried() {
    let (room, port) = (Room::new(), port());
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
    room.conductor(port, &["--status", "500"], "");
    let bad = file(&room);
    room.conductor(port, &["--body", "next"], "");
    let next = file(&room);
    std::fs::write(room.path(&format!("agents/{LABEL}.plist")), &bad).unwrap();
    let write = format!(
        "cat {0} > {1}",
        room.write("next", &next).display(),
        room.text(&format!("agents/{LABEL}.plist"))
    );
    // The probe of a version that is tried writes the next one.
    let url = format!("exec:{write}; exit 1");
    let done = finish(&mut embedded(&room, &["--health-url", &url]));
    assert_eq!(file(&room), next, "{done:?}");
    assert_ne!(rejected(&room).as_deref(), Some(&*next), "{done:?}");
    assert!(done.stderr.contains("has been changed since, and is left as it is"), "{done:?}");
}

/// The file is edited while the old process drains: what is loaded is what is kept.
#[apply(test)]
fn what_was_loaded_is_what_is_kept() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=500"]);
    room.conductor(port, &["--body", "one"], "");
    launchd.bootstrap(LABEL);
    room.conductor(port, &["--status", "500"], "");
    let child = launchd.reload(&QUICK).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("bootout", || launchd.calls().iter().any(|call| call.starts_with("bootout")));
    room.conductor(port, &["--body", "two"], "");
    let good = file(&room);
    let done = collect(child);
    assert_eq!(outcome(&done), (0, "recovered".to_owned()), "{done:?}");
    room.conductor(port, &["--status", "503"], "");
    let back = finish(&mut launchd.reload(&QUICK));
    assert_eq!(outcome(&back), (78, "rolled-back".to_owned()), "{back:?}");
    assert_eq!(file(&room), good);
}

/// Who may read a file is kept with it: one that was refused for its mode does not leave it to the next.
#[apply(test)]
fn the_kept_version_has_its_own_mode() {
    use std::os::unix::fs::PermissionsExt;
    let (room, port) = (Room::new(), port());
    let installed = room.path(&format!("agents/{LABEL}.plist"));
    let mode = || std::fs::metadata(&installed).unwrap().permissions().mode() & 0o777;
    for (good, bad) in [(0o644, 0o600), (0o600, 0o644)] {
        room.conductor(port, &[], "");
        std::fs::set_permissions(&installed, PermissionsExt::from_mode(good)).unwrap();
        assert_eq!(finish(&mut embedded(&room, &[])).status, 0);
        room.conductor(port, &["--status", "500"], "");
        std::fs::set_permissions(&installed, PermissionsExt::from_mode(bad)).unwrap();
        let done = finish(&mut embedded(&room, &[]));
        assert_eq!(outcome(&done), (78, "rolled-back".to_owned()), "{done:?}");
        assert_eq!(mode(), good);
    }
}

/// Staging and production of one user, each with its own keepers: what worked there is nothing here.
#[apply(test)]
fn a_namesake_elsewhere_is_another_job() {
    let room = Room::new();
    let (here, there) = (port(), port());
    let reload = |place: &str| {
        let mut command = room.command("baa-reload");
        std::fs::create_dir_all(room.path(&format!("{place}-run"))).unwrap();
        command.env("BAA_RUNTIME_DIR", room.path(&format!("{place}-run")));
        command.args(["--manager", "baa", "--install-dir", &room.text(place)]).args(QUICK);
        finish(&mut command)
    };
    let place = |place: &str| {
        let _ = std::fs::remove_dir_all(room.path(place));
        std::fs::rename(room.path("agents"), room.path(place)).unwrap();
    };
    for run in ["here-run", "there-run"] {
        room.write(&format!("{run}/x"), "");
        std::fs::set_permissions(room.path(run), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
    }
    room.conductor(here, &["--body", "here"], "");
    let good = file(&room);
    place("here");
    assert_eq!(reload("here").status, 0);
    room.conductor(there, &["--body", "there"], "");
    place("there");
    assert_eq!(reload("there").status, 0);
    room.conductor(here, &["--status", "500"], "");
    place("here");
    let done = reload("here");
    assert_eq!(outcome(&done), (78, "rolled-back".to_owned()), "{done:?}");
    assert_eq!(std::fs::read_to_string(room.path(&format!("here/{LABEL}.plist"))).unwrap(), good);
    for run in ["here-run", "there-run"] {
        let mut stop = room.command("baa-run");
        stop.env("BAA_RUNTIME_DIR", room.path(run)).args(["ctl", "stop", LABEL]);
        assert_eq!(finish(&mut stop).status, 0);
    }
}

/// A copy of an old file says that it was written long ago; it is here since a moment, and never ran.
#[apply(test)]
fn what_never_ran_is_not_what_worked() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &[]);
    room.conductor(port, &[], "");
    launchd.bootstrap(LABEL);
    until("it runs", || launchd.pid(LABEL).is_some());
    std::thread::sleep(std::time::Duration::from_millis(20));
    room.conductor(port, &["--status", "500"], "");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    let installed = room.path(&format!("agents/{LABEL}.plist"));
    std::fs::File::options().write(true).open(&installed).unwrap().set_modified(long_ago).unwrap();
    let first = finish(&mut launchd.reload(&QUICK));
    assert_eq!(outcome(&first), (69, "unhealthy".to_owned()), "{first:?}");
    room.conductor(port, &["--status", "503"], "");
    let second = finish(&mut launchd.reload(&QUICK));
    assert_eq!(outcome(&second), (69, "unhealthy".to_owned()), "{second:?}");
    assert!(file(&room).contains("<string>503</string>") && rejected(&room).is_none(), "{second:?}");
}

/// Killed on the way back to a copy: its guardian brings up the copy, not what did not serve.
#[apply(test)]
fn a_way_back_that_is_cut_off_ends_with_the_kept_version() {
    let (room, port) = (Room::new(), port());
    let launchd = Launchd::start(&room, &["linger=300"]);
    room.conductor(port, &[], "");
    assert_eq!(finish(&mut launchd.reload(&["-q"])).status, 0);
    room.conductor(port, &["--status", "500"], "");
    let installed = room.path(&format!("agents/{LABEL}.plist"));
    std::fs::rename(&installed, room.path("managed.plist")).unwrap();
    std::os::unix::fs::symlink(room.path("managed.plist"), &installed).unwrap();
    let bootouts = || launchd.calls().iter().filter(|call| call.starts_with("bootout")).count();
    let before = bootouts();
    let mut child = launchd.reload(&QUICK).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the way back", || bootouts() == before + 2);
    crate::support::signal(child.id(), nix::sys::signal::Signal::SIGKILL);
    child.wait().unwrap();
    let history = || room.run("baa-reload", ["history", "--json", "--last", "1"]).json();
    until("it is finished", || !history()["end"].is_null());
    let asked = room.run("baa-healthwait", ["--timeout", "10s", &format!("http://127.0.0.1:{port}/")]);
    assert_eq!(asked.status, 0, "{asked:?} {:?}", launchd.calls());
}
