//! Weights that take less memory than 32-bit floats and are turned into them block by block, while a product needs them.
//! The arithmetic is that of `f32`, so results are the same on every processor. That goes for `f16` too: the instructions
//! that newer processors have for it (AVX512-FP16) also add up in `f16`, which a depth of a thousand doesn't bear.

use std::ops::Range;

use super::{PanelSource, Panels};
use crate::cpu::aligned::AlignedVec;

/// How a weight is stored.
#[derive(Debug)]
pub enum Compressed {
    /// IEEE 16-bit floats, as bits.
    F16(Panels<u16>),
    /// 8-bit integers with a factor per column.
    Int8 {
        /// `[K, N]`.
        values: Panels<i8>,
        /// `[N]`, filled up to whole panels.
        scales: Vec<f32>,
    },
}

impl Compressed {
    /// Integers with a factor for each column.
    pub fn int8(values: Panels<i8>, mut scales: Vec<f32>) -> Self {
        scales.resize(scales.len().next_multiple_of(values.width()), 0.0);
        Self::Int8 { values, scales }
    }
}

/// The value of finite IEEE 16-bit floats, in operations that vectorise: the exponent's offset differs by 112.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (u32::from(bits & 0x8000) << 16))
}

impl PanelSource for Compressed {
    type Word = f32;

    fn depth(&self) -> usize {
        match self {
            Self::F16(panels) => panels.depth(),
            Self::Int8 { values, .. } => values.depth(),
        }
    }

    fn columns(&self) -> usize {
        match self {
            Self::F16(panels) => panels.columns(),
            Self::Int8 { values, .. } => values.columns(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::F16(panels) => panels.width(),
            Self::Int8 { values, .. } => values.width(),
        }
    }

    fn stored(&self, index: usize, depths: Range<usize>) -> &[u8] {
        match self {
            Self::F16(panels) => panels.bytes(index, depths),
            Self::Int8 { values, .. } => values.bytes(index, depths),
        }
    }

    // Inlined into the product, it is compiled for the product's instruction set.
    #[inline(always)]
    fn block<'a>(
        &'a self,
        index: usize,
        depths: Range<usize>,
        scratch: &'a mut AlignedVec<f32>,
    ) -> &'a [f32] {
        let width = self.width();
        let target = scratch.first(depths.len() * width);
        match self {
            Self::F16(panels) => {
                let stored = panels.rows(index, depths);
                target.iter_mut().zip(stored).for_each(|(target, &bits)| *target = f16_to_f32(bits));
            }
            Self::Int8 { values, scales } => {
                let scales = &scales[index * width..(index + 1) * width];
                let stored = values.rows(index, depths).chunks_exact(width);
                for (target, stored) in target.chunks_exact_mut(width).zip(stored) {
                    for ((target, &value), scale) in target.iter_mut().zip(stored).zip(scales) {
                        *target = f32::from(value) * scale;
                    }
                }
            }
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_finite_halves_keep_their_value() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits);
            if expected.is_finite() {
                assert_eq!(f16_to_f32(bits).to_bits(), expected.to_f32().to_bits(), "{bits:#x}");
            }
        }
    }
}
