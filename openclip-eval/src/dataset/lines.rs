//! Texts by lines, as Python's `str.splitlines` separates them: CLIP_benchmark's files of class names, templates and captions
//! are read so.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// The lines of a text. A separator at its end starts no further line.
pub fn python_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(is_separator) {
        lines.push(rest.get(..end).unwrap_or_default());
        let after = rest.get(end..).unwrap_or_default();
        let length =
            if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        rest = after.get(length..).unwrap_or_default();
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn is_separator(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The lines of a file, without the spaces around them.
///
/// # Errors
/// [`Error::Io`]; [`Error::Dataset`] when the file is empty.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let lines: Vec<String> = python_lines(&text).into_iter().map(|line| line.trim().to_owned()).collect();
    match lines.is_empty() {
        true => Err(Error::dataset(path, "the file is empty: it must hold a name or a template a line")),
        false => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_pythons() {
        assert_eq!(python_lines("a\r\nb\rc\n\nd\u{2028}e\x0bf"), ["a", "b", "c", "", "d", "e", "f"]);
        assert_eq!(python_lines("a\n"), ["a"]);
        assert_eq!(python_lines("\n"), [""]);
        assert!(python_lines("").is_empty());
    }
}
