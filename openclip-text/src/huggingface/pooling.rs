//! From tokens to an embedding: the reference's poolers and projections of Hugging Face towers.

use openclip_core::{
    Backend, Dim, Error, HostTensor, Result, Weights,
    backend::{Activation, AttentionSpec, LinearSpec, Rearrange},
    nn::Keep,
};

use super::{
    config::{HuggingFaceTextConfig, SECTION},
    embeddings::token_count,
    encoder::{EncoderConfig, Kind},
};

/// How tokens become one vector.
pub(super) enum Pooler<B: Backend> {
    /// The mean of the tokens that aren't padding: attention with a query of zeros `[1, 1, width]`, which sees them all
    /// equally.
    Mean { query: B::Tensor },
    /// The first token, perhaps through the encoder's own pooling layer.
    First { dense: Option<B::Linear>, is_class: bool },
}

impl<B: Backend> Pooler<B> {
    /// The pooler that `text` names. `w` is the scope of the encoder.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        text: &HuggingFaceTextConfig,
        encoder: &EncoderConfig,
    ) -> Result<Self> {
        let width = encoder.width;
        let named = match (text.hf_pooler_type.as_deref(), encoder.kind) {
            (Some(named), _) => named,
            // What goes with the kind of model; BERT's own pooling layer is there only where it is named.
            (None, Kind::Bert | Kind::M2m100) => return Ok(Self::First { dense: None, is_class: true }),
            (None, Kind::Roberta | Kind::T5) => "mean_pooler",
        };
        match named {
            "mean_pooler" => Ok(Self::Mean { query: backend.constant(&HostTensor::zeros([1, 1, width]))? }),
            "cls_pooler" => Ok(Self::First {
                dense: match encoder.kind {
                    Kind::Bert | Kind::Roberta => {
                        let dense = LinearSpec::new(width, width).activated(Activation::Tanh).unquantized();
                        Some(backend.prepare_linear(&w.scope("pooler.dense"), &dense)?)
                    }
                    Kind::T5 | Kind::M2m100 => None,
                },
                is_class: true,
            }),
            "cls_last_hidden_state_pooler" => Ok(Self::First { dense: None, is_class: false }),
            "max_pooler" => {
                let message = "max_pooler is not available: the reference accepts it but can't run it, so there is \
                               nothing to be equal to";
                Err(Error::config(SECTION, message))
            }
            other => Err(Error::config(
                SECTION,
                format!(
                    "`hf_pooler_type` {other:?} is unknown: mean_pooler, cls_pooler and cls_last_hidden_state_pooler exist"
                ),
            )),
        }
    }

    /// The tokens that are needed of the last block.
    pub(super) fn keep(&self) -> Keep<B::Tensor> {
        match self {
            Self::Mean { .. } => Keep::All,
            Self::First { .. } => Keep::First,
        }
    }

    /// `x [N, L, width]` with `padding [N, 1, 1, L]` to `[N, width]`; where only the first token is there, that is enough.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor, padding: &B::Tensor) -> Result<B::Tensor> {
        let (first, dense) = match self {
            Self::Mean { query } => {
                let query = backend.expand_batch(query, x)?;
                let spec = AttentionSpec { heads: 1, scale: 1.0, causal: false };
                (backend.attention(&query, x, x, &spec, Some(padding))?, &None)
            }
            Self::First { dense, .. } => (backend.slice(x, 1, &Dim::Fixed(0), &Dim::Fixed(1))?, dense),
        };
        let pooled = backend.rearrange(&first, Rearrange::Squeeze(1))?;
        match dense {
            Some(dense) => backend.linear(&pooled, dense),
            None => Ok(pooled),
        }
    }

    /// The tokens beside the embedding: all of them, but the class token where there is one.
    pub(super) fn tokens(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        match self {
            Self::First { is_class: true, .. } => {
                let length = token_count(backend, &x);
                backend.slice(&x, 1, &Dim::Fixed(1), &length)
            }
            Self::First { .. } | Self::Mean { .. } => Ok(x),
        }
    }
}

/// The layers from the encoder's width to the joint space, none of them with a bias.
pub(super) struct Projection<B: Backend>(Vec<B::Linear>);

impl<B: Backend> Projection<B> {
    /// The projection that `text` names, below the scope of `w`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        text: &HuggingFaceTextConfig,
        width: usize,
        embed_dim: usize,
    ) -> Result<Self> {
        let layer = |name: &str, from, to, activation: Option<Activation>| {
            let spec = LinearSpec { activation, ..LinearSpec::new(from, to).biased(false).unquantized() };
            backend.prepare_linear(&w.scope(name), &spec)
        };
        Ok(Self(match text.hf_proj_type.as_deref() {
            None if width == embed_dim => Vec::new(),
            Some("linear") => vec![layer("proj", width, embed_dim, None)?],
            Some("mlp") => {
                let hidden = (width + embed_dim) / 2;
                vec![
                    layer("proj.0", width, hidden, Some(Activation::GeluErf))?,
                    layer("proj.2", hidden, embed_dim, None)?,
                ]
            }
            None => {
                let message = format!(
                    "`hf_proj_type` is null, which needs an encoder as wide as the embedding; it is {width} wide, the \
                     embedding {embed_dim}"
                );
                return Err(Error::config(SECTION, message));
            }
            Some(other) => {
                let message =
                    format!("`hf_proj_type` {other:?} is unknown: mlp and linear exist, and null for none");
                return Err(Error::config(SECTION, message));
            }
        }))
    }

    /// `[N, width] -> [N, D]`.
    pub(super) fn forward(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        self.0.iter().try_fold(x, |x, layer| backend.linear(&x, layer))
    }
}
