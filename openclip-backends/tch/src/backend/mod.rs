//! The implementation of the seam over libtorch's tensors. Dimensions are checked by `ShapeBackend`, whose messages name
//! the axes; what libtorch refuses beyond that is an [`Error::Backend`](openclip_core::Error::Backend).

use openclip_core::{
    Backend, Dim, Dims, Error, HostTensor, Precision, Result, TokenBatch, Weights,
    backend::{
        Activation, AttentionSpec, BinaryOp, Conv2dSpec, DeviceSpec, Eager, EmbeddingSpec, LinearSpec,
        NormSpec, Pool2dSpec, PoolKind, Rearrange, ReduceOp, ShapeBackend, ShapeTensor, TokenPosition,
        WeightLayout,
    },
};
use tch::{Device, Kind, Tensor};

use self::layers::{Conv2d, Embedding, Linear, Norm, int};
use crate::{device, error::failed, kinds::Kinds, tensor::TchTensor, threads};

mod attention;
mod layers;
#[cfg(test)]
mod tests;

/// Runs models on libtorch.
#[derive(Clone, Debug)]
pub struct TchBackend {
    device: Device,
    kinds: Kinds,
}

impl TchBackend {
    /// A backend on `device` in `precision`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the device isn't there or the precision isn't available on it.
    pub fn new(device: DeviceSpec, precision: Precision) -> Result<Self> {
        let spec = device;
        let device = device::open(spec)?;
        let kinds = Kinds::new(precision, device)?;
        device::probe(spec, device, kinds.storage)?;
        Ok(Self { device, kinds })
    }

    /// Values on the device, in the backend's precision.
    fn tensor(&self, value: &HostTensor) -> Result<TchTensor> {
        let dims: Vec<i64> = value.dims().iter().copied().map(int).collect();
        run("upload", || {
            let values = Tensor::f_from_slice(value.data())?.f_reshape(dims)?;
            values.f_to_kind(self.kinds.storage)?.f_to_device(self.device)
        })
    }

    /// Reads a parameter.
    fn read(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<TchTensor> {
        self.tensor(&HostTensor::new(dims, w.read_f32(name, dims)?)?)
    }

    /// Reads a parameter that a layer may do without.
    fn read_if(&self, wanted: bool, w: &Weights, name: &str, dims: &[usize]) -> Result<Option<TchTensor>> {
        wanted.then(|| self.read(w, name, dims)).transpose()
    }
}

/// Runs libtorch's operations for `op`, without recording gradients and on as many threads as are wanted.
fn guarded<T>(op: &str, operations: impl FnOnce() -> tch::Result<T>) -> Result<T> {
    threads::apply();
    let _guard = tch::no_grad_guard();
    operations().map_err(failed(op))
}

/// As [`guarded`], for a tensor.
fn run(op: &str, operations: impl FnOnce() -> tch::Result<Tensor>) -> Result<TchTensor> {
    guarded(op, operations).map(TchTensor::from)
}

fn shape(x: &TchTensor) -> ShapeTensor {
    ShapeTensor(x.dims())
}

fn fixed(op: &str, dim: &Dim) -> Result<i64> {
    dim.fixed().map(int).ok_or_else(|| Error::shape(op, "a number", dim))
}

/// What `ShapeBackend` leaves to backends: that batches are equal, heads divide values, and a bias has four axes at most.
fn check_attention([q, k, v]: [&TchTensor; 3], spec: &AttentionSpec, bias: Option<&TchTensor>) -> Result<()> {
    ShapeBackend.attention(&shape(q), &shape(k), &shape(v), spec, bias.map(shape).as_ref())?;
    let [q, k, v] = [q, k, v].map(|x| x.inner().size());
    let batches = [&q, &k, &v].map(|dims| dims.first().copied());
    if batches.iter().any(|batch| *batch != batches[0])
        || v.last().is_none_or(|width| width % int(spec.heads) != 0)
    {
        let expected = format!("q, k, v of one batch, width divisible by {} heads", spec.heads);
        return Err(Error::shape("attention", expected, format!("{q:?}, {k:?}, {v:?}")));
    }
    match bias.map(|bias| bias.inner().size()) {
        Some(dims) if dims.len() > 4 => Err(Error::shape("attention bias", "four axes", format!("{dims:?}"))),
        _ => Ok(()),
    }
}

impl Backend for TchBackend {
    type Tensor = TchTensor;
    type Linear = Linear;
    type Conv2d = Conv2d;
    type Norm = Norm;
    type Embedding = Embedding;

    fn name(&self) -> &'static str {
        "tch"
    }

