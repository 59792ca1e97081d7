//! How a case becomes another: bytes, tokens and numbers are changed, moved and repeated, words of the
//! target's language are put in, and two cases are joined.

use super::Target;
use crate::words::dice::Dice;

/// Numbers at which arithmetic ends, and what only looks like one.
const NUMBERS: [&str; 44] = [
    "0",
    "-0",
    "00",
    "+1",
    "-1",
    "1",
    "2",
    "9",
    "10",
    "127",
    "128",
    "255",
    "256",
    "999",
    "1000",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "170141183460469231731687303715884105728",
    "99999999999999999999999999999999999999999",
    "0.5",
    ".5",
    "5.",
    "1e3",
    "1e308",
    "1e999",
    "-1e999",
    "0x10",
    "NaN",
    "inf",
];

/// What texts are cut at.
const MARKS: &[u8] = b" \t\r\n\0,;:=/.-_[]{}()<>\"'\\&|@%#+!";

/// Pieces that are no good text, or more than one byte.
const PIECES: [&[u8]; 14] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\x1b[31m",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xf0\x9f",
    "\u{fffd}".as_bytes(),
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
    "😀".as_bytes(),
    "\u{2028}".as_bytes(),
    b"%",
];

/// Makes cases out of those that it has.
pub(super) struct Mutator {
    dice: Dice,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    longest: usize,
}

impl Mutator {
    pub(super) fn new(target: &Target, dice: Dice) -> Mutator {
        let (words, corpus) = target.seeds();
        Mutator { dice, corpus, words, longest: target.longest }
    }

    pub(super) fn add(&mut self, case: Vec<u8>) {
        self.corpus.push(case);
    }

    pub(super) fn corpus(&self) -> &[Vec<u8>] {
        &self.corpus
    }

    pub(super) fn case(&mut self) -> Vec<u8> {
        let mut case = self.one();
        let many = if self.dice.chance(10) { 32 } else { 6 };
        let changes = 1 + self.below(many);
        for _ in 0..changes {
            self.change(&mut case);
            case.truncate(self.longest);
        }
        case
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.dice.roll(count.max(1) as u64)).unwrap_or(0)
    }

    fn one(&mut self) -> Vec<u8> {
        let number = self.below(self.corpus.len());
        self.corpus.get(number).cloned().unwrap_or_default()
    }

    /// A range of at most `most` bytes.
    fn range(&mut self, case: &[u8], most: usize) -> std::ops::Range<usize> {
        let from = self.below(case.len() + 1);
        let to = (from + 1 + self.below(most)).min(case.len());
        from.min(to)..to
    }

    /// A token: what stands between two marks.
    fn token(&mut self, case: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(case.len());
        let is_mark = |byte: &u8| MARKS.contains(byte);
        let from = case[..at].iter().rposition(is_mark).map_or(0, |mark| mark + 1);
        let to = case[at..].iter().position(is_mark).map_or(case.len(), |mark| at + mark);
        from..to.max(from)
    }

    /// A run of digits, with its sign, if there is one.
    fn number(&mut self, case: &[u8]) -> Option<std::ops::Range<usize>> {
        let at = self.below(case.len());
        let from = at + case.get(at..)?.iter().position(u8::is_ascii_digit)?;
        let from = case[..from].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
        let length = case[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let signed = from > 0 && case[from - 1] == b'-';
        Some(from - usize::from(signed)..from + length)
    }

    fn piece(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => NUMBERS[self.below(NUMBERS.len())].as_bytes().to_vec(),
            1 => PIECES[self.below(PIECES.len())].to_vec(),
            _ if !self.words.is_empty() => {
                let number = self.below(self.words.len());
                self.words[number].clone()
            }
            _ => {
                let length = 1 + self.below(8);
                (0..length).map(|_| u8::try_from(self.dice.roll(256)).unwrap_or(0)).collect()
            }
        }
    }

    fn change(&mut self, case: &mut Vec<u8>) {
        match self.below(14) {
            0 if !case.is_empty() => {
                let at = self.below(case.len());
                case[at] ^= 1 << self.below(8);
            }
            1 if !case.is_empty() => {
                let at = self.below(case.len());
                case[at] = MARKS[self.below(MARKS.len())];
            }
            2 => {
                let range = self.range(case, 16);
                case.drain(range);
            }
            3 => {
                let range = self.range(case, 256);
                case.drain(range);
            }
            4 => {
                // Again and again: what grows with the number of something.
                let range = self.range(case, 64);
                let (piece, at) = (case[range].to_vec(), self.below(case.len() + 1));
                let times = if self.dice.chance(20) { 1 + self.below(2000) } else { 1 + self.below(4) };
                let times = times.min(self.longest / piece.len().max(1));
                case.splice(at..at, piece.repeat(times));
            }
            5 => {
                let other = self.one();
                let (cut, from) = (self.below(case.len() + 1), self.below(other.len() + 1));
                case.truncate(cut);
                case.extend_from_slice(&other[from..]);
            }
            6 | 7 => {
                if let Some(range) = self.number(case) {
                    case.splice(range, NUMBERS[self.below(NUMBERS.len())].bytes());
                }
            }
            8 | 9 => {
                let (range, piece) = (self.token(case), self.piece());
                case.splice(range, piece);
            }
            10 => {
                let (at, piece) = (self.below(case.len() + 1), self.piece());
                case.splice(at..at, piece);
            }
            11 => {
                // One token in the place of another, of this case or of one beside it.
                let other = if self.dice.chance(50) { self.one() } else { case.clone() };
                let (from, to) = (self.token(&other), self.token(case));
                case.splice(to, other[from].to_vec());
            }
            12 => {
                // Whole lines.
                let mut lines: Vec<Vec<u8>> = case.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let (one, other) = (self.below(lines.len()), self.below(lines.len()));
                match self.below(3) {
                    0 => lines.swap(one, other),
                    1 => drop(lines.remove(one)),
                    _ => lines.insert(one, lines[other].clone()),
                }
                *case = lines.join(&b'\n');
            }
            _ => {
                let at = self.below(case.len() + 1);
                // Little-endian words, as the kernel speaks.
                let number =
                    [0u64, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 63][self.below(8)];
                let width = 1 << self.below(4);
                let end = (at + width).min(case.len());
                case.splice(at..end, number.to_le_bytes()[..width].to_vec());
            }
        }
    }
}
