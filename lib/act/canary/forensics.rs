//! Everything that is found at a death, in a file beside the record: the evidence, the last minute, then the
//! machine.

use crate::act::canary::record::{Death, RecordDirectory};
use crate::act::canary::target::CanaryTarget;
use crate::life;
use crate::sys::child::Spec;
use crate::sys::process::{self, Table, Vitals};
use crate::sys::{cgroup, file, kernel};
use crate::words::{clean, span};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

/// How many processes are listed.
const LISTED: usize = 25;
/// How much of one source is kept.
const SOURCE_LIMIT: usize = 64 * 1024;
/// How long a slow source may take; the record is on the disk by then.
const SOURCE_TIME: Duration = Duration::from_secs(5);

/// Files that are kept as they are.
const FILES: [(&str, &str); 7] = [
    ("meminfo", "/proc/meminfo"),
    ("swaps", "/proc/swaps"),
    ("pressure-memory", "/proc/pressure/memory"),
    ("pressure-cpu", "/proc/pressure/cpu"),
    ("pressure-io", "/proc/pressure/io"),
    ("load", "/proc/loadavg"),
    ("oom-settings", "/proc/sys/vm/overcommit_memory"),
];

/// Commands whose output is kept, on macOS; the first two are iapeer's own sections.
const COMMANDS: [(&str, &[&str]); 3] = [
    ("vm_stat", &["/usr/bin/vm_stat"]),
    ("swapusage", &["/usr/sbin/sysctl", "-n", "vm.swapusage"]),
    ("load", &["/usr/sbin/sysctl", "-n", "vm.loadavg"]),
];

/// What is found about the machine: once for all who died together.
pub struct MachineFacts(String);

/// A title and a text.
pub type Section = (String, String);

impl MachineFacts {
    /// Looks now, at what is quick to see. `full_args` lists arguments too, which may hold secrets.
    pub fn look(directory: &Path, full_args: bool) -> MachineFacts {
        MachineFacts(render(&quick(directory, full_args)))
    }
}

/// Makes the file of a death, with its first line and what is known already. Not synced: the record comes
/// first.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn begin(records: &RecordDirectory, death: &Death, known: &[Section]) -> io::Result<(File, PathBuf)> {
    let directory = records.forensics();
    file::own_dir(&directory)?;
    let path = directory.join(death.file_name());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let head = format!(
        "server-death identity={} ts={} server_pid={} wait_rc=- cause={}\n",
        death.identity,
        death.time(),
        death.pid,
        death.verdict.cause.word()
    );
    file.write_all((head + &render(known)).as_bytes())?;
    Ok((file, path))
}

/// Adds the machine to it, what is quick first, and syncs.
///
/// # Errors
/// Those of write(2) and fsync(2).
pub fn complete(file: &mut File, machine: &MachineFacts, group: Option<&cgroup::Group>) -> io::Result<()> {
    let group = group.map(group_section);
    file.write_all((machine.0.clone() + &render(group.as_slice())).as_bytes())?;
    file.sync_data()
}

/// Adds what takes longer to the files of those who died together, each with its pid.
///
/// # Errors
/// As `complete`.
pub fn add_slow(files: Vec<(i32, File)>) -> io::Result<()> {
    let pids: Vec<i32> = files.iter().map(|(pid, _)| *pid).collect();
    let text = render(&slow(&pids));
    if text.is_empty() {
        return Ok(());
    }
    files
        .into_iter()
        .try_for_each(|(_, mut file)| file.write_all(text.as_bytes()).and_then(|()| file.sync_data()))
}

/// All of it, for a look without a death; of one process, if one is given.
pub fn snapshot(directory: &Path, target: Option<&CanaryTarget>, full_args: bool) -> Vec<Section> {
    let mut all = quick(directory, full_args);
    all.extend(target.and_then(|target| cgroup::Group::of(target.who.pid)).as_ref().map(group_section));
    let pids: Vec<i32> = target.iter().map(|target| target.who.pid.number()).collect();
    all.extend(slow(&pids));
    all
}

fn group_section(group: &cgroup::Group) -> Section {
    ("cgroup".to_owned(), format!("{}\n{}", group.path, group.text().unwrap_or("it is removed".to_owned())))
}

/// The text of a file of forensics.
pub fn render(sections: &[Section]) -> String {
    sections.iter().filter(|(_, body)| !body.trim().is_empty()).fold(
        String::new(),
        |mut text, (title, body)| {
            let _ = writeln!(text, "--- {title}\n{}", body.trim_end());
            text
        },
    )
}

