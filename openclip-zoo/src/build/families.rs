//! The families of towers and captioners that a model can be built from: the native ones, and whatever an application registers.
//!
//! A family is generic over backends; here the generic methods become one method per backend that is compiled in, so
//! that families can be kept in a list.

use std::sync::Arc;

use openclip_coca::CocaFamily;
use openclip_core::{
    CaptionFamily, CaptionInfo, Captioner, Error, ImageEncoder, ImageFamily, ImageInfo, ModelConfig, Result,
    Taps, TextEncoder, TextFamily, TextInfo, TowerConfig, Weights,
    backend::{OperationCounter, ShapeBackend, ShapeTensor},
};
use openclip_ort::{OnnxModel, RecordOptions};
use openclip_text::{HuggingFaceTextFamily, TextTransformerFamily};
use openclip_vision::{ModifiedResNetFamily, TimmFamily, VisionTransformerFamily};

use super::{BackendKind, BackendOptions};

/// What computes a tower on the backend that the options name: on one that computes at once `$eager` of what `$build` makes,
/// on ONNX Runtime `$recorded`.
macro_rules! on_backend {
    ($options:ident, $w:ident, $info:ident, $eager:ty, $build:expr, $recorded:expr $(,)?) => {
        match $options.kind {
            #[cfg(feature = "candle")]
            BackendKind::Candle => {
                let (backend, tower) = $options.on_candle($w, $build)?;
                Ok(Box::new(<$eager>::new(backend, tower, $info)))
            }
            #[cfg(feature = "tch")]
            BackendKind::Tch => {
                let backend = $options.tch()?;
                let tower = ($build)(&backend)?;
                Ok(Box::new(<$eager>::new(backend, tower, $info)))
            }
            #[cfg(feature = "ort")]
            BackendKind::Ort => Ok(Box::new($recorded?)),
        }
    };
}

/// An [`ImageFamily`] that can be kept beside others. Implemented for every family.
pub trait AnyImageFamily: Send + Sync {
    /// See [`ImageFamily::name`].
    fn name(&self) -> &'static str;
    /// See [`ImageFamily::accepts`].
    fn accepts(&self, vision_cfg: &TowerConfig) -> bool;
    /// See [`ImageFamily::info`].
    fn info(&self, config: &ModelConfig) -> Result<ImageInfo>;
    /// Asks `w` for every parameter of the tower, without reading any.
    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()>;
    /// Floating point operations of one image. `w` is asked for every parameter.
    fn operations(&self, config: &ModelConfig, w: &Weights) -> Result<u64>;
    /// Builds the tower on the backend that `options` names.
    fn encoder(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn ImageEncoder>>;
    /// Records the tower as an ONNX graph. `w` is read when the graph is saved.
    fn record(&self, config: &ModelConfig, w: &Weights, options: &RecordOptions) -> Result<OnnxModel>;
}

impl<F: ImageFamily> AnyImageFamily for F {
    fn name(&self) -> &'static str {
        ImageFamily::name(self)
    }

    fn accepts(&self, vision_cfg: &TowerConfig) -> bool {
        ImageFamily::accepts(self, vision_cfg)
    }

    fn info(&self, config: &ModelConfig) -> Result<ImageInfo> {
        ImageFamily::info(self, config)
    }

    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()> {
        self.build(&ShapeBackend, config, w).map(drop)
    }

    fn operations(&self, config: &ModelConfig, w: &Weights) -> Result<u64> {
        let counter = OperationCounter::default();
        let tower = self.build(&counter, config, w)?;
        let [height, width] = ImageFamily::info(self, config)?.image_size;
        let pixels = ShapeTensor::new([1, 3, height, width]);
        // Whoever looks inside has nothing left out.
        tower.forward(&counter, &pixels, &mut Taps::everything())?;
        Ok(counter.operations())
    }

