//! How a product passes through its panels and rows where the sums of a tile are kept in memory from one block of the depth
//! to the next, and become results at the end.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use rten_simd::{
    Isa, SimdOp, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

use super::{Epilogue, tile::prefetch};
use crate::cpu::{activation::with_activation, matrix::MatrixMut, scratch::Scratch};

/// Columns of the widest panel.
const WIDEST: usize = 32;

/// Memory in two places, fetched by turns: a core reads faster in several places at once.
pub type Streams<'a> = [&'a [u8]; 2];

/// A product of rows and panels whose tiles are added up in memory.
pub trait TiledProduct {
    /// What products are added up in: 32 bits.
    type Sum: Pod;

    /// Rows of a group that is worked on together.
    fn height(&self) -> usize;

    /// Columns of all panels.
    fn columns(&self) -> usize;

    /// Columns of a panel.
    fn width(&self) -> usize;

    /// Parts of the depth that are worked on one after the other, so that a panel's part stays in the first-level cache.
    fn blocks(&self) -> usize;

    /// The memory of a block, to be fetched early.
    fn stored(&self, panel: usize, block: usize) -> &[u8];

    /// Makes a block ready for [`add`](Self::add).
    fn begin(&mut self, panel: usize, block: usize);

    /// Adds the products of a group of rows and the block to `sums [height, width]`, and fetches the group's share of
    /// `next`, which later blocks are made of. Of a last group that reaches over the end of the rows, those sums that are
    /// there count.
    fn add<I: Isa>(&self, isa: I, group: Group, next: Streams, sums: &mut [Self::Sum]);

    /// A register of what the first sums stand for, those of the row `row` and of columns from `column` on, with `bias` added.
    fn value<I: Isa>(&self, isa: I, row: usize, column: usize, sums: &[Self::Sum], bias: I::F32) -> I::F32;
}

/// `target = act(x W + b)`, or with what the target holds added before the activation, for `rows` rows and the columns of
/// `panels`.
///
/// # Shapes
/// `target [rows, the columns of the panels]`, and the epilogue's bias `[N]`.
pub fn multiply(
    tiles: impl TiledProduct,
    rows: usize,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    let product = Product { tiles, rows, panels, target, epilogue };
    match epilogue.activation {
        Some(activation) => with_activation!(activation, op => Finished { product, op }.dispatch()),
        None => Finished { product, op: Identity }.dispatch(),
    }
}

/// No activation.
struct Identity;

impl SimdUnaryOp<f32> for Identity {
    #[inline(always)]
    fn eval<I: Isa>(&self, _: I, x: I::F32) -> I::F32 {
        x
    }
}

struct Product<'a, T> {
    tiles: T,
    rows: usize,
    panels: Range<usize>,
    target: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

struct Finished<'a, T, Op> {
    product: Product<'a, T>,
    op: Op,
}

impl<T: TiledProduct, Op: SimdUnaryOp<f32>> SimdOp for Finished<'_, T, Op> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        const {
            assert!(size_of::<T::Sum>() == size_of::<f32>());
        }
        let Product { mut tiles, rows, panels, mut target, epilogue } = self.product;
        let width = tiles.width();
        let first_column = panels.start * width;
        assert!(width <= WIDEST && width.is_multiple_of(isa.f32().len()), "width of a panel");
        assert_eq!(
            (rows, tiles.columns().min(panels.end * width) - first_column),
            (target.rows(), target.columns()),
            "target of a product"
        );
        if rows == 0 {
            return;
        }
        let height = tiles.height();
        let size = rows.next_multiple_of(height) * width;
        let mut sums = Scratch::new(2 * size);
        let sums: &mut [T::Sum] = bytemuck::cast_slice_mut(&mut sums);
        let pairs = pairs(panels);
        for (place, &pair) in pairs.iter().enumerate() {
            let following = pairs.get(place + 1).copied().unwrap_or_default();
            sums.fill(T::Sum::zeroed());
            add_products(isa, &mut tiles, height, [pair, following], sums);
            for (index, sums) in pair.into_iter().flatten().zip(sums.chunks_exact(size)) {
                let start = index * width;
                let filled = width.min(tiles.columns() - start);
                let mut bias = [0.0; WIDEST];
                if let Some(values) = epilogue.bias {
                    bias[..filled].copy_from_slice(&values[start..start + filled]);
                }
                let place = start - first_column..start - first_column + filled;
                for (row, sums) in sums.chunks_exact(width).take(rows).enumerate() {
                    let target = &mut target.row(row)[place.clone()];
                    let row = Row { tiles: &tiles, row, first: start, sums, bias: &bias };
                    if filled == width {
                        row.finish(isa, &self.op, epilogue.accumulate, target);
                    } else {
                        let mut line = [0.0; WIDEST];
                        line[..filled].copy_from_slice(target);
                        row.finish(isa, &self.op, epilogue.accumulate, &mut line[..width]);
                        target.copy_from_slice(&line[..filled]);
                    }
                }
            }
        }
    }
}

