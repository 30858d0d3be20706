//! The blocks of FastViTs: places are mixed by a convolution or by attention, then channels by an MLP.

use openclip_core::{
    Backend, Dim, DisplayDims, Error, Result, Weights,
    backend::{
        Activation, AttentionSpec, BinaryOp, Conv2dSpec, ConvBranch, LinearSpec, NormSpec, Rearrange,
        composed::split_packed,
    },
};

use super::{
    FastVitSpec, NormKind, StageSpec,
    layers::{depthwise, normed_conv},
};

/// Features of a head of attention.
const HEAD_WIDTH: usize = 32;

/// A block.
pub(super) struct Block<B: Backend> {
    name: String,
    mixer: Mixer<B>,
    mlp: ConvMlp<B>,
}

/// What mixes places.
enum Mixer<B: Backend> {
    /// `x + gamma (mixer(x) - norm(x))`, which is one convolution.
    Convolution(B::Conv2d),
    Attention(Box<AttentionMixer<B>>),
}

/// `x + gamma attention(norm(x))`.
struct AttentionMixer<B: Backend> {
    norm: Norm<B>,
    qkv: B::Linear,
    attention: AttentionSpec,
    proj: B::Linear,
    gamma: B::Tensor,
}

/// A norm over the channels of a map.
enum Norm<B: Backend> {
    /// A factor and a summand for each channel.
    Batch(B::Conv2d),
    Layer(B::Norm),
}

/// A depthwise convolution and two over channels.
struct ConvMlp<B: Backend> {
    conv: B::Conv2d,
    fc1: B::Conv2d,
    /// Its output multiplied by the block's `gamma`.
    fc2: B::Conv2d,
}

impl<B: Backend> Block<B> {
    /// Reads a block of `stage`.
    pub(super) fn new(backend: &B, w: &Weights, spec: &FastVitSpec, stage: &StageSpec) -> Result<Self> {
        let channels = stage.channels;
        let hidden = spec.mlp_ratio * channels;
        let (mixer, gamma) = match stage.attention {
            true => (
                Mixer::Attention(Box::new(AttentionMixer::new(backend, w, spec.norm, channels)?)),
                "layer_scale_2.gamma",
            ),
            false => {
                let scaled = |branch: ConvBranch| branch.scaled("layer_scale.gamma");
                let conv = depthwise(channels, 3).summed([
                    ConvBranch::identity(),
                    scaled(normed_conv("mixer.conv_kxk.0", [3; 2])),
                    scaled(normed_conv("mixer.conv_scale", [1; 2])),
                    scaled(ConvBranch::identity().normed("mixer.identity")),
                    scaled(ConvBranch::identity().normed("norm.identity")).negated(),
                ]);
                let conv = backend.prepare_conv2d(&w.scope("token_mixer"), &conv)?;
                (Mixer::Convolution(conv), "layer_scale.gamma")
            }
        };
        let pointwise = |from, to| Conv2dSpec::new(from, to, [1; 2]);
        let fc2 = ConvBranch::conv("mlp.fc2", [1; 2]).biased().scaled(gamma);
        let conv = depthwise(channels, 7).summed([normed_conv("conv", [7; 2])]);
        Ok(Self {
            name: w.scope_name().to_owned(),
            mixer,
            mlp: ConvMlp {
                conv: backend.prepare_conv2d(&w.scope("mlp"), &conv)?,
                fc1: backend.prepare_conv2d(
                    &w.scope("mlp.fc1"),
                    &pointwise(channels, hidden).activated(Activation::GeluErf),
                )?,
                fc2: backend.prepare_conv2d(w, &pointwise(hidden, channels).summed([fc2]))?,
            },
        })
    }

    /// What its output is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `[N, C, H, W] -> [N, C, H, W]`.
    pub(super) fn forward(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        let x = match &self.mixer {
            Mixer::Convolution(conv) => backend.conv2d(&x, conv)?,
            Mixer::Attention(mixer) => mixer.forward(backend, &x)?,
        };
        let ConvMlp { conv, fc1, fc2 } = &self.mlp;
        let branch = backend.conv2d(&backend.conv2d(&x, conv)?, fc1)?;
        backend.binary(BinaryOp::Add, &x, &backend.conv2d(&branch, fc2)?)
    }
}

impl<B: Backend> AttentionMixer<B> {
    /// Reads `norm`, `token_mixer.qkv`, `token_mixer.proj` and `layer_scale_1`.
    fn new(backend: &B, w: &Weights, norm: NormKind, channels: usize) -> Result<Self> {
        let norm = match norm {
            NormKind::Batch => {
                let spec = depthwise(channels, 1).summed([ConvBranch::identity().normed("")]);
                Norm::Batch(backend.prepare_conv2d(&w.scope("norm"), &spec)?)
            }
            NormKind::Layer => Norm::Layer(backend.prepare_norm(&w.scope("norm"), &NormSpec::new(channels))?),
        };
        let qkv = LinearSpec::new(channels, 3 * channels).named("weight", None);
        let mut gamma = backend.param(&w.scope("layer_scale_1"), "gamma", &[channels, 1, 1])?;
        for axis in [2, 1] {
            gamma = backend.rearrange(&gamma, Rearrange::Squeeze(axis))?;
        }
        Ok(Self {
            norm,
            qkv: backend.prepare_linear(&w.scope("token_mixer.qkv"), &qkv)?,
            attention: AttentionSpec::new(channels / HEAD_WIDTH, HEAD_WIDTH),
            proj: backend
                .prepare_linear(&w.scope("token_mixer.proj"), &LinearSpec::new(channels, channels))?,
            gamma,
        })
    }

    /// `[N, C, H, W] -> [N, C, H, W]`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let dims = backend.dims(x);
        let &[_, _, Dim::Fixed(height), Dim::Fixed(width)] = dims.as_slice() else {
            return Err(Error::shape("attention", "[N, C, H, W]", DisplayDims(&dims)));
        };
        let tokens = |x: &B::Tensor| backend.rearrange(x, Rearrange::SpatialToTokens);
        let normed = match &self.norm {
            Norm::Batch(conv) => tokens(&backend.conv2d(x, conv)?)?,
            Norm::Layer(norm) => backend.norm(&tokens(x)?, norm)?,
        };
        let [q, k, v] = split_packed(backend, &backend.linear(&normed, &self.qkv)?)?;
        let attended = backend.attention(&q, &k, &v, &self.attention, None)?;
        let branch = backend.binary(BinaryOp::Mul, &backend.linear(&attended, &self.proj)?, &self.gamma)?;
        let sum = backend.binary(BinaryOp::Add, &tokens(x)?, &branch)?;
        backend.rearrange(&sum, Rearrange::TokensToSpatial { height, width })
    }
}
