//! 8-bit integers: weights per output channel, activations per row while the model runs.
//!
//! Everything is recorded in ONNX's own operators. Weights are stored unsigned, around a zero point of 128: products of
//! unsigned activations with *signed* weights are summed in 16 bits by processors without dot-product instructions, and
//! overflow there. The scale of an activation is that of its row alone, so an embedding doesn't depend on what else is in
//! its batch.

use std::sync::{Arc, OnceLock};

use openclip_core::{Dim, Result};

use crate::{
    attributes::int,
    graph::{Graph, Value},
    onnx::ElementType,
    values::Values,
};

/// Largest magnitude of a quantised value: both signs have the same range.
const LEVELS: f32 = 127.0;
/// What stands for zero.
const ZERO_POINT: u8 = 128;
/// Rows of zeros are scaled by this instead of by zero.
const SMALLEST_SCALE: f32 = 1e-30;

/// A quantised weight.
pub(crate) struct QuantizedWeight {
    /// Unsigned 8-bit values.
    pub values: Value,
    /// One factor per channel.
    pub scale: Value,
}

/// A quantised activation.
#[derive(Clone)]
pub(crate) struct QuantizedRows {
    values: Value,
    /// The largest magnitude of each row: `[.., 1]`.
    largest: Value,
}

/// Channels of a matrix that get a scale each.
#[derive(Clone, Copy)]
pub(crate) enum Channels {
    /// Each row.
    Rows,
    /// Each column.
    Columns,
}

/// The largest magnitude of each channel.
fn magnitudes(values: &[f32], columns: usize, channels: Channels) -> Vec<f32> {
    let rows = values.chunks(columns.max(1));
    let largest = |row: &[f32]| row.iter().fold(SMALLEST_SCALE, |largest, value| largest.max(value.abs()));
    match channels {
        Channels::Rows => rows.map(largest).collect(),
        Channels::Columns => rows.fold(vec![SMALLEST_SCALE; columns], |mut largest, row| {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
            largest
        }),
    }
}

/// `values [_, columns]` in steps of each channel's largest magnitude.
fn quantize(values: &[f32], columns: usize, channels: Channels, magnitudes: &[f32]) -> Vec<u8> {
    let step = |value: f32, magnitude: f32| {
        ((value / magnitude * LEVELS).round_ties_even() + f32::from(ZERO_POINT)) as u8
    };
    let rows = values.chunks(columns.max(1));
    match channels {
        Channels::Rows => rows
            .zip(magnitudes)
            .flat_map(|(row, &magnitude)| row.iter().map(move |&value| step(value, magnitude)))
            .collect(),
        Channels::Columns => rows
            .flat_map(|row| row.iter().zip(magnitudes).map(|(&value, &magnitude)| step(value, magnitude)))
            .collect(),
    }
}

