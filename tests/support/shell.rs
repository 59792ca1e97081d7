//! A person's shell in a terminal: what it makes of keys.

use super::tmux::Tmux;
use super::{PATIENCE, Room, binary, needs, skip};
use std::path::Path;
use std::time::{Duration, Instant};

/// A shell with the completions of this tree, in the directory `work` of a room.
pub struct Shell {
    tmux: Tmux,
    kind: &'static str,
    cleared: u32,
}

impl Shell {
    /// Starts `kind`, one of bash, zsh and fish.
    pub fn start(room: &Room, kind: &'static str) -> Shell {
        let program = needs(kind);
        let library = "/usr/share/bash-completion/bash_completion";
        if kind == "bash" && !Path::new(library).exists() {
            skip("bash-completion is missing");
        }
        let tmux = Tmux::start_at(room, "tmux.sock", "main");
        let completions = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
        for file in std::fs::read_dir(completions).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            let place = match name.strip_suffix(".bash") {
                Some(program) => format!("share/bash-completion/completions/{program}"),
                None if name.ends_with(".fish") => format!("share/fish/vendor_completions.d/{name}"),
                None => format!("share/zsh/site-functions/{name}"),
            };
            room.write(&place, &std::fs::read_to_string(&file).unwrap());
        }
        let (share, home) = (room.text("share"), room.text("home"));
        room.write(
            "home/.bashrc",
            &format!(
                "source {library}\nPS1='> '\nbind 'set show-all-if-ambiguous on'\n\
                 bind 'set completion-query-items -1'\nbind 'set page-completions off'\n\
                 bind 'set enable-bracketed-paste off'\n"
            ),
        );
        room.write(
            "home/.zshrc",
            &format!(
                "fpath=({share}/zsh/site-functions $fpath)\nautoload -U compinit\n\
                 compinit -u -d {home}/.zcompdump\nPS1='> '\nLISTMAX=0\nsetopt auto_list\n\
                 unsetopt auto_menu list_ambiguous always_last_prompt list_beep prompt_sp\n"
            ),
        );
        room.write(
            "home/.config/fish/config.fish",
            "function fish_prompt\n    echo -n '> '\nend\nset -g fish_greeting\n\
             bind \\cg 'commandline -r \"\"'\n\
             set -g fish_autosuggestion_enabled 0\n",
        );
        std::fs::create_dir_all(room.path("work")).unwrap();
        // What is beside them in the directory of a build is no program.
        std::fs::create_dir_all(room.path("bin")).unwrap();
        for name in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("bins")).unwrap() {
            let name = name.unwrap().file_name().into_string().unwrap();
            std::os::unix::fs::symlink(binary(&name), room.path("bin").join(&name)).unwrap();
        }
        let mut words: Vec<String> =
            ["new-session", "-d", "-s", "shell", "-x", "240", "-y", "150", "-c"].map(str::to_owned).to_vec();
        words.extend([room.text("work"), "env".to_owned(), "-i".to_owned()]);
        words.extend([
            format!("HOME={home}"),
            format!("XDG_DATA_HOME={share}"),
            format!("XDG_STATE_HOME={}", room.text("state")),
            format!("BAA_RUNTIME_DIR={}", room.text("run")),
            format!("PATH={}:/usr/bin:/bin", room.text("bin")),
            "LANG=C.UTF-8".to_owned(),
            "TERM=screen".to_owned(),
            program.to_string_lossy().into_owned(),
        ]);
        tmux.tmux(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let shell = Shell { tmux, kind, cleared: 0 };
        shell.until("the prompt", |screen| screen.trim() == ">");
        shell
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux.tmux(&[&["send-keys", "-t", "shell"], keys].concat());
    }

    fn text(&self, text: &str) {
        self.keys(&["-l", text]);
    }

    fn screen(&self) -> String {
        self.tmux.tmux(&["capture-pane", "-p", "-t", "shell"])
    }

    /// Waits for a screen like that.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "{}: {what}: not on\n{}", self.kind, screen.trim());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An empty line on an empty screen.
    fn clear(&mut self) {
        self.cleared += 1;
        // No signal: it would make a shell lose what is typed after it.
        self.keys(if self.kind == "fish" { &["C-g", "C-g"] } else { &["C-e", "C-u"] });
        self.text(&format!("clear; echo 'mark'-{}\n", self.cleared));
        let mark = format!("mark-{}\n>", self.cleared);
        self.until(&mark, |screen| screen.trim() == mark);
    }

    /// What is offered for `line`, once all of `words` are.
    #[track_caller]
    pub fn offers(&mut self, line: &str, words: &[&str]) -> Vec<String> {
        self.clear();
        self.text(line);
        // At the first one fish shows four rows.
        self.keys(if self.kind == "fish" { &["Tab", "Tab"] } else { &["Tab"] });
        let shown = |screen: &str| -> Vec<String> {
            let below = screen.lines().filter(|row| !row.starts_with("> "));
            below.flat_map(str::split_whitespace).map(str::to_owned).collect()
        };
        let all = |screen: &str| words.iter().all(|word| shown(screen).iter().any(|one| one == word));
        shown(&self.until(&format!("{words:?} for {line:?}"), all))
    }

    /// Asserts that `line` becomes `whole`, and that nothing is listed.
    #[track_caller]
    pub fn completes(&mut self, line: &str, whole: &str) {
        self.clear();
        self.text(line);
        self.keys(&["Tab"]);
        // A key after it: what is before it was decided on by then.
        self.text("Z");
        let wanted = format!("> {whole}Z");
        let screen = self.until(&format!("{wanted:?}"), |screen| {
            screen.lines().any(|row| row.starts_with("> ") && row.trim_end().ends_with('Z'))
        });
        let rows: Vec<&str> = screen.lines().skip(1).filter(|row| !row.trim().is_empty()).collect();
        assert_eq!(rows, [wanted.as_str()], "{}: {line:?}", self.kind);
    }
}
