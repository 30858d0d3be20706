//! What competitors run: a checkpoint with random weights, the ONNX files made of it, and inputs, all in files that every
//! competitor reads.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use openclip_core::{
    CheckpointConfig, HostTensor, TokenBatch,
    files::write_atomically,
    weights::{CanonicalLayout, WeightSource, open_checkpoint},
};
use openclip_zoo::{
    ModelSource, Registry, Resolver, WeightsLocation,
    build::{Families, OnnxOptions, export_onnx},
    hub::{Hub, HubConfig},
};

use super::comparisons::Tower;
use crate::{
    project,
    python::{Environment, Requirements, execute},
};

/// A model in files.
pub struct Model {
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
}

impl Model {
    /// Makes the checkpoint of the architecture `name`, or finds the one made earlier.
    ///
    /// # Errors
    /// When the Python reference can't be installed or doesn't make it.
    pub fn prepare(name: &str) -> Result<Self> {
        let environment = Environment::new("reference-venv");
        environment.install(&Requirements::new("requirements.txt"))?;
        environment.install(&Requirements::new("bench.txt"))?;
        let (folder, python) = (project::root().join("target/bench").join(name), environment.python());
        let checkpoint = folder.join("checkpoint");
        // The script writes this file when the weights are there.
        if !checkpoint.join("inputs.json").exists() {
            let mut script = script(&python, "checkpoint.py");
            execute(script.args(["--model", name, "--out"]).arg(&checkpoint).stdout(io::stderr()))?;
        }
        let checkpoint = Checkpoint::open(&checkpoint)?;
        Ok(Self { folder, python, families: Families::default(), checkpoint })
    }

    /// The folder of everything that belongs to the model.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint's folder.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }

    /// The script that runs peers, in the environment that has them.
    pub fn peer(&self) -> Command {
        script(&self.python, "bench_peer.py")
    }

    /// The file that torch.onnx.export makes of the reference's tower. It is made once for a version of the exporter.
    ///
    /// # Errors
    /// When the export fails.
    pub fn torch_export(&self, tower: Tower) -> Result<PathBuf> {
        let folder = self.folder.join(format!("torch-export-{tower}"));
        let (file, stamp) = (folder.join("tower.onnx"), folder.join("made-by"));
        let maker =
            ["requirements.txt", "bench.txt", "bench_export.py"].map(reference).map(fs::read_to_string);
        let maker = maker.into_iter().collect::<io::Result<String>>().context("the exporter's script")?;
        if fs::read_to_string(&stamp).is_ok_and(|found| found == maker) {
            return Ok(file);
        }
        let mut script = script(&self.python, "bench_export.py");
        script.arg("--model").arg(self.checkpoint()).args(["--tower", &tower.to_string(), "--out"]);
        execute(script.arg(&file).stdout(io::stderr()))?;
        fs::write(&stamp, maker).with_context(|| stamp.display().to_string())?;
        Ok(file)
    }

    /// The file that `openclip export --onnx` makes of a tower. It is made anew, since that is what is measured.
    ///
    /// # Errors
    /// When the export fails.
    pub fn openclip_export(&self, tower: Tower) -> Result<PathBuf> {
        let folder = self.folder.join(format!("openclip-export-{tower}"));
        let options = OnnxOptions {
            image: tower == Tower::Image,
            text: tower == Tower::Text,
            ..OnnxOptions::default()
        };
        let Checkpoint { config, source } = &self.checkpoint;
        export_onnx(&self.families, config, source, &folder, &options)?;
        Ok(folder.join(format!("{tower}.onnx")))
    }

