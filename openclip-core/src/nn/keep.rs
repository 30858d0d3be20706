//! The tokens that are needed of a block's output.

use crate::{Backend, Dim, Result, backend::Rearrange};

/// The tokens that are needed of a block's output: all of them, except that the last block of a tower that pools one token
/// computes that one alone.
#[derive(Clone, Debug)]
pub enum Keep<T> {
    /// All.
    All,
    /// The first.
    First,
    /// One of each row, by an index `[N]` as [`Backend::token_position`] gives it.
    Indexed(T),
}

impl<T> Keep<T> {
    /// The tokens of `x [N, L, D]` that are kept: `[N, L', D]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn apply<B: Backend<Tensor = T>>(&self, backend: &B, x: T) -> Result<T> {
        match self {
            Self::All => Ok(x),
            Self::First => backend.slice(&x, 1, &Dim::Fixed(0), &Dim::Fixed(1)),
            Self::Indexed(index) => {
                backend.rearrange(&backend.take_rows(&x, index)?, Rearrange::Unsqueeze(1))
            }
        }
    }
}
