//! How an entrant is started for a case: the command line of its process.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use openclip_core::Precision;

use super::{
    case::{Case, JPEG_BATCH, Tower},
    cold_start::{ColdStart, TEXT},
    comparisons::Entrant,
    competitor::{Resident, Start},
    exports::{self, Export},
    workload::Model,
};
use crate::{
    project,
    python::{execute, generation_packages},
};

/// What everybody is given.
pub struct Setting<'a> {
    /// The model.
    pub model: &'a Model,
    /// What is measured.
    pub case: Case,
    /// Files with the inputs of each tower of the case, or none.
    pub inputs: Vec<PathBuf>,
    /// The folder of photographs, for cases that begin with them.
    pub photographs: Option<PathBuf>,
    /// Threads that share the work of a call.
    pub threads: usize,
}

impl Setting<'_> {
    /// Starts an entrant and waits until it is ready.
    ///
    /// # Errors
    /// When it can't be started or fails.
    pub fn start(&self, entrant: Entrant) -> Result<Start> {
        let name = entrant.to_string();
        let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let file = format!("{}-{file}", self.case);
        let log = self.model.folder().join(format!("{file}.log"));
        if self.case == Case::Start {
            let output = self.model.folder().join(format!("{file}.npy"));
            return ColdStart::start(&name, self.process(entrant, &output)?, &output, &log);
        }
        let command = match (self.case, entrant) {
            (
                Case::Image | Case::TextCaptions | Case::TextFull | Case::Memory,
                Entrant::PyTorch(precision),
            ) => {
                let mut command = self.towers("pytorch");
                command.args(["--precision", &precision.to_string()]);
                command.arg("--model").arg(self.model.checkpoint());
                command
            }
            (
                Case::Image | Case::TextCaptions | Case::TextFull | Case::Memory,
                Entrant::OnnxRuntime(_) | Entrant::OpenclipExport,
            ) => {
                let mut command = self.towers("onnxruntime");
                command.arg("--files");
                for &tower in self.case.towers() {
                    command.arg(onnx_file(self.model, entrant, tower)?);
                }
                command
            }
            (Case::Jpeg, Entrant::OnnxRuntime(_)) => {
                let mut command = self.pipeline("embed")?;
                command.arg("--file").arg(onnx_file(self.model, entrant, Tower::Image)?);
                command.args([
                    "--threads",
                    &self.threads.to_string(),
                    "--batch-size",
                    &JPEG_BATCH.to_string(),
                ]);
                command
            }
            (Case::Caption, Entrant::PyTorch(Precision::F32)) => {
                let mut command = self.model.script("bench_caption.py");
                command.env("PYTHONPATH", generation_packages()?);
                command.args(["--threads", &self.threads.to_string(), "--model"]);
                command.arg(self.model.checkpoint()).arg("--inputs").args(&self.inputs);
                command
            }
            (Case::Caption | Case::CaptionBeams, Entrant::Rereading) => {
                let mut command = self.worker()?;
                command.args(["--backend", entrant.backend(), "--anew"]);
                command
            }
            (Case::Preprocess | Case::Decode | Case::Resize, Entrant::Pillow) => {
                self.pipeline(self.case.name())?
            }
            (Case::Preprocess | Case::Decode | Case::Resize, Entrant::Preprocessor) => self.worker()?,
            (Case::Retrieval, Entrant::Metrics) => self.worker()?,
            (Case::Retrieval, Entrant::ClipBenchmark) => {
                let mut command = self.model.script("bench_retrieval.py");
                command.args(["--threads", &self.threads.to_string()]);
                command
            }
            (_, Entrant::Ours(backend, precision)) if !self.case.is_without_model() => {
                let mut command = self.worker()?;
                command.args(["--backend", backend, "--precision", &precision.to_string()]);
                command
            }
            (case, entrant) => bail!("{entrant} can't take part in {case}"),
        };
        Resident::start(&name, command, &log)
    }

    /// A process that does one thing, into `output`, and ends.
    fn process(&self, entrant: Entrant, output: &Path) -> Result<Command> {
        let (model, threads) = (self.model.checkpoint(), self.threads.to_string());
        let mut command = match entrant {
            Entrant::PyTorch(Precision::F32) => {
                let mut command = self.model.script("bench_start.py");
                command.arg("--model").arg(model).args(["--text", TEXT]).arg("--out").arg(output);
                command
            }
            Entrant::Ours(backend, precision) => {
                // `build_command` put it beside this program.
                let program = env::current_exe().context("this program's file")?.with_file_name("openclip");
                let mut command = Command::new(program.with_extension(env::consts::EXE_EXTENSION));
                command.args(["embed", "text", TEXT, "--backend", backend, "--precision"]);
                command.arg(precision.to_string()).arg("--model");
                command.arg(format!("local-dir:{}", model.display())).arg("-o").arg(output);
                command
            }
            _ => bail!("{entrant} can't take part in {}", self.case),
        };
        command.args(["--threads", &threads]);
        Ok(command)
    }

    fn towers(&self, engine: &str) -> Command {
        let mut command = self.model.script("bench_peer.py");
        command.args(["--engine", engine, "--threads", &self.threads.to_string(), "--inputs"]);
        command.args(&self.inputs);
        command
    }

    fn pipeline(&self, stage: &str) -> Result<Command> {
        let mut command = self.model.script("bench_pipeline.py");
        command.args(["--stage", stage, "--model"]).arg(self.model.checkpoint());
        command.arg("--images").arg(self.photographs.as_ref().context("there are photographs")?);
        Ok(command)
    }

    fn worker(&self) -> Result<Command> {
        let (case, threads) = (self.case.name(), self.threads.to_string());
        let mut command = Command::new(env::current_exe().context("this program's file")?);
        command.args(["bench-worker", "--case", case, "--threads", &threads]);
        command.arg("--model").arg(self.model.checkpoint());
        // The candle backend works on rayon's global pool.
        command.env("RAYON_NUM_THREADS", &threads);
        if !self.inputs.is_empty() {
            command.arg("--inputs").args(&self.inputs);
        }
        if let Some(folder) = &self.photographs {
            command.arg("--images").arg(folder);
        }
        Ok(command)
    }
}

