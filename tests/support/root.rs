//! Root directories of their own for the programs: with nothing in it, or with a name service that has
//! modules.

use super::{Done, Room, binary, copy_program, finish, needs, needs_root, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All that `make install` installs.
pub const PROGRAMS: [&str; 8] = [
    "baa-reload",
    "baa-healthwait",
    "baa-run",
    "baa-canary",
    "baa-lease",
    "baa-control",
    "baa-daemons",
    "baa-peer-remove",
];

pub struct Root<'a> {
    pub room: &'a Room,
    /// Where it is, seen from outside.
    pub path: PathBuf,
}

impl<'a> Root<'a> {
    /// The programs and nothing else: no /etc, no /proc, no /dev. Only static programs run there.
    pub fn empty(room: &'a Room) -> Root<'a> {
        needs_root();
        needs("chroot");
        if PROGRAMS.iter().any(|program| interpreted(&binary(program))) {
            skip("the programs under test are dynamic: nothing of them runs in an empty root");
        }
        Root { room, path: room.path("root") }.with_programs()
    }

    /// A small Debian with systemd's modules of the name service; see `nss-root`.
    pub fn with_modules(room: &'a Room) -> Root<'a> {
        needs_root();
        for program in ["chroot", "apt-get", "dpkg-deb"] {
            needs(program);
        }
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = room.path("root");
        let cache = here.join("target/nss-root");
        let made = {
            // One fetches, the others find it.
            static FETCHING: std::sync::Mutex<()> = std::sync::Mutex::new(());
            let _alone = FETCHING.lock().unwrap();
            finish(Command::new(here.join("tests/support/nss-root")).arg(cache).arg(&path))
        };
        if made.status != 0 {
            skip("the modules of a name service cannot be fetched (apt-get download)");
        }
        Root { room, path }.with_programs()
    }

    fn with_programs(self) -> Root<'a> {
        std::fs::create_dir_all(&self.path).unwrap();
        for directory in [&self.path, &self.room.dir.path().to_owned()] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(directory, open).unwrap();
        }
        for program in PROGRAMS {
            copy_program(&binary(program), &self.path.join(program));
        }
        self
    }

    /// A file in it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap_or_default()
    }

    /// A program in it, in an empty environment but for PATH, as this user and group.
    pub fn command(&self, who: u32, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command
            .args([&format!("--userspec={who}:{who}"), "--groups="])
            .arg(&self.path)
            .arg(format!("/{program}"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs one as root.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Done {
        finish(&mut self.command(0, program, arguments))
    }
}

impl Drop for Root<'_> {
    /// Whoever has it as the root directory ends with it.
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let within = std::fs::read_link(entry.path().join("root")).is_ok_and(|root| root == self.path);
            if let Some(pid) = pid.filter(|_| within) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}

/// Whether an ELF program asks for an interpreter (PT_INTERP): a dynamic one does.
fn interpreted(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap();
    let number = |at: usize, count: usize| {
        bytes[at..at + count].iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    // The offset, the size and the number of program headers of ELF64 in little endian.
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|header| number(first + header * size, 4) == 3)
}
