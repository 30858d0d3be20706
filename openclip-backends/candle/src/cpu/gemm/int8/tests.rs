//! Every kernel of this processor against plain sums.

use openclip_core::backend::{Activation, WeightLayout};
use proptest::prelude::*;

use super::{kernel::available, *};
use crate::cpu::{
    gemm::Epilogue,
    matrix::{Matrix, MatrixMut},
    threads::Threads,
};

fn sample(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 400.0 - 2.0).collect()
}

proptest! {
    #[test]
    fn kernels_agree_bit_by_bit_and_are_near_to_the_product_in_floats(
        rows in 1_usize..40, depth in 1_usize..70, deep: bool, columns in 1_usize..70, accumulate: bool,
    ) {
        // Deep ones have several blocks.
        let depth = if deep { 20 * depth + 1 } else { depth };
        let x = sample(rows * depth, 1);
        let weight = sample(columns * depth, 2);
        let bias = sample(columns, 3);
        let quantized = QuantizedColumns::new(&weight, WeightLayout::OutIn, depth, columns);
        let epilogue = Epilogue { bias: Some(&bias), accumulate, activation: Some(Activation::Relu) };
        let mut results = Vec::new();
        for kernel in available() {
            let panels = Int8Panels::for_kernel(&quantized, kernel);
            let x = QuantizedRows::for_kernel(Matrix::new(&x, rows, depth, depth), kernel, Threads::One);
            let mut result = sample(rows * columns, 4);
            let target = MatrixMut::new(&mut result, rows, columns, columns);
            multiply(&x, 0..rows, &panels, 0..columns.div_ceil(kernel.width), target, epilogue);
            results.push((format!("{kernel:?}"), result));
        }
        let held = sample(rows * columns, 4);
        for (name, result) in &results {
            prop_assert_eq!(result, &results[0].1, "{}", name);
        }
        for (place, &found) in results[0].1.iter().enumerate() {
            let (row, column) = (place / columns, place % columns);
            let product: f32 =
                (0..depth).map(|k| x[row * depth + k] * weight[column * depth + k]).sum();
            let exact = product + bias[column] + if accumulate { held[place] } else { 0.0 };
            // Half a step of each factor, times the other's size, at most for every term.
            let bound = depth as f32 * (3.1 / 254.0 * 5.1 + 5.1 / 510.0 * 3.1);
            prop_assert!((found - exact.max(0.0)).abs() < bound, "{} {} {}", place, found, exact);
        }
    }
}

#[test]
fn rows_that_are_not_numbers_stay_that() {
    let x = [1.0, f32::NAN, 2.0, 0.0, 0.0, 0.0];
    let columns = QuantizedColumns::new(&[1.0, 0.5, 0.0], WeightLayout::OutIn, 3, 1);
    let panels = Int8Panels::new(&columns);
    let x = QuantizedRows::new(Matrix::new(&x, 2, 3, 3), &panels, Threads::All);
    let mut result = [7.0; 2];
    multiply(&x, 0..2, &panels, 0..1, MatrixMut::new(&mut result, 2, 1, 1), Epilogue::default());
    assert!(result[0].is_nan() && result[1] == 0.0, "{result:?}");
}

#[test]
fn the_largest_value_of_a_column_is_127() {
    let quantize = |weight: &[f32], layout| QuantizedColumns::new(weight, layout, 3, 2);
    let quantized = quantize(&[0.0, 0.0, 0.0, 0.5, -1.0, 0.25], WeightLayout::OutIn);
    assert_eq!(quantized.values, [0, 0, 0, 64, -127, 32]);
    let transposed = quantize(&[0.0, 0.5, 0.0, -1.0, 0.0, 0.25], WeightLayout::InOut);
    assert_eq!(transposed.values, quantized.values);
    // What was rounded once isn't changed by rounding again.
    let again = quantized.values.iter().zip([1.0 / 127.0; 6]).map(|(&value, scale)| f32::from(value) * scale);
    assert_eq!(quantize(&again.collect::<Vec<_>>(), WeightLayout::OutIn).values, quantized.values);
}
