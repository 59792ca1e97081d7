//! Foreign data, thrown at each parser of it. The list of parsers is `targets`; they are reached from within
//! the library, for most of them are nobody else's business, so lib.rs has this room as its own under test.
//!
//! `make test` runs a fixed number of cases of each, with the same seed each time. `make fuzz` goes on for as
//! long as one likes, with fresh seeds, and looks at what each case reaches in the code (the compiler counts
//! it): a case that reaches more is kept and changed further. No case may panic, take long, or take memory
//! out of proportion; what else must hold stands with the target. A case that fails is written to a file.

mod coverage;
mod mutate;
mod server;
mod targets;
mod watch;

use crate::words::dice::Dice;
use mutate::Mutator;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A parser, and what it is fed with.
struct Target {
    /// The name of its test, and of `make fuzz TARGET=`.
    name: &'static str,
    /// What the others are made of: the text of a file, see `seeds`.
    seeds: &'static str,
    /// How many cases `make test` runs.
    cases: u32,
    /// How long a case may become.
    longest: usize,
    /// How much memory a case may take at once, for each of its bytes and in all.
    memory: (usize, usize),
    /// Feeds it; panics where something does not hold.
    feed: fn(&[u8]),
}

impl Target {
    /// One that takes what others take.
    const fn new(name: &'static str, feed: fn(&[u8]), seeds: &'static str) -> Target {
        Target { name, seeds, cases: 6000, longest: 4096, memory: (64, 1 << 20), feed }
    }

    /// The words of its language, and the cases to begin with. They are separated by lines of `%%`, and
    /// hold what is no text as Rust writes it: `\r`, `\0`, `\xff`.
    fn seeds(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let text = self.seeds.strip_suffix('\n').unwrap_or(self.seeds);
        let (words, cases) = text.split_once("\n%%\n").unwrap_or((text, ""));
        let words = words.strip_prefix("words").unwrap_or_default();
        (
            words.split_ascii_whitespace().map(unescaped).collect(),
            cases.split("\n%%\n").map(unescaped).collect(),
        )
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let (byte, length) = match (first, more) {
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'x', high, low, ..]) => {
                let hex =
                    std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (hex.unwrap(), 4)
            }
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

/// How long a case may keep the processor; far from what a good one takes, also without optimisation.
const SPENT: Duration = Duration::from_secs(2);
/// How many changes of a failing case are tried to make it smaller.
const SHRINKS: u32 = 2000;

/// Runs one target, as the environment says.
fn run(target: &Target) {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    watch::begin();
    if let Some(path) = setting("BAA_FUZZ_INPUT") {
        let case = std::fs::read(&path).unwrap();
        (target.feed)(&case);
        return;
    }
    let time = setting("BAA_FUZZ_TIME").map(|span| crate::words::span::parse(&span).unwrap());
    let seed = if time.is_some() {
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), target.name)
    } else {
        1
    };
    let kept = directory("corpus").join(target.name);
    let mut mutator = Mutator::new(target, Dice::of(seed));
    mutator.corpus().iter().for_each(|case| attempt(target, case));
    coverage::is_new();
    if time.is_some() {
        // Of what was kept before, what still reaches more.
        for case in load(&kept) {
            attempt(target, &case);
            if coverage::is_new() {
                mutator.add(case);
            }
        }
    }
    let (begun, mut count) = (Instant::now(), 0u32);
    while time.map_or(count < target.cases, |time| begun.elapsed() < time) {
        let case = mutator.case();
        attempt(target, &case);
        count = count.saturating_add(1);
        if time.is_some() && coverage::is_new() {
            keep(&kept, &case);
            mutator.add(case);
        }
    }
    let (taken, corpus) = (begun.elapsed().as_secs_f64(), mutator.corpus().len());
    println!("{}: {count} cases, {:.0} a second, corpus {corpus}", target.name, f64::from(count) / taken);
}

/// Feeds a case; a failure is made small, kept and told.
#[track_caller]
fn attempt(target: &Target, case: &[u8]) {
    let Some(why) = failure(target, case) else { return };
    let (case, why) = shrink(target, case.to_vec(), why);
    let path = directory("failed").join(format!("{}-{:016x}", target.name, hash(&case)));
    std::fs::write(&path, &case).unwrap();
    panic!(
        "{}: {why}\nthe case is in {}; again: make fuzz TARGET={} INPUT={}\n{:?}",
        target.name,
        path.display(),
        target.name,
        path.display(),
        String::from_utf8_lossy(&case[..case.len().min(400)])
    );
}

/// Why the case fails, if it does.
fn failure(target: &Target, case: &[u8]) -> Option<String> {
    let watched = watch::Case::begin(target.name, case);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.feed)(case)));
    let (spent, memory) = watched.end();
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        return Some(text.unwrap_or("it panics").to_owned());
    }
    if spent > SPENT {
        return Some(format!("it took {spent:?} for {} bytes", case.len()));
    }
    let most = target.memory.0 * case.len() + target.memory.1;
    (memory > most).then(|| format!("it took {memory} bytes of memory for a case of {}", case.len()))
}

/// A smaller case that fails too, though perhaps in another way.
fn shrink(target: &Target, mut case: Vec<u8>, mut why: String) -> (Vec<u8>, String) {
    let mut size = case.len() / 2;
    let mut tries = 0;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    while size > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < case.len() && tries < SHRINKS {
            tries += 1;
            let mut smaller = case.clone();
            smaller.drain(at..(at + size).min(case.len()));
            match failure(target, &smaller) {
                Some(other) => (case, why) = (smaller, other),
                None => at += size,
            }
        }
        size /= 2;
    }
    std::panic::set_hook(hook);
    (case, why)
}

/// Where the files of all runs are; not in the sources.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn load(directory: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files.map(|file| std::fs::read(file.path()).unwrap()).collect()
}

fn keep(directory: &Path, case: &[u8]) {
    std::fs::create_dir_all(directory).unwrap();
    let mut file = std::fs::File::create(directory.join(format!("{:016x}", hash(case)))).unwrap();
    file.write_all(case).unwrap();
}

/// FNV-1a: the same name for the same case on every machine.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
