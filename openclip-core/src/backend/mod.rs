//! The seam between model definitions and what executes them.
//!
//! A [`Backend`] is a device plus a precision. Model code is generic over it, prepares its weights once through the
//! `prepare_*` methods and then computes with layers and a small closed set of glue operations. A backend may compute
//! at once ([`Eager`]) or record a graph, so models never look at values, and see the batch size as a [`Dim`] that
//! they pass on and never read.

pub mod composed;
mod device;
mod operations;
mod shapes;
mod spec;

pub use device::DeviceSpec;
pub use operations::OperationCounter;
pub use shapes::{ShapeBackend, ShapeTensor};
pub use spec::{
    Activation, AttentionSpec, BatchNormSpec, BinaryOp, Conv2dSpec, ConvBranch, EmbeddingSpec, LinearSpec,
    NormKind, NormSpec, ParamRows, Pool2dSpec, PoolKind, Precision, Rearrange, ReduceOp, TokenPosition,
    WeightLayout,
};

use crate::{Dim, Dims, HostTensor, Result, TokenBatch, Weights};

/// The attention branch of a plain pre-norm block.
pub struct AttentionBranch<'a, B: Backend> {
    /// Before everything else.
    pub norm: &'a B::Norm,
    /// Gives queries, keys and values side by side: `D -> 3*D`.
    pub in_proj: &'a B::Linear,
    /// Cosines and sines `[L, D]` that turn queries and keys, see [`Backend::rotate_pairs`].
    pub rotary: Option<[&'a B::Tensor; 2]>,
    /// Heads, scale and mask.
    pub spec: &'a AttentionSpec,
    /// What is added to the scores, see [`Backend::attention`].
    pub bias: Option<&'a B::Tensor>,
    /// `D -> D`.
    pub out_proj: &'a B::Linear,
}

