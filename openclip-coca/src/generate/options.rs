//! What a caption may be like, by the names and with the defaults of the reference's `generate`.

use openclip_core::CaptionInfo;

/// Beams at most: their logits, of some ten thousand tokens each, are there at once.
const MOST_BEAMS: usize = 1024;
/// Tokens of a text at most, far beyond any context.
const MOST_TOKENS: usize = 1 << 20;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// Several texts are kept, those with the highest sums of logits. They are kept in groups that don't compete.
    BeamSearch {
        /// Texts that are kept, of all groups together.
        num_beams: usize,
        /// Groups, which are equally large. The reference asks for no diversity between groups, so they keep equal texts.
        num_beam_groups: usize,
    },
    /// Drawn from the tokens with the `top_k` highest logits.
    TopK {
        /// Number of tokens.
        top_k: usize,
    },
    /// Drawn from the likeliest tokens that together have the probability `top_p` (Holtzman et al., 2020).
    TopP {
        /// A probability.
        top_p: f32,
    },
}

impl Default for Method {
    fn default() -> Self {
        Self::BeamSearch { num_beams: 6, num_beam_groups: 3 }
    }
}

/// How captions are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub method: Method,
    /// Tokens at most, those of the prompt included. A sampled text that reaches it gets its end token there.
    pub seq_len: usize,
    /// Tokens before the end token may come, those of the prompt included.
    pub min_seq_len: usize,
    /// Tokens that sampling looks back at.
    pub max_seq_len: usize,
    /// What logits are divided by before a token is drawn.
    pub temperature: f32,
    /// What logits of tokens that the text has already are divided by, or multiplied by where they are negative
    /// (Keskar et al., 2019).
    pub repetition_penalty: f32,
    /// Whether texts are padded to `seq_len` tokens.
    pub fixed_output_length: bool,
    /// The text that goes on. Empty for the start token alone.
    pub prompt: Vec<u32>,
    /// The token that texts begin with.
    pub sot_token_id: u32,
    /// The token that ends a text.
    pub eos_token_id: u32,
    /// The token behind the end; where it is drawn, it ends a text, too.
    pub pad_token_id: u32,
    /// What sampling is deterministic in.
    pub seed: u64,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            method: Method::default(),
            seq_len: 30,
            min_seq_len: 5,
            max_seq_len: 77,
            temperature: 1.0,
            repetition_penalty: 1.0,
            fixed_output_length: false,
            prompt: Vec::new(),
            sot_token_id: 49406,
            eos_token_id: 49407,
            pad_token_id: 0,
            seed: 0,
        }
    }
}

/// An option that makes no sense, by itself or with this model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} {message}")]
pub struct InvalidOption {
    /// The option by its name in the reference's `generate`.
    pub option: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl GenerationOptions {
    /// The tokens that a text begins with.
    pub fn beginning(&self) -> Vec<u32> {
        match self.prompt.is_empty() {
            true => vec![self.sot_token_id],
            false => self.prompt.clone(),
        }
    }

    /// Checks the options by themselves.
    ///
    /// # Errors
    /// [`InvalidOption`].
    pub fn check(&self) -> Result<(), InvalidOption> {
        let fail = |option, message: String| Err(InvalidOption { option, message });
        let positive = |option, value: f32| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => fail(option, format!("is {value}; it must be greater than 0")),
        };
        match self.method {
            Method::BeamSearch { num_beams: 0, .. } => {
                fail("num_beams", "is 0; it must be at least 1".to_owned())?
            }
            Method::BeamSearch { num_beams, .. } if num_beams > MOST_BEAMS => {
                fail("num_beams", format!("is {num_beams}; it must be at most {MOST_BEAMS}"))?;
            }
            Method::BeamSearch { num_beams, num_beam_groups }
                if num_beam_groups == 0 || !num_beams.is_multiple_of(num_beam_groups) =>
            {
                let message =
                    format!("is {num_beam_groups}; it must divide the number of beams, which is {num_beams}");
                fail("num_beam_groups", message)?;
            }
            Method::TopK { top_k: 0 } => fail("top_k", "is 0; it must be at least 1".to_owned())?,
            Method::TopP { top_p } if !(top_p > 0.0 && top_p <= 1.0) => {
                fail("top_p", format!("is {top_p}; it must be greater than 0 and at most 1"))?;
            }
            _ => {}
        }
        positive("temperature", self.temperature)?;
        positive("repetition_penalty", self.repetition_penalty)?;
        if self.seq_len <= self.min_seq_len {
            let message =
                format!("is {}; it must be larger than min_seq_len, {}", self.seq_len, self.min_seq_len);
            fail("seq_len", message)?;
        }
        if self.seq_len > MOST_TOKENS {
            fail("seq_len", format!("is {}; it must be at most {MOST_TOKENS}", self.seq_len))?;
        }
        if self.max_seq_len == 0 {
            fail("max_seq_len", "is 0; it must be at least 1".to_owned())?;
        }
        let beginning = self.beginning().len();
        if beginning >= self.seq_len {
            let message =
                format!("has {beginning} tokens, which leaves none of the {} of seq_len", self.seq_len);
            fail("prompt", message)?;
        }
        Ok(())
    }

    /// Checks the options against what a model can do.
    ///
    /// # Errors
    /// [`InvalidOption`].
    pub fn check_for(&self, info: &CaptionInfo) -> Result<(), InvalidOption> {
        self.check()?;
        let context = info.context_length;
        let longest = match self.method {
            Method::BeamSearch { .. } => self.seq_len - 1,
            Method::TopK { .. } | Method::TopP { .. } => self.max_seq_len.min(self.seq_len - 1),
        };
        if longest > context {
            let message = format!(
                "is {}; the model's context of {context} tokens allows {} at most",
                self.seq_len,
                context + 1
            );
            return Err(InvalidOption { option: "seq_len", message });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_named() {
        let plain = GenerationOptions::default();
        plain.check().unwrap();
        let beams = |num_beams, num_beam_groups| GenerationOptions {
            method: Method::BeamSearch { num_beams, num_beam_groups },
            ..GenerationOptions::default()
        };
        let top_p =
            |top_p| GenerationOptions { method: Method::TopP { top_p }, ..GenerationOptions::default() };
        for (options, option) in [
            (beams(0, 3), "num_beams"),
            (beams(usize::MAX, 1), "num_beams"),
            (beams(6, 4), "num_beam_groups"),
            (beams(6, 0), "num_beam_groups"),
            (top_p(0.0), "top_p"),
            (top_p(1.1), "top_p"),
            (top_p(f32::NAN), "top_p"),
            (GenerationOptions { method: Method::TopK { top_k: 0 }, ..plain.clone() }, "top_k"),
            (GenerationOptions { temperature: 0.0, ..plain.clone() }, "temperature"),
            (GenerationOptions { repetition_penalty: -1.0, ..plain.clone() }, "repetition_penalty"),
            (GenerationOptions { seq_len: 5, ..plain.clone() }, "seq_len"),
            (GenerationOptions { seq_len: usize::MAX, ..plain.clone() }, "seq_len"),
            (GenerationOptions { prompt: vec![1; 30], ..plain.clone() }, "prompt"),
        ] {
            assert_eq!(options.check().unwrap_err().option, option);
        }
    }
}
