//! Trunks: what all kinds have in common, and the architectures by timm's names.

use openclip_core::{Backend, Error, Result, Taps, TowerOutput, Weights};

use super::{
    config::{SECTION, TimmConfig},
    convnext::{self, ConvNext, ConvNextSpec},
    fastvit::{self, FastVit, FastVitSpec},
    swin::{self, Swin, SwinSpec},
    transformer::{self, Transformer, TransformerSpec},
    vitamin::{self, Vitamin, VitaminSpec},
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

/// The feature map behind a trunk.
pub(super) struct FeatureMap {
    /// Rows and columns.
    pub(super) grid: [usize; 2],
    /// Places along a side of the map at the image size that timm has the architecture for.
    pub(super) own_grid: usize,
}

/// An architecture: plain data of one kind of trunk.
#[derive(Clone, Copy, Debug)]
pub(super) enum TrunkSpec {
    ConvNext(&'static ConvNextSpec),
    FastVit(&'static FastVitSpec),
    Swin(&'static SwinSpec),
    Vitamin(&'static VitaminSpec),
    Transformer(&'static TransformerSpec),
}

impl TrunkSpec {
    /// The architecture that timm calls `name`.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none.
    pub(super) fn named(name: &str) -> Result<Self> {
        let convnext = find(convnext::ARCHITECTURES, name).map(Self::ConvNext);
        let fastvit = || find(fastvit::ARCHITECTURES, name).map(Self::FastVit);
        let swin = || find(swin::ARCHITECTURES, name).map(Self::Swin);
        let transformer = || find(transformer::ARCHITECTURES, name).map(Self::Transformer);
        let vitamin = || find(vitamin::ARCHITECTURES, name).map(Self::Vitamin);
        let found = convnext.or_else(fastvit).or_else(swin).or_else(transformer).or_else(vitamin);
        found.ok_or_else(|| {
            Error::config(SECTION, format!("`timm_model_name` is `{name}`: there is no such trunk here"))
        })
    }

    /// Features that the trunk gives where its classifier isn't kept.
    pub(super) fn features(&self) -> usize {
        match self {
            Self::ConvNext(spec) => spec.features(),
            Self::FastVit(spec) => spec.features(),
            Self::Swin(spec) => spec.features(),
            Self::Vitamin(spec) => spec.features(),
            Self::Transformer(spec) => spec.features(),
        }
    }

    /// The feature map of images of `image_size` pixels, where the trunk gives one that an attention pool can follow.
    pub(super) fn map(&self, image_size: [usize; 2]) -> Option<FeatureMap> {
        let (grid, own_grid) = match self {
            Self::ConvNext(spec) => (ConvNextSpec::grid(image_size), spec.own_grid()),
            // timm has the architectures for 256 pixels.
            Self::FastVit(spec) => (spec.grid(image_size), spec.grid([256; 2])[0]),
            Self::Swin(_) | Self::Vitamin(_) | Self::Transformer(_) => return None,
        };
        Some(FeatureMap { grid, own_grid })
    }

    /// Reads a trunk below the scope of `w`.
    pub(super) fn build<B: Backend>(
        &self,
        backend: &B,
        w: &Weights,
        options: &TrunkOptions<'_>,
    ) -> Result<Box<dyn Trunk<B>>> {
        if options.config.timm_act_layer.is_some() && !matches!(self, Self::Transformer(_)) {
            let name = &options.config.timm_model_name;
            let message = format!("`timm_act_layer` is given, and `{name}` can't have another activation");
            return Err(Error::config(SECTION, message));
        }
        Ok(match self {
            Self::ConvNext(spec) => Box::new(ConvNext::new(backend, w, spec, options)?),
            Self::FastVit(spec) => Box::new(FastVit::new(backend, w, spec, options)?),
            Self::Swin(spec) => Box::new(Swin::new(backend, w, spec, options)?),
            Self::Vitamin(spec) => Box::new(Vitamin::new(backend, w, spec, options)?),
            Self::Transformer(spec) => Box::new(Transformer::new(backend, w, spec, options)?),
        })
    }
}

fn find<T>(architectures: &'static [(&'static str, T)], name: &str) -> Option<&'static T> {
    architectures.iter().find(|(own, _)| *own == name).map(|(_, spec)| spec)
}
