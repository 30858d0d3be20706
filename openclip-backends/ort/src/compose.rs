//! What the recorder composes of several nodes, or spells in a particular way.

use openclip_core::{
    Backend, Dim, Dims, Result,
    backend::{Activation, Rearrange, ShapeBackend, ShapeTensor},
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
                let factor = self.number(1.702);
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

    /// `[N, L, heads*E]` by heads, its axes in `order` of `[N, L, heads, E]`.
    pub(crate) fn heads(&mut self, x: &Value, heads: usize, order: [usize; 4]) -> Result<Value> {
        let dims = ShapeBackend.rearrange(&shape(x), Rearrange::SplitLast { parts: heads })?.0;
        let split = self.reshape(x, &[0, 0, heads as i64, target(dims.last())], dims);
        Ok(self.transpose(&split, &order))
    }

    /// Where the first of the largest values stands: `[N, L] -> [N]`.
    pub(crate) fn first_maximum(&mut self, x: &Value) -> Value {
        // ONNX Runtime has no ArgMax of 64-bit integers; token ids fit in 32 bits.
        let cast = self.node("Cast", &[x], vec![int("to", ElementType::Int32 as i64)], x.dims.clone());
        let options = vec![int("axis", 1), int("keepdims", 0), int("select_last_index", 0)];
        let index = self.node("ArgMax", &[&cast], options, x.dims.iter().take(1).cloned().collect());
        Value { element: ElementType::Int64, ..index }
    }

    /// Where `ids` are `id`.
    pub(crate) fn equals(&mut self, ids: &Value, id: u32) -> Value {
        let id = self.integer(i64::from(id));
        let equal = self.node("Equal", &[ids, &id], Vec::new(), ids.dims.clone());
        Value { element: ElementType::Bool, ..equal }
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
