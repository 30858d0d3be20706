//! Synthesised images, as if already normalised: blocks of noise at several scales, so that two images differ in large
//! and small features alike.

use super::Generator;
use crate::HostTensor;

/// Side of the square blocks of equal value that an image is a sum of, and their amplitude.
const SCALES: [(usize, f32); 5] = [(1024, 0.75), (64, 1.0), (16, 0.5), (4, 0.25), (1, 0.125)];

/// The `rows` synthesised images of a size, the same as the reference towers were given.
///
/// # Shapes
/// `[rows, 3, height, width]`
pub fn image(rows: usize, height: usize, width: usize) -> HostTensor {
    let mut pixels = HostTensor::zeros([rows, 3, height, width]);
    for (side, amplitude) in SCALES {
        let generator = Generator::uniform(&format!("image.{side}"), 0.0, amplitude);
        let (down, across) = (height.div_ceil(side), width.div_ceil(side));
        let mut blocks = vec![0.0; across];
        for (row, line) in pixels.data_mut().chunks_exact_mut(width.max(1)).enumerate() {
            let (channel, y) = (row / height, row % height);
            generator.fill((channel * down + y / side) * across, &mut blocks);
            for (piece, block) in line.chunks_mut(side).zip(&blocks) {
                piece.iter_mut().for_each(|pixel| *pixel += block);
            }
        }
    }
    pixels
}
