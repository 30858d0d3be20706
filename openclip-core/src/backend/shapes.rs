//! A backend that computes dimensions and nothing else. It lists a model's parameters, compares a model with a
//! checkpoint's header before anything is read, and gives recording backends their shape inference.

use super::{
    Activation, AttentionSpec, Backend, BinaryOp, Conv2dSpec, EmbeddingSpec, LinearSpec, NormSpec,
    Pool2dSpec, Rearrange, ReduceOp, TokenPosition,
};
use crate::{Dim, Dims, DisplayDims, Error, HostTensor, Result, Weights, weights::ChannelAxis};

/// Computes dimensions, symbolic ones too, and reads no weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShapeBackend;

/// The dimensions that a tensor would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeTensor(pub Dims);

impl ShapeTensor {
    /// From dimensions, fixed or symbolic.
    pub fn new(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self(dims.into_iter().map(Into::into).collect())
    }

    fn mismatch(&self, op: &str, expected: &str) -> Error {
        Error::shape(op, expected, DisplayDims(&self.0))
    }

    /// The dimensions, which must be `N` many.
    fn axes<const N: usize>(&self, op: &str, expected: &str) -> Result<&[Dim; N]> {
        self.0.as_slice().try_into().map_err(|_| self.mismatch(op, expected))
    }
}

/// Output size of a window that moves over an axis.
fn windows(op: &str, size: &Dim, kernel: usize, stride: usize, padding: usize) -> Result<Dim> {
    let size = size.fixed().ok_or_else(|| Error::shape(op, "a fixed spatial size", size))?;
    match (size + 2 * padding).checked_sub(kernel) {
        Some(room) if stride > 0 => Ok(Dim::Fixed(room / stride + 1)),
        _ => Err(Error::shape(op, format!("a spatial size of at least {kernel}"), size)),
    }
}

fn broadcast(op: &str, a: &ShapeTensor, b: &ShapeTensor) -> Result<ShapeTensor> {
    let (long, short) = if a.0.len() >= b.0.len() { (a, b) } else { (b, a) };
    let offset = long.0.len() - short.0.len();
    let mut dims = long.0.clone();
    for (dim, other) in dims.iter_mut().skip(offset).zip(&short.0) {
        if *dim == 1 {
            *dim = other.clone();
        } else if *other != 1 && dim != other {
            return Err(b.mismatch(op, &format!("to broadcast with {}", DisplayDims(&a.0))));
        }
    }
    Ok(ShapeTensor(dims))
}

impl Backend for ShapeBackend {
    type Tensor = ShapeTensor;
    type Linear = LinearSpec;
    type Conv2d = Conv2dSpec;
    type Norm = NormSpec;
    type Embedding = EmbeddingSpec;

