//! A conductor: what it is set to, in which state it is, and what it tells of itself (seed 002). Pure: it is
//! told what happens, and keeps it.

use crate::store::{BootMoment, ClaimAnswer, Controller, unix_now};
use crate::words::error::{Error, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::time::Duration;

/// What a conductor does when it starts, as its checklist names it.
const CHECKLIST: [(&str, &str); 6] = [
    ("register-controller", "register the controller and write its first heartbeat"),
    ("acquire-lease", "try to acquire the leader lease, or to renew it"),
    ("load-runs", "hand the local runs over: BAA_RUNS_DIR of the scheduler"),
    ("reconcile-runs", "left to the scheduler, which knows what an expired run is"),
    ("start-heartbeat-loop", "start the controller's heartbeat loop"),
    ("start-scheduler", "run the scheduler while leader; a standby is refused it"),
];

/// Whether a conductor is there to lead or to step in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To lead.
    Primary,
    /// To step in.
    Standby,
}

impl Role {
    /// Its word.
    pub fn name(self) -> &'static str {
        if self == Role::Primary { "primary" } else { "standby" }
    }
}

/// Directories that are told on: to the scheduler, in the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// BAA_LOGS_DIR.
    pub logs: Option<String>,
    /// BAA_RUNS_DIR.
    pub runs: Option<String>,
    /// BAA_STATE_DIR.
    pub state: Option<String>,
    /// BAA_TMP_DIR.
    pub tmp: Option<String>,
    /// BAA_WORKTREES_DIR.
    pub worktrees: Option<String>,
}

impl Paths {
    /// The variables that tell of them.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let Paths { logs, runs, state, tmp, worktrees } = self;
        let named =
            [("LOGS", logs), ("RUNS", runs), ("STATE", state), ("TMP", tmp), ("WORKTREES", worktrees)];
        named
            .into_iter()
            .filter_map(|(name, path)| Some((format!("BAA_{name}_DIR").into(), path.as_ref()?.into())))
            .collect()
    }
}

/// Whether there is a token, and a real one. The token itself stays with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The store knows no tokens.
    NotNeeded,
    /// There is none.
    Missing,
    /// It is the one of the examples.
    Placeholder,
    /// There is one.
    Given,
}

impl Token {
    /// What is odd about it, in the seed's words.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Token::Missing => {
                Some("BAA_SHARED_TOKEN is not configured; authenticated Control API requests may fail.")
            }
            Token::Placeholder => {
                Some("BAA_SHARED_TOKEN is still set to replace-me; replace it before production rollout.")
            }
            Token::NotNeeded | Token::Given => None,
        }
    }
}

/// What a conductor is set to.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub node_id: String,
    /// Its host.
    pub host: String,
    /// Its role.
    pub role: Role,
    /// The store, without secrets.
    pub store: String,
    /// The lease.
    pub lease: String,
    /// Where it tells of itself.
    pub local_api: Option<String>,
    /// Whether there is a token.
    pub token: Token,
    /// The higher, the sooner it should lead.
    pub priority: u64,
    /// Of its program.
    pub version: Option<String>,
    /// Whether it is the one who should lead.
    pub preferred: bool,
    /// Between heartbeats.
    pub heartbeat_interval: Duration,
    /// Between renewals, at most.
    pub renew_interval: Duration,
    /// How long the lease lasts without one.
    pub ttl: Duration,
    /// How many cycles in a row may fail.
    pub threshold: u32,
    /// Its directories.
    pub paths: Paths,
}

