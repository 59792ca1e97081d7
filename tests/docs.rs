//! README.md and the book in docs/: what they show is run, where they lead to is there, what they quote is
//! said.
//!
//! Each block names its kind behind the fence. `console` has commands behind `$` and what they print, with …
//! for what differs, and numbers not compared; each ends with 0 unless `echo $?` comes next. `sh` is a
//! script. A file (`file=NAME`) is put into the room of its section, and looked at by whoever reads it.
//! `not-run="why"` is counted and named in the book. A section begins in a fresh room, which
//! tests/docs/rooms furnishes.

use crate::support::{Done, Room, binary, example, finish, needs, port};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// README.md, and the pages that the book's contents name.
fn pages() -> Vec<String> {
    let summary = read("docs/src/SUMMARY.md");
    let named = links(&summary).into_iter().map(|link| format!("docs/src/{link}"));
    ["README.md".to_owned()].into_iter().chain(named).collect()
}

/// What stands behind a fence: the kind, and the words after it.
#[derive(Debug, Default)]
struct Block {
    section: String,
    line: usize,
    kind: String,
    more: BTreeMap<String, String>,
    text: String,
}

/// The name by which a heading is led to, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_' || letter == ' ';
    let plain: String = heading.chars().filter(|letter| kept(*letter)).collect();
    plain.trim().to_lowercase().replace(' ', "-")
}

/// `file=NAME not-run="why it is not"`.
fn words(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((key, value)) = rest.split_once('=') {
        let quoted = value.strip_prefix('"').map(|value| value.split_once('"').expect("a closing quote"));
        let (value, after) = quoted.unwrap_or_else(|| value.split_once(' ').unwrap_or((value, "")));
        found.insert(key.trim().to_owned(), value.to_owned());
        rest = after.trim();
    }
    assert!(rest.is_empty(), "what is {rest:?}?");
    found
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut found, mut section, mut open): (Vec<Block>, String, Option<Block>) =
        (Vec::new(), "top".to_owned(), None);
    for (number, line) in (1..).zip(page.lines()) {
        match (line.strip_prefix("```"), open.take()) {
            (Some(fence), None) => {
                let (kind, more) = fence.split_once(' ').unwrap_or((fence, ""));
                let (kind, more) = (kind.to_owned(), words(more));
                open =
                    Some(Block { section: section.clone(), line: number, kind, more, text: String::new() });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text += line;
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    section = anchor(heading);
                }
            }
        }
    }
    assert!(open.is_none(), "a fence is open at the end");
    found
}

const COMMANDS: [&str; 4] = ["console", "sh", "cron", "text"];
const FILES: [&str; 7] = ["toml", "xml", "ini", "yaml", "makefile", "dockerfile", "json"];

/// What is shown and not run: the page, the section, the reason.
fn not_run() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        for block in blocks(&read(&page)) {
            let place = format!("{page}:{}", block.line);
            let known = COMMANDS.iter().chain(&FILES).any(|kind| *kind == block.kind);
            assert!(known, "{place}: '{}' is no kind of block", block.kind);
            if let Some(reason) = block.more.get("not-run") {
                assert!(!reason.is_empty(), "{place}");
                found.push((page.clone(), block.section, reason.clone()));
            } else if FILES.contains(&&block.kind[..]) {
                assert!(block.more.contains_key("file"), "{place}: a file has a name, or a reason");
            } else if block.kind == "text" {
                assert!(!block.text.lines().any(|line| line.starts_with("$ ")), "{place}: a command is run");
            }
        }
    }
    found
}

/// A section's room, and what its page writes stands for in it.
struct Place<'a> {
    room: &'a Room,
    names: Vec<(String, String)>,
}

