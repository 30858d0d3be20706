//! Models that write texts about images: a decoder that attends to an image's tokens and to a text so far, and gives a logit
//! for every token that may come next.
//!
//! A [`CaptionTower`] is the definition, generic over its backend; a [`Captioner`] is one on a chosen backend with the
//! backend's type erased. It looks at images once, which gives a [`CaptionSession`]; in a session texts grow as trees, so
//! that what several texts have in common is computed once, and a token costs a token.

mod eager;
mod session;
mod tree;

pub use eager::EagerCaptioner;
pub use session::{ReaderSession, TextReader};
pub use tree::{TextTree, TreeNode, TreeStep};

use crate::{
    Backend, Error, HostTensor, ImageInfo, ModelConfig, Result, TokenBatch, Weights,
    nn::{Extended, KeyValues},
};

/// What a captioner takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptionInfo {
    /// The image tower.
    pub image: ImageInfo,
    /// Tokens that a text may have.
    pub context_length: usize,
    /// Number of token ids that a text may consist of.
    pub vocab_size: usize,
    /// Number of token ids that have a logit.
    pub logits: usize,
    /// How texts are read.
    pub reading: Reading,
    /// Features of the tokens of text and image in the decoder.
    pub width: usize,
    /// Blocks of the text tower.
    pub text_layers: usize,
    /// Blocks of the decoder that attend to the text, and as many that attend to the image.
    pub decoder_layers: usize,
    /// Tokens of an image.
    pub image_tokens: usize,
}

/// How a text tower reads what a text consists of so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A token sees those before it, so that a longer text is the shorter one and some tokens more.
    Causal {
        /// Rows of the table of positions.
        positions: usize,
        /// The id that hides whatever token stands *behind* it from the text tower.
        hides_next: Option<u32>,
    },
    /// A token sees those behind it, too: with each token more all of the text is read again.
    Whole,
}

impl CaptionInfo {
    /// Keys and values that are known of a text, block by block: those of the text tower, then those of the decoder.
    pub fn known_layers(&self) -> usize {
        self.text_layers + self.decoder_layers
    }

    /// Checks token ids `[T, L]` of whole texts.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no tokens or more than the context holds, [`Error::InvalidArgument`] for an id
    /// outside the vocabulary.
    pub fn check(&self, texts: &TokenBatch) -> Result<()> {
        if !(1..=self.context_length).contains(&texts.length()) {
            let expected = format!("[T, 1..={}]", self.context_length);
            return Err(Error::shape("caption", expected, format!("[{}, {}]", texts.rows(), texts.length())));
        }
        texts.ids().iter().try_for_each(|&id| self.check_id(id))
    }

    fn check_id(&self, id: u32) -> Result<()> {
        match (id as usize) < self.vocab_size {
            true => Ok(()),
            false => Err(Error::InvalidArgument(format!(
                "token id {id} is outside the text tower's vocabulary of {}: use the model's own tokenizer",
                self.vocab_size
            ))),
        }
    }
}

/// Tokens that come behind those that are known already, and what they see: all tensors of the backend.
pub struct Growth<'a, T> {
    /// Token ids `[N, S]`.
    pub ids: &'a T,
    /// One-hot rows that pick each token's position: `[N, S, positions]`.
    pub positions: &'a T,
    /// Who sees whom in the text tower: `[N, 1, S, P + S]`, 0 or `-inf`.
    pub text_bias: &'a T,
    /// Who sees whom in the decoder: `[N, 1, S, P + S]`, 0 or `-inf`.
    pub decoder_bias: &'a T,
    /// Keys and values `[N, P, width]` of the tokens before, block by block, those of the text tower first. Empty where there
    /// are none.
    pub known: &'a [KeyValues<T>],
    /// Keys and values `[N, image_tokens, width]` of the image, block by block.
    pub image: &'a [KeyValues<T>],
}

/// A model that writes texts about images, on backend `B`.
pub trait CaptionTower<B: Backend>: Send + Sync {
    /// What texts about images attend to: `pixels [N, 3, H, W]` to keys and values `[N, image_tokens, width]` of each block of
    /// the decoder.
    fn look(&self, backend: &B, pixels: &B::Tensor) -> Result<Vec<KeyValues<B::Tensor>>>;

    /// Logits `[N, S, V]` of what follows each of `S` new tokens, and keys and values `[N, P + S, width]` of these and those
    /// before, for texts that are [read causally](Reading::Causal).
    fn grow(&self, backend: &B, growth: &Growth<B::Tensor>) -> Result<Extended<B::Tensor>>;

    /// Logits `[T, L, V]` of what follows each token of whole texts `[T, L]` about one image, whose keys and values are
    /// `[1, image_tokens, width]`.
    fn read(&self, backend: &B, ids: &B::Tensor, image: &[KeyValues<B::Tensor>]) -> Result<B::Tensor>;
}

/// A family of captioners: how a configuration with a `multimodal_cfg` becomes one.
pub trait CaptionFamily: Send + Sync + 'static {
    /// The family's name.
    fn name(&self) -> &'static str;

    /// Whether `config` describes a captioner of this family.
    fn accepts(&self, config: &ModelConfig) -> bool;

    /// What the captioner of `config` takes and gives.
    fn info(&self, config: &ModelConfig) -> Result<CaptionInfo>;

    /// Builds the captioner of `config` from the weights `w` of the whole model.
    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn CaptionTower<B>>>;
}

/// Writes texts about images. Shared freely between threads.
pub trait Captioner: Send + Sync {
    /// What the captioner takes and gives.
    fn info(&self) -> &CaptionInfo;

    /// Encodes images `[N, 3, H, W]`, once for all texts about them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the pixels aren't in the model's input size.
    fn look(&self, pixels: &HostTensor) -> Result<Box<dyn CaptionSession + '_>>;
}

/// Texts about some images, which grow token by token: for each image a [`TextTree`].
pub trait CaptionSession: Send {
    /// The trees so far.
    fn tree(&self) -> &TextTree;

    /// Adds nodes to each image's tree, any number but not none for all. They get the places from [`TextTree::length`] on, the
    /// same for each image, so where one image has fewer nodes than another, places are left empty.
    ///
    /// # Shapes
    /// Logits `[N, S, V]` of what follows each new node's text; those of empty places have no meaning.
    ///
    /// # Errors
    /// [`Error::Shape`] for nodes of another number of images, [`Error::InvalidArgument`] for parents that aren't there,
    /// texts longer than the context and ids outside the vocabulary.
    fn grow(&mut self, nodes: &[Vec<TreeNode>]) -> Result<HostTensor>;

    /// Logits of whole texts about the image at place `image`, apart from its tree.
    ///
    /// # Shapes
    /// `[T, L] -> [T, L, V]`.
    ///
    /// # Errors
    /// As [`CaptionInfo::check`], and [`Error::InvalidArgument`] for an image that isn't there.
    fn logits(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor>;
}