/// Panels that are worked on at the same time.
type Pair = [Option<usize>; 2];

/// All panels, the first half of them beside the second, so that the memory of neighbours is read in order.
fn pairs(panels: Range<usize>) -> Vec<Pair> {
    let half = panels.len().div_ceil(2);
    (panels.start..panels.start + half)
        .map(|first| [Some(first), Some(first + half).filter(|second| panels.contains(second))])
        .collect()
}

/// Adds the products of all rows and a pair of panels to `sums [2, rows, width]`. The rows pass by a block of each panel by turns
/// while the next blocks, or the first ones of the pair that follows, are fetched from memory.
#[inline(always)]
fn add_products<I: Isa, T: TiledProduct>(
    isa: I,
    tiles: &mut T,
    height: usize,
    [pair, following]: [Pair; 2],
    sums: &mut [T::Sum],
) {
    let (width, blocks) = (tiles.width(), tiles.blocks());
    let (size, count) = (sums.len() / 2, pair.into_iter().flatten().count());
    let groups = size / (height * width);
    for block in 0..blocks {
        let (next_pair, next_block) = if block + 1 < blocks { (pair, block + 1) } else { (following, 0) };
        let indices = pair.into_iter().flatten().zip(sums.chunks_exact_mut(size));
        for (turn, (index, sums)) in indices.enumerate() {
            tiles.begin(index, block);
            let next = streams(next_pair.map(|index| match index {
                Some(index) => tiles.stored(index, next_block),
                None => &[],
            }));
            let next = next.map(|next| &next[turn * next.len() / count..(turn + 1) * next.len() / count]);
            for (index, sums) in sums.chunks_exact_mut(height * width).enumerate() {
                tiles.add(isa, Group { index, count: groups, row: index * height }, next, sums);
            }
        }
    }
}

/// The memory of two blocks, or both halves of the only one.
fn streams<'a>([one, other]: Streams<'a>) -> Streams<'a> {
    match other {
        [] => one.split_at(one.len() / 2).into(),
        _ => [one, other],
    }
}

/// Rows that are worked on together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub index: usize,
    /// How many groups there are.
    pub count: usize,
    /// The first row.
    pub row: usize,
}

impl Group {
    /// Fetches an equal share of the memory.
    #[inline(always)]
    pub fn fetch<I: Isa>(self, isa: I, next: Streams) {
        for next in next {
            let share = self.index * next.len() / self.count..(self.index + 1) * next.len() / self.count;
            prefetch(isa, &next[share]);
        }
    }
}

/// A row of a panel's sums.
struct Row<'a, T: TiledProduct> {
    tiles: &'a T,
    row: usize,
    /// The first column.
    first: usize,
    sums: &'a [T::Sum],
    bias: &'a [f32],
}

impl<T: TiledProduct> Row<'_, T> {
    /// `target = op(values + bias)`, or with what the target holds added before `op`.
    #[inline(always)]
    fn finish<I: Isa>(self, isa: I, op: &impl SimdUnaryOp<f32>, accumulate: bool, target: &mut [f32]) {
        let (floats, lanes) = (isa.f32(), isa.f32().len());
        for (register, target) in target.chunks_exact_mut(lanes).enumerate() {
            let place = register * lanes;
            let bias = floats.load(&self.bias[place..]);
            let mut value = self.tiles.value(isa, self.row, self.first + place, &self.sums[place..], bias);
            if accumulate {
                value = floats.add(value, floats.load(target));
            }
            floats.store(op.eval(isa, value), target);
        }
    }
}
