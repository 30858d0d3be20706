//! Repair of mojibake: text that was UTF-8 and was decoded as something else, perhaps several times over.

use super::badness::{class, is_bad};
use super::categories::{
    UTF8_CONTINUATION, UTF8_CONTINUATION_STRICT, UTF8_FIRST_OF_2, UTF8_FIRST_OF_3, UTF8_FIRST_OF_4,
};
use super::characters::{fix_c1_controls, is_c1_control};
use super::codecs::{CODECS, Codec, Kind, is_assigned_in_windows_1252, windows_1252};
use super::utf8;

/// `text` with its mojibake undone, layer by layer.
pub(super) fn fix_encoding(mut text: String) -> String {
    while let Some(fixed) = undo_one_layer(&text) {
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// `text` with one layer of mojibake undone, or nothing if it looks sound or beyond repair.
fn undo_one_layer(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    if let Some(decoded) = CODECS.iter().find_map(|codec| decode_again(codec, text)) {
        return Some(decoded);
    }
    if let Some(decoded) = decode_embedded(text) {
        return Some(decoded);
    }
    let has_c1_controls = text.contains(is_c1_control);
    if has_c1_controls && text.chars().all(|c| c <= '\u{ff}' && is_assigned_in_windows_1252(c)) {
        return Some(text.chars().map(windows_1252).collect());
    }
    has_c1_controls.then(|| fix_c1_controls(text.to_owned()))
}

/// `text`, supposed to be UTF-8 that was decoded as `codec`, decoded as UTF-8.
fn decode_again(codec: &Codec, text: &str) -> Option<String> {
    let mut bytes = codec.encode(text)?;
    if codec.kind != Kind::MacRoman && utf8::has_altered_byte_a0(&bytes) {
        bytes = utf8::restore_byte_a0(&bytes);
    }
    if codec.kind == Kind::Windows {
        bytes = utf8::replace_lossy_sequences(&bytes);
    }
    utf8::decode(bytes)
}

/// `text` with the mojibake undone that stands among sound text, or nothing if there is none.
fn decode_embedded(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = None;
    while let Some(c) = rest.chars().next() {
        let length = match previous {
            Some(previous) if class(previous) & UTF8_CONTINUATION_STRICT != 0 => 0,
            _ => utf8_lookalike_length(rest),
        };
        let (piece, behind) = rest.split_at(if length == 0 { c.len_utf8() } else { length });
        // Shorter than the text, lest this go on for ever.
        if length > 0 && piece.len() < text.len() && is_bad(piece) {
            decoded.push_str(&fix_encoding(piece.to_owned()));
        } else {
            decoded.push_str(piece);
        }
        previous = piece.chars().next_back();
        rest = behind;
    }
    (decoded != text).then_some(decoded)
}

/// Length in bytes of the characters at the start of `text` that look like UTF-8 sequences decoded as single bytes.
fn utf8_lookalike_length(text: &str) -> usize {
    let mut rest = text.chars();
    loop {
        let mut after = rest.clone();
        let Some(first) = after.next().map(class) else { break };
        let continuations = after.clone().take(3).take_while(|&c| class(c) & UTF8_CONTINUATION != 0).count();
        let needed = if first & UTF8_FIRST_OF_2 != 0 && continuations >= 1 {
            1
        } else if first & UTF8_FIRST_OF_3 != 0 && continuations >= 2 {
            2
        } else if first & UTF8_FIRST_OF_4 != 0 && continuations >= 3 {
            3
        } else {
            break;
        };
        after.nth(needed - 1);
        rest = after;
    }
    text.len() - rest.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_and_encodings() {
        let cases = [
            ("schÃ¶n", "schön"),
            ("schÃƒÂ¶n", "schön"),
            ("sound text: é, ü, ß", "sound text: é, ü, ß"),
            ("âœ” and “quotes”", "✔ and “quotes”"),
            ("\u{85}\u{93}\u{94}", "…“”"),
            ("РїСЂРёРІРµС‚", "привет"),
            ("√©tude", "étude"),
            ("â€œ like this â€\u{fffd}", "“ like this \u{fffd}"),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(text, expected)| (text, fix_encoding(text.to_owned()), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }

    #[test]
    fn lookalikes_are_taken_as_far_as_they_go() {
        assert_eq!(utf8_lookalike_length("Ã©Ã©x"), "Ã©Ã©".len());
        assert_eq!(utf8_lookalike_length("âœ”."), "âœ”".len());
        assert_eq!(utf8_lookalike_length("ðŸ˜€"), "ðŸ˜€".len());
        assert_eq!(utf8_lookalike_length("âœ"), 0);
        assert_eq!(utf8_lookalike_length("x"), 0);
        assert_eq!(utf8_lookalike_length(""), 0);
    }
}
