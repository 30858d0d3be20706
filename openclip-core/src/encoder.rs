//! Towers and encoders. A *tower* is a model definition, generic over its backend. An *encoder* is a tower on a chosen
//! backend with the backend's type erased: what applications hold.

use std::borrow::Cow;

use crate::{
    Backend, Error, HostTensor, ModelConfig, Result, Taps, TokenBatch, TowerConfig, Weights,
    backend::{Eager, TokenPosition},
};

/// What a tower computes.
#[derive(Clone, Debug)]
pub struct TowerOutput<T> {
    /// The embedding in the joint space, not normalised: `[N, D]`. Towers configured without pooling give one
    /// embedding per token, `[N, L, D]`.
    pub pooled: T,
    /// The tokens beside it, before the projection: `[N, L', width]`. Absent where nobody looks inside
    /// ([`Taps::wants_nothing`]) and the embedding doesn't need all of them.
    pub tokens: Option<T>,
}

/// An image tower on backend `B`.
pub trait ImageTower<B: Backend>: Send + Sync {
    /// Embeds `pixels [N, 3, H, W]`, normalised as the model's preprocessing says.
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>>;
}

/// A text tower on backend `B`.
pub trait TextTower<B: Backend>: Send + Sync {
    /// Embeds token ids `[N, L]`.
    fn forward(
        &self,
        backend: &B,
        ids: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>>;
}

/// What an image tower takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Height and width of the input in pixels.
    pub image_size: [usize; 2],
    /// Width `D` of the embedding.
    pub embed_dim: usize,
}

impl ImageInfo {
    /// Checks that `pixels` are what the tower takes, any number of images.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self, pixels: &HostTensor) -> Result<()> {
        let [height, width] = self.image_size;
        match *pixels.dims() {
            [_, 3, h, w] if [h, w] == self.image_size => Ok(()),
            _ => {
                let expected = format!("[N, 3, {height}, {width}]");
                Err(Error::shape("encode_image", expected, format!("{:?}", pixels.dims())))
            }
        }
    }
}

/// What a text tower takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextInfo {
    /// Largest number of tokens per text.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width `D` of the embedding.
    pub embed_dim: usize,
    /// How far into a text its embedding looks.
    pub reach: TextReach,
    /// Id of padding, where the tower tells it from text.
    pub pad_id: Option<u32>,
    /// Id of the token that ends a text, where the tower looks for it.
    pub eos_id: Option<u32>,
}

/// How far into a text its embedding looks. What comes after that isn't computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextReach {
    /// To the last position, padding included.
    #[default]
    Whole,
    /// To the pooled token, because a causal mask hides what follows it.
    To(TokenPosition),
    /// To the last token that isn't padding, because padding is masked.
    Unpadded {
        /// Id of padding.
        pad_id: u32,
        /// Positions count tokens that aren't padding, so that it doesn't matter where padding stands.
        counts_tokens: bool,
    },
}

impl TextReach {
    /// How many tokens of a text its embedding depends on.
    pub fn length(self, ids: &[u32]) -> usize {
        let position = match self {
            Self::Whole => return ids.len(),
            // The first of several highest ids, as it is pooled.
            Self::To(TokenPosition::HighestId) => {
                let highest = ids.iter().max();
                ids.iter().position(|id| Some(id) == highest)
            }
            Self::To(TokenPosition::First(wanted)) => ids.iter().position(|&id| id == wanted),
            Self::Unpadded { pad_id, .. } => ids.iter().rposition(|&id| id != pad_id),
        };
        (position.unwrap_or(0) + 1).min(ids.len())
    }
}

