//! What the model prints of a job, in the shape of macOS 13 to 27: nested blocks that repeat `state`, `pid`
//! and `runs`, an environment with values, arguments raw, with the newlines that are in them.
//!
//! The order and the names of the lines are those of posted captures; up to 10.15 the header is the label
//! alone (wazuh-packages#2206, puppet-boxen#104).

use super::table::claim;
use super::{Job, Launchd, Reply, unknown};
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

impl Launchd {
    pub fn print(&self, target: &str) -> Reply {
        let shown = self.jobs.get(target).filter(|_| !self.faults.hides);
        let Some(job) = shown else {
            claim(if self.jobs.contains_key(target) { "print-late" } else { "print-unknown" });
            return unknown(target);
        };
        let label = target.rsplit('/').next().unwrap();
        let header = if self.faults.old_header { label } else { target };
        claim(if self.faults.old_header { "print-header-old" } else { "print-header" });
        ["print-path", "print-program", "print-arguments", "print-environment"].into_iter().for_each(claim);
        ["print-exit-timeout", "print-throttle", "print-runs", "print-nested", "print-job-state"]
            .into_iter()
            .for_each(claim);
        let state = self.state(job);
        let mut out = format!(
            "{header} = {{\n\tactive count = 1\n\tpath = {}\n\ttype = LaunchAgent\n\tstate = {state}\n\n\
                 \tprogram = {}\n\targuments = {{\n",
            job.path, job.arguments[0]
        );
        job.arguments.iter().for_each(|argument| out.push_str(&format!("\t\t{argument}\n")));
        out.push_str(
            "\t}\n\n\tinherited environment = {\n\
             \t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners\n\t}\n\n\tenvironment = {\n",
        );
        job.environment.iter().for_each(|(name, value)| out.push_str(&format!("\t\t{name} => {value}\n")));
        out.push_str(&format!("\t\tXPC_SERVICE_NAME => {label}\n\t}}\n\n"));
        out.push_str(&format!(
            "\tdomain = gui/501 [100005]\n\tasid = 100005\n\tminimum runtime = {}\n\texit timeout = {}\n\
             \truns = {}\n",
            job.throttle.as_secs(),
            job.exit_timeout.as_secs(),
            job.runs
        ));
        if job.child.is_some() {
            claim("print-pid");
            out.push_str(&format!("\tpid = {}\n\timmediate reason = speculative\n", job.pid));
        }
        if job.pended {
            claim("print-pended");
            out.push_str(&format!("\tpended nondemand spawn = {}\n", self.faults.pended_for));
        }
        out.push_str(&last_end(job));
        out.push_str(
            "\n\tresource coalition = {\n\t\tID = 663\n\t\ttype = resource\n\t\tstate = active\n\
             \t\tactive count = 1\n\t\truns = 77\n\t\tpid = 1\n\t\tname = x\n\t}\n\n\
             \tspawn type = daemon (3)\n\tjetsam priority = 40\n",
        );
        let failed = job.child.is_none() && job.reason.is_some();
        out.push_str(&format!("\tjob state = {}\n\n", if failed { "spawn failed" } else { state }));
        out.push_str("\tproperties = keepalive | runatload | inferred program\n}\n");
        (0, out, String::new())
    }

    fn state<'a>(&'a self, job: &'a Job) -> &'a str {
        let starts = job.proxy_until.is_some_and(|until| Instant::now() < until) || job.doom.is_some();
        let (name, word) = match (&job.child, job.leaving.or(job.replaced), job.spawn_at) {
            (Some(_), Some(_), _) if job.killed => ("state-killed", "SIGKILLed"),
            (Some(_), Some(_), _) => ("state-ending", "SIGTERMed"),
            (Some(_), None, _) if starts => ("state-starting", self.faults.proxy_word.as_str()),
            (Some(_), None, _) => ("state-running", "running"),
            (None, _, Some(_)) => ("state-scheduled", "spawn scheduled"),
            _ => ("state-idle", "not running"),
        };
        claim(name);
        word
    }

    /// What nobody has said anything about is not named.
    pub fn print_disabled(&self, domain: &str) -> Reply {
        claim(if self.faults.old_disabled { "print-disabled-old" } else { "print-disabled" });
        let word = if self.faults.old_disabled { "true" } else { "disabled" };
        let mut out = "\tdisabled services = {\n".to_owned();
        for target in &self.disabled {
            if let Some(label) = target.strip_prefix(domain).and_then(|rest| rest.strip_prefix('/')) {
                out.push_str(&format!("\t\t\"{label}\" => {word}\n"));
            }
        }
        out.push_str("\t}\n\tlogin item associations = {\n\t}\n");
        (0, out, String::new())
    }
}

/// The lines about the last end; a signal stands in place of the code.
fn last_end(job: &Job) -> String {
    claim(match job.last_exit.map(|status| status.code()) {
        None => "print-never-exited",
        Some(Some(_)) => "print-exit-code",
        Some(None) => "print-signal",
    });
    let mut out = match job.last_exit.map(|status| (status.code(), status.signal())) {
        None => "\tlast exit code = (never exited)\n".to_owned(),
        Some((Some(78), _)) => "\tlast exit code = 78: EX_CONFIG\n".to_owned(),
        Some((Some(code), _)) => format!("\tlast exit code = {code}\n"),
        Some((None, signal)) => {
            let name = match signal {
                Some(1) => "Hangup: 1",
                Some(6) => "Abort trap: 6",
                Some(9) => "Killed: 9",
                Some(11) => "Segmentation fault: 11",
                _ => "Terminated: 15",
            };
            format!("\tlast terminating signal = {name}\n")
        }
    };
    if let Some(reason) = &job.reason {
        claim("print-reason");
        out.push_str(&format!("\tlast exit reason = {reason}\n"));
    }
    out
}
