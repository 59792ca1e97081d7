//! What `systemctl show` tells of a unit, and what it means (org.freedesktop.systemd1(5)).

use crate::service::{JobEnd, JobState, Phase};
use crate::sys::child::Exit;
use crate::sys::process::{Identity, Pid};
use crate::words::span;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// All that is asked for, at once: each call is a process.
pub(super) const PROPERTIES: &str = "Id,Type,LoadState,LoadError,ActiveState,SubState,MainPID,ControlGroup,\
     NRestarts,Result,ExecMainCode,ExecMainStatus,InvocationID,ExecMainPID,ExecMainExitTimestampMonotonic,\
     ActiveExitTimestampMonotonic,TimeoutStopUSec,RestartUSec,FragmentPath,DropInPaths,NeedDaemonReload,\
     ExecStart,Job,Environment,EnvironmentFiles,RefuseManualStart,RefuseManualStop,RootDirectory,RootImage,\
     BindPaths,BindReadOnlyPaths,StartLimitIntervalUSec,StartLimitBurst,StateChangeTimestampMonotonic,\
     ConditionResult,ConditionTimestampMonotonic,PassEnvironment";

/// How much of a file of variables is read.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The lines of `systemctl show`.
pub(crate) fn properties(shown: &str) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::new();
    for (key, value) in shown.lines().filter_map(|line| line.split_once('=')) {
        match all.get_mut(key) {
            // There is a line for each of them; of the others the last one counts.
            Some(before) if key == "EnvironmentFiles" => *before = format!("{before}\n{value}"),
            _ => drop(all.insert(key.to_owned(), value.to_owned())),
        }
    }
    all
}

/// The environment that the unit's file gives its processes, with the files that it names. A file that we may
/// not read is passed over.
pub(super) fn environment(seen: &HashMap<String, String>) -> Vec<(String, String)> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut all: Vec<_> = words(text("Environment")).iter().filter_map(|word| pair(word)).collect();
    // What a file sets counts more (systemd.exec(5)).
    for file in text("EnvironmentFiles").lines() {
        let path = file.split(" (").next().unwrap_or(file);
        let read = crate::sys::file::read(std::path::Path::new(path), FILE_LIMIT).unwrap_or_default();
        let read = String::from_utf8_lossy(&read);
        let lines = read.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        let unquoted = |(name, value): (String, String)| (name, words(value.trim()).join(" "));
        all.extend(lines.filter_map(pair).map(unquoted));
    }
    all
}

/// What the unit has of the environment of its manager, which `text` tells (systemctl(1), show-environment):
/// of a user's all, of the system's what PassEnvironment= names.
pub(super) fn inherited(text: &str, seen: &HashMap<String, String>, system: bool) -> Vec<(String, String)> {
    let passed = words(seen.get("PassEnvironment").map_or("", String::as_str));
    let all = text.lines().filter_map(|line| line.split_once('='));
    all.filter(|(name, _)| !system || passed.iter().any(|one| one == name))
        .map(|(name, value)| (name.to_owned(), plain(value)))
        .collect()
}

/// A value as systemctl quotes it for a shell: `$'…'` where it must, with escapes as in C.
fn plain(value: &str) -> String {
    let Some(quoted) = value.strip_prefix("$'").and_then(|rest| rest.strip_suffix('\'')) else {
        return value.to_owned();
    };
    let mut plain = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        plain.push(match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            (letter, false) => letter,
        });
    }
    plain
}

/// Whether the unit asks for a condition before it runs (systemd.unit(5)), as its files have it; systemctl
/// does not print them. What cannot be read may hold one.
pub(super) fn has_conditions(seen: &HashMap<String, String>) -> bool {
    let asks = |line: &str| {
        line.split_once('=').is_some_and(|(key, _)| {
            let key = key.trim();
            key.starts_with("Condition") || key == "ExecCondition"
        })
    };
    files(seen).iter().any(|path| match crate::sys::file::read(path, FILE_LIMIT) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).lines().any(asks),
        Err(_) => true,
    })
}

