//! A group as its file says: read once, checked whole before anything starts.

mod text;

use crate::act::group::entry::{
    EntryKind, EntryReadiness, EntryRules, Intervals, RestartPauses, RestartWhen,
};
use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::probe::lineage::Lineage;
use crate::probe::liveness::Liveness;
use crate::service::job::Job;
use crate::service::recipe::{self, Recipe};
use crate::service::target::{self, TargetOptions};
use crate::sys::child::{Limit, Spec};
use crate::sys::process::Pid;
use crate::sys::signal::{Signal, SignalNumber};
use crate::sys::user::{self, Credentials};
use crate::sys::{rights, trust};
use crate::words::error::{Error, Result, brief};
use crate::words::exit::Status;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use text::{
    BoundText, Document, EntryText, EveryText, IntervalText, LimitText, OnFailure, ReadyText, RestartTable,
    RestartText, SignalText, SpanValue, WhenText,
};

/// The largest file of a group.
const LIMIT: u64 = 16 * 1024 * 1024;

/// An entry, checked.
pub struct PlanEntry {
    /// What the machine knows of it.
    pub rules: EntryRules,
    /// What is started; `None` for a check.
    recipe: Option<Recipe>,
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
    /// Whom a command runs as; a job says it itself.
    user: Option<Credentials>,
    rights: Rights,
    /// What ends it.
    pub stop_signal: SignalNumber,
    /// What all of it gets when that has not helped in time, before it is killed.
    pub kill_signal: Option<SignalNumber>,
    /// How long an answer to a probe may take.
    pub probe_timeout: Duration,
    /// As it stands in the file, to be compared at a reload.
    text: EntryText,
}

impl PlanEntry {
    /// The start of one instance.
    ///
    /// # Errors
    /// As `Recipe::spec`.
    pub fn spec(&self) -> Result<Spec> {
        let recipe = self.recipe.as_ref().ok_or_else(|| Error::bug("a check has no command"))?;
        let mut spec = recipe.spec()?;
        if let Some(user) = &self.user {
            recipe::become_user(&mut spec, user);
        }
        spec.no_new_privileges = self.rights.no_new_privileges;
        spec.capabilities = self.rights.capabilities;
        spec.limits.extend(&self.rights.limits);
        spec.env.extend(self.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        if let Some(cwd) = &self.cwd {
            spec.dir = Some(cwd.clone());
        }
        Ok(spec)
    }

    /// A question of how it fares, for the life of it whose process is `main`, which must be who answers, or
    /// an ancestor of who does; a check has none. One that was cancelled is asked no more.
    ///
    /// # Errors
    /// As `target::parse`.
    pub fn question(&self, main: Option<Pid>) -> Result<Option<Arc<dyn Probe>>> {
        self.text
            .ready
            .as_ref()
            .map(|ready| question(&ready.probe, main.filter(|_| !ready.anyone)))
            .transpose()
    }

    /// The same, of whether it goes on to serve.
    ///
    /// # Errors
    /// As `target::parse`.
    pub fn live_question(&self, main: Pid) -> Result<Option<Arc<dyn Probe>>> {
        let probe = self.text.live.as_ref().and_then(|live| live.target(self.text.ready.as_ref()));
        probe.map(|(probe, anyone)| question(probe, Some(main).filter(|_| !anyone))).transpose()
    }

    /// Whether `other` says the same of it.
    pub fn same(&self, other: &PlanEntry) -> bool {
        let ordered = |text: &EntryText| {
            let mut text = text.clone();
            text.requires.sort();
            text
        };
        self.rules.kind == other.rules.kind && ordered(&self.text) == ordered(&other.text)
    }
}

/// A group, checked: every need is met by an entry, and none needs itself.
pub struct GroupPlan {
    /// The entries, each after those it needs.
    pub entries: Vec<PlanEntry>,
}

impl GroupPlan {
    /// Reads the file of a group. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// 66, 74, 77 where it cannot be read; 65 where it is no TOML of this kind; 78 where what it says makes
    /// no sense.
    pub fn read(path: &Path) -> Result<GroupPlan> {
        let bytes = trust::read_setting(path, LIMIT)
            .map_err(|cause| Error::io(format!("cannot read {}", path.display()), &cause))?;
        let name = path.display();
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::new(Status::Malformed, format!("{name} is not UTF-8")))?;
        let document: Document =
            toml::from_str(&text).map_err(|error| malformed(&name.to_string(), &text, &error))?;
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let wrong = |why: String| Error::new(Status::BadConfig, format!("{name}: {why}"));
        let all = [
            (EntryKind::Daemon, document.daemon),
            (EntryKind::Oneshot, document.oneshot),
            (EntryKind::Check, document.check),
        ];
        let texts: Vec<(EntryKind, EntryText)> = all
            .into_iter()
            .flat_map(|(kind, texts)| texts.into_iter().map(move |text| (kind, text)))
            .collect();
        if texts.is_empty() {
            return Err(wrong("there is no [[daemon]], [[oneshot]] or [[check]] in it".to_owned()));
        }
        let start_order = start_order(&texts).map_err(wrong)?;
        let position =
            |id: &String| start_order.iter().position(|number| texts[*number].1.id == *id).unwrap_or(0);
        let entries = start_order.iter().map(|number| {
            let (kind, text) = &texts[*number];
            let needs = text.requires.iter().map(position).collect();
            entry(*kind, text, needs, beside)
                .map_err(|error| error.context(format!("{name}: entry '{}'", text.id)))
        });
        Ok(GroupPlan { entries: entries.collect::<Result<_>>()? })
    }

