//! The harness: it finds every `#[apply(test)]` by itself, and knows a third outcome beside passed and
//! failed. What a machine does not have makes a test *skipped*: counted as ignored, and named with its reason
//! after the run. With `BAA_REQUIRE_ALL` a skip is a failure, so that nothing is left out unseen where all is
//! to be had.

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{PanicHookInfo, catch_unwind, panic_any, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

/// One test, as `apply(test)` registers it.
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
}

inventory::collect!(Test);

/// Carried by the unwinding of a test that is skipped.
struct Skipped(String);

thread_local! {
    static IN_A_TEST: Cell<bool> = const { Cell::new(false) };
    /// What the panic hook was told, for the list of failures at the end.
    static WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
}

static OMITTED: Mutex<Vec<(String, &str)>> = Mutex::new(Vec::new());

/// Ends this test as skipped, because of `reason`: what is absent, and where it is to be had.
#[track_caller]
pub fn skip(reason: impl Into<String>) -> ! {
    let reason = reason.into();
    assert!(IN_A_TEST.get(), "only the thread of the test itself may skip it: {reason}");
    assert!(std::env::var_os("BAA_REQUIRE_ALL").is_none(), "{reason} (and BAA_REQUIRE_ALL is set)");
    // Unlike a panic this wakes no hook.
    resume_unwind(Box::new(Skipped(reason)))
}

/// The same for what no run must have: with `BAA_REQUIRE_ALL` it is skipped and counted all the same.
#[track_caller]
pub fn omit(reason: impl Into<String>) -> ! {
    assert!(IN_A_TEST.get(), "only the thread of the test itself may skip it");
    resume_unwind(Box::new(Skipped(reason.into())))
}

/// Where on the PATH a program of that name is; where there is none this test is skipped.
#[track_caller]
pub fn needs(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let executable =
        |file: &PathBuf| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file();
    let mut found = std::env::split_paths(&path).map(|directory| directory.join(program));
    found.find(executable).unwrap_or_else(|| skip(format!("{program} is missing")))
}

/// Skips this test where we are not root.
#[track_caller]
pub fn needs_root() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can do this");
    }
}

/// Runs the tests that the command line asks for, as libtest would.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(note));
    usual_signals();
    let (arguments, filters) = arguments(std::env::args());
    let mut tests: Vec<&Test> = inventory::iter::<Test>().collect();
    tests.sort_by_key(|test| test.name);
    let asked = |test: &&Test| {
        let meets =
            |filter: &String| name(test) == filter || !arguments.exact && name(test).contains(&filter[..]);
        filters.is_empty() || filters.iter().any(meets)
    };
    let trial = |test: &'static Test| Trial::ignorable_test(name(test), move || attempt(test));
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().filter(asked).map(trial).collect());
    summary();
    conclusion.exit_code()
}

/// What whoever started us ignores (INT and QUIT, in the background of a script) is not ignored by what the
/// tests start, unless a test wants it so.
#[allow(unsafe_code)]
fn usual_signals() {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
    for one in
        Signal::iterator().filter(|one| ![Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGPIPE].contains(one))
    {
        // SAFETY: no handler is given, and no other thread runs yet.
        let _ = unsafe { signal(one, SigHandler::SigDfl) };
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).unwrap();
}

/// The library's arguments, and the filters where there are more than the one that it takes: those it does
/// not see, so that it does not count what they leave out.
fn arguments(words: impl Iterator<Item = String>) -> (Arguments, Vec<String>) {
    let (mut options, mut filters) = (Vec::new(), Vec::new());
    let mut valued = false;
    for (at, word) in words.enumerate() {
        let is_filter = at > 0 && !valued && !word.starts_with('-');
        valued =
            ["--test-threads", "--skip", "--logfile", "--color", "--format", "-Z"].contains(&word.as_str());
        if is_filter { filters.push(word) } else { options.push(word) }
    }
    if filters.len() == 1 {
        options.append(&mut filters);
    }
    (Arguments::from_iter(options), filters)
}

/// Without the name of the program, as libtest has it.
fn name(test: &Test) -> &'static str {
    test.name.split_once("::").map_or(test.name, |(_, rest)| rest)
}

fn attempt(test: &'static Test) -> Result<Completion, Failed> {
    IN_A_TEST.set(true);
    let outcome = catch_unwind(test.run);
    IN_A_TEST.set(false);
    let Err(payload) = outcome else { return Ok(Completion::Completed) };
    match payload.downcast::<Skipped>() {
        Ok(skipped) => {
            let Skipped(reason) = *skipped;
            OMITTED.lock().unwrap().push((reason.clone(), name(test)));
            Ok(Completion::ignored_with(reason))
        }
        Err(payload) => Err(WORDS.take().unwrap_or_else(|| text(&*payload)).into()),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let words = payload.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

/// A test that fails is told of at the end, with the place; any other thread at once.
fn note(info: &PanicHookInfo<'_>) {
    let mut words = info.to_string();
    // The place is in the words: the whole way to it is for whoever asks for all of it.
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|wanted| wanted == "full") {
        words += &format!("\n{}", std::backtrace::Backtrace::force_capture());
    }
    if IN_A_TEST.get() {
        WORDS.set(Some(words));
    } else {
        eprintln!("{words}");
    }
}

/// What was skipped, by reason.
fn summary() {
    let mut skipped = OMITTED.lock().unwrap().clone();
    if skipped.is_empty() {
        return;
    }
    skipped.sort_unstable();
    println!("skipped: {} (BAA_REQUIRE_ALL=1 makes these failures)", skipped.len());
    for group in skipped.chunk_by(|one, other| one.0 == other.0) {
        println!("    {}:", group[0].0);
        group.iter().for_each(|(_, name)| println!("        {name}"));
    }
    println!();
}

/// The harness itself: a skip is neither a pass nor a failure, and a failure names its place.
#[apply(test)]
fn a_skip_is_told_from_a_pass_and_a_failure() {
    let within = |run: fn()| {
        let outcome = attempt(Box::leak(Box::new(Test { name: "main::inner", run })));
        IN_A_TEST.set(true);
        outcome
    };
    assert!(matches!(within(|| ()), Ok(Completion::Completed)));
    let failed = within(|| panic_any("on purpose".to_owned())).err().unwrap();
    assert!(failed.message().unwrap().contains("tests/support/harness.rs"), "{failed:?}");
    if std::env::var_os("BAA_REQUIRE_ALL").is_some() {
        assert!(within(|| drop(needs("no such program"))).is_err());
        return;
    }
    let Ok(Completion::Ignored { reason }) = within(|| drop(needs("no such program"))) else { panic!() };
    assert_eq!(reason.unwrap(), "no such program is missing");
    let ours = OMITTED.lock().unwrap().iter().position(|(_, name)| *name == "inner").unwrap();
    OMITTED.lock().unwrap().remove(ours);
}