/// The same as JSON.
pub fn json(sections: &[Section]) -> serde_json::Value {
    let all: serde_json::Map<_, _> =
        sections.iter().map(|(title, body)| (title.clone(), body.trim_end().into())).collect();
    serde_json::json!({ "schema": "baa.canary.snapshot/1", "sections": all })
}

fn quick(directory: &Path, full_args: bool) -> Vec<Section> {
    let mut found = Vec::new();
    let mut section = |title: &str, body: &str| found.push((title.to_owned(), body.to_owned()));
    for (title, path) in FILES {
        // What a system does not have is not missed; proc files are no regular files in size only.
        if let Ok(body) = std::fs::read_to_string(path) {
            section(title, &body);
        }
    }
    section("ps-top-rss", &top(full_args));
    for path in [Path::new("/"), directory] {
        if let Some((all, free)) = kernel::disk(path) {
            section(
                &format!("disk {}", path.display()),
                &format!("{} MiB in all, {} MiB free", all >> 20, free >> 20),
            );
        }
    }
    let told = |span: Option<Duration>| span.map_or("unknown".to_owned(), span::show);
    let boot = kernel::boot().unwrap_or("unknown".to_owned());
    section(
        "uptime",
        &format!("boot {boot}, up {}, of it suspended {}", told(kernel::uptime()), told(kernel::suspended())),
    );
    found
}

/// The processes with most memory in use.
fn top(full_args: bool) -> String {
    let mut all: Vec<_> = Table::read()
        .entries()
        .iter()
        .filter_map(|entry| Some((Vitals::of(entry.identity.pid)?.resident, entry.identity, entry.parent)))
        .collect();
    all.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.pid.cmp(&other.1.pid)));
    let mut text = String::from("pid ppid rss-kib elapsed command\n");
    for (resident, who, parent) in all.into_iter().take(LISTED) {
        let elapsed = who
            .started_at()
            .and_then(|start| SystemTime::now().duration_since(start).ok())
            .map_or("-".to_owned(), span::show);
        let words = if full_args { process::arguments(who.pid) } else { None };
        let words = words.map(|words| {
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        });
        let words = words.or_else(|| process::name(who.pid)).unwrap_or_default();
        let command: String = clean::line(&words).chars().take(1000).collect();
        let _ = writeln!(text, "{} {parent} {resident} {elapsed} {command}", who.pid);
    }
    text
}

fn slow(pids: &[i32]) -> Vec<Section> {
    let mut found = Vec::new();
    let mut section = |title: &str, body: &str| found.push((title.to_owned(), body.to_owned()));
    if cfg!(target_os = "macos") {
        for (title, words) in COMMANDS {
            section(title, &output(words));
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for (title, directory) in [
            ("diagnosticreports-user", home.join("Library/Logs/DiagnosticReports")),
            ("diagnosticreports-system", PathBuf::from("/Library/Logs/DiagnosticReports")),
        ] {
            section(title, &newest(&directory));
        }
    } else if Path::new("/run/log/journal").is_dir() || Path::new("/var/log/journal").is_dir() {
        // What the kernel said, and whatever was said by or about the process.
        let base =
            ["journalctl", "--quiet", "--no-pager", "--output=short-iso", "--lines=200", "--since=-2min"];
        let kernel: Vec<&str> = base.iter().copied().chain(["--dmesg"]).collect();
        section("journal-kernel", &output(&kernel));
        let of: Vec<String> = pids
            .iter()
            .take(20)
            .flat_map(|pid| [format!("_PID={pid}"), format!("COREDUMP_PID={pid}")])
            .collect();
        let alternatives = of
            .iter()
            .map(String::as_str)
            .chain(["_COMM=systemd", "_COMM=earlyoom"])
            .flat_map(|one| ["+", one])
            .skip(1);
        let words: Vec<&str> = base.iter().copied().chain(alternatives).collect();
        section("journal", &output(&words));
    }
    found
}

fn output(words: &[&str]) -> String {
    let Some((program, arguments)) = words.split_first() else { return String::new() };
    match life::run(
        Spec::new(*program, arguments),
        Instant::now() + SOURCE_TIME,
        SOURCE_LIMIT,
        &AtomicBool::new(false),
    ) {
        Ok(finished) if finished.exit.is_some() => finished.stdout,
        Ok(_) => format!("{program} did not return in time"),
        Err(error) => error.to_string(),
    }
}

/// The newest reports of crashes and of jetsam, as iapeer lists them.
fn newest(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            Some((entry.metadata().ok()?.modified().ok()?, entry.file_name().to_string_lossy().into_owned()))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found
        .into_iter()
        .take(10)
        .map(|(time, name)| format!("{} {name}\n", crate::words::stamp::seconds(time)))
        .collect()
}