    fn dims(&self, x: &TchTensor) -> Dims {
        x.dims()
    }

    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<Linear> {
        let (weight, bias) = spec.read(w)?;
        let weight = self.tensor(&weight)?;
        let weight = match spec.layout {
            WeightLayout::OutIn => weight,
            WeightLayout::InOut => run("prepare_linear", || weight.inner().f_transpose(0, 1))?,
        };
        let bias = bias.map(|bias| self.tensor(&bias)).transpose()?;
        Ok(Linear { spec: spec.clone(), weight, bias })
    }

    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Conv2d> {
        let weight = HostTensor::new(spec.weight_dims(), spec.weight_values(w)?.into_owned())?;
        let bias = spec.read_bias(w)?.map(|bias| self.tensor(&bias)).transpose()?;
        Ok(Conv2d { spec: spec.clone(), weight: self.tensor(&weight)?, bias })
    }

    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<Norm> {
        let weight = self.read_if(spec.weight, w, "weight", &[spec.features])?;
        let bias = self.read_if(spec.bias, w, "bias", &[spec.features])?;
        Ok(Norm { spec: *spec, weight, bias })
    }

    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<Embedding> {
        Ok(Embedding { weight: self.read(w, "weight", &[spec.count, spec.features])? })
    }

    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<TchTensor> {
        self.read(w, name, dims)
    }

    fn constant(&self, value: &HostTensor) -> Result<TchTensor> {
        self.tensor(value)
    }

    fn linear(&self, x: &TchTensor, layer: &Linear) -> Result<TchTensor> {
        ShapeBackend.linear(&shape(x), &layer.spec)?;
        run("linear", || layer.forward(x.inner(), self.kinds.product))
    }

    fn conv2d(&self, x: &TchTensor, layer: &Conv2d) -> Result<TchTensor> {
        ShapeBackend.conv2d(&shape(x), &layer.spec)?;
        run("conv2d", || layer.forward(x.inner(), self.kinds.product))
    }

    fn norm(&self, x: &TchTensor, layer: &Norm) -> Result<TchTensor> {
        ShapeBackend.norm(&shape(x), &layer.spec)?;
        run("norm", || layer.forward(x.inner()))
    }

    fn embed(&self, ids: &TchTensor, table: &Embedding) -> Result<TchTensor> {
        run("embed", || table.forward(ids.inner()))
    }

    fn activate(&self, x: &TchTensor, activation: Activation) -> Result<TchTensor> {
        run("activate", || layers::activate(x.inner(), activation))
    }

    fn pool2d(&self, x: &TchTensor, spec: &Pool2dSpec) -> Result<TchTensor> {
        ShapeBackend.pool2d(&shape(x), spec)?;
        let [kernel, stride, padding] = [spec.kernel, spec.stride, spec.padding].map(|pair| pair.map(int));
        run("pool2d", || match spec.kind {
            PoolKind::Max => x.inner().f_max_pool2d(kernel, stride, padding, [1, 1], false),
            PoolKind::Average => x.inner().f_avg_pool2d(kernel, stride, padding, false, false, None),
        })
    }

    fn attention(
        &self,
        q: &TchTensor,
        k: &TchTensor,
        v: &TchTensor,
        spec: &AttentionSpec,
        bias: Option<&TchTensor>,
    ) -> Result<TchTensor> {
        check_attention([q, k, v], spec, bias)?;
        let (q, k, v, bias) = (q.inner(), k.inner(), v.inner(), bias.map(TchTensor::inner));
        run("attention", || attention::attention(q, k, v, spec, bias, self.kinds.product))
    }

    fn rearrange(&self, x: &TchTensor, how: Rearrange) -> Result<TchTensor> {
        ShapeBackend.rearrange(&shape(x), how)?;
        let x = x.inner();
        run("rearrange", || match how {
            Rearrange::SplitLast { parts } => {
                let mut dims = x.size();
                let last = dims.pop().unwrap_or(0);
                dims.extend([int(parts), last / int(parts)]);
                x.f_reshape(dims)
            }
            Rearrange::MergeLast => x.f_flatten(-2, -1),
            Rearrange::Transpose(a, b) => x.f_transpose(int(a), int(b)),
            Rearrange::SpatialToTokens => x.f_flatten(2, 3)?.f_transpose(1, 2),
            Rearrange::TokensToSpatial { height, width } => {
                let (batch, _, channels) = x.size3()?;
                x.f_transpose(1, 2)?.f_reshape([batch, channels, int(height), int(width)])
            }
            Rearrange::Unsqueeze(axis) => x.f_unsqueeze(int(axis)),
            Rearrange::Squeeze(axis) => x.f_squeeze_dim(int(axis)),
        })
    }

    fn binary(&self, op: BinaryOp, a: &TchTensor, b: &TchTensor) -> Result<TchTensor> {
        ShapeBackend.binary(op, &shape(a), &shape(b))?;
        let (a, b) = (a.inner(), b.inner());
        run("binary", || match op {
            BinaryOp::Add => a.f_add(b),
            BinaryOp::Sub => a.f_sub(b),
            BinaryOp::Mul => a.f_mul(b),
            BinaryOp::Div => a.f_div(b),
        })
    }

