//! Pages, completions and the book's table say what the programs do: generated parts are compared, and with
//! BAA_WRITE=1 rewritten.
#![allow(dead_code)]

use baa::program::complete::{ValueKind, kind};
use baa::words::exit::TABLE;
use clap::{Command, CommandFactory};
use std::path::{Path, PathBuf};

#[path = "../bins/baa-canary/args.rs"]
mod canary;
#[path = "../bins/baa-control/args.rs"]
mod control;
#[path = "../bins/baa-daemons/args.rs"]
mod daemons;
#[path = "../bins/baa-healthwait/args.rs"]
mod healthwait;
#[path = "../bins/baa-lease/args.rs"]
mod lease;
#[path = "../bins/baa-peer-remove/args.rs"]
mod peer_remove;
#[path = "../bins/baa-reload/args.rs"]
mod reload;
#[path = "../bins/baa-run/args.rs"]
mod run;

/// What each program reads, as it is declared.
pub fn programs() -> Vec<Command> {
    vec![
        reload::ReloadArgs::command(),
        healthwait::HealthwaitArgs::command(),
        run::RunArgs::command(),
        canary::CanaryArgs::command(),
        peer_remove::PeerRemoveArgs::command(),
        lease::LeaseArgs::command(),
        control::ControlArgs::command(),
        daemons::DaemonsArgs::command(),
    ]
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file with what it should be, or writes it.
#[track_caller]
fn same(path: &Path, wanted: &str) {
    if std::env::var_os("BAA_WRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is stale; run: make artefacts", path.display());
}

/// `text` with the part between the markers of `name` replaced.
fn between(text: &str, name: &str, comment: [&str; 2], part: &str) -> String {
    let begin = format!("{}BEGIN {name}{}\n", comment[0], comment[1]);
    let end = format!("{}END {name}{}", comment[0], comment[1]);
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end:?}"));
    format!("{head}{begin}{}\n{end}{tail}", part.trim_end())
}

const ROFF: [&str; 2] = [".\\\" ", ""];

/// Whether a program does something without a verb, by flags of its own.
fn has_own_flags(command: &Command) -> bool {
    !command.is_arg_required_else_help_set()
}

/// The verbs of a program.
fn verbs(command: &Command) -> Vec<Command> {
    let named = |verb: &Command| {
        verb.clone()
            .bin_name(format!("{} {}", command.get_name(), verb.get_name()))
            .disable_help_flag(true)
            .disable_version_flag(true)
    };
    command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(named).collect()
}

/// The usage lines of `--help`, as a section.
fn synopsis(mut command: Command) -> String {
    let verbs = verbs(&command);
    let mut usages = Vec::new();
    if has_own_flags(&command) {
        // What it says of its verbs stands in the lines of the verbs.
        let usage = command.render_usage().to_string();
        let own = usage
            .lines()
            .filter(|line| verbs.is_empty() || !line.ends_with("<COMMAND>") && !line.contains("<ctl "));
        usages.push(own.collect::<Vec<_>>().join("\n"));
    }
    usages.extend(verbs.into_iter().map(|mut verb| verb.render_usage().to_string()));
    let lines = usages
        .iter()
        .flat_map(|usage| usage.lines())
        .map(|line| line.trim().trim_start_matches("Usage: ").replace('-', "\\-"));
    format!(".SH SYNOPSIS\n.nf\n{}\n.fi", lines.collect::<Vec<_>>().join("\n"))
}

/// The options, of each verb under its own head.
fn options(command: Command) -> String {
    let render = |command: Command| {
        let mut options = Vec::new();
        clap_mangen::Man::new(command).render_options_section(&mut options).unwrap();
        // mandoc(1) warns of breaks around an empty line.
        String::from_utf8(options).unwrap().replace("\n.br\n\n.br\n", "\n.sp\n")
    };
    let verbs = verbs(&command);
    let quotes = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let mut text = if has_own_flags(&command) {
        let own = render(command);
        if verbs.is_empty() {
            return own;
        }
        format!("{own}.SH COMMANDS\n")
    } else {
        format!("{quotes}.SH OPTIONS\n")
    };
    for verb in verbs {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text += &format!(
            ".SS {}\n{}.\n",
            verb.get_bin_name().unwrap().replace('-', "\\-"),
            about.replace('-', "\\-")
        );
        text += render(verb).replace(quotes, "").trim_start_matches(".SH OPTIONS\n");
    }
    text
}

