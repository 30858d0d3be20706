//! Captions: of models that have a decoder.

use openclip_coca::{GenerationOptions, TokenStream, generate, perplexities};
use openclip_core::Captioner;

use super::{AsImage, Clip};
use crate::{Error, Result};

impl Clip {
    /// What writes captions, which is loaded when it is first needed.
    ///
    /// # Errors
    /// [`Error::NoDecoder`]; [`Error::Core`] when it can't be loaded.
    pub fn captioner(&self) -> Result<&dyn Captioner> {
        let captioner =
            self.captioner.as_ref().ok_or_else(|| Error::NoDecoder { model: self.name.clone() })?;
        captioner.get().map(AsRef::as_ref)
    }

    /// A caption for an image.
    ///
    /// ```no_run
    /// use openclip::{Clip, DecodedImage, coca::GenerationOptions};
    ///
    /// let clip = Clip::builder("coca_ViT-B-32").pretrained("mscoco_finetuned_laion2b_s13b_b90k").lazy().build()?;
    /// let image = DecodedImage::open("cat.jpg")?;
    /// println!("{}", clip.caption(&image, &GenerationOptions::default())?);
    /// # Ok::<(), openclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoDecoder`], [`Error::Option`] for options that make no sense, [`Error::Image`] when the image can't be
    /// prepared, [`Error::Core`].
    pub fn caption(&self, image: &impl AsImage, options: &GenerationOptions) -> Result<String> {
        let captions = generate(self.captioner()?, &self.pixels(image)?, options)?;
        let tokens = captions.into_iter().next().map(|caption| caption.tokens).unwrap_or_default();
        self.caption_text(&tokens, options)
    }

    /// The tokens of an image's caption as they are chosen, behind the start token or the prompt. Sampling gives them one by
    /// one, beam search all at the end.
    ///
    /// # Errors
    /// As [`caption`](Self::caption).
    pub fn caption_tokens(
        &self,
        image: &impl AsImage,
        options: GenerationOptions,
    ) -> Result<TokenStream<'_>> {
        Ok(TokenStream::new(self.captioner()?, &self.pixels(image)?, options)?)
    }

    /// The text of a caption's tokens: what stands between start and end token. Ids that the tokenizer hasn't got, which a model with
    /// more logits than it has tokens may choose (coca_base has 64,000), become U+FFFD each.
    ///
    /// # Errors
    /// [`Error::NoTower`], [`Error::Core`].
    pub fn caption_text(&self, tokens: &[u32], options: &GenerationOptions) -> Result<String> {
        let start = usize::from(tokens.first() == Some(&options.sot_token_id));
        let tokens = tokens.get(start..).unwrap_or_default();
        let end = tokens.iter().position(|&id| id == options.eos_token_id).unwrap_or(tokens.len());
        let tokenizer = self.tokenizer()?;
        let known = |id: u32| tokenizer.decode(&[id]).is_ok();
        let mut text = String::new();
        for run in tokens.get(..end).unwrap_or_default().chunk_by(|&a, &b| known(a) && known(b)) {
            match run {
                &[id] if !known(id) => text.push_str("\u{fffd} "),
                run => text.push_str(&tokenizer.decode(run)?),
            }
        }
        Ok(text.trim().to_owned())
    }

    /// The tokens of a text that captions go on from, for [`GenerationOptions::prompt`].
    ///
    /// # Errors
    /// [`Error::NoTower`], [`Error::Core`].
    pub fn caption_prompt(&self, text: &str, options: &GenerationOptions) -> Result<Vec<u32>> {
        let mut tokens = vec![options.sot_token_id];
        tokens.extend(self.tokenizer()?.encode(text)?);
        Ok(tokens)
    }

    /// The perplexity of each text as a caption of an image, the lower the better; see [`perplexities`].
    ///
    /// # Errors
    /// [`Error::NoDecoder`], [`Error::Image`], [`Error::Core`].
    pub fn caption_perplexities<T: AsRef<str>>(&self, image: &impl AsImage, texts: &[T]) -> Result<Vec<f64>> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let captioner = self.captioner()?;
        let tokenizer = self.tokenizer()?;
        let tokens = tokenizer.tokenize_with_context_length(&texts, captioner.info().context_length)?;
        let session = captioner.look(&self.pixels(image)?)?;
        Ok(perplexities(session.as_ref(), 0, &tokens, tokenizer.pad_token_id())?)
    }
}
