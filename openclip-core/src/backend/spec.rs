//! What layers and glue operations are asked to do: small plain descriptions that every backend understands.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use crate::{Error, HostTensor, Result, Weights, weights::ChannelAxis};

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

/// How a linear layer's weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in]`, as `torch.nn.Linear` keeps it.
    OutIn,
    /// `[in, out]`, as the projections of CLIP are kept (`x @ proj`).
    InOut,
}

/// A parameter by name below the layer's scope, or some outputs of one that several layers are packed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamRows {
    /// The parameter's name.
    pub name: String,
    /// The outputs that belong to the layer, and how many are stored; all of them where absent.
    pub rows: Option<(Range<usize>, usize)>,
}

impl ParamRows {
    fn all(name: &str) -> Self {
        Self { name: name.to_owned(), rows: None }
    }

    /// Number of outputs as stored, for a layer of `out_features` outputs.
    fn stored(&self, out_features: usize) -> usize {
        self.rows.as_ref().map_or(out_features, |(_, total)| *total)
    }

    /// The layer's own values of `values`, which holds `width` values for each stored output.
    fn select<'a>(&self, values: Cow<'a, [f32]>, width: usize) -> Cow<'a, [f32]> {
        let Some((rows, _)) = &self.rows else { return values };
        let own = rows.start * width..rows.end * width;
        match values {
            Cow::Borrowed(values) => Cow::Borrowed(values.get(own).unwrap_or_default()),
            Cow::Owned(values) => Cow::Owned(values.get(own).unwrap_or_default().to_vec()),
        }
    }
}

/// A linear layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Features of the input.
    pub in_features: usize,
    /// Features of the output.
    pub out_features: usize,
    /// The weight.
    pub weight: ParamRows,
    /// The bias, where there is one.
    pub bias: Option<ParamRows>,
    /// How the weight is stored.
    pub layout: WeightLayout,
    /// Applied to the output.
    pub activation: Option<Activation>,
    /// Whether the weight may be quantised in `int8`. The last layer of a tower stays in floats: its error reaches the
    /// embedding undiminished, and it costs next to nothing.
    pub quantize: bool,
}

impl LinearSpec {
    /// A layer with `weight [out, in]` and `bias [out]`.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self {
            in_features,
            out_features,
            weight: ParamRows::all("weight"),
            bias: Some(ParamRows::all("bias")),
            layout: WeightLayout::OutIn,
            activation: None,
            quantize: true,
        }
    }

    /// A projection `x @ name` into the joint space without bias, `name [in, out]`.
    pub fn projection(name: &str, in_features: usize, out_features: usize) -> Self {
        Self { layout: WeightLayout::InOut, ..Self::new(in_features, out_features) }
            .named(name, None)
            .unquantized()
    }

    /// In floats at `int8` too.
    pub fn unquantized(mut self) -> Self {
        self.quantize = false;
        self
    }

    /// With other names for the weight and the bias.
    pub fn named(mut self, weight: &str, bias: Option<&str>) -> Self {
        self.weight = ParamRows::all(weight);
        self.bias = bias.map(ParamRows::all);
        self
    }

    /// The weight is these outputs of one that is stored with `total` outputs, `[total, in]`.
    pub fn weight_rows(mut self, rows: Range<usize>, total: usize) -> Self {
        self.weight.rows = Some((rows, total));
        self
    }

    /// The bias is these outputs of one that is stored with `total` outputs.
    pub fn bias_rows(mut self, rows: Range<usize>, total: usize) -> Self {
        if let Some(bias) = &mut self.bias {
            bias.rows = Some((rows, total));
        }
        self
    }

    /// With an activation applied to the output.
    pub fn activated(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Declares the layer's parameters without reading them.
    ///
    /// # Errors
    /// As [`Weights::require`].
    pub fn require(&self, w: &Weights) -> Result<()> {
        let axis = match self.layout {
            WeightLayout::OutIn => ChannelAxis::Rows,
            WeightLayout::InOut => ChannelAxis::Columns,
        };
        match self.quantize {
            true => w.require_quantizable(&self.weight.name, &self.weight_dims(), axis)?,
            false => w.require(&self.weight.name, &self.weight_dims())?,
        }
        match &self.bias {
            Some(bias) => w.require(&bias.name, &[bias.stored(self.out_features)]),
            None => Ok(()),
        }
    }

    /// Reads the layer's weight, in its own layout, and bias below the scope of `w`.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read(&self, w: &Weights) -> Result<(HostTensor, Option<HostTensor>)> {
        let dims = match self.layout {
            WeightLayout::OutIn => [self.out_features, self.in_features],
            WeightLayout::InOut => [self.in_features, self.out_features],
        };
        let weight = HostTensor::new(dims, self.weight_values(w)?.into_owned())?;
        w.release(&self.weight.name);
        Ok((weight, self.read_bias(w)?))
    }

    /// The values of the layer's weight in its own layout: where they lie in the checkpoint's own memory, unless it has
    /// them in another form.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn weight_values<'w>(&self, w: &'w Weights) -> Result<Cow<'w, [f32]>> {
        let values = w.values(&self.weight.name, &self.weight_dims())?;
        Ok(match self.layout {
            WeightLayout::OutIn => self.weight.select(values, self.in_features),
            WeightLayout::InOut => values,
        })
    }

    /// Reads the layer's bias, where it has one.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read_bias(&self, w: &Weights) -> Result<Option<HostTensor>> {
        let Some(bias) = &self.bias else { return Ok(None) };
        let values = w.values(&bias.name, &[bias.stored(self.out_features)])?;
        HostTensor::new([self.out_features], bias.select(values, 1).into_owned()).map(Some)
    }

    fn weight_dims(&self) -> [usize; 2] {
        match self.layout {
            WeightLayout::OutIn => [self.weight.stored(self.out_features), self.in_features],
            WeightLayout::InOut => [self.in_features, self.out_features],
        }
    }
}

/// A two-dimensional convolution with `weight [out, in / groups, kernel_h, kernel_w]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2dSpec {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros added above and below, left and right.
    pub padding: [usize; 2],
    /// Number of groups that channels are split into.
    pub groups: usize,
    /// Whether there is a `bias [out]`.
    pub bias: bool,
    /// Applied to the output.
    pub activation: Option<Activation>,
}

impl Conv2dSpec {
    /// A convolution with bias, step 1, without padding.
    pub fn new(in_channels: usize, out_channels: usize, kernel: [usize; 2]) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
            bias: true,
            activation: None,
        }
    }

    /// The non-overlapping convolution that cuts an image into patches, without bias.
    pub fn patches(in_channels: usize, out_channels: usize, patch: [usize; 2]) -> Self {
        Self { stride: patch, bias: false, ..Self::new(in_channels, out_channels, patch) }
    }

    /// Whether it cuts an image into patches that neither overlap nor leave gaps.
    pub fn is_patches(&self) -> bool {
        self.kernel == self.stride && self.padding == [0, 0] && self.groups == 1
    }
}

/// Layer normalisation over the last axis (Ba et al., 2016).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
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
    /// With weight and bias and PyTorch's default `eps` of 1e-5.
    pub fn new(features: usize) -> Self {
        Self { features, eps: 1e-5, weight: true, bias: true }
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

/// Pooling over non-padded spatial windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dSpec {
    /// What a window is reduced to.
    pub kind: PoolKind,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
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
