//! The multimodal decoder: blocks that attend to the text before them, each followed by one that attends to the image, and a
//! projection to the vocabulary (Yu et al., 2022; the reference's `MultimodalTransformer`).

use openclip_core::{
    Backend, Result, Taps, Weights,
    backend::LinearSpec,
    nn::{
        AttentionContext, CrossAttentionBlock, Extended, Keep, KeyValues, NormOptions,
        ResidualAttentionBlock, check_depth,
    },
};

use crate::MultimodalConfig;

/// A multimodal decoder, its fields named after its parameters.
pub struct MultimodalDecoder<B: Backend> {
    layers: Vec<(ResidualAttentionBlock<B>, CrossAttentionBlock<B>)>,
    ln_final: B::Norm,
    text_projection: B::Linear,
}

impl<B: Backend> MultimodalDecoder<B> {
    /// Reads the decoder below the scope of `w`. It has logits for `vocab_size` tokens.
    ///
    /// # Errors
    /// [`Error::Config`](openclip_core::Error::Config), [`Error::Weights`](openclip_core::Error::Weights).
    pub fn new(
        backend: &B,
        config: &MultimodalConfig,
        quick_gelu: bool,
        vocab_size: usize,
        w: &Weights,
    ) -> Result<Self> {
        check_depth(w.scope_name(), config.layers)?;
        let block = config.block(quick_gelu)?;
        let mut causal = block.clone();
        causal.attention.causal = true;
        let layer = |index: usize| {
            let scope = |list: &str| w.scope(list).scope(index.to_string());
            Ok((
                ResidualAttentionBlock::new(backend, &scope("resblocks"), &causal)?,
                CrossAttentionBlock::new(backend, &scope("cross_attn"), &block)?,
            ))
        };
        Ok(Self {
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            ln_final: backend
                .prepare_norm(&w.scope("ln_final"), &NormOptions::default().spec(config.width))?,
            text_projection: backend
                .prepare_linear(w, &LinearSpec::projection("text_projection", config.width, vocab_size))?,
        })
    }

    /// What texts about an image attend to: image tokens `[N, Q, width]` to keys and values of the same dimensions, block by
    /// block.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn look(&self, backend: &B, image: &B::Tensor) -> Result<Vec<KeyValues<B::Tensor>>> {
        self.layers.iter().map(|(_, cross)| cross.look(backend, image)).collect()
    }

    /// Logits of what follows each token of whole texts: `x [N, L, width] -> [N, L, V]`. `image` is as [`look`](Self::look)
    /// gives it.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        mut x: B::Tensor,
        image: &[KeyValues<B::Tensor>],
    ) -> Result<B::Tensor> {
        for ((block, cross), image) in self.layers.iter().zip(image) {
            x = block.forward(backend, x, &AttentionContext::NONE, &Keep::All, &mut Taps::none())?;
            x = cross.forward(backend, x, image)?;
        }
        self.logits(backend, &x)
    }

    /// Logits of what follows tokens that come behind others: `x [N, S, width] -> [N, S, V]`. `bias [N, 1, S, P + S]` alone
    /// says who sees whom; `known` are keys and values of the tokens before, block by block. Gives those of all tokens
    /// beside the output.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn extend(
        &self,
        backend: &B,
        mut x: B::Tensor,
        bias: &B::Tensor,
        known: &[KeyValues<B::Tensor>],
        image: &[KeyValues<B::Tensor>],
    ) -> Result<Extended<B::Tensor>> {
        let mut grown = Vec::with_capacity(self.layers.len());
        for (index, ((block, cross), image)) in self.layers.iter().zip(image).enumerate() {
            let (output, block_known) = block.extend(backend, x, known.get(index), bias)?;
            x = cross.forward(backend, output, image)?;
            grown.push(block_known);
        }
        Ok(Extended { output: self.logits(backend, &x)?, known: grown })
    }

    fn logits(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        backend.linear(&backend.norm(x, &self.ln_final)?, &self.text_projection)
    }
}
