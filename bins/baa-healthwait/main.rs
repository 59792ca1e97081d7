//! Waits until something answers, and knows what answered.

mod args;
mod live;

use args::HealthwaitArgs;
use baa::act::wait::patient::{self, WaitEnding};
use baa::act::wait::{Rhythm, Wait, WaitRules, report};
use baa::probe::Probe;
use baa::probe::demand::Demand;
use baa::probe::http::Statuses;
use baa::probe::lineage::Lineage;
use baa::program::Edge;
use baa::service::expectation::HttpExpectation;
use baa::service::target::{self, TargetOptions};
use baa::sys::child::Spec;
use baa::sys::clock;
use baa::sys::net::FixedAddresses;
use baa::sys::say::{self, Live};
use baa::sys::signal::{self, Signal, Signals};
use baa::words::error::{Error, Result};
use baa::words::exit::Status;
use baa::words::span;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The signals that end a wait with a word and a status of its own.
const TOLD: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn main() -> ExitCode {
    // `-h db -p 5432` of pg_isready and others must not pass for "ready".
    let alone = "-h and --help stand alone: they print the help; a target is written host:port";
    baa::program::run(Edge { live: live::values, help_alone: Some(alone), ..Edge::default() }, wait)
}

fn wait(args: HealthwaitArgs) -> Result<Status> {
    let began = Instant::now();
    let options = options(&args)?;
    let demand = Demand {
        among: args.served_by.map(|pid| Lineage::of([pid])),
        newer_than: args.newer_than.as_ref().map(target::Newer::limit).transpose()?,
        any_process: args.any_process,
    };
    check_use(&args)?;
    let targets = target::parse_all(&args.targets, &options, &demand)?;
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    let voice = args.common.voice();
    if args.common.dry_run {
        voice.note(format!("would wait for {}", names.join(", ")));
        if args.common.json {
            say::answer(&report::plan(&names).to_string())?;
        }
        return Ok(Status::Done);
    }
    let probes: Vec<Arc<dyn Probe>> = targets.into_iter().map(|target| target.probe).collect();
    // A terminal that is paused, or a pipe that nobody reads, must not put the deadline off.
    say::never_wait_with_words();
    let cannot = |cause: std::io::Error| Error::io("cannot catch signals", &cause);
    let signals = Signals::catch(&TOLD).map_err(cannot)?;
    // All others end us as ever, once the commands that we ask by have ended.
    signals.catch_ending().map_err(cannot)?;
    let mut line = Live::new(!args.common.quiet && !args.common.json);
    // Nobody looks at a pipe; there only events wake us.
    let refresh = Duration::from_millis(if line.visible() { 100 } else { 10_000 });
    let mut shown = None;
    let mut told = vec![0; names.len()];
    let mut show = |wait: &Wait, now: Instant, news: Option<String>| {
        if args.common.verbose {
            for step in report::steps(wait, &names, &mut told) {
                line.clear();
                voice.step(step);
            }
        }
        if let Some(news) = news {
            line.clear();
            voice.note(news);
        }
        // The first moment decides most waits; a line that only flashes up tells nothing.
        let due = shown.map_or(wait.elapsed(now) >= Duration::from_millis(100), |last| {
            now - last >= Duration::from_millis(100)
        });
        if line.visible() && due {
            line.show(&report::live(wait, &names, now));
            shown = Some(now);
        }
    };
    let watched = (args.watch_pid.as_slice(), demand.among.clone());
    let (wait, ending) = patient::wait(rules(&args, began), &probes, watched, &signals, refresh, &mut show)?;
    drop(line);
    // All that was started has ended: whoever ends us while an answer is not read ends us at once.
    signals.release();
    if let WaitEnding::Signal(number) = ending
        && !TOLD.iter().any(|told| *told as i32 == number)
    {
        say::finish();
        signal::die_of(number);
    }
    report::doubts(&wait, &names).into_iter().for_each(|doubt| voice.warn(doubt));
    let now = Instant::now();
    if args.common.json {
        say::answer(&report::json(&wait, &ending, &names, now).to_string())?;
    }
    if let Some(words) = report::words(&wait, &ending, &names, args.invert, now) {
        say::error(&words);
    } else {
        voice.step(format!("ready after {}", span::show(wait.elapsed(now))));
    }
    match args.command.split_first() {
        Some((program, arguments)) if ending == WaitEnding::By(baa::act::wait::WaitVerdict::Ready) => {
            Err(become_command(program, arguments))
        }
        _ => Ok(report::status(&ending)),
    }
}

