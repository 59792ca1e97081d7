//! baa-peer-remove on installations like iapeer's: what goes, what stays, what is refused.

use crate::support::launchd::Launchd;
use crate::support::tmux::Tmux;
use crate::support::{Done, Room, finish, needs, until};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Two peers, one of them in the oldest form, and a third whose name begins like the first's; with fields
/// that nobody knows.
pub const REGISTRY: &str = r#"{
  "version": 2,
  "peers": [
    {
      "personality": "bob",
      "default_runtime": "claude",
      "runtimes": ["claude", "codex"],
      "description": "say \"hi\" ]}",
      "intelligence": "artificial",
      "cwd": "CWD",
      "x-unknown": { "n": 1.50 }
    },
    {"personality":"bob2","runtime":"claude","intelligence":"human","cwd":"/nowhere"},
    { "personality" : "old" , "runtime":"telegram","cwd":"/nowhere" }
  ],
  "extra": [1,2]
}
"#;

const BOB_GONE: &str = r#"{
  "version": 2,
  "peers": [
    {"personality":"bob2","runtime":"claude","intelligence":"human","cwd":"/nowhere"},
    { "personality" : "old" , "runtime":"telegram","cwd":"/nowhere" }
  ],
  "extra": [1,2]
}
"#;

/// Markers as iapeer's cemetery has them, a queue with tasks among them.
pub const MARKERS: [&str; 6] = [
    "claude-bob.stopped",
    "claude-bob.idle-reaped",
    "claude-bob.topic",
    "claude-bob.queue/000001",
    "codex-bob.session",
    "gemini-bob.deaths",
];

pub fn install(room: &Room) -> PathBuf {
    let registry = room.write("root/peers-profiles.json", &REGISTRY.replace("CWD", &room.text("home/bob")));
    std::fs::set_permissions(&registry, std::fs::Permissions::from_mode(0o600)).unwrap();
    for name in MARKERS.iter().chain(&["claude-bob2.stopped", "claude-a-bob.stopped", "bob.stopped"]) {
        room.write(&format!("root/state/lifecycle/{name}"), "x\n");
    }
    room.write("home/bob/.iapeer/peer-profile.json", "{}");
    registry
}

pub fn remove<'a>(room: &Room, arguments: impl IntoIterator<Item = &'a str>) -> Done {
    finish(command(room).args(arguments))
}

pub fn command(room: &Room) -> Command {
    let mut command = room.command("baa-peer-remove");
    command.env("IAPEER_ROOT", room.path("root"));
    command
}

pub fn registry(room: &Room) -> String {
    std::fs::read_to_string(room.path("root/peers-profiles.json")).unwrap()
}

