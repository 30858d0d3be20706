//! The kernels as operations on candle's tensors.
//!
//! The two branches of a residual block are one operation each. With several inputs for each thread, a thread takes a few
//! inputs through the whole branch: nobody waits for others between its layers, and what they hand on to each other
//! stays in that thread's caches and memory. With fewer, all threads share each layer.

use candle_core::{CpuStorage, Device, Error, Layout, Result, Storage, Tensor};
use openclip_core::{
    HostTensor,
    backend::{Activation, AttentionSpec, Pool2dSpec},
};
use rayon::prelude::*;

use super::{
    activation,
    attention::Attention,
    conv::{DenseConv2d, DepthwiseConv2d, Geometry, pool},
    linear::PackedLinear,
    matrix::{Matrix, MatrixMut},
    norm::RowNorm,
    scratch::Scratch,
    threads::{Threads, in_tiles, pieces, split_rows, tile_rows},
};

/// Values between the rows of an intermediate matrix, beyond their length: rows that lie a power of two apart would
/// share the same few places of the first-level cache.
const GAP: usize = 16;

/// Runs `work` on the values of a contiguous tensor.
fn read<R>(op: &'static str, x: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    work(values(op, &storage, layout)?)
}

/// The values of a tensor from its first one on.
fn values<'a>(op: &'static str, storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(values.get(layout.start_offset()..).unwrap_or_default()),
        other => Err(Error::UnsupportedDTypeForOp(other.dtype(), op).bt()),
    }
}

/// The number of rows of a tensor `[.., features]`.
fn rows(op: &str, x: &Tensor, features: usize) -> Result<usize> {
    match x.dims().split_last() {
        Some((&last, others)) if last == features && features > 0 => Ok(others.iter().product()),
        _ => candle_core::bail!("{op}: expected dimensions [.., {features}], found {:?}", x.dims()),
    }
}

/// A new tensor of the dimensions of `x` with `last` features, computed by `work` in a matrix of `rows` rows.
fn made(x: &Tensor, rows: usize, last: usize, work: impl FnOnce(MatrixMut)) -> Result<Tensor> {
    let mut result = vec![0.0; rows * last];
    work(MatrixMut::new(&mut result, rows, last, last));
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(last);
    Tensor::from_vec(result, dims, &Device::Cpu)
}

/// `[.., in] -> [.., out]`.
pub fn linear(x: &Tensor, layer: &PackedLinear) -> Result<Tensor> {
    let (inputs, rows) = (layer.inputs(), rows("linear", x, layer.inputs())?);
    read("linear", x, |values| {
        let x_rows = Matrix::new(values, rows, inputs, inputs);
        made(x, rows, layer.outputs(), |target| layer.run(x_rows, target, false, Threads::All))
    })
}

/// `[.., features] -> [.., features]`.
pub fn norm(x: &Tensor, layer: &RowNorm) -> Result<Tensor> {
    let (features, rows) = (layer.features, rows("norm", x, layer.features)?);
    read("norm", x, |values| {
        let x_rows = Matrix::new(values, rows, features, features);
        made(x, rows, features, |target| layer.run(x_rows, target, Threads::All))
    })
}

/// Convolution over all channels: `[N, C, H, W] -> [N, out, H', W']`, whose values lie place by place, `[N, H', W', out]`.
pub fn dense_conv2d(x: &Tensor, layer: &DenseConv2d) -> Result<Tensor> {
    let (batch, size, windows) = windows(x, layer.channels(), layer.geometry())?;
    let outputs = layer.outputs();
    let x = if layer.planes() { x.clone() } else { x.permute((0, 2, 3, 1))? };
    read("conv2d", &x, |values| {
        let rows = batch * windows[0] * windows[1];
        let mut result = vec![0.0; rows * outputs];
        layer.run(values, batch, size, windows, MatrixMut::new(&mut result, rows, outputs, outputs));
        Tensor::from_vec(result, (batch, windows[0], windows[1], outputs), &Device::Cpu)?
            .permute((0, 3, 1, 2))
    })
}

