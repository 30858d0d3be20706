//! Linear layers on packed weights.

use bytemuck::Pod;
use half::f16;
use openclip_core::{
    HostTensor, Precision,
    backend::{Activation, LinearSpec, WeightLayout},
};
use rayon::prelude::*;

use super::{
    cache::{Element, PackedCache},
    gemm::{
        self, Compressed, Epilogue, PanelSource, Panels,
        bf16::{self, Bf16Panels, Bf16Rows},
        int8::{self, Int8Panels, QuantizedColumns, QuantizedRows},
    },
    matrix::{Matrix, MatrixMut},
    packed::PackedValues,
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
    /// Packs the layer that `spec` describes in `precision`, its weight in its own layout. A layer that isn't to be
    /// quantised stays in floats.
    ///
    /// # Errors
    /// With the reason, when a value is too large for the precision.
    pub fn new(
        spec: &LinearSpec,
        weight: &[f32],
        bias: Option<HostTensor>,
        precision: Precision,
    ) -> Result<Self, String> {
        let (depth, columns) = (spec.in_features, spec.out_features);
        if weight.len() != depth * columns {
            return Err(format!("expected a weight of {columns} x {depth} values, found {}", weight.len()));
        }
        // A value that isn't finite would be rounded to some integer without a word.
        if precision != Precision::F32
            && let Some(value) = weight.par_iter().find_first(|value| !value.is_finite())
        {
            return Err(format!(
                "the value {value} can't be stored in {precision}: the checkpoint is damaged"
            ));
        }
        let weight = match precision {
            Precision::F16 => {
                if let Some(value) = weight.par_iter().find_first(|value| !f16::from_f32(**value).is_finite())
                {
                    return Err(format!("the value {value} can't be stored in f16: use bf16 or f32"));
                }
                let panels = pack(spec, weight, |value| f16::from_f32(value).to_bits());
                Weight::Compressed(Compressed::F16(panels))
            }
            Precision::Bf16 => Weight::Bf16(Bf16Panels::new(weight, spec.layout, depth, columns)),
            Precision::Int8 if in_integers(spec) => Weight::Int8(Int8Panels::new(&quantized(spec, weight))),
            Precision::Int8Weights if spec.quantize => {
                let QuantizedColumns { values, scales, .. } = quantized(spec, weight);
                let values = Panels::of_columns(&values, depth, columns, |value| value);
                Weight::Compressed(Compressed::int8(values, scales))
            }
            Precision::F32 | Precision::Int8 | Precision::Int8Weights => {
                Weight::Float(pack(spec, weight, |value| value))
            }
        };
        Ok(Self { weight, bias: bias.map(HostTensor::into_data), activation: spec.activation })
    }

    /// The layer that `spec` describes in `precision` with a weight that was kept under `name` when it was packed before.
    pub fn kept(
        cache: &PackedCache,
        name: &str,
        spec: &LinearSpec,
        bias: Option<HostTensor>,
        precision: Precision,
    ) -> Option<Self> {
        fn panels<T: Element>(cache: &PackedCache, name: &str, spec: &LinearSpec) -> Option<Panels<T>> {
            let (depth, columns) = (spec.in_features, spec.out_features);
            let values = cache.get(name, &Panels::<T>::dims(depth, columns))?;
            Panels::from_values(depth, columns, values)
        }
        let weight = match precision {
            Precision::F16 => Weight::Compressed(Compressed::F16(panels(cache, name, spec)?)),
            Precision::Bf16 => {
                let (depth, columns) = (spec.in_features, spec.out_features);
                let pairs = cache.get(name, &Bf16Panels::dims(depth, columns))?;
                Weight::Bf16(Bf16Panels::from_pairs(depth, columns, pairs)?)
            }
            Precision::Int8 if in_integers(spec) => {
                let (depth, columns) = (spec.in_features, spec.out_features);
                let dims @ [panels, _, width, _] = Int8Panels::dims(depth, columns);
                let values = cache.get(name, &dims)?;
                let scales = cache.get::<f32>(&scales_of(name), &[panels * width])?;
                let sums = cache.get::<i32>(&sums_of(name), &[panels * width])?;
                Weight::Int8(Int8Panels::from_parts(depth, columns, values, scales.to_vec(), sums.to_vec())?)
            }
            Precision::Int8Weights if spec.quantize => {
                let values: Panels<i8> = panels(cache, name, spec)?;
                let scales = cache.get::<f32>(&scales_of(name), &[spec.out_features])?;
                Weight::Compressed(Compressed::int8(values, scales.to_vec()))
            }
            Precision::F32 | Precision::Int8 | Precision::Int8Weights => {
                Weight::Float(panels(cache, name, spec)?)
            }
        };
        Some(Self { weight, bias: bias.map(HostTensor::into_data), activation: spec.activation })
    }

    /// Keeps the packed weight under `name`.
    pub fn keep(&self, cache: &PackedCache, name: &str) {
        let dims = Panels::<f32>::dims(self.inputs(), self.outputs());
        match &self.weight {
            Weight::Float(panels) => cache.put(name, &dims, panels.values()),
            Weight::Compressed(Compressed::F16(panels)) => cache.put(name, &dims, panels.values()),
            Weight::Bf16(panels) => {
                cache.put(name, &Bf16Panels::dims(self.inputs(), self.outputs()), panels.pairs());
            }
            Weight::Compressed(Compressed::Int8 { values, scales }) => {
                cache.put(name, &dims, values.values());
                put_copy(cache, &scales_of(name), &scales[..self.outputs()]);
            }
            Weight::Int8(panels) => {
                let (values, scales, sums) = panels.parts();
                cache.put(name, &Int8Panels::dims(self.inputs(), self.outputs()), values);
                put_copy(cache, &scales_of(name), scales);
                put_copy(cache, &sums_of(name), sums);
            }
        }
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

/// What the factors of the integers `name` are kept as.
fn scales_of(name: &str) -> String {
    format!("{name}.scale")
}

/// What the sums of the columns of `name` are kept as.
fn sums_of(name: &str) -> String {
    format!("{name}.sum")
}

/// Keeps a copy of few values.
fn put_copy<T: Element>(cache: &PackedCache, name: &str, values: &[T]) {
    cache.put(name, &[values.len()], &PackedValues::new(values.len(), |kept| kept.copy_from_slice(values)));
}

/// The panels of a layer's weight, each value converted.
fn pack<T: Pod + Send + Sync>(
    spec: &LinearSpec,
    weight: &[f32],
    convert: impl Fn(f32) -> T + Sync,
) -> Panels<T> {
    let (depth, columns) = (spec.in_features, spec.out_features);
    match spec.layout {
        WeightLayout::OutIn => Panels::of_columns(weight, depth, columns, convert),
        WeightLayout::InOut => Panels::new(depth, columns, |k, n| convert(weight[k * columns + n])),
    }
}

/// A layer's weight in integers.
fn quantized(spec: &LinearSpec, weight: &[f32]) -> QuantizedColumns {
    QuantizedColumns::new(weight, spec.layout, spec.in_features, spec.out_features)
}

/// Whether the layer is computed in integers at `int8`.
fn in_integers(spec: &LinearSpec) -> bool {
    spec.quantize && spec.in_features <= int8::DEEPEST
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
