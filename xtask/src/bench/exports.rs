//! ONNX files of a model's towers, which peers run. A file is made once for a version of what makes it.

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

/// The file that torch.onnx.export makes of the reference's tower, in f32.
///
/// # Errors
/// When the export fails.
pub fn of_torch(model: &Model, tower: Tower) -> Result<PathBuf> {
    let file = model.folder().join(format!("torch-export-{tower}")).join("tower.onnx");
    let maker = sources(&["requirements.txt", "bench.txt", "bench_export.py"])?;
    once(&file, &maker, || {
        let mut script = model.script("bench_export.py");
        script.arg("--model").arg(model.checkpoint()).args(["--tower", &tower.to_string(), "--out"]);
        execute(script.arg(&file).stdout(io::stderr()))
    })?;
    Ok(file)
}

/// What onnxruntime's dynamic quantization makes of that file for this machine.
///
/// # Errors
/// When the export or the quantization fails.
pub fn quantized(model: &Model, tower: Tower) -> Result<PathBuf> {
    let source = of_torch(model, tower)?;
    let file = model.folder().join(format!("torch-export-{tower}-int8")).join("tower.onnx");
    let reduce_range = !machine::has_int8_dot_products();
    let maker = sources(&["requirements.txt", "bench.txt", "bench_export.py", "bench_quantize.py"])?;
    once(&file, &format!("{maker}# reduce range: {reduce_range}\n"), || {
        let mut script = model.script("bench_quantize.py");
        script.arg("--file").arg(source).arg("--out").arg(&file);
        if reduce_range {
            script.arg("--reduce-range");
        }
        execute(script.stdout(io::stderr()))
    })?;
    Ok(file)
}

/// The file that `openclip export --onnx` makes of a tower. It is made anew, since that is what is measured.
///
/// # Errors
/// When the export fails.
pub fn of_openclip(model: &Model, tower: Tower) -> Result<PathBuf> {
    let folder = model.folder().join(format!("openclip-export-{tower}"));
    let options =
        OnnxOptions { image: tower == Tower::Image, text: tower == Tower::Text, ..OnnxOptions::default() };
    let Checkpoint { config, source } = model.contents();
    export_onnx(model.families(), config, source, &folder, &options)?;
    Ok(folder.join(format!("{tower}.onnx")))
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
