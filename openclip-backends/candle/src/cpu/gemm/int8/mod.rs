//! The product in 8-bit integers: weights with a factor per column, made once, and rows of `X` with a factor and an offset
//! each, made on the fly. Sums are exact 32-bit integers, so every instruction set gives the same numbers.
//!
//! `y[m, n] = a[m] s[n] (sum_k (q[m, k] - z[m]) w[k, n]) + b[n]`, `q` in `0..=255`, `w` in `-127..=127`.

/// Largest `K` whose sums fit into 32 bits whatever the values are.
pub const DEEPEST: usize = i32::MAX as usize / (255 * 127);

mod kernel;
mod product;
mod rows;
mod weights;

pub use product::multiply;
pub use rows::QuantizedRows;
pub use weights::{Int8Panels, QuantizedColumns};

/// Columns of a panel and neighbours in depth that lie together, on this processor.
pub fn tile_layout() -> [usize; 2] {
    let kernel = kernel::kernel();
    [kernel.width, kernel.group]
}

#[cfg(test)]
mod tests;
