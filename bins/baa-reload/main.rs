//! Reloads services and proves that they recovered.

mod args;

use args::{Args, Manager, Scope};
use baa::act::reload::order::{self, Aim, Health, Kind, Order, Place, Settings};
use baa::program::run;
use baa::sys::say;
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    run(reload)
}

fn reload(args: Args) -> Result<Status> {
    let order = order(&args)?;
    let voice = args.common.voice();
    if args.common.dry_run {
        let plan = order::plan(&order)?;
        let text = if args.common.json { plan.json().to_string() } else { plan.text() };
        say::answer(&text)?;
        return Ok(Status::Done);
    }
    let done = order::carry_out(&order, &voice)?;
    if args.common.json {
        say::answer(&done.json.to_string())?;
    }
    Ok(done.status)
}

fn order(args: &Args) -> Result<Order> {
    let usage = |why: &str| Error::new(Status::Usage, why);
    let kind = match args.manager {
        Manager::Auto if args.group.is_some() => Kind::Embedded,
        Manager::Auto => Kind::of_this_machine(),
        Manager::Launchd => Kind::Launchd,
        Manager::Systemd => Kind::Systemd,
        Manager::Baa => Kind::Embedded,
    };
    if args.group.is_some() && !matches!(args.manager, Manager::Auto | Manager::Baa) {
        return Err(usage("--group is for --manager baa"));
    }
    let daemon = args.scope.map(|scope| scope == Scope::Daemon);
    let place = Place {
        kind,
        daemon,
        domain: args.domain.clone(),
        install_dir: install_dir(args)?,
        group: args.group.clone(),
    };
    let aim = match (&args.label, args.all_services) {
        (Some(label), _) => Aim::Label(label.clone()),
        (None, true) => Aim::All { prefix: args.label_prefix.clone() },
        (None, false) if args.service.is_empty() => {
            Aim::Services { prefix: args.label_prefix.clone(), names: vec!["conductor".to_owned()] }
        }
        (None, false) => Aim::Services { prefix: args.label_prefix.clone(), names: args.service.clone() },
    };
    if args.plist.is_some() && (args.all_services || args.service.len() > 1) {
        return Err(usage("--plist names the file of one service"));
    }
    if args.health_url.is_some() && (args.all_services || args.service.len() > 1) {
        return Err(usage("--health-url is for one service"));
    }
    let health = Health {
        url: args.health_url.clone(),
        variable: args.health_env.clone(),
        path: args.health_path.clone(),
        none: args.no_health,
    };
    let settings = Settings {
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
    Ok(Order { aim, plist: args.plist.clone(), place, health, settings })
}

fn install_dir(args: &Args) -> Result<PathBuf> {
    if let Some(dir) = &args.install_dir {
        return Ok(dir.clone());
    }
    if args.scope == Some(Scope::Daemon) {
        return Ok(PathBuf::from("/Library/LaunchDaemons"));
    }
    let home = args
        .home_dir
        .clone()
        .or_else(|| std::env::var_os("HOME").map(PathBuf::from).filter(|home| !home.as_os_str().is_empty()));
    let home =
        home.ok_or_else(|| Error::new(Status::Usage, "HOME is not set; give --home-dir or --install-dir"))?;
    Ok(home.join("Library/LaunchAgents"))
}
