//! HPACK (RFC 7541) as far as one request and one answer need it: we allow no table that grows, so that what
//! is left are the fixed table, literals, and Huffman's code.

/// The names of the fixed table whose fields we look at; with what value, where it has one.
const PATH: usize = 4;
const AUTHORITY: usize = 1;
const CONTENT_TYPE: usize = 31;
/// `:method: POST`, `:scheme: http`, `:scheme: https`
const POST: usize = 3;
const HTTP: usize = 6;
const HTTPS: usize = 7;
/// `:status` of 200, 204, 206, 304, 400, 404, 500
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const STATUS: usize = 8;
const FIXED: usize = 61;

/// How many bits each byte takes, and the end of all last (RFC 7541, appendix B). The code is canonical: the
/// lengths say all of it.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const LONGEST: usize = 30;
const END: u16 = 256;

/// A field whose name and value are as long as they are; both empty where they are of no interest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HpackField {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The head of a gRPC request.
pub(super) fn request(authority: &str, path: &str, encrypted: bool, more: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    number(&mut bytes, 0x80, 7, POST);
    number(&mut bytes, 0x80, 7, if encrypted { HTTPS } else { HTTP });
    for (index, value) in [(PATH, path), (AUTHORITY, authority), (CONTENT_TYPE, "application/grpc")] {
        number(&mut bytes, 0, 4, index);
        text(&mut bytes, value);
    }
    let own = [("te", "trailers"), ("user-agent", concat!("baa/", env!("CARGO_PKG_VERSION")))];
    for (name, value) in own {
        literal(&mut bytes, name, value);
    }
    more.iter().for_each(|(name, value)| literal(&mut bytes, &name.to_ascii_lowercase(), value));
    bytes
}

/// A field that is not to be remembered, for it may be a secret.
fn literal(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.push(0x10);
    text(bytes, name);
    text(bytes, value);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, 0, 7, text.len());
    bytes.extend(text.as_bytes());
}

/// A number in the last `bits` bits of a byte that begins as `first`, and in more (RFC 7541, 5.1).
fn number(bytes: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let full = (1usize << bits) - 1;
    let low = |number: usize| u8::try_from(number).unwrap_or(0);
    if number < full {
        return bytes.push(first | low(number));
    }
    bytes.push(first | low(full));
    let mut rest = number - full;
    while rest >= 128 {
        bytes.push(low(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(low(rest));
}

/// The fields of a block; `None` for what breaks the rules.
pub(super) fn fields(block: &[u8]) -> Option<Vec<HpackField>> {
    let (mut at, mut found) = (block, Vec::new());
    while let Some(first) = at.first().copied() {
        if first & 0x80 != 0 {
            let index = read_number(&mut at, 7)?;
            let value = index.checked_sub(STATUS).and_then(|index| STATUSES.get(index));
            found.push(HpackField {
                name: name_of(index)?,
                value: value.map_or_else(Vec::new, |value| value.as_bytes().to_vec()),
            });
            continue;
        }
        // A change of the table's size, which we allow to be nothing.
        if first & 0xe0 == 0x20 {
            if read_number(&mut at, 5)? != 0 {
                return None;
            }
            continue;
        }
        let index = read_number(&mut at, if first & 0x40 != 0 { 6 } else { 4 })?;
        let name = if index == 0 { read_text(&mut at)? } else { name_of(index)? };
        let value = read_text(&mut at)?;
        found.push(HpackField { name, value });
    }
    Some(found)
}

fn name_of(index: usize) -> Option<Vec<u8>> {
    match index {
        STATUS..15 => Some(b":status".to_vec()),
        CONTENT_TYPE => Some(b"content-type".to_vec()),
        1..=FIXED => Some(Vec::new()),
        // Nothing else is in the table.
        _ => None,
    }
}

fn read_number(at: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = at.split_first()?;
    let full = (1usize << bits) - 1;
    let mut number = usize::from(*first) & full;
    if number == full {
        let mut shift = 0;
        loop {
            let (byte, more) = rest.split_first()?;
            rest = more;
            number = number.checked_add(usize::from(byte & 127) << shift)?;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
            // Nothing that we hear is so long.
            if shift > 21 {
                return None;
            }
        }
    }
    *at = rest;
    Some(number)
}

fn read_text(at: &mut &[u8]) -> Option<Vec<u8>> {
    let coded = at.first()? & 0x80 != 0;
    let length = read_number(at, 7)?;
    let (text, rest) = at.split_at_checked(length)?;
    *at = rest;
    if coded { huffman(text) } else { Some(text.to_vec()) }
}

/// Decodes Huffman's code, bit by bit: what is heard is short.
fn huffman(coded: &[u8]) -> Option<Vec<u8>> {
    // How many codes have each length; the first code of each, and where its byte stands in order.
    let mut counts = [0usize; LONGEST + 1];
    LENGTHS.iter().for_each(|length| counts[usize::from(*length)] += 1);
    let mut order: Vec<u16> = (0..=END).collect();
    order.sort_by_key(|byte| LENGTHS[usize::from(*byte)]);
    let (mut text, mut code, mut length) = (Vec::new(), 0usize, 0usize);
    let (mut first, mut before) = (0usize, 0usize);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        code = code << 1 | usize::from(bit);
        length += 1;
        first <<= 1;
        let count = *counts.get(length)?;
        if code < first + count {
            match *order.get(before + (code - first))? {
                END => return None,
                byte => text.push(u8::try_from(byte).ok()?),
            }
            (code, length, first, before) = (0, 0, 0, 0);
            continue;
        }
        first += count;
        before += count;
    }
    // The rest is filled up with the beginning of the end of all, less than a byte of it.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn reads_what_others_encode() {
        for (coded, plain) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("6402", "302"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ] {
            assert_eq!(huffman(&hex(coded)).map(|text| String::from_utf8(text).unwrap()).unwrap(), plain);
        }
        // The end of all, and too much of it.
        assert_eq!((huffman(&[0xff; 4]), huffman(&[0xff])), (None, None));
        let field = |name: &str, value: &str| HpackField { name: name.into(), value: value.into() };
        assert_eq!(
            fields(&hex("20880f0d0131000b677270632d7374617475730130")).unwrap(),
            [field(":status", "200"), field("", "1"), field("grpc-status", "0")]
        );
    }

    #[test]
    fn refuses_what_breaks_the_rules() {
        // No such index; a table that grows; a text that is cut; a number without end.
        for block in ["80", "be", "ff8001", "3fe11f", "000b6772", "007fffffffffffffff0f"] {
            assert_eq!(fields(&hex(block)), None, "{block}");
        }
    }

    #[test]
    fn a_request_is_as_others_read_it() {
        let block = request("h:1", "/p", false, &[("X".to_owned(), "y".repeat(200))]);
        assert_eq!(&block[..7], &hex("8386").into_iter().chain(*b"\x04\x02/p\x01").collect::<Vec<u8>>()[..]);
        let all = fields(&block).unwrap();
        assert_eq!((all.len(), all[7].name.as_slice(), all[7].value.len()), (8, b"x".as_slice(), 200));
    }
}
