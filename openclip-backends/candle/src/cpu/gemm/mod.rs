//! Matrix products with weights that are packed once, while the model is built.
//!
//! `Y = act(X W + b)` or `Y += X W + b`, where `X [M, K]` is read where it stands and `W [K, N]` is stored in panels: all
//! rows of a few columns, as many as the registers of the processor take, one panel after the other. A tile of `Y` is
//! added up in registers over a block of a panel that fits into the first-level cache, while the next block is fetched
//! from memory: all weights of a model pass by once for each hundred rows of `X`, and no cache keeps them until then.
//!
//! Which instructions are used is found out at run time:
//!
//! | weights | x86-64 | elsewhere |
//! |---|---|---|
//! | `f32`; `f16` and 8-bit integers that are widened to it | AMX in three parts of `bf16`, AVX-512, AVX2 with FMA | what `rten-simd` has |
//! | `bf16` | AMX, pairs of `bf16` on AVX-512 BF16, else widened as above | widened as above |
//! | 8-bit integers times 8-bit integers | AMX, AVX-512 VNNI, AVX2 | plain loops |

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
pub mod bf16;
mod compressed;
mod float;
pub mod int8;
mod operand;
mod panels;
mod product;
mod sums;
mod tile;

pub use compressed::Compressed;
pub use float::multiply;
pub use operand::Operand;
pub use panels::{PanelSource, Panels, panel_width};
pub use product::Epilogue;

/// Whether products are computed by tiles of AMX.
pub fn has_tiles() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return amx::is_available();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}
