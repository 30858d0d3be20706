//! Models on disk: a folder with `open_clip_config.json` and weights or ONNX files, or as transformers saves it, and a file
//! with weights beside such a configuration.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use openclip_core::CheckpointConfig;

use super::{
    CONFIG_FILE, Home, Origin, ResolveWarning, ResolvedModel, WeightsLocation, checkpoint_config, tokenizer,
    transformers,
};
use crate::{Error, Result};

/// The ONNX file of an image tower.
pub(crate) const IMAGE_ONNX: &str = "image.onnx";
/// The ONNX file of a text tower.
pub(crate) const TEXT_ONNX: &str = "text.onnx";

/// The names that the reference prefers, in its order.
const PREFERRED: [&str; 8] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
];

pub(super) fn resolve_folder(folder: &Path) -> Result<ResolvedModel> {
    let fail = |message: &str| Err(Error::NotAModel { path: folder.to_owned(), message: message.to_owned() });
    if !folder.is_dir() {
        return fail(if folder.exists() {
            "`local-dir:` takes a folder, and this is a file"
        } else {
            "there is no such folder"
        });
    }
    let Some(config) = config_of(folder)? else {
        return fail(&format!(
            "the folder has no {CONFIG_FILE}, which says what model its weights are, nor a config.json of transformers"
        ));
    };
    let (weights, warning) = find_weights(folder)?;
    let warnings = warning.into_iter().collect();
    build(format!("local-dir:{}", folder.display()), folder, folder, config, weights, warnings)
}

/// The configuration in `folder`, and what error messages call it.
fn config_of(folder: &Path) -> Result<Option<(String, CheckpointConfig)>> {
    let path = folder.join(CONFIG_FILE);
    match path.is_file() {
        true => Ok(Some((path.display().to_string(), read_config(&path)?))),
        false => {
            let name = folder.file_name().map(|name| name.to_string_lossy());
            transformers::read_config(folder, name.as_deref().unwrap_or("tokenizer"))
        }
    }
}

