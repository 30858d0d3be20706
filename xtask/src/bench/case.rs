//! What is measured: towers on prepared inputs, and what surrounds them.

use std::fmt;

/// One tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    /// Pixels to embeddings.
    Image,
    /// Token ids to embeddings.
    Text,
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Text => "text",
        })
    }
}

/// A thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// The image tower.
    Image,
    /// The text tower on captions of usual lengths, padded to the context.
    TextCaptions,
    /// The text tower on texts that fill the context.
    TextFull,
    /// JPEG files to embeddings, preparing and encoding at once.
    Jpeg,
    /// A JPEG file to normalised pixels, on one thread.
    Preprocess,
    /// A JPEG file to pixels, on one thread.
    Decode,
    /// Pixels of any size to normalised pixels of the model's, on one thread.
    Resize,
    /// A fresh process that embeds one text, its checkpoint in the page cache.
    Start,
    /// A caption of an image, with the reference's defaults: six beams, 30 tokens.
    Caption,
    /// Captions of eight images at once by six beams of one group, whose texts all differ.
    CaptionBeams,
    /// Recall of synthetic pairs of features at 1, 5 and 10, in both directions.
    Retrieval,
    /// Most memory that a process with both towers has had resident.
    Memory,
}

/// Images in a batch of [`Case::Jpeg`]: what `openclip embed` does where nothing is said.
pub const JPEG_BATCH: usize = 32;
/// Photographs that there are.
pub const PHOTOGRAPHS: usize = 128;
/// Pairs of [`Case::Retrieval`]: the peer has a table of all of their scores in memory, several times over.
pub const PAIRS: usize = 10_000;
/// Images of [`Case::CaptionBeams`].
pub const CAPTIONED: usize = 8;
/// Photographs in a call of a case that prepares one after the other.
const PREPARED: usize = 32;

impl Case {
    /// All.
    pub const ALL: [Self; 12] = [
        Self::Image,
        Self::TextCaptions,
        Self::TextFull,
        Self::Jpeg,
        Self::Preprocess,
        Self::Decode,
        Self::Resize,
        Self::Start,
        Self::Caption,
        Self::CaptionBeams,
        Self::Retrieval,
        Self::Memory,
    ];

    /// Its name for `--filter` and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::TextCaptions => "text-captions",
            Self::TextFull => "text-full",
            Self::Jpeg => "jpeg",
            Self::Preprocess => "preprocess",
            Self::Decode => "decode",
            Self::Resize => "resize",
            Self::Start => "start",
            Self::Caption => "caption",
            Self::CaptionBeams => "caption-beams",
            Self::Retrieval => "retrieval",
            Self::Memory => "memory",
        }
    }

    /// The tower whose arithmetic it consists of, if it does.
    pub fn tower(self) -> Option<Tower> {
        match self {
            Self::Image | Self::Jpeg => Some(Tower::Image),
            Self::TextCaptions | Self::TextFull => Some(Tower::Text),
            _ => None,
        }
    }

    /// The towers that a competitor holds; none where it isn't towers alone.
    pub fn towers(self) -> &'static [Tower] {
        match self {
            Self::Image | Self::Jpeg => &[Tower::Image],
            Self::TextCaptions | Self::TextFull | Self::Start => &[Tower::Text],
            Self::Memory => &[Tower::Image, Tower::Text],
            Self::Preprocess
            | Self::Decode
            | Self::Resize
            | Self::Caption
            | Self::CaptionBeams
            | Self::Retrieval => &[],
        }
    }

    /// Whether it needs a model that writes captions.
    pub fn is_of_captions(self) -> bool {
        matches!(self, Self::Caption | Self::CaptionBeams)
    }

    /// Whether it is the same for all models.
    pub fn is_without_model(self) -> bool {
        self.is_preparation() || self == Self::Retrieval
    }

    /// Whether it is the same for all models whose images have the same size.
    pub fn is_preparation(self) -> bool {
        matches!(self, Self::Preprocess | Self::Decode | Self::Resize)
    }

    /// Inputs of a call, where it isn't the batch size that is asked for.
    pub fn fixed_size(self) -> Option<usize> {
        match self {
            Self::Image | Self::TextCaptions | Self::TextFull | Self::Caption => None,
            Self::CaptionBeams => Some(CAPTIONED),
            Self::Jpeg => Some(PHOTOGRAPHS),
            Self::Preprocess | Self::Decode | Self::Resize => Some(PREPARED),
            Self::Retrieval => Some(PAIRS),
            Self::Start | Self::Memory => Some(1),
        }
    }

    /// Inputs that run through the model together in a call of `size` inputs.
    pub fn batch(self, size: usize) -> usize {
        match self {
            Self::Jpeg => JPEG_BATCH,
            Self::Preprocess | Self::Decode | Self::Resize => 1,
            _ => size,
        }
    }

    /// What its figures are in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Image | Self::TextCaptions | Self::TextFull | Self::Caption | Self::CaptionBeams => "ms",
            Self::Jpeg | Self::Preprocess | Self::Decode | Self::Resize => "ms/image",
            Self::Start | Self::Retrieval => "s",
            Self::Memory => "MiB",
        }
    }

    /// What was measured of a call of `size` inputs, seconds or bytes, in its unit.
    pub fn in_unit(self, measured: f64, size: usize) -> f64 {
        match self {
            Self::Image | Self::TextCaptions | Self::TextFull | Self::Caption | Self::CaptionBeams => {
                measured * 1e3
            }
            Self::Jpeg | Self::Preprocess | Self::Decode | Self::Resize => measured * 1e3 / size as f64,
            Self::Start | Self::Retrieval => measured,
            Self::Memory => measured / f64::from(1 << 20),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_worker_reads_the_names_that_it_is_started_with() {
        for case in Case::ALL {
            assert_eq!(Case::from_str(case.name(), false).as_ref(), Ok(&case));
        }
        assert_eq!(Case::value_variants(), Case::ALL);
    }

    #[test]
    fn figures_are_of_what_the_unit_says() {
        assert_eq!(Case::Image.in_unit(0.5, 32), 500.0);
        assert_eq!(Case::Jpeg.in_unit(0.5, 128), 500.0 / 128.0);
        assert_eq!(Case::Start.in_unit(0.5, 1), 0.5);
        assert_eq!(Case::Memory.in_unit(3.0 * 1024.0 * 1024.0, 1), 3.0);
    }
}
