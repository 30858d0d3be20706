//! Captions for images: beam search and sampling with the options of the reference's `CoCa.generate`.
//!
//! A caption depends on its image and the options alone, never on what else is in the batch: it is what the reference gives
//! for the image by itself.

mod beam;
mod logits;
mod options;
mod sample;
mod uniforms;

use openclip_core::{CaptionSession, Captioner, HostTensor};

pub(crate) use self::logits::log_probability;
use self::sample::Sample;
pub use options::{GenerationOptions, InvalidOption, Method};

/// What can go wrong while captions are generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// An option makes no sense.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// The model can't run.
    #[error(transparent)]
    Core(#[from] openclip_core::Error),
}

/// A caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// Token ids as the reference returns them for the image by itself: with the start token, the end token where there is one,
    /// and padding where the output has a fixed length.
    pub tokens: Vec<u32>,
    /// Of beam search the sum of the tokens' logits over the number of tokens, which ranks the beams; of sampling the mean
    /// logarithm of the tokens' probabilities.
    pub score: f32,
}

/// Captions of images `[N, 3, H, W]`, in their order.
///
/// # Errors
/// [`GenerationError`].
pub fn generate(
    captioner: &dyn Captioner,
    pixels: &HostTensor,
    options: &GenerationOptions,
) -> Result<Vec<Caption>, GenerationError> {
    options.check_for(captioner.info())?;
    let mut session = captioner.look(pixels)?;
    Ok(captions(session.as_mut(), options)?)
}

/// Captions of the images of a session, by options that have been checked.
fn captions(
    session: &mut dyn CaptionSession,
    options: &GenerationOptions,
) -> openclip_core::Result<Vec<Caption>> {
    if let Method::BeamSearch { num_beams, num_beam_groups } = options.method {
        let mut captions = beam::search(session, options, num_beams, num_beam_groups)?;
        if options.fixed_output_length {
            for caption in &mut captions {
                caption.tokens.resize(options.seq_len.max(caption.tokens.len()), options.pad_token_id);
            }
        }
        return Ok(captions);
    }
    let mut samples = vec![Sample::new(options); session.tree().images()];
    while sample::step(session, &mut samples, options)? {}
    Ok(samples.into_iter().map(|sample| sample.finish(options)).collect())
}

/// The tokens of one image's caption behind those that it begins with, as they are chosen: one by one from sampling, all at
/// the end from beam search, which until then doesn't know which text is the best.
pub struct TokenStream<'a> {
    session: Box<dyn CaptionSession + 'a>,
    options: GenerationOptions,
    sample: Sample,
    /// Tokens that are chosen and haven't been given.
    ready: std::vec::IntoIter<u32>,
    over: bool,
}

impl<'a> TokenStream<'a> {
    /// The tokens for the one image of `pixels [1, 3, H, W]`.
    ///
    /// # Errors
    /// [`GenerationError`].
    pub fn new(
        captioner: &'a dyn Captioner,
        pixels: &HostTensor,
        options: GenerationOptions,
    ) -> Result<Self, GenerationError> {
        options.check_for(captioner.info())?;
        let session = captioner.look(pixels)?;
        if session.tree().images() != 1 {
            let found = format!("{:?}", pixels.dims());
            return Err(openclip_core::Error::shape("caption", "[1, 3, H, W]", found).into());
        }
        let sample = Sample::new(&options);
        Ok(Self { session, options, sample, ready: Vec::new().into_iter(), over: false })
    }

    /// Chooses what comes next.
    fn advance(&mut self) -> openclip_core::Result<Vec<u32>> {
        let known = self.sample.tokens().len();
        if let Method::BeamSearch { .. } = self.options.method {
            self.over = true;
            let captions = captions(self.session.as_mut(), &self.options)?;
            return Ok(captions.into_iter().flat_map(|caption| caption.tokens).skip(known).collect());
        }
        self.over =
            !sample::step(self.session.as_mut(), std::slice::from_mut(&mut self.sample), &self.options)?;
        Ok(self.sample.tokens().iter().skip(known).copied().collect())
    }
}

impl Iterator for TokenStream<'_> {
    type Item = openclip_core::Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(token) = self.ready.next() {
                return Some(Ok(token));
            }
            if self.over {
                return None;
            }
            match self.advance() {
                Ok(tokens) => self.ready = tokens.into_iter(),
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