/// The ONNX file that an entrant reads, if it does.
fn export(entrant: Entrant) -> Option<Export> {
    match entrant {
        Entrant::OnnxRuntime(Precision::Int8) => Some(Export::Quantized),
        Entrant::OnnxRuntime(_) => Some(Export::Torch),
        Entrant::OpenclipExport => Some(Export::Openclip),
        _ => None,
    }
}

fn onnx_file(model: &Model, entrant: Entrant, tower: Tower) -> Result<PathBuf> {
    export(entrant).with_context(|| format!("{entrant} reads no ONNX file"))?.make(model, tower)
}

/// Builds the real command, as users have it: with default features, for release.
///
/// # Errors
/// When cargo fails.
pub fn build_command() -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--package", "openclip"]).current_dir(project::root());
    execute(cargo.stdout(io::stderr())).context("the command `openclip`")
}

/// Bytes of the weights that an entrant holds for `towers`: of the files of those that read ONNX, and for the others of so
/// many values in its precision.
pub fn weight_bytes(model: &Model, entrant: Entrant, towers: &[Tower]) -> Option<u64> {
    if let Some(export) = export(entrant) {
        return towers.iter().map(|&tower| exports::size(&export.file(model, tower))).sum();
    }
    if matches!(entrant, Entrant::Preprocessor | Entrant::Pillow | Entrant::Metrics | Entrant::ClipBenchmark)
    {
        return None;
    }
    let bytes = match entrant.precision() {
        Precision::F32 => 4,
        Precision::F16 | Precision::Bf16 => 2,
        _ => 1,
    };
    model.parameters(towers).ok().map(|values| (values * bytes) as u64)
}
