//! The registry of architectures and pretrained tags: TOML files that are compiled in, each parsed when first needed, and
//! what a program adds at run time.

mod nearest;
mod record;

use std::path::Path;
use std::sync::OnceLock;

use openclip_core::{CheckpointConfig, ModelConfig};

use crate::{Error, Result};
use record::Family;

pub(crate) use nearest::nearest;
pub(crate) use record::weight_files;
pub use record::{Address, Architecture, Preprocess, Pretrained, Profile, clean_tag};

/// A compiled-in file of the registry.
struct Bundled {
    origin: &'static str,
    text: &'static str,
    parsed: OnceLock<Result<Vec<Architecture>, String>>,
}

macro_rules! bundled {
    ($($file:literal),* $(,)?) => {
        [$(Bundled {
            origin: $file,
            text: include_str!(concat!("../../registry/", $file)),
            parsed: OnceLock::new(),
        }),*]
    };
}

static BUNDLED: [Bundled; 21] = bundled![
    "rn.toml",
    "rn-quickgelu.toml",
    "vit.toml",
    "vit-quickgelu.toml",
    "worldwide.toml",
    "clipa.toml",
    "convnext.toml",
    "siglip.toml",
    "siglip2.toml",
    "pe-core.toml",
    "eva01.toml",
    "eva02.toml",
    "vitamin.toml",
    "mobileclip.toml",
    "mobileclip2.toml",
    "timm.toml",
    "roberta.toml",
    "xlm-roberta.toml",
    "mt5.toml",
    "nllb.toml",
    "coca.toml",
];

/// The model that is compiled in.
#[cfg(feature = "emoji-clip")]
static EMOJI_CLIP: [Bundled; 1] = bundled!["emoji-clip.toml"];
#[cfg(not(feature = "emoji-clip"))]
static EMOJI_CLIP: [Bundled; 0] = [];

impl Bundled {
    fn architectures(&self) -> Result<&[Architecture]> {
        self.parsed
            .get_or_init(|| parse(self.text).map_err(|error| error.to_string()))
            .as_deref()
            .map_err(|message| Error::Registry { origin: self.origin.to_owned(), message: message.clone() })
    }

    /// Whether the file may have an architecture of this name, found out without parsing it: a start needs one family.
    fn mentions(&self, name: &str) -> bool {
        let line = format!("\nname = \"{name}\"\n");
        self.text.contains(&line)
    }
}

fn parse(text: &str) -> Result<Vec<Architecture>, toml::de::Error> {
    let Family { family, mut architecture } = toml::from_str(text)?;
    for record in &mut architecture {
        record.family.clone_from(&family);
    }
    Ok(architecture)
}

/// The architectures that can be built by name, and their pretrained tags.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    has_bundled: bool,
    /// Later ones hide earlier ones and bundled ones of the same name.
    added: Vec<Architecture>,
}

impl Registry {
    /// What the crate knows. Costs nothing: a family is parsed when one of its names is asked for.
    pub fn bundled() -> Self {
        Self { has_bundled: true, added: Vec::new() }
    }

    /// Nothing but what is added.
    pub fn empty() -> Self {
        Self::default()
    }

