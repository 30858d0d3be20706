//! The MLP of a block: two layers, gated or not.

use super::{MlpNames, NormOptions};
use crate::{
    Backend, Result, Weights,
    backend::{Activation, BinaryOp, LinearSpec},
};

/// What an MLP consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Features of the hidden layer.
    pub hidden: usize,
    /// Applied to the hidden layer.
    pub activation: Activation,
    /// The activated layer is multiplied by another one, which isn't (Shazeer, 2020).
    pub gated: bool,
    /// A norm of the input, beside the one in front of the branch.
    pub input_norm: bool,
    /// A norm of the hidden features, after activation and gate.
    pub inner_norm: bool,
    /// Whether the layers have biases.
    pub bias: bool,
    /// What the parameters are called.
    pub names: MlpNames,
}

/// `proj(norm(activation(fc(x)) * gate(x)))`, where `x` may be normalised first, without what the specification leaves out.
pub struct Mlp<B: Backend> {
    input_norm: Option<B::Norm>,
    fc: B::Linear,
    gate: Option<B::Linear>,
    norm: Option<B::Norm>,
    proj: B::Linear,
}

impl<B: Backend> Mlp<B> {
    /// Reads an MLP of `width` features, the layer `scope` of the block `block`. Its output is multiplied by the block's
    /// parameter `scale`, where one is given.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights).
    pub fn new(
        backend: &B,
        block: &Weights,
        scope: &str,
        width: usize,
        spec: &MlpSpec,
        norm: &NormOptions,
        scale: Option<&str>,
    ) -> Result<Self> {
        let &MlpSpec { hidden, names, .. } = spec;
        let layer =
            |name: &str, from, to| LinearSpec::new(from, to).within(name).within(scope).biased(spec.bias);
        let prepare = |layer: LinearSpec| backend.prepare_linear(block, &layer);
        let prepare_norm = |wanted: bool, name: &str, features: usize| match wanted {
            true => backend.prepare_norm(&block.scope(scope).scope(name), &norm.spec(features)).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            input_norm: prepare_norm(spec.input_norm, names.input_norm, width)?,
            fc: prepare(layer(names.hidden, width, hidden).activated(spec.activation))?,
            gate: match spec.gated {
                true => Some(prepare(layer(names.gate, width, hidden))?),
                false => None,
            },
            norm: prepare_norm(spec.inner_norm, names.norm, hidden)?,
            proj: prepare(layer(names.output, hidden, width).scaled(scale))?,
        })
    }

    /// `x + mlp(norm(x))` as one operation, where the MLP is a plain one.
    ///
    /// # Shapes
    /// `x [.., width]` to the same.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward_residual(&self, backend: &B, x: &B::Tensor, norm: &B::Norm) -> Option<Result<B::Tensor>> {
        let plain = self.gate.is_none() && self.norm.is_none() && self.input_norm.is_none();
        plain.then(|| backend.residual_mlp(x, x, norm, &self.fc, &self.proj))
    }

    /// # Shapes
    /// `x [.., width]` to the same.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let x = match &self.input_norm {
            Some(norm) => backend.norm(x, norm)?,
            None => x.clone(),
        };
        let mut hidden = backend.linear(&x, &self.fc)?;
        if let Some(gate) = &self.gate {
            hidden = backend.binary(BinaryOp::Mul, &hidden, &backend.linear(&x, gate)?)?;
        }
        if let Some(norm) = &self.norm {
            hidden = backend.norm(&hidden, norm)?;
        }
        backend.linear(&hidden, &self.proj)
    }
}
