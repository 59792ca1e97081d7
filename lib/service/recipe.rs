//! What a keeper starts: a job as launchd would start it, or a command as it stands.

use crate::service::job::{DEFAULT_PATH, Job, KeepAlive};
use crate::sys::child::{Spec, Stdio};
use crate::sys::file;
use crate::sys::user::{self, Credentials};
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What to start, again and again.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// A command with its arguments, in our environment, with our standard streams.
    Command(Vec<OsString>),
    /// A job, in the clean environment that launchd gives.
    Job(Box<Job>),
}

impl Recipe {
    /// The start of one instance.
    ///
    /// # Errors
    /// 74, 77, 78: a log that cannot be opened, a user that is gone.
    pub fn spec(&self) -> Result<Spec> {
        match self {
            Recipe::Command(words) => {
                let (program, arguments) =
                    words.split_first().ok_or_else(|| Error::new(Status::Usage, "no command"))?;
                Ok(Spec::new(program, arguments))
            }
            Recipe::Job(job) => of_job(job),
        }
    }

    /// The paths that must exist (true) or not (false) for the job to run, of KeepAlive's PathState.
    pub fn paths(&self) -> &[(PathBuf, bool)] {
        match self {
            Recipe::Job(job) => match &job.keep_alive {
                KeepAlive::When { paths, .. } => paths,
                KeepAlive::Always(_) => &[],
            },
            Recipe::Command(_) => &[],
        }
    }
}

fn of_job(job: &Job) -> Result<Spec> {
    let cannot =
        |status: Status, why: String| Error::new(status, format!("cannot start {}: {why}", job.label));
    let begin = |error: Error| error.context(format!("cannot start {}", job.label));
    let other = job.user.as_deref().map(user::wanted).transpose().map_err(begin)?;
    let mut who = match &other {
        Some(who) => Some(who.clone()),
        None => user::own().map_err(|cause| {
            let why = format!("cannot tell who we are: {}", reason(&cause));
            cannot(Status::Unavailable, why)
        })?,
    };
    let mut becomes = other.filter(|other| other.uid != user::own_uid());
    if let Some(name) = &job.group {
        let gid = user::wanted_group(name).map_err(begin)?;
        becomes = becomes.or_else(|| who.clone().filter(|_| user::own_uid() == 0));
        becomes = becomes.map(|one| one.with_group(gid));
        who = who.map(|one| one.with_group(gid));
    }
    let program = job
        .find_program()
        .ok_or_else(|| cannot(Status::NotFound, format!("program '{}' does not exist", job.program)))?;
    // launchd opens them once it has become the user, and so does the child: it is never given what that user
    // could not open, and what it makes is that user's.
    let another = becomes.as_ref().is_some_and(|one| one.uid != user::own_uid());
    let stdio = if another {
        [of_user(&job.stdin, false), of_user(&job.stdout, true), of_user(&job.stderr, true)]
    } else {
        [input(job.stdin.as_deref())?, log(job.stdout.as_deref())?, log(job.stderr.as_deref())?]
    };
    let foreign = becomes.is_some();
    Ok(Spec {
        program: program.into_os_string(),
        arg0: job.arguments.first().map(OsString::from),
        args: job.arguments.iter().skip(1).map(OsString::from).collect(),
        env: environment(job, who.as_ref(), foreign),
        clear_env: true,
        dir: Some(job.directory.clone().unwrap_or_else(|| PathBuf::from("/"))),
        umask: job.umask,
        user: becomes,
        stdio: stdio.map(Some),
        // Nor what we have inherited ourselves: descriptors, the keys of our session. A user's own jobs share
        // those with him, as all that he starts.
        only_passed: true,
        own_keyring: foreign || user::own_uid() == 0,
        ..Spec::default()
    })
}

/// Where a command of another user is looked for, and what it has for PATH, as systemd gives it.
const PATH_OF_OTHERS: &str = if cfg!(target_os = "linux") {
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
} else {
    DEFAULT_PATH
};

/// Lets a command become `user`. One of another user begins as its manager would start it, with nothing of
/// ours: in an environment of its own but for language and time zone, in /, with no descriptor and no key.
pub fn become_user(spec: &mut Spec, user: &Credentials) {
    if user.uid != user::own_uid() {
        let of_all = |name: &str| ["LANG", "LANGUAGE", "TZ"].contains(&name) || name.starts_with("LC_");
        let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_all));
        spec.clear_env = true;
        spec.env.push(("PATH".into(), PATH_OF_OTHERS.into()));
        spec.env.extend(kept);
        spec.dir = Some("/".into());
        (spec.only_passed, spec.own_keyring) = (true, true);
    }
    spec.env.extend(user.environment());
    spec.user = Some(user.clone());
}

/// launchd's environment and not that of whoever reloaded the job, so that what runs today also runs after a
/// boot.
fn environment(job: &Job, who: Option<&Credentials>, foreign: bool) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> =
        vec![("PATH".into(), DEFAULT_PATH.into()), ("XPC_SERVICE_NAME".into(), job.label.clone().into())];
    all.extend(who.map(Credentials::environment).into_iter().flatten());
    // A directory for our temporary files is none for another user's.
    let kept: &[&str] = if foreign { &["LANG"] } else { &["TMPDIR", "LANG"] };
    all.extend(kept.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))));
    all.extend(job.environment.iter().map(|(name, value)| (name.into(), value.into())));
    all
}

fn of_user(path: &Option<PathBuf>, append: bool) -> Stdio {
    path.clone().map_or(Stdio::Null, |path| Stdio::Path { path, append })
}

fn input(path: Option<&Path>) -> Result<Stdio> {
    let Some(path) = path else { return Ok(Stdio::Null) };
    let file = file::open_led_input(path)
        .map_err(|cause| Error::io(format!("cannot open StandardInPath '{}'", path.display()), &cause))?;
    Ok(file.into())
}

fn log(path: Option<&Path>) -> Result<Stdio> {
    let Some(path) = path else { return Ok(Stdio::null()) };
    let file = file::open_led_log(path)
        .map_err(|cause| Error::io(format!("cannot open log '{}'", path.display()), &cause))?;
    Ok(file.map_or_else(Stdio::null, Stdio::from))
}
