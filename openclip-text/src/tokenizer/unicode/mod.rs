//! Properties and mappings of characters exactly as the reference's Python has them: Unicode 14 in `str` and
//! `unicodedata`, and the newer Unicode of its `regex` module in the tokenizer's pattern.
//!
//! Later versions of Unicode give meaning to code points that Unicode 14 leaves unassigned, and hardly ever change an
//! assigned one. So Rust's own mappings are used, and code points unassigned in Unicode 14 are kept out of their reach.

mod tables;

use std::cmp::Ordering;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use tables::{DECIMAL_DIGITS, LETTERS, NUMBERS, UNASSIGNED};

fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    ranges
        .binary_search_by(|&(low, high)| match (code < low, code > high) {
            (true, _) => Ordering::Greater,
            (_, true) => Ordering::Less,
            _ => Ordering::Equal,
        })
        .is_ok()
}

/// Whether `c` is a letter to the pattern (`\p{L}`).
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is_in(&LETTERS, c) }
}

/// Whether `c` is a number to the pattern (`\p{N}`).
pub(super) fn is_number(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { is_in(&NUMBERS, c) }
}

/// Whether `c` is whitespace to `str.split` and `str.strip`.
pub(super) fn is_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether `c` is a decimal digit (`\d` of Python's `re`).
pub(super) fn is_decimal_digit(c: char) -> bool {
    is_in(&DECIMAL_DIGITS, c)
}

/// Whether `c` is a letter, a number or an underscore (`\w` of Python's `re`).
pub(super) fn is_word(c: char) -> bool {
    c == '_' || ((is_letter(c) || is_number(c)) && !is_unassigned(c))
}

fn is_unassigned(c: char) -> bool {
    c >= '\u{378}' && is_in(&UNASSIGNED, c)
}

/// Code points whose part in telling a final sigma has changed since Unicode 14, each with one that plays the part now
/// that it had then and that Unicode 14 doesn't assign: a small letter of Garay, and a mark.
const STAND_INS: [(char, char); 2] = [('\u{295}', '\u{10d70}'), ('\u{1171e}', '\u{897}')];

/// `str.lower`.
pub(super) fn lowercase(mut text: String) -> String {
    if text.is_ascii() {
        text.make_ascii_lowercase();
        return text;
    }
    map_assigned(&text, |piece, lower| {
        if piece.contains('Σ') && STAND_INS.iter().any(|&(c, _)| piece.contains(c)) {
            let replaced = STAND_INS
                .iter()
                .fold(piece.to_owned(), |text, &(c, to)| text.replace(c, to.encode_utf8(&mut [0; 4])));
            let restore = |c| STAND_INS.iter().find(|&&(_, stand_in)| stand_in == c).map_or(c, |&(c, _)| c);
            lower.extend(replaced.to_lowercase().chars().map(restore));
        } else {
            lower.push_str(&piece.to_lowercase());
        }
    })
}

/// Normalization form C (`unicodedata.normalize`).
pub(super) fn compose(text: String) -> String {
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return text;
    }
    map_assigned(&text, |piece, composed| composed.extend(piece.nfc()))
}

/// `map` of every piece of `text` that is free of unassigned code points, and those as they are.
///
/// They neither compose with their neighbours nor tell a final sigma, so the pieces are independent.
fn map_assigned(text: &str, map: impl Fn(&str, &mut String)) -> String {
    let mut mapped = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_unassigned) {
        let assigned = piece.trim_end_matches(is_unassigned);
        map(assigned, &mut mapped);
        mapped.extend(piece.chars().next_back().filter(|&c| is_unassigned(c)));
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [&LETTERS[..], &NUMBERS[..], &DECIMAL_DIGITS[..], &UNASSIGNED[..]] {
            assert!(table.iter().all(|(low, high)| low <= high));
            assert!(table.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
        assert_eq!(UNASSIGNED[0].0, 0x378);
    }

    #[test]
    fn lowercase_as_python_has_it() {
        let cases = [
            ("ÀÉ", "àé"),
            ("ΟΔΟΣ ΣΑΣ Σ", "οδος σας σ"),
            ("İI", "i\u{307}i"),
            ("ſ\u{212a}", "ſk"),
            // Garay has capital letters since Unicode 16.
            ("A\u{10d50}B", "a\u{10d50}b"),
            ("A\u{10d50}Σ", "a\u{10d50}σ"),
            ("A\u{295}Σ AΣ\u{295} Σ\u{295}", "a\u{295}ς aσ\u{295} σ\u{295}"),
            ("A\u{1171e}Σ AΣ\u{1171e}A", "a\u{1171e}ς aσ\u{1171e}a"),
        ];
        for (text, expected) in cases {
            assert_eq!(lowercase(text.to_owned()), expected);
        }
    }

    #[test]
    fn composition_as_python_has_it() {
        assert_eq!(compose("e\u{301}\u{323}".to_owned()), "ẹ\u{301}");
        assert_eq!(compose("\u{212b}".to_owned()), "Å");
        // Kirat Rai has composed vowels since Unicode 16.
        assert_eq!(compose("e\u{301}\u{16d67}\u{16d67}".to_owned()), "é\u{16d67}\u{16d67}");
    }

    #[test]
    fn kinds_of_characters() {
        assert!(is_letter('é') && is_letter('漢') && !is_letter('\u{345}') && !is_letter('Ⓐ'));
        assert!(is_number('½') && is_number('Ⅻ') && is_number('٣') && !is_number('漢'));
        assert!(is_whitespace('\u{1c}') && is_whitespace('\u{85}') && !is_whitespace('\u{200b}'));
        assert!(is_word('_') && is_word('é') && !is_word('\u{10d50}') && !is_word('-'));
        assert!(is_decimal_digit('٣') && !is_decimal_digit('²'));
    }
}
