//! Where the pixels go: the size after resizing and the place of the crop or padding, with the reference's rounding
//! (torchvision's `Resize` and `CenterCrop`, open_clip's `ResizeKeepRatio` and `CenterCropOrPad`).

use super::config::{Interpolation, PreprocessConfig, ResizeMode};
use super::filter::Coefficients;
use super::image::Region;

/// One axis of the plan: `source` pixels are resized to `resized`, of which `target` are kept from `offset` on.
/// A negative offset is padding before the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub source: usize,
    pub resized: usize,
    pub offset: i64,
    pub target: usize,
}

impl Span {
    /// The range of resized pixels that survive the crop.
    pub(crate) fn window(&self) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0);
        let end = self.offset.saturating_add_unsigned(self.target as u64);
        start..usize::try_from(end).unwrap_or(0).min(self.resized)
    }

    /// The range of source pixels that the resized pixels of the window are made of.
    pub(crate) fn needed(&self, filter: Interpolation) -> std::ops::Range<usize> {
        let window = self.window();
        if self.source == self.resized || window.is_empty() {
            return window;
        }
        let bounds = |position: usize| {
            Coefficients::new(self.source, self.resized, position..position + 1, filter).source_range()
        };
        bounds(window.start).start..bounds(window.end - 1).end
    }

    /// Padded pixels before the image.
    pub(crate) fn padding(&self) -> usize {
        usize::try_from(-self.offset).unwrap_or(0)
    }
}

/// The plan for one image size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub x: Span,
    pub y: Span,
    pub interpolation: Interpolation,
}

impl Geometry {
    /// The part of the source that the window is made of.
    pub(crate) fn needed(&self) -> Region {
        Region { columns: self.x.needed(self.interpolation), rows: self.y.needed(self.interpolation) }
    }
}

/// A side that would vanish: the resized `(width, height)`.
pub(crate) type Vanishing = (u64, u64);

impl Geometry {
    /// The plan of `config` for an image of `width` by `height` pixels.
    pub(crate) fn new(config: &PreprocessConfig, width: usize, height: usize) -> Result<Self, Vanishing> {
        let (target_width, target_height) = (config.size.width(), config.size.height());
        let mut interpolation = match config.interpolation {
            Interpolation::Bilinear => Interpolation::Bilinear,
            Interpolation::Bicubic | Interpolation::Random => Interpolation::Bicubic,
        };
        let (resized_width, resized_height) = match config.resize_mode {
            ResizeMode::Squash => (target_width as u64, target_height as u64),
            ResizeMode::Shortest if target_width == target_height => {
                shortest_side(width, height, target_width)
            }
            ResizeMode::Shortest => {
                // The reference passes no interpolation on for targets that aren't square.
                interpolation = Interpolation::Bicubic;
                keep_ratio(width, height, target_width, target_height, 0.0)
            }
            ResizeMode::Longest => keep_ratio(width, height, target_width, target_height, 1.0),
        };
        let checked = |side: u64| usize::try_from(side).ok().filter(|&side| side > 0 && side < 1 << 31);
        let (Some(resized_w), Some(resized_h)) = (checked(resized_width), checked(resized_height)) else {
            return Err((resized_width, resized_height));
        };
        let span =
            |source, resized, target| Span { source, resized, offset: offset(resized, target), target };
        Ok(Self {
            x: span(width, resized_w, target_width),
            y: span(height, resized_h, target_height),
            interpolation,
        })
    }
}

/// torchvision's `Resize(size)`: the shorter side becomes `size`, the longer one is truncated.
fn shortest_side(width: usize, height: usize, size: usize) -> (u64, u64) {
    let (short, long) = if width <= height { (width, height) } else { (height, width) };
    let resized_long = ((size * long) as f64 / short as f64) as u64;
    if width <= height { (size as u64, resized_long) } else { (resized_long, size as u64) }
}

/// open_clip's `ResizeKeepRatio`: both sides are divided by one ratio and rounded half to even.
fn keep_ratio(
    width: usize,
    height: usize,
    target_width: usize,
    target_height: usize,
    longest: f64,
) -> (u64, u64) {
    let ratio_h = height as f64 / target_height as f64;
    let ratio_w = width as f64 / target_width as f64;
    let ratio = ratio_h.max(ratio_w) * longest + ratio_h.min(ratio_w) * (1.0 - longest);
    let side = |source: usize| (source as f64 / ratio).round_ties_even() as u64;
    (side(width), side(height))
}

/// Offset of a centred crop (rounded half to even), or minus the padding before the image (rounded down).
fn offset(resized: usize, target: usize) -> i64 {
    if resized < target {
        -(((target - resized) / 2) as i64)
    } else {
        ((resized - target) as f64 / 2.0).round_ties_even() as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::ImageSize;
    use super::*;

    fn plan(mode: ResizeMode, size: ImageSize, width: usize, height: usize) -> Result<Geometry, Vanishing> {
        let config = PreprocessConfig { size, resize_mode: mode, ..PreprocessConfig::default() };
        Geometry::new(&config, width, height)
    }

    #[test]
    fn rounding_is_the_references() {
        let shortest = plan(ResizeMode::Shortest, ImageSize::Square(224), 640, 427).unwrap();
        assert_eq!((shortest.x.resized, shortest.y.resized, shortest.x.offset), (335, 224, 56));
        let longest = plan(ResizeMode::Longest, ImageSize::Square(224), 640, 427).unwrap();
        assert_eq!((longest.x.resized, longest.y.resized, longest.y.offset), (224, 149, -37));
        assert_eq!(offset(7, 4), 2);
        assert_eq!(offset(5, 4), 0);
        assert_eq!(offset(4, 7), -1);
    }

    #[test]
    fn a_vanishing_side_is_an_error() {
        assert_eq!(plan(ResizeMode::Longest, ImageSize::Square(224), 1, 500), Err((0, 224)));
        assert!(plan(ResizeMode::Shortest, ImageSize::Square(224), 1, 500).is_ok());
    }

    proptest! {
        #[test]
        fn windows_stay_inside(
            width in 1_usize..3000, height in 1_usize..3000, w in 1_usize..600, h in 1_usize..600, mode in 0..3,
        ) {
            let mode = [ResizeMode::Shortest, ResizeMode::Longest, ResizeMode::Squash][mode as usize];
            if let Ok(plan) = plan(mode, ImageSize::HeightWidth([h, w]), width, height) {
                for span in [plan.x, plan.y] {
                    let window = span.window();
                    let needed = span.needed(plan.interpolation);
                    let all = Coefficients::new(span.source, span.resized, window.clone(), plan.interpolation);
                    let expected =
                        if span.source == span.resized { window.clone() } else { all.source_range() };
                    prop_assert_eq!(needed, expected);
                    prop_assert!(!window.is_empty() && window.end <= span.resized);
                    prop_assert!(span.padding() + window.len() <= span.target);
                    prop_assert!(mode == ResizeMode::Longest || window.len() == span.target);
                }
            }
        }
    }
}