/// What was started to find out must not outlive us as a child of the command.
fn become_command(program: &std::ffi::OsStr, arguments: &[std::ffi::OsString]) -> Error {
    baa::life::end_helpers();
    say::finish();
    Spec::new(program, arguments).exec().into()
}

/// What is expected of an answer that no target gives would hold of nothing, and pass for "as expected".
fn check_use(args: &HealthwaitArgs) -> Result<()> {
    let any = |schemes: &[&str]| {
        let is_one = |target: &std::ffi::OsString| {
            let target = target.to_string_lossy().to_ascii_lowercase();
            schemes.iter().any(|scheme| target.starts_with(scheme))
        };
        args.targets.iter().any(is_one)
    };
    let of_http = expectation(args).flags().into_iter().find(|flag| HTTP_ONLY.contains(&flag.as_str()));
    let of_exec = (!args.exec_status.is_empty()).then(|| "--exec-status".to_owned());
    let by_http = any(&["http://", "https://", "http+unix://"]);
    match (of_http.filter(|_| !by_http), of_exec.filter(|_| !any(&["exec:"]))) {
        (Some(flag), _) => {
            Err(Error::new(Status::Usage, format!("{flag} is of no use: no target is asked by HTTP")))
        }
        (None, Some(flag)) => {
            Err(Error::new(Status::Usage, format!("{flag} is of no use: no target is a command")))
        }
        (None, None) => Ok(()),
    }
}

/// What only an answer of HTTP can hold.
const HTTP_ONLY: [&str; 9] = [
    "--method",
    "--data",
    "--data-file",
    "--status",
    "--header-contains",
    "--body-contains",
    "--body-regex",
    "--json-path",
    "--no-redirect",
];

fn rules(args: &HealthwaitArgs, began: Instant) -> WaitRules {
    let default = if args.attempts.is_some() { Duration::ZERO } else { Duration::from_secs(30) };
    let limit = |span: Duration| if span.is_zero() { span::LONGEST } else { span };
    let timeout = limit(args.timeout.unwrap_or(default));
    let pause = args.interval.or(args.delay).or(args.attempts.map(|_| Duration::from_secs(1)));
    WaitRules {
        any: args.any,
        successes: args.successes,
        stable_for: args.stable_for,
        invert: args.invert,
        rhythm: pause.map_or(Rhythm::Adaptive, Rhythm::Every),
        attempts: args.attempts,
        deadline: Some(clock::after(began, timeout)),
        probe_timeout: limit(args.probe_timeout),
    }
}

fn options(args: &HealthwaitArgs) -> Result<TargetOptions> {
    let mut options = TargetOptions::from(expectation(args).options(Statuses::SUCCESS)?);
    options.route.proxy.clone_from(&args.proxy);
    options.route.fixed = FixedAddresses::new(args.resolve.clone());
    if !args.exec_status.is_empty() {
        options.exec.clone_from(&args.exec_status);
    }
    Ok(options)
}

fn expectation(args: &HealthwaitArgs) -> HttpExpectation {
    HttpExpectation {
        method: args.method.clone(),
        headers: args.header.clone(),
        data: args.data.clone(),
        data_file: args.data_file.clone(),
        statuses: args.status.clone(),
        header_contains: args.header_contains.clone(),
        patterns: args.body_regex.clone(),
        contains: args.body_contains.clone(),
        json: args.json_path.clone(),
        cacert: args.cacert.clone(),
        insecure: args.insecure,
        cert: args.cert.clone(),
        key: args.key.clone(),
        redirects: !args.no_redirect,
        token_env: args.token_env.clone(),
        token_file: args.token_file.clone(),
    }
}
