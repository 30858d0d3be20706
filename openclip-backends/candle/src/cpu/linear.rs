//! Linear layers on packed weights.

use openclip_core::{
    HostTensor,
    backend::{Activation, WeightLayout},
};

use super::{
    gemm::{self, Epilogue, Panels},
    matrix::{Matrix, MatrixMut},
    threads::Threads,
};

/// `x W^T + b` and an activation, with `W` packed.
#[derive(Debug)]
pub struct PackedLinear {
    weight: Panels,
    bias: Option<Vec<f32>>,
    activation: Option<Activation>,
}

impl PackedLinear {
    /// Packs `weight`, which is `[out, in]` or `[in, out]` as `layout` says.
    pub fn new(
        weight: &HostTensor,
        layout: WeightLayout,
        bias: Option<HostTensor>,
        activation: Option<Activation>,
    ) -> Self {
        let &[rows, columns] = weight.dims() else {
            unreachable!("a linear layer's weight has two axes by construction");
        };
        let values = weight.data();
        let weight = match layout {
            WeightLayout::OutIn => Panels::new(columns, rows, |k, n| values[n * columns + k]),
            WeightLayout::InOut => Panels::new(rows, columns, |k, n| values[k * columns + n]),
        };
        Self { weight, bias: bias.map(HostTensor::into_data), activation }
    }

    /// Features of the input.
    pub fn inputs(&self) -> usize {
        self.weight.depth()
    }

    /// Features of the output.
    pub fn outputs(&self) -> usize {
        self.weight.columns()
    }

    /// `target = act(x W^T + b)`, or `target += x W^T + b`.
    ///
    /// # Shapes
    /// `x [M, in]`, `target [M, out]`.
    pub fn run(&self, x: Matrix, target: MatrixMut, accumulate: bool, threads: Threads) {
        let epilogue = Epilogue { bias: self.bias.as_deref(), accumulate, activation: self.activation };
        let (width, columns) = (self.weight.width(), self.weight.columns());
        threads.grid(x.rows(), columns.div_ceil(width), width, target, |rows, panels, target| {
            gemm::multiply(x.part(rows, 0..x.columns()), &self.weight, panels, target, epilogue);
        });
    }
}
