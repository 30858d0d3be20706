//! Weights in panels.

use std::ops::Range;

use bytemuck::Pod;
use rayon::prelude::*;
use rten_simd::{Isa, SimdOp, ops::BitOps};

use crate::cpu::{aligned::AlignedVec, packed::PackedValues};

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

    /// All of the panel `index`, `[K, width]`, where it comes from memory just as a product takes it.
    fn whole(&self, _index: usize) -> Option<&[Self::Word]> {
        None
    }

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
    values: PackedValues<T>,
    depth: usize,
    columns: usize,
    width: usize,
}

/// Rows of a panel that are packed together: a cache line of 32-bit values of each column.
const STRIP: usize = 16;
/// Rows and columns that are transposed in registers.
const SQUARE: usize = 4;

/// Writes four columns of a multiple of four values, converted, into rows of `width` from `place` on: whole registers of
/// rows are written, where value by value would be half as fast.
fn transpose_four<S: Copy, T: Copy>(
    columns: [&[S]; SQUARE],
    target: &mut [T],
    width: usize,
    place: usize,
    convert: &impl Fn(S) -> T,
) {
    let [a, b, c, d] = columns.map(|column| column.as_chunks::<SQUARE>().0);
    let squares = a.iter().zip(b).zip(c.iter().zip(d));
    for (rows, ((a, b), (c, d))) in target.chunks_exact_mut(SQUARE * width).zip(squares) {
        for (k, row) in rows.chunks_exact_mut(width).enumerate() {
            let values = [a[k], b[k], c[k], d[k]].map(convert);
            row[place..place + SQUARE].copy_from_slice(&values);
        }
    }
}

impl<T: Pod + Send + Sync> Panels<T> {
    /// Packs the matrix whose value at row `k`, column `n` is `value(k, n)`. Asks for neighbours in a row one after the other.
    pub fn new(depth: usize, columns: usize, value: impl Fn(usize, usize) -> T + Sync) -> Self {
        Self::packed(depth, columns, |first, panel, width| {
            for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                row.iter_mut().zip(first..columns).for_each(|(target, column)| *target = value(k, column));
            }
        })
    }

    /// Packs the matrix whose columns are `stored [N, K]`, a cache line of each column at a time: read value by value, many
    /// columns in turns would push each other out of the cache wherever a power of two lies between them.
    pub fn of_columns<S: Copy + Sync>(
        stored: &[S],
        depth: usize,
        columns: usize,
        convert: impl Fn(S) -> T + Sync,
    ) -> Self {
        Self::packed(depth, columns, |first, panel, width| {
            let filled = width.min(columns - first);
            for (strip, target) in panel.chunks_mut(STRIP * width).enumerate() {
                let (start, len) = (strip * STRIP, target.len() / width);
                let column = |place: usize| &stored[(first + place) * depth + start..][..len];
                let mut place = 0;
                while place < filled {
                    if place + SQUARE <= filled && len.is_multiple_of(SQUARE) {
                        let square = std::array::from_fn(|next| column(place + next));
                        transpose_four(square, target, width, place, &convert);
                        place += SQUARE;
                    } else {
                        for (row, &value) in target.chunks_exact_mut(width).zip(column(place)) {
                            row[place] = convert(value);
                        }
                        place += 1;
                    }
                }
            }
        })
    }

    /// Panels that `pack` writes, given the first column of each, on all threads.
    fn packed(depth: usize, columns: usize, pack: impl Fn(usize, &mut [T], usize) + Sync) -> Self {
        let width = panel_width();
        let values = PackedValues::new(columns.div_ceil(width) * depth * width, |values| {
            let panels = values.par_chunks_exact_mut((depth * width).max(1));
            panels.enumerate().for_each(|(panel, values)| pack(panel * width, values, width));
        });
        Self { values, depth, columns, width }
    }

    /// Panels that have been packed before; `None` when `values` isn't as long as they are.
    pub fn from_values(depth: usize, columns: usize, values: PackedValues<T>) -> Option<Self> {
        let width = panel_width();
        let fits = Self::dims(depth, columns).iter().product::<usize>() == values.len();
        fits.then_some(Self { values, depth, columns, width })
    }

    /// Dimensions of the panels of a `[K, N]` matrix.
    pub fn dims(depth: usize, columns: usize) -> [usize; 3] {
        let width = panel_width();
        [columns.div_ceil(width), depth, width]
    }

    /// All panels.
    pub fn values(&self) -> &PackedValues<T> {
        &self.values
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

    fn whole(&self, index: usize) -> Option<&[T]> {
        Some(self.at(index))
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

    #[test]
    fn columns_and_values_are_packed_alike() {
        for (depth, columns) in [(1, 1), (15, 33), (16, 16), (20, 7), (40, 100), (48, 102), (0, 3), (3, 0)] {
            let stored: Vec<i32> = (0..depth * columns).map(|place| place as i32).collect();
            let by_value = Panels::new(depth, columns, |k, n| stored[n * depth + k] as f32);
            let by_column = Panels::of_columns(&stored, depth, columns, |value| value as f32);
            assert_eq!(by_column.values()[..], by_value.values()[..], "{depth} x {columns}");
            let again = Panels::from_values(depth, columns, by_column.values().clone()).unwrap();
            assert_eq!(again.values().as_ptr(), by_column.values().as_ptr());
            assert!(
                Panels::from_values(depth, columns + 2 * again.width(), again.values).is_none() || depth == 0
            );
        }
    }
}
