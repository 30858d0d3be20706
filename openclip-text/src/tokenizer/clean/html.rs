//! HTML character references, as Python's `html.unescape` and as ftfy resolve them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::codecs::windows_1252;

/// The names of HTML5, most with a semicolon and some also without, and what they stand for.
static ENTITIES: LazyLock<HashMap<&'static str, Cow<'static, str>>> = LazyLock::new(|| {
    include_str!("../data/html5_entities.tsv")
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, text)| (name, if text == r"\n" { Cow::Borrowed("\n") } else { Cow::Borrowed(text) }))
        .collect()
});

/// Most characters of a name, without its semicolon.
const MAX_NAME: usize = 32;

/// `text` with every HTML character reference resolved as browsers do it: a semicolon may be missing where HTML5 allows
/// that, the longest name counts, and numbers of C1 controls are Windows-1252.
///
/// Equal to `html.unescape` of Python 3.11, except that a decimal number of more than 4300 digits, at which Python stops
/// with an error, gives U+FFFD like any other number that is too large.
///
/// ```
/// use openclip_text::tokenizer::unescape_html;
///
/// assert_eq!(unescape_html("fish &amp; chips&#33; &notit;"), "fish & chips! ¬it;");
/// ```
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        unescaped.push_str(before);
        rest = match after.strip_prefix('#') {
            Some(number) => push_numeric(number, &mut unescaped),
            None => push_named(after, &mut unescaped),
        };
    }
    unescaped.push_str(rest);
    Cow::Owned(unescaped)
}

/// Resolves the number at the start of `text`, which follows `&#`, and returns what is behind it.
fn push_numeric<'a>(text: &'a str, unescaped: &mut String) -> &'a str {
    let (digits, radix) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let behind = digits.trim_start_matches(|c: char| c.is_digit(radix));
    let digits = digits.strip_suffix(behind).unwrap_or_default();
    if digits.is_empty() {
        unescaped.push_str("&#");
        return text;
    }
    let digits = digits.trim_start_matches('0');
    let code = match digits {
        "" => 0,
        // A number that doesn't fit is as invalid as any other beyond Unicode.
        _ => u32::from_str_radix(digits, radix).unwrap_or(u32::MAX),
    };
    unescaped.extend(numbered(code));
    behind.strip_prefix(';').unwrap_or(behind)
}

/// The character that number `code` stands for; none where HTML5 ignores the reference.
fn numbered(code: u32) -> Option<char> {
    let c = match char::from_u32(code) {
        None | Some('\0') => '\u{fffd}',
        Some(c) => c,
    };
    match c {
        '\u{80}'..='\u{9f}' => Some(windows_1252(c)),
        '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{fdd0}'..='\u{fdef}' => None,
        _ if code & 0xfffe == 0xfffe => (code > 0x10_ffff).then_some(c),
        _ => Some(c),
    }
}

/// Resolves the name at the start of `text`, which follows `&`, and returns what is behind it.
fn push_named<'a>(text: &'a str, unescaped: &mut String) -> &'a str {
    let ends = |c| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let length = text.chars().take(MAX_NAME).take_while(|&c| !ends(c)).map(char::len_utf8).sum();
    let (name, behind) = text.split_at(length);
    if name.is_empty() {
        unescaped.push('&');
        return text;
    }
    let (name, behind) = match behind.strip_prefix(';') {
        Some(behind) => (text.strip_suffix(behind).unwrap_or(name), behind),
        None => (name, behind),
    };
    // The longest first: the whole name, of any length, then parts of it, of two characters at least.
    let parts = (2..name.len()).rev().filter_map(|end| name.split_at_checked(end));
    let found =
        std::iter::once((name, "")).chain(parts).find_map(|(part, tail)| Some((ENTITIES.get(part)?, tail)));
    match found {
        Some((resolved, tail)) => {
            unescaped.push_str(resolved);
            unescaped.push_str(tail);
        }
        None => {
            unescaped.push('&');
            unescaped.push_str(name);
        }
    }
    behind
}