pub(super) fn resolve_file(file: &Path) -> Result<ResolvedModel> {
    let fail = |message: String| Err(Error::NotAModel { path: file.to_owned(), message });
    if !file.is_file() {
        return fail("there is no such file".to_owned());
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let Some(config) = config_of(folder)? else {
        return fail(format!(
            "there is no {CONFIG_FILE} or config.json of transformers beside the file, so it isn't known what model it is; \
             give the architecture's name as the model and this file as `--pretrained`"
        ));
    };
    let weights = WeightsLocation::File(file.to_owned());
    build(file.display().to_string(), file, folder, config, weights, Vec::new())
}

fn build(
    name: String,
    given: &Path,
    folder: &Path,
    (origin, config): (String, CheckpointConfig),
    weights: WeightsLocation,
    warnings: Vec<ResolveWarning>,
) -> Result<ResolvedModel> {
    Ok(ResolvedModel {
        name,
        origin: Origin::Local(given.to_owned()),
        tokenizer: tokenizer::of_config(&config.model_cfg, Home::Folder(folder))?,
        config: checkpoint_config(&origin, config.model_cfg, config.preprocess_cfg.as_ref())?,
        weights,
        warnings,
    })
}

pub(super) fn read_config(path: &Path) -> Result<CheckpointConfig> {
    let text = std::fs::read_to_string(path).map_err(|error| openclip_core::Error::io(path, error))?;
    Ok(CheckpointConfig::from_json(&path.display().to_string(), &text)?)
}

/// The weights of a folder: a checkpoint, else ONNX files. A checkpoint goes first, since it runs on every backend.
fn find_weights(folder: &Path) -> Result<(WeightsLocation, Option<ResolveWarning>)> {
    let onnx = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    match (find_checkpoint(folder), onnx(IMAGE_ONNX), onnx(TEXT_ONNX)) {
        (Err(error), None, None) => Err(error),
        (Err(_), image, text) => Ok((WeightsLocation::Onnx { image, text }, None)),
        (Ok((path, warning)), ..) => Ok((WeightsLocation::File(path), warning)),
    }
}

/// The checkpoint of a folder, as the reference chooses: a file with one of the preferred names, else the first by name, a
/// safetensors file before the others.
pub(crate) fn find_checkpoint(folder: &Path) -> Result<(PathBuf, Option<ResolveWarning>)> {
    let io = |error| openclip_core::Error::io(folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let extension = path.extension().and_then(OsStr::to_str);
        if extension.is_some_and(|extension| matches!(extension, "safetensors" | "bin" | "pth"))
            && path.is_file()
        {
            found.push(path);
        }
    }
    found.sort_by_key(|path| (path.extension() != Some(OsStr::new("safetensors")), path.clone()));
    let named = |name: &str| found.iter().find(|path| path.file_name() == Some(OsStr::new(name))).cloned();
    if let Some(path) = PREFERRED.iter().find_map(|name| named(name)) {
        return Ok((path, None));
    }
    let mut found = found.into_iter();
    let Some(used) = found.next() else {
        let message = format!(
            "the folder has no weights: looked for {}, for any *.safetensors, *.bin or *.pth, and for {IMAGE_ONNX} and \
             {TEXT_ONNX}",
            PREFERRED.join(", ")
        );
        return Err(Error::NotAModel { path: folder.to_owned(), message });
    };
    let others: Vec<_> =
        found.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    let warning =
        (!others.is_empty()).then(|| ResolveWarning::SeveralCheckpoints { used: used.clone(), others });
    Ok((used, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 32}, "text_cfg": {"context_length": 16,
        "hf_tokenizer_name": "org/name"}}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}"#;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let contents = if *name == CONFIG_FILE { CONFIG } else { "" };
            std::fs::write(folder.path().join(name), contents).unwrap();
        }
        folder
    }

    #[test]
    fn checkpoints_are_chosen_as_the_reference_does() {
        // (files, chosen, whether the choice deserves a warning); the choices are those of the reference's function.
        let cases: [(&[&str], &str, bool); 9] = [
            (
                &["open_clip_pytorch_model.bin", "open_clip_model.safetensors"],
                "open_clip_model.safetensors",
                false,
            ),
            (&["open_clip_pytorch_model.bin", "a.safetensors"], "open_clip_pytorch_model.bin", false),
            (&["model.safetensors", "open_clip_pytorch_model.pth"], "open_clip_pytorch_model.pth", false),
            (&["model.pth", "pytorch_model.bin"], "pytorch_model.bin", false),
            (&["b.safetensors", "a.bin"], "b.safetensors", true),
            (&["z.bin", "a.pth"], "a.pth", true),
            (&["epoch_2.bin", "epoch_10.bin"], "epoch_10.bin", true),
            (&["only.pth", "notes.txt", "x.pt"], "only.pth", false),
            (&[".hidden.bin"], ".hidden.bin", false),
        ];
        for (files, chosen, warns) in cases {
            let folder = folder(files);
            let (path, warning) = find_checkpoint(folder.path()).unwrap();
            assert_eq!(path.file_name(), Some(OsStr::new(chosen)), "{files:?}");
            assert_eq!(warning.is_some(), warns, "{files:?}");
        }
    }

    #[test]
    fn onnx_files_stand_in_for_weights() {
        let resolve = |files: &[&str]| {
            let folder = folder(files);
            (resolve_folder(folder.path()).map(|model| model.weights), folder)
        };
        let (weights, folder) = resolve(&[CONFIG_FILE, IMAGE_ONNX]);
        let image = Some(folder.path().join(IMAGE_ONNX));
        assert_eq!(weights.unwrap(), WeightsLocation::Onnx { image, text: None });
        let (weights, folder) = resolve(&[CONFIG_FILE, IMAGE_ONNX, TEXT_ONNX, "model.safetensors"]);
        assert_eq!(weights.unwrap(), WeightsLocation::File(folder.path().join("model.safetensors")));
    }

    #[test]
    fn a_folder_and_a_file_in_it_are_the_same_model() {
        let folder = folder(&[CONFIG_FILE, "model.safetensors"]);
        let from_folder = resolve_folder(folder.path()).unwrap();
        let from_file = resolve_file(&folder.path().join("model.safetensors")).unwrap();
        for model in [&from_folder, &from_file] {
            assert_eq!(model.config, from_folder.config);
            assert_eq!(model.weights, WeightsLocation::File(folder.path().join("model.safetensors")));
            assert_eq!(model.tokenizer.context_length, 16);
            assert_eq!(model.tokenizer.source, crate::TokenizerSource::Folder(folder.path().to_owned()));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = folder(&[]);
        let no_weights = folder(&[CONFIG_FILE, "weights.pt"]);
        let no_config = folder(&["model.safetensors"]);
        let cases = [
            (resolve_folder(empty.path()), "has no open_clip_config.json"),
            (resolve_folder(no_weights.path()), "looked for open_clip_model.safetensors"),
            (resolve_folder(Path::new("/nowhere/at/all")), "no such folder"),
            (resolve_folder(&no_config.path().join("model.safetensors")), "this is a file"),
            (resolve_file(&no_config.path().join("model.safetensors")), "`--pretrained`"),
            (resolve_file(&no_config.path().join("other.safetensors")), "no such file"),
        ];
        for (result, expected) in cases {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        std::fs::write(no_weights.path().join("a.bin"), "").unwrap();
        std::fs::write(no_weights.path().join(CONFIG_FILE), "{\"model_cfg\": ").unwrap();
        let message = resolve_folder(no_weights.path()).unwrap_err().to_string();
        assert!(message.contains(CONFIG_FILE), "{message}");
    }
}
