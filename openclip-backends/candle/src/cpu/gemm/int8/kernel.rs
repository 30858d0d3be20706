//! Tiles of exact integer sums, for each instruction set that has something to offer.

use std::sync::OnceLock;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::cpu::gemm::amx;
use crate::cpu::gemm::sums::{Group, Streams};

/// How tiles are computed.
#[derive(Debug)]
pub struct Kernel {
    /// Neighbours in depth that are multiplied and added in one step.
    pub group: usize,
    /// Columns of a tile.
    pub width: usize,
    /// Rows of the largest tile.
    pub rows: usize,
    /// Groups that only go together: the depth is filled up with zeros to a multiple of so many.
    pub step: usize,
    /// Depth of a panel that is worked on together: with a tile's rows of that depth, those that are fetched meanwhile and
    /// the sums it fits into a first-level cache, of 48 KiB where there are larger tiles and else of 32 KiB.
    pub block: usize,
    /// Whether rows are 16-bit integers whose offset has been subtracted, rather than bytes.
    pub widened: bool,
    tile: Tile,
}

#[derive(Debug)]
enum Tile {
    /// A function for any number of rows up to the most.
    Function(Function),
    /// The tiles of AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
}

/// `(rows, x, bytes from row to row, groups in depth, panel, sums [rows, width])`; the products are added to the sums.
type Function = unsafe fn(usize, *const u8, usize, usize, *const i8, *mut i32);

impl Kernel {
    /// Bytes of a value of `x`.
    pub fn value_bytes(&self) -> usize {
        if self.widened { 2 } else { 1 }
    }

    /// Groups of a row or column of `depth` values.
    pub fn groups(&self, depth: usize) -> usize {
        depth.div_ceil(self.group).next_multiple_of(self.step)
    }

    /// Makes ready for a product of `rows` rows.
    pub fn start(&'static self, rows: usize) -> Started {
        Started {
            kernel: self,
            rows,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            tiles: matches!(self.tile, Tile::Amx).then(|| amx::Tiles::new(rows)),
        }
    }
}

/// A kernel at work.
pub struct Started {
    kernel: &'static Kernel,
    rows: usize,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    tiles: Option<amx::Tiles>,
}

impl Started {
    /// Rows that are multiplied at a time, but for the last ones.
    pub fn height(&self) -> usize {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let Some(tiles) = &self.tiles {
            return tiles.height();
        }
        self.rows.div_ceil(self.rows.div_ceil(self.kernel.rows).max(1)).max(1)
    }

    /// Whether it fetches what is needed next.
    pub fn fetches(&self) -> bool {
        !matches!(self.kernel.tile, Tile::Function(_))
    }

    /// Adds the products of a group of rows, whose values `x` starts with, so many bytes apart, and of some groups in depth of a panel
    /// to `sums [height, width]`.
    ///
    /// # Panics
    /// When a slice is too short: `x` holds as many rows as the height where the kernel has tiles of one height only.
    pub fn add(
        &self,
        rows: Group,
        (x, stride): (&[u8], usize),
        panel: &[i8],
        sums: &mut [i32],
        #[cfg_attr(
            not(all(target_arch = "x86_64", target_os = "linux")),
            expect(unused_variables, reason = "only tiles fetch")
        )]
        next: Streams,
    ) {
        let Kernel { group, width, step, tile, .. } = self.kernel;
        let (height, groups) = (self.height(), panel.len() / (group * width));
        let count = match tile {
            Tile::Function(_) => height.min(self.rows - rows.row),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Tile::Amx => height,
        };
        let bytes = groups * group * self.kernel.value_bytes();
        assert!((count - 1) * stride + bytes <= x.len(), "rows of a tile");
        assert_eq!((panel.len() % (group * width), groups % step), (0, 0), "panel of a tile");
        assert!(sums.len() >= count * width, "sums of a tile");
        let (x, sums) = (x.as_ptr(), sums.as_mut_ptr());
        // SAFETY: the slices hold what the tile reads and writes, and a kernel is only handed out on a processor that
        // has its instructions.
        unsafe {
            match tile {
                Tile::Function(tile) => tile(count, x, stride, groups, panel.as_ptr(), sums),
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                Tile::Amx => {
                    let (steps, panel) = (groups / step, panel.as_ptr().cast());
                    let Some(tiles) = &self.tiles else { unreachable!("they are there when it is started") };
                    let ahead = amx::ahead(next, rows.index, steps * amx::PLAIN_LINES, panel);
                    tiles.add_bytes(x, stride, steps, panel, sums, ahead);
                }
            }
        }
    }
}

/// The best kernel on this processor.
pub fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<&Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| available().next().unwrap_or(&PORTABLE))
}

/// The kernels that run on this processor, the best first.
pub fn available() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let special = {
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        #[cfg(target_os = "linux")]
        let tiles = (amx::is_available(), &x86::AMX);
        #[cfg(not(target_os = "linux"))]
        let tiles = (false, &x86::VNNI);
        [tiles, (avx512, &x86::VNNI), (is_x86_feature_detected!("avx2"), &x86::AVX2)]
    };
    #[cfg(not(target_arch = "x86_64"))]
    let special: [(bool, &Kernel); 0] = [];
    special.into_iter().filter_map(|(there, kernel)| there.then_some(kernel)).chain([&PORTABLE])
}

static PORTABLE: Kernel = Kernel {
    group: 2,
    width: 16,
    rows: 4,
    step: 1,
    block: 512,
    widened: true,
    tile: Tile::Function(portable),
};

