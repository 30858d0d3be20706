//! The byte-pair tokenizer of CLIP models, equal to the reference's `SimpleTokenizer`.

use openclip_core::{Error, Result, TokenBatch};

use super::Tokenizer;
use super::bpe::Bpe;
use super::clean::Clean;
use super::split::words;

/// Context length of the CLIP models of OpenAI.
const DEFAULT_CONTEXT_LENGTH: usize = 77;
const START_OF_TEXT: &str = "<start_of_text>";
const END_OF_TEXT: &str = "<end_of_text>";

/// The byte-pair tokenizer of CLIP models. Its vocabulary comes with the crate.
///
/// ```
/// use openclip_text::tokenizer::{ClipTokenizer, Tokenizer};
///
/// # fn main() -> openclip_core::Result<()> {
/// let tokenizer = ClipTokenizer::new()?;
/// assert_eq!(tokenizer.encode("a photo of a cat")?, [320, 1125, 539, 320, 2368]);
///
/// let batch = tokenizer.tokenize(&["a dog", "a cat"])?;
/// assert_eq!((batch.rows(), batch.length()), (2, 77));
/// assert_eq!(batch.ids()[..5], [49406, 320, 1929, 49407, 0]);
///
/// assert_eq!(tokenizer.decode(&[320, 2368])?, "a cat ");
/// # Ok(())
/// # }
/// ```
pub struct ClipTokenizer {
    bpe: &'static Bpe,
    context_length: usize,
    clean: Clean,
    /// Start, end, and additional special tokens; their ids follow those of `bpe`.
    special_tokens: Vec<String>,
}

impl ClipTokenizer {
    /// A tokenizer with the settings of the CLIP models of OpenAI: 77 tokens, [`Clean::Lower`].
    ///
    /// # Errors
    /// [`Error::Config`] when the vocabulary was damaged when the crate was built.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// A tokenizer with other settings.
    ///
    /// ```
    /// use openclip_text::tokenizer::{Clean, ClipTokenizer, Tokenizer};
    ///
    /// # fn main() -> openclip_core::Result<()> {
    /// let tokenizer = ClipTokenizer::builder()
    ///     .context_length(32)
    ///     .clean(Clean::Canonicalize)
    ///     .additional_special_tokens(["<mask>"])
    ///     .build()?;
    /// assert_eq!(tokenizer.vocab_size(), 49409);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ClipTokenizerBuilder {
        ClipTokenizerBuilder::default()
    }

    /// Whether `merges`, which a byte-pair tokenizer's file lists as `left right` in the order in which they were learnt, are
    /// those of CLIP, so that this is that file's tokenizer.
    pub fn has_merges<'a>(merges: impl IntoIterator<Item = &'a str>) -> bool {
        Bpe::is_bundled(merges)
    }

    /// How texts are cleaned.
    pub fn clean(&self) -> Clean {
        self.clean
    }

    /// Ids of the special tokens: start, end, and the additional ones in order.
    pub fn special_token_ids(&self) -> impl Iterator<Item = u32> {
        (self.first_special_id()..).take(self.special_tokens.len())
    }

    fn first_special_id(&self) -> u32 {
        self.bpe.len() as u32
    }

    fn end_id(&self) -> u32 {
        self.first_special_id() + 1
    }

    /// Appends the ids of `text` to `ids`, and stops once there are `limit` of them or a few more.
    fn encode_into(&self, text: &str, limit: usize, ids: &mut Vec<u32>) {
        let cleaned = self.clean.apply(text);
        for word in words(&cleaned, &self.special_tokens) {
            if ids.len() >= limit {
                break;
            }
            // In any other case it is a word like others.
            match (self.first_special_id()..).zip(&self.special_tokens).find(|&(_, special)| special == word)
            {
                Some((id, _)) => ids.push(id),
                None => self.bpe.encode(word.as_bytes(), ids),
            }
        }
    }
}

impl Tokenizer for ClipTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, usize::MAX, &mut ids);
        Ok(ids)
    }

    /// A text that is too long is cut, and its last token is the end token all the same.
    fn tokenize_with_context_length(&self, texts: &[&str], context_length: usize) -> Result<TokenBatch> {
        if context_length == 0 {
            return Err(Error::InvalidArgument(
                "context length 0 holds no token; it must be at least 1".into(),
            ));
        }
        let mut ids = Vec::new();
        let mut row = Vec::new();
        for text in texts {
            row.clear();
            row.push(self.first_special_id());
            self.encode_into(text, context_length, &mut row);
            row.truncate(context_length - 1);
            row.push(self.end_id());
            row.resize(context_length, self.pad_token_id());
            ids.extend_from_slice(&row);
        }
        TokenBatch::new(texts.len(), context_length, ids)
    }

    /// Words are followed by a space each, and bytes that aren't UTF-8 become U+FFFD.
    fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            if self.bpe.decode(id, &mut bytes) {
                continue;
            }
            let special =
                id.checked_sub(self.first_special_id()).and_then(|at| self.special_tokens.get(at as usize));
            let special = special.ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "token id {id} is not in the vocabulary of {} tokens",
                    self.vocab_size()
                ))
            })?;
            bytes.extend_from_slice(special.as_bytes());
        }
        Ok(String::from_utf8_lossy(&bytes).replace("</w>", " "))
    }

    fn vocab_size(&self) -> usize {
        self.bpe.len() + self.special_tokens.len()
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn sot_token_id(&self) -> Option<u32> {
        Some(self.first_special_id())
    }

    fn eot_token_id(&self) -> Option<u32> {
        Some(self.end_id())
    }

    fn pad_token_id(&self) -> u32 {
        0
    }
}

