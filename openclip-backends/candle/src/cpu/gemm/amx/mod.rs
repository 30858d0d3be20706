//! Tiles of Intel's AMX: two by two tiles of 16 x 16 sums, each the product of 64 bytes of 16 rows and of 16 columns in one
//! instruction.
//!
//! Rust has no stable intrinsics for them, so they are written in assembly.

mod parts;
pub mod split;
mod tiles;

use std::sync::OnceLock;

use super::sums::Streams;
use tiles::SPLIT_LINES;
pub use tiles::{PLAIN_LINES, Tiles};

/// Columns of a panel: two tiles.
pub const WIDTH: usize = 32;
/// Rows of the largest product: two tiles.
pub const ROWS: usize = 32;
/// 32-bit words of depth that one instruction takes.
pub const STEP: usize = 16;
/// Numbers of a row or column that a step takes, in pairs of halves.
const DEPTH: usize = 2 * STEP;
/// Parts of a number whose sum it is.
const PARTS: usize = 3;

/// Where a group of rows begins to ask for the memory `next` that is needed after it, when it asks for `lines` lines, half of them
/// of each stream: the first groups for all of it, each for its share, and those after them for what is there already.
pub fn ahead(next: Streams, group: usize, lines: usize, there: *const u8) -> [*const u8; 2] {
    let start = group * lines / 2 * 4 * STEP;
    next.map(|next| next.get(start..).filter(|rest| !rest.is_empty()).map_or(there, <[u8]>::as_ptr))
}

/// Whether the processor has tiles for bytes and for bfloat16, and the system lets this process use them.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && are_permitted())
}

fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25; // bfloat16, tiles, 8-bit integers
    let avx512 = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
    avx512 && __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES
}

/// Linux saves the tiles of a process only after it has asked for that.
fn are_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call reads two integers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}