impl Config {
    /// What is odd about it, in the seed's words.
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut warnings: Vec<&'static str> = self.token.warning().into_iter().collect();
        if self.local_api.is_none() {
            warnings.push(
                "BAA_CONDUCTOR_LOCAL_API is not configured; only the in-process snapshot interface is \
                 available.",
            );
        }
        if self.renew_interval >= self.ttl {
            warnings
                .push("lease renew interval is >= lease TTL; leader renewals may race with lease expiry.");
        }
        warnings
    }

    /// `NODE@HOST(ROLE)`.
    pub fn identity(&self) -> String {
        format!("{}@{}({})", self.node_id, self.host, self.role.name())
    }

    fn paths(&self) -> Value {
        let Paths { logs, runs, state, tmp, worktrees } = &self.paths;
        json!({
            "logsDir": logs, "runsDir": runs, "stateDir": state, "tmpDir": tmp, "worktreesDir": worktrees
        })
    }

    /// With the seed's keys. The token is not in it.
    pub fn json(&self) -> Value {
        let token = matches!(self.token, Token::Given | Token::Placeholder).then_some("***");
        json!({
            "nodeId": self.node_id,
            "host": self.host,
            "role": self.role.name(),
            "controlApiBase": self.store,
            "leaseName": self.lease,
            "heartbeatIntervalMs": crate::words::span::millis(self.heartbeat_interval),
            "leaseRenewIntervalMs": crate::words::span::millis(self.renew_interval),
            "leaseTtlSec": self.ttl.as_secs(),
            "localApiBase": self.local_api,
            "paths": self.paths(),
            "preferred": self.preferred,
            "priority": self.priority,
            "renewFailureThreshold": self.threshold,
            "sharedToken": token,
            "version": self.version,
        })
    }

    /// A line for each, as the seed prints it.
    pub fn text(&self) -> String {
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "not-configured".to_owned());
        [
            format!("identity: {}", self.identity()),
            format!("control_api_base: {}", self.store),
            format!("lease: {}", self.lease),
            format!("local_api_base: {}", or(&self.local_api)),
            format!("priority: {}", self.priority),
            format!("preferred: {}", self.preferred),
            format!("heartbeat_interval_ms: {}", crate::words::span::millis(self.heartbeat_interval)),
            format!("lease_renew_interval_ms: {}", crate::words::span::millis(self.renew_interval)),
            format!("lease_ttl_sec: {}", self.ttl.as_secs()),
            format!("renew_failure_threshold: {}", self.threshold),
            format!("shared_token_configured: {}", matches!(self.token, Token::Given | Token::Placeholder)),
            format!("runs_dir: {}", or(&self.paths.runs)),
            format!("worktrees_dir: {}", or(&self.paths.worktrees)),
            format!("logs_dir: {}", or(&self.paths.logs)),
            format!("tmp_dir: {}", or(&self.paths.tmp)),
            format!("state_dir: {}", or(&self.paths.state)),
        ]
        .join("\n")
    }
}

/// The checklist, with the seed's keys.
pub fn checklist_json() -> Value {
    CHECKLIST.iter().map(|(key, description)| json!({ "key": key, "description": description })).collect()
}

/// The checklist, a line for each.
pub fn checklist_text() -> String {
    let lines: Vec<String> = CHECKLIST
        .iter()
        .enumerate()
        .map(|(number, (key, description))| format!("{}. {key}: {description}", number + 1))
        .collect();
    lines.join("\n")
}

/// Whether it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConductorState {
    /// It does.
    Leader,
    /// Another does, or nobody yet.
    Standby,
    /// It cannot know.
    Degraded,
}

impl ConductorState {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            ConductorState::Leader => "leader",
            ConductorState::Standby => "standby",
            ConductorState::Degraded => "degraded",
        }
    }
}

/// A conductor.
#[derive(Clone, Debug)]
pub struct Conductor {
    /// What it is set to.
    pub config: Config,
    state: ConductorState,
    failures: u32,
    /// When the last failure was counted, since the machine's boot.
    counted: Option<Duration>,
    leader: Option<String>,
    term: Option<u64>,
    expires_at: Option<u64>,
    last_operation: Option<&'static str>,
    last_error: Option<String>,
    last_heartbeat_at: Option<u64>,
    started_at: u64,
    loops: bool,
    started: bool,
}

impl Conductor {
    /// One that has just been started.
    pub fn new(config: Config) -> Conductor {
        Conductor {
            config,
            state: ConductorState::Standby,
            failures: 0,
            counted: None,
            leader: None,
            term: None,
            expires_at: None,
            last_operation: None,
            last_error: None,
            last_heartbeat_at: None,
            started_at: unix_now(),
            loops: false,
            started: false,
        }
    }

    /// In which state it is.
    pub fn state(&self) -> ConductorState {
        self.state
    }