    fn matmul(&self, a: &TchTensor, b: &TchTensor) -> Result<TchTensor> {
        ShapeBackend.matmul(&shape(a), &shape(b))?;
        let product = self.kinds.product;
        run("matmul", || {
            a.inner()
                .f_to_kind(product)?
                .f_matmul(&b.inner().f_to_kind(product)?)?
                .f_to_kind(self.kinds.storage)
        })
    }

    fn reduce(&self, x: &TchTensor, op: ReduceOp, axis: usize) -> Result<TchTensor> {
        ShapeBackend.reduce(&shape(x), op, axis)?;
        let (x, axis) = (x.inner(), [int(axis)]);
        run("reduce", || match op {
            ReduceOp::Mean => x.f_mean_dim(&axis[..], false, None),
            ReduceOp::Sum => x.f_sum_dim_intlist(&axis[..], false, None),
            ReduceOp::Max => x.f_amax(axis, false),
        })
    }

    fn cat(&self, parts: &[&TchTensor], axis: usize) -> Result<TchTensor> {
        let shapes: Vec<ShapeTensor> = parts.iter().map(|part| shape(part)).collect();
        ShapeBackend.cat(&shapes.iter().collect::<Vec<_>>(), axis)?;
        let parts: Vec<&Tensor> = parts.iter().map(|part| part.inner()).collect();
        run("cat", || Tensor::f_cat(&parts, int(axis)))
    }

    fn slice(&self, x: &TchTensor, axis: usize, start: &Dim, end: &Dim) -> Result<TchTensor> {
        let (first, last) = (fixed("slice", start)?, fixed("slice", end)?);
        ShapeBackend.slice(&shape(x), axis, start, end)?;
        run("slice", || x.inner().f_narrow(int(axis), first, last - first))
    }

    fn take_rows(&self, x: &TchTensor, index: &TchTensor) -> Result<TchTensor> {
        ShapeBackend.take_rows(&shape(x), &shape(index))?;
        run("take_rows", || {
            let (batch, _, features) = x.inner().size3()?;
            let index = index.inner().f_reshape([batch, 1, 1])?.f_expand([batch, 1, features], false)?;
            x.inner().f_gather(1, &index, false)?.f_squeeze_dim(1)
        })
    }

    fn expand_batch(&self, x: &TchTensor, like: &TchTensor) -> Result<TchTensor> {
        ShapeBackend.expand_batch(&shape(x), &shape(like))?;
        let mut dims = x.inner().size();
        if let (Some(first), Some(batch)) = (dims.first_mut(), like.inner().size().first()) {
            *first = *batch;
        }
        run("expand_batch", || x.inner().f_expand(dims, false))
    }

    fn token_position(&self, ids: &TchTensor, which: TokenPosition) -> Result<TchTensor> {
        ShapeBackend.token_position(&shape(ids), which)?;
        let ids = ids.inner();
        // Of several equal values, argmax finds the first.
        run("token_position", || match which {
            TokenPosition::HighestId => ids.f_argmax(1, false),
            TokenPosition::First(id) => ids.f_eq(i64::from(id))?.f_to_kind(Kind::Int64)?.f_argmax(1, false),
        })
    }

    fn padding_bias(&self, ids: &TchTensor, pad_id: u32) -> Result<TchTensor> {
        ShapeBackend.padding_bias(&shape(ids), pad_id)?;
        run("padding_bias", || {
            let (batch, length) = ids.inner().size2()?;
            let dims = [batch, 1, 1, length];
            let hidden = ids.inner().f_eq(i64::from(pad_id))?.f_reshape(dims)?;
            let shown = Tensor::f_zeros(dims, (self.kinds.storage, self.device))?;
            shown.f_masked_fill(&hidden, f64::NEG_INFINITY)
        })
    }
}

impl Eager for TchBackend {
    fn upload(&self, value: &HostTensor) -> Result<TchTensor> {
        self.tensor(value)
    }

    fn upload_tokens(&self, tokens: &TokenBatch) -> Result<TchTensor> {
        let ids: Vec<i64> = tokens.ids().iter().copied().map(i64::from).collect();
        let dims = [int(tokens.rows()), int(tokens.length())];
        run("upload_tokens", || Tensor::f_from_slice(&ids)?.f_reshape(dims)?.f_to_device(self.device))
    }

    fn download(&self, x: &TchTensor) -> Result<HostTensor> {
        let x = x.inner();
        let mut values = vec![0.0; x.numel()];
        guarded("download", || x.f_to_kind(Kind::Float)?.f_copy_data(&mut values, x.numel()))?;
        let dims: Vec<usize> = x.size().into_iter().map(|size| usize::try_from(size).unwrap_or(0)).collect();
        HostTensor::new(dims, values)
    }
}
