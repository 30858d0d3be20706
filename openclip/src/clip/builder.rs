//! Loading a model: what, on what, and which part of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use openclip_core::{
    Captioner, CheckpointConfig, ConfigOverrides, HeightWidth, ImageEncoder, ImageInfo, Precision,
    TextEncoder, TextInfo,
    backend::DeviceSpec,
    weights::{CanonicalLayout, WeightSource, open_checkpoint, open_embedded_checkpoint},
};
use openclip_text::TokenizerFiles;
use openclip_vision::preprocess::{PreprocessConfig, PreprocessOverrides, Preprocessor};
use openclip_zoo::{
    Registry, ResolvedModel, Resolver, WeightsLocation,
    build::{
        self, BackendKind, BackendOptions, Families, LogitParameters, OnnxEncoder, OnnxOptions,
        QuantizedModel, WeightStorage,
    },
    hub::{Hub, HubConfig},
};

use super::{Clip, Deferred, ImageSide, TextSide, tokenizer};
use crate::Result;

/// Collects what a model should be loaded as; [`build`](Self::build) loads it.
#[must_use]
pub struct ClipBuilder {
    model: String,
    pretrained: Option<String>,
    backend: BackendOptions,
    overrides: ConfigOverrides,
    preprocess: PreprocessOverrides,
    image: bool,
    text: bool,
    lazy: bool,
    language: Option<String>,
    registry: Registry,
    families: Families,
    hub: Hub,
}

impl ClipBuilder {
    pub(super) fn new(model: String) -> Self {
        Self {
            model,
            pretrained: None,
            backend: BackendOptions::default(),
            overrides: ConfigOverrides::default(),
            preprocess: PreprocessOverrides::default(),
            image: true,
            text: true,
            lazy: false,
            language: None,
            registry: Registry::bundled(),
            families: Families::default(),
            hub: Hub::new(HubConfig::from_env()),
        }
    }

    /// The weights of an architecture: a pretrained tag or a checkpoint file.
    pub fn pretrained(mut self, tag_or_file: impl Into<String>) -> Self {
        self.pretrained = Some(tag_or_file.into());
        self
    }

    /// The backend; candle where nothing is said.
    pub fn backend(mut self, kind: BackendKind) -> Self {
        self.backend.kind = kind;
        self
    }

    /// The device; the CPU where nothing is said.
    pub fn device(mut self, device: DeviceSpec) -> Self {
        self.backend.device = device;
        self
    }

