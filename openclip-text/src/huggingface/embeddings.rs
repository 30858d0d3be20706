//! What enters the first block: token embeddings, and positions of the kind that the encoder has.

use openclip_core::{
    Backend, Dim, Error, HostTensor, Result, Weights,
    backend::{BinaryOp, EmbeddingSpec, NormSpec},
};

use super::encoder::{EncoderConfig, Kind};

/// Token and position embeddings of an encoder.
pub(super) struct Embeddings<B: Backend> {
    name: String,
    words: B::Embedding,
    /// Factor of the token embeddings `[1]`.
    scale: Option<B::Tensor>,
    /// A row per place in a text `[L, width]`.
    positions: Option<B::Tensor>,
    norm: Option<B::Norm>,
}

impl<B: Backend> Embeddings<B> {
    /// Reads the embeddings of an encoder below the scope of `w`, for texts of up to `context_length` tokens.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        encoder: &EncoderConfig,
        context_length: usize,
    ) -> Result<Self> {
        let width = encoder.width;
        let table = EmbeddingSpec { count: encoder.vocab_size, features: width };
        let name = w.path("embeddings");
        if matches!(encoder.kind, Kind::T5 | Kind::M2m100) {
            let scale = (width as f32).sqrt();
            return Ok(Self {
                name,
                words: backend.prepare_embedding(&w.scope("embed_tokens"), &table)?,
                scale: match encoder.scales_embedding {
                    true => Some(backend.constant(&HostTensor::new([1], vec![scale])?)?),
                    false => None,
                },
                positions: match encoder.kind {
                    Kind::M2m100 => {
                        let first = encoder.pad_id as usize + 1;
                        Some(backend.constant(&sinusoids(first, context_length, width)?)?)
                    }
                    _ => None,
                },
                norm: None,
            });
        }
        let w = w.scope("embeddings");
        let rows = |name: &str, count: usize| backend.param(&w.scope(name), "weight", &[count, width]);
        // Positions of RoBERTa start behind the one of padding.
        let first = if encoder.kind == Kind::Roberta { encoder.pad_id as usize + 1 } else { 0 };
        let positions = rows("position_embeddings", encoder.positions)?;
        let end = (first + context_length).min(encoder.positions);
        let positions = backend.slice(&positions, 0, &Dim::Fixed(first), &Dim::Fixed(end))?;
        // A text is one segment, the first.
        let segments = rows("token_type_embeddings", encoder.segments)?;
        let segment = backend.slice(&segments, 0, &Dim::Fixed(0), &Dim::Fixed(1))?;
        let norm = NormSpec { eps: encoder.block.attention.norm.eps, ..NormSpec::new(width) };
        Ok(Self {
            name,
            words: backend.prepare_embedding(&w.scope("word_embeddings"), &table)?,
            scale: None,
            positions: Some(backend.binary(BinaryOp::Add, &positions, &segment)?),
            norm: Some(backend.prepare_norm(&w.scope("LayerNorm"), &norm)?),
        })
    }

    /// What activations call the output.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// # Shapes
    /// `ids [N, L] -> [N, L, width]`.
    pub(super) fn forward(&self, backend: &B, ids: &B::Tensor) -> Result<B::Tensor> {
        let mut x = backend.embed(ids, &self.words)?;
        if let Some(scale) = &self.scale {
            x = backend.binary(BinaryOp::Mul, &x, scale)?;
        }
        if let Some(positions) = &self.positions {
            let length = token_count(backend, &x);
            let positions = backend.slice(positions, 0, &Dim::Fixed(0), &length)?;
            x = backend.binary(BinaryOp::Add, &x, &positions)?;
        }
        match &self.norm {
            Some(norm) => backend.norm(&x, norm),
            None => Ok(x),
        }
    }
}

/// The number of tokens of `x [N, L, ..]`.
pub(super) fn token_count<B: Backend>(backend: &B, x: &B::Tensor) -> Dim {
    backend.dims(x).get(1).cloned().unwrap_or(Dim::Fixed(0))
}

/// Sines of the positions from `first` on in the first half of the features, cosines in the second, of frequencies from 1
/// down to 1/10000 (`M2M100SinusoidalPositionalEmbedding`).
///
/// # Shapes
/// `[count, width]`.
fn sinusoids(first: usize, count: usize, width: usize) -> Result<HostTensor> {
    let half = width / 2;
    let slope = -(10_000f64.ln() / half.saturating_sub(1).max(1) as f64) as f32;
    let frequency = |index: usize| (index as f32 * slope).exp();
    let row = |position: usize| {
        let angle = move |index: usize| position as f32 * frequency(index);
        (0..half).map(move |index| angle(index).sin()).chain((0..half).map(move |index| angle(index).cos()))
    };
    if half == 0 || !width.is_multiple_of(2) {
        return Err(Error::shape("positions", "an even number of features", width.to_string()));
    }
    HostTensor::new([count, width], (first..first + count).flat_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_sines_and_cosines() {
        // M2M100SinusoidalPositionalEmbedding.get_embedding(8, 8)[2:4]
        let expected = [
            [0.909_297_4, 0.092_698_5, 0.004_308_9, 0.000_2, -0.416_146_8, 0.995_694_2, 0.999_990_7, 1.0],
            [0.141_12, 0.138_798_4, 0.006_463_3, 0.000_3, -0.989_992_5, 0.990_320_6, 0.999_979_1, 1.0],
        ];
        let found = sinusoids(2, 2, 8).unwrap();
        for (found, expected) in found.rows().zip(expected) {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }
}