impl<'a> Place<'a> {
    fn new(room: &'a Room) -> Place<'a> {
        let mut names: Vec<(String, String)> = ["8080", "8081", "4317", "4320", "5432", "6379"]
            .map(|known| (known.to_owned(), port().to_string()))
            .into_iter()
            .collect();
        names.iter().filter(|(known, _)| known == "6379").for_each(|(_, port)| redis(port));
        let programs = binary("baa-run").parent().unwrap().display().to_string();
        names.push(("/usr/local/bin/baa-".to_owned(), format!("{programs}/baa-")));
        for place in ["/usr/local/", "/etc/", "/var/", "/run/baa/", "/tmp/", "/srv/", "/Users/me"] {
            names.push((place.to_owned(), room.text(&place[1..])));
        }
        Place { room, names }
    }

    /// Nothing outside the room is meant: ports are free ones, and directories of the machine are the room's.
    fn here(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(letter) = rest.chars().next() {
            let fresh = !out.ends_with(|last: char| last.is_alphanumeric());
            let known = self.names.iter().find(|(name, _)| fresh && rest.starts_with(&name[..]));
            let (name, instead) = known.map_or(("", ""), |(name, instead)| (&name[..], &instead[..]));
            if name.is_empty() {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            } else {
                out += instead;
                rest = &rest[name.len()..];
            }
        }
        out
    }

    /// Runs a script of bash, which writes into a file: what it leaves running would hold a pipe.
    fn bash(&self, script: &str) -> Done {
        let mut bash = self.room.command_at(Path::new("bash"));
        let programs = binary("baa-run").parent().unwrap().display().to_string();
        let path = format!("{}:{programs}:/usr/bin:/bin", self.room.text("bin"));
        bash.env("XDG_STATE_HOME", self.room.text("home/.local/state"))
            .env("PATH", path)
            .env("ROOM", self.room.dir.path())
            .env("PROGRAMS", &programs);
        bash.env("SERVICE", example("service")).env("LAUNCHCTL", example("launchctl"));
        bash.env("ROOMS", root().join("tests/docs/rooms"));
        for (name, instead) in self.names.iter().filter(|(name, _)| name.parse::<u16>().is_ok()) {
            bash.env(format!("PORT_{name}"), instead);
        }
        let file = self.room.path("said");
        let into = std::fs::File::create(&file).unwrap();
        // Inherited, and not a pipe.
        let whole = format!("exec > '{}' 2>&1\n{script}", file.display());
        drop(into);
        let mut done = finish(bash.arg("-c").arg(whole));
        done.stdout = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        done
    }

    fn put(&self, block: &Block) {
        let name = self.here(&block.more["file"]);
        let path = name.strip_prefix(&self.room.text("")).unwrap_or(&name).to_owned();
        let file = self.room.write(&path, &self.here(&block.text));
        let looked = match &block.kind[..] {
            "toml" => self.room.run("baa-daemons", ["check".as_ref(), file.as_os_str()]),
            "xml" => self.room.run("baa-run", ["-n".as_ref(), "--job".as_ref(), file.as_os_str()]),
            _ => return,
        };
        assert!(looked.status == 0 && !looked.stderr.contains("warning"), "{looked:?}");
    }
}

/// A server that tells everybody PONG, as Redis does.
fn redis(port: &str) {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(b"+PONG\r\n");
        }
    });
}

/// Numbers, and spans of time with their unit, differ from run to run.
fn numbered(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        out += &rest[..at];
        out.push('#');
        rest = rest[at..].trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        rest = rest.strip_prefix("ms").or_else(|| rest.strip_prefix('s')).unwrap_or(rest);
    }
    out + rest
}

/// Whether what was printed is what the page shows: … stands for anything within a line, and a line of it
/// for lines.
fn like(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.first(), printed.first()) {
        (None, None) => true,
        (Some(&"…"), _) => (0..=printed.len()).any(|skip| like(&shown[1..], &printed[skip..])),
        (Some(line), Some(found)) => within(line, found) && like(&shown[1..], &printed[1..]),
        _ => false,
    }
}

fn refs(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

fn within(shown: &str, printed: &str) -> bool {
    let Some((head, rest)) = shown.split_once('…') else { return shown == printed };
    let Some(left) = printed.strip_prefix(head) else { return false };
    left.char_indices().map(|(at, _)| at).chain([left.len()]).any(|at| within(rest, &left[at..]))
}

/// The commands of a `console` block, each with what it prints.
fn session(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), Vec::new()));
        } else if let (Some(more), true) =
            (line.strip_prefix("> "), found.last().is_some_and(|last| last.1.is_empty()))
        {
            let last = &mut found.last_mut().unwrap().0;
            last.push('\n');
            *last += more;
        } else {
            found.last_mut().expect("a command before what it prints").1.push(line);
        }
    }
    found
}

