//! The implementation of the seam over candle's tensors.

use std::{borrow::Cow, path::Path, sync::Arc};

use candle_core::{D, DType, Device, Tensor};
use openclip_core::{
    Backend, Dim, Dims, DisplayDims, Error, HostTensor, Precision, Result, TokenBatch, Weights,
    backend::{
        Activation, AttentionBranch, AttentionSpec, BinaryOp, Conv2dSpec, DeviceSpec, Eager, EmbeddingSpec,
        LinearSpec, NormKind, NormSpec, Pool2dSpec, Rearrange, ReduceOp, TokenPosition, WeightLayout,
        composed,
    },
    weights::Table,
};

use rayon::ThreadPool;

use crate::{cpu, device, pool};

mod portable;
#[cfg(test)]
mod tests;

/// Runs models on candle.
#[derive(Clone, Debug)]
pub struct CandleBackend {
    device: Device,
    precision: Precision,
    /// Whether the kernels for the CPU are used where there are any.
    own_kernels: bool,
    /// Threads of the kernels; rayon's global pool where there is none.
    pool: Option<Arc<ThreadPool>>,
    /// Packed weights on disk.
    cache: Option<Arc<cpu::PackedCache>>,
}

impl CandleBackend {
    /// A backend on `device` in `precision`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the device isn't there or the precision isn't available on it.
    pub fn new(device: DeviceSpec, precision: Precision) -> Result<Self> {
        let unsupported = |message: String| Err(Error::Unsupported { backend: "candle", message });
        let device_spec = device;
        let device = device::open(device)?;
        if precision != Precision::F32 && !device.is_cpu() {
            return unsupported(format!(
                "precision {precision} is not available on {device_spec}: use --precision f32"
            ));
        }
        Ok(Self { own_kernels: device.is_cpu(), device, precision, pool: None, cache: None })
    }

    /// With a number of threads of its own on the CPU. Backends with the same number share them.
    ///
    /// # Errors
    /// [`Error::Backend`] when the threads can't be started.
    pub fn with_threads(mut self, threads: usize) -> Result<Self> {
        self.pool = Some(pool::of(threads).map_err(|error| Error::backend("threads", error))?);
        Ok(self)
    }

    /// With the packed weights that are kept in `folder` of the checkpoint of `w` below its scope. What isn't kept there yet
    /// is added by [`keep_packed`](Self::keep_packed). On other devices than the CPU nothing is.
    pub fn with_packed_cache(mut self, folder: &Path, w: &Weights) -> Self {
        if self.own_kernels {
            self.cache = cpu::PackedCache::open(folder, w, self.precision).map(Arc::new);
        }
        self
    }

    /// Writes the weights that have been packed since [`with_packed_cache`](Self::with_packed_cache) and lets go of the cache:
    /// to be called once a tower is built. A folder that can't be written to is warned of.
    pub fn keep_packed(&mut self) {
        if let Some(cache) = self.cache.take() {
            cache.finish();
        }
    }

    fn tensor(&self, value: HostTensor) -> Result<Tensor> {
        let dims = value.dims().to_vec();
        Tensor::from_vec(value.into_data(), dims, &self.device).map_err(failed("upload"))
    }

    /// The checked bias of an attention, for the kernels.
    fn host_bias(
        &self,
        bias: Option<&Tensor>,
        heads: usize,
        q: &Tensor,
        k: &Tensor,
    ) -> Result<Option<HostTensor>> {
        check_bias(bias, heads, q, k)?;
        bias.map(|bias| self.download(bias)).transpose()
    }

