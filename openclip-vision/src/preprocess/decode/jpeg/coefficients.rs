//! The coefficients of a component. Eight neighbouring blocks lie together, coefficient by coefficient, so that the
//! inverse transform handles them side by side.

use std::ops::Range;

/// Blocks that lie together.
pub(super) const LANES: usize = 8;
/// Coefficients of the blocks that lie together.
pub(super) const GROUP: usize = 64 * LANES;

/// Coefficients of [`LANES`] blocks: number `k` of the natural order of block `lane` at `k * LANES + lane`.
pub(super) type Group = [i16; GROUP];

/// A block in its group.
pub(super) struct Block<'a> {
    group: &'a mut Group,
    lane: usize,
}

impl Block<'_> {
    /// The coefficient at a place of the natural order.
    #[inline(always)]
    pub(super) fn get(&self, place: u8) -> i16 {
        self.group[(usize::from(place) * LANES + self.lane) % GROUP]
    }

    /// Sets the coefficient at a place of the natural order.
    #[inline(always)]
    pub(super) fn set(&mut self, place: u8, value: i16) {
        self.group[(usize::from(place) * LANES + self.lane) % GROUP] = value;
    }
}

/// Some rows of blocks.
#[derive(Default)]
pub(super) struct Coefficients {
    groups_per_row: usize,
    values: Vec<i16>,
    /// The last coefficient in zigzag order that any block of a group has.
    extents: Vec<u8>,
}

impl Coefficients {
    /// Makes room for `rows` of `columns` blocks, all zero.
    pub(super) fn reset(&mut self, columns: usize, rows: usize) {
        self.groups_per_row = columns.div_ceil(LANES);
        let groups = self.groups_per_row * rows;
        if self.values.capacity() < groups * GROUP {
            // Fresh zeros cost nothing until they are touched.
            self.values = vec![0; groups * GROUP];
        } else {
            self.values.clear();
            self.values.resize(groups * GROUP, 0);
        }
        self.extents.clear();
        self.extents.resize(groups, 0);
    }

    /// Gives the memory back if it is more than `limit` bytes.
    pub(super) fn shrink(&mut self, limit: usize) {
        if self.values.capacity() * size_of::<i16>() > limit {
            *self = Self::default();
        }
    }

    /// A block, and the note of its group's last coefficient.
    #[inline(always)]
    pub(super) fn block(&mut self, column: usize, row: usize) -> Option<(Block<'_>, &mut u8)> {
        let index = row * self.groups_per_row + column / LANES;
        let group = self.values.as_chunks_mut::<GROUP>().0.get_mut(index)?;
        Some((Block { group, lane: column % LANES }, self.extents.get_mut(index)?))
    }

    /// The groups of a row that hold the blocks `columns`, each with its last coefficient in zigzag order.
    pub(super) fn groups(&self, row: usize, columns: &Range<usize>) -> impl Iterator<Item = (&Group, u8)> {
        let first = row * self.groups_per_row;
        let range = first + columns.start / LANES..first + columns.end.div_ceil(LANES);
        let groups = self.values.as_chunks::<GROUP>().0.get(range.clone()).unwrap_or_default();
        groups.iter().zip(self.extents.get(range).unwrap_or_default().iter().copied())
    }
}
