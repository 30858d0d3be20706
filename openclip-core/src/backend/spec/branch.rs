//! Convolutions that are summed in training and one convolution in inference (structural reparameterisation: Ding et al.,
//! 2021; Vasu et al., 2023).

use super::BatchNormSpec;
use crate::{Result, Weights};

/// One of several branches that see the same input and whose outputs are summed: a convolution of the layer's step and
/// groups, centred in its window, or the input itself. The sum becomes one weight and one bias when it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvBranch {
    /// The convolution; the input itself where absent, channel by channel.
    conv: Option<BranchConv>,
    /// Batch normalisation of the branch, its scope below the layer's.
    batch_norm: Option<BatchNormSpec>,
    /// A parameter `[out, 1, 1]` below the layer's scope that the branch is multiplied by.
    factor: Option<String>,
    /// Whether the branch is taken away from the sum.
    negative: bool,
}

/// The convolution of a branch.
#[derive(Clone, Debug, PartialEq)]
struct BranchConv {
    /// Below the layer's scope.
    scope: String,
    /// Not larger than the layer's, and smaller by an even number.
    kernel: [usize; 2],
    bias: bool,
}

/// The layer that a branch belongs to.
#[derive(Clone, Copy)]
pub(super) struct BranchLayer {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) groups: usize,
    pub(super) kernel: [usize; 2],
}

impl ConvBranch {
    /// The input itself.
    pub fn identity() -> Self {
        Self { conv: None, batch_norm: None, factor: None, negative: false }
    }

    /// The convolution below `scope`, without bias.
    pub fn conv(scope: impl Into<String>, kernel: [usize; 2]) -> Self {
        let conv = BranchConv { scope: scope.into(), kernel, bias: false };
        Self { conv: Some(conv), ..Self::identity() }
    }

    /// Its convolution has a bias.
    pub fn biased(mut self) -> Self {
        if let Some(conv) = &mut self.conv {
            conv.bias = true;
        }
        self
    }

    /// Followed by the batch normalisation below `scope`.
    pub fn normed(self, scope: impl Into<String>) -> Self {
        Self { batch_norm: Some(BatchNormSpec::new(scope)), ..self }
    }

    /// Multiplied by the parameter `name`, `[out, 1, 1]`.
    pub fn scaled(self, name: impl Into<String>) -> Self {
        Self { factor: Some(name.into()), ..self }
    }

    /// Taken away from the sum.
    pub fn negated(self) -> Self {
        Self { negative: true, ..self }
    }

    pub(super) fn require(&self, w: &Weights, layer: BranchLayer) -> Result<()> {
        if let Some(conv) = &self.conv {
            let w = w.scope(&conv.scope);
            w.require("weight", &conv.dims(layer))?;
            if conv.bias {
                w.require("bias", &[layer.out_channels])?;
            }
        }
        if let Some(norm) = &self.batch_norm {
            norm.require(&w.scope(&norm.scope), layer.out_channels)?;
        }
        match &self.factor {
            Some(name) => w.require(name, &[layer.out_channels, 1, 1]),
            None => Ok(()),
        }
    }

    /// Adds the branch's weight to `sum [out, in / groups, kernel_h, kernel_w]`.
    pub(super) fn add_weight(&self, w: &Weights, layer: BranchLayer, sum: &mut [f64]) -> Result<()> {
        let factors = self.affine(w, layer)?.into_iter().map(|[factor, _]| factor);
        let [height, width] = layer.kernel;
        let inputs = (layer.in_channels / layer.groups.max(1)).max(1);
        let windows = sum.chunks_exact_mut((inputs * height * width).max(1)).zip(factors);
        let Some(conv) = &self.conv else {
            for (output, (window, factor)) in windows.enumerate() {
                let centre = (output % inputs * height + height / 2) * width + width / 2;
                window.get_mut(centre).into_iter().for_each(|value| *value += factor);
            }
            return Ok(());
        };
        let [own_height, own_width] = conv.kernel;
        let [top, left] = [height.saturating_sub(own_height) / 2, width.saturating_sub(own_width) / 2];
        let values = w.scope(&conv.scope).read_f32("weight", &conv.dims(layer))?;
        let own = values.chunks_exact((inputs * own_height * own_width).max(1));
        for ((window, factor), own) in windows.zip(own) {
            for (line, own) in own.chunks_exact(own_width.max(1)).enumerate() {
                let (input, line) = (line / own_height, line % own_height);
                let start = (input * height + top + line) * width + left;
                let target = window.get_mut(start..start + own_width).into_iter().flatten();
                target.zip(own).for_each(|(sum, &value)| *sum += factor * f64::from(value));
            }
        }
        Ok(())
    }

    /// Adds the branch's bias to `sum [out]`.
    pub(super) fn add_bias(&self, w: &Weights, layer: BranchLayer, sum: &mut [f64]) -> Result<()> {
        let own = match &self.conv {
            Some(conv) if conv.bias => w.scope(&conv.scope).read_f32("bias", &[layer.out_channels])?,
            _ => vec![0.0; layer.out_channels],
        };
        for ((sum, [factor, summand]), own) in sum.iter_mut().zip(self.affine(w, layer)?).zip(own) {
            *sum += factor * f64::from(own) + summand;
        }
        Ok(())
    }

    /// What each output of the convolution is multiplied by, and what is added then.
    fn affine(&self, w: &Weights, layer: BranchLayer) -> Result<Vec<[f64; 2]>> {
        let channels = layer.out_channels;
        let mut affine = match &self.batch_norm {
            Some(norm) => norm.read(&w.scope(&norm.scope), channels)?,
            None => vec![[1.0, 0.0]; channels],
        };
        if let Some(name) = &self.factor {
            let factors = w.read_f32(name, &[channels, 1, 1])?;
            affine
                .iter_mut()
                .zip(factors)
                .for_each(|(terms, by)| terms.iter_mut().for_each(|term| *term *= f64::from(by)));
        }
        if self.negative {
            affine.iter_mut().flatten().for_each(|term| *term = -*term);
        }
        Ok(affine)
    }
}

impl BranchConv {
    fn dims(&self, layer: BranchLayer) -> [usize; 4] {
        let [height, width] = self.kernel;
        [layer.out_channels, layer.in_channels / layer.groups.max(1), height, width]
    }
}