    /// Whether it is started, and not stopped.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The last term that it has heard of.
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// Notes that it is started, with or without its loops.
    pub fn started(&mut self, loops: bool) {
        (self.started, self.loops) = (true, loops);
    }

    /// Notes that it is stopped.
    pub fn stopped(&mut self) {
        (self.started, self.loops) = (false, false);
        if self.state == ConductorState::Leader {
            self.state = ConductorState::Standby;
        }
    }

    /// Notes what came of a heartbeat. The first one is the registration: without it nobody knows of us.
    pub fn heartbeat(&mut self, outcome: &Result<()>) {
        match outcome {
            Ok(()) => self.last_heartbeat_at = Some(unix_now()),
            Err(error) => {
                self.last_error = Some(error.to_string());
                if !self.started {
                    self.state = ConductorState::Degraded;
                }
            }
        }
    }

    /// Notes what came of a claim or a renewal at `now`. Retries within one interval count once, so that the
    /// threshold is one of time.
    pub fn answered(&mut self, answer: &Result<ClaimAnswer>, now: Duration) {
        match answer {
            Ok(answer) => {
                let (record, state) = match answer {
                    ClaimAnswer::Ours { record, .. } => (record, ConductorState::Leader),
                    ClaimAnswer::Held(record) => (record, ConductorState::Standby),
                };
                let left = BootMoment::here().map_or(Duration::ZERO, |now| record.left(&now));
                self.leader = record.holder.clone().filter(|_| !left.is_zero());
                (self.term, self.expires_at) =
                    (Some(record.term), self.leader.is_some().then(|| unix_now() + left.as_secs()));
                self.last_operation = Some(if matches!(answer, ClaimAnswer::Ours { renewed: true, .. }) {
                    "renew"
                } else {
                    "acquire"
                });
                (self.failures, self.counted, self.last_error, self.state) = (0, None, None, state);
            }
            Err(error) => {
                self.last_error = Some(error.to_string());
                if self.counted.is_none_or(|counted| now >= counted + self.config.renew_interval) {
                    self.counted = Some(now);
                    self.failures += 1;
                }
                if self.failures >= self.config.threshold {
                    self.state = ConductorState::Degraded;
                }
            }
        }
    }

    /// Notes that the lease is no longer to be acted on, and why.
    pub fn lost(&mut self, why: &Error) {
        self.last_error = Some(why.to_string());
        if self.state == ConductorState::Leader {
            self.state = ConductorState::Degraded;
        }
    }

    /// What it tells of itself with a heartbeat.
    pub fn beat(&self) -> Controller {
        Controller {
            id: self.config.node_id.clone(),
            host: self.config.host.clone(),
            role: self.config.role.name().to_owned(),
            priority: self.config.priority,
            status: self.state.name().to_owned(),
            version: self.config.version.clone(),
            heartbeat_at: unix_now(),
            started_at: self.started_at,
        }
    }

    /// All of it, with the seed's keys.
    pub fn snapshot(&self) -> Value {
        let config = &self.config;
        json!({
            "daemon": {
                "nodeId": config.node_id,
                "host": config.host,
                "role": config.role.name(),
                "leaseState": self.state.name(),
                "schedulerEnabled": self.state == ConductorState::Leader,
                "currentLeaderId": self.leader,
                "currentTerm": self.term,
                "leaseExpiresAt": self.expires_at,
                "lastHeartbeatAt": self.last_heartbeat_at,
                "lastLeaseOperation": self.last_operation,
                "nextLeaseOperation": if self.state == ConductorState::Leader { "renew" } else { "acquire" },
                "consecutiveRenewFailures": self.failures,
                "lastError": self.last_error,
            },
            "identity": config.identity(),
            "loops": { "heartbeat": self.loops, "lease": self.loops },
            "paths": config.paths(),
            "controlApi": {
                "baseUrl": config.store,
                "localApiBase": config.local_api,
                "hasSharedToken": matches!(config.token, Token::Given | Token::Placeholder),
                "usesPlaceholderToken": config.token == Token::Placeholder,
            },
            "runtime": { "pid": std::process::id(), "started": self.started, "startedAt": self.started_at },
            "startupChecklist": checklist_json(),
            "warnings": config.warnings(),
        })
    }

