//! What can go wrong in the model, and how long things take.

use std::time::Duration;

/// Faults and delays, set with `launchctl model KEY=VALUE…`.
pub struct Faults {
    /// How long the label stays after the process is gone.
    pub linger: Duration,
    /// What bootstrap gives meanwhile, in turn.
    pub drain_codes: Vec<i64>,
    /// What it gives while the label is loaded, in turn; 0 keeps the old definition.
    pub loaded_codes: Vec<i64>,
    /// What bootout gives when it was accepted: 0 or 36.
    pub bootout_code: i64,
    /// How many bootstraps are accepted without a start, and why.
    pub pended: u32,
    pub pended_for: String,
    /// How many kickstarts block.
    pub blocked: u32,
    /// How many bootstraps of a free label fail, and with what.
    pub refusals: u32,
    pub refusal_code: i64,
    /// How many kickstarts fail, and with what.
    pub kicks: u32,
    pub kick_code: i64,
    /// How long a start is printed as xpcproxy, or as what.
    pub proxy: Duration,
    pub proxy_word: String,
    /// How many starts come to nothing, and how: with an exit code, or killed for a reason of the system.
    pub doomed: u32,
    pub doom: String,
    /// A bootstrap is accepted and the job removed at once.
    pub removes: bool,
    /// How many bootstraps are accepted and said to have failed, and with what.
    pub unheard: u32,
    pub unheard_code: i64,
    /// Labels that are loaded are not shown until the next bootstrap.
    pub hides: bool,
    /// Whoever calls is in a sandbox.
    pub sandbox: bool,
    /// Whether bootout can wait.
    pub waits: bool,
    /// The header of `print` is the label alone.
    pub old_header: bool,
    /// Up to macOS 12: `"label" => true` is a label that is disabled.
    pub old_disabled: bool,
    /// A bootstrap of a file with this in its name is refused for good, with 109.
    pub bad_file: String,
    /// The whole domain is gone: every verb gives this.
    pub domain_code: i64,
    /// The roll of the dice: how likely, in a hundred, a call that is fine gives 37 and does nothing.
    pub hiccups: u64,
}

impl Faults {
    pub fn new() -> Faults {
        Faults {
            linger: Duration::from_millis(0),
            drain_codes: vec![5],
            loaded_codes: vec![5, 37],
            bootout_code: 0,
            pended: 0,
            pended_for: "speculative".to_owned(),
            blocked: 0,
            refusals: 0,
            refusal_code: 5,
            kicks: 0,
            kick_code: 1,
            proxy: Duration::ZERO,
            proxy_word: "xpcproxy".to_owned(),
            doomed: 0,
            doom: String::new(),
            removes: false,
            unheard: 0,
            unheard_code: 37,
            hides: false,
            sandbox: false,
            waits: false,
            old_header: false,
            old_disabled: false,
            bad_file: String::new(),
            domain_code: 0,
            hiccups: 0,
        }
    }

    pub fn set(&mut self, key: &str, value: &str) {
        let number = || value.parse::<u64>().unwrap();
        let count = || value.parse::<u32>().unwrap();
        let code = || value.parse::<i64>().unwrap();
        let codes = || value.split(',').map(|one| one.parse::<i64>().unwrap()).collect();
        match key {
            "linger" => self.linger = Duration::from_millis(number()),
            "drain" => self.drain_codes = codes(),
            "loaded" => self.loaded_codes = codes(),
            "bootout" => self.bootout_code = code(),
            "pended" => self.pended = count(),
            "pended-for" => self.pended_for = value.to_owned(),
            "blocked" => self.blocked = count(),
            "refusals" => self.refusals = count(),
            "kicks" => self.kicks = count(),
            "kick" => self.kick_code = code(),
            "proxy" => self.proxy = Duration::from_millis(number()),
            "proxy-word" => self.proxy_word = value.to_owned(),
            "doomed" => self.doomed = count(),
            "doom" => self.doom = value.to_owned(),
            "removes" => self.removes = number() > 0,
            "unheard" => self.unheard = count(),
            "unheard-code" => self.unheard_code = code(),
            "hides" => self.hides = number() > 0,
            "sandbox" => self.sandbox = number() > 0,
            "waits" => self.waits = number() > 0,
            "old-header" => self.old_header = number() > 0,
            "old-disabled" => self.old_disabled = number() > 0,
            "refusal" => self.refusal_code = code(),
            "bad" => self.bad_file = value.to_owned(),
            "domain" => self.domain_code = code(),
            "hiccups" => self.hiccups = number(),
            other => panic!("unknown fault {other}"),
        }
    }
}
