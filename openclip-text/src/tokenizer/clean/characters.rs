//! Repairs that look at one character, or a few, at a time: C1 controls, ligatures, widths, quotes, line breaks,
//! terminal escapes and control characters.

use unicode_normalization::UnicodeNormalization;

use super::codecs::windows_1252;
use crate::tokenizer::unicode::is_decimal_digit;

/// Reads C1 controls, which nobody writes on purpose, as the Windows-1252 bytes of the same number.
pub(super) fn fix_c1_controls(text: String) -> String {
    if !text.contains(is_c1_control) {
        return text;
    }
    text.chars().map(|c| if is_c1_control(c) { windows_1252(c) } else { c }).collect()
}

pub(super) fn is_c1_control(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}

/// Takes ligatures and digraphs of Latin letters apart.
pub(super) fn fix_latin_ligatures(text: String) -> String {
    replace_characters(text, |c| {
        Some(match c {
            'Ĳ' => "IJ",
            'ĳ' => "ij",
            'ŉ' => "ʼn",
            'Ǳ' => "DZ",
            'ǲ' => "Dz",
            'ǳ' => "dz",
            'Ǆ' => "DŽ",
            'ǅ' => "Dž",
            'ǆ' => "dž",
            'Ǉ' => "LJ",
            'ǈ' => "Lj",
            'ǉ' => "lj",
            'Ǌ' => "NJ",
            'ǋ' => "Nj",
            'ǌ' => "nj",
            'ﬀ' => "ff",
            'ﬁ' => "fi",
            'ﬂ' => "fl",
            'ﬃ' => "ffi",
            'ﬄ' => "ffl",
            'ﬅ' => "ſt",
            'ﬆ' => "st",
            _ => return None,
        })
    })
}

/// `text` with every character replaced for which `replacement` has something.
fn replace_characters(text: String, replacement: impl Fn(char) -> Option<&'static str>) -> String {
    if !text.contains(|c| replacement(c).is_some()) {
        return text;
    }
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        match replacement(c) {
            Some(with) => replaced.push_str(with),
            None => replaced.push(c),
        }
    }
    replaced
}

/// Gives fullwidth and halfwidth forms, and the ideographic space, their ordinary width.
pub(super) fn fix_character_width(text: String) -> String {
    let has_odd_width = |c| c == '\u{3000}' || ('\u{ff01}'..='\u{ffef}').contains(&c);
    if !text.contains(has_odd_width) {
        return text;
    }
    let mut fixed = String::with_capacity(text.len());
    for c in text.chars() {
        // Character by character: neighbours are not to be composed here.
        if has_odd_width(c) { fixed.extend(std::iter::once(c).nfkc()) } else { fixed.push(c) }
    }
    fixed
}

/// Makes curly quotation marks straight.
pub(super) fn uncurl_quotes(text: String) -> String {
    replace_characters(text, |c| match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => Some("'"),
        '\u{201c}'..='\u{201f}' => Some("\""),
        _ => None,
    })
}

/// Writes every kind of line break as a line feed.
pub(super) fn fix_line_breaks(text: String) -> String {
    if !text.contains(['\r', '\u{2028}', '\u{2029}', '\u{85}']) {
        return text;
    }
    text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n")
}

/// Drops escape sequences that colour text on a terminal.
pub(super) fn remove_terminal_escapes(text: String) -> String {
    const START: &str = "\u{1b}[";
    if !text.contains(START) {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(START) {
        kept.push_str(before);
        let end = after.trim_start_matches(|c| c == ';' || is_decimal_digit(c));
        rest = match end.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after_escape) => after_escape,
            None => {
                kept.push_str(START);
                after
            }
        };
    }
    kept + rest
}

/// Drops control characters that have no business in text, byte order marks and object placeholders.
pub(super) fn remove_control_characters(mut text: String) -> String {
    text.retain(|c| {
        !matches!(
            c,
            '\0'..='\u{8}'
                | '\u{b}'
                | '\u{e}'..='\u{1f}'
                | '\u{7f}'
                | '\u{206a}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffc}'
        )
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repair() {
        type Repair = fn(String) -> String;
        let cases: [(Repair, &str, &str); 12] = [
            (fix_c1_controls, "a\u{80}\u{81}\u{9f}", "a€\u{81}Ÿ"),
            (fix_latin_ligatures, "ﬂuﬃeﬆ ǅ ŉ", "fluffiest Dž ʼn"),
            (fix_character_width, "Ｕﾀｰﾝ\u{3000}￦ﾡ", "Uターン ₩\u{1100}"),
            (fix_character_width, "ｶﾞ", "カ\u{3099}"),
            (uncurl_quotes, "“here’s” ‚a‘ „test‟", "\"here's\" 'a' \"test\""),
            (fix_line_breaks, "a\r\n\r\nb\rc\u{2028}d\u{2029}e\u{85}f", "a\n\nb\nc\nd\ne\nf"),
            (remove_terminal_escapes, "\u{1b}[36;44mblue\u{1b}[0m", "blue"),
            (remove_terminal_escapes, "\u{1b}[\u{1b}[1;m?\u{1b}[1", "\u{1b}[?\u{1b}[1"),
            (remove_terminal_escapes, "\u{1b}[٣m", ""),
            (
                remove_control_characters,
                "\0\u{8}\t\n\u{b}\u{c}\r\u{e}\u{1f}\u{7f}\u{80}",
                "\t\n\u{c}\r\u{80}",
            ),
            (
                remove_control_characters,
                "\u{feff}\u{206a}\u{200d}\u{202a}\u{fffc}\u{fffd}",
                "\u{200d}\u{202a}\u{fffd}",
            ),
            (remove_control_characters, "\u{e0001}", "\u{e0001}"),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(repair, text, expected)| (text, repair(text.to_owned()), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }
}
