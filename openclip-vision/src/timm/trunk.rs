//! Trunks: what all kinds have in common, and the architectures by timm's names.

use openclip_core::{Backend, Error, Result, Taps, TowerOutput, Weights};

use super::{
    config::{SECTION, TimmConfig},
    convnext::{self, ConvNext, ConvNextSpec},
    transformer::{self, Transformer, TransformerSpec},
};

/// A trunk on backend `B`.
pub(super) trait Trunk<B: Backend>: Send + Sync {
    /// Pooled features of `pixels [N, 3, H, W]`, or the outputs of the trunk's classifier: `[N, D]`.
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>>;
}

/// What the tower makes of an architecture.
pub(super) struct TrunkOptions<'a> {
    /// The tower's configuration: image size and pooling.
    pub(super) config: &'a TimmConfig,
    /// Outputs of the trunk's classifier, where it is kept.
    pub(super) classes: Option<usize>,
}

/// An architecture: plain data of one kind of trunk.
#[derive(Clone, Copy, Debug)]
pub(super) enum TrunkSpec {
    ConvNext(&'static ConvNextSpec),
    Transformer(&'static TransformerSpec),
}

impl TrunkSpec {
    /// The architecture that timm calls `name`.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none.
    pub(super) fn named(name: &str) -> Result<Self> {
        let convnext = find(convnext::ARCHITECTURES, name).map(Self::ConvNext);
        let found = convnext.or_else(|| find(transformer::ARCHITECTURES, name).map(Self::Transformer));
        found.ok_or_else(|| {
            Error::config(SECTION, format!("`timm_model_name` is `{name}`: there is no such trunk here"))
        })
    }

    /// Features that the trunk gives where its classifier isn't kept.
    pub(super) fn features(&self) -> usize {
        match self {
            Self::ConvNext(spec) => spec.features(),
            Self::Transformer(spec) => spec.features(),
        }
    }

    /// Reads a trunk below the scope of `w`.
    pub(super) fn build<B: Backend>(
        &self,
        backend: &B,
        w: &Weights,
        options: &TrunkOptions<'_>,
    ) -> Result<Box<dyn Trunk<B>>> {
        Ok(match self {
            Self::ConvNext(spec) => Box::new(ConvNext::new(backend, w, spec, options)?),
            Self::Transformer(spec) => Box::new(Transformer::new(backend, w, spec, options)?),
        })
    }
}

fn find<T>(architectures: &'static [(&'static str, T)], name: &str) -> Option<&'static T> {
    architectures.iter().find(|(own, _)| *own == name).map(|(_, spec)| spec)
}