#[apply(test)]
fn man_pages_hold_the_flags_of_the_programs() {
    for command in programs() {
        let path = root().join("man").join(format!("{}.1", command.get_name()));
        let page = std::fs::read_to_string(&path).unwrap();
        let page = between(&page, "synopsis", ROFF, &synopsis(command.clone()));
        same(&path, &between(&page, "options", ROFF, &options(command)));
    }
}

/// The scripts ask the program: each shell has one, whatever the program.
#[apply(test)]
fn completions_are_those_of_the_programs() {
    for command in programs() {
        let name = command.get_name();
        for (template, file) in [
            (include_str!("support/completion.bash"), format!("{name}.bash")),
            (include_str!("support/completion.zsh"), format!("_{name}")),
            (include_str!("support/completion.fish"), format!("{name}.fish")),
        ] {
            let function = format!("_{}", name.replace('-', "_"));
            let script = template.replace("_FUNCTION", &function).replace("PROGRAM", name);
            same(&root().join("completions").join(file), &script);
        }
    }
}

/// What values are called that nobody can know but who types them.
const FREE: [&str; 25] = [
    "COUNT",
    "ENDS/SPAN",
    "HEADER",
    "HOST",
    "HOST:PORT:ADDRESS",
    "INTEGER",
    "LIST",
    "MILLISECONDS",
    "MODE",
    "N",
    "NAME=TEXT",
    "PERCENT",
    "PID",
    "PID|TIME",
    "PREFIX",
    "PTR OP VALUE",
    "RE",
    "SECONDS",
    "SPAN",
    "STATUS",
    "STRING",
    "TERM",
    "TEXT",
    "TOKEN",
    // Of a URL.
    "PATH",
];

/// Somebody has thought of every value that a shell may be asked to complete.
#[apply(test)]
fn every_value_is_completed_by_what_it_is_called() {
    let mut unknown = std::collections::BTreeSet::new();
    for mut program in programs() {
        program.build();
        let mut open = vec![program];
        while let Some(command) = open.pop() {
            let valued = command.get_arguments().filter(|one| one.get_action().takes_values());
            let free =
                valued.filter(|one| one.get_possible_values().is_empty() && kind(one) == ValueKind::Free);
            let names = free.map(|one| one.get_value_names().unwrap_or_default()[0].to_string());
            unknown.extend(names.filter(|name| !FREE.contains(&name.as_str())));
            open.extend(command.get_subcommands().cloned());
        }
    }
    assert!(
        unknown.is_empty(),
        "say in lib/program/complete.rs what a shell offers for {unknown:?}, or here that nobody knows it"
    );
}

#[apply(test)]
fn the_table_of_statuses_is_the_same_everywhere() {
    let page = root().join("man/baa.7");
    let rows: String =
        TABLE.iter().map(|(status, meaning)| format!(".TP\n.B {}\n{meaning}\n", status.code())).collect();
    same(
        &page,
        &between(
            &std::fs::read_to_string(&page).unwrap(),
            "statuses",
            ROFF,
            &format!("{rows}.TP\n.BI 128+ n\nended by signal\n.I n"),
        ),
    );
    let book = root().join("docs/src/statuses.md");
    let rows: String =
        TABLE.iter().map(|(status, meaning)| format!("| {} | {meaning} |\n", status.code())).collect();
    let table = format!("| status | meaning |\n|---|---|\n{rows}| 128+n | ended by signal n |");
    same(&book, &between(&std::fs::read_to_string(&book).unwrap(), "statuses", ["<!-- ", " -->"], &table));
}

#[apply(test)]
fn every_program_is_in_the_readme_the_manual_and_the_package() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let manual = std::fs::read_to_string(root().join("man/baa.7")).unwrap();
    let names: Vec<String> = programs().iter().map(|command| command.get_name().to_owned()).collect();
    for entry in std::fs::read_dir(root().join("bins")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} is not in tests/artefacts.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"")) && readme.contains(&name), "{name}");
        assert!(manual.contains(&name.replace('-', "\\-")), "{name} is not in baa.7");
    }
}
