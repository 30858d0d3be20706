//! Linear layers on packed weights.

use half::f16;
use openclip_core::{
    HostTensor, Precision,
    backend::{Activation, LinearSpec, WeightLayout},
};

use super::{
    gemm::{
        self, Compressed, Epilogue, PanelSource, Panels,
        bf16::{self, Bf16Panels, Bf16Rows},
        int8::{self, Int8Panels, QuantizedColumns, QuantizedRows},
    },
    matrix::{Matrix, MatrixMut},
    threads::Threads,
};

/// `x W^T + b` and an activation, with `W` packed.
#[derive(Debug)]
pub struct PackedLinear {
    weight: Weight,
    bias: Option<Vec<f32>>,
    activation: Option<Activation>,
}

/// How the weight is stored, and what it is multiplied in.
#[derive(Debug)]
enum Weight {
    Float(Panels),
    Compressed(Compressed),
    Bf16(Bf16Panels),
    Int8(Int8Panels),
}

impl PackedLinear {
    /// Packs the layer that `spec` describes in `precision`. A layer that isn't to be quantised stays in floats.
    ///
    /// # Errors
    /// With the reason, when a value is too large for the precision.
    pub fn new(
        spec: &LinearSpec,
        weight: &HostTensor,
        bias: Option<HostTensor>,
        precision: Precision,
    ) -> Result<Self, String> {
        let &[rows, columns] = weight.dims() else {
            return Err(format!("expected a weight with two axes, found {:?}", weight.dims()));
        };
        let values = weight.data();
        let (depth, count) = match spec.layout {
            WeightLayout::OutIn => (columns, rows),
            WeightLayout::InOut => (rows, columns),
        };
        let value = |k: usize, n: usize| match spec.layout {
            WeightLayout::OutIn => values[n * depth + k],
            WeightLayout::InOut => values[k * count + n],
        };
        // A value that isn't finite would be rounded to some integer without a word.
        if precision != Precision::F32
            && let Some(value) = values.iter().find(|value| !value.is_finite())
        {
            return Err(format!(
                "the value {value} can't be stored in {precision}: the checkpoint is damaged"
            ));
        }
        let weight = match precision {
            Precision::F16 => {
                if let Some(value) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
                    return Err(format!("the value {value} can't be stored in f16: use bf16 or f32"));
                }
                let panels = Panels::new(depth, count, |k, n| f16::from_f32(value(k, n)).to_bits());
                Weight::Compressed(Compressed::F16(panels))
            }
            Precision::Bf16 => Weight::Bf16(Bf16Panels::new(depth, count, value)),
            Precision::Int8 if spec.quantize => {
                Weight::Int8(Int8Panels::new(&QuantizedColumns::new(weight, spec.layout)))
            }
            Precision::Int8Weights if spec.quantize => {
                let QuantizedColumns { values, scales, .. } = QuantizedColumns::new(weight, spec.layout);
                let values = Panels::new(depth, count, |k, n| values[n * depth + k]);
                Weight::Compressed(Compressed::int8(values, scales))
            }
            Precision::F32 | Precision::Int8 | Precision::Int8Weights => {
                Weight::Float(Panels::new(depth, count, value))
            }
        };
        Ok(Self { weight, bias: bias.map(HostTensor::into_data), activation: spec.activation })
    }

    /// Features of the input.
    pub fn inputs(&self) -> usize {
        match &self.weight {
            Weight::Float(panels) => panels.depth(),
            Weight::Compressed(panels) => panels.depth(),
            Weight::Bf16(panels) => panels.depth(),
            Weight::Int8(panels) => panels.depth(),
        }
    }

    /// Features of the output.
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Weight::Float(panels) => panels.columns(),
            Weight::Compressed(panels) => panels.columns(),
            Weight::Bf16(panels) => panels.columns(),
            Weight::Int8(panels) => panels.columns(),
        }
    }

    /// `target = act(x W^T + b)`, or `target += x W^T + b`.
    ///
    /// # Shapes
    /// `x [M, in]`, `target [M, out]`.
    pub fn run(&self, x: Matrix, target: MatrixMut, accumulate: bool, threads: Threads) {
        let epilogue = Epilogue { bias: self.bias.as_deref(), accumulate, activation: self.activation };
        match &self.weight {
            Weight::Float(panels) => run_in_floats(x, panels, target, epilogue, threads),
            Weight::Compressed(panels) => run_in_floats(x, panels, target, epilogue, threads),
            Weight::Bf16(panels) => {
                let rounded = Bf16Rows::new(x, threads);
                let count = panels.columns().div_ceil(panels.width());
                threads.grid(x.rows(), count, panels.width(), target, |rows, columns, target| {
                    bf16::multiply(&rounded, rows, panels, columns, target, epilogue);
                });
            }
            Weight::Int8(panels) => {
                let quantized = QuantizedRows::new(x, panels, threads);
                let count = panels.columns().div_ceil(panels.width());
                threads.grid(x.rows(), count, panels.width(), target, |rows, columns, target| {
                    int8::multiply(&quantized, rows, panels, columns, target, epilogue);
                });
            }
        }
    }
}

fn run_in_floats(
    x: Matrix,
    weights: &impl PanelSource<Word = f32>,
    target: MatrixMut,
    epilogue: Epilogue,
    threads: Threads,
) {
    let width = weights.width();
    threads.grid(x.rows(), weights.columns().div_ceil(width), width, target, |rows, panels, target| {
        gemm::multiply(x.part(rows, 0..x.columns()), weights, panels, target, epilogue);
    });
}