    /// Packs a linear layer for the CPU, or takes it from what is kept on disk. `values` reads the weight, in the layout of
    /// `spec`; `parameters` are what it is read from, and `name` says how.
    fn packed<'w>(
        &self,
        w: &'w Weights,
        (name, parameters): (String, &[&str]),
        spec: &LinearSpec,
        bias: Option<HostTensor>,
        values: impl FnOnce() -> Result<Cow<'w, [f32]>>,
    ) -> Result<cpu::PackedLinear> {
        let adapted = parameters.iter().any(|parameter| w.is_adapted(parameter));
        let cache = self.cache.as_deref().filter(|_| !adapted);
        let kept_as = match spec.layout {
            WeightLayout::OutIn => name,
            WeightLayout::InOut => name + " transposed",
        };
        if let Some(cache) = cache
            && let Some(layer) = cpu::PackedLinear::kept(cache, &kept_as, spec, bias.clone(), self.precision)
        {
            return Ok(layer);
        }
        let layer = cpu::PackedLinear::new(spec, &values()?, bias, self.precision).map_err(|message| {
            let message = format!("{kept_as}: {message}");
            Error::Unsupported { backend: "candle", message }
        })?;
        parameters.iter().for_each(|parameter| w.release(parameter));
        if let Some(cache) = cache {
            layer.keep(cache, &kept_as);
        }
        Ok(layer)
    }

    /// Reads a parameter as `f32`.
    fn read(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<HostTensor> {
        HostTensor::new(dims, w.read_f32(name, dims)?)
    }
}

/// A linear layer, packed for the CPU or on a device.
pub enum Linear {
    /// For the CPU.
    Packed(Box<cpu::PackedLinear>),
    /// `weight [in, out]` on another device.
    Device {
        /// `[in, out]`.
        weight: Tensor,
        /// `[out]`.
        bias: Option<Tensor>,
        /// Applied to the output.
        activation: Option<Activation>,
    },
}

/// A vocabulary's embeddings.
pub enum Embedding {
    /// Where they lie in the checkpoint.
    Table(Table),
    /// On another device, or in another precision than the checkpoint's.
    Tensor(Tensor),
}

/// A convolution.
pub enum Conv2d {
    /// Over all channels, for the CPU.
    Dense(Box<cpu::DenseConv2d>),
    /// Channel by channel, for the CPU.
    Depthwise(Box<cpu::DepthwiseConv2d>),
    /// Any other, or on another device.
    Device {
        /// What it is.
        spec: Conv2dSpec,
        /// `[out, in / groups, kernel_h, kernel_w]`.
        weight: Tensor,
        /// `[out]`.
        bias: Option<Tensor>,
    },
}

/// Normalisation parameters, as slices for the CPU or on a device.
pub enum Norm {
    /// For the CPU.
    Rows(cpu::RowNorm),
    /// On another device.
    Device {
        /// What is made equal.
        kind: NormKind,
        /// Added to the variance.
        eps: f64,
        /// `[features]`.
        weight: Option<Tensor>,
        /// `[features]`.
        bias: Option<Tensor>,
    },
}

fn failed(op: &'static str) -> impl Fn(candle_core::Error) -> Error {
    move |error| Error::backend(op, error)
}

fn dims3(op: &str, x: &Tensor, expected: &str) -> Result<(usize, usize, usize)> {
    x.dims3().map_err(|_| Error::shape(op, expected, format!("{:?}", x.dims())))
}

/// Checks that an attention bias broadcasts to `[N, heads, Lq, Lk]` for `q [N, Lq, D]`, `k [N, Lk, D]`.
fn check_bias(bias: Option<&Tensor>, heads: usize, q: &Tensor, k: &Tensor) -> Result<()> {
    let Some(bias) = bias else { return Ok(()) };
    let (batch, queries, _) = dims3("attention", q, "q [N, Lq, D]")?;
    let (_, keys, _) = dims3("attention", k, "k [N, Lk, D]")?;
    let scores = [batch, heads, queries, keys];
    let broadcasts =
        bias.rank() == 4 && bias.dims().iter().zip(scores).all(|(&dim, size)| dim == 1 || dim == size);
    match broadcasts {
        true => Ok(()),
        false => {
            let expected = format!("to broadcast to {scores:?}");
            Err(Error::shape("attention bias", expected, format!("{:?}", bias.dims())))
        }
    }
}

