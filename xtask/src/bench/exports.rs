//! ONNX files of a model's towers, which peers run.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use openclip_zoo::build::{OnnxOptions, export_onnx};

use super::{
    case::Tower,
    machine,
    workload::{Checkpoint, Model, reference},
};
use crate::python::execute;

/// An ONNX file of a tower, by what makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// torch.onnx.export, of the reference in f32.
    Torch,
    /// onnxruntime's dynamic quantization, of that file and for this machine.
    Quantized,
    /// `openclip export --onnx`.
    Openclip,
}

impl Export {
    /// Where the file is once it has been made.
    pub fn file(self, model: &Model, tower: Tower) -> PathBuf {
        let (folder, name) = match self {
            Self::Torch => (format!("torch-export-{tower}"), "tower".to_owned()),
            Self::Quantized => (format!("torch-export-{tower}-int8"), "tower".to_owned()),
            Self::Openclip => (format!("openclip-export-{tower}"), tower.to_string()),
        };
        model.folder().join(folder).join(name + ".onnx")
    }

    /// Makes the file, unless the same maker has made it before, and says where it is.
    ///
    /// # Errors
    /// When the export or the quantization fails.
    pub fn make(self, model: &Model, tower: Tower) -> Result<PathBuf> {
        let file = self.file(model, tower);
        match self {
            Self::Torch => {
                let maker = sources(&["requirements.txt", "bench.txt", "bench_export.py"])?;
                once(&file, &maker, || {
                    let mut script = model.script("bench_export.py");
                    script.arg("--model").arg(model.checkpoint()).args(["--tower", &tower.to_string()]);
                    execute(script.arg("--out").arg(&file).stdout(io::stderr()))
                })?;
            }
            Self::Quantized => {
                let source = Self::Torch.make(model, tower)?;
                let reduce_range = !machine::has_int8_dot_products();
                let maker =
                    sources(&["requirements.txt", "bench.txt", "bench_export.py", "bench_quantize.py"])?;
                once(&file, &format!("{maker}# reduce range: {reduce_range}\n"), || {
                    let mut script = model.script("bench_quantize.py");
                    script.arg("--file").arg(source).arg("--out").arg(&file);
                    if reduce_range {
                        script.arg("--reduce-range");
                    }
                    execute(script.stdout(io::stderr()))
                })?;
            }
            // Anew each time, since that is what is measured.
            Self::Openclip => {
                let options = OnnxOptions {
                    image: tower == Tower::Image,
                    text: tower == Tower::Text,
                    ..OnnxOptions::default()
                };
                let Checkpoint { config, source } = model.contents();
                let folder = file.parent().context("the file's folder")?;
                export_onnx(model.families(), config, source, folder, &options)?;
            }
        }
        Ok(file)
    }
}

/// Bytes of an exported file and of the weights beside it.
pub fn size(file: &Path) -> Option<u64> {
    let entries = fs::read_dir(file.parent()?).ok()?;
    let weights = entries.flatten().filter(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|extension| extension == "onnx" || extension == "data")
    });
    Some(weights.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
}

/// Runs `make` unless `file` has been made by the same maker.
fn once(file: &Path, maker: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = file.with_file_name("made-by");
    if file.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == maker) {
        return Ok(());
    }
    make()?;
    fs::write(&stamp, maker).with_context(|| stamp.display().to_string())
}

fn sources(names: &[&str]) -> Result<String> {
    let texts = names.iter().map(|name| fs::read_to_string(reference(name)));
    texts.collect::<io::Result<String>>().context("the exporter's script")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_again_when_its_maker_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tower.onnx");
        let mut made = 0;
        let mut make = |maker| {
            let outcome = once(&file, maker, || {
                made += 1;
                Ok(fs::write(&file, "12345")?)
            });
            outcome.unwrap();
        };
        make("a");
        make("a");
        make("b");
        fs::remove_file(&file).unwrap();
        make("b");
        assert_eq!(made, 3);
        assert!(once(&file, "c", || anyhow::bail!("no")).is_err());
        fs::write(folder.path().join("tower.onnx.data"), "123").unwrap();
        assert_eq!(size(&file), Some(8), "not the stamp");
    }
}
