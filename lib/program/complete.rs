//! What may stand at the end of a line that somebody is typing: a shell asks `PROGRAM __complete -- WORD...`,
//! of which the last word is the one to complete, as far as it is there. Verbs, options and their values come
//! from the declaration that reads the line too; what only this machine knows comes from the program, within
//! `PATIENCE`. Nothing is changed, and nothing is said but the answer.
//!
//! The answer has a line for each word, perhaps with a tab and what it means. A line that begins with a tab
//! is for the shell, which knows better: `files`, `plists` or `directories` and the part of the word that is
//! before the path, `commands`, or `command` and the number of the word that is one.

use crate::sys::say;
use crate::words::clean;
use clap::{Arg, ArgAction, Command, ValueHint};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// The first argument of a shell's question.
const QUESTION: &str = "__complete";
/// How long the machine may be asked.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many letters of what a word means are told.
const ABOUT: usize = 72;
/// The most values that are offered.
const MOST: usize = 5000;

/// What is known of this machine for the value that is asked for.
pub type LiveValues = fn(&TypedLine) -> LiveOffer;

/// Values that only this machine knows.
#[derive(Debug, Default)]
pub struct LiveOffer {
    /// The whole words. One that ends with a colon, a slash or `=` is only the begin of one.
    pub words: Vec<String>,
    /// Where a path may follow: what of the word is before it.
    pub path_after: Option<String>,
}

impl LiveOffer {
    /// These words.
    pub fn of(words: impl IntoIterator<Item = impl Into<String>>) -> LiveOffer {
        LiveOffer { words: words.into_iter().map(Into::into).collect(), path_after: None }
    }

    /// How targets begin, of `schemes`; after the scheme of `word` a path, where that is one of `paths`.
    pub fn schemes(word: &str, schemes: &[&str], paths: &[&str]) -> LiveOffer {
        let before = paths.iter().find(|scheme| word.starts_with(**scheme));
        LiveOffer {
            path_after: before.map(|scheme| (*scheme).to_owned()),
            ..LiveOffer::of(schemes.iter().copied())
        }
    }
}

/// The line as far as it is typed.
#[derive(Clone, Debug, Default)]
pub struct TypedLine {
    /// The verbs, one below the other.
    pub verbs: Vec<String>,
    /// The argument whose value is asked for, and what its value is called.
    pub argument: (String, String),
    /// What there is of the value.
    pub word: String,
    given: Vec<(String, OsString)>,
}

impl TypedLine {
    /// The last value of the argument `name`.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.values(name).last().filter(|value| !value.is_empty())
    }

    /// All values of the argument `name`.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.given.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// The last one as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.to_str()
    }

    /// The last one as a path: `~/` is the home directory, as for a shell.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.value(name)?);
        match path.strip_prefix("~") {
            Ok(rest) => Some(PathBuf::from(std::env::var_os("HOME")?).join(rest)),
            Err(_) => Some(path),
        }
    }
}

/// The words of a shell's question, the program's name left out; `None` where `arguments` are none.
pub(super) fn question(arguments: &[OsString]) -> Option<&[OsString]> {
    let asks = arguments.get(1)? == QUESTION && arguments.get(2)? == "--" && arguments.len() > 3;
    asks.then(|| &arguments[3..])
}

/// Answers a shell's question about `words`; `verb` is taken for granted before them.
pub(super) fn answer(mut command: Command, verb: Option<&str>, words: &[OsString], live: LiveValues) {
    command.build();
    let lines = lines(&command, verb, words, live);
    if !lines.is_empty() {
        // Whoever asked may be gone.
        let _ = say::answer(&lines.join("\n"));
    }
}