    /// The waves in which they start: each needs only what is in those before.
    pub fn waves(&self) -> Vec<Vec<usize>> {
        let mut depth = vec![0; self.entries.len()];
        let mut waves: Vec<Vec<usize>> = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            depth[number] = entry.rules.needs.iter().map(|need| depth[*need] + 1).max().unwrap_or(0);
            if waves.len() <= depth[number] {
                waves.push(Vec::new());
            }
            waves[depth[number]].push(number);
        }
        waves
    }

    /// The waves in which they stop: none is needed by what is in those after.
    pub fn stop_waves(&self) -> Vec<Vec<usize>> {
        let mut depth = vec![0; self.entries.len()];
        for (number, entry) in self.entries.iter().enumerate().rev() {
            for need in &entry.rules.needs {
                depth[*need] = depth[*need].max(depth[number] + 1);
            }
        }
        let last = depth.iter().max().map_or(0, |last| last + 1);
        (0..last).map(|wave| (0..depth.len()).filter(|number| depth[*number] == wave).collect()).collect()
    }
}

/// The ids in the file of a group, in their order; of one that makes no sense as a whole too, while somebody
/// writes it.
pub fn ids(path: &Path) -> Vec<String> {
    let text = trust::read_setting(path, LIMIT).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let table = text.and_then(|text| toml::from_str::<toml::Table>(&text).ok()).unwrap_or_default();
    let kinds = ["daemon", "oneshot", "check"].into_iter().filter_map(|kind| table.get(kind)?.as_array());
    kinds.flatten().filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned())).collect()
}

/// A line for what toml says in several.
fn malformed(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let at = line.map(|line| format!(":{line}")).unwrap_or_default();
    Error::new(Status::Malformed, format!("{name}{at}: {}", brief(error.message())))
}

/// The numbers of the entries, each after those it needs; otherwise in the order of the file.
fn start_order(texts: &[(EntryKind, EntryText)]) -> std::result::Result<Vec<usize>, String> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, (_, text)) in texts.iter().enumerate() {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if text.id.is_empty() {
            return Err("an entry has an empty id".to_owned());
        }
        if text.id.len() > 128 || !text.id.bytes().all(good) || text.id.starts_with(['.', '-']) {
            return Err(format!(
                "'{}' is no id: letters, digits, '.', '_', '@' and '-', 128 at most",
                brief(&text.id)
            ));
        }
        if numbers.insert(&text.id, number).is_some() {
            return Err(format!("duplicate id '{}'", text.id));
        }
    }
    for (_, text) in texts {
        for need in &text.requires {
            if !numbers.contains_key(need.as_str()) {
                return Err(format!("entry '{}' requires '{}', which is not there", text.id, brief(need)));
            }
        }
    }
    // Depth first, without recursion: a chain may be long.
    let (mut sorted, mut done, mut open) = (Vec::new(), vec![false; texts.len()], vec![false; texts.len()]);
    for first in 0..texts.len() {
        let mut path: Vec<(usize, usize)> = if done[first] { Vec::new() } else { vec![(first, 0)] };
        while let Some((number, next)) = path.last_mut() {
            let here = *number;
            open[here] = true;
            match texts[here].1.requires.get(*next) {
                Some(need) => {
                    *next += 1;
                    let need = numbers.get(need.as_str()).copied().unwrap_or(here);
                    if open[need] {
                        let from = path.iter().position(|(number, _)| *number == need).unwrap_or(0);
                        let ids: Vec<&str> = path[from..]
                            .iter()
                            .map(|(number, _)| *number)
                            .chain([need])
                            .map(|number| texts[number].1.id.as_str())
                            .collect();
                        return Err(format!("a cycle: {}", ids.join(" requires ")));
                    }
                    if !done[need] {
                        path.push((need, 0));
                    }
                }
                None => {
                    (done[here], open[here]) = (true, false);
                    sorted.push(here);
                    path.pop();
                }
            }
        }
    }
    Ok(sorted)
}

