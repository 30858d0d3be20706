//! Repair of damaged text: mojibake, HTML references in plain text, terminal escapes, odd widths, quotes, line breaks
//! and control characters. Gives what `ftfy.fix_text` 6.3.1 gives with its default settings.

use super::characters::{
    fix_c1_controls, fix_character_width, fix_latin_ligatures, fix_line_breaks, remove_control_characters,
    remove_terminal_escapes, uncurl_quotes,
};
use super::encoding::fix_encoding;
use super::html::unescape_unambiguous;
use crate::tokenizer::unicode::compose;

/// Most characters that are repaired as one piece.
const MAX_SEGMENT: usize = 1_000_000;

/// The repaired text.
///
/// Lines are repaired one by one, since different lines may be damaged in different ways. HTML references are resolved
/// up to the first line that has a `<`, which shows that the text is meant to be HTML. Each line is repaired again
/// until nothing changes.
///
/// ```
/// use openclip_text::tokenizer::fix_text;
///
/// assert_eq!(fix_text("voilÃ  le â€œtravailâ€\u{9d}"), "voilà le \"travail\"");
/// ```
pub fn fix_text(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    let mut is_html = false;
    let mut rest = text;
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(segment_length(rest));
        is_html = is_html || segment.contains('<');
        if is_clean(segment, is_html) {
            fixed.push_str(segment);
        } else {
            fixed.push_str(&fix_segment(segment.to_owned(), is_html));
        }
        rest = after;
    }
    fixed
}

/// Length in bytes of the first segment of `text`: a line with its line feed, or as much of it as is allowed.
fn segment_length(text: &str) -> usize {
    let line = text.find('\n').map_or(text.len(), |at| at + 1);
    if line <= MAX_SEGMENT {
        return line;
    }
    text.char_indices().nth(MAX_SEGMENT).map_or(text.len(), |(at, _)| at).min(line)
}

/// Whether `segment` shows at a glance that no repair applies to it.
fn is_clean(segment: &str, is_html: bool) -> bool {
    segment.bytes().all(|byte| match byte {
        b'&' => is_html,
        b'\t' | b'\n' | 0x0c | b' '..=b'~' => true,
        _ => false,
    })
}

fn fix_segment(mut text: String, is_html: bool) -> String {
    loop {
        let fixed = fix_once(text.clone(), is_html);
        if fixed == text {
            return fixed;
        }
        text = fixed;
    }
}

fn fix_once(mut text: String, is_html: bool) -> String {
    if !is_html {
        text = unescape_unambiguous(text);
    }
    text = fix_encoding(text);
    text = fix_c1_controls(text);
    text = fix_latin_ligatures(text);
    text = fix_character_width(text);
    text = uncurl_quotes(text);
    text = fix_line_breaks(text);
    text = remove_terminal_escapes(text);
    text = remove_control_characters(text);
    compose(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs() {
        let cases = [
            ("", ""),
            ("plain & simple", "plain & simple"),
            ("&macr;\\_(ã\u{83}\u{84})_/&macr;", "¯\\_(ツ)_/¯"),
            ("Broken text&hellip; it&#x2019;s ﬂubberiﬁc!", "Broken text… it's flubberific!"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "LOUD NOISES"),
            ("l’humanitÃ©", "l'humanité"),
            ("Ã perturber la rÃ©flexion", "à perturber la réflexion"),
            ("\u{1b}[36;44mblue\u{1b}[0m\u{7}", "blue"),
            ("e\u{301}", "é"),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(text, expected)| (text, fix_text(text), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }

    #[test]
    fn references_stay_from_the_first_line_with_a_tag_on() {
        assert_eq!(fix_text("&eacute;\n<b>&eacute;\n&eacute;"), "é\n<b>&eacute;\n&eacute;");
    }

    #[test]
    fn segments_end_at_a_line_feed_or_at_the_limit() {
        assert_eq!(segment_length("ab\ncd"), 3);
        assert_eq!(segment_length("é"), 2);
        let long = "é".repeat(MAX_SEGMENT + 1);
        assert_eq!(segment_length(&long), 2 * MAX_SEGMENT);
        assert_eq!(segment_length(&"é".repeat(MAX_SEGMENT)), 2 * MAX_SEGMENT);
        let line = "é".repeat(MAX_SEGMENT - 1) + "\né";
        assert_eq!(segment_length(&line), 2 * MAX_SEGMENT - 1);
    }
}