fn lines(command: &Command, verb: Option<&str>, words: &[OsString], live: LiveValues) -> Vec<String> {
    let Some((current, before)) = words.split_last() else { return Vec::new() };
    let (current, mut scan) = (current.to_string_lossy().into_owned(), Scan::new(command));
    if let Some(verb) = verb {
        scan.take_plain(OsStr::new(verb), verb);
    }
    for (number, word) in before.iter().enumerate() {
        scan.take(word, number + 1);
    }
    let mut answer = Answer::default();
    if scan.lost {
        return answer.lines;
    }
    if let Some(number) = scan.wrapped {
        return vec![format!("\tcommand\t{number}")];
    }
    if let Some(argument) = scan.pending {
        scan.values(argument, &current, "", live, &mut answer);
        return answer.lines;
    }
    let option = current.starts_with('-') && !scan.no_more_options;
    if let Some((name, value)) = current.split_once('=').filter(|_| option && current.starts_with("--")) {
        if let Some(argument) = scan.long(&name[2..]) {
            scan.values(argument, value, &format!("{name}="), live, &mut answer);
        }
        return answer.lines;
    }
    if option {
        scan.options(&mut answer);
        return answer.lines;
    }
    let verbs = scan.verbs(&mut answer);
    if scan.no_more_options && scan.last().is_some() {
        return vec![format!("\tcommand\t{}", before.len() + 1)];
    }
    if let Some(argument) = scan.positional() {
        scan.values(argument, &current, "", live, &mut answer);
    }
    // A lone verb would be taken for all that there is.
    let free = current.is_empty() && !(verbs && scan.command.is_subcommand_required_set());
    if free && (answer.lines.is_empty() || verbs) {
        scan.options(&mut answer);
    }
    answer.lines
}

#[derive(Default)]
struct Answer {
    lines: Vec<String>,
}

impl Answer {
    /// A name that a shell or a terminal would take for something else is not offered.
    fn word(&mut self, word: &str, about: Option<String>) {
        if word.is_empty() || word.contains(|letter: char| letter.is_whitespace() || clean::is_unfit(letter))
        {
            return;
        }
        if self.lines.len() < MOST {
            self.lines.push(match about.filter(|about| !about.is_empty()) {
                Some(about) => format!("{word}\t{}", clean::line(&short(&about))),
                None => word.to_owned(),
            });
        }
    }

    fn shell(&mut self, what: &str, before: &str) {
        if !before.contains(clean::is_unfit) {
            self.lines.push(format!("\t{what}\t{before}"));
        }
    }
}

/// As much of a line as a list of many has room for.
fn short(about: &str) -> String {
    match about.char_indices().nth(ABOUT) {
        Some((end, _)) => {
            format!("{}…", about[..about[..end].rfind(' ').unwrap_or(end)].trim_end_matches([',', ':', ';']))
        }
        None => about.to_owned(),
    }
}

/// What a line has said so far.
struct Scan<'a> {
    command: &'a Command,
    typed: TypedLine,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    positionals: usize,
    no_more_options: bool,
    /// Whose command begins with which word.
    wrapped: Option<usize>,
    /// A word was met that has no place.
    lost: bool,
}

impl<'a> Scan<'a> {
    fn new(command: &'a Command) -> Scan<'a> {
        Scan {
            command,
            typed: TypedLine::default(),
            pending: None,
            positionals: 0,
            no_more_options: false,
            wrapped: None,
            lost: false,
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let mut all = self.command.get_arguments();
        all.find(|one| {
            one.get_long() == Some(name) || one.get_all_aliases().unwrap_or_default().contains(&name)
        })
    }

    fn short(&self, letter: char) -> Option<&'a Arg> {
        self.command.get_arguments().find(|one| one.get_short() == Some(letter))
    }

    fn last(&self) -> Option<&'a Arg> {
        self.command.get_positionals().find(|one| one.is_last_set())
    }

