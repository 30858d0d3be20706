//! What happens to a text before it is split into tokens: repair of damaged Unicode, HTML references, whitespace, case
//! and punctuation. The steps and their order are those of the reference (`basic_clean` and the `_clean_*` functions of
//! open_clip's `tokenizer.py`).

mod badness;
mod categories;
mod characters;
mod codec_tables;
mod codecs;
mod encoding;
mod fix_text;
mod html;
mod utf8;

use std::fmt;
use std::str::FromStr;

use openclip_core::Error;

pub use fix_text::fix_text;
pub use html::unescape as unescape_html;

use super::unicode::{is_whitespace, lowercase};

/// How a text is cleaned before it is split into tokens.
///
/// Every mode repairs the text ([`fix_text`]), resolves HTML character references twice ([`unescape_html`]) and
/// reduces each run of whitespace to one space, with none at either end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clean {
    /// Lowercase as well. What CLIP models are trained with.
    #[default]
    Lower,
    /// Nothing else. What towers with a Hugging Face tokenizer are trained with.
    Whitespace,
    /// Lowercase, underscores become spaces, and the other ASCII punctuation is dropped. What SigLIP models are
    /// trained with.
    Canonicalize,
}

impl Clean {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Lower, Self::Whitespace, Self::Canonicalize];

    /// The mode's name in a model configuration: `lower`, `whitespace` or `canonicalize`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Whitespace => "whitespace",
            Self::Canonicalize => "canonicalize",
        }
    }

    /// The cleaned text.
    ///
    /// ```
    /// use openclip_text::tokenizer::Clean;
    ///
    /// assert_eq!(Clean::Lower.apply("  The cafÃ© of\tÉmile &amp;amp; Zoë "), "the café of émile & zoë");
    /// assert_eq!(Clean::Canonicalize.apply("snake_case, isn’t it?"), "snake case isnt it");
    /// ```
    pub fn apply(self, text: &str) -> String {
        let fixed = fix_text(text);
        let unescaped = unescape_html(&unescape_html(&fixed)).into_owned();
        match self {
            Self::Lower => lowercase(join_words(&unescaped)),
            Self::Whitespace => join_words(&unescaped),
            Self::Canonicalize => join_words(&lowercase(without_punctuation(&unescaped))),
        }
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Clean {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "clean mode {name:?} is unknown; use lower, whitespace or canonicalize"
            ))
        })
    }
}

/// The words of `text`, one space between two.
fn join_words(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split(is_whitespace).filter(|word| !word.is_empty()) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// `text` with spaces for underscores and without the other ASCII punctuation.
fn without_punctuation(text: &str) -> String {
    text.chars().map(|c| if c == '_' { ' ' } else { c }).filter(|c| !c.is_ascii_punctuation()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named_as_in_configurations() {
        for mode in Clean::ALL {
            assert_eq!(mode.to_string().parse::<Clean>().unwrap(), mode);
        }
        let error = "upper".parse::<Clean>().unwrap_err().to_string();
        assert_eq!(error, "clean mode \"upper\" is unknown; use lower, whitespace or canonicalize");
    }

    #[test]
    fn words_are_joined_by_one_space() {
        assert_eq!(join_words("\u{3000} a\u{85}\u{1c}b\n\u{a0}"), "a b");
        assert_eq!(join_words(" \t"), "");
        // Neither is whitespace to Python.
        assert_eq!(join_words("a\u{200b}b\u{feff}"), "a\u{200b}b\u{feff}");
    }

    #[test]
    fn references_are_resolved_twice_and_no_more() {
        assert_eq!(Clean::Whitespace.apply("<i> &amp;lt;"), "<i> <");
        assert_eq!(Clean::Whitespace.apply("<i> &amp;amp;amp;"), "<i> &amp;");
    }
}
