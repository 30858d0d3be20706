//! Splits a text into the words that are encoded one by one, as the pattern of the reference's `SimpleTokenizer` does:
//! special tokens, English contractions, runs of letters, single numbers, and runs of anything else but whitespace.
//!
//! The pattern ignores case, which has effects of its own: U+017F, the long s, counts as an s and the Kelvin sign as a k
//! within special tokens and contractions, and U+0345, a mark whose capital is a letter, belongs to no run at all.

use super::unicode::{is_letter, is_number};

/// What follows an apostrophe in a contraction.
const CONTRACTIONS: [&str; 7] = ["s", "t", "re", "ve", "m", "ll", "d"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Other,
    /// Whitespace, and what else is left out.
    Skipped,
}

impl Kind {
    fn of(c: char) -> Self {
        if is_letter(c) {
            Self::Letter
        } else if is_number(c) {
            Self::Number
        } else if c.is_whitespace() || c == '\u{345}' {
            Self::Skipped
        } else {
            Self::Other
        }
    }
}

/// The words of `text` in order; `specials` are tried before anything else, in their order.
pub(super) fn words<'a>(text: &'a str, specials: &'a [String]) -> impl Iterator<Item = &'a str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let length = specials
                .iter()
                .find_map(|special| prefix_ignoring_case(rest, special))
                .or_else(|| contraction(rest))
                .unwrap_or_else(|| run(rest, Kind::of(first)));
            let skipped = if length == 0 { first.len_utf8() } else { length };
            let (word, behind) = rest.split_at(skipped);
            rest = behind;
            if length > 0 {
                return Some(word);
            }
        }
    })
}

/// Length in bytes of the contraction at the start of `text`.
fn contraction(text: &str) -> Option<usize> {
    let letters = text.strip_prefix('\'')?;
    CONTRACTIONS
        .iter()
        .find_map(|&contraction| prefix_ignoring_case(letters, contraction))
        .map(|length| 1 + length)
}

/// Length in bytes of the run of `kind` at the start of `text`; numbers stand alone.
fn run(text: &str, kind: Kind) -> usize {
    match kind {
        Kind::Skipped => 0,
        Kind::Number => text.chars().next().map_or(0, char::len_utf8),
        Kind::Letter | Kind::Other => text.find(|c| Kind::of(c) != kind).unwrap_or(text.len()),
    }
}

/// Length in bytes of `prefix`, which is ASCII, at the start of `text`, in whatever case.
fn prefix_ignoring_case(text: &str, prefix: &str) -> Option<usize> {
    let mut characters = text.chars();
    prefix
        .chars()
        .all(|expected| characters.next().is_some_and(|c| is_same_ignoring_case(c, expected)))
        .then(|| text.len() - characters.as_str().len())
}

fn is_same_ignoring_case(c: char, expected: char) -> bool {
    match c {
        // The only characters outside ASCII whose simple case folding, or dotted capital, is an ASCII letter.
        '\u{17f}' => expected.eq_ignore_ascii_case(&'s'),
        '\u{212a}' => expected.eq_ignore_ascii_case(&'k'),
        '\u{130}' => expected.eq_ignore_ascii_case(&'i'),
        _ => c.eq_ignore_ascii_case(&expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_words() {
        let specials = ["<start_of_text>".to_owned(), "<ik>".to_owned()];
        let cases: [(&str, &[&str]); 13] = [
            ("", &[]),
            (" \t\u{3000}", &[]),
            ("a photo, of 2 cats!", &["a", "photo", ",", "of", "2", "cats", "!"]),
            ("2023½Ⅻ", &["2", "0", "2", "3", "½", "Ⅻ"]),
            ("it's 'TIS I'LL", &["it", "'s", "'T", "IS", "I", "'LL"]),
            ("it'\u{17f} we'Re''d", &["it", "'\u{17f}", "we", "'Re", "''", "d"]),
            ("<start_of_text>x", &["<start_of_text>", "x"]),
            ("<START_OF_TEXT>", &["<START_OF_TEXT>"]),
            ("<\u{17f}tart_of_text>", &["<\u{17f}tart_of_text>"]),
            ("!<start_of_text>", &["!<", "start", "_", "of", "_", "text", ">"]),
            ("<İ\u{212a}>", &["<İ\u{212a}>"]),
            ("a\u{345}b -\u{345}-", &["a", "b", "-", "-"]),
            ("e\u{301}👩\u{200d}🚀漢字", &["e", "\u{301}👩\u{200d}🚀", "漢字"]),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(text, expected)| (text, words(text, &specials).collect::<Vec<_>>(), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }
}