    fn families(&self) -> impl Iterator<Item = &'static Bundled> {
        BUNDLED.iter().chain(&EMOJI_CLIP).filter(|_| self.has_bundled)
    }

    /// All architectures, in the reference's order: by name, numbers by value.
    ///
    /// # Errors
    /// [`Error::Registry`] when a file of the registry is malformed.
    pub fn architectures(&self) -> Result<Vec<&Architecture>> {
        let mut all: Vec<&Architecture> = self.added.iter().collect();
        for family in self.families() {
            let hidden = |record: &&Architecture| self.added(&record.name).is_none();
            all.extend(family.architectures()?.iter().filter(hidden));
        }
        all.sort_by(|a, b| nearest::natural_order(&a.name, &b.name));
        Ok(all)
    }

    /// The architecture of this name. As in the reference, `/` may stand for `-`.
    ///
    /// # Errors
    /// [`Error::UnknownArchitecture`] with the nearest right names.
    pub fn architecture(&self, name: &str) -> Result<&Architecture> {
        let clean = name.replace('/', "-");
        if let Some(record) = self.added(&clean) {
            return Ok(record);
        }
        for family in self.families().filter(|family| family.mentions(&clean)) {
            if let Some(record) = family.architectures()?.iter().find(|record| record.name == clean) {
                return Ok(record);
            }
        }
        let names = self.architectures()?;
        let nearest = nearest(name, names.iter().map(|record| record.name.as_str()));
        Err(Error::UnknownArchitecture { name: name.to_owned(), nearest })
    }

    fn added(&self, name: &str) -> Option<&Architecture> {
        self.added.iter().find(|record| record.name == name)
    }

    /// The architecture and the pretrained record of a tag. Case doesn't matter in a tag, and `-` is `_`.
    ///
    /// # Errors
    /// [`Error::UnknownArchitecture`]; [`Error::UnknownTag`] with the tags that the architecture has.
    pub fn pretrained(&self, name: &str, tag: &str) -> Result<(&Architecture, &Pretrained)> {
        let architecture = self.architecture(name)?;
        let clean = clean_tag(tag);
        match architecture.pretrained.iter().find(|pretrained| pretrained.tag == clean) {
            Some(pretrained) => Ok((architecture, pretrained)),
            None => Err(unknown_tag(architecture, tag)),
        }
    }

    /// Adds an architecture, or replaces the one of this name. It has no pretrained tags: its weights are given as a file.
    ///
    /// ```
    /// use openclip_core::CheckpointConfig;
    /// use openclip_zoo::Registry;
    ///
    /// let json = r#"{"embed_dim": 64, "vision_cfg": {"width": 64, "layers": 2}, "text_cfg": {"width": 64, "layers": 2}}"#;
    /// let mut registry = Registry::bundled();
    /// registry.add_architecture("my-clip", CheckpointConfig::from_json("my-clip", json)?.model_cfg)?;
    /// assert_eq!(registry.architecture("my-clip")?.config.embed_dim, 64);
    /// # Ok::<(), openclip_zoo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ModelName`] when the name is empty, or could not be told from a path or a prefix.
    pub fn add_architecture(&mut self, name: &str, config: ModelConfig) -> Result<()> {
        if name.is_empty() || name.contains(['/', '\\', ':']) || name.chars().any(char::is_control) {
            let message = "an architecture's name is not empty and has no `/`, `\\` or `:`".to_owned();
            return Err(Error::ModelName { name: name.to_owned(), message });
        }
        self.added.retain(|record| record.name != name);
        self.added.push(Architecture {
            name: name.to_owned(),
            family: String::new(),
            profile: None,
            config,
            pretrained: Vec::new(),
        });
        Ok(())
    }

    /// Adds the architectures of a JSON file, or of all JSON files of a folder, named after the files. As in the
    /// reference, files of a folder that aren't model configurations (without `embed_dim`, `vision_cfg` and `text_cfg`) are
    /// passed over. Returns the names.
    ///
    /// # Errors
    /// [`Error::NotAModel`] when the file isn't a model configuration; [`Error::Core`] when a file can't be read or has
    /// fields that a model configuration doesn't have.
    pub fn add_from_path(&mut self, path: &Path) -> Result<Vec<String>> {
        if !path.is_dir() {
            let message = "not a model configuration: it needs `embed_dim`, `vision_cfg` and `text_cfg`";
            return match self.add_file(path)? {
                Some(name) => Ok(vec![name]),
                None => Err(Error::NotAModel { path: path.to_owned(), message: message.to_owned() }),
            };
        }
        let io = |error| openclip_core::Error::io(path, error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension == "json") && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        let mut names = Vec::new();
        for file in files {
            names.extend(self.add_file(&file)?);
        }
        Ok(names)
    }

    fn add_file(&mut self, path: &Path) -> Result<Option<String>> {
        let text = std::fs::read_to_string(path).map_err(|error| openclip_core::Error::io(path, error))?;
        let origin = path.display().to_string();
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| openclip_core::Error::config(&origin, error.to_string()))?;
        let section = value.get("model_cfg").unwrap_or(&value);
        if ["embed_dim", "vision_cfg", "text_cfg"].iter().any(|field| section.get(field).is_none()) {
            return Ok(None);
        }
        let config = CheckpointConfig::from_json(&origin, &text)?.model_cfg;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.add_architecture(&name, config)?;
        Ok(Some(name))
    }
}

/// The error for a tag that an architecture doesn't have.
pub(crate) fn unknown_tag(architecture: &Architecture, tag: &str) -> Error {
    let mut tags = nearest(tag, architecture.tags());
    let others: Vec<_> = architecture.tags().filter(|tag| !tags.iter().any(|near| near == tag)).collect();
    tags.extend(others.into_iter().map(str::to_owned));
    Error::UnknownTag { architecture: architecture.name.clone(), tag: tag.to_owned(), tags }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        family = "F"
        [[architecture]]
        name = "a"
        profile = { mparams = 1.0, image_mparams = 1.0, text_mparams = 1.0 }
        [architecture.config]
        embed_dim = 8
        [architecture.config.vision_cfg]
        layers = 1
        [architecture.config.text_cfg]
        layers = 1
        [[architecture.pretrained]]
        tag = "t"
        url = { address = "http://h/a", sha256 = "0123abcd" }
        tokenizer = "clip"
        quick_gelu = false
        preprocess = { mean = [0, 0, 0], std = [1, 1, 1], interpolation = "bicubic", resize_mode = "shortest" }
    "#;

    #[test]
    fn fields_that_nobody_knows_are_errors() {
        assert_eq!(parse(TEXT).unwrap()[0].family, "F");
        for (before, unknown) in [
            ("family =", "familie = 1\n"),
            ("name =", "nom = 1\n"),
            ("embed_dim =", "embed_dims = 1\n"),
            ("tag =", "tags = 1\n"),
            ("mparams =", "nparams = 1, "),
            ("address =", "port = 1, "),
            ("mean =", "median = 1, "),
        ] {
            let text = TEXT.replacen(before, &format!("{unknown}{before}"), 1);
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{unknown}: {error}");
        }
        let bad_digest = TEXT.replace("0123abcd", "0123");
        assert!(parse(&bad_digest).unwrap_err().to_string().contains("sha256"));
    }

    #[test]
    fn every_bundled_file_reads() {
        for family in BUNDLED.iter().chain(&EMOJI_CLIP) {
            assert!(!family.architectures().unwrap().is_empty(), "{}", family.origin);
        }
    }
}
