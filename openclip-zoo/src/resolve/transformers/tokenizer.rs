//! Which tokenizer a folder of transformers has: CLIP's own, or the one in its files.

use std::path::Path;

use openclip_core::{Error, Result, TowerConfig};
use openclip_text::ClipTokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Kind;

/// Number of ids of CLIP's own tokenizer.
const CLIP_VOCABULARY: u64 = 49408;

/// The files that say it.
pub(super) const FILES: [&str; 2] = ["tokenizer.json", "merges.txt"];

/// Says in `text_cfg` that the tokenizer is the one of `folder`, called `name`, unless it is CLIP's own: a model of as many ids, with the merges of
/// CLIP or none.
///
/// # Errors
/// [`Error::Config`] and [`Error::Io`] for a file that can't be read.
pub(super) fn choose(folder: &Path, name: &str, kind: Kind, text_cfg: &mut TowerConfig) -> Result<()> {
    let has_size = text_cfg.get("vocab_size").and_then(Value::as_u64) == Some(CLIP_VOCABULARY);
    if kind == Kind::Clip && has_size && merges(folder)?.is_none_or(|merges| is_clips(&merges)) {
        return Ok(());
    }
    text_cfg.set("hf_tokenizer_name", name);
    if kind == Kind::Siglip {
        text_cfg.set("tokenizer_kwargs", json!({"clean": "canonicalize"}));
    }
    Ok(())
}

fn is_clips(merges: &[String]) -> bool {
    ClipTokenizer::has_merges(merges.iter().map(String::as_str))
}

/// A `tokenizer.json`, as far as it matters here.
#[derive(Deserialize)]
struct File {
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two tokens, in the older form with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair([String; 2]),
}

/// The merges of the folder's byte-pair tokenizer, `left right` each. None for a folder that has no tokenizer.
fn merges(folder: &Path) -> Result<Option<Vec<String>>> {
    let read = |name: &str| -> Result<Option<(String, String)>> {
        let path = folder.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Some((path.display().to_string(), text)))
    };
    let [json, merges] = FILES;
    if let Some((origin, text)) = read(json)? {
        let file: File =
            serde_json::from_str(&text).map_err(|error| Error::config(origin, error.to_string()))?;
        let line = |merge| match merge {
            Merge::Line(line) => line,
            Merge::Pair([left, right]) => format!("{left} {right}"),
        };
        let merges = file.model.map(|model| model.merges).unwrap_or_default();
        return Ok(Some(merges.into_iter().map(line).collect()));
    }
    // The first line is the version.
    Ok(read(merges)?.map(|(_, text)| text.lines().skip(1).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[(&str, &str)], kind: Kind, vocabulary: usize) -> Result<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut text_cfg = TowerConfig::default();
        text_cfg.set("vocab_size", vocabulary);
        choose(folder.path(), "tiny", kind, &mut text_cfg)?;
        Ok(text_cfg.get("hf_tokenizer_name").map(ToString::to_string))
    }

    #[test]
    fn the_tokenizer_is_the_folders_unless_it_is_clips_own() {
        assert_eq!(chosen(&[], Kind::Clip, 49408).unwrap(), None);
        let json = r#"{"model": {"type": "BPE", "merges": ["i n", ["t", "h"]]}}"#;
        let merges = "#version: 0.2\ni n\nt h\n";
        for (files, kind, vocabulary) in [
            (&[][..], Kind::Clip, 1200),
            (&[], Kind::Siglip, 49408),
            (&[("merges.txt", merges)], Kind::Clip, 49408),
            (&[("tokenizer.json", json)], Kind::Clip, 49408),
            (&[("tokenizer.json", "{}")], Kind::Clip, 49408),
        ] {
            assert!(chosen(files, kind, vocabulary).unwrap().is_some(), "{files:?} {kind:?} {vocabulary}");
        }
        let error = chosen(&[("tokenizer.json", "{")], Kind::Clip, 49408).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
