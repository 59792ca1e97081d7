//! Every shape of `print` that is known from posted captures, read as it should be. Names and values are made
//! up; order, keys and words are those of the reports that are named.

use super::*;

const TARGET: &str = "gui/501/so.baa";

#[test]
fn only_what_names_us_says_which_job_we_are() {
    let (own, one) = (Pid::own(), Pid::new(1));
    let job = |label: &str, parent| Launchd::of(Some(label.to_owned()), parent).map(|job| job.label);
    assert_eq!(job("so.baa", one).as_deref(), Some("so.baa"));
    assert_eq!([job("so.baa", Some(own)), job("0", one), job(" ", one)], [const { None }; 3]);
    assert!(Launchd::of(None, one).is_none());
}

/// A capture of macOS 13 to 27, with these lines of its own.
fn capture(header: &str, state: &str, arguments: &str, last: &str) -> String {
    format!(
        "{header} = {{\n\tactive count = 1\n\tpath = /Users/x/Library/LaunchAgents/so.baa.plist\n\
         \ttype = LaunchAgent\n\tstate = {state}\n\n\tprogram = /bin/sh\n\targuments = {{\n\t\t/bin/sh\n\
         {arguments}\t}}\n\n\tstdout path = /tmp/out\n\tstderr path = /tmp/err\n\
         \tinherited environment = {{\n\
         \t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners\n\t}}\n\n\
         \tdefault environment = {{\n\
         \t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin\n\t}}\n\n\tenvironment = {{\n\t\tTOKEN => hunter2\n\
         \t\tXPC_SERVICE_NAME => so.baa\n\t}}\n\n\tdomain = gui/501 [100005]\n\tasid = 100005\n\
         \tminimum runtime = 10\n\texit timeout = 5\n\tnice = 5\n{last}\n\tresource coalition = {{\n\
         \t\tID = 663\n\t\ttype = resource\n\t\tstate = active\n\t\tactive count = 1\n\t\tpid = 1\n\
         \t\truns = 77\n\t\tname = so.baa\n\t}}\n\n\tevent triggers = {{\n\t\tso.baa => {{\n\
         \t\t\tkeepalive = 0\n\t\t\tstate = active\n\t\t\tdescriptor = {{\n\t\t\t\t\"Hour\" => 3\n\t\t\t}}\n\
         \t\t}}\n\t}}\n\n\tspawn type = daemon (3)\n\tjetsam priority = 40\n\
         \tjetsam memory limit (active) = (unlimited)\n\n\tproperties = keepalive | runatload\n}}\n"
    )
}

fn seen(text: &str) -> JobState {
    state(&print::read(text, TARGET).unwrap_or_else(|| panic!("not read: {text}")), TARGET)
}

/// State, process, runs, last end, whether it is completed.
type Told<'a> = (Phase, Option<i32>, Option<u64>, Option<&'a str>, bool);

fn told(state: &JobState) -> Told<'_> {
    (state.phase, state.pid.map(Pid::number), state.runs, state.last_exit.as_deref(), state.completed)
}

#[test]
fn every_state_of_a_job_is_told_for_what_it_is() {
    let never = "\truns = 1\n\tpid = 42\n\timmediate reason = speculative\n\tforks = 0\n\texecs = 1\n\
                 \tlast exit code = (never exited)\n";
    let pid = Some(42);
    for (state, last, expected) in [
        ("running", never, (Phase::Running, pid, Some(1), Some("(never exited)"), false)),
        // A start under way (CI logs of macOS 13 to 26; nix#5698 has the order of the states).
        ("spawning", "\truns = 0\n", (Phase::Starting, None, Some(0), None, false)),
        ("xpcproxy", never, (Phase::Starting, pid, Some(1), Some("(never exited)"), false)),
        ("xpcproxy", "\truns = 1\n", (Phase::Starting, None, Some(1), None, false)),
        (
            "spawn scheduled",
            "\truns = 3\n\tlast exit code = 78: EX_CONFIG\n",
            (Phase::Waiting, None, Some(3), Some("78: EX_CONFIG"), false),
        ),
        // It has outlived the TERM and the KILL, or is about to.
        ("SIGTERMed", never, (Phase::Stopping, pid, Some(1), Some("(never exited)"), false)),
        ("SIGKILLed", never, (Phase::Stopping, pid, Some(1), Some("(never exited)"), false)),
        ("languishing", never, (Phase::Stopping, pid, Some(1), Some("(never exited)"), false)),
        (
            "exited",
            "\truns = 1\n\tpid = 42\n\tlast exit code = 0\n",
            (Phase::Stopped, None, Some(1), Some("0"), true),
        ),
        (
            "not running",
            "\truns = 2\n\tlast exit code = 0\n",
            (Phase::Stopped, None, Some(2), Some("0"), true),
        ),
        (
            "not running",
            "\truns = 0\n\tlast exit code = (never exited)\n",
            (Phase::Stopped, None, Some(0), Some("(never exited)"), false),
        ),
        ("waiting", "\truns = 0\n", (Phase::Stopped, None, Some(0), None, false)),
        // The signal stands in place of the code, or outranks that of an earlier run.
        (
            "not running",
            "\truns = 4\n\tlast terminating signal = Terminated: 15\n",
            (Phase::Stopped, None, Some(4), Some("Terminated: 15"), false),
        ),
        (
            "not running",
            "\truns = 4\n\tlast exit code = 0\n\tlast terminating signal = Segmentation fault: 11\n",
            (Phase::Stopped, None, Some(4), Some("Segmentation fault: 11"), false),
        ),
        // What is not known here proves nothing.
        ("trampolined", never, (Phase::Starting, pid, Some(1), Some("(never exited)"), false)),
        ("running", "\truns = 1\n", (Phase::Stopped, None, Some(1), None, false)),
        ("running", "\truns = 1\n\tpid = 0\n", (Phase::Stopped, None, Some(1), None, false)),
    ] {
        let text = capture(TARGET, state, "", last);
        let job = seen(&text);
        assert_eq!(told(&job), expected, "{text}");
        assert_eq!(
            (job.exit_timeout, job.throttle, job.source.as_deref(), job.word.as_str()),
            (
                Some(Duration::from_secs(5)),
                Some(Duration::from_secs(10)),
                Some(Path::new("/Users/x/Library/LaunchAgents/so.baa.plist")),
                state
            )
        );
    }
}

