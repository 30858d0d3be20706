//! A model for tests that needs no weights.

use openclip_core::HostTensor;
use openclip_vision::preprocess::{ImageSize, PreprocessConfig, Preprocessor};

use crate::{
    Model, Result,
    dataset::{Dataset, DatasetInfo, ImageSource, Sample, Samples, Target},
    error::ModelError,
};

/// Texts become the numbers of their letters `a` and `b`, pictures their mean red and blue.
pub(crate) struct Letters;

impl Model for Letters {
    fn preprocessor(&self) -> Result<&Preprocessor, ModelError> {
        static PREPROCESSOR: std::sync::OnceLock<Preprocessor> = std::sync::OnceLock::new();
        Ok(PREPROCESSOR.get_or_init(|| {
            let plain =
                PreprocessConfig { mean: vec![0.0; 3], std: vec![1.0; 3], ..PreprocessConfig::default() };
            Preprocessor::new(PreprocessConfig { size: ImageSize::HeightWidth([2, 2]), ..plain }).unwrap()
        }))
    }

    fn embed_images(&self, pixels: &HostTensor) -> Result<HostTensor, ModelError> {
        let rows: Vec<f32> = pixels
            .rows()
            .flat_map(|image| [image[..4].iter().sum::<f32>(), image[8..].iter().sum()])
            .collect();
        Ok(HostTensor::new([rows.len() / 2, 2], rows)?)
    }

    fn embed_texts(&self, texts: &[&str], _: usize) -> Result<HostTensor, ModelError> {
        let count = |text: &str, letter: char| text.chars().filter(|&found| found == letter).count() as f32;
        let rows: Vec<f32> = texts.iter().flat_map(|text| [count(text, 'a'), count(text, 'b')]).collect();
        Ok(HostTensor::new([texts.len(), 2], rows)?)
    }

    fn caption(&self, pixels: &HostTensor) -> Result<Vec<String>, ModelError> {
        let word = |image: &[f32]| if image[0] > image[8] { "a red thing" } else { "something blue" };
        Ok(pixels.rows().map(|image| word(image).to_owned()).collect())
    }
}

/// A picture of one colour, as a file.
pub(crate) fn picture(red: u8, blue: u8) -> Vec<u8> {
    format!("P3 1 1 255 {red} 0 {blue}\n").into_bytes()
}

/// Samples that are given.
pub(crate) struct Listed {
    info: DatasetInfo,
    samples: Vec<(Vec<Vec<u8>>, Target)>,
}

impl Listed {
    pub(crate) fn new<const N: usize>(samples: [(Vec<Vec<u8>>, Target); N]) -> Self {
        Self { info: DatasetInfo::new(), samples: samples.into() }
    }

    /// Makes a sample's first image unreadable.
    pub(crate) fn damage(&mut self, sample: usize) {
        self.samples[sample].0[0].truncate(5);
    }
}

/// A picture of a class.
pub(crate) fn class(red: u8, blue: u8, class: usize) -> (Vec<Vec<u8>>, Target) {
    (vec![picture(red, blue)], Target::Class(class))
}

/// A picture with labels.
pub(crate) fn labels(red: u8, blue: u8, labels: &[bool]) -> (Vec<Vec<u8>>, Target) {
    (vec![picture(red, blue)], Target::Labels(labels.to_vec()))
}

/// Pictures with captions.
pub(crate) fn captions(colours: &[(u8, u8)], captions: &[&str]) -> (Vec<Vec<u8>>, Target) {
    let pictures = colours.iter().map(|&(red, blue)| picture(red, blue)).collect();
    (pictures, Target::Captions(captions.iter().map(|caption| (*caption).to_owned()).collect()))
}

impl Dataset for Listed {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        let sample = |(number, (images, target)): (usize, (Vec<Vec<u8>>, Target))| {
            let images = images.into_iter();
            let images =
                images.map(|bytes| ImageSource::Bytes { name: format!("{number}.ppm"), bytes }).collect();
            Ok(Sample { name: number.to_string(), images, target })
        };
        Ok(Box::new(self.samples.clone().into_iter().enumerate().map(sample)))
    }
}
