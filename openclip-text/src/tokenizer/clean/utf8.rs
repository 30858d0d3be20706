//! UTF-8 and what happens to it on the way: bytes that a lossy program replaced, and the variants that Java and
//! databases write.

/// `bytes` with U+00A0 put back where it is clear that a program made a space of its last byte.
///
/// In UTF-8 a byte A0 occurs within a character; a program that takes it for a no-break space and writes a plain one
/// breaks that character.
pub(super) fn restore_byte_a0(bytes: &[u8]) -> Vec<u8> {
    let bytes = separate_a_grave(bytes);
    let mut restored = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        match altered_length(rest).and_then(|length| rest.split_at_checked(length)) {
            Some((altered, behind)) => {
                restored.extend(altered.iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }));
                rest = behind;
            }
            None => {
                restored.push(first);
                rest = after;
            }
        }
    }
    restored
}

/// Whether `bytes` hold a sequence that [`restore_byte_a0`] would restore.
pub(super) fn has_altered_byte_a0(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| altered_length(bytes.get(at..).unwrap_or_default()).is_some())
}

/// Reads byte C3 and a space as the word `à` and a space after it, unless the `à` is the start of a longer word that is
/// common in Portuguese.
fn separate_a_grave(bytes: &[u8]) -> Vec<u8> {
    const LONGER: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut separated = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        match rest.strip_prefix(b"\xc3 ") {
            Some(behind) if !LONGER.iter().any(|word| behind.starts_with(word)) => {
                separated.extend_from_slice(b"\xc3\xa0 ");
                rest = behind;
            }
            _ => {
                separated.push(first);
                rest = after;
            }
        }
    }
    separated
}

/// Length of the sequence at the start of `bytes` that would be UTF-8 with A0 in place of its space.
///
/// Only lead bytes after which that makes a likely character are accepted.
fn altered_length(bytes: &[u8]) -> Option<usize> {
    let continues = |byte: u8| (0x80..=0xbf).contains(&byte);
    // Not 85 and A0, which other programs take for line breaks and spaces.
    let safely = |byte: u8| continues(byte) && byte != 0x85 && byte != 0xa0;
    match *bytes {
        [0xc2 | 0xc3 | 0xc5 | 0xce | 0xd0 | 0xd9, b' ', ..] => Some(2),
        [0xe2 | 0xe3, b' ', last, ..] if safely(last) => Some(3),
        [0xe0..=0xe3, second, b' ', ..] if safely(second) => Some(3),
        [0xf0, b' ', third, last, ..] if continues(third) && continues(last) => Some(4),
        [0xf0, second, b' ', last, ..] if continues(second) && continues(last) => Some(4),
        [0xf0, second, third, b' ', ..] if continues(second) && continues(third) => Some(4),
        _ => None,
    }
}

/// `bytes` with U+FFFD for each sequence of UTF-8 or CESU-8 in which bytes have been lost.
///
/// A lost byte is 1A, as the encoders of this module write it; one question mark per sequence is taken for a lost byte too.
pub(super) fn replace_lossy_sequences(bytes: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        match lossy_length(rest).and_then(|length| rest.get(length..)) {
            Some(behind) => {
                replaced.extend_from_slice("\u{fffd}".as_bytes());
                rest = behind;
            }
            None => {
                replaced.push(first);
                rest = after;
            }
        }
    }
    replaced
}

/// Length of the sequence at the start of `bytes` in which bytes have been lost.
fn lossy_length(bytes: &[u8]) -> Option<usize> {
    const LOST: u8 = 0x1a;
    let continues = |byte: u8| (0x80..=0xbf).contains(&byte);
    // Every byte continues the sequence or is lost, at least one of them is lost, and at most one is a question mark.
    let lossy = |tail: &[u8]| {
        let questions = tail.iter().filter(|&&byte| byte == b'?').count();
        let lost = tail.iter().filter(|&&byte| byte == LOST).count();
        questions <= 1
            && questions + lost >= 1
            && tail.iter().all(|&byte| continues(byte) || byte == b'?' || byte == LOST)
    };
    match *bytes {
        [0xc2..=0xdf, LOST, ..] | [0xc2 | 0xc3, b'?', ..] => Some(2),
        [0xed, 0xa0..=0xaf, second, 0xed, 0xb0..=0xbf, last, ..] if is_lossy_surrogate_pair(second, last) => {
            Some(6)
        }
        [0xe0..=0xef, second, third, ..] if lossy(&[second, third]) => Some(3),
        [0xf0..=0xf4, second, third, last, ..] if lossy(&[second, third, last]) => Some(4),
        [LOST, ..] => Some(1),
        _ => None,
    }
}

