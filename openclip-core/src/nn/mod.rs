//! Building blocks that image and text towers share, written once over [`Backend`](crate::Backend): the
//! residual attention block with everything that the families vary in it, a stack of such blocks, the block that attends to
//! another sequence, and attentional pooling.

mod attention;
mod block;
mod branch;
mod cross;
mod keep;
mod mlp;
mod names;
mod options;
mod pooler;
mod rotary;

pub use attention::{AttentionContext, Extended, KeyValues, SelfAttention, SelfAttentionSpec};
pub use block::{BlockSpec, CustomBlock, NormPlace, ResidualAttentionBlock, Transformer, check_depth};
pub use cross::{CrossAttention, CrossAttentionBlock, CrossAttentionSpec};
pub use keep::Keep;
pub use mlp::{Mlp, MlpSpec};
pub use names::{AttentionNames, BlockNames, BranchNames, MlpNames};
pub use options::{ActivationOptions, NormOptions, gelu};
pub use pooler::{AttentionalPooler, AttentionalPoolerSpec};
pub use rotary::Rotary;
