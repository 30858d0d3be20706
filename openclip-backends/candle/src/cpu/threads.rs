//! How work is divided among threads.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    gemm::{has_tiles, panel_width},
    matrix::{Matrix, MatrixMut},
};

/// Rows that one thread takes through the layers of a branch at once: enough to use each panel of weights often, and few
/// enough that what a layer hands on to the next stays in the second-level cache. Processors with registers of 64 bytes have
/// 1 MiB of it and more, others 512 KiB or less; and they are done with a panel in half the time. Those with tiles have
/// 2 MiB, and are done before the next panel is there.
pub fn tile_rows() -> usize {
    match panel_width() {
        32 if has_tiles() => 192,
        32 => 96,
        _ => 64,
    }
}

/// Fewer rows than this aren't worth reading all weights for.
const FEWEST_ROWS: usize = 64;

/// Of so few rows a product takes the time in which weights are read, and small pieces of it cost nothing.
const FEW_ROWS: usize = 36;

/// Fewer panels than this can't be read in several places at once.
const FEWEST_PANELS: usize = 2;

/// Fewer values than this aren't worth another thread where each is read a few times.
const FEWEST_VALUES: usize = 1 << 14;

/// Who does an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone, while others do the same for other inputs.
    One,
    /// All threads of the pool.
    All,
}

impl Threads {
    /// Number of threads.
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::All => rayon::current_num_threads(),
        }
    }

    /// Runs `work` on parts of the rows.
    pub fn rows(self, x: Matrix, target: MatrixMut, work: impl Fn(Matrix, MatrixMut) + Sync) {
        match self {
            Self::One => work(x, target),
            Self::All if x.rows() * x.columns() < FEWEST_VALUES => work(x, target),
            Self::All => {
                let pieces = pieces(x.rows(), self.count() * x.rows().div_ceil(tile_rows() * self.count()));
                let targets = split_rows(target, &pieces);
                pieces.into_par_iter().zip(targets).for_each(|(rows, target)| {
                    work(x.part(rows, 0..x.columns()), target);
                });
            }
        }
    }

    /// Runs `work` on a grid of parts of `rows` rows and `panels` panels of a product.
    pub fn grid(
        self,
        rows: usize,
        panels: usize,
        width: usize,
        target: MatrixMut,
        work: impl Fn(Range<usize>, Range<usize>, MatrixMut) + Sync,
    ) {
        let threads = self.count();
        if threads == 1 && rows <= tile_rows() {
            return work(0..rows, 0..panels, target);
        }
        let across = match rows.div_ceil(tile_rows()) {
            many if many >= threads => many.next_multiple_of(threads),
            _ => (rows / FEWEST_ROWS).clamp(1, threads),
        };
        // Several pieces for each thread, so that one that is held up doesn't hold up all.
        let along = match across {
            1 if rows <= FEW_ROWS => (panels / FEWEST_PANELS).clamp(2 * threads, 8 * threads),
            _ if across >= threads => 1,
            _ => (2 * threads).div_ceil(across),
        };
        let (across, along) = (pieces(rows, across), pieces(panels, along));
        let mut parts = Vec::with_capacity(across.len() * along.len());
        for (rows, target) in across.iter().zip(split_rows(target, &across)) {
            let mut rest = Some(target);
            for panels in &along {
                let Some(target) = rest.take() else { break };
                let columns = (panels.len() * width).min(target.columns());
                let (part, others) = target.split_columns(columns);
                rest = Some(others);
                parts.push((rows.clone(), panels.clone(), part));
            }
        }
        let work = |(rows, panels, target)| work(rows, panels, target);
        match self {
            Self::One => parts.into_iter().for_each(work),
            Self::All => parts.into_par_iter().for_each(work),
        }
    }
}

/// Runs `work` on tiles of `rows` rows, a thread for each; on all rows with all threads where they are too few for that.
pub fn in_tiles(rows: usize, target: MatrixMut, work: impl Fn(Range<usize>, MatrixMut, Threads) + Sync) {
    let threads = Threads::All.count();
    if rows < threads * tile_rows() / 2 {
        return work(0..rows, target, Threads::All);
    }
    let tiles = pieces(rows, rows.div_ceil(tile_rows()).next_multiple_of(threads));
    let targets = split_rows(target, &tiles);
    tiles.into_par_iter().zip(targets).for_each(|(rows, target)| work(rows, target, Threads::One));
}

/// `0..count` in at most `wanted` ranges, equal up to one.
pub fn pieces(count: usize, wanted: usize) -> Vec<Range<usize>> {
    let wanted = wanted.clamp(1, count.max(1));
    (0..wanted).map(|piece| piece * count / wanted..(piece + 1) * count / wanted).collect()
}

/// The rows of `target` in ranges that follow each other.
pub fn split_rows<'a>(target: MatrixMut<'a>, ranges: &[Range<usize>]) -> Vec<MatrixMut<'a>> {
    let mut rest = Some(target);
    ranges
        .iter()
        .filter_map(|range| {
            let (part, others) = rest.take()?.split_rows(range.len());
            rest = Some(others);
            Some(part)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        for (count, wanted) in [(0, 3), (1, 3), (7, 3), (12, 4), (5, 1), (3, 0)] {
            let pieces = pieces(count, wanted);
            assert!(pieces.len() <= wanted.max(1));
            assert_eq!(pieces.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_grid_covers_every_value_once() {
        for (rows, columns) in [(1, 100), (50, 100), (200, 7), (1000, 33)] {
            for threads in [Threads::One, Threads::All] {
                let mut values = vec![0.0; rows * columns];
                let target = MatrixMut::new(&mut values, rows, columns, columns);
                threads.grid(rows, columns.div_ceil(16), 16, target, |rows, panels, mut target| {
                    assert_eq!((target.rows(), target.columns() <= panels.len() * 16), (rows.len(), true));
                    (0..target.rows())
                        .for_each(|row| target.row(row).iter_mut().for_each(|value| *value += 1.0));
                });
                assert!(values.iter().all(|&value| value == 1.0), "{rows} x {columns}");
            }
        }
    }
}
