//! What layers and glue operations are asked to do: small plain descriptions that every backend understands.

mod branch;
mod conv2d;
mod linear;

use std::{fmt, str::FromStr};

pub use branch::ConvBranch;
pub use conv2d::{BatchNormSpec, Conv2dSpec};
pub use linear::{LinearSpec, ParamRows, WeightLayout};

use crate::{Error, Result};

/// Element type of weights and arithmetic. A property of a backend instance, never a type parameter of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// IEEE 16-bit float weights, `f32` accumulation.
    F16,
    /// bfloat16 weights, `f32` accumulation.
    Bf16,
    /// 8-bit integer weights and activations, 32-bit integer accumulation.
    Int8,
    /// 8-bit integer weights, `f32` arithmetic: where memory counts more than speed.
    Int8Weights,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int8Weights];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int8Weights => "int8-weights",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" | "fp32" => Ok(Self::F32),
            "f16" | "fp16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            "int8-weights" => Ok(Self::Int8Weights),
            _ => Err(Error::InvalidArgument(format!(
                "unknown precision `{text}`: choose f32, f16, bf16, int8 or int8-weights"
            ))),
        }
    }
}

/// An activation function. The three kinds of GELU are different functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * Phi(x)`, with the Gaussian distribution function computed by `erf` (Hendrycks and Gimpel, 2016).
    GeluErf,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, as the original CLIP was trained.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

/// What a norm makes equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance: `(x - mean) / sqrt(var + eps)` (Ba et al., 2016).
    #[default]
    Layer,
    /// The mean square: `x / sqrt(mean(x^2) + eps)` (Zhang and Sennrich, 2019).
    Rms,
}

/// Normalisation over the last axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// What is made equal.
    pub kind: NormKind,
    /// Size of the last axis.
    pub features: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether there is a `weight [features]`.
    pub weight: bool,
    /// Whether there is a `bias [features]`.
    pub bias: bool,
}

impl NormSpec {
    /// Layer normalisation with weight and bias and PyTorch's default `eps` of 1e-5.
    pub fn new(features: usize) -> Self {
        Self { kind: NormKind::Layer, features, eps: 1e-5, weight: true, bias: true }
    }
}

/// An embedding table `weight [count, features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingSpec {
    /// Number of rows.
    pub count: usize,
    /// Features of a row.
    pub features: usize,
}

/// Multi-head attention: `softmax(scale * q k^T + mask + bias) v` per head (Vaswani et al., 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Number of heads.
    pub heads: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Token `i` sees tokens `0..=i` only.
    pub causal: bool,
}

impl AttentionSpec {
    /// Bidirectional attention with the usual scale, `head_width^-0.5`.
    pub fn new(heads: usize, head_width: usize) -> Self {
        Self { heads, scale: (head_width as f32).powf(-0.5), causal: false }
    }

    /// With or without a causal mask.
    pub fn causal(self, causal: bool) -> Self {
        Self { causal, ..self }
    }
}

/// What a spatial window is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value.
    Max,
    /// The mean.
    Average,
}

/// Pooling over spatial windows. Only places of the map count, however far a window reaches over its edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dSpec {
    /// What a window is reduced to.
    pub kind: PoolKind,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// How far windows reach over the edge above and below, left and right; at most half a window.
    pub padding: [usize; 2],
}

/// A movement of elements that every backend knows by name, instead of a free reshape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rearrange {
    /// `[.., parts * D] -> [.., parts, D]`.
    SplitLast {
        /// Size of the new axis.
        parts: usize,
    },
    /// `[.., P, D] -> [.., P * D]`.
    MergeLast,
    /// Exchanges two axes.
    Transpose(usize, usize),
    /// Feature maps to tokens, row by row: `[N, C, H, W] -> [N, H*W, C]`.
    SpatialToTokens,
    /// Tokens to feature maps: `[N, height * width, C] -> [N, C, height, width]`.
    TokensToSpatial {
        /// Rows of the map.
        height: usize,
        /// Columns of the map.
        width: usize,
    },
    /// A new axis of size 1 before the given one.
    Unsqueeze(usize),
    /// Removes an axis of size 1.
    Squeeze(usize),
}

/// An operation on two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

/// What an axis is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// The mean.
    Mean,
    /// The sum.
    Sum,
    /// The largest value.
    Max,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPosition {
    /// The first of the tokens with the highest id: end-of-text in CLIP's vocabulary.
    HighestId,
    /// The first token with this id; the text's first token where the id doesn't occur.
    First(u32),
}
