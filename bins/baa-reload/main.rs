//! Reloads services and proves that they recovered.

mod args;
mod live;

use args::{Diagnose, Health, History, How, ReloadArgs, ReloadVerb, Scope, Which};
use baa::act::reload::RollbackRule;
use baa::act::reload::carry_out::Done;
use baa::act::reload::request::{HealthOptions, ReloadHooks, ReloadRequest, ReloadSettings, ReloadTarget};
use baa::act::reload::{carry_out, check, diagnose, guardian, history};
use baa::program::{Common, Edge, run};
use baa::service::expectation::HttpExpectation;
use baa::service::manager::{ManagerKind, ServiceLocation};
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    run(Edge { live: live::values, ..Edge::default() }, reload)
}

fn reload(args: ReloadArgs) -> Result<Status> {
    match &args.verb {
        Some(ReloadVerb::History(history)) => return tell_history(history),
        Some(ReloadVerb::Diagnose(diagnose)) => return tell_diagnosis(diagnose),
        Some(ReloadVerb::Guard) => return guardian::stand_by(),
        None => {}
    }
    if args.how.resume {
        let (label, common) = (args.which.label.as_deref(), &args.common);
        return tell(&carry_out::resume(label, args.how.wait_lock, common.dry_run, &common.voice())?, common);
    }
    let request = request(&args.which, &args.health, Some(&args.how), args.common.quiet)?;
    let voice = args.common.voice();
    if args.common.dry_run {
        carry_out::tell_what_was_cut_off(&request, &voice)?;
        let plan = check::plan(&request)?;
        let text = if args.common.json { plan.json().to_string() } else { plan.text() };
        say::answer(&text)?;
        return Ok(Status::Done);
    }
    // A reload that has begun must not stand still half-way because a terminal is paused.
    say::never_wait_with_words();
    tell(&carry_out::carry_out(&request, &voice)?, &args.common)
}

fn tell(done: &Done, common: &Common) -> Result<Status> {
    if common.json {
        say::answer(&done.json.to_string())?;
    }
    Ok(done.status)
}

fn tell_history(args: &History) -> Result<Status> {
    for line in history::lines(&args.label, args.last, args.common.json)? {
        say::answer(&line)?;
    }
    Ok(Status::Done)
}

fn tell_diagnosis(args: &Diagnose) -> Result<Status> {
    let found = diagnose::diagnose(&request(&args.which, &args.health, None, args.common.quiet)?)?;
    if args.common.quiet && !args.common.json && found.done.status == Status::Done {
        return Ok(Status::Done);
    }
    let text = if args.common.json { found.done.json.to_string() } else { found.lines.join("\n") };
    say::answer(&text)?;
    Ok(found.done.status)
}

/// Without `how` it is only looked at.
fn request(which: &Which, health: &Health, how: Option<&How>, quiet: bool) -> Result<ReloadRequest> {
    let usage = |why: &str| Error::new(Status::Usage, why);
    let asked = ManagerKind::named(&which.manager);
    if which.group.is_some() && asked.is_some_and(|kind| kind != ManagerKind::Embedded) {
        return Err(usage("--group is for --manager baa"));
    }
    let own = if which.group.is_some() { ManagerKind::Embedded } else { ManagerKind::of_this_machine() };
    let kind = asked.unwrap_or(own);
    let daemon = which.scope.map(|scope| scope == Scope::Daemon);
    let location = ServiceLocation {
        kind,
        daemon,
        domain: which.domain.clone(),
        install_dir: install_dir(which)?,
        group: which.group.clone(),
    };
    let aim = match (&which.label, which.all_services) {
        (Some(label), _) => ReloadTarget::Label(label.clone()),
        (None, true) => ReloadTarget::All { prefix: which.label_prefix.clone() },
        (None, false) if which.service.is_empty() => {
            ReloadTarget::Services { prefix: which.label_prefix.clone(), names: vec!["conductor".to_owned()] }
        }
        (None, false) => {
            ReloadTarget::Services { prefix: which.label_prefix.clone(), names: which.service.clone() }
        }
    };
    if which.plist.is_some() && (which.all_services || which.service.len() > 1) {
        return Err(usage("--plist names the file of one service"));
    }
    if health.health_url.is_some() && (which.all_services || which.service.len() > 1) {
        return Err(usage("--health-url is for one service"));
    }
    let settings = ReloadSettings {
        attempts: health.attempts,
        delay: health.delay,
        probe_timeout: health.probe_timeout,
        settle: health.settle,
        timeout: health.timeout,
        drain: how.map_or(Duration::ZERO, |how| how.drain),
        skip_kickstart: how.is_some_and(|how| how.skip_kickstart),
        rollback: match how {
            Some(how) if how.rollback => RollbackRule::Always,
            Some(how) if !how.no_rollback => RollbackRule::IfNeverServed,
            _ => RollbackRule::Never,
        },
        wait_lock: how.map_or(Duration::ZERO, |how| how.wait_lock),
        keep_going: how.is_some_and(|how| how.keep_going),
        quiet,
    };
    let hooks = ReloadHooks {
        before: how.and_then(|how| how.before.clone()),
        after: how.and_then(|how| how.after.clone()),
        on_failure: how.and_then(|how| how.on_failure.clone()),
        limit: how.map_or(Duration::ZERO, |how| how.hook_timeout),
    };
    Ok(ReloadRequest { aim, plist: which.plist.clone(), location, health: options(health), settings, hooks })
}

fn options(health: &Health) -> HealthOptions {
    let expectation = health.expected.as_ref().map(|expected| HttpExpectation {
        method: expected.health_method.clone(),
        headers: expected.health_header.clone(),
        data: expected.health_data.clone(),
        data_file: expected.health_data_file.clone(),
        statuses: expected.health_status.clone(),
        header_contains: expected.health_header_contains.clone(),
        patterns: expected.health_body_regex.clone(),
        contains: expected.health_body_contains.clone(),
        json: expected.health_json_path.clone(),
        cacert: expected.health_cacert.clone(),
        insecure: expected.health_insecure,
        redirects: expected.health_redirect,
        token_env: expected.health_token_env.clone(),
        token_file: expected.health_token_file.clone(),
        ..HttpExpectation::default()
    });
    HealthOptions {
        url: health.health_url.clone(),
        variable: health.health_env.clone(),
        path: health.health_path.clone(),
        unix: health.health_unix.clone(),
        any_process: health.any_process,
        expects: health.any_process || expectation.is_some(),
        expectation: expectation.unwrap_or_default(),
        none: health.no_health,
    }
}

fn install_dir(which: &Which) -> Result<PathBuf> {
    if let Some(dir) = &which.install_dir {
        return Ok(dir.clone());
    }
    if which.scope == Some(Scope::Daemon) {
        return Ok(PathBuf::from("/Library/LaunchDaemons"));
    }
    let home = which
        .home_dir
        .clone()
        .or_else(|| std::env::var_os("HOME").map(PathBuf::from).filter(|home| !home.as_os_str().is_empty()))
        .or_else(|| Some(baa::sys::user::own().ok()??.home));
    let home = home.ok_or_else(|| {
        Error::new(Status::Usage, "nobody knows our home; give --home-dir or --install-dir")
    })?;
    Ok(home.join("Library/LaunchAgents"))
}