fn run_console(place: &Place, block: &Block, at: &str) {
    let text = place.here(&block.text);
    let commands = session(&text);
    let mut script = String::new();
    for (command, _) in &commands {
        script += &format!("{command}\nstatus=$?; printf '\\036%d\\n' $status; (exit $status)\n");
    }
    let done = place.bash(&script);
    let mut rest = &done.stdout[..];
    for (number, (command, shown)) in commands.iter().enumerate() {
        let (printed, after) =
            rest.split_once('\u{1e}').unwrap_or_else(|| panic!("{at}: `{command}`: {done:?}"));
        let (status, after) = after.split_once('\n').unwrap();
        rest = after;
        let printed: Vec<&str> = printed.lines().collect();
        let exact = ["echo $?", "cat "].iter().any(|one| command.contains(one));
        let plain = |lines: &[&str]| -> Vec<String> {
            lines.iter().map(|line| if exact { (*line).to_owned() } else { numbered(line) }).collect()
        };
        let same = like(&refs(&plain(shown)), &refs(&plain(&printed)));
        assert!(same, "{at}: `{command}`\nshown: {shown:#?}\nprinted: {printed:#?}");
        let asked = commands.get(number + 1).is_some_and(|(next, _)| next == "echo $?");
        assert!(status == "0" || asked, "{at}: `{command}` ended with {status}: {printed:#?}");
    }
}

fn run_script(place: &Place, text: &str, wanted: i32, at: &str) {
    let done = place.bash(&format!("set -e\n{}", place.here(text)));
    assert_eq!(done.status, wanted, "{at}: {}", done.stdout);
}

/// The commands of a workflow: of each `run:` or `script:`, those below it too.
fn steps(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut below: Option<(usize, bool)> = None;
    for line in text.lines() {
        let inner = line.trim_start();
        let indent = line.len() - inner.len();
        if let Some((_, list)) = below.filter(|(outer, _)| indent > *outer || inner.is_empty()) {
            if list {
                found.push(inner.trim_start_matches("- ").to_owned());
            } else {
                let last = found.last_mut().unwrap();
                last.push('\n');
                *last += inner;
            }
            continue;
        }
        below = None;
        match inner.trim_start_matches("- ").split_once(": ") {
            Some(("run", "|")) => {
                found.push(String::new());
                below = Some((indent, false));
            }
            Some(("run", command)) => found.push(command.to_owned()),
            _ if inner == "script:" => below = Some((indent, true)),
            _ => {}
        }
    }
    found
}

/// Runs all blocks of a page, a room for each section.
fn run(page: &str) {
    needs("bash");
    let all = blocks(&read(page));
    let run = all.iter().filter(|block| !block.more.contains_key("not-run") && block.kind != "text");
    let run: Vec<&Block> = run.collect();
    let name = Path::new(page).file_stem().unwrap().to_str().unwrap();
    for section in run.chunk_by(|one, next| one.section == next.section) {
        let room = Room::new();
        let place = Place::new(&room);
        let furnish = place.bash(&format!(". \"$ROOMS\" '{name}/{}'", section[0].section));
        assert_eq!(furnish.status, 0, "{page}: {}: {}", section[0].section, furnish.stdout);
        for block in section {
            let at = format!("{page}:{}", block.line);
            if block.more.contains_key("file") {
                place.put(block);
            }
            match &block.kind[..] {
                "console" => run_console(&place, block, &at),
                "sh" => run_script(&place, &block.text, status(block), &at),
                "yaml" => {
                    let found = steps(&block.text);
                    assert!(!found.is_empty(), "{at}");
                    found.iter().for_each(|step| run_script(&place, step, 0, &at));
                }
                "cron" => {
                    for line in block.text.lines().filter(|line| !line.starts_with('#')) {
                        let command: Vec<&str> = line.splitn(6, ' ').collect();
                        run_script(&place, command[5], status(block), &at);
                    }
                }
                file => assert!(FILES.contains(&file), "{at}: nobody runs {file}"),
            }
        }
    }
}

fn status(block: &Block) -> i32 {
    block.more.get("status").map_or(0, |status| status.parse().unwrap())
}

/// A test for each page, so that they run beside each other.
macro_rules! runs {
    ($($name:ident: $page:literal,)*) => {
        const RUN: &[&str] = &[$($page),*];
        $(
            #[apply(test)]
            fn $name() {
                run($page);
            }
        )*
    };
}

runs! {
    the_readme_is_run: "README.md",
    index_is_run: "docs/src/index.md",
    migration_is_run: "docs/src/migration.md",
    cookbook_is_run: "docs/src/cookbook.md",
    reload_is_run: "docs/src/reload.md",
    healthwait_is_run: "docs/src/healthwait.md",
    run_is_run: "docs/src/run.md",
    daemons_is_run: "docs/src/daemons.md",
    canary_is_run: "docs/src/canary.md",
    lease_is_run: "docs/src/lease.md",
    control_is_run: "docs/src/control.md",
    peer_remove_is_run: "docs/src/peer-remove.md",
    statuses_is_run: "docs/src/statuses.md",
    troubleshooting_is_run: "docs/src/troubleshooting.md",
    security_is_run: "docs/src/security.md",
    versions_is_run: "docs/src/versions.md",
    compatibility_is_run: "docs/src/compatibility.md",
}