fn fixed(op: &str, dim: &Dim) -> Result<usize> {
    dim.fixed().ok_or_else(|| Error::shape(op, "a number", dim))
}

impl Backend for CandleBackend {
    type Tensor = Tensor;
    type Linear = Linear;
    type Conv2d = Conv2d;
    type Norm = Norm;
    type Embedding = Embedding;

    fn name(&self) -> &'static str {
        "candle"
    }

    fn dims(&self, x: &Tensor) -> Dims {
        x.dims().iter().map(|&dim| Dim::Fixed(dim)).collect()
    }

    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<Linear> {
        if self.own_kernels {
            spec.require(w)?;
            let parameters: Vec<&str> = spec.weight.iter().map(|part| part.name.as_str()).collect();
            let named = (spec.weight_name(w), parameters.as_slice());
            let layer = self.packed(w, named, spec, spec.read_bias(w)?, || spec.weight_values(w))?;
            return Ok(Linear::Packed(Box::new(layer)));
        }
        let (weight, bias) = spec.read(w)?;
        let weight = self.tensor(weight)?;
        let weight = match spec.layout {
            WeightLayout::OutIn => weight.t().map_err(failed("transpose"))?,
            WeightLayout::InOut => weight,
        };
        let bias = bias.map(|bias| self.tensor(bias)).transpose()?;
        Ok(Linear::Device { weight, bias, activation: spec.activation })
    }

    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Conv2d> {
        spec.require(w)?;
        let bias = spec.read_bias(w)?;
        let Conv2dSpec { in_channels, out_channels, kernel, stride, padding, groups, activation, .. } = *spec;
        let geometry = cpu::Geometry { kernel, stride, padding };
        if self.own_kernels && groups == 1 {
            let linear =
                LinearSpec::new(spec.weight_dims()[1..].iter().product(), out_channels).unquantized();
            let linear = LinearSpec { activation, ..linear };
            let planes = cpu::DenseConv2d::takes_planes(in_channels);
            let name = w.path("weight") + if planes { "" } else { " by place" };
            let values = || match planes {
                true => spec.weight_values(w),
                false => {
                    let places = kernel[0] * kernel[1];
                    Ok(cpu::DenseConv2d::reorder(&spec.weight_values(w)?, in_channels, places).into())
                }
            };
            let layer = self.packed(w, (name, ["weight"].as_slice()), &linear, bias, values)?;
            return Ok(Conv2d::Dense(Box::new(cpu::DenseConv2d::new(geometry, in_channels, layer))));
        }
        if self.own_kernels && groups == in_channels && out_channels.is_multiple_of(in_channels) {
            let (weight, bias) = (spec.weight_values(w)?, bias.as_ref().map(HostTensor::data));
            let layer =
                cpu::DepthwiseConv2d::new(geometry, in_channels, out_channels, &weight, bias, activation);
            w.release("weight");
            return Ok(Conv2d::Depthwise(Box::new(layer)));
        }
        let weight = HostTensor::new(spec.weight_dims(), spec.weight_values(w)?.into_owned())?;
        let bias = bias.map(|bias| self.tensor(bias)).transpose()?;
        Ok(Conv2d::Device { spec: spec.clone(), weight: self.tensor(weight)?, bias })
    }

    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<Norm> {
        let read = |name: &str, wanted: bool| match wanted {
            true => self.read(w, name, &[spec.features]).map(Some),
            false => Ok(None),
        };
        let (weight, bias) = (read("weight", spec.weight)?, read("bias", spec.bias)?);
        if self.own_kernels {
            return Ok(Norm::Rows(cpu::RowNorm {
                kind: spec.kind,
                eps: spec.eps as f32,
                weight: weight.map(HostTensor::into_data),
                bias: bias.map(HostTensor::into_data),
                features: spec.features,
            }));
        }
        let upload = |value: Option<HostTensor>| value.map(|value| self.tensor(value)).transpose();
        Ok(Norm::Device { kind: spec.kind, eps: spec.eps, weight: upload(weight)?, bias: upload(bias)? })
    }

    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<Embedding> {
        if self.own_kernels && self.precision == Precision::F32 {
            return w.table("weight", [spec.count, spec.features]).map(Embedding::Table);
        }
        let values = self.read(w, "weight", &[spec.count, spec.features])?;
        let stored = match self.precision {
            Precision::F32 => DType::F32,
            // A table costs no time, but memory.
            Precision::F16 | Precision::Int8 | Precision::Int8Weights => DType::F16,
            Precision::Bf16 => DType::BF16,
        };
        if stored == DType::F16
            && let Some(value) = values.data().iter().find(|value| value.abs() > f32::from(half::f16::MAX))
        {
            let message =
                format!("{}: the value {value} can't be stored in f16: use bf16 or f32", w.path("weight"));
            return Err(Error::Unsupported { backend: "candle", message });
        }
        self.tensor(values)?.to_dtype(stored).map(Embedding::Tensor).map_err(failed("embedding"))
    }

    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<Tensor> {
        self.tensor(self.read(w, name, dims)?)
    }

    fn constant(&self, value: &HostTensor) -> Result<Tensor> {
        self.tensor(value.clone())
    }

    fn linear(&self, x: &Tensor, layer: &Linear) -> Result<Tensor> {
        let run = || match layer {
            Linear::Packed(packed) => cpu::ops::linear(x, packed),
            Linear::Device { weight, bias, activation } => {
                let y = portable::rows_times(x, weight)?;
                let y = match bias {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                };
                match activation {
                    Some(activation) => portable::activate(&y, *activation),
                    None => Ok(y),
                }
            }
        };
        run().map_err(failed("linear"))
    }

    fn conv2d(&self, x: &Tensor, layer: &Conv2d) -> Result<Tensor> {
        let (spec, weight, bias) = match layer {
            Conv2d::Dense(layer) => return cpu::ops::dense_conv2d(x, layer).map_err(failed("conv2d")),
            Conv2d::Depthwise(layer) => {
                return cpu::ops::depthwise_conv2d(x, layer).map_err(failed("conv2d"));
            }
            Conv2d::Device { spec, weight, bias } => (spec, weight, bias),
        };
        let run = || {
            let Conv2dSpec { kernel, stride, padding: [pad_y, pad_x], groups, .. } = *spec;
            let x = x.pad_with_zeros(2, pad_y, pad_y)?.pad_with_zeros(3, pad_x, pad_x)?;
            let y = if spec.is_patches() {
                portable::patches(&x, kernel, weight)?
            } else if stride[0] == stride[1] {
                x.conv2d(weight, 0, stride[0], 1, groups)?
            } else {
                candle_core::bail!("steps {stride:?} differ by axis")
            };
            match bias {
                Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
                None => Ok(y),
            }
        };
        let y = run().map_err(failed("conv2d"))?;
        match spec.activation {
            Some(activation) => self.activate(&y, activation),
            None => Ok(y),
        }
    }

    fn norm(&self, x: &Tensor, layer: &Norm) -> Result<Tensor> {
        let run = || match layer {
            Norm::Rows(rows) => cpu::ops::norm(x, rows),
            Norm::Device { kind, eps, weight, bias } => {
                let centred = match kind {
                    NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
                    NormKind::Rms => x.clone(),
                };
                let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
                let mut y = centred.broadcast_div(&(variance + *eps)?.sqrt()?)?;
                if let Some(weight) = weight {
                    y = y.broadcast_mul(weight)?;
                }
                if let Some(bias) = bias {
                    y = y.broadcast_add(bias)?;
                }
                Ok(y)
            }
        };
        run().map_err(failed("norm"))
    }

    fn embed(&self, ids: &Tensor, table: &Embedding) -> Result<Tensor> {
        match table {
            Embedding::Table(table) => {
                let run = || Ok((ids.dims2()?, ids.flatten_all()?.to_vec1()?));
                let ((rows, length), ids) = run().map_err(failed("embed"))?;
                let [_, features] = table.dims();
                self.tensor(HostTensor::new([rows, length, features], table.rows(&ids)?)?)
            }
            Embedding::Tensor(table) => {
                let run = || {
                    let (rows, length) = ids.dims2()?;
                    let found = table.index_select(&ids.flatten_all()?, 0)?.to_dtype(DType::F32)?;
                    found.reshape((rows, length, table.dim(1)?))
                };
                run().map_err(failed("embed"))
            }
        }
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let run = || match self.own_kernels {
            true => cpu::ops::activate(x, activation),
            false => portable::activate(x, activation),
        };
        run().map_err(failed("activate"))
    }

    fn pool2d(&self, x: &Tensor, spec: &Pool2dSpec) -> Result<Tensor> {
        let Pool2dSpec { kernel, padding, .. } = *spec;
        if padding.iter().zip(kernel).any(|(&padding, kernel)| 2 * padding > kernel) {
            let found = format!("windows of {kernel:?} with {padding:?}");
            return Err(Error::shape("pool2d", "at least half of each window on the map", found));
        }
        let run = || match self.own_kernels {
            true => cpu::ops::pool2d(x, spec),
            false => portable::pool2d(x, spec),
        };
        run().map_err(failed("pool2d"))
    }

    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        spec: &AttentionSpec,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, _, width) = dims3("attention", q, "q [N, Lq, heads*E]")?;
        let (key_batch, keys, key_width) = dims3("attention", k, "k [N, Lk, heads*E]")?;
        let (value_batch, values, value_width) = dims3("attention", v, "v [N, Lk, heads*V]")?;
        let heads = spec.heads;
        let fits = [key_batch, value_batch] == [batch; 2]
            && [keys, width] == [values, key_width]
            && heads > 0
            && width % heads == 0
            && value_width % heads == 0;
        if !fits {
            let expected = format!("q, k, v of one batch, width divisible by {heads} heads");
            let found = format!("{:?}, {:?}, {:?}", q.dims(), k.dims(), v.dims());
            return Err(Error::shape("attention", expected, found));
        }
        if self.own_kernels {
            let bias = self.host_bias(bias, heads, q, k)?;
            return cpu::ops::attention([q, k, v], *spec, bias.as_ref()).map_err(failed("attention"));
        }
        check_bias(bias, heads, q, k)?;
        portable::attention(q, k, v, spec, bias).map_err(failed("attention"))
    }

    fn residual_attention(&self, x: &Tensor, branch: &AttentionBranch<'_, Self>) -> Result<Tensor> {
        let (Norm::Rows(norm), Linear::Packed(in_proj), Linear::Packed(out_proj)) =
            (branch.norm, branch.in_proj, branch.out_proj)
        else {
            return composed::residual_attention(self, x, branch);
        };
        let bias = self.host_bias(branch.bias, branch.spec.heads, x, x)?;
        let layers = cpu::ops::AttentionLayers {
            norm,
            in_proj,
            rotary: branch.rotary,
            spec: *branch.spec,
            bias: bias.as_ref(),
            out_proj,
        };
        cpu::ops::residual_attention(x, &layers).map_err(failed("attention"))
    }

    fn rotate_pairs(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        match self.own_kernels {
            true => cpu::ops::rotate_pairs(x, cos, sin).map_err(failed("rotate_pairs")),
            false => composed::rotate_pairs(self, x, cos, sin),
        }
    }

    fn residual_mlp(
        &self,
        shortcut: &Tensor,
        x: &Tensor,
        norm: &Norm,
        fc: &Linear,
        proj: &Linear,
    ) -> Result<Tensor> {
        match (norm, fc, proj) {
            (Norm::Rows(norm), Linear::Packed(fc), Linear::Packed(proj)) => {
                cpu::ops::residual_mlp(shortcut, x, norm, fc, proj).map_err(failed("mlp"))
            }
            _ => composed::residual_mlp(self, shortcut, x, norm, fc, proj),
        }
    }

    fn rearrange(&self, x: &Tensor, how: Rearrange) -> Result<Tensor> {
        let run = || match how {
            Rearrange::SplitLast { parts } => {
                let mut dims = x.dims().to_vec();
                let last = dims.pop().filter(|last| parts > 0 && last % parts == 0);
                let Some(last) = last else { candle_core::bail!("{:?} has no {parts} parts", x.shape()) };
                dims.extend([parts, last / parts]);
                x.reshape(dims)
            }
            Rearrange::MergeLast => match x.rank() {
                0 | 1 => candle_core::bail!("{:?} has fewer than two axes", x.shape()),
                rank => x.flatten(rank - 2, rank - 1),
            },
            Rearrange::Transpose(a, b) => x.transpose(a, b),
            Rearrange::SpatialToTokens => {
                let (batch, channels, height, width) = x.dims4()?;
                // Nothing is moved where the values lie in this order already.
                x.permute((0, 2, 3, 1))?.contiguous()?.reshape((batch, height * width, channels))
            }
            Rearrange::TokensToSpatial { height, width } => {
                let (batch, tokens, channels) = x.dims3()?;
                if tokens != height * width {
                    candle_core::bail!("{:?} doesn't have {height} x {width} tokens", x.shape());
                }
                // Nothing is moved, either.
                x.reshape((batch, height, width, channels))?.permute((0, 3, 1, 2))
            }
            Rearrange::Unsqueeze(axis) => x.unsqueeze(axis),
            Rearrange::Squeeze(axis) if x.dim(axis)? == 1 => x.squeeze(axis),
            Rearrange::Squeeze(axis) => candle_core::bail!("axis {axis} of {:?} isn't 1", x.shape()),
        };
        run().map_err(failed("rearrange"))
    }

    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        if self.own_kernels && a.rank() == 4 && b.rank() == 4 && !a.is_contiguous() {
            // Maps whose channels lie side by side are taken as they lie, and so does the result.
            let places = |x: &Tensor| x.permute((0, 2, 3, 1)).map_err(failed("binary"));
            let (a, b) = (places(a)?, places(b)?);
            if a.is_contiguous() {
                let result = self.binary(op, &a, &b)?;
                return result.permute((0, 3, 1, 2)).map_err(failed("binary"));
            }
        }
        match op {
            BinaryOp::Add => a.broadcast_add(b),
            BinaryOp::Sub => a.broadcast_sub(b),
            BinaryOp::Mul => a.broadcast_mul(b),
            BinaryOp::Div => a.broadcast_div(b),
        }
        .map_err(failed("binary"))
    }

    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let run = || {
            let ([lead @ .., m, k], [other_lead @ .., other_k, n]) = (a.dims(), b.dims()) else {
                candle_core::bail!("at least two axes each, found {:?} and {:?}", a.shape(), b.shape());
            };
            if lead != other_lead || k != other_k {
                candle_core::bail!("{:?} and {:?} don't go together", a.shape(), b.shape());
            }
            // candle's product refuses some contiguous tensors with axes of size 1; three axes always pass.
            let count: usize = lead.iter().product();
            let a = a.contiguous()?.reshape((count, *m, *k))?;
            let b = b.contiguous()?.reshape((count, *k, *n))?;
            a.matmul(&b)?.reshape([lead, &[*m, *n]].concat())
        };
        run().map_err(failed("matmul"))
    }

    fn reduce(&self, x: &Tensor, op: ReduceOp, axis: usize) -> Result<Tensor> {
        match op {
            ReduceOp::Mean => x.mean(axis),
            ReduceOp::Sum => x.sum(axis),
            ReduceOp::Max => x.max(axis),
        }
        .map_err(failed("reduce"))
    }

    fn cat(&self, parts: &[&Tensor], axis: usize) -> Result<Tensor> {
        Tensor::cat(parts, axis).map_err(failed("cat"))
    }

    fn slice(&self, x: &Tensor, axis: usize, start: &Dim, end: &Dim) -> Result<Tensor> {
        let (first, last) = (fixed("slice", start)?, fixed("slice", end)?);
        match last.checked_sub(first) {
            Some(length) => x.narrow(axis, first, length).map_err(failed("slice")),
            None => Err(Error::shape("slice", format!("{start}..{end}"), DisplayDims(&self.dims(x)))),
        }
    }

    fn take_rows(&self, x: &Tensor, index: &Tensor) -> Result<Tensor> {
        let run = || {
            let (batch, _, features) = x.dims3()?;
            let index = index.reshape((batch, 1, 1))?.broadcast_as((batch, 1, features))?.contiguous()?;
            x.contiguous()?.gather(&index, 1)?.squeeze(1)
        };
        run().map_err(failed("take_rows"))
    }

    fn expand_batch(&self, x: &Tensor, like: &Tensor) -> Result<Tensor> {
        let run = || {
            let mut dims = x.dims().to_vec();
            match dims.first_mut() {
                Some(first) if *first == 1 => *first = like.dim(0)?,
                _ => candle_core::bail!("expected dimensions [1, ..], found {:?}", x.shape()),
            }
            x.broadcast_as(dims)
        };
        run().map_err(failed("expand_batch"))
    }

    fn token_position(&self, ids: &Tensor, which: TokenPosition) -> Result<Tensor> {
        let run = || match which {
            // candle's argmax doesn't promise which of several equal values it finds, so the position is made part
            // of the key: the highest id first, then the earliest place.
            TokenPosition::HighestId => portable::first_maximum(ids),
            TokenPosition::First(id) => portable::first_maximum(&ids.eq(id)?.to_dtype(DType::U32)?),
        };
        run().map_err(failed("token_position"))
    }

    fn padding_bias(&self, ids: &Tensor, pad_id: u32) -> Result<Tensor> {
        let run = || {
            let (batch, length) = ids.dims2()?;
            let shown = Tensor::zeros((batch, length), DType::F32, ids.device())?;
            let hidden = Tensor::full(f32::NEG_INFINITY, (batch, length), ids.device())?;
            ids.eq(pad_id)?.where_cond(&hidden, &shown)?.reshape((batch, 1, 1, length))
        };
        run().map_err(failed("padding_bias"))
    }
}

impl Eager for CandleBackend {
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            _ if !self.own_kernels => work(),
            Some(pool) => pool.install(|| pool::awake(work)),
            // On a thread of the global pool, too: whoever shares out work from elsewhere sleeps until it is done.
            None => rayon::scope(|_| pool::awake(work)),
        }
    }

    fn upload(&self, value: &HostTensor) -> Result<Tensor> {
        Tensor::from_slice(value.data(), value.dims(), &self.device).map_err(failed("upload"))
    }

    fn upload_tokens(&self, tokens: &TokenBatch) -> Result<Tensor> {
        Tensor::from_slice(tokens.ids(), (tokens.rows(), tokens.length()), &self.device)
            .map_err(failed("upload"))
    }

    fn download(&self, x: &Tensor) -> Result<HostTensor> {
        let run = || x.to_dtype(DType::F32)?.flatten_all()?.to_vec1();
        HostTensor::new(x.dims(), run().map_err(failed("download"))?)
    }
}