/// The state of a unit, out of its properties (org.freedesktop.systemd1(5)); `None` where there is none.
pub(crate) fn state(seen: &HashMap<String, String>) -> Option<JobState> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    if text("LoadState") == "not-found" && text("ActiveState") != "active" {
        return None;
    }
    let phase = match (text("ActiveState"), text("SubState")) {
        ("active" | "reloading" | "refreshing", _) => Phase::Running,
        ("activating", "auto-restart" | "auto-restart-queued") => Phase::Waiting,
        // Type=notify that is not ready, ExecStartPre=, ExecStartPost=, the run of a oneshot: systemd can
        // still call it failed.
        ("activating", _) => Phase::Starting,
        ("deactivating", _) => Phase::Stopping,
        ("failed", _) => Phase::Failed,
        _ => Phase::Stopped,
    };
    let others = cgroup(text("ControlGroup"));
    // A forking unit without PIDFile= may have no main process that systemd could name; then the oldest one
    // stands for it.
    let oldest = || others.iter().filter_map(|pid| Identity::of(*pid)).min_by_key(|who| who.start);
    let unnamed = text("MainPID") == "0" && phase == Phase::Running && text("SubState") == "running";
    let pid = if unnamed { oldest().map(|who| who.pid) } else { text("MainPID").parse().ok() };
    let skipped = text("ConditionResult") == "no"
        && !matches!(text("ConditionTimestampMonotonic"), "" | "0")
        && phase == Phase::Stopped;
    let more = if skipped { ", a condition of the unit is not met" } else { "" };
    Some(JobState {
        phase,
        word: format!("{} ({}){more}", text("ActiveState"), text("SubState")),
        pid,
        others,
        runs: text("NRestarts").parse().ok(),
        last_exit: (text("Result") != "success" || text("ExecMainCode") != "0")
            .then(|| format!("{}, status {}", text("Result"), text("ExecMainStatus"))),
        exit_timeout: timespan(text("TimeoutStopUSec")),
        throttle: timespan(text("RestartUSec")),
        source: Some(PathBuf::from(text("FragmentPath"))).filter(|path| path.is_absolute()),
        // An inactive unit may be unloaded, and then forgets how its last run ended; but one that failed
        // is kept, as failed. Only of a oneshot is it the good end that nothing runs.
        completed: text("MainPID") == "0"
            && text("Result") == "success"
            && text("Job").is_empty()
            && !skipped
            && match phase {
                Phase::Stopped => text("Type") == "oneshot",
                Phase::Running => text("SubState") != "running",
                _ => false,
            },
        life: Some(text("InvocationID").to_owned()).filter(|id| !id.is_empty()),
        details: Vec::new(),
        cause: None,
    })
}

/// The files that define the unit as it is loaded: its own, and those that add to it.
pub(super) fn files(seen: &HashMap<String, String>) -> Vec<PathBuf> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    let all = std::iter::once(text("FragmentPath").to_owned()).chain(words(text("DropInPaths")));
    all.map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}

/// Whether there are drop-ins that the manager has not read. It sees new files itself (NeedDaemonReload), but
/// not the first one of a unit: it does not look for directories that were not there when it was reloaded.
pub(super) fn has_new_drop_ins(seen: &HashMap<String, String>, system: bool) -> bool {
    let loaded = files(seen);
    let Some(unit) = loaded.first() else { return false };
    let id = seen.get("Id").filter(|id| !id.is_empty()).map(String::as_str);
    let names: Vec<String> = id
        .into_iter()
        .chain(unit.file_name().and_then(|name| name.to_str()))
        .flat_map(drop_in_directories)
        .collect();
    let kind = if system { "system" } else { "user" };
    let common = ["/etc/systemd", "/run/systemd"].map(|root| PathBuf::from(root).join(kind));
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let own = own.filter(|path| !system && path.is_absolute()).map(|path| path.join("systemd/user"));
    let places = unit.parent().map(PathBuf::from).into_iter().chain(common).chain(own);
    let directories = places.flat_map(|place| names.iter().map(move |name| place.join(name)));
    let found = directories.filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    found
        .map(|one| one.path())
        .any(|path| path.extension().is_some_and(|end| end == "conf") && !loaded.contains(&path))
}