/// What executes a model.
///
/// Dimensions are written `N` batch, `L` tokens, `C` channels, `H`, `W` spatial, `D` features. Norm statistics and
/// softmax are computed in `f32` at every precision.
///
/// # Errors
/// All fallible methods return [`Error::Shape`](crate::Error::Shape) for dimensions that don't fit,
/// [`Error::Weights`](crate::Error::Weights) from the `prepare_*` methods and
/// [`Error::Backend`](crate::Error::Backend) for failures of the library underneath.
pub trait Backend: Sized + Send + Sync + 'static {
    /// A device tensor, or a value of the graph that is being recorded.
    type Tensor: Clone + Send + Sync + 'static;
    /// A prepared linear layer. Layout, packing and element type are private to the backend.
    type Linear: Send + Sync;
    /// A prepared two-dimensional convolution.
    type Conv2d: Send + Sync;
    /// Prepared normalisation parameters.
    type Norm: Send + Sync;
    /// A prepared embedding table.
    type Embedding: Send + Sync;

    /// The backend's name on the command line: `candle`, `tch`, `ort`.
    fn name(&self) -> &'static str;

    /// The dimensions of `x`.
    fn dims(&self, x: &Self::Tensor) -> Dims;

    /// Reads a linear layer below the scope of `w`.
    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<Self::Linear>;

    /// Reads a convolution below the scope of `w`, and the batch normalisation beside it.
    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Self::Conv2d>;

    /// Reads normalisation parameters below the scope of `w`.
    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<Self::Norm>;

    /// Reads an embedding table below the scope of `w`.
    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<Self::Embedding>;

    /// Reads the parameter `name` below the scope of `w` as a tensor of dimensions `dims`.
    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<Self::Tensor>;

    /// A tensor that follows from the configuration and not from the weights.
    fn constant(&self, value: &HostTensor) -> Result<Self::Tensor>;

    /// `x W^T + b` and the fused activation: `[.., in] -> [.., out]`.
    fn linear(&self, x: &Self::Tensor, layer: &Self::Linear) -> Result<Self::Tensor>;

    /// Convolution: `[N, C, H, W] -> [N, out, H', W']`.
    fn conv2d(&self, x: &Self::Tensor, layer: &Self::Conv2d) -> Result<Self::Tensor>;

    /// Normalisation over the last axis: `[.., D] -> [.., D]`.
    fn norm(&self, x: &Self::Tensor, layer: &Self::Norm) -> Result<Self::Tensor>;

    /// Rows of the table: ids `[N, L] -> [N, L, D]`.
    fn embed(&self, ids: &Self::Tensor, table: &Self::Embedding) -> Result<Self::Tensor>;

    /// The activation function, element by element.
    fn activate(&self, x: &Self::Tensor, activation: Activation) -> Result<Self::Tensor>;

    /// Pooling over spatial windows: `[N, C, H, W] -> [N, C, H', W']`.
    fn pool2d(&self, x: &Self::Tensor, spec: &Pool2dSpec) -> Result<Self::Tensor>;

    /// Multi-head attention, heads split and merged inside:
    /// `q [N, Lq, heads*E]`, `k [N, Lk, heads*E]`, `v [N, Lk, heads*V] -> [N, Lq, heads*V]`.
    /// `bias` is added to the scores and broadcasts to `[N, heads, Lq, Lk]`.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        spec: &AttentionSpec,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Moves elements without computing.
    fn rearrange(&self, x: &Self::Tensor, how: Rearrange) -> Result<Self::Tensor>;

    /// Element by element with broadcasting, aligned at the last axis.
    fn binary(&self, op: BinaryOp, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Matrix product of the last two axes: `[.., M, K] x [.., K, N] -> [.., M, N]`, leading axes equal.
    fn matmul(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Reduces `axis` away.
    fn reduce(&self, x: &Self::Tensor, op: ReduceOp, axis: usize) -> Result<Self::Tensor>;

    /// Joins tensors along `axis`.
    fn cat(&self, parts: &[&Self::Tensor], axis: usize) -> Result<Self::Tensor>;

    /// The part `start..end` of `axis`.
    fn slice(&self, x: &Self::Tensor, axis: usize, start: &Dim, end: &Dim) -> Result<Self::Tensor>;

    /// One token per row: `x [N, L, D]`, `index [N] -> [N, D]`.
    fn take_rows(&self, x: &Self::Tensor, index: &Self::Tensor) -> Result<Self::Tensor>;

    /// Repeats `x [1, ..]` along axis 0 to the batch size of `like [N, ..]`.
    fn expand_batch(&self, x: &Self::Tensor, like: &Self::Tensor) -> Result<Self::Tensor>;

    /// Where a token stands in each text: ids `[N, L] -> [N]`, an index for [`take_rows`](Self::take_rows).
    fn token_position(&self, ids: &Self::Tensor, which: TokenPosition) -> Result<Self::Tensor>;

    /// An attention bias that hides padding: ids `[N, L] -> [N, 1, 1, L]`, `-inf` where the id is `pad_id`, else 0.
    fn padding_bias(&self, ids: &Self::Tensor, pad_id: u32) -> Result<Self::Tensor>;

    /// Neighbouring features turned as the coordinates of a point: `x [N, L, D]`, `cos` and `sin` `[L, D]`,
    /// `y[2i] = cos[2i] x[2i] + sin[2i] x[2i+1]` and `y[2i+1] = cos[2i+1] x[2i+1] + sin[2i+1] x[2i]`. So `sin` has the sign
    /// of its term.
    fn rotate_pairs(&self, x: &Self::Tensor, cos: &Self::Tensor, sin: &Self::Tensor) -> Result<Self::Tensor> {
        composed::rotate_pairs(self, x, cos, sin)
    }

    /// `x + out_proj(attention(in_proj(norm(x))))`: the attention branch of a plain pre-norm block, `[N, L, D] -> [N, L, D]`.
    fn residual_attention(
        &self,
        x: &Self::Tensor,
        branch: &AttentionBranch<'_, Self>,
    ) -> Result<Self::Tensor> {
        composed::residual_attention(self, x, branch)
    }

    /// `shortcut + proj(fc(norm(x)))`, `[.., D] -> [.., D]`: the MLP branch of a block. In a plain pre-norm block `shortcut` is
    /// `x`; in ConvNeXt a convolution lies between them.
    fn residual_mlp(
        &self,
        shortcut: &Self::Tensor,
        x: &Self::Tensor,
        norm: &Self::Norm,
        fc: &Self::Linear,
        proj: &Self::Linear,
    ) -> Result<Self::Tensor> {
        composed::residual_mlp(self, shortcut, x, norm, fc, proj)
    }
}

/// A backend that computes at once: values can be handed in and taken out.
pub trait Eager: Backend {
    /// Runs a forward pass on the threads that are meant for it.
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// Moves a host tensor to the device, in the backend's precision.
    fn upload(&self, value: &HostTensor) -> Result<Self::Tensor>;

    /// Moves token ids to the device.
    fn upload_tokens(&self, tokens: &TokenBatch) -> Result<Self::Tensor>;

    /// Moves a device tensor to the host as `f32`.
    fn download(&self, x: &Self::Tensor) -> Result<HostTensor>;
}