pub fn states(room: &Room) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(room.path("root/state/lifecycle"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const OTHERS: [&str; 3] = ["bob.stopped", "claude-a-bob.stopped", "claude-bob2.stopped"];

#[apply(test)]
fn a_peer_goes_with_its_state_and_everything_else_stays_byte_for_byte() {
    let room = Room::new();
    let path = install(&room);
    room.write("root/logs/iapeer/server-deaths/claude-bob-1795241746-1.txt", "");
    room.write("root/logs/iapeer/server-deaths/claude-bob2-1795241746-1.txt", "");
    room.write("root/logs/lifecycle/claude-bob.log", "");
    let done = remove(&room, ["bob"]);
    let (root, cwd) = (room.path("root").canonicalize().unwrap(), room.text("home/bob"));
    done.expect(
        0,
        &format!(
            "removed \"bob\" from the registry\nlaunchd plist: none\n\
             memory unprovision: not run, nor codex trust entry, codex hooks trust: they are iapeer's own\n\
             lifecycle state purged: claude-bob.idle-reaped, claude-bob.queue, claude-bob.stopped, \
             claude-bob.topic, codex-bob.session, gemini-bob.deaths\n\
             kept: {0}/logs/lifecycle/claude-bob.log\n\
             kept: {0}/logs/iapeer/server-deaths/claude-bob-1795241746-1.txt\n\
             folder kept: {cwd} (remove never deletes peer data — `rm -rf` it yourself if it was a \
             throwaway)\n",
            root.display()
        ),
        &format!(
            "baa-peer-remove: {cwd}/.iapeer/peer-profile.json is still there: `iapeer verify --fix` would \
             register the peer again\n"
        ),
    );
    assert_eq!(registry(&room), BOB_GONE);
    assert_eq!(states(&room), OTHERS);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(
        !room.path("root/peers-profiles.lock.lock").exists()
            && room.path("root/peers-profiles.lock").exists()
    );
    let names: Vec<_> =
        std::fs::read_dir(room.path("root")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    remove(&room, ["bob"]).expect(
        0,
        "\"bob\" not registered — no-op\n",
        "baa-peer-remove: did you mean bob2?\n",
    );
    remove(&room, ["bob", "--must-exist"]).expect(
        1,
        "",
        "baa-peer-remove: did you mean bob2?\nbaa-peer-remove: \"bob\" is not registered\n",
    );
}

#[apply(test)]
fn several_go_and_the_oldest_form_too() {
    let room = Room::new();
    install(&room);
    let done = remove(&room, ["old", "bob2", "nobody", "bob2", "--json"]);
    assert_eq!((done.status, done.stderr.as_str()), (0, ""));
    let lines: Vec<serde_json::Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["action"].as_str().unwrap()).collect::<Vec<_>>(),
        ["removed", "removed", "absent"]
    );
    assert_eq!(
        (&lines[0]["runtimes"], &lines[0]["cwd"]),
        (&serde_json::json!(["telegram"]), &"/nowhere".into())
    );
    assert_eq!(lines[1]["purgedState"], serde_json::json!(["claude-bob2.stopped"]));
    remove(&room, ["bob", "-q"]).expect(0, &remove_text(&room), "");
    assert_eq!(registry(&room), "{\n  \"version\": 2,\n  \"peers\": [],\n  \"extra\": [1,2]\n}\n");
}

fn remove_text(room: &Room) -> String {
    format!(
        "removed \"bob\" from the registry\nlaunchd plist: none\n\
         memory unprovision: not run, nor codex trust entry, codex hooks trust: they are iapeer's own\n\
         lifecycle state purged: claude-bob.idle-reaped, claude-bob.queue, claude-bob.stopped, \
         claude-bob.topic, codex-bob.session, gemini-bob.deaths\n\
         folder kept: {} (remove never deletes peer data — `rm -rf` it yourself if it was a throwaway)\n",
        room.text("home/bob")
    )
}

#[apply(test)]
fn nothing_is_made_where_nothing_is() {
    let room = Room::new();
    remove(&room, ["bob"]).expect(0, "\"bob\" not registered — no-op\n", "");
    assert!(!room.path("root").exists());
    std::fs::create_dir(room.path("root")).unwrap();
    remove(&room, ["bob"]).expect(0, "\"bob\" not registered — no-op\n", "");
    assert!(!room.path("root/peers-profiles.json").exists());
    for bad in ["", "../x", "Bob", "a/b", "-x", ".", "a b", "x.y"] {
        let done = remove(&room, ["--", bad]);
        assert_eq!((done.status, done.stdout.as_str()), (125, ""), "{bad}: {done:?}");
    }
    remove(&room, ["Bob"]).failed_with(2, "is not the name of a peer");
    remove(&room, []).failed_with(2, "required arguments");
    finish(
        command(&room)
            .arg("bob")
            .env("IAPEER_TEST_SANDBOX", "1")
            .env("HOME", room.path(""))
            .env("IAPEER_ROOT", room.path(".iapeer")),
    )
    .failed_with(2, "the root is the real one");
}

#[apply(test)]
fn a_dry_run_tells_and_does_nothing() {
    let room = Room::new();
    install(&room);
    let done = remove(&room, ["bob", "--dry-run"]);
    assert_eq!(done.status, 0);
    assert!(
        done.stdout.starts_with("would remove \"bob\" from the registry\n")
            && done.stdout.contains("would purge: claude-bob.idle-reaped, "),
        "{done:?}"
    );
    assert_eq!(remove(&room, ["bob", "-n", "--json"]).json()["dryRun"], true);
    assert_eq!((registry(&room), states(&room).len()), (REGISTRY.replace("CWD", &room.text("home/bob")), 9));
    assert!(!room.path("root/peers-profiles.lock").exists() && !room.path("root/state/removed").exists());
}

/// A session of its name, or its supervisor; not a server without such a session, nor another process with
/// the supervisor's pid.
#[apply(test)]
fn who_lives_is_not_removed() {
    let room = Room::new();
    install(&room);
    let before = registry(&room);
    let live = "baa-peer-remove: remove: \"bob\" is LIVE on codex — removing its registry record \
         would orphan the running session from routing; stop it first or pass --force\n";
    let server = Tmux::start_at(&room, "root/socks/tmux-iap-codex-bob.sock", "codex-bob");
    remove(&room, ["bob"]).expect(1, "", live);
    assert_eq!(remove(&room, ["bob", "--json"]).json()["action"], "refused-live");
    drop(server);
    let other = Tmux::start_at(&room, "root/socks/tmux-iap-claude-bob.sock", "something-else");
    let supervisor = "root/state/supervisor/codex-bob.pid";
    let own = std::process::id().to_string();
    room.write(supervisor, &own);
    remove(&room, ["bob"]).expect(1, "", live);
    needs("ps");
    let lstart = Command::new("ps").args(["-o", "lstart=", "-p", &own]).output().unwrap();
    room.write(supervisor, &format!("{own} {}", String::from_utf8_lossy(&lstart.stdout).trim()));
    remove(&room, ["bob"]).expect(1, "", live);
    assert_eq!((registry(&room), states(&room).len()), (before, 9));
    for stale in [
        format!("{own} Thu Jan  1 00:00:00 1970"),
        "999999999".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ] {
        room.write(supervisor, &stale);
        let done = remove(&room, ["bob", "-n"]);
        assert_eq!(done.status, 0, "{stale}: {done:?}");
    }
    room.write(supervisor, &own);
    let done = remove(&room, ["bob", "--force", "-q"]);
    assert_eq!(
        (done.status, registry(&room).as_str(), states(&room)),
        (0, BOB_GONE, OTHERS.map(str::to_owned).to_vec()),
        "{done:?}"
    );
    drop(other);
}

#[apply(test)]
fn a_held_wake_lock_refuses_and_a_stale_one_goes() {
    let room = Room::new();
    install(&room);
    let lock = room.path("root/state/lifecycle/claude-bob.wake.lock.lock");
    std::fs::create_dir(&lock).unwrap();
    let done = remove(&room, ["bob"]);
    done.failed_with(1, "\"bob\" is just being waked on claude (its wake lock is held)");
    assert_eq!(remove(&room, ["bob", "--json"]).json()["reason"], "waking");
    std::fs::File::open(&lock).unwrap().set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    assert_eq!(remove(&room, ["bob", "-q"]).status, 0);
    assert_eq!(states(&room), OTHERS);
}

#[apply(test)]
fn a_planted_link_is_removed_and_not_followed() {
    let room = Room::new();
    install(&room);
    room.write("precious/file", "x");
    symlink(room.path("precious"), room.path("root/state/lifecycle/claude-bob.planted")).unwrap();
    symlink(room.path("precious"), room.path("root/state/lifecycle/claude-bob.queue/planted")).unwrap();
    assert_eq!(remove(&room, ["bob", "-q"]).status, 0);
    assert_eq!(states(&room), OTHERS);
    assert!(room.path("precious/file").exists());
    // The directory itself, put elsewhere by a link, is not entered.
    let room = Room::new();
    install(&room);
    std::fs::rename(room.path("root/state/lifecycle"), room.path("elsewhere")).unwrap();
    symlink(room.path("elsewhere"), room.path("root/state/lifecycle")).unwrap();
    let before = registry(&room);
    remove(&room, ["bob", "-q"]).failed_with(1, "/root/state/lifecycle' is a link");
    assert!(room.path("elsewhere/claude-bob.stopped").exists() && registry(&room) == before);
    // Once the directory is as it should be, the same command does it.
    std::fs::remove_file(room.path("root/state/lifecycle")).unwrap();
    std::fs::rename(room.path("elsewhere"), room.path("root/state/lifecycle")).unwrap();
    assert_eq!(remove(&room, ["bob", "-q"]).status, 0);
    assert_eq!(states(&room), OTHERS);
}

#[apply(test)]
fn a_registry_that_cannot_be_trusted_stays_as_it_is() {
    let room = Room::new();
    let path = install(&room);
    let good = registry(&room);
    let cases = [
        (
            good[..100].to_owned(),
            "corrupt",
            "peers-profiles.json corrupted, restore from backup or delete to start fresh: ",
        ),
        (String::new(), "corrupt", "corrupted"),
        (good.replace("\"bob2\"", "\"bob\""), "corrupt", "'bob' is there twice"),
        (good.replace("/nowhere", ""), "corrupt", "has no cwd"),
        (
            good.replace("\"version\": 2", "\"version\": 3"),
            "newer-version",
            "version 3, newer than what is known here",
        ),
    ];
    for (text, why, words) in cases {
        std::fs::write(&path, &text).unwrap();
        remove(&room, ["bob"]).failed_with(1, words);
        assert_eq!(remove(&room, ["bob", "--json"]).json()["reason"], why);
        assert_eq!((registry(&room), states(&room).len()), (text, 9));
    }
    std::fs::write(&path, b"{\"peers\":[{\"personality\":\"bob\xff\"}]}").unwrap();
    remove(&room, ["bob"]).failed_with(1, "it is not UTF-8");
    std::fs::write(&path, good.replace("\"version\": 2", "\"version\": 3")).unwrap();
    assert_eq!(remove(&room, ["bob", "--force", "-q"]).status, 0);
    assert_eq!(registry(&room), BOB_GONE.replace("\"version\": 2", "\"version\": 3"));
    // Read-only is a word to everybody, root too.
    std::fs::write(&path, &good).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    remove(&room, ["bob"]).failed_with(1, "it is read-only");
    assert_eq!(registry(&room), good);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    remove(&room, ["bob"]).failed_with(1, "cannot read");
    // Only the forced removal has purged anything.
    assert_eq!(states(&room), OTHERS);
}

#[apply(test)]
fn a_linked_registry_is_not_followed() {
    let room = Room::new();
    install(&room);
    std::fs::rename(room.path("root/peers-profiles.json"), room.path("dotfiles.json")).unwrap();
    symlink(room.path("dotfiles.json"), room.path("root/peers-profiles.json")).unwrap();
    let before = registry(&room);
    remove(&room, ["bob"]).failed_with(1, "/root/peers-profiles.json' is a link");
    assert!(registry(&room) == before && room.path("root/peers-profiles.json").is_symlink());
}

#[apply(test)]
fn state_can_be_kept_and_what_was_left_can_be_purged() {
    let room = Room::new();
    install(&room);
    remove(&room, ["bob", "--purge-only"])
        .failed_with(1, "\"bob\" is registered; --purge-only is for what a removed peer has left");
    let done = remove(&room, ["bob", "--keep-state", "-q"]);
    assert!(
        done.status == 0 && done.stdout.contains("lifecycle state left: claude-bob.idle-reaped, "),
        "{done:?}"
    );
    assert_eq!(states(&room).len(), 9);
    let done = remove(&room, ["bob"]);
    assert!(
        done.stdout.contains("not registered — no-op\nlifecycle state left: ")
            && done.stderr.contains("--purge-only removes it"),
        "{done:?}"
    );
    let lock = room.path("root/state/lifecycle/claude-bob.wake.lock.lock");
    std::fs::create_dir(&lock).unwrap();
    remove(&room, ["bob", "--purge-only"]).failed_with(1, "it lives or is waked on claude");
    std::fs::remove_dir(&lock).unwrap();
    remove(&room, ["bob", "--purge-only", "--keep-state"]).failed_with(2, "cannot be used with");
    let purged = "lifecycle state purged: claude-bob.idle-reaped, claude-bob.queue, claude-bob.stopped, \
         claude-bob.topic, codex-bob.session, gemini-bob.deaths\n";
    remove(&room, ["bob", "--purge-only", "-n", "-q"]).expect(
        0,
        &purged.replace("purged", "would purge"),
        "",
    );
    remove(&room, ["bob", "--purge-only", "-q"]).expect(0, purged, "");
    assert_eq!(states(&room), OTHERS);
}

fn agent(room: &Room, key: &str) -> PathBuf {
    room.write(
        "agents/com.iapeer.bob.plist",
        &format!(
            "<plist version=\"1.0\"><dict><key>Label</key><string>com.iapeer.bob</string>\
             <key>ProgramArguments</key><array><string>/bin/sleep</string><string>1000</string></array>\
             <key>RunAtLoad</key><true/>{key}</dict></plist>"
        ),
    )
}

/// With the model of launchd in the place of launchctl.
fn with_launchd(room: &Room) -> Command {
    let mut command = command(room);
    command
        .env("IAPEER_LAUNCHAGENTS_DIR", room.path("agents"))
        .env("PATH", format!("{}:/usr/bin:/bin", room.text("launchd/bin")));
    command
}

#[apply(test)]
fn a_foreign_job_refuses_and_an_owned_one_goes_first() {
    let room = Room::new();
    let _launchd = Launchd::start(&room, &[]);
    install(&room);
    let plist = agent(&room, "");
    let done = finish(with_launchd(&room).arg("bob"));
    done.failed_with(
        1,
        "com.iapeer.bob.plist is not iapeer's (no com.iapeer.managed); --force removes the record and \
         leaves it",
    );
    assert_eq!(
        finish(with_launchd(&room).args(["bob", "--json"])).json()["action"],
        "refused-foreign-launchd"
    );
    room.write("agents/com.iapeer.bob.plist", "not a plist");
    assert_eq!(finish(with_launchd(&room).arg("bob")).status, 1);
    assert_eq!((registry(&room), states(&room).len()), (REGISTRY.replace("CWD", &room.text("home/bob")), 9));
    let done = finish(with_launchd(&room).args(["bob", "-q", "--force"]));
    assert!(done.status == 0 && done.stdout.contains("launchd plist: skipped-foreign "), "{done:?}");
    assert!(plist.exists());
    install(&room);
    agent(&room, "<key>com.iapeer.managed</key><true/>");
    let done = finish(with_launchd(&room).args(["bob", "-q"]));
    assert!(
        done.status == 0 && done.stdout.contains("launchd plist: not loaded + plist removed\n"),
        "{done:?}"
    );
    assert!(!plist.exists());
}

#[apply(test)]
fn a_loaded_job_is_booted_out() {
    let room = Room::new();
    let launchd = Launchd::start(&room, &[]);
    install(&room);
    let plist = agent(&room, "<key>com.iapeer.managed</key><string>1</string>");
    let domain = format!("gui/{}", nix::unistd::geteuid());
    let loaded = launchd.call(&["bootstrap", &domain, &plist.to_string_lossy()]);
    assert_eq!(loaded.status, 0, "{loaded:?}");
    let done = finish(with_launchd(&room).args(["bob", "-q"]));
    assert!(
        done.status == 0 && done.stdout.contains("launchd plist: booted out + plist removed\n"),
        "{done:?}"
    );
    until("the job is gone", || launchd.call(&["print", &format!("{domain}/com.iapeer.bob")]).status != 0);
    install(&room);
    agent(&room, "<key>com.iapeer.managed</key><true/>");
    let done = finish(with_launchd(&room).args(["bob", "-q"]).env("IAPEER_TEST_SANDBOX", "1"));
    assert!(done.stdout.contains("launchd plist: skipped-sandbox + plist removed\n"), "{done:?}");
}

#[apply(test)]
fn a_lock_that_is_held_is_waited_for_and_a_stale_one_is_taken() {
    let room = Room::new();
    install(&room);
    let lock = room.path("root/peers-profiles.lock.lock");
    std::fs::create_dir(&lock).unwrap();
    let done = remove(&room, ["bob", "--wait", "100ms"]);
    done.failed_with(1, "Lock file is already being held");
    assert_eq!(remove(&room, ["bob", "--wait", "0", "--json"]).json()["reason"], "locked");
    // A second ahead of now, as proper-lockfile may set it, is fresh.
    std::fs::File::open(&lock).unwrap().set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    remove(&room, ["bob", "--wait", "0"]).failed_with(1, "already being held");
    let mut waits: Child =
        command(&room).args(["bob", "-q", "--wait", "50s"]).stdout(Stdio::null()).spawn().unwrap();
    std::fs::remove_dir(&lock).unwrap();
    assert!(waits.wait().unwrap().success());
    std::fs::create_dir(&lock).unwrap();
    std::fs::File::open(&lock)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_millis(10_500))
        .unwrap();
    assert_eq!(remove(&room, ["bob2", "-q", "--wait", "0"]).status, 0);
    assert!(!lock.exists());
    // One that is not empty can be taken by nobody (facts B2.8); it is told of, not waited for.
    room.write("root/peers-profiles.lock.lock/x", "");
    std::fs::File::open(&lock).unwrap().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    remove(&room, ["old", "--wait", "0"])
        .failed_with(1, "it is stale and cannot be removed: directory not empty");
}