    fn encoder(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn ImageEncoder>> {
        let info = ImageFamily::info(&*self, config)?;
        on_backend!(
            options,
            w,
            info,
            openclip_core::EagerImageEncoder<_>,
            |backend| self.build(backend, config, w),
            {
                let (config, w) = (config.clone(), w.clone());
                let record =
                    move |options: &RecordOptions| openclip_ort::record_image(&*self, &config, &w, options);
                openclip_ort::runtime::OrtImageEncoder::recorded(
                    record,
                    info,
                    options.precision,
                    &options.ort(),
                )
            }
        )
    }

    fn record(&self, config: &ModelConfig, w: &Weights, options: &RecordOptions) -> Result<OnnxModel> {
        openclip_ort::record_image(self, config, w, options)
    }
}

/// A [`TextFamily`] that can be kept beside others. Implemented for every family.
pub trait AnyTextFamily: Send + Sync {
    /// See [`TextFamily::name`].
    fn name(&self) -> &'static str;
    /// See [`TextFamily::accepts`].
    fn accepts(&self, text_cfg: &TowerConfig) -> bool;
    /// See [`TextFamily::info`].
    fn info(&self, config: &ModelConfig) -> Result<TextInfo>;
    /// Asks `w` for every parameter of the tower, without reading any.
    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()>;
    /// Floating point operations of one text that fills the context. `w` is asked for every parameter.
    fn operations(&self, config: &ModelConfig, w: &Weights) -> Result<u64>;
    /// Builds the tower on the backend that `options` names.
    fn encoder(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn TextEncoder>>;
    /// Records the tower as an ONNX graph. `w` is read when the graph is saved.
    fn record(&self, config: &ModelConfig, w: &Weights, options: &RecordOptions) -> Result<OnnxModel>;
}

impl<F: TextFamily> AnyTextFamily for F {
    fn name(&self) -> &'static str {
        TextFamily::name(self)
    }

    fn accepts(&self, text_cfg: &TowerConfig) -> bool {
        TextFamily::accepts(self, text_cfg)
    }

    fn info(&self, config: &ModelConfig) -> Result<TextInfo> {
        TextFamily::info(self, config)
    }

    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()> {
        self.build(&ShapeBackend, config, w).map(drop)
    }

    fn operations(&self, config: &ModelConfig, w: &Weights) -> Result<u64> {
        let counter = OperationCounter::default();
        let tower = self.build(&counter, config, w)?;
        let ids = ShapeTensor::new([1, TextFamily::info(self, config)?.context_length]);
        tower.forward(&counter, &ids, &mut Taps::everything())?;
        Ok(counter.operations())
    }

    fn encoder(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn TextEncoder>> {
        let info = TextFamily::info(&*self, config)?;
        on_backend!(
            options,
            w,
            info,
            openclip_core::EagerTextEncoder<_>,
            |backend| self.build(backend, config, w),
            {
                let (config, w) = (config.clone(), w.clone());
                let record =
                    move |options: &RecordOptions| openclip_ort::record_text(&*self, &config, &w, options);
                openclip_ort::runtime::OrtTextEncoder::recorded(
                    record,
                    info,
                    options.precision,
                    &options.ort(),
                )
            }
        )
    }

    fn record(&self, config: &ModelConfig, w: &Weights, options: &RecordOptions) -> Result<OnnxModel> {
        openclip_ort::record_text(self, config, w, options)
    }
}

/// A [`CaptionFamily`] that can be kept beside others. Implemented for every family.
pub trait AnyCaptionFamily: Send + Sync {
    /// See [`CaptionFamily::name`].
    fn name(&self) -> &'static str;
    /// See [`CaptionFamily::accepts`].
    fn accepts(&self, config: &ModelConfig) -> bool;
    /// See [`CaptionFamily::info`].
    fn info(&self, config: &ModelConfig) -> Result<CaptionInfo>;
    /// Asks `w` for every parameter of the model, without reading any.
    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()>;
    /// Builds the model on the backend that `options` names.
    fn captioner(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn Captioner>>;
}

impl<F: CaptionFamily> AnyCaptionFamily for F {
    fn name(&self) -> &'static str {
        CaptionFamily::name(self)
    }

    fn accepts(&self, config: &ModelConfig) -> bool {
        CaptionFamily::accepts(self, config)
    }

