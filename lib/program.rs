//! The edge of every program: arguments in, one line of diagnosis and a status out.

pub mod complete;

use crate::sys::redact;
use crate::sys::say::{self, Level, Voice};
use crate::words::error::Result;
use crate::words::exit::Status;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use complete::{LiveOffer, LiveValues};
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags that mean the same in every tool.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Common {
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say every step
    #[arg(short, long)]
    pub verbose: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The voice that these flags ask for.
    pub fn voice(&self) -> Voice {
        Voice::new(match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        })
    }
}

/// A parser of a flag that takes one of some names, each with a line for people.
pub fn one_of(names: &'static [(&'static str, &'static str)]) -> clap::builder::PossibleValuesParser {
    names.iter().map(|(name, help)| clap::builder::PossibleValue::new(*name).help(*help)).into()
}

/// What some programs have beside their act.
#[derive(Clone, Copy)]
pub struct Edge {
    /// The verb that is taken for granted, by the first argument.
    pub implied: fn(&str) -> Option<&'static str>,
    /// What this machine knows, for a shell that completes a line.
    pub live: LiveValues,
    /// What is said where help is asked for beside other words, where a status of 0 would be taken for an
    /// answer (2).
    pub help_alone: Option<&'static str>,
}

impl Default for Edge {
    fn default() -> Edge {
        Edge { implied: |_| None, live: |_| LiveOffer::default(), help_alone: None }
    }
}

/// Reads the arguments and runs `act`.
///
/// Usage errors end with 2; with 125 where a command follows `--`, as timeout(1) does, so that they are not
/// taken for the command's own status.
pub fn run<A: Parser>(edge: Edge, act: impl FnOnce(A) -> Result<Status>) -> ExitCode {
    crate::sys::signal::begin();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let implied = |first: Option<&OsString>| first.and_then(|first| first.to_str()).and_then(edge.implied);
    if let Some(words) = complete::question(&arguments) {
        complete::answer(A::command(), implied(words.first()), words, edge.live);
        crate::life::end_helpers();
        say::finish();
        return ExitCode::from(Status::Done.code());
    }
    let verb = implied(arguments.get(1));
    verb.into_iter().for_each(|verb| arguments.insert(1, verb.into()));
    let wraps = arguments.iter().any(|argument| argument == "--");
    let usage = if wraps { Status::WrapperFailed } else { Status::Usage };
    let status = match A::try_parse_from(&arguments) {
        Ok(parsed) => match act(parsed) {
            Ok(status) => status,
            Err(error) => {
                say::error(&error.to_string());
                if error.status == Status::Usage { usage } else { error.status }
            }
        },
        Err(error)
            if error.kind() == ErrorKind::DisplayHelp && arguments.len() > 2 && edge.help_alone.is_some() =>
        {
            say::error(edge.help_alone.unwrap_or_default());
            usage
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed pipe (`--help | head -1`) is no failure of ours.
            let _ = say::answer(error.render().to_string().trim_end());
            Status::Done
        }
        Err(error) => {
            say::error(&format!("{}; try '{} --help'", line(&error), say::program()));
            usage
        }
    };
    // A probe or a hook that hangs is ended by whoever ends, not by a thread that may never run again.
    crate::life::end_helpers();
    // Nothing that is said puts the end off, and nobody who does not read changes it.
    say::finish();
    ExitCode::from(status.code())
}

/// `value` without what may be a login, where there is one; a place may have one without a scheme.
fn shown(value: &str, place: bool) -> Option<String> {
    let shown = match value.rfind('@') {
        Some(end) if place && end > 0 => {
            let scheme = value[..end].split_once("://").map_or(0, |(scheme, _)| scheme.len() + 3);
            format!("{}{}{}", &value[..scheme], redact::MASK, &value[end..])
        }
        _ => redact::urls(value).into_owned(),
    };
    (shown != value).then_some(shown)
}

/// clap's message in one line, without its usage text.
fn line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return "an argument is not UTF-8".to_owned();
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "arguments are missing".to_owned();
    }
    let mut text = error.render().to_string();
    // A value is repeated without a login.
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
        let proxy = error.get(ContextKind::InvalidArg).is_some_and(|flag| flag.to_string().contains("proxy"));
        if let Some(shown) = shown(value, proxy) {
            text = text.replace(value.as_str(), &shown);
        }
    }
    // What follows `--` is the command of a program that has one, not a value of ours.
    let wraps = text.lines().any(|line| line.starts_with("Usage:") && line.contains("COMMAND"));
    let mut joined = String::new();
    for part in text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim) {
        match part.strip_prefix("tip: ") {
            Some(tip) if wraps && tip.starts_with("to pass ") => {}
            Some(tip) => joined += &format!("; {tip}"),
            None if part.is_empty() || part.starts_with("For more information") => {}
            None if joined.is_empty() => joined = part.to_owned(),
            None => joined += &format!(" {part}"),
        }
    }
    let word = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if wraps && error.kind() == ErrorKind::UnknownArgument && !word.is_empty() && !word.starts_with('-') {
        joined += &format!("; the command follows '--': {} -- {word}", say::program());
    }
    let joined = joined.strip_prefix("error: ").unwrap_or(&joined);
    let known = error.get(ContextKind::InvalidArg).is_some() || joined.chars().count() < 400;
    if known {
        crate::words::clean::line(joined).chars().take(400).collect()
    } else {
        crate::words::error::brief(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::http::Proxy;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[arg(long, value_parser = Proxy::parse)]
        proxy: Option<Proxy>,
    }

    #[test]
    fn a_login_of_a_value_that_is_refused_is_not_repeated() {
        for text in [
            "socks5://u:secretw@127.0.0.1:1",
            "http://u:secretw@127.0.0.1:bad",
            "u:secretw@127.0.0.1:bad",
            "http://u:a/secretw@127.0.0.1:1",
            "http://u:a'secretw@127.0.0.1",
        ] {
            let said = line(&Arguments::try_parse_from(["x", "--proxy", text]).unwrap_err());
            assert!(said.contains("***@127.0.0.1") && !said.contains("secretw"), "{said}");
        }
    }
}
