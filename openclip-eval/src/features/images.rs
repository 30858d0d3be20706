//! Features of a dataset's images: decoded on all cores, a batch ahead of the model, and kept as they come.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use openclip_core::HostTensor;
use openclip_vision::{
    DecodedImage,
    preprocess::{BatchLoader, ImageSource, LoaderOptions, Preprocessor},
};

use super::{FeatureStore, Journal, Observer};
use crate::{
    dataset::{Dataset, Target},
    error::{Error, Result},
    model::Model,
};

/// How images become features.
#[derive(Clone, Debug, Default)]
pub struct ExtractionOptions {
    /// How images are read.
    pub loader: LoaderOptions,
    /// Where features are kept; without it they aren't.
    pub store: Option<FeatureStore>,
    /// What the dataset and the model are called in the store.
    pub label: String,
    /// What tells the dataset from others: its name, its split, what its files are.
    pub dataset: String,
}

/// What became of an image: the number of its row, or why there is none.
pub type ImageOutcome = std::result::Result<usize, String>;

/// A dataset's images as features, and its targets.
#[derive(Debug)]
pub struct Extracted {
    /// Unit-length features `[rows, D]`.
    pub features: HostTensor,
    /// For each sample its name, its images and its target, in order.
    pub samples: Vec<ExtractedSample>,
    /// Images that were computed in this run, rather than an earlier one.
    pub computed: usize,
}

/// A sample whose images have been embedded.
#[derive(Clone, Debug)]
pub struct ExtractedSample {
    /// What it is called in messages.
    pub name: String,
    /// What became of its images.
    pub images: Vec<ImageOutcome>,
    /// What they are compared with.
    pub target: Target,
}

impl Extracted {
    /// The samples all of whose images have features, with their rows.
    pub fn whole(&self) -> impl Iterator<Item = (Vec<usize>, &ExtractedSample)> {
        self.samples.iter().filter_map(|sample| {
            let rows: std::result::Result<Vec<usize>, &String> =
                sample.images.iter().map(|image| image.as_ref().copied()).collect();
            Some((rows.ok()?, sample))
        })
    }

    /// The reasons why images have no features.
    pub fn broken(&self) -> impl Iterator<Item = &String> {
        self.samples.iter().flat_map(|sample| &sample.images).filter_map(|image| image.as_ref().err())
    }
}

/// What the thread that reads samples and the one that runs the model share.
#[derive(Default)]
struct Seen {
    samples: SeenSamples,
    fault: Option<Error>,
}

/// Embeds the images of `dataset`. What the store has is taken from there; what is computed is put there batch by batch.
///
/// # Errors
/// Errors of the dataset and the model, [`Error::Undefined`] for a dataset without samples, and [`Error::Io`] when features
/// can't be kept. That an image can't be read is none: its sample holds the reason.
pub fn extract(
    dataset: &dyn Dataset,
    model: &dyn Model,
    options: &ExtractionOptions,
    observer: &dyn Observer,
) -> Result<Extracted> {
    let preprocessor = model.preprocessor().map_err(Error::Model)?;
    let journal = options.store.as_ref().map(|store| {
        let probe = probe(model)?;
        let decode = format!("{:?}", options.loader.decode);
        store.journal(&options.label, &[b"images", &probe, options.dataset.as_bytes(), decode.as_bytes()])
    });
    let mut kept = Kept { journal: journal.transpose()?, outcomes: Vec::new(), values: Vec::new(), width: 0 };
    let done = kept.done();
    kept.reasons().for_each(|reason| observer.broken(reason));
    let (samples, computed) =
        read_images(dataset, preprocessor, options, done, observer, |pixels, broken| {
            let mut features = match pixels.dims().first() {
                Some(0) | None => HostTensor::zeros([0, kept.known_width()]),
                Some(_) => model.embed_images(pixels).map_err(Error::Model)?,
            };
            features.l2_normalize_rows();
            kept.add(broken, &features)
        })?;
    kept.finish(samples, computed)
}

/// Reads the images of `dataset` but for the first `done`, and hands them to `each` batch by batch, `[N, 3, H, W]`: for each
/// image there is nothing, or the reason why it isn't among them. Returns all samples, and how many images were read.
pub(crate) fn read_images(
    dataset: &dyn Dataset,
    preprocessor: &Preprocessor,
    options: &ExtractionOptions,
    done: usize,
    observer: &dyn Observer,
    mut each: impl FnMut(&HostTensor, Vec<Option<String>>) -> Result<()>,
) -> Result<(SeenSamples, usize)> {
    observer.start("images", dataset.info().len, done);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let sources = new_images(dataset, done, Arc::clone(&seen))?;
    let mut computed = 0;
    for batch in BatchLoader::new(preprocessor.clone(), sources, options.loader) {
        let broken: Vec<Option<String>> =
            batch.items.iter().map(|item| item.as_ref().err().map(ToString::to_string)).collect();
        broken.iter().flatten().for_each(|reason| observer.broken(reason));
        let count = broken.len();
        each(&batch.pixels, broken)?;
        observer.advance(count);
        computed += count;
    }
    observer.finish();
    let Seen { samples, fault } = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    match fault {
        Some(fault) => Err(fault),
        None if samples.is_empty() => {
            Err(Error::Undefined("the dataset has no samples in this split".to_owned()))
        }
        None => Ok((samples, computed)),
    }
}