/// `text` with those references resolved that nobody writes by accident: they end in a semicolon. Names of small
/// letters count in capitals too and then stand for capitals, since databases change the case of what they hold.
pub(super) fn unescape_unambiguous(text: String) -> String {
    if !text.contains('&') {
        return text;
    }
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('&') {
        unescaped.push_str(before);
        rest = match unambiguous(after) {
            Some((resolved, behind)) => {
                unescaped.push_str(&resolved);
                behind
            }
            None => {
                unescaped.push('&');
                after
            }
        };
    }
    unescaped + rest
}

/// The text of the reference at the start of `text`, which follows `&`, and what is behind it.
fn unambiguous(text: &str) -> Option<(Cow<'static, str>, &str)> {
    const MAX_LENGTH: usize = 24;
    let body = text.strip_prefix('#').unwrap_or(text);
    let behind = body.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    let length = body.len() - behind.len();
    let behind = behind.strip_prefix(';')?;
    if length == 0 || length > MAX_LENGTH {
        return None;
    }
    let name = text.strip_suffix(behind)?;
    let resolved = if name.starts_with('#') {
        let resolved = unescape_whole(name)?;
        Cow::Owned(resolved)
    } else {
        match ENTITIES.get(name) {
            Some(resolved) => resolved.clone(),
            None => Cow::Owned(capital_entity(name)?),
        }
    };
    Some((resolved, behind))
}

/// What the number `name`, with its `#` and its semicolon, stands for, if all of it is a number and it isn't that of a
/// semicolon.
fn unescape_whole(name: &str) -> Option<String> {
    let mut resolved = String::new();
    let behind = push_numeric(name.strip_prefix('#')?, &mut resolved);
    (behind.is_empty() && !resolved.contains(';')).then_some(resolved)
}

/// The capital of what `name` stands for in small letters, if it is in capitals and stands for nothing itself.
fn capital_entity(name: &str) -> Option<String> {
    if name.contains(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    let resolved = ENTITIES.get(name.to_ascii_lowercase().as_str())?;
    let reference = format!("&{name}");
    (unescape(&reference) == reference).then(|| resolved.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_browsers_resolve_them() {
        let cases = [
            ("&lt;&gt&amp;amp;", "<>&amp;"),
            ("&notit; &notin; &not", "¬it; ∉ ¬"),
            ("&#65;&#x41&#X41;", "AAA"),
            ("&#0;&#x110000;&#xD800;&#99999999999999999999;", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("&#4294967295;&#xfffffffe;", "\u{fffd}\u{fffd}"),
            ("&#1;&#xb;&#127;&#xfdd0;&#xffff;&#x10fffe;", ""),
            ("&#128;&#x81;&#159;&#13;&#10;", "€\u{81}Ÿ\r\n"),
            ("&#;&#x;&#xg;&", "&#;&#x;&#xg;&"),
            ("& &; &nosuch; &NewLine;&Tab;", "& &; &nosuch; \n\t"),
            ("&NotEqualTilde;&acE;", "≂̸∾̳"),
            ("&ampéé;&é", "&éé;&é"),
            ("&#x00000000000041;", "A"),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(text, expected)| (text, unescape(text), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }

    #[test]
    fn as_plain_text_holds_them() {
        let cases = [
            ("&lt;tag&gt; &amp", "<tag> &amp"),
            ("P&EACUTE;REZ &SZLIG; &nTILDE;", "PÉREZ SS &nTILDE;"),
            ("&AMP;&LT;&there4;&THERE4;", "&<∴∴"),
            ("&#59;&#x3b;&#12a;&#65;&#xzz;", "&#59;&#x3b;&#12a;A&#xzz;"),
            ("&&eacute;&é;&;&#;", "&é&é;&;&#;"),
            ("&CounterClockwiseContourIntegral;", "&CounterClockwiseContourIntegral;"),
            ("&#000000000000000000000065;&#0000000000000000000000065;", "A&#0000000000000000000000065;"),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(text, expected)| (text, unescape_unambiguous(text.to_owned()), expected))
            .filter(|(_, found, expected)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "(text, found, expected): {wrong:#?}");
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!(ENTITIES.len(), 2231);
        assert!(ENTITIES.iter().all(|(name, text)| !name.is_empty() && !text.is_empty()));
    }
}