    /// Writes the inputs of a tower: `count` of them, the same every time.
    ///
    /// # Errors
    /// When no family builds the tower, or the file can't be written.
    pub fn inputs(&self, tower: Tower, count: usize) -> Result<Inputs> {
        let config = &self.checkpoint.config.model_cfg;
        let mut random = SplitMix64(1);
        let (dims, extension, bytes) = match tower {
            Tower::Image => {
                let [height, width] = self.families.image(config)?.info(config)?.image_size;
                let values = (0..count * 3 * height * width).map(|_| random.uniform(-1.7, 1.7));
                (vec![3, height, width], "f32", values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
            }
            Tower::Text => {
                let info = self.families.text(config)?.info(config)?;
                let (length, end_of_text) = (info.context_length, info.vocab_size.saturating_sub(1) as i64);
                let ids = (0..count * length).map(|index| match index % length {
                    // CLIP's vocabularies close with the end-of-text token. In the last place it lets nobody cut a text.
                    last if last + 1 == length => end_of_text,
                    _ => 1 + random.below(end_of_text.unsigned_abs().saturating_sub(2)) as i64,
                });
                (vec![length], "i64", ids.flat_map(i64::to_le_bytes).collect())
            }
        };
        let path = self.folder.join(format!("{tower}.{extension}"));
        write_atomically(&path, |file| {
            file.write_all(&bytes).map_err(|error| openclip_core::Error::io(&path, error))
        })?;
        Ok(Inputs { path, dims })
    }
}

fn reference(name: &str) -> PathBuf {
    project::root().join("xtask/reference").join(name)
}

fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(reference(name));
    command
}

/// A file of inputs, one after the other, in 32-bit floats (`.f32`) or 64-bit integers (`.i64`).
#[derive(Clone, Debug, clap::Args)]
pub struct Inputs {
    /// The file.
    #[arg(long = "inputs")]
    pub path: PathBuf,
    /// The dimensions of one input.
    #[arg(long, num_args = 1..)]
    pub dims: Vec<usize>,
}

impl Inputs {
    /// The arguments that say this to a competitor.
    pub fn arguments(&self) -> Vec<OsString> {
        let dims = self.dims.iter().map(|dim| dim.to_string().into());
        ["--inputs".into(), self.path.clone().into(), "--dims".into()].into_iter().chain(dims).collect()
    }

    /// The first `count` inputs as pixels, `[N, 3, H, W]`.
    ///
    /// # Errors
    /// When the file can't be read or has fewer.
    pub fn pixels(&self, count: usize) -> Result<HostTensor> {
        let values = self.read(count)?.into_iter().map(f32::from_le_bytes).collect();
        Ok(HostTensor::new([&[count], self.dims.as_slice()].concat(), values)?)
    }

    /// The first `count` inputs as token ids, `[N, L]`.
    ///
    /// # Errors
    /// When the file can't be read, has fewer, or an id is out of range.
    pub fn tokens(&self, count: usize) -> Result<TokenBatch> {
        let ids = self.read(count)?.into_iter().map(|id| u32::try_from(i64::from_le_bytes(id)));
        let ids = ids.collect::<Result<_, _>>().with_context(|| self.path.display().to_string())?;
        Ok(TokenBatch::new(count, self.dims.iter().product(), ids)?)
    }

    fn read<const N: usize>(&self, count: usize) -> Result<Vec<[u8; N]>> {
        let bytes = fs::read(&self.path).with_context(|| self.path.display().to_string())?;
        let wanted = count * self.dims.iter().product::<usize>();
        let values: Vec<_> = bytes.as_chunks().0.iter().copied().take(wanted).collect();
        anyhow::ensure!(values.len() == wanted, "{} holds fewer than {count} inputs", self.path.display());
        Ok(values)
    }
}

/// Vigna's generator `splitmix64` (public domain, <https://prng.di.unimi.it/splitmix64.c>).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1_u64 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert!((0..1000).all(|_| random.below(7) < 7 && (-2.0..3.0).contains(&random.uniform(-2.0, 3.0))));
    }

    #[test]
    fn inputs_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.i64");
        fs::write(&path, [5_i64, 6, 7, 8].map(i64::to_le_bytes).concat()).unwrap();
        let inputs = Inputs { path, dims: vec![2] };
        assert_eq!(inputs.tokens(1).unwrap(), TokenBatch::new(1, 2, vec![5, 6]).unwrap());
        assert_eq!(inputs.tokens(2).unwrap().rows(), 2);
        assert!(inputs.tokens(3).unwrap_err().to_string().contains("fewer than 3 inputs"));

        let path = folder.path().join("pixels.f32");
        fs::write(&path, [0.5_f32, -1.0].map(f32::to_le_bytes).concat()).unwrap();
        let inputs = Inputs { path, dims: vec![1, 2] };
        assert_eq!(inputs.pixels(1).unwrap(), HostTensor::new([1, 1, 2], vec![0.5, -1.0]).unwrap());
    }
}