#[test]
fn the_header_is_the_target_or_the_label_of_old() {
    // Up to 10.15 (wazuh-packages#2206 on 10.13, puppet-boxen#104 on 10.10).
    let last = "\truns = 1\n\tsuccessive crashes = 0\n\texcessive crashing = 0\n\tpid = 42\n\
                \timmediate reason = non-ipc demand\n\tlast exit code = 0\n";
    for header in [TARGET, "so.baa"] {
        assert_eq!(seen(&capture(header, "running", "", last)).phase, Phase::Running);
    }
    let system = capture("so.baa", "running", "", last);
    assert!(print::read(&system, "system/so.baa").is_some());
    for other in ["gui/502/so.baa", "system/so.baa", "so.baa.other", "baa"] {
        assert!(print::read(&capture(other, "running", "", last), TARGET).is_none(), "{other}");
    }
    let whole = capture(TARGET, "running", "", last);
    for cut in [0, 20, 200, whole.len() - 2] {
        assert!(print::read(&whole[..cut], TARGET).is_none(), "{cut}");
    }
}

#[test]
fn what_an_argument_says_with_its_newlines_is_not_believed() {
    let stopped = "\truns = 3\n\tlast exit code = 1\n";
    for raw in [
        "\t\tstate = running\n",
        "\t\t-c\n\t\tfirst\n}\n",
        "\t\tfirst\n\tpid = 1\n\tstate = running\n\truns = 99\n",
        "\t\tfirst\n}\n\tpid = 1\n}\n",
        "\t\tfirst\n\t}\n\tpid = 1\n\tlast exit code = 0\n\truns = 99\n",
        "\t\tfirst\n\t}\n\tdomain = gui/501\n\tminimum runtime = 1\n\texit timeout = 1\n\tpid = 1\n",
        "\t\tfirst\n\tfunction = {\n\tpid = 1\n",
        &format!("\t\tfirst\n}}\n{TARGET} = {{\n\tstate = running\n\tpid = 1\n}}\n"),
    ] {
        let text = capture(TARGET, "not running", raw, stopped);
        let job = seen(&text);
        assert_eq!(told(&job), (Phase::Stopped, None, Some(3), Some("1"), false), "{text}");
        assert_eq!(
            (job.throttle, job.exit_timeout),
            (Some(Duration::from_secs(10)), Some(Duration::from_secs(5)))
        );
    }
    // Nor are values of the environment, which are secret besides.
    assert!(!format!("{:?}", seen(&capture(TARGET, "running", "", stopped))).contains("hunter2"));
}

#[test]
fn a_print_without_the_lines_of_today_is_read_as_far_as_it_goes() {
    // A job that another program submitted (agentsh#441).
    let text = "system/T.baa = {\n\tactive count = 0\n\tpath = (submitted by smd[532])\n\ttype = Submitted\n\
                \tstate = spawn scheduled\n\n\tprogram = /x\n\tdomain = system\n\tminimum runtime = 10\n\
                \texit timeout = 5\n\truns = 199773\n\tlast exit code = 1\n\n\tevent triggers = {\n\
                \t\tT.baa => {\n\t\t\tstate = active\n\t\t}\n\t}\n}\n";
    let job = state(&print::read(text, "system/T.baa").unwrap(), "system/T.baa");
    assert_eq!(told(&job), (Phase::Waiting, None, Some(199_773), Some("1"), false));
    assert_eq!(job.source, None);
    let bare = format!("{TARGET} = {{\n\tstate = running\n\tpid = 42\n}}\n");
    assert_eq!(told(&seen(&bare)), (Phase::Running, Some(42), None, None, false));
    // One that a later release may print: nothing of it is known.
    let strange = format!("{TARGET} = {{\n\tstatus = up\n\tprocess = 42\n}}");
    let job = seen(&strange);
    assert_eq!((told(&job), job.word.as_str()), ((Phase::Stopped, None, None, None, false), "unknown"));
}

