//! The products themselves.
//!
//! `tmm0` to `tmm3` hold the sums (above left, above right, below left, below right), `tmm4` and `tmm5` rows, `tmm6` and
//! `tmm7` columns. With 16 rows or fewer there is no lower half.
//!
//! The tiles are configured once for all groups of rows of a product, which therefore have the same height: instructions of one
//! group overlap with those of the next. The last group may reach over the end of the rows.

use std::{arch::asm, marker::PhantomData};

use super::{PARTS, ROWS, STEP, WIDTH};

/// Bytes of a row of a tile: what a product takes of a row of `x` at each step.
const LINE: usize = 4 * STEP;
/// Bytes of a row of a panel, and of sums.
const PANEL_LINE: usize = 4 * WIDTH;
/// Bytes of a panel at each step.
const PANEL_STEP: usize = STEP * PANEL_LINE;

/// What `ldtilecfg` reads: how many rows and how many bytes of each a tile has.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// For rows above and below.
    fn new(above: usize, below: usize) -> Self {
        let (above, below, depth) = (above as u8, below as u8, STEP as u8);
        let used = [above, above, below, below, above, below, depth, depth];
        let rows = std::array::from_fn(|tile| used.get(tile).copied().unwrap_or(0));
        let bytes = rows.map(|rows| if rows > 0 { LINE as u16 } else { 0 });
        Self { palette: 1, start: 0, reserved: [0; 14], bytes, rows }
    }
}

/// The tiles of this thread while they are used, for products of one height.
pub struct Tiles {
    above: usize,
    below: usize,
    /// They belong to the thread.
    _here: PhantomData<*const ()>,
}

impl Tiles {
    /// Tiles for products of as many groups of rows, at most [`ROWS`] each, as `rows` rows take.
    ///
    /// # Panics
    /// On a processor without them.
    pub fn new(rows: usize) -> Self {
        assert!(super::is_available(), "tiles are only used where they are");
        let groups = rows.div_ceil(ROWS).max(1);
        let halves = if rows <= ROWS / 2 { 1 } else { 2 };
        let above = rows.div_ceil(halves * groups).max(1);
        let below = if halves == 2 { above } else { 0 };
        let configuration = Configuration::new(above, below);
        // SAFETY: the processor has the instruction, which reads the configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Self { above, below, _here: PhantomData }
    }

