//! Foreign text made fit to be shown: names, labels, headers, messages, what a file or a server says. A
//! terminal obeys some letters instead of showing them, and others turn what stands around them about; both
//! are written as escapes, `\u001b`, in lines for people and, where it means the same, in JSON. The one place
//! that decides which.

use std::borrow::Cow;
use std::fmt::Write;

/// A line is cut after so many letters: as many as the longest path has (PATH_MAX).
const LONG: usize = 4096;

/// Whether a letter is obeyed instead of shown: controls of ASCII (C0, DEL) and of ISO 6429 (C1, of which
/// U+009B begins the same as ESC and `[`); those that set the direction of writing (Unicode Standard Annex 9:
/// what is read is not what is there); separators of lines; and letters that nobody sees (byte order mark,
/// annotation, tags).
pub fn is_unfit(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(letter, '\u{e0000}'..='\u{e007f}')
}

/// `text` as one line, of at most 4,096 letters and an ellipsis. A tab is a space.
pub fn line(text: &str) -> Cow<'_, str> {
    let long = text.char_indices().nth(LONG).map(|(at, _)| at);
    if long.is_none() && !text.contains(is_unfit) {
        return text.into();
    }
    let mut fit = String::new();
    for letter in text[..long.unwrap_or(text.len())].chars() {
        if letter == '\t' { fit.push(' ') } else { push(&mut fit, letter) }
    }
    if long.is_some() {
        fit.push('…');
    }
    fit.into()
}

/// `text` as lines, whose ends and tabs stay. JSON stays JSON that says the same: such letters stand in its
/// strings alone.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |letter: char| matches!(letter, '\n' | '\t');
    if !text.contains(|letter| is_unfit(letter) && !stays(letter)) {
        return text.into();
    }
    let mut fit = String::new();
    for letter in text.chars() {
        if stays(letter) { fit.push(letter) } else { push(&mut fit, letter) }
    }
    fit.into()
}

/// What a program has said, for a terminal: colours stay, as whoever keeps the program wants to see them, and
/// end with their line; nothing else is obeyed, nor what hides a text.
pub fn output(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let (mut fit, mut pen) = (String::new(), Pen::default());
    for (colour, part) in parts(&text) {
        if let Some(next) = colour.then(|| pen.after(part)).flatten() {
            fit.push_str(part);
            pen = next;
            continue;
        }
        for line in lines(part).split_inclusive('\n') {
            let text = line.strip_suffix('\n');
            fit.push_str(text.unwrap_or(line));
            if text.is_some() {
                pen.lift(&mut fit);
                fit.push('\n');
            }
        }
    }
    pen.lift(&mut fit);
    fit
}

/// How a terminal writes after the colours that were passed on to it.
#[derive(Clone, Copy, Default)]
struct Pen {
    used: bool,
    /// The colours of letters and of what is behind them, where they were set.
    ink: Option<u32>,
    paper: Option<u32>,
}

impl Pen {
    /// Writes as ever from here on.
    fn lift(&mut self, fit: &mut String) {
        if std::mem::take(self).used {
            fit.push_str("\u{1b}[0m");
        }
    }

    /// What this sequence makes of it; `None` for one that is not whole, that we do not know, or after which
    /// nothing could be read.
    fn after(self, sequence: &str) -> Option<Pen> {
        let mut pen = Pen { used: true, ..self };
        let inner = sequence.strip_prefix("\u{1b}[")?.strip_suffix('m')?;
        // Colons part what belongs together, and one thing may be left out there.
        let inner = inner.replace("::", ":").replace(':', ";");
        let mut numbers =
            inner.split(';').map(|word| if word.is_empty() { Some(0) } else { word.parse::<u8>().ok() });
        while let Some(number) = numbers.next() {
            let number = u32::from(number?);
            match number {
                0 => pen = Pen { used: pen.used, ..Pen::default() },
                // Not 5 and 6, which blink, and 8, which hides.
                1..=4 | 7 | 9 | 21..=25 | 27..=29 | 53 | 55 => {}
                30..=37 => pen.ink = Some(number - 30),
                90..=97 => pen.ink = Some(number - 82),
                39 => pen.ink = None,
                40..=47 => pen.paper = Some(number - 40),
                100..=107 => pen.paper = Some(number - 92),
                49 => pen.paper = None,
                38 | 48 => {
                    let mut next = || numbers.next().flatten().map(u32::from);
                    let colour = match next()? {
                        5 => next()?,
                        2 => (1 << 24) | (next()? << 16) | (next()? << 8) | next()?,
                        _ => return None,
                    };
                    if number == 38 { pen.ink = Some(colour) } else { pen.paper = Some(colour) }
                }
                _ => return None,
            }
        }
        (pen.ink.is_none() || pen.ink != pen.paper).then_some(pen)
    }
}

