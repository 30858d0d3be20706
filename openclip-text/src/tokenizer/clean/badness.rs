//! Whether a text looks like mojibake: sequences of characters that are common in it and hardly occur in sound text.
//!
//! The sequences are those that ftfy 6.3.1 looks for (`ftfy.badness`), as a table of what each place may hold.

use std::str::Chars;
use std::sync::LazyLock;

use super::categories::{
    BAD, BOX, C1, COMMON, CURRENCY, END_PUNCTUATION, KAOMOJI, LAW, LOWER_ACCENTED, LOWER_COMMON, MEMBERS,
    NUMERIC, START_PUNCTUATION, UPPER_ACCENTED, UPPER_COMMON,
};
use crate::tokenizer::unicode::{is_whitespace, is_word};

/// What one place of a sequence may hold.
enum Place {
    /// A character of one of these classes.
    Of(u32),
    /// One of these characters.
    Any(&'static str),
    /// A character of one of these classes, or one of these characters.
    OfOr(u32, &'static str),
    /// A letter from a to z.
    Small,
    /// A letter from A to Z or a to z.
    Latin,
    /// Anything but a letter from A to Z or a to z.
    NotLatin,
    /// Anything but a line feed.
    NotLineFeed,
    /// Whitespace.
    Space,
    /// A letter, a number or an underscore.
    Word,
}

impl Place {
    fn holds(&self, c: char, class: u32) -> bool {
        match *self {
            Self::Of(classes) => class & classes != 0,
            Self::Any(members) => members.contains(c),
            Self::OfOr(classes, members) => class & classes != 0 || members.contains(c),
            Self::Small => c.is_ascii_lowercase(),
            Self::Latin => c.is_ascii_alphabetic(),
            Self::NotLatin => !c.is_ascii_alphabetic(),
            Self::NotLineFeed => c != '\n',
            Self::Space => is_whitespace(c),
            Self::Word => is_word(c),
        }
    }
}

use Place::{Any, Latin, NotLatin, NotLineFeed, Of, OfOr, Small, Space, Word};

const PUNCTUATION: u32 = START_PUNCTUATION | END_PUNCTUATION;
const ACCENTED: u32 = LOWER_ACCENTED | UPPER_ACCENTED;

/// Sequences that show mojibake wherever they occur. There may be up to 64.
const SEQUENCES: [&[Place]; 37] = [
    &[Of(C1)],
    &[Of(BAD | ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW), Of(BAD)],
    &[Latin, Of(LOWER_COMMON | UPPER_COMMON), Of(BAD)],
    &[Of(BAD), Of(ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW)],
    &[Of(LOWER_ACCENTED | LOWER_COMMON | BOX | END_PUNCTUATION | CURRENCY | NUMERIC), Of(UPPER_ACCENTED)],
    &[Of(BOX | END_PUNCTUATION | CURRENCY | NUMERIC), Of(LOWER_ACCENTED)],
    &[Of(LOWER_ACCENTED | BOX | END_PUNCTUATION), Of(CURRENCY)],
    &[Space, Of(UPPER_ACCENTED), Of(CURRENCY)],
    &[Of(UPPER_ACCENTED | BOX), Of(NUMERIC | LAW)],
    &[Of(ACCENTED | BOX | CURRENCY | END_PUNCTUATION), Of(START_PUNCTUATION), Of(NUMERIC)],
    &[Of(ACCENTED | CURRENCY | NUMERIC | BOX | LAW), Of(END_PUNCTUATION), Of(START_PUNCTUATION)],
    &[Of(CURRENCY | NUMERIC | BOX), Of(START_PUNCTUATION)],
    &[Small, Of(UPPER_ACCENTED), Of(START_PUNCTUATION | CURRENCY)],
    &[Of(BOX), Of(KAOMOJI)],
    &[Of(ACCENTED | CURRENCY | NUMERIC | PUNCTUATION | LAW), Of(BOX)],
    &[Of(BOX), Of(END_PUNCTUATION)],
    &[Of(ACCENTED), Of(PUNCTUATION), Word],
    &[Any("Œœ"), NotLatin],
    &[Of(UPPER_ACCENTED), Any("°")],
    // Windows-1252, two characters
    &[Any("ÂÃÎÐ"), OfOr(PUNCTUATION, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´")],
    &[Any("×"), Any("²³")],
    // Windows-1252, Arabic: two pairs, since one may occur in sound text
    &[
        Any("ØÙ"),
        OfOr(COMMON | CURRENCY | BAD | NUMERIC | START_PUNCTUATION, "ŸŠ®°µ»"),
        Any("ØÙ"),
        OfOr(COMMON | CURRENCY | BAD | NUMERIC | START_PUNCTUATION, "ŸŠ®°µ»"),
    ],
    // Windows-1252, alphabets of South Asia
    &[Any("à"), Any("²µ¹¼½¾")],
    // Mac OS Roman
    &[Any("√"), Any("±∂†≠®™´≤≥¥µø")],
    &[Any("≈"), Any("°¢")],
    &[Any("‚"), Any("Ä"), Any("ìîïòôúùû†°¢π")],
    &[Any("‚"), Any("âó"), Any("àä°ê")],
    // Windows-1251: U+2000 and so on, then Latin-1 and Cyrillic, then on top of Windows-1252
    &[Any("в"), Any("Ђ")],
    &[Any("ВГРС"), OfOr(C1 | BAD | PUNCTUATION | CURRENCY, "°µ"), Any("ВГРС")],
    &[Any("Г"), Any("ў"), Any("В"), Any("Ђ"), Any("В"), NotLineFeed, OfOr(0, LATIN_OR_SPACE)],
    // Windows-1252: a with an accent, and spaces that were U+00A0
    &[Any("Ã"), Any("\u{a0}¡")],
    &[Small, Any("ÃÂ"), Any(" ")],
    &[Small, Space, Any("ÃÂ"), Any(" ")],
    &[OfOr(END_PUNCTUATION, SMALL_OR_STOP), Any("Â"), OfOr(PUNCTUATION, " ")],
    // Windows-1253: U+2000 and so on, then Latin-1 and Greek
    &[Any("β"), Any("€"), Any("™\u{a0}Ά\u{ad}®°")],
    &[Any("ΒΓΞΟ"), OfOr(C1 | BAD | PUNCTUATION | CURRENCY, "°"), Any("ΒΓΞΟ")],
    // Windows-1257
    &[Any("ā"), Any("€")],
];

const LATIN_OR_SPACE: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ";
const SMALL_OR_STOP: &str = "abcdefghijklmnopqrstuvwxyz.,?!";

/// Whether `text` looks like mojibake.
pub(super) fn is_bad(text: &str) -> bool {
    // This one counts at the start alone.
    if text.starts_with("Ã ") || text.starts_with("Â ") {
        return true;
    }
    let mut rest = text.chars();
    loop {
        let here = rest.clone();
        let Some(first) = rest.next() else { return false };
        let mut starts = starts(first);
        while starts != 0 {
            let sequence = SEQUENCES.get(starts.trailing_zeros() as usize);
            if sequence.is_some_and(|sequence| is_at_start(sequence, here.clone())) {
                return true;
            }
            starts &= starts - 1;
        }
    }
}

fn is_at_start(sequence: &[Place], mut characters: Chars<'_>) -> bool {
    sequence.iter().all(|place| characters.next().is_some_and(|c| place.holds(c, class(c))))
}

/// The classes that `c` belongs to, one bit each.
pub(super) fn class(c: char) -> u32 {
    match CHARACTERS.dense.get(c as usize) {
        Some(character) => character.class,
        None => CHARACTERS.sparse.iter().find(|&&(member, _)| member == c).map_or(0, |&(_, class)| class),
    }
}

/// The [`SEQUENCES`] that may start with `c`, one bit each, the first in the lowest.
fn starts(c: char) -> u64 {
    match CHARACTERS.dense.get(c as usize) {
        Some(character) => character.starts,
        None => starts_of(c, class(c)),
    }
}

fn starts_of(c: char, class: u32) -> u64 {
    // No sequence starts with any other character, and these are few.
    if class == 0 && !c.is_ascii() && !is_whitespace(c) {
        return 0;
    }
    (0..64)
        .zip(SEQUENCES)
        .fold(0, |starts, (bit, sequence)| starts | first_place_holds(sequence, c, class) << bit)
}

fn first_place_holds(sequence: &[Place], c: char, class: u32) -> u64 {
    sequence.first().is_some_and(|place| place.holds(c, class)).into()
}

#[derive(Clone, Default)]
struct Character {
    class: u32,
    starts: u64,
}

struct Characters {
    /// By code point, up to the end of the block elements.
    dense: Vec<Character>,
    /// The few characters beyond that have a class.
    sparse: Vec<(char, u32)>,
}

static CHARACTERS: LazyLock<Characters> = LazyLock::new(|| {
    let mut characters = Characters { dense: vec![Character::default(); 0x25a0], sparse: Vec::new() };
    for (class, members) in MEMBERS {
        let mut members = members.chars().peekable();
        while let Some(first) = members.next() {
            let last = match members.next_if_eq(&'-') {
                Some(_) => members.next().unwrap_or(first),
                None => first,
            };
            for c in first..=last {
                match characters.dense.get_mut(c as usize) {
                    Some(character) => character.class |= class,
                    None => characters.sparse.push((c, class)),
                }
            }
        }
    }
    for (c, character) in ('\0'..).zip(&mut characters.dense) {
        character.starts = starts_of(c, character.class);
    }
    characters
});

#[cfg(test)]
mod tests {
    use super::super::categories::UTF8_CONTINUATION;
    use super::*;

    #[test]
    fn classes_of_characters() {
        assert_eq!(class('a'), 0);
        assert_eq!(class(' '), UTF8_CONTINUATION);
        assert_ne!(class('\u{9f}') & C1, 0);
        assert_ne!(class('ê') & LOWER_ACCENTED, 0);
        assert_ne!(class('▓') & BOX, 0);
        assert_ne!(class('ﬂ') & LOWER_ACCENTED, 0);
        assert_ne!(class('\u{fffd}') & BAD, 0);
        assert_eq!(class('😀'), 0);
        // Each once: it is in one class only.
        assert_eq!(CHARACTERS.sparse.len(), 5, "{:?}", CHARACTERS.sparse);
    }

    #[test]
    fn sequences_start_where_their_first_place_says() {
        for c in '\0'..=char::MAX {
            let by_search = (0..64)
                .zip(SEQUENCES)
                .fold(0, |starts, (bit, sequence)| starts | first_place_holds(sequence, c, class(c)) << bit);
            assert_eq!(starts(c), by_search, "{c:?}");
        }
        assert_eq!(starts('\u{80}') & 1, 1);
        assert_ne!(starts('\u{3000}'), 0);
    }

    #[test]
    fn sound_and_bad_texts() {
        let bad = [
            "\u{80}",
            "Ã©",
            "x Ã ",
            "aÂ ",
            "Ã ",
            "a\tÂ x",
            "Œ.",
            "√±",
            "вЂ”",
            "ГўВЂВx ",
            "ØªØª",
            "a,Â “",
            " €¸",
        ];
        let sound = [
            "",
            "a",
            "été",
            "x Â",
            "\nÃ ",
            "Œa",
            "Œ",
            "Øx",
            "ГўВЂВ\n ",
            "Привет, мир",
            "日本語",
            "▓▓▓",
            "“x”",
        ];
        let wrong: Vec<_> = bad
            .into_iter()
            .filter(|text| !is_bad(text))
            .chain(sound.into_iter().filter(|text| is_bad(text)))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
