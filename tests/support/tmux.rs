//! Real tmux servers.

use super::{Room, needs, until};
use std::process::{Command, Stdio};

pub struct Tmux {
    pub sock: String,
    pub pid: u32,
}

impl Tmux {
    /// A server with one session on iapeer's socket for `identity`, in the room.
    pub fn start(room: &Room, identity: &str) -> Tmux {
        Tmux::start_at(room, &format!("tmux-iap-{identity}.sock"), identity)
    }

    pub fn start_at(room: &Room, path: &str, session: &str) -> Tmux {
        needs("tmux");
        let sock = room.text(path);
        std::fs::create_dir_all(room.path(path).parent().unwrap()).unwrap();
        let mut server = Tmux { sock, pid: 0 };
        let mark = format!("HOME={}", room.text("home"));
        let started = Command::new("env")
            .args([
                "-i",
                "PATH=/usr/bin:/bin",
                &mark,
                "tmux",
                "-S",
                &server.sock,
                "-f",
                "/dev/null",
                "new-session",
                "-d",
                "-s",
                session,
                "sleep",
                "1000",
            ])
            .stdin(Stdio::null())
            .status();
        assert!(started.unwrap().success(), "tmux does not start");
        server.pid = server.tmux(&["display-message", "-p", "#{pid}"]).trim().parse().unwrap();
        server
    }

    /// Runs a command of tmux; what it printed.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.sock])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The client that waits on the channel, once it does.
    pub fn waiter(&self) -> u32 {
        let mut found = 0;
        until("a client waits", || {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                    continue;
                };
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let text = String::from_utf8_lossy(&words);
                // In its event loop it has said all that it has to say.
                let waits = || {
                    std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("poll")
                };
                if text.contains(&format!("{}\0wait-for", self.sock)) && waits() {
                    found = pid;
                }
            }
            found != 0
        });
        // A round trip of our own is served after it.
        self.tmux(&["display-message", "-p", ""]);
        found
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-S", &self.sock, "kill-server"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