#[apply(test)]
fn each_page_of_the_book_is_run() {
    assert_eq!(pages(), RUN);
    let mut there: Vec<String> = std::fs::read_dir(root().join("docs/src"))
        .unwrap()
        .map(|entry| format!("docs/src/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md") && !name.ends_with("SUMMARY.md"))
        .collect();
    there.sort();
    let mut named = RUN[1..].to_vec();
    named.sort_unstable();
    assert_eq!(there, named);
}

/// The list in the book is written by BAA_WRITE=1 (make artefacts).
#[apply(test)]
fn what_is_not_run_is_counted_and_named() {
    let all: usize = pages().iter().map(|page| commands(&read(page))).sum();
    let left = not_run();
    let mut list = format!("{} of {all} blocks are not run:\n\n", left.len());
    for (page, section, reason) in left {
        list += &format!("- {page}, {section}: {reason}\n");
    }
    let path = "docs/src/compatibility.md";
    let page = read(path);
    let (head, rest) = page.split_once("<!-- BEGIN not run -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- END not run -->").unwrap();
    let wanted = format!("{head}<!-- BEGIN not run -->\n{list}<!-- END not run -->{tail}");
    if std::env::var_os("BAA_WRITE").is_some() {
        std::fs::write(root().join(path), &wanted).unwrap();
        return;
    }
    assert!(page == wanted, "{path} is stale; run: make artefacts");
}

/// Blocks that are commands or files.
fn commands(page: &str) -> usize {
    blocks(page).iter().filter(|block| block.kind != "text").count()
}

/// A page without its fences: what is only shown leads nowhere.
fn prose(page: &str) -> String {
    let inside = page.lines().scan(false, |inside, line| {
        let fence = line.starts_with("```");
        *inside ^= fence;
        Some((*inside || fence, line))
    });
    inside.filter(|(shown, _)| !shown).map(|(_, line)| format!("{line}\n")).collect()
}

/// Where Markdown's links and pictures lead to.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let found = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    found.map(|rest| rest.split([')', ' ']).next().unwrap().to_owned()).collect()
}

