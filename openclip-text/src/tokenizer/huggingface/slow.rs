//! SentencePiece models run by SentencePiece's own library, as those tokenizers of `transformers` run them that aren't the
//! fast ones. Part of the cargo feature `sentencepiece`.

use openclip_core::{Error, Result};
use sentencepiece::SentencePieceProcessor;
use tokenizers::{Encoding, NormalizerWrapper, OffsetType, Token, Tokenizer};

use super::{class::Class, files::TokenizerFiles, settings::Settings};

/// What stands for a space.
const SPACE: char = '\u{2581}';

/// `normalizer_spec { add_dummy_prefix: false }`: behind a model it takes the place of what the model says, since protocol
/// buffers are merged when they are put together.
const NO_DUMMY_PREFIX: [u8; 4] = [0x1a, 0x02, 0x18, 0x00];

/// Encodes texts with a SentencePiece model; special tokens are found by the converted tokenizer.
pub(super) struct Slow {
    processor: SentencePieceProcessor,
    unk: u32,
    /// T5 in its newer way puts the space before a text itself.
    prefixed: Option<Prefixed>,
    /// Not put behind a text that has it.
    eos: Option<u32>,
}

/// How T5 keeps SentencePiece from eating the first space of a text.
struct Prefixed {
    unk: String,
    pieces: usize,
    special: Vec<u32>,
}

impl Slow {
    /// Opens the model of the class in `settings`, which `tokenizer` was converted from.
    pub(super) fn new(files: &TokenizerFiles, settings: &Settings, tokenizer: &Tokenizer) -> Result<Self> {
        let name = match settings.class {
            Class::T5 => "spiece.model",
            Class::XlmRoberta | Class::Nllb => "sentencepiece.bpe.model",
            Class::Gemma => "tokenizer.model",
            _ => return settings.fail("`use_fast` is false, which only tokenizers of SentencePiece can be"),
        };
        let Some((origin, mut bytes)) = files.read(name)? else {
            return settings.fail(format!("`use_fast` is false, which needs {name}"));
        };
        let newer = settings.class == Class::T5 && settings.flag("legacy")? == Some(false);
        if newer {
            bytes.extend(NO_DUMMY_PREFIX);
        }
        let damaged = |error: sentencepiece::SentencePieceError| Error::config(&origin, error.to_string());
        let processor = SentencePieceProcessor::from_serialized_proto(&bytes).map_err(damaged)?;
        let unk = settings.token("unk_token")?.map(|token| token.content).unwrap_or_default();
        let prefixed = match newer {
            true => Some(Prefixed {
                pieces: processor.encode(&unk).map_err(damaged)?.len(),
                unk: unk.clone(),
                special: settings
                    .special_tokens()?
                    .iter()
                    .filter_map(|(_, token)| tokenizer.token_to_id(&token.content))
                    .collect(),
            }),
            false => None,
        };
        let eos = match settings.class {
            Class::T5 => settings.token("eos_token")?.and_then(|token| tokenizer.token_to_id(&token.content)),
            _ => None,
        };
        Ok(Self { processor, unk: tokenizer.token_to_id(&unk).unwrap_or_default(), prefixed, eos })
    }

    /// Whether nothing is put behind a text that ends with `last`.
    pub(super) fn is_ended_by(&self, last: Option<&u32>) -> bool {
        self.eos.is_some() && self.eos.as_ref() == last
    }

    /// The tokens of `text`, without those that every text has.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Encoding> {
        let text = match &self.prefixed {
            Some(_) if !text.is_empty() => format!("{SPACE}{}", text.replace(SPACE, " ")),
            _ => text.to_owned(),
        };
        let added = tokenizer.get_added_vocabulary();
        let mut parts = added.extract_and_normalize::<NormalizerWrapper>(None, &text);
        parts.tokenize(|part| self.pieces(tokenizer, part.get()))?;
        let encoding = parts.into_encoding(None, 0, OffsetType::None)?;
        match (&self.prefixed, encoding.get_ids()) {
            // The space that was put there belongs to nothing.
            (Some(prefixed), [first, second, ..])
                if prefixed.special.contains(second)
                    && tokenizer.token_to_id(&SPACE.to_string()) == Some(*first) =>
            {
                let (ids, tokens) = (encoding.get_ids(), encoding.get_tokens());
                let kept = ids.iter().zip(tokens).skip(1);
                let kept = kept.map(|(&id, token)| Token::new(id, token.clone(), (0, 0))).collect();
                Ok(Encoding::from_tokens(kept, 0))
            }
            _ => Ok(encoding),
        }
    }

    /// The pieces of a part of a text that has no special tokens.
    fn pieces(&self, tokenizer: &Tokenizer, part: &str) -> tokenizers::Result<Vec<Token>> {
        let shielded = self.prefixed.as_ref().filter(|_| part.starts_with([SPACE, ' ']));
        let pieces = match shielded {
            Some(prefixed) => self.processor.encode(&format!("{}{part}", prefixed.unk))?,
            None => self.processor.encode(part)?,
        };
        let shield = shielded.map_or(0, |prefixed| prefixed.pieces);
        let skipped = if pieces.len() >= shield { shield } else { 0 };
        let token = |piece: &sentencepiece::PieceWithId| {
            let id = tokenizer.token_to_id(&piece.piece).unwrap_or(self.unk);
            Token::new(id, piece.piece.clone(), (0, 0))
        };
        Ok(pieces.iter().skip(skipped).map(token).collect())
    }
}