/// Samples in order: their names, how many images they have, and their targets.
pub(crate) type SeenSamples = VecDeque<(String, usize, Target)>;

/// The images that aren't done, while the targets of all are written down.
fn new_images(
    dataset: &dyn Dataset,
    done: usize,
    seen: Arc<Mutex<Seen>>,
) -> Result<impl Iterator<Item = ImageSource> + Send + 'static> {
    let mut samples = dataset.samples()?;
    let mut position = 0;
    let mut images: VecDeque<ImageSource> = VecDeque::new();
    Ok(std::iter::from_fn(move || {
        loop {
            if let Some(image) = images.pop_front() {
                position += 1;
                if position > done {
                    return Some(image);
                }
                continue;
            }
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match samples.next()? {
                Ok(sample) => {
                    seen.samples.push_back((sample.name, sample.images.len(), sample.target));
                    images = sample.images.into();
                }
                Err(fault) => {
                    seen.fault = Some(fault);
                    return None;
                }
            }
        }
    }))
}

/// What the model makes of a fixed picture, bit by bit: it tells weights, precision, backend and preprocessing apart.
fn probe(model: &dyn Model) -> Result<Vec<u8>> {
    const SIZE: usize = 96;
    let pixels = (0..SIZE * SIZE * 3).map(|place| ((place * place / 7 + place) % 251) as u8).collect();
    let fail = |error: openclip_vision::preprocess::ImageError| Error::Model(error.into());
    let picture = DecodedImage::from_rgb8("probe", SIZE, SIZE, pixels).map_err(fail)?;
    let prepared = model.preprocessor().map_err(Error::Model)?.prepare(&picture).map_err(fail)?;
    let dims = [&[1], prepared.dims()].concat();
    let features = model.embed_images(&prepared.reshape(dims)?).map_err(Error::Model)?;
    Ok(features.data().iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Features that are collected, in a journal if there is one.
struct Kept {
    journal: Option<Journal>,
    outcomes: Vec<ImageOutcome>,
    values: Vec<f32>,
    width: usize,
}

impl Kept {
    fn done(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.saved().len())
    }

    /// Why images that were read in earlier runs have no features.
    fn reasons(&self) -> impl Iterator<Item = &String> {
        let saved = self.journal.iter().flat_map(Journal::saved);
        saved.filter_map(|outcome| outcome.as_ref().err())
    }

    fn known_width(&self) -> usize {
        self.width.max(1)
    }

    fn add(&mut self, broken: Vec<Option<String>>, features: &HostTensor) -> Result<()> {
        let width = features.dims().last().copied().unwrap_or(0);
        let rows = broken.iter().filter(|reason| reason.is_none()).count();
        if rows * width != features.data().len() || (self.width != 0 && rows > 0 && width != self.width) {
            let message = format!("the model gives {:?} values for {rows} images", features.dims());
            return Err(Error::Undefined(message));
        }
        if rows > 0 {
            self.width = width;
        }
        if let Some(journal) = &mut self.journal {
            return journal.add(broken, features.data(), width);
        }
        let mut row = self.values.len() / width.max(1);
        for reason in broken {
            self.outcomes.push(match reason {
                Some(reason) => Err(reason),
                None => {
                    row += 1;
                    Ok(row - 1)
                }
            });
        }
        self.values.extend_from_slice(features.data());
        Ok(())
    }

    fn finish(self, samples: SeenSamples, computed: usize) -> Result<Extracted> {
        let (outcomes, values, width) = match self.journal {
            Some(journal) => journal.into_parts(),
            None => (self.outcomes, self.values, self.width),
        };
        let rows = values.len() / width.max(1);
        let features = HostTensor::new([rows, width], values)?;
        let mut outcomes = outcomes.into_iter();
        let samples = samples.into_iter().map(|(name, count, target)| {
            let images: Vec<ImageOutcome> = outcomes.by_ref().take(count).collect();
            match images.len() == count {
                true => Ok(ExtractedSample { name, images, target }),
                false => Err(Error::sample(name, "it wasn't read to its end")),
            }
        });
        let samples = samples.collect::<Result<Vec<ExtractedSample>>>()?;
        Ok(Extracted { features, samples, computed })
    }
}