/// Where drop-ins of a unit are looked for (systemd.unit(5)): of itself, of all whose names begin as its own
/// does up to a dash, and of its type.
fn drop_in_directories(unit: &str) -> Vec<String> {
    let (stem, kind) = unit.rsplit_once('.').unwrap_or((unit, "service"));
    let (prefix, instance) = stem.find('@').map_or((stem, ""), |at| stem.split_at(at));
    let dashes = prefix.match_indices('-').map(|(at, _)| format!("{}{instance}.{kind}.d", &prefix[..=at]));
    [format!("{unit}.d"), format!("{kind}.d")].into_iter().chain(dashes).collect()
}

/// Whether this is an answer at all, which has the two properties that say what is there, with words that are
/// known. Anything else says nothing of the unit.
pub(super) fn legible(seen: &HashMap<String, String>) -> bool {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    matches!(
        text("LoadState"),
        "stub" | "loaded" | "not-found" | "bad-setting" | "error" | "merged" | "masked"
    ) && matches!(
        text("ActiveState"),
        "active"
            | "reloading"
            | "refreshing"
            | "inactive"
            | "failed"
            | "activating"
            | "deactivating"
            | "maintenance"
    )
}

/// Whether a start now could be refused by the start limit (systemd.unit(5), StartLimitIntervalSec=) unless
/// it is reset before, `now` being the monotonic time. How many starts were counted is not told; but within
/// the interval every start is a change of state.
pub(super) fn may_hit_limit(seen: &HashMap<String, String>, now: Duration) -> bool {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    if text("StartLimitBurst") == "0" || text("StartLimitIntervalUSec") == "0" {
        return false;
    }
    let interval = timespan(text("StartLimitIntervalUSec")).filter(|interval| !interval.is_zero());
    let changed = text("StateChangeTimestampMonotonic").parse().ok().map(Duration::from_micros);
    match (interval, changed) {
        (Some(interval), Some(changed)) => {
            text("Result") == "start-limit-hit" || now.saturating_sub(changed) <= interval
        }
        _ => true,
    }
}

/// How `pid` ended, out of the unit's properties (org.freedesktop.systemd1(5)), if that was its last main
/// process.
///
/// A unit that is stopped leaves "active" before its main process is seen to exit; one whose process ends by
/// itself leaves it after.
pub(crate) fn ended(seen: &HashMap<String, String>, pid: Pid) -> Option<JobEnd> {
    let text = |key: &str| seen.get(key).map_or("", String::as_str);
    let number = |key: &str| text(key).parse::<u64>().unwrap_or(0);
    if text("ExecMainPID") != pid.to_string() {
        return None;
    }
    let status = i32::try_from(number("ExecMainStatus")).ok()?;
    // CLD_EXITED, CLD_KILLED and CLD_DUMPED of <signal.h>.
    let exit = match number("ExecMainCode") {
        1 => Some(Exit::Code(status)),
        2 | 3 => Some(Exit::Signal(status)),
        _ => None,
    };
    let (left, exited) = (number("ActiveExitTimestampMonotonic"), number("ExecMainExitTimestampMonotonic"));
    let stopped =
        (left > 0 && exited > 0 && left < exited) || matches!(text("Result"), "watchdog" | "timeout");
    Some(JobEnd {
        exit,
        stopped,
        words: format!("{} ({}), result {}", text("ActiveState"), text("SubState"), text("Result")),
    })
}