/// The same without its colours.
pub fn uncoloured(said: &str) -> String {
    parts(said).filter_map(|(colour, part)| (!colour).then_some(part)).collect()
}

/// Text, and between it what sets a colour (SGR of ECMA-48: ESC, `[`, digits, `m`).
fn parts(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let colour = colour(rest);
        let end = colour.unwrap_or_else(|| {
            let ends = rest.match_indices('\u{1b}').find(|(at, _)| colour_at(rest, *at));
            ends.map_or(rest.len(), |(at, _)| at)
        });
        let part;
        (part, rest) = rest.split_at(end);
        (!part.is_empty()).then_some((colour.is_some(), part))
    })
}

fn colour_at(text: &str, at: usize) -> bool {
    colour(&text[at..]).is_some()
}

/// The length of the sequence that `text` begins with, if that sets a colour.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|letter: char| !matches!(letter, '0'..='9' | ';' | ':'))?;
    parameters[end..].starts_with('m').then_some(end + 3)
}

/// A letter, or its escape, as JSON has it: in units of UTF-16.
fn push(fit: &mut String, letter: char) {
    if is_unfit(letter) {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(fit, "\\u{unit:04x}");
        }
    } else {
        fit.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;title\u{7}\u{9b}2J\rb\u{202e}c\u{2028}\u{7f}\u{e0041}\nd\te";

    #[test]
    fn what_a_terminal_obeys_is_shown_instead() {
        let shown = r"a\u001b]0;title\u0007\u009b2J\u000db\u202ec\u2028\u007f\udb40\udc41\u000ad e";
        assert_eq!(line(HOSTILE), shown);
        assert_eq!(lines(HOSTILE), shown.replace("\\u000a", "\n").replace("d e", "d\te"));
        assert!(matches!(line("Grüße, 日本 👩‍👩‍👧 “x”"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_ends() {
        let long = line(&"é".repeat(1 << 20)).into_owned();
        assert_eq!((long.chars().count(), long.ends_with("é…")), (LONG + 1, true));
        assert!(matches!(line(&"x".repeat(LONG)), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({ HOSTILE: HOSTILE });
        let text = value.to_string();
        let shown = lines(&text);
        assert!(!shown.contains(is_unfit) && shown != text, "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn colours_of_a_program_are_told_from_all_else() {
        let plain = "\u{1b}[1;31mred\u{1b}[0m \u{1b}[m";
        assert_eq!(uncoloured(plain), "red ");
        assert_eq!(output(plain.as_bytes()), format!("{plain}\u{1b}[0m"));
        assert_eq!(output(b"\x1b[2J\x1b[31\x1b[3x\x1b[\xffm\x1b]0;t\x07\x1b["), {
            "\\u001b[2J\\u001b[31\\u001b[3x\\u001b[\u{fffd}m\\u001b]0;t\\u0007\\u001b["
        });
    }

    #[test]
    fn colours_end_with_their_line_and_hide_nothing() {
        let good = "\u{1b}[38;5;9;48:2::1:2:3m\u{1b}[30;42mPASS";
        assert_eq!(output(format!("{good}\nnext\n").as_bytes()), format!("{good}\u{1b}[0m\nnext\n"));
        for bad in
            ["8", "1;8", "5", "30;40", "38;5;0;40", "999999999999999999999", "38", "38;5", "38;7;1", "12"]
        {
            assert_eq!(output(format!("\u{1b}[{bad}mx").as_bytes()), format!("\\u001b[{bad}mx"));
        }
        let later = output(b"\x1b[31mred\x1b[41mgone");
        assert_eq!(later, "\u{1b}[31mred\\u001b[41mgone\u{1b}[0m");
    }
}