fn entry(kind: EntryKind, text: &EntryText, needs: Vec<usize>, beside: &Path) -> Result<PlanEntry> {
    let wrong = |why: &str| Error::new(Status::BadConfig, why.to_owned());
    let recipe = match (kind, &text.command, &text.job) {
        (EntryKind::Check, None, None) => None,
        (EntryKind::Check, ..) => return Err(wrong("a check has no command")),
        (_, Some(words), None) if !words.is_empty() => {
            Some(Recipe::Command(words.iter().map(OsString::from).collect()))
        }
        (_, None, Some(path)) => {
            let mut job = Job::read(&beside.join(path))?;
            job.user = text.user.clone().or(job.user);
            job.check(&job.label)?;
            Some(Recipe::Job(Box::new(job)))
        }
        _ => return Err(wrong("it needs a command, or the job of a property list, and not both")),
    };
    if kind == EntryKind::Check && text.ready.is_none() {
        return Err(wrong("a check needs ready.probe"));
    }
    if kind == EntryKind::Oneshot && text.ready.is_some() {
        return Err(wrong("a oneshot is ready when it has exited with 0; it takes no ready"));
    }
    let restart = restart(kind, text.restart.as_ref());
    if kind == EntryKind::Oneshot && restart.when == RestartWhen::Always {
        return Err(wrong("a oneshot that has done its work is done; restart takes on-failure or never"));
    }
    let ready = text.ready.as_ref();
    let probe_timeout = ready.and_then(|ready| ready.timeout).map_or(Duration::from_secs(10), |span| span.0);
    if probe_timeout.is_zero() {
        return Err(wrong("ready.timeout must be more than 0"));
    }
    ready.map(|ready| question(&ready.probe, None)).transpose()?;
    let live = live(kind, text)?;
    let stop_signal = end_signal(text.stop_signal.as_ref())?;
    let kill_signal = end_signal(text.kill_signal.as_ref())?;
    let stop_timeout = text.stop_timeout.map_or(Duration::from_secs(60), |span| span.0);
    let user = text.user.as_deref().map(user::wanted).transpose()?;
    let rights = rights(text).map_err(|why| wrong(&why))?;
    let rules = EntryRules {
        id: text.id.clone(),
        kind,
        needs,
        ignores: text.on_dependency_failure == Some(OnFailure::Ignore),
        ready: ready.map(ready_rules),
        live,
        restart,
        stop_timeout,
        kill_grace: kill_signal.map(|_| stop_timeout),
    };
    if rules.ready.as_ref().is_some_and(|ready| ready.successes == 0 || ready.failures == 0) {
        return Err(wrong("a threshold must be 1 or more"));
    }
    let cwd = text.cwd.as_ref().map(|cwd| beside.join(cwd));
    Ok(PlanEntry {
        rules,
        recipe,
        env: text.env.clone(),
        cwd,
        user: user.filter(|_| text.command.is_some()),
        rights,
        stop_signal: stop_signal.unwrap_or(Signal::SIGTERM.into()),
        kill_signal,
        probe_timeout,
        text: text.clone(),
    })
}

/// How an entry is asked whether it goes on to serve.
fn live(kind: EntryKind, text: &EntryText) -> Result<Option<Liveness>> {
    let Some(live) = &text.live else { return Ok(None) };
    let wrong = |why: &str| Error::new(Status::BadConfig, why.to_owned());
    if kind != EntryKind::Daemon {
        return Err(wrong("only a daemon can be asked whether it lives"));
    }
    let Some((probe, _)) = live.target(text.ready.as_ref()) else {
        return Err(wrong("live needs a probe, its own or that of ready"));
    };
    question(probe, None)?;
    let interval = live.interval.map_or(Duration::from_secs(10), |span| span.0);
    let timeout = live.timeout.map_or_else(|| Liveness::usual_timeout(interval), |span| span.0);
    if interval.is_zero() || timeout.is_zero() {
        return Err(wrong("live.interval and live.timeout must be more than 0"));
    }
    let (failures, successes) = (live.failure_threshold.unwrap_or(3), live.success_threshold.unwrap_or(1));
    if failures == 0 || successes == 0 {
        return Err(wrong("a threshold must be 1 or more"));
    }
    Ok(Some(Liveness { interval, timeout, failures, successes }))
}

