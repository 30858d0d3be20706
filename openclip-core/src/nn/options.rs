//! `norm_kwargs` and `act_kwargs` of the reference's tower sections: what they may hold and what they select.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    backend::{Activation, NormKind, NormSpec},
};

/// A tower's norms: the keyword arguments of `torch.nn.LayerNorm`, which `norm_kwargs` may hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormOptions {
    /// What is made equal. Follows from the family, not from the section.
    #[serde(skip)]
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f64,
    /// Whether the norm has weight and bias at all.
    pub elementwise_affine: bool,
    /// Whether the norm has a bias.
    pub bias: bool,
}

impl Default for NormOptions {
    fn default() -> Self {
        Self { kind: NormKind::Layer, eps: 1e-5, elementwise_affine: true, bias: true }
    }
}

impl NormOptions {
    /// The norm over `features` features.
    pub fn spec(&self, features: usize) -> NormSpec {
        let weight = self.elementwise_affine;
        NormSpec { kind: self.kind, features, eps: self.eps, weight, bias: weight && self.bias }
    }
}

/// Keyword arguments of the tower's activation: those of `torch.nn.GELU`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivationOptions {
    /// `none` or `tanh`.
    pub approximate: Option<String>,
}

/// The activation that `quick_gelu` and `act_kwargs` select.
///
/// # Errors
/// [`Error::Config`] for an unknown approximation, or for options that QuickGELU doesn't take.
pub fn gelu(section: &str, quick_gelu: bool, options: Option<&ActivationOptions>) -> Result<Activation> {
    let approximate = options.and_then(|options| options.approximate.as_deref());
    match (quick_gelu, approximate) {
        (true, None) => Ok(Activation::QuickGelu),
        (true, Some(_)) => {
            Err(Error::config(section, "`act_kwargs` has `approximate`, which QuickGELU doesn't take"))
        }
        (false, None | Some("none")) => Ok(Activation::GeluErf),
        (false, Some("tanh")) => Ok(Activation::GeluTanh),
        (false, Some(other)) => Err(Error::config(
            section,
            format!("`act_kwargs` asks for GELU approximation `{other}`: `none` or `tanh` exist"),
        )),
    }
}
