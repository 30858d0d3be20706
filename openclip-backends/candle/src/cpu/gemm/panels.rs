//! Weights in panels.

use std::ops::Range;

use bytemuck::Pod;
use rayon::prelude::*;
use rten_simd::{Isa, SimdOp, ops::BitOps};

use crate::cpu::aligned::AlignedVec;

/// Columns of a panel on this processor.
pub fn panel_width() -> usize {
    struct Width;
    impl SimdOp for Width {
        type Output = usize;

        fn eval<I: Isa>(self, isa: I) -> usize {
            super::product::tile_columns(isa.f32().len())
        }
    }
    Width.dispatch()
}

/// Where a product takes its weights `[K, N]` from.
pub trait PanelSource: Sync {
    /// What a product takes at each step of depth.
    type Word: Pod;

    /// Rows `K`, in words.
    fn depth(&self) -> usize;

    /// Columns `N`.
    fn columns(&self) -> usize;

    /// Columns of a panel.
    fn width(&self) -> usize;

    /// The memory that the block of these rows is made of, to be fetched early.
    fn stored(&self, index: usize, depths: Range<usize>) -> &[u8];

    /// Rows `depths` of the panel `index`, `[depths, width]`. What isn't stored like that is made in `scratch`.
    fn block<'a>(
        &'a self,
        index: usize,
        depths: Range<usize>,
        scratch: &'a mut AlignedVec<Self::Word>,
    ) -> &'a [Self::Word];
}

/// A `[K, N]` matrix in panels `[N / width, K, width]`, each on a cache line, the last one filled up with zeros.
#[derive(Debug)]
pub struct Panels<T: Pod = f32> {
    values: AlignedVec<T>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl<T: Pod + Send + Sync> Panels<T> {
    /// Packs the matrix whose value at row `k`, column `n` is `value(k, n)`.
    pub fn new(depth: usize, columns: usize, value: impl Fn(usize, usize) -> T + Sync) -> Self {
        let width = panel_width();
        let mut values = AlignedVec::new(columns.div_ceil(width) * depth * width);
        values.par_chunks_exact_mut((depth * width).max(1)).enumerate().for_each(|(panel, values)| {
            let first = panel * width;
            for (k, row) in values.chunks_exact_mut(width).enumerate() {
                row.iter_mut().zip(first..columns).for_each(|(target, column)| *target = value(k, column));
            }
        });
        Self { values, depth, columns, width }
    }

    /// The panel `index`, `[K, width]`.
    pub fn at(&self, index: usize) -> &[T] {
        let len = self.depth * self.width;
        &self.values[index * len..][..len]
    }

    /// Rows `depths` of the panel `index`.
    pub fn rows(&self, index: usize, depths: Range<usize>) -> &[T] {
        &self.at(index)[depths.start * self.width..depths.end * self.width]
    }

    /// The memory of rows `depths` of the panel `index`.
    pub fn bytes(&self, index: usize, depths: Range<usize>) -> &[u8] {
        bytemuck::cast_slice(self.rows(index, depths))
    }

    /// Rows `K`.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns `N`.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of a panel.
    pub fn width(&self) -> usize {
        self.width
    }
}

impl<T: Pod + Send + Sync> PanelSource for Panels<T> {
    type Word = T;

    fn depth(&self) -> usize {
        self.depth
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn width(&self) -> usize {
        self.width
    }

    fn stored(&self, index: usize, depths: Range<usize>) -> &[u8] {
        self.bytes(index, depths)
    }

    fn block<'a>(&'a self, index: usize, depths: Range<usize>, _: &'a mut AlignedVec<T>) -> &'a [T] {
        self.rows(index, depths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_holds_all_rows_of_its_columns() {
        let panels = Panels::new(3, panel_width() + 2, |k, n| (1000 * k + n) as f32);
        let width = panels.width();
        let (first, second) = (panels.at(0), panels.at(1));
        assert_eq!((first.len(), first.as_ptr().align_offset(64)), (3 * width, 0));
        assert_eq!((first[0], first[width], first[2 * width + 1]), (0.0, 1000.0, 2001.0));
        assert_eq!((second[1], second[2], second[width]), (width as f32 + 1.0, 0.0, 1000.0 + width as f32));
    }
}