#[test]
fn the_cause_is_named_that_print_knows() {
    let cause = |state: &str, last: &str| seen(&capture(TARGET, state, "", last)).cause;
    for (state, last, name, words) in [
        // threading#triggerd on macOS 27, memorum, familiar: the signature, or the requirement of the job.
        (
            "spawn scheduled",
            "\truns = 153\n\tlast exit reason = OS_REASON_CODESIGNING\n\tjob state = spawn failed\n",
            "code-signing",
            "(OS_REASON_CODESIGNING)",
        ),
        (
            "not running",
            "\truns = 2\n\tlast terminating signal = Killed: 9\n\tlast exit reason = OS_REASON_JETSAM\n",
            "memory",
            "(jetsam)",
        ),
        (
            "not running",
            "\truns = 2\n\tlast exit reason = JETSAM_REASON_MEMORY_PERPROCESSLIMIT\n",
            "memory",
            "PERPROCESS",
        ),
        // agentsh#436.
        (
            "spawn scheduled",
            "\truns = 324\n\tlast exit reason = OS_REASON_EXEC | Error -413 \"No matching profile found\"\n",
            "exec",
            "No matching profile",
        ),
        ("spawn scheduled", "\truns = 1\n\tlast exit reason = OS_REASON_DYLD\n", "library", "library"),
        (
            "not running",
            "\truns = 1\n\tlast exit reason = OS_REASON_ENDPOINTSECURITY\n",
            "endpoint-security",
            "forbids",
        ),
        // Low Power Mode and DarkWake; a login over ssh (hypaware#1036).
        ("not running", "\truns = 0\n\tpended nondemand spawn = inefficient\n", "pended", "(inefficient)"),
        ("not running", "\truns = 0\n\tpended nondemand spawn = speculative\n", "pended", "Low Power Mode"),
        (
            "spawn scheduled",
            "\truns = 3\n\tlast exit code = 78: EX_CONFIG\n",
            "spawn-failed",
            "could not start",
        ),
        ("not running", "\truns = 3\n\tjob state = spawn failed\n", "spawn-failed", "could not start"),
    ] {
        let cause = cause(state, last).unwrap_or_else(|| panic!("no cause: {last}"));
        assert_eq!(cause.name, name, "{last}");
        assert!(cause.words.contains(words) && !cause.remedy.is_empty(), "{cause:?}");
    }
    for (state, last) in [
        // What ended the run before tells nothing of this one.
        ("running", "\truns = 2\n\tpid = 42\n\tlast exit reason = OS_REASON_CODESIGNING\n"),
        ("SIGTERMed", "\truns = 2\n\tpid = 42\n\tlast exit reason = OS_REASON_JETSAM\n"),
        ("not running", "\truns = 1\n\tlast exit code = 0\n\tjob state = exited\n"),
        // macOS 26 prints the line of every job.
        ("not running", "\truns = 1\n\tpended nondemand spawn = false\n\tlast exit code = 0\n"),
        ("not running", "\truns = 1\n\tlast terminating signal = Terminated: 15\n"),
    ] {
        assert_eq!(cause(state, last), None, "{last}");
    }
    let details =
        seen(&capture(TARGET, "not running", "", "\truns = 1\n\tlast exit reason = OS_REASON_SIGNAL\n"))
            .details;
    assert_eq!(details, [("last exit reason", "OS_REASON_SIGNAL".to_owned())]);
}

#[test]
fn a_job_of_another_file_is_told_from_one_of_this() {
    let room = tempfile::tempdir().unwrap();
    let (plist, link) = (room.path().join("so.baa.plist"), room.path().join("link.plist"));
    std::fs::write(&plist, "x").unwrap();
    std::os::unix::fs::symlink(&plist, &link).unwrap();
    let mut job = seen(&capture(TARGET, "running", "", "\truns = 1\n\tpid = 42\n"));
    assert!(job.is_from(Path::new("/Users/x/Library/LaunchAgents/so.baa.plist")));
    assert!(!job.is_from(&plist));
    // As /tmp is /private/tmp on macOS.
    job.source = Some(plist.clone());
    assert!(job.is_from(&plist) && job.is_from(&link) && !job.is_from(&room.path().join("gone.plist")));
    job.source = None;
    assert!(job.is_from(&plist));
}

#[test]
fn a_label_is_disabled_in_the_words_of_every_release() {
    let list = |word: &str| {
        format!(
            "\tdisabled services = {{\n\t\t\"so.baa.other\" => disabled\n\t\t\"so.baa\" => {word}\n\t}}\n"
        )
    };
    for (word, expected) in [
        ("disabled", Some(true)),
        ("true", Some(true)),
        ("enabled", Some(false)),
        ("false", Some(false)),
        ("perhaps", None),
    ] {
        assert_eq!(print::disabled(&list(word), "so.baa"), expected, "{word}");
    }
    assert_eq!(print::disabled(&list("true"), "so"), None);
    assert_eq!(print::disabled("", "so.baa"), None);
}