impl Graph {
    /// A weight `[rows, columns]` in 8 bits; `read` reads it when the file is written, as a rule once.
    pub(crate) fn quantized_weight(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        channels: Channels,
        read: impl Fn() -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> QuantizedWeight {
        let read = Arc::new(read);
        // The values come before the scales when a model is written, and leave the scales here.
        let known = Arc::new(OnceLock::new());
        let (read_values, keep) = (Arc::clone(&read), Arc::clone(&known));
        let values = self.weight(&format!("{name}.uint8"), &[rows, columns], ElementType::Uint8, move || {
            let values = read_values()?;
            let magnitudes = magnitudes(&values, columns, channels);
            let quantized = quantize(&values, columns, channels, &magnitudes);
            let _: Result<(), Vec<f32>> = keep.set(magnitudes);
            Ok(Values::Uint8(quantized))
        });
        let dims: &[usize] = match channels {
            Channels::Rows => &[rows, 1],
            Channels::Columns => &[columns],
        };
        let scale = self.weight(&format!("{name}.scale"), dims, ElementType::Float, move || {
            let magnitudes = match known.get() {
                Some(magnitudes) => magnitudes.clone(),
                None => magnitudes(&read()?, columns, channels),
            };
            Ok(Values::Float(magnitudes.iter().map(|magnitude| magnitude / LEVELS).collect()))
        });
        QuantizedWeight { values, scale }
    }

    /// Quantises the rows of `x [.., D]`, once for all layers that take it.
    fn quantized_rows(&mut self, scope: &str, x: &Value) -> QuantizedRows {
        if let Some(known) = self.quantized.get(&x.name) {
            return known.clone();
        }
        let mut row_dims = x.dims.clone();
        if let Some(last) = row_dims.last_mut() {
            *last = Dim::Fixed(1);
        }
        let sizes = self.named(scope, "Abs", &[x], Vec::new(), x.dims.clone());
        let axes = self.integers(&[-1]);
        let keep = vec![int("keepdims", 1)];
        let largest = self.named(scope, "ReduceMax", &[&sizes, &axes], keep, row_dims.clone());
        let smallest = self.number(SMALLEST_SCALE);
        let largest = self.named(scope, "Max", &[&largest, &smallest], Vec::new(), row_dims);
        let unit = self.named(scope, "Div", &[x, &largest], Vec::new(), x.dims.clone());
        let (step, zero) = (self.number(1.0 / LEVELS), self.byte(ZERO_POINT));
        let values = self.named(scope, "QuantizeLinear", &[&unit, &step, &zero], Vec::new(), x.dims.clone());
        let rows = QuantizedRows { values: values.typed(ElementType::Uint8), largest };
        self.quantized.insert(x.name.clone(), rows.clone());
        rows
    }

    /// `x W` of the layer `scope`, summed in 32-bit integers: `[.., in] -> dims`.
    pub(crate) fn quantized_matmul(
        &mut self,
        scope: &str,
        x: &Value,
        weight: &QuantizedWeight,
        dims: Vec<Dim>,
    ) -> Value {
        let rows = self.quantized_rows(scope, x);
        let zero = self.byte(ZERO_POINT);
        let inputs = [&rows.values, &weight.values, &zero, &zero];
        let sum = self.named(scope, "MatMulInteger", &inputs, Vec::new(), dims.clone());
        let sum = self.cast(scope, &sum.typed(ElementType::Int32), ElementType::Float);
        // One factor after the other: ONNX Runtime takes the product of both for a scale per tensor and fuses it wrongly.
        let scaled = self.named(scope, "Mul", &[&sum, &weight.scale], Vec::new(), dims.clone());
        let step = self.number(1.0 / LEVELS);
        let rows = self.named(scope, "Mul", &[&rows.largest, &step], Vec::new(), rows.largest.dims.clone());
        self.named(scope, "Mul", &[&scaled, &rows], Vec::new(), dims)
    }

    /// Rows of a quantised table: `ids [..] -> dims [.., D]`.
    pub(crate) fn quantized_rows_of(
        &mut self,
        scope: &str,
        table: &QuantizedWeight,
        ids: &Value,
        dims: Vec<Dim>,
    ) -> Value {
        let axis = || vec![int("axis", 0)];
        let rows = self.named(scope, "Gather", &[&table.values, ids], axis(), dims.clone());
        let rows = self.cast(scope, &rows, ElementType::Float);
        let zero = self.number(f32::from(ZERO_POINT));
        let rows = self.named(scope, "Sub", &[&rows, &zero], Vec::new(), dims.clone());
        let scale_dims = [ids.dims.as_slice(), &[Dim::Fixed(1)]].concat();
        let scale = self.named(scope, "Gather", &[&table.scale, ids], axis(), scale_dims);
        self.named(scope, "Mul", &[&rows, &scale], Vec::new(), dims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A value comes back within half a step of its channel.
        #[test]
        fn rounding_is_half_a_step_at_most(
            values in prop::collection::vec(-1e3_f32..1e3, 12), columns in prop::sample::select(vec![1_usize, 3, 4]),
            by_row in any::<bool>(),
        ) {
            let channels = if by_row { Channels::Rows } else { Channels::Columns };
            let largest = magnitudes(&values, columns, channels);
            let quantized = quantize(&values, columns, channels, &largest);
            for (index, (&value, &level)) in values.iter().zip(&quantized).enumerate() {
                let step = largest[if by_row { index / columns } else { index % columns }] / LEVELS;
                let back = (f32::from(level) - f32::from(ZERO_POINT)) * step;
                prop_assert!((back - value).abs() <= step * 0.5001, "{value} came back as {back}");
            }
        }
    }

    #[test]
    fn channels_of_zeros_stay_zero() {
        let values = [0.0, 2.0, 0.0, -4.0];
        let largest = magnitudes(&values, 2, Channels::Columns);
        assert_eq!(largest, [SMALLEST_SCALE, 4.0]);
        assert_eq!(quantize(&values, 2, Channels::Columns, &largest), [128, 192, 128, 1]);
    }

    #[test]
    fn scales_are_had_without_the_values() {
        let mut graph = Graph::default();
        graph.quantized_weight("w", [2, 2], Channels::Rows, || Ok(vec![1.0, -127.0, 254.0, 0.0]));
        let scale = graph.initializers.iter().find(|constant| &*constant.name == "w.scale").unwrap();
        assert_eq!(scale.values().unwrap(), Values::Float(vec![1.0, 2.0]));
        let values = graph.initializers.iter().find(|constant| &*constant.name == "w.uint8").unwrap();
        assert_eq!(values.values().unwrap(), Values::Uint8(vec![129, 1, 255, 128]));
    }
}