    fn info(&self, config: &ModelConfig) -> Result<CaptionInfo> {
        CaptionFamily::info(self, config)
    }

    fn declare(&self, config: &ModelConfig, w: &Weights) -> Result<()> {
        self.build(&ShapeBackend, config, w).map(drop)
    }

    fn captioner(
        self: Arc<Self>,
        config: &ModelConfig,
        w: &Weights,
        options: &BackendOptions,
    ) -> Result<Box<dyn Captioner>> {
        let info = CaptionFamily::info(&*self, config)?;
        on_backend!(
            options,
            w,
            info,
            openclip_core::EagerCaptioner<_>,
            |backend| self.build(backend, config, w),
            {
                let (config, w) = (config.clone(), w.clone());
                let record = RecordOptions { precision: options.precision, taps: None };
                let record = move |graph| openclip_ort::record_captions(&*self, &config, &w, graph, &record);
                openclip_ort::runtime::OrtCaptioner::recorded(record, info, &options.ort())
            }
        )
    }
}

/// The families that models are built from. A family that is registered later is asked first.
#[derive(Clone)]
pub struct Families {
    image: Vec<Arc<dyn AnyImageFamily>>,
    text: Vec<Arc<dyn AnyTextFamily>>,
    caption: Vec<Arc<dyn AnyCaptionFamily>>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            image: vec![
                Arc::new(VisionTransformerFamily),
                Arc::new(ModifiedResNetFamily),
                Arc::new(TimmFamily),
            ],
            text: vec![Arc::new(TextTransformerFamily), Arc::new(HuggingFaceTextFamily)],
            caption: vec![Arc::new(CocaFamily)],
        }
    }
}

impl Families {
    /// Adds a family of image towers.
    pub fn register_image(&mut self, family: impl ImageFamily) {
        self.image.insert(0, Arc::new(family));
    }

    /// Adds a family of text towers.
    pub fn register_text(&mut self, family: impl TextFamily) {
        self.text.insert(0, Arc::new(family));
    }

    /// Adds a family of captioners.
    pub fn register_caption(&mut self, family: impl CaptionFamily) {
        self.caption.insert(0, Arc::new(family));
    }

    /// The family of `config`'s image tower.
    ///
    /// # Errors
    /// [`Error::Config`] when no family accepts the section.
    pub fn image(&self, config: &ModelConfig) -> Result<&Arc<dyn AnyImageFamily>> {
        let cfg = &config.vision_cfg;
        let found = self.image.iter().find(|family| family.accepts(cfg));
        found.ok_or_else(|| unknown("vision_cfg", cfg, self.image.iter().map(|family| family.name())))
    }

    /// The family of `config`'s text tower.
    ///
    /// # Errors
    /// [`Error::Config`] when no family accepts the section.
    pub fn text(&self, config: &ModelConfig) -> Result<&Arc<dyn AnyTextFamily>> {
        let cfg = &config.text_cfg;
        let found = self.text.iter().find(|family| family.accepts(cfg));
        found.ok_or_else(|| unknown("text_cfg", cfg, self.text.iter().map(|family| family.name())))
    }

    /// The family of `config`'s captioner.
    ///
    /// # Errors
    /// [`Error::Config`] when the model writes no captions.
    pub fn caption(&self, config: &ModelConfig) -> Result<&Arc<dyn AnyCaptionFamily>> {
        self.caption.iter().find(|family| family.accepts(config)).ok_or_else(|| {
            let message = "the model has no decoder: only CoCa models, whose configuration has a `multimodal_cfg`, \
                           write captions";
            Error::config("model_cfg", message)
        })
    }
}

fn unknown(section: &str, cfg: &TowerConfig, families: impl Iterator<Item = &'static str>) -> Error {
    let kind = ["family", "timm_model_name", "hf_model_name"]
        .iter()
        .find_map(|field| cfg.get(field).map(|value| format!("`{field}` {value}")))
        .unwrap_or_else(|| "its fields".to_owned());
    let families: Vec<_> = families.collect();
    let message = format!("no family builds a tower from {kind}; there are: {}", families.join(", "));
    Error::config(section, message)
}