/// Neighbouring features turned: `x [N, L, D]`, `cos`, `sin` `[L, D]`; a slice of a tensor is read where it stands.
pub fn rotate_pairs(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    if [cos.dims(), sin.dims()] != [[length, width]; 2] || width % 2 != 0 {
        candle_core::bail!("rotate_pairs: tables {:?}, {:?} for {:?}", cos.dims(), sin.dims(), x.dims());
    }
    let placed = match x.stride() {
        &[input, row, 1] if row >= width && (batch == 1 || input == length * row) => x.clone(),
        _ => x.contiguous()?,
    };
    let (storage, layout) = placed.storage_and_layout();
    let row = layout.stride().get(1).copied().unwrap_or(width).max(width);
    let rows = Matrix::new(values("rotate_pairs", &storage, layout)?, batch * length, width, row);
    read("rotate_pairs", cos, |cos| {
        read("rotate_pairs", sin, |sin| {
            made(x, batch * length, width, |target| {
                in_tiles(batch * length, target, |part, mut target, _| {
                    for (index, row) in part.enumerate() {
                        let turned = target.row(index);
                        turned.copy_from_slice(rows.row(row));
                        turn(turned, row % length, cos, sin);
                    }
                });
            })
        })
    })
}

/// Turns neighbouring pairs of a row by the angles of `token`, a row of the tables.
fn turn(row: &mut [f32], token: usize, cos: &[f32], sin: &[f32]) {
    let table = token * row.len()..(token + 1) * row.len();
    let turns = cos[table.clone()].as_chunks().0.iter().zip(sin[table].as_chunks().0);
    for (pair, (cos, sin)) in row.as_chunks_mut().0.iter_mut().zip(turns) {
        let [x, y]: [f32; 2] = *pair;
        let ([cos_x, cos_y], [sin_x, sin_y]): (&[f32; 2], &[f32; 2]) = (cos, sin);
        *pair = [cos_x * x + sin_x * y, cos_y * y + sin_y * x];
    }
}

/// Convolution channel by channel: `[N, C, H, W] -> [N, out, H', W']`, whose values lie as those of [`dense_conv2d`].
pub fn depthwise_conv2d(x: &Tensor, layer: &DepthwiseConv2d) -> Result<Tensor> {
    let (batch, size, windows) = windows(x, layer.channels(), layer.geometry())?;
    let outputs = layer.outputs();
    read("conv2d", &x.permute((0, 2, 3, 1))?, |values| {
        let values = values.get(..x.elem_count()).unwrap_or_default();
        let mut result = vec![0.0; batch * windows[0] * windows[1] * outputs];
        layer.run(values, size, windows, &mut result);
        Tensor::from_vec(result, (batch, windows[0], windows[1], outputs), &Device::Cpu)?
            .permute((0, 3, 1, 2))
    })
}

/// Pooling: `[N, C, H, W] -> [N, C, H', W']`, whose values lie as those of [`dense_conv2d`].
pub fn pool2d(x: &Tensor, spec: &Pool2dSpec) -> Result<Tensor> {
    let Pool2dSpec { kind, kernel, stride, padding } = *spec;
    let (channels, geometry) = (x.dims4()?.1, Geometry { kernel, stride, padding });
    let (batch, size, windows) = windows(x, channels, &geometry)?;
    read("pool2d", &x.permute((0, 2, 3, 1))?, |values| {
        let mut result = vec![0.0; batch * windows[0] * windows[1] * channels];
        pool(kind, &geometry, channels, (values, size), (&mut result, windows));
        Tensor::from_vec(result, (batch, windows[0], windows[1], channels), &Device::Cpu)?
            .permute((0, 3, 1, 2))
    })
}

/// Batch size, places and windows of a feature map `[N, channels, H, W]`.
fn windows(x: &Tensor, channels: usize, geometry: &Geometry) -> Result<(usize, [usize; 2], [usize; 2])> {
    let (batch, found, height, width) = x.dims4()?;
    match geometry.windows([height, width]) {
        Some(windows) if found == channels => Ok((batch, [height, width], windows)),
        _ => candle_core::bail!(
            "conv2d: expected dimensions [N, {channels}, H, W] that hold a window of {:?}, found {:?}",
            geometry.kernel,
            x.dims()
        ),
    }
}

/// Every value on its own.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    read("activate", x, |values| {
        let mut values = values.get(..x.elem_count()).unwrap_or_default().to_vec();
        activation::activate(&mut values, activation);
        Tensor::from_vec(values, x.dims(), &Device::Cpu)
    })
}

