//! Reloads services and proves that they recovered.

mod args;

use args::{ReloadArgs, Scope};
use baa::act::reload::request::{HealthOptions, ReloadRequest, ReloadSettings, ReloadTarget};
use baa::act::reload::{carry_out, check};
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

fn request(args: &ReloadArgs) -> Result<ReloadRequest> {
    let usage = |why: &str| Error::new(Status::Usage, why);
    let asked = ManagerKind::named(&args.manager);
    if args.group.is_some() && asked.is_some_and(|kind| kind != ManagerKind::Embedded) {
        return Err(usage("--group is for --manager baa"));
    }
    let own = if args.group.is_some() { ManagerKind::Embedded } else { ManagerKind::of_this_machine() };
    let kind = asked.unwrap_or(own);
    let daemon = args.scope.map(|scope| scope == Scope::Daemon);
    let location = ServiceLocation {
        kind,
        daemon,
        domain: args.domain.clone(),
        install_dir: install_dir(args)?,
        group: args.group.clone(),
    };
    let aim = match (&args.label, args.all_services) {
        (Some(label), _) => ReloadTarget::Label(label.clone()),
        (None, true) => ReloadTarget::All { prefix: args.label_prefix.clone() },
        (None, false) if args.service.is_empty() => {
            ReloadTarget::Services { prefix: args.label_prefix.clone(), names: vec!["conductor".to_owned()] }
        }
        (None, false) => {
            ReloadTarget::Services { prefix: args.label_prefix.clone(), names: args.service.clone() }
        }
    };
    if args.plist.is_some() && (args.all_services || args.service.len() > 1) {
        return Err(usage("--plist names the file of one service"));
    }
    if args.health_url.is_some() && (args.all_services || args.service.len() > 1) {
        return Err(usage("--health-url is for one service"));
    }
    let health = HealthOptions {
        url: args.health_url.clone(),
        variable: args.health_env.clone(),
        path: args.health_path.clone(),
        none: args.no_health,
    };
    let settings = ReloadSettings {
        attempts: args.attempts,
        delay: args.delay,
        probe_timeout: args.probe_timeout,
        settle: args.settle,
        timeout: args.timeout,
        drain: args.drain,
        skip_kickstart: args.skip_kickstart,
        keep_going: args.keep_going,
        quiet: args.common.quiet,
    };
    Ok(ReloadRequest { aim, plist: args.plist.clone(), location, health, settings })
}

fn install_dir(args: &ReloadArgs) -> Result<PathBuf> {
    if let Some(dir) = &args.install_dir {
        return Ok(dir.clone());
    }
    if args.scope == Some(Scope::Daemon) {
        return Ok(PathBuf::from("/Library/LaunchDaemons"));
    }
    let home = args
        .home_dir
        .clone()
        .or_else(|| std::env::var_os("HOME").map(PathBuf::from).filter(|home| !home.as_os_str().is_empty()))
        .or_else(|| Some(baa::sys::user::own().ok()??.home));
    let home = home.ok_or_else(|| {
        Error::new(Status::Usage, "nobody knows our home; give --home-dir or --install-dir")
    })?;
    Ok(home.join("Library/LaunchAgents"))
}
