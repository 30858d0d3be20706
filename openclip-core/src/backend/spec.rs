//! What layers and glue operations are asked to do: small plain descriptions that every backend understands.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use super::branch::{BranchLayer, ConvBranch};
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Batch normalisation of the output, which becomes part of weight and bias when they are read.
    pub batch_norm: Option<BatchNormSpec>,
    /// Branches that the layer is the sum of. There are no parameters beside theirs then.
    pub branches: Vec<ConvBranch>,
    /// Applied to the output.
    pub activation: Option<Activation>,
}

/// Batch normalisation in inference (Ioffe and Szegedy, 2015): with fixed statistics it is a factor and a summand per
/// channel.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormSpec {
    /// The scope beside that of the convolution which holds `weight`, `bias`, `running_mean` and `running_var`.
    pub scope: String,
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNormSpec {
    /// With PyTorch's default `eps` of 1e-5.
    pub fn new(scope: impl Into<String>) -> Self {
        Self { scope: scope.into(), eps: 1e-5 }
    }

    const PARAMETERS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

    /// Declares the parameters below the scope of `w`.
    pub(super) fn require(&self, w: &Weights, channels: usize) -> Result<()> {
        Self::PARAMETERS.iter().try_for_each(|name| w.require(name, &[channels]))
    }

    /// The factor and the summand of each channel: `y = gamma (x - mean) / sqrt(var + eps) + beta`.
    pub(super) fn read(&self, w: &Weights, channels: usize) -> Result<Vec<[f64; 2]>> {
        let [gamma, beta, mean, variance] = Self::PARAMETERS.map(|name| w.read_f32(name, &[channels]));
        let parameters = gamma?.into_iter().zip(beta?).zip(mean?.into_iter().zip(variance?));
        let of_channel = |((gamma, beta), (mean, variance)): ((f32, f32), (f32, f32))| {
            let factor = f64::from(gamma) / (f64::from(variance) + self.eps).sqrt();
            [factor, f64::from(beta) - f64::from(mean) * factor]
        };
        Ok(parameters.map(of_channel).collect())
    }
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
            batch_norm: None,
            branches: Vec::new(),
            activation: None,
        }
    }

    /// The sum of `branches`.
    pub fn summed(mut self, branches: impl IntoIterator<Item = ConvBranch>) -> Self {
        self.branches = branches.into_iter().collect();
        self
    }

    /// Followed by batch normalisation; without a bias of its own.
    pub fn normed(mut self, norm: BatchNormSpec) -> Self {
        (self.bias, self.batch_norm) = (false, Some(norm));
        self
    }

    /// With an activation applied to the output.
    pub fn activated(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// The non-overlapping convolution that cuts an image into patches, without bias.
    pub fn patches(in_channels: usize, out_channels: usize, patch: [usize; 2]) -> Self {
        Self { stride: patch, bias: false, ..Self::new(in_channels, out_channels, patch) }
    }

    /// Whether it cuts an image into patches that neither overlap nor leave gaps.
    pub fn is_patches(&self) -> bool {
        self.kernel == self.stride && self.padding == [0, 0] && self.groups == 1
    }

    /// Whether the layer as it is computed has a bias.
    pub fn has_bias(&self) -> bool {
        self.bias || self.batch_norm.is_some() || !self.branches.is_empty()
    }

    /// Declares the layer's parameters without reading them.
    ///
    /// # Errors
    /// As [`Weights::require`].
    pub fn require(&self, w: &Weights) -> Result<()> {
        if !self.branches.is_empty() {
            return self.branches.iter().try_for_each(|branch| branch.require(w, self.branch_layer()));
        }
        w.require("weight", &self.weight_dims())?;
        if self.bias {
            w.require("bias", &[self.out_channels])?;
        }
        let norm = self.batch_norm.as_ref();
        norm.map_or(Ok(()), |norm| norm.require(&w.sibling(&norm.scope), self.out_channels))
    }

    /// The weight `[out, in / groups, kernel_h, kernel_w]` below the scope of `w`, batch normalisation and branches
    /// included.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn weight_values<'w>(&self, w: &'w Weights) -> Result<Cow<'w, [f32]>> {
        if !self.branches.is_empty() {
            let mut sum = vec![0.0; self.weight_dims().iter().product()];
            self.branches
                .iter()
                .try_for_each(|branch| branch.add_weight(w, self.branch_layer(), &mut sum))?;
            return Ok(sum.into_iter().map(|value| value as f32).collect());
        }
        let mut weight = w.values("weight", &self.weight_dims())?;
        if let Some(norm) = &self.batch_norm {
            let inputs = weight.len() / self.out_channels.max(1);
            let rows = weight.to_mut().chunks_exact_mut(inputs.max(1));
            for (row, [factor, _]) in rows.zip(norm.read(&w.sibling(&norm.scope), self.out_channels)?) {
                row.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
            }
        }
        Ok(weight)
    }

    /// The bias `[out]` below the scope of `w`, batch normalisation included.
    ///
    /// # Errors
    /// As [`Weights::read`].
    pub fn read_bias(&self, w: &Weights) -> Result<Option<HostTensor>> {
        let channels = self.out_channels;
        if !self.branches.is_empty() {
            let mut sum = vec![0.0; channels];
            self.branches.iter().try_for_each(|branch| branch.add_bias(w, self.branch_layer(), &mut sum))?;
            return HostTensor::new([channels], sum.into_iter().map(|value| value as f32).collect())
                .map(Some);
        }
        let bias = match self.bias {
            true => Some(w.read_f32("bias", &[channels])?),
            false => None,
        };
        let bias = match &self.batch_norm {
            Some(norm) => {
                let own = bias.unwrap_or_else(|| vec![0.0; channels]);
                let moved = norm.read(&w.sibling(&norm.scope), channels)?.into_iter().zip(own);
                Some(
                    moved
                        .map(|([factor, summand], own)| (f64::from(own) * factor + summand) as f32)
                        .collect(),
                )
            }
            None => bias,
        };
        bias.map(|bias| HostTensor::new([channels], bias)).transpose()
    }

    fn branch_layer(&self) -> BranchLayer {
        let Self { in_channels, out_channels, groups, kernel, .. } = *self;
        BranchLayer { in_channels, out_channels, groups, kernel }
    }

    /// Dimensions of the weight.
    pub fn weight_dims(&self) -> [usize; 4] {
        let [height, width] = self.kernel;
        [self.out_channels, self.in_channels / self.groups.max(1), height, width]
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
