//! Building blocks that image and text towers share, written once over [`Backend`](crate::Backend): the
//! residual attention block with everything that the families vary in it, a stack of such blocks, and
//! attentional pooling.

mod attention;
mod block;
mod keep;
mod options;
mod pooler;

pub use attention::{SelfAttention, SelfAttentionSpec};
pub use block::{BlockSpec, CustomBlock, ResidualAttentionBlock, Transformer, check_depth};
pub use keep::Keep;
pub use options::{ActivationOptions, NormOptions, gelu};
pub use pooler::{AttentionalPooler, AttentionalPoolerSpec};
