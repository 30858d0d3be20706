//! What the recorder composes of several nodes, or spells in a particular way.

use openclip_core::{
    Dim, Dims, Error, Result,
    backend::{Activation, ShapeTensor},
};

use crate::{
    attributes::{int, ints, string},
    graph::{Graph, Value},
    onnx::ElementType,
};

/// The dimensions, for inference.
pub(crate) fn shape(x: &Value) -> ShapeTensor {
    ShapeTensor(x.dims.clone())
}

/// A dimension in the target of a `Reshape`: symbolic ones follow from the others.
pub(crate) fn target(dim: Option<&Dim>) -> i64 {
    dim.and_then(Dim::fixed).map_or(-1, |size| size as i64)
}

impl Graph {
    /// An activation of the layer `scope`.
    pub(crate) fn activation(&mut self, scope: &str, x: &Value, activation: Activation) -> Value {
        let dims = x.dims.clone();
        let mut gelu = |approximate: &str| {
            self.named(scope, "Gelu", &[x], vec![string("approximate", approximate)], dims.clone())
        };
        match activation {
            Activation::GeluErf => gelu("none"),
            Activation::GeluTanh => gelu("tanh"),
            Activation::QuickGelu => {
                let factor = self.number_like(1.702, x);
                let scaled = self.named(scope, "Mul", &[x, &factor], Vec::new(), dims.clone());
                let gate = self.named(scope, "Sigmoid", &[&scaled], Vec::new(), dims.clone());
                self.named(scope, "Mul", &[x, &gate], Vec::new(), dims)
            }
            Activation::Silu => {
                let gate = self.named(scope, "Sigmoid", &[x], Vec::new(), dims.clone());
                self.named(scope, "Mul", &[x, &gate], Vec::new(), dims)
            }
            Activation::Relu => self.named(scope, "Relu", &[x], Vec::new(), dims),
            Activation::Sigmoid => self.named(scope, "Sigmoid", &[x], Vec::new(), dims),
            Activation::Tanh => self.named(scope, "Tanh", &[x], Vec::new(), dims),
        }
    }

    /// Other dimensions for the same elements; `target` is in the form that `Reshape` takes.
    pub(crate) fn reshape(&mut self, x: &Value, target: &[i64], dims: Dims) -> Value {
        let target = self.integers(target);
        self.node("Reshape", &[x, &target], Vec::new(), dims)
    }

    /// The axes in another order.
    pub(crate) fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let dims = order.iter().filter_map(|&axis| x.dims.get(axis).cloned()).collect();
        self.node("Transpose", &[x], vec![ints("perm", order.iter().copied())], dims)
    }

    /// An attention bias with a row per query and a column per key, which ONNX Runtime insists on: `[.., Lq, Lk]`.
    pub(crate) fn attention_bias(&mut self, bias: &Value, q: &Value, k: &Value) -> Result<Value> {
        let (leading, [rows, columns]) = match bias.dims.as_slice() {
            [leading @ .., rows, columns] => (leading, [rows, columns]),
            _ => return Err(Error::shape("attention bias", "[.., Lq, Lk]", bias)),
        };
        let [Some(queries), Some(keys)] = [q.dims.get(1), k.dims.get(1)] else {
            return Err(Error::shape("attention", "q [N, Lq, heads*E]", q));
        };
        if [rows, columns] == [queries, keys] {
            return Ok(bias.clone());
        }
        let dims = [leading, &[queries.clone(), keys.clone()]].concat();
        // A one in the target of `Expand` leaves the axis as it is.
        let ones = self.integers(&vec![1; leading.len()]);
        let (rows, columns) = (self.size(queries)?, self.size(keys)?);
        let target_dims = vec![Dim::Fixed(dims.len())];
        let axis = vec![int("axis", 0)];
        let target = self.named("attention_bias", "Concat", &[&ones, &rows, &columns], axis, target_dims);
        let expanded = self.named("attention_bias", "Expand", &[bias, &target], Vec::new(), dims);
        Ok(expanded)
    }

    /// Where the first of the largest values stands: `[N, L] -> [N]`.
    pub(crate) fn first_maximum(&mut self, x: &Value) -> Value {
        // ONNX Runtime has no ArgMax of 64-bit integers; token ids fit in 32 bits.
        let scope = self.scope();
        let cast = self.cast(&scope, x, ElementType::Int32);
        let options = vec![int("axis", 1), int("keepdims", 0), int("select_last_index", 0)];
        let index = self.node("ArgMax", &[&cast], options, x.dims.iter().take(1).cloned().collect());
        index.typed(ElementType::Int64)
    }

    /// Where `ids` are `id`.
    pub(crate) fn equals(&mut self, ids: &Value, id: u32) -> Value {
        let id = self.integer(i64::from(id));
        let equal = self.node("Equal", &[ids, &id], Vec::new(), ids.dims.clone());
        equal.typed(ElementType::Bool)
    }

    /// A bound of a slice on an axis of size `size`.
    pub(crate) fn bound(&mut self, bound: &Dim, size: &Dim) -> Result<Value> {
        match size.checked_sub(bound) {
            // To the end, however long; and so many before the end.
            Some(Dim::Fixed(0)) => Ok(self.integers(&[i64::MAX])),
            Some(Dim::Fixed(rest)) if bound.fixed().is_none() => Ok(self.integers(&[-(rest as i64)])),
            _ => self.size(bound),
        }
    }
}