/// `q [N, Lq, heads*E]`, `k [N, Lk, heads*E]`, `v [N, Lk, heads*V] -> [N, Lq, heads*V]`; slices of one tensor are read
/// where they stand.
pub fn attention([q, k, v]: [&Tensor; 3], spec: AttentionSpec, bias: Option<&HostTensor>) -> Result<Tensor> {
    // Rows that follow each other; one that was repeated by a stride of zero has to be written out.
    let placed = |x: &Tensor| match (x.dims(), x.stride()) {
        (&[_, length, width], &[_, row, 1]) if length == 1 || row >= width => Ok(x.clone()),
        _ => x.contiguous(),
    };
    let (q, k, v) = (placed(q)?, placed(k)?, placed(v)?);
    let (storages, layouts): (Vec<_>, Vec<_>) =
        [&q, &k, &v].map(|x| x.storage_and_layout()).into_iter().unzip();
    let mut inputs = Vec::with_capacity(3);
    for (storage, layout) in storages.iter().zip(&layouts) {
        inputs.push((values("attention", storage, layout)?, *layout));
    }
    let matrix = |which: usize, input: usize| {
        let (values, layout) = inputs[which];
        let (dims, strides) = (layout.dims(), layout.stride());
        Matrix::new(&values[input * strides[0]..], dims[1], dims[2], strides[1].max(dims[2]))
    };
    let (batch, queries, _) = q.dims3()?;
    let op = Attention { spec, bias };
    made(&q, batch * queries, v.dim(2)?, |target| {
        // Heads are spread over the threads where there are fewer inputs than threads.
        let threads = if batch >= Threads::All.count() { Threads::One } else { Threads::All };
        let targets = split_rows(target, &pieces(batch * queries, batch));
        targets.into_par_iter().enumerate().for_each(|(input, target)| {
            op.run(input, matrix(0, input), matrix(1, input), matrix(2, input), target, threads);
        });
    })
}

/// `shortcut + proj(fc(norm(x)))`.
pub fn residual_mlp(
    shortcut: &Tensor,
    x: &Tensor,
    norm: &RowNorm,
    fc: &PackedLinear,
    proj: &PackedLinear,
) -> Result<Tensor> {
    if shortcut.dims() != x.dims() {
        candle_core::bail!("mlp: {:?} can't be added to {:?}", x.dims(), shortcut.dims());
    }
    let (features, hidden, rows) = (norm.features, fc.outputs(), rows("mlp", x, norm.features)?);
    if [fc.inputs(), proj.outputs(), proj.inputs()] != [features, features, hidden] {
        candle_core::bail!(
            "mlp: layers {} to {}, {} to {} for {features} features",
            fc.inputs(),
            fc.outputs(),
            proj.inputs(),
            proj.outputs()
        );
    }
    let branch = |shortcut: Matrix, x: Matrix, mut target: MatrixMut, threads: Threads| {
        let rows = x.rows();
        let mut normed = Scratch::new(rows * (features + GAP));
        norm.run(x, MatrixMut::new(&mut normed, rows, features, features + GAP), threads);
        let mut activated = Scratch::new(rows * (hidden + GAP));
        let place = MatrixMut::new(&mut activated, rows, hidden, hidden + GAP);
        fc.run(Matrix::new(&normed, rows, features, features + GAP), place, false, threads);
        (0..rows).for_each(|row| target.row(row).copy_from_slice(shortcut.row(row)));
        proj.run(Matrix::new(&activated, rows, hidden, hidden + GAP), target, true, threads);
    };
    read("mlp", shortcut, |shortcut_values| {
        read("mlp", x, |values| {
            let [shortcut, x_rows] =
                [shortcut_values, values].map(|values| Matrix::new(values, rows, features, features));
            made(x, rows, features, |target| {
                in_tiles(rows, target, |rows, target, threads| {
                    let [shortcut, x] = [shortcut, x_rows].map(|whole| whole.part(rows.clone(), 0..features));
                    branch(shortcut, x, target, threads);
                });
            })
        })
    })
}