impl TextInfo {
    /// `tokens` as the tower takes them: padding that its positions don't count stands behind the text's tokens, and
    /// unless `whole` is set the positions that no embedding of the batch depends on are left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a text of a tower that masks padding which is nothing else.
    pub fn arranged<'a>(&self, tokens: &'a TokenBatch, whole: bool) -> Result<Cow<'a, TokenBatch>> {
        let mut arranged = Cow::Borrowed(tokens);
        if let TextReach::Unpadded { pad_id, counts_tokens } = self.reach {
            if let Some(text) = tokens.iter().position(|ids| ids.iter().all(|&id| id == pad_id)) {
                return Err(Error::InvalidArgument(format!(
                    "text {text} of the batch is nothing but padding"
                )));
            }
            let apart = |ids: &[u32]| {
                ids.windows(2).any(|pair| matches!(*pair, [a, b] if a == pad_id && b != pad_id))
            };
            if counts_tokens && tokens.iter().any(apart) {
                let of_kind = |ids: &[u32], padding: bool| -> Vec<u32> {
                    ids.iter().copied().filter(|&id| (id == pad_id) == padding).collect()
                };
                let ids = tokens.iter().flat_map(|ids| [of_kind(ids, false), of_kind(ids, true)].concat());
                arranged = Cow::Owned(TokenBatch::new(tokens.rows(), tokens.length(), ids.collect())?);
            }
        }
        if whole {
            return Ok(arranged);
        }
        let longest = arranged.iter().map(|ids| self.reach.length(ids)).max().unwrap_or(tokens.length());
        Ok(match arranged {
            Cow::Borrowed(tokens) => tokens.truncated(longest),
            Cow::Owned(tokens) => Cow::Owned(tokens.truncated(longest).into_owned()),
        })
    }

    /// Checks that `tokens` are what the tower takes, any number of texts.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no tokens or more than the context holds, [`Error::InvalidArgument`] for an id
    /// outside the vocabulary.
    pub fn check(&self, tokens: &TokenBatch) -> Result<()> {
        let Self { context_length, vocab_size, .. } = *self;
        if tokens.length() == 0 || tokens.length() > context_length {
            let expected = format!("[N, 1..={context_length}]");
            let found = format!("[{}, {}]", tokens.rows(), tokens.length());
            return Err(Error::shape("encode_text", expected, found));
        }
        match tokens.ids().iter().find(|&&id| id as usize >= vocab_size) {
            Some(id) => Err(Error::InvalidArgument(format!(
                "token id {id} is outside the text tower's vocabulary of {vocab_size}: use the model's own tokenizer"
            ))),
            None => Ok(()),
        }
    }
}

/// A family of image towers: how a `vision_cfg` becomes a tower. Implement this, and [`ImageTower`] for the tower
/// itself, to add an architecture to every backend at once.
pub trait ImageFamily: Send + Sync + 'static {
    /// The family's name, which a configuration may give as `"family"`.
    fn name(&self) -> &'static str;

    /// Whether `vision_cfg` describes a tower of this family. The default compares its `family` field.
    fn accepts(&self, vision_cfg: &TowerConfig) -> bool {
        vision_cfg.get("family").and_then(|family| family.as_str()) == Some(self.name())
    }

    /// What the tower of `config` takes and gives.
    fn info(&self, config: &ModelConfig) -> Result<ImageInfo>;

    /// Builds the tower of `config` from the weights below the scope of `w` (`visual`).
    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn ImageTower<B>>>;
}

/// A family of text towers: how a `text_cfg` becomes a tower.
pub trait TextFamily: Send + Sync + 'static {
    /// The family's name, which a configuration may give as `"family"`.
    fn name(&self) -> &'static str;

    /// Whether `text_cfg` describes a tower of this family. The default compares its `family` field.
    fn accepts(&self, text_cfg: &TowerConfig) -> bool {
        text_cfg.get("family").and_then(|family| family.as_str()) == Some(self.name())
    }

    /// What the tower of `config` takes and gives.
    fn info(&self, config: &ModelConfig) -> Result<TextInfo>;

    /// Builds the tower of `config` from the weights below the scope of `w` (`text`).
    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn TextTower<B>>>;
}

/// Embeds images. Shared freely between threads.
pub trait ImageEncoder: Send + Sync {
    /// What the encoder takes and gives.
    fn info(&self) -> &ImageInfo;

    /// Embeds a batch.
    ///
    /// # Shapes
    /// `[N, 3, H, W] -> [N, D]`, not normalised to unit length. A tower configured without pooling gives `[N, L, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the pixels aren't in the tower's input size.
    fn encode(&self, pixels: &HostTensor) -> Result<HostTensor> {
        self.encode_with_taps(pixels, Taps::none()).map(|(embeddings, _)| embeddings)
    }