    fn positional(&self) -> Option<&'a Arg> {
        let mut all: Vec<&Arg> = self.command.get_positionals().filter(|one| !one.is_last_set()).collect();
        all.sort_by_key(|one| one.get_index());
        let many = all.last().copied().filter(|one| is_many(one));
        all.get(self.positionals).copied().or(many)
    }

    fn give(&mut self, argument: &Arg, value: &OsStr) {
        self.typed.given.push((argument.get_id().to_string(), value.to_owned()));
    }

    /// Goes on over the word `number` of the line.
    fn take(&mut self, word: &OsStr, number: usize) {
        if self.wrapped.is_some() {
            return;
        }
        if let Some(argument) = self.pending.take() {
            return self.give(argument, word);
        }
        let text = word.to_string_lossy();
        if self.no_more_options && self.last().is_some() {
            self.wrapped = Some(number);
        } else if self.no_more_options || !text.starts_with('-') || text == "-" {
            self.take_plain(word, &text);
        } else if text == "--" {
            self.no_more_options = true;
        } else if let Some(name) = text.strip_prefix("--") {
            let (name, value) =
                name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            if let Some(argument) = self.long(name) {
                self.take_option(argument, value.unwrap_or_default(), value.is_none());
            }
        } else {
            self.take_short(&text[1..]);
        }
    }

    fn take_plain(&mut self, word: &OsStr, text: &str) {
        let below = self.command.find_subcommand(text).filter(|_| self.may_have_verb());
        if let Some(below) = below {
            self.typed.verbs.push(below.get_name().to_owned());
            self.command = below;
            self.positionals = 0;
        } else if let Some(argument) = self.positional() {
            self.give(argument, word);
            self.positionals += 1;
        } else {
            self.lost = true;
        }
    }

    fn take_option(&mut self, argument: &'a Arg, value: &str, apart: bool) {
        let takes = argument.get_action().takes_values();
        if takes && apart && !argument.is_require_equals_set() {
            self.pending = Some(argument);
        } else {
            self.give(argument, OsStr::new(value));
        }
    }

    /// `-qv`, `-l5`, `-l 5`.
    fn take_short(&mut self, letters: &str) {
        for (at, letter) in letters.char_indices() {
            let Some(argument) = self.short(letter) else { return };
            let rest = &letters[at + letter.len_utf8()..];
            if argument.get_action().takes_values() {
                return self.take_option(argument, rest, rest.is_empty());
            }
            self.take_option(argument, "", false);
        }
    }

    fn may_have_verb(&self) -> bool {
        let room = self.typed.given.is_empty() || !self.command.is_args_conflicts_with_subcommands_set();
        room && !self.no_more_options && self.positionals == 0
    }

    /// Offers the verbs that may stand here; says whether there are any.
    fn verbs(&self, answer: &mut Answer) -> bool {
        let before = answer.lines.len();
        let verbs = self.command.get_subcommands().filter(|verb| self.may_have_verb() && !verb.is_hide_set());
        verbs.for_each(|verb| answer.word(verb.get_name(), verb.get_about().map(ToString::to_string)));
        answer.lines.len() > before
    }

    /// Offers the options that may still come.
    fn options(&self, answer: &mut Answer) {
        if self.no_more_options {
            return;
        }
        let is_given =
            |argument: &Arg| self.typed.given.iter().any(|(name, _)| *name == argument.get_id().as_str());
        let shut_out: Vec<&str> = self
            .command
            .get_arguments()
            .filter(|one| is_given(one))
            .flat_map(|one| self.command.get_arg_conflicts_with(one))
            .map(|one| one.get_id().as_str())
            .collect();
        for argument in self.command.get_opts().chain(self.command.get_arguments().filter(|one| is_flag(one)))
        {
            let again = matches!(argument.get_action(), ArgAction::Append | ArgAction::Count);
            let out = is_given(argument) && !again || shut_out.contains(&argument.get_id().as_str());
            if argument.is_hide_set() || out {
                continue;
            }
            let about = argument.get_help().map(ToString::to_string);
            let end = if argument.is_require_equals_set()
                && argument.get_num_args().is_some_and(|count| count.min_values() > 0)
            {
                "="
            } else {
                ""
            };
            for name in argument.get_long_and_visible_aliases().unwrap_or_default() {
                answer.word(&format!("--{name}{end}"), about.clone());
            }
            if let Some(letter) = argument.get_short().filter(|_| argument.get_long().is_none()) {
                answer.word(&format!("-{letter}"), about);
            }
        }
        if self.last().is_some() {
            answer.word("--", Some("What follows is the command".to_owned()));
        }
    }

    /// Offers values of `argument`; `before` is what of the word is no part of the value.
    fn values(&self, argument: &Arg, value: &str, before: &str, live: LiveValues, answer: &mut Answer) {
        let known = argument.get_possible_values();
        for one in known.iter().filter(|one| !one.is_hide_set()) {
            answer.word(&format!("{before}{}", one.get_name()), one.get_help().map(ToString::to_string));
        }
        if !known.is_empty() {
            return;
        }
        match kind(argument) {
            ValueKind::Known(words) => {
                words.iter().for_each(|word| answer.word(&format!("{before}{word}"), None))
            }
            ValueKind::Shell(what) => answer.shell(what, before),
            ValueKind::Free => {}
            ValueKind::Live => {
                let mut typed = self.typed.clone();
                typed.argument = (argument.get_id().to_string(), value_name(argument));
                typed.word = value.to_owned();
                let offer = in_time(live, typed);
                offer.words.iter().for_each(|word| answer.word(&format!("{before}{word}"), None));
                offer.path_after.iter().for_each(|more| answer.shell("files", &format!("{before}{more}")));
            }
        }
    }
}