/// All processes of a control group and of those below it.
fn cgroup(path: &str) -> Vec<Pid> {
    if path.is_empty() || path == "/" || path.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    // Pure v2, then the v2 tree of a hybrid machine.
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    let Some(top) = roots.iter().map(|root| PathBuf::from(format!("{root}{path}"))).find(|dir| dir.is_dir())
    else {
        return Vec::new();
    };
    let mut pids = Vec::new();
    let mut open = vec![top];
    while let Some(dir) = open.pop() {
        let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<Pid>().ok()));
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        open.extend(
            below.filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir())).map(|one| one.path()),
        );
    }
    pids
}

/// `1min 30s` as systemd prints it (systemd.time(7)); `infinity` is zero, as launchd's 0.
fn timespan(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    for word in text.split_ascii_whitespace() {
        let cut = word.find(|letter: char| letter.is_ascii_alphabetic())?;
        let number: f64 = word[..cut].parse().ok()?;
        let unit = match &word[cut..] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.saturating_add(Duration::try_from_secs_f64(number * unit).ok()?);
    }
    (!text.is_empty()).then_some(span::bounded(total))
}

/// The words of a property that systemd quotes as a shell would.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped, mut any) = (None, false, false);
    for letter in line.chars() {
        match (letter, quoted) {
            _ if escaped => {
                word.push(letter);
                escaped = false;
            }
            ('\\', Some('"') | None) => escaped = true,
            ('"' | '\'', None) => (quoted, any) = (Some(letter), true),
            (_, Some(mark)) if mark == letter => quoted = None,
            (' ', None) => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn reads_systemds_time_and_quotes() {
        assert_eq!(timespan("1min 30s"), Some(Duration::from_secs(90)));
        assert_eq!(timespan("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(timespan("infinity"), Some(Duration::ZERO));
        assert_eq!(timespan(""), None);
        assert_eq!(words(r#"A=b "C=d e" "F=\"g\"" H="#), ["A=b", "C=d e", "F=\"g\"", "H="]);
    }

    #[test]
    fn a_start_under_way_is_no_run() {
        let phase = |active: &str, sub: &str| {
            let seen = seen(&[("LoadState", "loaded"), ("ActiveState", active), ("SubState", sub)]);
            state(&seen).map(|state| state.phase)
        };
        for (active, sub, expected) in [
            ("active", "running", Phase::Running),
            ("active", "exited", Phase::Running),
            ("reloading", "reload", Phase::Running),
            ("activating", "start", Phase::Starting),
            ("activating", "start-pre", Phase::Starting),
            ("activating", "start-post", Phase::Starting),
            ("activating", "auto-restart", Phase::Waiting),
            ("deactivating", "stop-sigterm", Phase::Stopping),
            ("failed", "failed", Phase::Failed),
            ("inactive", "dead", Phase::Stopped),
        ] {
            assert_eq!(phase(active, sub), Some(expected), "{active} ({sub})");
        }
    }

    #[test]
    fn a_unit_whose_condition_is_not_met_has_not_done_its_work() {
        let mut pairs = vec![
            ("LoadState", "loaded"),
            ("ActiveState", "inactive"),
            ("SubState", "dead"),
            ("MainPID", "0"),
            ("Result", "success"),
            ("ConditionResult", "no"),
            ("ConditionTimestampMonotonic", "0"),
            ("Type", "oneshot"),
        ];
        assert!(state(&seen(&pairs)).unwrap().completed);
        pairs.push(("ConditionTimestampMonotonic", "17"));
        let state = state(&seen(&pairs)).unwrap();
        assert_eq!(
            (state.completed, state.word.as_str()),
            (false, "inactive (dead), a condition of the unit is not met")
        );
    }

    #[test]
    fn nothing_of_a_unit_that_is_no_oneshot_is_no_good_end() {
        let completed = |kind: &str, active: &str, sub: &str| {
            let common = [("LoadState", "loaded"), ("MainPID", "0"), ("Result", "success")];
            let more = [("Type", kind), ("ActiveState", active), ("SubState", sub)];
            state(&seen(&[&common[..], &more[..]].concat())).unwrap().completed
        };
        assert!(completed("oneshot", "inactive", "dead"));
        for kind in ["simple", "exec", "forking", "notify", "dbus", "idle", ""] {
            assert!(!completed(kind, "inactive", "dead"), "{kind}");
            // RemainAfterExit=: systemd calls it active.
            assert!(completed(kind, "active", "exited"), "{kind}");
            assert!(!completed(kind, "active", "running"), "{kind}");
        }
    }

    #[test]
    fn the_environment_of_the_manager_is_the_units_where_it_passes() {
        let text = "A=b\nTOKEN=$'a\\'b\\\\c\\nd'\nPATH=/bin";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let shown = seen(&[("PassEnvironment", "TOKEN OTHER")]);
        assert_eq!(inherited(text, &shown, true), [pair("TOKEN", "a'b\\c\nd")]);
        let all = [pair("A", "b"), pair("TOKEN", "a'b\\c\nd"), pair("PATH", "/bin")];
        assert_eq!(inherited(text, &shown, false), all);
    }

    #[test]
    fn the_files_of_a_unit_are_its_own_and_those_that_add_to_it() {
        let shown =
            seen(&[("FragmentPath", "/a/x.service"), ("DropInPaths", r#"/a/x.d/1.conf "/a/b c.conf""#)]);
        let expected = ["/a/x.service", "/a/x.d/1.conf", "/a/b c.conf"].map(PathBuf::from);
        assert_eq!(files(&shown), expected);
        assert!(files(&seen(&[("FragmentPath", ""), ("DropInPaths", "")])).is_empty());
    }

    #[test]
    fn what_does_not_say_what_is_there_is_no_answer() {
        let loaded = [("LoadState", "loaded"), ("ActiveState", "inactive")];
        assert!(legible(&seen(&loaded)));
        assert!(legible(&seen(&[("LoadState", "not-found"), ("ActiveState", "inactive")])));
        for bad in [&loaded[..1], &loaded[1..], &[], &[("LoadState", "\u{fffd}"), loaded[1]]] {
            assert!(!legible(&seen(bad)), "{bad:?}");
        }
    }

    #[test]
    fn drop_ins_are_looked_for_where_systemd_does() {
        let of = drop_in_directories;
        assert_eq!(of("a-b.service"), ["a-b.service.d", "service.d", "a-.service.d"]);
        assert_eq!(of("t-u@1.service"), ["t-u@1.service.d", "service.d", "t-@1.service.d"]);
        let place = tempfile::tempdir().unwrap();
        let unit = place.path().join("t@.service");
        let shown = seen(&[("Id", "t@1.service"), ("FragmentPath", unit.to_str().unwrap())]);
        for name in ["t@.service.d", "t@1.service.d", "service.d"] {
            assert!(!has_new_drop_ins(&shown, true), "{name}");
            std::fs::create_dir(place.path().join(name)).unwrap();
            std::fs::write(place.path().join(name).join("x.conf"), "").unwrap();
            assert!(has_new_drop_ins(&shown, true), "{name}");
            std::fs::remove_dir_all(place.path().join(name)).unwrap();
        }
    }

    #[test]
    fn the_start_limit_is_reset_only_where_it_can_be_hit() {
        let now = Duration::from_secs(100);
        let may = |interval: &str, changed: &str, result: &str| {
            let pairs = [
                ("StartLimitIntervalUSec", interval),
                ("StartLimitBurst", "5"),
                ("StateChangeTimestampMonotonic", changed),
                ("Result", result),
            ];
            may_hit_limit(&seen(&pairs), now)
        };
        assert!(may("10s", "95000000", "success"));
        assert!(!may("10s", "80000000", "success"));
        assert!(may("10s", "80000000", "start-limit-hit"));
        assert!(!may("0", "99000000", "success"));
        assert!(may("infinity", "1", "success"));
        assert!(may("", "", ""));
    }
}