/// Whether a CESU-8 pair that ends its halves with these two bytes has lost one of them, or both.
fn is_lossy_surrogate_pair(first: u8, second: u8) -> bool {
    let lost = |byte: u8| byte == 0x1a || byte == b'?';
    let present = |byte: u8| (0x80..=0xbf).contains(&byte);
    (lost(first) && (lost(second) || present(second))) || (present(first) && lost(second))
}

/// `bytes` decoded as UTF-8, or nothing if they aren't. Where a byte shows that it may be a variant of UTF-8, surrogate
/// pairs in three bytes each (CESU-8) and NUL in two bytes (Java) are decoded too.
pub(super) fn decode(bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0xed) || bytes.contains(&0xc0) {
        decode_variants(&bytes)
    } else {
        String::from_utf8(bytes).ok()
    }
}

fn decode_variants(bytes: &[u8]) -> Option<String> {
    let mut decoded = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = (0..rest.len()).find(|&at| variant_at(rest, at).is_some()) {
        let (plain, from) = rest.split_at(at);
        let (c, length) = variant_at(rest, at)?;
        decoded.push_str(std::str::from_utf8(plain).ok()?);
        decoded.push(c);
        rest = from.get(length..)?;
    }
    decoded.push_str(std::str::from_utf8(rest).ok()?);
    Some(decoded)
}

/// The character that isn't proper UTF-8 at `at`, and its length in bytes.
///
/// A line feed that ends the input may stand for the last byte of either form: the reference's pattern has `$` there.
fn variant_at(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    match *bytes.get(at..)? {
        [0xc0, 0x80, ..] | [0xc0, b'\n'] => Some(('\0', 2)),
        [0xed, high @ 0xa0..=0xaf, second @ 0x80..=0xbf, 0xed, low @ 0xb0..=0xbf, last, ref behind @ ..]
            if (0x80..=0xbf).contains(&last) || (last == b'\n' && behind.is_empty()) =>
        {
            let code = (u32::from(high & 0x0f) << 16)
                + (u32::from(second & 0x3f) << 10)
                + (u32::from(low & 0x0f) << 6)
                + u32::from(last & 0x3f)
                + 0x1_0000;
            Some((char::from_u32(code)?, 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_become_the_byte_that_they_were() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"voil\xc3 le", b"voil\xc3\xa0 le"),
            (b"\xc3  x", b"\xc3\xa0 x"),
            (b"\xc3 quele", b"\xc3\xa0quele"),
            (b"\xc3 s ", b"\xc3\xa0s "),
            (b"\xe2 \x80\xe2 \x85", b"\xe2\xa0\x80\xe2 \x85"),
            (b"\xe4\x80 ", b"\xe4\x80 "),
            (b"\xf0\x9f \x80\xf0 \x9f", b"\xf0\x9f\xa0\x80\xf0 \x9f"),
            (b"\xf0", b"\xf0"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(restore_byte_a0(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn lost_bytes_become_one_replacement_character() {
        const R: &str = "\u{fffd}";
        let cases: [(&[u8], String); 9] = [
            (b"\xe2\x80\x1a.", format!("{R}.")),
            (b"\xe2?\x1a", R.to_string()),
            (b"\x1a", R.to_string()),
            (b"\xc3?", R.to_string()),
            (b"\xc4\x1a", R.to_string()),
            (b"\xf0\x9f?\x80", R.to_string()),
            (b"\xed\xa0\x1a\xed\xb0?", R.to_string()),
            (b"\xed\xa0?\xed\xb0\x80", R.to_string()),
            (b"abc?", "abc?".to_string()),
        ];
        for (bytes, expected) in cases {
            assert_eq!(replace_lossy_sequences(bytes), expected.as_bytes(), "{bytes:x?}");
        }
        assert_eq!(replace_lossy_sequences(b"\xe2??"), b"\xe2??");
        assert_eq!(replace_lossy_sequences(b"\xc4?"), b"\xc4?");
    }

    #[test]
    fn variants() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"\xed\xa0\xbd\xed\xb8\x8d", Some("😍")),
            (b"a\xc0\x80b", Some("a\0b")),
            (b"a\xc0\n", Some("a\0")),
            (b"\xc0", None),
            (b"\xc0\nb", None),
            (b"\xed\x95\x9c", Some("한")),
            (b"\xed\xa0\xbd", None),
            (b"\xed\xa0\xbd\xed\xb8\n", Some("\u{1f60a}")),
            (b"\xe4\xc0\x80", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(bytes.to_vec()).as_deref(), expected, "{bytes:x?}");
        }
    }
}