/// The layers of an attention branch, and the tables that turn its queries and keys.
pub struct AttentionLayers<'a> {
    pub norm: &'a RowNorm,
    pub in_proj: &'a PackedLinear,
    pub rotary: Option<[&'a Tensor; 2]>,
    pub spec: AttentionSpec,
    pub bias: Option<&'a HostTensor>,
    pub out_proj: &'a PackedLinear,
}

/// `x + out_proj(attention(in_proj(norm(x))))`.
pub fn residual_attention(x: &Tensor, layers: &AttentionLayers<'_>) -> Result<Tensor> {
    let Some([cos, sin]) = layers.rotary else { return residual_attention_turned(x, layers, None) };
    let (_, length, features) = x.dims3()?;
    if [cos.dims(), sin.dims()] != [[length, features]; 2] || features % 2 != 0 {
        candle_core::bail!("attention: tables {:?}, {:?} for {:?}", cos.dims(), sin.dims(), x.dims());
    }
    read("attention", cos, |cos| {
        read("attention", sin, |sin| residual_attention_turned(x, layers, Some([cos, sin])))
    })
}

/// [`residual_attention`] with the values of its tables.
fn residual_attention_turned(
    x: &Tensor,
    layers: &AttentionLayers<'_>,
    rotary: Option<[&[f32]; 2]>,
) -> Result<Tensor> {
    let &AttentionLayers { norm, in_proj, spec, bias, out_proj, .. } = layers;
    let op = Attention { spec, bias };
    let (batch, length, features) = x.dims3()?;
    let packed = 3 * features;
    if [norm.features, in_proj.inputs(), in_proj.outputs(), out_proj.inputs(), out_proj.outputs()]
        != [features, features, packed, features, features]
    {
        candle_core::bail!("attention: layers for {} features, found {:?}", norm.features, x.dims());
    }
    let branch = |first: usize, x: Matrix, mut target: MatrixMut, threads: Threads| {
        let rows = x.rows();
        let mut normed = Scratch::new(rows * (features + GAP));
        norm.run(x, MatrixMut::new(&mut normed, rows, features, features + GAP), threads);
        let mut projected = Scratch::new(rows * (packed + GAP));
        let place = MatrixMut::new(&mut projected, rows, packed, packed + GAP);
        in_proj.run(Matrix::new(&normed, rows, features, features + GAP), place, false, threads);
        if let Some([cos, sin]) = rotary {
            for (row, values) in projected.chunks_exact_mut(packed + GAP).enumerate() {
                let (queries, rest) = values.split_at_mut(features);
                turn(queries, row % length, cos, sin);
                turn(&mut rest[..features], row % length, cos, sin);
            }
        }

        // The place of the normed values is free again.
        let mut attended = normed;
        let inputs = pieces(rows, rows / length.max(1));
        let targets = split_rows(MatrixMut::new(&mut attended, rows, features, features + GAP), &inputs);
        let projected = Matrix::new(&projected, rows, packed, packed + GAP);
        for (input, (rows, target)) in inputs.into_iter().zip(targets).enumerate() {
            let part = |index: usize| projected.part(rows.clone(), index * features..(index + 1) * features);
            op.run(first + input, part(0), part(1), part(2), target, threads);
        }
        (0..rows).for_each(|row| target.row(row).copy_from_slice(x.row(row)));
        out_proj.run(Matrix::new(&attended, rows, features, features + GAP), target, true, threads);
    };
    read("attention", x, |values| {
        let rows = batch * length;
        let x_rows = Matrix::new(values, rows, features, features);
        made(x, rows, features, |target| {
            let threads = Threads::All.count();
            // With few inputs, one left over for one thread would cost as much as all others together.
            if length == 0 || batch < threads || (batch < 4 * threads && batch % threads != 0) {
                return branch(0, x_rows, target, Threads::All);
            }
            let tiles = batch.div_ceil((tile_rows() / length).max(1)).next_multiple_of(threads);
            let inputs = pieces(batch, tiles);
            let tiles: Vec<_> =
                inputs.iter().map(|inputs| inputs.start * length..inputs.end * length).collect();
            let targets = split_rows(target, &tiles);
            (inputs, tiles, targets).into_par_iter().for_each(|(inputs, rows, target)| {
                branch(inputs.start, x_rows.part(rows, 0..features), target, Threads::One);
            });
        })
    })
}
