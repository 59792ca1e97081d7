//! Reloads services and proves that they recovered.

mod args;

use args::{History, ReloadArgs, ReloadVerb, Scope, Which};
use baa::act::reload::RollbackRule;
use baa::act::reload::request::{HealthOptions, ReloadHooks, ReloadRequest, ReloadSettings, ReloadTarget};
use baa::act::reload::{carry_out, check, guardian, history};
use baa::program::run;
use baa::service::manager::{ManagerKind, ServiceLocation};
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    run(reload)
}

fn reload(args: ReloadArgs) -> Result<Status> {
    match &args.verb {
        Some(ReloadVerb::History(history)) => return tell_history(history),
        Some(ReloadVerb::Guard) => return guardian::stand_by(),
        None => {}
    }
    if args.how.resume {
        let labels: Vec<String> = args.which.label.iter().cloned().collect();
        return carry_out::resume(&labels, args.how.wait_lock, &args.common.voice());
    }
    let request = request(&args)?;
    let voice = args.common.voice();
    if args.common.dry_run {
        let plan = check::plan(&request)?;
        let text = if args.common.json { plan.json().to_string() } else { plan.text() };
        say::answer(&text)?;
        return Ok(Status::Done);
    }
    // A reload that has begun must not stand still half-way because a terminal is paused.
    say::never_wait_with_words();
    let done = carry_out::carry_out(&request, &voice)?;
    if args.common.json {
        say::answer(&done.json.to_string())?;
    }
    Ok(done.status)
}

fn tell_history(args: &History) -> Result<Status> {
    for line in history::lines(&args.label, args.last, args.json)? {
        say::answer(&line)?;
    }
    Ok(Status::Done)
}

fn request(args: &ReloadArgs) -> Result<ReloadRequest> {
    let (which, how) = (&args.which, &args.how);
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
    if args.health.health_url.is_some() && (which.all_services || which.service.len() > 1) {
        return Err(usage("--health-url is for one service"));
    }
    let health = HealthOptions {
        url: args.health.health_url.clone(),
        variable: args.health.health_env.clone(),
        path: args.health.health_path.clone(),
        none: args.health.no_health,
    };
    let settings = ReloadSettings {
        attempts: args.health.attempts,
        delay: args.health.delay,
        probe_timeout: args.health.probe_timeout,
        settle: args.health.settle,
        timeout: args.health.timeout,
        drain: how.drain,
        skip_kickstart: how.skip_kickstart,
        rollback: match (how.rollback, how.no_rollback) {
            (true, _) => RollbackRule::Always,
            (_, true) => RollbackRule::Never,
            _ => RollbackRule::IfNeverServed,
        },
        wait_lock: how.wait_lock,
        keep_going: how.keep_going,
        quiet: args.common.quiet,
    };
    let hooks = ReloadHooks {
        before: how.before.clone(),
        after: how.after.clone(),
        on_failure: how.on_failure.clone(),
        limit: how.hook_timeout,
    };
    Ok(ReloadRequest { aim, plist: which.plist.clone(), location, health, settings, hooks })
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
