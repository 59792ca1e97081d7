//! The model of launchd, running for one test.

use super::{Done, Room, example, finish, until};
use std::process::{Child, Command, Stdio};

pub struct Launchd<'a> {
    pub room: &'a Room,
    child: Child,
}

pub const DOMAIN: &str = "gui/501";

impl<'a> Launchd<'a> {
    pub fn start(room: &'a Room, faults: &[&str]) -> Launchd<'a> {
        let root = room.path("launchd");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::os::unix::fs::symlink(example("launchctl"), root.join("bin/launchctl")).unwrap();
        let child = Command::new(example("launchctl"))
            .arg("serve")
            .env("LAUNCHD_MODEL", &root)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The file is there before anybody listens.
        until("the model is ready", || std::os::unix::net::UnixStream::connect(root.join("socket")).is_ok());
        let launchd = Launchd { room, child };
        launchd.faults(faults);
        launchd
    }

    pub fn call(&self, words: &[&str]) -> Done {
        finish(Command::new(example("launchctl")).args(words).env("LAUNCHD_MODEL", self.room.path("launchd")))
    }

    pub fn faults(&self, faults: &[&str]) {
        let mut words = vec!["model"];
        words.extend(faults);
        let done = self.call(&words);
        assert_eq!(done.status, 0, "{done:?}");
    }

    pub fn bootstrap(&self, label: &str) {
        let done = self.call(&["bootstrap", DOMAIN, &self.room.text(&format!("agents/{label}.plist"))]);
        assert_eq!(done.status, 0, "{done:?}");
    }

    /// The pid of the job, if one runs.
    pub fn pid(&self, label: &str) -> Option<u64> {
        let print = self.call(&["print", &format!("{DOMAIN}/{label}")]).stdout;
        print.lines().find_map(|line| line.strip_prefix("\tpid = ")?.parse().ok())
    }

    pub fn registered(&self, label: &str) -> bool {
        self.call(&["print", &format!("{DOMAIN}/{label}")]).status == 0
    }

    /// `baa-reload` with this launchctl.
    pub fn reload(&self, arguments: &[&str]) -> Command {
        let mut command = self.room.command("baa-reload");
        command.env("PATH", format!("{}:/usr/bin:/bin", self.room.text("launchd/bin")));
        command
            .args(["--manager", "launchd", "--domain", DOMAIN, "--install-dir", &self.room.text("agents")])
            .args(arguments);
        command
    }

    pub fn calls(&self) -> Vec<String> {
        std::fs::read_to_string(self.room.path("launchd/calls"))
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.starts_with("model"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Launchd<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
