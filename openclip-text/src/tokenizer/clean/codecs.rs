//! The single-byte encodings that mojibake is made with: text that was UTF-8 and was read as one of these.

use std::sync::LazyLock;

use super::codec_tables::{
    CP437, ISO_8859_2, MAC_ROMAN, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254,
    WINDOWS_1257,
};

/// The byte that stands for U+FFFD in encodings that may have lost bytes.
const SUBSTITUTE: char = '\u{1a}';

/// A single-byte encoding whose first half is ASCII.
pub(super) struct Codec {
    pub(super) kind: Kind,
    /// Characters outside ASCII and their bytes, sorted.
    high: Vec<(char, u8)>,
}

/// What the repair of mojibake treats differently from one encoding to another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every byte is the code point of the same number.
    Latin1,
    /// A Windows code page. Programs that decode it drop unassigned bytes or pass them through, so byte 1A stands for a
    /// dropped one.
    Windows,
    /// Another encoding that assigns every byte.
    Complete,
    /// Mac OS Roman, where an en dash and a space look like the start of a damaged character.
    MacRoman,
}

impl Codec {
    fn new(kind: Kind, high: impl Iterator<Item = char>) -> Self {
        let mut high: Vec<_> = high.zip(0x80..=0xff_u8).collect();
        if kind == Kind::Windows {
            high.push(('\u{fffd}', 0x1a));
        }
        high.sort_unstable();
        Self { kind, high }
    }

    /// The bytes that `text` was decoded from, if it can have been decoded from this encoding.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.encode_char(c)).collect()
    }

    fn encode_char(&self, c: char) -> Option<u8> {
        match u8::try_from(c) {
            Ok(byte) if byte.is_ascii() => (c != SUBSTITUTE || self.kind != Kind::Windows).then_some(byte),
            _ => {
                let at = self.high.binary_search_by_key(&c, |&(member, _)| member).ok()?;
                self.high.get(at).map(|&(_, byte)| byte)
            }
        }
    }
}

/// Every encoding, the likeliest first.
pub(super) static CODECS: LazyLock<[Codec; 10]> = LazyLock::new(|| {
    [
        Codec::new(Kind::Latin1, '\u{80}'..='\u{ff}'),
        Codec::new(Kind::Windows, WINDOWS_1252.chars()),
        Codec::new(Kind::Windows, WINDOWS_1251.chars()),
        Codec::new(Kind::Windows, WINDOWS_1250.chars()),
        Codec::new(Kind::Windows, WINDOWS_1253.chars()),
        Codec::new(Kind::Windows, WINDOWS_1254.chars()),
        Codec::new(Kind::Windows, WINDOWS_1257.chars()),
        Codec::new(Kind::Complete, ISO_8859_2.chars()),
        Codec::new(Kind::MacRoman, MAC_ROMAN.chars()),
        Codec::new(Kind::Complete, CP437.chars()),
    ]
});

/// What Windows-1252 has at the place of a character of Latin-1, or the character itself where it has nothing.
pub(super) fn windows_1252(c: char) -> char {
    match u32::from(c).checked_sub(0x80) {
        Some(offset @ 0..=0x1f) => WINDOWS_1252.chars().nth(offset as usize).unwrap_or(c),
        _ => c,
    }
}

/// Whether Windows-1252 assigns the byte that is `c` in Latin-1.
pub(super) fn is_assigned_in_windows_1252(c: char) -> bool {
    !matches!(c, '\u{81}' | '\u{8d}' | '\u{8f}' | '\u{90}' | '\u{9d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_complete() {
        for codec in CODECS.iter() {
            let bytes: std::collections::BTreeSet<_> = codec.high.iter().map(|&(_, byte)| byte).collect();
            assert!((0x80..=0xff).all(|byte| bytes.contains(&byte)));
        }
    }

    #[test]
    fn encodes_only_what_the_encoding_has() {
        let [latin1, windows_1252, windows_1251, ..] = &*CODECS;
        assert_eq!(latin1.encode("é\u{1a}\u{80}"), Some(vec![0xe9, 0x1a, 0x80]));
        assert_eq!(latin1.encode("€"), None);
        assert_eq!(windows_1252.encode("a€\u{81}\u{fffd}"), Some(vec![b'a', 0x80, 0x81, 0x1a]));
        assert_eq!(windows_1252.encode("\u{1a}"), None);
        assert_eq!(windows_1251.encode("Ж"), Some(vec![0xc6]));
    }

    #[test]
    fn c1_controls_in_windows_1252() {
        assert_eq!(windows_1252('\u{80}'), '€');
        assert_eq!(windows_1252('\u{9f}'), 'Ÿ');
        assert_eq!(windows_1252('\u{81}'), '\u{81}');
        assert_eq!(windows_1252('é'), 'é');
        for c in '\u{80}'..='\u{9f}' {
            assert_eq!(is_assigned_in_windows_1252(c), windows_1252(c) != c, "{c:?}");
        }
    }
}