/// # Safety
/// As [`Started::add`] checks.
unsafe fn portable(
    rows: usize,
    x: *const u8,
    stride: usize,
    groups: usize,
    panel: *const i8,
    sums: *mut i32,
) {
    for row in 0..rows {
        // SAFETY: the sums have this row.
        let row_sums = unsafe { &mut *sums.cast::<[i32; 16]>().add(row) };
        for group in 0..groups {
            // SAFETY: the row has `groups` pairs of 16-bit integers, the panel as many times 16 pairs of bytes.
            let (pair, bytes) = unsafe {
                let pair = x.add(row * stride).cast::<[i16; 2]>().add(group).read_unaligned();
                (pair, *panel.cast::<[[i8; 2]; 16]>().add(group))
            };
            for (sum, [a, b]) in row_sums.iter_mut().zip(bytes) {
                *sum += i32::from(pair[0]) * i32::from(a) + i32::from(pair[1]) * i32::from(b);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Tile};
    #[cfg(target_os = "linux")]
    use crate::cpu::gemm::amx;

    pub static AVX2: Kernel = Kernel {
        group: 2,
        width: 16,
        rows: 6,
        step: 1,
        block: 512,
        widened: true,
        tile: Tile::Function(avx2),
    };
    pub static VNNI: Kernel = Kernel {
        group: 4,
        width: 32,
        rows: 12,
        step: 1,
        block: 512,
        widened: false,
        tile: Tile::Function(vnni),
    };
    #[cfg(target_os = "linux")]
    pub static AMX: Kernel = Kernel {
        group: 4,
        width: amx::WIDTH,
        rows: amx::ROWS,
        step: amx::STEP,
        block: 768,
        widened: false,
        tile: Tile::Amx,
    };

    macro_rules! by_rows {
        ($rows:expr, $tile:ident, $arguments:tt, $($count:literal)*) => {
            match $rows {
                $($count => $tile::<$count> $arguments,)*
                _ => {}
            }
        };
    }

    /// # Safety
    /// As [`Started::add`] checks, on a processor with AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(
        rows: usize,
        x: *const u8,
        stride: usize,
        groups: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        // SAFETY: the caller's promise.
        unsafe { by_rows!(rows, avx2_rows, (x, stride, groups, panel, sums), 1 2 3 4 5 6) }
    }

    /// Products of 16-bit integers, added in pairs: `vpmaddubsw` on bytes would be twice as wide, but its 16-bit sums
    /// overflow.
    #[target_feature(enable = "avx2")]
    unsafe fn avx2_rows<const ROWS: usize>(
        x: *const u8,
        stride: usize,
        groups: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        let mut total = [[_mm256_setzero_si256(); 2]; ROWS];
        for group in 0..groups {
            // SAFETY: the panel has 32 bytes for each group, and a row four.
            unsafe {
                let bytes = panel.add(32 * group).cast::<__m128i>();
                let weights = [
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)),
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(1))),
                ];
                for (row, total) in total.iter_mut().enumerate() {
                    let pair = x.add(row * stride + 4 * group).cast::<i32>().read_unaligned();
                    let pair = _mm256_set1_epi32(pair);
                    for (total, weights) in total.iter_mut().zip(weights) {
                        *total = _mm256_add_epi32(*total, _mm256_madd_epi16(pair, weights));
                    }
                }
            }
        }
        for (row, total) in total.into_iter().enumerate() {
            for (half, total) in total.into_iter().enumerate() {
                // SAFETY: the sums have 16 columns for each row.
                unsafe {
                    let place = sums.add(16 * row + 8 * half);
                    let total = _mm256_add_epi32(total, _mm256_loadu_si256(place.cast()));
                    _mm256_storeu_si256(place.cast(), total);
                }
            }
        }
    }

    /// # Safety
    /// As [`Started::add`] checks, on a processor with AVX-512 VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni(
        rows: usize,
        x: *const u8,
        stride: usize,
        groups: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        // SAFETY: the caller's promise.
        unsafe { by_rows!(rows, vnni_rows, (x, stride, groups, panel, sums), 1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni_rows<const ROWS: usize>(
        x: *const u8,
        stride: usize,
        groups: usize,
        panel: *const i8,
        sums: *mut i32,
    ) {
        let mut total = [[_mm512_setzero_si512(); 2]; ROWS];
        for group in 0..groups {
            // SAFETY: the panel has 128 bytes for each group, and a row four.
            unsafe {
                let bytes = panel.add(128 * group);
                let weights = [_mm512_loadu_si512(bytes.cast()), _mm512_loadu_si512(bytes.add(64).cast())];
                for (row, total) in total.iter_mut().enumerate() {
                    let four = x.add(row * stride + 4 * group).cast::<i32>().read_unaligned();
                    let four = _mm512_set1_epi32(four);
                    for (total, weights) in total.iter_mut().zip(weights) {
                        *total = _mm512_dpbusd_epi32(*total, four, weights);
                    }
                }
            }
        }
        for (row, total) in total.into_iter().enumerate() {
            for (half, total) in total.into_iter().enumerate() {
                // SAFETY: the sums have 32 columns for each row.
                unsafe {
                    let place = sums.add(32 * row + 16 * half);
                    let total = _mm512_add_epi32(total, _mm512_loadu_si512(place.cast()));
                    _mm512_storeu_si512(place.cast(), total);
                }
            }
        }
    }
}