    /// The precision; `f32` where nothing is said.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.backend.precision = precision;
        self
    }

    /// Threads that share the work of one operation; all cores where nothing is said.
    pub fn threads(mut self, threads: usize) -> Self {
        self.backend.threads = Some(threads.max(1));
        self
    }

    /// A folder where the candle backend keeps packed weights between runs: a model whose weights are kept starts in a
    /// fraction of the time, and processes share their memory. A tower takes about as many bytes as its weights have in the
    /// precision; what is there of a checkpoint that has changed is replaced. See [`BackendOptions::packed_cache`].
    pub fn packed_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.backend.packed_cache = Some(folder.into());
        self
    }

    /// Another input size; the position embedding is resized.
    pub fn image_size(mut self, height: usize, width: usize) -> Self {
        self.overrides.image_size = Some(HeightWidth { height, width });
        self
    }

    /// Another number of tokens per text; the position embedding is resized.
    pub fn context_length(mut self, context_length: usize) -> Self {
        self.overrides.context_length = Some(context_length);
        self
    }

    /// QuickGELU although the configuration doesn't say so.
    pub fn quick_gelu(mut self) -> Self {
        self.overrides.quick_gelu = true;
        self
    }

    /// The text tower as a part of its own, which heeds settings of the configuration that the plain form passes over (the
    /// reference's `force_custom_text`).
    pub fn custom_text(mut self) -> Self {
        self.overrides.custom_text = true;
        self
    }

    /// Other preprocessing than the model's own.
    pub fn preprocess(mut self, overrides: PreprocessOverrides) -> Self {
        self.preprocess = overrides;
        self
    }

    /// The image tower alone; nothing of the text tower is read.
    pub fn image_only(mut self) -> Self {
        (self.image, self.text) = (true, false);
        self
    }

    /// The text tower alone; nothing of the image tower is read.
    pub fn text_only(mut self) -> Self {
        (self.image, self.text) = (false, true);
        self
    }

    /// Loads a tower when it is first needed, for programs that may need only one and don't know which.
    /// [`build`](Self::build) compares both with the checkpoint's header and finds out whether the backend can run them;
    /// what can only be found out by reading weights is an error of the first call that needs them, which takes as long
    /// as loading does. The checkpoint is kept open until then.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// The language of the texts, as NLLB models name them: `eng_Latn`, `fra_Latn`, `zho_Hans`. English where nothing is
    /// said; models without languages refuse it.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// Another registry of architectures and weights than the bundled one.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Other families of towers than the built-in ones.
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// Another hub, cache or progress report than the environment's.
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// Finds the model and downloads what isn't there yet, without loading it.
    ///
    /// # Errors
    /// [`Error::Zoo`](crate::Error::Zoo).
    pub fn resolve(&self) -> Result<ResolvedModel> {
        Ok(self.resolver().resolve_text(&self.model, self.pretrained.as_deref())?)
    }

    /// Downloads the files of a Hugging Face tokenizer that aren't there yet; nothing for models with CLIP's own. They are
    /// needed for texts only.
    ///
    /// # Errors
    /// [`Error::Zoo`](crate::Error::Zoo).
    pub fn tokenizer_files(&self, model: &ResolvedModel) -> Result<Option<TokenizerFiles>> {
        Ok(self.resolver().tokenizer_files(model)?)
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver::new(&self.registry, &self.hub)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`Error::Zoo`](crate::Error::Zoo) when it can't be found or downloaded, [`Error::Core`](crate::Error::Core) when its checkpoint is damaged or doesn't fit
    /// or the backend can't run it, [`Error::Tokenizer`](crate::Error::Tokenizer).
    pub fn build(self) -> Result<Clip> {
        let model = self.resolve()?;
        let tokenizer_files = if self.text { self.tokenizer_files(&model)? } else { None };
        let mut config = model.config;
        let towers = match &model.weights {
            WeightsLocation::Onnx { image, text } => {
                self.towers_of_files(&model.name, &config, image.as_deref(), text.as_deref())?
            }
            weights => {
                self.overrides.apply(&mut config.model_cfg);
                self.towers(&config, &open(weights)?)?
            }
        };
        let image = match towers.image {
            None => None,
            Some((encoder, info)) => {
                self.prepare(&mut config, info.image_size)?;
                let preprocess = config.preprocess_cfg.clone().unwrap_or_default();
                let preprocess = PreprocessConfig::default().merged(&model.name, &preprocess.into())?;
                Some(ImageSide { encoder, preprocessor: Preprocessor::new(preprocess)? })
            }
        };
        let (encoder, info) = towers.text.unzip();
        let choice = tokenizer::Choice {
            model: &model.name,
            info: &model.tokenizer,
            files: tokenizer_files.as_ref(),
            language: self.language.as_deref(),
        };
        let tokenizer = || info.map(|info| choice.open(&info)).transpose();
        let tokenizer = match self.lazy {
            true => tokenizer()?,
            false => {
                // The towers and what stands before them don't wait for each other.
                let image = || image.as_ref().map(|side| side.encoder.get().map(drop));
                let text = || encoder.as_ref().map(|encoder| encoder.get().map(drop));
                let ((image, text), tokenizer) = rayon::join(|| rayon::join(image, text), tokenizer);
                image.transpose()?;
                text.transpose()?;
                tokenizer?
            }
        };
        let text = encoder.zip(tokenizer).map(|(encoder, tokenizer)| TextSide { encoder, tokenizer });
        Ok(Clip {
            name: model.name,
            config,
            scoring: towers.logits.map(Into::into),
            image,
            text,
            captioner: towers.captioner,
        })
    }

    /// The towers that are wanted, from a checkpoint. They are compared with its header; their weights aren't read yet.
    fn towers(&self, config: &CheckpointConfig, source: &Arc<dyn WeightSource>) -> Result<Towers> {
        let (families, config, options) = (&self.families, &config.model_cfg, &self.backend);
        let logits = Some(build::logit_parameters(config, source)?);
        let image = match self.image {
            false => None,
            true => {
                let load = build::image_loader(families, config, source, options)?;
                let info = families.image(config)?.info(config)?;
                Some((Deferred::new(move || Ok(load()?)), info))
            }
        };
        let text = match self.text {
            false => None,
            true => {
                let load = build::text_loader(families, config, source, options)?;
                let info = families.text(config)?.info(config)?;
                Some((Deferred::new(move || Ok(load()?)), info))
            }
        };
        let captioner = match self.image && self.text && families.caption(config).is_ok() {
            false => None,
            true => {
                let load = build::caption_loader(families, config, source, options)?;
                Some(Deferred::new(move || Ok(load()?)))
            }
        };
        Ok(Towers { image, text, captioner, logits })
    }

    /// The towers that are wanted, from ONNX files. A folder that has only one of the two gives that one.
    fn towers_of_files(
        &self,
        name: &str,
        config: &CheckpointConfig,
        image: Option<&Path>,
        text: Option<&Path>,
    ) -> Result<Towers> {
        if self.overrides != ConfigOverrides::default() {
            return Err(openclip_core::Error::InvalidArgument(format!(
                "{name} is an ONNX model, whose image size, context length and activations are built in: override them \
                 when it is exported"
            ))
            .into());
        }
        let image = image
            .filter(|_| self.image)
            .map(|path| build::onnx_image_encoder(&self.families, path, config, &self.backend))
            .transpose()?;
        let text = text
            .filter(|_| self.text)
            .map(|path| build::onnx_text_encoder(&self.families, path, config, &self.backend))
            .transpose()?;
        let logits = [image.as_ref().map(|tower| tower.logits), text.as_ref().map(|tower| tower.logits)];
        Ok(Towers {
            logits: logits.into_iter().flatten().flatten().next(),
            image: image.map(|OnnxEncoder { encoder, .. }| {
                let info = encoder.info().clone();
                (Deferred::ready(encoder), info)
            }),
            text: text.map(|OnnxEncoder { encoder, .. }| {
                let info = encoder.info().clone();
                (Deferred::ready(encoder), info)
            }),
            captioner: None,
        })
    }

    /// Writes the model, or the tower that was chosen, as ONNX files in the builder's precision into `folder`, and its
    /// Hugging Face tokenizer beside them; see [`export_onnx`](build::export_onnx). Backend and device don't matter.
    ///
    /// # Errors
    /// As [`build`](Self::build), and [`Error::Core`](crate::Error::Core) when a file can't be written.
    pub fn export_onnx(self, folder: impl AsRef<Path>, storage: WeightStorage) -> Result<Vec<PathBuf>> {
        let model = self.resolve()?;
        let tokenizer = if self.text { self.tokenizer_files(&model)? } else { None };
        let source = open(&model.weights)?;
        let config = self.overridden(model.config, self.image)?;
        let precision = self.backend.precision;
        let options = OnnxOptions { image: self.image, text: self.text, storage, precision };
        let mut written = build::export_onnx(&self.families, &config, &source, folder.as_ref(), &options)?;
        if let Some(tokenizer) = tokenizer {
            written.extend(tokenizer.copy_to(folder.as_ref())?);
        }
        Ok(written)
    }

    /// Writes the model with its matrices in 8-bit integers into `folder`, about a quarter of the size in f32, and its
    /// Hugging Face tokenizer beside it; see [`quantize`](build::quantize). Both towers are written; backend, device and precision don't matter.
    ///
    /// # Errors
    /// As [`build`](Self::build), and [`Error::Core`](crate::Error::Core) for ONNX models, for a folder that has weights already, and when a
    /// file can't be written.
    pub fn quantize(self, folder: impl AsRef<Path>) -> Result<QuantizedModel> {
        let model = self.resolve()?;
        if matches!(model.weights, WeightsLocation::Onnx { .. }) {
            return Err(openclip_core::Error::InvalidArgument(format!(
                "{} is an ONNX model, which can't be quantised: quantise the checkpoint that it was made from, or export \
                 that in int8",
                model.name
            ))
            .into());
        }
        let tokenizer = self.tokenizer_files(&model)?;
        let source = open(&model.weights)?;
        let config = self.overridden(model.config, true)?;
        let mut written = build::quantize(&self.families, &config, &source, folder.as_ref())?;
        if let Some(tokenizer) = tokenizer {
            written.files.extend(tokenizer.copy_to(folder.as_ref())?);
        }
        Ok(written)
    }

    /// `config` as the builder changes it, as it is written beside weights. With `image` it has the size that images
    /// are prepared in.
    fn overridden(&self, mut config: CheckpointConfig, image: bool) -> Result<CheckpointConfig> {
        self.overrides.apply(&mut config.model_cfg);
        if image {
            let size = self.families.image(&config.model_cfg)?.info(&config.model_cfg)?.image_size;
            self.prepare(&mut config, size)?;
        }
        Ok(config)
    }

    /// Sets how images are prepared. As in the reference the size is the tower's own, whatever the file says.
    fn prepare(&self, config: &mut CheckpointConfig, [height, width]: [usize; 2]) -> Result<()> {
        let preprocess = config.preprocess_cfg.get_or_insert_default();
        self.preprocess.apply(preprocess)?;
        preprocess.insert("size".to_owned(), vec![height, width].into());
        Ok(())
    }
}

/// The towers of a model, without what stands before them.
struct Towers {
    image: Option<(Deferred<Box<dyn ImageEncoder>>, ImageInfo)>,
    text: Option<(Deferred<Box<dyn TextEncoder>>, TextInfo)>,
    captioner: Option<Deferred<Box<dyn Captioner>>>,
    logits: Option<LogitParameters>,
}

/// Opens weights under the names that towers ask for.
fn open(location: &WeightsLocation) -> Result<Arc<dyn WeightSource>> {
    let source = match location {
        WeightsLocation::File(path) => open_checkpoint(path)?,
        WeightsLocation::Bundled { name, bytes } => open_embedded_checkpoint(name, bytes)?,
        location => {
            let message = format!("{location:?} are not weights: they have been turned into ONNX already");
            return Err(openclip_core::Error::InvalidArgument(message).into());
        }
    };
    Ok(Arc::new(CanonicalLayout::new(source)))
}