/// Settings of a [`ClipTokenizer`].
#[derive(Clone, Debug)]
pub struct ClipTokenizerBuilder {
    context_length: usize,
    clean: Clean,
    special_tokens: Vec<String>,
}

impl Default for ClipTokenizerBuilder {
    fn default() -> Self {
        Self {
            context_length: DEFAULT_CONTEXT_LENGTH,
            clean: Clean::default(),
            special_tokens: vec![START_OF_TEXT.to_owned(), END_OF_TEXT.to_owned()],
        }
    }
}

impl ClipTokenizerBuilder {
    /// Number of tokens per text. 77 unless set.
    #[must_use]
    pub fn context_length(mut self, context_length: usize) -> Self {
        self.context_length = context_length;
        self
    }

    /// How texts are cleaned. [`Clean::Lower`] unless set.
    #[must_use]
    pub fn clean(mut self, clean: Clean) -> Self {
        self.clean = clean;
        self
    }

    /// Tokens that stand for themselves in a text, with ids after that of the end token.
    ///
    /// Texts are cleaned before they are searched for these, so with [`Clean::Lower`] only small letters are found.
    #[must_use]
    pub fn additional_special_tokens(mut self, tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.special_tokens.extend(tokens.into_iter().map(Into::into));
        self
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the context length is 0, or an additional special token occurs twice, is a token
    /// of the vocabulary, or has characters other than visible ASCII ones or with a meaning in regular expressions
    /// (of which the reference makes a pattern). [`Error::Config`] when the vocabulary was damaged when the crate was built.
    pub fn build(self) -> Result<ClipTokenizer> {
        if self.context_length == 0 {
            return Err(Error::InvalidArgument(
                "context length 0 holds no token; it must be at least 1".into(),
            ));
        }
        let bpe = Bpe::bundled()?;
        for (at, token) in self.special_tokens.iter().enumerate().skip(2) {
            if let Some(fault) =
                fault_of_special_token(token, self.special_tokens.get(..at).unwrap_or_default(), bpe)
            {
                return Err(Error::InvalidArgument(format!("additional special token {token:?} {fault}")));
            }
        }
        Ok(ClipTokenizer {
            bpe,
            context_length: self.context_length,
            clean: self.clean,
            special_tokens: self.special_tokens,
        })
    }
}

/// Why `token` can't be a special token after the `earlier` ones.
fn fault_of_special_token(token: &str, earlier: &[String], bpe: &Bpe) -> Option<&'static str> {
    if token.is_empty() {
        Some("is empty")
    } else if token.contains(|c: char| !c.is_ascii_graphic() || r".^$*+?{}[]\|()".contains(c)) {
        Some("may only have letters, digits and signs of ASCII other than . ^ $ * + ? { } [ ] \\ | ( )")
    } else if earlier.iter().any(|other| other == token) {
        Some("occurs twice")
    } else if bpe.has_token(token) {
        Some("is a token of the vocabulary already")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_errors() {
        let cases = [
            ("", "\"\" is empty"),
            ("[MASK]", "may only have"),
            ("<é>", "may only have"),
            ("a b", "may only have"),
            ("<end_of_text>", "occurs twice"),
            ("cat", "is a token of the vocabulary already"),
            ("cat</w>", "is a token of the vocabulary already"),
        ];
        for (token, expected) in cases {
            let built = ClipTokenizer::builder().additional_special_tokens([token]).build();
            let error = built.err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(ClipTokenizer::builder().context_length(0).build().is_err());
        assert!(ClipTokenizer::new().unwrap().tokenize_with_context_length(&["a"], 0).is_err());
    }

    #[test]
    fn special_tokens_have_the_last_ids() {
        let builder = ClipTokenizer::builder()
            .clean(Clean::Whitespace)
            .additional_special_tokens(["<Mask>", "<Mask2>"]);
        let tokenizer = builder.build().unwrap();
        assert_eq!(tokenizer.vocab_size(), 49410);
        assert_eq!(tokenizer.special_token_ids().collect::<Vec<_>>(), [49406, 49407, 49408, 49409]);
        assert_eq!(tokenizer.encode("<Mask><Mask2>").unwrap(), [49408, 49409]);
        assert_ne!(tokenizer.encode("<mask>").unwrap(), [49408]);
        assert_eq!(tokenizer.decode(&[49409, 49407]).unwrap(), "<Mask2><end_of_text>");
        let error = tokenizer.decode(&[320, 49410]).unwrap_err().to_string();
        assert_eq!(error, "token id 49410 is not in the vocabulary of 49410 tokens");
    }

    #[test]
    fn texts_are_cut_and_padded() {
        let tokenizer: &dyn Tokenizer = &ClipTokenizer::new().unwrap();
        let cases: [(usize, &[u32]); 5] = [
            (1, &[49407]),
            (2, &[49406, 49407]),
            (4, &[49406, 320, 1125, 49407]),
            (5, &[49406, 320, 1125, 539, 49407]),
            (7, &[49406, 320, 1125, 539, 49407, 0, 0]),
        ];
        for (context_length, expected) in cases {
            let batch = tokenizer.tokenize_with_context_length(&["a photo of"], context_length).unwrap();
            assert_eq!(batch.ids(), expected);
        }
        let batch = tokenizer.tokenize(&[]).unwrap();
        assert_eq!((batch.rows(), batch.length()), (0, 77));
    }
}
