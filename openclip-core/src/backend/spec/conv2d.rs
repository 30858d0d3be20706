//! Convolutions.

use std::borrow::Cow;

use super::{
    Activation,
    branch::{BranchLayer, ConvBranch},
};
use crate::{HostTensor, Result, Weights};

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