    /// Embeds a batch and returns the intermediate activations that `taps` asks for.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_with_taps(
        &self,
        pixels: &HostTensor,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)>;
}

/// Embeds tokenized texts. Shared freely between threads.
pub trait TextEncoder: Send + Sync {
    /// What the encoder takes and gives.
    fn info(&self) -> &TextInfo;

    /// Embeds a batch.
    ///
    /// # Shapes
    /// `[N, L] -> [N, D]`, not normalised to unit length. A tower configured without pooling gives `[N, L, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more tokens than the context holds, [`Error::InvalidArgument`] for an id
    /// outside the vocabulary.
    fn encode(&self, tokens: &TokenBatch) -> Result<HostTensor> {
        self.encode_with_taps(tokens, Taps::none()).map(|(embeddings, _)| embeddings)
    }

    /// Embeds a batch and returns the intermediate activations that `taps` asks for.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_with_taps(
        &self,
        tokens: &TokenBatch,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)>;
}

/// An image tower on a backend that computes at once.
pub struct EagerImageEncoder<B: Eager> {
    backend: B,
    tower: Box<dyn ImageTower<B>>,
    info: ImageInfo,
}

impl<B: Eager> EagerImageEncoder<B> {
    /// Puts a tower and its backend together.
    pub fn new(backend: B, tower: Box<dyn ImageTower<B>>, info: ImageInfo) -> Self {
        Self { backend, tower, info }
    }
}

impl<B: Eager> ImageEncoder for EagerImageEncoder<B> {
    fn info(&self) -> &ImageInfo {
        &self.info
    }

    fn encode_with_taps(
        &self,
        pixels: &HostTensor,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
        self.info.check(pixels)?;
        if pixels.dims().first() == Some(&0) {
            return Ok((HostTensor::zeros([0, self.info.embed_dim]), Vec::new()));
        }
        self.backend.run(|| {
            let input = self.backend.upload(pixels)?;
            run_eagerly(&self.backend, taps, |taps| self.tower.forward(&self.backend, &input, taps))
        })
    }
}

/// A text tower on a backend that computes at once.
pub struct EagerTextEncoder<B: Eager> {
    backend: B,
    tower: Box<dyn TextTower<B>>,
    info: TextInfo,
}

impl<B: Eager> EagerTextEncoder<B> {
    /// Puts a tower and its backend together.
    pub fn new(backend: B, tower: Box<dyn TextTower<B>>, info: TextInfo) -> Self {
        Self { backend, tower, info }
    }
}

impl<B: Eager> TextEncoder for EagerTextEncoder<B> {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn encode_with_taps(
        &self,
        tokens: &TokenBatch,
        taps: Taps<HostTensor>,
    ) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
        self.info.check(tokens)?;
        if tokens.rows() == 0 {
            return Ok((HostTensor::zeros([0, self.info.embed_dim]), Vec::new()));
        }
        let run = |tokens: &TokenBatch, taps: Taps<HostTensor>| {
            // Whoever looks inside wants to see all of it.
            let tokens = self.info.arranged(tokens, !taps.wants_nothing())?;
            self.backend.run(|| {
                let input = self.backend.upload_tokens(&tokens)?;
                run_eagerly(&self.backend, taps, |taps| self.tower.forward(&self.backend, &input, taps))
            })
        };
        if taps.wants_nothing() {
            let encode = |tokens: &TokenBatch| Ok(run(tokens, Taps::like(&taps))?.0);
            return Ok((self.info.in_groups(tokens, encode)?, Vec::new()));
        }
        run(tokens, taps)
    }
}

fn run_eagerly<B: Eager>(
    backend: &B,
    taps: Taps<HostTensor>,
    forward: impl FnOnce(&mut Taps<B::Tensor>) -> Result<TowerOutput<B::Tensor>>,
) -> Result<(HostTensor, Vec<(String, HostTensor)>)> {
    let mut taps = Taps::like(&taps);
    let output = forward(&mut taps)?;
    let found = taps
        .into_found()?
        .into_iter()
        .map(|(name, value)| Ok((name, backend.download(&value)?)))
        .collect::<Result<_>>()?;
    Ok((backend.download(&output.pooled)?, found))
}