/// What is live is asked on a thread, so that a disk that hangs puts nothing off.
fn in_time(live: LiveValues, typed: TypedLine) -> LiveOffer {
    let (sender, receiver) = mpsc::channel();
    let ask = move || drop(sender.send(live(&typed)));
    match std::thread::Builder::new().spawn(ask) {
        Ok(_) => receiver.recv_timeout(PATIENCE).unwrap_or_default(),
        Err(_) => LiveOffer::default(),
    }
}

/// The moment until which live values are wanted.
pub fn deadline() -> std::time::Instant {
    std::time::Instant::now() + PATIENCE
}

fn is_many(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(argument.get_action(), ArgAction::Append)
}

fn is_flag(argument: &Arg) -> bool {
    !argument.is_positional() && !argument.get_action().takes_values()
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

/// Where the values of an argument come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// One of these.
    Known(&'static [&'static str]),
    /// The shell knows: its word for it.
    Shell(&'static str),
    /// This machine knows.
    Live,
    /// Nobody knows but who types it.
    Free,
}

const LIVE: &[&str] =
    &["ADDRESS", "DOMAIN", "ID", "LABEL", "NAME", "PEER", "TARGET", "UNIT", "URL", "[NAME=]ADDRESS"];
const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
const SIGNALS: &[&str] =
    &["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH", "CONT", "ALRM", "TTIN", "TTOU", "URG", "IO"];

/// By what a value is called and what it is read into: the same word means the same in every program.
pub fn kind(argument: &Arg) -> ValueKind {
    let (id, name) = (argument.get_id().as_str(), value_name(argument));
    let is_path = argument.get_value_hint() == ValueHint::AnyPath;
    match name.as_str() {
        "COMMAND" => ValueKind::Shell("commands"),
        "DIR" => ValueKind::Shell("directories"),
        "PATH" if id.ends_with("_dir") => ValueKind::Shell("directories"),
        "PLIST" => ValueKind::Shell("plists"),
        "FILE" | "SOCKET" => ValueKind::Shell("files"),
        "PATH" if is_path => ValueKind::Shell("files"),
        "METHOD" => ValueKind::Known(METHODS),
        "SIGNAL" => ValueKind::Known(SIGNALS),
        "ROLE" => ValueKind::Known(&["primary", "standby"]),
        "BOOLEAN" => ValueKind::Known(&["true", "false"]),
        name if LIVE.contains(&name) => ValueKind::Live,
        _ => ValueKind::Free,
    }
}
