//! `launchctl print`, which Apple says is no API: only what stands at the top level of the very target is
//! believed, and only once.
//!
//! Nested blocks repeat `state = active`, `pid` and `runs`, and the blocks of the environment hold secrets
//! (aragora#6010): they are never read.

use std::collections::HashMap;

/// The top level of what was printed.
#[derive(Debug)]
pub(crate) struct Seen(HashMap<String, String>);

impl Seen {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }
}

/// Reads the block of `target`; `None` when there is no such block, or it is cut.
pub(crate) fn read(text: &str, target: &str) -> Option<Seen> {
    let mut lines = text.lines();
    lines.find(|line| line.strip_suffix(" = {") == Some(target))?;
    let mut found = HashMap::new();
    for line in lines {
        if line == "}" {
            return Some(Seen(found));
        }
        let Some(top) = line.strip_prefix('\t').filter(|rest| !rest.starts_with(['\t', ' '])) else {
            continue;
        };
        if let Some((key, value)) = top.split_once(" = ")
            && value != "{"
        {
            found.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &str = "gui/501/so.makefile.baa-conductor = {\n\tactive count = 1\n\
         \tpath = /Users/x/Library/LaunchAgents/a.plist\n\tstate = running\n\n\tprogram = /bin/sh\n\
         \targuments = {\n\t\t/bin/sh\n\t\tstate = evil\n\t}\n\n\tenvironment = {\n\
         \t\tSECRET => hunter2\n\t\tpid = 7\n\t}\n\n\tminimum runtime = 10\n\texit timeout = 5\n\
         \truns = 3\n\tpid = 4242\n\tlast exit code = (never exited)\n\n\tresource coalition = {\n\
         \t\tID = 1\n\t\tstate = active\n\t\truns = 9\n\t\tpid = 1\n\t}\n\tstate = active\n}\n";

    #[test]
    fn only_the_top_level_counts_and_only_once() {
        let seen = read(CAPTURE, "gui/501/so.makefile.baa-conductor").unwrap();
        assert_eq!(
            (seen.text("state"), seen.number("pid"), seen.number("runs"), seen.number("exit timeout")),
            (Some("running"), Some(4242), Some(3), Some(5))
        );
        assert!(!format!("{seen:?}").contains("hunter2"));
    }

    #[test]
    fn another_target_or_a_cut_block_is_not_read() {
        assert!(read(CAPTURE, "gui/501/so.makefile.baa").is_none());
        assert!(read(&CAPTURE[..200], "gui/501/so.makefile.baa-conductor").is_none());
        assert!(read("", "x").is_none());
    }
}