fn anchors(page: &str) -> Vec<String> {
    prose(page)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[apply(test)]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    let others = ["CONTRIBUTING.md", "SECURITY.md", "docs/src/SUMMARY.md"].map(str::to_owned);
    for page in pages().into_iter().chain(others) {
        let text = read(&page);
        for link in links(&text) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((&link, ""));
            let directory = Path::new(&page).parent().unwrap();
            let to = if file.is_empty() { PathBuf::from(&page) } else { directory.join(file) };
            let there = root().join(&to).exists();
            if !there
                || !place.is_empty() && !anchors(&read(to.to_str().unwrap())).contains(&place.to_owned())
            {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// All that the pages of the manual say of options, with the Makefile's words.
fn manual() -> String {
    let entries = std::fs::read_dir(root().join("man")).unwrap();
    entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap().replace("\\-", "-")).collect()
}

#[apply(test)]
fn options_and_pages_that_are_named_exist() {
    let manual = manual();
    // Of others: what stands on a line with one of their names.
    let others = [
        "curl",
        "cargo",
        "systemctl",
        "kubectl",
        "docker",
        "skopeo",
        "wait-for-it",
        "wait4x",
        "systemd",
        "wait-on",
        "dockerize",
        "brew",
        "chromium",
        "etcdctl",
        "flock",
        "reload-launchd.sh",
        "mdbook",
        "launchctl",
        "pg_dump",
        "tmux",
        "apt",
    ];
    let mut unknown = Vec::new();
    for page in pages() {
        for line in read(&page).lines() {
            for (at, _) in line.match_indices("--") {
                let end =
                    line[at + 2..].find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
                let option = &line[at..end.map_or(line.len(), |end| at + 2 + end)];
                let begins =
                    !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "-|<!".contains(letter));
                let named =
                    option.len() > 3 && option[2..].starts_with(|letter: char| letter.is_ascii_lowercase());
                let known = manual.contains(&format!("\\fB{option}\\fR"));
                if begins && named && !known && !others.iter().any(|other| line.contains(other)) {
                    unknown.push(format!("{page}: {option}"));
                }
            }
            for (at, _) in line.match_indices("baa") {
                let end = line[at..].find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
                let (name, rest) = line[at..].split_at(end.unwrap_or(line.len() - at));
                for section in ["1", "7"] {
                    let absent = || !root().join(format!("man/{name}.{section}")).exists();
                    if rest.starts_with(&format!("({section})")) && absent() {
                        unknown.push(format!("{page}: {name}({section})"));
                    }
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The texts of the sources, with … for what is filled in.
fn said() -> String {
    let mut open = vec![root().join("lib"), root().join("bins")];
    let mut all = String::new();
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    // A text that goes on in the next line.
    let joined: String = all
        .split("\\\n")
        .enumerate()
        .fold(String::new(), |text, (at, part)| text + if at == 0 { part } else { part.trim_start() });
    let mut out = String::new();
    let mut rest = &joined[..];
    while let Some((head, tail)) = rest.split_once('{') {
        out += head;
        let end = tail.find(|letter: char| !letter.is_alphanumeric() && !"_:.?#$".contains(letter));
        match end.filter(|end| tail[*end..].starts_with('}')) {
            Some(end) => {
                out.push('…');
                rest = &tail[end + 1..];
            }
            None => {
                out.push('{');
                rest = tail;
            }
        }
    }
    (out + rest).replace("\\\"", "\"")
}

#[apply(test)]
fn messages_that_are_explained_are_said() {
    let said = said();
    let page = read("docs/src/troubleshooting.md");
    let messages: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(messages.len() >= 20, "{messages:#?}");
    let unsaid: Vec<&&str> = messages.iter().filter(|message| !said.contains(**message)).collect();
    assert!(unsaid.is_empty(), "nobody says {unsaid:#?}");
}

/// Units as their manager reads them; where it is absent this is skipped, and counted.
#[apply(test)]
fn systemd_accepts_the_units_of_the_book() {
    needs("systemd-analyze");
    let mut count = 0;
    for page in pages() {
        for block in blocks(&read(&page)) {
            let Some(name) = block.more.get("file").filter(|_| block.kind == "ini") else { continue };
            let room = Room::new();
            let name = name.rsplit('/').next().unwrap().replace("@.", "@web.");
            let programs = binary("baa-run").parent().unwrap().display().to_string();
            let text = block.text.replace("/usr/local/bin/baa-", &format!("{programs}/baa-"));
            let text = text.replace("/usr/local/bin/web", "/bin/true");
            let path = room.write(&format!("units/{name}"), &text);
            let verified = finish(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
            let complaints: Vec<&str> = verified.stderr.lines().filter(|line| line.contains(&name)).collect();
            assert!(verified.status == 0 && complaints.is_empty(), "{page}: {name}: {verified:?}");
            count += 1;
        }
    }
    assert!(count > 1, "{count}");
}

/// What tests/demo/record has drawn is what the demo says now, up to its leases.
#[apply(test)]
fn the_picture_is_of_this_demo() {
    let (demo, picture) = (read("tests/demo/run"), read("docs/src/demo.svg"));
    let titles = demo.lines().filter_map(|line| line.strip_prefix("say \"")?.strip_suffix('"'));
    let titles: Vec<&str> = titles.take_while(|title| !title.starts_with("Two conductors")).collect();
    assert!(titles.len() > 3, "{titles:?}");
    for title in titles {
        assert!(picture.contains(&format!("# {title}")), "draw it again (tests/demo/record): {title}");
    }
    assert!(!picture.contains(|letter: char| letter.is_control() && letter != '\n'));
    let drawn = ["recovered in ", "nothing was touched", "recovered after a kick", "ready after "];
    assert!(drawn.iter().all(|words| picture.contains(words)));
}

/// The checks themselves: what they must refuse.
#[apply(test)]
fn what_a_page_shows_is_told_from_what_is_printed() {
    assert!(like(&["a … c", "…", "z"], &["a b c", "1", "2", "z"]) && like(&["…"], &[]));
    assert!(!like(&["a … c"], &["a b"]) && !like(&["a"], &["a", "b"]) && !like(&["…", "z"], &["y"]));
    assert_eq!(anchor("Exit statuses, in `make`"), "exit-statuses-in-make");
    let found = blocks("## One\n```sh status=3 not-run=\"no Mac\"\na\n```\n```console\n$ b\nc\n```\n");
    assert_eq!((found[0].more["not-run"].as_str(), found[0].section.as_str()), ("no Mac", "one"));
    assert_eq!(session(&found[1].text), [("b".to_owned(), vec!["c"])]);
    assert_eq!(
        steps("a:\n  - run: x\n  - run: |\n      y\n      z\n  script:\n    - q\n"),
        ["x", "\ny\nz", "q"]
    );
    assert_eq!(links("[a](b.md) `x`\n```sh\n[c](d)\n```\n"), ["b.md"]);
    assert!(
        said().contains("cannot reload …: another reload of it runs") && !said().contains("no such words")
    );
}
