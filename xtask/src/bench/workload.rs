//! What competitors hold: a checkpoint with random weights, and what is made of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use openclip_core::{
    CheckpointConfig,
    weights::{CanonicalLayout, WeightSource, open_checkpoint},
};
use openclip_vision::{PreprocessConfig, Preprocessor};
use openclip_zoo::{
    ModelSource, Registry, Resolver, WeightsLocation,
    build::{Families, parameters},
    hub::{Hub, HubConfig},
};

use super::{
    case::{Case, Tower},
    inputs, operations,
};
use crate::{
    project,
    python::{Environment, Requirements, execute},
};

/// A model in files.
pub struct Model {
    name: String,
    folder: PathBuf,
    python: PathBuf,
    families: Families,
    checkpoint: Checkpoint,
}

/// A checkpoint that is read by ours.
pub struct Checkpoint {
    /// The configuration beside it.
    pub config: CheckpointConfig,
    /// Its tensors.
    pub source: Arc<dyn WeightSource>,
}

impl Checkpoint {
    /// Opens the checkpoint in a folder.
    ///
    /// # Errors
    /// When it isn't there or can't be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let (registry, hub) = (Registry::bundled(), Hub::new(HubConfig::from_env()));
        let source = ModelSource::Folder(folder.to_owned());
        let model = Resolver::new(&registry, &hub).resolve(&source, None)?;
        match model.weights {
            WeightsLocation::File(file) => {
                let source = Arc::new(CanonicalLayout::new(open_checkpoint(file)?));
                Ok(Self { config: model.config, source })
            }
            other => bail!("{} holds {other:?} instead of a checkpoint", folder.display()),
        }
    }

    /// What prepares images for it.
    ///
    /// # Errors
    /// When its configuration is wrong.
    pub fn preprocessor(&self) -> Result<Preprocessor> {
        let section = self.config.preprocess_cfg.clone().unwrap_or_default();
        let config = PreprocessConfig::default().merged("preprocess_cfg", &section.into())?;
        Ok(Preprocessor::new(config)?)
    }
}

/// The environment of the reference and the peers, with everything installed.
///
/// # Errors
/// When it can't be made.
pub fn environment() -> Result<Environment> {
    let environment = Environment::new("reference-venv");
    environment.install(&Requirements::new("requirements.txt"))?;
    environment.install(&Requirements::new("bench.txt"))?;
    environment.install(&Requirements::new("evaluation.txt"))?;
    Ok(environment)
}

/// A file of `xtask/reference`.
pub fn reference(name: &str) -> PathBuf {
    project::root().join("xtask/reference").join(name)
}

/// The folder of everything that is kept between runs.
pub fn folder() -> PathBuf {
    project::root().join("target/bench")
}

impl Model {
    /// Makes the checkpoint of the architecture `name`, or finds the one made earlier.
    ///
    /// # Errors
    /// When the Python reference can't be installed or doesn't make it.
    pub fn prepare(name: &str) -> Result<Self> {
        let (folder, python) = (folder().join(name), environment()?.python());
        let checkpoint = folder.join("checkpoint");
        // The script writes this file when the weights are there.
        if !checkpoint.join("inputs.json").exists() {
            let mut script = Command::new(&python);
            script.arg(reference("checkpoint.py")).args(["--model", name, "--out"]).arg(&checkpoint);
            execute(script.stdout(io::stderr()))?;
        }
        let checkpoint = Checkpoint::open(&checkpoint)?;
        Ok(Self { name: name.to_owned(), folder, python, families: Families::default(), checkpoint })
    }

    /// The architecture's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of everything that belongs to the model.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint's folder.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }

    /// The checkpoint, opened.
    pub fn contents(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether it writes captions.
    pub fn captions(&self) -> bool {
        self.families.caption(&self.checkpoint.config.model_cfg).is_ok()
    }

    /// The families that build its towers.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// A script of `xtask/reference`, in the environment that has the peers.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(reference(name));
        command
    }

    /// Operations for one input of a tower, where they can be counted.
    pub fn operations(&self, tower: Tower) -> Option<f64> {
        operations::of(&self.checkpoint.config.model_cfg, tower)
    }

    /// Number of values in the parameters of towers.
    ///
    /// # Errors
    /// When no family builds them.
    pub fn parameters(&self, towers: &[Tower]) -> Result<usize> {
        let all = parameters(&self.families, &self.checkpoint.config.model_cfg)?;
        let wanted = |name: &str| match name {
            _ if name.starts_with("visual.") => towers.contains(&Tower::Image),
            _ => towers.contains(&Tower::Text) && !name.starts_with("text_decoder."),
        };
        let sizes =
            all.iter().filter(|(name, _)| wanted(name)).map(|(_, dims)| dims.iter().product::<usize>());
        Ok(sizes.sum())
    }

    /// Writes `count` inputs for each tower of a case that isn't given files: the same every time.
    ///
    /// # Errors
    /// When no family builds a tower, its vocabulary isn't the captions', or a file can't be written.
    pub fn inputs(&self, case: Case, count: usize) -> Result<Vec<PathBuf>> {
        let config = &self.checkpoint.config.model_cfg;
        let write = |tower: &Tower| {
            let (name, array) = match tower {
                Tower::Image => {
                    let size = self.families.image(config)?.info(config)?.image_size;
                    ("image", inputs::pixels(count, size))
                }
                Tower::Text => {
                    let info = self.families.text(config)?.info(config)?;
                    match case {
                        Case::TextCaptions => {
                            ("captions", inputs::captions(count, info.context_length, info.vocab_size)?)
                        }
                        _ => ("text", inputs::full_texts(count, info.context_length, info.vocab_size)),
                    }
                }
            };
            let path = self.folder.join(name).with_extension("npy");
            array.write(&path)?;
            Ok(path)
        };
        let towers = if case.is_of_captions() { &[Tower::Image] } else { case.towers() };
        towers.iter().map(write).collect()
    }
}

/// The folder of photographs as JPEG files, made once of pictures that a package ships.
///
/// # Errors
/// When the package can't be installed or the pictures aren't made.
pub fn photographs() -> Result<PathBuf> {
    let folder = folder().join("photographs");
    let environment = environment()?;
    environment.install(&Requirements::new("bench_photographs.txt").without_dependencies())?;
    let stamp = folder.join("made-by");
    let maker = ["requirements.txt", "bench_photographs.txt", "bench_photographs.py"].map(reference);
    let maker = maker.into_iter().map(fs::read_to_string).collect::<io::Result<String>>()?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == maker) {
        return Ok(folder);
    }
    let packages = environment.packages().context("the Python environment has packages")?;
    let mut script = Command::new(environment.python());
    script.arg(reference("bench_photographs.py")).arg("--source").arg(packages.join("skimage/data"));
    script.arg("--out").arg(&folder).args(["--count", &super::case::PHOTOGRAPHS.to_string()]);
    execute(script.stdout(io::stderr()))?;
    fs::write(&stamp, maker).with_context(|| stamp.display().to_string())?;
    Ok(folder)
}