    fn name(&self) -> &'static str {
        "shape"
    }

    fn dims(&self, x: &ShapeTensor) -> Dims {
        x.0.clone()
    }

    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<LinearSpec> {
        spec.require(w)?;
        Ok(spec.clone())
    }

    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Conv2dSpec> {
        spec.require(w)?;
        Ok(spec.clone())
    }

    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<NormSpec> {
        if spec.weight {
            w.require("weight", &[spec.features])?;
        }
        if spec.bias {
            w.require("bias", &[spec.features])?;
        }
        Ok(*spec)
    }

    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<EmbeddingSpec> {
        // No backend computes with a table in integers, but one may be stored so: a row is rounded once, where a layer's
        // error goes through all layers after it.
        w.require_quantizable("weight", &[spec.count, spec.features], ChannelAxis::Rows)?;
        Ok(*spec)
    }

    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<ShapeTensor> {
        w.require(name, dims)?;
        Ok(ShapeTensor::new(dims.iter().copied()))
    }

    fn constant(&self, value: &HostTensor) -> Result<ShapeTensor> {
        Ok(ShapeTensor::new(value.dims().iter().copied()))
    }

    fn linear(&self, x: &ShapeTensor, layer: &LinearSpec) -> Result<ShapeTensor> {
        let mut dims = x.0.clone();
        match dims.last_mut() {
            Some(last) if *last == layer.in_features => *last = Dim::Fixed(layer.out_features),
            _ => return Err(x.mismatch("linear", &format!("[.., {}]", layer.in_features))),
        }
        Ok(ShapeTensor(dims))
    }

    fn conv2d(&self, x: &ShapeTensor, layer: &Conv2dSpec) -> Result<ShapeTensor> {
        let expected = format!("[N, {}, H, W]", layer.in_channels);
        let [batch, channels, height, width] = x.axes("conv2d", &expected)?;
        if *channels != layer.in_channels {
            return Err(x.mismatch("conv2d", &expected));
        }
        let [kernel, stride, padding] = [layer.kernel, layer.stride, layer.padding];
        Ok(ShapeTensor(vec![
            batch.clone(),
            Dim::Fixed(layer.out_channels),
            windows("conv2d", height, kernel[0], stride[0], padding[0])?,
            windows("conv2d", width, kernel[1], stride[1], padding[1])?,
        ]))
    }

    fn norm(&self, x: &ShapeTensor, layer: &NormSpec) -> Result<ShapeTensor> {
        match x.0.last() {
            Some(last) if *last == layer.features => Ok(x.clone()),
            _ => Err(x.mismatch("norm", &format!("[.., {}]", layer.features))),
        }
    }

    fn embed(&self, ids: &ShapeTensor, table: &EmbeddingSpec) -> Result<ShapeTensor> {
        let mut dims = ids.0.clone();
        dims.push(Dim::Fixed(table.features));
        Ok(ShapeTensor(dims))
    }

    fn activate(&self, x: &ShapeTensor, _: Activation) -> Result<ShapeTensor> {
        Ok(x.clone())
    }

    fn pool2d(&self, x: &ShapeTensor, spec: &Pool2dSpec) -> Result<ShapeTensor> {
        let [batch, channels, height, width] = x.axes("pool2d", "[N, C, H, W]")?;
        if spec.padding.iter().zip(spec.kernel).any(|(&padding, kernel)| 2 * padding > kernel) {
            return Err(x.mismatch("pool2d", "windows that reach over the edge by at most their half"));
        }
        Ok(ShapeTensor(vec![
            batch.clone(),
            channels.clone(),
            windows("pool2d", height, spec.kernel[0], spec.stride[0], spec.padding[0])?,
            windows("pool2d", width, spec.kernel[1], spec.stride[1], spec.padding[1])?,
        ]))
    }

    fn attention(
        &self,
        q: &ShapeTensor,
        k: &ShapeTensor,
        v: &ShapeTensor,
        spec: &AttentionSpec,
        bias: Option<&ShapeTensor>,
    ) -> Result<ShapeTensor> {
        let [batch, queries, width] = q.axes("attention", "q [N, Lq, heads*E]")?;
        let [_, keys, key_width] = k.axes("attention", "k [N, Lk, heads*E]")?;
        let [_, values, value_width] = v.axes("attention", "v [N, Lk, heads*V]")?;
        if key_width != width || width.checked_div(spec.heads).is_none() {
            return Err(k.mismatch("attention", &format!("k as wide as q {}", DisplayDims(&q.0))));
        }
        if keys != values {
            return Err(v.mismatch("attention", &format!("v as long as k {}", DisplayDims(&k.0))));
        }
        if let Some(bias) = bias {
            let scores = [batch.clone(), Dim::Fixed(spec.heads), queries.clone(), keys.clone()];
            broadcast("attention bias", &ShapeTensor::new(scores), bias)?;
        }
        Ok(ShapeTensor(vec![batch.clone(), queries.clone(), value_width.clone()]))
    }

    fn rearrange(&self, x: &ShapeTensor, how: Rearrange) -> Result<ShapeTensor> {
        let mut dims = x.0.clone();
        let mismatch = |expected: &str| x.mismatch(&format!("rearrange {how:?}"), expected);
        match how {
            Rearrange::SplitLast { parts } => {
                let last = dims.pop().and_then(|dim| dim.checked_div(parts));
                let last = last.ok_or_else(|| mismatch(&format!("[.., {parts} * D]")))?;
                dims.extend([Dim::Fixed(parts), last]);
            }
            Rearrange::MergeLast => match (dims.pop(), dims.pop()) {
                (Some(last), Some(parts)) => dims.push(&parts * &last),
                _ => return Err(mismatch("[.., P, D]")),
            },
            Rearrange::Transpose(a, b) => {
                if a.max(b) >= dims.len() {
                    return Err(mismatch(&format!("more than {} axes", a.max(b))));
                }
                dims.swap(a, b);
            }
            Rearrange::SpatialToTokens => {
                let [batch, channels, height, width] = x.axes("rearrange", "[N, C, H, W]")?;
                dims = vec![batch.clone(), height * width, channels.clone()];
            }
            Rearrange::TokensToSpatial { height, width } => {
                let [batch, tokens, channels] = x.axes("rearrange", "[N, L, C]")?;
                if *tokens != height * width {
                    return Err(mismatch(&format!("[N, {}, C]", height * width)));
                }
                dims = vec![batch.clone(), channels.clone(), Dim::Fixed(height), Dim::Fixed(width)];
            }
            Rearrange::Unsqueeze(axis) => {
                if axis > dims.len() {
                    return Err(mismatch(&format!("at least {axis} axes")));
                }
                dims.insert(axis, Dim::Fixed(1));
            }
            Rearrange::Squeeze(axis) => {
                if dims.get(axis).is_none_or(|dim| *dim != 1) {
                    return Err(mismatch(&format!("axis {axis} of size 1")));
                }
                dims.remove(axis);
            }
        }
        Ok(ShapeTensor(dims))
    }

    fn binary(&self, op: BinaryOp, a: &ShapeTensor, b: &ShapeTensor) -> Result<ShapeTensor> {
        broadcast(&format!("{op:?}"), a, b)
    }

    fn matmul(&self, a: &ShapeTensor, b: &ShapeTensor) -> Result<ShapeTensor> {
        let expected = || format!("[.., K, N] for [.., M, K] = {}", DisplayDims(&a.0));
        match (a.0.as_slice(), b.0.as_slice()) {
            ([lead @ .., m, inner], [other @ .., k, n]) if inner == k && lead == other => {
                Ok(ShapeTensor(lead.iter().chain([m, n]).cloned().collect()))
            }
            _ => Err(b.mismatch("matmul", &expected())),
        }
    }

    fn reduce(&self, x: &ShapeTensor, _: ReduceOp, axis: usize) -> Result<ShapeTensor> {
        let mut dims = x.0.clone();
        if axis >= dims.len() {
            return Err(x.mismatch("reduce", &format!("more than {axis} axes")));
        }
        dims.remove(axis);
        Ok(ShapeTensor(dims))
    }

    fn cat(&self, parts: &[&ShapeTensor], axis: usize) -> Result<ShapeTensor> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(Error::shape("cat", "at least one tensor", "none"));
        };
        let mut dims = first.0.clone();
        for part in rest {
            let fits = part.0.len() == dims.len()
                && axis < dims.len()
                && part.0.iter().zip(&dims).enumerate().all(|(index, (a, b))| index == axis || a == b);
            match (dims.get(axis), part.0.get(axis)) {
                (Some(left), Some(right)) if fits => dims[axis] = left + right,
                _ => {
                    let expected = format!("{} but for axis {axis}", DisplayDims(&first.0));
                    return Err(part.mismatch("cat", &expected));
                }
            }
        }
        Ok(ShapeTensor(dims))
    }

    fn slice(&self, x: &ShapeTensor, axis: usize, start: &Dim, end: &Dim) -> Result<ShapeTensor> {
        let mut dims = x.0.clone();
        let within = match (end.fixed(), dims.get(axis).map(Dim::fixed)) {
            (_, None) => false,
            (Some(end), Some(Some(size))) => end <= size,
            // Whether a symbol stays in bounds is known only when the model runs.
            _ => true,
        };
        match end.checked_sub(start) {
            Some(length) if within => dims[axis] = length,
            _ => return Err(x.mismatch("slice", &format!("axis {axis} to cover {start}..{end}"))),
        }
        Ok(ShapeTensor(dims))
    }

    fn take_rows(&self, x: &ShapeTensor, index: &ShapeTensor) -> Result<ShapeTensor> {
        let [batch, _, features] = x.axes("take_rows", "[N, L, D]")?;
        let [rows] = index.axes("take_rows", "index [N]")?;
        if rows != batch {
            return Err(index.mismatch("take_rows", &format!("[{batch}]")));
        }
        Ok(ShapeTensor(vec![batch.clone(), features.clone()]))
    }

    fn expand_batch(&self, x: &ShapeTensor, like: &ShapeTensor) -> Result<ShapeTensor> {
        match (x.0.as_slice(), like.0.first()) {
            ([one, rest @ ..], Some(batch)) if *one == 1 => {
                Ok(ShapeTensor(std::iter::once(batch).chain(rest).cloned().collect()))
            }
            _ => Err(x.mismatch("expand_batch", "[1, ..]")),
        }
    }

    fn token_position(&self, ids: &ShapeTensor, _: TokenPosition) -> Result<ShapeTensor> {
        let [batch, _] = ids.axes("token_position", "[N, L]")?;
        Ok(ShapeTensor(vec![batch.clone()]))
    }

    fn padding_bias(&self, ids: &ShapeTensor, _: u32) -> Result<ShapeTensor> {
        let [batch, length] = ids.axes("padding_bias", "[N, L]")?;
        Ok(ShapeTensor(vec![batch.clone(), Dim::Fixed(1), Dim::Fixed(1), length.clone()]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Symbol;

    fn symbolic() -> ShapeTensor {
        ShapeTensor(vec![Dim::symbol(Symbol::BATCH), Dim::symbol(Symbol::SEQUENCE), Dim::Fixed(24)])
    }

    /// A step that keeps or changes the dimensions `[batch, tokens, 24]`-like.
    fn step(kind: u8, x: &ShapeTensor) -> Result<ShapeTensor> {
        let b = ShapeBackend;
        match kind {
            0 => b.rearrange(x, Rearrange::SplitLast { parts: 2 }),
            1 => b.rearrange(x, Rearrange::MergeLast),
            2 => b.rearrange(x, Rearrange::Transpose(0, 1)),
            3 => b.cat(&[x, x], 1),
            4 => b.slice(x, 1, &Dim::Fixed(1), &x.0.get(1).cloned().unwrap_or(Dim::Fixed(0))),
            5 => b.binary(BinaryOp::Mul, x, x),
            6 => b.expand_batch(&ShapeTensor::new([1_usize, 3]), x),
            _ => b.reduce(x, ReduceOp::Mean, 1),
        }
    }

    proptest! {
        /// Inference with symbols and then filling in numbers is inference with numbers.
        #[test]
        fn inference_commutes_with_substitution(
            kinds in prop::collection::vec(0_u8..8, 1..8), batch in 1_usize..4, sequence in 8_usize..12,
        ) {
            let value = |symbol| Some(if symbol == Symbol::BATCH { batch } else { sequence });
            let mut abstractly = symbolic();
            let mut concretely = ShapeTensor::new([batch, sequence, 24]);
            for kind in kinds {
                let (Ok(next), Ok(fixed)) = (step(kind, &abstractly), step(kind, &concretely)) else { break };
                let numbers: Option<Vec<usize>> = next.0.iter().map(|dim| dim.evaluate(value)).collect();
                let expected: Option<Vec<usize>> = fixed.0.iter().map(Dim::fixed).collect();
                prop_assert_eq!(numbers, expected);
                (abstractly, concretely) = (next, fixed);
            }
        }
    }

    #[test]
    fn errors_show_expected_and_found() {
        let error = ShapeBackend.linear(&symbolic(), &LinearSpec::new(8, 4)).unwrap_err();
        assert_eq!(error.to_string(), "linear: expected dimensions [.., 8], found [batch, sequence, 24]");
        let error = ShapeBackend.matmul(&symbolic(), &symbolic()).unwrap_err();
        assert!(error.to_string().starts_with("matmul: expected dimensions [.., K, N]"), "{error}");
    }

    #[test]
    fn windows_follow_the_convolution_formula() {
        let x = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), 3.into(), 225.into(), 224.into()]);
        let patches = ShapeBackend.conv2d(&x, &Conv2dSpec::patches(3, 8, [32, 32])).unwrap();
        assert_eq!(DisplayDims(&patches.0).to_string(), "[batch, 8, 7, 7]");
        let tokens = ShapeBackend.rearrange(&patches, Rearrange::SpatialToTokens).unwrap();
        assert_eq!(DisplayDims(&tokens.0).to_string(), "[batch, 49, 8]");
        assert!(ShapeBackend.conv2d(&x, &Conv2dSpec::patches(3, 8, [300, 300])).is_err());
    }
}
