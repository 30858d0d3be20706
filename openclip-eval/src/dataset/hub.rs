//! Datasets of the Hugging Face hub: their files are fetched into its cache and verified, and then read as local ones.

use std::{fs, path::PathBuf};

use openclip_zoo::hub::{FileName, Hub, HubFile, RepositoryId, Revision};

use super::{DatasetName, Format};
use crate::error::{Error, Result};

const PREFIX: &str = "hf-hub:";

/// Files beside the splits of a dataset in CLIP_benchmark's layout.
const BESIDE: [&str; 3] = ["classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"];

impl DatasetName {
    /// What follows `hf-hub:`, of a dataset of the hub.
    fn on_hub(&self) -> Option<&str> {
        self.path.to_str()?.strip_prefix(PREFIX)
    }

    /// The same dataset on this machine: one of the hub (`wds:hf-hub:ORG/NAME[@REVISION]`, or
    /// `parquet:hf-hub:ORG/NAME[@REVISION]/PATH-00000-of-00003.parquet`, of which all parts are taken) is fetched first.
    ///
    /// # Errors
    /// [`Error::Hub`] when it can't be had; [`Error::Name`] when it isn't said which.
    pub fn fetched(&self, split: &str, hub: &Hub) -> Result<Self> {
        let Some(name) = self.on_hub() else { return Ok(self.clone()) };
        let mut parts = name.splitn(3, '/');
        let (organisation, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let source = Source {
            hub,
            repository: RepositoryId::dataset(&format!("{organisation}/{repository}"))?,
            revision: Revision::parse(revision)?,
        };
        let path = match (self.format, parts.next()) {
            (Format::Wds, None) => source.tars(split)?,
            (Format::Parquet, Some(file)) => source.parts(file)?,
            (Format::Wds, Some(_)) => {
                return self.fail("a dataset of tars is a whole repository: hf-hub:ORG/NAME");
            }
            (Format::Parquet, None) => {
                return self.fail("say which file: hf-hub:ORG/NAME/data/test-00000-of-00001.parquet; all of its parts are taken");
            }
            _ => return self.fail("only wds and parquet are taken from the hub"),
        };
        Ok(Self { format: self.format, path })
    }

    fn fail<T>(&self, message: &str) -> Result<T> {
        Err(Error::Name { name: self.to_string(), message: message.to_owned() })
    }
}

/// A repository at a revision.
struct Source<'a> {
    hub: &'a Hub,
    repository: RepositoryId,
    revision: Revision,
}

impl Source<'_> {
    fn file(&self, name: &str) -> Result<HubFile> {
        let (repository, revision) = (self.repository.clone(), self.revision.clone());
        Ok(HubFile { repository, revision, file: FileName::parse(name)?, sha256: None })
    }

    /// Fetches a split of tars. Returns the folder of the dataset.
    fn tars(&self, split: &str) -> Result<PathBuf> {
        let list = self.hub.fetch(&self.file(&format!("{split}/nshards.txt"))?)?;
        let text = fs::read_to_string(&list).map_err(Error::io(&list))?;
        let count: usize = text
            .trim()
            .parse()
            .map_err(|_| Error::dataset(&list, format!("`{}` is not a number of tar files", text.trim())))?;
        for number in 0..count {
            self.hub.fetch(&self.file(&format!("{split}/{number}.tar"))?)?;
        }
        for name in BESIDE {
            self.hub.fetch_optional(&self.file(name)?)?;
        }
        Ok(list.parent().and_then(|folder| folder.parent()).unwrap_or(&list).to_owned())
    }

    /// Fetches a file that is in several parts: `NAME-00000-of-00003.parquet`. Returns the file, or the folder of several.
    fn parts(&self, name: &str) -> Result<PathBuf> {
        let stem = name.strip_suffix(".parquet").unwrap_or(name);
        let numbered = stem.rsplit_once("-of-").and_then(|(start, count)| {
            let (start, _) = start.rsplit_once('-')?;
            Some((start, count, count.parse::<usize>().ok().filter(|&count| count > 1)?))
        });
        let Some((start, of, count)) = numbered else { return Ok(self.hub.fetch(&self.file(name)?)?) };
        let mut folder = PathBuf::new();
        for number in 0..count {
            let file = self.hub.fetch(&self.file(&format!("{start}-{number:05}-of-{of}.parquet"))?)?;
            folder = file.parent().map(ToOwned::to_owned).unwrap_or(file);
        }
        Ok(folder)
    }
}