    /// Rows of a group.
    pub fn height(&self) -> usize {
        self.above + self.below
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: who has such a value runs on a processor that has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A function that adds the products of a group of rows and a block of a panel to `sums [height, WIDTH]`. At each of `steps` steps
/// of depth it takes `parts` lines of each row, `stride` bytes apart, and as many times `STEP` rows of the panel, and asks for
/// `lines` lines, half of them from each of `ahead` on: memory that is needed later comes while the tiles are busy. `$both` multiplies them into both
/// halves of the rows, `$above` into the first.
macro_rules! product {
    ($(#[$about:meta])* $name:ident, $sum:ty, $parts:expr, $lines:expr, [$($both:expr,)*], [$($above:expr,)*]) => {
        impl Tiles {
            $(#[$about])*
            pub unsafe fn $name(
                &self,
                x: *const u8,
                stride: usize,
                steps: usize,
                panel: *const u8,
                sums: *mut $sum,
                ahead: [*const u8; 2],
            ) {
                if steps == 0 {
                    return;
                }
                if self.below > 0 {
                    // SAFETY: the caller's promise. The tiles are configured, and nothing else uses them.
                    unsafe {
                        asm!(
                            "tileloadd tmm0, [{sums} + {line}*1]",
                            "tileloadd tmm1, [{sums} + {line}*1 + 64]",
                            "tileloadd tmm2, [{sums_below} + {line}*1]",
                            "tileloadd tmm3, [{sums_below} + {line}*1 + 64]",
                            "2:",
                            $($both,)*
                            "add {x}, {x_step}",
                            "add {below}, {x_step}",
                            "add {panel}, {panel_step}",
                            "add {ahead}, {ahead_step}",
                            "add {beside}, {ahead_step}",
                            "dec {steps}",
                            "jnz 2b",
                            "tilestored [{sums} + {line}*1], tmm0",
                            "tilestored [{sums} + {line}*1 + 64], tmm1",
                            "tilestored [{sums_below} + {line}*1], tmm2",
                            "tilestored [{sums_below} + {line}*1 + 64], tmm3",
                            sums = in(reg) sums,
                            sums_below = in(reg) sums.add(self.above * WIDTH),
                            line = in(reg) PANEL_LINE,
                            x = inout(reg) x => _,
                            below = inout(reg) x.add(self.above * stride) => _,
                            stride = in(reg) stride,
                            panel = inout(reg) panel => _,
                            steps = inout(reg) steps => _,
                            ahead = inout(reg) ahead[0] => _,
                            beside = inout(reg) ahead[1] => _,
                            x_step = const $parts * LINE,
                            ahead_step = const $lines / 2 * LINE,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            panel_step = const $parts * PANEL_STEP,
                            options(nostack),
                        );
                    }
                } else {
                    // SAFETY: as above.
                    unsafe {
                        asm!(
                            "tileloadd tmm0, [{sums} + {line}*1]",
                            "tileloadd tmm1, [{sums} + {line}*1 + 64]",
                            "2:",
                            $($above,)*
                            "add {x}, {x_step}",
                            "add {panel}, {panel_step}",
                            "add {ahead}, {ahead_step}",
                            "add {beside}, {ahead_step}",
                            "dec {steps}",
                            "jnz 2b",
                            "tilestored [{sums} + {line}*1], tmm0",
                            "tilestored [{sums} + {line}*1 + 64], tmm1",
                            sums = in(reg) sums,
                            line = in(reg) PANEL_LINE,
                            x = inout(reg) x => _,
                            stride = in(reg) stride,
                            panel = inout(reg) panel => _,
                            steps = inout(reg) steps => _,
                            ahead = inout(reg) ahead[0] => _,
                            beside = inout(reg) ahead[1] => _,
                            x_step = const $parts * LINE,
                            ahead_step = const $lines / 2 * LINE,
                            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                            panel_step = const $parts * PANEL_STEP,
                            options(nostack),
                        );
                    }
                }
            }
        }
    };
}

/// Lines that a step of [`Tiles::add_bytes`] and [`Tiles::add_pairs`] asks for: half of those of a panel.
pub const PLAIN_LINES: usize = 16;
/// Lines that a step of [`Tiles::add_split`] asks for: half of those of a panel of 32-bit floats.
pub const SPLIT_LINES: usize = 32;

/// Asks for a few lines of each stream.
macro_rules! fetch {
    ($($place:literal)*) => {
        concat!($("prefetcht0 [{ahead} + 64*", $place, "]\nprefetcht0 [{beside} + 64*", $place, "]\n",)*)
    };
}

/// Assembles the products of one line of each row.
macro_rules! plain {
    ($(#[$about:meta])* $name:ident, $sum:ty, $multiply:literal) => {
        product!(
            $(#[$about])*
            $name, $sum, 1, PLAIN_LINES,
            [
                "tileloadd tmm4, [{x} + {stride}*1]",
                "tileloadd tmm6, [{panel} + {line}*1]",
                "tileloadd tmm7, [{panel} + {line}*1 + 64]",
                concat!($multiply, " tmm0, tmm4, tmm6"),
                fetch!(0 1),
                concat!($multiply, " tmm1, tmm4, tmm7"),
                fetch!(2 3),
                "tileloadd tmm5, [{below} + {stride}*1]",
                concat!($multiply, " tmm2, tmm5, tmm6"),
                fetch!(4 5),
                concat!($multiply, " tmm3, tmm5, tmm7"),
                fetch!(6 7),
            ],
            [
                "tileloadd tmm4, [{x} + {stride}*1]",
                "tileloadd tmm6, [{panel} + {line}*1]",
                "tileloadd tmm7, [{panel} + {line}*1 + 64]",
                concat!($multiply, " tmm0, tmm4, tmm6"),
                fetch!(0 1 2 3),
                concat!($multiply, " tmm1, tmm4, tmm7"),
                fetch!(4 5 6 7),
            ]
        );
    };
}

plain!(
    /// Bytes times signed bytes, four neighbours in depth at a time.
    ///
    /// # Safety
    /// From `x` on there are as many rows as the height of `64 steps` bytes, `stride` bytes apart, from `panel` on
    /// `16 steps` rows of `4 WIDTH` bytes, and `sums [height, WIDTH]`.
    add_bytes, i32, "tdpbusd"
);

plain!(
    /// bfloat16, pairs of neighbours in depth at a time.
    ///
    /// # Safety
    /// As [`add_bytes`](Self::add_bytes).
    add_pairs, f32, "tdpbf16ps"
);

product!(
    /// Numbers in [`PARTS`] bfloat16 parts each, the largest first, pairs of neighbours in depth at a time: what three parts of
    /// 8 bits hold is a number of 24. Of the nine products those three are left out that are smaller than its last bit;
    /// the others are added in an order in which neighbours share a factor.
    ///
    /// # Safety
    /// As [`add_bytes`](Self::add_bytes), with `PARTS` lines of a row after each other for each step, and `PARTS` times 16 rows of
    /// the panel.
    add_split, f32, PARTS, SPLIT_LINES,
    [
        "tileloadd tmm4, [{x} + {stride}*1 + 128]",
        "tileloadd tmm5, [{below} + {stride}*1 + 128]",
        "tileloadd tmm6, [{panel} + {line}*1 + 0]",
        "tileloadd tmm7, [{panel} + {line}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(0),
        "tdpbf16ps tmm1, tmm4, tmm7",
        "tdpbf16ps tmm2, tmm5, tmm6",
        fetch!(1),
        "tdpbf16ps tmm3, tmm5, tmm7",
        fetch!(2),
        "tileloadd tmm4, [{x} + {stride}*1 + 64]",
        "tileloadd tmm5, [{below} + {stride}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(3),
        "tdpbf16ps tmm2, tmm5, tmm6",
        fetch!(4),
        "tdpbf16ps tmm3, tmm5, tmm7",
        "tileloadd tmm6, [{panel} + {line}*1 + 2048]",
        "tileloadd tmm7, [{panel} + {line}*1 + 2112]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(5),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(6),
        "tdpbf16ps tmm2, tmm5, tmm6",
        "tdpbf16ps tmm3, tmm5, tmm7",
        fetch!(7),
        "tileloadd tmm4, [{x} + {stride}*1 + 0]",
        "tileloadd tmm5, [{below} + {stride}*1 + 0]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(8),
        "tdpbf16ps tmm1, tmm4, tmm7",
        "tdpbf16ps tmm2, tmm5, tmm6",
        fetch!(9),
        "tdpbf16ps tmm3, tmm5, tmm7",
        fetch!(10),
        "tileloadd tmm6, [{panel} + {line}*1 + 0]",
        "tileloadd tmm7, [{panel} + {line}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(11),
        "tdpbf16ps tmm2, tmm5, tmm6",
        fetch!(12),
        "tdpbf16ps tmm3, tmm5, tmm7",
        "tileloadd tmm6, [{panel} + {line}*1 + 4096]",
        "tileloadd tmm7, [{panel} + {line}*1 + 4160]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(13),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(14),
        "tdpbf16ps tmm2, tmm5, tmm6",
        "tdpbf16ps tmm3, tmm5, tmm7",
        fetch!(15),
    ],
    [
        "tileloadd tmm4, [{x} + {stride}*1 + 128]",
        "tileloadd tmm6, [{panel} + {line}*1 + 0]",
        "tileloadd tmm7, [{panel} + {line}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(0),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(1 2),
        "tileloadd tmm4, [{x} + {stride}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(3),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(4),
        "tileloadd tmm6, [{panel} + {line}*1 + 2048]",
        "tileloadd tmm7, [{panel} + {line}*1 + 2112]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(5 6),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(7),
        "tileloadd tmm4, [{x} + {stride}*1 + 0]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(8),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(9 10),
        "tileloadd tmm6, [{panel} + {line}*1 + 0]",
        "tileloadd tmm7, [{panel} + {line}*1 + 64]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(11),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(12),
        "tileloadd tmm6, [{panel} + {line}*1 + 4096]",
        "tileloadd tmm7, [{panel} + {line}*1 + 4160]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        fetch!(13 14),
        "tdpbf16ps tmm1, tmm4, tmm7",
        fetch!(15),
    ]
);