    /// All of it that fits into a line.
    pub fn summary(&self) -> String {
        let term = self.term.map_or_else(|| "none".to_owned(), |term| term.to_string());
        let loops = if self.loops { "running" } else { "stopped" };
        format!(
            "identity={} lease={} leader={} term={term} scheduler={} heartbeat_loop={loops} \
                 lease_loop={loops}",
            self.config.identity(),
            self.state.name(),
            self.leader.as_deref().unwrap_or("none"),
            if self.state == ConductorState::Leader { "enabled" } else { "disabled" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;
    use crate::words::exit::Status;

    fn conductor() -> Conductor {
        let second = Duration::from_secs(1);
        Conductor::new(Config {
            node_id: "mini-main".to_owned(),
            host: "mini".to_owned(),
            role: Role::Primary,
            store: "https://control.example.test".to_owned(),
            lease: "global".to_owned(),
            local_api: None,
            token: Token::Placeholder,
            priority: 100,
            version: None,
            preferred: true,
            heartbeat_interval: 5 * second,
            renew_interval: 5 * second,
            ttl: 30 * second,
            threshold: 2,
            paths: Paths { runs: Some("/tmp/runs".to_owned()), ..Paths::default() },
        })
    }

    fn ours(term: u64) -> Result<ClaimAnswer> {
        let holder = Some("mini-main".to_owned());
        let record = Record {
            holder,
            term,
            expires: BootMoment::now().unwrap().after(Duration::from_secs(30)),
            ..Record::default()
        };
        Ok(ClaimAnswer::Ours { record, renewed: false })
    }

    fn failed() -> Result<ClaimAnswer> {
        Err(Error::new(Status::Unavailable, "no answer"))
    }

    /// The seed's own test, and what retries within an interval make of it.
    #[test]
    fn repeated_failures_degrade_after_the_threshold() {
        let mut conductor = conductor();
        let at = Duration::from_secs;
        conductor.answered(&ours(1), at(0));
        assert_eq!(conductor.state(), ConductorState::Leader);
        conductor.answered(&failed(), at(5));
        conductor.answered(&failed(), at(6));
        assert_eq!((conductor.state(), conductor.failures), (ConductorState::Leader, 1));
        conductor.answered(&failed(), at(10));
        assert_eq!((conductor.state(), conductor.failures), (ConductorState::Degraded, 2));
        conductor.answered(&ours(1), at(11));
        assert_eq!((conductor.state(), conductor.failures), (ConductorState::Leader, 0));
    }

    /// The seed's own test.
    #[test]
    fn the_snapshot_has_its_keys() {
        let mut conductor = conductor();
        assert_eq!(conductor.snapshot()["runtime"]["started"], false);
        conductor.heartbeat(&Ok(()));
        conductor.answered(&ours(2), Duration::ZERO);
        conductor.started(false);
        let snapshot = conductor.snapshot();
        assert_eq!(snapshot["runtime"]["started"], true);
        assert_eq!(
            (&snapshot["daemon"]["leaseState"], &snapshot["daemon"]["currentTerm"]),
            (&json!("leader"), &json!(2))
        );
        assert_eq!(
            (&snapshot["loops"]["heartbeat"], &snapshot["loops"]["lease"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(snapshot["controlApi"]["usesPlaceholderToken"], true);
        assert!(snapshot["warnings"].to_string().contains("replace-me"));
        conductor.stopped();
        assert_eq!(conductor.snapshot()["runtime"]["started"], false);
    }

    #[test]
    fn without_a_first_heartbeat_it_is_degraded_until_it_is_answered() {
        let mut conductor = conductor();
        conductor.heartbeat(&Err(Error::new(Status::Unavailable, "refused")));
        assert_eq!(conductor.state(), ConductorState::Degraded);
        conductor.answered(&failed(), Duration::ZERO);
        assert_eq!((conductor.state(), conductor.failures), (ConductorState::Degraded, 1));
        conductor.answered(&ours(1), Duration::ZERO);
        conductor.started(true);
        conductor.heartbeat(&Err(Error::new(Status::Unavailable, "refused")));
        assert_eq!(conductor.state(), ConductorState::Leader);
    }
}