fn end_signal(text: Option<&SignalText>) -> Result<Option<SignalNumber>> {
    let text = text.map(|text| match text {
        SignalText::Name(name) => name.clone(),
        SignalText::Number(number) => number.to_string(),
    });
    let named = text.as_deref().map(SignalNumber::to_end).transpose();
    named.map_err(|why| Error::new(Status::BadConfig, why))
}

/// What an entry may, beyond what its user may.
struct Rights {
    no_new_privileges: bool,
    capabilities: Option<u64>,
    limits: Vec<Limit>,
}

fn rights(text: &EntryText) -> std::result::Result<Rights, String> {
    if !rights::are_bounded() && (text.no_new_privs || text.capabilities.is_some()) {
        return Err("no-new-privs and capabilities are known on Linux only".to_owned());
    }
    let bit =
        |name: &String| rights::capability(name).ok_or_else(|| format!("'{}' is no capability", brief(name)));
    let bits =
        |names: &Vec<String>| names.iter().try_fold(0, |bits, name| Ok::<u64, String>(bits | bit(name)?));
    let bound = |bound: &BoundText| match bound {
        BoundText::Number(number) => Ok(*number),
        BoundText::Word(word) if word == "unlimited" => Ok(rights::UNLIMITED),
        BoundText::Word(word) => Err(format!("'{}' is no limit: a number, or unlimited", brief(word))),
    };
    let limit = |(name, text): (&String, &LimitText)| {
        let resource =
            rights::resource(name).ok_or_else(|| format!("'{}' is no resource with a limit", brief(name)))?;
        let (soft, hard) = match text {
            LimitText::Both(both) => (bound(both)?, bound(both)?),
            LimitText::Each { soft, hard } => (bound(soft)?, bound(hard)?),
        };
        if soft > hard {
            return Err(format!("the soft limit of {name} is above the hard one"));
        }
        Ok(Limit { resource, soft, hard })
    };
    Ok(Rights {
        no_new_privileges: text.no_new_privs,
        capabilities: text.capabilities.as_ref().map(bits).transpose()?,
        limits: text.limits.iter().map(limit).collect::<std::result::Result<_, String>>()?,
    })
}

fn question(probe: &str, main: Option<Pid>) -> Result<Arc<dyn Probe>> {
    let parse = |demand: &Demand| target::parse(probe.as_ref(), &TargetOptions::default(), demand);
    let own = main.map(|main| parse(&Demand { among: Some(Lineage::of([main])), ..Demand::default() }));
    // Files and commands do not tell who answers.
    match own {
        Some(Ok(own)) => Ok(own.probe),
        _ => Ok(parse(&Demand::default())?.probe),
    }
}

fn ready_rules(text: &ReadyText) -> EntryReadiness {
    let or = |span: Option<SpanValue>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
    let table = match &text.interval {
        Some(EveryText::Table(table)) => table.clone(),
        Some(EveryText::SpanValue(span)) => IntervalText {
            default: Some(*span),
            starting: Some(*span),
            failure: Some(*span),
            ..IntervalText::default()
        },
        None => IntervalText::default(),
    };
    let IntervalText { default, starting, loading, success, failure, .. } = table;
    EntryReadiness {
        intervals: Intervals {
            starting: starting.map(|span| span.0),
            loading: or(loading.or(default), 30),
            success: or(success.or(default), 30),
            failure: or(failure, 1),
        },
        grace: or(text.grace, 10),
        successes: text.success_threshold.unwrap_or(1),
        failures: text.failure_threshold.unwrap_or(3),
    }
}

fn restart(kind: EntryKind, text: Option<&RestartText>) -> RestartPauses {
    let none =
        RestartTable { policy: None, initial: None, step: None, cap: None, reset_after: None, max: None };
    let table = match text {
        None => none,
        Some(RestartText::Word(word)) => RestartTable { policy: Some(*word), ..none },
        Some(RestartText::Table(table)) => table.clone(),
    };
    let or = |span: Option<SpanValue>, default: u64| span.map_or(Duration::from_secs(default), |span| span.0);
    let when = match table.policy {
        Some(WhenText::Never) => RestartWhen::Never,
        Some(WhenText::OnFailure) => RestartWhen::OnFailure,
        Some(WhenText::Always) => RestartWhen::Always,
        // A oneshot that has done its work is done.
        None if kind == EntryKind::Oneshot => RestartWhen::OnFailure,
        None => RestartWhen::Always,
    };
    RestartPauses {
        when,
        initial: or(table.initial, 0),
        step: or(table.step, 1),
        cap: or(table.cap, 30),
        reset_after: or(table.reset_after, 60),
        max: table.max.and_then(|max| u32::try_from(max).ok()),
    }
}
